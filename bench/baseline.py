#!/usr/bin/env python3
"""What a capable user would write in Python: a directory is watched, every DICOM file that comes is classified and moved.

watchdog, pydicom with its fast decoders, OpenCV, ONNX Runtime, SQLite, shutil.move; one process, as such scripts are. What
radsort does besides is done here too, where it costs: the digest of every file, an fsync of file and directory after the move,
a committed row a file. It says `ready` when it watches, and prints one JSON object when --count files have come.
"""
import argparse, hashlib, json, os, queue, resource, shutil, sqlite3, sys, time

import cv2
import numpy as np
import onnxruntime as ort
import pydicom
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

# What decodes fastest, as measured with phantoms: by itself pydicom takes gdcm for everything that it can, JPEG 2000 too.
FASTEST = {
    uid.JPEGBaseline8Bit: "gdcm", uid.JPEGLossless: "gdcm", uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls", uid.JPEGLSNearLossless: "pyjpegls",
}


def tensor(dataset, side):
    """[1, 1, side, side], grey values from 0 to 1, bright is dense."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        dataset.pixel_array_options(decoding_plugin=FASTEST.get(syntax, "pylibjpeg"))
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


class Arrivals(FileSystemEventHandler):
    """Files that are renamed in, which watchdog tells of as created. One that is written there would be taken too early."""

    def __init__(self, folder):
        self.come = queue.Queue()
        self.observer = Observer()
        self.observer.daemon = True
        self.observer.schedule(self, folder)
        self.observer.start()

    def on_created(self, event):
        if not event.is_directory:
            self.come.put(event.src_path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--in", dest="drop", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, required=True, help="stop after so many files")
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

    database = sqlite3.connect(os.path.join(options.out, "index.sqlite"))
    database.execute("create table images(path text, uid text, digest text, category text, score real, at real)")
    images = failed = 0
    arrivals = Arrivals(options.drop)
    print("ready", flush=True)
    used, started = cpu(), None
    for _ in range(options.count):
        path = arrivals.come.get()
        started = started or time.perf_counter()
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            dataset = pydicom.dcmread(path)
            scores = session.run(None, {name: tensor(dataset, options.side)})[0].ravel()
            instance, category, score = str(dataset.SOPInstanceUID), f"class{scores.argmax()}", float(scores.max())
            images += 1
        except Exception as error:  # whatever is wrong with a file, the others go on
            print(f"{path}: {error}", file=sys.stderr)
            instance, category, score, digest = "", "failed", 0.0, ""
            failed += 1
        folder = os.path.join(options.out, category)
        os.makedirs(folder, exist_ok=True)
        target = os.path.join(folder, os.path.basename(path))
        shutil.move(path, target)
        sync(target)
        sync(folder)
        database.execute("insert into images values(?,?,?,?,?,?)", (target, instance, digest, category, score, time.time()))
        database.commit()
    print(json.dumps({"images": images, "failed": failed, "wall_s": time.perf_counter() - started, "cpu_s": cpu() - used}))


if __name__ == "__main__":
    main()
