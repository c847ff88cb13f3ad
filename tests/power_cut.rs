//! The power goes: file systems are shut down under load without their journals being flushed, mounted again, and looked at.
//!
//! What a writer had synced is there once, what radsort had told to be filed is where it said, whether or not its writer had
//! synced it. Drop directory and state lie on one file system, the library on the same or on another. Needs root and loop
//! devices; skipped loudly otherwise. `make power-cuts` runs many.

#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

mod common;
#[path = "common/conserved.rs"]
mod conserved;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Site, digest};
use conserved::{Compared, Digests, counted};
use radsort::control::client::Client;
use radsort::control::protocol::{Reply, Request};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Cuts before everything is looked at.
const ROUND: usize = 5;

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN` are one number; 2 is "do not flush the log".
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
    for disk in [os.open(at, os.O_RDONLY) for at in sys.argv[1:]]:\n\
    \x20fcntl.ioctl(disk, 0x8004587D, struct.pack('I', 2))";

fn succeeds(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// A new one; says loudly why there is none.
    fn new(dir: &Path, name: &str, kind: &str) -> Option<Self> {
        let disk = Self {
            image: dir.join(format!("{name}.image")),
            at: dir.join(name),
        };
        fs::create_dir(&disk.at).unwrap();
        File::create(&disk.image)
            .unwrap()
            .set_len(512 << 20)
            .unwrap();
        let force = if kind == "ext4" { "-F" } else { "-f" };
        let made = succeeds(&[
            &format!("mkfs.{kind}"),
            "-q",
            force,
            disk.image.to_str().unwrap(),
        ]);
        if !made || !disk.mount() {
            eprintln!("SKIPPED: power cuts on {kind} (needs root, mkfs.{kind} and loop devices)");
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> bool {
        succeeds(&[
            "mount",
            "-o",
            "loop",
            self.image.to_str().unwrap(),
            self.at.to_str().unwrap(),
        ])
    }

    /// Unmounts it, as soon as whoever was killed has let go of it, and mounts it again.
    fn come_back(&self) {
        let started = Instant::now();
        while !succeeds(&["umount", self.at.to_str().unwrap()]) {
            assert!(started.elapsed() < common::PATIENCE, "still in use");
        }
        assert!(self.mount(), "its journal cannot be replayed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        succeeds(&["umount", "-l", self.at.to_str().unwrap()]);
    }
}

/// From now on nothing reaches the disks.
fn cut(disks: &[Disk]) {
    let mut words = vec!["python3", "-c", SHUT_DOWN];
    words.extend(disks.iter().map(|disk| disk.at.to_str().unwrap()));
    assert!(succeeds(&words));
}

/// How files get from the drop directory to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Rename,
    AcrossDisks,
    Copy,
    CopyAcrossDisks,
}

const LANES: [Lane; 4] = [
    Lane::Rename,
    Lane::AcrossDisks,
    Lane::Copy,
    Lane::CopyAcrossDisks,
];

impl Lane {
    fn copies(self) -> bool {
        matches!(self, Self::Copy | Self::CopyAcrossDisks)
    }

    fn crosses(self) -> bool {
        matches!(self, Self::AcrossDisks | Self::CopyAcrossDisks)
    }
}

/// Digests of what has been put in.
#[derive(Default)]
struct Given {
    /// All that was begun: what only its writer knows of may be there, whole or not.
    begun: BTreeSet<String>,
    /// Synced by its writer, file and name: it must be there.
    synced: BTreeSet<String>,
    /// Told to be filed: it must be there, and where.
    told: BTreeSet<(String, PathBuf)>,
}

impl Given {
    /// Each of those that must be there once, and so each of those that only may be there and are.
    fn once(&self, must: impl IntoIterator<Item = String>, found: &Digests) -> Digests {
        let may = found.keys().filter(|digest| self.begun.contains(*digest));
        must.into_iter()
            .chain(may.cloned())
            .map(|digest| (digest, 1))
            .collect()
    }

    fn told(&self) -> impl Iterator<Item = String> {
        self.told.iter().map(|(digest, _)| digest.clone())
    }
}

/// What was done and found on one kind of file system.
#[derive(Default)]
struct Tally {
    cuts: usize,
    begun: usize,
    synced: usize,
    told: usize,
    /// Lost by writers that do not sync: nobody else could keep them.
    half_written: usize,
    compared: Compared,
}

/// Renames a file in. A writer that wants it to last syncs it, and both directories.
fn put(site: &Site, name: &str, bytes: &[u8], synced: bool) -> io::Result<()> {
    let staged = site.dir.path().join(name);
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    fs::rename(staged, site.drop.join(name))?;
    if synced {
        File::open(&site.drop)?.sync_all()?;
        File::open(site.dir.path())?.sync_all()?;
    }
    Ok(())
}

/// Writes until the disk is cut; every other file is synced.
fn write(site: &Site, given: &Mutex<Given>, tally: &mut Tally) {
    loop {
        tally.begun += 1;
        let n = tally.begun;
        let (bytes, synced) = (tiny::image(n), n.is_multiple_of(2));
        given.lock().unwrap().begun.insert(digest(&bytes));
        if put(site, &format!("{n}.dcm"), &bytes, synced).is_err() {
            return;
        }
        if synced {
            tally.synced += 1;
            given.lock().unwrap().synced.insert(digest(&bytes));
        }
    }
}

/// Listens to what the daemon tells, as soon as it listens itself and until it is gone.
fn listen(socket: &Path, site: &Site, given: &Mutex<Given>, over: &AtomicBool) {
    let mut client = loop {
        match Client::connect(socket) {
            Ok(Some(client)) => break client,
            _ if over.load(Ordering::Relaxed) => return,
            _ => thread::sleep(Duration::from_millis(5)),
        }
    };
    let Ok(replies) = client.request(&Request::Subscribe {}) else {
        return;
    };
    for reply in replies {
        let Ok(Reply::Entry(entry)) = reply else {
            return;
        };
        if entry.placed {
            let at = site
                .library
                .join(OsStr::from_bytes(entry.at.path.as_bytes()));
            given.lock().unwrap().told.insert((entry.digest.0, at));
        }
    }
}

/// All that was told to be filed is where it was said to be, before the daemon could mend anything.
fn assert_told_is_so(given: &Given, what: &str) {
    for (told, at) in &given.told {
        let found = fs::read(at).map(|bytes| digest(&bytes));
        assert_eq!(
            found.as_ref().ok(),
            Some(told),
            "{what}: told to be filed: {}: {found:?}",
            at.display()
        );
    }
}

/// What writers that do not sync lose is theirs: it is taken out of the way. Only under names of theirs: what radsort has
/// claimed it has synced.
fn take_half_written_away(site: &Site, given: &Given) -> usize {
    let mut taken = 0;
    for path in common::files(&site.drop) {
        let visible = !path.file_name().unwrap().to_string_lossy().starts_with('.');
        if visible && !given.begun.contains(&digest(&fs::read(&path).unwrap())) {
            fs::remove_file(path).unwrap();
            taken += 1;
        }
    }
    taken
}

/// Everything that was put in, after the last cut.
fn inspect(site: &Site, socket: &Path, lane: Lane, given: &Given, what: &str) -> Compared {
    // While it works, files come and go.
    let there = |place: &Path| -> BTreeSet<String> {
        let read = |path: &PathBuf| fs::read(path).map(|bytes| digest(&bytes)).ok();
        common::files(place).iter().filter_map(read).collect()
    };
    let mut daemon = site.start();
    daemon.is_asked_at(socket);
    daemon.wait_until("nothing waits", |status| {
        status["watches"][0]["waiting"] == 0
            && if lane.copies() {
                there(&site.drop).is_subset(&there(&site.library))
            } else {
                common::files(&site.drop).is_empty()
            }
    });
    daemon.stop();
    let [drop, library] =
        [&site.drop, &site.library].map(|place| counted(common::digests(&[place])));
    let mut compared = Compared::new(
        &given.once(
            given.told().chain(
                // Moved or copied, it is in the library by now.
                given.synced.iter().cloned().chain(drop.keys().cloned()),
            ),
            &library,
        ),
        &library,
    );
    if lane.copies() {
        compared += Compared::new(&given.once(given.synced.iter().cloned(), &drop), &drop);
    }
    assert!(compared.is_even(), "{what}: {compared:?}");
    let records = site.records();
    let on_record = counted(
        records
            .iter()
            .map(|record| record["digest"].as_str().unwrap().to_owned()),
    );
    assert_eq!(on_record, library, "{what}: one fate each");
    assert!(site.remains().is_empty(), "{what}: {:?}", site.remains());
    site.assert_verified();
    compared
}

/// So many cuts on a file system of that kind.
fn cuts(kind: &str, count: usize, seed: u64) -> Option<Tally> {
    let dir = tempfile::tempdir().unwrap();
    let disks = [
        Disk::new(dir.path(), "one", kind)?,
        Disk::new(dir.path(), "other", kind)?,
    ];
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let bundle = tiny::Bundle::new();
    let socket = dir.path().join("control.sock");
    let mut tally = Tally::default();
    // A few cuts meet every lane as well.
    let round = ROUND.min(count.div_ceil(LANES.len()));
    for lane in LANES.into_iter().cycle().take(count.div_ceil(round)) {
        let what = format!("{kind}, {lane:?}");
        let mut site = Site::in_directory(&disks[0].at);
        let other = tempfile::tempdir_in(&disks[1].at).unwrap();
        if lane.crosses() {
            site.library = other.path().canonicalize().unwrap();
        }
        site.configure(
            if lane.copies() {
                "action = \"copy\""
            } else {
                ""
            },
            &format!("{}[control]\nsocket = {socket:?}\n", bundle.section()),
        );
        for disk in &disks {
            assert!(succeeds(&["sync", "-f", disk.at.to_str().unwrap()]));
        }
        let given = Mutex::new(Given::default());
        for _ in 0..round.min(count - tally.cuts) {
            let after = rng.random_range(Duration::from_millis(50)..Duration::from_secs(2));
            let daemon = site.spawn_logging_to(dir.path());
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| write(&site, &given, &mut tally));
                scope.spawn(|| listen(&socket, &site, &given, &over));
                thread::sleep(after);
                cut(&disks);
                daemon.kill();
                over.store(true, Ordering::Relaxed);
            });
            tally.cuts += 1;
            disks.iter().for_each(Disk::come_back);
            let given = given.lock().unwrap();
            assert_told_is_so(&given, &what);
            tally.half_written += take_half_written_away(&site, &given);
        }
        let given = given.into_inner().unwrap();
        tally.told += given.told.len();
        tally.compared += inspect(&site, &socket, lane, &given, &what);
        if count > ROUND {
            eprintln!(
                "{kind}: {} cuts, {} files synced, {} told",
                tally.cuts, tally.synced, tally.told
            );
        }
    }
    Some(tally)
}

#[test]
fn what_was_synced_or_filed_before_the_power_went_is_there_once() {
    let count = figures::setting("POWER_CUTS", ROUND);
    let seed = figures::setting("POWER_SEED", 1) as u64;
    let both = thread::scope(|scope| {
        let start = |kind| scope.spawn(move || cuts(kind, count, seed));
        ["ext4", "xfs"]
            .map(start)
            .map(|thread| thread.join().unwrap())
    });
    let mut rows = Vec::new();
    for (kind, tally) in ["ext4", "xfs"].into_iter().zip(both) {
        let Some(tally) = tally else { continue };
        let compared = tally.compared;
        let cells = [
            tally.cuts,
            tally.begun,
            tally.synced,
            tally.told,
            tally.half_written,
            compared.wanted,
            compared.lost,
            compared.doubled,
            compared.strange,
        ];
        let cells = cells.map(|number| number.to_string());
        rows.push([&[kind.to_owned()][..], &cells[..]].concat());
        assert!(
            count < 50 || tally.told > 0,
            "{kind}: nothing was filed before the power went"
        );
    }
    let columns = [
        "",
        "cuts",
        "files begun",
        "synced by their writer",
        "told to be filed before the cut",
        "half-written by a writer that did not sync",
        "compared by digest",
        "lost",
        "there twice",
        "half a file",
    ];
    if !rows.is_empty() {
        figures::publish("power-cuts", &columns, &rows);
    }
}
