#!/usr/bin/env python3
"""`htj2k.py OUT FILE…`: uncompressed DICOM files once more in HTJ2K, which radsort itself does not write (lossless, RPCL)."""
import os, sys

import imagecodecs
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

out = sys.argv[1]
os.makedirs(out)
for path in sys.argv[2:]:
    dataset = pydicom.dcmread(path)
    stream = imagecodecs.htj2k_encode(dataset.pixel_array, reversible=True)
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.save_as(os.path.join(out, os.path.basename(path)), enforce_file_format=True)
