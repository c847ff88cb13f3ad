//! Conservation under fire: many writers, a daemon that is killed again and again at random moments and at every
//! failpoint, and after each round one question: is every byte that was put in still there, once, and on record once?
//!
//! `make torture` runs this with a thousand kills; by itself it runs a few. `TORTURE_KILLS` is the number of kills,
//! `TORTURE_SEED` repeats a run's choices (the moments of a kill are the machine's own), `TORTURE_SITES` is how many sites
//! are under fire at the same time.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Site, digest, total};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rustix::process::Signal;
use serde_json::Value;

/// Kills between two inspections.
const ROUND: usize = 8;
/// How long after its start a daemon is killed at the latest: past its start, the settling and the filing.
const LATEST: Duration = Duration::from_millis(2500);

/// Before a failpoint's name where kills are counted.
const AT: &str = "at failpoint ";

/// How files get from the drop directory to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Rename,
    AcrossFilesystems,
    Copy,
    Observe,
}

impl Lane {
    fn watch(self) -> &'static str {
        match self {
            Self::Rename | Self::AcrossFilesystems => "recursive = true",
            Self::Copy => "recursive = true\naction = \"copy\"",
            Self::Observe => "recursive = true\naction = \"observe\"",
        }
    }

    /// The failpoints that a file can pass here.
    fn failpoints(self) -> Vec<&'static str> {
        let claims = ["claim", "unclaim"];
        radsort::filing::failpoints::FAILPOINTS
            .iter()
            .filter(|(name, way)| match self {
                // Files with a second name are copied in every lane.
                Self::Rename | Self::AcrossFilesystems => *way != "undo",
                Self::Copy => {
                    ["all", "copy"].contains(way)
                        && !claims.iter().any(|claim| name.ends_with(claim))
                }
                Self::Observe => ["before-intent", "before-filed", "after-filed"].contains(name),
            })
            .map(|(name, _)| *name)
            .collect()
    }
}

/// What has been put in: how often each digest, and how many of the files are DICOM.
#[derive(Default)]
struct Given {
    digests: BTreeMap<String, usize>,
    instances: BTreeMap<String, usize>,
}

impl Given {
    fn add(&mut self, bytes: &[u8], is_instance: bool) {
        *self.digests.entry(digest(bytes)).or_default() += 1;
        if is_instance {
            *self.instances.entry(digest(bytes)).or_default() += 1;
        }
    }

    fn files(&self) -> usize {
        self.digests.values().sum()
    }
}

fn counted(digests: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for digest in digests {
        *counts.entry(digest).or_default() += 1;
    }
    counts
}

/// One site under fire.
struct Torture {
    lane: Lane,
    site: Site,
    /// A place of writers on the filesystem of the drop directory.
    aside: PathBuf,
    /// On another filesystem, where there is one: the library moves there and back.
    elsewhere: Option<tempfile::TempDir>,
    rng: ChaCha12Rng,
    given: Given,
    next: usize,
    model: PathBuf,
    tally: BTreeMap<String, usize>,
    /// What was done, for whoever has to find out why.
    story: Vec<String>,
}

