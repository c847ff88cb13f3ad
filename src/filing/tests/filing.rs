//! Files that are filed: moved, copied, observed; duplicates, conflicts, taken names.

use std::os::unix::fs::PermissionsExt;

use super::super::quarantine;
use super::*;

#[tokio::test]
async fn a_file_of_ours_is_renamed_recorded_and_indexed_before_anyone_is_told() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a.dcm", "a");
    let before = inode(&bench.drop.join("a.dcm"));
    let outcome = filer.file(bench.request("a.dcm", "1.1")).await.unwrap();
    assert_eq!(
        (fate(&outcome), to(&outcome)),
        (Fate::Filed, "Fusion/1.1.dcm".into())
    );
    let filed = bench.library.join("Fusion/1.1.dcm");
    assert_eq!(inode(&filed), before);
    assert_eq!(
        fs::metadata(&filed).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    assert_eq!(
        fs::metadata(bench.library.join("Fusion"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o2750
    );
    assert!(bench.in_drop().is_empty());
    let kinds: Vec<_> = bench.catalogue.records();
    assert!(
        matches!(
            kinds[..],
            [
                Record::Library { .. },
                Record::Intent(_),
                Record::Filed { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn a_file_of_another_owner_is_copied_verified_and_only_then_removed() {
    let bench = Bench::new();
    bench.put("a.dcm", "a");
    let path = bench.drop.join("a.dcm");
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        eprintln!("SKIPPED: only root can give files away");
        return;
    }
    let filer = bench.start().await;
    let (before, modified) = (inode(&path), fs::metadata(&path).unwrap().mtime());
    let outcome = filer.file(bench.request("a.dcm", "1.1")).await.unwrap();
    let filed = bench.library.join(to(&outcome));
    let metadata = fs::metadata(&filed).unwrap();
    assert_ne!(metadata.ino(), before);
    assert_eq!(
        (metadata.uid(), metadata.mode() & 0o7777, metadata.mtime()),
        (0, 0o640, modified)
    );
    assert_eq!(bench.in_library(), ["Fusion/1.1.dcm"]);
    assert!(bench.in_drop().is_empty());
}

#[tokio::test]
async fn a_trusted_watch_is_renamed_whoever_owns_its_files() {
    let bench = Bench::new();
    bench.put("a.dcm", "a");
    let path = bench.drop.join("a.dcm");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let filer = bench.start().await;
    let before = inode(&path);
    let outcome = filer
        .file(FilingRequest {
            trusted: true,
            ..bench.request("a.dcm", "1.1")
        })
        .await
        .unwrap();
    let metadata = fs::metadata(bench.library.join(to(&outcome))).unwrap();
    assert_eq!((metadata.ino(), metadata.mode() & 0o7777), (before, 0o604));
}

#[tokio::test]
async fn a_file_with_a_second_name_is_copied_and_that_name_stays() {
    let bench = Bench::new();
    bench.put("a.dcm", "a");
    fs::hard_link(bench.drop.join("a.dcm"), bench.drop.join("b.dcm")).unwrap();
    let filer = bench.start().await;
    filer.file(bench.request("a.dcm", "1.1")).await.unwrap();
    assert_eq!(bench.in_drop(), ["b.dcm"]);
    assert_ne!(
        inode(&bench.library.join("Fusion/1.1.dcm")),
        inode(&bench.drop.join("b.dcm"))
    );
}

#[tokio::test]
async fn the_same_file_again_is_a_duplicate_and_other_bytes_are_a_conflict() {
    let bench = Bench::new();
    let filer = bench.start().await;
    for (name, bytes) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", "b")] {
        bench.put(name, bytes);
    }
    let census = bench.census();
    let mut fates = Vec::new();
    for name in ["1", "2", "3", "4", "5"] {
        fates.push(fate(&filer.file(bench.request(name, "1.1")).await.unwrap()));
    }
    use Fate::{Conflict, Duplicate, Filed};
    assert_eq!(fates, [Filed, Duplicate, Conflict, Duplicate, Conflict]);
    assert_eq!(bench.census(), census);
    assert!(bench.in_drop().is_empty());
    let (a, b) = (&digest("a").0[..16], &digest("b").0[..16]);
    let names = bench.in_library();
    for expected in [
        "Fusion/1.1.dcm".to_owned(),
        format!("_duplicates/1.1~{a}.dcm"),
        format!("_review/uid-conflict/1.1~{b}.dcm"),
    ] {
        assert!(names.contains(&expected), "{expected} not in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_one_uid_that_come_at_the_same_moment_are_told_apart() {
    let bench = Bench::new();
    let filer = bench.start().await;
    for name in ["1", "2", "3", "4"] {
        bench.put(name, if name == "4" { "b" } else { "a" });
    }
    let census = bench.census();
    let all = ["1", "2", "3", "4"].map(|name| {
        let (filer, request) = (filer.clone(), bench.request(name, "1.1"));
        tokio::spawn(async move { filer.file(request).await.unwrap() })
    });
    let mut fates = Vec::new();
    for one in all {
        fates.push(fate(&one.await.unwrap()));
    }
    fates.sort();
    assert_eq!(
        fates.iter().filter(|fate| **fate == Fate::Filed).count(),
        1,
        "{fates:?}"
    );
    assert_eq!(bench.census(), census);
    assert!(bench.in_drop().is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_by_other_bytes_is_left_alone() {
    let bench = Bench::new();
    let filer = bench.start().await;
    fs::create_dir_all(bench.library.join("Fusion")).unwrap();
    fs::write(bench.library.join("Fusion/1.1.dcm"), "somebody else's").unwrap();
    bench.put("a.dcm", "a");
    let outcome = filer.file(bench.request("a.dcm", "1.1")).await.unwrap();
    assert_eq!(fate(&outcome), Fate::Filed);
    assert!(to(&outcome).contains(&digest("a").0[..16]));
    assert_eq!(
        fs::read_to_string(bench.library.join("Fusion/1.1.dcm")).unwrap(),
        "somebody else's"
    );
    assert_eq!(
        fs::read_to_string(bench.library.join(to(&outcome))).unwrap(),
        "a"
    );
}

#[tokio::test]
async fn the_same_bytes_that_nobody_recorded_make_a_duplicate() {
    let bench = Bench::new();
    let filer = bench.start().await;
    fs::create_dir_all(bench.library.join("Fusion")).unwrap();
    fs::write(bench.library.join("Fusion/1.1.dcm"), "a").unwrap();
    bench.put("a.dcm", "a");
    assert_eq!(
        fate(&filer.file(bench.request("a.dcm", "1.1")).await.unwrap()),
        Fate::Duplicate
    );
    assert_eq!(bench.census()["a"], 2);
}

#[tokio::test]
async fn a_filed_file_that_was_deleted_and_comes_again_is_filed_again() {
    let bench = Bench::new();
    let filer = bench.start().await;
    for _ in 0..2 {
        bench.put("a.dcm", "a");
        assert_eq!(
            to(&filer.file(bench.request("a.dcm", "1.1")).await.unwrap()),
            "Fusion/1.1.dcm"
        );
        fs::remove_file(bench.library.join("Fusion/1.1.dcm")).unwrap();
    }
}

#[tokio::test]
async fn a_copied_file_stays_untouched_and_is_not_copied_again_after_restart_or_remount() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("sub/a.dcm", "a");
    let copy = || FilingRequest {
        action: Action::Copy,
        ..bench.request("sub/a.dcm", "1.1")
    };
    let before = fs::metadata(bench.drop.join("sub/a.dcm")).unwrap();
    let outcome = filer.file(copy()).await.unwrap();
    assert_eq!(to(&outcome), "Fusion/1.1.dcm");
    let after = fs::metadata(bench.drop.join("sub/a.dcm")).unwrap();
    assert_eq!(
        (before.ino(), before.ctime_nsec(), before.mtime_nsec()),
        (after.ino(), after.ctime_nsec(), after.mtime_nsec())
    );
    assert!(filer.is_taken(Action::Copy, &sight(&copy())));
    assert_eq!(filer.file(copy()).await.unwrap(), Outcome::AlreadyTaken);
    filer.stop().await;

    let filer = bench.start().await;
    assert!(filer.is_taken(Action::Copy, &sight(&copy())));
    assert!(!filer.is_taken(Action::Move, &sight(&copy())));
    // A remount gives it another device and inode: the same path and bytes tell.
    fs::rename(bench.drop.join("sub/a.dcm"), bench.drop.join("b")).unwrap();
    fs::copy(bench.drop.join("b"), bench.drop.join("sub/a.dcm")).unwrap();
    assert!(!filer.is_taken(Action::Copy, &sight(&copy())));
    assert_eq!(filer.file(copy()).await.unwrap(), Outcome::AlreadyTaken);
    assert!(filer.is_taken(Action::Copy, &sight(&copy())));
    assert_eq!(bench.in_library(), ["Fusion/1.1.dcm"]);
    // A changed file is another one.
    bench.put("sub/a.dcm", "changed");
    assert_eq!(fate(&filer.file(copy()).await.unwrap()), Fate::Conflict);
}

#[tokio::test]
async fn a_duplicate_in_copy_mode_is_only_recorded() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    bench.put("b", "a");
    let copy = |name| FilingRequest {
        action: Action::Copy,
        ..bench.request(name, "1.1")
    };
    filer.file(copy("a")).await.unwrap();
    let outcome = filer.file(copy("b")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Done {
                fate: Fate::Duplicate,
                to: None,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(bench.in_library(), ["Fusion/1.1.dcm"]);
    assert_eq!(bench.in_drop(), ["a", "b"]);
}

#[tokio::test]
async fn observing_and_leaving_touch_nothing_and_are_remembered() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    bench.put("note.txt", "n");
    let observe = || FilingRequest {
        action: Action::Observe,
        ..bench.request("a", "1.1")
    };
    let leave = || {
        let placement = Placement {
            root: RootId::Watch("drop".into()),
            path: RelPath::new("note.txt").unwrap(),
        };
        let mut request = FilingRequest {
            fate: Fate::Left,
            placement,
            ..bench.request("note.txt", "")
        };
        request.dossier.decision = Decision::Leave {
            reason: Reason::NotDicom,
        };
        request
    };
    let outcome = filer.file(observe()).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Done {
                fate: Fate::Filed,
                to: None,
                ..
            }
        ),
        "{outcome:?}"
    );
    let outcome = filer.file(leave()).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Done {
                fate: Fate::Left,
                to: None,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!((bench.in_drop().len(), bench.in_library().len()), (2, 0));
    filer.stop().await;
    let filer = bench.start().await;
    assert!(filer.is_taken(Action::Observe, &sight(&observe())));
    assert!(filer.is_taken(Action::Move, &sight(&leave())));
    // Who changes the watch from observe to move wants its files moved.
    assert_eq!(
        fate(&filer.file(bench.request("a", "1.1")).await.unwrap()),
        Fate::Filed
    );
}

#[tokio::test]
async fn a_quarantined_file_lies_beside_its_reason_and_can_be_given_back_for_good() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("sub/Müller^Eva.dcm", "broken");
    let outcome = filer
        .file(quarantined(bench.request("sub/Müller^Eva.dcm", "")))
        .await
        .unwrap();
    let at = bench.library.join("_quarantine").join(to(&outcome));
    let reason = fs::read_to_string(format!("{}.reason.txt", at.display())).unwrap();
    assert!(
        reason.contains("malformed") && reason.contains("a length runs beyond the end"),
        "{reason}"
    );
    assert!(
        !reason.contains("Eva"),
        "the source path may name a patient: {reason}"
    );

    let items = quarantine::list(&bench.state, &bench.destinations(None)).err();
    assert!(
        items.is_some(),
        "another radsort must not file into a library that is in use"
    );
    filer.stop().await;
    drop(filer);
    let items = quarantine::list(&bench.state, &bench.destinations(None)).unwrap();
    assert_eq!(items.len(), 1);

    let filer = bench.start().await;
    let released = filer
        .release(items[0].clone(), bench.root(), Some(1000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(released.path.to_string(), "sub/Müller^Eva.dcm");
    assert_eq!(
        (bench.in_drop(), bench.in_library().len()),
        (vec!["sub/Müller^Eva.dcm".to_owned()], 0)
    );
    let again = || bench.request("sub/Müller^Eva.dcm", "");
    assert!(filer.is_taken(Action::Move, &sight(&again())));
    assert_eq!(
        filer.file(quarantined(again())).await.unwrap(),
        Outcome::AlreadyTaken
    );
    assert!(
        filer
            .release(items[0].clone(), bench.root(), None)
            .await
            .unwrap()
            .is_err()
    );
    filer.stop().await;
    let filer = bench.start().await;
    assert!(filer.is_taken(Action::Move, &sight(&again())));
    bench.put("sub/Müller^Eva.dcm", "mended");
    assert!(!filer.is_taken(Action::Move, &sight(&again())));
}

#[tokio::test]
async fn asked_for_twice_at_once_a_file_is_given_back_once_also_across_filesystems() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no /dev/shm");
        return;
    };
    let bench = Bench::with_library(
        memory.path().join("library"),
        vec![tempfile::tempdir().unwrap(), memory],
    );
    let filer = bench.start().await;
    bench.put("a", "broken");
    let request = quarantined(bench.request("a", ""));
    assert_eq!(fate(&filer.file(request).await.unwrap()), Fate::Quarantined);
    filer.stop().await;
    drop(filer);
    let items = quarantine::list(&bench.state, &bench.destinations(None)).unwrap();
    let filer = bench.start().await;
    let release = || filer.release(items[0].clone(), bench.root(), None);
    let (one, two) = tokio::join!(release(), release());
    let released = usize::from(one.unwrap().is_ok()) + usize::from(two.unwrap().is_ok());
    assert_eq!((released, bench.in_drop()), (1, vec!["a".to_owned()]));
    assert_eq!(bench.census(), BTreeMap::from([("broken".into(), 1)]));
}

#[tokio::test]
async fn equal_files_without_a_uid_all_keep_their_place_in_the_quarantine() {
    let bench = Bench::new();
    let filer = bench.start().await;
    for name in ["1", "2", "3"] {
        bench.put(name, "broken");
    }
    let requests = ["1", "2", "3"].map(|name| filer.file(quarantined(bench.request(name, ""))));
    for outcome in requests {
        assert_eq!(fate(&outcome.await.unwrap()), Fate::Quarantined);
    }
    assert_eq!(bench.census()["broken"], 3);
    assert!(bench.in_drop().is_empty());
}

mod any_order {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct Dropped {
        uid: u8,
        bytes: u8,
        broken: bool,
        second_name: bool,
    }

    fn dropped() -> impl Strategy<Value = Dropped> {
        (
            0u8..3,
            0u8..3,
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.3),
        )
            .prop_map(|(uid, bytes, broken, second_name)| Dropped {
                uid,
                bytes,
                broken,
                second_name,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever comes, all at once and with a restart in between: every file is somewhere, exactly as often.
        #[test]
        fn every_file_stays_exactly_as_often_as_it_was(all in proptest::collection::vec(dropped(), 1..14)) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            runtime.block_on(async {
                let bench = Bench::new();
                for (n, file) in all.iter().enumerate() {
                    bench.put(&n.to_string(), &format!("bytes {}", file.bytes));
                    if file.second_name {
                        // Makes it a copy; the second name lies outside and does not count.
                        fs::hard_link(bench.drop.join(n.to_string()), bench.state.join(n.to_string())).unwrap();
                    }
                }
                let census = bench.census();
                let half = all.len() / 2;
                for part in [0..half, half..all.len()] {
                    let filer = bench.start().await;
                    let tasks: Vec<_> = part
                        .map(|n| {
                            let uid = if all[n].broken { String::new() } else { format!("1.{}", all[n].uid) };
                            let request = bench.request(&n.to_string(), &uid);
                            let request = if all[n].broken { quarantined(request) } else { request };
                            let filer = filer.clone();
                            tokio::spawn(async move { filer.file(request).await.unwrap() })
                        })
                        .collect();
                    for task in tasks {
                        assert!(matches!(task.await.unwrap(), Outcome::Done { to: Some(_), .. }));
                    }
                    filer.stop().await;
                }
                assert_eq!(bench.census(), census);
                assert!(bench.in_drop().is_empty());
                // One file stands for each UID that came.
                let uids: std::collections::BTreeSet<_> =
                    all.iter().filter(|file| !file.broken).map(|file| file.uid).collect();
                let filed = bench.in_library().iter().filter(|name| name.starts_with("Fusion/")).count();
                assert_eq!(filed, uids.len());
            });
        }
    }
}

/// Not a test: how fast it is. `cargo test --lib filing::tests::filing::rate -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn rate() {
    let bench = Bench::new();
    let filer = bench.start().await;
    let count = 500;
    for n in 0..count {
        bench.put(&n.to_string(), &n.to_string());
    }
    let begin = std::time::Instant::now();
    let mut tasks = Vec::new();
    for n in 0..count {
        let (filer, request) = (
            filer.clone(),
            bench.request(&n.to_string(), &format!("1.{n}")),
        );
        tasks.push(tokio::spawn(
            async move { filer.file(request).await.unwrap() },
        ));
    }
    for task in tasks {
        fate(&task.await.unwrap());
    }
    eprintln!(
        "{:.0} files/s",
        f64::from(count) / begin.elapsed().as_secs_f64()
    );
}
