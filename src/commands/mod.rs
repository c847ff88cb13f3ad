//! One file a verb.

pub mod decode_worker;
