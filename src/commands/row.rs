//! One file as the commands print it: the same fields in JSON and CSV, with an absolute path and RFC 3339 times.

use std::path::PathBuf;

use serde::Serialize;

use super::{access, when};
use crate::domain::placement::RootId;
use crate::index::entry::Entry;

/// One file. The fields and their order are what scripts rely on: add at the end, never change.
#[derive(Debug, Serialize)]
pub struct Row {
    /// When its fate was sealed, RFC 3339, UTC.
    pub time: String,
    /// filed, review, other, quarantined, duplicate, conflict, left.
    pub fate: String,
    /// Category id.
    pub category: Option<String>,
    /// frontal, lateral.
    pub view: Option<String>,
    /// Joint confidence, 0 to 1.
    pub confidence: Option<f32>,
    /// Reason code.
    pub reason: Option<String>,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// Where it is, absolute; unless `placed`, where it would have gone or stays.
    pub path: String,
    /// Whether radsort put it there.
    pub placed: bool,
    /// live, missing, released, undone.
    pub state: String,
    /// SOP Instance UID.
    pub sop_instance_uid: Option<String>,
    /// Study Instance UID.
    pub study_instance_uid: Option<String>,
    /// Series Instance UID.
    pub series_instance_uid: Option<String>,
    /// The patient's pseudonym.
    pub patient: Option<String>,
    /// Bundle name and version.
    pub model: Option<String>,
    /// Execution provider.
    pub provider: Option<String>,
    /// The watch that it came through.
    pub source: Option<String>,
    /// observe, copy, move.
    pub action: Option<String>,
    /// Its path below the watch.
    pub from: Option<String>,
    /// Where a person's label comes from.
    pub labelled: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// BLAKE3.
    pub digest: String,
    /// The ledger's record id.
    pub record: String,
    /// What a label says that waits to be accepted.
    pub pending: Option<String>,
}

impl Row {
    /// Makes a row of an entry.
    pub fn new(entry: &Entry, roots: &[(RootId, PathBuf)]) -> Self {
        fn text<T: ToString>(value: Option<&T>) -> Option<String> {
            value.map(ToString::to_string)
        }
        Self {
            time: when::rfc3339(entry.filed_us),
            fate: entry.fate.to_string(),
            category: text(entry.category.as_ref()),
            view: text(entry.view.as_ref()),
            confidence: entry.confidence,
            reason: text(entry.reason.as_ref()),
            detail: entry.detail.clone(),
            path: access::absolute(roots, &entry.at),
            placed: entry.placed,
            state: word(&entry.state),
            sop_instance_uid: text(entry.sop_instance_uid.as_ref()),
            study_instance_uid: text(entry.study_instance_uid.as_ref()),
            series_instance_uid: text(entry.series_instance_uid.as_ref()),
            patient: entry.patient.as_ref().map(|patient| patient.0.clone()),
            model: entry.model.clone(),
            provider: entry.provider.clone(),
            source: entry.watch.clone(),
            action: entry.action.as_ref().map(word),
            from: text(entry.from.as_ref()),
            labelled: text(entry.label.as_ref().map(|given| &given.label.origin)),
            size: entry.size(),
            digest: entry.digest.0.clone(),
            record: entry.id.to_string(),
            pending: text(entry.pending.as_ref().map(|given| &given.label.category)),
        }
    }
}

impl Row {
    /// For a spreadsheet, which takes some texts for formulas: a file's name is whatever its sender wants.
    #[must_use]
    pub fn for_spreadsheet(mut self) -> Self {
        self.path = no_formula(self.path);
        for text in [&mut self.detail, &mut self.from, &mut self.source] {
            *text = text.take().map(no_formula);
        }
        self
    }
}

/// A text that no spreadsheet computes; the apostrophe says so to those that would.
pub fn no_formula(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    }
}

/// The one word that a unit variant is written as.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
