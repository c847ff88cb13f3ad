"""A radsort to be measured: a directory with its configuration, the service started on it, and what it has used."""
import json, os, shutil, signal, socket, subprocess, tempfile, time

from inputs import copied

TICKS = os.sysconf("SC_CLK_TCK")


def processes(root):
    """A process and all below it."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                children.setdefault(int(file.read().rsplit(") ", 1)[1].split()[1]), []).append(int(pid))
        except OSError:
            pass
    found, ahead = [], [root]
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        ahead += children.get(pid, [])
    return found


class Site:
    """One drop directory, in a scratch directory on the disk that is measured."""

    def __init__(self, program, base, bundle=None, watches=1, watch="", runtime="threads = 1\n", extra="", drop_base=None):
        self.program = program
        self.dir = tempfile.mkdtemp(prefix="radsort-bench-", dir=base)
        self.drops = [os.path.join(drop_base or self.dir, f"drop{n}") for n in range(watches)]
        self.library = os.path.join(self.dir, "library")
        self.state = os.path.join(self.dir, "state")
        for path in [*self.drops, self.library]:
            os.mkdir(path)
        os.mkdir(self.state, 0o700)
        self.config = os.path.join(self.dir, "radsort.toml")
        self.bundle, self.watch = bundle, watch
        self.configure(runtime, extra)
        self.child = None
        # How far each segment of the ledger has been read, and how many files were found to have a fate.
        self.read = {}

    def configure(self, runtime, extra=""):
        """Writes the configuration; a service that runs does not read it."""
        model = f'[model]\nbundle = "{self.bundle}"\n' if self.bundle else ""
        with open(self.config, "w") as file:
            for drop in self.drops:
                file.write(f'[[watch]]\npath = "{drop}"\nrecursive = true\n{self.watch}')
            file.write(f'[library]\npath = "{self.library}"\n[state]\npath = "{self.state}"\n')
            file.write(f"[runtime]\n{runtime}{model}{extra}\n")

    def run(self, *words):
        done = subprocess.run([self.program, *words, "--config", self.config], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"radsort {' '.join(words)}: {done.stderr}")
        return done.stdout

    def start(self):
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.child = subprocess.Popen([self.program, "run", "--config", self.config], stdout=self.log, stderr=self.log)
        self.until(lambda: self.status() is not None, "it answers")

    def status(self):
        done = subprocess.run([self.program, "status", "--json", "--config", self.config], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 and '"service":null' not in done.stdout else None

    def stage(self, files):
        """Copies on the disk that is measured, to be renamed into a drop directory as a writer does that is done."""
        return copied(files, os.path.join(self.dir, "staged"))

    def decided(self):
        """Files that have a fate, by the ledger itself: reading it costs the service nothing."""
        folder = os.path.join(self.state, "ledger")
        for name in sorted(os.listdir(folder)):
            read, count = self.read.get(name, (0, 0))
            with open(os.path.join(folder, name), "rb") as file:
                file.seek(read)
                text = file.read()
            whole = text.rfind(b"\n") + 1
            found = sum(text.count(b'"kind":"%s"' % kind, 0, whole) for kind in (b"filed", b"quarantined", b"observed"))
            self.read[name] = (read + whole, count + found)
        return sum(count for _, count in self.read.values())

    def classified(self):
        """Files on record that a network was asked about."""
        folder, count = os.path.join(self.state, "ledger"), 0
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                count += sum(b'"scores":[{' in line for line in file)
        return count

    def metrics(self):
        """Prometheus's text, from the Unix socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.path.join(self.state, "metrics.sock"))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b""
            while part := client.recv(65536):
                text += part
        return text.decode()

    def connect(self):
        """The control socket, as a file of JSON lines to be written and read."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.path.join(self.state, "control.sock"))
        return client.makefile("rw")

    def subscribe(self):
        """Every file that gets its fate from now on, as the control socket tells it: one dict each."""
        lines = self.connect()
        lines.write('{"v":1,"request":"subscribe"}\n')
        lines.flush()
        return (reply["entry"] if "entry" in reply else reply for reply in map(json.loads, lines) if reply["reply"] == "entry")

    def until(self, condition, what, patience=900, pause=0.02):
        end = time.monotonic() + patience
        while not condition():
            if self.child.poll() is not None or time.monotonic() > end:
                with open(os.path.join(self.dir, "log")) as file:
                    raise SystemExit(f"not in time: {what}\n{file.read()[-3000:]}")
            time.sleep(pause)

    def cpu(self):
        """CPU-seconds so far: the service, its decoders, and those that have ended."""
        seconds = 0.0
        for pid in processes(self.child.pid):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    fields = file.read().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            seconds += sum(map(int, fields[11:15])) / TICKS
        return seconds

    def until_quiet(self, seconds=5):
        """Until it has done nothing for so long: what it begins at its start, looking through the library, is over."""
        used, since = self.cpu(), time.monotonic()

        def quiet():
            nonlocal used, since
            now = self.cpu()
            # What it takes to be idle, and to be asked nothing, is far less than this.
            if now - used > 0.02 * seconds:
                used, since = now, time.monotonic()
            return time.monotonic() - since >= seconds

        self.until(quiet, "it has nothing to do", pause=0.5)

    def memory(self):
        """Proportional set size of the service and its decoders, MiB: shared pages count once."""
        kilobytes = 0
        for pid in processes(self.child.pid):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    kilobytes += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            except OSError:
                pass
        return kilobytes / 1024

    def switches(self):
        """Context switches of all its threads so far: each is a wake-up."""
        count = 0
        for pid in processes(self.child.pid):
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/status") as file:
                        count += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
            except OSError:
                pass
        return count

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
