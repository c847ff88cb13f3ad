//! One site under fire: writers, a daemon that is killed, what else happens to it, and the look at everything.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::{self, Daemon, Site, total};
use crate::conserved::{Compared, counted};
use crate::lane::Lane;
use crate::tiny;
use crate::writers::Writers;

/// How long after its start a daemon is killed at the latest: past its start, the settling and the filing.
const LATEST: Duration = Duration::from_millis(2500);

/// Before a failpoint's name where kills are counted.
pub const AT: &str = "at failpoint ";

/// Limits of the ledger that a hundred files reach: many segments, and a checkpoint every few files.
const SHORT_LEDGER: [(&str, &str); 2] = [
    ("RADSORT_SEGMENT_BYTES", "16384"),
    ("RADSORT_CHECKPOINT_RECORDS", "20"),
];

/// What was done and seen: how often, and what the looks at everything found.
#[derive(Default)]
pub struct Tally {
    pub events: BTreeMap<String, usize>,
    /// Files, where they have to be.
    pub files: Compared,
    /// Their records: one each.
    pub records: Compared,
}

impl Tally {
    /// Adds another site's.
    pub fn add(&mut self, other: Self) {
        for (what, count) in other.events {
            *self.events.entry(what).or_default() += count;
        }
        self.files += other.files;
        self.records += other.records;
    }
}

/// A directory on a filesystem that is not the one of the sites, if there is one.
pub fn another_filesystem() -> Option<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let dir = builder
        .prefix("radsort-torture-")
        .tempdir_in("/dev/shm")
        .ok()?;
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    (device(dir.path()) != device(&std::env::temp_dir())).then_some(dir)
}

/// One site under fire.
pub struct Torture {
    lane: Lane,
    site: Site,
    /// The library moves there and back.
    elsewhere: Option<tempfile::TempDir>,
    /// What the daemon gets to know from its environment.
    limits: Vec<(&'static str, &'static str)>,
    rng: ChaCha12Rng,
    writers: Writers,
    model: PathBuf,
    tally: Tally,
    /// What was done, for whoever has to find out why.
    story: Vec<String>,
}

impl Torture {
    /// A new one, with a ledger whose limits are within reach or not.
    pub fn new(lane: Lane, seed: u64, short_ledger: bool) -> Self {
        let mut site = Site::new();
        let elsewhere = another_filesystem();
        let beside = site.drop.parent().unwrap().to_owned();
        let base = match (&elsewhere, lane) {
            (Some(elsewhere), Lane::AcrossFilesystems) => elsewhere.path().canonicalize().unwrap(),
            _ => beside.clone(),
        };
        site.drop = base.join("drop");
        let aside = base.join("aside");
        fs::create_dir_all(&site.drop).unwrap();
        fs::create_dir_all(&aside).unwrap();
        let model = beside.join("bundle");
        fs::create_dir(&model).unwrap();
        tiny::write_bundle(&model, "1.0.0");
        let torture = Self {
            lane,
            elsewhere,
            limits: if short_ledger {
                SHORT_LEDGER.into()
            } else {
                Vec::new()
            },
            rng: ChaCha12Rng::seed_from_u64(seed),
            writers: Writers::new(lane, &site.drop, aside),
            site,
            model,
            tally: Tally::default(),
            story: Vec::new(),
        };
        torture.configure("300ms");
        torture
    }

    fn configure(&self, settle: &str) {
        let watch = format!("settle = \"{settle}\"\n{}", self.lane.watch());
        self.site.configure(&watch, &tiny::section(&self.model));
    }

    fn count(&mut self, what: &str) {
        *self.tally.events.entry(what.to_owned()).or_default() += 1;
        self.story.push(what.to_owned());
    }

    fn story(&self) -> String {
        format!("{:?}: {:?}", self.lane, self.story)
    }

    /// So many kills and what else happens between them, then the look at everything.
    pub fn run(mut self, kills: usize) -> Tally {
        for _ in 0..kills {
            self.kill_once();
            self.meanwhile();
        }
        self.inspect();
        self.tally
    }

