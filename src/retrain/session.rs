//! One retraining: networks of a bundle fitted to a site's labelled images, calibrated, and written as a new bundle.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use prost::Message as _;

use super::augment::Augmentation;
use super::bundle_writer::{self, Fitted, WriteError};
use super::dataset::{Dataset, Example};
use super::evaluate::argmax;
use super::graph::{Graph, GraphError};
use super::head::{self, HeadError, Place};
use super::judge::{Heard, Judged, settle};
use super::sides::{Side, Sides};
use super::train::{self, Answer, Normalisation, Pictures, Recipe, TrainError};
use crate::model::extract::Extractor;
use crate::model::manifest::{
    Applies, Category, ClassifierSpec, Laterality, Manifest, Role, VIEW_CLASSES,
};
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
    /// Too little to learn from or to judge by.
    #[error("{}; --few-patients trains all the same", .0.join("; "))]
    TooFew(Vec<String>),
    /// The new bundle cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
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
    /// `full`: how often each image is seen.
    pub epochs: usize,
    /// `full`: images a step.
    pub batch: usize,
    /// `full`: the highest learning rate.
    pub learning_rate: f64,
    /// Of order and augmentation.
    pub seed: u64,
    /// Also images that nobody has looked at, whose patients are on no other side.
    pub trust_untouched: bool,
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

/// The fewest patients with a class on a side that it is judged on.
const FEWEST_PATIENTS: usize = 3;
/// Images on which the written file is compared with the trained network.
const PARITY_IMAGES: usize = 64;
/// How far their logits may be apart.
const PARITY: f32 = 1e-3;
/// Images that ONNX Runtime is given at once.
const CHUNK: usize = 16;

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

/// What is learned from: seen images of training patients, and, if wished, untouched ones of patients on no other side.
fn learned_from(wish: &Wish<'_>) -> Vec<usize> {
    let examples = &wish.dataset.examples;
    let may = |example: &Example| match wish.sides.of(&example.patient) {
        Some(Side::Training) => example.is_seen() || wish.trust_untouched,
        Some(_) => false,
        None => !example.is_seen() && wish.trust_untouched,
    };
    (0..examples.len())
        .filter(|index| may(&examples[*index]))
        .collect()
}

/// Says which classes have too few patients on the sides that judge.
pub fn too_few(wish: &Wish<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (side, indices) in [
        (Side::Training, learned_from(wish)),
        (Side::Validation, seen_on(wish, Side::Validation)),
        (Side::Test, seen_on(wish, Side::Test)),
    ] {
        for (place, category) in wish.bundle.categories().iter().enumerate() {
            let concerned = wish.bundle.manifest().classifiers.iter().any(|spec| {
                wish.classifiers.contains(&spec.id)
                    && spec.classes.iter().any(|c| c == category.id.as_str())
            });
            let mut patients: Vec<&str> = indices
                .iter()
                .map(|index| &wish.dataset.examples[*index])
                .filter(|example| example.category == Some(place))
                .map(|example| example.patient.as_str())
                .collect();
            patients.sort_unstable();
            patients.dedup();
            if concerned && patients.len() < FEWEST_PATIENTS {
                problems.push(format!(
                    "{}: {} patients for {} ({FEWEST_PATIENTS} are wanted)",
                    category.id,
                    patients.len(),
                    side.word()
                ));
            }
        }
    }
    problems
}

