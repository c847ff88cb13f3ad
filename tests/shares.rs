//! Shares that go away, fill up, turn read-only or refuse to rename: intake stops, nothing is lost, and it goes on.
//!
//! Mounting needs root and, for bindfs, FUSE; where they are missing, these tests say so and are skipped.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/mount.rs"]
mod mount;

use std::fs;
use std::process::{Command, Stdio};

use common::{Daemon, Mould, Site, uid};
use mount::Mount;
use serde_json::Value;

fn is(status: &Value, state: &str) -> bool {
    status["watches"][0]["state"] == state
}

/// Waits until the watch is in a state; gives why.
fn wait_state(daemon: &mut Daemon, state: &str) -> String {
    let status = daemon.wait_until(state, |status| is(status, state));
    status["watches"][0]["why"]
        .as_str()
        .unwrap_or("")
        .to_owned()
}

#[test]
fn a_library_without_its_marker_is_offline_and_files_wait_until_it_is_back() {
    let site = Site::new();
    let mould = Mould::new(61);
    let mut daemon = site.start();
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);

    let (marker, away) = (
        site.library.join(".radsort-library"),
        site.dir.path().join("marker"),
    );
    fs::rename(&marker, &away).unwrap();
    // Told before any file has come upon it.
    wait_state(&mut daemon, "held");
    site.put("2.dcm", &mould.bytes(&uid(2)));
    site.put("3.dcm", &mould.bytes(&uid(3)));
    let why = wait_state(&mut daemon, "held");
    assert!(why.contains(".radsort-library"), "{why}");
    assert!(site.drop.join("2.dcm").is_file() && site.drop.join("3.dcm").is_file());
    assert!(
        !marker.exists(),
        "an offline library was taken for a new one"
    );
    let before = site.digests();

    fs::rename(&away, &marker).unwrap();
    daemon.wait_total(3);
    wait_state(&mut daemon, "online");
    daemon.stop();
    assert_eq!(site.filed().len(), 3);
    assert_eq!(site.digests(), before);
    site.assert_verified();
}

#[test]
fn a_library_that_is_another_one_at_the_next_start_is_not_filed_into() {
    let site = Site::new();
    let mould = Mould::new(62);
    site.put("1.dcm", &mould.bytes(&uid(1)));
    site.sort();
    // The share is not mounted: what is there is its empty mount point.
    let away = site.dir.path().join("away");
    fs::rename(&site.library, &away).unwrap();
    fs::create_dir(&site.library).unwrap();
    site.put("2.dcm", &mould.bytes(&uid(2)));
    let mut daemon = site.start();
    wait_state(&mut daemon, "held");
    assert!(common::files(&site.library).is_empty());
    assert!(site.drop.join("2.dcm").is_file());

    fs::remove_dir(&site.library).unwrap();
    fs::rename(&away, &site.library).unwrap();
    daemon.wait_total(2);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_drop_directory_that_goes_away_is_offline_and_is_taken_up_again_when_it_is_back() {
    let site = Site::new();
    let mould = Mould::new(63);
    let mut daemon = site.start();
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    let away = site.dir.path().join("away");
    fs::rename(&site.drop, &away).unwrap();
    wait_state(&mut daemon, "offline");
    fs::write(away.join("2.dcm"), mould.bytes(&uid(2))).unwrap();
    fs::rename(&away, &site.drop).unwrap();
    daemon.wait_total(2);
    wait_state(&mut daemon, "online");
    // Events come again, too.
    site.put("3.dcm", &mould.bytes(&uid(3)));
    daemon.wait_total(3);
    daemon.stop();
    assert_eq!(site.filed().len(), 3);
    site.assert_verified();
}

#[test]
fn a_drop_directory_that_goes_away_in_the_middle_of_a_copy_loses_and_doubles_nothing() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    for (dies, point) in [(false, "RADSORT_STOP_AT"), (true, "RADSORT_CRASH_AT")] {
        let site = Site::new();
        let bytes = Mould::new(68).bytes(&uid(1));
        // A file with a second name is copied, not renamed.
        let second = site.dir.path().join("second");
        fs::write(&second, &bytes).unwrap();
        fs::hard_link(&second, site.drop.join("1.dcm")).unwrap();
        let mut daemon = site.spawn(&[(point, "within-copy")]);
        if dies {
            daemon.wait();
        } else {
            daemon.wait_stopped();
        }
        let away = site.dir.path().join("away");
        fs::rename(&site.drop, &away).unwrap();
        if dies {
            daemon = site.start();
        } else {
            daemon.signal(rustix::process::Signal::CONT);
        }
        wait_state(&mut daemon, "offline");
        fs::rename(&away, &site.drop).unwrap();
        daemon.wait_total(1);
        wait_state(&mut daemon, "online");
        daemon.stop();
        assert!(
            common::files(&site.drop).is_empty(),
            "dies: {dies}, {:?}",
            common::files(&site.drop)
        );
        assert_eq!(site.digests(), [common::digest(&bytes)], "dies: {dies}");
        assert!(site.remains().is_empty(), "{:?}", site.remains());
        site.assert_verified();
    }
}

