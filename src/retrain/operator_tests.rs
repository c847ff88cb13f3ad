//! Each operator against ONNX Runtime and against finite differences.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::parity_tests::{Sketch, assert_gradients, assert_parity};
use crate::model::onnx::{AttributeProto, tensor_proto::DataType};
use crate::retrain::builder::text;
use crate::retrain::builder::{float, int, ints};

/// Parity and gradients of one operator behind a trainable scale.
fn check(input: [usize; 3], build: impl Fn(&mut Sketch, &str) -> String) {
    let mut sketch = Sketch::new(input);
    let start = sketch.start();
    let last = build(&mut sketch, &start);
    let graph = assert_parity(&sketch.finish(&last));
    assert_gradients(&graph, true);
}

#[test]
fn convolutions_in_groups_with_bias_and_every_padding_agree() {
    for (padding, stride) in [
        ("SAME_UPPER", 2),
        ("SAME_LOWER", 2),
        ("VALID", 1),
        ("SAME_UPPER", 3),
    ] {
        check([4, 7, 6], |s, x| {
            let (weight, bias) = (s.random(&[6, 2, 3, 3], 0.0), s.random(&[6], 0.0));
            let attributes = vec![
                text("auto_pad", padding),
                int("group", 2),
                ints("strides", &[stride, stride]),
            ];
            s.node("Conv", &[x, &weight, &bias], attributes)
        });
    }
    check([3, 8, 7], |s, x| {
        let weight = s.random(&[3, 1, 3, 2], 0.0);
        let attributes = vec![
            ints("pads", &[0, 1, 2, 3]),
            int("group", 3),
            ints("dilations", &[2, 1]),
        ];
        s.node("Conv", &[x, &weight], attributes)
    });
}

#[test]
fn convolutions_of_one_pixel_and_those_with_a_kernel_for_each_channel_agree() {
    for (stride, pads) in [(1, [1, 1, 1, 1]), (2, [1, 1, 1, 1]), (2, [0, 0, 1, 1])] {
        check([3, 9, 8], |s, x| {
            let (weight, bias) = (s.random(&[3, 1, 3, 3], 0.0), s.random(&[3], 0.0));
            let attributes = vec![
                ints("pads", &pads),
                int("group", 3),
                ints("strides", &[stride, stride]),
            ];
            s.node("Conv", &[x, &weight, &bias], attributes)
        });
    }
    for (stride, pad) in [(1, 0), (2, 0), (1, 1)] {
        check([4, 6, 5], |s, x| {
            let (weight, bias) = (s.random(&[3, 4, 1, 1], 0.0), s.random(&[3], 0.0));
            let attributes = vec![ints("pads", &[pad; 4]), ints("strides", &[stride, stride])];
            s.node("Conv", &[x, &weight, &bias], attributes)
        });
    }
}

#[test]
fn a_sigmoid_times_what_it_was_taken_of_is_one_operator_and_no_other_is() {
    let fused = |build: &dyn Fn(&mut Sketch, &str) -> String| {
        let mut sketch = Sketch::new([2, 4, 5]);
        let start = sketch.start();
        let last = build(&mut sketch, &start);
        let graph = assert_parity(&sketch.finish(&last));
        assert_gradients(&graph, true);
        let operators = graph
            .nodes
            .iter()
            .map(|node| format!("{:?}", node.operator));
        let operators: Vec<String> = operators.collect();
        operators.iter().filter(|it| it.contains("Silu")).count()
    };
    let alone = fused(&|s, x| {
        let sigmoid = s.node("Sigmoid", &[x], vec![]);
        let y = s.node("Mul", &[x, &sigmoid], vec![]);
        let sigmoid = s.node("Sigmoid", &[&y], vec![]);
        s.node("Mul", &[&sigmoid, &y], vec![])
    });
    assert_eq!(alone, 2);
    let of_another = fused(&|s, x| {
        let other = s.node("Relu", &[x], vec![]);
        let sigmoid = s.node("Sigmoid", &[&other], vec![]);
        s.node("Mul", &[x, &sigmoid], vec![])
    });
    assert_eq!(of_another, 0);
    let read_twice = fused(&|s, x| {
        let sigmoid = s.node("Sigmoid", &[x], vec![]);
        let y = s.node("Mul", &[x, &sigmoid], vec![]);
        s.node("Add", &[&y, &sigmoid], vec![])
    });
    assert_eq!(read_twice, 0);
}

