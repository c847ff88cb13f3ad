//! Files on record that people have something to say about.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::common::{self, Daemon, Mould, Site, uid};

/// A site whose daemon has given some files their places, whichever: the tests put them where they want them.
pub fn filed(count: usize) -> (Site, Daemon, Vec<Value>) {
    let site = Site::new();
    let mould = Mould::new(31);
    let mut daemon = site.start();
    for n in 0..count {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(count as u64);
    let records = site.records();
    (site, daemon, records)
}

/// Puts a file on record into a category's folder, as radsort would have; gives its new record.
pub fn correct(site: &Site, record: &Value, category: &str) -> Value {
    let what = text(record, "sop_instance_uid");
    site.ok(&["correct", &what, category]);
    clock_of_files_goes_on(site);
    the(site, &what)
}

/// Waits until a file that changes now has a later time than what was said before: the kernel gives files the time of its last
/// tick, and people do not move what they have judged some milliseconds ago.
fn clock_of_files_goes_on(site: &Site) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let probe = site.dir.path().join("clock");
    let is_later = || {
        fs::write(&probe, "").unwrap();
        let changed = fs::metadata(&probe).unwrap();
        (changed.ctime(), changed.ctime_nsec()) >= (now.as_secs() as i64, now.subsec_nanos().into())
    };
    while !is_later() {
        std::thread::yield_now();
    }
    fs::remove_file(&probe).unwrap();
}

pub fn text(record: &Value, key: &str) -> String {
    record[key].as_str().unwrap().to_owned()
}

pub fn the(site: &Site, uid: &str) -> Value {
    let mut found = site.records();
    found.retain(|record| record["sop_instance_uid"] == uid);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub fn labels(site: &Site, words: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["labels", "list", "--json"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    let listed = site.ok(&all);
    listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn look(site: &Site) -> Value {
    site.json(&["labels", "look", "--json"])
}

/// A category's folder in the library, made if it is not there.
pub fn folder(site: &Site, name: &str) -> PathBuf {
    let path = site.library.join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Ids and folders of two categories of the shipped bundle with the same view.
pub fn two_categories() -> [(String, String); 2] {
    let manifest = fs::read_to_string(common::shipped_bundle().join("bundle.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let all = manifest["categories"].as_array().unwrap();
    [0, 1].map(|n| {
        let text = |key: &str| all[n][key].as_str().unwrap().to_owned();
        (text("id"), text("folder"))
    })
}
