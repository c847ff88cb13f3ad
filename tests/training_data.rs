//! What `retrain` learns from, what it leaves out and what it refuses, on the real binary.

#![cfg(feature = "retrain")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/mount.rs"]
mod mount;
#[path = "common/training.rs"]
mod training;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Mould, Site, uid};
use mount::Mount;
use serde_json::Value;
use training::{call_patients, draw, filled_down, images, images_with, site, text};

#[test]
fn a_dry_run_says_what_there_is_and_keeps_nothing() {
    let site = site();
    let images = images(&site, 20, 12);
    let output = site.run(&["retrain", "--dry-run", "--from", text(&images)]);
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("20 images of") && told.contains("golden"),
        "{told}"
    );
    assert!(told.contains("too few: "), "{told}");
    assert!(!site.state.join("retrain/sides.json").exists());
    assert!(!site.state.join("models").exists());
}

#[test]
fn a_small_disk_is_left_to_the_service_and_a_training_does_without() {
    let site = Site::without_model();
    let small = "size=64m,mode=0700";
    let Some(_mount) = Mount::new(&site.state, &["mount", "-t", "tmpfs", "-o", small, "tmpfs"])
    else {
        return;
    };
    let mut daemon = site.start();
    let images = images_with(&site, 40, 26, "0.2");
    let out = site.dir.path().join("trained");
    let from = ["retrain", "--few-patients", "--from", text(&images)];
    let training = ["--classifier", "view", "--mode", "full", "--epochs", "1"];
    let training = [&from[..], &training, &["--out", text(&out)]].concat();
    let dry = [&from[..], &["--dry-run"]].concat();
    for (words, no_checkpoint) in [(&dry, 0), (&training, 1)] {
        let output = site.run(words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        let times = |what| told.matches(what).count();
        assert_eq!(times("prepared pictures are not kept"), 1, "{told}");
        assert_eq!(times("there is no room for checkpoint"), no_checkpoint);
        assert!(!site.state.join("retrain/cache").exists());
    }
    assert!(out.join("bundle.toml").exists());
    site.put("1.dcm", &Mould::new(82).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.stop();
}

#[test]
fn names_of_folders_and_what_lists_say_are_told_to_people_and_written_nowhere() {
    let site = site();
    let images = images(&site, 12, 12);
    let folder = images.join("ZZDOE PLANT 19771231");
    fs::create_dir(&folder).unwrap();
    for name in ["a.dcm", "b.dcm"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    let list = images.join("list.csv");
    let known = common::files(&images)
        .into_iter()
        .find(|file| file.extension().is_some_and(|it| it == "dcm"))
        .unwrap();
    let category = text(known.parent().unwrap()).rsplit('/').next().unwrap();
    let rows = format!(
        "path,category\n{},{category}\nx.dcm,zzdoe-plant\n",
        text(&known)
    );
    fs::write(&list, rows).unwrap();
    let report = site.dir.path().join("report.html");
    let from = ["--from", text(&images), "--report", text(&report)];
    let plan = ["retrain", "--dry-run", "--json", "--labels", text(&list)];
    for words in [&[&["evaluate", "--json"], &from[..]].concat()[..], &plan] {
        let output = site.run(words);
        let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(output.status.success() && told.contains("zzdoe"), "{told}");
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let written = written + &fs::read_to_string(&report).unwrap();
        assert!(!written.to_lowercase().contains("zzdoe"), "{words:?}");
    }
    let dry = ["retrain", "--dry-run", "--json", "--from", text(&images)];
    let plan: Value = serde_json::from_slice(&site.run(&dry).stdout).unwrap();
    assert_eq!(plan["left_out"]["in a folder that is no category"], 2);
    assert_eq!(plan["device"], "cpu");
}

#[test]
fn a_file_that_holds_other_bytes_than_were_judged_is_not_learned_from() {
    let site = site();
    let images = images(&site, 20, 63);
    let mut rows = String::from("path,category,digest,origin\n");
    let mut files = common::files(&images);
    files.retain(|file| file.extension().is_some_and(|it| it == "dcm"));
    for (k, file) in files.iter().enumerate() {
        let category = file.parent().unwrap().file_name().unwrap();
        let judged = if k == 0 {
            b"others".to_vec()
        } else {
            fs::read(file).unwrap()
        };
        let digest = common::digest(&judged);
        let category = category.to_str().unwrap();
        rows.extend([text(file), ",", category, ",", &digest, ",audit\n"]);
    }
    let list = site.dir.path().join("judged.csv");
    fs::write(&list, rows).unwrap();
    let output = site.run(&["retrain", "--dry-run", "--labels", text(&list)]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("19 images of") && told.contains("1 not the bytes any more"),
        "{told}"
    );
}

#[test]
fn classes_with_too_few_patients_are_refused_with_counts() {
    let site = site();
    let list = images(&site, 60, 12).join("labels.csv");
    let refused = || {
        let output = site.run(&["retrain", "--labels", text(&list)]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = refused();
    assert!(
        why.contains("patients for test") && why.contains("--few-patients"),
        "{why}"
    );
    assert!(!why.contains("is given up"), "{why}");
    // What a training that was killed leaves.
    fs::write(site.state.join("retrain/run/view.safetensors"), "").unwrap();
    let why = refused();
    assert!(
        why.contains("is given up") && why.contains("retrain/run"),
        "{why}"
    );
}

/// A list without the images of one category.
fn without(list: &Path, category: &str) -> PathBuf {
    let truth = fs::read_to_string(list).unwrap();
    let lines = truth.lines().filter(|line| !line.contains(category));
    let other = list.with_file_name("without.csv");
    fs::write(&other, lines.collect::<Vec<_>>().join("\n")).unwrap();
    other
}

#[test]
fn a_classifier_is_not_trained_without_images_of_one_of_its_classes() {
    let site = site();
    let list = images(&site, 60, 21).join("labels.csv");
    let refused = |words: &[&str]| {
        let output = site.run(&[&["retrain", "--few-patients"], words].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = refused(&["--classifier", "view", "--labels", text(&list)]);
    assert!(
        why.contains("classifier view: no image to learn from shows neither"),
        "{why}"
    );
    let list = without(&list, "lateral-tether");
    let why = refused(&["--labels", text(&list)]);
    assert!(
        why.contains("shows lateral-tether") && why.contains("--remove-category lateral-tether"),
        "{why}"
    );
    assert!(!site.state.join("retrain/sides.json").exists());
    let words = [
        "retrain",
        "--dry-run",
        "--few-patients",
        "--labels",
        text(&list),
    ];
    let told = String::from_utf8_lossy(&site.run(&words).stderr).into_owned();
    assert!(
        told.contains("would be refused: classifier lateral"),
        "{told}"
    );
}

#[test]
fn numbers_that_train_nothing_are_wrong_usage() {
    let site = site();
    for wrong in [
        "--epochs=0",
        "--batch=0",
        "--learning-rate=-1",
        "--learning-rate=nan",
        "--learning-rate=inf",
        "--backbone-rate=-0.1",
        "--backbone-rate=nan",
        "--hidden=100000000",
        "--as-version=../1",
    ] {
        let output = site.run(&["retrain", "--mode", "full", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn what_is_said_of_the_other_mode_is_wrong_usage_and_not_passed_over() {
    let site = site();
    for (words, told) in [
        (
            &["--epochs", "3"][..],
            "--epochs says something of --mode full",
        ),
        (
            &["--mode", "head", "--freeze-norms"],
            "and this is --mode head",
        ),
        (
            &["--mode", "full", "--hidden", "8"],
            "--hidden says something of --mode head",
        ),
        (
            &["--init", "efficientnet-b0", "--hidden", "8"],
            "this is --mode full",
        ),
    ] {
        let output = site.run(&[&["retrain", "--dry-run"], words].concat());
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {why}");
        assert!(why.contains(told), "{words:?}: {why}");
    }
}

/// The same pictures twice, compressed otherwise and under other patients' names; gives the list.
fn copied_under_other_names(site: &Site, count: usize) -> PathBuf {
    let mut list = vec!["path,category".to_owned()];
    for (name, syntax) in [("A", "explicit"), ("B", "jpeg-lossless")] {
        let dir = site.dir.path().join(name);
        let count = count.to_string();
        let size = ["--size", "400x640", "--outside", "0", "--seed", "17"];
        draw(&dir, syntax, &[&size[..], &["--count", &count]].concat());
        call_patients(&dir, |_, patient| format!("{name}{patient}"));
        let truth = fs::read_to_string(dir.join("labels.csv")).unwrap();
        for (k, line) in truth.lines().skip(1).enumerate() {
            let category = line.split(',').nth(1).unwrap();
            list.push(format!("{name}/{:06}.dcm,{category}", k + 1));
        }
    }
    let path = site.dir.path().join("list.csv");
    fs::write(&path, list.join("\n")).unwrap();
    path
}

#[test]
fn a_leaking_split_is_refused_and_learned_from_without_the_copies_when_told_to() {
    let site = site();
    let list = copied_under_other_names(&site, 30);
    let train = |more: &[&str]| {
        let words = ["retrain", "--few-patients", "--labels", text(&list)];
        site.run(&[&words, more].concat())
    };
    let refused = train(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        why.contains("nearly the same") && why.contains("B/0000") && why.contains(") is like /"),
        "{why}"
    );
    assert!(!site.state.join("retrain/sides.json").exists());
    let told = String::from_utf8_lossy(&train(&["--dry-run"]).stderr).into_owned();
    assert!(told.contains("would be refused"), "{told}");
    let without = train(&["--dry-run", "--leave-out-copies"]);
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(
        without.status.success()
            && told.contains("left out: ")
            && !told.contains("images are nearly the same"),
        "{told}"
    );
}

#[test]
fn a_placeholder_is_one_patient_a_study_in_a_list_too() {
    let site = site();
    let images = images(&site, 30, 18);
    let list = images.join("nobody.csv");
    let truth = fs::read_to_string(images.join("labels.csv")).unwrap();
    let rows: Vec<String> = truth
        .lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            format!("{},{},ANON", cells[0], cells[1])
        })
        .collect();
    fs::write(
        &list,
        format!("sop_instance_uid,category,patient\n{}", rows.join("\n")),
    )
    .unwrap();
    let by_header = site.run(&["retrain", "--dry-run", "--from", text(&images)]);
    let by_list = site.run(&["retrain", "--dry-run", "--labels", text(&list)]);
    let patients = |output: &std::process::Output| {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let from = told.find("30 images of ").unwrap();
        let count = told[from + 13..].split(' ').next().unwrap();
        count.parse::<usize>().unwrap()
    };
    // The files say who the patients are.
    assert_eq!(patients(&by_list), patients(&by_header));
    assert!(patients(&by_list) > 5);
}

#[test]
fn a_list_with_a_name_a_row_makes_no_more_patients_than_the_files_know() {
    let site = site();
    let images = images(&site, 30, 28);
    let planned = |source: &[&str]| {
        let output = site.run(&[&["retrain", "--dry-run", "--json"], source].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        (plan, told)
    };
    let (by_header, _) = planned(&["--from", text(&images)]);
    let list = filled_down(&images.join("labels.csv"));
    let (by_list, told) = planned(&["--labels", text(&list)]);
    assert_eq!(by_list["patients"], by_header["patients"]);
    let (names, people) = (&by_list["joined_names"], &by_list["joined_people"]);
    assert!(names.as_u64() > people.as_u64(), "{by_list:#}");
    assert_eq!(by_header["joined_names"], 0);
    let line = format!("{names} names are {people} people, as the Patient IDs or studies");
    assert!(told.contains(&line), "{told}");
}

#[test]
fn what_nobody_has_looked_at_is_learned_from_only_when_told_to_and_where_the_model_was_sure() {
    let site = site();
    let images = images(&site, 40, 19);
    let mut daemon = site.start();
    let files: Vec<PathBuf> = common::files(&images)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|it| it == "dcm"))
        .collect();
    for (k, file) in files.iter().enumerate() {
        fs::copy(file, site.drop.join(format!("{k}.dcm"))).unwrap();
    }
    daemon.wait_total(files.len() as u64);
    let records = site.records();
    let filed: Vec<&Value> = records.iter().filter(|it| it["fate"] == "filed").collect();
    let (seen, untouched) = filed.split_at(filed.len() / 2);
    let uids = seen
        .iter()
        .map(|it| it["sop_instance_uid"].as_str().unwrap());
    site.ok(&[vec!["confirm"], uids.collect()].concat());
    daemon.stop();

    let told = |more: &[&str]| {
        let words = ["retrain", "--dry-run", "--leave-out-copies"];
        let output = site.run(&[&words, more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let without = told(&[]);
    assert!(
        without.contains(&format!("{} images of ", seen.len())) && !without.contains("images more"),
        "{without}"
    );
    let all = told(&["--trust-untouched=0"]);
    assert!(
        all.contains(&format!("{} images of ", filed.len())) && all.contains("images more"),
        "{all}"
    );
    let sure = |it: &&&Value| it["confidence"].as_f64().unwrap() >= 0.9;
    let count = seen.len() + untouched.iter().filter(sure).count();
    let some = told(&["--trust-untouched=0.9"]);
    assert!(some.contains(&format!("{count} images of ")), "{some}");
    // Whoever has taken a file out of its category's folder has touched it.
    let moved = PathBuf::from(untouched[0]["path"].as_str().unwrap());
    let trash = site.library.join("trash");
    fs::create_dir(&trash).unwrap();
    fs::rename(&moved, trash.join(moved.file_name().unwrap())).unwrap();
    site.ok(&["labels", "look"]);
    let others = told(&["--trust-untouched=0"]);
    let left = filed.len() - 1;
    assert!(others.contains(&format!("{left} images of ")), "{others}");
    assert!(
        !site
            .run(&["retrain", "--trust-untouched=2"])
            .status
            .success()
    );
}

#[test]
fn whoever_is_learned_from_unseen_is_known_as_a_training_patient_ever_after() {
    let site = site();
    let list = images(&site, 120, 24).join("labels.csv");
    let truth = fs::read_to_string(&list).unwrap();
    let mut rows = vec!["sop_instance_uid,category,patient,origin,confidence".to_owned()];
    let mut unseen = Vec::new();
    for line in truth.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [uid, category, patient] = cells[..3] else {
            panic!("{line}")
        };
        // As `labels export` writes it: a pseudonym, which stays what it is.
        let pseudonym = common::digest(patient.as_bytes())[..32].to_owned();
        let mut origin = "correction";
        if patient.bytes().map(u32::from).sum::<u32>() % 3 == 0 {
            origin = "untouched";
            unseen.push(pseudonym.clone());
        }
        rows.push(format!("{uid},{category},{pseudonym},{origin},0.999"));
    }
    fs::write(&list, rows.join("\n")).unwrap();
    let out = site.dir.path().join("trusting");
    site.ok(&[
        "retrain",
        "--few-patients",
        "--classifier",
        "lateral",
        "--trust-untouched",
        "--labels",
        text(&list),
        "--out",
        text(&out),
    ]);
    let sides = fs::read(site.state.join("retrain/sides.json")).unwrap();
    let sides: Value = serde_json::from_slice(&sides).unwrap();
    assert!(unseen.len() > 20, "{}", unseen.len());
    for patient in unseen {
        assert_eq!(sides["patients"][&patient], "training", "{patient}");
    }
}
