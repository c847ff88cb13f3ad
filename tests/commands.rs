//! The commands around the service, driven as people drive them: check, render, classify, reindex, and root's stepping
//! down to the owner of the state.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Mould, Site, files, phantoms, uid};
use serde_json::Value;

fn lines(text: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(text)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn errors(findings: &[Value]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| finding["level"] == "error")
        .map(|finding| {
            assert!(
                finding["advice"]
                    .as_str()
                    .is_some_and(|advice| !advice.is_empty()),
                "no advice: {finding}"
            );
            format!("{}: {}", finding["what"], finding["message"])
        })
        .collect()
}

#[test]
fn check_tries_everything_and_leaves_nothing_behind() {
    let site = Site::new();
    let before = files(&site.drop).len() + files(&site.library).len();
    let output = site.run(&["check", "--json"]);
    let findings = lines(&output.stdout);
    assert!(output.status.success(), "{findings:#?}");
    assert_eq!(errors(&findings), Vec::<String>::new());
    for what in ["configuration", "jail", "model"] {
        let of = |finding: &&Value| finding["what"].as_str().is_some_and(|it| it.contains(what));
        assert!(
            findings.iter().any(|finding| of(&finding)),
            "nothing is said of {what}: {findings:#?}"
        );
    }
    assert_eq!(
        files(&site.drop).len() + files(&site.library).len(),
        before,
        "a probe stayed"
    );
    assert!(!site.state.join("ledger").exists(), "a ledger was begun");
}

#[test]
fn check_finds_what_would_stop_the_service_and_says_what_to_do() {
    let site = Site::new();
    fs::remove_dir(&site.drop).unwrap();
    let output = site.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = errors(&lines(&output.stdout));
    assert!(
        found.iter().any(|error| error.contains("drop")),
        "{found:?}"
    );

    let site = Site::with("", "[model]\nbundle = \"/nowhere/bundle\"");
    let output = site.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = errors(&lines(&output.stdout));
    assert!(
        found.iter().any(|error| error.contains("/nowhere/bundle")),
        "{found:?}"
    );

    fs::write(&site.config, "[[watch]]\npaht = \"/data\"\n").unwrap();
    let output = site.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = errors(&lines(&output.stdout));
    assert!(
        found
            .iter()
            .any(|error| error.contains("paht") && error.contains("path")),
        "{found:?}"
    );
}

#[test]
fn check_looks_below_the_drop_directory_and_says_each_thing_once() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this wants root");
        return;
    }
    let site = Site::new();
    let study = site.drop.join("study");
    fs::create_dir(&study).unwrap();
    for (dir, owner) in [
        (site.dir.path(), 0),
        (&site.drop, NOBODY),
        (&site.library, NOBODY),
        (&study, 0),
    ] {
        chown(dir, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for path in [site.drop.join("1.dcm"), study.join("2.dcm")] {
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([common::RADSORT, "check", "--json", "--config"])
        .arg(&site.config)
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: there is no setpriv here");
        return;
    };
    let findings = lines(&output.stdout);
    let of_drop = |level: &str, words: &str| {
        let count = findings.iter().filter(|finding| {
            finding["what"] == "watch drop"
                && finding["level"] == level
                && finding["message"].as_str().unwrap().contains(words)
        });
        count.count()
    };
    let closed = "1 of the 1 directories below";
    assert_eq!(of_drop("error", closed), 1, "{findings:#?}");
    let unread = "2 of the first 2 files there cannot be read";
    assert_eq!(of_drop("warning", unread), 1, "{findings:#?}");
    assert_eq!(of_drop("warning", "cannot be read"), 1, "{findings:#?}");
    assert!(!findings.iter().any(|it| it.to_string().contains("study")));
}

#[test]
fn check_beside_a_running_service_says_so_and_disturbs_nothing() {
    let site = Site::new();
    let daemon = site.start();
    let output = site.run(&["check", "--json"]);
    assert!(
        output.status.success(),
        "{:#?}",
        errors(&lines(&output.stdout))
    );
    daemon.stop();
}

/// Width, height, bits a sample and colour type, from a PNG's header (PNG specification, 11.2.2).
fn png(path: &Path) -> (u32, u32, u8, u8) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20), bytes[24], bytes[25])
}

