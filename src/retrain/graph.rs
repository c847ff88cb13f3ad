//! An ONNX graph as a trainable network: its nodes are walked over burn tensors, its initializers are the parameters,
//! and what was trained is written back into the same ONNX model.
//!
//! Everything that could not be trained or run (an unknown operator, an unsupported attribute, shapes that do not fit)
//! is found and named by [`Graph::new`], before any tensor is computed.
//!
//! Every value is held as a rank-4 tensor whose leading dimensions are padded with ones; that is ONNX's (numpy's)
//! broadcasting rule, so a bias `[C]` and an image `[N, C, H, W]` meet without special cases.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, module as functional};

use super::operator::{Operator, label, take};
use crate::model::onnx::{
    ModelProto, TensorProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// Why an ONNX model cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The model holds no graph.
    #[error("the ONNX model holds no graph")]
    NoGraph,
    /// An operator that the interpreter does not know.
    #[error("operator `{operator}` (node `{node}`) is not one that can be trained; known are {}", super::operator::OPERATORS.join(", "))]
    UnknownOperator {
        /// The ONNX operator type.
        operator: String,
        /// The node's name, or that of its output.
        node: String,
    },
    /// A known operator used in a way that is not supported.
    #[error("node `{node}`: {problem}")]
    Node {
        /// The node's name, or that of its output.
        node: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An initializer that cannot become a parameter.
    #[error("initializer `{name}`: {problem}")]
    Initializer {
        /// The initializer's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The graph's input is not one image batch `[N, C, H, W]` with C, H and W fixed.
    #[error(
        "the graph's input must be one image batch [N, C, H, W] with C, H and W fixed; it is {found}"
    )]
    Input {
        /// What was found instead.
        found: String,
    },
    /// An output that was asked for is not there.
    #[error("the graph has no output `{name}`; it has {}", available.join(", "))]
    NoOutput {
        /// The output asked for.
        name: String,
        /// The outputs there are.
        available: Vec<String>,
    },
    /// Tensors could not be read back from the device.
    #[error("reading tensors back from the device failed: {0}")]
    Device(String),
}

/// What gradients reach: one tensor per trainable initializer, rank padded to 4.
#[derive(Module, Debug)]
pub struct Parameters {
    tensors: Vec<Param<Tensor<4>>>,
}

/// A network's numbers: its parameters, and the running means and variances of its batch normalisations.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The trainable part.
    pub parameters: Parameters,
    /// Running statistics, rank padded to 4; never on an autodiff device.
    statistics: Vec<Tensor<4>>,
}

impl Weights {
    /// The same numbers without gradient tracking.
    #[must_use]
    pub fn without_gradients(&self) -> Self {
        let tensors = self
            .parameters
            .tensors
            .iter()
            .map(|p| Param::from_tensor(p.val().inner()))
            .collect();
        Self {
            parameters: Parameters { tensors },
            statistics: self.statistics.clone(),
        }
    }

    /// Moves each parameter towards `other`'s: `self = decay · self + (1 − decay) · other`; takes its statistics over.
    pub fn average(&mut self, other: &Self, decay: f32) {
        for (mine, theirs) in self
            .parameters
            .tensors
            .iter_mut()
            .zip(&other.parameters.tensors)
        {
            let towards = theirs.val().inner().mul_scalar(1.0 - decay);
            *mine = Param::from_tensor(mine.val().mul_scalar(decay) + towards);
        }
        self.statistics.clone_from(&other.statistics);
    }

    /// How many trainable numbers there are.
    pub fn parameter_count(&self) -> usize {
        self.parameters
            .tensors
            .iter()
            .map(|p| p.val().dims().iter().product::<usize>())
            .sum()
    }
}

/// A checked ONNX graph, ready to be run and trained.
#[derive(Debug)]
pub struct Graph {
    model: ModelProto,
    nodes: Vec<Node>,
    parameters: Vec<Initializer>,
    statistics: Vec<Initializer>,
    values: usize,
    input: [usize; 3],
    outputs: Vec<(String, usize)>,
    multiplications: u64,
}

