//! sled underneath: opening it whatever state it is in, and writing a group of changes so that all or none is there.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use sled::{Db, Tree};

use super::fold::Changes;
use super::{IndexError, entry, untouched};

/// Bytes of pages, as they are written, that sled may keep in memory; there they take four times as much. Neither filing nor
/// building the index is slower for it than with 64 MiB: what is not kept comes out of the kernel's cache.
const CACHE: u64 = 8 << 20;

/// How often sled hands what is new to the kernel, milliseconds. Its threads wake up for that also when nothing is new, twice a
/// second unless told otherwise; what a kill takes with it is folded from the ledger again.
const FLUSH_EVERY_MS: u64 = 5_000;

/// More threads than that only get in each other's way.
const MOST_WRITERS: usize = 4;

/// A key and what is written there; nothing to remove it.
type Write<'a> = (&'a (Part, Vec<u8>), &'a Option<Vec<u8>>);

/// The trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Id → entry.
    Entries,
    /// Id → what the ledger says about it.
    Stories,
    /// Id → an intent that is not closed yet.
    Open,
    /// What leads to an entry → its id.
    Keys,
    /// How many live entries there are of a kind.
    Counters,
    /// Version, cursor, session.
    Meta,
}

impl Part {
    pub(super) const ALL: [Self; 6] = [
        Self::Entries,
        Self::Stories,
        Self::Open,
        Self::Keys,
        Self::Counters,
        Self::Meta,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Stories => "stories",
            Self::Open => "open",
            Self::Keys => "keys",
            Self::Counters => "counters",
            Self::Meta => "meta",
        }
    }
}

/// An open sled database with its trees, in the order of [`Part::ALL`].
pub(super) struct Trees {
    dir: PathBuf,
    /// Gone only while this is dropped.
    db: Option<Db>,
    parts: Vec<Tree>,
    /// Whether the files were left untouched since they were last closed.
    pub untouched: bool,
    /// Whether nothing is written any more.
    closed: AtomicBool,
}

impl Drop for Trees {
    fn drop(&mut self) {
        self.parts.clear();
        drop(self.db.take());
        if *self.closed.get_mut() {
            untouched::note(&self.dir);
        }
    }
}

/// Why sled could not be opened.
pub(super) enum OpenFault {
    /// Another process has it.
    Locked,
    /// It cannot be read, or sled panicked on it.
    Unusable(String),
    /// The disk, not the content: no space, no permission, an I/O error.
    Io(std::io::Error),
}

