//! How a bundle is judged, and what may be promised about it: `evaluate` and `--target`, on the real binary.

#![cfg(feature = "retrain")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/training.rs"]
mod training;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Site;
use serde_json::Value;
use training::{call_patients, draw, filled_down, images, last_line, site, text};

#[test]
fn a_bundle_is_judged_by_folders_and_by_a_list_alike() {
    let site = site();
    let images = images(&site, 30, 11);
    let by_folders = last_line(&site, &["evaluate", "--json", "--from", text(&images)]);
    let list = images.join("labels.csv");
    let by_list = last_line(&site, &["evaluate", "--json", "--labels", text(&list)]);
    let mut here = site.command(&["evaluate", "--json", "--labels", "labels.csv"]);
    let said = here.current_dir(&images).output().unwrap();
    let by_bare_name: Value = serde_json::from_slice(&said.stdout).unwrap();
    for report in [&by_folders, &by_list, &by_bare_name] {
        assert_eq!(report["judged"][0]["judgement"]["images"], 30, "{report:#}");
        let right = report["judged"][0]["judgement"]["accuracy"]["part"]
            .as_u64()
            .unwrap();
        assert!(right >= 27, "{report:#}");
    }
    assert_eq!(
        by_folders["judged"][0]["judgement"]["confusion"],
        by_list["judged"][0]["judgement"]["confusion"]
    );
}

#[test]
fn an_audit_that_was_given_up_in_the_middle_promises_nothing() {
    let site = site();
    let images = images(&site, 20, 64);
    let mut files = common::files(&images);
    files.retain(|file| file.extension().is_some_and(|it| it == "dcm"));
    let list = site.dir.path().join("audited.csv");
    let promised = |drawn: usize| {
        let mut rows = String::from("path,category,origin,audit\n");
        for file in &files {
            let category = file.parent().unwrap().file_name().unwrap();
            let category = category.to_str().unwrap();
            writeln!(rows, "{},{category},audit,A/{drawn}", text(file)).unwrap();
        }
        fs::write(&list, rows).unwrap();
        let words = ["evaluate", "--json", "--labels", text(&list), "--complete"];
        let promise = last_line(&site, &words)["promise"].clone();
        let why = promise["why"].as_str().unwrap().to_owned();
        (promise["images"].as_u64().unwrap(), why)
    };
    let (images, why) = promised(files.len());
    assert!(
        images > 0 && why.contains("All 20 files of audit A were judged"),
        "{why}"
    );
    let (images, why) = promised(files.len() + 3);
    assert!(
        images == 0 && why.contains("3 were judged by nobody"),
        "{why}"
    );
}

#[test]
fn a_list_with_images_that_nobody_has_judged_or_that_were_picked_promises_nothing() {
    let site = site();
    let images = images(&site, 20, 65);
    let mut files = common::files(&images);
    files.retain(|file| file.extension().is_some_and(|it| it == "dcm"));
    let list = site.dir.path().join("judged.csv");
    let promised = |first: &str, others: &str, complete: bool| {
        let mut rows = String::from("path,category,origin\n");
        for (k, file) in files.iter().enumerate() {
            let category = file.parent().unwrap().file_name().unwrap();
            let category = category.to_str().unwrap();
            let origin = if k < 3 { first } else { others };
            writeln!(rows, "{},{category},{origin}", text(file)).unwrap();
        }
        fs::write(&list, rows).unwrap();
        let mut words = vec!["evaluate", "--json", "--labels", text(&list)];
        words.extend(complete.then_some("--complete"));
        let promise = last_line(&site, &words)["promise"].clone();
        let why = promise["why"].as_str().unwrap().to_owned();
        (promise["images"].as_u64().unwrap(), why)
    };
    assert!(promised("csv", "", true).0 > 0);
    for (first, others, complete, told) in [
        (
            "untouched",
            "",
            true,
            "not complete: 3 of its images cannot",
        ),
        ("correction", "", true, "not complete: 3 of its images were"),
        ("audit", "audit", false, "20 labels are of an audit"),
        ("csv", "csv", false, "No label comes from a finished audit"),
    ] {
        let (images, why) = promised(first, others, complete);
        assert!(images == 0 && why.contains(told), "{first}: {why}");
    }
    let words = [
        "retrain",
        "--dry-run",
        "--complete",
        "--labels",
        text(&list),
    ];
    promised("untouched", "", true);
    let told = String::from_utf8_lossy(&site.run(&words).stderr).into_owned();
    assert!(told.contains("not complete: 3 of its images"), "{told}");
}