#[derive(Debug)]
struct Initializer {
    name: String,
    dims: Vec<usize>,
    data: Vec<f32>,
}

#[derive(Debug)]
struct Node {
    operator: Operator,
    inputs: Vec<Operand>,
    output: usize,
    /// Values that no later node reads: dropped here, so that memory is reused.
    last_use_of: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Value(usize),
    Parameter(usize),
    Statistic(usize),
}

impl Graph {
    /// Checks the model from input to outputs: operators, attributes, types and shapes.
    pub fn new(model: ModelProto) -> Result<Self, GraphError> {
        let graph = model.graph.clone().ok_or(GraphError::NoGraph)?;
        let running: HashSet<&String> = graph
            .node
            .iter()
            .filter(|n| n.op_type == "BatchNormalization")
            .flat_map(|n| n.input.iter().skip(3).take(2))
            .collect();

        let mut names: HashMap<String, (Operand, Vec<usize>)> = HashMap::new();
        let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
        for tensor in &graph.initializer {
            let held = Initializer::read(tensor)?;
            let (list, operand): (_, fn(usize) -> Operand) = if running.contains(&tensor.name) {
                (&mut statistics, Operand::Statistic)
            } else {
                (&mut parameters, Operand::Parameter)
            };
            names.insert(
                tensor.name.clone(),
                (operand(list.len()), held.dims.clone()),
            );
            list.push(held);
        }

        let (input_name, input) = image_input(&graph, &names)?;
        names.insert(
            input_name,
            (Operand::Value(0), vec![1, input[0], input[1], input[2]]),
        );

        let mut nodes = Vec::with_capacity(graph.node.len());
        let mut multiplications = 0;
        for (k, node) in graph.node.iter().enumerate() {
            let mut operator = Operator::read(node)?;
            let problem = |problem: String| GraphError::Node {
                node: label(node),
                problem,
            };
            let mut inputs = Vec::new();
            let mut shapes = Vec::new();
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                let (operand, shape) = names.get(name).ok_or_else(|| {
                    problem(format!("its input `{name}` is made by no earlier node"))
                })?;
                inputs.push(*operand);
                shapes.push(shape.as_slice());
            }
            let shape = operator.shape(&shapes).map_err(problem)?;
            if let (Operator::Conv { .. } | Operator::Gemm { .. }, Some(weight)) =
                (operator, shapes.get(1))
            {
                let per_output: usize = weight.iter().skip(1).product();
                let outputs: usize = if weight.len() == 4 {
                    shape.iter().product()
                } else {
                    weight[0]
                };
                multiplications += (per_output * outputs) as u64;
            }
            if let (Operator::Flatten, Some([_, _])) = (operator, shapes.first()) {
                operator = Operator::Identity; // rank 2 already
            }
            let output = node
                .output
                .first()
                .ok_or_else(|| problem("it has no output".into()))?;
            names.insert(output.clone(), (Operand::Value(k + 1), shape));
            nodes.push(Node {
                operator,
                inputs,
                output: k + 1,
                last_use_of: Vec::new(),
            });
        }

