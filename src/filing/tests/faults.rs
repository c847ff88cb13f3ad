//! What the world does meanwhile: files that change, disks that are full, shares that go, filesystems that refuse.

use std::io::Write;

use super::super::filer::HoldReason;
use super::super::ledger::Ledger;
use super::*;

#[tokio::test]
async fn a_file_that_was_written_to_after_it_was_decoded_settles_again() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    let request = bench.request("a", "1.1");
    fs::OpenOptions::new()
        .append(true)
        .open(bench.drop.join("a"))
        .unwrap()
        .write_all(b"more")
        .unwrap();
    assert_eq!(filer.file(request).await.unwrap(), Outcome::Changed);
    bench.put("b", "b");
    let request = bench.request("b", "1.2");
    fs::remove_file(bench.drop.join("b")).unwrap();
    bench.put("b", "another");
    assert_eq!(filer.file(request).await.unwrap(), Outcome::Changed);
    let request = bench.request("b", "1.3");
    fs::remove_file(bench.drop.join("b")).unwrap();
    assert_eq!(filer.file(request).await.unwrap(), Outcome::Gone);
    assert_eq!(
        (bench.in_drop(), bench.in_library().len()),
        (vec!["a".to_owned()], 0)
    );
}

/// The moments after the last look cannot be hit from outside without failpoints: the steps are given an Intent that
/// no longer fits.
#[test]
fn a_file_that_was_replaced_in_the_last_moment_is_put_back_where_it_was() {
    use super::super::carry::{Carried, Job, carry_out};
    use super::super::prepare::Way;
    for (way, claim) in [(Way::Copy, true), (Way::Rename { set_mode: None }, false)] {
        let bench = Bench::new();
        let roots = bench.roots();
        bench.put("a", "a");
        let intent = super::recovery::intent(&bench, "a", "a", claim);
        let root = bench.root();
        let (file, _) = root.open_file(&intent.from).unwrap();
        fs::remove_file(bench.drop.join("a")).unwrap();
        bench.put("a", "b");
        let job = Job {
            intent: &intent,
            source: &root,
            file: &file,
            roots: &roots,
            way,
        };
        let carried = carry_out(&job);
        assert!(
            matches!(carried, Carried::Back(Outcome::Changed)),
            "{carried:?}"
        );
        assert_eq!(fs::read_to_string(bench.drop.join("a")).unwrap(), "b");
        assert_eq!((bench.in_drop().len(), bench.in_library().len()), (1, 0));
    }
}

/// An Intent for the file `a` in the drop directory, carried out in that way.
fn carried(
    bench: &Bench,
    rename: bool,
    after: impl FnOnce(&Intent),
) -> super::super::carry::Carried {
    use super::super::carry::{Job, carry_out};
    use super::super::prepare::Way;
    let roots = bench.roots();
    bench.put("a", "a");
    let intent = super::recovery::intent(bench, "a", "a", !rename);
    let root = bench.root();
    let (file, _) = root.open_file(&intent.from).unwrap();
    after(&intent);
    carry_out(&Job {
        intent: &intent,
        source: &root,
        file: &file,
        roots: &roots,
        way: if rename {
            Way::Rename { set_mode: None }
        } else {
            Way::Copy
        },
    })
}

/// What such a writer wrote after the move would be in the library, and nowhere else.
#[test]
fn a_file_that_was_opened_for_writing_in_the_last_moment_is_put_back() {
    use super::super::carry::Carried;
    for rename in [true, false] {
        let bench = Bench::new();
        let mut writer = None;
        let carried = carried(&bench, rename, |_| {
            let path = bench.drop.join("a");
            writer = Some(fs::OpenOptions::new().append(true).open(path).unwrap());
        });
        let reader = fs::File::open(bench.drop.join("a"));
        if reader.is_ok_and(|file| crate::sys::lease::open_for_writing(&file).is_none()) {
            eprintln!("SKIPPED: no leases in the temporary directory");
            return;
        }
        assert!(
            matches!(carried, Carried::Back(Outcome::Changed)),
            "{carried:?}"
        );
        writer.unwrap().write_all(b" and more").unwrap();
        assert_eq!(
            fs::read_to_string(bench.drop.join("a")).unwrap(),
            "a and more"
        );
        assert_eq!((bench.in_drop().len(), bench.in_library().len()), (1, 0));
    }
}

