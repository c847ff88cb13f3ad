//! Whether anyone has a file open for writing, by the one answer that Linux gives without asking all processes: a read
//! lease (fcntl(2), `F_SETLEASE`) is refused while a writer has the file open.
//!
//! Promises: the lease is given back at once, and an open that falls into that moment neither fails (unless it asked for
//! `O_NONBLOCK`) nor signals this process.

use std::fs::File;
use std::os::fd::AsRawFd;

/// The same on every architecture that this crate is built for; not in `libc` for glibc.
const F_SETSIG: libc::c_int = 10;

/// `Some(true)` while someone (also this process) has the file open for writing, `Some(false)` if nobody has, `None` where
/// that cannot be seen: another owner's file without `CAP_LEASE`, or a filesystem without leases. Only to be believed on
/// local filesystems.
///
/// The file must be open for reading only.
pub fn open_for_writing(file: &File) -> Option<bool> {
    let fd = file.as_raw_fd();
    // The default signal of a broken lease, SIGIO, would kill this process; SIGURG is ignored unless someone asks for it.
    // SAFETY: F_SETSIG takes an integer and changes only how this descriptor signals.
    if unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) } != 0 {
        return None;
    }
    // SAFETY: F_SETLEASE takes an integer and touches no memory of this process.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above. Closing the file would release the lease as well.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Some(false);
    }
    let refused = std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    refused.then_some(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_somebody_holds_a_lease_on_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let holder = File::create(&path).unwrap();
        // SAFETY: as above; without the other signal the lease's break would end this process.
        let held = unsafe {
            libc::fcntl(holder.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
                && libc::fcntl(holder.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0
        };
        if !held {
            eprintln!("skipped: no leases on {}", path.display());
            return;
        }
        let root = crate::root::Root::open(dir.path()).unwrap();
        let name = crate::domain::RelPath::new("file").unwrap();
        let error = root.open_file(&name).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        drop(holder);
        root.open_file(&name).unwrap();
    }

    #[test]
    fn an_open_writer_is_seen_until_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let Some(seen) = open_for_writing(&reader) else {
            eprintln!("skipped: no leases on {}", path.display());
            return;
        };
        assert!(seen);
        drop(writer);
        assert_eq!(open_for_writing(&reader), Some(false));
        // Given back: a new writer is not held up.
        drop(File::options().append(true).open(&path).unwrap());
        assert_eq!(open_for_writing(&reader), Some(false));
    }
}
