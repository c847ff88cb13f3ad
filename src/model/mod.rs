//! The model: what a bundle says ([`manifest`]), the folder itself ([`bundle`]), ONNX Runtime and its providers
//! ([`runtime`]), one network as it runs ([`network`]), scores into probabilities and distances ([`calibration`]), the
//! networks together ([`cascade`]), the thread that owns them ([`classifier`]), the site's thresholds
//! ([`thresholds`]), the versions kept side by side ([`store`]), and trying a bundle in a child process first ([`trial`]).

pub mod bundle;
pub mod calibration;
pub mod cascade;
pub mod classifier;
pub mod extract;
pub mod manifest;
pub mod network;
/// ONNX's protobuf messages, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod onnx;
pub mod runtime;
pub mod store;
pub mod thresholds;
pub mod trial;

#[cfg(test)]
pub(crate) mod tests;

pub use bundle::{Bundle, BundleError};
pub use classifier::{Classified, Classifier, Classify, ModelError, ModelInfo};
pub use manifest::Manifest;
pub use thresholds::Thresholds;

use crate::config::Settings;
use crate::decode::RenderSpec;
use crate::domain::CategoryId;

/// A bundle in use under a site's settings: the running classifier and the thresholds in force.
pub struct Model {
    classifier: Classifier,
    thresholds: Thresholds,
}

impl Model {
    /// Opens the bundle in use (see [`store::Store::in_use`]), loads, warms up and proves it. Blocks meanwhile.
    pub fn start(settings: &Settings) -> Result<Self, ModelError> {
        let bundle = Bundle::open(&store::Store::in_use(settings)?)?;
        let thresholds = Thresholds::new(&bundle, &settings.review)?;
        let classifier = Classifier::start(bundle, &settings.runtime, thresholds.view())?;
        Ok(Self {
            classifier,
            thresholds,
        })
    }

    /// The model thread.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The thresholds in force.
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// What the bundle promises about its errors, or why it cannot, in a sentence.
    pub fn promise(&self) -> Option<String> {
        let promise = self.classifier.bundle().manifest().promise.as_ref()?;
        let mut told = promise.in_words();
        if promise.kept && self.thresholds.are_loosened() {
            told.push_str(
                " It does not hold here: [review] also files what the bundle would leave to a person.",
            );
        }
        Some(told)
    }

    /// What a decoder is asked for.
    pub fn render_specs(&self) -> &[RenderSpec] {
        self.classifier.bundle().render_specs()
    }

    /// A category's folder below the library: its id if the bundle no longer has it.
    pub fn folder<'a>(&'a self, category: &'a CategoryId) -> &'a str {
        let mut categories = self.classifier.bundle().categories().iter();
        categories
            .find(|it| it.id == *category)
            .map_or(category.as_str(), |it| it.folder.as_str())
    }
}