impl Torture {
    fn new(lane: Lane, seed: u64) -> Self {
        let mut site = Site::new();
        let memory = tempfile::Builder::new()
            .prefix("radsort-torture-")
            .tempdir_in("/dev/shm")
            .ok();
        let beside = site.drop.parent().unwrap().to_owned();
        let base = match (&memory, lane) {
            (Some(memory), Lane::AcrossFilesystems) => memory.path().canonicalize().unwrap(),
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
            site,
            aside,
            elsewhere: memory,
            rng: ChaCha12Rng::seed_from_u64(seed),
            given: Given::default(),
            next: 0,
            model,
            tally: BTreeMap::new(),
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
        *self.tally.entry(what.to_owned()).or_default() += 1;
        self.story.push(what.to_owned());
    }

    /// Some files by one writer, each finished before the next.
    fn writer(&mut self) -> Vec<Box<dyn FnOnce() + Send>> {
        (0..self.rng.random_range(2..6))
            .map(|_| self.file())
            .collect()
    }

    /// One file in one of the ways in which files come; what it is counts from now on.
    fn file(&mut self) -> Box<dyn FnOnce() + Send> {
        self.next += 1;
        let n = self.next;
        let (drop, aside) = (self.site.drop.clone(), self.aside.clone());
        let name = format!("{n}.dcm");
        let way = self.rng.random_range(0..10);
        // A repeat is of the same bytes; a conflict has another's UID.
        let earlier = self.rng.random_range(1..=n);
        let bytes = match way {
            7 => tiny::image(earlier),
            8 => tiny::image_of(earlier, earlier + 1, |_| ()),
            9 => format!("notes {n}").into_bytes(),
            _ => tiny::image(n),
        };
        self.given.add(&bytes, way != 9);
        let pause = Duration::from_millis(self.rng.random_range(10..450));
        let what = [
            "copy",
            "slow copy",
            "rename in",
            "hard link",
            "rewrite",
            "deep directory",
            "copy",
            "duplicate",
            "conflict",
            "junk",
        ][way];
        self.count(what);
        Box::new(move || match way {
            1 => {
                let mut file = fs::File::create(drop.join(name)).unwrap();
                for piece in bytes.chunks(bytes.len() / 3 + 1) {
                    file.write_all(piece).unwrap();
                    file.flush().unwrap();
                    thread::sleep(pause);
                }
            }
            2 => {
                fs::write(aside.join(&name), &bytes).unwrap();
                fs::rename(aside.join(&name), drop.join(&name)).unwrap();
            }
            3 => {
                fs::write(aside.join(&name), &bytes).unwrap();
                fs::hard_link(aside.join(&name), drop.join(&name)).unwrap();
            }
            4 => {
                let mut file = fs::File::create(drop.join(name)).unwrap();
                file.write_all(&bytes[..bytes.len() / 2]).unwrap();
                thread::sleep(pause);
                file.set_len(0).unwrap();
                file.rewind().unwrap();
                file.write_all(&bytes).unwrap();
            }
            5 => {
                let deep = drop.join(format!("{}/{}/x", n % 3, n % 7));
                fs::create_dir_all(&deep).unwrap();
                fs::write(deep.join(name), &bytes).unwrap();
            }
            9 => fs::write(drop.join(format!("{n}.txt")), &bytes).unwrap(),
            _ => fs::write(drop.join(name), &bytes).unwrap(),
        })
    }

    /// Starts the daemon, writes, and kills it: at a failpoint, or at any moment.
    fn kill_once(&mut self) {
        let points = self.lane.failpoints();
        let point = points[self.rng.random_range(0..points.len())];
        let at_failpoint = self.rng.random_bool(0.6);
        let environment = if at_failpoint {
            vec![("RADSORT_CRASH_AT", point)]
        } else {
            vec![]
        };
        let writers: Vec<_> = (0..3).map(|_| self.writer()).collect();
        let mut daemon = self.site.spawn(&environment);
        let reload = self.rng.random_bool(0.15);
        let latest = if at_failpoint {
            LATEST
        } else {
            self.rng.random_range(Duration::ZERO..LATEST)
        };
        thread::scope(|scope| {
            for writer in writers {
                scope.spawn(|| writer.into_iter().for_each(|write| write()));
            }
            let started = Instant::now();
            if reload {
                self.configure("350ms");
                // Before it listens, SIGHUP would be the end: that is a kill as well.
                daemon.signal(Signal::HUP);
            }
            while started.elapsed() < latest && daemon.child.try_wait().unwrap().is_none() {
                daemon.breathe();
            }
        });
        let died = daemon.child.try_wait().unwrap().is_some();
        daemon.kill();
        self.count(if died && at_failpoint {
            "killed at a failpoint"
        } else {
            "killed at any moment"
        });
        if died && at_failpoint {
            self.count(&format!("{AT}{point}"));
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
                let bundle = self.site.dir.path().join(format!("bundle-{}", self.next));
                fs::create_dir(&bundle).unwrap();
                tiny::write_bundle(&bundle, &format!("9.{}.0", self.next));
                self.model = bundle;
                self.configure("300ms");
                self.count("model swapped");
            }
            2 if self.lane == Lane::Rename => self.move_library(),
            _ => {}
        }
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
        let wanted = self.given.files() as u64;
        let mut daemon = self.site.start();
        let quiet =
            |status: &Value| status["watches"][0]["waiting"] == 0 && total(status) >= wanted;
        daemon.wait_until("every file has a fate", quiet);
        daemon.stop();
        self.count("inspected");

        let story = || format!("{:?}: {:?}", self.lane, self.story);
        let drop = counted(common::digests(&[&self.site.drop]));
        let library = counted(common::digests(&[&self.site.library]));
        let records = self.site.records();
        let on_record = counted(
            records
                .iter()
                .map(|record| record["digest"].as_str().unwrap().to_owned()),
        );
        let odd: Vec<&Value> = records
            .iter()
            .filter(|record| {
                let digest = record["digest"].as_str().unwrap();
                on_record.get(digest) != self.given.digests.get(digest)
            })
            .collect();
        let unknown: Vec<_> = (self.given.digests.iter())
            .filter(|(digest, _)| !on_record.contains_key(*digest))
            .collect();
        assert!(
            odd.is_empty() && unknown.is_empty(),
            "one fate each: {odd:#?}; without one: {unknown:?}; {}",
            story()
        );
        match self.lane {
            Lane::Rename | Lane::AcrossFilesystems => {
                assert_eq!(library, self.given.instances, "{}", story());
                let all = counted(common::digests(&[&self.site.drop, &self.site.library]));
                assert_eq!(all, self.given.digests, "{}", story());
            }
            Lane::Copy => {
                assert_eq!(drop, self.given.digests, "{}", story());
                let once: BTreeMap<_, _> = self
                    .given
                    .instances
                    .keys()
                    .map(|digest| (digest, 1))
                    .collect();
                assert!(
                    once.iter().all(|(digest, _)| library.contains_key(*digest)),
                    "{}",
                    story()
                );
                assert!(
                    library
                        .iter()
                        .all(|(digest, n)| self.given.instances[digest] >= *n),
                    "{}",
                    story()
                );
            }
            Lane::Observe => {
                assert_eq!(drop, self.given.digests, "{}", story());
                assert!(library.is_empty(), "{}", story());
            }
        }
        assert!(
            self.site.remains().is_empty(),
            "{:?}; {}",
            self.site.remains(),
            story()
        );
        self.site.assert_verified();
    }

