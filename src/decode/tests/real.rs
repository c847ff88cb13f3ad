//! Real radiographs, not in this repository: looked for beside it and skipped, loudly, where they are missing.

use std::fs::File;
use std::path::PathBuf;

use super::difference;
use crate::decode::{
    Completeness, Content, Fit, Intensity, Radiograph, RenderSpec, decode, inspect, render,
};

const ALL: [&str; 12] = [
    "RG1_J2KI",
    "RG1_JLSN",
    "RG2_J2KI",
    "RG2_J2KR",
    "RG2_JLSL",
    "RG2_JLSN",
    "RG2_JPLL",
    "RG2_JPLY_fixed",
    "RG2_RLE",
    "RG2_UNC",
    "chest-1024-mono2",
    "cr-modality-lut",
];

fn open(name: &str) -> Option<(File, u64)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/radiographs");
    let Ok(file) = File::open(folder.join(format!("{name}.dcm"))) else {
        eprintln!("SKIPPED: {name}.dcm is not in {}", folder.display());
        return None;
    };
    let size = file.metadata().unwrap().len();
    Some((file, size))
}

fn at_512(name: &str) -> Option<Radiograph> {
    let (file, size) = open(name)?;
    let spec = RenderSpec {
        fit: Fit::Letterbox,
        ..render::picture_spec(512, 512, None, Intensity::Voi)
    };
    Some(
        decode(&file, size, &[spec])
            .unwrap_or_else(|fault| panic!("{name}: {fault}"))
            .radiographs
            .remove(0),
    )
}

fn at_full_size(name: &str) -> Option<Radiograph> {
    let (file, size) = open(name)?;
    let Content::Radiograph { header } = inspect(&file, size).content else {
        panic!("{name} is no radiograph")
    };
    let spec = render::picture_spec(
        header.description.rows,
        header.description.columns,
        None,
        Intensity::Voi,
    );
    Some(
        decode(&file, size, &[spec])
            .unwrap_or_else(|fault| panic!("{name}: {fault}"))
            .radiographs
            .remove(0),
    )
}

#[test]
fn every_real_radiograph_is_one_and_decodes() {
    for name in ALL {
        let Some((file, size)) = open(name) else {
            continue;
        };
        let inspection = inspect(&file, size);
        assert!(
            matches!(inspection.content, Content::Radiograph { .. }),
            "{name}"
        );
        assert_eq!(inspection.completeness, Completeness::Complete, "{name}");
        let radiograph = at_512(name).unwrap();
        let mean = radiograph.pixels.iter().sum::<f32>() / radiograph.pixels.len() as f32;
        assert!((0.1..0.9).contains(&mean), "{name}: mean grey {mean}");
        assert!(
            radiograph
                .pixels
                .iter()
                .all(|grey| (0.0..=1.0).contains(grey)),
            "{name}"
        );
    }
}

#[test]
fn the_same_radiograph_in_nine_syntaxes_gives_the_same_picture() {
    let Some(plain) = at_512("RG2_UNC") else {
        return;
    };
    // Mean absolute differences at 512 × 512, of grey values from 0 to 1. Lossless codecs without reduced decoding
    // agree exactly; JPEG 2000 differs because it averages by its wavelet.
    for (name, mean_most) in [
        ("RG2_RLE", 0.0),
        ("RG2_JPLL", 0.0),
        ("RG2_JLSL", 0.0),
        ("RG2_J2KR", 0.0015),
        ("RG2_J2KI", 0.0015),
        ("RG2_JLSN", 0.002),
        ("RG2_JPLY_fixed", 0.0015),
    ] {
        let Some(other) = at_512(name) else { continue };
        let (mean, most) = difference(&plain.pixels, &other.pixels);
        eprintln!("{name}: mean {mean:.6}, greatest {most:.4}");
        assert!(mean <= mean_most, "{name}: {mean}");
    }
}

#[test]
fn at_full_size_every_lossless_syntax_agrees_to_a_millionth() {
    let Some(plain) = at_full_size("RG2_UNC") else {
        return;
    };
    for name in ["RG2_RLE", "RG2_JPLL", "RG2_JLSL", "RG2_J2KR"] {
        let Some(other) = at_full_size(name) else {
            continue;
        };
        assert!(difference(&plain.pixels, &other.pixels).1 < 1e-6, "{name}");
    }
}

#[test]
fn two_lossy_syntaxes_of_one_chest_are_close() {
    let (Some(a), Some(b)) = (at_512("RG1_J2KI"), at_512("RG1_JLSN")) else {
        return;
    };
    let (mean, _) = difference(&a.pixels, &b.pixels);
    assert!(mean < 0.002, "{mean}");
}
