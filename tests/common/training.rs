//! Sites with labelled phantoms, for the tests of `retrain` and `evaluate`.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::{self, Site};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use serde_json::Value;

/// Small phantoms in a folder for each category, with `labels.csv` beside them.
pub fn images(site: &Site, count: usize, seed: u64) -> PathBuf {
    images_with(site, count, seed, "0")
}

/// The same, a share of which is of neither view.
pub fn images_with(site: &Site, count: usize, seed: u64, outside: &str) -> PathBuf {
    let dir = site.dir.path().join(format!("images-{seed}"));
    let (count, seed) = (count.to_string(), seed.to_string());
    let words = [
        ["--size", "400x640"],
        ["--imbalance", "even"],
        ["--outside", outside],
        ["--layout", "by-category"],
        ["--count", &count],
        ["--seed", &seed],
    ];
    draw(&dir, "explicit", words.as_flattened());
    dir
}

/// Draws phantoms into a folder.
pub fn draw(dir: &Path, syntax: &str, words: &[&str]) {
    let mut phantom = Command::new(common::RADSORT);
    phantom.args(["phantom", "--syntax", syntax, "--out", text(dir)]);
    let drawn = phantom.args(words).output().unwrap();
    assert!(drawn.status.success(), "{drawn:?}");
}

/// Files of a folder and those below are from now on those of other people, with studies of their own.
pub fn call_patients(images: &Path, name: impl Fn(&Path, &str) -> String) {
    for file in common::files(images) {
        if file.extension().is_none_or(|it| it != "dcm") {
            continue;
        }
        let mut object = dicom_object::open_file(&file).unwrap();
        let id = object.element(tags::PATIENT_ID).unwrap();
        let name = name(&file, id.to_str().unwrap().trim());
        let study = u32::from_str_radix(&common::digest(name.as_bytes())[..8], 16).unwrap();
        let study = format!("1.2.826.0.1.3680043.10.777.{study}");
        common::put(&mut object, tags::PATIENT_ID, VR::LO, &name);
        common::put(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, &study);
        object.write_to_file(&file).unwrap();
    }
}

/// A list of the same files under one name a row, as spreadsheets fill them down.
pub fn filled_down(list: &Path) -> PathBuf {
    let truth = fs::read_to_string(list).unwrap();
    let rows = truth.lines().skip(1).enumerate().map(|(k, line)| {
        let cells: Vec<&str> = line.split(',').collect();
        format!("{},{},IMG{k:04}\n", cells[0], cells[1])
    });
    let rows: String = rows.collect();
    let filled = list.with_file_name("filled-down.csv");
    fs::write(
        &filled,
        format!("sop_instance_uid,category,patient\n{rows}"),
    )
    .unwrap();
    filled
}

/// A site that leaves the choice of the bundle to `radsort models`.
pub fn site() -> Site {
    let site = Site::without_model();
    // The state directory and its key, as after the first start.
    site.start().stop();
    site
}

pub fn last_line(site: &Site, words: &[&str]) -> Value {
    let said = site.ok(words);
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The numbers of every network of a bundle.
pub fn weights(bundle: &Path, file: &str) -> Vec<f32> {
    use prost::Message as _;
    let bytes = fs::read(bundle.join(file)).unwrap();
    let model = radsort::model::onnx::ModelProto::decode(&*bytes).unwrap();
    model
        .graph
        .unwrap()
        .initializer
        .iter()
        .flat_map(|tensor| {
            let (numbers, _) = tensor.raw_data.as_chunks::<4>();
            numbers.iter().map(|four| f32::from_le_bytes(*four))
        })
        .collect()
}

/// Copies every image of a folder and those below into the drop directory, under a number; how many there were.
pub fn put_all(site: &Site, images: &Path) -> u64 {
    let mut count = 0;
    for file in common::files(images) {
        if file.extension().is_some_and(|it| it == "dcm") {
            fs::copy(&file, site.drop.join(format!("{count}.dcm"))).unwrap();
            count += 1;
        }
    }
    count
}
