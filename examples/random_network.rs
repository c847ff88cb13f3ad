//! Writes an EfficientNet with random weights as ONNX: `random_network b0…b7 SIDE OUT.onnx [fp16]`.
//!
//! For the benchmarks: how long a network takes does not depend on what it has learned. With `fp16` weights and
//! everything between input and outputs are 16-bit floating point; inputs and outputs stay 32-bit.

use anyhow::{Context as _, bail};
use half::f16;
use prost::Message as _;
use radsort::model::onnx::tensor_proto::DataType;
use radsort::model::onnx::{AttributeProto, ModelProto, NodeProto, attribute_proto::AttributeType};
use radsort::retrain::efficientnet::Variant;

/// The categories of the shipped bundle's frontal view, so that both have the same head.
const CLASSES: usize = 5;

fn main() -> anyhow::Result<()> {
    let usage = "usage: random_network b0…b7 SIDE OUT.onnx [fp16]";
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [variant, side, out, precision @ ..] = words.as_slice() else {
        bail!(usage);
    };
    let variant = Variant::named(variant).context(usage)?;
    let side: usize = side.parse().context(usage)?;
    let mut network = variant.build([1, side, side], CLASSES, 1);
    match precision {
        [] => {}
        [word] if word == "fp16" => halve(&mut network)?,
        _ => bail!(usage),
    }
    std::fs::write(out, network.encode_to_vec()).with_context(|| out.clone())
}

/// Turns all weights into 16-bit numbers, and casts behind the inputs and before the outputs.
fn halve(network: &mut ModelProto) -> anyhow::Result<()> {
    let graph = network.graph.as_mut().context("a model has a graph")?;
    for tensor in &mut graph.initializer {
        let values = tensor.raw_data.as_chunks::<4>().0.iter();
        let halves = values.map(|bytes| f16::from_f32(f32::from_le_bytes(*bytes)));
        tensor.raw_data = halves.flat_map(f16::to_le_bytes).collect();
        tensor.data_type = DataType::Float16 as i32;
    }
    let cast = |from: &str, to: &str, kind: DataType| NodeProto {
        op_type: "Cast".into(),
        name: format!("cast.{to}"),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute: vec![AttributeProto {
            name: "to".into(),
            i: (kind as i32).into(),
            r#type: AttributeType::Int as i32,
            ..Default::default()
        }],
        ..Default::default()
    };
    let half_of = |name: &str| format!("{name}.fp16");
    let outer: Vec<String> = graph
        .input
        .iter()
        .chain(&graph.output)
        .map(|value| value.name.clone())
        .collect();
    for node in &mut graph.node {
        for name in node.input.iter_mut().chain(&mut node.output) {
            if outer.contains(name) {
                *name = half_of(name);
            }
        }
    }
    for input in &graph.input {
        graph.node.insert(
            0,
            cast(&input.name, &half_of(&input.name), DataType::Float16),
        );
    }
    for output in &graph.output {
        graph
            .node
            .push(cast(&half_of(&output.name), &output.name, DataType::Float));
    }
    Ok(())
}
