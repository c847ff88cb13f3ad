#!/usr/bin/env python3
"""`make bench`: measures radsort on this machine, prints tables, writes bench/results.json.

PART=NAME[,NAME] runs some parts, COUNT=N changes how many images each syntax has, --check compares a new run's ratios with the
results that are checked in. RESULTS=FILE reads and writes that file instead, and leaves docs/performance.md alone. Every figure
is of this run; only ratios within a run are worth comparing. docs/performance.md explains each figure.
"""
import json, os, subprocess, sys, time, traceback

from against import against_python, against_the_limit
from compare import compare
from decoding import decoding, harm
from filing import filing
from gpu import gpu, gpu_memory_over_time
from inputs import ROOT, WORK, machine, versions
from latency import idle, latency
from scale import first_scans, long_records
from training import training
import report

RESULTS = os.environ.get("RESULTS", report.RESULTS)
PARTS = {
    "python": against_python, "limit": against_the_limit, "decoding": decoding, "harm": harm, "latency": latency, "idle": idle,
    "scans": first_scans, "records": long_records, "filing": filing, "training": training,
}
# Only where they are asked for: `make bench-gpu`.
GPU_PARTS = {"gpu": gpu, "gpu-memory": gpu_memory_over_time}


def table(title, rows):
    print(f"\n{title}")
    if not rows:
        return print("  nothing was measured")
    names = list(rows[0])
    show = lambda value: f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)
    cells = [names] + [[show(row[name]) for name in names] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(names))]
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths))))


def measured(name):
    """One part, measured and shown; None where nothing was, which the part has said."""
    # Each part names its own machine, load and commit: a run of some parts replaces only those.
    where, began = machine(), time.monotonic()
    rows = (PARTS | GPU_PARTS)[name]()
    table(f"{name}: {(PARTS | GPU_PARTS)[name].__doc__.strip()}", rows)
    return {"machine": where | versions(), "seconds": round(time.monotonic() - began), "rows": rows} if rows else None


def read():
    if not os.path.exists(RESULTS):
        return {}
    with open(RESULTS) as file:
        return json.load(file)["parts"]


def write(parts):
    """As a whole or not at all: what is there took hours."""
    with open(RESULTS + ".new", "w") as file:
        json.dump({"parts": parts}, file, indent=1)
        file.write("\n")
    os.replace(RESULTS + ".new", RESULTS)
    if RESULTS == report.RESULTS:
        report.write()


def main():
    os.makedirs(WORK, exist_ok=True)
    known = PARTS | GPU_PARTS
    wanted = os.environ.get("PART", ",".join(PARTS)).split(",")
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"PART: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    checks = "--check" in sys.argv
    old, new, failed = read(), {}, []
    for name in wanted:
        try:
            part = measured(name)
        except (Exception, SystemExit) as error:  # the other parts are measured all the same
            traceback.print_exception(error)
            if isinstance(error, subprocess.CalledProcessError):
                print((error.stdout or "")[-2000:], (error.stderr or "")[-2000:], sep="\n", file=sys.stderr)
            failed.append(name)
            continue
        if part:
            new[name] = part
            if not checks:
                write(old | new)
    print()
    for name in failed:
        print(f"FAILED: {name}: see above")
    if checks:
        faults, compared = compare(old, new, wanted)
        print(*faults, f"{compared} ratios compared, {len(faults)} faults", sep="\n")
        sys.exit(1 if failed or faults or not compared else 0)
    for name, part in old.items():
        if name not in new:
            print(f"kept from {part['machine']['date']}: {name}")
    if new:
        pages = " and docs/performance.md" if RESULTS == report.RESULTS else ""
        print(f"written: {', '.join(new)}, to {os.path.relpath(RESULTS, ROOT)}{pages}")
    else:
        print("Nothing was measured, and nothing was written.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
