//! The model: what a bundle says ([`manifest`]), the folder itself ([`bundle`]), ONNX Runtime and its providers
//! ([`runtime`]), one network as it runs ([`network`]), scores into probabilities and distances ([`calibration`]), the
//! networks together ([`cascade`]), the thread that owns them ([`classifier`]), the site's thresholds
//! ([`thresholds`]), and trying a bundle in a child process first ([`trial`]).

pub mod bundle;
pub mod calibration;
pub mod cascade;
pub mod classifier;
pub mod manifest;
pub mod network;
pub mod runtime;
pub mod thresholds;
pub mod trial;

#[cfg(test)]
pub(crate) mod tests;

pub use bundle::{Bundle, BundleError};
pub use classifier::{Classifier, Classify, ModelError, ModelInfo};
pub use manifest::Manifest;
pub use thresholds::Thresholds;