    /// Starts the daemon, writes, and kills it: at a failpoint, or at any moment.
    fn kill_once(&mut self) {
        let points = self.lane.failpoints();
        let point = points[self.rng.random_range(0..points.len())];
        let point = self.rng.random_bool(0.6).then_some(point);
        let latest = match point {
            Some(_) => LATEST,
            None => self.rng.random_range(Duration::ZERO..LATEST),
        };
        let reload = self.rng.random_bool(0.25);
        let reload = reload.then(|| self.rng.random_range(Duration::ZERO..LATEST / 2));
        let mut writers = Vec::new();
        for _ in 0..3 {
            let (what, writing): (Vec<_>, Vec<_>) =
                self.writers.next(&mut self.rng).into_iter().unzip();
            what.into_iter().for_each(|what| self.count(what));
            writers.push(writing);
        }
        let mut environment = self.limits.clone();
        environment.extend(point.map(|point| ("RADSORT_CRASH_AT", point)));
        let mut daemon = self.site.spawn(&environment);
        let ended = thread::scope(|scope| {
            for writer in writers {
                scope.spawn(|| writer.into_iter().for_each(|write| write()));
            }
            self.live(&mut daemon, latest, reload)
        });
        match (ended, point) {
            (None, None) => self.count("killed at any moment"),
            (None, Some(_)) => self.count("killed in the end, its failpoint not met"),
            (Some(9), Some(point)) => {
                self.count("killed at a failpoint");
                self.count(&format!("{AT}{point}"));
            }
            (Some(signal), _) => panic!(
                "the daemon ended by itself, by signal {signal} (0: none), to die at {point:?}; {}\n{}",
                self.story(),
                daemon.log()
            ),
        }
        self.count_reloads(&mut daemon);
    }

