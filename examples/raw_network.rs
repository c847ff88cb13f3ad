//! What the networks of a bundle do by themselves, on ready pictures: `raw_network BUNDLE COUNT BATCH DEVICE [LIBRARY]`.
//!
//! DEVICE is `cpu` or `cuda`; CUDA is proven or the program fails. Prints one JSON object. COUNT pictures go through in
//! batches of BATCH, so that what the service keeps of this throughput can be told.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use radsort::config::settings::{Device, GpuPolicy, ReviewSettings, RuntimeSettings};
use radsort::decode::Radiograph;
use radsort::domain::decision::HeaderView;
use radsort::model::cascade::{Cascade, Image};
use radsort::model::{Bundle, Thresholds};
use rustix::time::{ClockId, clock_gettime};

fn main() -> anyhow::Result<()> {
    let usage = "usage: raw_network BUNDLE COUNT BATCH cpu|cuda [LIBRARY]";
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, count, batch, device, library @ ..] = words.as_slice() else {
        bail!(usage);
    };
    let (count, batch): (usize, usize) =
        (count.parse().context(usage)?, batch.parse().context(usage)?);
    let bundle = Bundle::open(Path::new(bundle))?;
    let thresholds = Thresholds::new(&bundle, &ReviewSettings::default())?;
    let (device, gpu) = match device.as_str() {
        "cpu" => (Device::Cpu, GpuPolicy::Prefer),
        "cuda" => (Device::Cuda(0), GpuPolicy::Require),
        _ => bail!(usage),
    };
    let runtime = RuntimeSettings {
        library: library.first().map(PathBuf::from),
        device,
        gpu,
        threads: 1,
        batch,
        ..RuntimeSettings::default()
    };
    let mut cascade = Cascade::load(bundle.clone(), &runtime, thresholds.view())?;
    let radiographs: Vec<Radiograph> = bundle
        .render_specs()
        .iter()
        .map(|spec| Radiograph {
            height: spec.height,
            width: spec.width,
            pixels: (0..spec.height * spec.width)
                .map(|n| (n % 251) as f32 / 250.0)
                .collect(),
        })
        .collect();
    let image = || Image {
        header: HeaderView::Ap,
        radiographs: &radiographs,
    };
    let mut run = |count: usize| -> anyhow::Result<()> {
        for first in (0..count).step_by(batch.max(1)) {
            let images: Vec<_> = (first..count.min(first + batch)).map(|_| image()).collect();
            for prediction in cascade.classify(&images) {
                std::hint::black_box(prediction?);
            }
        }
        Ok(())
    };
    run(4 * batch)?;
    let (began, used) = (Instant::now(), cpu_s());
    run(count)?;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_s() - used);
    let provider = cascade.provider().to_string();
    println!(
        "{}",
        serde_json::json!({
            "images": count, "batch": batch, "wall_s": wall, "cpu_s": cpu, "provider": provider
        })
    );
    Ok(())
}

/// CPU seconds of this process so far.
fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
