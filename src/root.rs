//! A directory that radsort works in, held by a descriptor: every path below it is walked beneath it, without
//! following a symbolic link (`openat2`, `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), whatever others do to the tree.

mod mounts;
mod rename;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    Access, AtFlags, DirEntry, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes,
    StatxFlags,
};
use rustix::io::Errno;

pub use self::mounts::{Whereabouts, is_mount_point};
pub use self::rename::{Offers, aside_name, may_have_two_names};
use crate::domain::{Fingerprint, RelPath};
use crate::sys::mask::without_mask;

/// How every name begins that radsort gives to a file under way. Watches ignore these, and nobody else gives them.
pub const HIDDEN: &str = ".radsort-";

/// An open root directory.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    dir: OwnedFd,
    device: u64,
    inode: u64,
    mounted: bool,
    offers: Offers,
    /// Directories whose names are known to be on disk.
    durable: Mutex<HashSet<RelPath>>,
}

/// So many directories are remembered as being on disk; beyond that some are synced once more.
const REMEMBERED: usize = 10_000;

/// How often an open is tried that the kernel asks to try again.
const MOST_TRIES: u32 = 64;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the root.
    pub path: RelPath,
    /// Whether it is a directory; `None` for what is neither directory nor regular file (links, devices).
    pub is_dir: Option<bool>,
}

/// Time of last status change, nanoseconds since the Unix epoch. Nobody can set it.
pub fn ctime_ns(stat: &Stat) -> i64 {
    stat.st_ctime
        .saturating_mul(1_000_000_000)
        .saturating_add_unsigned(stat.st_ctime_nsec)
}

/// Whether both are of one file.
pub fn same_inode(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Makes a fingerprint of what `stat` told.
pub fn fingerprint(stat: &Stat) -> Fingerprint {
    Fingerprint {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add_unsigned(stat.st_mtime_nsec),
    }
}

/// What became of a name that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Now,
    /// It was gone already, or a folder above it was moved.
    Before,
    /// It is another file's, and stays.
    Not,
}

