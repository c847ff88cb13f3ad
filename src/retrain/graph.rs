//! An ONNX graph as a trainable network: its nodes are walked over burn tensors, its initializers are the parameters,
//! and what was trained is written back into the same ONNX model.
//!
//! Everything that could not be trained or run (an unknown operator, an unsupported attribute, shapes that do not fit)
//! is found and named by [`Graph::new`], before any tensor is computed. Arithmetic on shapes is done there too; the
//! number of images stays open.
//!
//! Every value is held as a rank-4 tensor whose leading dimensions are padded with ones; that is ONNX's (numpy's)
//! broadcasting rule, so a bias `[C]` and an image `[N, C, H, W]` meet without special cases. A value `[N, K]` is held as
//! `[1, 1, N, K]`.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Device, Tensor, TensorData};
use prost::Message as _;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

use super::initializer::tensor;
use super::network::{FEATURES, LOGITS};
use super::operator::Operator;
pub use super::parameters::{Part, Weights};
use super::prepare::{prepare, set_floats};
use super::reader::{Known, Reader};
use crate::model::onnx::{GraphProto, ModelProto};

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

/// A checked ONNX graph, ready to be run and trained.
#[derive(Debug)]
pub struct Graph {
    model: ModelProto,
    nodes: Vec<Node>,
    parameters: Vec<Held>,
    statistics: Vec<Held>,
    constants: Vec<Held>,
    values: usize,
    input: [usize; 3],
    outputs: Vec<(String, usize)>,
    /// Where the logits and the features stand among the outputs.
    logits: usize,
    features: usize,
    multiplications: u64,
    activations: u64,
}

/// Numbers of the model that a node reads.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<f32>,
    /// Read behind the features: a part of the last layers.
    pub(super) in_head: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) operator: Operator,
    pub(super) inputs: Vec<Operand>,
    pub(super) output: usize,
    /// Values that no later node reads: dropped here, so that memory is reused.
    pub(super) last_use_of: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Value(usize),
    Parameter(usize),
    Statistic(usize),
    Constant(usize),
}

/// How training steps run the graph.
#[derive(Clone, Debug, Default)]
pub struct Practice {
    /// Batch normalisation uses the running statistics and leaves them as they are.
    pub frozen_statistics: bool,
    /// Random numbers for dropout; None does without.
    pub dropout: Option<ChaCha12Rng>,
}

impl Graph {
    /// A model whose outputs are called `logits` (else its last output counts as that) and, perhaps, `features`.
    pub fn new(model: ModelProto) -> Result<Self, GraphError> {
        let outputs = model.graph.iter().flat_map(|graph| &graph.output);
        let names: Vec<String> = outputs.map(|output| output.name.clone()).collect();
        let called = |name: &str| names.iter().any(|it| it == name).then(|| name.to_owned());
        let last = || names.last().cloned().unwrap_or_default();
        let logits = called(LOGITS).unwrap_or_else(last);
        let features = called(FEATURES).unwrap_or_else(|| logits.clone());
        Self::with_outputs(model, &logits, &features)
    }

    /// Checks the model from input to outputs: operators, attributes, types and shapes. `logits` and `features` are the
    /// names of its outputs, which may be the same where nothing is known of features. What other outputs come from, such as
    /// the likeliest class, is not looked at, and stays as it is.
    pub fn with_outputs(
        model: ModelProto,
        logits: &str,
        features: &str,
    ) -> Result<Self, GraphError> {
        let model = prepare(model)?;
        let graph = model.graph.clone().ok_or(GraphError::NoGraph)?;
        let mut reader = Reader::new(&model, &graph)?;
        let needed = needed_for(&graph, [logits, features]);
        for (node, _) in graph
            .node
            .iter()
            .zip(&needed)
            .filter(|(_, needed)| **needed)
        {
            reader.node(node)?;
        }
        let mut outputs = Vec::new();
        for output in &graph.output {
            let asked_for = [logits, features].contains(&output.name.as_str());
            match reader.names.get(&output.name) {
                Some((Known::Value(value), _)) => outputs.push((output.name.clone(), *value)),
                _ if !asked_for => {}
                _ => {
                    return Err(GraphError::NoOutput {
                        name: output.name.clone(),
                        available: Vec::new(),
                    });
                }
            }
        }
        let mut nodes = reader.nodes;
        let kept: Vec<usize> = outputs.iter().map(|(_, value)| *value).collect();
        let values = nodes.len() + 1;
        super::operator::together(&mut nodes, &kept);
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
        let mut graph = Self {
            values,
            nodes,
            parameters: reader.parameters,
            statistics: reader.statistics,
            constants: reader.constants,
            input: reader.input,
            outputs,
            logits: 0,
            features: 0,
            multiplications: reader.multiplications,
            activations: reader.activations,
            model,
        };
        graph.logits = graph.output_index(logits)?;
        graph.features = graph.output_index(features)?;
        graph.mark_head();
        Ok(graph)
    }