#[test]
fn a_stated_error_rate_is_carried_by_the_bundle_and_what_cannot_be_certified_goes_to_review() {
    let site = site();
    let images = images(&site, 90, 20);
    let list = images.join("labels.csv");
    let out = site.dir.path().join("promising");
    let report = last_line(
        &site,
        &[
            "retrain",
            "--json",
            "--few-patients",
            "--classifier",
            "lateral",
            "--labels",
            text(&list),
            "--complete",
            "--target",
            "0.02",
            "--out",
            text(&out),
        ],
    );
    // Some twenty images cannot show that at most 2 % are wrong.
    assert_eq!(
        report["report"]["promise"]["verdict"], "no-guarantee",
        "{:#}",
        report["report"]["promise"]
    );
    let manifest = fs::read_to_string(out.join("bundle.toml")).unwrap();
    assert!(
        manifest.contains("[promise]") && manifest.contains("target = 0.02"),
        "{manifest}"
    );
    site.ok(&["models", "import", text(&out)]);
    let listed = site.ok(&["models", "list", "--json"]);
    let kept: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let folder = kept
        .iter()
        .find_map(|it| {
            it["folder"]
                .as_str()
                .filter(|it| it.contains('+') || it.contains("20"))
        })
        .unwrap_or_else(|| panic!("{listed}"));
    site.ok(&["models", "promote", folder]);

    let mut daemon = site.start();
    let status = site.json(&["status", "--json"]);
    assert!(
        status["model"]["promise"]
            .as_str()
            .unwrap()
            .contains("no guarantee"),
        "{status:#}"
    );
    let lateral = common::files(&images.join("lateral-preop"));
    for (n, file) in lateral.iter().take(3).enumerate() {
        fs::copy(file, site.drop.join(format!("{n}.dcm"))).unwrap();
    }
    daemon.wait_total(3);
    daemon.stop();
    let reasons = |site: &Site| -> Vec<String> {
        site.records()
            .iter()
            .map(|it| it["reason"].as_str().unwrap_or("filed").to_owned())
            .collect()
    };
    assert!(
        reasons(&site).contains(&"uncertified-category".to_owned()),
        "{:?}",
        reasons(&site)
    );
    assert!(
        !reasons(&site).contains(&"filed".to_owned()),
        "{:?}",
        reasons(&site)
    );

    // The site answers for it itself.
    let mut config = fs::read_to_string(&site.config).unwrap();
    config.push_str("\n[review]\nuncertified = \"file\"\n");
    fs::write(&site.config, config).unwrap();
    let mut daemon = site.start();
    for (n, file) in lateral.iter().skip(3).take(3).enumerate() {
        fs::copy(file, site.drop.join(format!("{}.dcm", n + 3))).unwrap();
    }
    daemon.wait_total(6);
    daemon.stop();
    assert!(
        reasons(&site).contains(&"filed".to_owned()),
        "{:?}",
        reasons(&site)
    );
}

