//! `rival RUNS FILE…`: what a full decode by dicom-rs takes, file by file, one JSON object a line.
//!
//! CPU milliseconds, the least of RUNS, for opening, decoding, and converting to `f32` with Modality and VOI LUT as
//! dicom-pixeldata does by default; `null` with the reason where it cannot.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dicom_pixeldata::PixelDecoder as _;
use rustix::time::{ClockId, clock_gettime};

fn main() -> anyhow::Result<()> {
    let usage = "usage: rival RUNS FILE…";
    let mut words = std::env::args().skip(1);
    let runs: usize = words.next().context(usage)?.parse().context(usage)?;
    for path in words.map(PathBuf::from) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let timed = (0..runs.max(1)).map(|_| decode(&path)).reduce(|a, b| Ok(a?.min(b?)));
        let line = match timed {
            Some(Ok(full)) => serde_json::json!({"file": name, "full": full}),
            Some(Err(error)) => serde_json::json!({"file": name, "full": null, "why": format!("{error:#}")}),
            None => continue,
        };
        println!("{line}");
    }
    Ok(())
}

fn decode(path: &Path) -> anyhow::Result<f64> {
    let began = cpu_ms();
    let object = dicom_object::open_file(path)?;
    let values: Vec<f32> = object.decode_pixel_data()?.to_vec()?;
    anyhow::ensure!(!values.is_empty(), "no values");
    Ok(cpu_ms() - began)
}

/// CPU milliseconds of this process so far.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
