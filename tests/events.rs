//! Events are hints: none that is lost, late or never sent costs a file.
//!
//! The kernel's queue overflows while the daemon is stopped, files come in bursts, directories are renamed while they are
//! scanned, a share sends no events. (What happens when inotify's watches run out stands in `tests/shares.rs`.) `make torture`
//! raises the numbers: `EVENTS_FILES` for what is filed, `EVENTS_KNOWN` for what only has to be noticed.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/mount.rs"]
mod mount;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Daemon, Site, digest};
use mount::Mount;
use rustix::process::Signal;

/// A site with a small bundle.
fn site(watch: &str, sections: &str) -> (Site, tiny::Bundle) {
    let bundle = tiny::Bundle::new();
    let sections = format!("{}{sections}", bundle.section());
    (Site::with(watch, &sections), bundle)
}

/// Writes files in their place, as `cp` does.
fn copy_in(dir: &Path, numbers: Range<usize>) {
    fs::create_dir_all(dir).unwrap();
    for n in numbers {
        fs::write(dir.join(format!("{n}.dcm")), tiny::image(n)).unwrap();
    }
}

/// Lets a whole folder appear at once.
fn rename_in(site: &Site, name: &str, numbers: Range<usize>) {
    let staged = site.dir.path().join(name);
    copy_in(&staged, numbers);
    fs::rename(staged, site.drop.join(name)).unwrap();
}

