//! What the filer comes upon that nobody may overlook: filed files that are gone, or no longer what was filed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::record::RecordId;

/// Counted since the service started; shared between the filer's thread, the shares' threads and whoever asks.
#[derive(Debug, Default)]
pub struct Alarms {
    missing: AtomicU64,
    altered: Mutex<BTreeSet<RecordId>>,
}

impl Alarms {
    /// Files on record that were looked for and not found.
    pub fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }

    /// Filed files whose bytes are no longer those that were filed, each once.
    pub fn altered(&self) -> u64 {
        let altered = self.altered.lock().unwrap_or_else(PoisonError::into_inner);
        altered.len() as u64
    }

    pub(super) fn note_missing(&self) {
        self.missing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_altered(&self, id: RecordId) {
        let mut altered = self.altered.lock().unwrap_or_else(PoisonError::into_inner);
        altered.insert(id);
    }
}
