//! Bundle versions side by side: promoted, rolled back and refused, on the real binary, beside a running service.

#![allow(clippy::unwrap_used)]

mod common;
#[cfg(feature = "retrain")]
#[path = "common/training.rs"]
mod training;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Mould, Site, shipped_bundle, uid};
use serde_json::Value;

/// The shipped bundle under another version.
fn copy(site: &Site, version: &str) -> PathBuf {
    let copy = site.dir.path().join(version);
    fs::create_dir(&copy).unwrap();
    for file in common::files(&shipped_bundle()) {
        fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    let manifest = copy.join("bundle.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (before, after) = text.split_once("version = \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    fs::write(&manifest, format!("{before}version = \"{version}\"{after}")).unwrap();
    copy
}

fn import(site: &Site, dir: &Path) {
    site.ok(&["models", "import", dir.to_str().unwrap()]);
}

#[test]
fn a_promoted_bundle_is_in_use_at_once_and_the_one_before_comes_back_by_a_rollback() {
    let site = Site::without_model();
    let mould = Mould::new(81);
    let mut daemon = site.start();
    let model = || {
        let status = site.json(&["status", "--json"]);
        status["model"]["name"].as_str().unwrap().to_owned()
    };
    let shipped = model();
    import(&site, &copy(&site, "9.1.0"));
    assert_eq!(model(), shipped, "keeping is not promoting");

    let promoted = site.json(&["models", "promote", "9.1.0", "--json"]);
    let folder = promoted["in_use"].as_str().unwrap();
    assert!(folder.ends_with("-9.1.0"), "{promoted}");
    assert!(model().ends_with(" 9.1.0"), "{}", model());
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    assert!(
        site.records()[0]["model"]
            .as_str()
            .unwrap()
            .ends_with(" 9.1.0")
    );
    daemon.stop();

    // It stays over a restart.
    let daemon = site.start();
    assert!(model().ends_with(" 9.1.0"));
    site.ok(&["models", "rollback"]);
    assert_eq!(model(), shipped);
    daemon.stop();
    let promotions: Vec<Value> = site
        .ledger()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|mut line: Value| line["record"].take())
        .filter(|record| record["kind"] == "promoted")
        .collect();
    let models: Vec<&str> = promotions
        .iter()
        .filter_map(|record| record["model"].as_str())
        .collect();
    assert_eq!(models.len(), 2, "{promotions:?}");
    assert!(models[0].ends_with(" 9.1.0"), "{models:?}");
    assert_eq!(models[1], shipped);
    assert_eq!(
        site.run(&["models", "rollback"]).status.code(),
        Some(1),
        "there is nothing before the first"
    );
}

#[test]
fn a_bundle_that_cannot_be_used_is_neither_kept_nor_promoted() {
    let site = Site::without_model();
    let good = copy(&site, "9.1.0");
    import(&site, &good);
    let again = site.run(&["models", "import", good.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));

    let broken = copy(&site, "9.2.0");
    let network = broken.join("frontal.onnx");
    let mut bytes = fs::read(&network).unwrap();
    bytes[1000] ^= 1;
    fs::write(&network, bytes).unwrap();
    let refused = site.run(&["models", "import", broken.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("frontal.onnx"), "{why}");

    // Damaged where it is kept.
    fs::remove_file(site.state.join("models/spine-phantom-9.1.0/lateral.onnx")).unwrap();
    let refused = site.run(&["models", "promote", "9.1.0"]);
    assert_eq!(refused.status.code(), Some(1));
    let unknown = site.run(&["models", "promote", "10"]);
    assert_eq!(unknown.status.code(), Some(1));
    let list = site.ok(&["models", "list", "--json"]);
    let in_use: Vec<serde_json::Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["in_use"] == true)
        .collect();
    assert_eq!(in_use.len(), 1);
    assert_eq!(in_use[0]["folder"], "shipped");
}

#[test]
fn a_bundle_that_the_configuration_names_cannot_be_promoted_away() {
    let site = Site::new();
    import(&site, &copy(&site, "9.1.0"));
    let refused = site.run(&["models", "promote", "9.1.0"]);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("[model] bundle"), "{why}");
}

