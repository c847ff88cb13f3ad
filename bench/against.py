"""End to end: against what one would write in Python, and against ONNX Runtime alone."""
import json, os, re, tempfile, time

from inputs import COUNT, HERE, PROGRAM, SYNTAXES, WORK, copied, images, imported, network, python, shell
from service import Site

STAGES = ["read", "decode", "infer", "model", "file", "ledger", "carry", "index"]


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
    for name, what, value in re.findall(r'stage_duration_seconds_(sum|count)\{stage="([a-z]+)"\} ([0-9.e+-]+)', site.metrics()):
        found.setdefault(what, {})[name] = float(value)
    return found


def baseline(interpreter, onnx, side, files=None, raw=0):
    words = [interpreter, os.path.join(HERE, "baseline.py"), "--model", onnx, "--side", str(side)]
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        drop, out = os.path.join(scratch, "drop"), os.path.join(scratch, "out")
        os.mkdir(out)
        copied(files or [], drop)
        return json.loads(shell(*words, "--in", drop, "--out", out, *(["--raw", str(raw)] if raw else [])))


def against_python():
    """Against what one would write in Python, EfficientNet-B0 at 224: CPU-seconds an image outside inference, images a second."""
    interpreter = python()
    if not interpreter:
        return []
    onnx, rows = network("b0", 224), []
    for syntax in [*SYNTAXES, "mixed"]:
        files = images(syntax)
        n = len(files)
        raw = baseline(interpreter, onnx, 224, raw=max(n, 20))
        infer = raw["cpu_s"] / raw["images"]
        theirs, ours = baseline(interpreter, onnx, 224, files), one_run(onnx, files)
        # What the header says of the view decides whether radsort asks a network; all but a few are asked about.
        outside = lambda run: max(run["cpu_s"] / n - infer * run.get("classified", n) / n, 1e-4)
        rows.append({
            "syntax": syntax + (f" ({theirs['failed']} failed in Python)" if theirs["failed"] else ""), "images": n, "classified by radsort": ours["classified"],
            "inference CPU ms": 1000 * infer,
            "Python CPU ms": 1000 * theirs["cpu_s"] / n, "radsort CPU ms": 1000 * ours["cpu_s"] / n,
            "CPU outside inference, ratio": outside(theirs) / outside(ours),
            "images/s Python": n / theirs["wall_s"], "images/s radsort": n / ours["wall_s"],
            "throughput, ratio": theirs["wall_s"] / ours["wall_s"],
        })
    return rows


def against_the_limit():
    """Against ONNX Runtime alone on ready tensors with the same single thread, mixed syntaxes: the share of its throughput that is kept."""
    interpreter = python()
    if not interpreter:
        return []
    rows = []
    for name, side, count in [("b0", 224, COUNT), ("b6", 528, max(COUNT // 2, 6))]:
        onnx, files = network(name, side), images("mixed")[:count]
        raw = baseline(interpreter, onnx, side, raw=count)
        ours = one_run(onnx, files)
        alone = raw["images"] / raw["wall_s"]
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
