//! Which groups the process at the other end of a Unix socket is in, besides its own (`SO_PEERGROUPS`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Room for as many groups as Linux lets a process have.
const MOST: usize = 65_536;

/// Its supplementary groups, as they were when it connected. Only for sockets that connect two processes.
///
/// # Errors
/// The kernel does not say: it is older than 4.13, or this is another kind of socket.
pub fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let size = std::mem::size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: a descriptor that is alive; the kernel writes at most `length` bytes, which is what `groups` has, and then
        // says in `length` how many it wrote, or would have.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ones_own_groups_are_those_of_the_other_end() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = rustix::process::getgroups().unwrap();
        let own: Vec<u32> = own.into_iter().map(rustix::process::Gid::as_raw).collect();
        assert_eq!(groups(&here).unwrap(), own);
    }
}
