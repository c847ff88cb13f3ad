//! The quarantine: what is in it, and giving it back.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::Mode;

use super::carry::{CopyFault, CopySpec, remove_reason, write_copy};
use super::destinations::Destinations;
use super::ledger::{Ledger, LedgerError};
use super::names;
use super::record::{Digest, Intent, Record};
use super::request::HoldReason;
use crate::domain::placement::RootId;
use crate::domain::{Fingerprint, Placement, RelPath};
use crate::root::Root;

/// A file that was quarantined.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its record.
    pub intent: Intent,
    /// Where it is.
    pub at: Placement,
    /// When it got there, microseconds since the Unix epoch.
    pub time_us: i64,
}

/// Why a file was not given back. It is still in the quarantine.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is not there.
    #[error("record {0} is no longer in the quarantine")]
    NotThere(String),
    /// Its bytes are not those that were quarantined.
    #[error(
        "the file of record {0} was changed in the quarantine: look at it, and move it by hand"
    )]
    Changed(String),
    /// Something concerns all files.
    #[error("{0}")]
    Held(HoldReason),
    /// It could not be moved.
    #[error("record {id} could not be given back: {error}")]
    Io {
        /// The record.
        id: String,
        /// What the system said.
        error: io::Error,
    },
}

/// A file that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Where it is now, below its watch's root.
    pub path: RelPath,
}

/// Every file that is in the quarantine by the ledger and in fact, oldest first.
pub fn list(state: &Path, destinations: &Destinations) -> Result<Vec<Item>, ListError> {
    let roots = destinations.current().map_err(ListError::Held)?;
    let mut open = std::collections::HashMap::new();
    let mut items = Vec::new();
    for line in Ledger::read(state, None)? {
        let (_, time_us, record) = line?;
        match record {
            Record::Intent(intent) if intent.fate == super::record::Fate::Quarantined => {
                open.insert(intent.id.clone(), *intent);
            }
            Record::Quarantined { id, to } => {
                if let Some(intent) = open.remove(&id) {
                    let at = to.unwrap_or_else(|| intent.to.clone());
                    items.push(Item {
                        intent,
                        at,
                        time_us,
                    });
                }
            }
            _ => {}
        }
    }
    let mut there = Vec::new();
    for item in items {
        let Some(root) = roots.get(&item.at.root) else {
            continue;
        };
        let stat = root.stat_if_there(&item.at.path);
        if stat
            .map_err(|error| ListError::Held(HoldReason::of(&item.at.root, &error)))?
            .is_some()
        {
            there.push(item);
        }
    }
    Ok(there)
}

/// Why the quarantine cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The quarantine cannot be looked at.
    #[error("{0}")]
    Held(HoldReason),
}

/// A quarantined file, open and verified.
pub(super) struct OpenItem {
    file: File,
    roots: std::sync::Arc<super::destinations::Roots>,
    pub fingerprint: Fingerprint,
}

impl Item {
    fn failed(&self, error: io::Error) -> ReleaseError {
        ReleaseError::Io {
            id: self.intent.id.0.clone(),
            error,
        }
    }

    /// Opens the file and makes sure that it is what was quarantined.
    pub(super) fn open(&self, destinations: &Destinations) -> Result<OpenItem, ReleaseError> {
        let roots = destinations.current().map_err(ReleaseError::Held)?;
        let root = roots
            .get(&self.at.root)
            .ok_or_else(|| ReleaseError::NotThere(self.intent.id.0.clone()))?;
        let (file, fingerprint) =
            root.open_file(&self.at.path)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => ReleaseError::NotThere(self.intent.id.0.clone()),
                    _ => self.failed(error),
                })?;
        let digest = Digest::of_file(&file)
            .map_err(|error| ReleaseError::Held(HoldReason::of(&self.at.root, &error)))?;
        if digest != self.intent.digest {
            return Err(ReleaseError::Changed(self.intent.id.0.clone()));
        }
        Ok(OpenItem {
            file,
            roots,
            fingerprint,
        })
    }

    /// Moves it back to where it came from, or beside that when the name is taken. Nothing is replaced.
    pub(super) fn give_back(
        &self,
        open: &OpenItem,
        source: &Root,
    ) -> Result<Released, ReleaseError> {
        let Some(root) = open.roots.get(&self.at.root) else {
            return Err(ReleaseError::NotThere(self.intent.id.0.clone()));
        };
        let held = |error: &io::Error| {
            ReleaseError::Held(HoldReason::of(
                &RootId::Watch(self.intent.watch.clone()),
                error,
            ))
        };
        if let Some(parent) = self.intent.from.parent() {
            source
                .make_directories(&parent, open.roots.directory_mode)
                .map_err(|error| held(&error))?;
        }
        let path = match self.land(root, &self.at.path, source) {
            Ok(path) => path,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported
                ) =>
            {
                self.copy_back(open, root, source)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReleaseError::NotThere(self.intent.id.0.clone()));
            }
            Err(error) => return Err(held(&error)),
        };
        if let Err(error) = rustix::fs::fchmod(&open.file, Mode::from_raw_mode(self.intent.mode)) {
            tracing::debug!(%error, "a released file keeps radsort's permission bits");
        }
        remove_reason(root, &self.at.path);
        source
            .sync_directory_of(&path)
            .map_err(|error| held(&error))?;
        root.sync_directory_of(&self.at.path)
            .map_err(|error| self.failed(error))?;
        Ok(Released { path })
    }

    fn copy_back(
        &self,
        open: &OpenItem,
        root: &Root,
        source: &Root,
    ) -> Result<RelPath, ReleaseError> {
        let held = |error: &io::Error| {
            ReleaseError::Held(HoldReason::of(
                &RootId::Watch(self.intent.watch.clone()),
                error,
            ))
        };
        let intent = &self.intent;
        let part = names::part(&intent.from, &intent.id)
            .map_err(|error| self.failed(io::Error::other(error)))?;
        let spec = CopySpec {
            digest: &intent.digest,
            fingerprint: &open.fingerprint,
            mode: intent.mode,
        };
        let landed = match write_copy(&open.file, source, &part, &spec) {
            Ok(()) => self
                .land(source, &part, source)
                .map_err(|error| held(&error)),
            Err(CopyFault::Changed) => Err(ReleaseError::Changed(intent.id.0.clone())),
            Err(CopyFault::Source(error)) => Err(self.failed(error)),
            Err(CopyFault::Target(error)) => Err(held(&error)),
        };
        match landed {
            Ok(path) => {
                source
                    .sync_directory_of(&path)
                    .map_err(|error| held(&error))?;
                root.unlink(&self.at.path)
                    .map_err(|error| self.failed(error))?;
                Ok(path)
            }
            Err(error) => {
                if let Err(error) = source.unlink(&part) {
                    tracing::warn!(%error, "an unfinished copy stays in the drop directory");
                }
                Err(error)
            }
        }
    }

    fn land(&self, root: &Root, from: &RelPath, source: &Root) -> io::Result<RelPath> {
        let home = &self.intent.from;
        match root.rename_noreplace(from, source, home) {
            Ok(()) => Ok(home.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let other = names::returned(home, &self.intent.id).map_err(io::Error::other)?;
                root.rename_noreplace(from, source, &other)?;
                Ok(other)
            }
            Err(error) => Err(error),
        }
    }
}