impl Root {
    /// Opens a directory. The path itself may lead through symbolic links: the site chose it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let dir = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&dir)?;
        let mounted = mounts::mount_attribute(&dir)?.unwrap_or(false);
        let offers = Offers::default();
        Ok(Self {
            path: path.to_owned(),
            dir,
            device: stat.st_dev,
            inode: stat.st_ino,
            mounted,
            offers,
            durable: Mutex::default(),
        })
    }

    /// The same root on a filesystem that offers less.
    #[must_use]
    pub fn offering(self, offers: Offers) -> Self {
        Self { offers, ..self }
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
        rustix::fs::stat(&self.path)
            .is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode)
    }

    /// Opens something below the root with the given flags (`CLOEXEC` and `NOFOLLOW` are added). `WouldBlock`: somebody holds
    /// a lease on it (fcntl(2)), and with `NONBLOCK` it is not waited for.
    pub fn open_at(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // A rename elsewhere in the tree disturbed the walk: openat2(2) says to try again. A lease says the same.
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.dir, path.as_bytes(), flags, mode, resolve) {
                Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                    return self.walk(path, flags, mode);
                }
                Err(rustix::io::Errno::AGAIN) if tries < MOST_TRIES => tries += 1,
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// The same where the kernel (or a sandbox) has no `openat2`: one component at a time.
    fn walk(&self, path: &RelPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match path.parent() {
            None => Ok(rustix::fs::openat(
                &self.dir,
                path.file_name(),
                flags,
                mode,
            )?),
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
        let fd = self.open_at(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
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
        let dir = self.directory_of(path)?;
        Ok(rustix::fs::statat(
            &dir,
            path.file_name(),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Like [`Root::stat`], `None` where nothing is: also where somebody has put a link in the place of a directory on
    /// the way.
    pub fn stat_if_there(&self, path: &RelPath) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The directory that holds `path`, good for walking and renaming, not for reading or `fsync`.
    fn directory_of(&self, path: &RelPath) -> io::Result<OwnedFd> {
        match path.parent() {
            Some(parent) => self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()),
            None => Ok(self.dir.try_clone()?),
        }
    }

    /// Whether this process may add and remove names beside `path`.
    pub fn may_change_names_beside(&self, path: &RelPath) -> io::Result<()> {
        let dir = self.directory_of(path)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        Ok(rustix::fs::accessat(&dir, ".", access, AtFlags::EACCESS)?)
    }

    /// Whether `path` or its directory is marked as append-only or immutable (chattr(1)): its name stays there, whoever asks.
    pub fn is_marked(&self, path: &RelPath) -> io::Result<bool> {
        let dir = self.directory_of(path)?;
        let marks = |name: &[u8], flags| {
            let about = rustix::fs::statx(&dir, name, flags, StatxFlags::empty());
            about.is_ok_and(|about| {
                let marks = StatxAttributes::APPEND | StatxAttributes::IMMUTABLE;
                about.stx_attributes.intersects(marks)
            })
        };
        Ok(marks(b"", AtFlags::EMPTY_PATH) || marks(path.file_name(), AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Whether the directory that holds `path` is sticky: only owners may take names out of it.
    pub fn is_sticky_beside(&self, path: &RelPath) -> bool {
        let directory = self.stat_directory_of(path);
        directory.is_ok_and(|it| Mode::from_raw_mode(it.st_mode).contains(Mode::SVTX))
    }

    /// What is known of the directory that holds `path`.
    pub fn stat_directory_of(&self, path: &RelPath) -> io::Result<Stat> {
        let dir = self.directory_of(path)?;
        Ok(rustix::fs::statat(&dir, "", AtFlags::EMPTY_PATH)?)
    }

    /// Makes a new file for reading and writing; an existing one is an error. Its mode is set whatever the umask.
    pub fn create_new(&self, path: &RelPath, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
        let fd = self.open_at(path, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Makes the directory `path` and those above it, with `mode` whatever the umask; each is synced with its parent. One
    /// that is there already may come from a run that was killed before it could sync: it is synced once as well.
    pub fn make_directories(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let missing = match self.open_dir(Some(path)) {
            Ok(_) if self.durable().contains(path) => return Ok(()),
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if let Some(parent) = path.parent() {
            self.make_directories(&parent, mode)?;
        }
        let parent = match self.open_dir(path.parent().as_ref()) {
            // Somebody else's, and not to be listed: nothing can be synced there.
            Err(error) if !missing && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(());
            }
            parent => parent?,
        };
        if missing {
            match make_directory(&parent, path.file_name(), mode) {
                Ok(()) => {
                    let dir = self.open_dir(Some(path))?;
                    set_mode(&dir, mode)?;
                    sync_directory(&dir)?;
                }
                Err(Errno::EXIST) => drop(self.open_dir(Some(path))?),
                Err(error) => return Err(error.into()),
            }
        }
        sync_directory(&parent)?;
        let mut durable = self.durable();
        if durable.len() >= REMEMBERED {
            durable.clear();
        }
        durable.insert(path.clone());
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<RelPath>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs the directory that holds `path`: from here on its names survive a power cut.
    pub fn sync_directory_of(&self, path: &RelPath) -> io::Result<()> {
        sync_directory(&self.open_dir(path.parent().as_ref())?)
    }

    /// Removes a name. That it is gone already is no error (NFS repeats requests).
    pub fn unlink(&self, path: &RelPath) -> io::Result<()> {
        rename::unlink_if_there(&self.directory_of(path)?, path.file_name()).map(drop)
    }

    /// Removes a name while it still is that file's: its writer may just have put another one in its place, which stays.
    pub fn unlink_file(&self, path: &RelPath, file: &Fingerprint) -> io::Result<Removed> {
        match self.stat_if_there(path)? {
            Some(stat) if fingerprint(&stat) == *file => {
                rename::remove_name(&self.directory_of(path)?, path.file_name(), &stat)
            }
            Some(_) => Ok(Removed::Not),
            None => Ok(Removed::Before),
        }
    }

    /// The names in a directory (`None`: the root's own), in no order, as they are read: it may hold a million. One that
    /// cannot be opened gives that error alone.
    pub fn entries<'a>(
        &'a self,
        directory: Option<&'a RelPath>,
    ) -> impl Iterator<Item = io::Result<Entry>> + use<'a> {
        let names = self.open_dir(directory);
        let names = names.and_then(|dir| Ok(rustix::fs::Dir::read_from(dir)?));
        let (names, fault) = match names {
            Ok(names) => (Some(names), None),
            Err(error) => (None, Some(Err(error))),
        };
        let names = names.into_iter().flatten();
        fault
            .into_iter()
            .chain(names.filter_map(move |entry| self.entry(directory, &entry).transpose()))
    }

    fn entry(
        &self,
        directory: Option<&RelPath>,
        entry: &rustix::io::Result<DirEntry>,
    ) -> io::Result<Option<Entry>> {
        let entry = entry.as_ref().map_err(|error| io::Error::from(*error))?;
        let name = entry.file_name().to_bytes();
        let path = match directory {
            Some(directory) => directory.join(name),
            None => RelPath::new(name),
        };
        let Ok(path) = path else { return Ok(None) }; // "." and ".."
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            kind = self
                .stat_if_there(&path)?
                .map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
        }
        let is_dir = match kind {
            FileType::Directory => Some(true),
            FileType::RegularFile => Some(false),
            _ => None,
        };
        Ok(Some(Entry { path, is_dir }))
    }
}

/// Makes a directory with its permission bits at once, whatever the process's mask; the setgid bit it has from the one
/// above it.
fn make_directory(parent: &OwnedFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o777));
    // Without such a thread it is private at first, which does no harm.
    without_mask(make).unwrap_or_else(|_| make())
}

/// Sets what is still missing. A sandbox may forbid the setgid bit (`RestrictSUIDSGID`); then the others are enough.
fn set_mode(dir: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    if rustix::fs::fstat(dir)?.st_mode & 0o7777 == mode {
        return Ok(());
    }
    match rustix::fs::fchmod(dir, Mode::from_raw_mode(mode)) {
        Err(Errno::PERM) if mode & 0o2000 != 0 => {
            rustix::fs::fchmod(dir, Mode::from_raw_mode(mode & 0o1777))
        }
        other => other,
    }
}

/// `fsync` of a directory; filesystems that know no such thing (some FUSE and SMB) are taken at their word.
fn sync_directory(dir: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(dir) {
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
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

    pub(super) fn root_with(files: &[&str]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_name_goes_only_while_it_is_that_file_s() {
        let (dir, root) = root_with(&["a", "b"]);
        let a = RelPath::new("a").unwrap();
        let was = fingerprint(&root.stat(&a).unwrap());
        std::fs::rename(dir.path().join("b"), dir.path().join("a")).unwrap();
        assert_eq!(root.unlink_file(&a, &was).unwrap(), Removed::Not);
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "b");
        let now = fingerprint(&root.stat(&a).unwrap());
        assert_eq!(root.unlink_file(&a, &now).unwrap(), Removed::Now);
        assert_eq!(root.unlink_file(&a, &now).unwrap(), Removed::Before);
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn behind_a_link_nothing_is_there() {
        let (dir, root) = root_with(&[]);
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        let behind = RelPath::new("link/file").unwrap();
        assert!(root.stat_if_there(&behind).unwrap().is_none());
    }

    #[test]
    fn directories_are_made_with_their_mode_and_only_beneath_the_root() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, root) = root_with(&[]);
        std::os::unix::fs::symlink("/tmp", dir.path().join("link")).unwrap();
        root.make_directories(&RelPath::new("x/y/z").unwrap(), 0o2775)
            .unwrap();
        let mode = std::fs::metadata(dir.path().join("x/y"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o2775);
        assert!(
            root.make_directories(&RelPath::new("link/y").unwrap(), 0o700)
                .is_err()
        );
    }

    /// What `RestrictSUIDSGID=yes` does in the service's unit, for this thread and those that it starts.
    fn forbid_the_setgid_bit() {
        use seccompiler::{
            BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
            SeccompFilter, SeccompRule,
        };
        let with_bit = |argument| {
            let bit = u64::from(libc::S_ISGID);
            let condition = SeccompCondition::new(
                argument,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(bit),
                bit,
            );
            vec![SeccompRule::new(vec![condition.unwrap()]).unwrap()]
        };
        let rules = [
            (libc::SYS_fchmod, with_bit(1)),
            (libc::SYS_fchmodat, with_bit(2)),
            (libc::SYS_mkdirat, with_bit(2)),
        ];
        let filter: BpfProgram = SeccompFilter::new(
            rules.into_iter().collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            std::env::consts::ARCH.try_into().unwrap(),
        )
        .unwrap()
        .try_into()
        .unwrap();
        seccompiler::apply_filter(&filter).unwrap();
    }

    #[test]
    fn where_nobody_may_set_the_setgid_bit_directories_still_have_it_from_the_one_above() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, root) = root_with(&[]);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o2770)).unwrap();
        let made = without_mask(|| {
            rustix::process::umask(Mode::from_raw_mode(0o077));
            forbid_the_setgid_bit();
            let above = root.open_dir(None).unwrap();
            let refused = rustix::fs::fchmod(&above, Mode::from_raw_mode(0o2750));
            assert_eq!(refused, Err(Errno::PERM), "the filter is in force");
            root.make_directories(&RelPath::new("x/y").unwrap(), 0o2750)
        });
        made.unwrap().unwrap();
        let mode = std::fs::metadata(dir.path().join("x/y")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o7777, 0o2750);
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
