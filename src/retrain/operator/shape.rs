//! Operators that move numbers about: Reshape and its kin, Transpose, Concat, Pad.

use burn::tensor::{Tensor, ops::PadMode};

use super::call::{Call, Number, Size, axis, count};
use super::{Operator, Planned, take};

/// Numbers in another order or shape. Axes are those of rank-4 tensors.
#[derive(Clone, Debug)]
pub(in crate::retrain) enum Shaping {
    Reshape([Size; 4]),
    Transpose([usize; 4]),
    Concat(usize),
    Pad {
        pairs: [(usize, usize); 4],
        value: f32,
    },
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    let shape = match call.operator() {
        "Concat" => return concat(call).map(Some),
        "Pad" => return pad(call).map(Some),
        "Transpose" => return transpose(call).map(Some),
        "Flatten" => flatten(call)?,
        "Reshape" => reshape(call)?,
        "Squeeze" => squeeze(call)?,
        "Unsqueeze" => unsqueeze(call)?,
        _ => return Ok(None),
    };
    let operator = Operator::Shaping(Shaping::Reshape(padded(&shape)?));
    Ok(Some(Planned::new(operator, &[0], shape)))
}

fn flatten(call: &Call) -> Result<Vec<Size>, String> {
    call.only(&["axis"], 1)?;
    let shape = call.shape(0)?;
    let at = call.int("axis", 1);
    let at = if at == shape.len() as i64 {
        shape.len()
    } else {
        axis(at, shape.len())?
    };
    match shape[..at] {
        [Size::Batch] => Ok(vec![Size::Batch, Size::Fixed(count(&shape[at..]))]),
        _ if !shape.contains(&Size::Batch) => Ok(vec![
            Size::Fixed(count(&shape[..at])),
            Size::Fixed(count(&shape[at..])),
        ]),
        _ => Err(format!(
            "a flattening of {shape:?} at axis {at} would mix images"
        )),
    }
}

fn reshape(call: &Call) -> Result<Vec<Size>, String> {
    call.only(&["allowzero", "shape"], 2)?;
    let from = call.shape(0)?;
    let target: Vec<Number> = match call.ints("shape") {
        Some(shape) => shape.iter().map(|n| Number::Integer(*n)).collect(),
        None => call.numbers(1)?.ok_or("its shape is missing")?.to_vec(),
    };
    if call.int("allowzero", 0) != 0 && target.contains(&Number::Integer(0)) {
        return Err("allowzero with a dimension of 0 is not supported".into());
    }
    let mut to: Vec<Option<Size>> = Vec::new();
    for (k, number) in target.iter().enumerate() {
        to.push(match number {
            Number::Batch => Some(Size::Batch),
            Number::Integer(-1) => None,
            Number::Integer(0) => Some(*from.get(k).ok_or("a 0 that copies no dimension")?),
            Number::Integer(n) => Some(Size::Fixed(
                usize::try_from(*n).map_err(|_| format!("its shape is {target:?}"))?,
            )),
        });
    }
    let misfit = || format!("{from:?} cannot be given the shape {target:?} without mixing images");
    let numbers = count(from);
    // What the known dimensions hold for one image.
    let known = |to: &[Option<Size>]| count(&to.iter().flatten().copied().collect::<Vec<_>>());
    let batches = |shape: &[Size]| shape.iter().filter(|s| **s == Size::Batch).count();
    let wanted = batches(from);
    let open = to.iter().filter(|size| size.is_none()).count();
    if wanted > 1 || open > 1 {
        return Err(misfit());
    }
    let has_batch = to.contains(&Some(Size::Batch));
    if wanted == 1 && !has_batch {
        let exported = call.exported_batch.map(Size::Fixed);
        if exported.is_some() && to.first() == Some(&exported) {
            // Exported for a fixed number of images: the first dimension is that number.
            to[0] = Some(Size::Batch);
        } else if open == 1 && known(&to) == numbers {
            to.iter_mut()
                .filter(|size| size.is_none())
                .for_each(|size| *size = Some(Size::Batch));
        } else {
            return Err(misfit());
        }
    }
    let rest = numbers
        .checked_div(known(&to))
        .filter(|rest| rest * known(&to) == numbers)
        .ok_or_else(misfit)?;
    if !to.contains(&None) && rest != 1 {
        return Err(misfit());
    }
    let to: Vec<Size> = to
        .into_iter()
        .map(|size| size.unwrap_or(Size::Fixed(rest)))
        .collect();
    if batches(&to) == wanted {
        Ok(to)
    } else {
        Err(misfit())
    }
}

fn squeeze(call: &Call) -> Result<Vec<Size>, String> {
    call.only(&["axes"], 2)?;
    let shape = call.shape(0)?;
    let axes: Vec<usize> = match call.axes(1)? {
        Some(axes) => axes
            .iter()
            .map(|k| axis(*k, shape.len()))
            .collect::<Result<_, _>>()?,
        None => (0..shape.len())
            .filter(|k| shape[*k] == Size::Fixed(1))
            .collect(),
    };
    if let Some(k) = axes.iter().find(|k| shape[**k] != Size::Fixed(1)) {
        return Err(format!("dimension {k} of {shape:?} is not 1"));
    }
    let kept = shape.iter().enumerate().filter(|(k, _)| !axes.contains(k));
    Ok(kept.map(|(_, size)| *size).collect())
}

