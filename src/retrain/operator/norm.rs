//! Batch and layer normalisation.

use burn::tensor::{Tensor, module as functional};

use super::call::{Call, Size, axis};
use super::{Operator, Planned, take};
use crate::retrain::kernel;

/// Over the images and pixels of each channel (Ioffe & Szegedy 2015).
#[derive(Clone, Copy, Debug)]
pub(in crate::retrain) struct BatchNormalization {
    pub(in crate::retrain) epsilon: f64,
    /// What remains of the running statistics after one more batch.
    pub(in crate::retrain) momentum: f32,
    /// The input is `[N, C]`, held as `[1, 1, N, C]`.
    flat: bool,
}

/// Over the last dimensions of each image (Ba, Kiros & Hinton 2016).
#[derive(Clone, Copy, Debug)]
pub(in crate::retrain) struct LayerNormalization {
    epsilon: f64,
    /// How many numbers are normalised together.
    length: usize,
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    match call.operator() {
        "BatchNormalization" => batch(call).map(Some),
        "LayerNormalization" => layer(call).map(Some),
        _ => Ok(None),
    }
}

fn batch(call: &Call) -> Result<Planned, String> {
    call.only(&["epsilon", "momentum", "spatial", "training_mode"], 5)?;
    if call.int("training_mode", 0) != 0 {
        return Err("exported in training mode; export it for inference".into());
    }
    let shape = call.shape(0)?.to_vec();
    let (channels, flat) = match shape[..] {
        [_, Size::Fixed(c), _, _] => (c, false),
        [_, Size::Fixed(c)] => (c, true),
        _ => return Err(format!("an input of shape {shape:?} is not supported")),
    };
    for k in 1..5 {
        if call.fixed(k)? != [channels] {
            return Err(format!(
                "its input {k} has the shape {:?}, not [{channels}]",
                call.fixed(k)?
            ));
        }
    }
    let operator = BatchNormalization {
        epsilon: f64::from(call.float("epsilon", 1e-5)),
        momentum: call.float("momentum", 0.9),
        flat,
    };
    let operator = Operator::BatchNormalization(operator);
    Ok(Planned::new(operator, &[0, 1, 2, 3, 4], shape))
}

fn layer(call: &Call) -> Result<Planned, String> {
    call.only(&["axis", "epsilon", "stash_type"], 3)?;
    let shape = call.shape(0)?.to_vec();
    let first = axis(call.int("axis", -1), shape.len())?;
    let wanted = &shape[first..];
    let operands: Vec<usize> = (0..3).filter(|k| call.given(*k).is_some()).collect();
    for k in &operands[1..] {
        if call.shape(*k)? != wanted {
            return Err(format!(
                "its input {k} has the shape {:?}, not {wanted:?}",
                call.shape(*k)?
            ));
        }
    }
    let operator = LayerNormalization {
        epsilon: f64::from(call.float("epsilon", 1e-5)),
        length: call.fixed(1)?.iter().product(),
    };
    let operator = Operator::LayerNormalization(operator);
    Ok(Planned::new(operator, &operands, shape))
}

impl BatchNormalization {
    /// With the running statistics.
    pub(super) fn apply(self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let [x, gamma, beta, mean, variance] = take(inputs);
        let dims = x.dims();
        let x = self.as_images(x);
        let c = x.dims()[1];
        let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(|t| t.reshape([c]));
        let y = if kernel::has(&x) {
            kernel::normalise(x, [gamma, beta, mean, variance], self.epsilon)
        } else {
            functional::batch_norm(x, gamma, beta, mean, variance, self.epsilon)
        };
        y.reshape(dims)
    }

    /// With the batch's own: the result, their mean, and their unbiased variance.
    pub(in crate::retrain) fn train(self, inputs: Vec<Tensor<4>>) -> [Tensor<4>; 3] {
        let [x, gamma, beta] = take(inputs);
        let dims = x.dims();
        let x = self.as_images(x);
        let [n, c, h, w] = x.dims();
        let (gamma, beta) = (gamma.reshape([c]), beta.reshape([c]));
        let (output, mean, variance) = if kernel::has(&x) {
            kernel::normalise_batch(x, gamma, beta, self.epsilon)
        } else {
            let of_batch = functional::batch_norm_train(x, gamma, beta, self.epsilon);
            (of_batch.output, of_batch.mean, of_batch.variance)
        };
        let count = (n * h * w) as f32;
        let unbiased = variance.mul_scalar(count / (count - 1.0).max(1.0));
        let of_channels = [1, 1, 1, c];
        [
            output.reshape(dims),
            mean.reshape(of_channels),
            unbiased.reshape(of_channels),
        ]
    }

    fn as_images(self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, n, c] = x.dims();
        if self.flat {
            x.reshape([n, c, 1, 1])
        } else {
            x
        }
    }
}

impl LayerNormalization {
    pub(super) fn apply(self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let bias = inputs.get(2).map(|b| b.clone().reshape([self.length]));
        let [x, scale] = take(inputs);
        let dims = x.dims();
        let rows = dims.iter().product::<usize>() / self.length.max(1);
        let x = x.reshape([rows, self.length]);
        functional::layer_norm(x, scale.reshape([self.length]), bias, self.epsilon).reshape(dims)
    }
}