impl Trees {
    /// Opens or creates a database. sled 0.34 panics on some kinds of damage; that is the same as an error here.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenFault> {
        // Threads of a database that this process has just closed can hold its lock a moment longer. Other
        // processes are kept out by the lock file beside the directory, before this is called.
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match Self::try_open(dir) {
                Err(OpenFault::Locked) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn try_open(dir: &Path) -> Result<Self, OpenFault> {
        let open = || -> sled::Result<Self> {
            let untouched = untouched::take(dir);
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()?;
            let parts = Part::ALL
                .iter()
                .map(|part| db.open_tree(part.name()))
                .collect::<sled::Result<_>>()?;
            Ok(Self {
                dir: dir.to_owned(),
                db: Some(db),
                parts,
                untouched,
                closed: AtomicBool::new(false),
            })
        };
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(trees)) => Ok(trees),
            // sled wraps this in ErrorKind::Other; only the text tells.
            Ok(Err(sled::Error::Io(err))) if err.to_string().contains("could not acquire lock") => {
                Err(OpenFault::Locked)
            }
            Ok(Err(sled::Error::Io(err))) if is_disk(&err) => Err(OpenFault::Io(err)),
            Ok(Err(err)) => Err(OpenFault::Unusable(err.to_string())),
            Err(_) => Err(OpenFault::Unusable(
                "sled panicked while opening it".to_owned(),
            )),
        }
    }

    pub(super) fn tree(&self, part: Part) -> &Tree {
        &self.parts[part as usize]
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        part: Part,
        key: &[u8],
    ) -> Result<Option<T>, IndexError> {
        let bytes = self.tree(part).get(key)?;
        bytes
            .map(|bytes| entry::decode(&bytes).map_err(|err| IndexError::value(part, err)))
            .transpose()
    }

    /// Writes a group: all of it or nothing, also when the process is killed in between.
    pub(super) fn commit(&self, changes: &Changes<'_>) -> Result<(), IndexError> {
        let result = self.parts.as_slice().transaction(|trees: &Vec<_>| {
            for ((part, key), value) in &changes.writes {
                let tree: &sled::transaction::TransactionalTree = &trees[*part as usize];
                match value {
                    Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                    None => tree.remove(key.as_slice())?,
                };
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        match result {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(err)) => Err(err.into()),
            // Nothing above aborts.
            Err(TransactionError::Abort(())) => Err(IndexError::Storage(sled::Error::Unsupported(
                "abort".into(),
            ))),
        }
    }

    /// Writes a group key by key, on all cores: for an index that nobody uses before it is complete. (A batch is all or
    /// nothing, and for that sled lets one thread write at a time.)
    pub(super) fn write(&self, changes: &Changes<'_>) -> Result<(), IndexError> {
        let writes: Vec<_> = changes.writes.iter().collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = writes.len().div_ceil(cores.min(MOST_WRITERS)).max(1);
        std::thread::scope(|scope| {
            let write = |writes: &[Write<'_>]| {
                for ((part, key), value) in writes {
                    match value {
                        Some(value) => self.tree(*part).insert(key, value.as_slice())?,
                        None => self.tree(*part).remove(key)?,
                    };
                }
                Ok::<(), IndexError>(())
            };
            let writers: Vec<_> = writes
                .chunks(share)
                .map(|writes| scope.spawn(move || write(writes)))
                .collect();
            writers.into_iter().try_for_each(|writer| {
                let done = writer.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// The checksum as it was when the last changes were written.
    pub(super) fn kept_sum(&self) -> Result<Sum, IndexError> {
        let kept = self.get::<String>(Part::Meta, super::SUM)?;
        Ok(kept
            .and_then(|sum| Sum::from_str_radix(&sum, 16).ok())
            .unwrap_or(0))
    }

    /// The XOR of the hashes of everything but [`Part::Meta`]; what [`Changes::seal`] keeps up to date.
    pub(super) fn sum(&self) -> Result<Sum, IndexError> {
        let mut sum = 0;
        for part in Part::ALL.into_iter().filter(|part| *part != Part::Meta) {
            for item in self.tree(part) {
                let (key, value) = item?;
                sum ^= hash(part, &key, &value);
            }
        }
        Ok(sum)
    }

    /// To be called after the last write.
    pub(super) fn is_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Hands everything to the disk and waits for it. sled's own flush is `sync_file_range`, which promises nothing.
    pub(super) fn sync(&self, dir: &Path) -> Result<(), IndexError> {
        if let Some(db) = &self.db {
            db.flush()?;
        }
        sync_tree(dir).map_err(|source| IndexError::Io {
            path: dir.to_owned(),
            source,
        })
    }
}

/// A checksum of the whole content. sled 0.34 overlooks some kinds of damage and then simply lacks keys.
pub(super) type Sum = u128;

/// What one key and its value add to the [`Sum`].
pub(super) fn hash(part: Part, key: &[u8], value: &[u8]) -> Sum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[part as u8]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Sum::from_le_bytes(bytes)
}

/// Syncs every file and directory below `dir`.
fn sync_tree(dir: &Path) -> std::io::Result<()> {
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            sync_tree(&item.path())?;
        } else if let Err(err) = File::open(item.path()).and_then(|file| file.sync_all())
            // sled removes snapshots and blobs as it goes.
            && err.kind() != std::io::ErrorKind::NotFound
        {
            return Err(err);
        }
    }
    File::open(dir)?.sync_all()
}

/// Errors that moving the index aside would not help.
fn is_disk(err: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        err.kind(),
        PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
    ) || matches!(err.raw_os_error(), Some(code) if code == rustix::io::Errno::IO.raw_os_error()
            || code == rustix::io::Errno::MFILE.raw_os_error())
}
