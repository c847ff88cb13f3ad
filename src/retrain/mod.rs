//! Fits models: an ONNX graph is read, trained with burn, judged and written back as a bundle.

pub mod augment;
mod builder;
pub mod bundle_writer;
pub mod calibrate;
pub mod checkpoint;
pub mod efficientnet;
pub mod evaluate;
pub mod graph;
mod initializer;
pub mod judge;
pub mod network;
pub mod operator;
mod optimizer;
mod parameters;
pub mod phantom_bundle;
pub mod phantom_trial;
pub mod phantoms;
mod prepare;
mod reader;
pub mod recipe;
pub mod split;
pub mod task;
pub mod train;
pub mod weights;
