//! The ONNX operators that can be trained, a file a family: each reads a node's attributes and its inputs' shapes once, and
//! then runs on tensors.
//!
//! Shapes are those of ONNX, with the batch dimension left open ([`Size::Batch`]); tensors are rank 4, padded with ones in
//! front.

mod call;
mod convolution;
mod elementwise;
mod fold;
mod norm;
mod pool;
mod product;
mod shape;

use burn::tensor::Tensor;

pub(super) use call::{Call, Input, Number, Size};
pub(super) use elementwise::together;
pub(super) use fold::{Folded, fold};
pub(super) use norm::BatchNormalization;

use super::graph::GraphError;
use crate::model::onnx::NodeProto;
use convolution::Convolution;
use elementwise::Elementwise;
use norm::LayerNormalization;
use pool::Pool;
use product::Product;
use shape::Shaping;

/// The ONNX operators that [`Graph`](super::graph::Graph) knows.
pub const OPERATORS: &[&str] = &[
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Dropout",
    "Erf",
    "Flatten",
    "Gather (of shapes)",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Pow",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice (of shapes)",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

/// One operator, ready to run.
#[derive(Clone, Debug)]
pub(super) enum Operator {
    Convolution(Convolution),
    BatchNormalization(BatchNormalization),
    LayerNormalization(LayerNormalization),
    Elementwise(Elementwise),
    Pool(Pool),
    Product(Product),
    Shaping(Shaping),
    /// The part of values that training sets to 0.
    Dropout(f32),
}

/// What a node does and makes.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) operator: Operator,
    /// Which of the node's inputs are tensors at run time; the others have been read.
    pub(super) operands: Vec<usize>,
    pub(super) shape: Vec<Size>,
    /// Multiply-accumulate operations for one image.
    pub(super) multiplications: u64,
}

impl Planned {
    fn new(operator: Operator, operands: &[usize], shape: Vec<Size>) -> Self {
        Self {
            operator,
            operands: operands.to_vec(),
            shape,
            multiplications: 0,
        }
    }
}

/// Reads a node of one family; None for a node of another, Err says what is wrong with it.
type Family = fn(&Call) -> Result<Option<Planned>, String>;

/// Finds the node's operator and checks its attributes and its inputs' shapes.
pub(super) fn plan(call: &Call) -> Result<Planned, GraphError> {
    const FAMILIES: [Family; 6] = [
        convolution::plan,
        elementwise::plan,
        norm::plan,
        pool::plan,
        product::plan,
        shape::plan,
    ];
    for family in FAMILIES {
        if let Some(planned) = family(call).map_err(|problem| call.error(problem))? {
            if planned.shape.len() > 4 {
                return Err(call.error(format!(
                    "its output has {} dimensions, at most 4 are supported",
                    planned.shape.len()
                )));
            }
            return Ok(planned);
        }
    }
    Err(GraphError::UnknownOperator {
        operator: call.operator_in_words(),
        node: label(call.node),
    })
}

impl Operator {
    /// Runs it for a batch of so many images.
    pub(super) fn apply(&self, inputs: Vec<Tensor<4>>, batch: usize) -> Tensor<4> {
        match self {
            Self::Convolution(operator) => operator.apply(inputs),
            Self::BatchNormalization(operator) => operator.apply(inputs),
            Self::LayerNormalization(operator) => operator.apply(inputs),
            Self::Elementwise(operator) => operator.apply(inputs),
            Self::Pool(operator) => operator.apply(inputs),
            Self::Product(operator) => operator.apply(inputs),
            Self::Shaping(operator) => operator.apply(inputs, batch),
            Self::Dropout(_) => take::<1>(inputs)[0].clone(),
        }
    }

    /// Whether an input of it that the model holds is learned even if it is a single number: a weight, not a constant of
    /// a formula.
    pub(super) fn learns_single_numbers(&self) -> bool {
        matches!(
            self,
            Self::Convolution(_)
                | Self::BatchNormalization(_)
                | Self::LayerNormalization(_)
                | Self::Product(_)
        )
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

/// How a node is called in messages: its name, or its first output's.
pub(super) fn label(node: &NodeProto) -> String {
    if node.name.is_empty() {
        node.output.first().cloned().unwrap_or_default()
    } else {
        node.name.clone()
    }
}
