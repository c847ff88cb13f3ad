//! Entries among which the unknown files are looked for, found by their file or by their bytes: people rename folders of a
//! hundred thousand files.

use std::collections::{HashMap, HashSet};

use crate::domain::Fingerprint;
use crate::filing::record::Digest;
use crate::index::entry::Entry;

/// Files on record, each of which can be taken once.
#[derive(Default)]
pub(super) struct Suspects {
    /// `None`: taken.
    entries: Vec<Option<Entry>>,
    by_file: HashMap<Fingerprint, Vec<usize>>,
    by_bytes: HashMap<Digest, Vec<usize>>,
    /// `None`: of one of them it is not known.
    sizes: HashSet<Option<u64>>,
}

impl Suspects {
    pub(super) fn insert(&mut self, entry: Entry) {
        let number = self.entries.len();
        if let Some(fingerprint) = entry.fingerprint {
            self.by_file.entry(fingerprint).or_default().push(number);
        }
        let same_bytes = self.by_bytes.entry(entry.digest.clone()).or_default();
        same_bytes.push(number);
        self.sizes.insert(entry.size());
        self.entries.push(Some(entry));
    }

    /// Whether a file of this size, in bytes, may be one of them.
    pub(super) fn may_have(&self, size: u64) -> bool {
        self.sizes.contains(&Some(size)) || self.sizes.contains(&None)
    }

    /// Takes the one whose file it is, unchanged.
    pub(super) fn take_file(&mut self, fingerprint: &Fingerprint) -> Option<Entry> {
        let numbers = self.by_file.get(fingerprint)?;
        let mut left = numbers.iter().filter_map(|n| self.entries[*n].take());
        left.next()
    }

    /// Those with these bytes that are left.
    pub(super) fn with_bytes(&self, digest: &Digest) -> impl Iterator<Item = &Entry> {
        let numbers = self.by_bytes.get(digest);
        numbers
            .into_iter()
            .flatten()
            .filter_map(|n| self.entries[*n].as_ref())
    }

    /// Takes the first with these bytes that is such a one.
    pub(super) fn take_bytes(
        &mut self,
        digest: &Digest,
        such: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        let numbers = self.by_bytes.get(digest)?;
        let mut slots = numbers.iter();
        let found = slots.find(|n| self.entries[**n].as_ref().is_some_and(&such))?;
        self.entries[*found].take()
    }

    /// Those that were not taken.
    pub(super) fn left(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter().flatten()
    }
}
