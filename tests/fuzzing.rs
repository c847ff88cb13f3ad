//! The fuzz targets on stable Rust: over their seeds, the corpus, what once crashed, and mutations of these.
//!
//! libFuzzer runs them for hours (`make fuzz`). Here codecs in C get no mutations: outside the jail one that crashes
//! takes the tests with it.

#![allow(clippy::unwrap_used)]

use radsort::decode;

#[path = "common/mutate.rs"]
mod mutate;
#[path = "../src/decode/tests/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;
#[path = "../fuzz/targets.rs"]
#[allow(clippy::pedantic)]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

const IN_C: [&str; 3] = ["jpeg", "jpeg_ls", "jpeg_2000"];

fn inputs(folder: &str, target: &Target) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(folder)
        .join(target.name);
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn seeds_corpus_and_what_once_crashed_are_harmless() {
    let kept = TARGETS
        .iter()
        .flat_map(|target| inputs("regressions", target));
    assert!(
        kept.count() > 0,
        "fuzz/regressions/ is empty: the inputs of what was found and mended belong there, see docs/hostile.md"
    );
    for target in TARGETS {
        for seed in (target.seeds)() {
            (target.run)(&seed);
        }
        for path in [inputs("corpus", target), inputs("regressions", target)].concat() {
            eprintln!("{}", path.display());
            let begun = Instant::now();
            (target.run)(&fs::read(&path).unwrap());
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{}",
                path.display()
            );
        }
    }
    targets::clean_up();
}

#[test]
fn mutations_are_harmless() {
    for target in TARGETS.iter().filter(|target| !IN_C.contains(&target.name)) {
        let seeds = (target.seeds)();
        for n in 0..300 {
            let mut bytes = seeds[n as usize % seeds.len()].clone();
            mutate::mutate(&mut bytes, 0, &mut mutate::dice(7, n));
            (target.run)(&bytes);
        }
    }
    targets::clean_up();
}

/// Writes the seeds for libFuzzer to `RADSORT_FUZZ_SEEDS`, a folder for each target.
#[test]
#[ignore = "for make fuzz"]
fn write_seeds() {
    let dir = PathBuf::from(std::env::var_os("RADSORT_FUZZ_SEEDS").unwrap());
    for target in TARGETS {
        let folder = dir.join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{n}")), seed).unwrap();
        }
    }
}

#[test]
fn every_target_is_handed_to_libfuzzer_and_the_corpus_is_small() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let mut size = 0;
    for target in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{}",
            target.name
        );
        assert!(
            fuzz.join(format!("fuzz_targets/{}.rs", target.name))
                .is_file()
        );
        for path in [inputs("corpus", target), inputs("regressions", target)].concat() {
            size += path.metadata().unwrap().len();
        }
    }
    assert!(size < 300_000, "{size} bytes");
}