#[test]
fn bare_onnx_files_become_a_bundle_that_files_what_they_tell() {
    let site = Site::without_model();
    let shipped = shipped_bundle();
    let file = |name: &str| shipped.join(name).to_str().unwrap().to_owned();
    let manifest: toml::Table = fs::read_to_string(shipped.join("bundle.toml"))
        .unwrap()
        .parse()
        .unwrap();
    // The categories under names of this site, in the order of each network's logits.
    let classes = |id: &str| {
        let all = manifest["classifiers"].as_array().unwrap();
        let one = all.iter().find(|it| it["id"].as_str() == Some(id)).unwrap();
        let names: Vec<String> = one["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|class| format!("site-{}:{id}", class.as_str().unwrap()))
            .collect();
        names.join(",")
    };
    let (frontal, lateral) = (file("frontal.onnx"), file("lateral.onnx"));
    let said = site.ok(&[
        "models",
        "import",
        &frontal,
        &lateral,
        "--classes",
        &classes("frontal"),
        "--classes",
        &classes("lateral"),
        "--view",
        &file("view.onnx"),
        "--view-classes",
        &view_classes(&manifest),
        "--name",
        "from-elsewhere",
        "--version",
        "3",
        "--mean",
        "0.4",
        "--std",
        "0.25",
        "--threshold",
        "0.6",
    ]);
    assert!(said.contains("from-elsewhere-3"), "{said}");
    site.ok(&["models", "promote", "from-elsewhere-3"]);
    let mut daemon = site.start();
    let images = common::phantoms(&site.dir.path().join("phantoms"), 20, 82);
    for (file, _) in &images {
        fs::copy(file, site.drop.join(file.file_name().unwrap())).unwrap();
    }
    daemon.wait_total(images.len() as u64);
    daemon.stop();
    let records = site.records();
    let right = images
        .iter()
        .filter(|(file, truth)| {
            let name = file.file_name().unwrap().to_str().unwrap();
            let record = records
                .iter()
                .find(|it| it["from"].as_str().is_some_and(|from| from.ends_with(name)));
            record.is_some_and(|it| {
                it["category"].as_str().map(str::to_owned)
                    == truth.map(|truth| format!("site-{truth}"))
            })
        })
        .count();
    assert!(right >= 16, "{right} of 20");

    let no = |words: &[&str]| {
        let output = site.run(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let without = no(&["models", "import", &frontal]);
    assert!(without.contains("--classes"), "{without}");
    let few = no(&[
        "models",
        "import",
        &frontal,
        "--classes",
        "a:frontal,b:frontal",
    ]);
    assert!(
        few.contains("frontal.onnx") && few.contains("classes"),
        "{few}"
    );
    let junk = site.dir.path().join("junk.onnx");
    fs::write(&junk, b"no model").unwrap();
    let junk = no(&[
        "models",
        "import",
        junk.to_str().unwrap(),
        "--classes",
        "a:frontal,b:frontal",
    ]);
    assert!(junk.contains("junk.onnx"), "{junk}");
}

fn view_classes(manifest: &toml::Table) -> String {
    let all = manifest["classifiers"].as_array().unwrap();
    let view = all
        .iter()
        .find(|it| it["id"].as_str() == Some("view"))
        .unwrap();
    let names: Vec<&str> = view["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    names.join(",")
}

#[cfg(feature = "retrain")]
#[test]
fn what_a_person_puts_to_use_while_a_training_goes_on_is_not_overridden_by_it() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::Stdio;

    let site = training::site();
    import(&site, &copy(&site, "9.1.0"));
    let images = training::images(&site, 60, 25);
    let mut retrain = site
        .command(&[
            "retrain",
            "--few-patients",
            "--classifier",
            "lateral",
            "--from",
            training::text(&images),
            "--promote",
            "if-better",
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(retrain.stderr.take().unwrap()).lines();
    let began = told.find(|line| line.as_ref().unwrap().contains("images to learn from"));
    assert!(began.is_some());
    let promoted = site.json(&["models", "promote", "9.1.0", "--json"]);
    // Its pipe must not fill up.
    let rest: Vec<String> = told.map(Result::unwrap).collect();
    let mut said = String::new();
    let stdout = retrain.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    assert!(retrain.wait().unwrap().success(), "{rest:#?}");

    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["promoted"], false);
    assert!(
        said["in_use_since"].as_str().unwrap().ends_with(" 9.1.0"),
        "{}",
        said["in_use_since"]
    );
    let pointer = fs::read_to_string(site.state.join("models/in-use.json")).unwrap();
    let pointer: Value = serde_json::from_str(&pointer).unwrap();
    assert_eq!(
        pointer["history"].as_array().unwrap().last(),
        Some(&promoted["in_use"])
    );
    let page = Path::new(said["place"].as_str().unwrap()).join("report.html");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("was put to use while this was trained"));
}