#[test]
fn images_of_no_category_are_reported_apart_near_and_far() {
    let site = site();
    let images = images(&site, 20, 21);
    let near = site.dir.path().join("near");
    let words = [
        ["--size", "400x640"],
        ["--outside", "1"],
        ["--outside-kind", "cervical,supine"],
        ["--count", "8"],
        ["--seed", "5"],
    ];
    draw(&near, "explicit", words.as_flattened());
    let page = site.dir.path().join("report.html");
    let report = last_line(
        &site,
        &[
            "evaluate",
            "--json",
            "--from",
            text(&images),
            "--near",
            text(&near),
            "--report",
            text(&page),
        ],
    );
    let outside = report["outside"].as_array().unwrap();
    let names = |distance: &str| -> Vec<&str> {
        let sets = outside.iter().filter(|set| set["distance"] == distance);
        sets.map(|set| set["name"].as_str().unwrap()).collect()
    };
    let near = [
        "chest phantoms",
        "cervical phantoms",
        "supine phantoms",
        "those of the folder",
    ];
    assert_eq!(names("near"), near, "{outside:#?}");
    let far = [
        "noise",
        "black",
        "photograph-like",
        "plain grey and stripes",
    ];
    assert_eq!(names("far"), far, "{outside:#?}");
    let [mut kept, mut whole] = [0, 0];
    for set in outside {
        let count = |key: &str| set["kept-back"][key].as_u64().unwrap();
        match set["name"].as_str().unwrap() {
            "those of the folder" => assert_eq!(count("whole"), 8, "{set:#?}"),
            "plain grey and stripes" => assert_eq!(count("whole"), 32, "{set:#?}"),
            _ => assert_eq!(count("whole"), 16, "{set:#?}"),
        }
        if set["distance"] == "far" {
            kept += count("part");
            whole += count("whole");
        }
    }
    assert!(kept * 100 >= whole * 95, "{outside:#?}");
    assert_eq!(
        report["judged"][0]["judgement"]["images"], 20,
        "they count nowhere else"
    );
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("belong under no category")
    );
}

/// Small phantoms, each of a patient of its own, and the list of them.
fn of_different_patients(site: &Site, count: usize, seed: u64) -> PathBuf {
    let dir = site.dir.path().join("different");
    let (count, seed) = (count.to_string(), seed.to_string());
    let words = [
        ["--size", "300x480"],
        ["--outside", "0"],
        ["--count", &count],
        ["--seed", &seed],
    ];
    draw(&dir, "explicit", words.as_flattened());
    call_patients(&dir, |file, _| {
        text(file).to_owned().split_off(text(&dir).len())
    });
    filled_down(&dir.join("labels.csv"))
}

