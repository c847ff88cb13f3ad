//! Conv, and the sliding windows that it shares with pooling.

use burn::tensor::{Tensor, module as functional, ops::ConvOptions};

use super::call::{Call, Size};
use super::{Operator, Planned};
use crate::retrain::kernel::{self, Depthwise};

/// A kernel that slides over rows and columns.
#[derive(Clone, Copy, Debug)]
pub(in crate::retrain) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    /// Before and after the rows, before and after the columns.
    pub(super) pads: [(usize, usize); 2],
    pub(super) dilations: [usize; 2],
    /// Rows and columns of what it makes.
    pub(super) output: [usize; 2],
    /// So many rows and columns were added to the pads for ONNX's `ceil_mode`.
    pub(super) beyond: [usize; 2],
}

impl Window {
    /// Reads strides, pads (explicit, or `auto_pad` resolved for this size) and dilations.
    pub(super) fn read(call: &Call, kernel: [usize; 2], size: [usize; 2]) -> Result<Self, String> {
        let strides = call.sizes("strides", [1, 1])?;
        let dilations = call.sizes("dilations", [1, 1])?;
        let [top, left, bottom, right] = call.sizes("pads", [0, 0, 0, 0])?;
        let auto_pad = call.text("auto_pad", "NOTSET");
        if strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err("a kernel size, stride or dilation is 0".into());
        }
        let reach: [usize; 2] = std::array::from_fn(|k| dilations[k] * (kernel[k] - 1) + 1);
        let same = |k: usize| {
            let windows = size[k].div_ceil(strides[k]);
            let pad = ((windows - 1) * strides[k] + reach[k]).saturating_sub(size[k]);
            (pad / 2, pad - pad / 2)
        };
        let mut pads = match auto_pad.as_str() {
            "NOTSET" => [(top, bottom), (left, right)],
            "VALID" => [(0, 0); 2],
            "SAME_UPPER" => [same(0), same(1)],
            "SAME_LOWER" => [same(0), same(1)].map(|(less, more)| (more, less)),
            other => return Err(format!("auto_pad = {other} is not supported")),
        };
        let (mut output, mut beyond) = ([0; 2], [0; 2]);
        for k in 0..2 {
            let (before, after) = pads[k];
            let room = (size[k] + before + after)
                .checked_sub(reach[k])
                .ok_or_else(|| {
                    format!(
                        "a kernel that reaches over {} does not fit into {}",
                        reach[k], size[k]
                    )
                })?;
            output[k] = room / strides[k] + 1;
            // A window that begins behind the picture and what is put before it sees nothing and is left out.
            let one_more = room % strides[k] != 0 && output[k] * strides[k] < size[k] + before;
            if call.int("ceil_mode", 0) != 0 && one_more {
                output[k] += 1;
                beyond[k] = strides[k] - room % strides[k];
                pads[k].1 += beyond[k];
            }
        }
        Ok(Self {
            kernel,
            strides,
            pads,
            dilations,
            output,
            beyond,
        })
    }
}

/// A convolution over rows and columns.
#[derive(Clone, Debug)]
pub(in crate::retrain) struct Convolution {
    window: Window,
    groups: usize,
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    if call.operator() != "Conv" {
        return Ok(None);
    }
    call.only(
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ],
        3,
    )?;
    let (n, [c, h, w]) = call.image(0)?;
    let weight = call.fixed(1)?;
    let [out, per_group, rows, columns] = weight[..] else {
        return Err(format!("its kernel has the shape {weight:?}"));
    };
    let groups = usize::try_from(call.int("group", 1)).unwrap_or(0);
    if groups == 0 || per_group * groups != c || out % groups != 0 {
        return Err(format!(
            "a kernel of shape {weight:?} in {groups} groups does not fit {c} channels"
        ));
    }
    if call.sizes("kernel_shape", [rows, columns])? != [rows, columns] {
        return Err(format!(
            "kernel_shape is not that of its kernel, {weight:?}"
        ));
    }
    let window = Window::read(call, [rows, columns], [h, w])?;
    let mut operands = vec![0, 1];
    if call.given(2).is_some() {
        if call.fixed(2)? != [out] {
            return Err(format!(
                "its bias has the shape {:?}, not [{out}]",
                call.fixed(2)?
            ));
        }
        operands.push(2);
    }
    let [height, width] = window.output;
    let operator = Operator::Convolution(Convolution { window, groups });
    let shape = vec![n, Size::Fixed(out), Size::Fixed(height), Size::Fixed(width)];
    let mut planned = Planned::new(operator, &operands, shape);
    planned.multiplications = (out * height * width * per_group * rows * columns) as u64;
    Ok(Some(planned))
}

impl Convolution {
    pub(super) fn apply(&self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let bias = inputs.get(2).cloned();
        let [x, weight] = super::take(inputs);
        if kernel::has(&x)
            && let Some(how) = self.as_kernel(&x, &weight)
        {
            let y = kernel::convolve(x, weight, how);
            return match bias {
                Some(bias) => y + bias.reshape([1, -1, 1, 1]),
                None => y,
            };
        }
        let bias = bias.map(|b| b.reshape([-1]));
        let Window {
            strides,
            pads,
            dilations,
            ..
        } = self.window;
        let options = ConvOptions::new_with_padding(strides, pads, dilations, self.groups);
        functional::conv2d(x, weight, bias, options)
    }

    /// As an operation that training has of its own, if it is one: kernels of one pixel, or one for each channel.
    fn as_kernel(&self, x: &Tensor<4>, weight: &Tensor<4>) -> Option<kernel::Convolution> {
        let [_, channels, rows, columns] = x.dims();
        let window = self.window;
        let at_once = window.kernel == [1, 1] && window.strides == [1, 1];
        if self.groups == 1 && at_once && window.pads == [(0, 0); 2] {
            return Some(kernel::Convolution::Pointwise);
        }
        let of_its_own = self.groups == channels && weight.dims()[..2] == [channels, 1];
        let how = Depthwise {
            kernel: window.kernel,
            strides: window.strides,
            pads: window.pads.map(|(before, _)| before),
            input: [rows, columns],
            output: window.output,
        };
        let fits = of_its_own && window.dilations == [1, 1];
        fits.then_some(kernel::Convolution::Depthwise(how))
    }
}
