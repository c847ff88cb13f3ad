//! Trainings that are killed, go on, or do not fit into memory, on the real binary.

#![cfg(feature = "retrain")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/training.rs"]
mod training;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::Site;
use serde_json::Value;
use training::{images, images_with, put_all, site, text, weights};

/// All weights of a classifier, three times over.
fn three_epochs<'a>(classifier: &'a str, out: &'a Path) -> [&'a str; 14] {
    [
        "retrain",
        "--few-patients",
        "--classifier",
        classifier,
        "--mode",
        "full",
        "--epochs",
        "3",
        "--device",
        "cpu",
        "--as-version",
        "k",
        "--out",
        text(out),
    ]
}

/// The same of the view classifier, from a list.
fn by_list<'a>(list: &'a Path, out: &'a Path) -> Vec<&'a str> {
    [&three_epochs("view", out)[..], &["--labels", text(list)]].concat()
}

/// Whether two trainings came to the same, to the last bit.
fn assert_same(one: &Path, other: &Path, network: &str) {
    let said = |bundle: &Path| fs::read_to_string(bundle.join("bundle.toml")).unwrap();
    assert_eq!(said(one), said(other));
    assert!(weights(one, network) == weights(other, network));
}

/// Kills a training when it tells of its first epoch. Gives what it told until then.
fn killed_after_an_epoch(command: Command) -> String {
    killed_at(command, "epoch 1 of 3")
}

/// Kills a training when it tells of something. Gives what it told until then.
fn killed_at(mut command: Command, what: &str) -> String {
    use std::io::{BufRead as _, BufReader};
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told: Vec<String> = Vec::new();
    while !told.last().is_some_and(|line| line.contains(what))
        && let Some(line) = lines.next()
    {
        told.push(line.unwrap());
    }
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(!ended.success(), "it was done before it was killed");
    told.join("\n")
}

