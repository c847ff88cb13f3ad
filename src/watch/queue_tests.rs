//! The queue against a plain model, under whatever order of things.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::Verdict;
use super::look::Outcome;
use super::queue::{Errand, Origin, Queue, Ready, Seen};
use crate::domain::settle::{Completeness, Hint, Look, Rules, Sight};
use crate::domain::{Fingerprint, RelPath};

const RULES: Rules = Rules {
    settle: None,
    truncated: Duration::from_hours(1),
};

fn path(name: u8) -> RelPath {
    RelPath::new(vec![b'a' + name % 4]).unwrap()
}

fn sight(version: u64) -> Sight {
    let fingerprint = Fingerprint {
        dev: 1,
        ino: 1,
        size: version,
        mtime_ns: 0,
    };
    Sight {
        fingerprint,
        ctime_ns: 0,
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Write(u8),
    Close(u8),
    Remove(u8),
    Scan,
    Look,
    Pass(u64),
    Take,
    Finish(u8),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        any::<u8>().prop_map(Deed::Write),
        any::<u8>().prop_map(Deed::Close),
        any::<u8>().prop_map(Deed::Remove),
        Just(Deed::Scan),
        Just(Deed::Look),
        Just(Deed::Look),
        (0u64..20).prop_map(Deed::Pass),
        Just(Deed::Take),
        any::<u8>().prop_map(Deed::Finish),
    ];
    proptest::collection::vec(deed, 0..120)
}

/// A directory with at most four files, and a caller that does what the I/O thread does.
struct Play {
    queue: Queue,
    now: Duration,
    versions: u64,
    disk: BTreeMap<RelPath, Sight>,
    ready: BTreeMap<u64, Ready>,
    taken: BTreeMap<RelPath, Ready>,
}

impl Play {
    fn ask(&mut self, path: &RelPath, origin: Origin) {
        let errand = match self.disk.get(path) {
            Some(sight) => {
                let seen = Seen {
                    path: path.clone(),
                    sight: *sight,
                    origin,
                    rested: Duration::ZERO,
                    now_us: 0,
                };
                self.queue.seen(self.now, seen, |_| false)
            }
            None => self.queue.gone(self.now, path),
        };
        self.run(errand);
    }

    fn run(&mut self, errand: Errand) {
        match errand {
            Errand::None => {}
            Errand::Offer(ready) => {
                assert!(
                    !self.taken.contains_key(&ready.path),
                    "offered while it is taken"
                );
                assert!(
                    self.ready.insert(ready.id, ready).is_none(),
                    "offered twice"
                );
            }
            Errand::TakeBack(id) => {
                if self.ready.remove(&id).is_some() {
                    self.queue.taken_back(self.now, id);
                } else {
                    self.queue.disturbed(id);
                }
            }
        }
    }

    fn look(&mut self) {
        let Some((id, path, _)) = self.queue.next_look() else {
            return;
        };
        let outcome = self.disk.get(&path).map_or(Outcome::Gone, |sight| {
            let completeness = Some(Completeness::Complete);
            Outcome::Looked(Look {
                before: *sight,
                after: *sight,
                writer: Some(false),
                holes: false,
                completeness,
            })
        });
        let errand = self.queue.looked(self.now, id, outcome);
        self.run(errand);
    }

    fn act(&mut self, deed: &Deed) {
        match *deed {
            Deed::Write(name) => {
                self.versions += 1;
                self.disk.insert(path(name), sight(self.versions));
                self.ask(&path(name), Origin::Event(Some(Hint::Written)));
            }
            Deed::Close(name) => self.ask(&path(name), Origin::Event(Some(Hint::Closed))),
            Deed::Remove(name) => {
                self.disk.remove(&path(name));
                self.ask(&path(name), Origin::Event(None));
            }
            Deed::Scan => {
                self.queue.begin_scan();
                for path in self.disk.keys().cloned().collect::<Vec<_>>() {
                    self.ask(&path, Origin::Scan { expected: true });
                }
                for path in self.queue.end_scan(false) {
                    self.ask(&path, Origin::Timer);
                }
            }
            Deed::Look => self.look(),
            Deed::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                for path in self.queue.expired(self.now, 100) {
                    self.ask(&path, Origin::Timer);
                }
            }
            Deed::Take => {
                if let Some((_, ready)) = self.ready.pop_first() {
                    assert!(
                        self.taken.insert(ready.path.clone(), ready).is_none(),
                        "given out twice"
                    );
                }
            }
            Deed::Finish(choice) => {
                let Some((path, ready)) = self.taken.pop_first() else {
                    return;
                };
                let verdict = match choice % 4 {
                    0 => {
                        if self
                            .disk
                            .get(&path)
                            .is_some_and(|sight| sight.fingerprint == ready.fingerprint)
                        {
                            self.disk.remove(&path);
                        }
                        Verdict::Gone
                    }
                    1 => Verdict::Stays(ready.fingerprint),
                    2 => Verdict::Again,
                    _ => Verdict::Hold {
                        reason: "held".into(),
                        retry_after: Duration::from_secs(3),
                    },
                };
                if self.queue.finished(self.now, &path, verdict) {
                    self.ask(&path, Origin::Timer);
                }
            }
        }
        let counts = self.queue.counts();
        assert_eq!(counts.offered, self.ready.len() + self.taken.len());
    }
}

