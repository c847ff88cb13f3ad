//! Conservation under fire: many writers, a daemon that is killed again and again at random moments and at every
//! failpoint, and after each round one question: is every byte that was put in still there, once, and on record once?
//!
//! `make torture` runs this with a thousand kills; by itself it runs a few. `TORTURE_KILLS` is the number of kills,
//! `TORTURE_SEED` repeats a run's choices (the moments of a kill are the machine's own), `TORTURE_SITES` is how many sites
//! are under fire at the same time.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/conserved.rs"]
mod conserved;
#[path = "common/figures.rs"]
mod figures;
#[path = "torture/lane.rs"]
mod lane;
#[path = "torture/site.rs"]
mod site;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "torture/writers.rs"]
mod writers;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use lane::Lane;
use site::{AT, Tally, Torture};

/// Kills between two looks at everything.
const ROUND: usize = 8;

/// So many kills over all lanes, some sites at a time; what was done and seen.
fn torture(kills: usize, seed: u64, sites: usize) -> Tally {
    let mut lanes = vec![Lane::Rename, Lane::AcrossFilesystems, Lane::Copy];
    if site::another_filesystem().is_none() {
        eprintln!(
            "SKIPPED: files across filesystems and the library's moves: /dev/shm is not there or not another filesystem"
        );
        lanes.retain(|lane| *lane != Lane::AcrossFilesystems);
    }
    let tally: Mutex<Tally> = Mutex::default();
    let rounds = kills.div_ceil(ROUND);
    let next = AtomicUsize::new(0);
    let fight = |round: usize| {
        // Observing touches nothing: one round in ten is enough.
        let lane = if round % 10 == 3 {
            Lane::Observe
        } else {
            lanes[round % lanes.len()]
        };
        let kills = ROUND.min(kills - round * ROUND);
        // All lanes with a short ledger, then all with a long one.
        let short_ledger = (round / lanes.len()).is_multiple_of(2);
        let done = Torture::new(lane, seed + round as u64, short_ledger).run(kills);
        tally.lock().unwrap().add(done);
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
        .chain(Lane::failpoints_back())
        .collect();
    let met = |point: &&&str| tally.events.contains_key(&format!("{AT}{point}"));
    let missed: Vec<&&str> = points.iter().filter(|point| !met(point)).collect();
    let (at_points, events): (Vec<_>, Vec<_>) =
        (tally.events.iter()).partition(|(what, _)| what.starts_with(AT));
    for (what, count) in at_points {
        println!("{count:7}  {what}");
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, how_often: &dyn ToString| {
        rows.push(vec![what.to_owned(), how_often.to_string()]);
    };
    for (what, count) in events {
        row(what, count);
    }
    let killed_at = points.len() - missed.len();
    row(
        "different failpoints that killed it",
        &format!("{killed_at} of {}", points.len()),
    );
    row("seed", &seed);
    row("seconds", &took.as_secs());
    row("files compared, by digest and place", &tally.files.wanted);
    row("files lost", &tally.files.lost);
    row("files doubled", &tally.files.doubled);
    row(
        "files changed, half-written or misplaced",
        &tally.files.strange,
    );
    row("fates compared", &tally.records.wanted);
    row("files without a fate", &tally.records.lost);
    row("files with two fates", &tally.records.doubled);
    row("fates of what nobody put in", &tally.records.strange);
    figures::publish("kills", &["what", "how often"], &rows);
    // So many kills pass each of them many times; if not, a way is no longer taken.
    assert!(
        kills < 1000 || missed.is_empty(),
        "never killed at {missed:?}"
    );
}