    fn run(mut self, kills: usize) -> BTreeMap<String, usize> {
        for _ in 0..kills {
            self.kill_once();
            self.meanwhile();
        }
        self.inspect();
        self.tally
    }
}

/// So many kills over all lanes, some sites at a time; what was done and seen.
fn torture(kills: usize, seed: u64, sites: usize) -> BTreeMap<String, usize> {
    let lanes = [
        Lane::Rename,
        Lane::AcrossFilesystems,
        Lane::Copy,
        Lane::Observe,
    ];
    let tally: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let rounds = kills.div_ceil(ROUND);
    let next = AtomicUsize::new(0);
    let fight = |round: usize| {
        // Observing touches nothing: one round in ten is enough.
        let lane = if round % 10 == 3 {
            lanes[3]
        } else {
            lanes[round % 3]
        };
        let kills = ROUND.min(kills - round * ROUND);
        let done = Torture::new(lane, seed + round as u64).run(kills);
        let mut tally = tally.lock().unwrap();
        for (what, count) in done {
            *tally.entry(what).or_default() += count;
        }
        if rounds > 4 {
            eprintln!("round {} of {rounds} ({lane:?}): conserved", round + 1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..sites {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    if let Err(fault) = catch_unwind(AssertUnwindSafe(|| fight(round))) {
                        // One is enough: the others end after theirs.
                        next.store(rounds, Ordering::Relaxed);
                        resume_unwind(fault);
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

#[test]
fn whatever_is_put_in_is_there_once_and_on_record_once_however_often_the_daemon_is_killed() {
    if !cfg!(feature = "failpoints") {
        return eprintln!("SKIPPED: needs `--features failpoints`");
    }
    let kills = figures::setting("TORTURE_KILLS", 4 * ROUND);
    let seed = figures::setting("TORTURE_SEED", 20_261_124);
    let sites = figures::setting("TORTURE_SITES", 2);
    let began = Instant::now();
    let tally = torture(kills, seed as u64, sites);
    let took = began.elapsed();
    let points: BTreeSet<&str> = [Lane::Rename, Lane::Copy, Lane::Observe]
        .into_iter()
        .flat_map(Lane::failpoints)
        .collect();
    let met = |point: &&&str| tally.contains_key(&format!("{AT}{point}"));
    let missed: Vec<&&str> = points.iter().filter(|point| !met(point)).collect();
    let mut rows: Vec<Vec<String>> = tally
        .iter()
        .filter(|(what, _)| !what.starts_with(AT))
        .map(|(what, count)| vec![what.clone(), count.to_string()])
        .collect();
    rows.push(vec![
        "different failpoints that killed it".into(),
        format!("{} of {}", points.len() - missed.len(), points.len()),
    ]);
    rows.push(vec!["seed".into(), seed.to_string()]);
    rows.push(vec!["seconds".into(), format!("{:.0}", took.as_secs_f64())]);
    rows.push(vec![
        "lost, changed, doubled, without a fate or with two".into(),
        "0".into(),
    ]);
    for (what, count) in tally.iter().filter(|(what, _)| what.starts_with(AT)) {
        println!("{count:7}  {what}");
    }
    figures::publish("kills", &["what", "how often"], &rows);
    // So many kills pass each of them many times; if not, a way is no longer taken.
    assert!(
        kills < 1000 || missed.is_empty(),
        "never killed at {missed:?}"
    );
}
