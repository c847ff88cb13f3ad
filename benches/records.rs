//! What one file costs on record: appending to the ledger, taking a group into the index, asking the index:
//! `cargo bench --bench records`.

#![allow(missing_docs)] // criterion's macros
#![allow(clippy::expect_used)] // a benchmark may fail

use std::convert::Infallible;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use radsort::domain::{RelPath, Uid};
use radsort::filing::ledger::Ledger;
use radsort::filing::record::{Intent, Position, Record, RecordId};
use radsort::index::{Index, Query};

/// Files of one group commit, as on a busy day.
const GROUP: u64 = 100;
/// Files that the index knows when it is asked.
const KNOWN: u64 = 20_000;

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

fn index_with(dir: &Path, intent: &Intent, files: u64) -> Index {
    let ledger = group(intent, 0..files).into_iter().map(Ok::<_, Infallible>);
    Index::rebuild(dir, ledger, |_| ()).expect("an index")
}

fn ledger(criterion: &mut Criterion) {
    let intent = intent();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (mut ledger, _) = Ledger::open(scratch.path()).expect("a ledger");
    let mut bench = criterion.benchmark_group("ledger");
    bench.sample_size(20);
    for files in [1, GROUP] {
        let records: Vec<Record> = (0..files).flat_map(|n| filed(&intent, n)).collect();
        bench.throughput(Throughput::Elements(files));
        bench.bench_function(format!("append and sync {files}"), |bencher| {
            bencher.iter(|| ledger.append_group(black_box(&records)));
        });
    }
    bench.finish();
}

fn index(criterion: &mut Criterion) {
    let intent = intent();
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let index = index_with(&scratch.path().join("index"), &intent, KNOWN);
    let mut bench = criterion.benchmark_group("index");
    bench.sample_size(20);
    let mut next = KNOWN;
    for files in [1, GROUP] {
        bench.throughput(Throughput::Elements(files));
        bench.bench_function(format!("take in {files}"), |bencher| {
            let fresh = || {
                next += files;
                group(&intent, next - files..next)
            };
            bencher.iter_batched(fresh, |group| index.apply(&group), BatchSize::PerIteration);
        });
    }
    bench.throughput(Throughput::Elements(1));
    let mut n = 0;
    bench.bench_function("find a UID", |bencher| {
        bencher.iter(|| {
            n = (n + 7919) % KNOWN;
            index.find_uid(black_box(&uid(n)))
        });
    });
    let newest = Query {
        category: intent.dossier.decision.category().cloned(),
        limit: Some(100),
        ..Query::default()
    };
    bench.bench_function("the newest 100 of a category", |bencher| {
        bencher.iter(|| index.query(black_box(&newest)).count());
    });
    let count = Query {
        limit: None,
        ..newest
    };
    bench.bench_function("count a category", |bencher| {
        bencher.iter(|| index.count(black_box(&count)));
    });
    bench.finish();
}

criterion_group!(benches, ledger, index);
criterion_main!(benches);
