//! What shares do to files: who owns what is made there, whether there are locks, whether the clocks agree, whether group
//! and umask let the right people in.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::findings::{Findings, Verdict};
use super::{Probe, may, probe_name};
use crate::commands::drop_tree::{DropTree, Lying, Owned, needed};
use crate::commands::setup::account::Account;
use crate::commands::setup::advice::{by_access_list, in_shell};
use crate::config::settings::{Action, LibrarySettings, WatchSettings};
use crate::watch::ShareKind;

/// Clocks may differ so much without a word.
const SKEW: Duration = Duration::from_secs(5);
/// The user that squashed or unmapped ids become (`nobody`, `nfsnobody`).
const NOBODY: [u32; 2] = [65_534, 4_294_967_294];

/// A drop directory: its owner, the clock of its share, the permissions of what lies in it.
pub(super) fn check_drop(watch: &WatchSettings, tree: &DropTree, findings: &mut Findings) {
    let what = format!("watch {}", watch.name);
    let me = Me::now();
    if let Ok(directory) = std::fs::metadata(&watch.path) {
        let allowed = may(&watch.path, needed(watch.action)).is_ok();
        findings.tell(group(
            watch,
            Owned::of(&directory),
            &me,
            allowed,
            Account::group_name,
        ));
    }
    findings.tell(future(&what, SystemTime::now(), &tree.files));
    let hidden: Vec<Owned> = tree
        .files
        .iter()
        .filter(|file| !file.readable)
        .map(|file| file.owned)
        .collect();
    findings.tell(unreadable(
        watch,
        &hidden,
        tree.files.len(),
        &me,
        Account::group_name,
    ));
    if watch.action == Action::Move
        && let Ok(made) = Made::try_in(&watch.path)
    {
        findings.tell(made.judge(&what, false));
    }
}

/// The library: the same for what is made in it, and its group.
pub(super) fn check_library(library: &LibrarySettings, findings: &mut Findings) {
    if let Ok(made) = Made::try_in(&library.path) {
        findings.tell(made.judge("library", true));
    }
    if let Ok(directory) = std::fs::metadata(&library.path) {
        let group = rustix::process::getegid().as_raw();
        findings.tell(library_group(
            &library.path,
            Owned::of(&directory),
            group,
            library.directory_mode,
        ));
    }
}

/// Who asks.
struct Me {
    uid: u32,
    groups: BTreeSet<u32>,
}

impl Me {
    fn now() -> Self {
        let more = rustix::process::getgroups().unwrap_or_default();
        let all = more.into_iter().chain([rustix::process::getegid()]);
        Self {
            uid: rustix::process::geteuid().as_raw(),
            groups: all.map(rustix::fs::Gid::as_raw).collect(),
        }
    }
}

/// A group that would be let in, and we are not in it.
fn group(
    watch: &WatchSettings,
    directory: Owned,
    me: &Me,
    allowed: bool,
    name_of: impl FnOnce(u32) -> Option<String>,
) -> Option<Verdict> {
    let outside = me.uid != 0 && me.uid != directory.uid && !me.groups.contains(&directory.gid);
    let open_to_group = directory.mode & 0o050 == 0o050;
    let gid = directory.gid;
    (!allowed && outside && open_to_group).then(|| {
        Verdict::error(
            &format!("watch {}", watch.name),
            format!("the directory belongs to group {gid}, and this user is not a member"),
            match name_of(gid) {
                // Whoever is in root's group may read much that is no business of radsort's.
                _ if gid == 0 => format!("Let the service in by an access list: {}", letting_in(watch)),
                Some(name) => format!(
                    "usermod -aG {} radsort, then restart the service: groups are read at its start.",
                    in_shell(name)
                ),
                None => format!(
                    "This machine has no name for group {gid}; give it one and let the service in: groupadd -g {gid} NAME, \
                     usermod -aG NAME radsort, then restart the service: groups are read at its start."
                ),
            },
        )
    })
}

/// Files from the future: the server's or the sender's clock is ahead.
fn future(what: &str, now: SystemTime, files: &[Lying]) -> Option<Verdict> {
    let ahead = |file: &Lying| file.modified.duration_since(now).ok();
    let most = files
        .iter()
        .filter_map(ahead)
        .max()
        .filter(|ahead| *ahead > SKEW)?;
    Some(Verdict::warning(
        what,
        format!(
            "files there were modified up to {} s in the future",
            most.as_secs()
        ),
        "The clocks of this machine, the file server or the sender differ: let all of them follow the same time server (chrony, NTP).",
    ))
}

