//! The verbs of the command line, one file each: their arguments, what they do, what they print.

pub mod access;
pub mod check;
pub mod classify;
pub mod decode_worker;
pub mod phantom;
pub mod quarantine;
pub mod query;
pub mod reindex;
pub mod reload;
pub mod render;
pub mod row;
pub mod show;
pub mod status;
pub mod try_bundle;
pub mod verify;
pub mod when;
