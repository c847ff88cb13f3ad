//! When a file may be read: a state machine fed with what the adapter sees, free of clocks and files.
//!
//! Promises: a file that its own structure calls short is never settled before the `truncated` limit; a file with a
//! writer that can be seen is never settled while it is open; a file whose writers cannot be seen is never settled
//! before it has been quiet for the settle time; and whatever is left alone settles in the end.
//!
//! Only a file that is complete by its own structure, was closed or renamed into place since the last write, has no
//! open writer and no holes skips the settle time. Durations are measured with a monotonic clock: modification times in
//! the future and clocks that jump make no difference.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// Monotonic time since a fixed start.
pub type Moment = Duration;

/// The settle time where open writers can be seen.
pub const SETTLE_VISIBLE: Duration = Duration::from_secs(5);
/// The settle time where they cannot.
pub const SETTLE_BLIND: Duration = Duration::from_mins(2);

/// Whether the file is all there, judged by its own structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completeness {
    /// The structure's last byte is the file's last, or only padding follows.
    Complete,
    /// The structure goes on so many bytes beyond the end of the file (at least 1).
    ShortBy(u64),
    /// The structure does not tell (deflated, no pixel data, not DICOM).
    Undetermined,
}

/// What the filesystem says about a file; any difference counts as a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Device, inode, size and modification time.
    pub fingerprint: Fingerprint,
    /// Time of last status change, nanoseconds since the Unix epoch.
    pub ctime_ns: i64,
}

/// What an event says. Events are hints: they may be missing, late or doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Somebody wrote, or made the file.
    Written,
    /// A writer closed it, or it was renamed into place.
    Closed,
}

/// What was found on opening the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Before anything else.
    pub before: Sight,
    /// After everything else.
    pub after: Sight,
    /// Whether anyone has it open for writing; `None` where that cannot be seen.
    pub writer: Option<bool>,
    /// Whether parts of it have never been written.
    pub holes: bool,
    /// What its structure says, if that was asked.
    pub completeness: Option<Completeness>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then (or until a hint): then `stat` it and call [`Settling::seen`].
    Wait(Moment),
    /// Open it, look for writers and holes (and, if asked, at its structure), and call [`Settling::looked`].
    Look {
        /// Whether its structure must be read; otherwise it is known.
        structure: bool,
    },
    /// It may be read.
    Settled {
        /// It is short, and has been for longer than the limit.
        truncated: bool,
    },
}

/// The time spans that a watch is configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The settle time; `None`: [`SETTLE_VISIBLE`] or [`SETTLE_BLIND`].
    pub settle: Option<Duration>,
    /// How long a short file may stay short.
    pub truncated: Duration,
}

impl Rules {
    /// The settle time, where open writers can be seen or where they cannot.
    pub fn settle(&self, visible: bool) -> Duration {
        self.settle.unwrap_or(if visible {
            SETTLE_VISIBLE
        } else {
            SETTLE_BLIND
        })
    }

    /// When to ask again whether a writer is still there, should its close not be noticed. Soon at first: Linux tells of a
    /// close a moment before the writer is gone.
    fn recheck(&self, asked: u32) -> Duration {
        let longest = self
            .settle(true)
            .clamp(Duration::from_secs(1), Duration::from_mins(1));
        Duration::from_millis(20 << asked.min(12)).min(longest)
    }
}

/// Whether the last write was followed by a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    NotSeen,
    /// An event said so; what the file looked like then is not known yet.
    Announced,
    /// The file has not changed since.
    Holds,
}

/// One file on its way to being settled.
#[derive(Clone, Debug)]
pub struct Settling {
    sight: Sight,
    changed: Moment,
    /// How long it had been at rest when it was first seen.
    rested: Duration,
    close: Close,
    completeness: Option<Completeness>,
    writer: Option<bool>,
    /// How many looks in a row found a writer.
    asked: u32,
    /// A hint came while someone was looking.
    disturbed: bool,
}

