"""Large trees and long records: how time and memory grow from 10,000 to 1,000,000."""
import json, os, random, resource, subprocess, time

from inputs import BUNDLE, PROGRAM, WORK, example, shell
from latency import quantile
from service import Site

LARGEST = int(os.environ.get("SCALE", "1000000"))
SIZES = [size for size in (10_000, 100_000, 1_000_000) if size <= LARGEST] or [LARGEST]
A_DIRECTORY = 1000
# How many questions of each kind are asked.
BY_UID, OTHERS = 500, 200


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


def growth(rows, figure, across):
    """What a file or entry took in the first row, of what it took in each: 1 where it grows no faster than their number."""
    first = rows[0][figure] / rows[0][across]
    return [row | {f"{figure} as they grow, ratio": first / (row[figure] / row[across])} for row in rows]


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
    return growth(rows, "first scan s", "files")


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
            first = time.time_ns() // 1000
            shell(example("long_ledger"), site.state, str(count))
            half = (time.time_ns() // 1000 - first) // 2
            ledger = size_of(os.path.join(site.state, "ledger"))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            # It says, rightly, that none of these files is there; what counts is the index. (The CPU-seconds are of both.)
            said = subprocess.run([PROGRAM, "reindex", "--json", "--config", site.config], capture_output=True)
            rebuild = json.loads(said.stdout)["seconds"]
            cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime
            index = sum(size_of(entry.path) for entry in os.scandir(site.state) if entry.name.startswith("index") and entry.is_dir())
            began = time.perf_counter()
            site.start()
            whole = time.perf_counter() - began
            site.stop()
            began = time.perf_counter()
            site.start()
            short = time.perf_counter() - began
            # It looks for all those files in the library, and finds none.
            site.until_quiet()
            memory = site.memory()
            lines = site.connect()
            some_half = lambda: {"since_us": (since := first + choice.randrange(half)), "until_us": since + half}
            some = lambda number: f"1.2.826.0.1.3680043.10.9999.1.{choice.randrange(count)}"
            uid = times(lines, BY_UID, "show", lambda number: {"what": some(number)})
            category = times(lines, OTHERS, "query", lambda number: {"query": {"category": f"category-{number % 5}", "limit": 100}})
            date = times(lines, OTHERS, "query", lambda number: {"query": {**some_half(), "limit": 100}})
            counted = times(lines, OTHERS, "count", lambda number: {"query": {"category": f"category-{number % 5}"}})
            rows.append({
                "entries": count, "ledger bytes each": ledger / count, "index bytes each": index / count, "rebuild s": rebuild,
                "rebuilt a second": count / rebuild, "rebuild CPU s": cpu, "start s, whole ledger": whole, "start s, checkpoint": short,
                "memory MiB": memory, "n by UID": BY_UID, "by UID p50 ms": uid[0], "by UID p99 ms": uid[1], "n each": OTHERS,
                "100 of a category p99 ms": category[1], "100 of some days p99 ms": date[1], "count p99 ms": counted[1],
                # A count is a question that hardly needs the index.
                "count of by UID p50, ratio": counted[0] / uid[0],
            })
            site.stop()
    return growth(rows, "rebuild s", "entries")
