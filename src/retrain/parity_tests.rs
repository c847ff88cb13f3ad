//! Families of networks against ONNX Runtime and against finite differences; `operator_tests` has single operators.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use ort::session::Session;
use ort::value::TensorRef;
use prost::Message as _;
use rand::SeedableRng;

use super::*;
use crate::model::onnx::{
    AttributeProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto, tensor_proto::DataType, type_proto,
};
use crate::model::runtime::Runtime;
use crate::model::tests::runtime_settings;
use crate::retrain::builder::{Builder, Kernel, batch_of, float, int, ints, normal};
use crate::retrain::efficientnet::Variant;

/// A graph that grows node by node, from `image` to `logits`.
pub(super) struct Sketch {
    graph: GraphProto,
    pub(super) opset: i64,
    seed: u64,
    input: [usize; 3],
}

impl Sketch {
    pub(super) fn new(input: [usize; 3]) -> Self {
        Self {
            graph: GraphProto::default(),
            opset: 17,
            seed: 3,
            input,
        }
    }

    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{operator}.{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            op_type: operator.into(),
            name: output.clone(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..Default::default()
        });
        output
    }

    /// A random tensor; `around` is its mean.
    pub(super) fn random(&mut self, dims: &[usize], around: f32) -> String {
        self.seed += 1;
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let count = dims.iter().product();
        let data: Vec<f32> = (0..count)
            .map(|_| around + 0.3 * normal(&mut rng))
            .collect();
        self.floats(dims, &data)
    }

    pub(super) fn floats(&mut self, dims: &[usize], data: &[f32]) -> String {
        let name = format!("tensor.{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: DataType::Float as i32,
            float_data: data.to_vec(),
            ..Default::default()
        });
        name
    }

    pub(super) fn integers(&mut self, data: &[i64]) -> String {
        let name = format!("tensor.{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: vec![data.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: data.to_vec(),
            ..Default::default()
        });
        name
    }

    /// The input times a parameter, so that gradients through the next node reach something.
    pub(super) fn start(&mut self) -> String {
        let scale = self.random(&self.input.clone(), 1.0);
        self.node("Mul", &["image", &scale], vec![])
    }

    pub(super) fn finish(mut self, last: &str) -> ModelProto {
        self.graph.node.push(NodeProto {
            op_type: "Identity".into(),
            input: vec![last.to_owned()],
            output: vec![LOGITS.into()],
            ..Default::default()
        });
        self.graph.name = "sketch".into();
        self.graph.input.push(batch_of("image", &self.input));
        let tensor = type_proto::Tensor {
            elem_type: DataType::Float as i32,
            shape: None,
        };
        self.graph.output.push(ValueInfoProto {
            name: LOGITS.into(),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Default::default()
        });
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: self.opset,
            }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }
}

fn pixels(count: usize) -> Vec<f32> {
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    (0..count).map(|_| normal(&mut rng)).collect()
}

/// What ONNX Runtime makes of it: each output's numbers.
fn in_runtime(model: &ModelProto, shape: [usize; 4], data: &[f32]) -> Vec<Vec<f32>> {
    let runtime = Runtime::load(&runtime_settings())
        .expect("this test needs ONNX Runtime; `make runtime` fetches it");
    let mut session = Session::builder(runtime.environment())
        .unwrap()
        .commit_from_memory(&model.encode_to_vec())
        .unwrap();
    let input = TensorRef::from_array_view((shape, data)).unwrap();
    let name = session.inputs()[0].name().to_owned();
    let outputs = session.run(ort::inputs![name.as_str() => input]).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let extract = |o: &ValueInfoProto| {
        outputs[o.name.as_str()]
            .try_extract_tensor::<f32>()
            .unwrap()
            .1
            .to_vec()
    };
    graph.output.iter().map(extract).collect()
}

/// ONNX Runtime and the interpreter agree to 1e-4, on the model and on what is written back.
pub(super) fn assert_parity(model: &ModelProto) -> Graph {
    let graph = Graph::new(model.clone()).unwrap();
    let [c, h, w] = graph.input_shape();
    let (n, device) = (3, Device::flex());
    let data = pixels(n * c * h * w);
    let expected = in_runtime(model, [n, c, h, w], &data);
    let images = Tensor::from_data(TensorData::new(data.clone(), [n, c, h, w]), &device);
    let weights = graph.weights(&device);
    let outputs = graph.run(&weights, images);
    assert_eq!(outputs.len(), expected.len());
    for (output, expected) in outputs.into_iter().zip(&expected) {
        assert_close(&read_back(output).unwrap(), expected);
    }
    let written = graph.to_onnx(&weights).unwrap();
    for (again, expected) in in_runtime(&written, [n, c, h, w], &data)
        .iter()
        .zip(&expected)
    {
        assert_close(again, expected);
    }
    graph
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().map(|x| x.abs()).fold(1.0, f32::max);
    for (a, b) in found.iter().zip(expected) {
        assert!(
            (a - b).abs() <= 1e-4 * scale,
            "{a} here, {b} in ONNX Runtime"
        );
    }
}

