//! Drop directories: whether files in them can be noticed, read and taken.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::findings::{Findings, Verdict};
use super::service::DropIn;
use super::{Probe, may, probe_name, share_kind};
use crate::commands::drop_tree::{DropTree, Owned};
use crate::commands::setup::advice::{in_shell, real};
use crate::config::Settings;
use crate::config::settings::{Action, WatchMode, WatchSettings};
use crate::watch::ShareKind;

/// At most so many directories are counted below a drop directory.
const COUNTED: usize = 500_000;

/// One drop directory: what the daemon may do there, by doing it.
pub(super) fn check(
    watch: &WatchSettings,
    library: &Path,
    tree: &DropTree,
    drop_in: Option<&DropIn>,
    findings: &mut Findings,
) {
    let what = format!("watch {}", watch.name);
    let path = watch.path.display();
    if let Err(error) = std::fs::read_dir(&watch.path)
        .and_then(|_| may(&watch.path, Access::READ_OK | Access::EXEC_OK))
    {
        return findings.error(
            &what,
            format!("{path}: {error}"),
            "The daemon must be able to list and enter it.",
        );
    }
    let notice = match (share_kind(&watch.path), watch.mode) {
        (Ok(kind), WatchMode::Events) if !kind.has_events() => {
            findings.warning(
                &what,
                format!("{path} is on {kind}, which tells nothing about changes made elsewhere, but mode = \"events\""),
                "Set mode = \"auto\" or \"poll\"; else such files are only found by the scans from time to time.",
            );
            "events".to_owned()
        }
        (Ok(kind), WatchMode::Auto) if !kind.has_events() => format!("{kind}, polled"),
        (Ok(kind), WatchMode::Poll) => format!("{kind}, polled"),
        (Ok(kind), _) => format!("{kind}, events"),
        (Err(error), _) => format!("kind of filesystem unknown ({error})"),
    };
    match watch.action {
        Action::Observe => findings.ok(
            &what,
            format!("{path} ({notice}): observed, nothing is touched"),
        ),
        Action::Copy => findings.ok(
            &what,
            format!("{path} ({notice}): copied from, nothing is removed"),
        ),
        Action::Move => check_taking(watch, library, drop_in, &notice, &what, findings),
    }
    findings.tell(below(watch, &what, tree));
}

/// How a file gets from a drop directory into the library.
#[derive(Debug, PartialEq, Eq)]
enum Taking {
    Rename,
    LinkAndUnlink,
    Copy(&'static str),
    ReadOnly,
    Not(String),
}

fn check_taking(
    watch: &WatchSettings,
    library: &Path,
    drop_in: Option<&DropIn>,
    notice: &str,
    what: &str,
    findings: &mut Findings,
) {
    let path = watch.path.display();
    let taking = match try_taking(&watch.path, library) {
        Taking::Rename | Taking::LinkAndUnlink
            if drop_in.is_some_and(|it| it.parts(&watch.path, library)) =>
        {
            Taking::Copy(
                "systemd grants the service the two directories one by one, which makes two mounts of them; side by side in \
                 a directory that holds nothing else, `radsort setup` grants them together",
            )
        }
        taking => taking,
    };
    let own = match &taking {
        Taking::Rename => "renamed into the library".to_owned(),
        Taking::LinkAndUnlink => "linked into the library, then unlinked".to_owned(),
        Taking::Copy(why) => format!("copied into the library, then removed ({why})"),
        Taking::ReadOnly => {
            return findings.error(
                what,
                format!("{path} is mounted read-only: files cannot be taken"),
                "Mount it for writing (findmnt, /etc/fstab; dmesg if its disk is damaged), or set action = \"copy\".",
            );
        }
        Taking::Not(why) => {
            return findings.error(
                what,
                format!("{path}: files cannot be taken: {why}"),
                "Give the daemon write permission on the drop directory (and all below it), or set action = \"copy\".",
            );
        }
    };
    match sticky_against_us(&watch.path) {
        Ok(true) => findings.warning(
            what,
            format!("{path} ({notice}): own files are {own}; files of other owners cannot be taken at all (sticky directory)"),
            &format!("Take the sticky bit away (chmod -t {}), make the daemon's user the directory's owner, or set action = \"copy\".", in_shell(&watch.path)),
        ),
        Ok(false) => {
            // Only what is trusted keeps another owner when it is moved.
            let alike = watch.trusted || matches!(taking, Taking::Copy(_));
            let others = if alike { own.clone() } else { "copied, then removed".to_owned() };
            findings.ok(what, format!("{path} ({notice}): own files are {own}; files of other owners are {others}"));
        }
        Err(error) => findings.error(what, format!("{path}: {error}"), "Mount the share, or correct the path."),
    }
}

/// Tries it with an empty hidden file.
fn try_taking(drop: &Path, library: &Path) -> Taking {
    let name = probe_name();
    let (from, to) = (Probe(drop.join(&name)), Probe(library.join(&name)));
    if let Err(error) = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&from.0)
    {
        return match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Taking::ReadOnly,
            _ => Taking::Not(error.to_string()),
        };
    }
    match rustix::fs::renameat_with(CWD, &from.0, CWD, &to.0, RenameFlags::NOREPLACE) {
        Ok(()) => Taking::Rename,
        Err(Errno::XDEV) => copied(&from, "another filesystem"),
        Err(Errno::NOENT) if !library.exists() => copied(&from, "the library does not exist yet"),
        Err(_) => match rustix::fs::linkat(CWD, &from.0, CWD, &to.0, AtFlags::empty()) {
            Ok(()) => match rustix::fs::unlink(&from.0) {
                Ok(()) => Taking::LinkAndUnlink,
                Err(error) => Taking::Not(error.to_string()),
            },
            Err(_) => copied(
                &from,
                "the filesystem refuses to rename or link without clobbering",
            ),
        },
    }
}