/// Trains, calibrates and writes the new bundle into `out`.
pub fn run(
    wish: &Wish<'_>,
    runtime: &Runtime,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<Made, SessionError> {
    let problems = too_few(wish);
    if !problems.is_empty() && !wish.few_patients {
        return Err(SessionError::TooFew(problems));
    }
    let mut manifest = wish.bundle.manifest().clone();
    let (mut fitted, mut curves) = (Vec::new(), BTreeMap::new());
    for (index, spec) in wish.bundle.manifest().classifiers.iter().enumerate() {
        if !wish.classifiers.contains(&spec.id) {
            fitted.push(Fitted::of(wish.bundle, spec)?);
            continue;
        }
        let judged = one(wish, runtime, index, spec, &mut curves, watch)?;
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

/// The pictures of some examples that a classifier is asked about, with their classes.
struct Asked<'a> {
    pictures: Vec<&'a Vec<u16>>,
    classes: Vec<usize>,
}

impl<'a> Asked<'a> {
    fn of(wish: &Wish<'a>, spec: &ClassifierSpec, render: usize, indices: &[usize]) -> Self {
        let (mut pictures, mut classes) = (Vec::new(), Vec::new());
        for index in indices {
            let example = &wish.dataset.examples[*index];
            if let Some(class) = class_of(spec, wish.bundle.categories(), example)
                && let Some(picture) = example.pictures.get(render)
            {
                pictures.push(picture);
                classes.push(class);
            }
        }
        Self { pictures, classes }
    }
}

fn one(
    wish: &Wish<'_>,
    runtime: &Runtime,
    index: usize,
    spec: &ClassifierSpec,
    curves: &mut BTreeMap<String, Vec<Epoch>>,
    watch: &mut dyn Watch,
) -> Result<Judged, SessionError> {
    let render = wish.bundle.render_index(index);
    let training = Asked::of(wish, spec, render, &learned_from(wish));
    let validation = Asked::of(wish, spec, render, &seen_on(wish, Side::Validation));
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
    let model = Fitted::of(wish.bundle, spec)?.network;
    let place = Place::find(&model, &spec.outputs.logits).map_err(|source| SessionError::Head {
        classifier: spec.id.clone(),
        source,
    });
    let trained = match wish.mode {
        Mode::Head => {
            let place = place?;
            let seen = hear(
                wish,
                runtime,
                spec,
                &place.with_features(model.clone()),
                &place.features,
                &training,
                watch,
            )?;
            let features: Vec<Vec<f32>> = seen
                .answers
                .into_iter()
                .map(|answer| answer.features)
                .collect();
            let weights = class_weights(&training.classes, spec.classes.len());
            let phase = format!("{}: fitting the head", spec.id);
            let how = head::Fit::default();
            let head = head::fit(&features, &training.classes, &weights, how, |step, _| {
                if step.is_multiple_of(25) {
                    watch.progress(&phase, step, how.steps);
                }
            })
            .map_err(|source| failed(spec, source))?;
            watch.progress(&phase, how.steps, how.steps);
            place.replace(model, &prior_corrected(head, &weights))
        }
        Mode::Full => full(
            wish,
            runtime,
            spec,
            model,
            &training,
            &validation,
            curves,
            watch,
        )?,
    };
    let features = match (
        &spec.outputs.features,
        Place::find(&trained, &spec.outputs.logits),
    ) {
        (Some(name), _) => Some(name.clone()),
        (None, Ok(place)) => Some(place.features),
        (None, Err(_)) => None,
    };
    // What cannot be measured by features is not measured.
    let measured = spec.role == Role::Category && spec.outputs.features.is_some();
    let name = features.unwrap_or_else(|| spec.outputs.logits.clone());
    let probe = match Place::find(&trained, &spec.outputs.logits) {
        Ok(place) if !measured => place.with_features(trained.clone()),
        _ => trained.clone(),
    };
    let held_out = hear(wish, runtime, spec, &probe, &name, &validation, watch)?;
    let seen = if measured {
        Some(hear(wish, runtime, spec, &probe, &name, &training, watch)?)
    } else {
        None
    };
    let usual = vec![true; validation.pictures.len()];
    Ok(settle(
        spec.clone(),
        trained,
        seen.as_ref(),
        &held_out,
        &usual,
        &validation.pictures,
    ))
}

fn failed(spec: &ClassifierSpec, source: TrainError) -> SessionError {
    SessionError::Train {
        classifier: spec.id.clone(),
        source,
    }
}

/// Classes count alike, however rare: images ÷ (classes × images of the class); a class without images counts nothing.
fn class_weights(classes: &[usize], count: usize) -> Vec<f32> {
    let mut images = vec![0usize; count];
    classes.iter().for_each(|class| images[*class] += 1);
    let present = images.iter().filter(|n| **n > 0).count().max(1);
    images
        .iter()
        .map(|n| {
            if *n == 0 {
                0.0
            } else {
                classes.len() as f32 / (present * n) as f32
            }
        })
        .collect()
}

/// Weighted training makes rare classes look common; this takes it back (Saerens et al. 2002): log weights off the bias.
fn prior_corrected(mut head: head::Head, weights: &[f32]) -> head::Head {
    for (bias, weight) in head.bias.iter_mut().zip(weights) {
        // A class that was never seen stays what nothing is called.
        *bias -= if *weight > 0.0 { weight.ln() } else { 30.0 };
    }
    head
}

/// What ONNX Runtime says about pictures: logits, and the features by their name.
fn hear(
    wish: &Wish<'_>,
    runtime: &Runtime,
    spec: &ClassifierSpec,
    model: &ModelProto,
    features: &str,
    asked: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<Heard, SessionError> {
    let outputs = [spec.outputs.logits.as_str(), features];
    let mut network = Extractor::load(
        &model.encode_to_vec(),
        spec,
        &outputs,
        runtime,
        wish.threads,
    )?;
    let phase = format!("{}: asking ONNX Runtime", spec.id);
    let mut answers = Vec::with_capacity(asked.pictures.len());
    for chunk in asked.pictures.chunks(CHUNK) {
        let grey: Vec<Vec<f32>> = chunk.iter().map(|picture| to_grey(picture)).collect();
        let grey: Vec<&[f32]> = grey.iter().map(Vec::as_slice).collect();
        for mut vectors in network.run(&grey)? {
            let features = vectors.pop().unwrap_or_default();
            let logits = vectors.pop().unwrap_or_default();
            answers.push(Answer { features, logits });
        }
        watch.progress(&phase, answers.len(), asked.pictures.len());
    }
    Ok(Heard {
        answers,
        classes: asked.classes.clone(),
    })
}

fn to_grey(picture: &[u16]) -> Vec<f32> {
    picture
        .iter()
        .map(|pixel| f32::from(*pixel) / f32::from(u16::MAX))
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn full(
    wish: &Wish<'_>,
    runtime: &Runtime,
    spec: &ClassifierSpec,
    model: ModelProto,
    training: &Asked<'_>,
    validation: &Asked<'_>,
    curves: &mut BTreeMap<String, Vec<Epoch>>,
    watch: &mut dyn Watch,
) -> Result<ModelProto, SessionError> {
    let graph_failed = |source: GraphError| failed(spec, source.into());
    let graph = Graph::new(model).map_err(graph_failed)?;
    let normalisation = Normalisation {
        mean: spec.normalisation.mean[0],
        deviation: spec.normalisation.std[0],
    };
    let recipe = Recipe {
        epochs: wish.epochs,
        batch: wish.batch,
        learning_rate: wish.learning_rate,
        warm_up: 0.1,
        weight_decay: 0.02,
        label_smoothing: 0.05,
        average: 0.99,
        augmentation: Augmentation {
            shift: 0.03,
            scale: 0.06,
            rotation: 4.0,
            gamma: 0.15,
            contrast: 0.08,
            noise: 0.02,
            mirror: wish.bundle.manifest().laterality == Laterality::Ignored,
        },
        pad: spec.render.pad,
        normalisation,
        seed: wish.seed,
    };
    let pictures = |asked: &Asked<'_>| Pictures {
        height: spec.render.height as usize,
        width: spec.render.width as usize,
        samples: asked
            .pictures
            .iter()
            .zip(&asked.classes)
            .map(|(picture, class)| ((*picture).clone(), *class))
            .collect(),
        together: 1,
    };
    let (learn, check) = (pictures(training), pictures(validation));
    let device = Device::flex();
    let mut curve = Vec::new();
    let weights = train::fit(&graph, &learn, &check, &recipe, &device, |epoch| {
        watch.line(&format!(
            "{}: epoch {} of {}, loss {:.4}, validation {:.2} %, {} s",
            spec.id,
            epoch.epoch,
            epoch.epochs,
            epoch.loss,
            100.0 * epoch.validation_accuracy,
            epoch.elapsed.as_secs()
        ));
        curve.push(Epoch {
            loss: epoch.loss,
            validation_accuracy: epoch.validation_accuracy,
        });
    })
    .map_err(|source| failed(spec, source))?;
    curves.insert(spec.id.clone(), curve);
    let trained = graph.to_onnx(&weights).map_err(graph_failed)?;

    // What is written must say what was trained.
    let few = Asked {
        pictures: validation
            .pictures
            .iter()
            .take(PARITY_IMAGES)
            .copied()
            .collect(),
        classes: validation
            .classes
            .iter()
            .take(PARITY_IMAGES)
            .copied()
            .collect(),
    };
    let mine = train::answer(
        &graph,
        &weights,
        &pictures(&few),
        normalisation,
        CHUNK,
        &device,
    )
    .map_err(|source| failed(spec, source))?;
    let theirs = hear(
        wish,
        runtime,
        spec,
        &trained,
        &spec.outputs.logits,
        &few,
        watch,
    )?;
    let mut worst = 0.0f32;
    for (mine, theirs) in mine.iter().zip(&theirs.answers) {
        for (a, b) in mine.logits.iter().zip(&theirs.logits) {
            worst = worst.max((a - b).abs());
        }
        if argmax(&mine.logits) != argmax(&theirs.logits) {
            worst = f32::INFINITY;
        }
    }
    if worst > PARITY {
        return Err(SessionError::Parity {
            classifier: spec.id.clone(),
            worst,
            images: few.pictures.len(),
            limit: PARITY,
        });
    }
    Ok(trained)
}