    /// Marks the parameters of the head: those that are read behind the features, or, where these are the logits
    /// themselves, by the last matrix product or convolution before the logits and what follows it.
    fn mark_head(&mut self) {
        let (features, logits) = (self.outputs[self.features].1, self.outputs[self.logits].1);
        let mut behind: HashSet<usize> = HashSet::new();
        if features == logits {
            let learns = |node: &&Node| {
                matches!(
                    node.operator,
                    Operator::Product(_) | Operator::Convolution(_)
                )
            };
            let before_logits = |node: &&Node| node.output <= logits;
            let last = self.nodes.iter().filter(before_logits).rfind(learns);
            let inputs = last.iter().flat_map(|node| &node.inputs);
            behind.extend(inputs.filter_map(|operand| match operand {
                Operand::Value(value) => Some(*value),
                _ => None,
            }));
        } else {
            behind.insert(features);
        }
        for node in &self.nodes {
            let reads =
                |operand: &Operand| matches!(operand, Operand::Value(v) if behind.contains(v));
            if node.inputs.iter().any(reads) {
                behind.insert(node.output);
                for operand in &node.inputs {
                    if let Operand::Parameter(k) = operand {
                        self.parameters[*k].in_head = true;
                    }
                }
            }
        }
    }

    /// The input's channels, rows and columns.
    pub fn input_shape(&self) -> [usize; 3] {
        self.input
    }

    /// Multiply-accumulate operations of convolutions and matrix products for one image.
    pub fn multiplications(&self) -> u64 {
        self.multiplications
    }

    /// Numbers that all nodes together give for one image.
    pub fn activations(&self) -> u64 {
        self.activations
    }

    /// Numbers that are learned.
    pub fn learned(&self) -> u64 {
        let lengths = self.parameters.iter().map(|held| held.data.len() as u64);
        lengths.sum()
    }

    /// Whether there is a batch normalisation to train; many exporters fold it into the convolution before it.
    pub fn has_batch_normalisation(&self) -> bool {
        !self.statistics.is_empty()
    }

