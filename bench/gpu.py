"""`make bench-gpu`: raw and end to end on CUDA, where there is a GPU and ONNX Runtime's GPU library.

RADSORT_GPU_RUNTIME names the folder that `make gpu-runtime` made (/usr/local/lib/radsort-gpu if not given). BENCH_GPU_DEVICE=cpu
runs the same on the CPU, to try the harness itself; its rows say so and are no figures of a GPU.
"""
import os, subprocess, time

from inputs import COUNT, PROGRAM, WORK, example, images, imported, phantoms, raw, shell
from service import Site

RUNTIME = os.environ.get("RADSORT_GPU_RUNTIME", "/usr/local/lib/radsort-gpu")
DEVICE = os.environ.get("BENCH_GPU_DEVICE", "cuda")
NETWORKS = [("b0", 224), ("b6", 528)]
BATCHES = [int(word) for word in os.environ.get("BATCHES", "1,8,32").split(",")]
DECODERS = [int(word) for word in os.environ.get("DECODERS", "").split(",") if word]
UNCERTIFIED = '[review]\nuncertified = "file"\n'
IMAGES = int(os.environ.get("GPU_IMAGES", "50000"))
FILES = int(os.environ.get("GPU_FILES", "800"))
# A lent machine's time is short: what is not begun by then is left out, and said.
SECONDS = float(os.environ.get("GPU_SECONDS", "3600"))