#[test]
fn a_file_that_got_a_second_name_in_the_last_moment_is_not_renamed() {
    use super::super::carry::Carried;
    let bench = Bench::new();
    let carried = carried(&bench, true, |_| {
        fs::hard_link(bench.drop.join("a"), bench.drop.join("b")).unwrap();
    });
    assert!(
        matches!(carried, Carried::Back(Outcome::Changed)),
        "{carried:?}"
    );
    assert_eq!((bench.in_drop().len(), bench.in_library().len()), (2, 0));
}

/// Whoever may write in the drop directory can guess the hidden name: it costs that file, not the others.
#[test]
fn a_hidden_name_that_somebody_has_taken_holds_up_one_file_and_is_left_alone() {
    use super::super::carry::Carried;
    let bench = Bench::new();
    let carried = carried(&bench, false, |intent| {
        bench.put(&intent.claim.as_ref().unwrap().to_string(), "theirs");
    });
    assert!(
        matches!(carried, Carried::Back(Outcome::CannotTake(_))),
        "{carried:?}"
    );
    assert_eq!(
        bench.census(),
        BTreeMap::from([("a".into(), 1), ("theirs".into(), 1)])
    );
    assert_eq!((bench.in_drop().len(), bench.in_library().len()), (2, 0));
}

#[tokio::test]
async fn a_ledger_that_is_removed_under_the_running_service_stops_it_and_no_file_is_touched() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    filer.file(bench.request("a", "1.1")).await.unwrap();
    fs::rename(bench.state.join("ledger"), bench.state.join("aside")).unwrap();
    bench.put("b", "b");
    assert!(filer.file(bench.request("b", "1.2")).await.is_err());
    // Once the thread is gone it has said why.
    assert!(filer.ping().await.is_err());
    let failure = filer.failure().unwrap().to_string();
    assert!(failure.contains("removed"), "{failure}");
    assert_eq!(bench.in_drop(), ["b"]);
    // What was called filed is on record.
    drop(filer);
    fs::rename(bench.state.join("aside"), bench.state.join("ledger")).unwrap();
    let filer = bench.start().await;
    let fate = fate(&filer.file(bench.request("b", "1.2")).await.unwrap());
    assert_eq!((fate, bench.in_library().len()), (Fate::Filed, 2));
}

#[tokio::test]
async fn a_ledger_that_is_removed_is_noticed_also_while_no_files_come() {
    let bench = Bench::new();
    let filer = bench.start().await;
    filer.ping().await.unwrap();
    fs::remove_dir_all(bench.state.join("ledger")).unwrap();
    assert!(filer.ping().await.is_err() && filer.ping().await.is_err());
    assert!(filer.failure().is_some());
}

/// In copy and observe mode: the writer set the time of its file back, as `rsync --times --inplace` does.
#[tokio::test]
async fn a_file_that_was_rewritten_with_its_size_and_time_is_another_one() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "one");
    let copy = || FilingRequest {
        action: Action::Copy,
        ..bench.request("a", "1.1")
    };
    let first = copy();
    filer.file(copy()).await.unwrap();
    let path = bench.drop.join("a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut second = copy();
    while second.ctime_ns == first.ctime_ns {
        fs::write(&path, "two").unwrap();
        let times = fs::FileTimes::new().set_modified(modified);
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        second = copy();
    }
    assert_eq!(first.fingerprint, second.fingerprint);
    assert!(!filer.is_taken(Action::Copy, &sight(&second)));
    assert_eq!(fate(&filer.file(second).await.unwrap()), Fate::Conflict);
    // Also after a restart; while a new name or new permissions make no new file.
    filer.stop().await;
    drop(filer);
    let filer = bench.start().await;
    assert!(filer.is_taken(Action::Copy, &sight(&copy())));
    fs::rename(&path, bench.drop.join("b")).unwrap();
    let renamed = FilingRequest {
        action: Action::Copy,
        ..bench.request("b", "1.1")
    };
    assert_eq!(filer.file(renamed).await.unwrap(), Outcome::AlreadyTaken);
}

