//! What people say about files, by commands and by moving them.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/labelled.rs"]
mod labelled;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Mould, Site, digest, uid};
use labelled::{correct, filed, folder, labels, look, text, the, two_categories};
use serde_json::Value;

#[test]
fn a_file_that_a_person_moves_to_another_category_becomes_a_label_and_stays_there() {
    let (site, daemon, records) = filed(2);
    let [(first, first_folder), (second, second_folder)] = two_categories();
    let record = correct(&site, &records[0], &first);
    let other = correct(&site, &records[1], &first);
    let from = PathBuf::from(text(&record, "path"));
    assert!(
        from.starts_with(site.library.join(&first_folder)),
        "{from:?}"
    );

    let to = folder(&site, &second_folder).join("anything.dcm");
    fs::rename(&from, &to).unwrap();
    let looked = look(&site);
    assert_eq!(
        (&looked["moved"], &looked["labels"]),
        (&1.into(), &1.into()),
        "{looked}"
    );
    let now = the(&site, &text(&record, "sop_instance_uid"));
    assert_eq!(text(&now, "category"), second);
    assert_eq!(text(&now, "labelled"), "correction");
    assert_eq!(Path::new(&text(&now, "path")), to);
    assert_eq!(look(&site)["moved"], 0, "once");
    assert!(to.exists());

    // Back again: that is news, too. And its neighbour is none the wiser.
    fs::rename(&to, &from).unwrap();
    assert_eq!(look(&site)["labels"], 1);
    assert_eq!(
        text(&the(&site, &text(&record, "sop_instance_uid")), "category"),
        first
    );
    assert_eq!(the(&site, &text(&other, "sop_instance_uid")), other);
    let story = site.ok(&["show", &text(&record, "sop_instance_uid")]);
    assert!(
        story.contains(&format!("labelled {second} (correction)")),
        "{story}"
    );
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_file_that_is_put_back_into_the_drop_directory_and_filed_again_is_one_file() {
    let (site, mut daemon, records) = filed(1);
    let (uid, path) = (
        text(&records[0], "sop_instance_uid"),
        text(&records[0], "path"),
    );
    fs::rename(&path, site.drop.join("again.dcm")).unwrap();
    daemon.wait_total(2);
    for _ in 0..3 {
        assert_eq!(look(&site)["missing"], 0);
    }
    let now = the(&site, &uid);
    assert_eq!(text(&now, "path"), path);
    site.ok(&["confirm", &uid]);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_correction_is_seen_although_the_same_image_was_sent_again_to_the_place_that_it_left() {
    let (site, mut daemon, records) = filed(1);
    let [_, (second, second_folder)] = two_categories();
    let from = PathBuf::from(text(&records[0], "path"));
    let bytes = fs::read(&from).unwrap();
    let to = folder(&site, &second_folder).join("moved.dcm");
    fs::rename(&from, &to).unwrap();
    site.put("again.dcm", &bytes);
    daemon.wait_total(2);
    assert!(from.exists() && to.exists());
    let looked = look(&site);
    assert_eq!([&looked["moved"], &looked["labels"]], [1, 1], "{looked}");
    let records = site.records();
    assert_eq!(records.len(), 2, "both are there");
    let mut there = records.iter();
    let moved = there.find(|it| Path::new(&text(it, "path")) == to).unwrap();
    assert_eq!(text(moved, "category"), second);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn who_speaks_last_is_right_whatever_was_noticed_last() {
    let (site, daemon, records) = filed(2);
    let [(first, _), (second, second_folder)] = two_categories();
    let record = correct(&site, &records[0], &first);
    let uid = text(&record, "sop_instance_uid");
    let category = || text(&the(&site, &uid), "category");
    look(&site);

    // Moved by hand, and judged before the service has noticed.
    let to = folder(&site, &second_folder).join("moved.dcm");
    fs::rename(text(&record, "path"), &to).unwrap();
    assert!(
        !site
            .run(&["correct", &uid, "lateral-fusion"])
            .status
            .success()
    );
    let looked = look(&site);
    assert_eq!([&looked["moved"], &looked["labels"]], [1, 0], "{looked}");
    assert_eq!(category(), "lateral-fusion");

    // A later move is news, and so is what is accepted after it.
    let again = folder(&site, &second_folder).join("again");
    fs::create_dir(&again).unwrap();
    fs::rename(&to, again.join("moved.dcm")).unwrap();
    assert_eq!(look(&site)["labels"], 1);
    assert_eq!(category(), second);

    // A list from before says nothing new; one without times is taken at its word.
    let list = site.dir.path().join("list.csv");
    let import = |time: &str| {
        let rows = format!("sop_instance_uid,category,time\n{uid},{first},{time}\n");
        fs::write(&list, rows).unwrap();
        site.run(&["labels", "import", list.to_str().unwrap()])
    };
    let old = import("2020-01-01T00:00:00Z");
    let why = String::from_utf8_lossy(&old.stderr).into_owned();
    assert!(
        !old.status.success() && why.contains("since the list did"),
        "{why}"
    );
    assert_eq!(category(), second);
    // When it was said must be readable, or it would overrule what was said since.
    let unread = import("last Tuesday");
    let why = String::from_utf8_lossy(&unread.stderr).into_owned();
    assert!(
        !unread.status.success() && why.contains("\"last Tuesday\""),
        "{why}"
    );
    assert!(!import("2020-01-01 10:00").status.success());
    assert_eq!(category(), second);
    assert!(import("").status.success());
    assert_eq!(category(), first);
    // Also where the label is the same already.
    assert!(!import("last Tuesday").status.success());

    // Of rows that contradict each other none is right, unless one was said last.
    let both = |times: [&str; 2]| {
        let [one, other] = times;
        let rows = format!("{uid},{second},{one}\n{uid},lateral-fusion,{other}\n");
        fs::write(&list, format!("sop_instance_uid,category,time\n{rows}")).unwrap();
        let output = site.run(&["labels", "import", list.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = both(["", ""]);
    assert_eq!(why.matches("lines 2, 3 of the list").count(), 2, "{why}");
    assert_eq!(category(), first);
    both(["2100-01-02", "2100-01-01"]);
    assert_eq!(category(), second);
    daemon.stop();
    site.assert_verified();
}

#[test]
fn what_is_accepted_is_said_when_it_is_accepted() {
    let (site, daemon, records) = filed(1);
    let [(first, first_folder), _] = two_categories();
    let record = correct(&site, &records[0], &first);
    let uid = text(&record, "sop_instance_uid");
    let waits = folder(&site, "frontal-halo").join("waits.dcm");
    fs::rename(text(&record, "path"), &waits).unwrap();
    look(&site);
    let waiting = labels(&site, &["--pending"]);
    // Moved on, without being noticed, before somebody accepts what it was taken for.
    fs::rename(
        text(&the(&site, &uid), "path"),
        folder(&site, &first_folder).join("back.dcm"),
    )
    .unwrap();
    site.ok(&["labels", "accept", "--category", "frontal-halo"]);
    let given = labels(&site, &[]);
    assert!(
        text(&given[0], "time") > text(&waiting[0], "time"),
        "{given:?}"
    );
    assert_eq!(look(&site)["labels"], 0);
    assert_eq!(text(&the(&site, &uid), "category"), "frontal-halo");
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_copy_then_delete_counts_as_a_move() {
    let (site, daemon, records) = filed(1);
    let [(first, _), (second, second_folder)] = two_categories();
    let record = correct(&site, &records[0], &first);
    let from = PathBuf::from(text(&record, "path"));
    let to = folder(&site, &second_folder).join("copy.dcm");
    fs::copy(&from, &to).unwrap();
    for _ in 0..2 {
        let looked = look(&site);
        assert_eq!(looked["moved"], 0, "a copy alone says nothing: {looked}");
        assert_eq!(looked["adopted"], 0, "{looked}");
    }
    fs::remove_file(&from).unwrap();
    assert_eq!(look(&site)["labels"], 1);
    let now = the(&site, &text(&record, "sop_instance_uid"));
    assert_eq!(
        (text(&now, "category"), PathBuf::from(text(&now, "path"))),
        (second, to)
    );
    daemon.stop();
    site.assert_verified();
}

#[test]
fn moving_a_whole_folder_waits_as_pending() {
    let (site, daemon, records) = filed(3);
    let [(first, first_folder), (second, second_folder)] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    let target = site.library.join(&second_folder);
    // A folder that radsort has made for the other category may lie there already, empty by now.
    let _ = fs::remove_dir_all(&target);
    fs::rename(site.library.join(&first_folder), &target).unwrap();
    let looked = look(&site);
    assert_eq!(
        (&looked["moved"], &looked["pending"]),
        (&3.into(), &3.into()),
        "{looked}"
    );
    assert!(
        site.records()
            .iter()
            .all(|record| record["category"] == *first)
    );
    let waiting = labels(&site, &["--pending"]);
    assert!(
        waiting
            .iter()
            .all(|label| label["state"] == "folder-renamed"),
        "{waiting:?}"
    );

    let uids: Vec<String> = records
        .iter()
        .map(|record| text(record, "sop_instance_uid"))
        .collect();
    site.ok(&["labels", "reject", &uids[0]]);
    site.ok(&["labels", "accept", "--all"]);
    let categories: Vec<String> = uids
        .iter()
        .map(|uid| text(&the(&site, uid), "category"))
        .collect();
    assert_eq!(categories, [first, second.clone(), second]);
    assert!(labels(&site, &["--pending"]).is_empty());
    assert!(!site.run(&["labels", "accept", &uids[0]]).status.success());
    daemon.stop();
    site.assert_verified();
    // What was accepted is in the ledger, not only in the index.
    site.ok(&["reindex"]);
    assert_eq!(labels(&site, &[]).len(), 3);
}

#[test]
fn a_folder_that_the_model_does_not_know_becomes_a_category_when_people_say_so() {
    let (site, daemon, records) = filed(5);
    let [(first, first_folder), (second, second_folder)] = two_categories();
    let records: Vec<Value> = records
        .iter()
        .map(|record| correct(&site, record, &first))
        .collect();
    let move_to = |record: &Value, to: &str| {
        let uid = text(record, "sop_instance_uid");
        let from = PathBuf::from(text(&the(&site, &uid), "path"));
        let name = from.file_name().unwrap().to_owned();
        fs::rename(from, folder(&site, to).join(name)).unwrap();
    };
    let category = |n: usize| {
        text(
            &the(&site, &text(&records[n], "sop_instance_uid")),
            "category",
        )
    };
    move_to(&records[0], "frontal-halo");
    move_to(&records[1], "frontal-halo");
    move_to(&records[2], &second_folder);
    move_to(&records[3], "For the Conference");
    let looked = look(&site);
    assert_eq!(
        [&looked["moved"], &looked["labels"], &looked["pending"]],
        [4, 1, 2],
        "{looked}"
    );
    let waiting = labels(&site, &["--pending"]);
    let all_new =
        |label: &Value| label["state"] == "new-category" && label["category"] == "frontal-halo";
    assert!(
        waiting.len() == 2 && waiting.iter().all(all_new),
        "{waiting:?}"
    );
    assert_eq!([category(0), category(3)], [first.clone(), first.clone()]);

    // Whoever accepts everything need not have thought of it; one who takes it back has changed his mind.
    let all = site.run(&["labels", "accept", "--all"]);
    let told = String::from_utf8_lossy(&all.stderr).into_owned();
    assert!(
        !all.status.success() && told.contains("labels accept --category frontal-halo"),
        "{told}"
    );
    move_to(&records[1], &first_folder);
    look(&site);
    assert_eq!(labels(&site, &["--pending"]).len(), 1);

    site.ok(&["labels", "accept", "--category", "frontal-halo"]);
    let unknown = site.run(&[
        "correct",
        &text(&records[4], "sop_instance_uid"),
        "frontal-halo",
    ]);
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(told.contains("--new-category"), "{told}");
    let what = text(&records[4], "sop_instance_uid");
    site.ok(&["correct", &what, "frontal-halo", "--new-category"]);
    let place = PathBuf::from(text(&the(&site, &what), "path"));
    assert!(
        place.starts_with(site.library.join("frontal-halo")),
        "{place:?}"
    );
    let categories: Vec<String> = (0..5).map(category).collect();
    let halo = "frontal-halo".to_owned();
    assert_eq!(
        categories,
        [halo.clone(), first.clone(), second, first, halo]
    );
    assert_eq!(look(&site)["moved"], 0);
    daemon.stop();
    site.assert_verified();
    let exported = site.ok(&["labels", "export"]);
    assert_eq!(exported.matches(",frontal-halo,").count(), 2, "{exported}");
}

#[test]
fn what_belongs_under_no_category_can_be_said_by_commands_lists_and_moves() {
    let (site, daemon, records) = filed(3);
    let [(first, _), _] = two_categories();
    let records: Vec<Value> = records
        .iter()
        .map(|record| correct(&site, record, &first))
        .collect();
    let uids: Vec<String> = records
        .iter()
        .map(|record| text(record, "sop_instance_uid"))
        .collect();

    site.ok(&["correct", &uids[0], "neither"]);
    let place = PathBuf::from(text(&the(&site, &uids[0]), "path"));
    assert!(place.starts_with(site.library.join("neither")), "{place:?}");
    let from = PathBuf::from(text(&records[1], "path"));
    let to = folder(&site, "neither").join(from.file_name().unwrap());
    fs::rename(&from, &to).unwrap();
    let looked = look(&site);
    assert_eq!([&looked["moved"], &looked["labels"]], [1, 1], "{looked}");
    let list = site.dir.path().join("list.csv");
    fs::write(&list, format!("sop_instance_uid,category\n{},\n", uids[2])).unwrap();
    let list = list.to_str().unwrap();
    site.ok(&["labels", "import", list]);

    for uid in &uids {
        assert_eq!(text(&the(&site, uid), "category"), "neither");
    }
    assert_eq!(look(&site)["moved"], 0, "they stay where people put them");
    let exported = site.ok(&["labels", "export"]);
    assert_eq!(exported.matches(",neither,").count(), 3, "{exported}");
    daemon.stop();
    site.assert_verified();
}

#[test]
fn labels_of_a_category_that_the_model_has_yet_to_learn_come_back_in_a_list() {
    let (site, daemon, records) = filed(1);
    let uid = text(&records[0], "sop_instance_uid");
    let list = site.dir.path().join("list.csv");
    fs::write(
        &list,
        format!("sop_instance_uid, category\n{uid},frontal-halo\n"),
    )
    .unwrap();
    let list = list.to_str().unwrap();
    let refused = site.run(&["labels", "import", list]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("--new-category"),
        "{why}"
    );
    site.ok(&["labels", "import", list, "--new-category"]);
    assert_eq!(text(&the(&site, &uid), "category"), "frontal-halo");
    daemon.stop();
    site.assert_verified();
}

#[test]
fn what_waits_is_forgotten_when_the_files_are_moved_back() {
    let (site, daemon, records) = filed(2);
    let [(first, first_folder), (_, second_folder)] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    let home = site.library.join(&first_folder);
    let target = site.library.join(&second_folder);
    let _ = fs::remove_dir_all(&target);
    fs::rename(&home, &target).unwrap();
    assert_eq!(look(&site)["pending"], 2);

    // It was a slip of the mouse.
    fs::rename(&target, &home).unwrap();
    assert_eq!(look(&site)["moved"], 2);
    assert!(labels(&site, &["--pending"]).is_empty());
    site.ok(&["labels", "accept", "--all"]);
    assert!(
        site.records()
            .iter()
            .all(|record| record["category"] == *first)
    );
    daemon.stop();
    site.assert_verified();
}

/// The shipped bundle with another id and folder for a category, as `retrain --rename-category` writes it: version 9.1.0.
fn renamed(site: &Site, old: &str, new: &str) -> PathBuf {
    let copy = site.dir.path().join("renamed");
    fs::create_dir(&copy).unwrap();
    for file in common::files(&common::shipped_bundle()) {
        fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    let manifest = copy.join("bundle.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (before, after) = text.split_once("version = \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let text = format!("{before}version = \"9.1.0\"{after}");
    let text = text.replace(&format!("\"{old}\""), &format!("\"{new}\""));
    let folder = format!("folder = \"{new}\"\n");
    let text = text.replace(&folder, &format!("{folder}formerly = [\"{old}\"]\n"));
    fs::write(&manifest, text).unwrap();
    copy
}

#[test]
fn the_old_name_of_a_category_still_means_it() {
    let site = Site::without_model();
    let mould = Mould::new(32);
    let mut daemon = site.start();
    for n in 0..2 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(2);
    let [(old, old_folder), (other, _)] = two_categories();
    let records = site.records();
    let first = correct(&site, &records[0], &old);
    let second = correct(&site, &records[1], &other);
    let bundle = renamed(&site, &old, "site-name");
    site.ok(&["models", "import", bundle.to_str().unwrap()]);
    site.ok(&["models", "promote", "9.1.0"]);
    let [first_uid, second_uid] = [&first, &second].map(|it| text(it, "sop_instance_uid"));

    // Into the folder that still has the old name: that is a label.
    let to = folder(&site, &old_folder).join("moved.dcm");
    fs::rename(text(&second, "path"), &to).unwrap();
    assert_eq!(look(&site)["labels"], 1);
    assert_eq!(text(&the(&site, &second_uid), "category"), "site-name");

    // From the old folder into the new one: that says nothing new.
    let to = folder(&site, "site-name").join("first.dcm");
    fs::rename(text(&first, "path"), &to).unwrap();
    let looked = look(&site);
    assert_eq!(
        (&looked["moved"], &looked["labels"], &looked["pending"]),
        (&1.into(), &0.into(), &0.into()),
        "{looked}"
    );

    site.ok(&["correct", &first_uid, &old]);
    assert_eq!(text(&the(&site, &first_uid), "category"), "site-name");
    daemon.stop();
    site.assert_verified();
}

#[test]
fn a_file_that_people_put_there_is_adopted_and_one_that_is_gone_is_missing_after_two_looks() {
    let (site, daemon, records) = filed(1);
    let [(first, first_folder), _] = two_categories();
    let record = correct(&site, &records[0], &first);
    let (from, aside) = (
        PathBuf::from(text(&record, "path")),
        site.dir.path().join("aside"),
    );
    let new = Mould::new(32).bytes(&uid(900));
    fs::write(folder(&site, &first_folder).join("new.dcm"), &new).unwrap();
    fs::write(
        site.library.join(&first_folder).join("notes.txt"),
        "x".repeat(500),
    )
    .unwrap();
    fs::rename(&from, &aside).unwrap();

    let looked = look(&site);
    assert_eq!(
        (&looked["adopted"], &looked["missing"]),
        (&0.into(), &0.into()),
        "{looked}"
    );
    let looked = look(&site);
    assert_eq!(
        (&looked["adopted"], &looked["missing"]),
        (&1.into(), &1.into()),
        "{looked}"
    );
    let waiting = labels(&site, &["--pending"]);
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (text(&waiting[0], "state"), text(&waiting[0], "category")),
        ("adopted".into(), first.clone())
    );
    assert_eq!(waiting[0]["sop_instance_uid"], *uid(900));
    site.ok(&["labels", "accept", &uid(900)]);
    assert_eq!(text(&the(&site, &uid(900)), "digest"), digest(&new));
    assert_eq!(text(&the(&site, &uid(900)), "labelled"), "adopted");

    // Where it was, it is simply back.
    fs::rename(&aside, &from).unwrap();
    assert_eq!(look(&site)["moved"], 1);
    let back = the(&site, &text(&record, "sop_instance_uid"));
    assert_eq!(
        (text(&back, "state"), text(&back, "category")),
        ("live".into(), first)
    );
    fs::remove_file(site.library.join(&first_folder).join("notes.txt")).unwrap();
    daemon.stop();
    site.assert_verified();
}

#[test]
fn an_older_ledger_beside_a_newer_library_makes_no_labels_and_loses_no_file() {
    let (site, daemon, records) = filed(2);
    let [(first, _), _] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    daemon.stop();
    let backup = site.dir.path().join("backup");
    copy_tree(&site.state.join("ledger"), &backup);

    let mut daemon = site.start();
    let mould = Mould::new(33);
    for n in 10..13 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(5);
    for n in 10..13 {
        correct(&site, &the(&site, &uid(n)), &first);
    }
    daemon.stop();
    let digests = site.digests();

    fs::remove_dir_all(site.state.join("ledger")).unwrap();
    copy_tree(&backup, &site.state.join("ledger"));
    let daemon = site.start();
    assert_eq!(site.records().len(), 2, "as the backup knows it");
    look(&site);
    assert_eq!(
        look(&site)["adopted"],
        0,
        "adopted at the start's look, and once"
    );
    let waiting = labels(&site, &["--pending"]);
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    assert!(waiting.iter().all(|record| record["state"] == "adopted"));
    let accepted = labels(&site, &[]);
    assert_eq!(
        accepted.len() - waiting.len(),
        2,
        "only the labels of the backup: {accepted:?}"
    );
    assert_eq!(site.digests(), digests);
    daemon.stop();
    site.assert_verified();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn correcting_moves_the_file_and_keeps_who_said_what_with_a_daemon_and_without() {
    let (site, daemon, records) = filed(1);
    let [(first, first_folder), (second, second_folder)] = two_categories();
    let uid = text(&records[0], "sop_instance_uid");
    let refused = site.run(&["correct", &uid, &first.replace('-', "")]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("did you mean"),
        "{why}"
    );

    correct(&site, &records[0], &first);
    daemon.stop();
    site.ok(&["correct", &uid, &second, "--note", "seen twice"]);
    let now = the(&site, &uid);
    assert!(Path::new(&text(&now, "path")).starts_with(site.library.join(&second_folder)));
    assert!(
        !site
            .filed()
            .iter()
            .any(|path| path.starts_with(&format!("{first_folder}/")))
    );
    let label = labels(&site, &[]).remove(0);
    assert_eq!(text(&label, "note"), "seen twice");
    assert_eq!(label["by"], rustix::process::getuid().as_raw());
    assert!(
        label["model"].as_str().unwrap().contains("spine"),
        "{label}"
    );
    site.ok(&["confirm", &uid]);
    site.assert_verified();
}
