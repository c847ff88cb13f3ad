"""Files a second with small files: renamed and copied, against mv, and a script that syncs, of the same files."""
import os, shutil, struct, subprocess, tempfile, time

from against import stages
from inputs import BUNDLE, PROGRAM, WORK
from service import Site

FILES = int(os.environ.get("FILING_FILES", "3000"))
CT = "1.2.840.10008.5.1.4.1.1.2"


def element(group, number, vr, value):
    if isinstance(value, str):
        value = value.encode() + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if vr in ("OB", "OW") else struct.pack("<H", len(value))
    return struct.pack("<HH2s", group, number, vr.encode()) + length + value


def small(number):
    """A whole DICOM file of some 700 bytes: a CT image of 8 x 8 pixels, which no model is asked about."""
    uid = f"1.2.826.0.1.3680043.10.9999.7.{number}"
    meta = element(2, 1, "OB", b"\0\1") + element(2, 2, "UI", CT) + element(2, 3, "UI", uid)
    meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1") + element(2, 0x12, "UI", "1.2.826.0.1.3680043.10.9999")
    data = element(8, 0x16, "UI", CT) + element(8, 0x18, "UI", uid) + element(8, 0x20, "DA", "20260101") + element(8, 0x60, "CS", "CT")
    data += element(0x20, 0xD, "UI", f"1.2.826.0.1.3680043.10.9999.8.{number // 100}") + element(0x28, 2, "US", struct.pack("<H", 1))
    data += element(0x28, 4, "CS", "MONOCHROME2")
    for tag, value in [(0x10, 8), (0x11, 8), (0x100, 16), (0x101, 12), (0x102, 11), (0x103, 0)]:
        data += element(0x28, tag, "US", struct.pack("<H", value))
    data += element(0x7FE0, 0x10, "OW", struct.pack("<64H", *range(number % 1000, number % 1000 + 64)))
    return bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + data


def write_small(folder, count):
    os.makedirs(folder)
    for number in range(count):
        with open(os.path.join(folder, f"{number}.dcm"), "wb") as file:
            file.write(small(number))
    os.sync()


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def timed(what, source, target):
    os.makedirs(target)
    began = time.perf_counter()
    what(source, target)
    return FILES / (time.perf_counter() - began)


def mv(source, target):
    """All at once, as few processes as possible; nothing is synced."""
    files = "\0".join(os.path.join(source, name) for name in os.listdir(source))
    subprocess.run(["xargs", "-0", "mv", "-t", target], input=files, text=True, check=True)


def rename_and_sync(source, target):
    """What a careful script does: renamed, and both directories on disk, before the next."""
    for name in os.listdir(source):
        os.rename(os.path.join(source, name), os.path.join(target, name))
        sync(target)
        sync(source)


def cp_and_sync(source, target):
    """The same with a copy: content and directory on disk before the next."""
    for name in os.listdir(source):
        shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
        sync(os.path.join(target, name))
        sync(target)


def by_radsort(base):
    """From a directory beside the drop directory, one rename after the other: each is taken as soon as it has come."""
    with Site(PROGRAM, WORK, bundle=BUNDLE, watch='other = "move"\ntrusted = true\n', drop_base=base) as site:
        source = os.path.join(base, "radsort")
        write_small(source, FILES)
        site.start()
        began, cpu = time.perf_counter(), site.cpu()
        for name in os.listdir(source):
            os.rename(os.path.join(source, name), os.path.join(site.drops[0], name))
        site.until(lambda: site.decided() >= FILES, "all files on record")
        took, cpu = time.perf_counter() - began, site.cpu() - cpu
        spent = stages(site)
        site.stop()
        return FILES / took, 1000 * cpu / FILES, spent


def filing():
    """Small files that no model is asked about, from their appearance to ledger, index and directories on disk: files a second."""
    rows = []
    for what, elsewhere, careful in [("renamed", WORK, rename_and_sync), ("copied from another filesystem", "/dev/shm", cp_and_sync)]:
        # Everybody's files come from the same filesystem and go to the same one.
        with tempfile.TemporaryDirectory(dir=WORK) as here, tempfile.TemporaryDirectory(dir=elsewhere) as there:
            plain = {}
            for way in (mv, careful):
                source = os.path.join(there, way.__name__)
                write_small(source, FILES)
                plain[way] = timed(way, source, os.path.join(here, way.__name__ + "-target"))
            rate, cpu, spent = by_radsort(there)
        each = lambda stage: 1000 * spent.get(stage, {}).get("sum", 0.0) / FILES
        rows.append({
            "way": what, "files": FILES, "radsort files/s": rate, "CPU ms a file": cpu,
            "mv files/s (no fsync)": plain[mv], "a script that syncs, files/s": plain[careful],
            "against that script, ratio": rate / plain[careful],
            **{f"{stage} ms": each(stage) for stage in ("read", "decode", "decide", "file", "ledger", "carry", "fsync", "index")},
        })
    return rows