/// Gradients of every parameter agree with finite differences; running statistics as they are, or of the batch.
pub(super) fn assert_gradients(graph: &Graph, frozen: bool) {
    let device = Device::flex().autodiff();
    let [c, h, w] = graph.input_shape();
    let images = Tensor::from_data(
        TensorData::new(pixels(4 * c * h * w), [4, c, h, w]),
        &device,
    );
    let weights = graph.weights(&device);
    let logits = graph.output_index(LOGITS).unwrap();
    let loss = |weights: &Weights| {
        let mut practice = Practice {
            frozen_statistics: frozen,
            dropout: None,
        };
        let output = graph
            .practise(&mut weights.clone(), images.clone(), &mut practice)
            .swap_remove(logits);
        let dims = output.dims();
        let mut rng = ChaCha12Rng::seed_from_u64(11);
        let count = dims.iter().product();
        let projection: Vec<f32> = (0..count).map(|_| normal(&mut rng)).collect();
        (output * Tensor::from_data(TensorData::new(projection, dims), &device)).sum()
    };
    let gradients = loss(&weights).backward();
    assert!(!weights.parameters.is_empty());
    for (k, parameter) in weights.parameters.iter().enumerate() {
        let name = &graph.parameters[k].name;
        let gradient = parameter
            .grad(&gradients)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let gradient = read_back(gradient).unwrap();
        let held = read_back(parameter.clone()).unwrap();
        let mut rng = ChaCha12Rng::seed_from_u64(k as u64);
        let direction: Vec<f32> = held.iter().map(|_| normal(&mut rng)).collect();
        let step = 1e-3_f32;
        let moved = |sign: f32| {
            let data = held.iter().zip(&direction);
            let data: Vec<f32> = data.map(|(x, d)| x + sign * step * d).collect();
            let mut changed = weights.clone();
            changed.parameters[k] =
                Tensor::from_data(TensorData::new(data, parameter.dims()), &device);
            f64::from(read_back(loss(&changed)).unwrap()[0])
        };
        let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
        let pairs = gradient.iter().zip(&direction);
        let analytic: f64 = pairs.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let scale = analytic.abs().max(numeric.abs()).max(0.5);
        assert!(
            (numeric - analytic).abs() / scale < 0.03,
            "{name}: finite difference {numeric}, gradient {analytic}"
        );
    }
}

#[test]
fn constants_of_formulas_are_not_trained() {
    // GELU as exporters write it: x · 0.5 · (1 + erf(x / √2)), with a learned scale behind it.
    let mut s = Sketch::new([2, 3, 4]);
    let (root, one, half) = (
        s.floats(&[], &[std::f32::consts::SQRT_2]),
        s.floats(&[], &[1.0]),
        s.floats(&[1], &[0.5]),
    );
    let scale = s.random(&[2, 1, 1], 1.0);
    let x = s.node("Div", &["image", &root], vec![]);
    let x = s.node("Erf", &[&x], vec![]);
    let x = s.node("Add", &[&x, &one], vec![]);
    let x = s.node("Mul", &["image", &x], vec![]);
    let x = s.node("Mul", &[&x, &half], vec![]);
    let x = s.node("Mul", &[&x, &scale], vec![]);
    let graph = assert_parity(&s.finish(&x));
    assert_eq!(graph.parameter_names().collect::<Vec<_>>(), [scale]);
}

#[test]
fn sixteen_bit_weights_are_read_and_written_back_with_thirty_two() {
    let mut s = Sketch::new([2, 3, 4]);
    let x = s.start();
    let mut model = s.finish(&x);
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    let halves = tensor.float_data.iter().map(|x| half::f16::from_f32(*x));
    tensor.raw_data = halves.flat_map(half::f16::to_le_bytes).collect();
    tensor.float_data.clear();
    tensor.data_type = DataType::Float16 as i32;
    let graph = Graph::new(model).unwrap();
    let weights = graph.weights(&Device::flex());
    let written = graph.to_onnx(&weights).unwrap();
    let tensor = &written.graph.as_ref().unwrap().initializer[0];
    assert_eq!(tensor.data_type, DataType::Float as i32);
    assert_parity(&written);
}

