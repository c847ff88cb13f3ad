//! Gives a last layer numbers of its own, so that it can be fitted anew: exporters let its weight or bias come through an
//! `Identity` of another layer's, as a `Constant`, or as 16-bit floats through a `Cast`.

use super::head::{Layer, put};
use super::initializer::{Literal, Values};
use super::prepare::constant;
use crate::model::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

/// The model, whose layer before `logits` reads initializers that nobody else reads. What it computes is the same. Where there
/// is no such layer, or its numbers are computed, it stays as it is.
#[must_use]
pub fn with_own_head(mut model: ModelProto, logits: &str) -> ModelProto {
    let Some(graph) = &mut model.graph else {
        return model;
    };
    let Ok(layer) = Layer::find(graph, logits) else {
        return model;
    };
    for (node, input) in [layer.weight, layer.bias] {
        let name = graph.node[node].input[input].clone();
        if is_own(graph, &name) {
            continue;
        }
        let Some((dims, floats)) = numbers(graph, &name) else {
            continue;
        };
        let mut own = TensorProto {
            name: free_name(graph, &format!("{name}.head")),
            data_type: DataType::Float as i32,
            ..TensorProto::default()
        };
        put(&mut own, &dims, &floats);
        graph.node[node].input[input].clone_from(&own.name);
        graph.initializer.push(own);
    }
    model
}

/// Whether a name is that of floats which one node alone reads.
fn is_own(graph: &GraphProto, name: &str) -> bool {
    let float = DataType::Float as i32;
    let mut held = graph.initializer.iter();
    let inputs = graph.node.iter().flat_map(|node| &node.input);
    held.any(|tensor| tensor.name == name && tensor.data_type == float)
        && inputs.filter(|input| *input == name).count() == 1
}

/// Dimensions and numbers of what is held under a name, where that comes to 32-bit floats.
fn numbers(graph: &GraphProto, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let (tensor, kind) = held(graph, name)?;
    let literal = Literal::read(&tensor).ok()?;
    match literal.values {
        Values::Floats(floats) if kind == DataType::Float as i32 => Some((literal.dims, floats)),
        _ => None,
    }
}

/// The tensor that the model holds under a name, looked up through `Constant`, `Identity` and `Cast`, and the data type that it
/// comes to.
pub(super) fn held(graph: &GraphProto, name: &str) -> Option<(TensorProto, i32)> {
    let (mut name, mut kind) = (name, None);
    // A ring is no graph.
    for _ in 0..=graph.node.len() {
        if let Some(tensor) = graph.initializer.iter().find(|it| it.name == name) {
            return Some((tensor.clone(), kind.unwrap_or(tensor.data_type)));
        }
        let makes = |node: &&NodeProto| node.output.iter().any(|output| output == name);
        let maker = graph.node.iter().find(makes)?;
        match maker.op_type.as_str() {
            "Constant" => {
                let tensor = constant(maker.attribute.first()?)?;
                let of_tensor = tensor.data_type;
                return Some((tensor, kind.unwrap_or(of_tensor)));
            }
            "Identity" => {}
            // A cast to fewer bits and back would round.
            "Cast" if kind.is_none() => {
                let to = maker.attribute.iter().find(|it| it.name == "to")?;
                kind = Some(to.i as i32);
            }
            _ => return None,
        }
        name = maker.input.first()?;
    }
    None
}

