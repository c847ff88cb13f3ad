//! What decoding costs, file by file: `decode_times SIDE RUNS FILE…` prints one JSON object a line.
//!
//! CPU milliseconds, the least of RUNS: `header` is the header pass, `tensor` everything from the path to grey values at
//! SIDE × SIDE, in this process. `jailed` is wall-clock time through the jail, as the service decodes: the same in a
//! forked child, with its answer checked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use radsort::config::settings::DecoderSettings;
use radsort::decode::pool::Pool;
use radsort::decode::{self, Fit, Intensity, Polarity, RenderSpec, Resampler};
use rustix::time::{ClockId, clock_gettime};

fn main() -> anyhow::Result<()> {
    // The jail's other end is this same program.
    if std::env::args().nth(1).as_deref() == Some("decode-worker") {
        return Ok(decode::worker::serve()?);
    }
    let usage = "usage: decode_times SIDE RUNS FILE…";
    let mut words = std::env::args().skip(1);
    let side: u32 = words.next().context(usage)?.parse().context(usage)?;
    let runs: usize = words.next().context(usage)?.parse().context(usage)?;
    let spec = RenderSpec {
        height: side,
        width: side,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Voi,
        polarity: Polarity::Monochrome2,
    };
    let specs = std::slice::from_ref(&spec);
    let pool = Pool::start(&DecoderSettings {
        count: 1,
        ..DecoderSettings::default()
    })?;
    for path in words.map(PathBuf::from) {
        let open = |path: &Path| -> anyhow::Result<(File, u64)> {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (mut header, mut tensor, mut jailed) = (f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..runs.max(1) {
            let began = cpu_ms();
            let (file, size) = open(&path)?;
            let _ = std::hint::black_box(decode::inspect(&file, size));
            header = header.min(cpu_ms() - began);

            let began = cpu_ms();
            let (file, size) = open(&path)?;
            let decoded = decode::decode(&file, size, specs)?;
            anyhow::ensure!(
                !decoded.radiographs.is_empty(),
                "{}: no picture",
                path.display()
            );
            tensor = tensor.min(cpu_ms() - began);

            let began = Instant::now();
            let (file, size) = open(&path)?;
            pool.decode(&file, size, specs)?;
            jailed = jailed.min(began.elapsed().as_secs_f64() * 1e3);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let line =
            serde_json::json!({"file": name, "header": header, "tensor": tensor, "jailed": jailed});
        println!("{line}");
    }
    Ok(())
}

/// CPU milliseconds of this process so far.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
