//! From a file's bytes to a model-ready tensor, by transfer syntax, and rendering alone: `cargo bench --bench decode`.

#![allow(missing_docs)] // criterion's macros
#![allow(clippy::expect_used)] // a benchmark may fail

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use radsort::decode::attributes::PixelDescription;
use radsort::decode::header::inspect_bytes;
use radsort::decode::render::render_plane;
use radsort::decode::{Fit, Intensity, Polarity, RenderSpec, Resampler, decode_bytes};
use radsort::phantom::{Difficulty, Imbalance, Phantom, PlanOptions, Syntax, plan};

const COLUMNS: u32 = 2140;
const ROWS: u32 = 1760;

fn spec() -> RenderSpec {
    RenderSpec {
        height: 528,
        width: 528,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Voi,
        polarity: Polarity::Monochrome2,
    }
}

fn phantom() -> Phantom {
    let plans = plan(&PlanOptions {
        count: 1,
        seed: 77,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: Some((COLUMNS, ROWS)),
        outside: 0.0,
    });
    plans[0].draw()
}

fn file(phantom: &Phantom, syntax: Syntax) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("phantom.dcm");
    phantom.write(&path, syntax).expect("a phantom is written");
    std::fs::read(&path).expect("it is read back")
}

fn decoding(criterion: &mut Criterion) {
    let phantom = phantom();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(COLUMNS) * u64::from(ROWS)));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for syntax in Syntax::ALL {
        let bytes = file(&phantom, syntax);
        group.bench_function(syntax.name(), |bencher| {
            bencher.iter(|| decode_bytes(black_box(&bytes), &[spec()]));
        });
    }
    group.finish();
    let bytes = file(&phantom, Syntax::ExplicitLe);
    criterion.bench_function("header pass", |bencher| {
        bencher.iter(|| inspect_bytes(black_box(&bytes)));
    });
}

fn rendering(criterion: &mut Criterion) {
    let phantom = phantom();
    let description = PixelDescription::monochrome2(ROWS, COLUMNS, phantom.bits_stored);
    let mut group = criterion.benchmark_group("render");
    group.throughput(Throughput::Elements(u64::from(COLUMNS) * u64::from(ROWS)));
    group.sample_size(20);
    group.bench_function("whole range", |bencher| {
        bencher.iter(|| render_plane(black_box(&phantom.pixels), &description, &spec()));
    });
    group.finish();
}

criterion_group!(benches, decoding, rendering);
criterion_main!(benches);