#[test]
fn a_claimed_file_whose_folder_is_moved_at_that_moment_is_filed_although_no_other_comes() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    for point in ["after-claim", "within-copy"] {
        let site = Site::new();
        site.configure("recursive = true", "");
        let bytes = Mould::new(69).bytes(&uid(1));
        // A file with a second name is copied, not renamed.
        let second = site.dir.path().join("second");
        fs::write(&second, &bytes).unwrap();
        let folder = site.drop.join("folder");
        fs::create_dir(&folder).unwrap();
        fs::hard_link(&second, folder.join("1.dcm")).unwrap();
        let mut daemon = site.spawn(&[("RADSORT_STOP_AT", point)]);
        daemon.wait_stopped();
        fs::rename(&folder, site.drop.join("elsewhere")).unwrap();
        daemon.signal(rustix::process::Signal::CONT);
        daemon.wait_total(1);
        daemon.wait_for("nothing is left", || {
            site.remains().is_empty() && common::files(&site.drop).is_empty()
        });
        daemon.stop();
        assert_eq!(site.digests(), [common::digest(&bytes)], "{point}");
        site.assert_verified();
    }
}

#[test]
fn what_was_left_open_on_a_share_is_finished_as_soon_as_the_share_is_back() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let site = Site::new();
    site.put("1.dcm", &Mould::new(64).bytes(&uid(1)));
    // The file is in the library, but not yet on record as filed.
    let mut daemon = site.spawn(&[("RADSORT_CRASH_AT", "after-rename")]);
    daemon.wait();
    let away = site.dir.path().join("away");
    fs::rename(&site.drop, &away).unwrap();
    let mut daemon = site.start();
    wait_state(&mut daemon, "offline");
    // Nothing is in it that would be found by a scan.
    fs::rename(&away, &site.drop).unwrap();
    daemon.wait_total(1);
    daemon.stop();
    assert_eq!(site.filed().len(), 1);
    site.assert_verified();
}

#[test]
fn a_library_on_another_filesystem_that_refuses_to_rename_gets_verified_copies() {
    let site = Site::new();
    let real = site.dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let Some(_mount) = Mount::new(&site.library, &["bindfs", real.to_str().unwrap()]) else {
        return;
    };
    let mould = Mould::new(64);
    let mut daemon = site.start();
    for n in 0..3 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    site.put("again.dcm", &mould.bytes(&uid(0)));
    let mut other = mould.bytes(&uid(1));
    *other.last_mut().unwrap() ^= 1;
    site.put("other.dcm", &other);
    daemon.wait_total(5);
    daemon.stop();
    let fates = site.fates();
    assert_eq!((fates["duplicate"], fates["conflict"]), (1, 1), "{fates:?}");
    assert!(common::files(&site.drop).is_empty());
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    assert_eq!(common::digests(&[&real]).len(), 5);
    site.assert_verified();
}

#[test]
fn a_drop_directory_without_events_or_renames_is_polled_and_emptied() {
    let site = Site::with("poll-interval = \"1s\"", "");
    let real = site.dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let Some(_mount) = Mount::new(&site.drop, &["bindfs", real.to_str().unwrap()]) else {
        return;
    };
    let mould = Mould::new(65);
    let mut daemon = site.start();
    let status = daemon.wait_until("polling", |status| {
        status["watches"][0]["noticing"] == "polling"
    });
    assert_eq!(status["watches"][0]["share"], "fuse", "{status}");
    // Written behind the mount, as by another machine: no event tells of it.
    let mut expected = Vec::new();
    for n in 0..3 {
        let bytes = mould.bytes(&uid(n));
        fs::write(real.join(format!("{n}.dcm")), &bytes).unwrap();
        expected.push(common::digest(&bytes));
    }
    daemon.wait_total(3);
    daemon.stop();
    expected.sort();
    assert_eq!(common::digests(&[&site.library]), expected);
    assert!(common::files(&real).is_empty());
    site.assert_verified();
}

