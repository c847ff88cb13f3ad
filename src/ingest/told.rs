//! What others hear of a file, and what its way took.

use std::time::Duration;

use super::Drop;
use crate::config::settings::Action;
use crate::decode::Spent;
use crate::domain::{Dossier, Placement, Prediction, Reason};
use crate::filing::record::{Fate, RecordId};

/// What subscribers are told about a file that has found its place. Holds no patient identity and no source path.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// The record, absent in a dry run.
    pub id: Option<RecordId>,
    /// The watch that it came through.
    pub watch: String,
    /// What became of it.
    pub fate: Fate,
    /// It was only decided on (`action = "observe"`, a dry run): the fate is the one that it would have had.
    #[serde(default)]
    pub observed: bool,
    /// Its SOP Instance UID, when it has one.
    pub sop_instance_uid: Option<String>,
    /// The category it was filed under, or would have been.
    pub category: Option<String>,
    /// The reason, unless filed.
    pub reason: Option<Reason>,
    /// What exactly was wrong, for people.
    pub detail: Option<String>,
    /// The joint confidence, when the model was asked.
    pub confidence: Option<f32>,
    /// Bundle name and version, when the model was asked.
    pub model: Option<String>,
    /// Where it is now; `None` when it stayed where it was.
    pub to: Option<Placement>,
    /// From settled to told, milliseconds.
    pub ms: f32,
    /// What its stages took.
    #[serde(skip)]
    pub took: Took,
}

impl Told {
    /// Whether it would have gone elsewhere, were it not only observed. What stays where it is does so either way.
    pub fn only_observed(&self) -> bool {
        self.observed && self.fate != Fate::Left
    }
}

/// How long the stages of one file's way took; `None` for those that it did not go through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Took {
    /// From first seen to settled.
    pub settle: Option<Duration>,
    /// Reading and digest.
    pub read: Option<Duration>,
    /// Decoding, with the jail.
    pub decode: Option<Duration>,
    /// The parts of decoding, without it.
    pub within_decode: Spent,
    /// Waiting for and running the model.
    pub infer: Option<Duration>,
    /// Running the model alone.
    pub model: Option<Duration>,
    /// Deciding, and where it goes.
    pub decide: Option<Duration>,
    /// From handed to the filer to on record.
    pub file: Option<Duration>,
}

impl Took {
    /// What its dossier tells.
    fn before_filing(dossier: &Dossier) -> Self {
        let millis = |ms: f32| Duration::try_from_secs_f32(ms / 1e3).ok();
        let waited = u64::try_from(dossier.settled_us - dossier.seen_us);
        Self {
            settle: waited.ok().map(Duration::from_micros),
            read: millis(dossier.ms.read),
            decode: millis(dossier.ms.decode),
            infer: dossier.prediction.as_ref().and(millis(dossier.ms.infer)),
            ..Self::default()
        }
    }
}

/// What is told of a file that is decided on and not yet filed.
pub(super) fn told(
    drop: &Drop,
    fate: Fate,
    dossier: &Dossier,
    detail: Option<String>,
    to: Placement,
) -> Told {
    let prediction = dossier.prediction.as_ref();
    Told {
        id: None,
        watch: drop.settings.name.clone(),
        fate,
        observed: drop.dry_run || drop.settings.action == Action::Observe,
        sop_instance_uid: dossier
            .instance
            .as_ref()
            .map(|instance| instance.sop_instance_uid.to_string()),
        category: prediction
            .and_then(Prediction::category)
            .map(ToString::to_string),
        reason: dossier.decision.reason(),
        detail,
        confidence: prediction.map(|prediction| prediction.confidence),
        model: prediction.map(|prediction| prediction.model.clone()),
        to: (fate != Fate::Left).then_some(to),
        ms: 0.0,
        took: Took::before_filing(dossier),
    }
}
