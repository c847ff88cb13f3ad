//! The control socket as a file: made so that nobody finds it before it has its mode, made again when somebody removes it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::ControlError;
use crate::telemetry::Event;

/// A socket that is listened on; removed when dropped, if it is still this one.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    pub(super) path: PathBuf,
    inode: (u64, u64),
}

/// Makes the socket, mode 0660. One that is left over is replaced, but only if nobody answers there. Blocks.
pub fn bind(path: &Path) -> Result<Listener, ControlError> {
    let failed = |problem: io::Error| ControlError::Bind {
        path: path.to_owned(),
        problem,
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NotASocket(path.to_owned()));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) => {}
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => return Err(failed(err)),
            _ => return Err(ControlError::AlreadyRunning(path.to_owned())),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(failed(err)),
    }
    // Bound under another name, so that it has its mode before anybody can find it, and renamed over what is stale.
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let hidden = path.with_file_name(name);
    match std::fs::remove_file(&hidden) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let listener = StdListener::bind(&hidden).map_err(|err| match err.kind() {
        io::ErrorKind::InvalidInput => ControlError::PathTooLong(path.to_owned()),
        _ => failed(err),
    })?;
    let finish = || -> io::Result<(u64, u64)> {
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o660))?;
        listener.set_nonblocking(true)?;
        let made = std::fs::symlink_metadata(&hidden)?;
        std::fs::rename(&hidden, path)?;
        Ok((made.dev(), made.ino()))
    };
    let inode = finish().map_err(failed)?;
    Ok(Listener {
        socket: listener,
        path: path.to_owned(),
        inode,
    })
}

impl Listener {
    /// The same socket for tokio.
    pub(crate) fn to_tokio(&self) -> io::Result<UnixListener> {
        UnixListener::from_std(self.socket.try_clone()?)
    }
}

impl Listener {
    /// Whether the socket is where clients look for it.
    fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode)
    }

    /// Another one in the place of one that somebody has removed: nobody could find the service any more.
    pub(super) fn made_again(&mut self) -> Option<Self> {
        if self.is_in_place() {
            return None;
        }
        match bind(&self.path) {
            Ok(anew) => {
                // The number may have been given to the new one.
                self.inode = (0, 0);
                tracing::warn!(
                    event = %Event::ControlSocket,
                    "somebody has removed the control socket {}: it has been made again",
                    self.path.display()
                );
                Some(anew)
            }
            Err(error) => {
                tracing::debug!("the control socket is gone, and cannot be made again: {error}");
                None
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the control socket stays");
        }
    }
}