#[test]
fn functions_of_single_numbers_agree() {
    type Case = (&'static str, Vec<AttributeProto>);
    let cases: Vec<Case> = vec![
        ("Relu", vec![]),
        ("LeakyRelu", vec![float("alpha", 0.2)]),
        ("Sigmoid", vec![]),
        ("HardSigmoid", vec![float("alpha", 0.3), float("beta", 0.4)]),
        ("HardSigmoid", vec![]),
        ("HardSwish", vec![]),
        ("Erf", vec![]),
        ("Identity", vec![]),
        ("Dropout", vec![]),
        ("Softmax", vec![int("axis", 1)]),
        ("Softmax", vec![]),
        ("Cast", vec![int("to", 1)]),
    ];
    for (operator, attributes) in cases {
        check([3, 4, 5], |s, x| s.node(operator, &[x], attributes.clone()));
    }
    for approximate in ["none", "tanh"] {
        check([3, 4, 5], |s, x| {
            s.opset = 20;
            s.node("Gelu", &[x], vec![text("approximate", approximate)])
        });
    }
    check([3, 4, 5], |s, x| {
        let positive = s.node("Sigmoid", &[x], vec![]);
        s.node("Sqrt", &[&positive], vec![])
    });
    for exponent in [2.0, 3.0, 0.5] {
        check([2, 3, 4], |s, x| {
            let positive = s.node("Sigmoid", &[x], vec![]);
            let exponent = s.floats(&[], &[exponent]);
            s.node("Pow", &[&positive, &exponent], vec![])
        });
    }
}

#[test]
fn clips_take_their_bounds_from_attributes_and_inputs() {
    check([2, 5, 5], |s, x| {
        s.opset = 10;
        s.node("Clip", &[x], vec![float("min", -0.4), float("max", 0.7)])
    });
    check([2, 5, 5], |s, x| {
        let (low, high) = (s.floats(&[], &[-0.4]), s.floats(&[], &[0.7]));
        s.node("Clip", &[x, &low, &high], vec![])
    });
    check([2, 5, 5], |s, x| {
        let high = s.floats(&[], &[0.5]);
        s.node("Clip", &[x, "", &high], vec![])
    });
}

#[test]
fn sums_and_products_broadcast_as_in_onnx() {
    for operator in ["Add", "Sub", "Mul", "Div"] {
        check([3, 4, 5], |s, x| {
            let by_channel = s.random(&[3, 1, 1], 2.0);
            let by_column = s.random(&[5], 2.0);
            let half = s.floats(&[], &[0.5]);
            let x = s.node(operator, &[x, &by_channel], vec![]);
            let x = s.node(operator, &[&x, &by_column], vec![]);
            s.node(operator, &[&x, &half], vec![])
        });
    }
}

#[test]
fn pools_and_means_agree() {
    let pool = |attributes: &[AttributeProto]| attributes.to_vec();
    let three = ints("kernel_shape", &[3, 3]);
    let two = ints("strides", &[2, 2]);
    for attributes in [
        pool(&[three.clone(), two.clone(), ints("pads", &[1, 1, 1, 1])]),
        pool(&[three.clone(), two.clone(), int("ceil_mode", 1)]),
        pool(&[three.clone(), two.clone(), ints("pads", &[0, 1, 2, 0])]),
        pool(&[three.clone(), ints("dilations", &[2, 2])]),
        pool(&[three.clone(), two.clone(), text("auto_pad", "SAME_UPPER")]),
    ] {
        check([2, 8, 7], |s, x| {
            s.node("MaxPool", &[x], attributes.clone())
        });
    }
    for count in [0, 1] {
        for pads in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 0]] {
            check([2, 8, 7], |s, x| {
                let attributes = vec![
                    three.clone(),
                    two.clone(),
                    ints("pads", &pads),
                    int("count_include_pad", count),
                ];
                s.node("AveragePool", &[x], attributes)
            });
        }
    }
    for operator in ["GlobalAveragePool", "GlobalMaxPool"] {
        check([3, 4, 5], |s, x| s.node(operator, &[x], vec![]));
    }
    for keep in [0, 1] {
        check([3, 4, 5], |s, x| {
            let attributes = vec![ints("axes", &[-2, -1]), int("keepdims", keep)];
            s.node("ReduceMean", &[x], attributes)
        });
        check([3, 4, 5], |s, x| {
            s.opset = 18;
            let axes = s.integers(&[1]);
            s.node("ReduceMean", &[x, &axes], vec![int("keepdims", keep)])
        });
    }
}

