//! Audits and lists of labels: drawn, judged, written, read back.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/labelled.rs"]
mod labelled;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use common::{Site, phantoms};
use labelled::{correct, filed, folder, labels, look, text, the, two_categories};
use serde_json::Value;

#[test]
fn an_audit_is_drawn_by_its_seed_and_what_is_said_of_its_files_has_that_origin() {
    let (site, daemon, records) = filed(4);
    let [(first, _), _] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    let out = site.dir.path().join("sheets");
    fs::create_dir(&out).unwrap();
    let draw = || {
        site.ok(&[
            "audit",
            "sample",
            "2",
            "--seed",
            "5",
            "--json",
            "--out",
            out.to_str().unwrap(),
        ])
    };
    let told: Value = serde_json::from_str(&draw()).unwrap();
    draw();
    let mut pages: Vec<PathBuf> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    let drawn = |page: &PathBuf| -> Vec<String> {
        let html = fs::read_to_string(page).unwrap();
        assert_eq!(html.matches("data:image/png").count(), 2, "two pictures");
        assert_eq!(fs::metadata(page).unwrap().mode() & 0o777, 0o600);
        let uids = records
            .iter()
            .map(|record| text(record, "sop_instance_uid"));
        uids.filter(|uid| html.contains(&format!("· {uid}<")))
            .collect()
    };
    assert_eq!(pages.len(), 2);
    let sample = drawn(&pages[0]);
    assert_eq!((sample.len(), &sample), (2, &drawn(&pages[1])));
    assert_eq!(
        (&told["seed"], &told["filed"]),
        (&Value::from(5), &Value::from(4))
    );
    assert!(Path::new(told["page"].as_str().unwrap()).exists());
    for file in told["files"].as_array().unwrap() {
        assert!(sample.contains(&text(file, "sop_instance_uid")), "{file}");
        assert!(Path::new(&text(file, "path")).exists(), "{file}");
    }
    for record in &records {
        site.ok(&["confirm", &text(record, "sop_instance_uid")]);
    }
    for record in site.records() {
        let audited = sample.contains(&text(&record, "sop_instance_uid"));
        let origin = if audited { "audit" } else { "correction" };
        assert_eq!(text(&record, "labelled"), origin);
    }
    // Who learns from the labels can tell whether every file of a list was judged.
    let exported = site.ok(&["labels", "export"]);
    let list = format!("{}/2; ", told["list"].as_str().unwrap());
    assert_eq!(exported.matches(&list).count(), 2, "{exported}");
    daemon.stop();
}

#[test]
fn what_is_left_of_an_audit_is_named_until_every_file_is_judged() {
    let site = Site::new();
    for (n, (path, _)) in phantoms(&site.dir.path().join("made"), 8, 41)
        .iter()
        .enumerate()
    {
        fs::rename(path, site.drop.join(format!("{n}.dcm"))).unwrap();
    }
    let mut daemon = site.start();
    daemon.wait_total(8);
    let out = site.dir.path().to_str().unwrap();
    assert!(site.ok(&["audit", "left"]).contains("no audit was drawn"));
    let drawn = site.json(&["audit", "sample", "2", "--json", "--out", out]);
    let list = text(&drawn, "list");
    let files = drawn["files"].as_array().unwrap();
    let [one, other] = [0, 1].map(|n| text(&files[n], "path"));

    let left = |list: &str| site.ok(&["audit", "left", list]);
    let both: Vec<String> = left(&list).lines().map(str::to_owned).collect();
    assert_eq!(both, [one.clone(), other.clone()]);
    site.ok(&["confirm", &one]);
    assert_eq!(left(&list).trim(), other);
    // Also where no service answers.
    daemon.stop();
    let told = site.json(&["audit", "left", "--json"]);
    assert_eq!((&told["files"], &told["judged"]), (&2.into(), &1.into()));
    assert_eq!(text(&told["left"][0], "path"), other);
    site.ok(&["confirm", &other]);
    assert_eq!(left(&list), "");
    assert!(site.ok(&["audit", "left"]).contains(&list));
    assert!(
        !site
            .run(&["audit", "left", "20200101T000000Z"])
            .status
            .success()
    );
}

#[test]
fn moving_a_file_of_an_audit_is_a_judgement_of_that_audit() {
    let (site, daemon, records) = filed(2);
    let [(first, _), (second, second_folder)] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    let out = site.dir.path().to_str().unwrap();
    site.ok(&["audit", "sample", "1", "--seed", "5", "--out", out]);
    for record in site.records() {
        let from = PathBuf::from(text(&record, "path"));
        let to = folder(&site, &second_folder).join(from.file_name().unwrap());
        fs::rename(from, to).unwrap();
    }
    assert_eq!(look(&site)["moved"], 2);
    let mut origins: Vec<String> = Vec::new();
    for record in site.records() {
        assert_eq!(text(&record, "category"), second);
        origins.push(text(&record, "labelled"));
    }
    origins.sort();
    assert_eq!(origins, ["audit", "correction"]);
    daemon.stop();
}

