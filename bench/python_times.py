#!/usr/bin/env python3
"""`python_times.py SIDE RUNS FILE…`: from the path to a model-ready tensor with pydicom's fastest decoders and OpenCV; one JSON
object a line, CPU milliseconds, the least of RUNS; null with the reason where it cannot."""
import json, os, sys, time

import cv2
import pydicom

from baseline import tensor

cv2.setNumThreads(1)
side, runs = int(sys.argv[1]), int(sys.argv[2])
for path in sys.argv[3:]:
    took = {"file": os.path.basename(path)}
    try:
        times = []
        for _ in range(runs):
            began = time.process_time()
            tensor(pydicom.dcmread(path), side)
            times.append(1000 * (time.process_time() - began))
        took["tensor"] = min(times)
    except Exception as error:  # whatever it cannot decode, the others are measured
        took |= {"tensor": None, "why": str(error)}
    print(json.dumps(took))
