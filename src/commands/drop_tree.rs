//! What lies in a drop directory and below it, with the rights of whoever looks: `check` as itself, `setup` as the service's
//! user.
//!
//! Names in it can be patients' names: what is found is counted, and never told by its name.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, AtFlags, CWD};

use crate::config::settings::{Action, WatchSettings};
use crate::domain::RelPath;
use crate::watch::Ignore;

/// So many entries are looked at in all, the nearest first: a drop directory can hold millions.
const ENTRIES: usize = 100_000;
/// So many of them that are files, …
const FILES: usize = 1000;
/// … and so many of one directory.
const FILES_OF_ONE: usize = 100;

/// A drop directory, looked through.
#[derive(Debug, Default)]
pub(super) struct DropTree {
    /// How many directories below it were looked at.
    pub below: usize,
    /// In how many of those this user cannot do what the action needs.
    pub closed: usize,
    /// Out of how many of those files of other owners cannot be moved.
    pub sticky: usize,
    /// The first files.
    pub files: Vec<Lying>,
}

/// A file that lies in a drop directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lying {
    pub owned: Owned,
    pub modified: SystemTime,
    pub readable: bool,
}

/// Whose a file or directory is, and its permission bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Owned {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }

    /// Whether it is a sticky directory of somebody else: others' files can then be neither renamed nor removed.
    pub fn is_sticky_against(self, user: u32) -> bool {
        self.mode & 0o1000 != 0 && self.uid != user && user != 0
    }
}

/// What must be allowed in a directory, so that its files can be found, read, and moved away if that is the action.
pub(super) fn needed(action: Action) -> Access {
    match action {
        Action::Move => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        Action::Observe | Action::Copy => Access::READ_OK | Access::EXEC_OK,
    }
}

impl DropTree {
    /// Looks at what the service would look at: no links, nothing that is ignored, and nothing below if it does not.
    pub fn look(watch: &WatchSettings) -> Self {
        let ignore = Ignore::new(&watch.ignore).unwrap_or_else(|_| Ignore::none());
        let mut tree = Self::default();
        let mut seen = 0;
        let mut open = VecDeque::from([PathBuf::new()]);
        while let Some(dir) = open.pop_front() {
            let mut files = 0;
            let entries = std::fs::read_dir(watch.path.join(&dir));
            for entry in entries.into_iter().flatten().flatten() {
                seen += 1;
                if seen > ENTRIES {
                    return tree;
                }
                let name = dir.join(entry.file_name());
                let path = RelPath::new(name.as_os_str().as_bytes());
                let (Ok(kind), Ok(path)) = (entry.file_type(), path) else {
                    continue;
                };
                if ignore.entry(&path) {
                    continue;
                }
                if kind.is_dir() && watch.recursive {
                    tree.look_at_directory(&entry.path(), watch.action);
                    open.push_back(name);
                } else if kind.is_file() && files < FILES_OF_ONE && tree.files.len() < FILES {
                    files += 1;
                    tree.look_at_file(&entry.path());
                }
            }
        }
        tree
    }

    fn look_at_directory(&mut self, path: &Path, action: Action) {
        let me = rustix::process::geteuid().as_raw();
        let sticky = std::fs::symlink_metadata(path)
            .is_ok_and(|metadata| Owned::of(&metadata).is_sticky_against(me));
        self.below += 1;
        self.closed += usize::from(!may(path, needed(action)));
        self.sticky += usize::from(sticky);
    }

    fn look_at_file(&mut self, path: &Path) {
        let Ok(metadata) = std::fs::symlink_metadata(path) else {
            return;
        };
        self.files.extend(metadata.modified().map(|modified| Lying {
            owned: Owned::of(&metadata),
            modified,
            readable: may(path, Access::READ_OK),
        }));
    }
}

/// Whether this thread's (effective) user may.
fn may(path: &Path, access: Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]
    use super::*;
    use crate::commands::setup::account::Account;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    fn watch(drop: &Path, lines: &str) -> WatchSettings {
        let text = format!(
            "[[watch]]\npath = {drop:?}\n{lines}\n[library]\npath = \"/lib\"\n[state]\npath = \"/var/lib/radsort\"\n"
        );
        let path = PathBuf::from("/etc/radsort/radsort.toml");
        let settings = crate::config::parse(&path, &[(path.clone(), text)]).unwrap();
        settings.watches.into_iter().next().unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_below_are_tried_as_the_user_who_will_work_there() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: this wants root");
        }
        let nobody = Account::of("nobody").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let drop = dir.path().join("drop");
        for name in ["study/series", "sticky", "own", ".hidden", "old"] {
            std::fs::create_dir_all(drop.join(name)).unwrap();
        }
        for name in ["", "own"] {
            chown(drop.join(name), Some(nobody.uid), Some(nobody.gid)).unwrap();
        }
        for (name, bits) in [("study/series/1.dcm", 0o600), ("own/2.dcm", 0o644)] {
            std::fs::write(drop.join(name), "x").unwrap();
            mode(&drop.join(name), bits);
        }
        mode(dir.path(), 0o755);
        for name in ["", "study", "study/series", "own"] {
            mode(&drop.join(name), 0o755);
        }
        mode(&drop.join("sticky"), 0o1777);

        let look = |lines: &str| {
            let watch = watch(&drop, &format!("ignore = [\"old\"]\n{lines}"));
            let tree = nobody.run(|| DropTree::look(&watch)).unwrap();
            let refused = tree.files.iter().filter(|file| !file.readable).count();
            let directories = (tree.below, tree.closed, tree.sticky);
            (directories, (tree.files.len(), refused))
        };
        assert_eq!(look("action = \"move\""), ((4, 2, 1), (2, 1)));
        assert_eq!(look("action = \"copy\""), ((4, 0, 1), (2, 1)));
        assert_eq!(
            look("action = \"move\"\nrecursive = false"),
            ((0, 0, 0), (0, 0))
        );
        mode(&drop.join("study"), 0o700);
        assert_eq!(look("action = \"copy\""), ((3, 1, 1), (1, 0)));
    }
}
