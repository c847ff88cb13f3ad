//! The main job on the real binary: what is dropped ends where it belongs, once, with its bytes as they were.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Site, phantoms};

#[test]
fn dropped_radiographs_are_filed_under_their_categories_and_found_by_queries() {
    let site = Site::new();
    let staging = site.dir.path().join("staging");
    let made = phantoms(&staging, 10, 11);
    let before = common::digests(&[&staging]);
    let mut daemon = site.start();
    for (path, _) in &made {
        fs::rename(path, site.drop.join(path.file_name().unwrap())).unwrap();
    }
    daemon.wait_total(10);
    let records = site.records();
    daemon.stop();
    assert_eq!(records.len(), 10);
    let right = made.iter().filter(|(path, category)| {
        let uid = path.file_stem().unwrap().to_str().unwrap();
        records.iter().any(|record| {
            record["sop_instance_uid"] == uid && record["category"].as_str() == *category
        })
    });
    assert!(right.count() >= 9, "{records:#?}");
    assert_eq!(site.digests(), before);
    assert_eq!(fs::read_dir(&site.drop).unwrap().count(), 0);
}

#[test]
fn a_pass_over_a_directory_accounts_for_every_file() {
    let site = Site::with("truncated = \"1s\"", "");
    let made = phantoms(&site.drop, 4, 12);
    fs::write(site.drop.join("letter.pdf"), "%PDF-1.4 not for radsort").unwrap();
    fs::copy(&made[0].0, site.drop.join("again.dcm")).unwrap();
    let before = site.digests();
    let summary = site.sort();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(count("filed") + count("review"), 4, "{summary}");
    assert_eq!(
        (count("left"), count("duplicates"), count("waiting")),
        (1, 1, 0),
        "{summary}"
    );
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(site.digests(), before);
    assert!(site.drop.join("letter.pdf").exists());
}

#[test]
fn a_dry_run_touches_and_records_nothing() {
    let site = Site::new();
    phantoms(&site.drop, 3, 13);
    let names = |dir| {
        let mut names: Vec<_> = common::files(dir);
        names.sort();
        names
    };
    let before = names(&site.drop);
    let summary = site.json(&["sort", site.drop.to_str().unwrap(), "--dry-run", "--json"]);
    assert_eq!(
        summary["filed"].as_u64().unwrap() + summary["review"].as_u64().unwrap(),
        3,
        "{summary}"
    );
    assert_eq!(names(&site.drop), before);
    assert!(!site.state.exists(), "a dry run begins no ledger");
}

#[test]
fn copy_mode_files_each_file_once_over_restarts_and_reindexing() {
    let site = Site::with("action = \"copy\"", "");
    phantoms(&site.drop, 3, 14);
    let dropped = common::digests(&[&site.drop]);
    let mut daemon = site.start();
    daemon.wait_total(3);
    daemon.stop();
    site.ok(&["reindex"]);
    fs::remove_dir_all(site.state.join("index")).unwrap();
    let mut daemon = site.start();
    // Another file shows that the first three have been looked at and passed over.
    let more = phantoms(&site.dir.path().join("more"), 1, 15);
    fs::rename(&more[0].0, site.drop.join("more.dcm")).unwrap();
    daemon.wait_total(4);
    daemon.stop();
    assert_eq!(site.filed().len(), 4, "{:?}", site.filed());
    assert!(
        dropped
            .iter()
            .all(|digest| common::digests(&[&site.drop]).contains(digest))
    );
}

#[test]
fn observe_mode_decides_and_records_and_touches_nothing() {
    let site = Site::with("action = \"observe\"", "");
    phantoms(&site.drop, 3, 16);
    let before = common::files(&site.drop).len();
    for _ in 0..2 {
        let mut daemon = site.start();
        daemon.wait_total(3);
        // Nobody is told that anything was filed.
        let status = site.json(&["status", "--json"]);
        let observed = serde_json::json!({"observed": 3});
        assert_eq!(status["totals"], observed);
        assert_eq!(status["watches"][0]["counts"], observed);
        daemon.stop();
    }
    assert_eq!(site.records().len(), 3);
    assert_eq!(common::files(&site.drop).len(), before);
    assert!(site.filed().is_empty(), "{:?}", site.filed());
}

#[test]
fn a_library_file_that_was_deleted_and_is_dropped_again_is_filed_again() {
    let site = Site::new();
    let made = phantoms(&site.dir.path().join("made"), 1, 17);
    for _ in 0..2 {
        fs::copy(&made[0].0, site.drop.join("image.dcm")).unwrap();
        site.sort();
        let filed = site.filed();
        assert_eq!(filed.len(), 1, "{filed:?}");
        assert!(!filed[0].starts_with("_duplicates"), "{filed:?}");
        fs::remove_file(site.library.join(&filed[0])).unwrap();
    }
}

#[test]
fn the_same_bytes_again_are_a_duplicate_and_other_bytes_under_one_uid_a_conflict() {
    let site = Site::new();
    let made = phantoms(&site.dir.path().join("made"), 1, 18);
    let bytes = fs::read(&made[0].0).unwrap();
    // All in one burst, so that they meet within one group.
    fs::write(site.drop.join("a.dcm"), &bytes).unwrap();
    fs::write(site.drop.join("b.dcm"), &bytes).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(site.drop.join("c.dcm"), &other).unwrap();
    let before = site.digests();
    site.sort();
    let fates = site.fates();
    assert_eq!(
        fates.get("duplicate").copied().unwrap_or(0) + fates.get("conflict").copied().unwrap_or(0),
        2,
        "{fates:?}"
    );
    assert!(fates.contains_key("conflict"), "{fates:?}");
    assert_eq!(site.digests(), before);
}
