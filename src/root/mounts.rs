//! Whether something is mounted, and opening a root again without having kept it open meanwhile.
//!
//! Promise: where a filesystem was mounted and is not any more, the bare mount point is never taken for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{Offers, Root};

/// Where a root lay. Unlike the root itself it keeps no filesystem busy, and leads to what is mounted there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    path: PathBuf,
    mounted: bool,
    offers: Offers,
}

impl Root {
    /// Where it lies.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            path: self.path.clone(),
            mounted: self.mounted,
            offers: self.offers,
        }
    }

    /// Whether it is where a filesystem is mounted; `false` also where the kernel does not say.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }
}

impl Whereabouts {
    /// Opens it anew.
    pub fn open(&self) -> io::Result<Root> {
        let root = Root::open(&self.path)?.offering(self.offers);
        if self.mounted && !root.mounted {
            return Err(io::Error::other("nothing is mounted there any more"));
        }
        Ok(root)
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether an open directory is where a filesystem is mounted. Kernels before 5.8 do not say; then another device number
/// counts.
pub fn is_mount_point(dir: &OwnedFd, root: &Root) -> io::Result<bool> {
    match mount_attribute(dir)? {
        Some(mounted) => Ok(mounted),
        None => Ok(rustix::fs::fstat(dir)?.st_dev != root.device()),
    }
}

/// What statx(2) says about being a mount point, `None` where it does not say.
pub(super) fn mount_attribute(dir: impl AsFd) -> io::Result<Option<bool>> {
    match rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()) {
        Ok(stat)
            if stat
                .stx_attributes_mask
                .contains(StatxAttributes::MOUNT_ROOT) =>
        {
            Ok(Some(
                stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            ))
        }
        Ok(_) | Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn runs(command: &str, arguments: &[&str], at: &Path) -> bool {
        std::process::Command::new(command)
            .args(arguments)
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success())
    }

    #[test]
    fn what_is_only_remembered_can_be_unmounted_and_its_bare_mount_point_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let mount = || runs("mount", &["-t", "tmpfs", "tmpfs"], dir.path());
        if !mount() {
            eprintln!("SKIPPED: a filesystem cannot be mounted here");
            return;
        }
        let lay = Root::open(dir.path()).unwrap().whereabouts();
        assert!(runs("umount", &[], dir.path()));
        let error = lay.open().unwrap_err().to_string();
        assert!(error.contains("nothing is mounted"), "{error}");
        assert!(mount());
        assert!(lay.open().unwrap().is_current());
        assert!(runs("umount", &[], dir.path()));
    }
}
