#![allow(clippy::unwrap_used, clippy::expect_used)]

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::model::onnx::{AttributeProto, NodeProto, TensorProto, tensor_proto::DataType};
use crate::retrain::network::{Architecture, LOGITS, Stage, normal};

/// A network small enough for finite differences, with every operator that a classifier of ours uses.
fn tiny() -> ModelProto {
    let stage = |fused, channels| Stage {
        fused,
        expansion: 2,
        channels,
        blocks: 2,
        stride: 2,
        kernel: 3,
    };
    Architecture {
        height: 16,
        width: 12,
        stem: [3, 3, 2],
        stages: vec![stage(true, 4), stage(false, 5)],
        features: 6,
        classes: 3,
    }
    .build(5)
}

fn images(count: usize, device: &Device) -> Tensor<4> {
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let data: Vec<f32> = (0..count * 16 * 12).map(|_| normal(&mut rng)).collect();
    Tensor::from_data(TensorData::new(data, [count, 1, 16, 12]), device)
}

/// A fixed random projection of the logits: a scalar with a gradient in every parameter.
fn scalar(logits: Tensor<4>) -> Tensor<1> {
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let shape = logits.dims();
    let weights: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| normal(&mut rng))
        .collect();
    let device = logits.device();
    (logits * Tensor::from_data(TensorData::new(weights, shape), &device)).sum()
}

fn value(scalar: Tensor<1>) -> f64 {
    f64::from(read_back(scalar).unwrap()[0])
}

#[test]
fn gradients_agree_with_finite_differences_in_every_parameter_tensor() {
    // Kinks spoil finite differences: every ReLU but the last becomes a sigmoid.
    let mut model = tiny();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes
        .iter_mut()
        .filter(|n| n.op_type == "Relu" && n.name != "head.relu")
        .for_each(|n| n.op_type = "Sigmoid".into());
    let graph = Graph::new(model).unwrap();
    let logits = graph.output_index(LOGITS).unwrap();
    let device = Device::flex().autodiff();
    let mut weights = graph.weights(&device);
    let input = images(4, &device);
    let gradients = scalar(graph.train(&mut weights, input.clone()).swap_remove(logits)).backward();

    let loss = |changed: &Weights| {
        value(scalar(
            graph
                .train(&mut changed.clone(), input.clone())
                .swap_remove(logits),
        ))
    };
    for (k, parameter) in weights.parameters.iter().enumerate() {
        let gradient = parameter
            .grad(&gradients)
            .expect("every parameter has a gradient");
        let gradient = read_back(gradient).unwrap();
        let held = read_back(parameter.clone()).unwrap();
        // A random direction through the tensor: one pair of evaluations checks all of its gradient.
        let mut rng = ChaCha12Rng::seed_from_u64(k as u64);
        let direction: Vec<f32> = held.iter().map(|_| normal(&mut rng)).collect();
        let step = 1e-3_f32;
        let moved = |sign: f32| {
            let data: Vec<f32> = held
                .iter()
                .zip(&direction)
                .map(|(x, d)| x + sign * step * d)
                .collect();
            let mut changed = weights.clone();
            changed.parameters[k] =
                Tensor::from_data(TensorData::new(data, parameter.dims()), &device);
            loss(&changed)
        };
        let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
        let analytic: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        let scale = analytic.abs().max(numeric.abs()).max(0.5);
        assert!(
            (numeric - analytic).abs() / scale < 0.02,
            "{}: finite difference {numeric}, gradient {analytic}",
            graph.parameters[k].name
        );
    }
}

#[test]
fn running_statistics_approach_those_of_the_batch() {
    let graph = Graph::new(tiny()).unwrap();
    let logits = graph.output_index(LOGITS).unwrap();
    let device = Device::flex();
    let mut weights = graph.weights(&device);
    let input = images(64, &device);
    let mut trained = Vec::new();
    for _ in 0..200 {
        trained = read_back(graph.train(&mut weights, input.clone()).swap_remove(logits)).unwrap();
    }
    let run = read_back(graph.run(&weights, input).swap_remove(logits)).unwrap();
    for (a, b) in trained.iter().zip(&run) {
        assert!(
            (a - b).abs() < 0.1,
            "{a} with the batch's statistics, {b} with the running ones"
        );
    }
}

