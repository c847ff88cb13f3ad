//! Reads an ONNX graph node by node: what each name stands for, which shape it has, and which of the model's tensors are
//! learned.

use std::collections::{HashMap, HashSet};

use super::graph::{GraphError, Held, Node, Operand};
use super::initializer::{Literal, Values};
use super::operator::{Call, Folded, Input, Number, Operator, Size, fold, label, plan};
use crate::model::onnx::{
    GraphProto, ModelProto, NodeProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// What a name stands for while the graph is read.
pub(super) enum Known {
    /// Computed from the images.
    Value(usize),
    /// Held by the model, or computed from shapes.
    Floats(Vec<f32>),
    /// A shape, or numbers about one.
    Integers(Vec<Number>),
}

/// Reads nodes one after the other.
pub(super) struct Reader {
    opset: i64,
    exported_batch: Option<usize>,
    pub(super) input: [usize; 3],
    running: HashSet<String>,
    pub(super) names: HashMap<String, (Known, Vec<Size>)>,
    slots: HashMap<String, Operand>,
    pub(super) nodes: Vec<Node>,
    pub(super) parameters: Vec<Held>,
    pub(super) statistics: Vec<Held>,
    pub(super) constants: Vec<Held>,
    pub(super) multiplications: u64,
    pub(super) activations: u64,
}

impl Reader {
    pub(super) fn new(model: &ModelProto, graph: &GraphProto) -> Result<Self, GraphError> {
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
            activations: 0,
        })
    }

    pub(super) fn node(&mut self, node: &NodeProto) -> Result<(), GraphError> {
        let problem = |problem: String| GraphError::Node {
            node: label(node),
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
                problem(format!(
                    "its input `{name}` is made by no earlier node (of each node, only the first output can be had)"
                ))
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
        let sizes = planned.shape.iter().map(|size| match size {
            Size::Fixed(n) => *n as u64,
            Size::Batch => 1,
        });
        self.activations += sizes.product::<u64>();
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
