//! Files that are given back to another filesystem, and kills in the middle of it: each file is there once in the end.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use common::{Mould, Site, uid};

/// A site whose drop directory lies on another filesystem than its library, which lives as long as the other value.
fn across_filesystems() -> Option<(Site, tempfile::TempDir)> {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no /dev/shm");
        return None;
    };
    let mut site = Site::new();
    site.drop = memory.path().canonicalize().unwrap().join("drop");
    fs::create_dir(&site.drop).unwrap();
    site.configure("", "");
    Some((site, memory))
}

/// Runs a command that dies at a failpoint.
fn killed_at(site: &Site, place: &str, words: &[&str]) {
    let mut command = site.command(words);
    let end = command.env("RADSORT_CRASH_AT", place).output().unwrap();
    assert_eq!(end.status.signal(), Some(9), "{end:?}");
}

#[test]
fn an_undo_that_was_killed_before_it_removed_the_original_is_ended_by_the_next_look_or_the_next_undo()
 {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    for by_hand in [false, true] {
        let Some((site, _memory)) = across_filesystems() else {
            return;
        };
        let bytes = Mould::new(41).bytes(&uid(1));
        fs::write(site.drop.join("a.dcm"), &bytes).unwrap();
        let mut daemon = site.start();
        daemon.wait_total(1);
        daemon.stop();
        killed_at(&site, "before-removing-original", &["undo", &uid(1)]);
        assert_eq!(site.digests().len(), 2, "killed between copy and removal");
        if by_hand {
            site.ok(&["undo", &uid(1)]);
        } else {
            // A start looks at the library.
            let mut daemon = site.start();
            daemon.wait_for("the original is gone", || site.filed().is_empty());
            daemon.stop();
        }
        assert_eq!(site.digests(), [common::digest(&bytes)], "{by_hand}");
        assert_eq!(fs::read(site.drop.join("a.dcm")).unwrap(), bytes);
        assert!(site.remains().is_empty());
        assert_eq!(site.records().len(), 0, "it is given back");
        site.assert_verified();
        // Put there by a person, the same file stays there.
        let at = site.library.join("frontal-preop");
        fs::create_dir_all(&at).unwrap();
        fs::copy(site.drop.join("a.dcm"), at.join("by-hand.dcm")).unwrap();
        let daemon = site.start();
        site.ok(&["labels", "look"]);
        daemon.stop();
        assert_eq!(site.digests().len(), 2, "{by_hand}");
    }
}

#[test]
fn a_release_that_was_killed_before_it_removed_the_original_is_ended_too() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let Some((site, _memory)) = across_filesystems() else {
        return;
    };
    let bytes = Mould::new(42).bytes("not a UID");
    fs::write(site.drop.join("a.dcm"), &bytes).unwrap();
    let mut daemon = site.start();
    daemon.wait_total(1);
    daemon.stop();
    let quarantine = site.library.join("_quarantine");
    let there = common::files(&quarantine).into_iter();
    let mut there = there.filter(|path| path.extension().is_some_and(|it| it == "dcm"));
    let path = there.next().unwrap();
    let words = ["quarantine", "release", path.to_str().unwrap()];
    killed_at(&site, "before-removing-original", &words);
    let mut daemon = site.start();
    daemon.wait_for("the quarantine is empty", || {
        common::files(&quarantine).is_empty()
    });
    daemon.stop();
    assert_eq!(site.digests(), [common::digest(&bytes)]);
    site.assert_verified();
}

#[test]
fn an_undo_that_was_killed_before_it_moved_anything_leaves_the_file_on_record_also_when_a_copy_of_it_comes()
 {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let site = Site::new();
    let bytes = Mould::new(43).bytes(&uid(1));
    fs::write(site.drop.join("a.dcm"), &bytes).unwrap();
    site.sort();
    killed_at(&site, "before-giving-back", &["undo", &uid(1)]);
    fs::write(site.drop.join("b.dcm"), &bytes).unwrap();
    site.sort();
    site.ok(&["labels", "look"]);
    assert_eq!(site.digests().len(), 2);
    assert_eq!(
        site.fates().values().sum::<usize>(),
        2,
        "{:?}",
        site.fates()
    );
    site.assert_verified();
}