impl Settling {
    /// A file seen for the first time. `rested` is how long it is certain to have been at rest (zero when in doubt).
    pub fn new(now: Moment, sight: Sight, rested: Duration) -> Self {
        Self {
            sight,
            changed: now,
            rested,
            close: Close::NotSeen,
            completeness: None,
            writer: None,
            asked: 0,
            disturbed: false,
        }
    }

    /// What the file looked like last.
    pub fn sight(&self) -> Sight {
        self.sight
    }

    /// What the last look found: whether it is short.
    pub fn is_short(&self) -> bool {
        matches!(self.completeness, Some(Completeness::ShortBy(_)))
    }

    /// What the last look found: whether someone has it open for writing.
    pub fn is_open(&self) -> bool {
        self.writer == Some(true)
    }

    /// What the last look found: whether open writers can be seen at all.
    pub fn is_visible(&self) -> bool {
        self.writer.is_some()
    }

    /// Takes in an event.
    pub fn hint(&mut self, now: Moment, hint: Hint) {
        self.disturbed = true;
        self.asked = 0;
        match hint {
            Hint::Written => {
                self.touched(now);
                self.close = Close::NotSeen;
            }
            Hint::Closed => self.close = Close::Announced,
        }
    }

    /// Takes in a `stat` that was made after all hints given so far.
    pub fn seen(&mut self, now: Moment, sight: Sight, rules: &Rules) -> Step {
        if sight != self.sight {
            // Permissions and owners are often set after the close: that takes no proof away.
            let content = sight.fingerprint != self.sight.fingerprint;
            self.sight = sight;
            self.touched(now);
            if content && self.close == Close::Holds {
                self.close = Close::NotSeen;
            }
        }
        if self.close == Close::Announced {
            self.close = Close::Holds;
        }
        let step = self.next(now, rules);
        self.disturbed = false;
        step
    }

    /// Takes in what a look found. Only this can settle a file: what it says about writers is fresh.
    pub fn looked(&mut self, now: Moment, look: &Look, rules: &Rules) -> Step {
        if std::mem::take(&mut self.disturbed) {
            return Step::Wait(now);
        }
        if look.before != self.sight || look.after != self.sight {
            return self.seen(now, look.after, rules);
        }
        self.completeness = look.completeness.or(self.completeness);
        self.writer = look.writer;
        let quiet = self.quiet(now);
        let settle = rules.settle(look.writer.is_some());
        let Some(completeness) = self.completeness else {
            return Step::Look { structure: true };
        };
        if self.is_open() {
            self.asked += 1;
            return Step::Wait(now + rules.recheck(self.asked - 1));
        }
        let short = matches!(completeness, Completeness::ShortBy(_));
        let limit = if short { rules.truncated } else { settle };
        let proven = completeness == Completeness::Complete
            && self.close == Close::Holds
            && look.writer == Some(false)
            && !look.holes;
        if proven || quiet >= limit {
            Step::Settled { truncated: short }
        } else {
            wait(now, limit.saturating_sub(quiet))
        }
    }

    /// What a `stat` alone allows: to wait or to look.
    fn next(&self, now: Moment, rules: &Rules) -> Step {
        let limit = match self.completeness {
            None | Some(Completeness::Complete) if self.close == Close::Holds => Duration::ZERO,
            // Looking once early tells whether writers can be seen, and so how long the settle time is.
            None => rules.settle(true),
            Some(Completeness::ShortBy(_)) => rules.truncated,
            Some(_) => rules.settle(self.writer.is_some()),
        };
        let quiet = self.quiet(now);
        if quiet >= limit {
            // A file that was short is read again: its length may have stayed, its bytes may not.
            Step::Look {
                structure: self.completeness.is_none() || self.is_short(),
            }
        } else if self.completeness.is_some() && self.is_open() {
            Step::Look { structure: false }
        } else {
            wait(now, limit.saturating_sub(quiet))
        }
    }

    fn quiet(&self, now: Moment) -> Duration {
        now.saturating_sub(self.changed).saturating_add(self.rested)
    }