    /// Lets it live for so long, writers at work; it may be told to reload so long after it is ready. Gives the signal that
    /// it died of by itself (0 where it ended otherwise), `None` where it had to be killed.
    fn live(
        &self,
        daemon: &mut Daemon,
        latest: Duration,
        mut reload: Option<Duration>,
    ) -> Option<i32> {
        let (started, mut ready) = (Instant::now(), None);
        while started.elapsed() < latest {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                return Some(status.signal().unwrap_or(0));
            }
            daemon.breathe();
            if ready.is_none() && daemon.heard().iter().any(|line| line == "READY=1") {
                ready = Some(Instant::now());
            }
            if let Some(ready) = ready
                && reload.is_some_and(|after| ready.elapsed() >= after)
            {
                reload = None;
                self.configure("350ms");
                daemon.signal(Signal::HUP);
            }
        }
        if let Some(status) = daemon.child.try_wait().unwrap() {
            return Some(status.signal().unwrap_or(0));
        }
        daemon.child.kill().unwrap();
        None
    }

    /// Reloads that it has told of, and whether it came to their end.
    fn count_reloads(&mut self, daemon: &mut Daemon) {
        let mut before = None;
        while before != Some(daemon.heard().len()) {
            before = Some(daemon.heard().len());
            daemon.breathe();
        }
        let heard = daemon.heard().iter();
        let mut after = heard.skip_while(|line| *line != "RELOADING=1");
        if after.next().is_some() {
            let reloaded = after.any(|line| line == "READY=1");
            self.count(if reloaded {
                "reloaded"
            } else {
                "killed within a reload"
            });
        }
    }

    /// What else happens to a service between two starts.
    fn meanwhile(&mut self) {
        match self.rng.random_range(0..10) {
            0 => {
                // A daemon that is killed at once has not made it yet.
                let state = fs::read_dir(&self.site.state).into_iter().flatten();
                for entry in state.flatten() {
                    if entry.file_name().to_string_lossy().starts_with("index") {
                        let path = entry.path();
                        fs::remove_dir_all(&path)
                            .or_else(|_| fs::remove_file(&path))
                            .unwrap();
                    }
                }
                self.count("index deleted");
            }
            1 => {
                let n = self.writers.count;
                let bundle = self.site.dir.path().join(format!("bundle-{n}"));
                fs::create_dir(&bundle).unwrap();
                tiny::write_bundle(&bundle, &format!("9.{n}.0"));
                self.model = bundle;
                self.configure("300ms");
                self.count("model swapped");
            }
            2 if self.lane == Lane::Rename => self.move_library(),
            3 | 4 if self.lane.moves() => self.give_back(),
            _ => {}
        }
    }

    /// Everything that is filed goes back to where it came from, or everything in the quarantine, by a command that is killed
    /// in the middle of it.
    fn give_back(&mut self) {
        // Without a ledger there is nothing to be given back.
        if !self.site.state.join("ledger").is_dir() {
            return;
        }
        let quarantined = self.quarantined();
        let release = !quarantined.is_empty() && self.rng.random_bool(0.5);
        let (verb, words) = if release {
            let mut words = vec!["quarantine", "release"];
            words.extend(quarantined.iter().map(|path| path.to_str().unwrap()));
            ("released", words)
        } else {
            ("gave back", vec!["undo", "--since", "1d"])
        };
        let points = Lane::failpoints_back();
        let point = points[self.rng.random_range(0..points.len())];
        let point = self.rng.random_bool(0.5).then_some(point);
        let latest = self.rng.random_range(Duration::ZERO..LATEST / 10);
        let mut command = self.site.command(&words);
        command.envs(self.limits.iter().copied());
        command.envs(point.map(|point| ("RADSORT_CRASH_AT", point)));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut giving = command.spawn().unwrap();
        let started = Instant::now();
        let ended = loop {
            match giving.try_wait().unwrap() {
                Some(status) => break status.signal(),
                None if point.is_none() && started.elapsed() > latest => {
                    giving.kill().unwrap();
                    break giving.wait().unwrap().signal();
                }
                None => {
                    assert!(
                        started.elapsed() < common::PATIENCE,
                        "{verb}: hangs; {}",
                        self.story()
                    );
                    thread::sleep(Duration::from_millis(1));
                }
            }
        };
        match (ended, point) {
            (Some(9), Some(point)) => {
                self.count(if release {
                    "killed while releasing, at a failpoint"
                } else {
                    "killed while giving back, at a failpoint"
                });
                self.count(&format!("{AT}{point}"));
            }
            (Some(9), None) if release => self.count("killed while releasing"),
            (Some(9), None) => self.count("killed while giving back"),
            (None, _) => self.count(verb),
            (Some(signal), _) => panic!("{verb}: ended by signal {signal}; {}", self.story()),
        }
    }

    /// What lies in the quarantine, without the reasons beside it and unfinished copies.
    fn quarantined(&self) -> Vec<PathBuf> {
        let mut there = common::files(&self.site.library.join("_quarantine"));
        there.retain(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.starts_with('.') && !name.ends_with(".reason.txt")
        });
        there
    }

    /// The library moves to another filesystem, and back the next time.
    fn move_library(&mut self) {
        let Some(elsewhere) = &self.elsewhere else {
            return;
        };
        let old = self.site.library.clone();
        let here = self.site.dir.path().canonicalize().unwrap().join("library");
        let new = if old == here {
            elsewhere.path().join("library")
        } else {
            here
        };
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(&old)
            .arg(&new)
            .status()
            .unwrap();
        assert!(copied.success());
        fs::remove_dir_all(&old).unwrap();
        self.site.library = new;
        self.configure("300ms");
        self.count("library moved to another filesystem");
    }

    /// Lets it work off what is there, and looks at everything.
    fn inspect(&mut self) {
        self.configure("300ms");
        let given = self.writers.given.files() as u64;
        let mut daemon = self.site.start_with(&self.limits);
        // What was given back is held until it is let go, and then is taken again. What a kill left in both places is given
        // back by the daemon's look at the library.
        if self.lane.moves() {
            self.site.ok(&["labels", "look"]);
            self.site.ok(&["undo", "--let-go", "--since", "1d"]);
        }
        let quiet = |status: &Value| status["watches"][0]["waiting"] == 0 && total(status) >= given;
        let in_time = daemon.comes_to(quiet);
        let log = daemon.stop();
        self.count(&format!("looked at everything, {}", self.lane.name()));

        let records = self.site.records();
        let on_record = |record: &Value| record["digest"].as_str().unwrap().to_owned();
        let fates = counted(records.iter().map(on_record));
        let conflicts = records.iter().filter(|record| record["fate"] == "conflict");
        let conflicts = counted(conflicts.map(on_record));
        let given = &self.writers.given;
        let compared = Compared::new(&given.digests, &fates);
        let odd: Vec<&Value> = records
            .iter()
            .filter(|record| {
                let digest = on_record(record);
                fates.get(&digest) != given.digests.get(&digest)
            })
            .collect();
        let without: Vec<_> = (given.digests.keys())
            .filter(|digest| !fates.contains_key(*digest))
            .collect();
        assert!(
            in_time && compared.is_even(),
            "one fate each, not {compared:?}: {odd:#?}; without one: {without:?}; in time: {in_time}; {}; {} files in {}\n{log}",
            self.story(),
            common::files(&self.site.drop).len(),
            self.site.drop.display(),
        );
        self.tally.records += compared;

        for (place, wanted) in [
            (&self.site.drop, given.in_drop(self.lane)),
            (&self.site.library, given.in_library(self.lane, &conflicts)),
        ] {
            let found = counted(common::digests(&[place]));
            let compared = Compared::new(&wanted, &found);
            assert!(
                compared.is_even(),
                "{compared:?} in {}: wanted {wanted:#?}, found {found:#?}; {}",
                place.display(),
                self.story()
            );
            self.tally.files += compared;
        }
        let remains = self.site.remains();
        assert!(remains.is_empty(), "{remains:?}; {}", self.story());
        self.site.assert_verified();
        if !self.limits.is_empty() {
            self.look_at_the_short_ledger();
        }
    }

    /// Its limits have been met.
    fn look_at_the_short_ledger(&mut self) {
        let segments = common::files(&self.site.state.join("ledger"));
        let segments = segments
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .count();
        let checkpoint = self.site.state.join("checkpoint");
        assert!(
            segments > 1 && checkpoint.is_file(),
            "{segments} segments, {}",
            checkpoint.display()
        );
        self.count("looked at a ledger of several segments, with checkpoints");
    }
}
