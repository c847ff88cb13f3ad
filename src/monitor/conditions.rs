//! What is wrong, as the status shows it, and when that is news: pure, fed with statuses and the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::settings::AlertSettings;
use crate::control::status::{NOT_ANSWERING, Status, WatchState, bytes};
use crate::telemetry::Event;

/// What has not been seen for so long is over: intake that is paused is tried again and again, and looks well meanwhile.
const CALM: Duration = Duration::from_mins(1);

/// What kind of trouble, and whose: a drop directory's or a disk's name.
pub type Key = (Event, String);

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What kind.
    pub event: Event,
    /// Which drop directory or disk.
    pub subject: String,
    /// For people.
    pub message: String,
    /// What was measured, where that is a number.
    pub value: Option<f64>,
    /// What it was measured against.
    pub limit: Option<f64>,
}

/// Everything that is wrong now.
pub fn conditions(status: &Status, limits: &AlertSettings) -> BTreeMap<Key, Condition> {
    let mut found = Vec::new();
    for watch in &status.watches {
        let name = &watch.name;
        let why = watch.why.as_deref().unwrap_or("unknown reason");
        let mut plain = |event, message| {
            found.push(Condition {
                event,
                subject: name.clone(),
                message,
                value: None,
                limit: None,
            });
        };
        match watch.state {
            WatchState::Online => {}
            WatchState::Held => plain(
                Event::IntakePaused,
                format!("{name}: intake is paused: {why}"),
            ),
            WatchState::Offline if why == NOT_ANSWERING => {
                plain(Event::ShareNotAnswering, format!("{name}: {why}"));
            }
            WatchState::Offline => plain(Event::ShareOffline, format!("{name}: offline: {why}")),
        }
        let mut above = |event, value: Option<f64>, limit: f64, what: &str| {
            if let Some(value) = value.filter(|value| *value > limit) {
                found.push(Condition {
                    event,
                    subject: name.clone(),
                    message: format!("{name}: {what} is {value:.3}, above {limit}"),
                    value: Some(value),
                    limit: Some(limit),
                });
            }
        };
        let review = "the share of files that go to review";
        above(
            Event::ReviewRateHigh,
            watch.review_rate,
            limits.review_rate,
            review,
        );
        let quarantine = "the share of files that are quarantined";
        above(
            Event::QuarantineRateHigh,
            watch.quarantine_rate,
            limits.quarantine_rate,
            quarantine,
        );
        above(
            Event::Drift,
            watch.drift,
            limits.drift,
            "the drift of the model's confidence",
        );
    }
    for disk in &status.disks {
        if let Some(free) = disk.free.filter(|free| *free < limits.disk_below) {
            found.push(Condition {
                event: Event::DiskLow,
                subject: disk.what.clone(),
                message: format!("the disk of the {} has {} left", disk.what, bytes(free)),
                value: Some(free as f64),
                limit: Some(limits.disk_below as f64),
            });
        }
    }
    found
        .into_iter()
        .map(|it| ((it.event, it.subject.clone()), it))
        .collect()
}

/// Something has begun, or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What.
    pub condition: Condition,
    /// It is over.
    pub over: bool,
    /// Whether the alert command is to be told, too: at most once in a while for the same thing.
    pub tell: bool,
}

/// Remembers what is known, so that it is said once.
#[derive(Debug, Default)]
pub struct Latch {
    standing: BTreeMap<Key, Standing>,
    told: BTreeMap<Key, Instant>,
}

#[derive(Debug)]
struct Standing {
    condition: Condition,
    seen: Instant,
    told: bool,
}