    /// Names of the tensors that are trained, in the order of [`Weights`].
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|held| held.name.as_str())
    }

    /// A digest of the ONNX model as it was read.
    pub(super) fn digest(&self) -> String {
        blake3::hash(&self.model.encode_to_vec())
            .to_hex()
            .to_string()
    }

    /// For each parameter, whether it belongs to the head: the layers behind the features.
    pub fn in_head(&self) -> Vec<bool> {
        self.parameters.iter().map(|held| held.in_head).collect()
    }

    /// Where the logits stand in what [`Graph::run`] and [`Graph::train`] return.
    pub fn logits(&self) -> usize {
        self.logits
    }

    /// Where the features stand.
    pub fn features(&self) -> usize {
        self.features
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
        self.trainable(Part::Everything, device)
    }

    /// The model's own numbers, where gradients reach only a part of them.
    pub fn trainable(&self, part: Part, device: &Device) -> Weights {
        Weights::new(&self.parameters, &self.statistics, part, device)
    }

    /// Runs the graph as it is used after training (running statistics). Images `[N, C, H, W]`; each output `[1, 1, N, K]`
    /// (or `[N, K, H, W]`), in the graph's order. The weights and the images must be without gradients.
    pub fn run(&self, weights: &Weights, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut none = Practice::default();
        self.walk(
            &weights.parameters,
            &weights.statistics,
            images,
            &mut none,
            |_, _| (),
        )
    }

    /// Runs the graph with the statistics of this very batch and moves the running ones towards them.
    pub fn train(&self, weights: &mut Weights, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.practise(weights, images, &mut Practice::default())
    }

    /// Runs the graph as a training step does.
    pub fn practise(
        &self,
        weights: &mut Weights,
        images: Tensor<4>,
        practice: &mut Practice,
    ) -> Vec<Tensor<4>> {
        if practice.frozen_statistics {
            let running: Vec<Tensor<4>> = if images.is_autodiff() {
                weights
                    .statistics
                    .iter()
                    .cloned()
                    .map(Tensor::from_inner)
                    .collect()
            } else {
                weights.statistics.clone()
            };
            return self.walk(&weights.parameters, &running, images, practice, |_, _| ());
        }
        let mut seen = Vec::new();
        let outputs = self.walk(&weights.parameters, &[], images, practice, |slot, batch| {
            seen.push((slot, batch));
        });
        for (slot, (batch, momentum)) in seen {
            let running = weights.statistics[slot].clone();
            weights.statistics[slot] =
                running.mul_scalar(momentum) + batch.mul_scalar(1.0 - momentum);
        }
        outputs
    }

    /// The walk itself. With `statistics` empty, batch normalisation uses the batch's own and hands them to `observe`
    /// together with the momentum.
    fn walk(
        &self,
        parameters: &[Tensor<4>],
        statistics: &[Tensor<4>],
        images: Tensor<4>,
        practice: &mut Practice,
        mut observe: impl FnMut(usize, (Tensor<4>, f32)),
    ) -> Vec<Tensor<4>> {
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.values];
        let (batch, device) = (images.dims()[0], images.device());
        values[0] = Some(images);
        for node in &self.nodes {
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for operand in &node.inputs {
                match *operand {
                    Operand::Parameter(k) => inputs.push(parameters[k].clone()),
                    Operand::Statistic(k) => inputs.extend(statistics.get(k).cloned()),
                    Operand::Constant(k) => {
                        let held = &self.constants[k];
                        inputs.push(tensor(&held.dims, &held.data, &device));
                    }
                    // `Graph::new` has seen that each value is made before it is read and dropped after its last use.
                    Operand::Value(k) => inputs.extend(values[k].clone()),
                }
            }
            for value in &node.last_use_of {
                values[*value] = None;
            }
            let output = match (&node.operator, &mut practice.dropout) {
                (Operator::BatchNormalization(operator), _) if inputs.len() == 3 => {
                    let [output, mean, variance] = operator.train(inputs);
                    for (operand, seen) in node.inputs[3..].iter().zip([mean, variance]) {
                        if let Operand::Statistic(slot) = *operand {
                            let seen = if seen.is_autodiff() {
                                seen.inner()
                            } else {
                                seen
                            };
                            observe(slot, (seen, operator.momentum));
                        }
                    }
                    output
                }
                (Operator::Dropout(part), Some(rng)) => drop_out(inputs, *part, rng),
                (operator, _) => operator.apply(inputs, batch),
            };
            values[node.output] = Some(output);
        }
        let outputs = self.outputs.iter();
        outputs
            .filter_map(|(_, value)| values[*value].clone())
            .collect()
    }

    /// The ONNX model with these weights in place of its own.
    pub fn to_onnx(&self, weights: &Weights) -> Result<ModelProto, GraphError> {
        let mut numbers = HashMap::new();
        let trained = self.parameters.iter().zip(&weights.parameters);
        let running = self.statistics.iter().zip(&weights.statistics);
        for (held, tensor) in trained.chain(running) {
            numbers.insert(held.name.as_str(), read_back(tensor.clone())?);
        }
        let mut model = self.model.clone();
        for tensor in model
            .graph
            .iter_mut()
            .flat_map(|graph| &mut graph.initializer)
        {
            if let Some(data) = numbers.remove(tensor.name.as_str()) {
                set_floats(tensor, &data);
            }
        }
        Ok(model)
    }
}

/// Which nodes some values come from.
fn needed_for(graph: &GraphProto, values: [&str; 2]) -> Vec<bool> {
    let mut names: HashSet<&str> = values.into();
    let mut needed = vec![false; graph.node.len()];
    // Nodes stand before those that read them.
    for (node, needed) in graph.node.iter().zip(&mut needed).rev() {
        if node.output.iter().any(|name| names.contains(name.as_str())) {
            *needed = true;
            names.extend(node.input.iter().map(String::as_str));
        }
    }
    needed
}

/// Sets a part of the numbers to 0 and lifts the others (Srivastava et al. 2014).
fn drop_out(inputs: Vec<Tensor<4>>, part: f32, rng: &mut ChaCha12Rng) -> Tensor<4> {
    let [x] = super::operator::take(inputs);
    let dims = x.dims();
    let kept = 1.0 / (1.0 - part);
    let mask: Vec<f32> = (0..dims.iter().product())
        .map(|_| {
            if rng.random::<f32>() < part {
                0.0
            } else {
                kept
            }
        })
        .collect();
    let mask = Tensor::from_data(TensorData::new(mask, dims), &x.device());
    x * mask
}

/// A tensor's numbers in row-major order.
pub fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, GraphError> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| GraphError::Device(format!("{e:?}")))
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "parity_tests.rs"]
mod parity_tests;

#[cfg(test)]
#[path = "operator_tests.rs"]
mod operator_tests;
