//! Writes an EfficientNet with random weights as ONNX: `cargo run --release --example random_network -- b0 224 OUT.onnx`.
//! For the benchmarks: how long a network takes does not depend on what it has learned.

use anyhow::Context as _;
use prost::Message as _;
use radsort::retrain::efficientnet::Variant;

/// The categories of the shipped bundle's frontal view, so that both have the same head.
const CLASSES: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: random_network b0…b7 SIDE OUT.onnx";
    let variant = words
        .next()
        .as_deref()
        .and_then(Variant::named)
        .context(usage)?;
    let side: usize = words.next().context(usage)?.parse().context(usage)?;
    let out = words.next().context(usage)?;
    let network = variant.build([1, side, side], CLASSES, 1);
    std::fs::write(&out, network.encode_to_vec()).with_context(|| out.clone())
}