proptest! {
    #[test]
    fn every_file_on_disk_is_offered_once_and_in_its_last_state(deeds in deeds()) {
        let mut play = Play {
            queue: Queue::new(RULES, false),
            now: Duration::ZERO,
            versions: 0,
            disk: BTreeMap::new(),
            ready: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        for deed in deeds {
            play.act(&deed);
        }
        // Left alone: what is taken is finished with, time passes, and every file is left where it is.
        for _ in 0..40 {
            play.act(&Deed::Finish(1));
            play.act(&Deed::Pass(10));
            (0..4).for_each(|_| play.look());
            play.act(&Deed::Take);
        }
        let counts = play.queue.counts();
        prop_assert_eq!((counts.under_way(), counts.held), (0, 0));
        prop_assert_eq!(play.queue.left(), play.disk.len());
        for path in play.disk.keys().cloned().collect::<Vec<_>>() {
            play.ask(&path, Origin::Scan { expected: true });
        }
        prop_assert_eq!(play.queue.counts().under_way(), 0, "left in its last state");
    }
}

#[test]
fn files_below_a_directory_are_known_by_their_path() {
    let mut queue = Queue::new(RULES, false);
    for name in ["a", "a-b", "a/1", "a/b/2", "a0", "b/1"] {
        let path = RelPath::new(name).unwrap();
        let seen = Seen {
            path,
            sight: sight(1),
            origin: Origin::Timer,
            rested: Duration::ZERO,
            now_us: 0,
        };
        assert_eq!(queue.seen(Duration::ZERO, seen, |_| false), Errand::None);
    }
    let below = queue.below(&RelPath::new("a").unwrap());
    assert_eq!(
        below.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a/1", "a/b/2"]
    );
}

#[test]
fn a_file_has_waited_since_it_came_whatever_process_saw_it_first() {
    const HOUR_US: i64 = 3_600_000_000;
    const NOW_US: i64 = 500_000 * HOUR_US;
    let oldest = |exact: bool, came_us: &[i64], gone: &[&str]| {
        let mut queue = Queue::new(RULES, false);
        queue.set_exact(exact);
        for (name, came_us) in ["a", "b", "c"].into_iter().zip(came_us) {
            let seen = Seen {
                path: RelPath::new(name).unwrap(),
                sight: Sight {
                    ctime_ns: came_us * 1000,
                    ..sight(1)
                },
                origin: Origin::Scan { expected: true },
                rested: Duration::ZERO,
                now_us: NOW_US,
            };
            assert_eq!(queue.seen(Duration::ZERO, seen, |_| false), Errand::None);
        }
        for name in gone {
            assert_eq!(
                queue.gone(Duration::ZERO, &RelPath::new(*name).unwrap()),
                Errand::None
            );
        }
        queue.oldest_us()
    };
    let hours_ago = |hours: i64| NOW_US - hours * HOUR_US;
    let came = [hours_ago(2), hours_ago(5), hours_ago(3)];
    assert_eq!(oldest(true, &came, &[]), Some(hours_ago(5)));
    assert_eq!(oldest(true, &came, &["b"]), Some(hours_ago(3)));
    assert_eq!(oldest(true, &came, &["a", "b", "c"]), None);
    // Shares tell any time; clocks jump.
    assert_eq!(oldest(false, &came, &[]), Some(NOW_US));
    for odd in [0, hours_ago(24 * 365), hours_ago(-7)] {
        assert_eq!(oldest(true, &[odd], &[]), Some(NOW_US));
    }
}
