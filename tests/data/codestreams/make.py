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



def bits_of(number, length):
    return [number >> n & 1 for n in reversed(range(length))]


def lossless_jpeg(pixels, precision, point_transform, restart_rows):
    """Process 14 by hand (ITU-T T.81 annex H), first predictor: with point transform and restart intervals, which the
    encoders here do not offer. All 17 categories have codes of 5 bits."""
    rows, columns = pixels.shape
    samples = (pixels >> point_transform).astype(int)
    segment = lambda marker, body: bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + bytes(body)
    out = b"\xff\xd8"
    out += segment(0xC3, [precision, *rows.to_bytes(2), *columns.to_bytes(2), 1, 1, 0x11, 0])
    out += segment(0xC4, [0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    out += segment(0xDD, (columns * restart_rows).to_bytes(2))
    out += segment(0xDA, [1, 1, 0, 1, 0, point_transform])
    for part, top in enumerate(range(0, rows, restart_rows)):
        if part:
            out += bytes([0xFF, 0xD0 + (part - 1) % 8])
        bits = []
        for y in range(top, min(top + restart_rows, rows)):
            for x in range(columns):
                if x:
                    predicted = samples[y, x - 1]
                elif y > top:
                    predicted = samples[y - 1, 0]
                else:
                    predicted = 1 << (precision - point_transform - 1)
                difference = int(samples[y, x]) - int(predicted)
                category = abs(difference).bit_length()
                bits += bits_of(category, 5)
                if category < 16:
                    bits += bits_of(difference if difference > 0 else difference + (1 << category) - 1, category)
        bits += [1] * (-len(bits) % 8)
        coded = bytes(int("".join(map(str, bits[n:n + 8])), 2) for n in range(0, len(bits), 8))
        out += coded.replace(b"\xff", b"\xff\x00")
    return out + b"\xff\xd9"


def without_colour_marker(jpeg):
    """The same without the Adobe segment, and components that are called 1, 2 and 3: nothing says that it is RGB."""
    out, at = jpeg[:2], 2
    while True:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2:at + 4])
        body = bytearray(jpeg[at:at + 2 + length])
        if marker == 0xC0:
            for n in range(3):
                body[10 + 3 * n] = n + 1
        if marker == 0xDA:
            for n in range(3):
                body[5 + 2 * n] = n + 1
        if marker not in (0xE0, 0xEE):
            out += body
        at += 2 + length
        if marker == 0xDA:
            return bytes(out) + jpeg[at:]


# An overlay in the highest bit of each cell, as retired overlays have it: sparse, so that it is lost in averages.
overlay16 = (grey12 | np.where((x + y) % 7 == 0, 0x8000, 0)).astype(np.uint16)

streams = {
    "baseline8.jpg": ic.jpeg8_encode(grey8, level=98),
    "baseline-ycbcr.jpg": ic.jpeg8_encode(rgb, level=98),
    "extended12.jpg": ic.jpeg8_encode(grey12, level=98, bitspersample=12),
    "lossless8.jpg": ic.jpeg8_encode(grey8, lossless=True, predictor=1),
    "lossless12.jpg": ic.jpeg8_encode(grey12, lossless=True, predictor=6, bitspersample=12),
    "lossless16.jpg": ic.jpeg8_encode(grey16, lossless=True, predictor=1, bitspersample=16),
    "lossless-rgb.jpg": ic.jpeg8_encode(rgb, lossless=True, predictor=1),
    "lossless12-restarts.jpg": lossless_jpeg(grey12, 12, 0, 3),
    "lossless16-point4.jpg": lossless_jpeg(grey16, 16, 4, 1),
    "baseline-rgb.jpg": without_colour_marker(
        ic.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB", subsampling="444")
    ),
    "grey12.jls": ic.jpegls_encode(np.where(grey12 == 0, 4095, grey12)),
    "near8.jls": ic.jpegls_encode(grey8, level=2),
    "rgb.jls": ic.jpegls_encode(rgb),
    "lossless12.j2k": ic.jpeg2k_encode(grey12, level=0, codecformat="j2k", bitspersample=12, reversible=True),
    "overlay16.j2k": ic.jpeg2k_encode(overlay16, level=0, codecformat="j2k", bitspersample=16, reversible=True),
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
# Three colours inside, with detail that filters work on, over several groups; and one as large as an honest one can be.
rows, columns = np.mgrid[0:600, 0:320]
detail = (128 + 90 * np.sin(rows / 17) * np.cos(columns / 23) + (rows * 7919 + columns * 104729) % 13).astype(np.uint8)
streams["strips.jxl"] = ic.jpegxl_encode(detail, lossless=False, distance=3.0, effort=5)
streams["strips-rgb.jxl"] = ic.jpegxl_encode(np.stack([detail, detail[::-1], detail[:, ::-1]], axis=-1), lossless=False, distance=4.0, effort=5)
streams["flat-5400.jxl"] = ic.jpegxl_encode(np.full((5400, 5400), 100, np.uint8), lossless=False, distance=1.0, effort=3)
for name, stream in streams.items():
    Path(__file__).with_name(name).write_bytes(stream)
    print(f"{len(stream):6} {name}")