#[test]
fn a_name_taken_in_the_last_moment_is_not_overwritten() {
    use super::super::carry::{Carried, Job, carry_out};
    use super::super::prepare::Way;
    for (way, claim) in [(Way::Copy, true), (Way::Rename { set_mode: None }, false)] {
        let bench = Bench::new();
        let roots = bench.roots();
        bench.put("a", "a");
        let intent = super::recovery::intent(&bench, "a", "a", claim);
        fs::create_dir_all(bench.library.join("Fusion")).unwrap();
        fs::write(bench.library.join("Fusion/1.1.dcm"), "b").unwrap();
        let root = bench.root();
        let (file, _) = root.open_file(&intent.from).unwrap();
        let job = Job {
            intent: &intent,
            source: &root,
            file: &file,
            roots: &roots,
            way,
        };
        let (Carried::Done(path) | Carried::Renamed(path)) = carry_out(&job) else {
            panic!("not done")
        };
        assert!(path.to_string().contains(&digest("a").0[..16]), "{path}");
        assert_eq!(
            bench.census(),
            BTreeMap::from([("a".into(), 1), ("b".into(), 1)])
        );
    }
}

#[tokio::test]
async fn a_filesystem_without_renameat2_is_served_by_links_and_one_without_either_is_not_touched() {
    let mut bench = Bench::new();
    bench.offers = Offers {
        rename_noreplace: false,
        links: true,
    };
    bench.put("a", "a");
    let filer = bench.start().await;
    assert_eq!(
        to(&filer.file(bench.request("a", "1.1")).await.unwrap()),
        "Fusion/1.1.dcm"
    );
    assert_eq!((bench.in_drop().len(), bench.census()["a"]), (0, 1));
    drop(filer);

    let mut bench = Bench::new();
    bench.offers = Offers {
        rename_noreplace: false,
        links: false,
    };
    bench.put("a", "a");
    let filer = bench.start().await;
    let outcome = filer.file(bench.request("a", "1.1")).await.unwrap();
    assert!(matches!(outcome, Outcome::CannotTake(_)), "{outcome:?}");
    assert_eq!(
        (bench.in_drop(), bench.in_library().len()),
        (vec!["a".to_owned()], 0)
    );
}

#[tokio::test]
async fn a_library_on_another_filesystem_gets_verified_copies() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no /dev/shm");
        return;
    };
    let local = tempfile::tempdir().unwrap();
    if fs::metadata(memory.path()).unwrap().dev() == fs::metadata(local.path()).unwrap().dev() {
        eprintln!("SKIPPED: /dev/shm is on the same filesystem as the temporary directory");
        return;
    }
    let library = memory.path().join("library");
    let bench = Bench::with_library(library, vec![local, memory]);
    let filer = bench.start().await;
    for name in ["a", "b", "c"] {
        bench.put(name, name);
    }
    filer.file(bench.request("a", "1.1")).await.unwrap();
    filer
        .file(quarantined(bench.request("b", "")))
        .await
        .unwrap();
    filer
        .file(FilingRequest {
            action: Action::Copy,
            ..bench.request("c", "1.3")
        })
        .await
        .unwrap();
    assert_eq!(
        bench.census(),
        BTreeMap::from([("a".into(), 1), ("b".into(), 1), ("c".into(), 2)])
    );
    assert_eq!(bench.in_drop(), ["c"]);
}

