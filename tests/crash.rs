//! Killed at any step, cut off in the middle of a line, with its index gone: a file is there once, and on record once.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use common::{Mould, Site, uid};

/// Where files that only one way of filing passes are killed.
fn places(ways: &[&str]) -> Vec<&'static str> {
    radsort::filing::failpoints::FAILPOINTS
        .iter()
        .filter(|(_, way)| ways.contains(way))
        .map(|(name, _)| *name)
        .collect()
}

/// Whether this binary can be killed at a place; says loudly when it cannot.
fn armed() -> bool {
    let armed = cfg!(feature = "failpoints");
    if !armed {
        eprintln!("SKIPPED: needs `--features failpoints`");
    }
    armed
}

/// Kills the daemon at a place while it files one file, starts it again, and looks at everything.
fn kill_and_restart(site: &Site, place: &str, copies: usize) {
    let bytes = Mould::new(21).bytes(&uid(1));
    fs::write(site.drop.join("image.dcm"), &bytes).unwrap();
    if site.dir.path().join("elsewhere").is_dir() {
        let elsewhere = site.dir.path().join("elsewhere/link.dcm");
        fs::hard_link(site.drop.join("image.dcm"), elsewhere).unwrap();
    }

    let mut daemon = site.spawn(&[("RADSORT_CRASH_AT", place)]);
    let end = daemon.wait();
    assert_eq!(end.signal(), Some(9), "at {place}: {end}\n{}", daemon.log());

    let mut daemon = site.start();
    daemon.wait_until("the file has its place", |status| {
        common::total(status) == 1 && status["watches"][0]["waiting"] == 0
    });
    daemon.stop();

    let digest = common::digest(&bytes);
    assert_eq!(site.digests(), vec![digest.clone(); copies], "at {place}");
    assert_eq!(site.filed().len(), 1, "at {place}: {:?}", site.filed());
    assert!(
        site.remains().is_empty(),
        "at {place}: {:?}",
        site.remains()
    );
    let records = site.records();
    assert_eq!(records.len(), 1, "at {place}: {records:#?}");
    assert_eq!(records[0]["digest"], digest, "at {place}");
    assert_eq!(records[0]["state"], "live", "at {place}");
    let path = records[0]["path"].as_str().unwrap();
    assert!(Path::new(path).is_file(), "at {place}: {path}");
    site.assert_verified();
}

#[test]
fn killed_at_any_step_of_a_rename_a_file_is_filed_once() {
    if !armed() {
        return;
    }
    for place in places(&["all", "rename"]) {
        kill_and_restart(&Site::new(), place, 1);
    }
}

#[test]
fn killed_at_any_step_of_a_move_by_copy_a_file_is_filed_once() {
    if !armed() {
        return;
    }
    for place in places(&["all", "copy"]) {
        let site = Site::new();
        // A file with a second name is never renamed: whoever has that name could still write to it.
        fs::create_dir(site.dir.path().join("elsewhere")).unwrap();
        kill_and_restart(&site, place, 1);
    }
}

#[test]
fn killed_at_any_step_of_copying_a_file_is_filed_once_and_its_original_stays() {
    if !armed() {
        return;
    }
    let claimed = [
        "before-claim",
        "after-claim",
        "before-unclaim",
        "after-unclaim",
    ];
    for place in places(&["all", "copy"]) {
        if !claimed.contains(&place) {
            kill_and_restart(&Site::with("action = \"copy\"", ""), place, 2);
        }
    }
}

#[test]
fn killed_at_any_step_of_a_quarantine_a_file_is_quarantined_once_with_its_reason() {
    if !armed() {
        return;
    }
    for place in ["after-intent", "after-rename", "before-filed"] {
        let site = Site::new();
        let bytes = Mould::new(22).bytes("not a UID");
        fs::write(site.drop.join("image.dcm"), &bytes).unwrap();
        let mut daemon = site.spawn(&[("RADSORT_CRASH_AT", place)]);
        assert_eq!(daemon.wait().signal(), Some(9), "at {place}");
        let mut daemon = site.start();
        daemon.wait_total(1);
        daemon.stop();
        assert_eq!(site.digests(), [common::digest(&bytes)], "at {place}");
        let reasons: Vec<_> = common::files(&site.library)
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(".reason.txt"))
            .collect();
        assert_eq!(reasons.len(), 1, "at {place}: {reasons:?}");
        site.assert_verified();
    }
}