#[test]
fn vectors_that_an_exporter_has_stored_once_are_trained_apart() {
    let mut s = Sketch::new([3, 4, 5]);
    let scale = s.random(&[3, 1, 1], 1.0);
    let copy = s.node("Identity", &[&scale], vec![]);
    let x = s.node("Mul", &["image", &scale], vec![]);
    let x = s.node("Add", &[&x, &scale], vec![]);
    let x = s.node("Mul", &[&x, &copy], vec![]);
    let graph = assert_parity(&s.finish(&x));
    assert_eq!(graph.parameter_names().count(), 3);
    assert_gradients(&graph, true);
}

#[test]
fn unknown_attributes_and_what_mixes_images_are_named() {
    let refuse = |build: &dyn Fn(&mut Sketch) -> String| {
        let mut s = Sketch::new([3, 4, 5]);
        let last = build(&mut s);
        Graph::new(s.finish(&last)).unwrap_err().to_string()
    };
    let message = refuse(&|s| s.node("Relu", &["image"], vec![int("gently", 1)]));
    assert!(
        message.contains("gently") && message.contains("Relu.0"),
        "{message}"
    );
    let message = refuse(&|s| {
        let shape = s.integers(&[1, -1]);
        s.node("Reshape", &["image", &shape], vec![])
    });
    assert!(message.contains("Reshape.0"), "{message}");
    let message = refuse(&|s| s.node("ReduceMean", &["image"], vec![ints("axes", &[0])]));
    assert!(message.contains("ReduceMean.0"), "{message}");
    let message = refuse(&|s| {
        let shape = s.node("Shape", &["image"], vec![]);
        s.node("Add", &["image", &shape], vec![])
    });
    assert!(message.contains("integers"), "{message}");
}

#[test]
fn an_efficientnet_agrees_and_has_true_gradients() {
    let tiny = Variant {
        width: 0.1,
        depth: 0.5,
        resolution: 32,
        dropout: 0.2,
        epsilon: 1e-3,
        same_upper: false,
    };
    let model = tiny.build([1, 32, 32], 3, 5);
    let graph = assert_parity(&model);
    assert_gradients(&graph, true);
    let padded = Variant {
        same_upper: true,
        ..tiny
    };
    assert_parity(&padded.build([1, 32, 30], 3, 5));
    assert!(graph.has_batch_normalisation());
    let head: Vec<&str> = graph
        .parameters
        .iter()
        .filter(|held| held.in_head)
        .map(|held| held.name.as_str())
        .collect();
    assert_eq!(head, ["classifier.weight", "classifier.bias"]);
}

#[test]
fn dropout_drops_in_training_only_and_the_same_for_the_same_seed() {
    let mut s = Sketch::new([3, 8, 8]);
    let x = s.start();
    let ratio = s.floats(&[], &[0.5]);
    let x = s.node("Dropout", &[&x, &ratio], vec![]);
    let graph = assert_parity(&s.finish(&x));
    let device = Device::flex();
    let mut weights = graph.weights(&device);
    let images = Tensor::<4>::ones([2, 3, 8, 8], &device);
    let mut practised = |seed| {
        let mut practice = Practice {
            frozen_statistics: false,
            dropout: Some(ChaCha12Rng::seed_from_u64(seed)),
        };
        let output = graph.practise(&mut weights, images.clone(), &mut practice);
        read_back(output[0].clone()).unwrap()
    };
    let (one, again, other) = (practised(1), practised(1), practised(2));
    let dropped = one.iter().filter(|x| **x == 0.0).count();
    assert!((120..264).contains(&dropped), "{dropped} of {}", one.len());
    assert!(one == again && one != other);
}

