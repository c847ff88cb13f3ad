//! Trains the bundle that is shipped, `spine-phantom`, from phantoms alone: a view classifier and one category classifier
//! for each view. The same effort and seed give the same bundle, up to the order in which a machine adds numbers.

use std::path::Path;

use burn::tensor::Device;
use prost::Message as _;

use super::augment::Augmentation;
use super::bundle_writer::{self, WriteError};
use super::graph::Graph;
use super::judge::judge;
use super::network::{Architecture, join_classes, keep_classes};
use super::phantoms::{self, Drawn, Labelled, PhantomsError, Wanted};
use super::split::{Side, by_patient};
use super::task::{SIBLINGS, Task, category_spec, view_spec};
use super::train::{self, Normalisation, Recipe, TrainError};
use crate::decode::PREPROCESSING_VERSION;
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};
use crate::model::manifest::{Category, Laterality, Manifest, Role, SCHEMA};
use crate::model::onnx::ModelProto;
use crate::model::{Bundle, BundleError};
use crate::phantom::{CATEGORIES, Difficulty, Imbalance, Plan, PlanOptions, Syntax, plan};

/// The bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Training failed.
    #[error("classifier {classifier}: {source}")]
    Train {
        /// Which.
        classifier: &'static str,
        /// Why.
        source: TrainError,
    },
    /// The bundle could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The bundle to go on from cannot be read.
    #[error(transparent)]
    Start(#[from] BundleError),
    /// The bundle to go on from was made in another way.
    #[error("only a bundle that this command made can be gone on from")]
    NotOurs,
}

/// How much is drawn and trained.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Normal images of the two views, each drawn under every treatment.
    pub normal: usize,
    /// Hard images of the two views, each drawn under every treatment.
    pub hard: usize,
    /// Phantoms of neither view.
    pub neither: usize,
    /// One in so many is drawn at the detector's own size, the others small.
    pub full_size_every: usize,
    /// Epochs of the category classifiers; the view classifier, whose task is easier, gets two fifths.
    pub epochs: usize,
    /// Of everything that is random.
    pub seed: u64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Threads that draw phantoms.
    pub threads: usize,
}

/// The networks of a bundle that training goes on from.
pub struct Start {
    view: ModelProto,
    categories: ModelProto,
}

impl Start {
    /// Those of a phantom bundle made before.
    pub fn of(bundle: &Bundle) -> Result<Self, MakeError> {
        let network = |id: &str| -> Result<ModelProto, MakeError> {
            let classifiers = &bundle.manifest().classifiers;
            let spec = classifiers.iter().find(|spec| spec.id == id);
            let spec = spec.ok_or(MakeError::NotOurs)?;
            ModelProto::decode(&*bundle.read(&spec.model)?).map_err(|_| MakeError::NotOurs)
        };
        Ok(Self {
            view: network("view")?,
            categories: join_classes(&network("frontal")?, &network("lateral")?)
                .ok_or(MakeError::NotOurs)?,
        })
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            normal: 840,
            hard: 160,
            neither: 600,
            full_size_every: 30,
            epochs: 20,
            learning_rate: 2e-3,
            seed: 20_261_123,
            threads: 2,
        }
    }
}

/// Told to a person while it goes on.
pub trait Report {
    /// Something was found or finished.
    fn line(&mut self, text: &str);
    /// How far a phase has come.
    fn progress(&mut self, phase: &str, done: usize, of: usize);
}

/// What the networks subtract and divide by.
const NORMALISATION: Normalisation = Normalisation::same(0.4, 0.25);

/// Draws the phantoms as training pictures. Scratch files go into `scratch`.
pub fn draw(
    effort: &Effort,
    scratch: &Path,
    report: &mut dyn Report,
) -> Result<Vec<Labelled>, PhantomsError> {
    let wanted = wanted(effort);
    let specs = [view_spec(), category_spec()];
    phantoms::render(&wanted, &specs, effort.threads, scratch, |done| {
        report.progress("drawing phantoms", done, wanted.len());
    })
}

