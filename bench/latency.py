"""From the writer's close, or rename, to filed and indexed; and what it costs to have nothing to do."""
import json, os, queue, random, threading, time

from inputs import BUNDLE, PROGRAM, WORK, phantoms
from service import Site

FILES = int(os.environ.get("LATENCY_FILES", "300"))
DIRECTORIES = 10_000
# What is aimed at: ms at rest, per cent of a core, MB.
P99, CPU, MEMORY = 50, 0.1, 150
# With fewer files there is no such quantile.
FOR_P999 = 1000


class Tellings:
    """When the service has told of each file; it tells after ledger and index have it."""

    def __init__(self, site):
        self.told = queue.Queue()
        entries = site.subscribe()
        threading.Thread(target=self.listen, args=(entries,), daemon=True).start()

    def listen(self, entries):
        for entry in entries:
            self.told.put((time.perf_counter(), entry["sop_instance_uid"], entry["id"]))


def infer_ms(site):
    """Milliseconds that each file waited for and ran the model, by the id of its record."""
    found, folder = {}, os.path.join(site.state, "ledger")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as lines:
            for line in lines:
                if '"kind":"intent"' in line:
                    record = json.loads(line)["record"]
                    found[record["id"]] = record["dossier"]["ms"]["infer"]
    return found


def quantile(values, q):
    values = sorted(values)
    return values[min(int(q * len(values)), len(values) - 1)]


def met(yes):
    return "met" if yes else "NOT met"


def row(what, took, inference, rate=None):
    """`rate`: files a second, where they come by chance; at rest there is an aim."""
    beyond = [total - inference[record] for total, record in took]
    p50, p99 = quantile(beyond, 0.5), quantile(beyond, 0.99)
    return {
        "what": what, "files/s": rate, "n": len(took), "p50 ms": p50, "p99 ms": p99,
        "aim": "" if rate else f"{P99} {met(p99 <= P99)}", "p99.9 ms": quantile(beyond, 0.999) if len(took) >= FOR_P999 else "–",
        "p50 of p99, ratio": p50 / p99,
        "p50 with inference": quantile([total for total, _ in took], 0.5), "p99 with inference": quantile([total for total, _ in took], 0.99),
    }


def at_rest(site, files, put):
    """One file after the other: the next when the last is on record."""
    tellings, took = Tellings(site), []
    for path in files:
        began = put(path)
        ended, _, record = tellings.told.get(timeout=120)
        took.append((1000 * (ended - began), record))
        time.sleep(random.uniform(0.02, 0.1))
    return took


def under_load(site, files, rate):
    """Files come by chance, `rate` a second on average; who is told of first has come first, within one decoder's width."""
    tellings, began = Tellings(site), {}
    for path in files:
        time.sleep(random.expovariate(rate))
        target = os.path.join(site.drops[0], os.path.basename(path))
        began[target] = time.perf_counter()
        os.rename(path, target)
    ends = [tellings.told.get(timeout=300) for _ in files]
    # Which file a record is about stands in the ledger alone.
    sources = {}
    for name in sorted(os.listdir(os.path.join(site.state, "ledger"))):
        with open(os.path.join(site.state, "ledger", name)) as lines:
            for line in lines:
                if '"kind":"intent"' in line:
                    record = json.loads(line)["record"]
                    sources[record["id"]] = os.path.join(site.drops[0], record["from"])
    return [(1000 * (ended - began[sources[record]]), record) for ended, _, record in ends]


def latency():
    """From close or rename to filed, on disk in ledger and index, beyond inference: shipped bundle, one thread, uncompressed files."""
    rows = []
    for kind, size in [("600x900", "600x900"), ("2140x1760", "2140x1760"), ("detector's own", None)]:
        files = phantoms("explicit", FILES if size else min(FILES, 60), size)
        for way in ("rename", "close"):
            with Site(PROGRAM, WORK, bundle=BUNDLE) as site:
                site.start()

                def by_rename(path):
                    [copy] = site.stage([path])
                    began = time.perf_counter()
                    os.rename(copy, os.path.join(site.drops[0], os.path.basename(copy)))
                    return began

                def by_close(path):
                    with open(path, "rb") as file:
                        content = file.read()
                    with open(os.path.join(site.drops[0], os.path.basename(path)), "wb") as file:
                        file.write(content)
                        file.flush()
                        began = time.perf_counter()
                    return began

                took = at_rest(site, files, by_rename if way == "rename" else by_close)
                site.stop()
                rows.append(row(f"{kind}, {way}, at rest", took, infer_ms(site)))
    # How much it can do at most, then 80 % of that.
    files = phantoms("explicit", FILES, "2140x1760")
    with Site(PROGRAM, WORK, bundle=BUNDLE) as site:
        staged = site.stage(files)
        site.start()
        began = time.perf_counter()
        for path in staged[: FILES // 3]:
            os.rename(path, os.path.join(site.drops[0], os.path.basename(path)))
        site.until(lambda: site.decided() >= FILES // 3, "all files on record")
        rate = FILES // 3 / (time.perf_counter() - began)
        took = under_load(site, staged[FILES // 3:], 0.8 * rate)
        site.stop()
        rows.append(row("2140x1760, rename, at 80 % of what it can do", took, infer_ms(site), 0.8 * rate))
    return rows


def idle():
    """Nothing to do, five watched trees of 10,000 directories: what it costs all the same."""
    seconds = float(os.environ.get("IDLE_SECONDS", "60"))
    with Site(PROGRAM, WORK, bundle=BUNDLE, watches=5) as site:
        for drop in site.drops:
            for n in range(100):
                for m in range(DIRECTORIES // 100 - 1):
                    os.makedirs(os.path.join(drop, str(n), str(m)))
        site.start()
        site.until(lambda: all(watch["last_scan_us"] for watch in site.status()["watches"]), "the first scans")
        scanned = site.cpu()
        time.sleep(10)
        cpu, switches = site.cpu(), site.switches()
        time.sleep(seconds)
        used, memory = 100 * (site.cpu() - cpu) / seconds, site.memory()
        result = {
            "seconds": seconds, "CPU %": used, "CPU aim": f"{CPU} {met(used < CPU)}", "wake-ups/s": (site.switches() - switches) / seconds,
            "memory MiB": memory, "memory aim": f"{MEMORY} MB {met(memory * 2**20 <= MEMORY * 10**6)}", "CPU s until all was scanned": scanned,
        }
        site.stop()
    return [result]
