#!/usr/bin/env python3
"""`make torture`: one harness after the other, a table at the end, and the figures into the documentation.

SCALE=5 makes everything that has a number five times as much; SEED= repeats a run's choices; ONLY="torture events" runs some;
BUILD="--no-default-features --features failpoints" leaves the training code out.
"""
import json, os, re, subprocess, sys, time

import figures

SCALE = float(os.environ.get("SCALE", "1"))
SEED = os.environ.get("SEED", "20261124")
HARNESSES = [
    ("torture", "conservation: kills under load"),
    ("power_cut", "power cuts, ext4 and xfs"),
    ("sick", "sick disks and shares"),
    ("shares", "shares that go away, fill up, refuse"),
    ("clock", "a clock that jumps"),
    ("events", "events lost, late or never sent"),
    ("people", "hostile people"),
    ("hostile", "hostile files through the daemon"),
    ("privacy", "patients' names"),
]


def environment():
    times = lambda number: str(max(1, round(number * SCALE)))
    defaults = {
        "RADSORT_FIGURES": figures.FIGURES,
        "TORTURE_KILLS": times(1000), "TORTURE_SEED": SEED, "TORTURE_SITES": str(max(2, os.cpu_count())),
        "POWER_CUTS": times(200), "POWER_SEED": SEED,
        "EVENTS_FILES": times(4000), "EVENTS_KNOWN": times(100000),
    }
    return {**defaults, **os.environ}


def run(name):
    """Whether its tests passed, how many, how long they took, and what was skipped."""
    build = os.environ.get("BUILD", "--features failpoints").split()
    words = [os.environ.get("CARGO", "cargo"), "test", "--locked", *build, "--test", name, "--", "--nocapture"]
    if name == "power_cut" and os.geteuid() == 0:
        # So that nothing stays mounted, whatever happens.
        words = ["unshare", "--mount", *words]
    began = time.monotonic()
    log = os.path.join(figures.FIGURES, f"{name}.log")
    with open(log, "w") as file:
        code = subprocess.run(words, cwd=figures.ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT).returncode
    with open(log, errors="replace") as file:
        text = file.read()
    passed = sum(map(int, re.findall(r"test result: .*? (\d+) passed", text)))
    skipped = len(re.findall(r"^SKIPPED", text, flags=re.MULTILINE))
    result = "passed" if code == 0 else f"FAILED, see {os.path.relpath(log, figures.ROOT)}"
    return code == 0, [str(passed), str(skipped), f"{time.monotonic() - began:.0f}", result], text


def main():
    os.makedirs(figures.FIGURES, exist_ok=True)
    only = os.environ.get("ONLY", "").split()
    rows, fine, began = [], True, time.monotonic()
    for name, what in HARNESSES:
        if only and name not in only:
            continue
        print(f"{what} ...", flush=True)
        passed, cells, text = run(name)
        fine &= passed
        rows.append([what, f"`tests/{name}.rs`", *cells])
        print("\n".join(line for line in text.splitlines() if re.match(r"^([a-z-]+: |SKIPPED)", line)), flush=True)
    columns = ["what", "harness", "tests passed", "skipped", "seconds", "result"]
    print()
    for row in [columns, *rows]:
        print("{:40} {:24} {:>13} {:>8} {:>8}  {}".format(*row))
    print(f"{time.monotonic() - began:.0f} s at SCALE={SCALE:g}")
    if not only:
        git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=figures.ROOT, capture_output=True, text=True)
        with open(os.path.join(figures.FIGURES, "torture.json"), "w") as file:
            json.dump({
                "date": time.strftime("%Y-%m-%d"), "commit": git.stdout.strip(), "build": "development build",
                "cores": os.cpu_count(), "load": f"{os.getloadavg()[2]:.2f}", "columns": columns, "rows": rows,
            }, file, indent=1)
    figures.write()
    sys.exit(0 if fine else 1)


main()