#[test]
fn render_writes_the_picture_that_the_model_gets() {
    let site = Site::new();
    let file = phantoms(&site.drop, 1, 5).remove(0).0;
    let radsort = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_radsort"))
            .arg("render")
            .arg(&file)
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let out = |name: &str| site.dir.path().join(name);
    let bundle = common::shipped_bundle();

    let (whole, deep, model) = (out("whole.png"), out("deep.png"), out("model.png"));
    radsort(&["--size", "300", "--out", whole.to_str().unwrap()]);
    let (width, height, bits, colour) = png(&whole);
    assert_eq!((width.max(height), bits, colour), (300, 8, 0));
    radsort(&["--size", "300", "--16bit", "--out", deep.to_str().unwrap()]);
    assert_eq!(png(&deep), (width, height, 16, 0));
    // The view classifier's input, then that of the category classifiers.
    radsort(&[
        "--model",
        bundle.to_str().unwrap(),
        "--out",
        model.to_str().unwrap(),
    ]);
    let manifest = fs::read_to_string(bundle.join("bundle.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let wanted: Vec<(i64, i64)> = manifest["classifiers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|classifier| {
            let render = classifier.get("render").unwrap();
            let number = |key: &str| render.get(key).unwrap().as_integer().unwrap();
            (number("width"), number("height"))
        })
        .collect();
    for (path, wanted) in [(model, wanted[0]), (out("model-2.png"), wanted[1])] {
        let (width, height, _, _) = png(&path);
        assert_eq!((i64::from(width), i64::from(height)), wanted);
    }
}

#[test]
fn classify_says_everything_about_each_file_and_moves_none() {
    let site = Site::new();
    let phantoms = phantoms(&site.drop, 3, 6);
    fs::write(site.drop.join("junk.dcm"), "no image").unwrap();
    let before = site.digests();
    let mut words = vec!["classify".to_owned(), "--json".into()];
    words.extend(
        files(&site.drop)
            .iter()
            .map(|file| file.to_str().unwrap().to_owned()),
    );
    let output = site.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "junk cannot be classified");
    let said = lines(&output.stdout);
    assert_eq!(said.len(), phantoms.len() + 1);
    for line in &said {
        for key in [
            "path",
            "sop_instance_uid",
            "category",
            "confidence",
            "scores",
            "view",
            "decision",
            "reason",
            "model",
            "provider",
            "ms",
        ] {
            assert!(line.get(key).is_some(), "{key} is missing: {line}");
        }
        let is_junk = line["path"].as_str().unwrap().ends_with("junk.dcm");
        if !is_junk {
            assert!(line["view"].get("header").is_some() && line["view"].get("pixels").is_some());
            for stage in ["read", "decode", "infer"] {
                assert!(line["ms"][stage].as_f64().unwrap() > 0.0, "{stage}: {line}");
            }
        }
    }
    assert_eq!(site.digests(), before);
}

#[test]
fn a_table_that_is_piped_keeps_every_path_and_uid_in_one_piece() {
    let site = Site::new();
    let long = format!("{}.dcm", "long-name-".repeat(15));
    fs::write(site.drop.join(&long), Mould::new(7).bytes("no UID")).unwrap();
    site.put("a.dcm", &Mould::new(8).bytes(&uid(8)));
    site.sort();
    let listed = site.ok(&["query"]);
    for record in site.records() {
        let path = record["path"].as_str().unwrap();
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        assert!(listed.contains(name), "{name} in {listed}");
    }
}

#[test]
fn the_index_is_rebuilt_beside_a_running_service_that_goes_on_filing() {
    let site = Site::new();
    let mould = Mould::new(71);
    let mut daemon = site.start();
    for n in 0..5 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(5);
    let before = site.records();
    let rebuilt = site.json(&["reindex", "--json"]);
    assert!(rebuilt["records"].as_u64().unwrap() >= 10, "{rebuilt}");
    assert_eq!(site.records(), before);
    site.put("more.dcm", &mould.bytes(&uid(99)));
    daemon.wait_total(6);
    daemon.stop();
    site.assert_verified();
    let text = site.ok(&["reindex"]);
    let records = text.split(' ').nth(6).unwrap();
    assert!(
        text.contains(&format!("\n{records} records, 6 files\n")),
        "{text}"
    );
}

const NOBODY: u32 = 65534;

#[test]
fn root_steps_down_to_the_owner_of_the_state_so_that_the_service_can_go_on() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can step down");
        return;
    }
    let site = Site::new();
    let mould = Mould::new(72);
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&site.state).unwrap();
    for dir in [&site.drop, &site.library, &site.state] {
        chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let may_read = |path: &Path| {
        Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "test",
                "-r",
            ])
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map(std::path::PathBuf::from);
    let bundle = common::shipped_bundle().join("bundle.toml");
    if !may_read(&bundle) || runtime.is_some_and(|library| !may_read(&library)) {
        eprintln!("SKIPPED: this checkout cannot be read by other users");
        return;
    }
    site.put("1.dcm", &mould.bytes(&uid(1)));
    chown(site.drop.join("1.dcm"), Some(NOBODY), Some(NOBODY)).unwrap();
    let summary = site.sort();
    assert_eq!(summary["waiting"], 0, "{summary}");
    for dir in [&site.library, &site.state] {
        for file in files(dir) {
            assert_eq!(
                fs::metadata(&file).unwrap().uid(),
                NOBODY,
                "{} belongs to somebody else",
                file.display()
            );
        }
    }
    site.assert_verified();
}
