//! Sites with labelled phantoms, for the tests of `retrain` and `evaluate`.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::{self, Site};
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