#[test]
fn a_promise_that_fresh_images_keep_is_carried_by_a_new_version_and_another_is_not_written() {
    let site = site();
    let list = of_different_patients(&site, 480, 31);
    let out = site.dir.path().join("certified");
    let certify = |target: &str| {
        site.run(&[
            "evaluate",
            "--json",
            "--labels",
            text(&list),
            "--complete",
            "--target",
            target,
            "--certified",
            text(&out),
            "--as-version",
            "9.0.0",
        ])
    };
    let refused = certify("0.0001");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("not certified") && !out.exists(),
        "{why}"
    );

    let kept = certify("0.2");
    let report: Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert!(kept.status.success(), "{report:#}");
    assert_eq!(report["promise"]["verdict"], "kept", "{report:#}");
    let (before, after) = (common::shipped_bundle(), &out);
    for network in ["view.onnx", "frontal.onnx", "lateral.onnx", "report.html"] {
        let bytes = |folder: &Path| fs::read(folder.join(network)).unwrap();
        assert_eq!(bytes(&before), bytes(after), "{network}");
    }
    let card = fs::read_to_string(out.join("model-card.md")).unwrap();
    assert!(card.starts_with("# spine-phantom 9.0.0\n"), "{card}");
    assert!(
        card.contains("At most 20.0 %")
            && !card.contains("No guarantee")
            && card.contains("## Digests"),
        "{card}"
    );
    // Without the site's state nobody knows who was learned from.
    let mut alone = Command::new(common::RADSORT);
    alone.env("RADSORT_CONFIG", "/nonexistent/radsort.toml");
    alone.args(["evaluate", "--labels", text(&list), "--complete"]);
    let alone = alone
        .args(["--certified", "/nonexistent/x"])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&alone.stderr);
    assert!(!alone.status.success() && why.contains("--unseen"), "{why}");
    let again = certify("0.2");
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && why.contains("cannot make"),
        "{why}"
    );

    site.ok(&["models", "import", text(&out)]);
    site.ok(&["models", "promote", "9.0.0"]);
    // The bundle in use is judged also where the environment says which configuration is meant.
    let mut known = Command::new(common::RADSORT);
    known.args(["evaluate", "--json", "--labels", text(&list)]);
    let known = known.env("RADSORT_CONFIG", &site.config).output().unwrap();
    let told: Value = serde_json::from_slice(&known.stdout).unwrap();
    assert_eq!(told["title"], "spine-phantom 9.0.0");
    let promise = |site: &Site| {
        let daemon = site.start();
        let status = site.json(&["status", "--json"]);
        daemon.stop();
        status["model"]["promise"].as_str().unwrap().to_owned()
    };
    let told = promise(&site);
    assert!(
        told.starts_with("at most 20 % of what it files is wrong"),
        "{told}"
    );
    let mut config = fs::read_to_string(&site.config).unwrap();
    config.push_str("\n[review]\nuncertified = \"file\"\n");
    fs::write(&site.config, config).unwrap();
    let told = promise(&site);
    assert!(told.contains("does not hold here"), "{told}");
}

#[test]
fn patients_whom_a_site_s_models_learned_from_promise_nothing() {
    let site = site();
    let images = images(&site, 60, 32);
    let list = images.join("labels.csv");
    let judged = |site: &Site| {
        let words = ["evaluate", "--json", "--labels", text(&list), "--complete"];
        last_line(site, &words)["promise"].clone()
    };
    let before = judged(&site);
    let out = site.dir.path().join("trained");
    site.ok(&[
        "retrain",
        "--few-patients",
        "--classifier",
        "lateral",
        "--labels",
        text(&list),
        "--complete",
        "--out",
        text(&out),
    ]);
    let after = judged(&site);
    let count = |promise: &Value| promise["images"].as_u64().unwrap();
    // One image a patient, and some four of five patients were fitted on.
    assert!(
        count(&before) >= 15 && count(&after) * 3 < count(&before) && count(&after) > 0,
        "{before:#} {after:#}"
    );
    let left_out = |promise: &Value| {
        let left_out = &promise["left-out"]["the patient was used to fit the model or its limits"];
        left_out.as_u64().unwrap()
    };
    assert!(left_out(&after) > 30, "{after:#}");
    // Another list may call them what it likes.
    let filled = filled_down(&list);
    let words = [
        "evaluate",
        "--json",
        "--complete",
        "--labels",
        text(&filled),
    ];
    let report = last_line(&site, &words);
    let renamed = &report["promise"];
    assert_eq!(left_out(renamed), left_out(&after), "{renamed:#}");
    assert_eq!(renamed["images"], after["images"]);

    // What is judged is told, and looks at golden images are counted.
    let known = |report: &Value| {
        let of = |key: &str| report["known"][key].as_u64().unwrap();
        (of("images"), of("fitted"), of("golden"), of("golden-looks"))
    };
    let (images_judged, fitted, golden, looks) = known(&report);
    assert_eq!((images_judged, fitted), (60, left_out(&after)));
    assert!(golden > 0 && looks > 1, "{golden} {looks}");
    let told = site.ok(&["evaluate", "--labels", text(&list)]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let words_of_it = format!("{fitted} of the 60 judged images are of patients");
    assert!(told.contains(&words_of_it), "{told}");
    let sides = fs::read(site.state.join("retrain/sides.json")).unwrap();
    let sides: Value = serde_json::from_slice(&sides).unwrap();
    assert_eq!(sides["golden_looks"].as_u64().unwrap(), looks + 1);

    // The same pictures are recognised also where nothing else is the same.
    call_patients(&images, |_, patient| format!("other {patient}"));
    let other = last_line(&site, &["evaluate", "--json", "--from", text(&images)]);
    let like = other["data"]["left-out"].as_array().unwrap().iter();
    let like =
        like.filter(|it| it[0] == "a picture like one that a model of this site was trained on");
    let like: Vec<u64> = like.map(|it| it[1].as_u64().unwrap()).collect();
    assert_eq!(like, [fitted], "{other:#}");
    assert_eq!(known(&other).1, 0);
}

#[test]
fn a_patient_has_one_side_whichever_way_the_labels_come_and_nobody_s_id_is_kept() {
    let site = site();
    // Who is on which side hangs on the site's key: so many that each class is on every side whatever the key.
    let images = images(&site, 90, 33);
    let list = images.join("labels.csv");
    let trained = |source: &[&str], name: &str| -> Value {
        let out = site.dir.path().join(name);
        let words = [
            "retrain",
            "--few-patients",
            "--classifier",
            "frontal",
            "--out",
        ];
        site.ok(&[&words[..], &[text(&out)], source].concat());
        let sides = fs::read_to_string(site.state.join("retrain/sides.json")).unwrap();
        serde_json::from_str::<Value>(&sides).unwrap()["patients"].clone()
    };
    let by_folders = trained(&["--from", text(&images)], "one");
    let by_list = trained(&["--labels", text(&list)], "two");
    assert!(by_folders.as_object().unwrap().len() > 5, "{by_folders:#}");
    assert_eq!(by_folders, by_list);

    let truth = fs::read_to_string(&list).unwrap();
    let column = truth.lines().next().unwrap().split(',');
    let column = column.into_iter().position(|name| name == "patient");
    let ids: Vec<&str> = truth
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(column.unwrap()).unwrap())
        .collect();
    for file in common::files(&site.state) {
        let bytes = fs::read(&file).unwrap();
        for id in &ids {
            let found = bytes.windows(id.len()).any(|it| it == id.as_bytes());
            assert!(!found, "{} holds {id}", file.display());
        }
    }
}

