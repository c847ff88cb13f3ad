//! Sets of record ids that stay small however large the library is.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::filing::record::RecordId;

/// Many record ids, 8 bytes each: a library can hold millions. That another id is taken for one of a million has a chance of
/// 1 in 10^13, and costs that its file counts as in place this time, or as missing one look too early.
#[derive(Debug, Default)]
pub(super) struct Ids {
    digests: HashSet<u64>,
    key: RandomState,
}

impl Ids {
    pub(super) fn insert(&mut self, id: &RecordId) {
        self.digests.insert(self.key.hash_one(id));
    }

    pub(super) fn contains(&self, id: &RecordId) -> bool {
        self.digests.contains(&self.key.hash_one(id))
    }
}
