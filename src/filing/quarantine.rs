//! The quarantine: what is in it; and giving files back, from there and from the library.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use super::carry::{CopyFault, CopySpec, remove_reason, write_copy};
use super::consumed::Consumed;
use super::destinations::{Destinations, Roots};
use super::ledger::{Ledger, LedgerError};
use super::names;
use super::prepare::digest_of_file_at;
use super::record::{Digest, Held, Intent, Record, RecordId};
use super::request::HoldReason;
use super::restore::{Recorded, permissions, restore};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Fingerprint, Placement, RelPath};
use crate::root::{Removed, Root, fingerprint};

/// A file that radsort has put somewhere, and that can go back.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its record.
    pub intent: Intent,
    /// Where it is.
    pub at: Placement,
    /// When it got there, microseconds since the Unix epoch.
    pub time_us: i64,
}

/// Why a file was not given back (or moved within the library). It is still where it was.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It is not there.
    #[error("the file of record {0} is no longer where it was put")]
    NotThere(String),
    /// Its bytes are not those that were put there.
    #[error(
        "the file of record {0} was changed since it was put there: look at it, and move it by hand"
    )]
    Changed(String),
    /// Something concerns all files.
    #[error("{0}")]
    Held(HoldReason),
    /// It could not be moved.
    #[error("the file of record {id} could not be moved: {error}")]
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
    /// What of it could not be made as it was, for people.
    pub not_restored: Option<String>,
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

/// Removes the reasons of files that a person has taken out of the quarantine.
pub fn remove_reasons(destinations: &Destinations, left: &[RelPath]) {
    let roots = destinations.current();
    if let Ok(roots) = &roots
        && let Some(quarantine) = roots.get(&RootId::Quarantine)
    {
        left.iter().for_each(|path| remove_reason(quarantine, path));
    }
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

/// Opens a file that is on record, and makes sure that it is what was put there.
fn open_verified(
    roots: &Roots,
    id: &RecordId,
    at: &Placement,
    digest: &Digest,
) -> Result<(File, Fingerprint), ReleaseError> {
    let not_there = || ReleaseError::NotThere(id.0.clone());
    let root = roots.get(&at.root).ok_or_else(not_there)?;
    let (file, fingerprint) = root
        .open_file(&at.path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_there(),
            _ => ReleaseError::Io {
                id: id.0.clone(),
                error,
            },
        })?;
    let found = Digest::of_file(&file)
        .map_err(|error| ReleaseError::Held(HoldReason::of(&at.root, &error)))?;
    if found != *digest {
        return Err(ReleaseError::Changed(id.0.clone()));
    }
    Ok((file, fingerprint))
}

/// Moves a file that is on record to another place in the library, or beside that when the name is taken. Nothing is
/// replaced. Gives where it is.
pub(super) fn relocate(
    destinations: &Destinations,
    id: &RecordId,
    from: &Placement,
    to: &RelPath,
    digest: &Digest,
) -> Result<RelPath, ReleaseError> {
    let roots = destinations.current().map_err(ReleaseError::Held)?;
    open_verified(&roots, id, from, digest)?;
    let failed = |error| ReleaseError::Io {
        id: id.0.clone(),
        error,
    };
    let source = roots
        .get(&from.root)
        .ok_or_else(|| ReleaseError::NotThere(id.0.clone()))?;
    let library = &roots.library;
    if let Some(parent) = to.parent() {
        library
            .make_directories(&parent, roots.directory_mode)
            .map_err(failed)?;
    }
    let path = match source.rename_noreplace(&from.path, library, to) {
        Ok(()) => to.clone(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let other = names::alternative(to, digest, id)
                .map_err(|error| failed(io::Error::other(error)))?;
            source
                .rename_noreplace(&from.path, library, &other)
                .map_err(failed)?;
            other
        }
        Err(error) => return Err(failed(error)),
    };
    library.sync_directory_of(&path).map_err(failed)?;
    source.sync_directory_of(&from.path).map_err(failed)?;
    Ok(path)
}

/// A file on record, open and verified.
pub(super) struct OpenItem {
    file: File,
    roots: std::sync::Arc<Roots>,
    pub fingerprint: Fingerprint,
}

impl Item {
    fn failed(&self, error: io::Error) -> ReleaseError {
        ReleaseError::Io {
            id: self.intent.id.0.clone(),
            error,
        }
    }

    /// Opens the file and makes sure that it is what was put there.
    pub(super) fn open(&self, destinations: &Destinations) -> Result<OpenItem, ReleaseError> {
        let roots = destinations.current().map_err(ReleaseError::Held)?;
        let (file, fingerprint) =
            open_verified(&roots, &self.intent.id, &self.at, &self.intent.digest)?;
        Ok(OpenItem {
            file,
            roots,
            fingerprint,
        })
    }

    /// Where it goes back to: its old place, or beside that when the name is taken.
    fn home(&self, source: &Root) -> io::Result<RelPath> {
        let from = &self.intent.from;
        match source.stat_if_there(from)? {
            None => Ok(from.clone()),
            Some(_) => names::returned(from, &self.intent.id).map_err(io::Error::other),
        }
    }

    /// How the ledger knows the file once it is back: with the time that it had when it came.
    pub(super) fn held(
        &self,
        open: &OpenItem,
        source: &Root,
        there: Option<&RelPath>,
    ) -> Result<Held, ReleaseError> {
        let path = match there {
            Some(path) => path.clone(),
            None => self.home(source).map_err(|error| self.failed(error))?,
        };
        Ok(Held {
            watch: self.intent.watch.clone(),
            path,
            digest: self.intent.digest.clone(),
            fingerprint: Fingerprint {
                mtime_ns: self.intent.fingerprint.mtime_ns,
                ..open.fingerprint
            },
        })
    }