/// A file that is copied must be removable where it was.
fn copied(from: &Probe, why: &'static str) -> Taking {
    match rustix::fs::unlink(&from.0) {
        Ok(()) => Taking::Copy(why),
        Err(error) => Taking::Not(error.to_string()),
    }
}

/// Whether the directory is sticky and neither it nor root is ours, so that others' files cannot be renamed or removed.
fn sticky_against_us(dir: &Path) -> io::Result<bool> {
    let me = rustix::process::geteuid().as_raw();
    Ok(Owned::of(&std::fs::metadata(dir)?).is_sticky_against(me))
}

/// The directories below, where files arrive as well.
fn below(watch: &WatchSettings, what: &str, tree: &DropTree) -> Vec<Verdict> {
    let (path, shell) = (watch.path.display(), in_shell(real(&watch.path)));
    let moves = watch.action == Action::Move;
    let mut said = Vec::new();
    if tree.closed > 0 {
        let (verb, which) = if moves {
            ("moved out of them", "! -writable")
        } else {
            ("read in them", "! \\( -readable -executable \\)")
        };
        said.push(Verdict::error(
            what,
            format!(
                "{} of the {} directories below {path} are closed to this user: files cannot be {verb}",
                tree.closed, tree.below
            ),
            format!(
                "As root, `radsort setup` prints the commands that let the service in, there and in directories to come. Which \
                 they are, as this user: find {shell} -type d {which}"
            ),
        ));
    }
    if moves && tree.sticky > 0 {
        said.push(Verdict::warning(
            what,
            format!(
                "{} of the {} directories below {path} are sticky: files of other owners cannot be taken out of them",
                tree.sticky, tree.below
            ),
            format!(
                "Take the sticky bit away (find {shell} -type d -perm -1000 -exec chmod -t {{}} +), or set action = \"copy\"."
            ),
        ));
    }
    said
}

