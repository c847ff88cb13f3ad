//! What the index keeps of one file: the [`Entry`] that queries return, and the [`Story`] that `show` tells.
//!
//! Both are folded from the ledger and nothing else, so that a rebuilt index is the same as a grown one. Values are
//! stored with a first byte that names their encoding; an encoding that this version does not know means: rebuild.

use std::io::{Read, Write};

use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::settings::Action;
use crate::domain::placement::{OTHER_FOLDER, RootId};
use crate::domain::{
    CategoryId, Dossier, Fingerprint, Instance, Placement, Pseudonym, Reason, RelPath, Shown, Uid,
    View,
};
use crate::filing::record::{Digest, Fate, Intent, Label, Record, RecordId};

/// Whether the file is where the entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As far as the ledger knows.
    Live,
    /// It was looked for and not found.
    Missing,
    /// It went from the quarantine back to where it came from.
    Released,
    /// It went from the library back to where it came from.
    Undone,
    /// It was given back, one way or the other, and may be taken again.
    LetGo,
}

impl State {
    /// Whether it was given back and is not taken again until it changes.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Released | Self::Undone)
    }
}

/// A label and when it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
    /// The label.
    #[serde(flatten)]
    pub label: Label,
}

/// One file, in short: everything that queries look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The ledger's id of the intent (or adoption) that it began with.
    pub id: RecordId,
    /// Whether the file is where this entry says.
    pub state: State,
    /// What became of it; follows a person's moves.
    pub fate: Fate,
    /// Whether radsort put it there (or adopted it); `false` for what was only recorded: observed, left.
    pub placed: bool,
    /// SOP Instance UID, when it has a valid one.
    pub sop_instance_uid: Option<Uid>,
    /// Study Instance UID, when it has a valid one.
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID, when it has a valid one.
    pub series_instance_uid: Option<Uid>,
    /// The patient's pseudonym.
    pub patient: Option<Pseudonym>,
    /// What it is: a person's label if there is one, else the model's likeliest category.
    pub category: Option<CategoryId>,
    /// The model's likeliest category, whatever people say.
    #[serde(default)]
    pub predicted: Option<CategoryId>,
    /// What a person says, if one has said anything that counts.
    #[serde(default)]
    pub label: Option<Given>,
    /// A label that waits to be accepted.
    #[serde(default)]
    pub pending: Option<Given>,
    /// The view that header and pixels settled on.
    pub view: Option<View>,
    /// Joint confidence of view and category, 0 to 1.
    pub confidence: Option<f32>,
    /// Why it was not filed.
    pub reason: Option<Reason>,
    /// What exactly was wrong, for people.
    pub detail: Option<String>,
    /// Bundle name and version.
    pub model: Option<String>,
    /// The execution provider that ran.
    pub provider: Option<String>,
    /// The watch that it came through; `None` for an adopted file.
    pub watch: Option<String>,
    /// What the watch does with its files; `None` for an adopted file.
    pub action: Option<Action>,
    /// Where it is; unless `placed`, where it would have gone or stays.
    pub at: Placement,
    /// Its path below the watch.
    pub from: Option<RelPath>,
    /// Its bytes.
    pub digest: Digest,
    /// The source as it was seen.
    pub fingerprint: Option<Fingerprint>,
    /// When its fate was sealed, microseconds since the Unix epoch.
    pub filed_us: i64,
}

impl Entry {
    /// What an intent becomes once it is carried out (`placed`) or recorded.
    pub(crate) fn new(intent: &Intent, to: Option<&Placement>, placed: bool, time_us: i64) -> Self {
        let instance = intent.dossier.instance.as_ref();
        let prediction = intent.dossier.prediction.as_ref();
        let decided = intent.dossier.decision.category();
        Self {
            id: intent.id.clone(),
            state: State::Live,
            fate: intent.fate,
            placed,
            sop_instance_uid: instance.map(|instance| instance.sop_instance_uid.clone()),
            study_instance_uid: instance.and_then(|instance| instance.study_instance_uid.clone()),
            series_instance_uid: instance.and_then(|instance| instance.series_instance_uid.clone()),
            patient: instance.and_then(|instance| instance.patient.clone()),
            category: decided
                .or_else(|| prediction.and_then(|said| said.category()))
                .cloned(),
            predicted: prediction.and_then(|said| said.category()).cloned(),
            label: None,
            pending: None,
            view: prediction.and_then(|said| said.view),
            confidence: prediction
                .map(|said| said.confidence)
                .filter(|value| value.is_finite()),
            reason: intent.reason,
            detail: intent.detail.clone(),
            model: prediction.map(|said| said.model.clone()),
            provider: prediction.map(|said| said.provider.clone()),
            watch: Some(intent.watch.clone()),
            action: Some(intent.action),
            at: to.unwrap_or(&intent.to).clone(),
            from: Some(intent.from.clone()),
            digest: intent.digest.clone(),
            fingerprint: Some(intent.fingerprint),
            filed_us: time_us,
        }
    }

    /// A file in the library that radsort did not put there.
    pub(crate) fn adopted(id: &RecordId, at: &Placement, digest: &Digest, time_us: i64) -> Self {
        Self {
            id: id.clone(),
            state: State::Live,
            fate: fate_of(at),
            placed: true,
            sop_instance_uid: None,
            study_instance_uid: None,
            series_instance_uid: None,
            patient: None,
            category: None,
            predicted: None,
            label: None,
            pending: None,
            view: None,
            confidence: None,
            reason: None,
            detail: None,
            model: None,
            provider: None,
            watch: None,
            action: None,
            at: at.clone(),
            from: None,
            digest: digest.clone(),
            fingerprint: None,
            filed_us: time_us,
        }
    }