    /// Where the file is in its drop directory already, when it was given back before and that was interrupted before it was
    /// removed here: the ledger knows of its bytes at that path.
    pub(super) fn there_already(
        &self,
        source: &Root,
        consumed: &RwLock<Consumed>,
    ) -> Result<Option<RelPath>, ReleaseError> {
        let Intent { watch, digest, .. } = &self.intent;
        let is_held = |path: &RelPath| {
            let consumed = consumed.read().unwrap_or_else(PoisonError::into_inner);
            consumed.contains_bytes(Action::Move, watch, path, digest)
        };
        let failed = |error| self.failed(error);
        let from = &self.intent.from;
        let returned = names::returned(from, &self.intent.id);
        for path in [
            from.clone(),
            returned.map_err(|error| failed(io::Error::other(error)))?,
        ] {
            if is_held(&path)
                && digest_of_file_at(source, &path).map_err(failed)?.as_ref() == Some(digest)
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Whether a file that could not be given back is where it was and nowhere else.
    pub(super) fn is_only_here(&self, open: &OpenItem, source: &Root, held: &Held) -> bool {
        let Some(root) = open.roots.get(&self.at.root) else {
            return false;
        };
        let here = root.stat_if_there(&self.at.path).ok().flatten();
        let nowhere_else = match source.stat_if_there(&held.path) {
            Ok(None) => true,
            Ok(Some(_)) => digest_of_file_at(source, &held.path)
                .is_ok_and(|digest| digest.as_ref() != Some(&self.intent.digest)),
            Err(_) => false,
        };
        nowhere_else && here.is_some_and(|here| fingerprint(&here) == open.fingerprint)
    }

    /// Ends what was interrupted: the file is in its drop directory as a whole, and goes here.
    pub(super) fn finish(
        &self,
        open: &OpenItem,
        source: &Root,
        path: RelPath,
    ) -> Result<Released, ReleaseError> {
        let failed = |error| self.failed(error);
        let Some(root) = open.roots.get(&self.at.root) else {
            return Err(ReleaseError::NotThere(self.intent.id.0.clone()));
        };
        let (copy, _) = source.open_file(&path).map_err(failed)?;
        let not_restored = restore(&copy, &Recorded::from(&self.intent));
        copy.sync_all().map_err(failed)?;
        source.sync_directory_of(&path).map_err(failed)?;
        self.remove_here(open, root)?;
        self.remove_reason_here(root);
        root.sync_directory_of(&self.at.path).map_err(failed)?;
        Ok(Released { path, not_restored })
    }

    fn remove_reason_here(&self, root: &Root) {
        if self.at.root == RootId::Quarantine {
            remove_reason(root, &self.at.path);
        }
    }

    fn remove_here(&self, open: &OpenItem, root: &Root) -> Result<(), ReleaseError> {
        fail::fail_point!("before-removing-original");
        let removed = root.unlink_file(&self.at.path, &open.fingerprint);
        if removed.map_err(|error| self.failed(error))? == Removed::Not {
            // What lies there now is not what was copied.
            return Err(ReleaseError::Changed(self.intent.id.0.clone()));
        }
        Ok(())
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
        // Somebody else may have given it back, or put another in its place, since it was opened.
        match root.stat_if_there(&self.at.path) {
            Ok(Some(stat)) if fingerprint(&stat) == open.fingerprint => {}
            Ok(Some(_)) => return Err(ReleaseError::Changed(self.intent.id.0.clone())),
            Ok(None) => return Err(ReleaseError::NotThere(self.intent.id.0.clone())),
            Err(error) => return Err(self.failed(error)),
        }
        if let Some(parent) = self.intent.from.parent() {
            source
                .make_directories(&parent, open.roots.directory_mode)
                .map_err(|error| held(&error))?;
        }
        let (path, not_restored) = match self.land(root, &self.at.path, source) {
            Ok(path) => (path, restore(&open.file, &Recorded::from(&self.intent))),
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
        self.remove_reason_here(root);
        source
            .sync_directory_of(&path)
            .map_err(|error| held(&error))?;
        root.sync_directory_of(&self.at.path)
            .map_err(|error| self.failed(error))?;
        Ok(Released { path, not_restored })
    }

    fn copy_back(
        &self,
        open: &OpenItem,
        root: &Root,
        source: &Root,
    ) -> Result<(RelPath, Option<String>), ReleaseError> {
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
            fingerprint: &Fingerprint {
                mtime_ns: intent.fingerprint.mtime_ns,
                ..open.fingerprint
            },
            mode: permissions(intent),
        };
        let landed = match write_copy(&open.file, source, &part, &spec) {
            Ok(()) => {
                // Before it has its name: nobody sees it with another owner.
                let not_restored = match source.open_file(&part) {
                    Ok((copy, _)) => restore(&copy, &Recorded::from(intent)),
                    Err(error) => Some(format!("its owner was not restored: {error}")),
                };
                self.land(source, &part, source)
                    .map(|path| (path, not_restored))
                    .map_err(|error| held(&error))
            }
            Err(CopyFault::Changed) => Err(ReleaseError::Changed(intent.id.0.clone())),
            Err(CopyFault::Source(error)) => Err(self.failed(error)),
            Err(CopyFault::Target(error)) => Err(held(&error)),
        };
        match landed {
            Ok((path, not_restored)) => {
                source
                    .sync_directory_of(&path)
                    .map_err(|error| held(&error))?;
                self.remove_here(open, root)?;
                Ok((path, not_restored))
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
