//! The bundles that a site keeps side by side, and which of them is in use.
//!
//! They lie in `models/` of the state directory, one folder a version. `in-use.json` says which one the service takes: it
//! is replaced by rename, so that promotion and rollback happen or do not. It also remembers what was in use before. A
//! configuration that names a bundle itself (`[model] bundle`) has the last word.

mod pointer;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use self::pointer::Pointer;
use super::bundle::{Bundle, BundleError};
use super::manifest::FILE_NAME;
use crate::config::Settings;

/// The folder in the state directory.
const FOLDER: &str = "models";
/// The pointer.
const POINTER: &str = "in-use.json";
/// Locked by whoever changes the pointer.
const LOCK: &str = ".lock";

/// What becomes of a bundle when those are removed that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Its folder.
    pub folder: String,
    /// Why it stays; `None`: it is removed.
    pub stays: Option<Stays>,
}

/// Why a bundle stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stays {
    /// The configuration names it.
    Named,
    /// It was promoted last.
    InUse,
    /// It is one of the last that were in use.
    WasInUse,
    /// An interrupted training goes on from it.
    Training,
    /// It was never in use, and is one of the newest of those.
    Newest,
}

impl Stays {
    /// In words, for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Named => "the configuration names it",
            Self::InUse => "in use",
            Self::WasInUse => "one of the last in use",
            Self::Training => "a training that was interrupted goes on from it",
            Self::Newest => "never in use, one of the newest of those",
        }
    }
}

/// What can go wrong with the kept bundles.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The pointer cannot be read.
    #[error("{}: {problem}; `radsort models promote VERSION` writes it anew", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: serde_json::Error,
    },
    /// A bundle does not fit.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no such version.
    #[error("there is no bundle {wanted:?}; there are: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// More than one bundle has this version.
    #[error("{wanted:?} may mean {}: give the folder's name", found.join(" or "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The folders.
        found: Vec<String>,
    },
    /// A version with this name is there already.
    #[error("there is a bundle {0:?} already: give the new one another version")]
    Taken(String),
    /// The configuration names a bundle, so that promotion would have no effect.
    #[error(
        "the configuration names the bundle {}: take `[model] bundle` out of it, so that `radsort models` can choose",
        .0.display()
    )]
    Pinned(PathBuf),
    /// Nothing to go back to.
    #[error("no other bundle was in use before this one")]
    NothingBefore,
}

/// The name under which the shipped bundle is listed and promoted.
pub const SHIPPED: &str = "shipped";

/// One bundle that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Folder name, or [`SHIPPED`].
    pub name: String,
    /// Opened and checked, or why it cannot be.
    pub bundle: Result<Bundle, String>,
    /// The service takes it.
    pub in_use: bool,
}