impl Latch {
    /// What has begun or is over since the last call; the command is told at most once in `every` of each thing.
    pub fn update(
        &mut self,
        now: Instant,
        every: Duration,
        found: BTreeMap<Key, Condition>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, condition) in found {
            if let Some(standing) = self.standing.get_mut(&key) {
                (standing.condition, standing.seen) = (condition, now);
                continue;
            }
            let tell = self
                .told
                .get(&key)
                .is_none_or(|last| now.duration_since(*last) >= every);
            if tell {
                self.told.insert(key.clone(), now);
            }
            changes.push(Change {
                condition: condition.clone(),
                over: false,
                tell,
            });
            let standing = Standing {
                condition,
                seen: now,
                told: tell,
            };
            self.standing.insert(key, standing);
        }
        self.standing.retain(|_, standing| {
            let stays = now.duration_since(standing.seen) < CALM;
            if !stays {
                changes.push(Change {
                    condition: standing.condition.clone(),
                    over: true,
                    tell: standing.told,
                });
            }
            stays
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::status::{DiskStatus, tests::watch};
    use proptest::prelude::*;

    const EVERY: Duration = Duration::from_mins(15);

    fn limits() -> AlertSettings {
        AlertSettings::default()
    }

    fn events(status: &Status) -> Vec<(Event, String)> {
        conditions(status, &limits()).into_keys().collect()
    }

    #[test]
    fn everything_that_a_site_should_know_is_a_condition() {
        let mut status = Status::default();
        let mut bad = watch("north");
        (bad.state, bad.why) = (WatchState::Held, Some("the library's disk is full".into()));
        (bad.review_rate, bad.quarantine_rate, bad.drift) = (Some(0.6), Some(0.3), Some(0.4));
        let mut hangs = watch("south");
        (hangs.state, hangs.why) = (WatchState::Offline, Some(NOT_ANSWERING.into()));
        hangs.drift = None;
        hangs.review_rate = Some(0.5);
        let mut gone = watch("west");
        (gone.state, gone.drift) = (WatchState::Offline, Some(0.1));
        status.watches = vec![bad, hangs, gone];
        let disk = |what: &str, free| DiskStatus {
            what: what.into(),
            free,
            ..DiskStatus::default()
        };
        status.disks = vec![
            disk("library", Some(1 << 30)),
            disk("state", Some(9 << 30)),
            disk("x", None),
        ];
        let of = |event, subject: &str| (event, subject.to_owned());
        let mut expected = vec![
            of(Event::IntakePaused, "north"),
            of(Event::ReviewRateHigh, "north"),
            of(Event::QuarantineRateHigh, "north"),
            of(Event::Drift, "north"),
            of(Event::ShareNotAnswering, "south"),
            of(Event::ShareOffline, "west"),
            of(Event::DiskLow, "library"),
        ];
        expected.sort();
        assert_eq!(events(&status), expected);
        let paused = &conditions(&status, &limits())[&of(Event::IntakePaused, "north")];
        assert_eq!(
            paused.message,
            "north: intake is paused: the library's disk is full"
        );
    }

    fn paused() -> BTreeMap<Key, Condition> {
        let condition = Condition {
            event: Event::IntakePaused,
            subject: "north".into(),
            message: String::new(),
            value: None,
            limit: None,
        };
        BTreeMap::from([((Event::IntakePaused, "north".to_owned()), condition)])
    }

    fn shape(changes: &[Change]) -> Vec<(bool, bool)> {
        changes.iter().map(|it| (it.over, it.tell)).collect()
    }

    #[test]
    fn what_lasts_is_said_once_and_a_moments_calm_is_no_end() {
        let (mut latch, start) = (Latch::default(), Instant::now());
        let mut at = |seconds, found| {
            shape(&latch.update(start + Duration::from_secs(seconds), EVERY, found))
        };
        assert_eq!(at(0, paused()), [(false, true)]);
        assert_eq!(at(5, BTreeMap::new()), []);
        assert_eq!(at(10, paused()), []);
        assert_eq!(at(69, BTreeMap::new()), []);
        assert_eq!(at(70, BTreeMap::new()), [(true, true)]);
        // Again within a quarter of an hour: the journal hears of it, the command does not, nor of its end.
        assert_eq!(at(80, paused()), [(false, false)]);
        assert_eq!(at(200, BTreeMap::new()), [(true, false)]);
        assert_eq!(at(900, paused()), [(false, true)]);
    }

    proptest! {
        #[test]
        fn the_command_is_never_told_of_the_same_beginning_twice_within_the_limit(turns in proptest::collection::vec((0u64..400, any::<bool>()), 1..100)) {
            let (mut latch, mut now) = (Latch::default(), Instant::now());
            let mut last: Option<Instant> = None;
            for (seconds, bad) in turns {
                now += Duration::from_secs(seconds);
                let found = if bad { paused() } else { BTreeMap::new() };
                for change in latch.update(now, EVERY, found) {
                    if change.tell && !change.over {
                        prop_assert!(last.is_none_or(|last| now.duration_since(last) >= EVERY));
                        last = Some(now);
                    }
                }
            }
        }
    }
}
