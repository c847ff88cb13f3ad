//! Trains the bundle that is shipped, `spine-phantom`, from phantoms alone: a view classifier and one category classifier
//! for each view. The same effort and seed give the same bundle, up to the order in which a machine adds numbers.

use std::path::Path;

use burn::tensor::Device;

use super::augment::Augmentation;
use super::bundle_writer::{self, Fitted, WriteError};
use super::calibrate;
use super::evaluate::{Confusion, argmax};
use super::graph::Graph;
use super::network::{Architecture, FEATURES, INPUT, LOGITS, keep_classes};
use super::phantoms::{self, Drawn, Labelled, PhantomsError, Wanted};
use super::split::{Side, by_patient};
use super::train::{self, Answer, Normalisation, Pictures, Recipe, TrainError};
use crate::decode::{Fit, Intensity, PREPROCESSING_VERSION, Polarity, RenderSpec, Resampler};
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};
use crate::model::calibration::{Distance, softmax};
use crate::model::manifest::{
    self, Applies, Category, ClassifierSpec, FileRef, GreyFormat, Laterality, Manifest, Method,
    OutOfDistribution, Outputs, Role, SCHEMA, VIEW_CLASSES,
};
use crate::model::onnx::ModelProto;
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
    /// Epochs of the category classifiers; the view classifier, whose task is easier, gets a fifth.
    pub epochs: usize,
    /// Of everything that is random.
    pub seed: u64,
    /// Threads that draw phantoms.
    pub threads: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            normal: 360,
            hard: 90,
            neither: 400,
            full_size_every: 45,
            epochs: 14,
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

/// The part of usual pictures that each classifier's distance may send to review.
const FALSE_REVIEW_RATE: f64 = 0.002;
/// The part of usual, rightly named pictures that low confidence may send to review.
const LOW_CONFIDENCE_RATE: f64 = 0.004;
/// What the networks subtract and divide by.
const NORMALISATION: Normalisation = Normalisation {
    mean: 0.4,
    deviation: 0.25,
};
/// Reference images written for each classifier.
const REFERENCES: usize = 2;

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

/// Trains the classifiers and writes the bundle into `out`.
pub fn make(
    effort: &Effort,
    drawn: &[Labelled],
    out: &Path,
    report: &mut dyn Report,
) -> Result<Manifest, MakeError> {
    let keys: Vec<(&str, usize)> = drawn
        .iter()
        .map(|d| (d.patient.as_str(), d.class_of_all()))
        .collect();
    let sides = by_patient(&keys, [0.8, 0.2, 0.0], effort.seed);
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
            let judged = judge(task, network, &training, &validation)?;
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
    let view =
        fit(&Task::VIEW, effort, &training, &validation, report).map_err(failed(&Task::VIEW))?;
    keep(&Task::VIEW, view, report).map_err(failed(&Task::VIEW))?;
    // Both views show the same devices: one network learns all categories, then each view keeps its own.
    let all = fit(&Task::CATEGORIES, effort, &training, &validation, report)
        .map_err(failed(&Task::CATEGORIES))?;
    for (task, classes) in [(Task::FRONTAL, 0..5), (Task::LATERAL, 5..10)] {
        keep(&task, keep_classes(all.clone(), classes), report).map_err(failed(&task))?;
    }
    let manifest = describe(effort, training_digest(drawn), &thresholds, metrics);
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

/// How many treatments of one view there are.
const SIBLINGS: usize = 5;

/// The same image under every treatment of its view: a network that sees all of them cannot learn a category from the
/// anatomy, only from the device. An image of neither view has no siblings.
fn siblings(plan: Plan) -> Vec<Plan> {
    let found: Vec<Plan> = CATEGORIES
        .iter()
        .filter_map(|(id, _)| plan.treated_as(id))
        .collect();
    if found.is_empty() { vec![plan] } else { found }
}

/// What one classifier is to learn.
struct Task {
    id: &'static str,
    role: Role,
    applies: Applies,
    seed: u64,
}

impl Task {
    const VIEW: Self = Self {
        id: "view",
        role: Role::View,
        applies: Applies::Any,
        seed: 1,
    };
    const CATEGORIES: Self = Self {
        id: "categories",
        role: Role::Category,
        applies: Applies::Any,
        seed: 2,
    };
    const FRONTAL: Self = Self {
        id: "frontal",
        role: Role::Category,
        applies: Applies::Frontal,
        seed: 2,
    };
    const LATERAL: Self = Self {
        id: "lateral",
        role: Role::Category,
        applies: Applies::Lateral,
        seed: 3,
    };

    fn render(&self) -> RenderSpec {
        if self.role == Role::View {
            view_spec()
        } else {
            category_spec()
        }
    }

    /// The class names in the order of the logits.
    fn classes(&self) -> Vec<&'static str> {
        let ids = |categories: &[(&'static str, _)]| categories.iter().map(|(id, _)| *id).collect();
        match (self.role, self.applies) {
            (Role::View, _) => VIEW_CLASSES.to_vec(),
            (Role::Category, Applies::Any) => ids(&CATEGORIES),
            (Role::Category, Applies::Frontal) => ids(&CATEGORIES[..5]),
            (Role::Category, Applies::Lateral) => ids(&CATEGORIES[5..]),
        }
    }

    /// The class of a phantom; None when this classifier is not asked about it.
    fn class(&self, phantom: &Labelled) -> Option<usize> {
        let name = match self.role {
            Role::View => phantom.truth.view.as_str(),
            Role::Category => phantom.truth.category?,
        };
        self.classes().iter().position(|class| *class == name)
    }

    /// The phantoms that it is asked about: the picture as it gets it, its class, and whether it is a normal one.
    fn asked<'a>(&self, phantoms: &[&'a Labelled]) -> Vec<(&'a Vec<u16>, usize, bool)> {
        let which = usize::from(self.role == Role::Category);
        phantoms
            .iter()
            .filter_map(|p| Some((p.pictures.get(which)?, self.class(p)?, p.normal)))
            .collect()
    }

    fn pictures(&self, phantoms: &[&Labelled]) -> Pictures {
        let RenderSpec { height, width, .. } = self.render();
        let samples = self
            .asked(phantoms)
            .into_iter()
            .map(|(pixels, class, _)| (pixels.clone(), class))
            .collect();
        Pictures {
            height: height as usize,
            width: width as usize,
            samples,
            together: if self.role == Role::View { 1 } else { SIBLINGS },
        }
    }
}