/// The command that lets the service into a drop directory, whoever owns what lies there. One that moves files out needs to
/// write: an entry of its own in the list outranks what a group lets it do.
fn letting_in(watch: &WatchSettings) -> String {
    by_access_list(&watch.path, watch.action == Action::Move, "radsort")
}

/// Why files cannot be read: their writer's umask, or their group.
fn unreadable(
    watch: &WatchSettings,
    hidden: &[Owned],
    of: usize,
    me: &Me,
    name_of: impl Fn(u32) -> Option<String>,
) -> Option<Verdict> {
    if hidden.is_empty() {
        return None;
    }
    let message = format!(
        "{} of the first {of} files there cannot be read by this user",
        hidden.len()
    );
    let umask = hidden.iter().filter(|file| file.mode & 0o044 == 0).count();
    let foreign: BTreeSet<u32> = hidden
        .iter()
        .filter(|file| file.mode & 0o040 != 0 && !me.groups.contains(&file.gid))
        .map(|file| file.gid)
        .collect();
    let list = letting_in(watch);
    let advice = if umask == hidden.len() {
        format!(
            "Their sender's umask hides them from everybody else: UMask=0027 in its unit (Samba: create mask = 0640), and a \
             common group; or an access list: {list}"
        )
    } else if foreign.is_empty() {
        format!(
            "Let the senders write group-readable files and make the daemon a member of that group, or give the directory an \
             access list: {list}"
        )
    } else {
        let groups: Vec<String> = foreign.iter().map(u32::to_string).collect();
        // Nobody joins root's group for that.
        let joined = foreign.iter().filter(|gid| **gid != 0);
        let join: Vec<String> = joined
            .filter_map(|gid| Some(in_shell(name_of(*gid)?)))
            .collect();
        let join = if join.is_empty() {
            String::new()
        } else {
            format!(
                "usermod -aG {} radsort, then restart the service. Or ",
                join.join(",")
            )
        };
        format!(
            "They belong to group {}, of which this user is no member. {join}by an access list: {list}",
            groups.join(", ")
        )
    };
    let what = format!("watch {}", watch.name);
    Some(Verdict::warning(&what, message, advice))
}

/// Filed files get a group; is it the one that the library was given?
fn library_group(path: &Path, library: Owned, my_group: u32, directory_mode: u32) -> Vec<Verdict> {
    let mut said = Vec::new();
    if library.gid != my_group && library.mode & 0o2000 == 0 && library.mode & 0o070 != 0 {
        said.push(Verdict::warning(
            "library",
            format!("it belongs to group {}, but what is filed there gets group {my_group}", library.gid),
            format!(
                "Set the setgid bit, so that new folders and files get the library's group: chmod g+s {}",
                in_shell(path)
            ),
        ));
    }
    if directory_mode & 0o050 != 0 && library.mode & 0o055 == 0 {
        said.push(Verdict::warning(
            "library",
            format!("its own mode is {:04o}: nobody else gets in, although directory-mode is {directory_mode:04o}", library.mode),
            format!("It was made under a narrow umask: chmod g+rx {}", in_shell(path)),
        ));
    }
    said
}

/// What became of an empty file that was made for a moment.
struct Made {
    kind: ShareKind,
    me: u32,
    owner: u32,
    before: SystemTime,
    modified: SystemTime,
    after: SystemTime,
    lock: Result<(), Errno>,
    nolock: bool,
}

