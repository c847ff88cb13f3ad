//! One retraining: networks of a bundle fitted to a site's labelled images, calibrated, and written as a new bundle.

mod asked;
mod batch;
mod enough;
mod forecast;
mod full;
mod parity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use self::asked::{Asked, hear};
pub use self::enough::{enough, spare_view, too_few, unseen};
pub use self::forecast::{Forecast, forecast};
use self::parity::Expected;
use super::bundle_writer::{self, Fitted, WriteError};
use super::dataset::{Dataset, Example};
use super::device::Wanted;
use super::head::{self, HeadError, Place};
use super::hidden::TwoLayers;
use super::judge::{Judged, settle};
use super::own_head::with_own_head;
use super::sides::{Side, Sides};
use super::train::TrainError;
use crate::model::manifest::{Applies, Category, ClassifierSpec, Manifest, Role, VIEW_CLASSES};
use crate::model::onnx::ModelProto;
use crate::model::runtime::Runtime;
use crate::model::{Bundle, BundleError, ModelError};

/// Why a retraining stopped.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// ONNX Runtime.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network has no head to fit.
    #[error("classifier {classifier}: {source}")]
    Head {
        /// Which.
        classifier: String,
        /// Why not.
        source: HeadError,
    },
    /// The network cannot be trained.
    #[error("classifier {classifier}: {source}")]
    Train {
        /// Which.
        classifier: String,
        /// Why not.
        source: TrainError,
    },
    /// A class of a classifier has nothing to learn from.
    #[error(
        "classifier {classifier}: no image to learn from shows {classes}, and trained without any it would forget what that looks like: {advice}"
    )]
    Unseen {
        /// Which.
        classifier: String,
        /// The classes, in words.
        classes: String,
        /// What to do.
        advice: String,
    },
    /// Too little to learn from or to judge by.
    #[error("{}; --few-patients trains all the same", .0.join("; "))]
    TooFew(Vec<String>),
    /// The new bundle cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The interpreter does not compute what ONNX Runtime computes.
    #[error(
        "classifier {classifier}: the interpreter's logits differ from ONNX Runtime's by {worst} (at most {limit} is allowed): this network cannot be trained faithfully; --mode head can still fit its last layer"
    )]
    Gate {
        /// Which.
        classifier: String,
        /// The largest difference of a logit.
        worst: f32,
        /// What is allowed.
        limit: f32,
    },
    /// Not even a step with one image was survived.
    #[error(
        "classifier {classifier}: the first training step ended with {how}, even with one image at a time: memory is short; stop other programs, raise the limits (ulimit -v, MemoryMax=), or use --mode head"
    )]
    FirstStep {
        /// Which.
        classifier: String,
        /// How the child that tried it ended.
        how: String,
    },
    /// The first step of a run that goes on was not survived.
    #[error(
        "classifier {classifier}: this run was begun with {images} images at a time, and a step with as many ended with {how} now: memory is short; stop other programs and give --resume again, or begin anew without --resume"
    )]
    Resume {
        /// Which.
        classifier: String,
        /// Images at a time.
        images: usize,
        /// How the child that tried it ended.
        how: String,
    },
    /// Not even one image fits into memory.
    #[error(
        "classifier {classifier}: training takes about {needed} MB with one image at a time, {available} MB are free: stop other programs, or use --mode head"
    )]
    Memory {
        /// Which.
        classifier: String,
        /// Megabytes.
        needed: u64,
        /// Megabytes.
        available: u64,
    },
    /// What was written does not say what was trained.
    #[error(
        "classifier {classifier}: the ONNX file in ONNX Runtime differs from the trained network by {worst} on one of {images} images (at most {limit} is allowed), or names another class"
    )]
    Parity {
        /// Which.
        classifier: String,
        /// The largest difference of a logit.
        worst: f32,
        /// How many images were compared.
        images: usize,
        /// What is allowed.
        limit: f32,
    },
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The last layer, on frozen features: minutes on a CPU.
    Head,
    /// All weights.
    Full,
}