/// The bundles of one installation.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in a state directory; it need not exist yet.
    pub fn new(state: &Path) -> Self {
        Self {
            dir: state.join(FOLDER),
        }
    }

    /// Where the service finds the bundle that these settings ask for: the one they name, else the promoted one, else
    /// the shipped one.
    pub fn in_use(settings: &Settings) -> Result<PathBuf, StoreError> {
        if let Some(named) = &settings.model.bundle {
            return Ok(named.clone());
        }
        let store = Self::new(&settings.state);
        store.path_of(store.pointer()?.in_use())
    }

    /// Where new bundles are put together before they are kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every bundle: the shipped one first, then by name.
    pub fn list(&self) -> Result<Vec<Kept>, StoreError> {
        let pointer = self.pointer()?;
        let mut names = vec![SHIPPED.to_owned()];
        names.extend(self.names()?);
        Ok(names
            .into_iter()
            .map(|name| Kept {
                in_use: name == pointer.in_use(),
                bundle: self
                    .path_of(&name)
                    .and_then(|path| Ok(Bundle::open(&path)?))
                    .map_err(|error| error.to_string()),
                name,
            })
            .collect())
    }

    /// A bundle by its folder name, by its version, or by name and version.
    pub fn find(&self, wanted: &str) -> Result<Kept, StoreError> {
        let mut kept = self.list()?;
        if let Some(index) = kept.iter().position(|kept| kept.name == wanted) {
            return Ok(kept.swap_remove(index));
        }
        let known = kept.iter().map(|kept| kept.name.clone()).collect();
        kept.retain(|kept| {
            kept.bundle.as_ref().is_ok_and(|bundle| {
                bundle.name_and_version() == wanted || bundle.manifest().version == wanted
            })
        });
        let wanted = wanted.to_owned();
        if kept.len() > 1 {
            let found = kept.into_iter().map(|kept| kept.name).collect();
            return Err(StoreError::Ambiguous { wanted, found });
        }
        kept.pop().ok_or(StoreError::Unknown { wanted, known })
    }

    /// Refuses at once a name and version that [`Store::keep`] would refuse.
    pub fn may_keep(&self, name: &str, version: &str) -> Result<(), StoreError> {
        let name = format!("{name}-{version}");
        if self.dir.join(&name).exists() {
            return Err(StoreError::Taken(name));
        }
        Ok(())
    }

    /// Keeps a bundle: copies the folder's files, under the name and version that its manifest says.
    pub fn keep(&self, bundle: &Bundle) -> Result<String, StoreError> {
        let manifest = bundle.manifest();
        // Both were checked when the bundle was opened: this is a folder's name.
        let name = format!("{}-{}", manifest.name, manifest.version);
        let place = self.dir.join(&name);
        if place.exists() {
            return Err(StoreError::Taken(name));
        }
        make_dir(&self.dir)?;
        let part = self.dir.join(format!(".{name}.part"));
        let _ = fs::remove_dir_all(&part); // what an interrupted run left
        let copied =
            copy_all(bundle, &part).and_then(|()| fs::rename(&part, &place).map_err(at(&place)));
        if copied.is_err() {
            // A disk that is full must not stay so.
            let _ = fs::remove_dir_all(&part);
        }
        copied?;
        sync(&self.dir)?;
        Ok(name)
    }

    /// Until it is dropped, nobody else changes what is in use.
    pub fn hold(&self) -> Result<Held<'_>, StoreError> {
        make_dir(&self.dir)?;
        let path = self.dir.join(LOCK);
        let lock = fs::File::create(&path).map_err(at(&path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| at(&path)(error.into()))?;
        Ok(Held {
            store: self,
            _lock: lock,
        })
    }

    /// From now on the service takes this bundle. The caller has tried it and tells the service to reload.
    pub fn promote(&self, settings: &Settings, name: &str) -> Result<(), StoreError> {
        self.hold()?.promote(settings, name)
    }

    /// Goes back to the bundle that was in use before; gives its name.
    pub fn roll_back(&self, settings: &Settings) -> Result<String, StoreError> {
        not_pinned(settings)?;
        let _held = self.hold()?;
        let mut pointer = self.pointer()?;
        if pointer.history.len() < 2 {
            return Err(StoreError::NothingBefore);
        }
        pointer.gives_way();
        pointer.history.pop();
        self.point(&pointer)?;
        Ok(pointer.in_use().to_owned())
    }

    /// What [`Store::roll_back`] would go back to.
    pub fn before(&self) -> Result<String, StoreError> {
        let history = self.pointer()?.history;
        let before = history.len().checked_sub(2).and_then(|at| history.get(at));
        before.cloned().ok_or(StoreError::NothingBefore)
    }

    /// Removes bundles that nobody needs; says of each what becomes of it. `keep` of the last ones in use stay, and as many of
    /// the newest that never were: people may not have decided on them yet. `training` is the folder that an interrupted
    /// training goes on from. A dry run only says what would be.
    pub fn prune(
        &self,
        settings: &Settings,
        keep: usize,
        training: Option<&Path>,
        dry_run: bool,
    ) -> Result<Vec<Pruned>, StoreError> {
        let _held = (!dry_run).then(|| self.hold()).transpose()?;
        let pointer = self.pointer()?;
        let mut kept = pointer.by_last_use();
        kept.truncate(keep.max(1));
        let names = self.names()?;
        let newest = self.newest(&names, &pointer, keep);
        let is = |dir: Option<&Path>, path: &Path| {
            let dir = dir.and_then(|dir| dir.canonicalize().ok());
            dir.is_some() && dir == path.canonicalize().ok()
        };
        let (mut pruned, mut removed) = (Vec::new(), Vec::new());
        for name in names {
            let path = self.dir.join(&name);
            let stays = if is(settings.model.bundle.as_deref(), &path) {
                Some(Stays::Named)
            } else if kept.first() == Some(&&name) {
                Some(Stays::InUse)
            } else if is(training, &path) {
                Some(Stays::Training)
            } else if kept.contains(&&name) {
                Some(Stays::WasInUse)
            } else if newest.contains(&name) {
                Some(Stays::Newest)
            } else {
                None
            };
            if stays.is_none() && !dry_run {
                fs::remove_dir_all(&path).map_err(at(&path))?;
                removed.push(name.clone());
            }
            pruned.push(Pruned {
                folder: name,
                stays,
            });
        }
        // What is gone can no longer be gone back to.
        let mut left = pointer.clone();
        left.history.retain(|name| !removed.contains(name));
        left.history.dedup();
        left.was.retain(|name| !removed.contains(name));
        if !removed.is_empty() {
            self.point(&left)?;
        }
        Ok(pruned)
    }

    /// The bundles that came last among those that never were in use.
    fn newest(&self, names: &[String], pointer: &Pointer, count: usize) -> Vec<String> {
        let mut never: Vec<_> = names
            .iter()
            .filter(|name| !pointer.by_last_use().contains(name))
            .map(|name| {
                let came = fs::metadata(self.dir.join(name).join(FILE_NAME));
                (came.and_then(|about| about.modified()).ok(), name.clone())
            })
            .collect();
        never.sort();
        let newest = never.into_iter().rev().take(count);
        newest.map(|(_, name)| name).collect()
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name == SHIPPED {
            Ok(Bundle::find(None)?)
        } else {
            Ok(self.dir.join(name))
        }
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.dir)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join(FILE_NAME).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    fn pointer(&self) -> Result<Pointer, StoreError> {
        let path = self.dir.join(POINTER);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|problem| StoreError::Pointer { path, problem }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Pointer::default()),
            Err(error) => Err(at(&path)(error)),
        }
    }

    fn point(&self, pointer: &Pointer) -> Result<(), StoreError> {
        make_dir(&self.dir)?;
        let (path, part) = (
            self.dir.join(POINTER),
            self.dir.join(format!("{POINTER}.part")),
        );
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&part)?;
            file.write_all(&serde_json::to_vec_pretty(pointer)?)?;
            file.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(at(&path))?;
        sync(&self.dir)
    }
}

