//! Sick disks and shares: what fails or hangs holds intake, is told, costs no file, and passes.
//!
//! The share is a FUSE filesystem of the tests' own, which needs root; where it cannot be mounted, these tests say so and are
//! skipped.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/sick.rs"]
mod share;

use std::fs;
use std::path::Path;

use common::{Daemon, Mould, Site, uid};
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
    let mould = Mould::new(72);
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
        |operation, errno| {
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
            daemon.wait_until(
                &format!("{operation} fails with {errno:?} and is told"),
                |status| sick.met() > 0 && status["watches"][0]["why"].is_string(),
            );
            // By its own name, or claimed.
            assert_eq!(common::files(&real).len(), 1, "{operation} {errno:?}");
            sick.heals();
            daemon.wait_total(1);
            wait_state(&mut daemon, "online");
            daemon.stop();
            assert!(
                common::files(&real).is_empty(),
                "{:?}",
                common::files(&real)
            );
            assert_conserved(&site, vec![common::digest(&bytes)]);
        },
    );
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
        for n in 0..10 {
            site.put(&format!("{operation}-{n}.dcm"), &bytes());
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
