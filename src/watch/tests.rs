//! Real directories, real events, real leases. Nothing sleeps: every step waits for what the watcher says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command as Program;

use super::*;
use crate::config::settings::{Action, Executables, Media, NonDicom, OtherDicom, WatchMode};

const HOUR: Duration = Duration::from_hours(1);
const LONG: Duration = Duration::from_mins(1);

/// A toy format: "LEN:", the whole length as a big-endian u32, then anything.
struct Toy;

impl Inspect for Toy {
    fn completeness(&self, file: &File, size: u64) -> io::Result<Completeness> {
        let mut head = [0; 8];
        if size < 8 || file.read_exact_at(&mut head, 0).is_err() || &head[..4] != b"LEN:" {
            return Ok(Completeness::Undetermined);
        }
        let total = u64::from(u32::from_be_bytes(head[4..].try_into().unwrap()));
        Ok(if size < total {
            Completeness::ShortBy(total - size)
        } else {
            Completeness::Complete
        })
    }
}

fn toy(total: u32) -> Vec<u8> {
    let mut bytes = [b"LEN:".as_slice(), &total.to_be_bytes()].concat();
    bytes.resize(total as usize, 7);
    bytes
}

fn settings(path: &Path, settle: Duration) -> WatchSettings {
    WatchSettings {
        name: "test".into(),
        path: path.to_owned(),
        recursive: true,
        settle: Some(settle),
        truncated: HOUR,
        mode: WatchMode::Auto,
        poll_interval: Duration::from_millis(50),
        ignore: Vec::new(),
        action: Action::Move,
        trusted: false,
        non_dicom: NonDicom::Leave,
        executables: Executables::Quarantine,
        other: OtherDicom::Leave,
        media: Media::Leave,
        max_size: 1 << 30,
        max_rate: None,
    }
}

fn nothing_consumed() -> Consumed {
    Arc::new(|_| false)
}

/// A watcher that is online and has scanned once.
async fn watch(settings: &WatchSettings) -> Watcher {
    let watcher = Watcher::start(settings, Arc::new(Toy), nothing_consumed()).unwrap();
    until(&watcher, |status| status.full_scans > 0).await;
    watcher
}

async fn until(watcher: &Watcher, wanted: impl FnMut(&WatchStatus) -> bool) -> WatchStatus {
    let mut status = watcher.subscribe();
    let wait = tokio::time::timeout(LONG, status.wait_for(wanted)).await;
    match wait {
        Ok(status) => status.unwrap().clone(),
        Err(tokio::time::error::Elapsed { .. }) => {
            panic!("it never came to that: {:#?}", watcher.status())
        }
    }
}

async fn next(watcher: &Watcher) -> Settled {
    let next = tokio::time::timeout(LONG, watcher.next()).await;
    next.unwrap_or_else(|_| panic!("nothing settled: {:#?}", watcher.status()))
        .unwrap()
}

/// The next file, finished with as left.
async fn next_name(watcher: &Watcher) -> String {
    let settled = next(watcher).await;
    watcher.finished(settled.path.clone(), Verdict::Stays(settled.fingerprint));
    settled.path.to_string()
}

/// Nothing more comes from what is there now.
async fn assert_quiet(watcher: &Watcher) {
    assert!(watcher.idle_after_full_scan().await);
    assert_eq!(watcher.status().ready, 0);
}

#[tokio::test]
async fn a_complete_file_renamed_into_place_comes_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let drop_dir = dir.path().join("drop");
    fs::create_dir(&drop_dir).unwrap();
    let watcher = watch(&settings(&drop_dir, HOUR)).await;
    fs::write(dir.path().join("a"), toy(100)).unwrap();
    fs::rename(dir.path().join("a"), drop_dir.join("a.dcm")).unwrap();
    let settled = next(&watcher).await;
    assert_eq!(
        (
            settled.path.to_string().as_str(),
            settled.truncated,
            settled.media
        ),
        ("a.dcm", false, false)
    );
    assert_eq!(settled.fingerprint.size, 100);
    assert!(settled.seen_us <= settled.settled_us);
    // Written in one go and closed is as good.
    fs::write(drop_dir.join("b.dcm"), toy(100)).unwrap();
    assert_eq!(next_name(&watcher).await, "b.dcm");
}

