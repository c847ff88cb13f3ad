//! A clock that jumps: nothing waits for ever, nothing is taken before its time, and no name is used twice.
//!
//! Needs libfaketime; where it is missing, this test says so and is skipped.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::{Mould, Site, uid};
use serde_json::Value;

fn libfaketime() -> Option<PathBuf> {
    let mut found = fs::read_dir("/usr/lib")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.is_file())
}

#[test]
fn a_clock_that_jumps_years_both_ways_changes_nothing() {
    let Some(library) = libfaketime() else {
        eprintln!("SKIPPED: no libfaketime (Debian and Ubuntu: apt-get install libfaketime)");
        return;
    };
    let site = Site::with("settle = \"1s\"", "");
    let offset = site.dir.path().join("offset");
    let set = |text: &str| {
        let staged = site.dir.path().join("offset.new");
        fs::write(&staged, text).unwrap();
        fs::rename(staged, &offset).unwrap();
    };
    set("+0\n");
    let mut command = site.command(&["run"]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut daemon = site.spawn_command(command);
    daemon.wait_ready();
    let mould = Mould::new(81);
    let mut expected = Vec::new();
    for jump in ["+0", "+3650d", "-3650d", "+1h", "-1h", "+0"] {
        let n = expected.len();
        let bytes = mould.bytes(&uid(n));
        expected.push(common::digest(&bytes));
        // One file is being looked at while the clock jumps, one comes after it.
        site.put(&format!("{n}.dcm"), &bytes);
        set(&format!("{jump}\n"));
        daemon.wait_total(n as u64 + 1);
        let bytes = mould.bytes(&uid(n + 1));
        expected.push(common::digest(&bytes));
        site.put(&format!("{}.dcm", n + 1), &bytes);
        daemon.wait_total(n as u64 + 2);
    }
    daemon.stop();
    // The ledger shows that the clock did jump.
    let ledger = site.ledger();
    let years: BTreeSet<String> = ledger
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["t"].to_string()[1..5].to_owned())
        .collect();
    assert!(years.len() >= 3, "{years:?}");
    expected.sort();
    assert_eq!(site.digests(), expected);
    assert!(site.remains().is_empty());
    site.assert_verified();
}