    /// The same with what a header says.
    pub(super) fn with_instance(self, instance: Option<&Instance>) -> Self {
        let Some(instance) = instance else {
            return self;
        };
        Self {
            sop_instance_uid: Some(instance.sop_instance_uid.clone()),
            study_instance_uid: instance.study_instance_uid.clone(),
            series_instance_uid: instance.series_instance_uid.clone(),
            patient: instance.patient.clone(),
            ..self
        }
    }

    /// A person says what it is, or seems to.
    pub(super) fn labelled(&mut self, time_us: i64, label: &Label) {
        let given = Given {
            time_us,
            label: label.clone(),
        };
        if label.pending.is_some() {
            self.pending = Some(given);
        } else {
            // Who judges a file has also judged what was waiting.
            self.pending = None;
            self.category = Some(label.category.clone());
            self.label = Some(given);
        }
    }

    /// What was waiting counts from now on, or is forgotten.
    pub(super) fn judged(&mut self, time_us: i64, accepted: bool, by: Option<u32>) {
        if let Some(mut given) = self.pending.take().filter(|_| accepted) {
            given.label.pending = None;
            given.label.by = given.label.by.or(by);
            given.time_us = time_us;
            self.category = Some(given.label.category.clone());
            self.label = Some(given);
        }
    }

    /// What a person sees who judges it: what the model said.
    pub fn shown(&self) -> Shown {
        Shown {
            category: self.predicted.clone(),
            model: self.model.clone(),
        }
    }

    /// The file is at another place now, by a person's hand: its fate follows the folder.
    pub(super) fn move_to(&mut self, to: &Placement) {
        self.at = to.clone();
        self.placed = true;
        self.state = State::Live;
        self.fate = match (self.fate, fate_of(to)) {
            // Within its folder, a conflict stays a conflict.
            (Fate::Conflict, Fate::Review) => Fate::Conflict,
            (_, fate) => fate,
        };
        if self.fate == Fate::Filed {
            self.reason = None;
        }
    }

    /// Whether its fate is the one that it would have had: its drop directory is only observed.
    pub fn only_observed(&self) -> bool {
        !self.placed && self.action == Some(Action::Observe) && self.fate != Fate::Left
    }

    /// Size in bytes, when it is known.
    pub fn size(&self) -> Option<u64> {
        self.fingerprint.map(|seen| seen.size)
    }

    /// Whether it is what `find_uid` looks for: a copy in the library that makes another one a duplicate.
    pub(super) fn stands_for_its_uid(&self) -> bool {
        self.placed
            && self.state == State::Live
            && matches!(self.fate, Fate::Filed | Fate::Review | Fate::Other)
    }
}

/// The fate that a place in the library and beside it stands for.
fn fate_of(at: &Placement) -> Fate {
    match &at.root {
        RootId::Quarantine => Fate::Quarantined,
        RootId::Duplicates => Fate::Duplicate,
        RootId::Watch(_) => Fate::Left,
        RootId::Library => match at.path.components().next() {
            Some(b"_review") => Fate::Review,
            Some(first) if first == OTHER_FOLDER.as_bytes() => Fate::Other,
            _ => Fate::Filed,
        },
    }
}

/// One line of a file's story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When it was written down, microseconds since the Unix epoch.
    pub time_us: i64,
    /// What the ledger says.
    pub record: Record,
}

/// Everything that the ledger says about one file, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// As it stands now.
    pub entry: Entry,
    /// How it came to that.
    pub history: Vec<Told>,
}

impl Story {
    /// What was learned and decided about it; `None` for an adopted file.
    pub fn dossier(&self) -> Option<&Dossier> {
        self.history.iter().find_map(|told| match &told.record {
            Record::Intent(intent) | Record::Observed(intent) => Some(&intent.dossier),
            _ => None,
        })
    }
}

const JSON: u8 = 1;
const DEFLATED_JSON: u8 = 2;

/// Encodes a small value.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![JSON];
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

/// Encodes values that are large and seldom read: stories are most of the index.
///
/// One for many values: making its tables takes longer than packing a story.
pub(super) struct Packer(DeflateEncoder<Vec<u8>>);

impl Packer {
    pub(super) fn new() -> Self {
        let packed = vec![DEFLATED_JSON];
        Self(DeflateEncoder::new(packed, flate2::Compression::fast()))
    }

    /// Encodes one value, by itself: nothing of the values before it is in it.
    pub(super) fn encode<T: Serialize>(&mut self, value: &T) -> Result<Vec<u8>, serde_json::Error> {
        let json = serde_json::to_vec(value)?;
        let io = serde_json::Error::io;
        self.0.write_all(&json).map_err(io)?;
        self.0.reset(vec![DEFLATED_JSON]).map_err(io)
    }
}

/// Decodes what either of the two encoded.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match bytes.split_first() {
        Some((&JSON, json)) => serde_json::from_slice(json),
        Some((&DEFLATED_JSON, deflated)) => {
            let mut json = Vec::new();
            flate2::read::DeflateDecoder::new(deflated)
                .read_to_end(&mut json)
                .map_err(serde_json::Error::io)?;
            serde_json::from_slice(&json)
        }
        _ => Err(serde_json::Error::io(std::io::Error::other(
            "an encoding that this version does not know",
        ))),
    }
}
