"""End to end: against what one would write in Python, and against ONNX Runtime alone."""
import json, os, re, subprocess, tempfile, time

from inputs import COUNT, HERE, PROGRAM, SYNTAXES, WORK, copied, images, imported, network, python, radiographs, raw
from service import Site

STAGES = [
    "read", "decode", "header", "codec", "render", "infer", "queue", "model", "decide", "file", "ledger", "carry", "fsync", "index",
]


def site_with(onnx):
    """A site whose bundle is that network and nothing else."""
    return imported(Site(PROGRAM, WORK, extra='[review]\nuncertified = "file"\n'), onnx)


def one_run(onnx, files):
    """Wall and CPU seconds from the first file's appearance to the last on record, and the stages' own times."""
    with site_with(onnx) as site:
        staged = site.stage(files)
        site.start()
        before, started = site.cpu(), time.perf_counter()
        for path in staged:
            os.rename(path, os.path.join(site.drops[0], os.path.basename(path)))
        site.until(lambda: site.decided() >= len(files), "all files on record")
        result = {"wall_s": time.perf_counter() - started, "cpu_s": site.cpu() - before}
        result["stages"], result["classified"] = stages(site), site.classified()
        site.stop()
        return result


def stages(site):
    """Seconds and number of times of each stage, as the service itself counts them."""
    found = {}
    for name, what, value in re.findall(r'stage_duration_seconds_(sum|count)\{[^}]*stage="([a-z]+)"[^}]*\} ([0-9.e+-]+)', site.metrics()):
        found.setdefault(what, {})[name] = float(value)
    return found


def baseline(interpreter, onnx, side, files):
    """The same of the script in Python: from the first file's appearance to the last in its place."""
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        drop, out = os.path.join(scratch, "drop"), os.path.join(scratch, "out")
        os.mkdir(drop), os.mkdir(out)
        staged = copied(files, os.path.join(scratch, "staged"))
        words = [interpreter, os.path.join(HERE, "baseline.py"), "--model", onnx, "--side", str(side)]
        with subprocess.Popen([*words, "--in", drop, "--out", out, "--count", str(len(files))], stdout=subprocess.PIPE, text=True) as script:
            if script.stdout.readline() == "ready\n":
                for path in staged:
                    os.rename(path, os.path.join(drop, os.path.basename(path)))
            said = script.stdout.read()
        if script.returncode:
            raise RuntimeError("bench/baseline.py failed: it has said why above")
        return json.loads(said)


def network_alone(onnx, count):
    """ONNX Runtime alone on ready tensors, with one thread."""
    with site_with(onnx) as site:
        return raw(os.path.join(site.state, "models/bench-1"), count)


def against_python():
    """Against what one would write in Python, EfficientNet-B0 at 224: CPU-seconds an image outside inference, images a second."""
    interpreter = python()
    if not interpreter:
        return []
    onnx, rows = network("b0", 224), []
    sets = {syntax: images(syntax) for syntax in [*SYNTAXES, "mixed"]}
    if real := radiographs():
        sets["real radiographs"] = real
    for syntax, files in sets.items():
        n = len(files)
        alone = network_alone(onnx, max(n, 20))
        infer = alone["cpu_s"] / alone["images"]
        theirs, ours = baseline(interpreter, onnx, 224, files), one_run(onnx, files)
        # What the header says of the view decides whether radsort asks a network; all but a few are asked about.
        outside = lambda run: max(run["cpu_s"] / n - infer * run.get("classified", n) / n, 1e-4)
        rows.append({
            "syntax": syntax, "images": n, "classified by radsort": ours["classified"], "failed in Python": theirs["failed"],
            "inference CPU ms": 1000 * infer,
            "Python CPU ms": 1000 * theirs["cpu_s"] / n, "radsort CPU ms": 1000 * ours["cpu_s"] / n,
            "CPU outside inference, ratio": outside(theirs) / outside(ours),
            "images/s Python": n / theirs["wall_s"], "images/s radsort": n / ours["wall_s"],
            "throughput, ratio": theirs["wall_s"] / ours["wall_s"],
        })
    return rows


def against_the_limit():
    """Against ONNX Runtime alone on ready tensors with the same single thread, mixed syntaxes: the share of its throughput that is kept."""
    rows = []
    for name, side, count in [("b0", 224, COUNT), ("b6", 528, COUNT)]:
        onnx, files = network(name, side), images("mixed", count)
        ready, ours = network_alone(onnx, count), one_run(onnx, files)
        alone = ready["images"] / ready["wall_s"]
        kept = ours["classified"] / ours["wall_s"] / alone
        spent = ours["stages"]
        each = lambda stage: 1000 * spent.get(stage, {}).get("sum", 0.0) / count
        rows.append({
            "network": f"{name}@{side}", "images": count, "classified": ours["classified"],
            "raw images/s": alone, "radsort images/s": count / ours["wall_s"], "share kept, ratio": kept,
            "model thread busy": spent.get("model", {}).get("sum", 0.0) / ours["wall_s"],
            "cores busy": ours["cpu_s"] / ours["wall_s"],
            **{f"{stage} ms": each(stage) for stage in STAGES},
        })
    return rows