#[tokio::test]
async fn a_library_without_its_marker_is_offline_and_not_empty() {
    let bench = Bench::new();
    let filer = bench.start().await;
    let marker = bench.library.join(super::super::destinations::MARKER);
    let aside = bench.state.join("marker");
    fs::rename(&marker, &aside).unwrap();
    bench.put("a", "a");
    let outcome = filer.file(bench.request("a", "1.1")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Held(HoldReason::Offline(RootId::Library, _))
        ),
        "{outcome:?}"
    );
    // Unmounted: the mount point is there, and empty.
    fs::rename(&bench.library, bench.state.join("away")).unwrap();
    fs::create_dir(&bench.library).unwrap();
    let outcome = filer.file(bench.request("a", "1.1")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Held(HoldReason::Offline(RootId::Library, _))
        ),
        "{outcome:?}"
    );
    assert_eq!(
        (bench.in_drop(), names(&bench.library).len()),
        (vec!["a".to_owned()], 0)
    );
    // And back.
    fs::remove_dir(&bench.library).unwrap();
    fs::rename(bench.state.join("away"), &bench.library).unwrap();
    fs::rename(&aside, &marker).unwrap();
    assert_eq!(
        fate(&filer.file(bench.request("a", "1.1")).await.unwrap()),
        Fate::Filed
    );
    // A restart knows which library it is.
    filer.stop().await;
    drop(filer);
    fs::remove_file(&marker).unwrap();
    let filer = bench.start().await;
    bench.put("b", "b");
    let outcome = filer.file(bench.request("b", "1.2")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Held(HoldReason::Offline(RootId::Library, _))
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn two_installations_never_file_into_one_library() {
    let one = Bench::new();
    let mut two = Bench::new();
    two.library = one.library.clone();
    let first = one.start().await;
    one.put("a", "a");
    first.file(one.request("a", "1.1")).await.unwrap();
    let second = two.start().await;
    two.put("b", "b");
    let outcome = second.file(two.request("b", "1.2")).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::Held(HoldReason::Offline(RootId::Library, _))
        ),
        "{outcome:?}"
    );
}

/// Whoever is filing there keeps the lock meanwhile.
#[test]
fn a_library_that_could_not_be_read_for_a_moment_is_still_ours() {
    let bench = Bench::new();
    let destinations = bench.destinations(None);
    let filing = destinations.current().unwrap();
    let marker = bench.library.join(super::super::destinations::MARKER);
    let aside = bench.state.join("marker");
    for _ in 0..2 {
        fs::rename(&marker, &aside).unwrap();
        // The second look knows no more of it than the first has kept.
        assert!(destinations.current().is_err() && destinations.current().is_err());
        fs::rename(&aside, &marker).unwrap();
        destinations.current().unwrap();
    }
    drop(filing);
    destinations.current().unwrap();
    // While another's is another's.
    let others = bench.destinations(None).current();
    assert!(others.is_err_and(|why| why.to_string().contains("another radsort")));
}