/// The first so many files are there once, have one fate each, and are as they were.
fn assert_none_missed(site: &Site, count: usize) {
    let mut expected: Vec<String> = (0..count).map(|n| digest(&tiny::image(n))).collect();
    expected.sort();
    assert!(site.digests() == expected, "lost, changed or made");
    let mut fates: BTreeMap<String, usize> = BTreeMap::new();
    for record in site.records() {
        assert_eq!(record["fate"], "filed", "{record:#}");
        *fates
            .entry(record["digest"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(fates.len(), count, "files without a fate");
    assert!(fates.values().all(|n| *n == 1), "a file has several fates");
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    site.assert_verified();
}

/// Waits as long as it goes on: how long all takes is the machine's affair.
fn wait_filed(daemon: &mut Daemon, count: usize) {
    let mut known = 0;
    while known < count {
        known = (known + 20).min(count);
        daemon.wait_total(known as u64);
    }
}

#[test]
fn when_the_queue_of_events_overflows_everything_is_scanned_and_none_is_missed() {
    let files = figures::setting("EVENTS_FILES", 200).clamp(10, 5000);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let (site, _bundle) = site("", "");
    let old = site.drop.join("old");
    copy_in(&old, 0..3);
    let mut daemon = site.start();
    daemon.wait_total(3);

    // Nobody empties the queue now.
    daemon.signal(Signal::STOP);
    daemon.wait_stopped();
    let fifth = (files - 3) / 5;
    let from = |part: usize| 3 + part * fifth;
    copy_in(&site.drop, from(0)..from(1));
    // Two events each time, of names that radsort ignores: cheap to make, as dear to the queue as any.
    let (one, other) = (site.drop.join(".full-1"), site.drop.join(".full-2"));
    fs::write(&one, "").unwrap();
    for _ in 0..limit / 4 + 100 {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    fs::remove_file(&one).unwrap();
    // Of all that follows no event tells.
    copy_in(&site.drop, from(1)..from(2));
    rename_in(&site, "whole", from(2)..from(3));
    copy_in(&site.drop.join("deep/deeper"), from(3)..from(4));
    copy_in(&old, from(4)..files - 1);
    fs::rename(&old, site.drop.join("new")).unwrap();
    let began = Instant::now();
    daemon.signal(Signal::CONT);
    wait_filed(&mut daemon, files - 1);
    let took = began.elapsed();
    assert!(
        daemon.log().contains("events were lost in"),
        "the queue of {limit} did not overflow"
    );
    // Events tell again, also of folders that none told of.
    copy_in(&site.drop.join("deep/deeper"), files - 1..files);
    daemon.wait_total(files as u64);
    let status = daemon.status();
    assert_eq!(status["watches"][0]["noticing"], "events", "{status}");
    daemon.stop();
    assert_none_missed(&site, files);
    figures::publish(
        "events-overflow",
        &[
            "queue",
            "files while it was full",
            "missed",
            "all filed after",
        ],
        &[vec![
            format!("{limit} events"),
            (files - 1 - from(1)).to_string(),
            "0".into(),
            format!("{:.1} s", took.as_secs_f64()),
        ]],
    );
}

#[test]
fn of_files_that_come_in_bursts_none_is_missed() {
    let files = figures::setting("EVENTS_FILES", 400).max(8);
    let (site, _bundle) = site("trusted = true", "");
    let mut daemon = site.start();
    let began = Instant::now();
    let quarter = files / 4;
    let part = |n: usize| n * quarter..if n == 3 { files } else { (n + 1) * quarter };
    std::thread::scope(|scope| {
        let site = &site;
        // Folders of fifty.
        scope.spawn(move || {
            for (folder, first) in part(0).step_by(50).enumerate() {
                let end = (first + 50).min(part(0).end);
                rename_in(site, &format!("folder-{folder}"), first..end);
            }
        });
        // One after the other.
        scope.spawn(move || copy_in(&site.drop, part(1)));
        // Renamed in, one after the other.
        scope.spawn(move || {
            let staged = site.dir.path().join("one-by-one");
            for n in part(2) {
                fs::write(&staged, tiny::image(n)).unwrap();
                fs::rename(&staged, site.drop.join(format!("{n}.dcm"))).unwrap();
            }
        });
        // A deep folder for each.
        scope.spawn(move || {
            for n in part(3) {
                copy_in(
                    &site.drop.join(format!("a{}/b{}/c{n}", n % 7, n % 31)),
                    n..n + 1,
                );
            }
        });
    });
    let put = began.elapsed();
    wait_filed(&mut daemon, files);
    let took = began.elapsed();
    daemon.stop();
    assert_none_missed(&site, files);
    figures::publish(
        "events-bursts",
        &["files", "put in within", "missed", "all filed after"],
        &[vec![
            files.to_string(),
            format!("{:.1} s", put.as_secs_f64()),
            "0".into(),
            format!("{:.0} s", took.as_secs_f64()),
        ]],
    );
}

#[test]
fn however_many_files_come_at_once_each_is_noticed() {
    let files = figures::setting("EVENTS_KNOWN", 4000);
    // They wait: what is looked at here is noticing alone.
    let (site, _bundle) = site("settle = \"2h\"\ntruncated = \"3h\"", "");
    let mut daemon = site.start();
    let began = Instant::now();
    let write = |dir: &Path, numbers: Range<usize>| {
        for n in numbers {
            let dir = dir.join((n / 500).to_string());
            if n % 500 == 0 || !dir.is_dir() {
                fs::create_dir_all(&dir).unwrap();
            }
            fs::write(dir.join(format!("{n}.txt")), "x").unwrap();
        }
    };
    let third = files / 3;
    std::thread::scope(|scope| {
        scope.spawn(|| write(&site.drop.join("one"), 0..third));
        scope.spawn(|| write(&site.drop.join("two"), third..2 * third));
        scope.spawn(|| {
            let staged = site.dir.path().join("three");
            write(&staged, 2 * third..files);
            fs::rename(&staged, site.drop.join("three")).unwrap();
        });
    });
    let put = began.elapsed();
    let status = daemon.wait_until("all are known", |status| {
        status["watches"][0]["waiting"].as_u64() >= Some(files as u64)
    });
    let took = began.elapsed();
    assert_eq!(status["watches"][0]["waiting"], files);
    daemon.kill();
    figures::publish(
        "events-noticed",
        &[
            "files at once",
            "put in within",
            "missed",
            "all known after",
        ],
        &[vec![
            files.to_string(),
            format!("{:.1} s", put.as_secs_f64()),
            "0".into(),
            format!("{:.1} s", took.as_secs_f64()),
        ]],
    );
}

/// Renames folders to and fro, into each other and out again, for a while; they end where they were.
fn shuffle(drop: &Path, folders: usize, duration: Duration) -> usize {
    let folder = |n: usize| drop.join(format!("folder-{}", n % folders));
    let began = Instant::now();
    let mut renames = 0;
    let mut n = 0;
    while began.elapsed() < duration {
        let (here, aside) = (folder(n), drop.join("aside"));
        let inside = folder(n + 1).join("inside");
        for (from, to) in [(&here, &aside), (&aside, &inside), (&inside, &here)] {
            fs::rename(from, to).unwrap();
            renames += 1;
        }
        n += 1;
    }
    renames
}

#[test]
fn directories_that_are_renamed_while_they_are_scanned_hide_no_file() {
    const FOLDERS: usize = 20;
    let files = (figures::setting("EVENTS_FILES", 300) / 10).clamp(300, 5000);
    let (site, _bundle) = site("trusted = true", "");
    let each = files / FOLDERS;
    let count = each * FOLDERS;
    for n in 0..FOLDERS {
        let deep = site.drop.join(format!("folder-{n}/x/y"));
        copy_in(&deep, n * each..(n + 1) * each);
    }
    let mut daemon = site.spawn(&[]);
    // From before the first scan until well after it, and again and again while files are taken.
    let renames = shuffle(&site.drop, FOLDERS, Duration::from_secs(4));
    daemon.wait_ready();
    let more = shuffle(&site.drop, FOLDERS, Duration::from_secs(2));
    wait_filed(&mut daemon, count);
    daemon.stop();
    assert_none_missed(&site, count);
    figures::publish(
        "events-renames",
        &["files", "folders", "renames of folders", "missed"],
        &[vec![
            count.to_string(),
            FOLDERS.to_string(),
            (renames + more).to_string(),
            "0".into(),
        ]],
    );
}

#[test]
fn on_a_share_without_events_none_is_missed() {
    let files = (figures::setting("EVENTS_FILES", 120) / 10).clamp(120, 2000);
    let (site, _bundle) = site("poll-interval = \"1s\"", "");
    let real = site.dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let Some(_mount) = Mount::new(&site.drop, &["bindfs", real.to_str().unwrap()]) else {
        return;
    };
    let mut daemon = site.start();
    daemon.wait_until("polling", |status| {
        status["watches"][0]["noticing"] == "polling"
    });
    // Behind the mount, as another machine would: no event tells of it.
    let (half, end) = (files / 2, files - 20);
    copy_in(&real.join("folder/deep"), 0..half);
    daemon.wait_total(1);
    copy_in(&real, half..end);
    fs::create_dir(real.join("other")).unwrap();
    fs::rename(real.join("folder"), real.join("other/folder")).unwrap();
    copy_in(&real.join("other/late"), end..files);
    wait_filed(&mut daemon, files);
    daemon.stop();
    // What is still open when it is removed FUSE renames to this; it is bindfs that forgets it when its folder was moved.
    let left = common::files(&real).into_iter();
    let left: Vec<_> = left
        .filter(|path| !path.to_string_lossy().contains(".fuse_hidden"))
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    let mut expected: Vec<String> = (0..files).map(|n| digest(&tiny::image(n))).collect();
    expected.sort();
    assert_eq!(common::digests(&[&site.library]), expected);
    assert_eq!(site.records().len(), files);
    site.assert_verified();
    figures::publish(
        "events-none",
        &["files on a share without events", "missed"],
        &[vec![files.to_string(), "0".into()]],
    );
}