fn unsqueeze(call: &Call) -> Result<Vec<Size>, String> {
    call.only(&["axes"], 2)?;
    let axes = call.axes(1)?.ok_or("its axes are missing")?;
    unsqueezed(call.shape(0)?, &axes)
}

/// The shape with ones at these axes (of what comes out).
pub(super) fn unsqueezed(shape: &[Size], axes: &[i64]) -> Result<Vec<Size>, String> {
    let rank = shape.len() + axes.len();
    let axes: Vec<usize> = axes
        .iter()
        .map(|k| axis(*k, rank))
        .collect::<Result<_, _>>()?;
    let mut rest = shape.iter();
    Ok((0..rank)
        .map(|k| {
            let given = if axes.contains(&k) { None } else { rest.next() };
            given.copied().unwrap_or(Size::Fixed(1))
        })
        .collect())
}

fn transpose(call: &Call) -> Result<Planned, String> {
    call.only(&["perm"], 1)?;
    let shape = call.shape(0)?;
    let rank = shape.len();
    let order: Vec<usize> = match call.ints("perm") {
        Some(order) => order
            .iter()
            .map(|k| axis(*k, rank))
            .collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if rank > 4 || sorted != (0..rank).collect::<Vec<_>>() {
        return Err(format!("perm = {order:?} does not fit {shape:?}"));
    }
    let axes = std::array::from_fn(|k| match k.checked_sub(4 - rank) {
        Some(k) => 4 - rank + order[k],
        None => k,
    });
    let operator = Operator::Shaping(Shaping::Transpose(axes));
    let shape = order.iter().map(|k| shape[*k]).collect();
    Ok(Planned::new(operator, &[0], shape))
}

fn concat(call: &Call) -> Result<Planned, String> {
    call.only(&["axis"], usize::MAX)?;
    let first = call.shape(0)?;
    let along = axis(call.int("axis", 1), first.len())?;
    let mut length = 0;
    for k in 0..call.inputs.len() {
        let shape = call.shape(k)?;
        let fits = shape.len() == first.len()
            && (0..shape.len()).all(|k| k == along || shape[k] == first[k]);
        match (fits, shape.get(along)) {
            (true, Some(Size::Fixed(n))) => length += n,
            _ => {
                return Err(format!(
                    "{shape:?} cannot be put beside {first:?} along axis {along}"
                ));
            }
        }
    }
    let mut shape = first.to_vec();
    shape[along] = Size::Fixed(length);
    let operator = Operator::Shaping(Shaping::Concat((4 + along) - shape.len().min(4)));
    let operands: Vec<usize> = (0..call.inputs.len()).collect();
    Ok(Planned::new(operator, &operands, shape))
}

fn pad(call: &Call) -> Result<Planned, String> {
    call.only(&["mode", "pads", "value"], 4)?;
    let mode = call.text("mode", "constant");
    if mode != "constant" {
        return Err(format!("mode = {mode} is not supported"));
    }
    let mut shape = call.shape(0)?.to_vec();
    let rank = shape.len();
    let pads = match call.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => call.integers(1)?.ok_or("its pads are missing")?,
    };
    let value = match call.scalar(2)? {
        Some(value) => value,
        None => call.float("value", 0.0),
    };
    let axes: Vec<usize> = match call.integers(3)? {
        Some(axes) => axes
            .iter()
            .map(|k| axis(*k, rank))
            .collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let pads: Result<Vec<usize>, _> = pads.iter().map(|n| usize::try_from(*n)).collect();
    let Some(pads) = pads.ok().filter(|p| p.len() == 2 * axes.len() && rank <= 4) else {
        return Err("its pads do not fit, or are negative".into());
    };
    let mut pairs = [(0, 0); 4];
    for (k, at) in axes.iter().enumerate() {
        let pair = (pads[k], pads[k + axes.len()]);
        match shape[*at] {
            Size::Fixed(n) => shape[*at] = Size::Fixed(n + pair.0 + pair.1),
            Size::Batch if pair == (0, 0) => {}
            Size::Batch => return Err("the batch cannot be padded".into()),
        }
        pairs[4 - rank + at] = pair;
    }
    let operator = Operator::Shaping(Shaping::Pad { pairs, value });
    Ok(Planned::new(operator, &[0], shape))
}

/// The shape as a rank-4 tensor has it.
pub(super) fn padded(shape: &[Size]) -> Result<[Size; 4], String> {
    let mut padded = [Size::Fixed(1); 4];
    match 4usize.checked_sub(shape.len()) {
        Some(front) => padded[front..].copy_from_slice(shape),
        None => {
            return Err(format!(
                "{} dimensions, at most 4 are supported",
                shape.len()
            ));
        }
    }
    Ok(padded)
}

/// The shape for so many images.
pub(super) fn with_batch(shape: &[Size; 4], batch: usize) -> [usize; 4] {
    shape.map(|size| match size {
        Size::Batch => batch,
        Size::Fixed(n) => n,
    })
}

impl Shaping {
    pub(super) fn apply(&self, inputs: Vec<Tensor<4>>, batch: usize) -> Tensor<4> {
        if let Self::Concat(axis) = self {
            return Tensor::cat(inputs, *axis);
        }
        let [x] = take(inputs);
        match self {
            Self::Reshape(shape) => x.reshape(with_batch(shape, batch)),
            Self::Transpose(axes) => x.permute(*axes),
            Self::Pad { pairs, value } => x.pad(*pairs, PadMode::Constant(*value)),
            Self::Concat(_) => x,
        }
    }
}
