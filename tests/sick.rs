//! Sick disks and shares: what fails or hangs holds intake, is told, costs no file, and passes.
//!
//! The share is a FUSE filesystem of the tests' own, which needs root; where it cannot be mounted, these tests say so and are
//! skipped.

#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

mod common;
#[path = "common/sick.rs"]
mod share;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use common::{Daemon, Mould, Site, uid};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use share::{HealsAtEnd, Sick};

/// A directory of the site that lies on a sick share.
fn on_sick_share(site: &Site, directory: &Path) -> Option<Sick> {
    let real = site.dir.path().join("real");
    fs::create_dir(&real).unwrap();
    Sick::mount(&real, directory)
}

fn state(status: &Value, watch: usize) -> &str {
    status["watches"][watch]["state"].as_str().unwrap_or("")
}

fn wait_state(daemon: &mut Daemon, wanted: &str) -> Value {
    daemon.wait_until(wanted, |status| state(status, 0) == wanted)
}

/// All that was put in is there once, nothing else is, and none is in quarantine.
fn assert_conserved(site: &Site, mut expected: Vec<String>) {
    expected.sort();
    assert_eq!(site.digests(), expected);
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    assert!(
        !site.fates().contains_key("quarantined"),
        "{:?}",
        site.fates()
    );
    site.assert_verified();
}

