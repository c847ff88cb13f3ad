#!/usr/bin/env python3
"""`make bench`: measures radsort on this machine, prints tables, writes bench/results.json.

PART=NAME[,NAME] runs some parts, COUNT=N changes how many images each syntax has, --check compares a new run's ratios with the
results that are checked in. Every figure is of this run; only ratios within a run are worth comparing. docs/performance.md
explains each figure.
"""
import json, os, sys, time

from against import against_python, against_the_limit
from decoding import decoding, harm
from filing import filing
from gpu import gpu, gpu_memory_over_time
from inputs import HERE, ROOT, WORK, machine
from latency import idle, latency
from scale import first_scans, long_records
from training import training
import report

RESULTS = os.path.join(HERE, "results.json")
WORSE = 1.15
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


def check(new):
    """Names every ratio that is more than 15 % worse than the one checked in."""
    with open(RESULTS) as file:
        old = json.load(file)["parts"]
    worse = compared = 0
    for part, rows in new["parts"].items():
        before_by_name = {next(iter(row.values())): row for row in old.get(part, {}).get("rows", [])}
        for now in rows["rows"]:
            name = next(iter(now.values()))
            before = before_by_name.get(name, {})
            for figure in (figure for figure in now if figure.endswith("ratio")):
                if not isinstance(now[figure], float) or not isinstance(before.get(figure), float):
                    continue
                compared += 1
                if now[figure] * WORSE < before[figure]:
                    worse += 1
                    print(f"WORSE: {part}, {name}, {figure}: {before[figure]:.3g} before, {now[figure]:.3g} now")
    print(f"{compared} ratios compared, {worse} worse by more than 15 %")
    return 1 if worse or not compared else 0


def main():
    os.makedirs(WORK, exist_ok=True)
    known = PARTS | GPU_PARTS
    wanted = os.environ.get("PART", ",".join(PARTS)).split(",")
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"PART: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    results = {"parts": {}}
    for name in wanted:
        # Each part names its own machine, load and commit: a run of some parts replaces only those.
        where, began = machine(), time.monotonic()
        rows = known[name]()
        table(f"{name}: {known[name].__doc__.strip()}", rows)
        if rows:
            results["parts"][name] = {"machine": where, "seconds": round(time.monotonic() - began), "rows": rows}
    if "--check" in sys.argv:
        sys.exit(check(results))
    if os.path.exists(RESULTS):
        with open(RESULTS) as file:
            results["parts"] = json.load(file)["parts"] | results["parts"]
    with open(RESULTS, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    report.write()
    print(f"\nwritten: {os.path.relpath(RESULTS, ROOT)} and docs/performance.md")


if __name__ == "__main__":
    main()