#[test]
fn what_is_written_back_is_read_again() {
    let graph = Graph::new(tiny()).unwrap();
    let device = Device::flex();
    let mut weights = graph.weights(&device);
    graph.train(&mut weights, images(4, &device));
    let again = Graph::new(graph.to_onnx(&weights).unwrap()).unwrap();
    let input = images(3, &device);
    let (a, b) = (
        graph.run(&weights, input.clone()),
        again.run(&again.weights(&device), input),
    );
    for (a, b) in a.into_iter().zip(b) {
        assert_eq!(read_back(a).unwrap(), read_back(b).unwrap());
    }
}

fn change_node(operator: &str, change: impl Fn(&mut NodeProto)) -> GraphError {
    let mut model = tiny();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    change(nodes.iter_mut().find(|n| n.op_type == operator).unwrap());
    Graph::new(model).unwrap_err()
}

#[test]
fn an_unknown_operator_is_named_before_anything_is_computed() {
    let error = change_node("GlobalAveragePool", |node| node.op_type = "LpPool".into());
    let message = error.to_string();
    assert!(
        message.contains("`LpPool`") && message.contains("stages.1.0.se.squeeze"),
        "{message}"
    );
}

#[test]
fn what_does_not_fit_is_an_error_that_names_the_node() {
    let cases = [
        change_node("Conv", |node| node.input[0] = "nowhere".into()),
        change_node("Conv", |node| {
            node.attribute
                .iter_mut()
                .filter(|a| a.name == "pads")
                .for_each(|a| a.ints = vec![1]);
        }),
        change_node("Conv", |node| {
            node.attribute.push(AttributeProto {
                name: "auto_pad".into(),
                s: b"SAME_AS_EVER".to_vec(),
                ..Default::default()
            });
        }),
        change_node("Gemm", |node| node.attribute.clear()),
        change_node("BatchNormalization", |node| {
            node.attribute.push(AttributeProto {
                name: "training_mode".into(),
                i: 1,
                ..Default::default()
            });
        }),
    ];
    for error in cases {
        assert!(
            matches!(&error, GraphError::Node { node, .. } if !node.is_empty()),
            "{error}"
        );
    }
}

#[test]
fn initializers_that_cannot_be_parameters_are_named() {
    for spoil in [
        (|t: &mut TensorProto| t.data_type = DataType::Int64 as i32) as fn(&mut TensorProto),
        |t| t.dims[0] = -1,
        |t| t.raw_data.truncate(7),
        |t| t.dims = vec![i64::MAX, i64::MAX],
    ] {
        let mut model = tiny();
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        spoil(tensor);
        let error = Graph::new(model).unwrap_err();
        assert!(
            matches!(&error, GraphError::Initializer { name, .. } if name == "stem.conv.weight"),
            "{error}"
        );
    }
}

#[test]
fn what_stands_beside_the_logits_is_neither_looked_at_nor_lost() {
    let mut model = tiny();
    let graph = model.graph.as_mut().unwrap();
    graph.node.push(NodeProto {
        op_type: "ArgMax".into(),
        input: vec![LOGITS.into()],
        output: vec!["class".into()],
        ..NodeProto::default()
    });
    graph.output.push(crate::model::onnx::ValueInfoProto {
        name: "class".into(),
        ..Default::default()
    });
    let features = crate::retrain::network::FEATURES;
    let graph = Graph::with_outputs(model, LOGITS, features).unwrap();
    let written = graph.to_onnx(&graph.weights(&Device::flex())).unwrap();
    let written = written.graph.unwrap();
    assert!(written.node.iter().any(|node| node.op_type == "ArgMax"));
    assert!(written.output.iter().any(|output| output.name == "class"));
    // Of what the logits come from, everything must be known.
    let mut model = tiny();
    model.graph.as_mut().unwrap().node[0].op_type = "ArgMax".into();
    let refused = Graph::with_outputs(model, LOGITS, features);
    assert!(matches!(refused, Err(GraphError::UnknownOperator { .. })));
}
