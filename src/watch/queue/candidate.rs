//! One file on its way to being taken: what it waits for, how it is counted, and what is told about it.

use std::time::Duration;

use crate::domain::settle::{Hint, Moment, Settling, Sight};
use crate::domain::{Fingerprint, RelPath};

/// What a file waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A time, or a hint.
    Waiting(Moment),
    /// Being looked at, as soon as someone has time.
    Due { structure: bool },
    /// Someone is looking.
    Looking,
    /// Settled; ready to be taken, or taken. `disturbed`: something happened to it since.
    Offered {
        fingerprint: Fingerprint,
        disturbed: bool,
    },
    /// It could not be taken; until a time, or until something happens to it.
    Held { until: Moment, reason: String },
    /// One-shot: it did not settle in time.
    GivenUp,
}

/// How files are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Settling,
    Short,
    Open,
    Offered,
    Held,
    GivenUp,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: RelPath,
    pub(super) first: Moment,
    pub(super) seen_us: i64,
    pub(super) since_us: i64,
    pub(super) machine: Settling,
    pub(super) phase: Phase,
    pub(super) generation: u64,
    /// A scan found it that should have found nothing new, and no event has come since.
    pub(super) unannounced: bool,
    /// Why it could not be taken when it was offered last.
    pub(super) refused: Option<String>,
}

impl Candidate {
    pub(super) fn class(&self) -> Class {
        match self.phase {
            Phase::Offered { .. } => Class::Offered,
            Phase::Held { .. } => Class::Held,
            Phase::GivenUp => Class::GivenUp,
            _ if self.machine.is_open() => Class::Open,
            _ if self.machine.is_short() => Class::Short,
            _ => Class::Settling,
        }
    }
}

/// How many files are at what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// On their way to being settled, beside the next two.
    pub settling: usize,
    /// Shorter than their structure says.
    pub short: usize,
    /// Open for writing.
    pub open: usize,
    /// Settled: ready or taken, not finished with.
    pub offered: usize,
    /// Cannot be taken for now.
    pub held: usize,
    /// One-shot: did not settle in time.
    pub given_up: usize,
}

impl Counts {
    pub(super) fn of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Settling => &mut self.settling,
            Class::Short => &mut self.short,
            Class::Open => &mut self.open,
            Class::Offered => &mut self.offered,
            Class::Held => &mut self.held,
            Class::GivenUp => &mut self.given_up,
        }
    }

    /// Those that will still be offered, or be finished with.
    pub fn under_way(&self) -> usize {
        self.settling + self.short + self.open + self.offered
    }
}

/// A settled file, ready to be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Files are offered in this order.
    pub id: u64,
    /// Where.
    pub path: RelPath,
    /// In which state.
    pub fingerprint: Fingerprint,
    /// When it was first seen, microseconds since the Unix epoch.
    pub seen_us: i64,
    /// It is short and has been for longer than the limit.
    pub truncated: bool,
    /// Why it could not be taken when it was offered last.
    pub refused: Option<String>,
}

/// What the caller must do about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Nothing.
    None,
    /// Offer it.
    Offer(Ready),
    /// It was offered and has changed: take it back ([`taken_back`](super::Queue::taken_back)), or if it is taken already, tell
    /// [`disturbed`](super::Queue::disturbed).
    TakeBack(u64),
}

/// How it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An event, with what it says about the content.
    Event(Option<Hint>),
    /// A scan. `expected`: finding new files is no surprise (the first scan, one after lost events, a new directory).
    Scan {
        /// See above.
        expected: bool,
    },
    /// Its time was up.
    Timer,
}

/// Something that was seen: a path and what is there.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The path.
    pub path: RelPath,
    /// What `stat` says.
    pub sight: Sight,
    /// How it became known.
    pub origin: Origin,
    /// How long it is certain to have been at rest.
    pub rested: Duration,
    /// The wall clock, microseconds since the Unix epoch.
    pub now_us: i64,
}