/// The sizes are those of a full spine film, about 1 to 1.6.
fn view_spec() -> RenderSpec {
    RenderSpec {
        height: 128,
        width: 80,
        ..category_spec()
    }
}

/// Percentiles instead of windows: what a vendor's window clips or how it is set does not matter then.
fn category_spec() -> RenderSpec {
    RenderSpec {
        height: 256,
        width: 160,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Percentile { lo: 0.5, hi: 99.5 },
        polarity: Polarity::Monochrome2,
    }
}

/// Trains a network for the task from random weights.
fn fit(
    task: &Task,
    effort: &Effort,
    training: &[&Labelled],
    validation: &[&Labelled],
    report: &mut dyn Report,
) -> Result<ModelProto, TrainError> {
    let (training, validation) = (task.pictures(training), task.pictures(validation));
    let architecture = Architecture::small(training.height, training.width, task.classes().len());
    let graph = Graph::new(architecture.build(effort.seed.wrapping_add(task.seed)))?;
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

/// A classifier and what was found out about it on validation pictures.
struct Judged {
    classifier: Fitted,
    /// The confidence below which a person looks.
    threshold: f32,
    figures: toml::Table,
    summary: String,
}

fn judge(
    task: &Task,
    network: ModelProto,
    training: &[&Labelled],
    validation: &[&Labelled],
) -> Result<Judged, TrainError> {
    let (graph, device) = (Graph::new(network.clone())?, Device::flex());
    let weights = graph.weights(&device);
    let answers =
        |pictures: &Pictures| train::answer(&graph, &weights, pictures, NORMALISATION, 16, &device);
    let (classes, pictures) = (task.classes(), task.pictures(validation));
    let held_out = answers(&pictures)?;
    let cases = labelled(&held_out, &pictures, |a| &a.logits);
    let temperature = calibrate::temperature(&cases);

    let normal = task
        .asked(validation)
        .into_iter()
        .map(|(_, _, normal)| normal);
    let usual: Vec<(&Answer, usize)> = held_out
        .iter()
        .zip(normal)
        .zip(&cases)
        .filter_map(|((answer, normal), (_, class))| normal.then_some((answer, *class)))
        .collect();
    // The view classifier knows what is neither view; a distance from its classes would only repeat that.
    let (distance, parameters) = if task.role == Role::Category {
        let pictures = task.pictures(training);
        let seen = answers(&pictures)?;
        let parameters = calibrate::feature_distance(
            &labelled(&seen, &pictures, |a| &a.features),
            classes.len(),
        );
        (
            Some(distance_limit(
                &usual,
                &parameters,
                classes.len(),
                temperature,
            )),
            Some(parameters),
        )
    } else {
        (None, None)
    };
    let right = usual
        .iter()
        .filter(|(answer, class)| argmax(&answer.logits) == *class);
    let sure = right
        .map(|(answer, _)| {
            softmax(&answer.logits, temperature)
                .into_iter()
                .fold(0.0, f32::max)
        })
        .collect();
    // A little lower: the confidence that is compared with it also covers the view.
    let threshold = (calibrate::lower_limit(sure, LOW_CONFIDENCE_RATE) * 0.98).clamp(0.5, 0.9);
    let confusion = Confusion::of(
        classes.len(),
        cases.iter().map(|(logits, class)| (*class, argmax(logits))),
    );
    let references = pictures
        .samples
        .iter()
        .zip(&held_out)
        .step_by(cases.len().div_ceil(REFERENCES).max(1));
    Ok(Judged {
        threshold,
        figures: figures(&confusion, &classes, cases.len()),
        summary: format!(
            "{}: temperature {temperature:.2}, threshold {threshold:.2}, validation {:?}",
            task.id,
            confusion.counts()
        ),
        classifier: Fitted {
            references: references
                .map(|(sample, answer)| (sample.0.clone(), answer.logits.clone()))
                .collect(),
            network,
            parameters,
            spec: ClassifierSpec {
                id: task.id.to_owned(),
                role: task.role,
                applies: task.applies,
                model: FileRef {
                    file: String::new(),
                    sha256: String::new(),
                },
                channels: 1,
                input: INPUT.to_owned(),
                outputs: Outputs {
                    logits: LOGITS.to_owned(),
                    features: Some(FEATURES.to_owned()),
                },
                temperature,
                classes: classes.iter().map(|&class| class.to_owned()).collect(),
                render: task.render(),
                normalisation: manifest::Normalisation {
                    mean: vec![NORMALISATION.mean],
                    std: vec![NORMALISATION.deviation],
                },
                out_of_distribution: distance,
            },
        },
    })
}

fn recipe(task: &Task, effort: &Effort) -> Recipe {
    Recipe {
        epochs: if task.role == Role::View {
            3.max(effort.epochs / 5)
        } else {
            effort.epochs
        },
        batch: 4 * SIBLINGS,
        learning_rate: 2e-3,
        warm_up: 0.1,
        weight_decay: 0.02,
        label_smoothing: 0.01,
        average: 0.98,
        augmentation: Augmentation {
            shift: 0.016,
            scale: 0.032,
            rotation: 1.2,
            gamma: 0.1,
            contrast: 0.04,
            noise: 0.012,
            mirror: true,
        },
        pad: task.render().pad,
        normalisation: NORMALISATION,
        seed: effort.seed.wrapping_add(task.seed),
    }
}

fn labelled<'a>(
    answers: &'a [Answer],
    pictures: &Pictures,
    part: impl Fn(&'a Answer) -> &'a Vec<f32>,
) -> Vec<(&'a [f32], usize)> {
    answers
        .iter()
        .zip(&pictures.samples)
        .map(|(answer, sample)| (part(answer).as_slice(), sample.1))
        .collect()
}

/// The distance from which on a picture counts as unlike any seen, from usual validation pictures only.
fn distance_limit(
    usual: &[(&Answer, usize)],
    parameters: &[f32],
    classes: usize,
    temperature: f32,
) -> OutOfDistribution {
    let mut limit = OutOfDistribution {
        method: Method::FeatureMahalanobisDiagonal,
        threshold: 1.0,
        centre: 0.0,
        false_review_rate: FALSE_REVIEW_RATE as f32,
        parameters: None,
    };
    // Parameters made above cannot be refused; were they, every picture would be at distance 0 and the limit unused.
    if let Ok(distance) = Distance::new(
        &limit,
        &GreyFormat::F32.encode(parameters),
        classes,
        temperature,
    ) {
        let measured: Vec<f32> = usual
            .iter()
            .map(|(a, _)| distance.of(&a.logits, &a.features))
            .collect();
        // With some hundred pictures the rate is about that of the farthest one: a tenth beyond it.
        limit.threshold = 1.1 * calibrate::upper_limit(measured, FALSE_REVIEW_RATE);
    }
    limit
}

fn figures(confusion: &Confusion, classes: &[&str], count: usize) -> toml::Table {
    let mut table = toml::Table::new();
    let share = |x: Option<f64>| toml::Value::Float((x.unwrap_or(0.0) * 1e4).round() / 1e4);
    table.insert(
        "validation-images".into(),
        toml::Value::Integer(count as i64),
    );
    table.insert("validation-accuracy".into(), share(confusion.accuracy()));
    for (k, class) in classes.iter().enumerate() {
        let mut of_class = toml::Table::new();
        of_class.insert("precision".into(), share(confusion.precision(k)));
        of_class.insert("recall".into(), share(confusion.recall(k)));
        table.insert((*class).to_owned(), of_class.into());
    }
    table
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
    training_set: String,
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
             EfficientNetV2-like networks from random weights",
            env!("CARGO_PKG_VERSION"),
            effort.normal + effort.hard + effort.neither,
            effort.seed
        ),
        training_set,
        view_thresholds: ViewThresholds {
            sure: thresholds.first().copied().unwrap_or(0.9),
            ..Default::default()
        },
        categories: categories.collect(),
        classifiers: Vec::new(),
        references: Vec::new(),
        metrics,
    }
}
