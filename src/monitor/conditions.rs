//! What is wrong, as the status shows it, and when that is news: pure, fed with statuses and the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::settings::AlertSettings;
use crate::control::status::{NOT_ANSWERING, Status, WatchState, age, bytes};
use crate::telemetry::Event;

/// What has not been seen for so long is over: intake that is paused is tried again and again, and looks well meanwhile.
const CALM: Duration = Duration::from_mins(1);

/// Files that wait are news only when they do so for longer: after a start or a reload all of them are looked at anew, and
/// some senders let others in when they are done.
const LASTING: Duration = Duration::from_mins(10);

/// What kind of trouble, and whose: a drop directory's or a disk's name, or a part of radsort.
pub type Key = (Event, String);

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What kind.
    pub event: Event,
    /// Which drop directory or disk, or which part of radsort: `library` (its files), `model`, `configuration`.
    pub subject: String,
    /// For people.
    pub message: String,
    /// What was measured, where that is a number.
    pub value: Option<f64>,
    /// What it was measured against.
    pub limit: Option<f64>,
}

impl Condition {
    /// Without a number.
    fn plain(event: Event, subject: &str, message: String) -> Self {
        Self {
            event,
            subject: subject.to_owned(),
            message,
            value: None,
            limit: None,
        }
    }

    /// How long it must have lasted before it is news.
    fn patience(&self) -> Duration {
        match self.event {
            Event::CannotTake | Event::ShareUnreadable | Event::FilesWait => LASTING,
            _ => Duration::ZERO,
        }
    }

    /// The journal has it at once, however long the command is not bothered: who looks there looks for this.
    fn is_logged_at_once(&self) -> bool {
        matches!(self.event, Event::CannotTake | Event::ShareUnreadable)
    }

    /// How often it has happened, where that is what counts: each time more is news again, and it is never over.
    fn times(&self) -> f64 {
        match self.event {
            Event::Missing | Event::Altered => self.value.unwrap_or_default(),
            _ => 0.0,
        }
    }
}

