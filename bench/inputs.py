"""What is measured with: the programs, the Python that the baseline runs in, networks, and images."""
import ctypes, json, os, platform, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
RELEASE = os.path.join(ROOT, "target/release")
PROGRAM = os.environ.get("RADSORT", os.path.join(RELEASE, "radsort"))
WORK = os.path.join(ROOT, "target/bench")
BUNDLE = os.path.join(ROOT, "models/spine-phantom")
COUNT = int(os.environ.get("COUNT", "24"))
# Deflated files are left out: their structure does not tell when they are complete, they wait the settle time.
SYNTAXES = ["explicit", "rle", "jpeg", "jpeg-extended", "jpeg-lossless", "jpegls", "j2k", "j2k-lossless"]
# One network for each view, so that every image goes through one.
VIEWS = ["frontal", "lateral"]
# Real radiographs, where this checkout has them beside it. They are no part of it.
RADIOGRAPHS = os.path.join(ROOT, "../shared/data/radiographs")


def shell(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
    return done.stdout


def example(name):
    """A program of examples/, which `make bench` has built."""
    return os.path.join(RELEASE, "examples", name)


def python():
    """The baseline's interpreter with its packages; None where they cannot be had."""
    venv = os.path.join(WORK, "venv")
    interpreter = os.path.join(venv, "bin/python")
    with open(os.path.join(HERE, "requirements.txt")) as file:
        wanted = file.read()
    marker = os.path.join(venv, "complete")
    if not os.path.exists(marker) or open(marker).read() != wanted:
        try:
            shell(sys.executable, "-m", "venv", venv)
            shell(interpreter, "-m", "pip", "install", "-q", "-r", os.path.join(HERE, "requirements.txt"))
            with open(marker, "w") as file:
                file.write(wanted)
        except (subprocess.CalledProcessError, OSError) as error:
            # venv gives its advice on stdout, pip on stderr.
            said = "\n".join(filter(None, [getattr(error, "stdout", ""), getattr(error, "stderr", "")]))
            print(f"NOT RUN: the Python baseline cannot be installed: {said or error}")
            return None
    return interpreter


def network(name, side):
    """An EfficientNet with random weights: what it takes does not depend on what it has learned."""
    path = os.path.join(WORK, f"{name}-{side}.onnx")
    if not os.path.exists(path):
        shell(example("random_network"), name, str(side), path)
    return path


def raw(bundle, count, batch=1, device="cpu", library=None):
    """ONNX Runtime alone, with one thread, on ready tensors of a bundle of `imported`: `images`, `wall_s`, `cpu_s`."""
    return json.loads(shell(example("raw_network"), bundle, str(count), str(batch), device, *([library] if library else [])))


def imported(site, onnx):
    """Makes a bundle of that network, the same for both views, the site's; the header tells which."""
    classes = [word for view in VIEWS for word in ("--classes", ",".join(f"{view}-{letter}:{view}" for letter in "abcde"))]
    site.run("models", "import", onnx, onnx, *classes, "--threshold", "0.5", "--name", "bench")
    site.run("models", "promote", "bench-1")
    return site


def phantoms(syntax, count, size=None, seed=77):
    """Phantoms in one transfer syntax, at their detectors' own sizes or at `size` (columns x rows)."""
    path = os.path.join(WORK, "-".join(["phantoms", syntax, str(count), str(seed), *([size] if size else [])]))
    if not os.path.isdir(path):
        words = ["--out", path + ".new", "--count", str(count), "--seed", str(seed), "--syntax", syntax]
        shell(PROGRAM, "phantom", *words, *(["--size", size] if size else []))
        os.rename(path + ".new", path)
    return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".dcm"))


def radiographs():
    """Real ones; none on most machines."""
    if not os.path.isdir(RADIOGRAPHS):
        return []
    return sorted(os.path.join(RADIOGRAPHS, name) for name in os.listdir(RADIOGRAPHS) if name.endswith(".dcm"))


def images(syntax, count=COUNT, size=None):
    """Phantoms at their detectors' own sizes, or at `size`; mixed are each syntax in turn, and no image comes twice."""
    if syntax != "mixed":
        return phantoms(syntax, count, size)
    each = -(-count // len(SYNTAXES))
    turns = zip(*(phantoms(other, each, size, seed=100 + n) for n, other in enumerate(SYNTAXES)))
    return [path for turn in turns for path in turn][:count]


def copied(files, folder):
    """Copies of the files, each with a name of its own, that are on the disk when this returns.

    radsort syncs what it files: the writer's own share of that is not measured.
    """
    os.makedirs(folder, exist_ok=True)
    copies = [os.path.join(folder, f"{number:05}-{os.path.basename(path)}") for number, path in enumerate(files)]
    for path, copy in zip(files, copies):
        subprocess.run(["cp", "--reflink=never", path, copy], check=True)
    os.sync()
    return copies


def said(*words):
    """What a program says of the machine; None where it is not there."""
    try:
        return shell(*words).strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    found = {
        "cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "radsort": shell(PROGRAM, "--version").strip(), "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d"),
        "filesystem": (said("df", "--output=fstype", WORK) or "unknown").split()[-1],
        "commit": os.environ.get("COMMIT") or said("git", "-C", ROOT, "describe", "--always", "--dirty") or "unknown",
    }
    gpu = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "-i", "0")
    return found | ({"gpu": gpu} if gpu else {})


def versions():
    """Of what was measured with, as far as it is there."""
    found = {"ONNX Runtime": runtime_version(), "rustc": said("rustc", "--version")}
    # The baseline's packages are pinned; before a part has asked for them, they are not there.
    if os.path.exists(os.path.join(WORK, "venv/complete")):
        with open(os.path.join(HERE, "requirements.txt")) as file:
            pins = dict(line.split("==") for line in file.read().splitlines() if "==" in line)
        found |= {name: pins[name] for name in ("pydicom", "opencv-python-headless", "numpy")}
    return {name: version for name, version in found.items() if version}


def runtime_version():
    """What the library says of itself; None where there is none."""
    class Base(ctypes.Structure):
        _fields_ = [("api", ctypes.c_void_p), ("version", ctypes.CFUNCTYPE(ctypes.c_char_p))]

    try:
        library = ctypes.CDLL(os.environ.get("ORT_DYLIB_PATH", os.path.join(ROOT, ".runtime/libonnxruntime.so")))
    except OSError:
        return None
    library.OrtGetApiBase.restype = ctypes.POINTER(Base)
    return library.OrtGetApiBase().contents.version().decode()
