//! The walk: every file of the library (and of what lies beside it) that is not where a record says.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath};
use crate::filing::destinations::Roots;
use crate::index::Index;
use crate::index::whose::whose;
use crate::judgement::Desk;
use crate::root::Root;

use super::LookError;
use super::ids::Ids;

/// Why a walk ended before its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The service is stopping.
    Asked,
    /// A folder could not be read.
    Io(io::Error),
}

/// What a walk has found.
pub(super) struct Walked {
    /// When it began, microseconds since the Unix epoch.
    pub began_us: i64,
    /// The roots, as they were throughout the walk.
    pub roots: Arc<Roots>,
    /// Files that are where their record says.
    pub in_place: Ids,
    /// Files of which no record says that they lie there.
    pub strangers: Vec<Placement>,
}

/// Walks all roots. An error anywhere means that nothing is known.
pub(super) fn walk(desk: &Desk, stop: &CancellationToken) -> Result<Walked, LookError> {
    let began_us = jiff::Timestamp::now().as_microsecond();
    let roots = desk.destinations.current()?;
    let mut walk = Walk {
        index: &desk.index,
        roots: &roots,
        stop,
        in_place: Ids::default(),
        strangers: Vec::new(),
    };
    for id in [RootId::Library, RootId::Quarantine, RootId::Duplicates] {
        if let Some(root) = roots.get(&id) {
            walk.directory(&id, root, None)?;
        }
    }
    let (in_place, strangers) = (walk.in_place, walk.strangers);
    Ok(Walked {
        began_us,
        roots,
        in_place,
        strangers,
    })
}

struct Walk<'a> {
    index: &'a Index,
    roots: &'a Roots,
    stop: &'a CancellationToken,
    in_place: Ids,
    strangers: Vec<Placement>,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        id: &RootId,
        root: &Root,
        path: Option<&RelPath>,
    ) -> Result<(), LookError> {
        if self.stop.is_cancelled() {
            return Err(Stopped::Asked.into());
        }
        let mut below = Vec::new();
        for entry in root.entries(path) {
            let entry = match entry {
                // Somebody has just removed or renamed the directory.
                Err(error) if path.is_some() && error.kind() == io::ErrorKind::NotFound => break,
                entry => entry.map_err(Stopped::Io)?,
            };
            // Hidden files are radsort's own (the marker, copies under way) or the share's.
            if entry.path.file_name().starts_with(b".") {
                continue;
            }
            match entry.is_dir {
                Some(true) if !self.is_another_root(root, &entry.path) => below.push(entry.path),
                Some(false) => self.file(
                    root,
                    Placement {
                        root: id.clone(),
                        path: entry.path,
                    },
                )?,
                _ => {}
            }
        }
        for directory in below {
            self.directory(id, root, Some(&directory))?;
        }
        Ok(())
    }

    fn file(&mut self, root: &Root, at: Placement) -> Result<(), LookError> {
        let live = self.index.live_at(&at)?;
        if live.is_empty() {
            self.strangers.push(at);
        } else if let Some(entry) = whose(root, &at.path, live)? {
            self.in_place.insert(&entry.id);
        }
        Ok(())
    }

    /// The quarantine and the duplicates usually lie in the library.
    fn is_another_root(&self, root: &Root, path: &RelPath) -> bool {
        let full = root.path().join(OsStr::from_bytes(path.as_bytes()));
        [
            &self.roots.library,
            &self.roots.quarantine,
            &self.roots.duplicates,
        ]
        .iter()
        .any(|other| other.path() == full)
    }
}
