//! The files of one drop directory that are known and not yet done with: who waits for what, in the order in which they
//! were first seen. No input or output; the I/O thread asks the filesystem and tells.
//!
//! Promises: a file that was given out is not given out again before it is finished with; one that changes meanwhile is
//! looked at again afterwards; forgetting a file happens only when it is known to be gone.

mod candidate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::Verdict;
use super::look::Outcome;
use super::vanished::Vanished;
use crate::domain::RelPath;
use crate::domain::settle::{Hint, Look, Moment, Rules, Settling, Sight, Step};
use candidate::{Candidate, Class, Phase};
pub use candidate::{Counts, Errand, Origin, Ready, Seen};

/// How often a file is looked at again that failed, or may not be read.
const RETRY: Duration = Duration::from_mins(1);
/// The same of one that another program holds a lease on; a file server gives its own back within seconds.
const RETRY_LEASED: Duration = Duration::from_secs(5);

/// A file that seems to have waited for longer counts from when it was first seen: a clock was wrong, or it lay there before
/// there was a radsort to wait for.
const LONGEST_WAIT_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// The files.
#[derive(Debug)]
pub struct Queue {
    rules: Rules,
    once: bool,
    last_id: u64,
    files: BTreeMap<u64, Candidate>,
    ids: BTreeMap<RelPath, u64>,
    timers: BTreeSet<(Moment, u64)>,
    due: BTreeSet<u64>,
    /// Since when each waits.
    since: BTreeSet<(i64, u64)>,
    /// Files that stay where they are, in the state in which they were finished with.
    left: HashMap<RelPath, (Sight, u64)>,
    /// Whether the time of last status change tells such files apart as well.
    exact: bool,
    generation: u64,
    counts: Counts,
    missed: u64,
    vanished: Vanished,
}

impl Queue {
    /// An empty one. `once`: files that do not settle within their settle time are given up.
    pub fn new(rules: Rules, once: bool) -> Self {
        Self {
            rules,
            once,
            last_id: 0,
            files: BTreeMap::new(),
            ids: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: BTreeSet::new(),
            since: BTreeSet::new(),
            left: HashMap::new(),
            exact: false,
            generation: 0,
            counts: Counts::default(),
            missed: 0,
            vanished: Vanished::default(),
        }
    }

    /// How many files are at what.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many files stay where they are.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Since when the oldest file waits, microseconds since the Unix epoch: since it came, also when that was before this
    /// process, where the disk tells; else since it was first seen.
    pub fn oldest_us(&self) -> Option<i64> {
        self.since.first().map(|(since_us, _)| *since_us)
    }

    /// The time of last status change is when a file was put there, or changed for the last time. Elsewhere than on local
    /// disks it can be any time.
    fn waits_since(&self, seen: &Seen) -> i64 {
        let came_us = seen.sight.ctime_ns / 1000;
        let is_likely = (seen.now_us - LONGEST_WAIT_US..seen.now_us).contains(&came_us);
        if self.exact && is_likely {
            came_us
        } else {
            seen.now_us
        }
    }

    /// Why files are held, with how many; the first thousand are counted.
    pub fn held(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        if self.counts.held > 0 {
            for file in self.files.values().take(1000) {
                if let Phase::Held { reason, .. } = &file.phase {
                    *reasons.entry(reason.clone()).or_default() += 1;
                }
            }
        }
        reasons
    }

    /// How many files no event announced, since the last call.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// How many files went away before they were taken, since the last call.
    pub fn take_vanished(&mut self, now: Moment) -> u64 {
        let files = self.files.values();
        let known = files.map(|file| file.machine.sight().fingerprint);
        self.vanished.take(now, known)
    }

