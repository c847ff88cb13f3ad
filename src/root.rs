//! A directory that radsort works in, held by a descriptor: every path below it is walked beneath it, without
//! following a symbolic link (`openat2`, `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), whatever others do to the tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::domain::{Fingerprint, RelPath};

/// An open root directory.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    dir: OwnedFd,
    device: u64,
    inode: u64,
}

/// Makes a fingerprint of what `stat` told.
pub fn fingerprint(stat: &Stat) -> Fingerprint {
    Fingerprint {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add_unsigned(stat.st_mtime_nsec),
    }
}

impl Root {
    /// Opens a directory. The path itself may lead through symbolic links: the site chose it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&dir)?;
        Ok(Self { path: path.to_owned(), dir, device: stat.st_dev, inode: stat.st_ino })
    }

    /// The path that was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device number of its filesystem when it was opened.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The descriptor.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Whether the path still leads to the directory that was opened (it may have been unmounted or replaced).
    pub fn is_current(&self) -> bool {
        rustix::fs::stat(&self.path).is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode)
    }

    /// Opens something below the root with the given flags (`CLOEXEC` and `NOFOLLOW` are added).
    pub fn open_at(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.dir, path.as_bytes(), flags, mode, resolve) {
                Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                    return self.walk(path, flags, mode);
                }
                // A rename elsewhere in the tree disturbed the walk: openat2(2) says to try again.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// The same where the kernel (or a sandbox) has no `openat2`: one component at a time.
    fn walk(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match path.parent() {
            None => Ok(rustix::fs::openat(&self.dir, path.file_name(), flags, mode)?),
            Some(parent) => {
                let mut dir = None::<OwnedFd>;
                for component in parent.components() {
                    let base = dir.as_ref().unwrap_or(&self.dir);
                    dir = Some(rustix::fs::openat(base, component, step, Mode::empty())?);
                }
                let base = dir.as_ref().unwrap_or(&self.dir);
                Ok(rustix::fs::openat(base, path.file_name(), flags, mode)?)
            }
        }
    }

    /// Opens a regular file for reading; a FIFO, device, directory or link is an error (`InvalidInput`) and never hangs.
    pub fn open_file(&self, path: &RelPath) -> io::Result<(File, Fingerprint)> {
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((File::from(fd), fingerprint(&stat)))
    }

    /// Opens a directory below the root; `None` is the root itself.
    pub fn open_dir(&self, path: Option<&RelPath>) -> io::Result<OwnedFd> {
        match path {
            Some(path) => self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()),
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?)
            }
        }
    }

    /// What is at `path`, not following a link in its last component either.
    pub fn stat(&self, path: &RelPath) -> io::Result<Stat> {
        let stat = match path.parent() {
            Some(parent) => {
                let dir = self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                rustix::fs::statat(dir.as_fd(), path.file_name(), AtFlags::SYMLINK_NOFOLLOW)?
            }
            None => rustix::fs::statat(self.dir.as_fd(), path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?,
        };
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_symbolic_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("root/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("root/up")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        assert!(root.open_file(&RelPath::new("link").unwrap()).is_err());
        assert!(root.open_file(&RelPath::new("up/secret").unwrap()).is_err());
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.open_file(&RelPath::new("fifo").unwrap()).is_err());
    }
}