/// Everything that is wrong now.
pub fn conditions(status: &Status, limits: &AlertSettings) -> BTreeMap<Key, Condition> {
    let mut found = Vec::new();
    for watch in &status.watches {
        let name = &watch.name;
        let why = watch.why.as_deref().unwrap_or("unknown reason");
        let mut plain = |event, message| found.push(Condition::plain(event, name, message));
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
        // While intake is paused, files are held for that.
        if watch.cannot_take > 0 && watch.state == WatchState::Online {
            plain(
                Event::CannotTake,
                format!("{name}: files cannot be taken: {why}"),
            );
        }
        if watch.unreadable > 0 && watch.state == WatchState::Online {
            let message = format!(
                "{name}: {} of its entries cannot be read: files there are not seen; `radsort check` says what is missing",
                watch.unreadable
            );
            plain(Event::ShareUnreadable, message);
        }
        if let Some(since) = watch.oldest_waiting_us {
            let waits = Duration::from_micros(u64::try_from(status.now_us - since).unwrap_or(0));
            if waits > limits.waiting {
                let (waits_for, limit) = (age(status.now_us - since), limits.waiting);
                found.push(Condition {
                    event: Event::FilesWait,
                    subject: name.clone(),
                    message: format!(
                        "{name}: a file has waited for {waits_for}: `radsort status` says for what"
                    ),
                    value: Some(waits.as_secs_f64()),
                    limit: Some(limit.as_secs_f64()),
                });
            }
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
    found.extend(of_the_service(status));
    found
        .into_iter()
        .map(|it| ((it.event, it.subject.clone()), it))
        .collect()
}

/// What is wrong with the service itself, or with files that it has filed.
fn of_the_service(status: &Status) -> Vec<Condition> {
    let mut found = Vec::new();
    let refused = status.model.as_ref().and_then(|it| it.gpu_refused.as_ref());
    if let Some(why) = refused {
        let message = format!("the model runs on the CPU, not on the GPU: {why}");
        found.push(Condition::plain(Event::NotOnGpu, "model", message));
    }
    if let Some(error) = &status.reload_error {
        let why = &error.message;
        let message = format!("the last reload failed, the settings before it are in force: {why}");
        found.push(Condition::plain(
            Event::ConfigRefused,
            "configuration",
            message,
        ));
    }
    for (event, files, what) in [
        (
            Event::Missing,
            status.missing,
            "files on record are nowhere to be found: `radsort verify` says which",
        ),
        (
            Event::Altered,
            status.altered,
            "filed files are no longer what was filed: `radsort verify --digests` says which",
        ),
    ] {
        if files > 0 {
            found.push(Condition {
                value: Some(files as f64),
                ..Condition::plain(event, "library", format!("{files} {what}"))
            });
        }
    }
    found
}

/// Something has begun, or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What.
    pub condition: Condition,
    /// It is over.
    pub over: bool,
    /// Whether it is news for the journal.
    pub log: bool,
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
    since: Instant,
    seen: Instant,
    /// Once it has been said: how often it had happened then.
    said: Option<f64>,
    /// It has lasted long enough for the command.
    lasts: bool,
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
            let times = condition.times();
            let standing = self.standing.entry(key.clone()).or_insert(Standing {
                condition: condition.clone(),
                since: now,
                seen: now,
                said: None,
                lasts: false,
                told: false,
            });
            (standing.condition, standing.seen) = (condition, now);
            let lasts = now.duration_since(standing.since) >= standing.condition.patience();
            let begins_to_last = lasts && !std::mem::replace(&mut standing.lasts, lasts);
            let news = standing.said.is_none_or(|said| said < times);
            let last = self.told.get(&key);
            let tell = (begins_to_last || (lasts && news))
                && last.is_none_or(|last| now.duration_since(*last) >= every);
            let begins =
                standing.said.is_none() && (lasts || standing.condition.is_logged_at_once());
            if !begins && !tell {
                // What has happened again is said when the command may hear of it again.
                continue;
            }
            if tell {
                self.told.insert(key, now);
            }
            standing.said = Some(times);
            standing.told |= tell;
            changes.push(Change {
                condition: standing.condition.clone(),
                over: false,
                log: news,
                tell,
            });
        }
        self.standing.retain(|_, standing| {
            let stays = now.duration_since(standing.seen) < CALM;
            if !stays && standing.said.is_some() {
                changes.push(Change {
                    condition: standing.condition.clone(),
                    over: true,
                    log: true,
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
    use crate::control::status::{DiskStatus, ErrorLine, ModelStatus, tests::watch};
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
        let mut stuck = watch("east");
        (stuck.state, stuck.drift) = (WatchState::Online, None);
        stuck.why = Some("2 files: no permission to move it".into());
        (stuck.cannot_take, stuck.unreadable) = (2, 1);
        let hours = |hours: i64| hours * 3_600_000_000;
        (status.now_us, stuck.oldest_waiting_us) = (hours(9), Some(hours(6)));
        let mut waits = stuck.clone();
        (waits.name, waits.cannot_take, waits.oldest_waiting_us) =
            ("busy".into(), 0, Some(hours(8)));
        waits.unreadable = 0;
        for watch in [&mut bad, &mut hangs, &mut gone] {
            (watch.cannot_take, watch.oldest_waiting_us) = (0, None);
        }
        status.watches = vec![bad, hangs, gone, stuck, waits];
        status.model = Some(ModelStatus {
            gpu_refused: Some("no driver".into()),
            ..ModelStatus::default()
        });
        status.reload_error = Some(ErrorLine {
            message: "line 3".into(),
            ..ErrorLine::default()
        });
        (status.missing, status.altered) = (4, 1);
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
            of(Event::CannotTake, "east"),
            of(Event::ShareUnreadable, "east"),
            of(Event::FilesWait, "east"),
            of(Event::NotOnGpu, "model"),
            of(Event::ConfigRefused, "configuration"),
            of(Event::Missing, "library"),
            of(Event::Altered, "library"),
        ];
        expected.sort();
        assert_eq!(events(&status), expected);
        let found = conditions(&status, &limits());
        for (event, subject, message) in [
            (
                Event::IntakePaused,
                "north",
                "north: intake is paused: the library's disk is full",
            ),
            (
                Event::CannotTake,
                "east",
                "east: files cannot be taken: 2 files: no permission to move it",
            ),
            (
                Event::FilesWait,
                "east",
                "east: a file has waited for 3 h 0 min: `radsort status` says for what",
            ),
            (
                Event::ConfigRefused,
                "configuration",
                "the last reload failed, the settings before it are in force: line 3",
            ),
        ] {
            assert_eq!(found[&of(event, subject)].message, message);
        }
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

    fn found(event: Event, value: Option<f64>) -> BTreeMap<Key, Condition> {
        let condition = Condition {
            value,
            ..Condition::plain(event, "it", String::new())
        };
        BTreeMap::from([((event, "it".to_owned()), condition)])
    }

    #[test]
    fn files_that_wait_are_news_when_they_stay_so() {
        let (mut latch, start) = (Latch::default(), Instant::now());
        let mut at = |minutes, found| {
            shape(&latch.update(start + Duration::from_mins(minutes), EVERY, found))
        };
        let stuck = || found(Event::FilesWait, None);
        assert_eq!(at(0, stuck()), []);
        assert_eq!(at(9, stuck()), []);
        assert_eq!(at(10, BTreeMap::new()), [], "what was not said is not over");
        assert_eq!(at(11, stuck()), []);
        assert_eq!(at(20, stuck()), []);
        assert_eq!(at(21, stuck()), [(false, true)]);
        assert_eq!(at(30, stuck()), []);
        assert_eq!(at(31, BTreeMap::new()), [(true, true)]);
    }

    #[test]
    fn what_may_not_be_read_is_logged_at_once_and_told_when_it_stays_so() {
        for event in [Event::CannotTake, Event::ShareUnreadable] {
            let (mut latch, start) = (Latch::default(), Instant::now());
            let mut at = |minutes, found| -> Vec<(bool, bool, bool)> {
                let changes = latch.update(start + Duration::from_mins(minutes), EVERY, found);
                let shape = changes.iter().map(|it| (it.over, it.log, it.tell));
                shape.collect()
            };
            let closed = || found(event, None);
            assert_eq!(at(0, closed()), [(false, true, false)]);
            assert_eq!(at(9, closed()), []);
            assert_eq!(at(10, BTreeMap::new()), [(true, true, false)]);
            assert_eq!(at(11, closed()), [(false, true, false)]);
            assert_eq!(at(21, closed()), [(false, false, true)]);
            assert_eq!(at(60, closed()), []);
            assert_eq!(at(61, BTreeMap::new()), [(true, true, true)]);
        }
    }

    #[test]
    fn each_file_more_that_is_missing_is_news_again_but_not_too_often() {
        let (mut latch, start) = (Latch::default(), Instant::now());
        let mut at = |minutes, files| {
            let found = found(Event::Missing, Some(files));
            shape(&latch.update(start + Duration::from_mins(minutes), EVERY, found))
        };
        assert_eq!(at(0, 1.0), [(false, true)]);
        assert_eq!(at(1, 1.0), []);
        assert_eq!(at(2, 3.0), [], "not yet again");
        assert_eq!(at(15, 3.0), [(false, true)]);
        assert_eq!(at(60, 3.0), []);
        assert_eq!(at(61, 4.0), [(false, true)]);
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