/// What `/metrics` says.
fn metrics(site: &Site) -> String {
    let mut stream = UnixStream::connect(site.state.join("metrics.sock")).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Whether a metric's samples whose lines hold all of these are above 0.
fn counts(metrics: &str, parts: &[&str]) -> bool {
    metrics
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .any(|value| value > 0.0)
}

/// Each fault at a site of its own, all at the same time: most of it is waiting until the service tries again.
fn each(faults: &[(&'static str, &[Errno])], test: impl Fn(&'static str, Errno) + Sync) {
    std::thread::scope(|scope| {
        for (operation, errnos) in faults {
            for errno in *errnos {
                let test = &test;
                scope.spawn(move || test(operation, *errno));
            }
        }
    });
}

#[test]
fn whatever_fails_in_the_library_holds_intake_and_passes() {
    let mould = Mould::new(71);
    let faults: &[(&str, &[Errno])] = &[
        (
            "create",
            &[
                Errno::NOSPC,
                Errno::DQUOT,
                Errno::NFILE,
                Errno::ACCESS,
                Errno::IO,
                Errno::STALE,
            ],
        ),
        (
            "write",
            &[
                Errno::NOSPC,
                Errno::DQUOT,
                Errno::ROFS,
                Errno::IO,
                Errno::STALE,
            ],
        ),
        ("fsync", &[Errno::IO, Errno::NOSPC, Errno::DQUOT]),
        ("read", &[Errno::IO, Errno::STALE]),
        (
            "rename",
            &[Errno::IO, Errno::STALE, Errno::ACCESS, Errno::NOSPC],
        ),
        ("mkdir", &[Errno::NOSPC, Errno::ROFS]),
        ("lookup", &[Errno::IO, Errno::STALE]),
        ("fsyncdir", &[Errno::IO]),
        (
            "everything",
            &[Errno::IO, Errno::STALE, Errno::ACCESS, Errno::NOTCONN],
        ),
    ];
    each(faults, |operation, errno| {
        let site = Site::new();
        let Some(sick) = on_sick_share(&site, &site.library) else {
            return;
        };
        let mut daemon = site.start();
        let _healthy = HealsAtEnd(&sick);
        let bytes = mould.bytes(&uid(1));
        sick.fails(operation, errno);
        site.put("1.dcm", &bytes);
        let told = daemon.wait_until(
            &format!("{operation} fails with {errno:?} and is told"),
            |status| sick.met() > 0 && state(status, 0) == "held",
        );
        assert!(
            told["watches"][0]["why"].is_string(),
            "{operation} {errno:?}: {told}"
        );
        assert!(site.drop.join("1.dcm").is_file(), "{operation} {errno:?}");
        // Status, journal and metrics say the same.
        daemon.wait_logged("intake-paused");
        let metrics = metrics(&site);
        assert!(
            counts(&metrics, &["radsort_retries_total", "watch=\"drop\""]),
            "{operation} {errno:?}: {metrics}"
        );
        sick.heals();
        daemon.wait_total(1);
        wait_state(&mut daemon, "online");
        daemon.stop();
        assert_conserved(&site, vec![common::digest(&bytes)]);
    });
}

#[test]
fn whatever_fails_in_a_drop_directory_holds_its_files_and_passes() {
    const ERRNOS: &[Errno] = &[Errno::IO, Errno::STALE, Errno::ACCESS, Errno::NFILE];
    let operations = [
        "open",
        "opendir",
        "readdir",
        "getattr",
        "lookup",
        "read",
        "unlink",
        "everything",
    ];
    each(
        &operations.map(|operation| (operation, ERRNOS)),
        |operation, errno| with_a_fault_of_the_drop(&[], operation, errno),
    );
}

/// A file is claimed by a rename and unlinked when its copy is there.
#[test]
fn a_drop_directory_that_is_full_or_read_only_or_refuses_its_renames_holds_its_files_and_passes() {
    const FULL: &[Errno] = &[Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
    each(
        &[
            ("rename", FULL),
            ("rename", &[Errno::IO, Errno::STALE, Errno::ACCESS]),
            ("unlink", FULL),
            ("fsyncdir", FULL),
            ("fsyncdir", &[Errno::IO]),
            ("everything", FULL),
        ],
        |operation, errno| with_a_fault_of_the_drop(&[], operation, errno),
    );
    // Where a share cannot rename without replacing, it is claimed by a link.
    each(
        &[("link", FULL), ("link", &[Errno::IO, Errno::ACCESS])],
        |operation, errno| with_a_fault_of_the_drop(&["rename"], operation, errno),
    );
}

/// One file on a share that refuses some operations for good, and for a while one more.
fn with_a_fault_of_the_drop(refused: &[&'static str], operation: &'static str, errno: Errno) {
    let mould = Mould::new(72);
    let site = Site::with("poll-interval = \"1s\"", "");
    let Some(sick) = on_sick_share(&site, &site.drop) else {
        return;
    };
    let real = site.dir.path().join("real");
    let mut daemon = site.start();
    let _healthy = HealsAtEnd(&sick);
    let bytes = mould.bytes(&uid(1));
    for operation in refused {
        sick.fails(operation, Errno::INVAL);
    }
    sick.fails(operation, errno);
    fs::write(real.join("1.dcm"), &bytes).unwrap();
    let told = daemon.wait_until(
        &format!("{operation} fails with {errno:?} and is told"),
        |status| sick.met() > 0 && status["watches"][0]["why"].is_string(),
    );
    // By its own name, or claimed.
    assert_eq!(common::files(&real).len(), 1, "{operation} {errno:?}");
    let (log, metrics) = (daemon.log(), metrics(&site));
    let in_journal = [
        "intake-paused",
        "share-offline",
        "share-unreadable",
        "cannot-take",
    ]
    .iter()
    .any(|event| log.contains(event));
    let in_metrics = counts(&metrics, &["radsort_retries_total{", "watch=\"drop\""])
        || counts(&metrics, &["radsort_untakeable_files{"])
        || !counts(&metrics, &["radsort_watch_state{", "state=\"online\""]);
    // What stops all of it is in the journal and in the metrics; what keeps a file or a folder waiting in one of them, though
    // not yet where it merely may not be read: the journal has that when it is next looked at the status.
    let all_stands = state(&told, 0) != "online";
    assert!(
        if all_stands {
            in_journal && in_metrics
        } else {
            in_journal || in_metrics || errno == Errno::ACCESS
        },
        "{operation} {errno:?}: {told}\n{log}\n{metrics}"
    );
    sick.heals();
    for operation in refused {
        sick.fails(operation, Errno::INVAL);
    }
    daemon.wait_total(1);
    wait_state(&mut daemon, "online");
    sick.heals();
    daemon.stop();
    assert!(
        common::files(&real).is_empty(),
        "{:?}",
        common::files(&real)
    );
    assert_conserved(&site, vec![common::digest(&bytes)]);
}

/// Its writer's bytes may never have reached the disk: it is read from there once more, or waits.
#[test]
fn a_file_whose_own_sync_fails_is_filed_as_it_is_on_the_disk_or_waits() {
    const ERRNOS: &[Errno] = &[Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
    each(&[("fsync", ERRNOS)], |operation, errno| {
        let mould = Mould::new(80);
        let site = Site::with("poll-interval = \"1s\"", "");
        let Some(sick) = on_sick_share(&site, &site.drop) else {
            return;
        };
        let real = site.dir.path().join("real");
        let mut daemon = site.start();
        let _healthy = HealsAtEnd(&sick);
        let bytes = mould.bytes(&uid(1));
        sick.fails(operation, errno);
        fs::write(real.join("1.dcm"), &bytes).unwrap();
        daemon.wait_until(&format!("{operation} fails with {errno:?}"), |status| {
            let waits = status["watches"][0]["why"].is_string();
            sick.met() > 0 && (waits || common::total(status) == 1)
        });
        sick.heals();
        daemon.wait_total(1);
        daemon.stop();
        assert!(common::files(&real).is_empty(), "{errno:?}");
        assert_conserved(&site, vec![common::digest(&bytes)]);
    });
}

/// A radiograph of 5 MB: its copy takes several writes.
fn large(mould: &Mould) -> Vec<u8> {
    const SIDE: u16 = 1600;
    mould.bytes_with(|header| {
        common::put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(1));
        for tag in [tags::ROWS, tags::COLUMNS] {
            header.put(DataElement::new(tag, VR::US, PrimitiveValue::from(SIDE)));
        }
        let side = u32::from(SIDE);
        let pixels: Vec<u16> = (0..side * side)
            .map(|n| ((n / side + n % side) % 4096) as u16)
            .collect();
        header.put(DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::U16(pixels.into()),
        ));
    })
}

#[test]
fn a_copy_that_fails_at_any_of_its_writes_is_made_anew() {
    let mould = Mould::new(78);
    let bytes = large(&mould);
    let writes = {
        let site = Site::new();
        let Some(sick) = on_sick_share(&site, &site.library) else {
            return;
        };
        let mut daemon = site.start();
        let before = sick.writes();
        site.put("1.dcm", &bytes);
        daemon.wait_total(1);
        daemon.stop();
        sick.writes() - before
    };
    assert!(writes > 4, "a copy of {writes} writes");
    let faults = [Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::ROFS];
    // Several at a time: most of it is waiting until the service tries again.
    let one = |n: u64| {
        let errno = faults[n as usize % faults.len()];
        let site = Site::new();
        let sick = on_sick_share(&site, &site.library).unwrap();
        let mut daemon = site.start();
        let _healthy = HealsAtEnd(&sick);
        sick.fails_after(n, "write", errno);
        site.put("1.dcm", &bytes);
        daemon.wait_until(&format!("write {n} fails with {errno:?}"), |status| {
            sick.met() > 0 && state(status, 0) == "held"
        });
        assert!(site.drop.join("1.dcm").is_file(), "write {n}");
        assert_eq!(site.filed(), [""; 0], "write {n}");
        sick.heals();
        daemon.wait_total(1);
        wait_state(&mut daemon, "online");
        daemon.stop();
        assert_conserved(&site, vec![common::digest(&bytes)]);
    };
    let all: Vec<u64> = (0..writes).collect();
    for some in all.chunks(8) {
        std::thread::scope(|scope| {
            for n in some {
                scope.spawn(|| one(*n));
            }
        });
    }
}

/// The share is not a local disk, and radsort is not made for that: it stands for a disk that is dying.
#[test]
fn a_state_directory_that_fails_holds_intake_or_ends_the_service_and_nothing_is_lost() {
    const ERRNOS: &[Errno] = &[Errno::ROFS, Errno::IO, Errno::DQUOT];
    let operations = ["write", "fsync", "everything"];
    each(
        &operations.map(|operation| (operation, ERRNOS)),
        with_a_fault_of_the_state,
    );
}

fn with_a_fault_of_the_state(operation: &'static str, errno: Errno) {
    let mould = Mould::new(79);
    let site = Site::new();
    // Sockets need a real directory.
    let run = tempfile::tempdir().unwrap();
    let socket = run.path().join("control.sock");
    site.configure("", &format!("[control]\nsocket = {socket:?}\n"));
    fs::create_dir(&site.state).unwrap();
    let Some(sick) = on_sick_share(&site, &site.state) else {
        return;
    };
    let what = format!("{operation} fails with {errno:?}");
    let mut daemon = site.start();
    daemon.is_asked_at(&socket);
    let _healthy = HealsAtEnd(&sick);
    site.put("1.dcm", &mould.bytes(&uid(1)));
    daemon.wait_total(1);
    sick.fails(operation, errno);
    site.put("2.dcm", &mould.bytes(&uid(2)));
    let held = |status: &Value| state(status, 0) == "held";
    let done = |status: &Value| common::total(status) == 2;
    ends_or(&mut daemon, &what, |status| {
        sick.met() > 0 && (held(status) || done(status))
    });
    let log = daemon.log();
    assert!(
        ["intake-paused", "fatal"]
            .iter()
            .any(|event| log.contains(event))
            || !site.drop.join("2.dcm").exists(),
        "{what}: {log}"
    );
    sick.heals();
    if let Some(end) = ends_or(&mut daemon, &what, done) {
        // For systemd, which starts it again.
        assert_eq!(end.code(), Some(75), "{what}: {}", daemon.log());
        daemon = site.start();
        daemon.is_asked_at(&socket);
        daemon.wait_total(2);
    }
    daemon.stop();
    let expected = [1, 2].map(|n| common::digest(&mould.bytes(&uid(n))));
    assert_conserved(&site, expected.into());
}

/// One damaged inode must not hide everything that a scan would come upon after it.
#[test]
fn a_damaged_file_and_a_damaged_folder_do_not_hide_those_behind_them() {
    let mould = Mould::new(76);
    let site = Site::with("poll-interval = \"1s\"", "");
    let Some(sick) = on_sick_share(&site, &site.drop) else {
        return;
    };
    let real = site.dir.path().join("real");
    fs::create_dir_all(real.join("a/bad")).unwrap();
    fs::create_dir(real.join("b")).unwrap();
    let mut expected = Vec::new();
    for (n, name) in ["a/bad/1.dcm", "a/bad.dcm", "a/good.dcm", "b/good.dcm"]
        .iter()
        .enumerate()
    {
        let bytes = mould.bytes(&uid(n));
        expected.push(common::digest(&bytes));
        fs::write(real.join(name), &bytes).unwrap();
    }
    sick.fails("lookup of something bad", Errno::IO);
    let mut daemon = site.start();
    let _healthy = HealsAtEnd(&sick);
    daemon.wait_total(2);
    daemon.wait_until("the damage is told", |status| {
        status["watches"][0]["why"].is_string()
    });
    sick.heals();
    daemon.wait_total(4);
    daemon.stop();
    assert_conserved(&site, expected);
}

#[test]
fn a_state_directory_whose_disk_fills_holds_intake_and_it_goes_on_by_itself() {
    let mould = Mould::new(77);
    let site = Site::new();
    fs::create_dir(&site.state).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs"])
        .arg(&site.state)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("SKIPPED: a small filesystem cannot be mounted here");
        return;
    }
    let _mount = Unmounts(&site.state);
    let mut daemon = site.start();
    let bytes = [mould.bytes(&uid(1)), mould.bytes(&uid(2))];
    site.put("1.dcm", &bytes[0]);
    daemon.wait_total(1);
    let filler = site.state.join("filler");
    fs::write(&filler, vec![0; 60 << 20]).unwrap();
    site.put("2.dcm", &bytes[1]);
    let held = wait_state(&mut daemon, "held");
    let why = held["watches"][0]["why"].as_str().unwrap();
    assert!(why.contains("state directory"), "{why}");
    assert!(site.drop.join("2.dcm").is_file());
    // A new start waits as well, and says why.
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    let mut daemon = site.spawn(&[]);
    daemon.wait_heard("what it waits for", |heard| {
        heard.iter().any(|line| line.contains("state directory"))
    });
    fs::remove_file(&filler).unwrap();
    daemon.wait_ready();
    daemon.wait_total(2);
    daemon.stop();
    assert_conserved(
        &site,
        bytes.iter().map(|bytes| common::digest(bytes)).collect(),
    );
}

/// Waits until the service has ended (then: how), or its status fulfils a condition.
fn ends_or(
    daemon: &mut Daemon,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(end) = daemon.child.try_wait().unwrap() {
            return Some(end);
        }
        if daemon.ask_status().is_some_and(|status| condition(&status)) {
            return None;
        }
        let log = || daemon.log();
        assert!(started.elapsed() < common::PATIENCE, "{what}: {}", log());
        daemon.breathe();
    }
}

/// Unmounts at the end of a test, however it ends.
struct Unmounts<'a>(&'a Path);

