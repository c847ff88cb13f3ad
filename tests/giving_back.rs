//! Giving files back (`undo`, `quarantine release`), also to another filesystem and killed in the middle of it: each file is there
//! once in the end.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/labelled.rs"]
mod labelled;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::{Mould, Site, phantoms, uid};
use labelled::{correct, filed, labels, text, two_categories};

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

#[test]
fn undo_gives_files_back_with_name_mode_time_and_owner_and_they_are_not_taken_again() {
    let site = Site::new();
    let files = phantoms(&site.dir.path().join("made"), 3, 41);
    // Only root may give files back to somebody else.
    let as_root = fs::metadata(&site.drop).unwrap().uid() == 0;
    let time = SystemTime::UNIX_EPOCH + Duration::from_mins(25_000_000);
    let mut before = Vec::new();
    for (n, (path, _)) in files.iter().enumerate() {
        let to = site.drop.join(format!("IM{n} name.dcm"));
        fs::rename(path, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o604)).unwrap();
        fs::File::options()
            .write(true)
            .open(&to)
            .unwrap()
            .set_modified(time)
            .unwrap();
        if as_root {
            std::os::unix::fs::chown(&to, Some(4711), Some(4712)).unwrap();
        }
        before.push(to);
    }
    let digests = site.digests();
    let mut daemon = site.start();
    daemon.wait_total(3);
    assert!(before.iter().all(|path| !path.exists()));

    let would = site.ok(&["undo", "--since", "1h", "--dry-run"]);
    assert_eq!(would.lines().count(), 3, "{would}");
    assert!(before.iter().all(|path| !path.exists()));
    site.ok(&["undo", "--since", "1h"]);
    for path in &before {
        let now = fs::metadata(path).unwrap();
        assert_eq!(
            (now.mode() & 0o7777, now.modified().unwrap()),
            (0o604, time),
            "{path:?}"
        );
        assert!(
            !as_root || (now.uid(), now.gid()) == (4711, 4712),
            "{path:?}"
        );
    }
    assert_eq!(site.digests(), digests);
    assert!(site.filed().is_empty(), "{:?}", site.filed());
    daemon.stop();

    let daemon = site.start();
    let summary = site.sort();
    assert_eq!(
        (&summary["filed"], &summary["review"]),
        (&0.into(), &0.into()),
        "{summary}"
    );
    assert!(before.iter().all(|path| path.exists()));
    assert!(site.records().is_empty());

    assert_eq!(daemon.status()["watches"][0]["given_back"], 3);
    assert!(site.ok(&["status"]).contains("3 files were given back"));

    // Let go, they are taken as if they had just been dropped.
    let mut daemon = daemon;
    let would = site.ok(&["undo", "--let-go", "--since", "1h", "--dry-run"]);
    assert_eq!(would.lines().count(), 3, "{would}");
    site.ok(&["undo", "--let-go", "--since", "1h"]);
    daemon.wait_total(3);
    assert!(before.iter().all(|path| !path.exists()));
    assert_eq!(site.digests(), digests);
    let again = site.ok(&["undo", "--let-go", "--since", "1h"]);
    assert!(again.contains("nothing"), "{again}");
    assert_eq!(daemon.status()["watches"][0]["given_back"], 0);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn an_undo_that_was_killed_can_be_asked_for_again() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let (site, daemon, records) = filed(1);
    let uid = text(&records[0], "sop_instance_uid");
    let digests = site.digests();
    daemon.stop();
    let mut killed = site.command(&["undo", &uid]);
    let status = killed
        .env("RADSORT_CRASH_AT", "before-giving-back")
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(site.digests(), digests);
    assert!(!site.drop.join("0.dcm").exists());
    site.ok(&["undo", &uid]);
    assert!(site.drop.join("0.dcm").exists());
    assert_eq!(site.digests(), digests);
    assert!(
        !site.run(&["undo", &uid]).status.success(),
        "it is not there any more"
    );
    site.assert_verified();
}

fn quarantined_with_its_reason(site: &Site) -> (PathBuf, PathBuf) {
    let mut files = common::files(&site.library.join("_quarantine"));
    files.sort();
    let [file, reason] = files.try_into().unwrap();
    assert!(reason.to_str().unwrap().ends_with(".reason.txt"));
    (file, reason)
}

