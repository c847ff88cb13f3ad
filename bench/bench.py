#!/usr/bin/env python3
"""`make bench`: measures radsort on this machine, prints tables, writes bench/results.json.

PART=NAME[,NAME] runs some parts, COUNT=N changes how many images each syntax has, --check compares a new run's ratios with the
results that are checked in. Every figure is of this run; only ratios within a run are worth comparing.
"""
import json, os, platform, statistics, subprocess, sys, tempfile, time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(here)
sys.path.insert(0, here)
from service import Site  # noqa: E402

PROGRAM = os.environ.get("RADSORT", os.path.join(root, "target/release/radsort"))
NETWORK = os.environ.get("RADSORT_NETWORK", os.path.join(root, "target/release/examples/random_network"))
RESULTS = os.path.join(here, "results.json")
WORK = os.path.join(root, "target/bench")
COUNT = int(os.environ.get("COUNT", "24"))
SYNTAXES = ["explicit", "rle", "jpeg", "jpeg-extended", "jpeg-lossless", "jpegls", "j2k", "j2k-lossless", "mixed"]
CLASSES = "a:frontal,b:frontal,c:frontal,d:frontal,e:frontal"
WORSE = 1.15


def shell(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


def table(title, rows):
    print(f"\n{title}")
    if not rows:
        return print("  nothing was measured")
    names = list(rows[0])
    cells = [names] + [[f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(names))]
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths))))


def python():
    """The baseline's interpreter with its packages; None where they cannot be had."""
    venv = os.path.join(WORK, "venv")
    interpreter = os.path.join(venv, "bin/python")
    requirements = os.path.join(here, "requirements.txt")
    if not os.path.exists(os.path.join(venv, "complete")):
        try:
            shell(sys.executable, "-m", "venv", venv)
            shell(interpreter, "-m", "pip", "install", "-q", "-r", requirements)
            open(os.path.join(venv, "complete"), "w").close()
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"NOT RUN: the Python baseline cannot be installed: {error}")
            return None
    return interpreter


def network(name, side):
    path = os.path.join(WORK, f"{name}-{side}.onnx")
    if not os.path.exists(path):
        shell(NETWORK, name, str(side), path)
    return path


def images(syntax, count=COUNT, seed=77):
    """Phantoms at their detectors' own sizes; mixed are as many, of each syntax in turn."""
    if syntax == "mixed":
        # Deflated files are left out: their structure does not tell when they are complete, they wait the settle time.
        return [path for turn in zip(*(images(other, count, seed) for other in SYNTAXES[:-1])) for path in turn][:count]
    path = os.path.join(WORK, f"phantoms-{syntax}-{count}")
    if not os.path.isdir(path):
        shell(PROGRAM, "phantom", "--out", path + ".new", "--count", str(count), "--seed", str(seed), "--syntax", syntax)
        os.rename(path + ".new", path)
    return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".dcm"))


def site_with(onnx):
    """A site whose bundle is that network and nothing else: the header tells the view."""
    site = Site(PROGRAM, WORK, extra="[review]\nuncertified = \"file\"\n")
    site.run("models", "import", onnx, "--classes", CLASSES, "--threshold", "0.5", "--name", "bench")
    site.run("models", "promote", "bench-1")
    return site


def one_run(onnx, files):
    """Wall and CPU seconds from the first file's appearance to the last on record."""
    with site_with(onnx) as site:
        # As a writer that is done: copies on the same disk, then renames.
        staged = os.path.join(site.dir, "staged")
        os.mkdir(staged)
        for path in files:
            subprocess.run(["cp", "--reflink=never", path, staged], check=True)
        site.start()
        before, started = site.cpu(), time.perf_counter()
        for name in os.listdir(staged):
            os.rename(os.path.join(staged, name), os.path.join(site.drops[0], name))
        site.until(lambda: site.filed() >= len(files), "all files on record")
        result = {"wall_s": time.perf_counter() - started, "cpu_s": site.cpu() - before}
        site.stop()
        return result


def baseline(interpreter, onnx, side, files=None, raw=0):
    words = [interpreter, os.path.join(here, "baseline.py"), "--model", onnx, "--side", str(side)]
    with tempfile.TemporaryDirectory(dir=WORK) as scratch:
        drop, out = os.path.join(scratch, "drop"), os.path.join(scratch, "out")
        os.mkdir(drop)
        os.mkdir(out)
        for path in files or []:
            subprocess.run(["cp", "--reflink=never", path, drop], check=True)
        return json.loads(shell(*words, "--in", drop, "--out", out, *(["--raw", str(raw)] if raw else [])))


def part_python():
    """Against what one would write in Python: CPU-seconds an image outside inference, and images a second."""
    interpreter = python()
    if not interpreter:
        return []
    onnx, rows = network("b0", 224), []
    for syntax in SYNTAXES:
        files = images(syntax)
        raw = baseline(interpreter, onnx, 224, raw=max(len(files), 20))
        infer = raw["cpu_s"] / raw["images"]
        theirs, ours = baseline(interpreter, onnx, 224, files), one_run(onnx, files)
        n = len(files)
        outside = lambda run: max(run["cpu_s"] / n - infer, 1e-4)
        rows.append({
            "syntax": syntax, "images": n,
            "inference CPU ms": 1000 * infer,
            "Python CPU ms": 1000 * theirs["cpu_s"] / n, "radsort CPU ms": 1000 * ours["cpu_s"] / n,
            "CPU outside inference, ratio": outside(theirs) / outside(ours),
            "images/s Python": n / theirs["wall_s"], "images/s radsort": n / ours["wall_s"],
            "throughput, ratio": theirs["wall_s"] / ours["wall_s"],
        })
        if theirs["failed"]:
            rows[-1]["syntax"] += f" ({theirs['failed']} failed in Python)"
    return rows


