//! When a file is taken: never before its writer has finished, whatever way it writes.
//!
//! That a file is *not* taken is shown by others that are dropped later and are filed first, for longer than the settle
//! time: no test waits for nothing to happen.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::{Daemon, Mould, Site, digest, uid};

/// Other files that tell the time: each is dropped when the one before has been filed.
struct Clock<'a> {
    site: &'a Site,
    mould: &'a Mould,
    ticks: usize,
}

impl<'a> Clock<'a> {
    fn new(site: &'a Site, mould: &'a Mould) -> Self {
        Self {
            site,
            mould,
            ticks: 0,
        }
    }

    /// Files other files until more than three settle times have passed.
    fn pass(&mut self, daemon: &mut Daemon) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            self.ticks += 1;
            let name = format!("tick-{}.dcm", self.ticks);
            let bytes = self.mould.bytes(&uid(1000 + self.ticks));
            self.site.put(&name, &bytes);
            daemon.wait_total(self.ticks as u64);
        }
    }
}

/// The records without those of the clock.
fn others(site: &Site) -> Vec<serde_json::Value> {
    let mut records = site.records();
    records.retain(|record| !record["from"].as_str().unwrap().starts_with("tick-"));
    records
}

#[test]
fn a_writer_that_pauses_is_never_overtaken() {
    let site = Site::new();
    let mould = Mould::new(31);
    let bytes = mould.bytes(&uid(1));
    let mut daemon = site.start();
    let mut clock = Clock::new(&site, &mould);
    let mut writer = File::create(site.drop.join("slow.dcm")).unwrap();
    // Stops within the header, within the pixels, and when all is there but not closed.
    for end in [100, bytes.len() / 2, bytes.len()] {
        let begin = writer.stream_position().unwrap() as usize;
        writer.write_all(&bytes[begin..end]).unwrap();
        clock.pass(&mut daemon);
        assert!(others(&site).is_empty(), "taken after {end} bytes");
    }
    drop(writer);
    daemon.wait_total(clock.ticks as u64 + 1);
    daemon.stop();
    let records = others(&site);
    assert_eq!(records[0]["digest"], digest(&bytes));
    assert_eq!(site.remains().len(), 0);
}

#[test]
fn a_writer_that_closes_the_file_between_its_pieces_is_never_overtaken() {
    let site = Site::new();
    let mould = Mould::new(32);
    let bytes = mould.bytes(&uid(1));
    let mut daemon = site.start();
    let mut clock = Clock::new(&site, &mould);
    for piece in bytes.chunks(bytes.len() / 3) {
        // What is there is short, by what it says itself.
        let mut writer = File::options()
            .create(true)
            .append(true)
            .open(site.drop.join("slow.dcm"))
            .unwrap();
        writer.write_all(piece).unwrap();
        drop(writer);
        if fs::metadata(site.drop.join("slow.dcm")).unwrap().len() < bytes.len() as u64 {
            clock.pass(&mut daemon);
            assert!(others(&site).is_empty(), "taken while it was short");
        }
    }
    daemon.wait_total(clock.ticks as u64 + 1);
    daemon.stop();
    assert_eq!(others(&site)[0]["digest"], digest(&bytes));
}

#[test]
fn a_file_of_full_length_that_fills_up_later_is_taken_when_it_is_full() {
    let site = Site::new();
    let mould = Mould::new(33);
    let (sparse, reserved) = (mould.bytes(&uid(1)), mould.bytes(&uid(2)));
    let mut daemon = site.start();
    let mut clock = Clock::new(&site, &mould);

    let first = File::create(site.drop.join("sparse.dcm")).unwrap();
    first.set_len(sparse.len() as u64).unwrap();
    let second = File::create(site.drop.join("reserved.dcm")).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&second, flags, 0, reserved.len() as u64).unwrap();
    clock.pass(&mut daemon);
    // The header first: by its structure the file is complete from here on.
    first.write_all_at(&sparse[..4096], 0).unwrap();
    second.write_all_at(&reserved[..4096], 0).unwrap();
    clock.pass(&mut daemon);
    assert!(others(&site).is_empty());
    first.write_all_at(&sparse[4096..], 4096).unwrap();
    second.write_all_at(&reserved[4096..], 4096).unwrap();
    drop((first, second));

    daemon.wait_total(clock.ticks as u64 + 2);
    daemon.stop();
    let mut digests: Vec<String> = others(&site)
        .iter()
        .map(|record| record["digest"].as_str().unwrap().to_owned())
        .collect();
    digests.sort();
    let mut expected = [digest(&sparse), digest(&reserved)];
    expected.sort();
    assert_eq!(digests, expected);
}

