//! Fits a graph's weights to labelled pictures: AdamW, a warm-up and a cosine, label smoothing, augmentation, and an
//! average of the weights along the way. The same seed on the same device gives the same weights.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

use super::augment::Augmentation;
use super::evaluate::argmax;
use super::graph::{Graph, GraphError, Weights, read_back};
use super::network::{FEATURES, LOGITS};

/// Why a training run stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The graph cannot be used.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Nothing to learn from.
    #[error("there are no {0} pictures")]
    Empty(&'static str),
    /// The pictures are not of the size that the graph takes.
    #[error(
        "the graph takes pictures of {wanted:?} (channels, rows, columns), the {which} pictures are {found:?}"
    )]
    Size {
        /// Which set.
        which: &'static str,
        /// What the graph takes.
        wanted: [usize; 3],
        /// What the set holds.
        found: [usize; 3],
    },
    /// The loss became infinite or not a number.
    #[error(
        "training diverged in epoch {epoch}: the loss became {loss}; a lower learning rate may help"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
        /// What the loss became.
        loss: f32,
    },
}

/// Labelled pictures of one size, as the model gets them before normalisation; 65535 stands for 1.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// Row-major pixels and the class.
    pub samples: Vec<(Vec<u16>, usize)>,
    /// So many neighbours come into the same batch, e.g. one patient under every treatment, so that only what tells them
    /// apart can lower the loss; 1 for pictures that have nothing to do with each other.
    pub together: usize,
}

/// What the network subtracts and divides by: `(value − mean) / deviation`.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: f32,
    /// Divided by.
    pub deviation: f32,
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
    /// Order, augmentation.
    pub seed: u64,
}

/// How far training has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The epoch just finished, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// Mean training loss of the epoch.
    pub loss: f32,
    /// Part of the validation pictures that the averaged weights get right.
    pub validation_accuracy: f64,
    /// Since the start.
    pub elapsed: Duration,
}

/// What a network says about one picture.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The vector before the last layer.
    pub features: Vec<f32>,
    /// Before softmax.
    pub logits: Vec<f32>,
}

/// Trains from the graph's own weights on and returns those of the last epoch (averaged where the recipe says so), without
/// gradients.
pub fn fit(
    graph: &Graph,
    training: &Pictures,
    validation: &Pictures,
    recipe: &Recipe,
    device: &Device,
    mut progress: impl FnMut(&Progress),
) -> Result<Weights, TrainError> {
    check(graph, training, "training")?;
    check(graph, validation, "validation")?;
    let logits = graph.output_index(LOGITS)?;
    let tracked = device.clone().autodiff();
    let mut weights = graph.weights(&tracked);
    let mut averaged = weights.without_gradients();
    let mut optimizer = AdamWConfig::new()
        .with_weight_decay(recipe.weight_decay)
        .init();
    let steps_an_epoch = training.samples.len().div_ceil(recipe.batch);
    let steps = recipe.epochs * steps_an_epoch;
    let started = Instant::now();
    let mut step = 0;
    for epoch in 1..=recipe.epochs {
        let mut losses = 0.0;
        let mut failed = None;
        for_each_batch(training, recipe, epoch, |pixels, classes| {
            let images = batch_tensor(pixels, training, &tracked);
            let answer = graph.train(&mut weights, images).swap_remove(logits);
            let loss = cross_entropy(answer, classes, recipe.label_smoothing);
            let value = read_back(loss.clone())?[0];
            if !value.is_finite() {
                failed = Some(value);
                return Ok(false);
            }
            losses += value;
            let gradients = GradientsParams::from_grads(loss.backward(), &weights.parameters);
            let rate = recipe.learning_rate * schedule(step, steps, recipe.warm_up);
            weights.parameters = optimizer.step(rate, weights.parameters.clone(), gradients);
            step += 1;
            // The average starts short, so that the random weights of the beginning are soon forgotten.
            let decay = recipe.average.min(step as f32 / (step as f32 + 10.0));
            averaged.average(
                &weights.without_gradients(),
                if recipe.average > 0.0 { decay } else { 0.0 },
            );
            Ok(true)
        })?;
        if let Some(loss) = failed {
            return Err(TrainError::Diverged { epoch, loss });
        }
        let answers = answer(
            graph,
            &averaged,
            validation,
            recipe.normalisation,
            recipe.batch,
            device,
        )?;
        let right = answers
            .iter()
            .zip(&validation.samples)
            .filter(|(a, s)| argmax(&a.logits) == s.1)
            .count();
        progress(&Progress {
            epoch,
            epochs: recipe.epochs,
            loss: losses / steps_an_epoch as f32,
            validation_accuracy: right as f64 / validation.samples.len() as f64,
            elapsed: started.elapsed(),
        });
    }
    Ok(averaged)
}