    /// When the next file's time is up.
    pub fn next_timer(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(moment, _)| *moment);
        timer.into_iter().chain(self.vanished.next()).min()
    }

    /// Files whose time is up, at most `limit`; each must be seen or be gone next.
    pub fn expired(&mut self, now: Moment, limit: usize) -> Vec<RelPath> {
        let mut paths = Vec::new();
        while paths.len() < limit
            && self
                .timers
                .first()
                .is_some_and(|(moment, _)| *moment <= now)
        {
            let Some((_, id)) = self.timers.pop_first() else {
                break;
            };
            paths.extend(self.files.get(&id).map(|file| file.path.clone()));
        }
        paths
    }

    /// The next file to look at, oldest first; it counts as being looked at from now on.
    pub fn next_look(&mut self) -> Option<(u64, RelPath, bool)> {
        let id = *self.due.first()?;
        let file = self.files.get(&id)?;
        let structure = matches!(file.phase, Phase::Due { structure: true });
        let path = file.path.clone();
        if std::mem::take(&mut self.files.get_mut(&id)?.unannounced) {
            self.missed += 1;
        }
        self.set(id, Phase::Looking);
        Some((id, path, structure))
    }

    /// Gives a file back that nobody had time to look at.
    pub fn not_looked(&mut self, id: u64, structure: bool) {
        self.set(id, Phase::Due { structure });
    }

    /// Files that stay where they are will be asked about again: some of them may be taken now.
    pub fn forget_left(&mut self) {
        self.left.clear();
    }

    /// Whether the time of last status change counts for files that stay: a writer can set the time of modification back.
    /// Only local disks are believed: elsewhere mere reading may change it, and files would be read for ever.
    pub fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// A file is there. `consumed` is asked about files that are new.
    pub fn seen(
        &mut self,
        now: Moment,
        seen: Seen,
        consumed: impl FnOnce(&Sight) -> bool,
    ) -> Errand {
        if let Some((left, generation)) = self.left.get_mut(&seen.path) {
            *generation = self.generation;
            let status_too = !self.exact || left.ctime_ns == seen.sight.ctime_ns;
            if left.fingerprint == seen.sight.fingerprint && status_too {
                return Errand::None;
            }
            self.left.remove(&seen.path);
        }
        match self.ids.get(&seen.path) {
            Some(id) => self.seen_again(now, *id, &seen),
            None if consumed(&seen.sight) => {
                self.left.insert(seen.path, (seen.sight, self.generation));
                Errand::None
            }
            None => self.seen_first(now, seen),
        }
    }

    fn seen_first(&mut self, now: Moment, seen: Seen) -> Errand {
        self.last_id += 1;
        let id = self.last_id;
        self.vanished.found(&seen.sight.fingerprint);
        let machine = Settling::new(now, seen.sight, seen.rested);
        let since_us = self.waits_since(&seen);
        self.since.insert((since_us, id));
        self.ids.insert(seen.path.clone(), id);
        let file = Candidate {
            path: seen.path,
            first: now,
            seen_us: seen.now_us,
            since_us,
            machine,
            phase: Phase::Looking,
            generation: self.generation,
            unannounced: seen.origin == Origin::Scan { expected: false },
            refused: None,
        };
        *self.counts.of(file.class()) += 1;
        self.files.insert(id, file);
        self.settle(now, id, seen.sight, hint_of(seen.origin))
    }

    fn seen_again(&mut self, now: Moment, id: u64, seen: &Seen) -> Errand {
        let generation = self.generation;
        let Some(file) = self.files.get_mut(&id) else {
            return Errand::None;
        };
        file.generation = generation;
        let hint = hint_of(seen.origin);
        let is_event = matches!(seen.origin, Origin::Event(_));
        file.unannounced &= !is_event;
        let changed = file.machine.sight() != seen.sight;
        match &file.phase {
            Phase::Looking => {
                // Not to be decided on under the looker's eyes; it finds out.
                match hint {
                    Some(hint) => file.machine.hint(now, hint),
                    None if changed => file.machine.hint(now, Hint::Written),
                    None => {}
                }
                Errand::None
            }
            Phase::Offered { fingerprint, .. } => {
                let same = *fingerprint == seen.sight.fingerprint && hint != Some(Hint::Written);
                if same {
                    Errand::None
                } else {
                    Errand::TakeBack(id)
                }
            }
            Phase::Held { until, .. } => {
                if is_event || changed || now >= *until {
                    // Somebody has done something about it: what is wrong now is news.
                    if is_event || changed {
                        file.refused = None;
                    }
                    file.machine = Settling::new(now, seen.sight, Duration::ZERO);
                    self.settle(now, id, seen.sight, hint)
                } else {
                    Errand::None
                }
            }
            Phase::GivenUp => Errand::None,
            Phase::Waiting(_) | Phase::Due { .. } => self.settle(now, id, seen.sight, hint),
        }
    }

    /// Feeds the machine and does what it says.
    fn settle(&mut self, now: Moment, id: u64, sight: Sight, hint: Option<Hint>) -> Errand {
        let rules = self.rules;
        let step = self.change(id, |file| {
            if let Some(hint) = hint {
                file.machine.hint(now, hint);
            }
            file.machine.seen(now, sight, &rules)
        });
        self.follow(now, id, step)
    }

    /// What a look found.
    pub fn looked(&mut self, now: Moment, id: u64, outcome: Outcome) -> Errand {
        if self
            .files
            .get(&id)
            .is_none_or(|file| file.phase != Phase::Looking)
        {
            return Errand::None;
        }
        match outcome {
            Outcome::Looked(look) => self.judge(now, id, &look),
            Outcome::Gone => {
                // Only a `stat` tells: an event may have brought a new file to the same name.
                self.set(id, Phase::Waiting(now));
                Errand::None
            }
            Outcome::Denied => self.hold(now, id, "radsort may not read it".to_owned(), RETRY),
            Outcome::Leased => {
                let why = "another program holds it (a lease)".to_owned();
                self.hold(now, id, why, RETRY_LEASED)
            }
            Outcome::Failed(error) => {
                self.hold(now, id, format!("it cannot be looked at: {error}"), RETRY)
            }
        }
    }

    fn judge(&mut self, now: Moment, id: u64, look: &Look) -> Errand {
        let rules = self.rules;
        let step = self.change(id, |file| file.machine.looked(now, look, &rules));
        self.follow(now, id, step)
    }

    fn follow(&mut self, now: Moment, id: u64, step: Option<Step>) -> Errand {
        let Some(file) = self.files.get(&id) else {
            return Errand::None;
        };
        match step {
            None => Errand::None,
            Some(Step::Wait(until)) => {
                let limit = file.first + self.rules.settle(file.machine.is_visible());
                if self.once && now >= limit {
                    self.set(id, Phase::GivenUp);
                } else {
                    let until = if self.once { until.min(limit) } else { until };
                    self.set(id, Phase::Waiting(until));
                }
                Errand::None
            }
            Some(Step::Look { structure }) => {
                self.set(id, Phase::Due { structure });
                Errand::None
            }
            Some(Step::Settled { truncated }) => {
                let fingerprint = file.machine.sight().fingerprint;
                let ready = Ready {
                    id,
                    path: file.path.clone(),
                    fingerprint,
                    seen_us: file.seen_us,
                    truncated,
                    refused: file.refused.clone(),
                };
                self.set(
                    id,
                    Phase::Offered {
                        fingerprint,
                        disturbed: false,
                    },
                );
                Errand::Offer(ready)
            }
        }
    }

    fn hold(&mut self, now: Moment, id: u64, reason: String, retry_after: Duration) -> Errand {
        self.change(id, |file| file.refused = Some(reason.clone()));
        self.set(
            id,
            Phase::Held {
                until: now + retry_after,
                reason,
            },
        );
        Errand::None
    }

    /// Nothing can be learned about a waiting file now: it is asked about again later.
    pub fn postpone(&mut self, until: Moment, path: &RelPath) {
        let Some(id) = self.ids.get(path).copied() else {
            return;
        };
        let waits = |file: &Candidate| matches!(file.phase, Phase::Waiting(_) | Phase::Held { .. });
        if self.files.get(&id).is_some_and(waits) {
            self.set(id, Phase::Waiting(until));
        }
    }

    /// There is no such file any more.
    pub fn gone(&mut self, now: Moment, path: &RelPath) -> Errand {
        self.left.remove(path);
        let Some(id) = self.ids.get(path).copied() else {
            return Errand::None;
        };
        match self.files.get(&id) {
            Some(file) if matches!(file.phase, Phase::Offered { .. }) => Errand::TakeBack(id),
            _ => {
                self.vanishes(now, id);
                Errand::None
            }
        }
    }

    /// An offered file was taken back before anyone took it: it must be seen or be gone next.
    pub fn taken_back(&mut self, now: Moment, id: u64) {
        self.restart(now, id);
    }

    /// An offered file that is taken already has changed.
    pub fn disturbed(&mut self, id: u64) {
        let changed = self.change(id, |file| {
            if let Phase::Offered { disturbed, .. } = &mut file.phase {
                *disturbed = true;
            }
        });
        debug_assert!(changed.is_some());
    }

    /// A taken file is finished with. True when something else happened to that name meanwhile: ask what is there now.
    #[must_use]
    pub fn finished(&mut self, now: Moment, path: &RelPath, verdict: Verdict) -> bool {
        let Some(id) = self.ids.get(path).copied() else {
            return false;
        };
        let Some(Phase::Offered { disturbed, .. }) =
            self.files.get(&id).map(|file| file.phase.clone())
        else {
            return false;
        };
        match verdict {
            Verdict::Gone => self.forget(id),
            Verdict::Vanished => self.vanishes(now, id),
            Verdict::Stays(fingerprint) => {
                // As it was when it settled: if anything was changed since, it is asked about once more.
                let ctime_ns = self
                    .files
                    .get(&id)
                    .map_or(0, |file| file.machine.sight().ctime_ns);
                let sight = Sight {
                    fingerprint,
                    ctime_ns,
                };
                self.forget(id);
                self.left.insert(path.clone(), (sight, self.generation));
            }
            Verdict::Hold {
                reason,
                retry_after,
            } if !disturbed => {
                self.hold(now, id, reason, retry_after);
            }
            Verdict::Again | Verdict::Hold { .. } => self.restart(now, id),
        }
        disturbed
    }

    /// From the beginning: it must be quiet for its settle time again.
    fn restart(&mut self, now: Moment, id: u64) {
        self.change(id, |file| {
            file.machine = Settling::new(now, file.machine.sight(), Duration::ZERO);
            file.first = now;
        });
        self.set(id, Phase::Waiting(now));
    }

    /// A full scan begins.
    pub fn begin_scan(&mut self) {
        self.generation += 1;
    }

    /// A full scan ended: files that it did not come upon, to be asked about one by one. What stayed where it was and was
    /// not seen again is forgotten, unless `partly`: some directories could not be read.
    pub fn end_scan(&mut self, partly: bool) -> Vec<RelPath> {
        let generation = self.generation;
        if !partly {
            self.left.retain(|_, (_, seen)| *seen == generation);
        }
        let unseen = |file: &&Candidate| {
            file.generation != generation
                && !matches!(file.phase, Phase::Offered { .. } | Phase::Looking)
        };
        self.files
            .values()
            .filter(unseen)
            .map(|file| file.path.clone())
            .collect()
    }

    /// Files below a directory, to be asked about one by one.
    pub fn below(&self, directory: &RelPath) -> Vec<RelPath> {
        let prefix = [directory.as_bytes(), b"/"].concat();
        // Between "a" and "a/" sort names such as "a-b": they are passed over.
        let from = self.ids.range(directory.clone()..).map(|(path, _)| path);
        from.take_while(|path| {
            path.as_bytes() < prefix.as_slice() || path.as_bytes().starts_with(&prefix)
        })
        .filter(|path| path.as_bytes().starts_with(&prefix))
        .cloned()
        .collect()
    }

    fn vanishes(&mut self, now: Moment, id: u64) {
        if let Some(file) = self.files.get(&id) {
            self.vanished.gone(now, &file.machine.sight().fingerprint);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u64) {
        self.set(id, Phase::GivenUp);
        if let Some(file) = self.files.remove(&id) {
            *self.counts.of(Class::GivenUp) -= 1;
            self.since.remove(&(file.since_us, id));
            self.ids.remove(&file.path);
        }
    }

    fn set(&mut self, id: u64, phase: Phase) {
        self.unschedule(id);
        self.change(id, |file| file.phase = phase);
        match self.files.get(&id).map(|file| &file.phase) {
            Some(Phase::Waiting(until) | Phase::Held { until, .. }) => {
                self.timers.insert((*until, id));
            }
            Some(Phase::Due { .. }) => {
                self.due.insert(id);
            }
            _ => {}
        }
    }

    fn unschedule(&mut self, id: u64) {
        match self.files.get(&id).map(|file| &file.phase) {
            Some(Phase::Waiting(until) | Phase::Held { until, .. }) => {
                self.timers.remove(&(*until, id));
            }
            Some(Phase::Due { .. }) => {
                self.due.remove(&id);
            }
            _ => {}
        }
    }

    /// Changes a file and keeps the counts right.
    fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Candidate) -> T) -> Option<T> {
        let file = self.files.get_mut(&id)?;
        *self.counts.of(file.class()) -= 1;
        let result = change(file);
        *self.counts.of(file.class()) += 1;
        Some(result)
    }
}

fn hint_of(origin: Origin) -> Option<Hint> {
    match origin {
        Origin::Event(hint) => hint,
        Origin::Scan { .. } | Origin::Timer => None,
    }
}
