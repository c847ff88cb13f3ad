"""From a file's path to a model-ready tensor, by transfer syntax; and that reduced decoding does no harm."""
import json, os, statistics, subprocess

from inputs import BUNDLE, HERE, SYNTAXES, WORK, example, phantoms, python, radiographs, shell

SIZES = ["3000x2500", "2140x1760"]
# As bundles with EfficientNet-B6 want it.
SIDE = 528
RUNS = "5"
# Everybody has the decoders' own allocator settings (src/decode/pool.rs).
TUNED = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
FILES = int(os.environ.get("DECODE_FILES", "4"))
# How often decoding at reduced resolution must lead to the same decision, and how far apart scores may be in 99 of 100 images.
SAME_DECISION, SCORES_APART = 0.999, 0.1
# CPU milliseconds at 3000 x 2500 that were aimed at.
AIMS = {
    "explicit": 6, "jpeg-lossless": 50, "j2k-lossless": 70, "j2k": 25, "htj2k": 5,
    "jpeg": 10, "jpeg-extended": 50, "rle": 20, "jpegls": 165,
}


def rival():
    """dicom-rs with all its codecs, built once; None where that is not possible."""
    target = os.path.join(WORK, "rival")
    words = ["cargo", "build", "--release", "--quiet", "--manifest-path", os.path.join(HERE, "rival/Cargo.toml"), "--target-dir", target]
    try:
        shell(*words)
    except subprocess.CalledProcessError as error:
        print(f"NOT RUN: dicom-rs with its codecs cannot be built: {error.stderr[-500:]}")
        return None
    return os.path.join(target, "release/rival")


def inputs(interpreter, syntax, size):
    if syntax != "htj2k":
        return phantoms(syntax, FILES, size)
    out = os.path.join(WORK, f"phantoms-htj2k-{FILES}-{size}")
    if not os.path.isdir(out):
        shell(interpreter, os.path.join(HERE, "htj2k.py"), out + ".new", *phantoms("explicit", FILES, size))
        os.rename(out + ".new", out)
    return sorted(os.path.join(out, name) for name in os.listdir(out))


def median(lines, key):
    """Over all files; None where one of them could not be decoded."""
    values = [json.loads(line)[key] for line in lines.splitlines()]
    return None if None in values else statistics.median(values)


def row(name, aim, files, interpreter, full):
    """All three on the same files."""
    def measured(*words):
        return shell(*words, RUNS, *files, env=TUNED)

    ours = measured(example("decode_times"), str(SIDE))
    dicom_rs = median(measured(full), "full") if full else None
    pydicom = median(measured(interpreter, os.path.join(HERE, "python_times.py"), str(SIDE)), "tensor") if interpreter else None
    tensor = median(ours, "tensor")
    return {
        "syntax, size": name, "header": median(ours, "header"), "tensor": tensor,
        "aim": "" if aim is None else f"{aim} {'met' if tensor <= aim else 'NOT met'}", "jailed": median(ours, "jailed"),
        "dicom-rs": dicom_rs if dicom_rs is not None else "cannot", "pydicom": pydicom if pydicom is not None else "cannot",
        "dicom-rs, ratio": dicom_rs / tensor if dicom_rs else None, "pydicom, ratio": pydicom / tensor if pydicom else None,
    }


def decoding():
    """From a path to a tensor of 528 x 528, median over files, least of 5 runs: CPU ms; jailed is wall-clock time through the jail."""
    interpreter, full, rows = python(), rival(), []
    for size in SIZES:
        for syntax in [*SYNTAXES, "htj2k"]:
            if syntax == "htj2k" and not interpreter:
                print("NOT RUN: htj2k: without the baseline's Python there is nothing that writes such files")
                continue
            files = inputs(interpreter, syntax, size)
            rows.append(row(f"{syntax} {size}", AIMS[syntax] if size == SIZES[0] else None, files, interpreter, full))
    for path in radiographs():
        try:
            rows.append(row("real " + os.path.basename(path), None, [path], interpreter, full))
        except subprocess.CalledProcessError as error:
            print(f"NOT RUN: {path}: {error.stderr[-500:]}")
    return rows


def harm():
    """Decoding at reduced resolution against decoding in full, with the shipped bundle: decisions that agree, scores apart at most."""
    rows = json.loads(shell(example("reduced_decoding"), BUNDLE, os.environ.get("HARM_IMAGES", "2000")))
    for found in rows:
        same = found["same decision"] / max(found["images"], 1)
        met = same >= SAME_DECISION and found["p99"] is not None and found["p99"] <= SCORES_APART
        found |= {"same decision, ratio": same, "aim": "met" if met else "NOT met"}
    return rows
