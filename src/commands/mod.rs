//! One file a verb: what each subcommand takes and does.

pub mod render;
