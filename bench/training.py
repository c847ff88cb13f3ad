"""Training: images a second of `head` and `full`, and the same full step in PyTorch where that is installed."""
import json, os, subprocess, sys

from inputs import HERE, PROGRAM, python, shell


def training():
    """EfficientNet-B0 at 224, batches of 8, all cores: CPU-seconds and seconds a full step; images a second of the head's fit."""
    ours = json.loads(shell(PROGRAM, "bench-train", "--json"))
    full, head = ours["full"], ours["head"]
    rows = [{
        "what": "radsort", "threads": ours["threads"], "seconds-a-step": full["seconds-a-step"],
        "cpu-seconds-a-step": full["cpu-seconds-a-step"], "images-a-second": full["images-a-second"],
        "memory MiB": full["peak-bytes"] / 2**20, "head: features of images-a-second": head["features-images-a-second"],
        "head: fit of 10,000, seconds": head["fit-seconds-for-10000"], "against PyTorch, ratio": None,
    }]
    for interpreter in filter(None, [os.environ.get("TORCH_PYTHON"), sys.executable, python()]):
        if subprocess.run([interpreter, "-c", "import torch, torchvision"], capture_output=True).returncode == 0:
            rows.append({"what": "PyTorch", **json.loads(shell(interpreter, os.path.join(HERE, "train_pytorch.py")))})
            rows[0]["against PyTorch, ratio"] = rows[1]["seconds-a-step"] / rows[0]["seconds-a-step"]
            break
    else:
        print("NOT RUN: PyTorch is not installed (pip install torch torchvision; TORCH_PYTHON=INTERPRETER names another one)")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]
