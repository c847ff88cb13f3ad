//! The tensors that an ONNX model holds, as numbers.

use burn::tensor::{Device, Tensor, TensorData};

use super::graph::GraphError;
use crate::model::onnx::{
    TensorProto,
    tensor_proto::{DataLocation, DataType},
};

/// A tensor of the model.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
}

/// Its numbers, in row-major order.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Literal {
    /// Reads floats (16, 32 or 64 bits, all as 32) and integers; anything else is an error that names the tensor.
    pub(super) fn read(tensor: &TensorProto) -> Result<Self, GraphError> {
        let problem = |problem: String| GraphError::Initializer {
            name: tensor.name.clone(),
            problem,
        };
        if tensor.data_location == DataLocation::External as i32 {
            return Err(problem(
                "its numbers are in another file; save the model as one file".into(),
            ));
        }
        let dims: Result<Vec<usize>, _> = tensor.dims.iter().map(|d| usize::try_from(*d)).collect();
        let dims = dims.map_err(|_| problem(format!("its dimensions are {:?}", tensor.dims)))?;
        let values = read(tensor).ok_or_else(|| {
            let kind = DataType::try_from(tensor.data_type)
                .map_or(tensor.data_type.to_string(), |t| t.as_str_name().into());
            problem(format!(
                "its data type is {kind}; floats of 16, 32 and 64 bits, integers of 32 and 64 bits and BOOL can be read"
            ))
        })?;
        let found = match &values {
            Values::Floats(x) => x.len(),
            Values::Integers(n) => n.len(),
        };
        let declared = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if declared != Some(found) {
            return Err(problem(format!(
                "its dimensions are {dims:?} but it holds {found} numbers"
            )));
        }
        Ok(Self {
            name: tensor.name.clone(),
            dims,
            values,
        })
    }
}

fn read(tensor: &TensorProto) -> Option<Values> {
    let raw = &tensor.raw_data;
    let in_raw = !raw.is_empty();
    Some(match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float if in_raw => Values::Floats(chunks(raw, f32::from_le_bytes)),
        DataType::Float => Values::Floats(tensor.float_data.clone()),
        DataType::Double if in_raw => {
            Values::Floats(chunks(raw, |bytes| f64::from_le_bytes(bytes) as f32))
        }
        DataType::Double => Values::Floats(tensor.double_data.iter().map(|x| *x as f32).collect()),
        DataType::Float16 if in_raw => Values::Floats(chunks(raw, |bytes| {
            half::f16::from_le_bytes(bytes).to_f32()
        })),
        DataType::Float16 => {
            let half = |bits: &i32| half::f16::from_bits(*bits as u16).to_f32();
            Values::Floats(tensor.int32_data.iter().map(half).collect())
        }
        DataType::Int64 if in_raw => Values::Integers(chunks(raw, i64::from_le_bytes)),
        DataType::Int64 => Values::Integers(tensor.int64_data.clone()),
        DataType::Int32 if in_raw => {
            Values::Integers(chunks(raw, |bytes| i64::from(i32::from_le_bytes(bytes))))
        }
        DataType::Bool if in_raw => Values::Integers(raw.iter().map(|b| i64::from(*b)).collect()),
        DataType::Int32 | DataType::Bool => {
            Values::Integers(tensor.int32_data.iter().map(|n| i64::from(*n)).collect())
        }
        _ => return None,
    })
}

fn chunks<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|c| read(*c)).collect()
}

/// Numbers as a rank-4 tensor, padded with ones in front; `dims` has at most 4.
pub(super) fn tensor(dims: &[usize], data: &[f32], device: &Device) -> Tensor<4> {
    let mut shape = [1; 4];
    shape[4 - dims.len()..].copy_from_slice(dims);
    Tensor::from_data(TensorData::new(data.to_vec(), shape), device)
}
