//! Trains the bundle that is shipped, `spine-phantom`, from phantoms alone: a view classifier and one category classifier
//! for each view. The same plan gives the same bundle, up to the order in which a machine adds floating-point numbers.

use std::fmt::Write as _;
use std::path::Path;

use burn::tensor::Device;

use super::augment::Augmentation;
use super::bundle_writer::{self, Fitted, WriteError};
use super::calibrate;
use super::evaluate::{Confusion, argmax};
use super::graph::{Graph, GraphError};
use super::network::{Architecture, FEATURES, INPUT, LOGITS};
use super::phantoms::{self, Drawn, Labelled, PhantomsError};
use super::split::{Side, by_patient};
use super::train::{self, Answer, Normalisation, Pictures, Recipe, TrainError};
use crate::decode::{Fit, Intensity, PREPROCESSING_VERSION, Polarity, RenderSpec, Resampler};
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};
use crate::model::calibration::{Distance, softmax};
use crate::model::manifest::{
    self, Applies, Category, ClassifierSpec, FileRef, GreyFormat, Laterality, Manifest, Method, OutOfDistribution,
    Outputs, Role, SCHEMA, VIEW_CLASSES,
};
use crate::phantom::{CATEGORIES, Difficulty, Imbalance, Plan, PlanOptions, Syntax, TrueView, plan};

/// The bundle could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleTrainingError {
    /// A phantom could not become a picture.
    #[error(transparent)]
    Phantoms(#[from] PhantomsError),
    /// Training failed.
    #[error("classifier {classifier}: {source}")]
    Train {
        /// Which.
        classifier: String,
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
    /// Normal phantoms of the two views.
    pub normal: usize,
    /// Hard phantoms of the two views.
    pub hard: usize,
    /// Phantoms of neither view.
    pub neither: usize,
    /// One in so many is drawn at the detector's own size; the others small.
    pub full_size_every: usize,
    /// Epochs of the category classifiers; the view classifier gets half.
    pub epochs: usize,
    /// Of everything that is random.
    pub seed: u64,
    /// Threads that draw phantoms.
    pub threads: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { normal: 2400, hard: 900, neither: 500, full_size_every: 10, epochs: 14, seed: 20_261_123, threads: 2 }
    }
}

/// What the figures in the manifest and a person's terminal are told while it goes on.
pub trait Report {
    /// A line about what is going on.
    fn line(&mut self, text: &str);
    /// How far a phase is.
    fn progress(&mut self, done: usize, of: usize);
}

/// The part of usual pictures that each classifier's distance may send to review.
const FALSE_REVIEW_RATE: f64 = 0.002;
/// The part of usual pictures that low confidence may send to review.
const LOW_CONFIDENCE_RATE: f64 = 0.004;
const NORMALISATION: Normalisation = Normalisation { mean: 0.4, deviation: 0.25 };
/// Seeds that training never uses: `radsort phantom --seed` of published figures lie above.
const HELD_OUT_SEEDS: u64 = 1 << 40;

/// Draws the phantoms, trains the classifiers and writes the bundle into `out`.
pub fn make(effort: &Effort, out: &Path, scratch: &Path, report: &mut dyn Report) -> Result<Manifest, BundleTrainingError> {
    let plans = plans(effort);
    let specs = [view_spec(), category_spec()];
    report.line(&format!("drawing {} phantoms on {} threads", plans.len(), effort.threads));
    let drawn = phantoms::render(&plans, &specs, effort.threads, scratch, |done| report.progress(done, plans.len()))?;

    // Patients of different sets share numbers but not anatomy.
    let keys: Vec<(String, usize)> = drawn.iter().zip(&plans).map(|(d, (p, ..))| (patient(p), class_of_ten(d))).collect();
    let sides = by_patient(&keys, [0.8, 0.2, 0.0], effort.seed);
    let on = |side: Side| -> Vec<&Labelled> { drawn.iter().zip(&sides).filter(|(_, s)| **s == side).map(|(d, _)| d).collect() };
    let (training, validation) = (on(Side::Training), on(Side::Validation));
    report.line(&format!("{} phantoms to train on, {} to validate with", training.len(), validation.len()));

    let mut fitted = Vec::new();
    let mut metrics = toml::Table::new();
    for task in tasks(effort) {
        let (classifier, figures) = fit(&task, effort, &training, &validation, report)
            .map_err(|source| BundleTrainingError::Train { classifier: task.id.into(), source })?;
        fitted.push(classifier);
        metrics.insert(task.id.into(), figures.into());
    }
    let manifest = describe(effort, &drawn, metrics);
    Ok(bundle_writer::write(out, manifest, &fitted)?)
}

/// The patient's name, unique over the sets that training is drawn from.
fn patient(plan: &Plan) -> String {
    let set = plan.study_instance_uid.get(..0).unwrap_or_default();
    format!("{set}{}", plan.truth.patient)
}