#[tokio::test]
async fn a_full_library_holds_files_back_and_leaves_nothing_half_written() {
    let local = tempfile::tempdir().unwrap();
    let library = local.path().join("small");
    fs::create_dir(&library).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&library)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("SKIPPED: a small filesystem cannot be mounted here");
        return;
    }
    let bench = Bench::with_library(library.clone(), vec![local]);
    let filer = bench.start().await;
    let big = "x".repeat(400_000);
    bench.put("big", &big);
    bench.put("small", "s");
    let census = bench.census();
    let outcome = filer.file(bench.request("big", "1.1")).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Held(HoldReason::DiskFull(RootId::Library))
    );
    assert_eq!(bench.census(), census);
    assert_eq!(
        (bench.in_drop(), bench.in_library().len()),
        (vec!["big".to_owned(), "small".to_owned()], 0)
    );
    assert_eq!(
        fate(&filer.file(bench.request("small", "1.2")).await.unwrap()),
        Fate::Filed
    );
    // Read-only.
    let remount = |how| {
        std::process::Command::new("mount")
            .args(["-o", how])
            .arg(&library)
            .status()
            .unwrap()
    };
    assert!(remount("remount,ro").success());
    fs::write(bench.drop.join("big"), "smaller").unwrap();
    let outcome = filer.file(bench.request("big", "1.3")).await.unwrap();
    assert_eq!(
        outcome,
        Outcome::Held(HoldReason::ReadOnly(RootId::Library))
    );
    assert_eq!(bench.in_drop(), ["big"]);
    filer.stop().await;
    drop(filer);
    assert!(
        std::process::Command::new("umount")
            .arg(&library)
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_second_filer_on_the_same_state_is_refused() {
    let bench = Bench::new();
    let filer = bench.start().await;
    assert!(matches!(
        replay::open(&bench.state),
        Err(super::super::ledger::LedgerError::Locked(_))
    ));
    filer.stop().await;
    assert!(Ledger::open(&bench.state).is_ok());
    bench.put("a", "a");
    let refused = filer.file(bench.request("a", "1.1")).await;
    assert!(refused.is_err());
    assert_eq!(bench.in_drop(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_hangs_holds_up_no_other() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    bench.put("b", "b");
    let (wake, hung) = std::sync::mpsc::channel::<()>();
    filer.thread_of("hung").submit(move || hung.recv().unwrap());
    let waiting = {
        let (filer, request) = (filer.clone(), bench.request("a", "1.1"));
        let request = FilingRequest {
            watch: "hung".into(),
            ..request
        };
        tokio::spawn(async move { filer.file(request).await })
    };
    let outcome = filer.file(bench.request("b", "1.2")).await.unwrap();
    assert_eq!(fate(&outcome), Fate::Filed);
    filer.ping().await.unwrap();
    assert!(!waiting.is_finished());
    wake.send(()).unwrap();
    assert_eq!(fate(&waiting.await.unwrap().unwrap()), Fate::Filed);
}

/// Not a test by itself: what a filer without root's powers says.
#[tokio::test]
#[ignore = "run by the test below"]
async fn child_without_permission() {
    let bench = Bench::at(std::env::var_os("RADSORT_TEST_BASE").unwrap().as_ref());
    let filer = bench.start().await;
    for (name, words) in [("sticky/a", "sticky"), ("closed/b", "no permission")] {
        let outcome = filer.file(bench.request(name, "1.1")).await.unwrap();
        let Outcome::CannotTake(why) = outcome else {
            panic!("{name}: {outcome:?}");
        };
        assert!(why.contains(words), "{name}: {why}");
    }
    let records = bench.catalogue.records();
    assert!(
        !records
            .iter()
            .any(|record| matches!(record, Record::Intent(_))),
        "found before the Intent: {records:?}"
    );
    let copy = FilingRequest {
        action: Action::Copy,
        ..bench.request("sticky/a", "1.1")
    };
    assert_eq!(fate(&filer.file(copy).await.unwrap()), Fate::Filed);
}

#[test]
fn what_may_not_be_taken_is_told_before_anything_is_recorded() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let bench = Bench::new();
    bench.put("sticky/a", "a");
    bench.put("closed/b", "b");
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&bench.drop.join("sticky"), 0o1777);
    mode(&bench.drop.join("closed"), 0o755);
    let base = bench.state.parent().unwrap();
    mode(base, 0o777);
    if chown(&bench.state, Some(NOBODY), Some(NOBODY)).is_err() {
        eprintln!("SKIPPED: only root can become somebody else");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "filing::tests::faults::child_without_permission",
            "--ignored",
        ])
        .env("RADSORT_TEST_BASE", base)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    match output {
        Err(error) => eprintln!("SKIPPED: the tests cannot be run as somebody else: {error}"),
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        ),
    }
    assert_eq!(
        bench.census(),
        BTreeMap::from([("a".into(), 2), ("b".into(), 1)])
    );
}

/// A file of an offline share was under way to a name; the same file comes through another watch meanwhile.
#[tokio::test]
async fn a_name_that_an_interrupted_file_may_still_get_is_given_to_nobody_else() {
    let bench = Bench::new();
    let filer = bench.start().await;
    bench.put("a", "a");
    let mut open = super::recovery::intent(&bench, "a", "a", true);
    open.watch = "away".into();
    filer
        .append(vec![Record::Intent(Box::new(open.clone()))])
        .await
        .unwrap()
        .unwrap();
    let claim = open.claim.as_ref().unwrap().to_string();
    fs::rename(bench.drop.join("a"), bench.drop.join(&claim)).unwrap();

    bench.put("b", "a");
    let outcome = filer.file(bench.request("b", "1.1")).await.unwrap();
    assert_eq!(fate(&outcome), Fate::Filed);
    assert_ne!(to(&outcome), "Fusion/1.1.dcm");

    let report = filer.share_online("away", bench.root()).await.unwrap();
    assert_eq!((report.abandoned, report.finished), (1, 0));
    assert_eq!(bench.in_drop(), ["a"]);
    assert_eq!(bench.census()["a"], 2);
}
