//! What a bundle is worth on phantoms that it has never seen: files as detectors and archives deliver them, through the
//! decoder, ONNX Runtime and the decision that `run` takes. What goes to review counts as wrong.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::settings::{ReviewSettings, RuntimeSettings};
use crate::decode::{Content, Decoded, Radiograph};
use crate::domain::Decision;
use crate::domain::decision::{HeaderView, decide};
use crate::model::cascade::{Cascade, Image};
use crate::model::thresholds::ThresholdError;
use crate::model::{Bundle, BundleError, ModelError, Thresholds};
use crate::phantom::{Difficulty, PlanOptions, SyntaxChoice, plan};

use super::phantoms::{Drawn, PhantomsError, Wanted, decode_each};

/// The trial could not be held.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its thresholds cannot be used.
    #[error(transparent)]
    Thresholds(#[from] ThresholdError),
    /// ONNX Runtime or a network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A phantom could not become a picture.
    #[error(transparent)]
    Phantoms(#[from] PhantomsError),
}

/// How it went.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Number of phantoms.
    pub images: usize,
    /// Filed under their category; for phantoms of neither view: not filed.
    pub right: usize,
    /// Filed under another category, or filed at all though of neither view.
    pub misfiled: usize,
    /// Not filed though of a category, by reason.
    pub reviewed: BTreeMap<&'static str, usize>,
    /// What went wrong, by truth and what was done, and how often.
    pub mistakes: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Tally {
    /// The part that is right, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    /// For the manifest's metrics.
    pub fn figures(&self) -> toml::Table {
        let reviewed = self.reviewed.values().sum();
        let count = |n: usize| toml::Value::Integer(n as i64);
        toml::Table::from_iter([
            ("images".to_owned(), count(self.images)),
            ("right".to_owned(), count(self.right)),
            ("misfiled".to_owned(), count(self.misfiled)),
            ("reviewed".to_owned(), count(reviewed)),
        ])
    }

    fn add(&mut self, truth: Option<&'static str>, decision: &Decision) {
        self.images += 1;
        let filed = decision.category().map(ToString::to_string);
        if filed.as_deref() == truth {
            self.right += 1;
            return;
        }
        let done = match (&filed, decision.reason()) {
            (Some(category), _) => category.clone(),
            (None, reason) => {
                let code = reason.map_or("none", crate::domain::Reason::code);
                *self.reviewed.entry(code).or_default() += 1;
                code.to_owned()
            }
        };
        self.misfiled += usize::from(filed.is_some());
        let truth = truth.unwrap_or("neither").to_owned();
        *self
            .mistakes
            .entry(truth)
            .or_default()
            .entry(done)
            .or_default() += 1;
    }
}

/// Classifies `count` fresh phantoms of full size in mixed transfer syntaxes, a part `outside` of them of neither view.
/// `seed` must be one that the bundle was not trained with.
pub fn hold(
    bundle: &Path,
    runtime: &RuntimeSettings,
    options: &PlanOptions,
    threads: usize,
    scratch: &Path,
    done: impl FnMut(usize),
) -> Result<Tally, TrialError> {
    let bundle = Bundle::open(bundle)?;
    let thresholds = Thresholds::new(&bundle, &ReviewSettings::default())?;
    let mut cascade = Cascade::load(bundle.clone(), runtime, thresholds.view())?;
    // A size that was asked for is in the plans already.
    let wanted: Vec<Wanted> = plan(options)
        .into_iter()
        .map(|plan| Wanted {
            patient: plan.truth.patient.clone(),
            drawn: Drawn::Full,
            syntax: SyntaxChoice::Mixed.of(&plan),
            normal: options.difficulty == Difficulty::Normal,
            plan,
        })
        .collect();
    let keep = |wanted: &Wanted, decoded: Decoded| {
        (
            wanted.plan.truth.category,
            header_view(&decoded),
            decoded.radiographs,
        )
    };
    let seen: Vec<(_, HeaderView, Vec<Radiograph>)> =
        decode_each(&wanted, bundle.render_specs(), threads, scratch, keep, done)?;

    let mut tally = Tally::default();
    for (truth, header, radiographs) in &seen {
        let image = Image {
            header: *header,
            radiographs,
        };
        for prediction in cascade.classify(&[image]) {
            tally.add(*truth, &decide(&prediction?, &thresholds));
        }
    }
    Ok(tally)
}

fn header_view(decoded: &Decoded) -> HeaderView {
    match &decoded.inspection.content {
        Content::Radiograph { header } => HeaderView::of(&header.description),
        _ => HeaderView::Absent,
    }
}
