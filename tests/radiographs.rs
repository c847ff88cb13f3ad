//! Real radiographs, in the transfer syntaxes that archives use: all decode, and one image is one picture in all of
//! them. The radiographs lie beside the checkout and are not part of it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{RADSORT, radiographs, shipped_bundle};
use serde_json::Value;

fn dicom_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = common::files(dir);
    found.retain(|path| path.extension().is_some_and(|end| end == "dcm"));
    found.sort();
    found
}

#[test]
fn real_radiographs_decode_and_are_classified_in_all_their_syntaxes() {
    let Some(dir) = radiographs() else { return };
    let files = dicom_files(&dir);
    assert!(!files.is_empty());
    let output = Command::new(RADSORT)
        .args(["classify", "--json", "--model"])
        .arg(shipped_bundle())
        .args(&files)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), files.len());
    for row in &rows {
        assert!(row["confidence"].is_number(), "{row:#}");
        assert!(row["ms"]["decode"].as_f64().unwrap() > 0.0, "{row:#}");
        assert_ne!(row["decision"], "quarantine", "{row:#}");
    }
    assert!(output.status.success(), "{text}");
}

/// The picture with 528 pixels at its longest side, 0 to 1.
fn render(file: &Path, out: &Path) -> (u32, u32, Vec<f64>) {
    let output = Command::new(RADSORT)
        .arg("render")
        .arg(file)
        .arg("--out")
        .arg(out)
        .args(["--size", "528", "--16bit"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let decoder = png::Decoder::new(BufReader::new(File::open(out).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let pixels = bytes[..info.buffer_size()]
        .chunks(2)
        .map(|pair| f64::from(u16::from_be_bytes([pair[0], pair[1]])) / 65535.0)
        .collect();
    (info.width, info.height, pixels)
}

#[test]
fn one_radiograph_is_the_same_picture_in_every_syntax() {
    let Some(dir) = radiographs() else { return };
    let out = tempfile::tempdir().unwrap();
    let reference = render(&dir.join("RG2_UNC.dcm"), &out.path().join("reference.png"));
    assert!(reference.0.max(reference.1) == 528);
    // It is a picture, not one grey.
    let mean = reference.2.iter().sum::<f64>() / reference.2.len() as f64;
    let spread =
        reference.2.iter().map(|p| (p - mean).abs()).sum::<f64>() / reference.2.len() as f64;
    assert!(spread > 0.05, "{spread}");
    let mut syntaxes = 0;
    for file in dicom_files(&dir) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("RG2_") {
            continue;
        }
        let picture = render(&file, &out.path().join("picture.png"));
        assert_eq!((picture.0, picture.1), (reference.0, reference.1), "{name}");
        let pairs = picture.2.iter().zip(&reference.2);
        let difference = pairs.map(|(a, b)| (a - b).abs()).sum::<f64>() / reference.2.len() as f64;
        eprintln!("{name}: mean absolute difference {difference:.6}");
        assert!(difference <= limit(&name), "{name}: {difference}");
        syntaxes += 1;
    }
    let there = fs::read_dir(&dir).unwrap().count();
    assert!(syntaxes >= 8, "{syntaxes} of {there} files");
}

/// The mean absolute difference that a syntax may make, of a range of 1.
fn limit(name: &str) -> f64 {
    match name {
        // Lossless, and decoded in full.
        "RG2_UNC" | "RG2_RLE" | "RG2_JPLL" | "RG2_JLSL" => 0.0,
        // Lossless, but decoded at a reduced resolution by its wavelets; or lossy (0.0015 at most when measured).
        _ => 0.003,
    }
}
