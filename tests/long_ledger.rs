//! A service of many years: its ledger is long, and it starts all the same.
//!
//! `make endurance` runs this with `LEDGER_ENTRIES=1000000`, prints what it takes, and asks for less than 2 s to READY.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/figures.rs"]
mod figures;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Mould, Site, files, total, uid};
use radsort::domain::{RelPath, Uid};
use radsort::filing::checkpoint;
use radsort::filing::ledger::Ledger;
use radsort::filing::record::{Intent, Record};

/// Entries a group, as on a busy day.
const GROUP: usize = 500;

/// The intent of a file that was really copied, to make others of.
fn real_intent(site: &Site) -> Intent {
    let daemon = {
        let mut daemon = site.start();
        site.put("0.dcm", &Mould::new(51).bytes(&uid(0)));
        daemon.wait_total(1);
        daemon
    };
    daemon.stop();
    Ledger::read(&site.state, None)
        .unwrap()
        .find_map(|line| match line.unwrap().2 {
            Record::Intent(intent) => Some(*intent),
            _ => None,
        })
        .unwrap()
}

/// As if so many files more had been copied.
fn grow(state: &Path, intent: &Intent, entries: usize) {
    let (mut ledger, _) = Ledger::open(state).unwrap();
    let mut group = Vec::new();
    for n in 1..=entries {
        let mut intent = intent.clone();
        intent.id = ledger.next_id();
        intent.digest = blake3::hash(&n.to_le_bytes()).into();
        intent.from = RelPath::new(format!("{n}.dcm")).unwrap();
        intent.to.path = RelPath::new(format!("Frontal/{n}.dcm")).unwrap();
        intent.fingerprint.ino = 1_000_000_000 + n as u64;
        if let Some(instance) = &mut intent.dossier.instance {
            instance.sop_instance_uid = Uid::parse(&uid(n)).unwrap();
        }
        let id = intent.id.clone();
        group.push(Record::Intent(Box::new(intent)));
        group.push(Record::Filed { id, to: None });
        if n % GROUP == 0 || n == entries {
            ledger.append_group(&group).unwrap();
            group.clear();
        }
    }
}

/// From the start to READY.
fn starting(site: &Site, expected: u64) -> Duration {
    let started = Instant::now();
    let mut daemon = site.start();
    let took = started.elapsed();
    let status = daemon.wait_until("it answers", |_| true);
    assert_eq!(total(&status), expected);
    daemon.stop();
    took
}

fn size(dir: &Path) -> u64 {
    files(dir)
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .sum()
}

#[test]
fn a_long_ledger_is_read_from_its_checkpoint_on() {
    let least = *checkpoint::WORTH as usize / 2 + 1000;
    let entries = figures::setting("LEDGER_ENTRIES", least);
    let site = Site::with("action = \"copy\"", "");
    let intent = real_intent(&site);
    let empty = starting(&site, 1);
    let index = || -> u64 {
        let parts = fs::read_dir(&site.state).unwrap().flatten();
        parts
            .filter(|part| part.file_name().to_string_lossy().starts_with("index"))
            .map(|part| size(&part.path()))
            .sum()
    };
    let (ledger_before, index_before) = (size(&site.state.join("ledger")), index());
    grow(&site.state, &intent, entries);
    let rebuilding = Instant::now();
    // It complains, rightly: none of those files is there.
    let reindexed = site.run(&["reindex"]);
    assert_eq!(reindexed.status.code(), Some(1), "{reindexed:?}");
    let rebuilt = rebuilding.elapsed();

    let expected = entries as u64 + 1;
    let path = site.state.join("checkpoint");
    let _ = fs::remove_file(&path);
    let whole = starting(&site, expected);
    let file = fs::metadata(&path).unwrap();
    assert_eq!(file.mode() & 0o777, 0o600);
    let short = starting(&site, expected);
    let (reached, replay) = checkpoint::read(&site.state).unwrap();
    assert!(reached.records >= 2 * expected && replay.open.is_empty());

    // Killed in the middle: the one before serves, and nothing is taken a second time.
    let mut daemon = site.start();
    site.put("last.dcm", &Mould::new(52).bytes(&uid(entries + 1)));
    daemon.wait_total(expected + 1);
    daemon.kill();
    assert_eq!(checkpoint::read(&site.state).unwrap().0, reached);
    starting(&site, expected + 1);
    assert_eq!(
        site.ok(&["query", "--count"]).trim(),
        format!("{}", expected + 1)
    );

    let each = |bytes: u64| format!("{} bytes", bytes / entries as u64);
    let seconds = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
    let ledger_bytes = size(&site.state.join("ledger")) - ledger_before;
    figures::publish(
        "long-ledger",
        &["what", "how much"],
        &[
            ("entries", entries.to_string()),
            ("ledger, each", each(ledger_bytes)),
            ("index, each", each(index().saturating_sub(index_before))),
            (
                "index made anew, entries a second",
                format!("{:.0}", entries as f64 / rebuilt.as_secs_f64()),
            ),
            ("to READY, ledger empty", seconds(empty)),
            ("to READY, whole ledger read", seconds(whole)),
            ("to READY, from the checkpoint on", seconds(short)),
        ]
        .map(|(what, figure)| vec![what.to_owned(), figure]),
    );
    // The promise is of a million; a slice on a busy machine shows that it is no slower than reading all.
    let limit = if figures::kept().is_some() {
        Duration::from_secs(2)
    } else {
        whole.max(Duration::from_secs(5))
    };
    assert!(short < limit, "{short:?} to READY");
}
