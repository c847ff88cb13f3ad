"""Large trees and long records: how time and memory grow from 10,000 to 1,000,000."""
import json, os, random, resource, subprocess, time

from inputs import BUNDLE, PROGRAM, ROOT, WORK, example, shell
from latency import quantile
from service import Site

LARGEST = int(os.environ.get("SCALE", "1000000"))
SIZES = [size for size in (10_000, 100_000, 1_000_000) if size <= LARGEST] or [LARGEST]
A_DIRECTORY = 1000


def tree(folder, count):
    """Small files, a thousand in each directory."""
    for first in range(0, count, A_DIRECTORY):
        directory = os.path.join(folder, f"{first // A_DIRECTORY:04}")
        os.makedirs(directory)
        for number in range(first, min(first + A_DIRECTORY, count)):
            with open(os.path.join(directory, f"{number}.dcm"), "wb") as file:
                file.write(b"x")


def waiting(site):
    status = site.status()
    return status["watches"][0]["waiting"] if status else 0


def first_scans():
    """A tree that is there before the service starts, and as many files that appear at once (a directory renamed in): until all are known."""
    rows = []
    waits = 'settle = "2h"\ntruncated = "4h"\n'
    with Site(PROGRAM, WORK, bundle=BUNDLE, watch=waits) as site:
        site.start()
        empty = site.memory()
        site.stop()
    for count in SIZES:
        with Site(PROGRAM, WORK, bundle=BUNDLE, watch=waits) as site:
            tree(site.drops[0], count)
            began = time.perf_counter()
            site.start()
            site.until(lambda: site.status()["watches"][0]["last_scan_us"] and waiting(site) >= count, "the first scan", pause=0.1)
            scan, cpu, memory = time.perf_counter() - began, site.cpu(), site.memory()
            # The same number again, at once.
            appearing = os.path.join(site.dir, "appearing")
            tree(appearing, min(count, 100_000))
            began = time.perf_counter()
            os.rename(appearing, os.path.join(site.drops[0], "appearing"))
            site.until(lambda: waiting(site) >= count + min(count, 100_000), "what has appeared", pause=0.1)
            rows.append({
                "files": count, "first scan s": scan, "CPU s": cpu, "memory MiB": memory, "bytes a file": (memory - empty) * 2**20 / count,
                "at once": min(count, 100_000), "known after s": time.perf_counter() - began, "missed": count + min(count, 100_000) - waiting(site),
            })
            site.stop()
    return rows


def size_of(folder):
    return sum(os.stat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names)


def asked(lines, request, **what):
    """Milliseconds from a request on the control socket to its last reply, and how many replies came."""
    began, replies = time.perf_counter(), 0
    lines.write(json.dumps({"v": 1, "request": request, **what}) + "\n")
    lines.flush()
    while (reply := json.loads(lines.readline()))["reply"] != "done":
        if reply["reply"] == "error":
            raise SystemExit(f"{request} {what}: {reply}")
        replies += reply["reply"] != "alive"
    return 1000 * (time.perf_counter() - began), replies


def times(lines, count, request, what):
    """p50 and p99 of so many questions, each about something else."""
    took = []
    for number in range(count):
        ms, replies = asked(lines, request, **what(number))
        assert replies, (request, what(number))
        took.append(ms)
    return quantile(took, 0.5), quantile(took, 0.99)


def long_records():
    """A ledger of so many filed files: its size, the index built from it, the service's start, and questions over the control socket."""
    rows, choice = [], random.Random(1)
    for count in SIZES:
        with Site(PROGRAM, WORK, bundle=BUNDLE) as site:
            site.start()
            site.stop()
            shell(example("long_ledger"), site.state, str(count))
            ledger = size_of(os.path.join(site.state, "ledger"))
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            # It says, rightly, that none of these files is there; what counts is the index.
            subprocess.run([PROGRAM, "reindex", "--config", site.config], capture_output=True)
            rebuild = time.perf_counter() - began
            cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime
            index = sum(size_of(entry.path) for entry in os.scandir(site.state) if entry.name.startswith("index") and entry.is_dir())
            began = time.perf_counter()
            site.start()
            whole = time.perf_counter() - began
            site.stop()
            began = time.perf_counter()
            site.start()
            short = time.perf_counter() - began
            memory = site.memory()
            lines = site.connect()
            some = lambda number: f"1.2.826.0.1.3680043.10.9999.1.{choice.randrange(count)}"
            uid = times(lines, 500, "show", lambda number: {"what": some(number)})
            category = times(lines, 50, "query", lambda number: {"query": {"category": f"category-{number % 5}", "limit": 100}})
            date = times(lines, 50, "query", lambda number: {"query": {"since_us": 1, "limit": 100}})
            counted = times(lines, 200, "count", lambda number: {"query": {"category": f"category-{number % 5}"}})
            rows.append({
                "entries": count, "ledger bytes each": ledger / count, "index bytes each": index / count, "rebuild s": rebuild,
                "rebuilt a second": count / rebuild, "rebuild CPU s": cpu, "start s, whole ledger": whole, "start s, checkpoint": short,
                "memory MiB": memory, "by UID p50 ms": uid[0], "by UID p99 ms": uid[1], "100 of a category p99 ms": category[1],
                "100 since a date p99 ms": date[1], "count p99 ms": counted[1],
            })
            site.stop()
    figures = ["rebuild s", "start s, whole ledger", "start s, checkpoint", "memory MiB", "by UID p99 ms", "count p99 ms"]
    growth(rows, "entries", figures, os.path.join(ROOT, "docs/pictures/scale.svg"))
    return rows


def growth(rows, across, figures, path):
    """A log-log picture of how figures grow, as SVG."""
    import math
    width, height, left, top = 640, 360, 70, 30
    values = [row[figure] for row in rows for figure in figures if row.get(figure)]
    if len(rows) < 2 or not values:
        return
    x0, x1 = math.log10(rows[0][across]), math.log10(rows[-1][across])
    y0, y1 = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x = lambda value: left + (width - left - 150) * (math.log10(value) - x0) / (x1 - x0)
    y = lambda value: top + (height - top - 50) * (1 - (math.log10(value) - y0) / max(y1 - y0, 1))
    colours = ["#1b6ca8", "#c0504d", "#4f9d4f", "#8064a2", "#d08a2e", "#555555"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for power in range(y0, y1 + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{left}" x2="{width - 150}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for row in rows:
        parts.append(f'<text x="{x(row[across]):.1f}" y="{height - 28}" text-anchor="middle">{row[across]:,}</text>')
    parts.append(f'<text x="{(left + width - 150) / 2}" y="{height - 8}" text-anchor="middle">{across}</text>')
    for number, figure in enumerate(figures):
        points = [(x(row[across]), y(row[figure])) for row in rows if row.get(figure)]
        colour = colours[number % len(colours)]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        parts.append(f'<text x="{width - 142}" y="{top + 18 * number + 10}" fill="{colour}">{figure}</text>')
    with open(path, "w") as file:
        file.write("\n".join([*parts, "</svg>", ""]))
