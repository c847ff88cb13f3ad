//! Renaming that never replaces: by `renameat2`, or where a filesystem has no such thing by a hard link.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::Root;
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
                // What some FUSE filesystems say, but also what a sticky directory says.
                Err(Errno::PERM) => forbidden = true,
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

/// Renaming for filesystems without `renameat2`: `link` never clobbers. Answers of such filesystems can get lost and
/// be asked for again, so what counts is which inode is where.
fn link_then_unlink(
    from_dir: &OwnedFd,
    from: &[u8],
    to_dir: &OwnedFd,
    to: &[u8],
) -> io::Result<()> {
    let inode = |dir: &OwnedFd, name: &[u8]| {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| (stat.st_dev, stat.st_ino))
    };
    let ours = inode(from_dir, from)?;
    match rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::EXIST) if inode(to_dir, to)? == ours => {}
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK | Errno::INVAL) => {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Err(error) => return Err(error.into()),
    }
    // From here on there are two names. Where a folder has been moved meanwhile, a filesystem that goes by paths (FUSE)
    // says of both that they are not there.
    match inode(to_dir, to) {
        Ok(there) if there == ours => {}
        Ok(_) => {
            rustix::fs::unlinkat(to_dir, to, AtFlags::empty())?;
            return Err(io::ErrorKind::NotFound.into());
        }
        Err(_) => return Err(io::Error::other(TwoNames)),
    }
    match inode(from_dir, from) {
        Ok(now) if now == ours => {}
        // Already another file, which is not ours to remove.
        Ok(_) => return Ok(()),
        Err(_) => return Err(io::Error::other(TwoNames)),
    }
    match rustix::fs::unlinkat(from_dir, from, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(io::Error::other(TwoNames)),
        Err(error) if inode(from_dir, from) == Ok(ours) => {
            match rustix::fs::unlinkat(to_dir, to, AtFlags::empty()) {
                Ok(()) => Err(error.into()),
                Err(_) => Err(io::Error::other(TwoNames)),
            }
        }
        Err(error) => Err(error.into()),
    }
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
}