impl Drop for Unmounts<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0)
            .status();
    }
}

#[test]
fn a_share_that_hangs_does_not_stop_the_others() {
    let site = Site::new();
    let slow = site.dir.path().join("slow");
    fs::create_dir(&slow).unwrap();
    let Some(sick) = on_sick_share(&site, &slow) else {
        return;
    };
    site.configure(
        &format!("[[watch]]\npath = {slow:?}\nsettle = \"300ms\"\npoll-interval = \"1s\"\n"),
        "",
    );
    let real = site.dir.path().join("real");
    let mould = Mould::new(73);
    let mut daemon = site.start();
    let _healthy = HealsAtEnd(&sick);
    let mut expected = Vec::new();
    let mut bytes = || {
        let bytes = mould.bytes(&uid(expected.len()));
        expected.push(common::digest(&bytes));
        bytes
    };
    let mut total = 0;
    for operation in ["read", "readdir", "everything"] {
        sick.hangs(operation);
        fs::write(real.join(format!("{operation}.dcm")), bytes()).unwrap();
        daemon.wait_until("the share hangs", |_| sick.met() > 0);
        let hangs = Instant::now();
        for n in 0..10 {
            site.put(&format!("{operation}-{n}.dcm"), &bytes());
        }
        // A file that cannot be read holds up its decoder, not the look at its share.
        if operation != "read" {
            daemon.wait_until("the share is offline", |status| {
                state(status, 1) == "offline"
            });
            assert!(
                hangs.elapsed() < Duration::from_secs(20),
                "{operation}: offline after {:?}",
                hangs.elapsed()
            );
            let log = daemon.log.clone();
            daemon.wait_for("the journal says it", || {
                let text = fs::read_to_string(&log).unwrap();
                text.contains("share-not-answering")
            });
            let metrics = metrics(&site);
            assert!(
                counts(
                    &metrics,
                    &["radsort_watch_state", "slow", "state=\"offline\""]
                ),
                "{metrics}"
            );
        }
        total += 10;
        daemon.wait_total(total);
        sick.heals();
        total += 1;
        daemon.wait_total(total);
    }
    daemon.stop();
    assert!(common::files(&real).is_empty());
    assert_conserved(&site, expected);
}

