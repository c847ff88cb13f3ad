//! The verbs of the command line, one file each: their arguments, what they do, what they print.

pub mod check;
pub mod classify;
pub mod decode_worker;
pub mod phantom;
pub mod render;
pub mod try_bundle;
