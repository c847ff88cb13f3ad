//! Hours compressed: very many small files through one daemon. File descriptors and threads stay as they are, and memory
//! grows by no more than is explained.
//!
//! `make endurance` takes 200,000 (`ENDURANCE_FILES`), prints a table and draws `docs/pictures/endurance.svg`; by itself it
//! takes a few hundred. Judged is what is there while nothing is under way. The first half of the samples is warm-up: beyond
//! its cache sled keeps up to 64 pages in each of 256 shards that it has read and not counted yet, 16 rows a page, and looks at
//! the library read all of them.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/plot.rs"]
mod plot;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Site, digest, files};

/// How much the median of the last quarter of the samples may be above that of the third: a tenth, and for the decoders'
/// memory what a cache or two may still take.
const TOLERANCE: f64 = 1.1;
const MEMORY_SLACK: f64 = 4.0;

/// After how many batches the library is looked at, as it is every few minutes in a service's life.
const LOOK_EVERY: usize = 10;

/// MB that the daemon's memory may grow whatever comes: caches.
const DAEMONS_SLACK: f64 = 8.0;

/// Threads that wait a few seconds for more to do (tokio's blocking pool; 32 files may wait to be filed at the same time): in a
/// short run it depends on when one looks.
const THREADS_SLACK: f64 = 40.0;

/// MB that the daemon's memory may grow a file besides: sled knows in memory where each of its pages lies
/// (docs/reliability.md).
const EXPLAINED: f64 = 0.25e-3;

/// The processes below one, itself first.
fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may be gone by now.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// Lines of `smaps_rollup` in MB: the proportional set size, and its part that no file stands behind.
fn memory(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let megabytes = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        number.unwrap_or(0.0) * 1024.0 / 1e6
    };
    (megabytes("Pss:"), megabytes("Pss_Anon:"))
}

fn count(dir: &str) -> f64 {
    fs::read_dir(dir).map_or(0, Iterator::count) as f64
}

fn size(dir: &Path) -> f64 {
    files(dir)
        .iter()
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum::<u64>() as f64
}

/// How it stands after so many files.
#[derive(Clone, Debug)]
struct Sample {
    files: usize,
    daemon: f64,
    daemon_anonymous: f64,
    workers: f64,
    workers_anonymous: f64,
    descriptors: f64,
    threads: f64,
    processes: f64,
    ledger: f64,
    index: f64,
}

impl Sample {
    fn take(site: &Site, pid: u32, files: usize) -> Self {
        let family = family(pid);
        let (daemon, daemon_anonymous) = memory(pid);
        let workers = family[1..].iter().map(|worker| memory(*worker));
        let (workers, workers_anonymous) =
            workers.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let of_all = |what: &str| -> f64 {
            let dirs = family.iter().map(|pid| format!("/proc/{pid}/{what}"));
            dirs.map(|dir| count(&dir)).sum()
        };
        let state = fs::read_dir(&site.state).unwrap().flatten();
        let index = state
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("index"))
            .map(|entry| size(&entry.path()));
        Self {
            files,
            daemon,
            daemon_anonymous,
            workers,
            workers_anonymous,
            descriptors: of_all("fd"),
            threads: of_all("task"),
            processes: family.len() as f64,
            ledger: size(&site.state.join("ledger")),
            index: index.sum(),
        }
    }
}

/// A batch of files in one of the ways in which many files come at once; they are there when this returns.
fn put_batch(site: &Site, batch: usize, numbers: std::ops::Range<usize>, given: &mut Vec<String>) {
    let name = format!("batch-{batch}");
    let staged = site.dir.path().join(&name);
    let folder = site.drop.join(&name);
    let write = |dir: &Path, given: &mut Vec<String>| {
        fs::create_dir_all(dir).unwrap();
        for n in numbers.clone() {
            let bytes = tiny::image(n);
            fs::write(dir.join(format!("{n}.dcm")), &bytes).unwrap();
            given.push(digest(&bytes));
        }
    };
    match batch % 3 {
        // A folder that is renamed in.
        0 => {
            write(&staged, given);
            fs::rename(&staged, &folder).unwrap();
        }
        // One file renamed in after the other.
        1 => {
            write(&staged, given);
            fs::create_dir(&folder).unwrap();
            for n in numbers {
                let file = format!("{n}.dcm");
                fs::rename(staged.join(&file), folder.join(&file)).unwrap();
            }
            fs::remove_dir(&staged).unwrap();
        }
        // Deep folders, and files written in their place.
        _ => write(&folder.join("a/b"), given),
    }
}

/// Takes away what a batch has left: folders.
fn clear(site: &Site, batch: usize) {
    fs::remove_dir_all(site.drop.join(format!("batch-{batch}"))).unwrap();
}