#[tokio::test]
async fn a_writer_that_pauses_is_not_overtaken() {
    let dir = tempfile::tempdir().unwrap();
    // No settle time at all: only the open writer holds the file back.
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let whole = toy(1000);
    let mut writer = File::create(dir.path().join("slow.dcm")).unwrap();
    writer.write_all(&whole[..500]).unwrap();
    until(&watcher, |status| status.open == 1).await;
    writer.write_all(&whole[500..]).unwrap();
    // All there, but not closed. It is asked about more than once.
    let looks = watcher.status().looks;
    let status = until(&watcher, |status| status.looks >= looks + 2).await;
    assert_eq!((status.open, status.ready), (1, 0));
    drop(writer);
    let settled = next(&watcher).await;
    assert_eq!(settled.fingerprint.size, 1000);
}

#[tokio::test]
async fn a_file_of_full_length_that_fills_up_later_waits_for_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), HOUR)).await;
    let whole = toy(100_000);
    let writer = File::create(dir.path().join("full.dcm")).unwrap();
    writer.set_len(100_000).unwrap();
    writer.write_all_at(&whole[..100], 0).unwrap();
    // Some other program closes its own descriptor on the same file: that is not the writer's close.
    drop(
        File::options()
            .append(true)
            .open(dir.path().join("full.dcm"))
            .unwrap(),
    );
    until(&watcher, |status| status.open == 1).await;
    writer.write_all_at(&whole, 0).unwrap();
    drop(writer);
    let settled = next(&watcher).await;
    assert_eq!(
        fs::read(dir.path().join(settled.path.to_string())).unwrap(),
        whole
    );
}

#[tokio::test]
async fn a_short_file_waits_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let whole = toy(1000);
    fs::write(dir.path().join("short.dcm"), &whole[..500]).unwrap();
    let status = until(&watcher, |status| status.short == 1).await;
    assert_eq!((status.waiting, status.ready), (1, 0));
    let mut writer = File::options()
        .append(true)
        .open(dir.path().join("short.dcm"))
        .unwrap();
    writer.write_all(&whole[500..]).unwrap();
    drop(writer);
    assert_eq!(next(&watcher).await.fingerprint.size, 1000);
}

#[tokio::test]
async fn a_file_that_stays_short_comes_as_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let limits = WatchSettings {
        truncated: Duration::from_millis(200),
        ..settings(dir.path(), Duration::ZERO)
    };
    let watcher = watch(&limits).await;
    fs::write(dir.path().join("short.dcm"), &toy(1000)[..500]).unwrap();
    assert!(next(&watcher).await.truncated);
}

#[tokio::test]
async fn files_in_directories_made_a_moment_ago_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), HOUR)).await;
    for number in 0..50 {
        let deep = dir.path().join(format!("{number}/a/b/c"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.path().join(format!("{number}/one")), "x").unwrap();
        fs::write(deep.join("two"), "x").unwrap();
    }
    fs::create_dir(dir.path().join(".away")).unwrap();
    fs::write(dir.path().join(".away/three"), "x").unwrap();
    fs::rename(dir.path().join(".away"), dir.path().join("moved")).unwrap();
    // No scan but the first: events alone led there.
    let status = until(&watcher, |status| status.under_way == 101).await;
    assert_eq!(status.full_scans, 1);
}

#[tokio::test]
async fn lost_events_lead_to_a_scan() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let flag = notify::event::Flag::Rescan;
    watcher.inject(notify::Event::new(notify::EventKind::Other).set_flag(flag));
    until(&watcher, |status| status.full_scans == 2).await;
}

#[tokio::test]
async fn a_burst_of_twenty_thousand_files_comes_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let path = dir.path().to_owned();
    let burst = std::thread::spawn(move || {
        for number in 0..20_000 {
            // By rename: one that was seen between its creation and its writing would rightly come again.
            let (hidden, name) = (path.join(".part"), path.join(format!("{number:05}")));
            fs::write(&hidden, "x").unwrap();
            fs::rename(&hidden, name).unwrap();
        }
    });
    let mut seen = HashSet::new();
    while seen.len() < 20_000 {
        let settled = next(&watcher).await;
        assert!(seen.insert(settled.path.clone()), "twice");
        watcher.finished(settled.path, Verdict::Stays(settled.fingerprint));
    }
    burst.join().unwrap();
    assert_quiet(&watcher).await;
    assert_eq!(watcher.status().left, 20_000);
}

