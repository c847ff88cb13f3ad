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

use super::initializer::{Literal, Values, tensor};
use super::network::{FEATURES, LOGITS};
use super::operator::{Call, Folded, Input, Number, Operator, Size, fold, plan};
use super::prepare::{prepare, set_floats};
pub use super::parameters::{Part, Weights};
use crate::model::onnx::{
    GraphProto, ModelProto, NodeProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
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
    multiplications: u64,
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
    Constant(usize),
}

/// What a name stands for while the graph is read.
enum Known {
    /// Computed from the images.
    Value(usize),
    /// Held by the model, or computed from shapes.
    Floats(Vec<f32>),
    /// A shape, or numbers about one.
    Integers(Vec<Number>),
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
    /// Checks the model from input to outputs: operators, attributes, types and shapes.
    pub fn new(model: ModelProto) -> Result<Self, GraphError> {
        let model = prepare(model)?;
        let graph = model.graph.clone().ok_or(GraphError::NoGraph)?;
        let mut reader = Reader::new(&model, &graph)?;
        for node in &graph.node {
            reader.node(node)?;
        }
        let mut outputs = Vec::new();
        for output in &graph.output {
            match reader.names.get(&output.name) {
                Some((Known::Value(value), _)) => outputs.push((output.name.clone(), *value)),
                _ => {
                    return Err(GraphError::NoOutput {
                        name: output.name.clone(),
                        available: Vec::new(),
                    });
                }
            }
        }
        let mut nodes = reader.nodes;
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
            values: nodes.len() + 1,
            nodes,
            parameters: reader.parameters,
            statistics: reader.statistics,
            constants: reader.constants,
            input: reader.input,
            outputs,
            multiplications: reader.multiplications,
            model,
        };
        graph.mark_head();
        Ok(graph)
    }

    /// Marks the parameters of the head: those that are read behind the features, or, where no output is called so, by
    /// the last matrix product or convolution before the logits and what follows it.
    fn mark_head(&mut self) {
        let value_of = |name: &str| {
            let found = self.outputs.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| *value)
        };
        let logits = value_of(LOGITS).or_else(|| self.outputs.last().map(|(_, value)| *value));
        let mut behind: HashSet<usize> = HashSet::new();
        if let Some(features) = value_of(FEATURES) {
            behind.insert(features);
        } else {
            let before_logits = |node: &&Node| logits.is_some_and(|last| node.output <= last);
            let learns = |node: &&Node| {
                matches!(
                    node.operator,
                    Operator::Product(_) | Operator::Convolution(_)
                )
            };
            let last = self.nodes.iter().filter(before_logits).rfind(learns);
            behind.extend(last.iter().flat_map(|node| &node.inputs).filter_map(
                |operand| match operand {
                    Operand::Value(value) => Some(*value),
                    _ => None,
                },
            ));
        }
        for node in &self.nodes {
            let reads = |operand: &Operand| matches!(operand, Operand::Value(v) if behind.contains(v));
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
        blake3::hash(&self.model.encode_to_vec()).to_hex().to_string()
    }

    /// For each parameter, whether it belongs to the head: the layers behind the features.
    pub fn in_head(&self) -> Vec<bool> {
        self.parameters.iter().map(|held| held.in_head).collect()
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
        self.walk(&weights.parameters, &weights.statistics, images, &mut none, |_, _| ())
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
                weights.statistics.iter().cloned().map(Tensor::from_inner).collect()
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
                            let seen = if seen.is_autodiff() { seen.inner() } else { seen };
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

/// Sets a part of the numbers to 0 and lifts the others (Srivastava et al. 2014).
fn drop_out(inputs: Vec<Tensor<4>>, part: f32, rng: &mut ChaCha12Rng) -> Tensor<4> {
    let [x] = super::operator::take(inputs);
    let dims = x.dims();
    let kept = 1.0 / (1.0 - part);
    let mask: Vec<f32> = (0..dims.iter().product())
        .map(|_| if rng.random::<f32>() < part { 0.0 } else { kept })
        .collect();
    let mask = Tensor::from_data(TensorData::new(mask, dims), &x.device());
    x * mask
}

/// Reads nodes one after the other.
struct Reader {
    opset: i64,
    exported_batch: Option<usize>,
    input: [usize; 3],
    running: HashSet<String>,
    names: HashMap<String, (Known, Vec<Size>)>,
    slots: HashMap<String, Operand>,
    nodes: Vec<Node>,
    parameters: Vec<Held>,
    statistics: Vec<Held>,
    constants: Vec<Held>,
    multiplications: u64,
}

impl Reader {
    fn new(model: &ModelProto, graph: &GraphProto) -> Result<Self, GraphError> {
        let running = graph.node.iter();
        let running = running
            .filter(|n| n.op_type == "BatchNormalization")
            .flat_map(|n| n.input.iter().skip(3).take(2).cloned());
        let own = |domain: &str| matches!(domain, "" | "ai.onnx");
        let opset = model.opset_import.iter().find(|o| own(&o.domain));
        let mut names = HashMap::new();
        for tensor in &graph.initializer {
            let Literal { name, dims, values } = Literal::read(tensor)?;
            let known = match values {
                Values::Floats(floats) => Known::Floats(floats),
                Values::Integers(integers) => {
                    Known::Integers(integers.into_iter().map(Number::Integer).collect())
                }
            };
            names.insert(name, (known, dims.into_iter().map(Size::Fixed).collect()));
        }
        let (name, exported_batch, input) = image_input(graph, &names)?;
        let shape = std::iter::once(Size::Batch).chain(input.map(Size::Fixed));
        names.insert(name, (Known::Value(0), shape.collect()));
        Ok(Self {
            opset: opset.map_or(1, |o| o.version),
            exported_batch,
            input,
            running: running.collect(),
            names,
            slots: HashMap::new(),
            nodes: Vec::new(),
            parameters: Vec::new(),
            statistics: Vec::new(),
            constants: Vec::new(),
            multiplications: 0,
        })
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), GraphError> {
        let problem = |problem: String| GraphError::Node {
            node: super::operator::label(node),
            problem,
        };
        let output = node.output.first();
        let output = output.ok_or_else(|| problem("it has no output".into()))?;
        let mut inputs = Vec::new();
        for name in &node.input {
            if name.is_empty() {
                inputs.push(None);
                continue;
            }
            let (known, shape) = self.names.get(name).ok_or_else(|| {
                problem(format!("its input `{name}` is made by no earlier node"))
            })?;
            inputs.push(Some(Input {
                shape: shape.clone(),
                integers: match known {
                    Known::Integers(integers) => Some(integers),
                    _ => None,
                },
                floats: match known {
                    Known::Floats(floats) => Some(floats),
                    _ => None,
                },
            }));
        }
        let call = Call {
            node,
            opset: self.opset,
            exported_batch: self.exported_batch,
            inputs,
        };
        let fixed = |dims: Vec<usize>| dims.into_iter().map(Size::Fixed).collect();
        match fold(&call).map_err(problem)? {
            Some(Folded::Integers(dims, numbers)) => {
                let known = (Known::Integers(numbers), fixed(dims));
                self.names.insert(output.clone(), known);
                return Ok(());
            }
            Some(Folded::Floats(dims, floats)) => {
                let known = (Known::Floats(floats), fixed(dims));
                self.names.insert(output.clone(), known);
                return Ok(());
            }
            None => {}
        }
        let planned = plan(&call)?;
        drop(call);
        let mut operands = Vec::new();
        for k in &planned.operands {
            let name = &node.input[*k];
            operands.push(self.operand(name, &planned.operator).map_err(problem)?);
        }
        self.multiplications += planned.multiplications;
        let value = self.nodes.len() + 1;
        let known = (Known::Value(value), planned.shape);
        self.names.insert(output.clone(), known);
        self.nodes.push(Node {
            operator: planned.operator,
            inputs: operands,
            output: value,
            last_use_of: Vec::new(),
        });
        Ok(())
    }

    /// Where the walk finds an input: among values, or among the numbers that the model holds. Those are learned, unless
    /// they are running statistics or a single number in a formula.
    fn operand(&mut self, name: &str, operator: &Operator) -> Result<Operand, String> {
        let (data, shape) = match self.names.get(name) {
            Some((Known::Value(value), _)) => return Ok(Operand::Value(*value)),
            Some((Known::Floats(floats), shape)) => (floats, shape),
            _ => return Err(format!("its input `{name}` holds integers")),
        };
        if let Some(slot) = self.slots.get(name) {
            return Ok(*slot);
        }
        if shape.len() > 4 {
            return Err(format!(
                "its input `{name}` has {} dimensions, at most 4 are supported",
                shape.len()
            ));
        }
        let size = |size: &Size| match size {
            Size::Fixed(n) => *n,
            Size::Batch => 1,
        };
        let held = Held {
            name: name.to_owned(),
            dims: shape.iter().map(size).collect(),
            data: data.clone(),
            in_head: false,
        };
        let learned = data.len() > 1 || operator.learns_single_numbers();
        let (list, operand): (_, fn(usize) -> Operand) = if self.running.contains(name) {
            (&mut self.statistics, Operand::Statistic)
        } else if learned {
            (&mut self.parameters, Operand::Parameter)
        } else {
            (&mut self.constants, Operand::Constant)
        };
        let operand = operand(list.len());
        list.push(held);
        self.slots.insert(name.to_owned(), operand);
        Ok(operand)
    }
}

/// A tensor's numbers in row-major order.
pub fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, GraphError> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| GraphError::Device(format!("{e:?}")))
}

/// The one graph input that is no initializer: its name, its batch size where that is fixed, and C, H and W.
fn image_input(
    graph: &GraphProto,
    initializers: &HashMap<String, (Known, Vec<Size>)>,
) -> Result<(String, Option<usize>, [usize; 3]), GraphError> {
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
        (true, [batch, Some(c), Some(h), Some(w)]) => {
            Ok((input.name.clone(), *batch, [*c, *h, *w]))
        }
        _ => Err(GraphError::Input {
            found: format!("of element type {} and shape {dims:?}", tensor.elem_type),
        }),
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "parity_tests.rs"]
mod parity_tests;