#[test]
fn numbers_are_moved_as_in_onnx() {
    check([3, 4, 5], |s, x| s.node("Flatten", &[x], vec![]));
    check([3, 4, 5], |s, x| {
        s.node("Transpose", &[x], vec![ints("perm", &[0, 2, 3, 1])])
    });
    check([3, 4, 5], |s, x| {
        let (pads, value) = (s.integers(&[0, 0, 1, 2, 0, 1, 0, 3]), s.floats(&[], &[0.7]));
        s.node("Pad", &[x, &pads, &value], vec![])
    });
    check([3, 4, 5], |s, x| {
        let other = s.node("Relu", &[x], vec![]);
        s.node("Concat", &[x, &other, x], vec![int("axis", 1)])
    });
    for target in [
        vec![0, -1],
        vec![-1, 60],
        vec![0, 0, 20],
        vec![-1, 3, 2, 10],
    ] {
        check([3, 4, 5], |s, x| {
            let shape = s.integers(&target);
            s.node("Reshape", &[x, &shape], vec![])
        });
    }
    check([3, 4, 1], |s, x| {
        let (last, first) = (s.integers(&[3]), s.integers(&[1]));
        let x = s.node("Squeeze", &[x, &last], vec![]);
        s.node("Unsqueeze", &[&x, &first], vec![])
    });
}

#[test]
fn arithmetic_on_shapes_is_done_once_and_leaves_the_batch_open() {
    // x.view(x.shape[0], x.shape[1] * x.shape[2], -1), as exporters write it.
    check([3, 4, 5], |s, x| {
        let shape = s.node("Shape", &[x], vec![]);
        let (zero, one, two, open) = (
            s.integers(&[0]),
            s.integers(&[1]),
            s.integers(&[2]),
            s.integers(&[-1]),
        );
        let batch = s.node("Gather", &[&shape, &zero], vec![int("axis", 0)]);
        let channels = s.node("Slice", &[&shape, &one, &two], vec![]);
        let rows = s.node("Gather", &[&shape, &two], vec![int("axis", 0)]);
        let rows = s.node("Cast", &[&rows], vec![int("to", DataType::Int64 as i64)]);
        let both = s.node("Mul", &[&channels, &rows], vec![]);
        let target = s.node("Concat", &[&batch, &both, &open], vec![int("axis", 0)]);
        s.node("Reshape", &[x, &target], vec![])
    });
    check([3, 4, 5], |s, x| {
        let length = s.integers(&[5]);
        let ones = s.node("ConstantOfShape", &[&length], vec![]);
        s.node("Add", &[x, &ones], vec![])
    });
}

#[test]
fn matrix_products_agree() {
    check([3, 4, 5], |s, x| {
        let flat = s.node("Flatten", &[x], vec![]);
        let (weight, bias) = (s.random(&[60, 4], 0.0), s.random(&[4], 0.0));
        let scales = vec![float("alpha", 0.5), float("beta", 2.0)];
        let y = s.node("Gemm", &[&flat, &weight, &bias], scales);
        let weight = s.random(&[3, 4], 0.0);
        s.node("Gemm", &[&y, &weight], vec![int("transB", 1)])
    });
    check([3, 4, 5], |s, x| {
        let weight = s.random(&[5, 6], 0.0);
        let y = s.node("MatMul", &[x, &weight], vec![]);
        let turned = s.node("Transpose", &[&y], vec![ints("perm", &[0, 1, 3, 2])]);
        s.node("MatMul", &[&y, &turned], vec![])
    });
}

#[test]
fn normalisations_agree() {
    for axis in [-1, -3] {
        check([3, 4, 5], |s, x| {
            let dims: &[usize] = if axis == -1 { &[5] } else { &[3, 4, 5] };
            let (scale, bias) = (s.random(dims, 1.0), s.random(dims, 0.0));
            let attributes = vec![int("axis", axis), float("epsilon", 1e-6)];
            s.node("LayerNormalization", &[x, &scale, &bias], attributes)
        });
    }
    for flat in [false, true] {
        let mut s = Sketch::new([3, 4, 5]);
        let mut x = s.start();
        if flat {
            x = s.node("Flatten", &[&x], vec![]);
        }
        let c = if flat { 60 } else { 3 };
        let variance = vec![0.8; c];
        let inputs = [
            s.random(&[c], 1.0),
            s.random(&[c], 0.0),
            s.random(&[c], 0.0),
            s.floats(&[c], &variance),
        ];
        let [a, b, m, v] = inputs.each_ref().map(String::as_str);
        let x = s.node("BatchNormalization", &[&x, a, b, m, v], vec![]);
        let graph = assert_parity(&s.finish(&x));
        assert_gradients(&graph, true);
        assert_gradients(&graph, false);
    }
}
