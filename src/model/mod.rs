//! The model: what a bundle holds ([`manifest`]).

pub mod manifest;
/// ONNX's protobuf messages, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod onnx;

pub use manifest::Manifest;
