//! One node with what is known of its inputs before anything runs: shapes, and the numbers of constants.

use super::label;
use crate::model::onnx::{AttributeProto, NodeProto};
use crate::retrain::graph::GraphError;

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::retrain) enum Size {
    /// As many as there are images.
    Batch,
    /// Known from the start.
    Fixed(usize),
}

/// One integer of a shape that the graph computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::retrain) enum Number {
    /// As many as there are images.
    Batch,
    /// Any other.
    Integer(i64),
}

/// What is known of one input.
#[derive(Clone, Debug, Default)]
pub(in crate::retrain) struct Input<'a> {
    pub(in crate::retrain) shape: Vec<Size>,
    /// Its numbers, where it is a shape or another integer tensor.
    pub(in crate::retrain) integers: Option<&'a [Number]>,
    /// Its numbers, where it is a tensor of the model.
    pub(in crate::retrain) floats: Option<&'a [f32]>,
}

/// A node and its inputs; None for an optional input that is left out.
pub(in crate::retrain) struct Call<'a> {
    pub(in crate::retrain) node: &'a NodeProto,
    /// Version of the operator set.
    pub(in crate::retrain) opset: i64,
    /// The batch size that the model was exported with, where it is fixed.
    pub(in crate::retrain) exported_batch: Option<usize>,
    pub(in crate::retrain) inputs: Vec<Option<Input<'a>>>,
}

impl Call<'_> {
    /// The operator's name where it is one of ONNX's own, else "".
    pub(super) fn operator(&self) -> &str {
        match self.node.domain.as_str() {
            "" | "ai.onnx" => &self.node.op_type,
            _ => "",
        }
    }

    pub(super) fn operator_in_words(&self) -> String {
        match self.operator() {
            "" => format!("{}.{}", self.node.domain, self.node.op_type),
            name => name.to_owned(),
        }
    }

    pub(super) fn error(&self, problem: String) -> GraphError {
        GraphError::Node {
            node: label(self.node),
            problem,
        }
    }

    /// Refuses attributes that are not among the known ones, and more inputs than known.
    pub(super) fn only(&self, attributes: &[&str], inputs: usize) -> Result<(), String> {
        for attribute in &self.node.attribute {
            if !attributes.contains(&attribute.name.as_str()) {
                return Err(format!("attribute {} is not supported", attribute.name));
            }
        }
        if self.inputs.len() > inputs {
            return Err(format!(
                "it has {} inputs, {} takes at most {inputs}",
                self.inputs.len(),
                self.node.op_type
            ));
        }
        Ok(())
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f)
    }

    pub(super) fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name).map_or(default.to_owned(), |a| {
            String::from_utf8_lossy(&a.s).into_owned()
        })
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// Sizes of an attribute that has as many as its default.
    pub(super) fn sizes<const N: usize>(
        &self,
        name: &str,
        default: [usize; N],
    ) -> Result<[usize; N], String> {
        let Some(found) = self.ints(name) else {
            return Ok(default);
        };
        let read: Result<Vec<usize>, _> = found.iter().map(|x| usize::try_from(*x)).collect();
        read.ok()
            .and_then(|sizes| sizes.try_into().ok())
            .ok_or_else(|| format!("{name} = {found:?} is not supported"))
    }

    pub(super) fn given(&self, k: usize) -> Option<&Input<'_>> {
        self.inputs.get(k).and_then(Option::as_ref)
    }

    pub(super) fn shape(&self, k: usize) -> Result<&[Size], String> {
        let input = self
            .given(k)
            .ok_or_else(|| format!("its input {k} is missing"))?;
        if input.integers.is_some() {
            return Err(format!("its input {k} holds integers"));
        }
        Ok(&input.shape)
    }

    /// The shape of an input that cannot depend on the batch.
    pub(super) fn fixed(&self, k: usize) -> Result<Vec<usize>, String> {
        let fixed = |size: &Size| match size {
            Size::Fixed(n) => Ok(*n),
            Size::Batch => Err(format!("its input {k} depends on the number of images")),
        };
        self.shape(k)?.iter().map(fixed).collect()
    }

    /// N, C, H, W of an input that is a batch of images or of feature maps.
    pub(super) fn image(&self, k: usize) -> Result<(Size, [usize; 3]), String> {
        match self.shape(k)? {
            [n, Size::Fixed(c), Size::Fixed(h), Size::Fixed(w)] => Ok((*n, [*c, *h, *w])),
            other => Err(format!(
                "its input {k} must be images [N, C, H, W], not of shape {other:?}"
            )),
        }
    }

    /// The integers of an input; None where it is left out, Err where they are not known before the graph runs.
    pub(super) fn numbers(&self, k: usize) -> Result<Option<&[Number]>, String> {
        match self.given(k) {
            None => Ok(None),
            Some(input) => input.integers.map(Some).ok_or_else(|| {
                format!("its input {k} must be integers that are known before the graph runs")
            }),
        }
    }

    /// The same, where none may be the number of images.
    pub(super) fn integers(&self, k: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(numbers) = self.numbers(k)? else {
            return Ok(None);
        };
        let plain = |number: &Number| match number {
            Number::Integer(n) => Ok(*n),
            Number::Batch => Err(format!("its input {k} depends on the number of images")),
        };
        numbers
            .iter()
            .map(plain)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Axes from an attribute (older operator sets) or an input (newer ones).
    pub(super) fn axes(&self, input: usize) -> Result<Option<Vec<i64>>, String> {
        match self.ints("axes") {
            Some(axes) => Ok(Some(axes.to_vec())),
            None => self.integers(input),
        }
    }

    /// The one number of an input; None where it is left out.
    pub(super) fn scalar(&self, k: usize) -> Result<Option<f32>, String> {
        let Some(input) = self.given(k) else {
            return Ok(None);
        };
        match (input.floats, input.integers) {
            (Some([x]), _) => Ok(Some(*x)),
            (_, Some([Number::Integer(x)])) => Ok(Some(*x as f32)),
            _ => Err(format!("its input {k} must be one constant number")),
        }
    }
}

/// An axis of a shape of this rank; negative ones count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|k| *k < rank)
        .ok_or_else(|| format!("there is no axis {axis} in {rank} dimensions"))
}

/// The shape that two shapes broadcast to, after ONNX's rule; None where they do not.
pub(super) fn broadcast(a: &[Size], b: &[Size]) -> Option<Vec<Size>> {
    let one = Size::Fixed(1);
    let rank = a.len().max(b.len());
    let side = |shape: &[Size], k: usize| {
        (k + shape.len())
            .checked_sub(rank)
            .map_or(one, |k| shape[k])
    };
    (0..rank)
        .map(|k| match (side(a, k), side(b, k)) {
            (x, y) if x == y || y == one => Some(x),
            (x, y) if x == one => Some(y),
            _ => None,
        })
        .collect()
}

/// How many numbers a shape holds for one image.
pub(super) fn count(shape: &[Size]) -> usize {
    let size = |size: &Size| match size {
        Size::Batch => 1,
        Size::Fixed(n) => *n,
    };
    shape.iter().map(size).product()
}
