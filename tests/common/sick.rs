//! A sick share: a FUSE filesystem of the tests' own that passes everything through to a directory beneath it, but for the
//! operations that have been told to fail or to hang. Needs root and /dev/fuse; told loudly where they are missing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    self as unix, DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// Nothing is remembered by the kernel: what is beneath may change by itself.
const TTL: Duration = Duration::ZERO;

/// Nothing is kept by the kernel, and closing does not wait for the share: as with NFS and SMB, for what was only read.
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

/// One thing that is wrong.
struct Fault {
    operation: &'static str,
    /// `None`: it hangs.
    errno: Option<i32>,
    /// How many calls go well before.
    spares: u64,
}

/// What is wrong, how often it was met, and how many calls there were.
#[derive(Default)]
struct Faults {
    now: Mutex<Vec<Fault>>,
    changed: Condvar,
    met: AtomicU64,
    writes: AtomicU64,
}

impl Faults {
    /// Fails, hangs until the fault is gone, or lets pass.
    fn pass(&self, operation: &str) -> io::Result<()> {
        let mut now = self.now.lock().unwrap();
        let mut counted = false;
        while let Some(fault) = now
            .iter_mut()
            .find(|fault| fault.operation == operation || fault.operation == "everything")
        {
            if fault.spares > 0 {
                fault.spares -= 1;
                return Ok(());
            }
            if !counted {
                self.met.fetch_add(1, Ordering::Relaxed);
                counted = true;
            }
            match fault.errno {
                Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                None => now = self.changed.wait(now).unwrap(),
            }
        }
        Ok(())
    }
}

/// The mounted share; unmounted, well again, in the end.
pub struct Sick {
    faults: Arc<Faults>,
    session: Option<BackgroundSession>,
}

impl Sick {
    /// Mounts what is in `real` at `at`; `None`, told loudly, where that is not possible.
    pub fn mount(real: &Path, at: &Path) -> Option<Self> {
        let faults = Arc::new(Faults::default());
        let share = Share {
            real: real.to_owned(),
            paths: Mutex::new(HashMap::new()),
            files: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
            faults: Arc::clone(&faults),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("sick".into())];
        match fuser::spawn_mount(share, at, &config) {
            Ok(session) => Some(Self {
                faults,
                session: Some(session),
            }),
            Err(error) => {
                eprintln!("SKIPPED: no FUSE at {}: {error}", at.display());
                None
            }
        }
    }

    /// From now on that operation (a method's name below, or "everything") fails so.
    pub fn fails(&self, operation: &'static str, errno: rustix::io::Errno) {
        self.set(operation, Some(errno.raw_os_error()), 0);
    }

    /// The same after so many calls that go well.
    pub fn fails_after(&self, spares: u64, operation: &'static str, errno: rustix::io::Errno) {
        self.set(operation, Some(errno.raw_os_error()), spares);
    }

    /// How many writes there have been.
    pub fn writes(&self) -> u64 {
        self.faults.writes.load(Ordering::Relaxed)
    }

    /// From now on that operation does not come back. Whoever meets it hangs: do not look at the mount.
    pub fn hangs(&self, operation: &'static str) {
        self.set(operation, None, 0);
    }

    fn set(&self, operation: &'static str, errno: Option<i32>, spares: u64) {
        self.faults.met.store(0, Ordering::Relaxed);
        self.faults.now.lock().unwrap().push(Fault {
            operation,
            errno,
            spares,
        });
    }

    /// How often a fault has been met since it was set.
    pub fn met(&self) -> u64 {
        self.faults.met.load(Ordering::Relaxed)
    }

    /// All is well again.
    pub fn heals(&self) {
        self.faults.now.lock().unwrap().clear();
        self.faults.changed.notify_all();
    }
}

/// Heals the share at the end of a test, however it ends, before the daemon is killed: a process that hangs in a share cannot be.
pub struct HealsAtEnd<'a>(pub &'a Sick);

impl Drop for HealsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.heals();
    }
}

