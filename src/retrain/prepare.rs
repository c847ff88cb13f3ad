//! Makes an exporter's ONNX model plain, so that what is trained has one place each: floats have 32 bits, constants are
//! initializers, and equal vectors that an exporter has stored once are apart again (training would tie them).

use std::collections::{HashMap, HashSet};

use super::graph::GraphError;
use super::operator::label;
use super::strided;
use crate::model::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto,
    tensor_proto::DataType, type_proto,
};

/// The model in its plain form; what it computes is the same.
pub(super) fn prepare(mut model: ModelProto) -> Result<ModelProto, GraphError> {
    let graph = model.graph.as_mut().ok_or(GraphError::NoGraph)?;
    constants_to_initializers(graph)?;
    strided::views_as_shapes(graph);
    one_precision(graph);
    copies_of_initializers(graph);
    untie_vectors(graph);
    Ok(model)
}

/// 16 and 64 bit floats become 32 bit ones, here and in every cast.
fn one_precision(graph: &mut GraphProto) {
    let other = |kind: i32| kind == DataType::Float16 as i32 || kind == DataType::Double as i32;
    let float = DataType::Float as i32;
    for tensor in &mut graph.initializer {
        if other(tensor.data_type)
            && let Ok(literal) = super::initializer::Literal::read(tensor)
            && let super::initializer::Values::Floats(data) = literal.values
        {
            tensor.data_type = float;
            set_floats(tensor, &data);
        }
    }
    let casts = graph.node.iter_mut().filter(|n| n.op_type == "Cast");
    for attribute in casts.flat_map(|n| &mut n.attribute) {
        if attribute.name == "to" && other(attribute.i as i32) {
            attribute.i = i64::from(float);
        }
    }
    let values = graph.input.iter_mut().chain(&mut graph.output);
    for value in values.chain(&mut graph.value_info) {
        if let Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..
        }) = &mut value.r#type
            && other(tensor.elem_type)
        {
            tensor.elem_type = float;
        }
    }
}

/// Puts 32 bit floats into a tensor.
pub(super) fn set_floats(tensor: &mut TensorProto, data: &[f32]) {
    tensor.raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor.float_data.clear();
    tensor.double_data.clear();
    tensor.int32_data.clear();
}

/// `Constant` nodes become initializers.
fn constants_to_initializers(graph: &mut GraphProto) -> Result<(), GraphError> {
    let (constants, nodes) = std::mem::take(&mut graph.node)
        .into_iter()
        .partition::<Vec<_>, _>(|n| n.op_type == "Constant");
    graph.node = nodes;
    for node in constants {
        let tensor = node.attribute.first().and_then(constant);
        let mut tensor = tensor.ok_or_else(|| GraphError::Node {
            node: label(&node),
            problem: "it holds no numbers that can be read".into(),
        })?;
        tensor.name = node.output.first().cloned().unwrap_or_default();
        graph.initializer.push(tensor);
    }
    Ok(())
}

pub(super) fn constant(attribute: &AttributeProto) -> Option<TensorProto> {
    let floats = |dims: Vec<i64>, data: &[f32]| TensorProto {
        dims,
        data_type: DataType::Float as i32,
        float_data: data.to_vec(),
        ..Default::default()
    };
    let integers = |dims: Vec<i64>, data: &[i64]| TensorProto {
        dims,
        data_type: DataType::Int64 as i32,
        int64_data: data.to_vec(),
        ..Default::default()
    };
    match attribute.name.as_str() {
        "value" => attribute.t.clone(),
        "value_float" => Some(floats(vec![], &[attribute.f])),
        "value_floats" => Some(floats(
            vec![attribute.floats.len() as i64],
            &attribute.floats,
        )),
        "value_int" => Some(integers(vec![], &[attribute.i])),
        "value_ints" => Some(integers(vec![attribute.ints.len() as i64], &attribute.ints)),
        _ => None,
    }
}

/// `Identity` of an initializer: the exporter has found equal tensors and stored one of them. So is a `Cast` of floats to
/// floats, now that there is [one precision](one_precision).
fn copies_of_initializers(graph: &mut GraphProto) {
    let mut held: HashMap<String, usize> = places(graph);
    let outputs: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let (mut nodes, mut copies) = (Vec::new(), Vec::new());
    for node in std::mem::take(&mut graph.node) {
        let source = node.input.first().and_then(|name| held.get(name)).copied();
        match (source, node.output.first()) {
            (Some(k), Some(output))
                if is_copy(&node, &graph.initializer[k]) && !outputs.contains(output) =>
            {
                held.insert(output.clone(), k);
                copies.push((k, output.clone()));
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    for (k, name) in copies {
        let copy = TensorProto {
            name,
            ..graph.initializer[k].clone()
        };
        graph.initializer.push(copy);
    }
}

fn is_copy(node: &NodeProto, of: &TensorProto) -> bool {
    let float = DataType::Float as i32;
    let to_float = |it: &AttributeProto| it.name == "to" && it.i == i64::from(float);
    match node.op_type.as_str() {
        "Identity" => true,
        "Cast" => of.data_type == float && node.attribute.iter().any(to_float),
        _ => false,
    }
}

/// A vector (one number a channel) that several nodes read is copied for each of them.
fn untie_vectors(graph: &mut GraphProto) {
    let held = places(graph);
    let mut used: HashSet<usize> = HashSet::new();
    let mut names: HashSet<String> = held.keys().cloned().collect();
    let (initializers, nodes): (&mut Vec<TensorProto>, &mut Vec<NodeProto>) =
        (&mut graph.initializer, &mut graph.node);
    for input in nodes.iter_mut().flat_map(|node| &mut node.input) {
        let Some(k) = held.get(input.as_str()).copied() else {
            continue;
        };
        let tensor = &initializers[k];
        let numbers = tensor.dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
        let vector = tensor.dims.iter().max().copied() == numbers;
        if vector && tensor.data_type == DataType::Float as i32 && !used.insert(k) {
            let mut name = format!("{}.copy", tensor.name);
            while !names.insert(name.clone()) {
                name.push('+');
            }
            let copy = TensorProto {
                name: name.clone(),
                ..tensor.clone()
            };
            initializers.push(copy);
            *input = name;
        }
    }
}

fn places(graph: &GraphProto) -> HashMap<String, usize> {
    let named = graph.initializer.iter().enumerate();
    named.map(|(k, tensor)| (tensor.name.clone(), k)).collect()
}