/// What the graph says about each picture, in order.
pub fn answer(
    graph: &Graph,
    weights: &Weights,
    pictures: &Pictures,
    normalisation: Normalisation,
    batch: usize,
    device: &Device,
) -> Result<Vec<Answer>, TrainError> {
    check(graph, pictures, "given")?;
    let (features, logits) = (graph.output_index(FEATURES)?, graph.output_index(LOGITS)?);
    let mut answers = Vec::with_capacity(pictures.samples.len());
    for samples in pictures.samples.chunks(batch.max(1)) {
        let pixels = samples
            .iter()
            .flat_map(|(pixels, _)| pixels.iter().map(|p| normalisation.of_stored(*p)))
            .collect();
        let outputs = graph.run(weights, batch_tensor(pixels, pictures, device));
        let (features, logits) = (rows(&outputs[features])?, rows(&outputs[logits])?);
        answers.extend(
            features
                .into_iter()
                .zip(logits)
                .map(|(features, logits)| Answer { features, logits }),
        );
    }
    Ok(answers)
}

impl Normalisation {
    /// For values from 0 to 1.
    pub fn of(self, value: f32) -> f32 {
        (value - self.mean) / self.deviation
    }

    /// For stored pixels, 0 to 65535.
    pub fn of_stored(self, pixel: u16) -> f32 {
        self.of(f32::from(pixel) / f32::from(u16::MAX))
    }
}

/// Hands one epoch's batches (pixels, normalised, and classes) to `take` in a seeded order until it says false. They are
/// prepared on a thread of their own, one ahead; each batch has its own random numbers, drawn from its place in the run.
fn for_each_batch(
    pictures: &Pictures,
    recipe: &Recipe,
    epoch: usize,
    mut take: impl FnMut(Vec<f32>, &[usize]) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    let all: Vec<usize> = (0..pictures.samples.len()).collect();
    let mut groups: Vec<&[usize]> = all.chunks(pictures.together.max(1)).collect();
    groups.shuffle(&mut random(recipe.seed, epoch, usize::MAX));
    let order = groups.concat();
    let size = [pictures.height, pictures.width];
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            for (k, batch) in order.chunks(recipe.batch.max(1)).enumerate() {
                let mut rng = random(recipe.seed, epoch, k);
                let mut pixels = Vec::with_capacity(batch.len() * size[0] * size[1]);
                for index in batch {
                    let source = &pictures.samples[*index].0;
                    recipe
                        .augmentation
                        .apply(source, size, recipe.pad, &mut rng, &mut pixels);
                }
                pixels
                    .iter_mut()
                    .for_each(|value| *value = recipe.normalisation.of(*value));
                let classes: Vec<usize> = batch
                    .iter()
                    .map(|index| pictures.samples[*index].1)
                    .collect();
                if sender.send((pixels, classes)).is_err() {
                    return; // the taker has stopped
                }
            }
        });
        for (pixels, classes) in receiver {
            if !take(pixels, &classes)? {
                break;
            }
        }
        Ok(())
    })
}

/// Random numbers for one batch of one epoch.
fn random(seed: u64, epoch: usize, batch: usize) -> ChaCha12Rng {
    let mut key = [0; 32];
    for (part, number) in key
        .chunks_exact_mut(8)
        .zip([seed, epoch as u64, batch as u64])
    {
        part.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha12Rng::from_seed(key)
}

/// The part of the highest learning rate at a step: a line up, then half a cosine down to 0.
fn schedule(step: usize, steps: usize, warm_up: f64) -> f64 {
    let (at, rise) = ((step as f64 + 0.5) / steps as f64, warm_up.clamp(0.0, 0.9));
    if at < rise {
        at / rise
    } else {
        0.5 * (1.0 + (std::f64::consts::PI * (at - rise) / (1.0 - rise)).cos())
    }
}

/// Mean cross-entropy of logits `[1, 1, N, K]` against smoothed labels.
fn cross_entropy(logits: Tensor<4>, classes: &[usize], smoothing: f32) -> Tensor<1> {
    let [_, _, n, k] = logits.dims();
    let mut targets = vec![smoothing / k as f32; n * k];
    for (row, class) in classes.iter().enumerate() {
        targets[row * k + class] += 1.0 - smoothing;
    }
    let targets = Tensor::<4>::from_data(TensorData::new(targets, [1, 1, n, k]), &logits.device());
    (activation::log_softmax(logits, 3) * targets)
        .sum()
        .mul_scalar(-1.0 / n as f32)
}

fn batch_tensor(pixels: Vec<f32>, pictures: &Pictures, device: &Device) -> Tensor<4> {
    let count = pixels.len() / (pictures.height * pictures.width);
    Tensor::from_data(
        TensorData::new(pixels, [count, 1, pictures.height, pictures.width]),
        device,
    )
}

/// `[1, 1, N, K]` as N vectors.
fn rows(tensor: &Tensor<4>) -> Result<Vec<Vec<f32>>, GraphError> {
    let width = tensor.dims()[3];
    Ok(read_back(tensor.clone())?
        .chunks(width)
        .map(<[f32]>::to_vec)
        .collect())
}

fn check(graph: &Graph, pictures: &Pictures, which: &'static str) -> Result<(), TrainError> {
    let found = [1, pictures.height, pictures.width];
    let pixels = pictures.height * pictures.width;
    if pictures.samples.is_empty() {
        return Err(TrainError::Empty(which));
    }
    if found != graph.input_shape() || pictures.samples.iter().any(|(p, _)| p.len() != pixels) {
        return Err(TrainError::Size {
            which,
            wanted: graph.input_shape(),
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
