//! What the filer is asked and what it answers.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::record::{Digest, Fate, RecordId};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Dossier, Fingerprint, Placement, RelPath};
use crate::root::Root;

/// One file with its decision, to be filed.
#[derive(Debug)]
pub struct FilingRequest {
    /// The watch that it came through.
    pub watch: String,
    /// The watch's root.
    pub root: Arc<Root>,
    /// Its path below that root.
    pub from: RelPath,
    /// The descriptor through which it was decoded, kept open since.
    pub file: Arc<File>,
    /// The file as it was decoded.
    pub fingerprint: Fingerprint,
    /// Its time of last status change before it was read, on local disks: others' clocks and habits are not known.
    pub ctime_ns: Option<i64>,
    /// The bytes that were decoded.
    pub digest: Digest,
    /// Whether it is moved, copied or only observed.
    pub action: Action,
    /// Rename it as it is, whoever owns it.
    pub trusted: bool,
    /// What was learned and decided.
    pub dossier: Dossier,
    /// Where it goes by its decision; where it is for [`Fate::Left`].
    pub placement: Placement,
    /// What becomes of it by its decision; the filer may make it a duplicate or a conflict.
    pub fate: Fate,
    /// What exactly was wrong, for people.
    pub detail: Option<String>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done and on record.
    Done {
        /// The record.
        id: RecordId,
        /// What became of it.
        fate: Fate,
        /// Where it (or its copy) is; `None` when nothing was moved or copied.
        to: Option<Placement>,
    },
    /// Copied, observed, left or released before; nothing was done.
    AlreadyTaken,
    /// It is another file than the one that was decoded, or still being written: it has to settle again.
    Changed,
    /// It is no longer there.
    Gone,
    /// radsort may not take it; nothing was done, and nothing will help until a person changes something.
    CannotTake(String),
    /// Nothing was done because of something that concerns all files: try again later.
    Held(HoldReason),
}

/// Why files have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// A root is not there, or does not answer.
    Offline(RootId, String),
    /// No space, or no quota.
    DiskFull(RootId),
    /// Mounted read-only.
    ReadOnly(RootId),
    /// radsort may not write there.
    NotPermitted(RootId),
    /// Anything else that is wrong with a root.
    Trouble(RootId, String),
    /// The ledger cannot be written: without a record nothing is touched.
    Ledger(String),
}

impl HoldReason {
    /// Which root it is about; `None`: the ledger.
    pub fn root(&self) -> Option<&RootId> {
        match self {
            Self::Offline(root, _)
            | Self::DiskFull(root)
            | Self::ReadOnly(root)
            | Self::NotPermitted(root)
            | Self::Trouble(root, _) => Some(root),
            Self::Ledger(_) => None,
        }
    }

    /// What an error on a root means.
    pub fn of(root: &RootId, error: &io::Error) -> Self {
        let root = root.clone();
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull(root),
            Some(Errno::ROFS) => Self::ReadOnly(root),
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted(root),
            _ if is_offline(error) => Self::Offline(root, error.to_string()),
            _ if error.kind() == io::ErrorKind::PermissionDenied => Self::NotPermitted(root),
            _ => Self::Trouble(root, error.to_string()),
        }
    }
}

/// Errors after which it is not known what a share has done.
pub(super) fn is_offline(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::IO
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::NODEV
                | Errno::NXIO
                | Errno::TIMEDOUT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::REMOTEIO
                | Errno::SHUTDOWN
                | Errno::NOLINK
                | Errno::NOMEDIUM
        )
    )
}

fn name(root: &RootId) -> String {
    match root {
        RootId::Library => "the library".into(),
        RootId::Quarantine => "the quarantine".into(),
        RootId::Duplicates => "the directory of duplicates".into(),
        RootId::Watch(name) => format!("the watch {name}"),
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(root, why) => write!(f, "{} is offline: {why}", name(root)),
            // Space is not all that a disk can lack.
            Self::DiskFull(root) => write!(
                f,
                "the disk of {} is full (see df, df -i, or quota)",
                name(root)
            ),
            Self::ReadOnly(root) => write!(f, "{} is mounted read-only", name(root)),
            Self::NotPermitted(root) => write!(f, "no permission to write in {}", name(root)),
            Self::Trouble(root, why) => write!(f, "{} cannot be used: {why}", name(root)),
            Self::Ledger(why) => write!(f, "the ledger cannot be written: {why}"),
        }
    }
}

/// The filer has stopped, and nothing is filed until it is started again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilingError {
    /// The ledger failed in a way that only opening it anew can mend.
    #[error("filing has stopped: {0}")]
    Ledger(String),
    /// The index failed; it can be rebuilt from the ledger.
    #[error("filing has stopped because the index failed: {0}; restart to rebuild it")]
    Index(String),
    /// It was told to stop.
    #[error("filing has been stopped")]
    Stopped,
}
