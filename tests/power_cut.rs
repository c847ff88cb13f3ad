//! The power goes: a file system is shut down under load without its journal being flushed, mounted again, and looked at.
//!
//! What a writer had synced is there once, what radsort had called filed is where it said. Drop directory, library and
//! state lie on that file system. Needs root and loop devices; skipped loudly otherwise. `make power-cuts` runs many.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{Site, digest};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Cuts before everything is looked at.
const ROUND: usize = 5;

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN` are one number; 2 is "do not flush the log".
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

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
    fn new(dir: &Path, kind: &str) -> Option<Self> {
        let disk = Self {
            image: dir.join("image"),
            at: dir.join("mount"),
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

    /// From now on nothing reaches it.
    fn cut(&self) {
        assert!(succeeds(&[
            "python3",
            "-c",
            SHUT_DOWN,
            self.at.to_str().unwrap()
        ]));
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

/// Digests of what has been put in.
#[derive(Default)]
struct Given {
    /// Synced, file and name: it must be there.
    sure: BTreeSet<String>,
    /// The power went before that: it may be there.
    perhaps: BTreeSet<String>,
}

/// A writer that wants its file to last: sync, rename in, sync the directory.
fn put(site: &Site, name: &str, bytes: &[u8]) -> io::Result<()> {
    let staged = site.dir.path().join(name);
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(staged, site.drop.join(name))?;
    File::open(&site.drop)?.sync_all()?;
    File::open(site.dir.path())?.sync_all()
}

/// Everything that was put in, after the last cut.
fn inspect(site: &Site, given: &Given, kind: &str) {
    let mut daemon = site.start();
    daemon.wait_until("nothing waits", |status| {
        status["watches"][0]["waiting"] == 0 && common::files(&site.drop).is_empty()
    });
    daemon.stop();
    let there = site.digests();
    let once: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(there.len(), once.len(), "{kind}: something is there twice");
    let lost: Vec<_> = given.sure.difference(&once).collect();
    assert!(lost.is_empty(), "{kind}: lost {lost:?}");
    let strange = once
        .iter()
        .find(|digest| !given.sure.contains(*digest) && !given.perhaps.contains(*digest));
    assert_eq!(strange, None, "{kind}: half a file");
    let records = site.records();
    assert_eq!(records.len(), there.len(), "{kind}: one fate each");
    assert!(site.remains().is_empty(), "{kind}: {:?}", site.remains());
    site.assert_verified();
}

/// So many cuts on a file system of that kind; how many files were put in, and how many of them synced.
fn cuts(kind: &str, count: usize, seed: u64) -> Option<(usize, usize)> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path(), kind)?;
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let bundle = tiny::Bundle::new();
    let (mut files, mut synced) = (0, 0);
    for round in 0..count.div_ceil(ROUND) {
        let site = Site::in_directory(&disk.at);
        site.configure("", &bundle.section());
        assert!(succeeds(&["sync", "-f", disk.at.to_str().unwrap()]));
        let given = Mutex::new(Given::default());
        for _ in 0..ROUND.min(count - round * ROUND) {
            let after = rng.random_range(Duration::from_millis(50)..Duration::from_millis(1500));
            let daemon = site.spawn_logging_to(dir.path());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    loop {
                        files += 1;
                        let bytes = tiny::image(files);
                        given.lock().unwrap().perhaps.insert(digest(&bytes));
                        if put(&site, &format!("{files}.dcm"), &bytes).is_err() {
                            return;
                        }
                        synced += 1;
                        given.lock().unwrap().sure.insert(digest(&bytes));
                    }
                });
                std::thread::sleep(after);
                disk.cut();
            });
            daemon.kill();
            disk.come_back();
        }
        inspect(&site, &given.lock().unwrap(), kind);
        if count > ROUND {
            eprintln!(
                "{kind}: {} cuts, {synced} files synced",
                (round + 1) * ROUND
            );
        }
    }
    Some((files, synced))
}

#[test]
fn what_was_synced_or_filed_before_the_power_went_is_there_once() {
    let count = figures::setting("POWER_CUTS", ROUND);
    let seed = figures::setting("POWER_SEED", 1) as u64;
    let both = std::thread::scope(|scope| {
        let start = |kind| scope.spawn(move || cuts(kind, count, seed));
        ["ext4", "xfs"]
            .map(start)
            .map(|thread| thread.join().unwrap())
    });
    let mut rows = Vec::new();
    for (kind, result) in ["ext4", "xfs"].into_iter().zip(both) {
        if let Some((files, synced)) = result {
            let cells = [count, files, synced, 0, 0, 0].map(|number| number.to_string());
            rows.push([&[kind.to_owned()][..], &cells[..]].concat());
        }
    }
    let columns = [
        "",
        "cuts",
        "files begun",
        "synced by their writer",
        "lost",
        "there twice",
        "half a file",
    ];
    if !rows.is_empty() {
        figures::publish("power-cuts", &columns, &rows);
    }
}