#[test]
fn the_library_is_no_folder_that_people_have_sorted() {
    let site = site();
    let images = images(&site, 10, 34);
    let mut daemon = site.start();
    let files = common::files(&images);
    let files = files
        .iter()
        .filter(|file| file.extension() == Some("dcm".as_ref()));
    for (k, file) in files.enumerate() {
        fs::copy(file, site.drop.join(format!("{k}.dcm"))).unwrap();
    }
    daemon.wait_total(10);
    daemon.stop();
    let filed = site.filed();
    let folder = filed.iter().find(|path| !path.starts_with('_')).unwrap();
    let folder = folder.split('/').next().unwrap();
    let linked = site.dir.path().join("linked");
    fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(site.library.join(folder), linked.join(folder)).unwrap();

    let (around, within) = (site.library.parent().unwrap(), site.library.join(folder));
    for from in [&site.library, &within, &linked, &around.to_owned()] {
        for verb in [&["retrain", "--dry-run"][..], &["evaluate"]] {
            let refused = site.run(&[verb, &["--from", text(from)]].concat());
            let why = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{why}");
            assert!(why.contains("Leave --from away"), "{verb:?}: {why}");
        }
    }
}

#[test]
fn a_site_where_nobody_has_said_anything_is_told_how_to() {
    let site = site();
    for verb in [&["retrain", "--dry-run"][..], &["evaluate"]] {
        let refused = site.run(verb);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{why}");
        for what in [
            "no image can be used",
            "radsort audit sample",
            "--trust-untouched",
        ] {
            assert!(why.contains(what), "{verb:?}: {why}");
        }
    }
}
