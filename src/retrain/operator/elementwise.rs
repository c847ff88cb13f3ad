//! Operators that look at one number at a time, or at two that stand in the same place.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Tensor, activation};

use super::call::{Call, axis, broadcast};
use super::{Operator, Planned, take};
use crate::model::onnx::tensor_proto::DataType;
use crate::retrain::graph::{Node, Operand};
use crate::retrain::kernel;

/// A function of single numbers (softmax: of a row of them).
#[derive(Clone, Copy, Debug)]
pub(in crate::retrain) enum Elementwise {
    Identity,
    Relu,
    LeakyRelu(f64),
    Sigmoid,
    /// `Sigmoid` and `Mul`, put together by [`together`].
    Silu,
    HardSigmoid {
        slope: f32,
        offset: f32,
    },
    HardSwish,
    Clip {
        low: f32,
        high: f32,
    },
    Sqrt,
    Erf,
    Gelu,
    GeluByTanh,
    Pow(f32),
    /// Over this axis of the rank-4 tensor.
    Softmax(usize),
    Add,
    Sub,
    Mul,
    Div,
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    let Some((operator, attributes, inputs)) = read(call)? else {
        return Ok(None);
    };
    call.only(attributes, inputs)?;
    if matches!(
        operator,
        Elementwise::Add | Elementwise::Sub | Elementwise::Mul | Elementwise::Div
    ) {
        let (a, b) = (call.shape(0)?, call.shape(1)?);
        let shape =
            broadcast(a, b).ok_or_else(|| format!("shapes {a:?} and {b:?} do not go together"))?;
        let operator = Operator::Elementwise(operator);
        return Ok(Some(Planned::new(operator, &[0, 1], shape)));
    }
    let shape = call.shape(0)?.to_vec();
    let operator = match call.operator() {
        "Dropout" => {
            let ratio = if call.opset < 12 {
                call.float("ratio", 0.5)
            } else {
                call.scalar(1)?.unwrap_or(0.5)
            };
            Operator::Dropout(ratio.clamp(0.0, 0.99))
        }
        _ => Operator::Elementwise(operator),
    };
    Ok(Some(Planned::new(operator, &[0], shape)))
}

/// The operator, the attributes that it may have, and how many inputs.
type Read = (Elementwise, &'static [&'static str], usize);

fn read(call: &Call) -> Result<Option<Read>, String> {
    use Elementwise as E;
    let none: &[&str] = &[];
    Ok(Some(match call.operator() {
        "Identity" => (E::Identity, none, 1),
        "Dropout" => (E::Identity, &["ratio", "seed"], 3),
        "Cast" => {
            let to = call.int("to", 1);
            if to != DataType::Float as i64 {
                return Err(format!("a cast to data type {to} cannot be trained"));
            }
            (E::Identity, &["to", "saturate"], 1)
        }
        "Relu" => (E::Relu, none, 1),
        "LeakyRelu" => (
            E::LeakyRelu(f64::from(call.float("alpha", 0.01))),
            &["alpha"],
            1,
        ),
        "Sigmoid" => (E::Sigmoid, none, 1),
        "HardSigmoid" => {
            let (slope, offset) = (call.float("alpha", 0.2), call.float("beta", 0.5));
            (E::HardSigmoid { slope, offset }, &["alpha", "beta"], 1)
        }
        "HardSwish" => (E::HardSwish, none, 1),
        "Clip" if call.opset < 11 => {
            let low = call.float("min", f32::MIN);
            let high = call.float("max", f32::MAX);
            (E::Clip { low, high }, &["min", "max"], 1)
        }
        "Clip" => {
            let low = call.scalar(1)?.unwrap_or(f32::MIN);
            let high = call.scalar(2)?.unwrap_or(f32::MAX);
            (E::Clip { low, high }, none, 3)
        }
        "Sqrt" => (E::Sqrt, none, 1),
        "Erf" => (E::Erf, none, 1),
        "Gelu" => match call.text("approximate", "none").as_str() {
            "none" => (E::Gelu, &["approximate"], 1),
            "tanh" => (E::GeluByTanh, &["approximate"], 1),
            other => return Err(format!("approximate = {other} is not supported")),
        },
        "Pow" => {
            let exponent = call.scalar(1)?.ok_or("its exponent is missing")?;
            (E::Pow(exponent), none, 2)
        }
        "Softmax" => {
            let rank = call.shape(0)?.len();
            let last = axis(call.int("axis", if call.opset < 13 { 1 } else { -1 }), rank)?;
            if call.opset < 13 && last + 1 != rank {
                return Err("before operator set 13 only the last axis is supported".into());
            }
            (E::Softmax(4 - rank + last), &["axis"], 1)
        }
        "Add" => (E::Add, none, 2),
        "Sub" => (E::Sub, none, 2),
        "Mul" => (E::Mul, none, 2),
        "Div" => (E::Div, none, 2),
        _ => return Ok(None),
    }))
}