/// inotify needs a watch for each directory, and an instance for each watched tree.
pub(super) fn check_inotify(settings: &Settings, findings: &mut Findings) {
    let by_events = |watch: &&WatchSettings| {
        watch.mode != WatchMode::Poll && share_kind(&watch.path).is_ok_and(ShareKind::has_events)
    };
    let trees = settings.watches.iter().filter(by_events);
    let needed = Inotify {
        watches: trees
            .clone()
            .map(|watch| directories(&watch.path, watch.recursive))
            .sum(),
        instances: trees.count(),
    };
    let limit = |name: &str| -> Option<usize> {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let (Some(watches), Some(instances)) = (limit("max_user_watches"), limit("max_user_instances"))
    else {
        return findings.warning("inotify", "its limits cannot be read", "Is /proc mounted?");
    };
    let queue = limit("max_queued_events").unwrap_or(0);
    findings.tell([judge_inotify(
        &needed,
        &Inotify { watches, instances },
        queue,
    )]);
}

/// Watches and instances: needed, or allowed for this user.
struct Inotify {
    watches: usize,
    instances: usize,
}

fn judge_inotify(needed: &Inotify, allowed: &Inotify, queue: usize) -> Verdict {
    let message = format!(
        "{} directories in {} trees; {} watches and {} instances allowed for this user, {queue} events queued",
        needed.watches, needed.instances, allowed.watches, allowed.instances
    );
    let scarce = |share: usize| {
        [
            ("max_user_watches", needed.watches, allowed.watches),
            ("max_user_instances", needed.instances, allowed.instances),
        ]
        .into_iter()
        .find(|(_, needed, allowed)| *needed > allowed / share)
        // Room for as many again, and never less than there is.
        .map(|(name, needed, allowed)| {
            let limit = format!("fs.inotify.{name}={}", (4 * needed).max(2 * allowed));
            format!(
                "sysctl -w {limit}, and for restarts of the machine: echo {limit} > /etc/sysctl.d/60-radsort-{name}.conf"
            )
        })
    };
    if let Some(raise) = scarce(1) {
        let remedy = format!("Raise the limit: {raise}. Or set mode = \"poll\".");
        Verdict::error("inotify", message, remedy)
    } else if let Some(raise) = scarce(2) {
        let remedy = format!("Other programs of this user share the limit; raise it: {raise}");
        Verdict::warning("inotify", message, remedy)
    } else {
        Verdict::ok("inotify", message)
    }
}

/// The directories of a watch, itself included; links are not followed.
fn directories(root: &Path, recursive: bool) -> usize {
    let (mut count, mut open) = (1, vec![root.to_owned()]);
    while let Some(dir) = open.pop().filter(|_| recursive && count < COUNTED) {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(below.inspect(|_| count += 1).map(|entry| entry.path()));
    }
    count
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::findings::Level;
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn empty(dir: &Path) -> bool {
        std::fs::read_dir(dir).unwrap().next().is_none()
    }

    #[test]
    fn too_few_watches_or_instances_are_told_by_the_name_of_the_limit() {
        let site = |watches, instances| Inotify { watches, instances };
        let judged = |allowed| judge_inotify(&site(100, 3), &allowed, 16_384);
        let limits = [
            (site(1000, 128), Level::Ok, ""),
            (
                site(150, 128),
                Level::Warning,
                "fs.inotify.max_user_watches",
            ),
            (
                site(1000, 4),
                Level::Warning,
                "fs.inotify.max_user_instances",
            ),
            (
                site(1000, 2),
                Level::Error,
                "sysctl -w fs.inotify.max_user_instances=12,",
            ),
            (site(99, 128), Level::Error, "fs.inotify.max_user_watches"),
        ];
        for (allowed, level, name) in limits {
            let verdict = judged(allowed);
            assert_eq!(verdict.level, level, "{verdict:?}");
            assert!(verdict.advice.contains(name), "{verdict:?}");
        }
    }

    #[test]
    fn trying_to_take_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (drop, library) = (dir.path().join("drop"), dir.path().join("library"));
        std::fs::create_dir(&drop).unwrap();
        std::fs::create_dir(&library).unwrap();
        assert_eq!(try_taking(&drop, &library), Taking::Rename);
        assert!(empty(&drop) && empty(&library));
        std::fs::remove_dir(&library).unwrap();
        assert_eq!(
            try_taking(&drop, &library),
            Taking::Copy("the library does not exist yet")
        );
        assert!(empty(&drop));
        assert!(matches!(try_taking(&library, &drop), Taking::Not(_)));
    }

    #[test]
    fn another_filesystem_means_copying() {
        let here = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
            return eprintln!("SKIPPED: needs /dev/shm");
        };
        let device = |dir: &Path| dir.metadata().unwrap().dev();
        if device(here.path()) == device(memory.path()) {
            return eprintln!("SKIPPED: needs two filesystems");
        }
        assert_eq!(
            try_taking(here.path(), memory.path()),
            Taking::Copy("another filesystem")
        );
        assert!(empty(here.path()) && empty(memory.path()));
    }

    #[test]
    fn each_directory_is_counted_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::create_dir(dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
        assert_eq!(directories(dir.path(), true), 4);
        assert_eq!(directories(dir.path(), false), 1);
    }
}
