//! The model: what a bundle says ([`manifest`]), the folder itself ([`bundle`]), ONNX Runtime and its providers
//! ([`runtime`]), one network as it runs ([`network`]), scores into probabilities and distances ([`calibration`]), the
//! networks together ([`cascade`]), the thread that owns them ([`classifier`]), the site's thresholds
//! ([`thresholds`]), and trying a bundle in a child process first ([`trial`]).

pub mod bundle;
pub mod calibration;
#[cfg(any())]
pub mod cascade;
#[cfg(any())]
pub mod classifier;
pub mod manifest;
#[cfg(any())]
pub mod network;
pub mod runtime;
pub mod thresholds;

pub use bundle::{Bundle, BundleError};
#[cfg(any())]
pub use classifier::{Classifier, Classify, ModelError, ModelInfo};
pub use manifest::Manifest;
pub use thresholds::Thresholds;
