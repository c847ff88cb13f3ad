//! The last layer of a classifier: found in the graph, fitted anew on frozen features ([`fit()`]), written back.

mod descent;
mod fit;

use super::own_head::held;
use crate::model::onnx::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension::Value as Size},
    type_proto,
};
pub(super) use descent::{Prepared, descend};
pub use fit::{Fit, fit};

/// Where a graph's last layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The value that the layer multiplies: the features.
    pub features: String,
    pub(super) weight: String,
    bias: String,
    /// Whether the weight lies as `[classes, features]`.
    transposed: bool,
    /// The logits' name.
    pub(super) logits: String,
    /// How many features there are.
    pub length: usize,
    /// How many classes there are.
    pub classes: usize,
}

/// The last layer cannot be found or replaced.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// No Gemm, no MatMul and Add at the end.
    #[error(
        "the value {logits:?} does not come from a Gemm, or from a MatMul and an Add, with weights of their own: {why}"
    )]
    NotFound {
        /// The logits' name.
        logits: String,
        /// What was found instead.
        why: String,
    },
}

/// The numbers of a last layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// One row of `features` numbers for each class.
    pub weight: Vec<Vec<f32>>,
    /// One number for each class.
    pub bias: Vec<f32>,
}

impl Head {
    /// The logits for one image's features.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let dot = |row: &Vec<f32>| row.iter().zip(features).map(|(w, x)| w * x).sum::<f32>();
        self.weight
            .iter()
            .zip(&self.bias)
            .map(|(row, bias)| dot(row) + bias)
            .collect()
    }

    /// The same head for features from which means are taken and that are divided by deviations: weights
    /// `[feature][class]` in one row, and biases.
    fn on_standardised(&self, means: &[f32], deviations: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let of_feature = deviations.iter().enumerate();
        let weight = of_feature.flat_map(|(k, deviation)| {
            let rows = self.weight.iter();
            rows.map(move |row| row[k] * deviation)
        });
        (weight.collect(), self.logits(means))
    }
}

/// The nodes of a last layer: which of a graph's nodes read its numbers, each with the place among that node's inputs.
pub(super) struct Layer {
    pub(super) weight: (usize, usize),
    pub(super) bias: (usize, usize),
    features: (usize, usize),
    /// Whether the weight lies as `[classes, features]`.
    transposed: bool,
}

impl Layer {
    /// Finds the layer that makes the value `logits`.
    pub(super) fn find(graph: &GraphProto, logits: &str) -> Result<Self, HeadError> {
        let not_found = |why: &str| HeadError::NotFound {
            logits: logits.to_owned(),
            why: why.to_owned(),
        };
        let maker = |value: &str| {
            let makes = |node: &NodeProto| node.output.iter().any(|it| it == value);
            graph.node.iter().position(makes)
        };
        let mut last = maker(logits).ok_or_else(|| not_found("no node makes it"))?;
        while graph.node[last].op_type == "Identity" {
            last =
                maker(&graph.node[last].input[0]).ok_or_else(|| not_found("no node makes it"))?;
        }
        let node = &graph.node[last];
        match node.op_type.as_str() {
            "Gemm" if node.input.len() == 3 => {
                let transposed = node
                    .attribute
                    .iter()
                    .any(|a| a.name == "transB" && a.i != 0);
                let plain = node.attribute.iter().all(|a| match a.name.as_str() {
                    "alpha" | "beta" => a.f == 1.0,
                    "transA" => a.i == 0,
                    _ => true,
                });
                if !plain {
                    return Err(not_found("its Gemm scales or transposes the features"));
                }
                Ok(Self {
                    weight: (last, 1),
                    bias: (last, 2),
                    features: (last, 0),
                    transposed,
                })
            }
            "Add" if node.input.len() == 2 => {
                let computed = |input: &String| {
                    let computed = held(graph, input).is_none();
                    maker(input).filter(|_| computed)
                };
                let (product, bias) = match (computed(&node.input[0]), computed(&node.input[1])) {
                    (Some(product), None) => (product, 1),
                    (None, Some(product)) => (product, 0),
                    _ => return Err(not_found("its Add has no bias of its own")),
                };
                let op_type = &graph.node[product].op_type;
                if op_type != "MatMul" {
                    return Err(not_found(&format!("an Add after {op_type}")));
                }
                Ok(Self {
                    weight: (product, 1),
                    bias: (last, bias),
                    features: (product, 0),
                    transposed: false,
                })
            }
            "Gemm" => Err(not_found("its Gemm has no bias (no third input)")),
            "MatMul" => Err(not_found("its MatMul has no bias (no Add after it)")),
            other => Err(not_found(&format!("it comes from {other}"))),
        }
    }
}

impl Place {
    /// Finds the layer that makes the value `logits`, [with numbers of its own](super::own_head::with_own_head).
    pub fn find(model: &ModelProto, logits: &str) -> Result<Self, HeadError> {
        let not_found = |why: &str| HeadError::NotFound {
            logits: logits.to_owned(),
            why: why.to_owned(),
        };
        let graph = model
            .graph
            .as_ref()
            .ok_or_else(|| not_found("there is no graph"))?;
        let layer = Layer::find(graph, logits)?;
        let name = |(node, input): (usize, usize)| graph.node[node].input[input].clone();
        let (weight, bias) = (name(layer.weight), name(layer.bias));
        let initializer = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
        let tensor = initializer(&weight).ok_or_else(|| not_found("its weight is computed"))?;
        let [rows, columns] = tensor.dims[..] else {
            return Err(not_found("its weight is not a matrix"));
        };
        if initializer(&bias).is_none_or(|bias| bias.dims.len() != 1) {
            return Err(not_found("its bias is computed"));
        }
        let (classes, length) = if layer.transposed {
            (rows, columns)
        } else {
            (columns, rows)
        };
        Ok(Self {
            features: name(layer.features),
            weight,
            bias,
            transposed: layer.transposed,
            logits: logits.to_owned(),
            length: length as usize,
            classes: classes as usize,
        })
    }

