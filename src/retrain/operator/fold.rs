//! Arithmetic on shapes, done once when the graph is read. The number of images stays open: it may be passed on, picked,
//! put beside other numbers and multiplied by 1, and anything else that is done with it is an error.

use super::call::{Call, Number, Size, axis, count};
use crate::model::onnx::tensor_proto::DataType;
use crate::retrain::initializer::{Literal, Values};

/// What a node makes that does not depend on any pixel.
#[derive(Debug)]
pub(in crate::retrain) enum Folded {
    Integers(Vec<usize>, Vec<Number>),
    Floats(Vec<usize>, Vec<f32>),
}

/// Computes the node if it works on integers alone; None if it is one for run time.
pub(in crate::retrain) fn fold(call: &Call) -> Result<Option<Folded>, String> {
    match call.operator() {
        "Shape" => return shape_of(call).map(Some),
        "ConstantOfShape" => return constant_of_shape(call).map(Some),
        _ => {}
    }
    let all = call.inputs.iter().flatten().all(|i| i.integers.is_some());
    let (true, Some(first)) = (all, call.given(0)) else {
        return match call.operator() {
            "Gather" | "Slice" => Err("it can be applied to shapes only, not to images".into()),
            _ => Ok(None),
        };
    };
    let dims = dims(&first.shape)?;
    let values = first.integers.unwrap_or_default().to_vec();
    let folded = match call.operator() {
        "Identity" => Folded::Integers(dims, values),
        "Cast" => cast(call, dims, values)?,
        "Gather" => gather(call, &values)?,
        "Slice" => slice(call, &values)?,
        "Concat" => {
            let parts = call.inputs.iter().flatten().filter_map(|i| i.integers);
            let values: Vec<Number> = parts.flatten().copied().collect();
            Folded::Integers(vec![values.len()], values)
        }
        "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" if values.len() == 1 => {
            let scalar = call.operator() == "Squeeze";
            Folded::Integers(if scalar { vec![] } else { vec![1] }, values)
        }
        "Squeeze" | "Reshape" => Folded::Integers(vec![values.len()], values),
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(call, &values)?,
        _ => return Ok(None),
    };
    Ok(Some(folded))
}

fn dims(shape: &[Size]) -> Result<Vec<usize>, String> {
    shape
        .iter()
        .map(|size| match size {
            Size::Fixed(n) => Ok(*n),
            Size::Batch => Err("integers for each image are not supported".to_owned()),
        })
        .collect()
}

fn shape_of(call: &Call) -> Result<Folded, String> {
    call.only(&["start", "end"], 1)?;
    let shape = &call.given(0).ok_or("its input is missing")?.shape;
    let rank = shape.len() as i64;
    let end = |k: i64| (if k < 0 { k + rank } else { k }).clamp(0, rank) as usize;
    let (start, end) = (end(call.int("start", 0)), end(call.int("end", rank)));
    let numbers: Vec<Number> = shape
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .map(|size| match size {
            Size::Batch => Number::Batch,
            Size::Fixed(n) => Number::Integer(*n as i64),
        })
        .collect();
    Ok(Folded::Integers(vec![numbers.len()], numbers))
}

fn constant_of_shape(call: &Call) -> Result<Folded, String> {
    let sizes = call.integers(0)?.ok_or("its shape is missing")?;
    let dims: Result<Vec<usize>, _> = sizes.iter().map(|n| usize::try_from(*n)).collect();
    let dims = dims.map_err(|_| format!("its shape is {sizes:?}"))?;
    let length = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let length = length
        .filter(|n| *n < 1 << 24)
        .ok_or_else(|| format!("its shape {dims:?} is too large"))?;
    let value = call.node.attribute.iter().find(|a| a.name == "value");
    let Some(tensor) = value.and_then(|a| a.t.as_ref()) else {
        return Ok(Folded::Floats(dims, vec![0.0; length]));
    };
    let literal = Literal::read(tensor).map_err(|e| e.to_string())?;
    match literal.values {
        Values::Integers(n) if n.len() == 1 => {
            Ok(Folded::Integers(dims, vec![Number::Integer(n[0]); length]))
        }
        Values::Floats(x) if x.len() == 1 => Ok(Folded::Floats(dims, vec![x[0]; length])),
        _ => Err("its value is not one number".into()),
    }
}

