//! Fits models: an ONNX graph is read, trained with burn, judged and written back as a bundle.

pub mod augment;
pub mod bundle_writer;
pub mod calibrate;
pub mod dataset;
pub mod evaluate;
pub mod graph;
pub mod head;
pub mod judge;
pub mod judging;
pub mod network;
pub mod operator;
pub mod phantom_bundle;
pub mod phantom_trial;
pub mod phantoms;
pub mod rows;
pub mod session;
pub mod sides;
pub mod split;
pub mod task;
pub mod train;
pub mod trial;
