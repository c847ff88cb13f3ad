//! From a file's bytes to a model-ready tensor, by transfer syntax, and rendering alone: `cargo bench --bench decode`.

#![allow(clippy::expect_used)] // a benchmark may fail

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use radsort::decode::attributes::PixelDescription;
use radsort::decode::header::inspect_bytes;
use radsort::decode::render::render_plane;
use radsort::decode::{Fit, Intensity, Polarity, RenderSpec, Resampler, decode_bytes};
use radsort::phantom::{Difficulty, Imbalance, Phantom, PlanOptions, Syntax, plan};

const COLUMNS: u32 = 2140;
const ROWS: u32 = 1760;
const PIXELS: u32 = COLUMNS * ROWS;

fn main() {
    divan::main();
}

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

fn file(syntax: &str) -> Vec<u8> {
    let syntax: Syntax = syntax.parse().expect("a syntax");
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("phantom.dcm");
    phantom()
        .write(&path, syntax)
        .expect("a phantom is written");
    std::fs::read(&path).expect("it is read back")
}

#[divan::bench(args = Syntax::ALL.map(Syntax::name), sample_count = 10)]
fn decode(bencher: Bencher, syntax: &str) {
    let bytes = file(syntax);
    bencher
        .counter(ItemsCount::new(PIXELS))
        .bench(|| decode_bytes(black_box(&bytes), &[spec()]).map(|decoded| decoded.radiographs));
}

#[divan::bench]
fn header_pass(bencher: Bencher) {
    let bytes = file("explicit");
    bencher.bench(|| inspect_bytes(black_box(&bytes)).completeness);
}

#[divan::bench(sample_count = 20)]
fn render(bencher: Bencher) {
    let phantom = phantom();
    let description = PixelDescription::monochrome2(ROWS, COLUMNS, phantom.bits_stored);
    bencher
        .counter(ItemsCount::new(PIXELS))
        .bench(|| render_plane(black_box(&phantom.pixels), &description, &spec()));
}