#[tokio::test]
async fn what_was_there_before_comes_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["c", "a", "b", "x.part", ".hidden"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    // Two helpers look at files; the order is that of what is ready.
    until(&watcher, |status| status.ready == 3).await;
    assert_eq!(next_name(&watcher).await, "a");
    assert_eq!(next_name(&watcher).await, "b");
    assert_eq!(next_name(&watcher).await, "c");
    assert_quiet(&watcher).await;
    assert_eq!(watcher.status().links, 1);
    fs::rename(dir.path().join("x.part"), dir.path().join("x")).unwrap();
    assert_eq!(next_name(&watcher).await, "x");
}

#[tokio::test]
async fn a_taken_file_is_not_given_out_again_until_it_is_finished_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    fs::write(&file, "one").unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let first = next(&watcher).await;
    fs::write(&file, "two!").unwrap();
    let scans = watcher.status().full_scans;
    watcher.rescan();
    let status = until(&watcher, |status| status.full_scans > scans).await;
    assert_eq!((status.in_flight, status.ready, status.waiting), (1, 0, 0));
    // It changed under way: left as it was then, it comes again as it is now.
    watcher.finished(first.path.clone(), Verdict::Stays(first.fingerprint));
    let second = next(&watcher).await;
    assert_eq!(
        (second.path, second.fingerprint.size),
        (first.path.clone(), 4)
    );
    watcher.finished(first.path.clone(), Verdict::Again);
    assert_eq!(next(&watcher).await.fingerprint, second.fingerprint);
    fs::remove_file(&file).unwrap();
    watcher.finished(first.path, Verdict::Gone);
    assert_quiet(&watcher).await;
    assert_eq!(watcher.status().under_way, 0);
}

#[tokio::test]
async fn what_stays_or_was_consumed_comes_again_only_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["consumed", "new"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let consumed: Consumed = Arc::new(|sight| sight.fingerprint.size == 8);
    let watcher = Watcher::start(
        &settings(dir.path(), Duration::ZERO),
        Arc::new(Toy),
        consumed,
    )
    .unwrap();
    assert_eq!(next_name(&watcher).await, "new");
    assert_quiet(&watcher).await;
    assert_eq!(watcher.status().left, 2);
    fs::write(dir.path().join("consumed"), "changed!!").unwrap();
    assert_eq!(next_name(&watcher).await, "consumed");
    fs::remove_file(dir.path().join("new")).unwrap();
    until(&watcher, |status| status.left == 1).await;
}

#[tokio::test]
async fn a_held_file_is_shown_and_comes_again_when_something_happens_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    fs::write(&file, "x").unwrap();
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    let settled = next(&watcher).await;
    let hold = |retry_after| Verdict::Hold {
        reason: "no permission to move it".into(),
        retry_after,
    };
    watcher.finished(settled.path.clone(), hold(HOUR));
    let status = until(&watcher, |status| status.held == 1).await;
    assert_eq!(
        status.held_because.into_iter().collect::<Vec<_>>(),
        [("no permission to move it".to_owned(), 1)]
    );
    assert!(
        watcher.idle_after_full_scan().await,
        "held files are not waited for"
    );
    assert_eq!(watcher.status().held, 1, "a scan does not release it");
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o666);
    fs::set_permissions(&file, permissions).unwrap();
    let settled = next(&watcher).await;
    assert_eq!(settled.refused, None, "what is wrong now is news");
    watcher.finished(settled.path.clone(), hold(Duration::from_millis(1)));
    let again = next(&watcher).await;
    assert_eq!(again.path, settled.path);
    assert_eq!(again.refused.as_deref(), Some("no permission to move it"));
}