#[test]
fn both_names_of_one_file_are_filed_whatever_step_its_daemon_is_killed_at() {
    if !armed() {
        return;
    }
    for place in places(&["all", "copy"]) {
        let site = Site::new();
        let bytes = Mould::new(24).bytes(&uid(4));
        site.put("a.dcm", &bytes);
        fs::hard_link(site.drop.join("a.dcm"), site.drop.join("b.dcm")).unwrap();
        let mut daemon = site.spawn(&[("RADSORT_CRASH_AT", place)]);
        let end = daemon.wait();
        assert_eq!(end.signal(), Some(9), "at {place}: {end}\n{}", daemon.log());
        let mut daemon = site.start();
        daemon.wait_total(2);
        daemon.stop();
        assert_eq!(
            site.digests(),
            vec![common::digest(&bytes); 2],
            "at {place}"
        );
        assert_eq!(site.filed().len(), 2, "at {place}: {:?}", site.filed());
        assert!(site.remains().is_empty(), "at {place}");
        site.assert_verified();
    }
}

/// Killed between the rename and the look at who has the file open, which recovery makes up for.
#[test]
fn a_file_whose_writer_goes_on_is_put_back_by_the_next_start_too() {
    if !armed() {
        return;
    }
    let site = Site::new();
    let bytes = Mould::new(25).bytes(&uid(5));
    site.put("a.dcm", &bytes);
    let mut daemon = site.spawn(&[
        ("RADSORT_STOP_AT", "before-rename"),
        ("RADSORT_CRASH_AT", "after-rename"),
    ]);
    daemon.wait_stopped();
    let mut writer = fs::File::options()
        .append(true)
        .open(site.drop.join("a.dcm"))
        .unwrap();
    daemon.signal(rustix::process::Signal::CONT);
    assert_eq!(daemon.wait().signal(), Some(9));
    let mut daemon = site.start();
    daemon.wait_for("it is back", || site.drop.join("a.dcm").exists());
    assert_eq!(site.filed().len(), 0);
    writer.write_all(b"more").unwrap();
    drop(writer);
    daemon.wait_total(1);
    daemon.stop();
    let whole = [&bytes[..], b"more"].concat();
    assert_eq!(site.digests(), [common::digest(&whole)]);
    site.assert_verified();
}

#[test]
fn killed_at_random_moments_of_a_burst_every_file_is_filed_once() {
    let site = Site::new();
    let mould = Mould::new(23);
    let count = 30;
    for n in 0..count {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    let before = site.digests();
    for done in [1, 8, 20] {
        let mut daemon = site.spawn(&[]);
        daemon.wait_total(done);
        daemon.kill();
    }
    let mut daemon = site.start();
    daemon.wait_total(count as u64);
    daemon.stop();
    assert_eq!(site.digests(), before);
    assert_eq!(site.filed().len(), count);
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    let mut uids: Vec<String> = site
        .records()
        .iter()
        .map(|record| record["sop_instance_uid"].as_str().unwrap().to_owned())
        .collect();
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), count);
    assert_eq!(site.records().len(), count);
    site.assert_verified();
}

#[test]
fn the_torn_end_of_a_ledger_is_put_aside_and_nothing_else_is_lost() {
    let site = Site::new();
    let mould = Mould::new(24);
    site.put("1.dcm", &mould.bytes(&uid(1)));
    site.sort();
    let before = site.records();
    assert_eq!(before.len(), 1);
    let mut segments = common::files(&site.state.join("ledger"));
    segments.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    segments.sort();
    let mut last = fs::File::options()
        .append(true)
        .open(segments.last().unwrap())
        .unwrap();
    last.write_all(b"{\"kind\":\"intent\",\"id\":\"0011")
        .unwrap();
    drop(last);

    let mut daemon = site.start();
    assert!(daemon.log().contains("put aside"), "{}", daemon.log());
    site.put("2.dcm", &mould.bytes(&uid(2)));
    daemon.wait_total(2);
    daemon.stop();
    let torn = common::files(&site.state.join("ledger"))
        .into_iter()
        .find(|path| path.to_string_lossy().contains(".torn"))
        .unwrap();
    assert!(fs::read_to_string(torn).unwrap().contains("0011"));
    let after = site.records();
    assert_eq!(after.len(), 2);
    assert!(after.contains(&before[0]), "{after:#?}");
    site.assert_verified();
}

