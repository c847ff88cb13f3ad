//! Everything that was learned and decided about one file: what the ledger keeps and `show` tells.

use serde::{Deserialize, Serialize};

use super::{Decision, Instance, Prediction};

/// The story of one file up to its decision. Goes into the ledger as it is; holds no patient identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// When the file was first seen, microseconds since the Unix epoch.
    pub seen_us: i64,
    /// When it was found settled, microseconds since the Unix epoch.
    pub settled_us: i64,
    /// When it was decided on, microseconds since the Unix epoch.
    pub decided_us: i64,
    /// The header, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// What the model said, when it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What was decided.
    pub decision: Decision,
    /// Where the time went.
    pub ms: Timings,
}

/// Milliseconds spent on one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Reading the file and computing its digest.
    pub read: f32,
    /// Header pass, decoding and rendering in the jailed child.
    pub decode: f32,
    /// Waiting for and running the model.
    pub infer: f32,
}