def part_limit():
    """Against ONNX Runtime alone on ready tensors with the same threads: the share of its throughput that is kept."""
    interpreter = python()
    if not interpreter:
        return []
    rows = []
    for name, side, count in [("b0", 224, COUNT), ("b6", 528, max(COUNT // 2, 6))]:
        onnx, files = network(name, side), images("mixed")[:count]
        raw = baseline(interpreter, onnx, side, raw=len(files))
        ours = one_run(onnx, files)
        rows.append({
            "network": f"{name}@{side}", "images": len(files),
            "raw images/s": raw["images"] / raw["wall_s"], "radsort images/s": len(files) / ours["wall_s"],
            "share kept, ratio": (len(files) / ours["wall_s"]) / (raw["images"] / raw["wall_s"]),
        })
    return rows


def part_latency():
    """From the rename into the drop directory to the record in the ledger, one file at a time, without the model's time."""
    with Site(PROGRAM, WORK, bundle=os.path.join(root, "models/spine-phantom")) as site:
        site.start()
        ledger, taken = os.path.join(site.state, "ledger/00000001.jsonl"), []
        with open(ledger) as lines:
            lines.read()
            for path in images("explicit"):
                name = os.path.basename(path)
                staged = os.path.join(site.dir, name)
                subprocess.run(["cp", path, staged], check=True)
                started = time.perf_counter()
                os.rename(staged, os.path.join(site.drops[0], name))
                infer, text = None, ""
                while infer is None or '"kind":"filed"' not in text:
                    text += lines.read()
                    for line in text.splitlines():
                        if '"kind":"intent"' in line and line.endswith("}"):
                            infer = json.loads(line)["record"]["dossier"]["ms"]["infer"]
                    time.sleep(0.0005)
                taken.append(1000 * (time.perf_counter() - started) - infer)
        site.stop()
    taken.sort()
    share = lambda q: taken[min(int(q * len(taken)), len(taken) - 1)]
    return [{"files": len(taken), "p50 ms": share(0.5), "p99 ms": share(0.99), "most ms": taken[-1]}]


def part_idle():
    """Nothing to do, five watched trees of 10,000 directories: what it costs all the same."""
    seconds = float(os.environ.get("IDLE_SECONDS", "60"))
    with Site(PROGRAM, WORK, bundle=os.path.join(root, "models/spine-phantom"), watches=5) as site:
        for drop in site.drops:
            for n in range(100):
                for m in range(99):
                    os.makedirs(os.path.join(drop, str(n), str(m)))
        site.start()
        site.until(lambda: all(watch["state"] == "watching" or watch["waiting"] == 0 for watch in site.status()["watches"]), "the first scans")
        time.sleep(10)
        cpu, switches = site.cpu(), site.switches()
        time.sleep(seconds)
        row = {
            "seconds": seconds, "CPU %": 100 * (site.cpu() - cpu) / seconds,
            "wake-ups/s": (site.switches() - switches) / seconds, "memory MiB": site.memory(),
        }
        site.stop()
    return [row]


PARTS = {"python": part_python, "limit": part_limit, "latency": part_latency, "idle": part_idle}


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "radsort": shell(PROGRAM, "--version").strip(), "load": os.getloadavg()[0],
        "commit": shell("git", "-C", root, "rev-parse", "--short", "HEAD").strip(), "date": time.strftime("%Y-%m-%d"),
    }


def check(new):
    """Names every ratio that is more than 15 % worse than the one checked in."""
    with open(RESULTS) as file:
        old = json.load(file)["parts"]
    worse = compared = 0
    for part, rows in new["parts"].items():
        for before, now in zip(old.get(part, []), rows):
            for name in (name for name in now if name.endswith("ratio")):
                compared += 1
                if now[name] * WORSE < before[name]:
                    worse += 1
                    print(f"WORSE: {part}, {next(iter(now.values()))}, {name}: {before[name]:.3g} before, {now[name]:.3g} now")
    print(f"{compared} ratios compared, {worse} worse by more than 15 %")
    return 1 if worse or not compared else 0


def main():
    os.makedirs(WORK, exist_ok=True)
    wanted = os.environ.get("PART", ",".join(PARTS)).split(",")
    results = {"machine": machine(), "parts": {}}
    for name in wanted:
        rows = PARTS[name]()
        table(f"{name}: {PARTS[name].__doc__.strip()}", rows)
        results["parts"][name] = rows
    if "--check" in sys.argv:
        sys.exit(check(results))
    if os.path.exists(RESULTS):
        with open(RESULTS) as file:
            results["parts"] = json.load(file)["parts"] | results["parts"]
    with open(RESULTS, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(RESULTS, root)}")


if __name__ == "__main__":
    main()