/// How all weights are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// How often each image is seen, at most.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The part of it that everything before the last layer gets.
    pub backbone_rate: f64,
    /// Batch normalisation keeps the running statistics of the network that it starts from.
    pub frozen_norms: bool,
    /// Epochs without a lower validation loss after which training ends; 0: never.
    pub patience: usize,
    /// Where checkpoints are kept, by classifier; `None`: nowhere.
    pub checkpoints: Option<PathBuf>,
    /// Goes on from the checkpoints that are there.
    pub resume: bool,
}

/// What a session is to do.
pub struct Wish<'a> {
    /// The bundle to start from.
    pub bundle: &'a Bundle,
    /// The images.
    pub dataset: &'a Dataset,
    /// Who may be learned from.
    pub sides: &'a Sides,
    /// Ids of the classifiers to train; the others stay as they are.
    pub classifiers: Vec<String>,
    /// What is trained.
    pub mode: Mode,
    /// `head`: neurons of a hidden layer; 0: none.
    pub hidden: usize,
    /// `full`: how it is trained.
    pub full: Full,
    /// `full`: where the interpreter computes.
    pub device: Device,
    /// What that is.
    pub device_name: Wanted,
    /// Of order and augmentation.
    pub seed: u64,
    /// Learn also from images that nobody has looked at, of training patients. They were loaded from this confidence on.
    pub trust_untouched: Option<f32>,
    /// Also when a class has too few patients to be judged.
    pub few_patients: bool,
    /// The new bundle's version.
    pub version: String,
    /// CPU threads for ONNX Runtime.
    pub threads: usize,
}

/// Told while it goes on.
pub trait Watch {
    /// A line for people.
    fn line(&mut self, text: &str);
    /// How far a phase has come.
    fn progress(&mut self, phase: &str, done: usize, of: usize);
}

/// One epoch of a training curve.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Mean loss on training images.
    pub loss: f32,
    /// Part of the validation images that are right, 0 to 1.
    pub validation_accuracy: f64,
}

/// A finished session.
pub struct Made {
    /// The bundle as written.
    pub manifest: Manifest,
    /// Curves by classifier (`full` only).
    pub curves: BTreeMap<String, Vec<Epoch>>,
}

/// The class of an example for a classifier; `None` when the classifier is not asked about it.
pub fn class_of(
    spec: &ClassifierSpec,
    categories: &[Category],
    example: &Example,
) -> Option<usize> {
    let category = example.category.map(|index| &categories[index]);
    let name = match spec.role {
        Role::View => category.map_or(VIEW_CLASSES[2], |category| category.view.as_str()),
        Role::Category => {
            let category = category?;
            if spec.applies != Applies::Any && !spec.applies.to(category.view) {
                return None;
            }
            category.id.as_str()
        }
    };
    spec.classes.iter().position(|class| class == name)
}

/// The examples of one side that a person has seen.
pub fn seen_on(wish: &Wish<'_>, side: Side) -> Vec<usize> {
    let on_side =
        |example: &Example| example.is_seen() && wish.sides.of(&example.patient) == Some(side);
    (0..wish.dataset.examples.len())
        .filter(|index| on_side(&wish.dataset.examples[*index]))
        .collect()
}

/// What is learned from: seen images of training patients, and, if wished, untouched ones too. Who has no side is not
/// learned from: nobody would know it later, and the patient could come to judge.
fn learned_from(wish: &Wish<'_>) -> Vec<usize> {
    let examples = &wish.dataset.examples;
    let trusting = wish.trust_untouched.is_some();
    let may = |example: &Example| {
        wish.sides.of(&example.patient) == Some(Side::Training) && (example.is_seen() || trusting)
    };
    (0..examples.len())
        .filter(|index| may(&examples[*index]))
        .collect()
}

/// How many of the images that are learned from nobody has looked at.
pub fn untouched(wish: &Wish<'_>) -> usize {
    let examples = &wish.dataset.examples;
    let learned = learned_from(wish).into_iter();
    learned.filter(|index| !examples[*index].is_seen()).count()
}

/// What every part of a session needs.
struct Ask<'a> {
    wish: &'a Wish<'a>,
    runtime: &'a Runtime,
}

