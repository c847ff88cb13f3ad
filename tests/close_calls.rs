//! Decisions that hang by a thread: what is decoded at a reduced resolution is decoded in full where that could matter.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Site;
use radsort::phantom::{self, Difficulty, Imbalance, PlanOptions, Syntax};
use serde_json::Value;

/// One phantom twice: as it is, and as JPEG 2000 from which every pixel can be had back.
fn plain_and_coded(dir: &Path, size: (u32, u32)) -> (PathBuf, PathBuf) {
    let plans = phantom::plan(&PlanOptions {
        count: 1,
        seed: 77,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: Some(size),
        outside: 0.0,
    });
    let phantom = plans[0].draw();
    let (plain, coded) = (dir.join("plain.dcm"), dir.join("coded.dcm"));
    phantom.write(&plain, Syntax::ExplicitLe).unwrap();
    phantom.write(&coded, Syntax::Jpeg2000Lossless).unwrap();
    (plain, coded)
}

/// What `classify` says, without what it took.
fn classified(site: &Site, path: &Path) -> Value {
    let mut said = site.json(&["classify", "--json", path.to_str().unwrap()]);
    for transient in ["path", "ms"] {
        said.as_object_mut().unwrap().remove(transient).unwrap();
    }
    said
}

/// A site whose threshold is so near.
fn demanding(confidence: &Value, decoders: &str) -> Site {
    let below = confidence.as_f64().unwrap() - 1e-3;
    Site::with("", &format!("[review]\nbelow = {below}\n{decoders}"))
}

#[test]
fn a_close_call_is_decided_on_from_every_pixel_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, coded) = plain_and_coded(dir.path(), (1200, 2000));
    let site = Site::new();
    let (exact, reduced) = (classified(&site, &plain), classified(&site, &coded));
    assert_eq!(exact["decision"], "file", "{exact}");
    assert_ne!(
        exact["confidence"], reduced["confidence"],
        "nothing would be seen below"
    );

    let site = demanding(&exact["confidence"], "");
    assert_eq!(classified(&site, &coded), classified(&site, &plain));
    let mut daemon = site.start();
    site.put("1.dcm", &fs::read(&coded).unwrap());
    daemon.wait_total(1);
    let [record] = site.records().try_into().unwrap();
    assert_eq!(record["confidence"], exact["confidence"], "{record}");
    daemon.stop();
}

/// The confidence that `evaluate` has in its one image, which is of that category.
fn evaluated(site: &Site, path: &Path, category: &str) -> f64 {
    let list = path.with_extension("csv");
    let row = format!("path,category\n{},{category}\n", path.display());
    fs::write(&list, row).unwrap();
    let list = list.to_str().unwrap();
    let report = site.json(&["evaluate", "--labels", list, "--complete", "--json"]);
    let point = &report["judged"][0]["judgement"]["calibration"]["points"][0];
    point["confidence"].as_f64().unwrap()
}

#[test]
fn a_close_call_is_judged_by_the_decision_that_the_service_takes() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, coded) = plain_and_coded(dir.path(), (1200, 2000));
    let site = Site::new();
    let (exact, reduced) = (classified(&site, &plain), classified(&site, &coded));
    let category = exact["category"].as_str().unwrap();
    let [exact_confidence, reduced_confidence] =
        [&exact, &reduced].map(|it| it["confidence"].as_f64().unwrap());
    let apart = (exact_confidence - reduced_confidence).abs();
    // Pictures are kept with 16 bits a pixel.
    let near = |found: f64, wanted: f64| (found - wanted).abs() < apart / 4.0;
    assert!(near(evaluated(&site, &coded, category), reduced_confidence));
    let site = demanding(&exact["confidence"], "");
    assert!(near(evaluated(&site, &coded, category), exact_confidence));
    // Also where the pictures come from the cache.
    assert!(near(evaluated(&site, &coded, category), exact_confidence));
}

#[test]
fn where_memory_does_not_suffice_for_every_pixel_the_first_decision_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (_, coded) = plain_and_coded(dir.path(), (2600, 4200));
    let reduced = classified(&Site::new(), &coded);
    let site = demanding(&reduced["confidence"], "[decoders]\nmemory = \"64MiB\"\n");
    assert_eq!(classified(&site, &coded), reduced);
    let mut daemon = site.start();
    site.put("1.dcm", &fs::read(&coded).unwrap());
    daemon.wait_total(1);
    assert_eq!(site.fates()["filed"], 1);
    daemon.stop();
}