#[tokio::test]
async fn a_directory_that_goes_away_is_offline_and_what_was_found_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("drop"), dir.path().join("away"));
    fs::create_dir(&here).unwrap();
    let watcher = watch(&settings(&here, Duration::ZERO)).await;
    fs::write(here.join("short.dcm"), &toy(100)[..50]).unwrap();
    let before = until(&watcher, |status| status.short == 1).await;
    let gone_us = jiff::Timestamp::now().as_microsecond();
    fs::rename(&here, &away).unwrap();
    let status = until(&watcher, |status| {
        matches!(status.state, WatchState::Offline { .. })
    })
    .await;
    assert_eq!((status.under_way, status.oldest_us), (1, before.oldest_us));
    assert!(watcher.root().is_none());
    fs::write(away.join("short.dcm"), toy(100)).unwrap();
    fs::rename(&away, &here).unwrap();
    let settled = next(&watcher).await;
    assert_eq!(settled.path.to_string(), "short.dcm");
    assert!(settled.seen_us < gone_us, "it was seen before that");
    assert_eq!(watcher.status().state, WatchState::Online);
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_offline() {
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("late");
    let watcher = Watcher::start(
        &settings(&late, Duration::ZERO),
        Arc::new(Toy),
        nothing_consumed(),
    )
    .unwrap();
    until(&watcher, |status| {
        matches!(status.state, WatchState::Offline { .. })
    })
    .await;
    fs::create_dir(&late).unwrap();
    fs::write(late.join("a"), "x").unwrap();
    assert_eq!(next_name(&watcher).await, "a");
}

#[tokio::test]
async fn folders_with_a_dicomdir_are_media_but_the_drop_directory_is_not() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("cd/IMAGES")).unwrap();
    for name in ["DICOMDIR", "a", "cd/DICOMDIR", "cd/IMAGES/1"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let watcher = watch(&settings(dir.path(), Duration::ZERO)).await;
    until(&watcher, |status| status.ready == 4).await;
    let mut media = Vec::new();
    for _ in 0..4 {
        let settled = next(&watcher).await;
        media.push((settled.path.to_string(), settled.media));
    }
    let expected = [
        ("DICOMDIR", false),
        ("a", false),
        ("cd/DICOMDIR", true),
        ("cd/IMAGES/1", true),
    ];
    assert_eq!(
        media,
        expected.map(|(path, media)| (path.to_owned(), media))
    );
}

#[tokio::test]
async fn a_flat_watch_leaves_folders_alone_and_patterns_are_heeded() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["a", "b.log", "sub/c"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let flat = WatchSettings {
        recursive: false,
        ignore: vec!["*.log".into()],
        ..settings(dir.path(), Duration::ZERO)
    };
    let watcher = watch(&flat).await;
    assert_eq!(next_name(&watcher).await, "a");
    fs::create_dir(dir.path().join("more")).unwrap();
    fs::write(dir.path().join("more/d"), "x").unwrap();
    fs::write(dir.path().join("e"), "x").unwrap();
    assert_eq!(next_name(&watcher).await, "e");
    assert_quiet(&watcher).await;
    assert_eq!(watcher.status().left, 2);
}

#[tokio::test]
async fn a_pause_gives_nothing_out_and_the_rate_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let rate = WatchSettings {
        max_rate: Some(20.0),
        ..settings(dir.path(), Duration::ZERO)
    };
    let watcher = watch(&rate).await;
    watcher.pause("disk full");
    until(&watcher, |status| status.ready == 3).await;
    assert_eq!(
        watcher.status().state,
        WatchState::Paused {
            why: "disk full".into()
        }
    );
    let mut paused = Box::pin(watcher.next());
    assert!(
        std::future::poll_fn(|context| std::task::Poll::Ready(
            paused.as_mut().poll(context).is_pending()
        ))
        .await
    );
    watcher.resume();
    let began = std::time::Instant::now();
    assert_eq!(paused.await.unwrap().path.to_string(), "a");
    next(&watcher).await;
    next(&watcher).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn one_pass_takes_what_is_at_rest_and_gives_up_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    fs::write(dir.path().join("short"), &toy(100)[..50]).unwrap();
    let _writer = File::create(dir.path().join("written")).unwrap();
    let settle = Duration::from_millis(200);
    let watcher = Watcher::once(
        &settings(dir.path(), settle),
        Arc::new(Toy),
        nothing_consumed(),
    )
    .unwrap();
    let mut settled = [next_name(&watcher).await, next_name(&watcher).await];
    settled.sort();
    assert_eq!(settled, ["a", "b"]);
    assert!(watcher.next().await.is_none());
    let status = watcher.status();
    assert_eq!((status.given_up, status.left, status.full_scans), (2, 2, 1));
    let missing = Watcher::once(
        &settings(&dir.path().join("missing"), settle),
        Arc::new(Toy),
        nothing_consumed(),
    );
    assert!(matches!(missing, Err(WatchError::Open { .. })));
}

