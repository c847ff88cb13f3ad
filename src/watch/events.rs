//! inotify, through the notify crate: what happened below a drop directory since the last look, one entry a path.
//!
//! Promises: memory is bounded (beyond a limit, or when the kernel's queue overflows, the answer is "scan again"), and
//! nothing is done in notify's thread but noting.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::ignore::Ignore;
use crate::domain::RelPath;
use crate::domain::settle::Hint;

/// Beyond so many paths a scan is cheaper.
const LIMIT: usize = 50_000;

/// What happened to a path; the last event counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// A file: written to, and then closed or not; `None`: gone, or only its owner or permissions changed.
    pub hint: Option<Hint>,
    /// Perhaps a directory.
    pub directory: bool,
}

/// Everything since the last look.
#[derive(Debug, Default)]
pub struct Pending {
    /// By path.
    pub paths: HashMap<RelPath, Happened>,
    /// Events were lost: scan.
    pub rescan: bool,
    /// Something happened to the drop directory itself.
    pub root: bool,
    /// The limit of inotify watches (`fs.inotify.max_user_watches`) was reached.
    pub exhausted: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.rescan && !self.root && !self.exhausted
    }

    /// Notes one event.
    pub fn note(&mut self, event: &Event, root: &Path, ignore: &Ignore) {
        if event.need_rescan() {
            self.rescan = true;
        }
        let (hint, directory) = match event.kind {
            EventKind::Create(CreateKind::Folder) => (None, true),
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
                (Some(Hint::Written), false)
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Some(Hint::Closed), false),
            // A rename into place is as good as a close; it may be a whole directory.
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Some(Hint::Closed), true),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                (None, true)
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => (None, false),
            _ => return,
        };
        for path in &event.paths {
            let Ok(below) = path.strip_prefix(root) else {
                continue;
            };
            match RelPath::new(below.as_os_str().as_bytes()) {
                Err(_) => self.root |= directory,
                Ok(path) if ignore.path(&path) => {}
                Ok(path) => {
                    let happened = self.paths.entry(path).or_default();
                    // Changed permissions say nothing about the content: an earlier hint stands.
                    happened.hint = if hint.is_none() && !directory {
                        happened.hint
                    } else {
                        hint
                    };
                    happened.directory |= directory;
                }
            }
        }
        if self.paths.len() > LIMIT {
            self.paths = HashMap::new();
            self.rescan = true;
        }
    }
}

/// The watches on a drop directory.
pub struct Events {
    watcher: RecommendedWatcher,
    root: PathBuf,
    pending: Arc<Mutex<Pending>>,
}

/// What is wrong with a watch that could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotWatch {
    /// The limit of inotify watches was reached.
    Exhausted,
    /// The directory is gone or may not be read; the scan will say.
    Other,
}

impl Events {
    /// Starts without any watch. `wake` is called when something happens after a [`Events::take`].
    pub fn start(
        root: &Path,
        ignore: Ignore,
        wake: impl Fn() + Send + 'static,
    ) -> notify::Result<Self> {
        let pending = Arc::new(Mutex::new(Pending::default()));
        let (shared, base) = (Arc::clone(&pending), root.to_owned());
        let handler = move |event: notify::Result<Event>| {
            let mut pending = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = pending.is_empty();
            match event {
                Ok(event) => pending.note(&event, &base, &ignore),
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    pending.exhausted = true;
                }
                Err(_) => pending.rescan = true,
            }
            let wakes = was_empty && !pending.is_empty();
            drop(pending);
            if wakes {
                wake();
            }
        };
        let watcher = notify::recommended_watcher(handler)?;
        Ok(Self {
            watcher,
            root: root.to_owned(),
            pending,
        })
    }

    /// Watches one directory (not what is below). Watching twice does no harm.
    ///
    /// The path is resolved by name: if someone puts a link in the directory's place meanwhile, foreign events come in as
    /// hints about paths that the scan does not find.
    pub fn watch(&mut self, directory: Option<&RelPath>) -> Result<(), CannotWatch> {
        let path = match directory {
            Some(directory) => self
                .root
                .join(std::ffi::OsStr::from_bytes(directory.as_bytes())),
            None => self.root.clone(),
        };
        self.watcher
            .watch(&path, RecursiveMode::NonRecursive)
            .map_err(|error| match error.kind {
                notify::ErrorKind::MaxFilesWatch => CannotWatch::Exhausted,
                _ => CannotWatch::Other,
            })
    }

    /// What happened since the last call.
    pub fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For tests: as if the kernel had sent this.
    #[cfg(test)]
    pub fn inject(&self, event: &Event) {
        let ignore = Ignore::none();
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(event, &self.root, &ignore);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use notify::event::{DataChange, Flag, RemoveKind};

    fn pending(kinds: &[EventKind]) -> Pending {
        let mut pending = Pending::default();
        for kind in kinds {
            let event = Event::new(*kind).add_path("/drop/a.dcm".into());
            pending.note(&event, Path::new("/drop"), &Ignore::none());
        }
        pending
    }

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    #[test]
    fn the_last_event_counts() {
        let hint = |kinds: &[EventKind]| pending(kinds).paths.values().next().unwrap().hint;
        assert_eq!(
            hint(&[EventKind::Create(CreateKind::File), WRITE, CLOSE]),
            Some(Hint::Closed)
        );
        assert_eq!(hint(&[WRITE, CLOSE, WRITE]), Some(Hint::Written));
        let metadata = EventKind::Modify(ModifyKind::Metadata(notify::event::MetadataKind::Any));
        assert_eq!(hint(&[CLOSE, metadata]), Some(Hint::Closed));
        assert_eq!(hint(&[CLOSE, EventKind::Remove(RemoveKind::File)]), None);
    }

    #[test]
    fn an_overflow_and_too_many_paths_ask_for_a_scan() {
        let mut pending = pending(&[]);
        pending.note(
            &Event::new(EventKind::Other).set_flag(Flag::Rescan),
            Path::new("/drop"),
            &Ignore::none(),
        );
        assert!(pending.rescan);
        pending.rescan = false;
        for number in 0..=LIMIT {
            let event = Event::new(WRITE).add_path(format!("/drop/{number}").into());
            pending.note(&event, Path::new("/drop"), &Ignore::none());
        }
        assert!(pending.rescan);
        assert!(pending.paths.len() < LIMIT);
    }

    #[test]
    fn reading_and_ignored_names_are_nothing() {
        let mut pending = pending(&[EventKind::Access(AccessKind::Open(AccessMode::Any))]);
        let event = Event::new(CLOSE)
            .add_path("/drop/.a.dcm.Xyz".into())
            .add_path("/drop/.tmp/a".into());
        pending.note(&event, Path::new("/drop"), &Ignore::none());
        assert!(pending.is_empty());
    }
}