#[test]
fn a_file_of_zeros_is_not_taken_for_finished_even_when_it_was_closed() {
    let site = Site::new();
    let mould = Mould::new(34);
    let bytes = mould.bytes(&uid(1));
    let mut daemon = site.start();
    let mut clock = Clock::new(&site, &mould);
    let path = site.drop.join("image.dcm");
    fs::write(&path, vec![0; bytes.len()]).unwrap();
    clock.pass(&mut daemon);
    assert!(others(&site).is_empty());
    let mut writer = File::options().write(true).open(&path).unwrap();
    writer.write_all(&bytes).unwrap();
    drop(writer);
    daemon.wait_total(clock.ticks as u64 + 1);
    daemon.stop();
    assert_eq!(others(&site)[0]["digest"], digest(&bytes));
}

#[test]
fn files_in_folders_that_are_made_in_a_burst_are_all_found() {
    let site = Site::new();
    let mould = Mould::new(35);
    let mut daemon = site.start();
    let mut expected = Vec::new();
    let mut write = |path: std::path::PathBuf| {
        let bytes = mould.bytes(&uid(expected.len()));
        expected.push(digest(&bytes));
        fs::write(path, bytes).unwrap();
    };
    // mkdir -p and a file in each folder at once, again and again.
    for n in 0..8 {
        let folder = site.drop.join(format!("{}/deep/deeper/{n}", n % 3));
        fs::create_dir_all(&folder).unwrap();
        write(folder.join("image.dcm"));
        write(folder.parent().unwrap().join(format!("beside-{n}.dcm")));
    }
    // A whole tree renamed into place, and one more level made below it afterwards.
    let tree = site.dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    write(tree.join("top.dcm"));
    write(tree.join("a/middle.dcm"));
    write(tree.join("a/b/c/bottom.dcm"));
    fs::rename(&tree, site.drop.join("tree")).unwrap();
    fs::create_dir(site.drop.join("tree/a/b/c/d")).unwrap();
    write(site.drop.join("tree/a/b/c/d/late.dcm"));

    daemon.wait_total(expected.len() as u64);
    daemon.stop();
    expected.sort();
    assert_eq!(site.digests(), expected);
    assert!(common::files(&site.drop).is_empty());
}

#[test]
fn a_file_that_is_rewritten_between_decoding_and_renaming_is_filed_as_it_is_then() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let mould = Mould::new(36);
    for place in ["after-intent", "before-rename", "after-rename"] {
        let site = Site::new();
        let (old, new) = (mould.bytes(&uid(1)), mould.bytes(&uid(22)));
        let path = site.drop.join("image.dcm");
        fs::write(&path, &old).unwrap();
        // Whoever has the file open can write to it wherever it has been renamed to.
        let mut daemon = site.spawn(&[("RADSORT_STOP_AT", place)]);
        daemon.wait_stopped();
        let at = common::files(&site.drop)
            .into_iter()
            .chain(common::files(&site.library))
            .find(|path| fs::read(path).unwrap() == old)
            .unwrap();
        fs::write(at, &new).unwrap();
        daemon.signal(rustix::process::Signal::CONT);
        daemon.wait_until("the new bytes have their place", |status| {
            common::total(status) == 1 && status["watches"][0]["waiting"] == 0
        });
        daemon.stop();
        assert_eq!(site.digests(), [digest(&new)], "at {place}");
        let records = site.records();
        assert_eq!(records.len(), 1, "at {place}: {records:#?}");
        assert_eq!(records[0]["digest"], digest(&new), "at {place}");
        assert_eq!(records[0]["sop_instance_uid"], uid(22), "at {place}");
        site.assert_verified();
    }
}
