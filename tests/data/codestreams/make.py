"""Writes the codestreams beside this file. Needs imagecodecs (2026.3.6 was used) and numpy.

The pictures have 48 columns and 40 rows and are ramps that the tests compute again:
grey of n bits: (40 x + 37 y) scaled by 2^(n - 12); colour: (2 x + 40, 3 y + 20, x + 100).
"""
from pathlib import Path

import imagecodecs as ic
import numpy as np

y, x = np.mgrid[0:40, 0:48]
grey12 = (40 * x + 37 * y).astype(np.uint16)
grey8 = (grey12 >> 4).astype(np.uint8)
grey16 = (grey12 << 4).astype(np.uint16)
signed12 = (grey12.astype(np.int16) - 2048).astype(np.int16)
rgb = np.stack([2 * x + 40, 3 * y + 20, x + 100], axis=-1).astype(np.uint8)

streams = {
    "baseline8.jpg": ic.jpeg8_encode(grey8, level=98),
    "baseline-ycbcr.jpg": ic.jpeg8_encode(rgb, level=98),
    "extended12.jpg": ic.jpeg8_encode(grey12, level=98, bitspersample=12),
    "lossless8.jpg": ic.jpeg8_encode(grey8, lossless=True, predictor=1),
    "lossless12.jpg": ic.jpeg8_encode(grey12, lossless=True, predictor=6, bitspersample=12),
    "lossless16.jpg": ic.jpeg8_encode(grey16, lossless=True, predictor=1, bitspersample=16),
    "lossless-rgb.jpg": ic.jpeg8_encode(rgb, lossless=True, predictor=1),
    "grey12.jls": ic.jpegls_encode(np.where(grey12 == 0, 4095, grey12)),
    "near8.jls": ic.jpegls_encode(grey8, level=2),
    "rgb.jls": ic.jpegls_encode(rgb),
    "lossless12.j2k": ic.jpeg2k_encode(grey12, level=0, codecformat="j2k", bitspersample=12, reversible=True),
    "lossless-signed12.j2k": ic.jpeg2k_encode(signed12, level=0, codecformat="j2k", bitspersample=12, reversible=True),
    "lossy12.j2k": ic.jpeg2k_encode(grey12, level=70, codecformat="j2k", bitspersample=12),
    "rct.j2k": ic.jpeg2k_encode(rgb, level=0, codecformat="j2k", reversible=True, mct=True),
    "lossless12.jp2": ic.jpeg2k_encode(grey12, level=0, codecformat="jp2", bitspersample=12, reversible=True),
    "lossless16.htj2k": ic.htj2k_encode(grey16, reversible=True),
    "lossless16.jxl": ic.jpegxl_encode(grey16, lossless=True),
    "lossless8.jxl": ic.jpegxl_encode(grey8, lossless=True),
    "lossless-rgb.jxl": ic.jpegxl_encode(rgb, lossless=True),
    "lossy8.jxl": ic.jpegxl_encode(grey8, lossless=False, distance=0.5),
}
for name, stream in streams.items():
    Path(__file__).with_name(name).write_bytes(stream)
    print(f"{len(stream):6} {name}")