fn cast(call: &Call, dims: Vec<usize>, values: Vec<Number>) -> Result<Folded, String> {
    let to = call.int("to", 0);
    if to == DataType::Int64 as i64 || to == DataType::Int32 as i64 {
        return Ok(Folded::Integers(dims, values));
    }
    let integers = call.integers(0)?.unwrap_or_default();
    if to == DataType::Float as i64 {
        Ok(Folded::Floats(
            dims,
            integers.iter().map(|n| *n as f32).collect(),
        ))
    } else {
        Err(format!("a cast of integers to data type {to}"))
    }
}

fn gather(call: &Call, values: &[Number]) -> Result<Folded, String> {
    let indices = call.integers(1)?.ok_or("its indices are missing")?;
    let picked: Vec<Number> = indices
        .iter()
        .map(|k| axis(*k, values.len()).map(|k| values[k]))
        .collect::<Result<_, _>>()?;
    let of = call.given(1).map(|i| i.shape.clone()).unwrap_or_default();
    Ok(Folded::Integers(dims(&of)?, picked))
}

fn slice(call: &Call, values: &[Number]) -> Result<Folded, String> {
    let part = |name: &str, k: usize| -> Result<Option<i64>, String> {
        let given = match call.ints(name) {
            Some(given) => Some(given.to_vec()),
            None => call.integers(k)?,
        };
        Ok(given.and_then(|given| given.first().copied()))
    };
    let length = values.len() as i64;
    let at = |k: i64| (if k < 0 { k + length } else { k }).clamp(0, length) as usize;
    let start = at(part("starts", 1)?.ok_or("its starts are missing")?);
    let end = at(part("ends", 2)?.ok_or("its ends are missing")?.min(length));
    if part("steps", 4)?.unwrap_or(1) != 1 {
        return Err("a slice with steps is not supported".into());
    }
    let cut = values.get(start..end).unwrap_or_default().to_vec();
    Ok(Folded::Integers(vec![cut.len()], cut))
}

fn arithmetic(call: &Call, a: &[Number]) -> Result<Folded, String> {
    use Number::{Batch, Integer};
    let b = call.numbers(1)?.ok_or("its second input is missing")?;
    let length = a.len().max(b.len());
    if (a.len() != length && a.len() != 1) || (b.len() != length && b.len() != 1) {
        return Err("integers of different lengths".into());
    }
    let operator = call.operator();
    let one = |a: Number, b: Number| match (operator, a, b) {
        ("Add", Integer(a), Integer(b)) => a.checked_add(b).map(Integer),
        ("Sub", Integer(a), Integer(b)) => a.checked_sub(b).map(Integer),
        ("Mul", Integer(a), Integer(b)) => a.checked_mul(b).map(Integer),
        ("Div", Integer(a), Integer(b)) => a.checked_div(b).map(Integer),
        ("Mul" | "Div", Batch, Integer(1))
        | ("Mul", Integer(1), Batch)
        | ("Add" | "Sub", Batch, Integer(0))
        | ("Add", Integer(0), Batch) => Some(Batch),
        ("Div", Batch, Batch) => Some(Integer(1)),
        _ => None,
    };
    let values: Option<Vec<Number>> = (0..length)
        .map(|k| one(a[k % a.len()], b[k % b.len()]))
        .collect();
    let values = values.ok_or("arithmetic with the number of images")?;
    let longer = usize::from(b.len() > a.len());
    let shape = call.given(longer).map(|i| i.shape.clone());
    let shape = shape.unwrap_or_default();
    debug_assert_eq!(count(&shape), values.len());
    Ok(Folded::Integers(dims(&shape)?, values))
}
