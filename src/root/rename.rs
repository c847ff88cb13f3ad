//! Renaming that never replaces: by `renameat2`, or where a filesystem has no such thing by a hard link.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::{HIDDEN, Removed, Root, same_inode};
use crate::domain::RelPath;

/// What a filesystem offers for renaming without clobbering. Real roots start with everything and find out by trying;
/// tests (and a site with a filesystem that lies) can take things away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// `renameat2` with `RENAME_NOREPLACE`.
    pub rename_noreplace: bool,
    /// Hard links.
    pub links: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            rename_noreplace: true,
            links: true,
        }
    }
}

/// A file was given its new name, and whether it has its old one still cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("its folder was moved while it was renamed: it may have two names now")]
struct TwoNames;

/// Whether an error of [`Root::rename_noreplace`] leaves open where the file is. Whoever recorded what was to be done finds
/// out ([`crate::filing::recover`]).
pub fn may_have_two_names(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.is_some_and(|inner| inner.downcast_ref::<TwoNames>().is_some())
}

impl Root {
    /// Renames `from` to `to` below another (or the same) root; never replaces what is there (`AlreadyExists`).
    ///
    /// `renameat2(RENAME_NOREPLACE)`; where the filesystem refuses that, link and unlink, judging by the inode.
    /// `CrossesDevices` or `Unsupported`: it can only be copied; nothing was changed then. `NotFound` also when
    /// another file took the place of `from` at that moment. [`may_have_two_names`]: neither can be told.
    pub fn rename_noreplace(&self, from: &RelPath, other: &Self, to: &RelPath) -> io::Result<()> {
        let (from_dir, to_dir) = (self.directory_of(from)?, other.directory_of(to)?);
        let mut forbidden = false;
        if self.offers.rename_noreplace && other.offers.rename_noreplace {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(
                &from_dir,
                from.file_name(),
                &to_dir,
                to.file_name(),
                flags,
            ) {
                Ok(()) => return Ok(()),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                // What some FUSE filesystems say of the flag. Others mean it: a second name could be given, and none removed.
                Err(Errno::PERM) if is_fuse(&from_dir) || is_fuse(&to_dir) => forbidden = true,
                Err(error) => return Err(error.into()),
            }
        }
        if !(self.offers.links && other.offers.links) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match link_then_unlink(&from_dir, from.file_name(), &to_dir, to.file_name()) {
            Err(error) if forbidden && error.kind() == io::ErrorKind::Unsupported => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            other => other,
        }
    }
}

/// Whether a directory lies on a filesystem of a program's making; if that cannot be told, it might.
fn is_fuse(directory: &OwnedFd) -> bool {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    rustix::fs::fstatfs(directory).map_or(true, |about| about.f_type == FUSE_SUPER_MAGIC)
}

/// Renaming for filesystems without `renameat2`: `link` never clobbers. Answers of such filesystems can get lost and
/// be asked for again, so what counts is which inode is where.
fn link_then_unlink(
    from_dir: &OwnedFd,
    from: &[u8],
    to_dir: &OwnedFd,
    to: &[u8],
) -> io::Result<()> {
    let ours = stat(from_dir, from)?;
    let is_ours = |stat: Stat| same_inode(&stat, &ours);
    match rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::EXIST) if is_ours(stat(to_dir, to)?) => {}
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK | Errno::INVAL) => {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Err(error) => return Err(error.into()),
    }
    // From here on there are two names. Where a folder has been moved meanwhile, a filesystem that goes by paths (FUSE)
    // says of both that they are not there.
    match stat(to_dir, to) {
        Ok(there) if is_ours(there) => {}
        Ok(_) => {
            rustix::fs::unlinkat(to_dir, to, AtFlags::empty())?;
            return Err(io::ErrorKind::NotFound.into());
        }
        Err(_) => return Err(io::Error::other(TwoNames)),
    }
    match remove_name(from_dir, from, &ours) {
        Ok(Removed::Now | Removed::Not) => Ok(()),
        Err(error) if stat(from_dir, from).is_ok_and(|now| same_inode(&now, &ours)) => {
            match rustix::fs::unlinkat(to_dir, to, AtFlags::empty()) {
                Ok(()) => Err(error),
                Err(_) => Err(io::Error::other(TwoNames)),
            }
        }
        Ok(Removed::Before) | Err(_) => Err(io::Error::other(TwoNames)),
    }
}

/// The hidden name under which a file is looked at before a name of it is removed.
pub fn aside_name(inode: u64) -> String {
    format!("{HIDDEN}{inode:x}.aside")
}