    fn touched(&mut self, now: Moment) {
        self.changed = now;
        self.rested = Duration::ZERO;
        self.completeness = None;
        self.asked = 0;
    }
}

/// However long the limit, the file is looked at every two minutes: its events may have been missed.
fn wait(now: Moment, rest: Duration) -> Step {
    Step::Wait(now + rest.min(SETTLE_BLIND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        settle: None,
        truncated: Duration::from_hours(1),
    };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn sight(size: u64, version: i64) -> Sight {
        let fingerprint = Fingerprint {
            dev: 1,
            ino: 2,
            size,
            mtime_ns: version,
        };
        Sight {
            fingerprint,
            ctime_ns: version,
        }
    }

    fn look(sight: Sight, writer: Option<bool>, completeness: Completeness) -> Look {
        Look {
            before: sight,
            after: sight,
            writer,
            holes: false,
            completeness: Some(completeness),
        }
    }

    use Completeness::{Complete, ShortBy, Undetermined};

    #[test]
    fn a_complete_closed_file_without_writers_settles_at_once() {
        let here = sight(10, 1);
        let mut file = Settling::new(secs(0), here, Duration::ZERO);
        file.hint(secs(0), Hint::Written);
        file.hint(secs(1), Hint::Closed);
        assert_eq!(
            file.seen(secs(1), here, &RULES),
            Step::Look { structure: true }
        );
        let step = file.looked(secs(1), &look(here, Some(false), Complete), &RULES);
        assert_eq!(step, Step::Settled { truncated: false });
    }

    #[test]
    fn each_missing_proof_costs_the_settle_time() {
        let here = sight(10, 1);
        let closed = |found: Look| {
            let mut file = Settling::new(secs(0), here, Duration::ZERO);
            file.hint(secs(0), Hint::Closed);
            assert_eq!(
                file.seen(secs(0), here, &RULES),
                Step::Look { structure: true }
            );
            file.looked(secs(0), &found, &RULES)
        };
        let good = look(here, Some(false), Complete);
        assert_eq!(closed(good), Step::Settled { truncated: false });
        assert_eq!(
            closed(Look {
                holes: true,
                ..good
            }),
            Step::Wait(SETTLE_VISIBLE)
        );
        assert_eq!(closed(look(here, None, Complete)), Step::Wait(SETTLE_BLIND));
        assert_eq!(
            closed(look(here, Some(false), Undetermined)),
            Step::Wait(SETTLE_VISIBLE)
        );
        assert!(matches!(
            closed(look(here, Some(true), Complete)),
            Step::Wait(_)
        ));
        assert_eq!(
            closed(look(here, Some(false), ShortBy(1))),
            Step::Wait(SETTLE_BLIND)
        );
        let mut unclosed = Settling::new(secs(0), here, Duration::ZERO);
        assert_eq!(
            unclosed.seen(secs(0), here, &RULES),
            Step::Wait(SETTLE_VISIBLE)
        );
    }

    #[test]
    fn a_write_after_the_close_takes_the_proof_away() {
        let (before, after) = (sight(10, 1), sight(20, 2));
        let mut file = Settling::new(secs(0), before, Duration::ZERO);
        file.hint(secs(0), Hint::Closed);
        assert_eq!(
            file.seen(secs(0), before, &RULES),
            Step::Look { structure: true }
        );
        // Once by an event, once only by what `stat` says.
        let mut told = file.clone();
        told.hint(secs(1), Hint::Written);
        assert_eq!(
            told.looked(secs(1), &look(before, Some(false), Complete), &RULES),
            Step::Wait(secs(1))
        );
        assert_eq!(
            told.seen(secs(1), after, &RULES),
            Step::Wait(secs(1) + SETTLE_VISIBLE)
        );
        let changed = Look {
            after,
            ..look(before, Some(false), Complete)
        };
        assert_eq!(
            file.looked(secs(1), &changed, &RULES),
            Step::Wait(secs(1) + SETTLE_VISIBLE)
        );
    }

    #[test]
    fn permissions_set_after_the_close_cost_no_settle_time() {
        let here = sight(10, 1);
        let mut file = Settling::new(secs(0), here, Duration::ZERO);
        file.hint(secs(0), Hint::Closed);
        let _ = file.seen(secs(0), here, &RULES);
        let changed = Sight {
            ctime_ns: 99,
            ..here
        };
        let late = Look {
            after: changed,
            ..look(here, Some(false), Complete)
        };
        assert_eq!(
            file.looked(secs(0), &late, &RULES),
            Step::Look { structure: true }
        );
        let step = file.looked(secs(0), &look(changed, Some(false), Complete), &RULES);
        assert_eq!(step, Step::Settled { truncated: false });
    }

    #[test]
    fn a_writer_that_pauses_for_hours_is_not_overtaken_while_it_is_seen() {
        let here = sight(10, 1);
        let mut file = Settling::new(secs(0), here, Duration::ZERO);
        for completeness in [Complete, Undetermined, ShortBy(5)] {
            for hour in 1..5 {
                let now = Duration::from_hours(hour);
                assert!(matches!(file.seen(now, here, &RULES), Step::Look { .. }));
                let step = file.looked(now, &look(here, Some(true), completeness), &RULES);
                assert!(
                    matches!(step, Step::Wait(next) if next > now && next <= now + SETTLE_VISIBLE)
                );
            }
            file.hint(secs(0), Hint::Written);
            let _ = file.seen(secs(0), here, &RULES);
        }
    }

    #[test]
    fn a_short_file_is_given_up_only_after_the_limit() {
        let here = sight(10, 1);
        let mut file = Settling::new(secs(0), here, Duration::ZERO);
        let short = look(here, Some(false), ShortBy(3));
        assert_eq!(
            file.seen(secs(5), here, &RULES),
            Step::Look { structure: true }
        );
        assert_eq!(
            file.looked(secs(5), &short, &RULES),
            Step::Wait(secs(5) + SETTLE_BLIND)
        );
        assert_eq!(
            file.seen(secs(3599), here, &RULES),
            Step::Wait(RULES.truncated)
        );
        assert_eq!(
            file.seen(secs(3600), here, &RULES),
            Step::Look { structure: true }
        );
        assert_eq!(
            file.looked(secs(3600), &short, &RULES),
            Step::Settled { truncated: true }
        );
    }

    #[test]
    fn files_known_to_be_at_rest_need_not_wait_again() {
        let here = sight(10, i64::MAX);
        let mut file = Settling::new(secs(0), here, Duration::from_hours(24));
        assert_eq!(
            file.seen(secs(0), here, &RULES),
            Step::Look { structure: true }
        );
        let step = file.looked(secs(0), &look(here, Some(false), Undetermined), &RULES);
        assert_eq!(step, Step::Settled { truncated: false });
    }

    /// What a writer does in one turn.
    #[derive(Clone, Debug)]
    enum Deed {
        Write,
        Open,
        Close,
        Nothing,
    }

    #[derive(Clone, Copy, Debug)]
    struct World {
        visible: bool,
        events: bool,
        total: u64,
        structured: bool,
        preallocated: bool,
    }

    fn worlds() -> impl Strategy<Value = World> {
        (
            any::<bool>(),
            any::<bool>(),
            1u64..6,
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(|(visible, events, total, structured, preallocated)| World {
                visible,
                events,
                total,
                structured,
                preallocated,
            })
    }

    fn deeds() -> impl Strategy<Value = Vec<(u64, Deed)>> {
        let deed = prop_oneof![
            Just(Deed::Write),
            Just(Deed::Open),
            Just(Deed::Close),
            Just(Deed::Nothing)
        ];
        proptest::collection::vec((0u64..200, deed), 0..30)
    }

    /// A file with one writer, watched by a machine that is served like the adapter does.
    struct Play {
        world: World,
        written: u64,
        open: bool,
        last_write: Duration,
        now: Duration,
        machine: Settling,
        due: Option<Duration>,
    }

    impl Play {
        fn new(world: World) -> Self {
            let mut play = Self {
                world,
                written: 0,
                open: true,
                last_write: secs(0),
                now: secs(0),
                machine: Settling::new(secs(0), sight(0, 0), Duration::ZERO),
                due: Some(secs(0)),
            };
            play.machine = Settling::new(secs(0), play.sight(), Duration::ZERO);
            play
        }

        fn sight(&self) -> Sight {
            let size = if self.world.preallocated {
                self.world.total
            } else {
                self.written
            };
            sight(size, self.written as i64)
        }

        fn look(&self) -> Look {
            let size = self.sight().fingerprint.size;
            let completeness = match size.cmp(&self.world.total) {
                _ if !self.world.structured => Undetermined,
                std::cmp::Ordering::Less => ShortBy(self.world.total - size),
                _ => Complete,
            };
            look(
                self.sight(),
                self.world.visible.then_some(self.open),
                completeness,
            )
        }

        fn act(&mut self, deed: &Deed) {
            let hint = match deed {
                Deed::Write if self.open && self.written < self.world.total => {
                    self.written += 1;
                    self.last_write = self.now;
                    Hint::Written
                }
                Deed::Open => {
                    self.open = true;
                    return;
                }
                Deed::Close if self.open => {
                    self.open = false;
                    Hint::Closed
                }
                _ => return,
            };
            if self.world.events {
                self.machine.hint(self.now, hint);
                self.due = Some(self.now);
            }
        }

        /// Lets time pass up to `until`; true when the machine calls the file settled, which is checked.
        fn pass(&mut self, until: Duration) -> Result<bool, TestCaseError> {
            while let Some(due) = self.due.filter(|due| *due <= until) {
                self.now = self.now.max(due);
                let mut step = self.machine.seen(self.now, self.sight(), &RULES);
                for _ in 0..3 {
                    if let Step::Look { .. } = step {
                        step = self.machine.looked(self.now, &self.look(), &RULES);
                    }
                }
                match step {
                    Step::Settled { truncated } => {
                        let quiet = self.now.saturating_sub(self.last_write);
                        let short = self.sight().fingerprint.size < self.world.total;
                        if self.world.visible {
                            prop_assert!(!self.open, "an open writer was overtaken");
                        } else {
                            prop_assert!(
                                quiet >= SETTLE_BLIND,
                                "settled {:?} after a write",
                                quiet
                            );
                        }
                        if self.world.structured {
                            prop_assert_eq!(truncated, short);
                            prop_assert!(!short || quiet >= RULES.truncated);
                        }
                        return Ok(true);
                    }
                    Step::Wait(next) => {
                        prop_assert!(next > self.now, "a busy loop");
                        self.due = Some(next);
                    }
                    Step::Look { .. } => prop_assert!(false, "looks without end"),
                }
            }
            self.now = until;
            Ok(false)
        }
    }

    proptest! {
        #[test]
        fn whatever_the_writer_does_no_promise_breaks_and_all_settles(world in worlds(), deeds in deeds()) {
            let mut play = Play::new(world);
            for (pause, deed) in deeds {
                if play.pass(play.now + secs(pause))? {
                    return Ok(());
                }
                play.act(&deed);
            }
            play.act(&Deed::Close);
            let end = play.now + RULES.truncated + SETTLE_BLIND + secs(60);
            prop_assert!(play.pass(end)?, "left alone, it must settle");
        }

        #[test]
        fn a_file_that_keeps_changing_never_settles(pauses in proptest::collection::vec(0u64..119, 1..60)) {
            let mut file = Settling::new(secs(0), sight(0, 0), Duration::ZERO);
            let mut now = secs(0);
            for (version, pause) in pauses.into_iter().enumerate() {
                let here = sight(5, version as i64);
                for moment in [now, now + secs(pause)] {
                    if let Step::Look { .. } = file.seen(moment, here, &RULES) {
                        let step = file.looked(moment, &look(here, None, Undetermined), &RULES);
                        prop_assert!(!matches!(step, Step::Settled { .. }), "settled while changing");
                    }
                }
                now += secs(pause);
            }
        }
    }
}