#[test]
fn lists_come_in_and_go_out() {
    let (site, daemon, records) = filed(3);
    let [(first, _), _] = two_categories();
    let list = site.dir.path().join("truth.csv");
    let uids: Vec<String> = records
        .iter()
        .map(|record| text(record, "sop_instance_uid"))
        .collect();
    let rows = format!(
        "sop_instance_uid,category,person\n{},{first},=1+1\n9.9.9,{first},\n{},nonsense,\n",
        uids[0], uids[1]
    );
    fs::write(&list, rows).unwrap();
    let output = site.run(&["labels", "import", list.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        why.contains("9.9.9: no file on record") && why.contains("did you mean"),
        "{why}"
    );
    let now = the(&site, &uids[0]);
    assert_eq!(
        (text(&now, "category"), text(&now, "labelled")),
        (first.clone(), "csv".into())
    );
    assert_eq!(now["path"], records[0]["path"], "a list moves nothing");
    for csv in [
        ["labels", "list", "--csv"].as_slice(),
        &["labels", "export"],
    ] {
        let said = site.ok(csv);
        assert!(
            said.contains(",'=1+1,"),
            "a spreadsheet computes nothing: {said}"
        );
    }

    let export = |words: &[&str]| {
        let all: Vec<&str> = ["labels", "export"].iter().chain(words).copied().collect();
        let mut csv = csv::Reader::from_reader(std::io::Cursor::new(site.ok(&all)));
        let rows: Vec<std::collections::BTreeMap<String, String>> =
            csv.deserialize().map(Result::unwrap).collect();
        rows
    };
    let rows = export(&[]);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["category"], rows[0]["origin"].as_str()),
        (&first, "csv")
    );
    assert_eq!(rows[0]["digest"], text(&now, "digest"));
    assert_eq!(rows[0]["patient"].len(), 32, "a pseudonym");
    let untouched = export(&["--untouched"]);
    let filed = site
        .records()
        .iter()
        .filter(|record| record["fate"] == "filed" && record["labelled"].is_null())
        .count();
    assert_eq!(untouched.len(), 1 + filed);
    daemon.stop();
}

#[test]
fn a_label_that_comes_back_in_a_list_keeps_its_origin_and_who_said_it_when() {
    let (site, daemon, records) = filed(3);
    let [(first, _), (second, _)] = two_categories();
    for record in &records {
        correct(&site, record, &first);
    }
    let out = site.dir.path().to_str().unwrap();
    site.ok(&["audit", "sample", "3", "--seed", "5", "--out", out]);
    let uids: Vec<String> = records
        .iter()
        .map(|record| text(record, "sop_instance_uid"))
        .collect();
    let all: Vec<&str> = uids.iter().map(String::as_str).collect();
    site.ok(&[&["confirm"], &all[..]].concat());
    let before = labels(&site, &[]);
    assert!(before.iter().all(|label| label["origin"] == "audit"));

    let list = site.dir.path().join("labels.csv");
    let list = list.to_str().unwrap();
    site.ok(&["labels", "export", "--out", list]);
    let told = site.ok(&["labels", "import", list]);
    assert!(
        told.contains("0 of 3 labels imported, 3 were there already"),
        "{told}"
    );
    assert_eq!(labels(&site, &[]), before);

    // Another category is another label, and says who gives it.
    let row = format!("{},{second},reader 1,=seen twice,csv\n", uids[0]);
    let rows = format!("sop_instance_uid,category,person,note,origin\n{row}");
    fs::write(list, rows).unwrap();
    site.ok(&["labels", "import", list]);
    site.ok(&["labels", "export", "--out", list]);
    let exported: Vec<std::collections::BTreeMap<String, String>> = csv::Reader::from_path(list)
        .unwrap()
        .deserialize()
        .map(Result::unwrap)
        .collect();
    let row = exported
        .iter()
        .find(|row| row["sop_instance_uid"] == uids[0]);
    let row = row.unwrap();
    assert_eq!((&row["category"], row["origin"].as_str()), (&second, "csv"));
    assert_eq!(row["person"], "reader 1");
    assert_eq!(row["note"], "'=seen twice", "no spreadsheet computes it");
    assert_eq!(row["by"], rustix::process::getuid().as_raw().to_string());
    daemon.stop();
    site.assert_verified();
}

#[test]
fn what_nobody_has_looked_at_becomes_no_label_by_way_of_a_list() {
    let (site, daemon, records) = filed(1);
    let [(first, _), _] = two_categories();
    let uid = text(&records[0], "sop_instance_uid");
    let list = site.dir.path().join("labels.csv");
    for (word, problem) in [
        ("untouched", "nobody has looked at it"),
        ("Untouched ", "nobody has looked at it"),
        ("unseen", "line 2: the origin \"unseen\" is not known"),
    ] {
        let rows = format!("sop_instance_uid,category,origin\n{uid},{first},{word}\n");
        fs::write(&list, rows).unwrap();
        let output = site.run(&["labels", "import", list.to_str().unwrap()]);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(why.contains(problem), "{why}");
    }
    assert!(labels(&site, &[]).is_empty());
    daemon.stop();
}