/// Trains, calibrates and writes the new bundle into `out`.
pub fn run(
    wish: &Wish<'_>,
    runtime: &Runtime,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<Made, SessionError> {
    enough(wish)?;
    let ask = Ask { wish, runtime };
    let mut manifest = wish.bundle.manifest().clone();
    // Promise and figures are of other weights.
    manifest.promise = None;
    let stays = |id: &str| {
        let mut specs = wish.bundle.manifest().classifiers.iter();
        specs.any(|spec| spec.id == id && !wish.classifiers.contains(&spec.id))
    };
    manifest.metrics.retain(|name, _| stays(name));
    let (mut fitted, mut curves) = (Vec::new(), BTreeMap::new());
    let mut expected = Vec::new();
    for spec in &wish.bundle.manifest().classifiers {
        if !wish.classifiers.contains(&spec.id) {
            fitted.push(Fitted::of(wish.bundle, spec)?);
            continue;
        }
        let (judged, says) = one(&ask, spec, &mut curves, watch)?;
        expected.push(says);
        watch.line(&judged.summary);
        manifest
            .metrics
            .insert(spec.id.clone(), judged.figures.into());
        match spec.role {
            Role::View => manifest.view_thresholds.sure = judged.threshold,
            Role::Category => manifest
                .categories
                .iter_mut()
                .filter(|category| {
                    spec.classes
                        .iter()
                        .any(|class| class == category.id.as_str())
                })
                .for_each(|category| category.threshold = judged.threshold),
        }
        fitted.push(judged.classifier);
    }
    manifest.version.clone_from(&wish.version);
    manifest.provenance = format!(
        "Retrained by radsort {} from {} ({}); before: {}",
        env!("CARGO_PKG_VERSION"),
        wish.bundle.name_and_version(),
        match wish.mode {
            Mode::Head => "last layer",
            Mode::Full => "all weights",
        },
        wish.bundle.manifest().provenance
    );
    manifest.training_set = training_digest(wish);
    let manifest = bundle_writer::write(out, manifest, &fitted)?;
    parity::check(&ask, out, &expected, watch)?;
    Ok(Made { manifest, curves })
}

fn training_digest(wish: &Wish<'_>) -> String {
    let mut lines: Vec<String> = learned_from(wish)
        .into_iter()
        .map(|index| &wish.dataset.examples[index])
        .map(|example| format!("{} {:?}\n", example.digest.0, example.category))
        .collect();
    lines.sort();
    blake3::hash(lines.concat().as_bytes()).to_hex().to_string()
}

fn one<'a>(
    ask: &Ask<'a>,
    spec: &ClassifierSpec,
    curves: &mut BTreeMap<String, Vec<Epoch>>,
    watch: &mut dyn Watch,
) -> Result<(Judged, Expected<'a>), SessionError> {
    let wish = ask.wish;
    let training = Asked::of(wish, spec, &learned_from(wish));
    let validation = Asked::of(wish, spec, &seen_on(wish, Side::Validation));
    for (asked, which) in [(&training, "training"), (&validation, "validation")] {
        if asked.pictures.is_empty() {
            return Err(SessionError::Train {
                classifier: spec.id.clone(),
                source: TrainError::Empty(which),
            });
        }
    }
    watch.line(&format!(
        "{}: {} images to learn from, {} to calibrate with",
        spec.id,
        training.pictures.len(),
        validation.pictures.len()
    ));
    let model = with_own_head(Fitted::of(wish.bundle, spec)?.network, &spec.outputs.logits);
    let place = Place::find(&model, &spec.outputs.logits).map_err(|source| SessionError::Head {
        classifier: spec.id.clone(),
        source,
    });
    let few = validation.some(parity::IMAGES);
    let (trained, of_few) = match wish.mode {
        Mode::Head => last_layer(ask, spec, model, &place?, &training, &few, watch)?,
        Mode::Full => {
            let trained = full::train(ask, spec, model, &training, &validation, &few, watch)?;
            curves.insert(spec.id.clone(), trained.curve);
            (trained.network, trained.logits)
        }
    };
    // Features are made an output where they can be found: what is unlike anything seen is told by them.
    let (spec, trained) = with_features(spec, trained);
    let spec = &spec;
    let measured = spec.role == Role::Category && spec.outputs.features.is_some();
    let logits = &spec.outputs.logits;
    let name = spec.outputs.features.as_ref().unwrap_or(logits).clone();
    let held_out = hear(ask, spec, &trained, &name, &validation, watch)?;
    let seen = if measured {
        Some(hear(ask, spec, &trained, &name, &training, watch)?)
    } else {
        None
    };
    let usual = vec![true; validation.pictures.len()];
    let judged = settle(
        spec.clone(),
        trained,
        seen.as_ref(),
        &held_out,
        &usual,
        &validation.pictures,
    );
    let expected = Expected {
        classifier: spec.id.clone(),
        asked: few,
        logits: of_few,
    };
    Ok((judged, expected))
}