def what_is_missing():
    """Why this cannot run here; None when it can."""
    if DEVICE != "cuda":
        return None
    if not os.path.exists(os.path.join(RUNTIME, "libonnxruntime.so")):
        return f"{RUNTIME} has no libonnxruntime.so (make gpu-runtime WHEELS=DIR OUT=DIR makes such a folder; docs/offline-gpu.md)"
    try:
        shell("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    except (OSError, subprocess.CalledProcessError):
        return "nvidia-smi finds no GPU"
    return None


def gpu_memory():
    """MiB in use on the first GPU by everybody; 0 without one."""
    try:
        return int(shell("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"))
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0


def settings(batch, decoders=None):
    proof = f'gpu = "require"\nlibrary = "{RUNTIME}/libonnxruntime.so"\n' if DEVICE == "cuda" else ""
    text = f'device = "{DEVICE}"\nbatch = {batch}\n{proof}'
    return text + (f"[decoders]\ncount = {decoders}\npermits-per-watch = {max(2 * decoders, 2 * batch)}\n" if decoders else "")


def site_with(onnx, batch, decoders=None, watch=""):
    """A site whose bundle is that network and nothing else."""
    return imported(Site(PROGRAM, WORK, watch=watch, runtime=settings(batch, decoders), extra=UNCERTIFIED), onnx)


def proven(site):
    """The provider as the service reports it after it has proven it."""
    return site.status()["model"]["provider"]


def fill(site, staged):
    """Wall and CPU seconds from the first of these files in the drop directory to the last on record."""
    began, cpu, before = time.perf_counter(), site.cpu(), site.decided()
    for path in staged:
        os.rename(path, os.path.join(site.drops[0], os.path.basename(path)))
    site.until(lambda: site.decided() - before >= len(staged), "all files on record", patience=3000)
    return time.perf_counter() - began, site.cpu() - cpu


def network(name, side, precision):
    path = os.path.join(WORK, f"{name}-{side}-{precision}.onnx")
    if not os.path.exists(path):
        shell(example("random_network"), name, str(side), path, *(["fp16"] if precision == "fp16" else []))
    return path


def images_a_second(bundle, batch):
    """Of ONNX Runtime alone, on ready tensors."""
    library = f"{RUNTIME}/libonnxruntime.so" if DEVICE == "cuda" else None
    done = raw(bundle, max(COUNT * 8, 8 * batch), batch, DEVICE, library)
    return done["images"] / done["wall_s"]


def gpu():
    """Raw ONNX Runtime on ready tensors, by network, precision and batch; from files, with the best batch, by number of decoders."""
    missing = what_is_missing()
    if missing:
        print(f"NOT RUN: no GPU was measured: {missing}")
        return []
    rows, done, cores = [], 0, os.cpu_count()
    patterns = images("mixed", 64, size="2140x1760")
    began = time.monotonic()
    for precision in ("fp32", "fp16"):
        for name, side in NETWORKS:
            if time.monotonic() - began > SECONDS:
                print(f"NOT RUN: {name}@{side} {precision}: no time was left")
                continue
            with site_with(network(name, side, precision), BATCHES[-1]) as site:
                bundle, called, alone = os.path.join(site.state, "models/bench-1"), f"{name}@{side} {precision}", {}
                for batch in BATCHES:
                    alone[batch] = images_a_second(bundle, batch)
                    rows.append(row(called, batch, **{"raw images/s": alone[batch]}))
                best = max(alone, key=alone.get)
                for decoders in DECODERS or sorted({max(cores // 4, 1), max(cores // 2, 1), cores}):
                    site.configure(settings(best, decoders), UNCERTIFIED)
                    site.start()
                    files = copies_with_new_uids(patterns, FILES, os.path.join(site.dir, "staged"), done)
                    os.sync()
                    done += FILES
                    wall, cpu = fill(site, files)
                    rate = len(files) / wall
                    rows.append(row(called, best, **{
                        "decoders": decoders, "provider": proven(site), "raw images/s": alone[best], "radsort images/s": rate,
                        "share kept, ratio": rate / alone[best], "cores busy": cpu / wall, "GPU MiB": gpu_memory(),
                    }))
                    site.stop()
    return rows


def row(network, batch, **figures):
    """One row of the table, told at once: a lent machine may go before the last."""
    names = ["decoders", "provider", "raw images/s", "radsort images/s", "share kept, ratio", "cores busy", "GPU MiB"]
    found = {"network": network, "batch": batch, **{name: figures.get(name) for name in names}}
    print("  " + ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in found.items() if value is not None), flush=True)
    return found


def copies_with_new_uids(paths, count, folder, first=0):
    """The same images again and again, each with a SOP Instance UID of its own."""
    os.makedirs(folder, exist_ok=True)
    contents = [open(path, "rb").read() for path in paths]
    for number in range(first, first + count):
        content = contents[number % len(contents)]
        at = content.index(b"\x08\x00\x18\x00UI")
        length = int.from_bytes(content[at + 6:at + 8], "little")
        uid = f"1.2.826.0.1.3680043.10.9999.9.{number}".ljust(length, "\0").encode()[:length]
        with open(os.path.join(folder, f"{number}.dcm"), "wb") as file:
            file.write(content[:at + 8] + uid + content[at + 8 + length:])
    return [os.path.join(folder, f"{number}.dcm") for number in range(first, first + count)]


def gpu_memory_over_time():
    """One service over many images: GPU memory, its own memory, and the rate, at the beginning and later."""
    missing = what_is_missing()
    if missing:
        print(f"NOT RUN: no GPU was measured: {missing}")
        return []
    rows, done = [], 0
    [small, *_] = phantoms("explicit", 2, "240x400")
    # Files of a directory that is renamed in wait the settle time.
    with site_with(network("b0", 224, "fp32"), 32, os.cpu_count(), watch='settle = "1s"\n') as site:
        site.start()
        inbox = os.path.join(site.dir, "inbox")
        while done < IMAGES:
            step = min(max(IMAGES // 10, 1), IMAGES - done)
            copies_with_new_uids([small], step, inbox, done)
            began, before = time.perf_counter(), site.decided()
            os.rename(inbox, os.path.join(site.drops[0], f"inbox-{done}"))
            site.until(lambda: site.decided() - before >= step, "all files on record", patience=3000, pause=0.2)
            done += step
            rows.append({
                "images so far": done, "provider": proven(site), "images/s": step / (time.perf_counter() - began),
                "GPU MiB": gpu_memory(), "memory MiB": site.memory(),
            })
        site.stop()
    return rows