#[test]
fn what_could_not_be_given_back_is_still_on_record_where_it_is() {
    let (site, mut daemon) = (Site::new(), None);
    fs::create_dir(site.drop.join("study")).unwrap();
    site.put("study/a.dcm", &Mould::new(43).bytes(&uid(1)));
    site.put("study/b.dcm", &Mould::new(43).bytes("bad.uid"));
    daemon.insert(site.start()).wait_total(2);
    let (digests, filed) = (site.digests(), site.filed());
    // The folder that they came from has become a file.
    let study = site.drop.join("study");
    fs::remove_dir(&study).unwrap();
    fs::write(&study, "in the way").unwrap();
    let (quarantined, _) = quarantined_with_its_reason(&site);
    let id = quarantined.to_str().unwrap();
    for words in [
        &["undo", "--since", "1h"][..],
        &["quarantine", "release", id],
    ] {
        let refused = site.run(words);
        assert!(!refused.status.success(), "{refused:?}");
    }
    fs::remove_file(&study).unwrap();
    assert_eq!((site.digests(), site.filed()), (digests.clone(), filed));
    assert_eq!(site.records().len(), 2);
    let story = site.ok(&["show", &uid(1)]);
    assert!(story.contains("it stayed where it was"), "{story}");
    site.assert_verified();
    // And can be given back when nothing is in the way.
    site.ok(&["undo", "--since", "1h"]);
    site.ok(&["quarantine", "release", id]);
    assert!(study.join("a.dcm").exists() && study.join("b.dcm").exists());
    assert_eq!(site.digests(), digests);
    daemon.unwrap().stop();
    site.assert_verified();
}

/// By hand, in a file manager.
#[test]
fn the_reason_of_a_file_that_a_person_takes_out_of_the_quarantine_goes_too() {
    let site = Site::new();
    site.put("a.dcm", &Mould::new(45).bytes("bad.uid"));
    let mut daemon = site.start();
    daemon.wait_total(1);
    let (file, reason) = quarantined_with_its_reason(&site);
    let folder = site.library.join("frontal-preop");
    fs::create_dir_all(&folder).unwrap();
    fs::rename(&file, folder.join(file.file_name().unwrap())).unwrap();
    site.ok(&["labels", "look"]);
    assert!(!reason.exists());
    site.assert_verified();
    daemon.stop();
}

#[test]
fn nothing_that_is_given_back_runs_as_the_service() {
    let site = Site::new();
    site.put("a.dcm", &Mould::new(44).bytes(&uid(1)));
    let back = site.drop.join("a.dcm");
    fs::set_permissions(&back, fs::Permissions::from_mode(0o6755)).unwrap();
    let mut daemon = site.start();
    daemon.wait_total(1);
    let said = site.run(&["undo", &uid(1)]);
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("set-user-ID"), "{said}");
    assert_eq!(fs::metadata(&back).unwrap().mode() & 0o7777, 0o755);
    daemon.stop();
}

#[test]
fn a_label_goes_with_its_file_as_undo_says_and_comes_back_by_a_list() {
    let (site, mut daemon, records) = filed(1);
    let [(first, _), _] = two_categories();
    let uid = text(&records[0], "sop_instance_uid");
    correct(&site, &records[0], &first);
    let list = site.dir.path().join("labels.csv");
    site.ok(&["labels", "export", "--out", list.to_str().unwrap()]);

    let would = site.ok(&["undo", &uid, "--dry-run"]);
    let told = format!("; its label {first} would go with it");
    assert!(would.contains(&told), "{would}");
    assert_eq!(labels(&site, &[]).len(), 1);
    let undone = site.json(&["undo", &uid, "--json"]);
    assert_eq!(text(&undone, "label"), first);
    assert!(labels(&site, &[]).is_empty());

    site.ok(&["undo", "--let-go", &uid]);
    daemon.wait_for("it is taken again", || !site.records().is_empty());
    assert!(labels(&site, &[]).is_empty());
    site.ok(&["labels", "import", list.to_str().unwrap()]);
    assert_eq!(text(&labels(&site, &[])[0], "category"), first);
    daemon.stop();
    site.assert_verified();
}