/// A store in which nobody else changes what is in use.
pub struct Held<'a> {
    store: &'a Store,
    _lock: fs::File,
}

impl Held<'_> {
    /// See [`Store::promote`].
    pub fn promote(&self, settings: &Settings, name: &str) -> Result<(), StoreError> {
        not_pinned(settings)?;
        let mut pointer = self.store.pointer().unwrap_or_default();
        if pointer.in_use() == name {
            return Ok(());
        }
        if pointer.history.is_empty() {
            pointer.history.push(SHIPPED.to_owned());
        }
        pointer.gives_way();
        pointer.history.push(name.to_owned());
        self.store.point(&pointer)
    }
}

/// Refuses to promote where the configuration names a bundle: promotion would have no effect.
pub fn not_pinned(settings: &Settings) -> Result<(), StoreError> {
    match &settings.model.bundle {
        Some(named) => Err(StoreError::Pinned(named.clone())),
        None => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

fn copy_all(bundle: &Bundle, to: &Path) -> Result<(), StoreError> {
    make_dir(to)?;
    for file in bundle.files().map_err(at(bundle.dir()))? {
        let copy = to.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &copy).map_err(at(&file))?;
        sync(&copy)?;
    }
    sync(to)
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(at(path))
}

/// Makes sure that a file's content, or a directory's entries, outlive a power cut.
fn sync(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(at(path))
}

#[cfg(test)]
mod tests;
