//! Fits a graph's weights to labelled pictures: AdamW, a warm-up and a cosine, label smoothing, augmentation, and an
//! average of the weights along the way. The same seed on the same device gives the same weights, also when the run was
//! interrupted.
//!
//! A batch that does not fit into memory is not tried again with a smaller one: the CPU device does not report that it
//! has run out, it is killed. With half the `batch` and twice `accumulate` a step sees the same pictures in less memory
//! (and is the same step where batch normalisation is frozen).

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

use super::checkpoint::{CheckpointError, Keeping, Place, State};
use super::evaluate::argmax;
use super::graph::{Graph, GraphError, Part, Practice, Weights, read_back};
use super::optimizer::AdamW;
pub use super::recipe::{Normalisation, Recipe};

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
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There are fewer class weights than classes.
    #[error("there are {given} class weights, but pictures of a higher class")]
    ClassWeights {
        /// How many there are.
        given: usize,
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
    /// How many neighbours each belong together and come into the same batch, e.g. one patient's, so that only what tells
    /// them apart can lower the loss; empty for pictures that have nothing to do with each other.
    pub groups: Vec<usize>,
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
    /// Mean loss of the validation pictures, without smoothing, with the averaged weights.
    pub validation_loss: f32,
    /// Part of the validation pictures that the averaged weights get right.
    pub validation_accuracy: f64,
    /// How often training was taken back because of a loss that was no number.
    pub rollbacks: usize,
    /// Since the start.
    pub elapsed: Duration,
}

/// How far an epoch has come, after each step.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// How many pictures have been learned from in it.
    pub pictures: usize,
    /// Of how many.
    pub of: usize,
    /// Mean training loss so far.
    pub loss: f32,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Told<'a> {
    /// A step was made.
    Step(Within),
    /// An epoch is done.
    Epoch(&'a Progress),
    /// There was no room for a checkpoint.
    NotKept(&'a CheckpointError),
}

/// What a network says about one picture.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The vector before the last layer.
    pub features: Vec<f32>,
    /// Before softmax.
    pub logits: Vec<f32>,
}

/// Trains from the graph's own weights on and returns those of the last epoch, or the best on the validation pictures
/// where the recipe has patience (averaged where the recipe says so), without gradients.
pub fn fit(
    graph: &Graph,
    training: &Pictures,
    validation: &Pictures,
    recipe: &Recipe,
    device: &Device,
    mut progress: impl FnMut(&Progress),
) -> Result<Weights, TrainError> {
    let tell = |told: Told<'_>| {
        if let Told::Epoch(epoch) = told {
            progress(epoch);
        }
    };
    fit_kept(graph, training, validation, recipe, device, None, tell)
}

