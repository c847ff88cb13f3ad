//! (to be written)

#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod onnx;
