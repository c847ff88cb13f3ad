//! What became of what was put in, counted: a zero in a table is a comparison that found nothing.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// How often each digest.
pub type Digests = BTreeMap<String, usize>;

/// Counts digests.
pub fn counted(digests: impl IntoIterator<Item = String>) -> Digests {
    let mut counts = Digests::new();
    for digest in digests {
        *counts.entry(digest).or_default() += 1;
    }
    counts
}

/// What should be somewhere, compared with what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many should be there.
    pub wanted: usize,
    /// Not there, or not often enough.
    pub lost: usize,
    /// There more often than wanted.
    pub doubled: usize,
    /// There, and not wanted at all: changed, half-written, or in the wrong place.
    pub strange: usize,
}

impl Compared {
    /// Compares, each digest as often as it is wanted.
    pub fn new(wanted: &Digests, found: &Digests) -> Self {
        let mut compared = Self::default();
        for (digest, wanted) in wanted {
            let found = found.get(digest).copied().unwrap_or(0);
            compared.wanted += wanted;
            compared.lost += wanted.saturating_sub(found);
            compared.doubled += found.saturating_sub(*wanted);
        }
        compared.strange = found
            .iter()
            .filter(|(digest, _)| !wanted.contains_key(*digest))
            .map(|(_, found)| found)
            .sum();
        compared
    }

    /// Whether all that is wanted is there, and nothing else.
    pub fn is_even(&self) -> bool {
        (self.lost, self.doubled, self.strange) == (0, 0, 0)
    }
}

impl AddAssign for Compared {
    fn add_assign(&mut self, other: Self) {
        self.wanted += other.wanted;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.strange += other.strange;
    }
}