#[test]
fn a_second_daemon_on_one_state_directory_refuses_and_says_why() {
    let site = Site::new();
    let mut daemon = site.start();
    let second = site.run(&["run"]);
    assert!(!second.status.success());
    let said =
        String::from_utf8(second.stderr).unwrap() + &String::from_utf8(second.stdout).unwrap();
    assert!(said.contains("another radsort is using"), "{said}");
    // The first one has not been disturbed.
    site.put("1.dcm", &Mould::new(25).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.stop();
}

#[test]
fn an_index_that_was_deleted_or_damaged_is_built_again_and_answers_the_same() {
    let site = Site::new();
    let mould = Mould::new(26);
    for n in 0..4 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    site.put("again.dcm", &mould.bytes(&uid(0)));
    site.put("damaged.dcm", &mould.bytes("not a UID"));
    site.sort();
    let before = site.records();
    assert_eq!(before.len(), 6);
    let index = site.state.join("index");

    fs::remove_dir_all(&index).unwrap();
    assert_eq!(site.records(), before);

    fs::remove_dir_all(&index).unwrap();
    fs::write(&index, "no directory at all").unwrap();
    assert_eq!(site.records(), before);

    for file in common::files(&index) {
        fs::write(file, "garbage, and not what sled wrote").unwrap();
    }
    assert_eq!(site.records(), before);

    for file in common::files(&index) {
        let bytes = fs::read(&file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }
    let mut daemon = site.start();
    daemon.wait_total(6);
    assert_eq!(site.records(), before);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_ledger_that_is_removed_under_the_running_service_stops_it_and_is_told() {
    let site = Site::new();
    let mut daemon = site.start();
    let (one, two) = (Mould::new(23).bytes(&uid(1)), Mould::new(23).bytes(&uid(2)));
    site.put("1.dcm", &one);
    daemon.wait_total(1);
    fs::remove_dir_all(site.state.join("ledger")).unwrap();
    site.put("2.dcm", &two);
    // For the service manager: try again.
    assert_eq!(daemon.wait().code(), Some(75), "{}", daemon.log());
    assert!(site.drop.join("2.dcm").is_file());
    let mut daemon = site.start();
    let status = daemon.wait_until("it is told", |status| {
        status["errors"].to_string().contains("the ledger is gone")
    });
    assert!(status["watches"][0].is_object());
    daemon.wait_total(1);
    daemon.stop();
    let mut expected = [common::digest(&one), common::digest(&two)];
    expected.sort();
    assert_eq!(site.digests(), expected);
}

#[test]
fn a_state_that_is_not_there_while_files_lie_in_the_library_is_told() {
    let site = Site::new();
    let mut daemon = site.start();
    site.put("1.dcm", &Mould::new(24).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.stop();
    let earlier = site.state.with_extension("earlier");
    fs::rename(&site.state, &earlier).unwrap();
    let mut daemon = site.start();
    daemon.wait_until("it is told", |status| {
        status["errors"].to_string().contains("a new ledger")
    });
    daemon.wait_logged("ledger-gone");
    daemon.stop();
    fs::remove_dir_all(&site.state).unwrap();
    fs::rename(&earlier, &site.state).unwrap();
    let daemon = site.start();
    assert_eq!(daemon.status()["errors"], serde_json::json!([]));
    daemon.stop();
    site.assert_verified();
}

#[test]
fn an_older_copy_of_the_ledger_is_told() {
    let site = Site::new();
    let mut daemon = site.start();
    site.put("1.dcm", &Mould::new(25).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.stop();
    let (ledger, copy) = (site.state.join("ledger"), site.dir.path().join("copy"));
    copy_folder(&ledger, &copy);
    let mut daemon = site.start();
    site.put("2.dcm", &Mould::new(25).bytes(&uid(2)));
    daemon.wait_total(2);
    daemon.stop();
    fs::remove_dir_all(&ledger).unwrap();
    copy_folder(&copy, &ledger);
    let mut daemon = site.start();
    daemon.wait_until("it is told", |status| {
        status["errors"].to_string().contains("an older copy")
    });
    daemon.wait_total(1);
    daemon.stop();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in common::files(from) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}
