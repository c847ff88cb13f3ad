//! Mutated DICOM over all transfer syntaxes through the daemon: every file has one fate, and none is changed or lost.
//!
//! `make mutants COUNT=20000 SEED=1` is the long run; a slice of it runs with the other tests.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;
use radsort::decode;
#[path = "common/mutate.rs"]
mod mutate;
#[path = "../src/decode/tests/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Site, total};
use synthetic::{BIG_ENDIAN, DEFLATED, Dicom, EXPLICIT, IMPLICIT};

/// Transfer syntax, codestream, bits, samples per pixel.
const STREAMS: [(&str, &str, u16, u16); 16] = [
    ("1.2.840.10008.1.2.4.50", "baseline8.jpg", 8, 1),
    ("1.2.840.10008.1.2.4.50", "baseline-ycbcr.jpg", 8, 3),
    ("1.2.840.10008.1.2.4.51", "extended12.jpg", 12, 1),
    ("1.2.840.10008.1.2.4.57", "lossless16.jpg", 16, 1),
    ("1.2.840.10008.1.2.4.70", "lossless12.jpg", 12, 1),
    ("1.2.840.10008.1.2.4.80", "grey12.jls", 12, 1),
    ("1.2.840.10008.1.2.4.81", "near8.jls", 8, 1),
    ("1.2.840.10008.1.2.4.90", "lossless12.j2k", 12, 1),
    ("1.2.840.10008.1.2.4.91", "lossy12.j2k", 12, 1),
    ("1.2.840.10008.1.2.4.90", "rct.j2k", 8, 3),
    ("1.2.840.10008.1.2.4.201", "lossless16.htj2k", 16, 1),
    ("1.2.840.10008.1.2.4.202", "lossless16.htj2k", 16, 1),
    ("1.2.840.10008.1.2.4.203", "lossless16.htj2k", 16, 1),
    ("1.2.840.10008.1.2.4.110", "lossless16.jxl", 16, 1),
    ("1.2.840.10008.1.2.4.111", "lossless8.jxl", 8, 1),
    ("1.2.840.10008.1.2.4.112", "lossy8.jxl", 8, 1),
];

/// One healthy file in each syntax.
fn ancestors() -> Vec<Dicom> {
    let cells: Vec<u16> = (0..40 * 48).map(|n| (n * 21) % 4096).collect();
    let mut found: Vec<Dicom> = [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]
        .map(|syntax| Dicom::new(40, 48, 16, 12).pixels16(&cells).syntax(syntax))
        .into();
    let mut rle = vec![2, 0, 0, 0, 64, 0, 0, 0, 184, 0, 0, 0];
    rle.resize(64, 0);
    rle.extend([0xF1, 1, 0xF1, 7].repeat(60));
    let halves: &[&[u8]] = &[&rle[..70], &rle[70..]];
    found.push(Dicom::new(40, 48, 16, 12).fragments("1.2.840.10008.1.2.5", halves));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/codestreams");
    for (syntax, name, bits, samples) in STREAMS {
        let stream = fs::read(data.join(name)).unwrap();
        let mut dicom = Dicom::new(40, 48, if bits > 8 { 16 } else { 8 }, bits);
        if samples == 3 {
            dicom = dicom
                .words(0x0028_0002, &[3])
                .words(0x0028_0006, &[0])
                .text(0x0028_0004, "CS", "RGB");
        }
        found.push(dicom.fragments(syntax, &[&stream]));
    }
    found
}

#[test]
fn every_mutant_is_accounted_for() {
    let count = figures::setting("COUNT", 300) as u64;
    let seed = figures::setting("SEED", 1) as u64;
    let ancestors = ancestors();
    let site = Site::with(
        "truncated = \"2s\"\nexecutables = \"quarantine\"",
        "[decoders]\ncount = 2\n",
    );
    let mut daemon = site.start();
    let begun = Instant::now();
    let (mut slowest, mut put) = (Duration::ZERO, Vec::new());
    for n in 0..count {
        let mut rng = mutate::dice(seed, n);
        let ancestor = &ancestors[n as usize % ancestors.len()];
        let uid = format!("1.2.826.0.1.3680043.8.498.{seed}.{n}");
        let mut bytes = ancestor.clone().text(0x0008_0018, "UI", &uid).bytes();
        mutate::mutate(&mut bytes, 132, &mut rng);
        put.push(common::digest(&bytes));
        site.put(&format!("{n}.dcm"), &bytes);
        // Not all at once, and it is asked in between.
        if n % 500 == 499 || n + 1 == count {
            let deadline = Instant::now() + Duration::from_mins(5);
            loop {
                let asked = Instant::now();
                let status = daemon.status();
                slowest = slowest.max(asked.elapsed());
                if total(&status) > n {
                    break;
                }
                assert!(Instant::now() < deadline, "{status:#}");
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }
    let took = begun.elapsed();
    let status = daemon.status();
    assert!(daemon.child.try_wait().unwrap().is_none());
    daemon.stop();

    put.sort();
    assert_eq!(site.digests(), put, "a file was lost, changed or made");
    let records = site.records();
    let mut fates: BTreeMap<String, u64> = BTreeMap::new();
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for record in &records {
        *names
            .entry(record["from"].as_str().unwrap().to_owned())
            .or_default() += 1;
        let reason = record["reason"].as_str().unwrap_or("-");
        *fates
            .entry(format!("{:<12} {reason}", record["fate"].as_str().unwrap()))
            .or_default() += 1;
    }
    assert_eq!(names.len() as u64, count);
    assert!(
        names.values().all(|fates| *fates == 1),
        "a file has several fates"
    );
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    assert!(
        slowest < Duration::from_secs(10),
        "an answer took {slowest:?}"
    );
    site.assert_verified();
    let mut rows = vec![
        ("files".to_owned(), count.to_string()),
        ("seed".into(), seed.to_string()),
        ("seconds".into(), format!("{:.0}", took.as_secs_f64())),
        ("one fate each, digests before = after".into(), "all".into()),
        (
            "decoders replaced".into(),
            status["decoder_restarts"].to_string(),
        ),
        (
            "slowest answer to `radsort status`".into(),
            format!("{slowest:.1?}"),
        ),
    ];
    for (fate, count) in fates {
        let fate: Vec<&str> = fate.split_whitespace().collect();
        rows.push((fate.join(", "), count.to_string()));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(what, much)| vec![what, much])
        .collect();
    figures::publish("mutants", &["what", "how much"], &rows);
}