/// Trains the classifiers, from random weights or from those of `start` on, and writes the bundle into `out`.
pub fn make(
    effort: &Effort,
    drawn: &[Labelled],
    start: Option<Start>,
    out: &Path,
    report: &mut dyn Report,
) -> Result<Manifest, MakeError> {
    let keys: Vec<(&str, usize)> = drawn
        .iter()
        .map(|d| (d.patient.as_str(), d.class_of_all()))
        .collect();
    let sides = by_patient(&keys, [0.86, 0.14, 0.0], effort.seed);
    let on = |side| -> Vec<&Labelled> {
        drawn
            .iter()
            .zip(&sides)
            .filter(|(_, s)| **s == side)
            .map(|(d, _)| d)
            .collect()
    };
    let (training, validation) = (on(Side::Training), on(Side::Validation));
    report.line(&format!(
        "{} phantoms to train on, {} to validate with",
        training.len(),
        validation.len()
    ));

    let mut fitted = Vec::new();
    let mut thresholds = Vec::new();
    let mut metrics = toml::Table::new();
    let mut keep =
        |task: &Task, network: ModelProto, report: &mut dyn Report| -> Result<(), TrainError> {
            let judged = judge(task, network, &training, &validation, NORMALISATION)?;
            report.line(&judged.summary);
            fitted.push(judged.classifier);
            thresholds.push(judged.threshold);
            metrics.insert(task.id.to_owned(), judged.figures.into());
            Ok(())
        };
    let failed = |task: &Task| {
        let classifier = task.id;
        move |source| MakeError::Train { classifier, source }
    };
    let (view, categories, before) = match start {
        Some(start) => (
            start.view,
            start.categories,
            "what an earlier round had learned from other phantoms",
        ),
        None => (
            fresh(&Task::VIEW, effort),
            fresh(&Task::CATEGORIES, effort),
            "random weights",
        ),
    };
    let view = fit(&Task::VIEW, view, effort, &training, &validation, report)
        .map_err(failed(&Task::VIEW))?;
    keep(&Task::VIEW, view, report).map_err(failed(&Task::VIEW))?;
    // Both views show the same devices: one network learns all categories, then each view keeps its own.
    let task = Task::CATEGORIES;
    let all =
        fit(&task, categories, effort, &training, &validation, report).map_err(failed(&task))?;
    for (task, classes) in [(Task::FRONTAL, 0..5), (Task::LATERAL, 5..10)] {
        keep(&task, keep_classes(all.clone(), classes), report).map_err(failed(&task))?;
    }
    let manifest = describe(effort, before, drawn, &thresholds, metrics);
    Ok(bundle_writer::write(out, manifest, &fitted)?)
}

/// Every phantom that is drawn: mostly small and uncompressed, some as detectors and archives really deliver them.
fn wanted(effort: &Effort) -> Vec<Wanted> {
    let sets = [
        (effort.normal, Difficulty::Normal, 0.0),
        (effort.hard, Difficulty::Hard, 0.0),
        (effort.neither - effort.neither / 4, Difficulty::Normal, 1.0),
        (effort.neither / 4, Difficulty::Hard, 1.0),
    ];
    let mut wanted = Vec::new();
    for (k, (count, difficulty, outside)) in sets.into_iter().enumerate() {
        let seed = effort.seed.wrapping_add(k as u64);
        let options = PlanOptions {
            count,
            seed,
            imbalance: Imbalance::Even,
            difficulty,
            size: None,
            outside,
        };
        for (n, plan) in plan(&options).into_iter().enumerate() {
            let full = n % effort.full_size_every.max(1) == 0;
            let drawn = if full {
                Drawn::Full
            } else {
                Drawn::Within(450, 680)
            };
            // A baseline JPEG has been windowed to 8 bits for good: metal may be clipped.
            let syntax = if n % 5 == 1 {
                Syntax::JpegBaseline
            } else {
                Syntax::ExplicitLe
            };
            let patient = format!("{seed}/{}", plan.truth.patient);
            for plan in siblings(plan) {
                wanted.push(Wanted {
                    plan,
                    patient: patient.clone(),
                    drawn,
                    syntax,
                    normal: difficulty == Difficulty::Normal,
                });
            }
        }
    }
    wanted
}

/// The same image under every treatment of its view: a network that sees all of them cannot learn a category from the
/// anatomy, only from the device. An image of neither view has no siblings.
fn siblings(plan: Plan) -> Vec<Plan> {
    let found: Vec<Plan> = CATEGORIES
        .iter()
        .filter_map(|(id, _)| plan.treated_as(id))
        .collect();
    if found.is_empty() { vec![plan] } else { found }
}