/// A small network of a family, in the way that the family is built.
fn family(name: &str) -> ModelProto {
    let mut b = Builder::new(7);
    let dense = |k, s| Kernel::dense(k, s);
    let mut x = b.conv_norm_relu("stem", "image".into(), 3, 8, dense(3, 2));
    match name {
        "mobilenet" => {
            let inside = Kernel {
                size: 5,
                stride: 1,
                groups: 8,
            };
            let y = b.conv_norm("depthwise", x.clone(), 8, 8, inside);
            let y = b.node("HardSwish", "swish", vec![y], vec![]);
            let pooled = b.node("GlobalAveragePool", "squeeze", vec![y.clone()], vec![]);
            let gate = b.conv("excite", pooled, 8, 8, dense(1, 1), true);
            let gate = b.node("HardSigmoid", "gate", vec![gate], vec![float("alpha", 0.2)]);
            let y = b.node("Mul", "scaled", vec![y, gate], vec![]);
            x = b.node("Add", "sum", vec![x, y], vec![]);
        }
        "resnet" => {
            let attributes = vec![
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                ints("pads", &[1, 1, 1, 1]),
            ];
            x = b.node("MaxPool", "most", vec![x], attributes);
            let y = b.conv_norm_relu("one", x.clone(), 8, 8, dense(3, 1));
            let y = b.conv_norm("two", y, 8, 8, dense(3, 1));
            x = b.node("Add", "sum", vec![x, y], vec![]);
        }
        "densenet" => {
            let y = b.norm("norm", x.clone(), 8);
            let y = b.node("Relu", "relu", vec![y], vec![]);
            let y = b.conv("grow", y, 8, 4, dense(3, 1), false);
            let both = b.node("Concat", "concat", vec![x, y], vec![int("axis", 1)]);
            let y = b.conv("narrow", both, 12, 8, dense(1, 1), false);
            let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
            x = b.node("AveragePool", "mean", vec![y], attributes);
        }
        _ => {
            let depthwise = Kernel {
                size: 7,
                stride: 1,
                groups: 8,
            };
            let y = b.conv("depthwise", x.clone(), 8, 8, depthwise, true);
            let last = vec![ints("perm", &[0, 2, 3, 1])];
            let y = b.node("Transpose", "last", vec![y], last);
            let (scale, bias) = (
                b.constant("ln.scale", 8, 0.9),
                b.constant("ln.bias", 8, 0.1),
            );
            let inputs = vec![y, scale, bias];
            let y = b.node("LayerNormalization", "ln", inputs, vec![int("axis", -1)]);
            let weight = b.random("widen", &[8, 16], 0.3);
            let y = b.node("MatMul", "wide", vec![y, weight], vec![]);
            let root = b.initializer("root", &[], &[std::f32::consts::SQRT_2]);
            let one = b.initializer("one", &[], &[1.0]);
            let z = b.node("Div", "over", vec![y.clone(), root], vec![]);
            let z = b.node("Erf", "erf", vec![z], vec![]);
            let z = b.node("Add", "plus", vec![z, one], vec![]);
            let y = b.node("Mul", "gelu", vec![y, z], vec![]);
            let weight = b.random("thin", &[16, 8], 0.3);
            let y = b.node("MatMul", "narrow", vec![y, weight], vec![]);
            let first = vec![ints("perm", &[0, 3, 1, 2])];
            let y = b.node("Transpose", "first", vec![y], first);
            x = b.node("Add", "sum", vec![x, y], vec![]);
        }
    }
    x = b.node("GlobalAveragePool", "pool", vec![x], vec![]);
    b.node("Flatten", FEATURES, vec![x], vec![]);
    b.classifier(FEATURES, 8, 3, 0.3);
    b.finish([3, 16, 16], 8, 3)
}

#[test]
fn every_family_of_networks_agrees_with_onnx_runtime_and_has_true_gradients() {
    for name in ["mobilenet", "resnet", "densenet", "convnext"] {
        let mut model = family(name);
        assert_parity(&model);
        // Kinks spoil finite differences: each ReLU becomes a sigmoid.
        let nodes = model.graph.iter_mut().flat_map(|graph| &mut graph.node);
        nodes
            .filter(|node| node.op_type == "Relu")
            .for_each(|node| node.op_type = "Sigmoid".into());
        assert_gradients(&Graph::new(model).unwrap(), true);
    }
}

#[test]
fn networks_that_a_real_exporter_wrote_agree_with_onnx_runtime_and_can_be_trained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        println!("{}", path.display());
        let model = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
        let graph = assert_parity(&model);
        let device = Device::flex().autodiff();
        let [c, h, w] = graph.input_shape();
        let data = TensorData::new(pixels(2 * c * h * w), [2, c, h, w]);
        let mut weights = graph.weights(&device);
        let output = graph.train(&mut weights, Tensor::from_data(data, &device));
        let gradients = output[0].clone().sum().backward();
        for (name, parameter) in graph.parameter_names().zip(&weights.parameters) {
            assert!(parameter.grad(&gradients).is_some(), "{name}");
        }
        let in_head = graph.in_head().iter().filter(|head| **head).count();
        assert!((1..=4).contains(&in_head), "{in_head} tensors in the head");
        seen += 1;
    }
    assert!(seen >= 4, "{seen} files");
}
