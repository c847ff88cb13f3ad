//! Where files go: the library with its marker, the quarantine and the duplicates.
//!
//! The library's root holds `.radsort-library` with a random id that the ledger knows. A directory without that marker
//! is an unmounted share, not an empty library: it is offline. The marker is also locked, so that two installations
//! never file into one library.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::ledger::random_hex;
use super::request::HoldReason;
use crate::config::settings::LibrarySettings;
use crate::domain::RelPath;
use crate::domain::placement::RootId;
use crate::root::{Offers, Root};

/// The marker's name in the library's root.
pub const MARKER: &str = ".radsort-library";

/// How long a stop waits for whoever is asking the library.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the library cannot be used at the first start.
#[derive(Debug, thiserror::Error)]
pub enum DestinationsError {
    /// It cannot be opened or made.
    #[error("the library {}: {error}; make the directory, and let radsort write in it", path.display())]
    Io {
        /// The library.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Its marker is not one.
    #[error("{} is no marker of radsort: look at it, and remove it if nothing else needs it", .0.display())]
    Marker(PathBuf),
}

/// The open roots, and how files and directories below them are made.
#[derive(Debug)]
pub struct Roots {
    /// The library.
    pub library: Arc<Root>,
    /// The quarantine.
    pub quarantine: Arc<Root>,
    /// The duplicates.
    pub duplicates: Arc<Root>,
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub directory_mode: u32,
    /// The locked marker.
    lock: Arc<File>,
}

impl Roots {
    /// A root by its id; a watch is none of these.
    pub fn get(&self, id: &RootId) -> Option<&Arc<Root>> {
        match id {
            RootId::Library => Some(&self.library),
            RootId::Quarantine => Some(&self.quarantine),
            RootId::Duplicates => Some(&self.duplicates),
            RootId::Watch(_) => None,
        }
    }
}

/// The destinations, opened anew when their filesystem comes back.
#[derive(Debug)]
pub struct Destinations {
    library: PathBuf,
    quarantine: PathBuf,
    duplicates: PathBuf,
    file_mode: u32,
    directory_mode: u32,
    marker: String,
    offers: Offers,
    open: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// With the lock, while whoever is still filing there holds it: nobody else's lock keeps us out then.
    Away(Weak<File>),
    Open(Arc<Roots>),
    Closed,
}

impl Default for State {
    fn default() -> Self {
        Self::Away(Weak::new())
    }
}

impl Destinations {
    /// Prepares the destinations. `marker` is what the ledger knows; if it knows none, the library is made (or taken
    /// over with the marker that it has), and its id is to be recorded: [`Destinations::marker`].
    pub fn new(
        settings: &LibrarySettings,
        marker: Option<String>,
    ) -> Result<Self, DestinationsError> {
        let marker = match marker {
            Some(marker) => marker,
            None => begin_library(settings)?,
        };
        Ok(Self {
            library: settings.path.clone(),
            quarantine: settings.quarantine.clone(),
            duplicates: settings.duplicates.clone(),
            file_mode: settings.file_mode,
            directory_mode: settings.directory_mode,
            marker,
            offers: Offers::default(),
            open: Mutex::default(),
        })
    }

    /// The same on filesystems that offer less than they should.
    #[must_use]
    pub fn offering(self, offers: Offers) -> Self {
        Self { offers, ..self }
    }

