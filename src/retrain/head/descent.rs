//! What fitting one layer and fitting two have in common: images as they are looked at, and the way down.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::fit::Fit;
use crate::retrain::graph::read_back;
use crate::retrain::train::TrainError;

/// Images that a head is fitted to.
pub(in crate::retrain) struct Prepared {
    /// Standardised features, `[images, features]`.
    pub(in crate::retrain) inputs: Tensor<2>,
    /// Each image's weight at its class, so that the loss is one product; they sum to 1.
    targets: Tensor<2>,
    /// Of each feature as it comes.
    pub(in crate::retrain) means: Vec<f32>,
    pub(in crate::retrain) deviations: Vec<f32>,
    /// Features of an image.
    pub(in crate::retrain) length: usize,
    /// Classes.
    pub(in crate::retrain) count: usize,
    /// Where gradients are followed.
    pub(in crate::retrain) device: Device,
}

impl Prepared {
    /// Of features `[image][feature]` and classes, each class with the weight of `class_weights`.
    pub(in crate::retrain) fn new(
        features: &[Vec<f32>],
        classes: &[usize],
        class_weights: &[f32],
    ) -> Result<Self, TrainError> {
        let (Some(first), count) = (features.first(), class_weights.len()) else {
            return Err(TrainError::Empty("training"));
        };
        let (images, length) = (features.len(), first.len());
        let (means, deviations) = moments(features, length);
        let device = Device::flex().autodiff();
        let standard: Vec<f32> = features
            .iter()
            .flat_map(|row| {
                let scaled = row.iter().zip(&means).zip(&deviations);
                scaled.map(|((x, mean), deviation)| (x - mean) / deviation)
            })
            .collect();
        let inputs = Tensor::from_data(TensorData::new(standard, [images, length]), &device);
        let mut targets = vec![0.0f32; images * count];
        let total: f32 = classes.iter().map(|class| class_weights[*class]).sum();
        for (image, class) in classes.iter().enumerate() {
            targets[image * count + class] = class_weights[*class] / total.max(f32::MIN_POSITIVE);
        }
        let targets = Tensor::from_data(TensorData::new(targets, [images, count]), &device);
        Ok(Self {
            inputs,
            targets,
            means,
            deviations,
            length,
            count,
            device,
        })
    }

    /// How likely the classes are, by these logits.
    pub(in crate::retrain) fn likelihood(&self, logits: Tensor<2>) -> Tensor<1> {
        (activation::log_softmax(logits, 1) * self.targets.clone()).sum()
    }
}

/// Adam, until the loss changes no more. `rate` is that of a step, counted from 0; `progress` hears the step and the loss.
pub(in crate::retrain) fn descend<M: Module>(
    mut numbers: M,
    how: Fit,
    rate: impl Fn(usize) -> f64,
    loss: impl Fn(&M) -> Tensor<1>,
    mut progress: impl FnMut(usize, f32),
) -> Result<M, TrainError> {
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).init();
    let (mut before, mut calm) = (f32::INFINITY, 0);
    for step in 0..how.steps {
        let loss = loss(&numbers);
        let value = read_back(loss.clone())?[0];
        if !value.is_finite() {
            return Err(TrainError::Diverged {
                epoch: step + 1,
                loss: value,
            });
        }
        progress(step + 1, value);
        let change = (before - value).abs() / value.abs().max(1e-3);
        calm = if change < how.tolerance { calm + 1 } else { 0 };
        if calm == 5 {
            break;
        }
        before = value;
        let gradients = GradientsParams::from_grads(loss.backward(), &numbers);
        numbers = optimizer.step(rate(step), numbers, gradients);
    }
    Ok(numbers)
}

fn moments(features: &[Vec<f32>], length: usize) -> (Vec<f32>, Vec<f32>) {
    let count = features.len() as f64;
    let mut means = vec![0.0f64; length];
    let mut squares = vec![0.0f64; length];
    for row in features {
        for (k, x) in row.iter().enumerate() {
            means[k] += f64::from(*x) / count;
            squares[k] += f64::from(*x).powi(2) / count;
        }
    }
    let deviations = squares
        .iter()
        .zip(&means)
        .map(|(square, mean)| ((square - mean * mean).max(0.0).sqrt()).max(1e-4) as f32)
        .collect();
    (
        means.into_iter().map(|mean| mean as f32).collect(),
        deviations,
    )
}