impl Made {
    fn try_in(dir: &Path) -> io::Result<Self> {
        let kind = ShareKind::of(File::open(dir)?)?;
        let probe = Probe(dir.join(probe_name()));
        let before = SystemTime::now();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&probe.0)?;
        // So that the server sets the time.
        io::Write::write_all(&mut &file, b".")?;
        file.sync_all()?;
        let metadata = file.metadata()?;
        let after = SystemTime::now();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let device = (
            rustix::fs::major(metadata.dev()),
            rustix::fs::minor(metadata.dev()),
        );
        Ok(Self {
            kind,
            me: rustix::process::geteuid().as_raw(),
            owner: metadata.uid(),
            before,
            modified: metadata.modified()?,
            after,
            lock: rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive),
            nolock: without_locks(&mounts, device),
        })
    }

    fn judge(&self, what: &str, needs_lock: bool) -> Vec<Verdict> {
        let mut said = Vec::new();
        said.extend(self.judge_owner(what));
        said.extend(self.judge_clock(what));
        if needs_lock {
            said.extend(self.judge_locks(what));
        }
        said
    }

    fn judge_owner(&self, what: &str) -> Option<Verdict> {
        let (owner, me, kind) = (self.owner, self.me, self.kind);
        if owner == me {
            return None;
        }
        if NOBODY.contains(&owner) {
            let advice = if me == 0 {
                "The server squashes root (root_squash), which is as it should be: run the service, and this check, as its own \
                 user, with the same id on both machines."
            } else {
                "The server maps this user to nobody: all_squash in its exports, an id that it does not know, or different \
                 NFSv4 domains (Domain in /etc/idmapd.conf on both sides)."
            };
            return Some(Verdict::error(
                what,
                format!("what user {me} makes there ({kind}) belongs to nobody ({owner})"),
                advice,
            ));
        }
        Some(Verdict::warning(
            what,
            format!("what user {me} makes there ({kind}) belongs to user {owner}"),
            "The mount or the server maps users (uid= and forceuid of CIFS, anonuid of NFS): give radsort's own id there, or \
             set trusted = true if every writer is trusted.",
        ))
    }

    fn judge_clock(&self, what: &str) -> Option<Verdict> {
        let ahead = self.modified.duration_since(self.after).unwrap_or_default();
        let behind = self
            .before
            .duration_since(self.modified)
            .unwrap_or_default();
        let skew = ahead.max(behind);
        (skew > SKEW).then(|| {
            let direction = if ahead > behind { "ahead of" } else { "behind" };
            Verdict::warning(
                what,
                format!(
                    "the file server's clock is {} s {direction} this machine's",
                    skew.as_secs()
                ),
                "Settling compares times: let both follow the same time server (chrony, NTP).",
            )
        })
    }

    fn judge_locks(&self, what: &str) -> Option<Verdict> {
        let why = match self.lock {
            Err(errno) if errno != Errno::WOULDBLOCK => {
                format!("files there ({}) cannot be locked: {errno}", self.kind)
            }
            _ if self.nolock => format!("it is mounted without locks ({})", self.kind),
            _ => return None,
        };
        Some(Verdict::warning(
            what,
            why,
            "Two services that file into the same library would not notice each other. Mount without nolock and local_lock, \
             with rpc-statd running (NFSv3), or use NFSv4.",
        ))
    }
}

