//! The ONNX operators that can be trained: reading their attributes, checking their shapes, running them.

use burn::tensor::{Tensor, activation, module as functional, ops::ConvOptions};

use super::graph::GraphError;
use crate::model::onnx::NodeProto;

/// The ONNX operators that [`Graph`](super::graph::Graph) knows.
pub const OPERATORS: &[&str] = &[
    "Add",
    "BatchNormalization",
    "Conv",
    "Div",
    "Dropout",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "Mul",
    "Relu",
    "Sigmoid",
    "Sub",
];

/// One operator with its attributes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Conv {
        strides: [usize; 2],
        pads: [(usize, usize); 2],
        dilations: [usize; 2],
        groups: usize,
    },
    BatchNormalization {
        epsilon: f64,
        momentum: f32,
    },
    Relu,
    Sigmoid,
    Identity,
    Add,
    Sub,
    Mul,
    Div,
    GlobalAveragePool,
    GlobalMaxPool,
    Flatten,
    Gemm {
        transposed: bool,
    },
}

impl Operator {
    /// Reads a node's operator and attributes.
    pub(super) fn read(node: &NodeProto) -> Result<Self, GraphError> {
        let problem = |problem: String| GraphError::Node {
            node: label(node),
            problem,
        };
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let int = |name: &str, default: i64| attribute(name).map_or(default, |a| a.i);
        let float = |name: &str, default: f32| attribute(name).map_or(default, |a| a.f);
        let sizes = |name: &str, default: &[usize]| -> Result<Vec<usize>, GraphError> {
            let Some(found) = attribute(name) else {
                return Ok(default.to_vec());
            };
            let read: Result<Vec<usize>, _> =
                found.ints.iter().map(|x| usize::try_from(*x)).collect();
            match read {
                Ok(sizes) if sizes.len() == default.len() => Ok(sizes),
                _ => Err(problem(format!(
                    "{name} = {:?} is not supported",
                    found.ints
                ))),
            }
        };
        Ok(match node.op_type.as_str() {
            "Conv" => {
                if let Some(a) = attribute("auto_pad")
                    && a.s != b"NOTSET"
                {
                    return Err(problem(
                        "auto_pad is not supported, only explicit pads".into(),
                    ));
                }
                let strides = sizes("strides", &[1, 1])?;
                let dilations = sizes("dilations", &[1, 1])?;
                let pads = sizes("pads", &[0, 0, 0, 0])?;
                let groups = usize::try_from(int("group", 1)).ok().filter(|g| *g > 0);
                if strides.contains(&0) || dilations.contains(&0) {
                    return Err(problem("a stride or dilation of 0".into()));
                }
                Self::Conv {
                    strides: [strides[0], strides[1]],
                    pads: [(pads[0], pads[2]), (pads[1], pads[3])],
                    dilations: [dilations[0], dilations[1]],
                    groups: groups.ok_or_else(|| problem("group must be positive".into()))?,
                }
            }
            "BatchNormalization" if int("training_mode", 0) != 0 => {
                return Err(problem(
                    "exported in training mode; export it for inference".into(),
                ));
            }
            "BatchNormalization" => Self::BatchNormalization {
                epsilon: f64::from(float("epsilon", 1e-5)),
                momentum: float("momentum", 0.9),
            },
            "Gemm" => {
                let plain = float("alpha", 1.0) == 1.0
                    && float("beta", 1.0) == 1.0
                    && int("transA", 0) == 0;
                if !plain {
                    return Err(problem(
                        "alpha, beta and transA of Gemm are not supported".into(),
                    ));
                }
                Self::Gemm {
                    transposed: int("transB", 0) != 0,
                }
            }
            "Flatten" if int("axis", 1) != 1 => {
                return Err(problem("only axis 1 can be flattened at".into()));
            }
            "Flatten" => Self::Flatten,
            "Relu" => Self::Relu,
            "Sigmoid" => Self::Sigmoid,
            "Identity" | "Dropout" => Self::Identity,
            "Add" => Self::Add,
            "Sub" => Self::Sub,
            "Mul" => Self::Mul,
            "Div" => Self::Div,
            "GlobalAveragePool" => Self::GlobalAveragePool,
            "GlobalMaxPool" => Self::GlobalMaxPool,
            other => {
                return Err(GraphError::UnknownOperator {
                    operator: other.to_owned(),
                    node: label(node),
                });
            }
        })
    }