/// The same, with checkpoints: a run that was killed and goes on ends with the weights of one that was not.
pub fn fit_kept(
    graph: &Graph,
    training: &Pictures,
    validation: &Pictures,
    recipe: &Recipe,
    device: &Device,
    keeping: Option<&Keeping>,
    mut tell: impl FnMut(Told<'_>),
) -> Result<Weights, TrainError> {
    check(graph, training, "training")?;
    check(graph, validation, "validation")?;
    let classes = recipe.class_weights.len();
    let fits = |(_, class): &(Vec<u16>, usize)| classes == 0 || *class < classes;
    if !training.samples.iter().chain(&validation.samples).all(fits) {
        return Err(TrainError::ClassWeights { given: classes });
    }
    let run = Run {
        graph,
        training,
        recipe,
        device,
        tracked: device.clone().autodiff(),
        logits: graph.logits(),
        in_head: graph.in_head(),
        keeping: keeping.map(|keeping| (keeping, digest(graph, training, validation, recipe))),
    };
    let started = Instant::now();
    let mut state = run.start()?;
    let mut good = state.clone();
    while state.place.epoch <= recipe.epochs && !run.out_of_patience(&state.place) {
        let (epoch, steps) = (state.place.epoch, run.steps_an_epoch());
        let mut failed = run.epoch(&mut state, &mut tell)?;
        let mut judged = (0.0, 0.0);
        if failed.is_none() {
            let pictures = (validation, recipe.normalisation);
            let answers = answer(
                graph,
                &state.averaged,
                pictures.0,
                pictures.1,
                recipe.batch,
                device,
            )?;
            judged = validate(&answers, validation, &recipe.class_weights);
            failed = (!judged.0.is_finite()).then_some(judged.0 as f32);
        }
        if let Some(loss) = failed {
            if good.place.rollbacks == recipe.rollbacks {
                return Err(TrainError::Diverged { epoch, loss });
            }
            good.place.rollbacks += 1;
            good.place.slower *= 0.5;
            state = good.clone();
            continue;
        }
        let (validation_loss, validation_accuracy) = judged;
        let is_best = state
            .place
            .best
            .is_none_or(|(_, loss)| validation_loss < loss);
        if recipe.patience > 0 && is_best {
            state.place.best = Some((epoch, validation_loss));
            state.best = Some(state.averaged.clone());
        }
        let loss = (state.place.losses / steps as f64) as f32;
        state.place = Place {
            epoch: epoch + 1,
            done: 0,
            losses: 0.0,
            ..state.place
        };
        good = state.clone();
        run.keep(&state, &mut tell)?;
        tell(Told::Epoch(&Progress {
            epoch,
            epochs: recipe.epochs,
            loss,
            validation_loss: validation_loss as f32,
            validation_accuracy,
            rollbacks: state.place.rollbacks,
            elapsed: started.elapsed(),
        }));
    }
    Ok(state.best.unwrap_or(state.averaged))
}

/// What stays the same during a run.
struct Run<'a> {
    graph: &'a Graph,
    training: &'a Pictures,
    recipe: &'a Recipe,
    device: &'a Device,
    tracked: Device,
    logits: usize,
    in_head: Vec<bool>,
    keeping: Option<(&'a Keeping, String)>,
}

impl Run<'_> {
    /// Pictures of one optimizer step.
    fn pictures_a_step(&self) -> usize {
        self.recipe.batch.max(1) * self.recipe.accumulate.max(1)
    }

    fn steps_an_epoch(&self) -> usize {
        let pictures = self.training.samples.len();
        pictures.div_ceil(self.pictures_a_step())
    }

    fn out_of_patience(&self, place: &Place) -> bool {
        let best = place.best.map_or(0, |(epoch, _)| epoch);
        self.recipe.patience > 0 && place.epoch > best + self.recipe.patience
    }

    /// The state from the checkpoint, or a new one.
    fn start(&self) -> Result<State, TrainError> {
        let part = if self.recipe.head_only {
            Part::Head
        } else {
            Part::Everything
        };
        let weights = self.graph.trainable(part, &self.tracked);
        let place = Place {
            epoch: 1,
            done: 0,
            step: 0,
            losses: 0.0,
            slower: 1.0,
            rollbacks: 0,
            best: None,
        };
        let decay = self.recipe.weight_decay;
        let state = State {
            place,
            averaged: weights.without_gradients(),
            best: None,
            optimizer: AdamW::new(weights.parameters.len(), decay),
            weights,
        };
        if let Some((keeping, digest)) = &self.keeping
            && keeping.resume
            && let Some(read) = state.read(&keeping.file, digest, decay, self.device)?
        {
            return Ok(read);
        }
        Ok(state)
    }

    fn keep(&self, state: &State, tell: &mut dyn FnMut(Told<'_>)) -> Result<(), TrainError> {
        let Some((keeping, digest)) = &self.keeping else {
            return Ok(());
        };
        match state.write(&keeping.file, digest) {
            Err(why @ CheckpointError::NoRoom { .. }) => tell(Told::NotKept(&why)),
            written => written?,
        }
        Ok(())
    }

    /// The rest of one epoch; a loss that is no number ends it.
    fn epoch(
        &self,
        state: &mut State,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<Option<f32>, TrainError> {
        let (recipe, epoch) = (self.recipe, state.place.epoch);
        let (accumulate, all) = (recipe.accumulate.max(1), self.training.samples.len());
        let from = state.place.done * accumulate;
        let frozen = recipe.frozen_norms || recipe.head_only;
        let mut gradients: Vec<Option<Tensor<4>>> = vec![None; self.in_head.len()];
        let (mut loss_of_step, mut failed) = (0.0, None);
        let mut kept = Instant::now();
        for_each_batch(
            self.graph,
            self.training,
            recipe,
            epoch,
            from,
            |k, pixels, classes| {
                let images = batch_tensor(pixels, self.training, self.graph, &self.tracked);
                let mut practice = Practice {
                    frozen_statistics: frozen,
                    dropout: recipe
                        .dropout
                        .then(|| random(recipe.seed ^ DROPOUT, epoch, k)),
                };
                let answer = self
                    .graph
                    .practise(&mut state.weights, images, &mut practice)
                    .swap_remove(self.logits);
                let pictures = self.pictures_a_step();
                let in_step = pictures.min(all - state.place.done * pictures);
                let loss = cross_entropy(answer, classes, recipe, in_step);
                let value = read_back(loss.clone())?[0];
                if !value.is_finite() {
                    failed = Some(value);
                    return Ok(false);
                }
                loss_of_step += f64::from(value);
                let of_batch = loss.backward();
                for (sum, parameter) in gradients.iter_mut().zip(&state.weights.parameters) {
                    if let Some(gradient) = parameter.grad(&of_batch) {
                        *sum = Some(match sum.take() {
                            Some(sum) => sum + gradient,
                            None => gradient,
                        });
                    }
                }
                let last = (k + 1) % accumulate == 0 || (k + 1) * recipe.batch.max(1) >= all;
                if last {
                    self.step(
                        state,
                        std::mem::replace(&mut gradients, vec![None; self.in_head.len()]),
                    );
                    state.place.losses += std::mem::take(&mut loss_of_step);
                    tell(Told::Step(self.within(&state.place)));
                    let due = |(keeping, _): &(&Keeping, String)| kept.elapsed() >= keeping.every;
                    if self.keeping.as_ref().is_some_and(due) {
                        self.keep(state, tell)?;
                        kept = Instant::now();
                    }
                }
                Ok(true)
            },
        )?;
        Ok(failed)
    }

    fn within(&self, place: &Place) -> Within {
        let of = self.training.samples.len();
        Within {
            epoch: place.epoch,
            epochs: self.recipe.epochs,
            pictures: of.min(place.done * self.pictures_a_step()),
            of,
            loss: (place.losses / place.done as f64) as f32,
        }
    }

    /// One optimizer step, and the average after it.
    fn step(&self, state: &mut State, gradients: Vec<Option<Tensor<4>>>) {
        let recipe = self.recipe;
        let steps = recipe.epochs * self.steps_an_epoch();
        let rate = recipe.learning_rate * schedule(state.place.step, steps, recipe.warm_up);
        let rate = rate * state.place.slower;
        let factor = |k: usize| {
            if self.in_head[k] {
                1.0
            } else {
                recipe.backbone_rate
            }
        };
        let parameters = &mut state.weights.parameters;
        state
            .optimizer
            .step(parameters, gradients, |k| rate * factor(k));
        state.place.step += 1;
        state.place.done += 1;
        // The average starts short, so that the random weights of the beginning are soon forgotten.
        let step = state.place.step as f32;
        let decay = recipe.average.min(step / (step + 10.0));
        let decay = if recipe.average > 0.0 { decay } else { 0.0 };
        state.averaged.average(&state.weights, decay);
    }
}

/// Sets dropout's random numbers apart from those of augmentation.
const DROPOUT: u64 = 0x6472_6f70_6f75_7421;

/// Mean loss (without smoothing) and the part that is right.
fn validate(answers: &[Answer], pictures: &Pictures, class_weights: &[f32]) -> (f64, f64) {
    let (mut loss, mut right) = (0.0, 0);
    for (answer, (_, class)) in answers.iter().zip(&pictures.samples) {
        let largest = answer.logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = answer
            .logits
            .iter()
            .map(|x| f64::from(x - largest).exp())
            .sum();
        let weight = class_weights.get(*class).copied().unwrap_or(1.0);
        loss += f64::from(weight) * (sum.ln() - f64::from(answer.logits[*class] - largest));
        right += usize::from(argmax(&answer.logits) == *class);
    }
    let count = pictures.samples.len() as f64;
    (loss / count, f64::from(right as u32) / count)
}

/// Of everything that decides what a run comes to.
fn digest(graph: &Graph, training: &Pictures, validation: &Pictures, recipe: &Recipe) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{recipe:?}").as_bytes());
    hasher.update(graph.digest().as_bytes());
    for pictures in [training, validation] {
        let Pictures {
            height,
            width,
            samples,
            groups,
        } = pictures;
        let sizes = [*height, *width, samples.len()];
        hasher.update(format!("{sizes:?} {groups:?}").as_bytes());
        for (pixels, class) in samples {
            hasher.update(&class.to_le_bytes());
            let bytes: Vec<u8> = pixels.iter().flat_map(|p| p.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
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
    let (features, logits) = (graph.features(), graph.logits());
    let mut answers = Vec::with_capacity(pictures.samples.len());
    for samples in pictures.samples.chunks(batch.max(1)) {
        let grey: Vec<f32> = samples
            .iter()
            .flat_map(|(pixels, _)| pixels.iter().map(|p| f32::from(*p) / f32::from(u16::MAX)))
            .collect();
        let images = normalised(&grey, pictures, graph, normalisation);
        let images = batch_tensor(images, pictures, graph, device);
        let outputs = graph.run(weights, images);
        let count = samples.len();
        let features = rows(&outputs[features], count)?;
        let logits = rows(&outputs[logits], count)?;
        answers.extend(
            features
                .into_iter()
                .zip(logits)
                .map(|(features, logits)| Answer { features, logits }),
        );
    }
    Ok(answers)
}

/// Places of pictures that belong together; those that no group counts are alone.
fn groups(pictures: &Pictures) -> Vec<Range<usize>> {
    let (mut from, all) = (0, pictures.samples.len());
    let alone = std::iter::repeat(&1);
    let sizes = pictures.groups.iter().chain(alone);
    let ranges = sizes.map(|size| {
        let start = from;
        from = (from + size).min(all);
        start..from
    });
    ranges.take_while(|range| range.start < all).collect()
}

/// Hands one epoch's batches (number, pixels, normalised, and classes), beginning with number `from`, to `take` in a
/// seeded order until it says false. They are prepared on a thread of their own, one ahead; each batch has its own
/// random numbers, drawn from its place in the run.
fn for_each_batch(
    graph: &Graph,
    pictures: &Pictures,
    recipe: &Recipe,
    epoch: usize,
    from: usize,
    mut take: impl FnMut(usize, Vec<f32>, &[usize]) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    let mut groups = groups(pictures);
    groups.shuffle(&mut random(recipe.seed, epoch, usize::MAX));
    let order: Vec<usize> = groups.into_iter().flatten().collect();
    let size = [pictures.height, pictures.width];
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            for (k, batch) in order.chunks(recipe.batch.max(1)).enumerate().skip(from) {
                let mut rng = random(recipe.seed, epoch, k);
                let mut pixels = Vec::with_capacity(batch.len() * size[0] * size[1]);
                for index in batch {
                    let source = &pictures.samples[*index].0;
                    recipe
                        .augmentation
                        .apply(source, size, recipe.pad, &mut rng, &mut pixels);
                }
                let pixels = normalised(&pixels, pictures, graph, recipe.normalisation);
                let classes: Vec<usize> = batch
                    .iter()
                    .map(|index| pictures.samples[*index].1)
                    .collect();
                if sender.send((k, pixels, classes)).is_err() {
                    return; // the taker has stopped
                }
            }
        });
        for (k, pixels, classes) in receiver {
            if !take(k, pixels, &classes)? {
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

/// Cross-entropy of logits `[1, 1, N, K]` against smoothed labels: the batch's part of the mean over the `in_step`
/// pictures of a step.
fn cross_entropy(
    logits: Tensor<4>,
    classes: &[usize],
    recipe: &Recipe,
    in_step: usize,
) -> Tensor<1> {
    let n = classes.len();
    let k = logits.dims().iter().product::<usize>() / n.max(1);
    let logits = logits.reshape([1, 1, n, k]);
    let mut targets = Vec::with_capacity(n * k);
    for class in classes {
        let weight = recipe.class_weights.get(*class).copied().unwrap_or(1.0);
        let smoothing = weight * recipe.label_smoothing;
        let row = targets.len();
        targets.resize(row + k, smoothing / k as f32);
        targets[row + class] += weight - smoothing;
    }
    let targets = Tensor::<4>::from_data(TensorData::new(targets, [1, 1, n, k]), &logits.device());
    (activation::log_softmax(logits, 3) * targets)
        .sum()
        .mul_scalar(-1.0 / in_step as f32)
}

/// Grey pictures as the graph takes them: the same in each of its channels.
fn normalised(grey: &[f32], pictures: &Pictures, graph: &Graph, by: Normalisation) -> Vec<f32> {
    by.spread(
        grey,
        pictures.height * pictures.width,
        graph.input_shape()[0],
    )
}

fn batch_tensor(
    values: Vec<f32>,
    pictures: &Pictures,
    graph: &Graph,
    device: &Device,
) -> Tensor<4> {
    let (height, width) = (pictures.height, pictures.width);
    let channels = graph.input_shape()[0];
    let count = values.len() / (channels * height * width);
    let shape = [count, channels, height, width];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// An output for N images as N vectors.
fn rows(tensor: &Tensor<4>, count: usize) -> Result<Vec<Vec<f32>>, GraphError> {
    let numbers = read_back(tensor.clone())?;
    let width = (numbers.len() / count.max(1)).max(1);
    Ok(numbers.chunks(width).map(<[f32]>::to_vec).collect())
}

fn check(graph: &Graph, pictures: &Pictures, which: &'static str) -> Result<(), TrainError> {
    let [channels, ..] = graph.input_shape();
    let found = [channels, pictures.height, pictures.width];
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