/// A network for the task with random weights.
fn fresh(task: &Task, effort: &Effort) -> ModelProto {
    let render = task.render();
    let (height, width) = (render.height as usize, render.width as usize);
    Architecture::small(height, width, task.classes().len())
        .build(effort.seed.wrapping_add(task.seed))
}

/// Trains a network for the task.
fn fit(
    task: &Task,
    network: ModelProto,
    effort: &Effort,
    training: &[&Labelled],
    validation: &[&Labelled],
    report: &mut dyn Report,
) -> Result<ModelProto, TrainError> {
    let (training, validation) = (task.pictures(training), task.pictures(validation));
    let graph = Graph::new(network)?;
    let recipe = recipe(task, effort);
    report.line(&format!(
        "{}: {} pictures of {} × {}, {} million multiplications each",
        task.id,
        training.samples.len(),
        training.height,
        training.width,
        graph.multiplications() / 1_000_000
    ));
    let weights = train::fit(
        &graph,
        &training,
        &validation,
        &recipe,
        &Device::flex(),
        |p| {
            report.line(&format!(
                "{}: epoch {} of {}, loss {:.4}, validation {:.2} %, {} s",
                task.id,
                p.epoch,
                p.epochs,
                p.loss,
                100.0 * p.validation_accuracy,
                p.elapsed.as_secs()
            ));
        },
    )?;
    Ok(graph.to_onnx(&weights)?)
}

fn recipe(task: &Task, effort: &Effort) -> Recipe {
    Recipe {
        epochs: if task.role == Role::View {
            3.max(2 * effort.epochs / 5)
        } else {
            effort.epochs
        },
        batch: 4 * SIBLINGS,
        learning_rate: effort.learning_rate,
        warm_up: 0.1,
        weight_decay: 0.02,
        label_smoothing: 0.01,
        average: 0.99,
        augmentation: Augmentation {
            shift: 0.016,
            scale: 0.032,
            rotation: 1.2,
            gamma: 0.1,
            contrast: 0.04,
            noise: 0.012,
            // Phantoms come with collimators of their own.
            collimation: 0.0,
            mirror: true,
        },
        pad: task.render().pad,
        normalisation: NORMALISATION,
        seed: effort.seed.wrapping_add(task.seed),
        ..Recipe::default()
    }
}

/// BLAKE3 over labels and pictures.
fn training_digest(drawn: &[Labelled]) -> String {
    let mut hasher = blake3::Hasher::new();
    for phantom in drawn {
        hasher.update(phantom.truth.category.unwrap_or("neither").as_bytes());
        for pixel in phantom.pictures.iter().flatten() {
            hasher.update(&pixel.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn describe(
    effort: &Effort,
    before: &str,
    drawn: &[Labelled],
    thresholds: &[f32],
    metrics: toml::Table,
) -> Manifest {
    let categories = CATEGORIES.iter().enumerate().filter_map(|(k, (id, name))| {
        let view = if k < 5 { View::Frontal } else { View::Lateral };
        let threshold = thresholds
            .get(if k < 5 { 1 } else { 2 })
            .copied()
            .unwrap_or(0.9);
        let id = CategoryId::parse(id).ok()?;
        Some(Category {
            folder: id.to_string(),
            id,
            view,
            name: (*name).to_owned(),
            threshold,
            formerly: Vec::new(),
        })
    });
    Manifest {
        schema: SCHEMA,
        name: "spine-phantom".into(),
        version: "1.0.0".into(),
        preprocessing: PREPROCESSING_VERSION,
        laterality: Laterality::Ignored,
        licence: "MIT OR Apache-2.0".into(),
        intended_use:
            "Phantoms only. Not for clinical use: it has never seen a radiograph of a person."
                .into(),
        provenance: format!(
            "Trained by radsort {} (`make model`) on {} synthetic phantoms, seed {}, no patient data; \
             small convolutional networks, begun from {before}",
            env!("CARGO_PKG_VERSION"),
            drawn.len(),
            effort.seed
        ),
        training_set: training_digest(drawn),
        view_thresholds: ViewThresholds {
            sure: thresholds.first().copied().unwrap_or(0.9),
            ..Default::default()
        },
        categories: categories.collect(),
        classifiers: Vec::new(),
        references: Vec::new(),
        promise: None,
        metrics,
    }
}
