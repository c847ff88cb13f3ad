//! What one file costs on record: appending to the ledger, taking a group into the index, asking the index:
//! `cargo bench --bench records`.

#![allow(clippy::expect_used)] // a benchmark may fail

use std::convert::Infallible;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use radsort::domain::{RelPath, Uid};
use radsort::filing::ledger::Ledger;
use radsort::filing::record::{Intent, Position, Record, RecordId};
use radsort::index::{Index, Query};

/// Files of one group commit, as on a busy day.
const GROUP: u64 = 100;
/// Files that the index knows when it is asked.
const KNOWN: u64 = 20_000;

fn main() {
    divan::main();
}

/// The intent of a phantom that was filed once, as the ledger had it.
fn intent() -> Intent {
    let text = include_str!("data/intent.json");
    match serde_json::from_str(text).expect("a record") {
        Record::Intent(intent) => *intent,
        other => panic!("{other:?} is no intent"),
    }
}

/// As if file number `n` had been filed.
fn filed(intent: &Intent, n: u64) -> [Record; 2] {
    let mut intent = intent.clone();
    intent.id = RecordId(format!("0123456789abcdef-{n}"));
    intent.digest = blake3::hash(&n.to_le_bytes()).into();
    intent.from = RelPath::new(format!("{n}.dcm")).expect("a path");
    intent.to.path = RelPath::new(format!("frontal-fusion/{n}.dcm")).expect("a path");
    intent.fingerprint.ino = n;
    if let Some(instance) = &mut intent.dossier.instance {
        instance.sop_instance_uid = uid(n);
    }
    let id = intent.id.clone();
    [
        Record::Intent(Box::new(intent)),
        Record::Filed { id, to: None },
    ]
}

fn uid(n: u64) -> Uid {
    Uid::parse(&format!("1.2.826.0.1.3680043.10.9999.{n}")).expect("a UID")
}

/// A group of files as the ledger would have placed them.
fn group(intent: &Intent, files: std::ops::Range<u64>) -> Vec<(Position, i64, Record)> {
    let records = files.flat_map(|n| {
        filed(intent, n)
            .into_iter()
            .enumerate()
            .map(move |(k, record)| (2 * n + k as u64, record))
    });
    let placed = records.map(|(at, record)| {
        let hash = format!("{at:032x}");
        let position = Position {
            segment: 1,
            offset: 1 + at * 1000,
            hash,
        };
        (position, 1_700_000_000_000_000 + at as i64, record)
    });
    placed.collect()
}

/// An index that knows [`KNOWN`] files.
struct Known {
    index: Index,
    _scratch: tempfile::TempDir,
}

impl Known {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let ledger = group(&intent(), 0..KNOWN)
            .into_iter()
            .map(Ok::<_, Infallible>);
        let index =
            Index::rebuild(&scratch.path().join("index"), ledger, |_| ()).expect("an index");
        Self {
            index,
            _scratch: scratch,
        }
    }
}

#[divan::bench(args = [1, GROUP], sample_count = 20)]
fn append_and_sync(bencher: Bencher, files: u64) {
    let intent = intent();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (mut ledger, _) = Ledger::open(scratch.path()).expect("a ledger");
    let records: Vec<Record> = (0..files).flat_map(|n| filed(&intent, n)).collect();
    bencher.counter(ItemsCount::new(files)).bench_local(|| {
        ledger
            .append_group(black_box(&records))
            .map(|placed| placed.len())
    });
}

#[divan::bench(args = [1, GROUP], sample_count = 20)]
fn take_in(bencher: Bencher, files: u64) {
    let intent = intent();
    let known = Known::new();
    let mut next = KNOWN;
    bencher
        .counter(ItemsCount::new(files))
        .with_inputs(|| {
            next += files;
            group(&intent, next - files..next)
        })
        .bench_local_values(|group| known.index.apply(&group));
}

#[divan::bench]
fn find_a_uid(bencher: Bencher) {
    let known = Known::new();
    let mut n = 0;
    bencher.bench_local(|| {
        n = (n + 7919) % KNOWN;
        known
            .index
            .find_uid(black_box(&uid(n)))
            .map(|found| found.is_some())
    });
}

#[divan::bench]
fn the_newest_100_of_a_category(bencher: Bencher) {
    let known = Known::new();
    let query = Query {
        category: intent().dossier.decision.category().cloned(),
        limit: Some(100),
        ..Query::default()
    };
    bencher.bench_local(|| known.index.query(black_box(&query)).count());
}

#[divan::bench]
fn count_a_category(bencher: Bencher) {
    let known = Known::new();
    let query = Query {
        category: intent().dossier.decision.category().cloned(),
        ..Query::default()
    };
    bencher.bench_local(|| known.index.count(black_box(&query)).unwrap_or_default());
}