impl Elementwise {
    pub(super) fn apply(self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::Add | Self::Sub | Self::Mul | Self::Div => {
                let [a, b] = take(inputs);
                match self {
                    Self::Add => a + b,
                    Self::Sub => a - b,
                    Self::Mul => a * b,
                    _ => a / b,
                }
            }
            _ => {
                let [x] = take(inputs);
                self.of(x)
            }
        }
    }

    fn of(self, x: Tensor<4>) -> Tensor<4> {
        let hard_sigmoid = |x: Tensor<4>, slope: f32, offset: f32| {
            x.mul_scalar(slope).add_scalar(offset).clamp(0.0, 1.0)
        };
        match self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu(slope) => activation::leaky_relu(x, slope),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Silu if kernel::has(&x) => kernel::silu(x),
            Self::Silu => activation::silu(x),
            Self::HardSigmoid { slope, offset } => hard_sigmoid(x, slope, offset),
            Self::HardSwish => x.clone() * hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Self::Clip { low, high } => x.clamp(low, high),
            Self::Sqrt => x.sqrt(),
            Self::Erf => x.erf(),
            Self::Gelu => activation::gelu(x),
            Self::GeluByTanh => activation::gelu_approximate(x),
            Self::Pow(2.0) => x.clone() * x,
            Self::Pow(exponent) => x.powf_scalar(exponent),
            Self::Softmax(axis) => activation::softmax(x, axis),
            Self::Identity | Self::Add | Self::Sub | Self::Mul | Self::Div => x,
        }
    }
}

/// Puts `Silu` in the place of each `Sigmoid` that is only multiplied by what it was taken of. What is in `kept` is read
/// from outside.
pub(in crate::retrain) fn together(nodes: &mut Vec<Node>, kept: &[usize]) {
    let mut readers: HashMap<usize, usize> = kept.iter().map(|value| (*value, 1)).collect();
    for operand in nodes.iter().flat_map(|node| &node.inputs) {
        if let Operand::Value(value) = operand {
            *readers.entry(*value).or_default() += 1;
        }
    }
    let sigmoids = nodes.iter().filter_map(|node| {
        let alone = readers.get(&node.output) == Some(&1);
        match (&node.operator, &node.inputs[..]) {
            (Operator::Elementwise(Elementwise::Sigmoid), [Operand::Value(of)]) if alone => {
                Some((node.output, *of))
            }
            _ => None,
        }
    });
    let mut sigmoids: HashMap<usize, usize> = sigmoids.collect();
    let mut gone = HashSet::new();
    for node in nodes.iter_mut() {
        let (Operator::Elementwise(Elementwise::Mul), [Operand::Value(a), Operand::Value(b)]) =
            (&node.operator, &node.inputs[..])
        else {
            continue;
        };
        let (a, b) = (*a, *b);
        for (x, sigmoid) in [(a, b), (b, a)] {
            if sigmoids.get(&sigmoid) == Some(&x) {
                sigmoids.remove(&sigmoid);
                gone.insert(sigmoid);
                node.operator = Operator::Elementwise(Elementwise::Silu);
                node.inputs = vec![Operand::Value(x)];
                break;
            }
        }
    }
    nodes.retain(|node| !gone.contains(&node.output));
}