/// Before any file has come upon it.
#[test]
fn a_library_that_hangs_is_told_and_no_status_waits_for_it() {
    let site = Site::new();
    let Some(sick) = on_sick_share(&site, &site.library) else {
        return;
    };
    let mut daemon = site.start();
    let _healthy = HealsAtEnd(&sick);
    wait_state(&mut daemon, "online");
    sick.hangs("everything");
    let status = wait_state(&mut daemon, "held");
    let why = status["watches"][0]["why"].as_str().unwrap();
    assert!(why.contains("does not answer"), "{why}");
    // Also for Prometheus; and asking costs nothing any more.
    let begun = Instant::now();
    let metrics = metrics(&site);
    assert!(begun.elapsed() < Duration::from_secs(1), "{begun:?}");
    let held = ["radsort_watch_state", "state=\"held\""];
    assert!(counts(&metrics, &held), "{metrics}");
    sick.heals();
    wait_state(&mut daemon, "online");
    daemon.stop();
}

#[test]
fn files_are_decided_on_while_others_wait_to_be_filed() {
    let site = Site::with("", "[decoders]\npermits-per-watch = 1\n");
    let Some(sick) = on_sick_share(&site, &site.library) else {
        return;
    };
    let mould = Mould::new(76);
    let mut daemon = site.start();
    let _healthy = HealsAtEnd(&sick);
    sick.hangs("create");
    let mut expected = Vec::new();
    for n in 0..5 {
        let bytes = mould.bytes(&uid(n));
        expected.push(common::digest(&bytes));
        site.put(&format!("{n}.dcm"), &bytes);
    }
    // None of them can be filed, and yet each makes room for the next to be decided on: all are open until they are filed.
    let open = format!("/proc/{}/fd", daemon.child.id());
    daemon.wait_for("five files under way", || {
        let targets = fs::read_dir(&open).unwrap();
        let targets = targets.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let files = targets.filter(|target| target.parent() == Some(&site.drop));
        files.count() == 5
    });
    sick.heals();
    daemon.wait_total(5);
    daemon.stop();
    assert_conserved(&site, expected);
}