#[tokio::test]
async fn one_pass_over_nothing_ends() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = Watcher::once(
        &settings(dir.path(), HOUR),
        Arc::new(Toy),
        nothing_consumed(),
    )
    .unwrap();
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn stopping_ends_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), HOUR)).await;
    let (waited, ()) = tokio::join!(watcher.next(), watcher.stop());
    assert!(waited.is_none());
    assert!(
        watcher.status.has_changed().is_err(),
        "the thread has ended"
    );
}

/// A `bindfs` mount: what happens in its source gives no event in it.
struct Bindfs<'a>(&'a Path);

impl<'a> Bindfs<'a> {
    fn mount(source: &Path, at: &'a Path) -> Option<Self> {
        let mounted = Program::new("bindfs")
            .arg("--no-allow-other")
            .arg(source)
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("skipped: bindfs is not installed, or FUSE may not be used here");
        None
    }
}

impl Drop for Bindfs<'_> {
    fn drop(&mut self) {
        for program in ["fusermount3", "fusermount"] {
            if Program::new(program)
                .args(["-u", "-z"])
                .arg(self.0)
                .output()
                .is_ok_and(|output| output.status.success())
            {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_share_without_events_is_polled_and_its_bare_mount_point_is_not_mistaken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (source, at) = (dir.path().join("source"), dir.path().join("at"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&at).unwrap();
    let Some(mount) = Bindfs::mount(&source, &at) else {
        return;
    };
    let watcher = watch(&settings(&at, Duration::ZERO)).await;
    let status = watcher.status();
    assert_eq!(
        (status.share.as_str(), status.notices),
        ("fuse", Notices::Polling)
    );
    fs::write(source.join("a"), "x").unwrap();
    assert_eq!(next_name(&watcher).await, "a");
    fs::write(source.join("short.dcm"), &toy(100)[..50]).unwrap();
    until(&watcher, |status| status.short == 1).await;

    drop(mount);
    let status = until(&watcher, |status| {
        matches!(status.state, WatchState::Offline { .. })
    })
    .await;
    assert_eq!((status.under_way, status.left), (1, 1));

    let Some(_mount) = Bindfs::mount(&source, &at) else {
        return;
    };
    fs::write(source.join("short.dcm"), toy(100)).unwrap();
    assert_eq!(next_name(&watcher).await, "short.dcm");
}

#[tokio::test]
async fn a_bug_in_the_inspector_costs_a_look_and_not_the_watch() {
    struct Panics;
    impl Inspect for Panics {
        fn completeness(&self, _: &File, size: u64) -> io::Result<Completeness> {
            assert!(size != 5, "provoked");
            Ok(Completeness::Undetermined)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5 {
        fs::write(dir.path().join(format!("bad{number}")), "12345").unwrap();
    }
    fs::write(dir.path().join("good"), "x").unwrap();
    let quick = settings(dir.path(), Duration::ZERO);
    let watcher = Watcher::start(&quick, Arc::new(Panics), nothing_consumed()).unwrap();
    assert_eq!(next_name(&watcher).await, "good");
    until(&watcher, |status| status.held == 5).await;
}

#[tokio::test]
async fn a_file_that_is_taken_away_has_vanished_and_one_that_is_renamed_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let watcher = watch(&settings(dir.path(), HOUR)).await;
    fs::create_dir(dir.path().join("study")).unwrap();
    // Short, so that they wait.
    for name in ["gone", "renamed", "moved"] {
        fs::write(dir.path().join(name), &toy(100)[..50]).unwrap();
    }
    until(&watcher, |status| status.waiting == 3).await;
    fs::rename(dir.path().join("renamed"), dir.path().join("r.dcm")).unwrap();
    fs::rename(dir.path().join("moved"), dir.path().join("study/m.dcm")).unwrap();
    fs::remove_file(dir.path().join("gone")).unwrap();
    let status = until(&watcher, |status| status.vanished > 0).await;
    assert_eq!((status.vanished, status.waiting), (1, 2));
    // Taken away after it was given out.
    fs::write(dir.path().join(".late"), toy(100)).unwrap();
    fs::rename(dir.path().join(".late"), dir.path().join("late")).unwrap();
    let late = next(&watcher).await;
    fs::remove_file(dir.path().join("late")).unwrap();
    watcher.finished(late.path, Verdict::Vanished);
    until(&watcher, |status| status.vanished == 2).await;
}
