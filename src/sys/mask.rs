//! Making directories with the permission bits that they are to have, while the process's mask (umask(2)) says that
//! everything is private.
//!
//! A mask belongs to the whole process, and setting the bits afterwards is refused for setgid directories where the
//! service's sandbox says `RestrictSUIDSGID`. A thread of its own can have a mask of its own.

use std::io;

/// Runs `work` on a short-lived thread whose files and directories get exactly the mode that is asked for.
///
/// An error if there is no such thread to be had; `work` has not run then.
pub fn without_mask<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("unmasked".into())
            .spawn_scoped(scope, || {
                own_mask()?;
                rustix::process::umask(rustix::fs::Mode::empty());
                Ok(work())
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread died")))
    })
}

/// Gives this thread a mask (and a working directory) of its own.
fn own_mask() -> io::Result<()> {
    // SAFETY: takes an integer. CLONE_FS parts mask, root and working directory from those of the other threads; no
    // descriptor and no memory is affected.
    if unsafe { libc::unshare(libc::CLONE_FS) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mask_of_the_others_stays() {
        let read = || {
            let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            rustix::process::umask(mask);
            mask
        };
        let before = read();
        let within = without_mask(|| rustix::process::umask(rustix::fs::Mode::empty())).unwrap();
        assert!(within.is_empty());
        assert_eq!(read(), before);
    }
}