#[test]
fn without_a_file_descriptor_left_nothing_is_lost_and_it_goes_on_when_there_are_some() {
    let mould = Mould::new(74);
    // From none at all to a few: another step of the way fails each time.
    std::thread::scope(|scope| {
        for few in 0..10 {
            let mould = &mould;
            scope.spawn(move || with_so_few_descriptors(few, &mould.bytes(&uid(1))));
        }
    });
}

fn with_so_few_descriptors(few: u64, bytes: &[u8]) {
    let limit = |daemon: &Daemon, current: u64| {
        let limits = Rlimit {
            current: Some(current),
            maximum: Some(1024),
        };
        prlimit(
            Some(Pid::from_child(&daemon.child)),
            Resource::Nofile,
            limits,
        )
        .unwrap();
    };
    let site = Site::new();
    let mut daemon = site.start();
    // All that a first file needs once is open after it.
    site.put("first.dcm", &Mould::new(75).bytes(&uid(2)));
    daemon.wait_total(1);
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.child.id()))
        .unwrap()
        .count() as u64;
    limit(&daemon, open + few);
    site.put("1.dcm", bytes);
    // No connection can be taken in, either: there is nothing else to wait for.
    for _ in 0..60 {
        daemon.breathe();
    }
    limit(&daemon, 1024);
    daemon.wait_total(2);
    wait_state(&mut daemon, "online");
    daemon.stop();
    let first = common::digest(&Mould::new(75).bytes(&uid(2)));
    assert_conserved(&site, vec![first, common::digest(bytes)]);
}