impl Drop for Sick {
    fn drop(&mut self) {
        self.heals();
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

struct Share {
    real: PathBuf,
    /// The last known path of each inode; inode numbers are those of the files beneath.
    paths: Mutex<HashMap<u64, PathBuf>>,
    files: Mutex<HashMap<u64, Arc<File>>>,
    next: AtomicU64,
    faults: Arc<Faults>,
}

fn attributes(inode: INodeNo, metadata: &Metadata) -> FileAttr {
    let time = |seconds: i64, nanoseconds: i64| {
        SystemTime::UNIX_EPOCH
            + Duration::new(
                seconds.try_into().unwrap_or(0),
                nanoseconds.try_into().unwrap_or(0),
            )
    };
    FileAttr {
        ino: inode,
        size: metadata.size(),
        blocks: metadata.blocks(),
        atime: time(metadata.atime(), metadata.atime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: time(metadata.ctime(), metadata.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(metadata.file_type()),
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: metadata.rdev() as u32,
        blksize: 4096,
        flags: 0,
    }
}

fn kind(kind: fs::FileType) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_fifo() {
        FileType::NamedPipe
    } else {
        FileType::RegularFile
    }
}

impl Share {
    fn path(&self, inode: INodeNo) -> io::Result<PathBuf> {
        if inode.0 == 1 {
            return Ok(self.real.clone());
        }
        let paths = self.paths.lock().unwrap();
        paths
            .get(&inode.0)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn known(&self, path: PathBuf) -> io::Result<FileAttr> {
        let metadata = path.symlink_metadata()?;
        self.paths.lock().unwrap().insert(metadata.ino(), path);
        Ok(attributes(INodeNo(metadata.ino()), &metadata))
    }

    fn hold(&self, file: File) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap().insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    fn file(&self, handle: FileHandle) -> io::Result<Arc<File>> {
        let files = self.files.lock().unwrap();
        files
            .get(&handle.0)
            .cloned()
            .ok_or_else(|| io::Error::from_raw_os_error(9))
    }

    fn attributes_of(&self, inode: INodeNo, handle: Option<FileHandle>) -> io::Result<FileAttr> {
        let metadata = match handle.and_then(|handle| self.file(handle).ok()) {
            Some(file) => file.metadata()?,
            None => self.path(inode)?.symlink_metadata()?,
        };
        Ok(attributes(inode, &metadata))
    }
}

/// Answers with what was found or with the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $then:expr) => {
        let result = || -> io::Result<_> { $result };
        match result() {
            Ok($value) => $then,
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

fn errno(error: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error())
}

impl Filesystem for Share {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, {
            self.faults.pass("lookup")?;
            if name == "bad" || name == "bad.dcm" {
                self.faults.pass("lookup of something bad")?;
            }
            self.known(self.child(parent, name)?)
        }, entry => reply.entry(&TTL, &entry, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, {
            self.faults.pass("getattr")?;
            self.attributes_of(inode, handle)
        }, entry => reply.attr(&TTL, &entry));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        };
        answer!(reply, {
            self.faults.pass("setattr")?;
            let path = self.path(inode)?;
            if let Some(mode) = mode {
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            if uid.is_some() || gid.is_some() {
                unix::lchown(&path, uid, gid)?;
            }
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            let mut times = FileTimes::new();
            if let Some(accessed) = accessed {
                times = times.set_accessed(time(accessed));
            }
            if let Some(modified) = modified {
                times = times.set_modified(time(modified));
            }
            if accessed.is_some() || modified.is_some() {
                File::open(&path)?.set_times(times)?;
            }
            self.attributes_of(inode, handle)
        }, entry => reply.attr(&TTL, &entry));
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        answer!(reply, fs::read_link(self.path(inode)?),
            target => reply.data(target.as_os_str().as_encoded_bytes()));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        answer!(reply, {
            self.faults.pass("mkdir")?;
            let path = self.child(parent, name)?;
            DirBuilder::new().mode(mode & !umask).create(&path)?;
            self.known(path)
        }, entry => reply.entry(&TTL, &entry, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.faults.pass("unlink")?;
            fs::remove_file(self.child(parent, name)?)
        }, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.faults.pass("rmdir")?;
            fs::remove_dir(self.child(parent, name)?)
        }, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer!(reply, {
            self.faults.pass("rename")?;
            let (from, to) = (self.child(parent, name)?, self.child(new_parent, new_name)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags).map_err(errno)?;
            for path in self.paths.lock().unwrap().values_mut() {
                if let Ok(rest) = path.strip_prefix(&from) {
                    *path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                }
            }
            Ok(())
        }, () => reply.ok());
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, {
            self.faults.pass("link")?;
            let path = self.child(parent, name)?;
            fs::hard_link(self.path(inode)?, &path)?;
            self.known(path)
        }, entry => reply.entry(&TTL, &entry, Generation(0)));
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        answer!(reply, {
            self.faults.pass("open")?;
            let write = flags.0 & 0o3 != 0;
            OpenOptions::new().read(true).write(write).open(self.path(inode)?)
        }, file => reply.opened(self.hold(file), OPENED));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        answer!(reply, {
            self.faults.pass("create")?;
            let path = self.child(parent, name)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(mode & !umask);
            let exclusive = flags & 0o200 != 0;
            let file = options.create_new(exclusive).create(true).open(&path)?;
            Ok((self.known(path)?, file))
        }, (entry, file) => {
            let handle = self.hold(file);
            reply.created(&TTL, &entry, Generation(0), handle, OPENED);
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, {
            self.faults.pass("read")?;
            let (file, mut data) = (self.file(handle)?, vec![0; size as usize]);
            let mut done = 0;
            while done < data.len() {
                match file.read_at(&mut data[done..], offset + done as u64)? {
                    0 => break,
                    more => done += more,
                }
            }
            data.truncate(done);
            Ok(data)
        }, data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, {
            self.faults.writes.fetch_add(1, Ordering::Relaxed);
            self.faults.pass("write")?;
            self.file(handle)?.write_all_at(data, offset)
        }, () => reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.lock().unwrap().remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, {
            self.faults.pass("fsync")?;
            self.file(handle)?.sync_data()
        }, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.faults.pass("fsyncdir"), () => reply.ok());
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.faults.pass("opendir"),
            () => reply.opened(FileHandle(0), FopenFlags::empty()));
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(reply, {
            self.faults.pass("readdir")?;
            let mut entries = vec![(inode.0, FileType::Directory, ".".into()), (inode.0, FileType::Directory, "..".into())];
            for entry in self.path(inode)?.read_dir()? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                entries.push((metadata.ino(), kind(metadata.file_type()), entry.file_name()));
            }
            Ok(entries)
        }, entries => {
            for (n, (inode, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
                if reply.add(INodeNo(inode), n as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        answer!(reply, {
            self.faults.pass("statfs")?;
            rustix::fs::statvfs(&self.real).map_err(errno)
        }, s => reply.statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_bsize as u32, 255, s.f_frsize as u32));
    }
}
