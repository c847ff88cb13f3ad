//! Means and maxima over windows, over whole feature maps, or over any axes.

use burn::tensor::{
    Tensor, module as functional,
    ops::{AvgPoolOptions, MaxPoolOptions},
};

use super::call::{Call, Size, axis};
use super::convolution::Window;
use super::{Operator, Planned, take};

/// What is made of many numbers.
#[derive(Clone, Debug)]
pub(in crate::retrain) enum Pool {
    Max(Window),
    /// Whether the pads count as zeros.
    Mean(Window, bool),
    GlobalMax,
    /// The mean over some axes of the rank-4 tensor, and the shape without them where they go.
    MeanOver {
        axes: Vec<usize>,
        shape: [Size; 4],
    },
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    match call.operator() {
        "MaxPool" | "AveragePool" => windows(call).map(Some),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            call.only(&[], 1)?;
            let (n, [c, _, _]) = call.image(0)?;
            let one = Size::Fixed(1);
            let shape = [n, Size::Fixed(c), one, one];
            let pool = if call.operator() == "GlobalMaxPool" {
                Pool::GlobalMax
            } else {
                Pool::MeanOver {
                    axes: vec![3, 2],
                    shape,
                }
            };
            Ok(Some(Planned::new(
                Operator::Pool(pool),
                &[0],
                shape.to_vec(),
            )))
        }
        "ReduceMean" => mean(call).map(Some),
        _ => Ok(None),
    }
}

fn windows(call: &Call) -> Result<Planned, String> {
    call.only(
        &[
            "auto_pad",
            "ceil_mode",
            "count_include_pad",
            "dilations",
            "kernel_shape",
            "pads",
            "storage_order",
            "strides",
        ],
        1,
    )?;
    let (n, [c, h, w]) = call.image(0)?;
    let window = Window::read(call, call.sizes("kernel_shape", [0, 0])?, [h, w])?;
    let pool = if call.operator() == "MaxPool" {
        Pool::Max(window)
    } else {
        if window.dilations != [1, 1] || window.beyond != [0, 0] {
            return Err("a mean with dilations, or with a last window beyond the pads (ceil_mode), is not supported".into());
        }
        Pool::Mean(window, call.int("count_include_pad", 0) != 0)
    };
    let [rows, columns] = window.output;
    let shape = vec![n, Size::Fixed(c), Size::Fixed(rows), Size::Fixed(columns)];
    Ok(Planned::new(Operator::Pool(pool), &[0], shape))
}

fn mean(call: &Call) -> Result<Planned, String> {
    call.only(&["axes", "keepdims", "noop_with_empty_axes"], 2)?;
    let shape = call.shape(0)?.to_vec();
    let rank = shape.len();
    let given = call.axes(1)?.unwrap_or_default();
    if given.is_empty() {
        return Err("a mean over all axes would mix images".into());
    }
    let axes: Vec<usize> = given
        .iter()
        .map(|k| axis(*k, rank))
        .collect::<Result<_, _>>()?;
    if axes.iter().any(|k| shape[*k] == Size::Batch) {
        return Err("a mean over the batch would mix images".into());
    }
    let keep = call.int("keepdims", 1) != 0;
    let shape: Vec<Size> = shape
        .into_iter()
        .enumerate()
        .filter(|(k, _)| keep || !axes.contains(k))
        .map(|(k, size)| {
            if axes.contains(&k) {
                Size::Fixed(1)
            } else {
                size
            }
        })
        .collect();
    let pool = Pool::MeanOver {
        axes: axes.iter().map(|k| 4 - rank + k).collect(),
        shape: super::shape::padded(&shape)?,
    };
    Ok(Planned::new(Operator::Pool(pool), &[0], shape))
}

impl Pool {
    pub(super) fn apply(&self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let [x] = take(inputs);
        match self {
            Self::GlobalMax => x.max_dim(3).max_dim(2),
            Self::MeanOver { axes, shape } => {
                // The means keep the batch where it was; at most one dimension of what remains is open.
                let numbers = x.dims().iter().product::<usize>();
                let over: usize = axes.iter().map(|k| x.dims()[*k]).product();
                let fixed = super::call::count(shape);
                let batch = numbers / over / fixed.max(1);
                let mean = axes.iter().fold(x, |x, axis| x.mean_dim(*axis));
                mean.reshape(super::shape::with_batch(shape, batch))
            }
            Self::Max(window) => {
                let options = MaxPoolOptions {
                    kernel_size: window.kernel,
                    stride: window.strides,
                    padding: window.pads,
                    dilation: window.dilations,
                    ceil_mode: false,
                };
                functional::max_pool2d(x, options)
            }
            Self::Mean(window, pads_count) => {
                let options = AvgPoolOptions {
                    kernel_size: window.kernel,
                    stride: window.strides,
                    padding: window.pads,
                    count_include_pad: *pads_count,
                    ceil_mode: false,
                };
                functional::avg_pool2d(x, options)
            }
        }
    }
}