        let mut outputs = Vec::new();
        for output in &graph.output {
            match names.get(&output.name) {
                Some((Operand::Value(value), _)) => outputs.push((output.name.clone(), *value)),
                _ => {
                    return Err(GraphError::NoOutput {
                        name: output.name.clone(),
                        available: Vec::new(),
                    });
                }
            }
        }
        let mut seen: HashSet<usize> = outputs.iter().map(|(_, value)| *value).collect();
        for node in nodes.iter_mut().rev() {
            for operand in &node.inputs {
                if let Operand::Value(value) = operand
                    && seen.insert(*value)
                {
                    node.last_use_of.push(*value);
                }
            }
        }
        let values = nodes.len() + 1;
        Ok(Self {
            model,
            nodes,
            parameters,
            statistics,
            values,
            input,
            outputs,
            multiplications,
        })
    }

    /// The input's channels, rows and columns.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// Multiply-accumulate operations of convolutions and matrix products for one image.
    pub fn multiplications(&self) -> u64 {
        self.multiplications
    }

    /// Where the output `name` stands in what [`Graph::run`] and [`Graph::train`] return.
    pub fn output_index(&self, name: &str) -> Result<usize, GraphError> {
        self.outputs
            .iter()
            .position(|(n, _)| n == name)
            .ok_or_else(|| GraphError::NoOutput {
                name: name.to_owned(),
                available: self.outputs.iter().map(|(n, _)| n.clone()).collect(),
            })
    }

    /// The model's own numbers, on a device (an autodiff device for training).
    pub fn weights(&self, device: &Device) -> Weights {
        let tensors = self
            .parameters
            .iter()
            .map(|p| Param::from_tensor(p.tensor(device)))
            .collect();
        let plain = device.clone().inner();
        Weights {
            parameters: Parameters { tensors },
            statistics: self.statistics.iter().map(|s| s.tensor(&plain)).collect(),
        }
    }

    /// Runs the graph as it is used after training (running statistics). Images `[N, C, H, W]`; each output `[1, 1, N, K]`
    /// (or `[N, K, H, W]`), in the graph's order. The weights and the images must be without gradients.
    pub fn run(&self, weights: &Weights, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.walk(&weights.parameters, &weights.statistics, images, |_, _| ())
    }

    /// Runs the graph with the statistics of this very batch and moves the running ones towards them.
    pub fn train(&self, weights: &mut Weights, images: Tensor<4>) -> Vec<Tensor<4>> {
        let Weights {
            parameters,
            statistics,
        } = weights;
        let mut seen = Vec::new();
        let outputs = self.walk(parameters, &[], images, |slot, batch| {
            seen.push((slot, batch));
        });
        for (slot, (batch, momentum)) in seen {
            statistics[slot] =
                statistics[slot].clone().mul_scalar(momentum) + batch.mul_scalar(1.0 - momentum);
        }
        outputs
    }

    /// The walk itself. With `statistics` empty, batch normalisation uses the batch's own and hands them to `observe`
    /// together with the momentum.
    fn walk(
        &self,
        parameters: &Parameters,
        statistics: &[Tensor<4>],
        images: Tensor<4>,
        mut observe: impl FnMut(usize, (Tensor<4>, f32)),
    ) -> Vec<Tensor<4>> {
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.values];
        values[0] = Some(images);
        for node in &self.nodes {
            let output = {
                let mut inputs = Vec::with_capacity(node.inputs.len());
                for operand in &node.inputs {
                    match *operand {
                        Operand::Parameter(k) => inputs.push(parameters.tensors[k].val()),
                        Operand::Statistic(k) => inputs.extend(statistics.get(k).cloned()),
                        // `Graph::new` has seen that each value is made before it is read and dropped after its last use.
                        Operand::Value(k) => inputs.extend(values[k].clone()),
                    }
                }
                for value in &node.last_use_of {
                    values[*value] = None;
                }
                if let (Operator::BatchNormalization { epsilon, momentum }, true) =
                    (node.operator, inputs.len() == 3)
                {
                    normalise_batch(node, inputs, epsilon, momentum, &mut observe)
                } else {
                    node.operator.apply(inputs)
                }
            };
            values[node.output] = Some(output);
        }
        self.outputs
            .iter()
            .filter_map(|(_, value)| values[*value].clone())
            .collect()
    }

    /// The ONNX model with these weights in place of its own.
    pub fn to_onnx(&self, weights: &Weights) -> Result<ModelProto, GraphError> {
        let mut numbers = HashMap::new();
        let trained = self
            .parameters
            .iter()
            .zip(weights.parameters.tensors.iter().map(Param::val));
        let running = self
            .statistics
            .iter()
            .zip(weights.statistics.iter().cloned());
        for (initializer, tensor) in trained.chain(running) {
            numbers.insert(initializer.name.as_str(), read_back(tensor)?);
        }
        let mut model = self.model.clone();
        for tensor in model
            .graph
            .iter_mut()
            .flat_map(|graph| &mut graph.initializer)
        {
            if let Some(data) = numbers.remove(tensor.name.as_str()) {
                tensor.raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensor.float_data.clear();
            }
        }
        Ok(model)
    }
}

