//! Sites with labelled phantoms, for the tests of `retrain` and `evaluate`.

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
    let output = Command::new(common::RADSORT)
        .args([
            "phantom",
            "--syntax",
            "explicit",
            "--size",
            "400x640",
            "--imbalance",
            "even",
        ])
        .args(["--outside", outside, "--layout", "by-category"])
        .args([
            "--count",
            &count.to_string(),
            "--seed",
            &seed.to_string(),
            "--out",
        ])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    dir
}

/// A site that leaves the choice of the bundle to `radsort models`.
pub fn site() -> Site {
    let site = Site::new();
    let text = fs::read_to_string(&site.config).unwrap();
    let text: String = text
        .lines()
        .filter(|line| *line != "[model]" && !line.starts_with("bundle ="))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(&site.config, text).unwrap();
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