/// Fits the last layer on frozen features. Gives the network with it, and what it says about `few` images by its own
/// numbers.
fn last_layer(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    model: ModelProto,
    place: &Place,
    training: &Asked<'_>,
    few: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<(ModelProto, Vec<Vec<f32>>), SessionError> {
    let wish = ask.wish;
    let seeing = place.with_features(model.clone());
    let mut features_of = |asked: &Asked<'_>| -> Result<Vec<Vec<f32>>, SessionError> {
        let heard = hear(ask, spec, &seeing, &place.features, asked, watch)?;
        let answers = heard.answers.into_iter();
        Ok(answers.map(|answer| answer.features).collect())
    };
    let (features, of_few) = (features_of(training)?, features_of(few)?);
    let weights = class_weights(&training.classes, spec.classes.len());
    let phase = format!("{}: fitting the head", spec.id);
    let how = head::Fit::default();
    let mut told = |step: usize, _: f32| {
        if step.is_multiple_of(25) {
            watch.progress(&phase, step, how.steps);
        }
    };
    let (seed, neurons) = (wish.seed, wish.hidden);
    let classes = &training.classes;
    let (network, logits): (ModelProto, Vec<Vec<f32>>) = if neurons == 0 {
        let old = place.read(&model);
        let head = head::fit(&features, classes, &weights, old.as_ref(), how, &mut told)
            .map_err(|source| failed(spec, source))?;
        let head = prior_corrected(head, &weights);
        let logits = of_few.iter().map(|features| head.logits(features));
        (place.replace(model, &head), logits.collect())
    } else {
        let TwoLayers { first, last } =
            TwoLayers::fit(&features, classes, &weights, neurons, how, seed, &mut told)
                .map_err(|source| failed(spec, source))?;
        let last = prior_corrected(last, &weights);
        let layers = TwoLayers { first, last };
        let logits = of_few
            .iter()
            .map(|features| layers.logits(features))
            .collect();
        (layers.put(place, model), logits)
    };
    watch.progress(&phase, how.steps, how.steps);
    Ok((network, logits))
}

fn with_features(spec: &ClassifierSpec, model: ModelProto) -> (ClassifierSpec, ModelProto) {
    let mut spec = spec.clone();
    match (
        &spec.outputs.features,
        Place::find(&model, &spec.outputs.logits),
    ) {
        (None, Ok(place)) => {
            spec.outputs.features = Some(place.features.clone());
            (spec, place.with_features(model))
        }
        _ => (spec, model),
    }
}

fn failed(spec: &ClassifierSpec, source: TrainError) -> SessionError {
    SessionError::Train {
        classifier: spec.id.clone(),
        source,
    }
}

/// Classes count alike, however rare: images ÷ (classes × images of the class). Each has images, see [`enough()`].
fn class_weights(classes: &[usize], count: usize) -> Vec<f32> {
    let mut images = vec![0usize; count];
    classes.iter().for_each(|class| images[*class] += 1);
    let all = classes.len() as f32;
    let weight = |n: &usize| all / (count * n) as f32;
    images.iter().map(weight).collect()
}

/// Weighted training makes rare classes look common; this takes it back (Saerens et al. 2002): log weights off the bias.
fn prior_corrected(mut head: head::Head, weights: &[f32]) -> head::Head {
    for (bias, weight) in head.bias.iter_mut().zip(weights) {
        *bias -= weight.ln();
    }
    head
}
