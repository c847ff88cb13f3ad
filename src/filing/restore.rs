//! A file that is given back gets what the ledger recorded of it: permission bits, time of modification, owner and group.
//! Only a process with `CAP_CHOWN` may give files away; what could not be restored is told, and the file is back all the
//! same. Bits that let a program run as its owner or group are not among what is restored: the owner may be another now.

use std::fs::File;

use rustix::fs::{Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::record::Intent;
use crate::root::fingerprint;

/// What the ledger recorded of a file as it came.
pub(super) struct Recorded {
    /// Permission bits for owner, group and others.
    mode: u32,
    /// It came with set-user-ID, set-group-ID or sticky bits, too.
    special: bool,
    /// Time of modification, nanoseconds since the Unix epoch.
    mtime_ns: i64,
    uid: u32,
    gid: u32,
}

impl From<&Intent> for Recorded {
    fn from(intent: &Intent) -> Self {
        Self {
            mode: permissions(intent),
            special: intent.mode & !0o777 != 0,
            mtime_ns: intent.fingerprint.mtime_ns,
            uid: intent.uid,
            gid: intent.gid,
        }
    }
}

/// The permission bits that a file of this intent is given back with.
pub(super) fn permissions(intent: &Intent) -> u32 {
    intent.mode & 0o777
}

/// Restores what differs; says in words what could not be.
pub(super) fn restore(file: &File, recorded: &Recorded) -> Option<String> {
    let now = match rustix::fs::fstat(file) {
        Ok(now) => now,
        Err(error) => return Some(format!("nothing but its name was restored: {error}")),
    };
    // The owner last: who has given a file away may not change it any more.
    let problems = [
        special(recorded),
        mode(file, recorded, &now),
        time(file, recorded, &now),
        owner(file, recorded, &now),
    ];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn special(recorded: &Recorded) -> Option<String> {
    let why = "its set-user-ID, set-group-ID or sticky bit was not restored";
    recorded.special.then(|| why.to_owned())
}

fn mode(file: &File, recorded: &Recorded, now: &Stat) -> Option<String> {
    if now.st_mode & 0o7777 == recorded.mode {
        return None;
    }
    let done = rustix::fs::fchmod(file, Mode::from_raw_mode(recorded.mode));
    let kept = now.st_mode & 0o7777;
    done.err().map(|error| {
        format!(
            "its permission bits {:o} were not restored, it has {kept:o}: {error}",
            recorded.mode
        )
    })
}

fn time(file: &File, recorded: &Recorded, now: &Stat) -> Option<String> {
    let nanoseconds = recorded.mtime_ns;
    if fingerprint(now).mtime_ns == nanoseconds {
        return None;
    }
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let done = rustix::fs::futimens(file, &times);
    done.err()
        .map(|error| format!("its time of modification was not restored: {error}"))
}

fn owner(file: &File, recorded: &Recorded, now: &Stat) -> Option<String> {
    let (uid, gid) = (recorded.uid, recorded.gid);
    if (now.st_uid, now.st_gid) == (uid, gid) {
        return None;
    }
    // No file has these: a damaged record.
    if uid == u32::MAX || gid == u32::MAX {
        return Some("its owner was not restored: the record does not say who that is".to_owned());
    }
    let group = Some(Gid::from_raw(gid));
    let error = rustix::fs::fchown(file, Some(Uid::from_raw(uid)), group).err()?;
    // The group alone may be given to whoever belongs to it.
    let grouped = now.st_gid == gid || rustix::fs::fchown(file, None, group).is_ok();
    let what = match (now.st_uid == uid, grouped) {
        (true, _) => format!("its group {gid} was not restored, it has {}", now.st_gid),
        (false, true) => format!("its owner {uid} was not restored, it has {}", now.st_uid),
        (false, false) => format!(
            "its owner {uid} and group {gid} were not restored, it has {} and {}",
            now.st_uid, now.st_gid
        ),
    };
    Some(match error {
        Errno::PERM => format!("{what}: radsort may not give files away here (chown it by hand)"),
        other => format!("{what}: {other}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    /// Runs something in a thread that may not give files away.
    fn without_chown<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut sets = capabilities(None).unwrap();
                sets.effective.remove(CapabilitySet::CHOWN);
                set_capabilities(None, sets).unwrap();
                run()
            });
            thread.join().unwrap()
        })
    }

    fn file() -> (tempfile::TempDir, File, Recorded) {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("a.dcm")).unwrap();
        let now = rustix::fs::fstat(&file).unwrap();
        let recorded = Recorded {
            mode: 0o640,
            special: false,
            mtime_ns: -1_500_000_000,
            uid: now.st_uid,
            gid: now.st_gid,
        };
        (dir, file, recorded)
    }

    #[test]
    fn bits_and_time_are_those_of_the_record() {
        let (_dir, file, recorded) = file();
        assert_eq!(restore(&file, &recorded), None);
        let now = file.metadata().unwrap();
        assert_eq!(now.permissions().mode() & 0o7777, 0o640);
        assert_eq!((now.mtime(), now.mtime_nsec()), (-2, 500_000_000));
    }

    #[test]
    fn a_program_that_ran_as_its_owner_is_none_when_it_is_back() {
        let (_dir, file, mut recorded) = file();
        (recorded.mode, recorded.special) = (0o755, true);
        let told = restore(&file, &recorded).unwrap();
        assert!(told.contains("set-user-ID"), "{told}");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn an_owner_that_may_not_be_given_is_told_and_the_rest_is_restored() {
        let (_dir, file, mut recorded) = file();
        recorded.uid += 4711;
        let told = without_chown(|| restore(&file, &recorded)).unwrap();
        assert!(told.contains("owner") && told.contains("by hand"), "{told}");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn root_gives_a_file_back_to_its_owner() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may give files away");
            return;
        }
        let (_dir, file, mut recorded) = file();
        (recorded.uid, recorded.gid) = (4711, 4712);
        assert_eq!(restore(&file, &recorded), None);
        let now = file.metadata().unwrap();
        assert_eq!((now.uid(), now.gid()), (4711, 4712));
    }
}