    /// The id in the library's marker.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The roots as they are now; opened anew if something was unmounted, mounted or replaced. Touches the
    /// filesystem, and may hang with it.
    pub fn current(&self) -> Result<Arc<Roots>, HoldReason> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, lock) = match std::mem::take(&mut *open) {
            State::Away(lock) => (None, lock.upgrade()),
            State::Open(roots) => {
                let lock = Arc::clone(&roots.lock);
                (Some(roots), Some(lock))
            }
            State::Closed => {
                *open = State::Closed;
                return Err(HoldReason::Offline(
                    RootId::Library,
                    "filing has been stopped".into(),
                ));
            }
        };
        if let Some(roots) = &before
            && [&roots.library, &roots.quarantine, &roots.duplicates]
                .iter()
                .all(|root| root.is_current())
            && self.check_marker(&roots.library).is_ok()
        {
            *open = State::Open(Arc::clone(roots));
            return Ok(Arc::clone(roots));
        }
        if let Some(lock) = &lock {
            *open = State::Away(Arc::downgrade(lock));
        }
        let roots = Arc::new(self.open_roots(lock)?);
        *open = State::Open(Arc::clone(&roots));
        Ok(roots)
    }

    /// Lets go of the library and its lock, for good.
    pub fn close(&self) {
        // Whoever hangs in there with the library must not hold up a stop: the lock goes with the process then.
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.open.try_lock() {
                Ok(mut open) => return *open = State::Closed,
                Err(TryLockError::Poisoned(open)) => return *open.into_inner() = State::Closed,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn open_roots(&self, held: Option<Arc<File>>) -> Result<Roots, HoldReason> {
        let library = Root::open(&self.library).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                HoldReason::Offline(RootId::Library, "the directory does not exist".into())
            }
            _ => HoldReason::of(&RootId::Library, &error),
        })?;
        let library = library.offering(self.offers);
        let marker = self.check_marker(&library)?;
        let lock = match held {
            Some(lock) if same_file(&lock, &marker) => lock,
            _ => Arc::new(lock(marker)?),
        };
        let quarantine = self.open_other(&library, &self.quarantine, &RootId::Quarantine)?;
        let duplicates = self.open_other(&library, &self.duplicates, &RootId::Duplicates)?;
        Ok(Roots {
            library: Arc::new(library),
            quarantine: Arc::new(quarantine),
            duplicates: Arc::new(duplicates),
            file_mode: self.file_mode,
            directory_mode: self.directory_mode,
            lock,
        })
    }

    fn check_marker(&self, library: &Root) -> Result<File, HoldReason> {
        let offline = |why: &str| HoldReason::Offline(RootId::Library, why.to_owned());
        let (file, id) = match read_marker(library) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(offline(
                    "its marker .radsort-library is not there (not mounted?)",
                ));
            }
            Err(error) => return Err(HoldReason::of(&RootId::Library, &error)),
        };
        if id == self.marker {
            Ok(file)
        } else {
            Err(offline("its marker is that of another library"))
        }
    }

    /// Quarantine and duplicates: inside the library they are made; elsewhere at least their parent must be there.
    fn open_other(&self, library: &Root, path: &Path, id: &RootId) -> Result<Root, HoldReason> {
        let held = |error: io::Error| HoldReason::of(id, &error);
        match path
            .strip_prefix(&self.library)
            .map(|rest| RelPath::new(rest.as_os_str().as_encoded_bytes()))
        {
            Ok(Ok(below)) => library
                .make_directories(&below, self.directory_mode)
                .map_err(held)?,
            _ => make_directory(path, self.directory_mode).map_err(held)?,
        }
        Ok(Root::open(path).map_err(held)?.offering(self.offers))
    }
}

/// Makes one directory if it is missing.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    if path.is_dir() {
        return Ok(());
    }
    let name = RelPath::new(name.as_encoded_bytes()).map_err(io::Error::other)?;
    Root::open(parent)?.make_directories(&name, mode)
}

fn marker_path() -> io::Result<RelPath> {
    RelPath::new(MARKER).map_err(io::Error::other)
}

fn read_marker(library: &Root) -> io::Result<(File, String)> {
    let (file, _) = library.open_file(&marker_path()?)?;
    let mut text = String::new();
    (&file).take(100).read_to_string(&mut text)?;
    Ok((file, text.trim_end().to_owned()))
}

/// The first start (or `radsort setup` before it): takes over the marker that is there, or makes one, and the library
/// itself. Gives the marker's id.
pub fn begin_library(settings: &LibrarySettings) -> Result<String, DestinationsError> {
    let path = &settings.path;
    let failed = |error| DestinationsError::Io {
        path: path.clone(),
        error,
    };
    make_directory(path, settings.directory_mode).map_err(failed)?;
    let library = Root::open(path).map_err(failed)?;
    match read_marker(&library) {
        Ok((_, id)) if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            return Ok(id);
        }
        Ok(_) => return Err(DestinationsError::Marker(path.join(MARKER))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = random_hex::<16>(path).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let made = || {
        let part = RelPath::new(format!("{MARKER}.part")).map_err(io::Error::other)?;
        library.unlink(&part)?;
        let mut file = library.create_new(&part, settings.file_mode)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        let marker = marker_path()?;
        library.rename_noreplace(&part, &library, &marker)?;
        library.sync_directory_of(&marker)
    };
    made().map_err(failed)?;
    Ok(id)
}

fn same_file(one: &File, other: &File) -> bool {
    let inode = |file: &File| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other)
}

/// Locks the marker. Filesystems without locks have to be trusted.
fn lock(marker: File) -> Result<File, HoldReason> {
    match rustix::fs::flock(&marker, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(marker),
        Err(Errno::WOULDBLOCK) => {
            let why = "another radsort is filing into it".to_owned();
            Err(HoldReason::Offline(RootId::Library, why))
        }
        // NFS wants a descriptor open for writing; not every filesystem has locks at all.
        Err(_) => {
            tracing::warn!(
                "the library's marker cannot be locked: make sure that no other radsort files into it"
            );
            Ok(marker)
        }
    }
}

/// Whether files below `root` get the group that this process gives to new files (setgid directories hand down theirs).
pub(super) fn group_of_new_files(directory: &rustix::fs::Stat) -> u32 {
    if Mode::from_raw_mode(directory.st_mode).contains(Mode::SGID) {
        directory.st_gid
    } else {
        rustix::process::getegid().as_raw()
    }
}

/// Opens a directory's file for reading without following links, `None` where nothing is.
pub(super) fn open_if_there(root: &Root, path: &RelPath) -> io::Result<Option<File>> {
    match root.open_at(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
    ) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