#[test]
fn when_inotify_watches_run_out_directories_are_polled_and_none_is_missed() {
    // A user namespace has limits of its own: the machine's stay as they are.
    const FEW: &str = "echo 20 > /proc/sys/user/max_inotify_watches";
    let limited = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-ec"]);
        command.arg(format!("{FEW}; {script}"));
        command
    };
    if !limited("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("SKIPPED: no user namespace with inotify limits of its own");
        return;
    }
    let site = Site::with("poll-interval = \"1s\"", "");
    let folders: Vec<String> = (0..40).map(|n| format!("folder-{n}")).collect();
    for folder in &folders {
        fs::create_dir(site.drop.join(folder)).unwrap();
    }
    let mut command = limited("exec \"$0\" run --config \"$1\"");
    command.arg(common::RADSORT).arg(&site.config);
    let mut daemon = site.spawn_command(command);
    daemon.wait_ready();
    let status = daemon.wait_until("polling", |status| {
        status["watches"][0]["noticing"] == "polling"
    });
    let why = status["watches"][0]["why"].as_str().unwrap_or("");
    assert!(why.contains("inotify"), "{status}");
    let mould = Mould::new(66);
    for (n, folder) in folders.iter().enumerate() {
        site.put(&format!("{folder}/{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(folders.len() as u64);
    daemon.stop();
    assert_eq!(site.filed().len(), folders.len());
    site.assert_verified();
}

#[test]
fn a_full_library_holds_intake_until_there_is_room() {
    let site = Site::new();
    let Some(_mount) = Mount::tmpfs(&site.library, "2m") else {
        return;
    };
    let mould = Mould::new(66);
    let mut daemon = site.start();
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    let filler = site.library.join("filler");
    let free = rustix::fs::statvfs(&site.library).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(40 << 10);
    fs::write(&filler, vec![1; bytes as usize]).unwrap();
    site.put("2.dcm", &mould.bytes(&uid(2)));
    wait_state(&mut daemon, "held");
    assert!(
        site.drop.join("2.dcm").is_file(),
        "the file that did not fit"
    );
    fs::remove_file(&filler).unwrap();
    daemon.wait_total(2);
    daemon.stop();
    let mut expected = [1, 2].map(|n| common::digest(&mould.bytes(&uid(n))));
    expected.sort();
    assert_eq!(site.digests(), expected);
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    assert!(!site.fates().contains_key("quarantined"));
    site.assert_verified();
}

#[test]
fn a_quarantine_that_cannot_be_written_holds_only_what_goes_there() {
    let site = Site::new();
    let quarantine = site.library.join("_quarantine");
    fs::create_dir(&quarantine).unwrap();
    let Some(mount) = Mount::tmpfs(&quarantine, "1m") else {
        return;
    };
    mount.remount("ro");
    let mould = Mould::new(68);
    let mut daemon = site.start();
    // Without a SOP Instance UID.
    site.put("broken.dcm", &mould.bytes(""));
    daemon.wait_logged("cannot-take");
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    assert_eq!(daemon.status()["watches"][0]["state"], "online");
    assert!(site.drop.join("broken.dcm").is_file());
    mount.remount("rw");
    daemon.wait_total(2);
    daemon.stop();
    assert_eq!(site.fates()["quarantined"], 1);
    site.assert_verified();
}

#[test]
fn a_library_that_turns_read_only_holds_intake_until_it_can_be_written_again() {
    let site = Site::new();
    let Some(mount) = Mount::tmpfs(&site.library, "8m") else {
        return;
    };
    let mould = Mould::new(67);
    let mut daemon = site.start();
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    mount.remount("ro");
    site.put("2.dcm", &mould.bytes(&uid(2)));
    wait_state(&mut daemon, "held");
    assert!(site.drop.join("2.dcm").is_file());
    mount.remount("rw");
    daemon.wait_total(2);
    daemon.stop();
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    assert!(!site.fates().contains_key("quarantined"));
    site.assert_verified();
}