/// Goes on with what was killed after its first epoch.
fn resume(site: &Site) {
    let output = site.run(&["retrain", "--resume"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(
        !told.contains("epoch 1 of 3") && told.contains("epoch 3 of 3"),
        "{told}"
    );
}

#[test]
fn a_training_that_is_killed_and_resumed_comes_to_what_it_comes_to_without() {
    let site = site();
    let list = images_with(&site, 40, 17, "0.2").join("labels.csv");
    let (whole, resumed) = (
        site.dir.path().join("whole"),
        site.dir.path().join("resumed"),
    );
    site.ok(&by_list(&list, &whole));
    assert!(
        !site.run(&["retrain", "--resume"]).status.success(),
        "nothing was interrupted"
    );

    let told = killed_after_an_epoch(site.command(&by_list(&list, &resumed)));
    assert!(told.contains("epoch 1 of 3"), "{told}");
    assert!(!resumed.join("bundle.toml").exists());

    // It goes on as it was told, with nothing said again.
    resume(&site);
    let [one, other] = [&whole, &resumed].map(|bundle| weights(bundle, "view.onnx"));
    let apart = one
        .iter()
        .zip(&other)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(one.len() == other.len() && apart <= 1e-5, "{apart}");
    assert!(
        !site.state.join("retrain/run/run.json").exists(),
        "nothing is left to go on with"
    );
}

#[test]
fn a_training_goes_on_with_its_images_wherever_people_have_put_the_files_meanwhile() {
    let site = site();
    let images = images_with(&site, 40, 19, "0.2");
    let more = images_with(&site, 8, 20, "0.2");
    let (whole, resumed) = (
        site.dir.path().join("whole"),
        site.dir.path().join("resumed"),
    );
    let from = ["--from", text(&images)];
    site.ok(&[&three_epochs("view", &whole)[..], &from].concat());
    killed_after_an_epoch(site.command(&[&three_epochs("view", &resumed)[..], &from].concat()));

    // One is sorted anew, one is taken away, and new ones come; nothing is left of the cache.
    let files = |category: &str| common::files(&images.join(category));
    let (moved, gone) = (
        files("lateral-preop").remove(0),
        files("frontal-preop").remove(0),
    );
    let name = |file: &Path| file.file_name().unwrap().to_owned();
    fs::rename(&moved, images.join("frontal-fusion").join(name(&moved))).unwrap();
    let away = site.dir.path().join("away.dcm");
    fs::rename(&gone, &away).unwrap();
    for file in common::files(&more.join("frontal-preop")) {
        let new = format!("new-{}", name(&file).to_str().unwrap());
        fs::copy(&file, images.join("lateral-preop").join(new)).unwrap();
    }
    fs::remove_dir_all(site.state.join("retrain/cache")).unwrap();
    let refused = site.run(&["retrain", "--resume"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && told.contains("1 of the 40 images that this training was begun with")
            && told.contains(text(&gone)),
        "{told}"
    );

    fs::rename(&away, images.join("lateral-fusion").join(name(&gone))).unwrap();
    resume(&site);
    assert_same(&whole, &resumed, "view.onnx");
}

#[test]
fn what_people_correct_while_a_training_is_interrupted_is_for_the_next_one() {
    let site = site();
    let mut daemon = site.start();
    daemon.wait_total(put_all(&site, &images(&site, 60, 21)));
    let filed = |view: &str| -> Vec<Value> {
        let filed = |record: &Value| {
            record["fate"] == "filed" && record["category"].as_str().unwrap().starts_with(view)
        };
        site.records().into_iter().filter(filed).collect()
    };
    let all = filed("");
    let uid = |record: &'_ Value| record["sop_instance_uid"].as_str().unwrap().to_owned();
    let uids: Vec<String> = all.iter().map(uid).collect();
    let mut confirm = vec!["confirm"];
    confirm.extend(uids.iter().map(String::as_str));
    site.ok(&confirm);
    let (whole, resumed) = (
        site.dir.path().join("whole"),
        site.dir.path().join("resumed"),
    );
    site.ok(&three_epochs("lateral", &whole));
    killed_after_an_epoch(site.command(&three_epochs("lateral", &resumed)));

    // The service moves their files. One file is lost altogether: its pixels are in the cache.
    let laterals = filed("lateral");
    for record in laterals.iter().take(6) {
        site.ok(&["correct", &uid(record), "frontal-preop"]);
    }
    fs::remove_file(laterals[6]["path"].as_str().unwrap()).unwrap();
    resume(&site);
    assert_same(&whole, &resumed, "lateral.onnx");

    // The same with nothing left of the cache: the records say where the files are.
    let again = site.dir.path().join("again");
    fs::remove_dir_all(&resumed).unwrap();
    site.ok(&three_epochs("frontal", &resumed));
    killed_after_an_epoch(site.command(&three_epochs("frontal", &again)));
    for record in laterals.iter().take(6) {
        site.ok(&["correct", &uid(record), "lateral-preop"]);
    }
    fs::remove_dir_all(site.state.join("retrain/cache")).unwrap();
    resume(&site);
    assert_same(&resumed, &again, "frontal.onnx");
    daemon.stop();
}

#[test]
fn a_training_begun_with_little_memory_goes_on_with_its_batch_when_there_is_more() {
    let site = site();
    let list = images_with(&site, 40, 18, "0.2").join("labels.csv");
    let out = site.dir.path().join("trained");
    let mut words = by_list(&list, &out);
    words.extend(["--batch", "4096"]);
    let whole = site.command(&words);
    let mut short = Command::new("sh");
    short
        .args(["-c", "ulimit -v $0; exec \"$@\"", "4194304"])
        .arg(whole.get_program())
        .args(whole.get_args());
    for (key, value) in whole.get_envs() {
        match value {
            Some(value) => short.env(key, value),
            None => short.env_remove(key),
        };
    }
    let told = killed_after_an_epoch(short);
    assert!(
        told.contains("images at a time instead of 4096") && told.contains("epoch 1 of 3"),
        "{told}"
    );

    resume(&site);
    assert!(out.join("bundle.toml").exists());
}

/// Runs the hidden trial of a first step with the lateral classifier of the shipped bundle under a limit of address space.
fn step_under(limit_kib: u64, batch: usize) -> std::process::ExitStatus {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spine-phantom");
    let manifest = fs::read_to_string(bundle.join("bundle.toml")).unwrap();
    let manifest: toml::Value = toml::from_str(&manifest).unwrap();
    let classifiers = manifest["classifiers"].as_array().unwrap();
    let spec = classifiers
        .iter()
        .find(|spec| spec["id"].as_str() == Some("lateral"))
        .unwrap();
    let word = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let number = |key: &str| spec["render"][key].as_integer().unwrap().to_string();
    let network = bundle.join(word(&spec["model"]["file"]));
    Command::new("sh")
        .args(["-c", "ulimit -v $0; exec \"$@\""])
        .arg(limit_kib.to_string())
        .args([common::RADSORT, "try-step", text(&network)])
        .args(["--logits", &word(&spec["outputs"]["logits"])])
        .args(["--features", &word(&spec["outputs"]["features"])])
        .args(["--rows", &number("height"), "--columns", &number("width")])
        .args(["--batch", &batch.to_string(), "--device", "cpu"])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn a_step_that_does_not_fit_kills_only_the_process_that_tries_it() {
    let fits = step_under(8 << 20, 1);
    assert!(
        fits.success(),
        "one image in 8 GiB of address space: {fits}"
    );
    let dies = step_under(1 << 20, 2000);
    assert!(
        !matches!(dies.code(), Some(0..=2)),
        "two thousand images in 1 GiB: {dies}"
    );
}

#[test]
fn a_training_that_is_killed_near_its_end_leaves_pictures_in_the_state_alone_and_the_next_run_takes_them_away()
 {
    use std::os::unix::fs::PermissionsExt as _;
    let site = site();
    let list = images(&site, 60, 29).join("labels.csv");
    let temporary = site.dir.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let words = ["retrain", "--few-patients", "--classifier", "lateral"];
    let mut command = site.command(&[&words[..], &["--labels", text(&list)]].concat());
    command.env("TMPDIR", &temporary);
    // The new bundle is written, and judged.
    killed_at(command, "asking spine-phantom");
    let run = site.state.join("retrain/run");
    let pictures = |dir: &Path| {
        let files = common::files(dir).into_iter();
        files
            .filter(|it| it.extension().is_some_and(|it| it == "u16"))
            .count()
    };
    assert_eq!(pictures(&temporary), 0);
    assert!(pictures(&run) > 0);
    let mode = fs::metadata(&run).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    site.ok(&["retrain", "--resume"]);
    assert_eq!(common::files(&run), Vec::<std::path::PathBuf>::new());
}
