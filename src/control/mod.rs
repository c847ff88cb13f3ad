//! How people and scripts talk to the running daemon: JSON lines over a Unix socket.
//!
//! [`protocol`] is what is said, [`server`] the daemon's side, [`listener`] its socket, [`client`] the commands' side, [`status`] what
//! `radsort status` shows, [`disk`] how disks are asked for it.

pub mod client;
pub mod disk;
pub mod listener;
pub mod protocol;
pub mod server;
pub mod status;
mod status_line;

use std::path::PathBuf;

/// What can go wrong with the control socket, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another daemon answers there.
    #[error("another radsort daemon answers at {}: stop it first, or give this one its own [control] socket", .0.display())]
    AlreadyRunning(PathBuf),
    /// Something else than a socket lies there.
    #[error("{} exists and is no socket: remove it, or set [control] socket to another path", .0.display())]
    NotASocket(PathBuf),
    /// The socket's path does not fit into a socket address.
    #[error("{} is too long for a Unix socket (107 bytes): set it to a shorter path ([control] socket, [metrics] socket)", .0.display())]
    PathTooLong(PathBuf),
    /// It cannot be made.
    #[error(
        "the control socket {} cannot be made: {problem}. Its directory must be there, and be writable for the service: \
         make it, or set [control] socket to another path",
        .path.display()
    )]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why not.
        problem: std::io::Error,
    },
    /// The daemon's user lets nobody else in.
    #[error("no permission to talk to the daemon at {}: become its user, or a member of its group", .0.display())]
    NoPermission(PathBuf),
    /// Anything else that the system says.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It stopped talking.
    #[error("the daemon closed the connection before it had answered: see its log")]
    HungUp,
    /// It said nothing for a long time.
    #[error("the daemon has not answered for {0} seconds: see its log")]
    Silent(u64),
    /// It said something that this program does not understand.
    #[error(
        "the daemon's answer cannot be understood ({0}): is it of another version than this program?"
    )]
    Garbled(String),
    /// It refused.
    #[error(transparent)]
    Refused(#[from] protocol::Refusal),
}