fn free_name(graph: &GraphProto, wanted: &str) -> String {
    let taken = |name: &str| {
        let makers = graph.node.iter().flat_map(|node| &node.output);
        let held = graph.initializer.iter().map(|tensor| &tensor.name);
        makers.chain(held).any(|it| it == name)
    };
    let mut name = wanted.to_owned();
    while taken(&name) {
        name.push('+');
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::onnx::AttributeProto;
    use crate::retrain::graph::Graph;
    use crate::retrain::head::{Head, Place};
    use crate::retrain::network::{Architecture, LOGITS};

    fn model() -> ModelProto {
        Architecture::small(32, 32, 3).build(1)
    }

    fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: input.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn integer(name: &str, i: i64) -> AttributeProto {
        AttributeProto {
            name: name.into(),
            i,
            r#type: crate::model::onnx::attribute_proto::AttributeType::Int as i32,
            ..AttributeProto::default()
        }
    }

    /// Puts a node between a number of the last layer and what held it.
    fn through(
        model: &mut ModelProto,
        which: usize,
        make: impl FnOnce(&mut GraphProto, &str) -> NodeProto,
    ) {
        let graph = model.graph.as_mut().unwrap();
        let last = graph
            .node
            .iter()
            .position(|it| it.output[0] == LOGITS)
            .unwrap();
        let source = graph.node[last].input[which].clone();
        let made = make(graph, &source);
        graph.node[last].input[which].clone_from(&made.output[0]);
        graph.node.insert(0, made);
    }

    /// As exporters write them: the bias through an `Identity`, the weight a `Constant`, and as 16 bits through a `Cast`.
    fn disguised() -> Vec<ModelProto> {
        let [mut identity, mut constant, mut cast] = [model(), model(), model()];
        through(&mut identity, 2, |_, bias| node("Identity", &[bias], "b2"));
        through(&mut constant, 1, |graph, weight| {
            let at = graph.initializer.iter().position(|it| it.name == weight);
            let tensor = graph.initializer.remove(at.unwrap());
            let mut node = node("Constant", &[], "w2");
            node.attribute.push(AttributeProto {
                name: "value".into(),
                t: Some(tensor),
                r#type: crate::model::onnx::attribute_proto::AttributeType::Tensor as i32,
                ..AttributeProto::default()
            });
            node
        });
        through(&mut cast, 1, |graph, weight| {
            let mut held = graph.initializer.iter_mut();
            let tensor = held.find(|it| it.name == weight).unwrap();
            let Values::Floats(floats) = Literal::read(tensor).unwrap().values else {
                panic!("no floats");
            };
            tensor.data_type = DataType::Float16 as i32;
            tensor.float_data.clear();
            tensor.raw_data = floats
                .iter()
                .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
                .collect();
            let mut node = node("Cast", &[weight], "w2");
            node.attribute.push(integer("to", 1));
            node
        });
        vec![identity, constant, cast]
    }

    #[test]
    fn a_last_layer_whose_numbers_come_in_disguise_is_found_and_fitted_anew() {
        let plain = model();
        let place = Place::find(&plain, LOGITS).unwrap();
        let before = place.read(&plain).unwrap();
        for model in disguised() {
            let model = with_own_head(model, LOGITS);
            let place = Place::find(&model, LOGITS).unwrap();
            let read = place.read(&model).unwrap();
            let apart = |(a, b): (&f32, &f32)| (a - b).abs();
            let weights = read
                .weight
                .iter()
                .flatten()
                .zip(before.weight.iter().flatten());
            assert!(weights.map(apart).fold(0.0, f32::max) < 1e-3);
            assert_eq!(read.bias, before.bias);
            let head = Head {
                bias: vec![1.0, 2.0, 3.0],
                ..read
            };
            let replaced = place.replace(model, &head);
            assert_eq!(place.read(&replaced).unwrap(), head);
        }
    }

    #[test]
    fn a_bias_that_another_layer_reads_as_well_stays_that_layers_own() {
        let mut shared = model();
        let graph = shared.graph.as_mut().unwrap();
        let last = graph.node.iter().find(|it| it.output[0] == LOGITS).unwrap();
        let bias = last.input[2].clone();
        graph.node.push(node("Identity", &[&bias], "other"));
        let place = Place::find(&shared, LOGITS).unwrap();
        let before = place.read(&shared).unwrap();
        let own = with_own_head(shared, LOGITS);
        let place = Place::find(&own, LOGITS).unwrap();
        let head = Head {
            bias: vec![1.0, 2.0, 3.0],
            ..before.clone()
        };
        let replaced = place.replace(own, &head);
        let (tensor, _) = held(replaced.graph.as_ref().unwrap(), "other").unwrap();
        let Values::Floats(others) = Literal::read(&tensor).unwrap().values else {
            panic!("no floats");
        };
        assert_eq!(others, before.bias);
        // What is plain already stays as it is.
        assert_eq!(with_own_head(model(), LOGITS), model());
    }

    #[test]
    fn all_weights_of_such_a_network_can_be_trained_and_are_written_back() {
        for model in disguised() {
            let graph = Graph::new(with_own_head(model, LOGITS)).unwrap();
            let device = burn::tensor::Device::flex();
            let mut weights = graph.weights(&device);
            for parameter in &mut weights.parameters {
                *parameter = parameter.clone() + 1.0;
            }
            let written = graph.to_onnx(&weights).unwrap();
            let names: Vec<&str> = graph.parameter_names().collect();
            let held = &written.graph.as_ref().unwrap().initializer;
            for name in names {
                assert!(held.iter().any(|it| it.name == name), "{name}");
            }
        }
    }
}
