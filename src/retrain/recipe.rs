//! How a network is trained.

use super::augment::Augmentation;
use crate::model::manifest;

/// What the network subtracts and divides by, channel by channel: `(value − mean) / deviation`.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation {
    /// Subtracted; a network of one channel takes the first.
    pub mean: [f32; 3],
    /// Divided by.
    pub deviation: [f32; 3],
}

/// How to train.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// How often each picture is seen.
    pub epochs: usize,
    /// Pictures a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The part of all steps in which the learning rate rises from 0.
    pub warm_up: f64,
    /// `AdamW`'s decoupled weight decay.
    pub weight_decay: f32,
    /// The part of a label that is spread over all classes.
    pub label_smoothing: f32,
    /// The decay of the average of the weights, a step; 0 uses the last weights themselves.
    pub average: f32,
    /// Changes to the pictures.
    pub augmentation: Augmentation,
    /// The value outside a picture.
    pub pad: f32,
    /// What the network gets.
    pub normalisation: Normalisation,
    /// Order, augmentation, dropout.
    pub seed: u64,
    /// How much a picture of each class counts; empty where all count the same. They should average 1 over the pictures.
    pub class_weights: Vec<f32>,
    /// The learning rate of everything before the features, as a part of the head's.
    pub backbone_rate: f64,
    /// Batch normalisation keeps the running statistics of the weights that it starts from.
    pub frozen_norms: bool,
    /// Only the layers behind the features are trained, and running statistics stay as they are.
    pub head_only: bool,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Ends after so many epochs without a lower validation loss, and gives the weights of the best; 0 goes on to the
    /// last epoch and gives the last.
    pub patience: usize,
    /// How often a loss that is no number takes training back to the last good epoch, with half the learning rate.
    pub rollbacks: usize,
    /// The graph's own dropout is done.
    pub dropout: bool,
}

impl Default for Recipe {
    /// What fine-tuning of a network that can see already needs.
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 16,
            learning_rate: 1e-3,
            warm_up: 0.1,
            weight_decay: 0.02,
            label_smoothing: 0.01,
            average: 0.99,
            augmentation: Augmentation::NONE,
            pad: 0.0,
            normalisation: Normalisation::same(0.0, 1.0),
            seed: 0,
            class_weights: Vec::new(),
            backbone_rate: 1.0,
            frozen_norms: false,
            head_only: false,
            accumulate: 1,
            patience: 0,
            rollbacks: 3,
            dropout: true,
        }
    }
}

impl Normalisation {
    /// The same in every channel.
    pub const fn same(mean: f32, deviation: f32) -> Self {
        Self {
            mean: [mean; 3],
            deviation: [deviation; 3],
        }
    }

    /// What a bundle says, one value a channel.
    pub fn of(spec: &manifest::Normalisation) -> Self {
        let take = |values: &[f32]| {
            let first = values.first().copied().unwrap_or_default();
            [0, 1, 2].map(|channel| values.get(channel).copied().unwrap_or(first))
        };
        Self {
            mean: take(&spec.mean),
            deviation: take(&spec.std),
        }
    }

    /// Grey pictures of `plane` values from 0 to 1 each, as `[N, channels, …]`: the same grey in each channel.
    pub fn spread(&self, grey: &[f32], plane: usize, channels: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(grey.len() * channels);
        for picture in grey.chunks(plane.max(1)) {
            for (mean, deviation) in self.mean.iter().zip(&self.deviation).take(channels) {
                values.extend(picture.iter().map(|value| (value - mean) / deviation));
            }
        }
        values
    }
}