    /// The head as it is now.
    pub fn read(&self, model: &ModelProto) -> Option<Head> {
        let graph = model.graph.as_ref()?;
        let numbers = |name: &str| {
            let tensor = graph
                .initializer
                .iter()
                .find(|tensor| tensor.name == name)?;
            floats(tensor)
        };
        let (weight, bias) = (numbers(&self.weight)?, numbers(&self.bias)?);
        let at = |class: usize, feature: usize| {
            weight.get(if self.transposed {
                class * self.length + feature
            } else {
                feature * self.classes + class
            })
        };
        let row = |class| {
            (0..self.length)
                .map(|feature| at(class, feature).copied())
                .collect()
        };
        Some(Head {
            weight: (0..self.classes).map(row).collect::<Option<_>>()?,
            bias,
        })
    }

    /// The model with another head, which may have another number of classes and read vectors of another length.
    #[must_use]
    pub fn replace(&self, mut model: ModelProto, head: &Head) -> ModelProto {
        let classes = head.bias.len();
        let length = head.weight.first().map_or(self.length, Vec::len);
        let weight: Vec<f32> = if self.transposed {
            head.weight.concat()
        } else {
            (0..length)
                .flat_map(|feature| head.weight.iter().map(move |row| row[feature]))
                .collect()
        };
        let dims = if self.transposed {
            [classes, length]
        } else {
            [length, classes]
        };
        let Some(graph) = &mut model.graph else {
            return model;
        };
        for tensor in &mut graph.initializer {
            if tensor.name == self.weight {
                put(tensor, &dims, &weight);
            } else if tensor.name == self.bias {
                put(tensor, &[classes], &head.bias);
            }
        }
        for output in graph.output.iter_mut().filter(|it| it.name == self.logits) {
            set_last_dimension(output, classes);
        }
        model
    }

    /// The model with the features among its outputs.
    #[must_use]
    pub fn with_features(&self, mut model: ModelProto) -> ModelProto {
        if let Some(graph) = &mut model.graph
            && graph
                .output
                .iter()
                .all(|output| output.name != self.features)
        {
            // Their shape is not always found out by whoever reads the graph.
            graph.output.push(float_rows(&self.features, self.length));
        }
        model
    }
}

fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    Some(if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        tensor
            .raw_data
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect()
    })
}

/// An output `float32[N, length]`.
pub(super) fn float_rows(name: &str, length: usize) -> ValueInfoProto {
    let dimension = |value| Dimension {
        value,
        ..Dimension::default()
    };
    let shape = TensorShapeProto {
        dim: [None, Some(Size::DimValue(length as i64))]
            .map(dimension)
            .to_vec(),
    };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(shape),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

pub(super) fn put(tensor: &mut TensorProto, dims: &[usize], numbers: &[f32]) {
    tensor.dims = dims.iter().map(|d| *d as i64).collect();
    tensor.float_data.clear();
    tensor.raw_data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
}

fn set_last_dimension(output: &mut ValueInfoProto, length: usize) {
    if let Some(type_proto::Value::TensorType(tensor)) =
        output.r#type.as_mut().and_then(|it| it.value.as_mut())
        && let Some(TensorShapeProto { dim }) = &mut tensor.shape
        && let Some(last) = dim.last_mut()
    {
        *last = Dimension {
            value: Some(Size::DimValue(length as i64)),
            ..Default::default()
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::retrain::network::{Architecture, LOGITS};

    #[test]
    fn a_head_is_found_replaced_and_read_back_with_other_classes() {
        let model = Architecture::small(32, 32, 3).build(1);
        let place = Place::find(&model, LOGITS).unwrap();
        assert_eq!(place.classes, 3);
        let head = Head {
            weight: (0..4)
                .map(|class| {
                    (0..place.length)
                        .map(|k| (class * 1000 + k) as f32)
                        .collect()
                })
                .collect(),
            bias: vec![1.0, 2.0, 3.0, 4.0],
        };
        let replaced = place.replace(model, &head);
        let place = Place::find(&replaced, LOGITS).unwrap();
        assert_eq!(place.classes, 4);
        assert_eq!(place.read(&replaced).unwrap(), head);
    }

    #[test]
    fn features_become_an_output_whose_shape_is_told() {
        let mut model = Architecture::small(32, 32, 3).build(1);
        let place = Place::find(&model, LOGITS).unwrap();
        let graph = model.graph.as_mut().unwrap();
        graph.output.retain(|output| output.name != place.features);
        let model = place.with_features(model);
        let outputs = &model.graph.unwrap().output;
        let told = outputs.iter().find(|it| it.name == place.features).unwrap();
        assert_eq!(*told, float_rows(&place.features, place.length));
    }

    #[test]
    fn a_value_that_no_last_layer_makes_is_refused_with_what_makes_it() {
        let model = Architecture::small(32, 32, 3).build(1);
        let why = Place::find(&model, "features").unwrap_err().to_string();
        assert!(why.contains("Flatten"), "{why}");
    }

    #[test]
    fn a_last_layer_without_a_bias_is_told_so() {
        let mut model = Architecture::small(32, 32, 3).build(1);
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let last = nodes
            .iter_mut()
            .find(|node| node.output[0] == LOGITS)
            .unwrap();
        assert_eq!(last.op_type, "Gemm");
        last.input.pop();
        let why = Place::find(&model, LOGITS).unwrap_err().to_string();
        assert!(why.contains("its Gemm has no bias"), "{why}");
    }
}
