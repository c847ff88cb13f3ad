//! Killed between every two steps (SIGKILL, in a child process), then started again: exactly one copy, one record.
#![cfg(feature = "failpoints")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::super::failpoints::{FAILPOINTS, arm_from_environment};
use super::super::ledger::Ledger;
use super::*;

/// What the child files: one way each.
const WAYS: [&str; 4] = ["rename", "copy", "keep", "quarantine"];

fn request(bench: &Bench, way: &str) -> FilingRequest {
    let request = bench.request("a.dcm", "1.1");
    match way {
        "quarantine" => quarantined(request),
        "keep" => FilingRequest {
            action: Action::Copy,
            ..request
        },
        _ => request,
    }
}

/// Not a test by itself: the child that gets killed.
#[test]
#[ignore = "run by the tests below"]
fn child() {
    let base = PathBuf::from(std::env::var_os("RADSORT_TEST_BASE").unwrap());
    let way = std::env::var("RADSORT_TEST_WAY").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::at(&base);
        let filer = bench.start().await;
        arm_from_environment().unwrap();
        filer.file(request(&bench, &way)).await.unwrap();
        filer.stop().await;
    });
}

#[tokio::test]
async fn wherever_it_is_killed_exactly_one_copy_and_one_record_are_left() {
    for way in WAYS {
        for (place, passed_by) in FAILPOINTS {
            let bench = Bench::new();
            bench.put("a.dcm", "a");
            if way == "copy" {
                // A second name makes it a copy; it goes again below.
                fs::hard_link(bench.drop.join("a.dcm"), bench.state.join("second")).unwrap();
            }
            let status = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "filing::tests::crash::child",
                    "--ignored",
                    "--quiet",
                ])
                .env("RADSORT_TEST_BASE", bench.state.parent().unwrap())
                .env("RADSORT_TEST_WAY", way)
                .env("RADSORT_CRASH_AT", place)
                .output()
                .unwrap()
                .status;
            let copied = matches!(way, "copy" | "keep");
            let claims = [
                "before-claim",
                "after-claim",
                "before-unclaim",
                "after-unclaim",
            ]
            .contains(place);
            let passes = match *passed_by {
                "rename" => !copied,
                "copy" => copied && !(way == "keep" && claims),
                // Nothing is given back here.
                "undo" => false,
                _ => true,
            };
            let expected = if passes { Some(9) } else { None };
            assert_eq!(status.signal(), expected, "{way} {place}: {status:?}");

            // Started again; what is in the drop directory comes again.
            let filer = bench.start().await;
            if bench.drop.join("a.dcm").exists() {
                let again = request(&bench, way);
                if !filer.is_taken(again.action, &sight(&again)) {
                    filer.file(again).await.unwrap();
                }
            }
            filer.stop().await;
            let left = if way == "keep" { 2 } else { 1 };
            assert_eq!(
                bench.census(),
                BTreeMap::from([("a".to_owned(), left)]),
                "{way} {place}"
            );
            let in_library: Vec<_> = bench
                .in_library()
                .into_iter()
                .filter(|name| !name.ends_with(".reason.txt"))
                .collect();
            assert_eq!(in_library.len(), 1, "{way} {place}");
            assert_eq!(
                bench.in_drop().len(),
                usize::from(way == "keep"),
                "{way} {place}"
            );

            let records: Vec<_> = Ledger::read(&bench.state, None)
                .unwrap()
                .map(|line| line.unwrap().2)
                .collect();
            let count =
                |test: fn(&Record) -> bool| records.iter().filter(|record| test(record)).count();
            let intents = count(|record| matches!(record, Record::Intent(_)));
            let ends =
                count(|record| matches!(record, Record::Filed { .. } | Record::Quarantined { .. }));
            let abandoned = count(|record| matches!(record, Record::Abandoned { .. }));
            assert_eq!(
                (ends, intents),
                (1, 1 + abandoned),
                "{way} {place}: {records:?}"
            );
        }
    }
}

/// In a child of its own, because failpoints are the process's.
#[test]
fn a_ledger_that_cannot_be_written_holds_files_back_and_says_so() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "filing::tests::crash::child_with_an_unwritable_ledger",
            "--ignored",
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn child_with_an_unwritable_ledger() {
    let scenario = fail::FailScenario::setup();
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    fail::cfg("ledger-write", "1*return").unwrap();
    let outcome = filer.file(bench.request("a", "1.1")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Held(super::super::filer::HoldReason::Ledger(_))
        ),
        "{outcome:?}"
    );
    assert_eq!(bench.in_drop(), ["a"]);
    assert_eq!(
        fate(&filer.file(bench.request("a", "1.1")).await.unwrap()),
        Fate::Filed
    );

    // The record of what has happened is written as soon as that is possible.
    bench.put("b", "b");
    fail::cfg("ledger-write", "1*off->1*return->off").unwrap();
    assert_eq!(
        fate(&filer.file(bench.request("b", "1.2")).await.unwrap()),
        Fate::Filed
    );

    // Records that were given together are written together or not at all, as whoever gave them was told.
    let missing = || Record::Missing {
        id: super::super::record::RecordId("nobody-1".into()),
    };
    fail::cfg("ledger-write", "1*return->off").unwrap();
    let appended = filer.append(vec![missing(), missing()]).await.unwrap();
    assert!(appended.is_err());
    bench.put("d", "d");
    filer.file(bench.request("d", "1.4")).await.unwrap();
    let records = bench.catalogue.records();
    assert!(!records.contains(&missing()), "{records:?}");

    // A state directory whose disk is nearly full holds files back; what people say is still taken.
    bench.put("e", "e");
    fail::cfg("state-full", "return").unwrap();
    let outcome = filer.file(bench.request("e", "1.5")).await.unwrap();
    assert!(
        matches!(
            &outcome,
            Outcome::Held(super::super::filer::HoldReason::Ledger(why)) if why.contains("MiB")
        ),
        "{outcome:?}"
    );
    assert!(filer.append(vec![missing()]).await.unwrap().is_ok());
    fail::cfg("state-full", "off").unwrap();
    assert_eq!(
        fate(&filer.file(bench.request("e", "1.5")).await.unwrap()),
        Fate::Filed
    );

    // A stop does not wait for room: the next start finds what was done.
    bench.put("f", "f");
    fail::cfg("ledger-write", "1*off->return").unwrap();
    let filing = tokio::spawn({
        let (filer, request) = (filer.clone(), bench.request("f", "1.6"));
        async move { filer.file(request).await }
    });
    while !bench.in_library().contains(&"Fusion/1.6.dcm".to_owned()) {
        tokio::task::yield_now().await;
    }
    filer.stop().await;
    assert!(filing.await.unwrap().is_err());
    fail::cfg("ledger-write", "off").unwrap();
    drop(filer);
    let filer = bench.start().await;
    assert_eq!(bench.census()["f"], 1);
    assert!(bench.in_drop().is_empty());

    // A failed sync is never tried again.
    bench.put("c", "c");
    fail::cfg("ledger-sync", "1*return").unwrap();
    assert!(filer.file(bench.request("c", "1.3")).await.is_err());
    // Once the thread is gone it has said why.
    assert!(filer.ping().await.is_err());
    assert!(filer.failure().is_some());
    scenario.teardown();
    assert_eq!(bench.in_drop(), ["c"]);
}