/// A tensor's numbers in row-major order.
pub fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, GraphError> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| GraphError::Device(format!("{e:?}")))
}

/// Batch normalisation with the batch's own statistics; `observe` gets the mean, then the unbiased variance.
fn normalise_batch(
    node: &Node,
    inputs: Vec<Tensor<4>>,
    epsilon: f64,
    momentum: f32,
    observe: &mut impl FnMut(usize, (Tensor<4>, f32)),
) -> Tensor<4> {
    let [x, gamma, beta] = take(inputs);
    let [n, c, h, w] = x.dims();
    let normalised =
        functional::batch_norm_train(x, gamma.reshape([c]), beta.reshape([c]), epsilon);
    let count = (n * h * w) as f32;
    let unbiased = normalised
        .variance
        .mul_scalar(count / (count - 1.0).max(1.0));
    for (operand, seen) in node.inputs[3..].iter().zip([normalised.mean, unbiased]) {
        if let Operand::Statistic(slot) = *operand {
            let seen = if seen.is_autodiff() {
                seen.inner()
            } else {
                seen
            };
            observe(slot, (seen.reshape([1, 1, 1, c]), momentum));
        }
    }
    normalised.output
}

impl Initializer {
    fn read(tensor: &TensorProto) -> Result<Self, GraphError> {
        let problem = |problem: String| GraphError::Initializer {
            name: tensor.name.clone(),
            problem,
        };
        if tensor.data_type != DataType::Float as i32 {
            return Err(problem(format!(
                "its data type is {}, only 32-bit floats can be trained",
                tensor.data_type
            )));
        }
        let dims: Result<Vec<usize>, _> = tensor.dims.iter().map(|d| usize::try_from(*d)).collect();
        let dims = dims.map_err(|_| problem(format!("its dimensions are {:?}", tensor.dims)))?;
        if dims.len() > 4 {
            return Err(problem(format!(
                "its rank is {}, at most 4 is supported",
                dims.len()
            )));
        }
        let data: Vec<f32> = if tensor.raw_data.is_empty() {
            tensor.float_data.clone()
        } else {
            tensor
                .raw_data
                .as_chunks::<4>()
                .0
                .iter()
                .map(|c| f32::from_le_bytes(*c))
                .collect()
        };
        let declared = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if declared != Some(data.len()) {
            return Err(problem(format!(
                "its dimensions are {dims:?} but it holds {} numbers",
                data.len()
            )));
        }
        Ok(Self {
            name: tensor.name.clone(),
            dims,
            data,
        })
    }

    fn tensor(&self, device: &Device) -> Tensor<4> {
        let mut shape = [1; 4];
        shape[4 - self.dims.len()..].copy_from_slice(&self.dims);
        Tensor::from_data(TensorData::new(self.data.clone(), shape), device)
    }
}

fn image_input(
    graph: &crate::model::onnx::GraphProto,
    initializers: &HashMap<String, (Operand, Vec<usize>)>,
) -> Result<(String, [usize; 3]), GraphError> {
    let inputs: Vec<_> = graph
        .input
        .iter()
        .filter(|i| !initializers.contains_key(&i.name))
        .collect();
    let [input] = inputs.as_slice() else {
        return Err(GraphError::Input {
            found: format!("{} inputs", inputs.len()),
        });
    };
    let Some(type_proto::Value::TensorType(tensor)) =
        input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err(GraphError::Input {
            found: "no tensor".into(),
        });
    };
    let dims: Vec<Option<usize>> = tensor
        .shape
        .iter()
        .flat_map(|shape| &shape.dim)
        .map(|d| match d.value {
            Some(tensor_shape_proto::dimension::Value::DimValue(n)) => {
                usize::try_from(n).ok().filter(|n| *n > 0)
            }
            _ => None,
        })
        .collect();
    match (tensor.elem_type == DataType::Float as i32, dims.as_slice()) {
        (true, [_, Some(c), Some(h), Some(w)]) => Ok((input.name.clone(), [*c, *h, *w])),
        _ => Err(GraphError::Input {
            found: format!("of element type {} and shape {dims:?}", tensor.elem_type),
        }),
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
