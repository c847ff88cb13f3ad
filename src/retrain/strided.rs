//! PyTorch's exporter writes a view of a tensor (`as_strided`, in torchvision's ConvNeXt) as a flattening and a gathering of
//! places. Where these are 0, 1, 2, … it is only another shape, which can be trained through.

use std::collections::HashMap;

use super::initializer::{Literal, Values};
use crate::model::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

/// Puts one `Reshape` in the place of each such pair.
pub(super) fn views_as_shapes(graph: &mut GraphProto) {
    let mut flattened: HashMap<String, String> = HashMap::new();
    let mut shapes = Vec::new();
    let mut nodes = std::mem::take(&mut graph.node);
    for node in &mut nodes {
        match (node.op_type.as_str(), node.input.as_slice()) {
            ("Reshape", [x, shape]) if is_flat(graph, shape) => {
                flattened.extend(node.output.first().map(|flat| (flat.clone(), x.clone())));
            }
            ("Gather", [flat, places]) if axis(node) == 0 => {
                let (Some(x), Some(dims)) = (flattened.get(flat), in_order(graph, places)) else {
                    continue;
                };
                let name = format!("{flat}.shape");
                node.attribute.clear();
                node.op_type = "Reshape".into();
                node.input = vec![x.clone(), name.clone()];
                shapes.push(TensorProto {
                    name,
                    dims: vec![dims.len() as i64],
                    data_type: DataType::Int64 as i32,
                    int64_data: dims,
                    ..Default::default()
                });
            }
            _ => {}
        }
    }
    // What nobody reads any more.
    if !shapes.is_empty() {
        let read = |name: &String| nodes.iter().any(|node| node.input.contains(name));
        let left: Vec<bool> = nodes
            .iter()
            .map(|node| {
                let flat = node.output.first();
                flat.is_none_or(|flat| !flattened.contains_key(flat) || read(flat))
            })
            .collect();
        let mut left = left.into_iter();
        nodes.retain(|_| left.next().unwrap_or(true));
    }
    graph.node = nodes;
    graph.initializer.extend(shapes);
}

fn axis(node: &NodeProto) -> i64 {
    let axis = node.attribute.iter().find(|it| it.name == "axis");
    axis.map_or(0, |axis| axis.i)
}

fn integers(graph: &GraphProto, name: &str) -> Option<(Vec<i64>, Vec<i64>)> {
    let tensor = graph.initializer.iter().find(|it| it.name == name)?;
    match Literal::read(tensor).ok()?.values {
        Values::Integers(integers) => Some((tensor.dims.clone(), integers)),
        Values::Floats(_) => None,
    }
}

fn is_flat(graph: &GraphProto, shape: &str) -> bool {
    integers(graph, shape).is_some_and(|(_, shape)| shape == [-1])
}

/// The shape of places that are 0, 1, 2, …
fn in_order(graph: &GraphProto, places: &str) -> Option<Vec<i64>> {
    let (dims, places) = integers(graph, places)?;
    let in_order = places.iter().zip(0..).all(|(place, k)| *place == k);
    (in_order && !places.is_empty()).then_some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
        TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: DataType::Int64 as i32,
            int64_data: data.to_vec(),
            ..Default::default()
        }
    }

    fn node(operator: &str, input: [&str; 2], output: &str) -> NodeProto {
        NodeProto {
            op_type: operator.into(),
            input: input.map(str::to_owned).to_vec(),
            output: vec![output.into()],
            ..Default::default()
        }
    }

    /// As the exporter writes it, with these places.
    fn exported(places: &[i64]) -> GraphProto {
        let mut graph = GraphProto {
            node: vec![
                node("Reshape", ["x", "minus one"], "flat"),
                node("Gather", ["flat", "places"], "view"),
            ],
            initializer: vec![
                whole("minus one", &[1], &[-1]),
                whole("places", &[1, 3, 1, 1], places),
            ],
            ..Default::default()
        };
        views_as_shapes(&mut graph);
        graph
    }

    #[test]
    fn a_view_of_everything_in_order_is_only_another_shape() {
        let graph = exported(&[0, 1, 2]);
        assert_eq!(graph.node, [node("Reshape", ["x", "flat.shape"], "view")]);
        let shape = integers(&graph, "flat.shape");
        assert_eq!(shape, Some((vec![4], vec![1, 3, 1, 1])));
        let operators = |graph: &GraphProto| {
            let nodes = graph.node.iter();
            nodes.map(|it| it.op_type.clone()).collect::<Vec<_>>()
        };
        assert_eq!(operators(&exported(&[0, 2, 1])), ["Reshape", "Gather"]);
    }
}