/// Removes a name while it is that file's. `unlink` cannot be told which file is meant, and just before it a writer may
/// rename another one to that name. So whatever has the name is renamed aside and looked at there; another file gets its
/// name back. Names that radsort itself has given need no such care. A crash in between: [`crate::filing::recover`].
pub(super) fn remove_name(dir: &OwnedFd, name: &[u8], ours: &Stat) -> io::Result<Removed> {
    if name.starts_with(HIDDEN.as_bytes()) {
        return look_and_remove(dir, name, ours);
    }
    let aside = aside_name(ours.st_ino);
    // A plain rename would replace what an interrupted run has left there.
    match stat(dir, aside.as_bytes()) {
        Err(Errno::NOENT) => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::renameat(dir, name, dir, aside.as_str()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Removed::Before),
        // A share that renames nothing at all: there is no better way.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            return look_and_remove(dir, name, ours);
        }
        Err(error) => return Err(error.into()),
    }
    if same_inode(&stat(dir, aside.as_bytes())?, ours) {
        return unlink_if_there(dir, aside.as_bytes());
    }
    match rustix::fs::renameat_with(dir, aside.as_str(), dir, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            rustix::fs::linkat(dir, aside.as_str(), dir, name, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, aside.as_str(), AtFlags::empty())?;
        }
        given => given?,
    }
    Ok(Removed::Not)
}

fn look_and_remove(dir: &OwnedFd, name: &[u8], ours: &Stat) -> io::Result<Removed> {
    match stat(dir, name) {
        Ok(now) if same_inode(&now, ours) => unlink_if_there(dir, name),
        Ok(_) => Ok(Removed::Not),
        Err(Errno::NOENT) => Ok(Removed::Before),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn unlink_if_there(dir: &OwnedFd, name: &[u8]) -> io::Result<Removed> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(Removed::Now),
        Err(Errno::NOENT) => Ok(Removed::Before),
        Err(error) => Err(error.into()),
    }
}

fn stat(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::root_with;
    use super::*;

    #[test]
    fn no_way_of_renaming_replaces_a_file() {
        for offers in [
            Offers::default(),
            Offers {
                rename_noreplace: false,
                links: true,
            },
        ] {
            let (dir, root) = root_with(&["a", "b"]);
            let root = root.offering(offers);
            let (a, b, c) = (
                RelPath::new("a").unwrap(),
                RelPath::new("b").unwrap(),
                RelPath::new("c").unwrap(),
            );
            let error = root.rename_noreplace(&a, &root, &b).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            root.rename_noreplace(&a, &root, &c).unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join("b")).unwrap(), "b");
            assert_eq!(std::fs::read_to_string(dir.path().join("c")).unwrap(), "a");
            assert!(!dir.path().join("a").exists());
        }
    }

    #[test]
    fn a_rename_that_cannot_be_done_changes_nothing() {
        let (dir, root) = root_with(&["a"]);
        let root = root.offering(Offers {
            rename_noreplace: false,
            links: false,
        });
        let (a, c) = (RelPath::new("a").unwrap(), RelPath::new("c").unwrap());
        assert_eq!(
            root.rename_noreplace(&a, &root, &c).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
        assert!(dir.path().join("a").exists() && !dir.path().join("c").exists());
    }

    #[test]
    fn a_file_that_was_renamed_to_a_name_just_before_it_is_removed_keeps_that_name() {
        let (dir, root) = root_with(&["a", "b"]);
        let [a, b] = ["a", "b"].map(|name| RelPath::new(name).unwrap());
        let open = root.directory_of(&a).unwrap();
        let was = root.stat(&a).unwrap();
        std::fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
        let left = |dir: &std::path::Path| {
            let mut names: Vec<_> = std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(remove_name(&open, b"a", &was).unwrap(), Removed::Not);
        assert_eq!(left(dir.path()), ["a"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "b");
        assert_eq!(
            remove_name(&open, b.file_name(), &was).unwrap(),
            Removed::Before
        );
        let now = root.stat(&a).unwrap();
        // What an interrupted run has left is not replaced.
        let aside = dir.path().join(aside_name(now.st_ino));
        std::fs::write(&aside, "left").unwrap();
        assert!(remove_name(&open, b"a", &now).is_err());
        std::fs::remove_file(aside).unwrap();
        assert_eq!(remove_name(&open, b"a", &now).unwrap(), Removed::Now);
        assert!(left(dir.path()).is_empty());
    }
}
