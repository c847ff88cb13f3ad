#!/usr/bin/env python3
"""What a capable user would write in Python: every DICOM file of a directory is classified and moved.

pydicom with its fast decoders, OpenCV, ONNX Runtime, SQLite, shutil.move; one process, as such scripts are. What radsort
does besides is done here too, where it costs: the digest of every file, an fsync of file and directory after the move, a
committed row a file. It prints one JSON object.
"""
import argparse, hashlib, json, os, resource, shutil, sqlite3, sys, time

import cv2
import numpy as np
import onnxruntime as ort
import pydicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut


def tensor(dataset, side):
    """[1, 1, side, side], grey values from 0 to 1, bright is dense."""
    pixels = dataset.pixel_array
    if pixels.ndim == 3:
        pixels = pixels[0]
    pixels = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    pixels = (pixels - low) / ((high - low) or 1.0)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = 1.0 - pixels
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return ((small - 0.5) / 0.25)[None, None].astype(np.float32)


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--in", dest="drop", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--raw", type=int, default=0, help="only the network, on that many ready tensors")
    options = parser.parse_args()

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    cv2.setNumThreads(options.threads)
    session = ort.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    ready = np.zeros((1, 1, options.side, options.side), np.float32)
    session.run(None, {name: ready})  # warm, as the service is

    def cpu():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    started, used = time.perf_counter(), cpu()
    if options.raw:
        for _ in range(options.raw):
            session.run(None, {name: ready})
        print(json.dumps({"images": options.raw, "wall_s": time.perf_counter() - started, "cpu_s": cpu() - used}))
        return
    database = sqlite3.connect(os.path.join(options.out, "index.sqlite"))
    database.execute("create table images(path text, uid text, digest text, category text, score real, at real)")
    images = failed = 0
    for entry in sorted(os.scandir(options.drop), key=lambda entry: entry.name):
        try:
            with open(entry.path, "rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            dataset = pydicom.dcmread(entry.path)
            scores = session.run(None, {name: tensor(dataset, options.side)})[0].ravel()
            uid, category, score = str(dataset.SOPInstanceUID), f"class{scores.argmax()}", float(scores.max())
            images += 1
        except Exception as error:  # whatever is wrong with a file, the others go on
            print(f"{entry.path}: {error}", file=sys.stderr)
            uid, category, score, digest = "", "failed", 0.0, ""
            failed += 1
        folder = os.path.join(options.out, category)
        os.makedirs(folder, exist_ok=True)
        target = os.path.join(folder, entry.name)
        shutil.move(entry.path, target)
        sync(target)
        sync(folder)
        database.execute("insert into images values(?,?,?,?,?,?)", (target, uid, digest, category, score, time.time()))
        database.commit()
    print(json.dumps({"images": images, "failed": failed, "wall_s": time.perf_counter() - started, "cpu_s": cpu() - used}))


if __name__ == "__main__":
    main()
