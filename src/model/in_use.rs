//! The model in use: a bundle that is loaded and warm, with the site's thresholds and folder names.

use std::collections::BTreeMap;

use super::bundle::{Bundle, BundleError};
use super::classifier::{Classifier, ModelError, ModelInfo};
use super::thresholds::{ThresholdError, Thresholds};
use crate::config::Settings;
use crate::decode::RenderSpec;
use crate::domain::CategoryId;

/// Why a model cannot be taken into use.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bundle's files.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The site's thresholds.
    #[error(transparent)]
    Thresholds(#[from] ThresholdError),
    /// ONNX Runtime, or what the bundle's graphs do in it.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A bundle in use. A reload makes another; files under way keep this one until they are done.
pub struct Model {
    classifier: Classifier,
    thresholds: Thresholds,
    folders: BTreeMap<CategoryId, String>,
}

impl Model {
    /// Opens, loads, warms up and proves the configured bundle. Blocks meanwhile.
    pub fn load(settings: &Settings) -> Result<Self, LoadError> {
        let bundle = Bundle::open_or_shipped(settings.model.bundle.as_deref())?;
        let thresholds = Thresholds::new(&bundle, &settings.review)?;
        let folders = bundle
            .categories()
            .iter()
            .map(|category| (category.id.clone(), category.folder.clone()))
            .collect();
        let classifier = Classifier::start(bundle, &settings.runtime, thresholds.view())?;
        Ok(Self { classifier, thresholds, folders })
    }

    /// The model thread.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The thresholds in force.
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// What the classifiers want to see.
    pub fn render_specs(&self) -> &[RenderSpec] {
        self.classifier.bundle().render_specs()
    }

    /// A category's folder name; categories that the bundle does not know have none of their own.
    pub fn folder<'a>(&'a self, category: &'a CategoryId) -> &'a str {
        self.folders.get(category).map_or(category.as_str(), String::as_str)
    }

    /// What runs.
    pub fn info(&self) -> &ModelInfo {
        self.classifier.info()
    }
}