fn median(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn descriptors_and_threads_stay_as_they_are_and_memory_grows_as_explained_however_many_files_come()
{
    let wanted = figures::setting("ENDURANCE_FILES", 400);
    let batch = (wanted / 200).clamp(25, 1000);
    let bundle = tiny::Bundle::new();
    let site = Site::with("trusted = true", &bundle.section());
    let mut daemon = site.start();
    let pid = daemon.child.id();
    let began = Instant::now();
    let mut given = Vec::with_capacity(wanted);
    let mut samples = vec![Sample::take(&site, pid, 0)];
    for (number, first) in (0..wanted).step_by(batch).enumerate() {
        let end = (first + batch).min(wanted);
        put_batch(&site, number, first..end, &mut given);
        daemon.wait_until("a batch has its fates", |status| {
            common::total(status) >= end as u64 && status["watches"][0]["waiting"] == 0
        });
        clear(&site, number);
        if number % LOOK_EVERY == LOOK_EVERY - 1 {
            site.ok(&["labels", "look"]);
        }
        let sample = Sample::take(&site, pid, end);
        if wanted > 5000 && number % 10 == 9 {
            eprintln!("{sample:?}");
        }
        samples.push(sample);
    }
    let took = began.elapsed();
    daemon.stop();

    // Not one was missed, changed, or made.
    given.sort();
    assert!(site.digests() == given, "what went in is not what is there");
    assert_eq!(site.ok(&["query", "--count"]).trim(), wanted.to_string());
    site.assert_verified();

    publish(&samples, wanted, took);
}

#[test]
fn a_folder_of_thousands_of_files_that_is_renamed_does_not_fill_the_memory() {
    const FILES: usize = 4000;
    let bundle = tiny::Bundle::new();
    let site = Site::with("trusted = true", &bundle.section());
    let mut daemon = site.start();
    put_batch(&site, 0, 0..FILES, &mut Vec::new());
    daemon.wait_until("all have their fates", |status| {
        common::total(status) >= FILES as u64
    });
    let look = || -> serde_json::Value {
        serde_json::from_str(&site.ok(&["labels", "look", "--json"])).unwrap()
    };
    assert_eq!(look()["in_place"], FILES);
    let folders = fs::read_dir(&site.library).unwrap().flatten();
    let folders = folders.map(|entry| entry.path()).filter(|at| at.is_dir());
    let largest = folders.max_by_key(|at| files(at).len()).unwrap();
    let moved = files(&largest).len();
    let (_, before) = memory(daemon.child.id());
    fs::rename(&largest, site.library.join("renamed")).unwrap();
    let looked = look();
    assert_eq!([&looked["moved"], &looked["pending"]], [moved, moved]);
    // 64 KB a file, when all was recorded in one piece.
    let (_, after) = memory(daemon.child.id());
    assert!(
        after < before + 32.0,
        "{before} MB, then {after} MB for {moved} files"
    );
    daemon.stop();
}

/// What is judged.
struct Judged {
    name: &'static str,
    unit: &'static str,
    may_grow: Growth,
    value: fn(&Sample) -> f64,
}

/// How much something may grow between two looks.
#[derive(Clone, Copy)]
enum Growth {
    /// By [`TOLERANCE`], and this besides.
    Flat(f64),
    /// By [`DAEMONS_SLACK`] and [`EXPLAINED`].
    WithTheFiles,
}

impl Growth {
    /// The word for a growth while so many files came; `None` if it is more than may be.
    fn judged(self, was: f64, is: f64, files: f64) -> Option<String> {
        let grown = is - was;
        match self {
            Self::Flat(slack) if is <= was * TOLERANCE + slack => Some("flat".to_owned()),
            Self::WithTheFiles if grown <= DAEMONS_SLACK => Some("flat".to_owned()),
            Self::WithTheFiles if grown <= DAEMONS_SLACK + EXPLAINED * files => Some(format!(
                "grows {:.1} KB a file, as explained",
                grown / files * 1e3
            )),
            _ => None,
        }
    }
}

#[test]
fn memory_that_grows_is_not_called_flat_and_a_leak_of_200_bytes_a_file_is_seen() {
    let judged = |each: f64| Growth::WithTheFiles.judged(48.7, 48.7 + each * 0.05, 5e4);
    assert_eq!(judged(10.0).unwrap(), "flat");
    assert_eq!(judged(260.0).unwrap(), "grows 0.3 KB a file, as explained");
    assert_eq!(judged(260.0 + 200.0), None);
    assert_eq!(Growth::Flat(0.0).judged(38.0, 42.0, 1e5), None);
}

const JUDGED: [Judged; 5] = [
    Judged {
        name: "daemon, anonymous memory",
        unit: "MB",
        may_grow: Growth::WithTheFiles,
        value: |sample| sample.daemon_anonymous,
    },
    Judged {
        name: "decoders, anonymous memory",
        unit: "MB",
        may_grow: Growth::Flat(MEMORY_SLACK),
        value: |sample| sample.workers_anonymous,
    },
    Judged {
        name: "file descriptors of all",
        unit: "",
        may_grow: Growth::Flat(0.0),
        value: |sample| sample.descriptors,
    },
    Judged {
        name: "threads of all",
        unit: "",
        may_grow: Growth::Flat(THREADS_SLACK),
        value: |sample| sample.threads,
    },
    Judged {
        name: "processes",
        unit: "",
        may_grow: Growth::Flat(0.0),
        value: |sample| sample.processes,
    },
];

/// Tables, picture, and the judgement.
fn publish(samples: &[Sample], wanted: usize, took: Duration) {
    let quarter = samples.len() / 4;
    let (before, after) = (
        &samples[2 * quarter..3 * quarter],
        &samples[samples.len() - quarter..],
    );
    let mut rows = Vec::new();
    let mut grown = Vec::new();
    let between =
        median(after, |sample| sample.files as f64) - median(before, |sample| sample.files as f64);
    for Judged {
        name,
        unit,
        may_grow,
        value,
    } in JUDGED
    {
        let (was, is) = (median(before, value), median(after, value));
        let most = samples.iter().map(value).fold(0.0, f64::max);
        let judged = may_grow.judged(was, is, between);
        if judged.is_none() {
            grown.push(format!("{name}: {was:.1} {unit} has become {is:.1} {unit}"));
        }
        let digits = usize::from(!unit.is_empty());
        let show = |value: f64| format!("{value:.digits$} {unit}").trim_end().to_owned();
        rows.push(vec![
            name.to_owned(),
            show(was),
            show(is),
            show(most),
            judged.unwrap_or_else(|| "GROWN".to_owned()),
        ]);
    }
    let only = |name: &str, value: fn(&Sample) -> f64| {
        vec![
            name.to_owned(),
            format!("{:.1} MB", median(before, value)),
            format!("{:.1} MB", median(after, value)),
            format!("{:.1} MB", samples.iter().map(value).fold(0.0, f64::max)),
            "shown".to_owned(),
        ]
    };
    rows.push(only("daemon, PSS", |sample| sample.daemon));
    rows.push(only("decoders, PSS", |sample| sample.workers));
    figures::publish(
        "endurance",
        &[
            "at rest",
            "third quarter",
            "last quarter",
            "highest",
            "judged",
        ],
        &rows,
    );
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let each = |value: fn(&Sample) -> f64| {
        format!("{:.0} bytes", (value(last) - value(first)) / wanted as f64)
    };
    let memory = |samples| median(samples, |sample| sample.daemon_anonymous);
    let memory = (memory(after) - memory(before)) / between.max(1.0) * 1e6;
    figures::publish(
        "endurance-growth",
        &[
            "files",
            "seconds",
            "files a second",
            "ledger, each",
            "index, each",
            "daemon's memory, each",
        ],
        &[vec![
            wanted.to_string(),
            format!("{:.0}", took.as_secs_f64()),
            format!("{:.0}", wanted as f64 / took.as_secs_f64()),
            each(|sample| sample.ledger),
            each(|sample| sample.index),
            format!("{memory:.0} bytes"),
        ]],
    );
    if figures::kept().is_some() {
        let at = |value: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
            let points = samples.iter();
            points
                .map(|sample| (sample.files as f64, value(sample)))
                .collect()
        };
        let panels = [
            plot::Panel {
                title: "memory at rest, MB",
                lines: vec![
                    ("daemon, PSS", at(|sample| sample.daemon)),
                    ("daemon, anonymous", at(|sample| sample.daemon_anonymous)),
                    ("decoders, PSS", at(|sample| sample.workers)),
                ],
            },
            plot::Panel {
                title: "daemon and decoders",
                lines: vec![
                    ("file descriptors", at(|sample| sample.descriptors)),
                    ("threads", at(|sample| sample.threads)),
                ],
            },
            plot::Panel {
                title: "on disk, MB",
                lines: vec![
                    ("ledger", at(|sample| sample.ledger / 1e6)),
                    ("index", at(|sample| sample.index / 1e6)),
                ],
            },
        ];
        let picture = plot::svg("files", &panels);
        fs::write(figures::pictures().join("endurance.svg"), picture).unwrap();
    }
    assert!(grown.is_empty(), "{grown:#?}");
}