    /// The output's shape for one image; an Err says what does not fit.
    pub(super) fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        let given = || format!("cannot work with inputs of shapes {inputs:?}");
        match (*self, inputs) {
            (
                Self::Conv {
                    strides,
                    pads,
                    dilations,
                    groups,
                },
                [[n, c, h, w], [out, per_group, kh, kw], bias @ ..],
            ) => {
                let fits = per_group * groups == *c && out % groups == 0 && bias.len() <= 1;
                let bias_fits = bias.iter().all(|b| **b == [*out]);
                let side = |size: usize, kernel: usize, axis: usize| {
                    let reach = dilations[axis] * (kernel.checked_sub(1)?) + 1;
                    Some(
                        (size + pads[axis].0 + pads[axis].1).checked_sub(reach)? / strides[axis]
                            + 1,
                    )
                };
                match (fits && bias_fits, side(*h, *kh, 0), side(*w, *kw, 1)) {
                    (true, Some(rows), Some(columns)) => Ok(vec![*n, *out, rows, columns]),
                    _ => Err(given()),
                }
            }
            (Self::BatchNormalization { .. }, [x, of_channels @ ..]) => {
                let fits = x.len() == 4
                    && of_channels.len() == 4
                    && of_channels.iter().all(|s| **s == [x[1]]);
                if fits { Ok(x.to_vec()) } else { Err(given()) }
            }
            (Self::Relu | Self::Sigmoid | Self::Identity, [x, ..]) => Ok(x.to_vec()),
            (Self::GlobalAveragePool | Self::GlobalMaxPool, [[n, c, _, _]]) => {
                Ok(vec![*n, *c, 1, 1])
            }
            (Self::Flatten, [[n, rest @ ..]]) if !rest.is_empty() => {
                Ok(vec![*n, rest.iter().product()])
            }
            (Self::Gemm { transposed }, [[n, k], [a, b], bias @ ..]) => {
                let (rows, columns) = if transposed { (*b, *a) } else { (*a, *b) };
                let bias_fits = bias.iter().all(|s| **s == [columns] || **s == [1, columns]);
                if rows == *k && bias.len() <= 1 && bias_fits {
                    Ok(vec![*n, columns])
                } else {
                    Err(given())
                }
            }
            (Self::Add | Self::Sub | Self::Mul | Self::Div, [a, b]) => {
                broadcast(a, b).ok_or_else(given)
            }
            _ => Err(given()),
        }
    }

    /// Runs it. Values are rank 4, padded with ones in front; the inputs' number was checked by [`shape`](Self::shape).
    pub(super) fn apply(self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::Conv {
                strides,
                pads,
                dilations,
                groups,
            } => {
                let bias = inputs.get(2).map(|b| b.clone().reshape([-1]));
                let [x, weight] = take(inputs);
                functional::conv2d(
                    x,
                    weight,
                    bias,
                    ConvOptions::new_with_padding(strides, pads, dilations, groups),
                )
            }
            Self::BatchNormalization { epsilon, .. } => {
                let [x, gamma, beta, mean, variance] = take(inputs);
                let c = x.dims()[1];
                let [gamma, beta, mean, variance] =
                    [gamma, beta, mean, variance].map(|t| t.reshape([c]));
                functional::batch_norm(x, gamma, beta, mean, variance, epsilon)
            }
            Self::Relu => activation::relu(take::<1>(inputs)[0].clone()),
            Self::Sigmoid => activation::sigmoid(take::<1>(inputs)[0].clone()),
            Self::Identity => take::<1>(inputs)[0].clone(),
            Self::GlobalAveragePool => take::<1>(inputs)[0].clone().mean_dim(3).mean_dim(2),
            Self::GlobalMaxPool => take::<1>(inputs)[0].clone().max_dim(3).max_dim(2),
            Self::Flatten => {
                let [x] = take(inputs);
                let [n, c, h, w] = x.dims();
                x.reshape([1, 1, n, c * h * w])
            }
            Self::Gemm { transposed } => {
                let bias = inputs.get(2).cloned();
                let [x, weight] = take(inputs);
                let product = x.matmul(if transposed {
                    weight.transpose()
                } else {
                    weight
                });
                match bias {
                    Some(bias) => product + bias,
                    None => product,
                }
            }
            Self::Add | Self::Sub | Self::Mul | Self::Div => {
                let [a, b] = take(inputs);
                match self {
                    Self::Add => a + b,
                    Self::Sub => a - b,
                    Self::Mul => a * b,
                    _ => a / b,
                }
            }
        }
    }
}
/// The first `N` inputs; how many there are was checked with the shapes.
pub(super) fn take<const N: usize>(inputs: Vec<Tensor<4>>) -> [Tensor<4>; N] {
    let mut inputs = inputs.into_iter();
    std::array::from_fn(|_| {
        inputs
            .next()
            .unwrap_or_else(|| unreachable!("the shapes' check has counted the inputs"))
    })
}
/// The shape that two shapes broadcast to, after ONNX's rule; None where they do not.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let side =
        |shape: &[usize], k: usize| (k + shape.len()).checked_sub(rank).map_or(1, |k| shape[k]);
    (0..rank)
        .map(|k| match (side(a, k), side(b, k)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

/// The one graph input that is no initializer: its name, and C, H and W./// How a node is called in messages: its name, or its first output's.
pub(super) fn label(node: &NodeProto) -> String {
    if node.name.is_empty() {
        node.output.first().cloned().unwrap_or_default()
    } else {
        node.name.clone()
    }
}