/// Whether the mount of a device, by proc_pid_mountinfo(5), has options that keep locks on this machine.
fn without_locks(mounts: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    let local = |option: &str| {
        matches!(option, "nolock" | "nobrl")
            || (option.starts_with("local_lock=") && option != "local_lock=none")
    };
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device.as_str()))
        .any(|line| line.split([' ', ',']).any(local))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::check::findings::Level;

    fn made() -> Made {
        let now = SystemTime::now();
        Made {
            kind: ShareKind::Remote("nfs"),
            me: 990,
            owner: 990,
            before: now,
            modified: now,
            after: now,
            lock: Ok(()),
            nolock: false,
        }
    }

    fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
        Owned { uid, gid, mode }
    }

    fn watch(action: &str) -> WatchSettings {
        let text = format!(
            "[[watch]]\npath = \"/srv/X ray\"\naction = {action:?}\n[library]\npath = \"/lib\"\n[state]\npath = \"/state\"\n"
        );
        let path = std::path::PathBuf::from("/x.toml");
        let settings = crate::config::parse(&path, &[(path.clone(), text)]).unwrap();
        settings.watches[0].clone()
    }

    fn me() -> Me {
        Me {
            uid: 990,
            groups: BTreeSet::from([990]),
        }
    }

    #[test]
    fn a_share_that_behaves_is_not_mentioned() {
        assert_eq!(made().judge("library", true), []);
    }

    #[test]
    fn squashed_and_mapped_users_are_told_with_the_way_out() {
        let squashed = |me, owner| {
            Made {
                me,
                owner,
                ..made()
            }
            .judge("library", true)
            .remove(0)
        };
        let root = squashed(0, 65_534);
        assert!(
            root.level == Level::Error && root.advice.contains("root_squash"),
            "{root:?}"
        );
        let mapped = squashed(990, 65_534);
        assert!(
            mapped.level == Level::Error && mapped.advice.contains("idmapd"),
            "{mapped:?}"
        );
        let other = squashed(990, 1000);
        assert!(
            other.level == Level::Warning && other.message.contains("user 1000"),
            "{other:?}"
        );
    }

    #[test]
    fn a_clock_that_differs_is_told_with_its_direction() {
        let now = SystemTime::now();
        let at = |modified| Made { modified, ..made() }.judge_clock("library");
        let far = Duration::from_millis(90_500);
        assert!(at(now + far).unwrap().message.contains("90 s ahead of"));
        assert!(at(now - far).unwrap().message.contains("90 s behind"));
        assert_eq!(at(now + Duration::from_secs(2)), None);
        let file = |modified| Lying {
            owned: owned(1, 1, 0o644),
            modified,
            readable: true,
        };
        assert_eq!(future("watch x", now, &[file(now - far)]), None);
        assert!(future("watch x", now, &[file(now), file(now + far)]).is_some());
    }

    #[test]
    fn missing_locks_are_told_where_they_are_needed() {
        let without = Made {
            lock: Err(Errno::NOLCK),
            ..made()
        };
        assert!(without.judge("watch x", false).is_empty());
        assert!(without.judge("library", true)[0].advice.contains("NFSv4"));
        let held = Made {
            lock: Err(Errno::WOULDBLOCK),
            ..made()
        };
        assert!(held.judge("library", true).is_empty());
        let mount = |options: &str| {
            format!("36 35 0:44 / /srv rw,relatime - nfs srv:/x rw,vers=3,{options},addr=x\n")
        };
        assert!(
            without_locks(&mount("nolock"), (0, 44))
                && without_locks(&mount("local_lock=all"), (0, 44))
        );
        assert!(
            !without_locks(&mount("local_lock=none"), (0, 44))
                && !without_locks(&mount("nolock"), (0, 45))
        );
    }

    #[test]
    fn a_group_that_we_are_not_in_is_named_only_when_it_is_what_is_missing() {
        let named = |_| Some("rad iology".to_owned());
        let judged = |directory, allowed, name_of: fn(u32) -> Option<String>| {
            group(&watch("move"), directory, &me(), allowed, name_of)
        };
        let directory = owned(1000, 500, 0o2770);
        let verdict = judged(directory, false, |_| None).unwrap();
        assert!(verdict.advice.contains("groupadd -g 500"), "{verdict:?}");
        let verdict = judged(directory, false, named).unwrap();
        assert!(verdict.message.contains("group 500"), "{verdict:?}");
        assert!(
            verdict.advice.contains("usermod -aG 'rad iology' radsort"),
            "{verdict:?}"
        );
        assert_eq!(judged(directory, true, named), None, "an ACL lets us in");
        assert_eq!(judged(owned(1000, 990, 0o2770), false, named), None);
        assert_eq!(judged(owned(1000, 500, 0o700), false, named), None);
        let of_root = judged(owned(0, 0, 0o2770), false, named).unwrap();
        assert!(!of_root.advice.contains("usermod"), "{of_root:?}");
        assert!(of_root.advice.contains("setfacl"), "{of_root:?}");
    }

    #[test]
    fn unreadable_files_are_put_down_to_umask_or_group() {
        let named = |_| Some("scanners".to_owned());
        let advice = |action: &str, files: &[Owned]| {
            unreadable(&watch(action), files, 9, &me(), named)
                .unwrap()
                .advice
        };
        let umask = [owned(1, 1, 0o600), owned(1, 1, 0o620)];
        let said = advice("copy", &umask);
        assert!(
            said.contains("umask") && said.contains("-m u:radsort:rX '/srv/X ray'"),
            "{said}"
        );
        let said = advice("move", &umask);
        assert!(said.contains("-m u:radsort:rwX '/srv/X ray'"), "{said}");
        let said = advice("move", &[owned(1, 77, 0o640)]);
        assert!(said.contains("group 77"), "{said}");
        assert!(said.contains("usermod -aG scanners radsort"), "{said}");
        let said = advice("move", &[owned(0, 0, 0o640)]);
        assert!(
            !said.contains("usermod") && said.contains("setfacl"),
            "{said}"
        );
        assert_eq!(unreadable(&watch("move"), &[], 9, &me(), named), None);
    }

    #[test]
    fn a_library_that_hands_its_group_down_or_is_ours_is_well() {
        let judged = |library, mode| library_group(Path::new("/the lib"), library, 990, mode);
        assert_eq!(judged(owned(990, 990, 0o750), 0o2750), []);
        assert_eq!(judged(owned(990, 500, 0o2750), 0o2750), []);
        let said = judged(owned(990, 500, 0o750), 0o2750);
        assert!(said[0].advice.ends_with("chmod g+s '/the lib'"), "{said:?}");
        let said = judged(owned(990, 990, 0o700), 0o2750);
        assert!(
            said[0].advice.ends_with("chmod g+rx '/the lib'"),
            "{said:?}"
        );
        assert_eq!(judged(owned(990, 990, 0o700), 0o700), []);
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let made = Made::try_in(dir.path()).unwrap();
        assert_eq!(made.judge("library", true), []);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
