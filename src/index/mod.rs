//! The index: answers questions about filed files. A cache, folded from the ledger, that can be deleted at any time.
//!
//! It promises that what it says is what the ledger says up to [`Index::cursor`]: a group of records goes in whole or
//! not at all, together with the cursor, and whatever makes that doubtful at start (damage, a power cut, a ledger
//! that has no such line) means [`IndexError::NeedsRebuild`] instead of an answer. Every function here blocks.

pub mod entry;
mod fold;
mod generation;
mod keys;
pub mod query;
pub mod start;
mod store;
mod untouched;
pub mod verify;
pub mod whose;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath, Uid};
use crate::filing::catalogue::{Catalogue, CatalogueError, Known};
use crate::filing::ledger::Ledger;
use crate::filing::record::{Digest, Intent, Position, Record, RecordId};
use crate::telemetry::Event;

pub use entry::{Entry, State, Story};
pub use query::Query;

use entry::Told;
use fold::Changes;
use keys::Kind;
use store::{OpenFault, Part, Trees};

/// Raised whenever the same ledger would give another index.
const VERSION: u32 = 5;

const CURSOR: &[u8] = b"cursor";
const SESSION: &[u8] = b"session";
const SUM: &[u8] = b"sum";
const VERSION_KEY: &[u8] = b"version";

/// How many records a rebuild writes at once.
const REBUILD_BATCH: usize = 500;

/// What can go wrong with the index, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has it.
    #[error("the index {} is in use by another process: is a radsort daemon running on this state directory?", .0.display())]
    Locked(PathBuf),
    /// It cannot be trusted.
    #[error("the index {} must be rebuilt from the ledger ({why}): the daemon does so when it starts; \
        or run `radsort reindex`", .dir.display())]
    NeedsRebuild {
        /// Where it is (or was).
        dir: PathBuf,
        /// Why.
        why: String,
        /// Where what could not be read has been moved to.
        aside: Option<PathBuf>,
    },
    /// The ledger could not be read while rebuilding.
    #[error("the index cannot be rebuilt, because the ledger cannot be read: {0}")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: std::io::Error,
    },
    /// sled, while running.
    #[error("the index's storage failed: {0}; if it goes on, run `radsort reindex`")]
    Storage(#[from] sled::Error),
    /// A value that this version cannot read.
    #[error(
        "the index holds a value in {part:?} that cannot be read ({source}); run `radsort reindex`"
    )]
    Value {
        /// In which tree.
        part: Part,
        /// Why.
        source: serde_json::Error,
    },
}

impl IndexError {
    pub(crate) fn value(part: Part, source: serde_json::Error) -> Self {
        Self::Value { part, source }
    }

    pub(crate) fn ledger(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Ledger(source.into())
    }

    /// Whether building the index again is the remedy.
    pub fn asks_for_rebuild(&self) -> bool {
        match self {
            Self::NeedsRebuild { .. } | Self::Value { .. } => true,
            Self::Storage(err) => !matches!(err, sled::Error::Io(_)),
            Self::Locked(_) | Self::Ledger(_) | Self::Io { .. } => false,
        }
    }

    fn io(path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

type Result<T> = std::result::Result<T, IndexError>;

/// Who has the index open, to tell an unclean stop at the next start.
#[derive(Serialize, Deserialize)]
struct Session {
    boot_id: String,
    clean: bool,
}

/// The open index. One process at a time.
pub struct Index {
    dir: PathBuf,
    /// Replaced as a whole by [`Index::reindex`]; readers keep what they have.
    trees: RwLock<Arc<Trees>>,
    /// One writer at a time.
    writing: Mutex<()>,
    /// Locked for as long as this lives. Beside the directory, because that one may be moved aside.
    _lock: File,
}

impl Index {
    /// Opens the index in `dir`, or makes an empty one, whose cursor is `None`.
    ///
    /// What cannot be opened is moved aside as `<dir>.broken-<time>` first, so that the next call starts afresh.
    pub fn open(dir: &Path) -> Result<Self> {
        let lock = lock(dir)?;
        let boot_id = boot_id()?;
        create(dir)?;
        let opened = match generation::current(dir)? {
            Ok(current) => {
                generation::remove_others(dir, &current)?;
                create(&current)?;
                open_trusted(&current, &boot_id)?
            }
            Err(why) => Err(why),
        };
        match opened {
            Ok(trees) => Self::begin(dir, trees, lock, boot_id),
            Err(why) => {
                let aside = Some(move_aside(dir)?);
                Err(IndexError::NeedsRebuild {
                    dir: dir.to_owned(),
                    why,
                    aside,
                })
            }
        }
    }

    /// Builds the index in `dir` from nothing but the ledger, aside, and puts it in the place of what is there.
    ///
    /// `progress` is told how many records have been folded.
    pub fn rebuild<E>(
        dir: &Path,
        ledger: impl IntoIterator<Item = generation::Line<E>, IntoIter: Send>,
        progress: impl FnMut(u64),
    ) -> Result<Self>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let lock = lock(dir)?;
        create(dir)?;
        let next = generation::next(dir)?;
        let trees = generation::build(&next, ledger, progress)?;
        generation::make_current(dir, &next)?;
        generation::remove_others(dir, &next)?;
        Self::begin(dir, trees, lock, boot_id()?)
    }

    /// The same for an index that is open: readers see the old one until the new one is complete, writers wait.
    pub fn reindex<E>(
        &self,
        ledger: impl IntoIterator<Item = generation::Line<E>, IntoIter: Send>,
        progress: impl FnMut(u64),
    ) -> Result<()>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let _writing = self.write_lock();
        let next = generation::next(&self.dir)?;
        let trees = generation::build(&next, ledger, progress)?;
        generation::make_current(&self.dir, &next)?;
        // The old generation stays for its readers; the next start removes it.
        *self.trees.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trees);
        Ok(())
    }

    /// Does something, and once more with an index built anew if the database fails: after a disk was full for a moment
    /// sled fails for good, also when there is room again.
    fn mending<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        let error = match work() {
            Err(error @ IndexError::Storage(_)) => error,
            result => return result,
        };
        let Some(state) = self.dir.parent() else {
            return Err(error);
        };
        tracing::warn!(event = %Event::IndexRebuilt, "the index failed ({error}), and is built anew from the ledger");
        let ledger = Ledger::read(state, None).map_err(IndexError::ledger)?;
        self.reindex(ledger, |_| {})?;
        work()
    }

    fn begin(dir: &Path, trees: Trees, lock: File, boot_id: String) -> Result<Self> {
        begin_session(&trees, boot_id)?;
        Ok(Self {
            dir: dir.to_owned(),
            trees: RwLock::new(Arc::new(trees)),
            writing: Mutex::new(()),
            _lock: lock,
        })
    }

    /// How far the ledger has been folded; `None` when nothing has.
    pub fn cursor(&self) -> Result<Option<Position>> {
        self.trees().get(Part::Meta, CURSOR)
    }

    /// Folds a group of records, in the ledger's order: all of it or nothing. Records at or before the cursor are
    /// skipped, so that a group may be given again.
    pub fn apply(&self, group: &[(Position, i64, Record)]) -> Result<()> {
        let _writing = self.write_lock();
        let trees = self.trees();
        let cursor: Option<Position> = trees.get(Part::Meta, CURSOR)?;
        let new = |position: &Position| {
            cursor
                .as_ref()
                .is_none_or(|at| (position.segment, position.offset) > (at.segment, at.offset))
        };
        let mut changes = Changes::new(&trees);
        for (position, time_us, record) in group.iter().filter(|(position, ..)| new(position)) {
            changes.fold(*time_us, record.clone())?;
            changes.reached(position)?;
        }
        if changes.writes.is_empty() {
            Ok(())
        } else {
            changes.seal()?;
            trees.commit(&changes)
        }
    }

    /// Ends the session in good order: everything is on the disk when this returns.
    pub fn close(&self) -> Result<()> {
        let _writing = self.write_lock();
        let trees = self.trees();
        trees.sync(&self.dir)?;
        // Only after everything else is safe may the index say that it is.
        let session = Session {
            boot_id: boot_id()?,
            clean: true,
        };
        write_meta(&trees, SESSION, &session)?;
        trees.sync(&self.dir)?;
        trees.is_closed();
        Ok(())
    }

    /// The live filed copy of an instance (filed, in review or in `_other`; not conflicts, not duplicates).
    pub fn find_uid(&self, uid: &Uid) -> Result<Option<Known>> {
        let found = self.newest(
            Kind::Uid,
            uid.as_str().as_bytes(),
            Entry::stands_for_its_uid,
        )?;
        Ok(found.map(|entry| Known {
            id: entry.id,
            placement: entry.at,
            digest: entry.digest,
        }))
    }

    /// Every entry of an instance, the newest first.
    pub fn with_uid(&self, uid: &Uid) -> Result<Vec<Entry>> {
        self.list(Kind::Uid, uid.as_str().as_bytes())
    }

    /// One entry.
    pub fn get(&self, id: &RecordId) -> Result<Option<Entry>> {
        self.trees().get(Part::Entries, id.0.as_bytes())
    }

    /// Every entry, whatever its state, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = Result<Entry>> + use<> {
        let trees = self.trees();
        trees.tree(Part::Entries).iter().map(|item| {
            let (_, value) = item?;
            entry::decode(&value).map_err(|err| IndexError::value(Part::Entries, err))
        })
    }

    /// One entry with its history.
    pub fn story(&self, id: &RecordId) -> Result<Option<Story>> {
        self.get(id)?.map(|entry| self.story_of(entry)).transpose()
    }

    /// The same of an entry that has been found already.
    pub fn story_of(&self, entry: Entry) -> Result<Story> {
        self.trees().story_of(entry)
    }

    /// What lies at a place (or lay there and is missing), the newest first.
    pub fn at_place(&self, at: &Placement) -> Result<Vec<Entry>> {
        self.list(Kind::Place, &keys::place(at))
    }

    /// The same of what should be there as far as the ledger knows; more than one when people have moved files meanwhile.
    pub fn live_at(&self, at: &Placement) -> Result<Vec<Entry>> {
        let mut there = self.at_place(at)?;
        there.retain(|entry| entry.state == State::Live);
        Ok(there)
    }

    /// Whether what lies at a place is some record's file.
    pub fn is_on_record(&self, at: &Placement) -> Result<bool> {
        Ok(!self.live_at(at)?.is_empty())
    }

    /// What came from a place in a drop directory, the newest first.
    pub fn from_source(&self, watch: &str, from: &RelPath) -> Result<Vec<Entry>> {
        self.list(Kind::Source, &keys::source(watch, from))
    }

    /// Files in the library and beside it that have (or had, and are missing) these bytes, the newest first.
    pub fn with_digest(&self, digest: &Digest) -> Result<Vec<Entry>> {
        self.list(Kind::Digest, digest.0.as_bytes())
    }

    /// Live entries of a study, the newest first.
    pub fn study(&self, study: &Uid) -> Result<Vec<Entry>> {
        self.list(Kind::Study, study.as_str().as_bytes())
    }

    /// Intents that are not closed, in no particular order: what recovery has to look at.
    pub fn open_intents(&self) -> Result<Vec<Intent>> {
        let trees = self.trees();
        let mut open = Vec::new();
        for item in trees.tree(Part::Open) {
            let told: Told =
                entry::decode(&item?.1).map_err(|err| IndexError::value(Part::Open, err))?;
            if let Record::Intent(intent) = told.record {
                open.push(*intent);
            }
        }
        Ok(open)
    }

    /// The maintained counters whose name begins with `prefix`: `fate/`, `category/`, `reason/`, `model/`,
    /// `watch/<name>/` (by fate), `observed/<name>/` (those of them that were only decided on). Live entries only.
    pub fn counters(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let trees = self.trees();
        let mut counters = BTreeMap::new();
        for item in trees.tree(Part::Counters).scan_prefix(prefix) {
            let (name, count) = item?;
            let count =
                entry::decode(&count).map_err(|err| IndexError::value(Part::Counters, err))?;
            counters.insert(
                String::from_utf8_lossy(&name[prefix.len()..]).into_owned(),
                count,
            );
        }
        Ok(counters)
    }

    /// The entries that a person means by `what`: a record id, a SOP Instance UID, or an absolute path in one of
    /// `roots` (of the file as it lies now, or of where it lay in a drop directory). The newest first.
    pub fn resolve(&self, roots: &[(RootId, PathBuf)], what: &str) -> Result<Vec<Entry>> {
        // A record id has a hyphen, a UID has none: they are never taken for each other.
        if let Ok(uid) = Uid::parse(what) {
            return self.with_uid(&uid);
        }
        if let Some(entry) = self.get(&RecordId(what.to_owned()))? {
            return Ok(vec![entry]);
        }
        let mut found = Vec::new();
        for (root, path) in roots {
            let Ok(below) = Path::new(what).strip_prefix(path) else {
                continue;
            };
            let Some(below) = below.to_str() else {
                continue;
            };
            // As it is, and as radsort prints paths that are not UTF-8 (`%XX`).
            let readings = [RelPath::new(below), RelPath::try_from(below.to_owned())];
            for path in readings.into_iter().flatten() {
                if let RootId::Watch(name) = root {
                    found.extend(self.from_source(name, &path)?);
                }
                found.extend(self.at_place(&Placement {
                    root: root.clone(),
                    path,
                })?);
            }
        }
        found.sort_by(|a, b| (b.filed_us, &b.id).cmp(&(a.filed_us, &a.id)));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    fn list(&self, kind: Kind, value: &[u8]) -> Result<Vec<Entry>> {
        self.entries(kind, value).collect()
    }

    fn newest(
        &self,
        kind: Kind,
        value: &[u8],
        good: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Entry>> {
        for entry in self.entries(kind, value) {
            let entry = entry?;
            if good(&entry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The entries under one key, the newest first. One that changes its key meanwhile may be passed over.
    fn entries(&self, kind: Kind, value: &[u8]) -> impl Iterator<Item = Result<Entry>> + use<> {
        let trees = self.trees();
        let keys = trees
            .tree(Part::Keys)
            .scan_prefix(keys::prefix(kind, value))
            .rev();
        keys.filter_map(move |item| match item {
            Ok((_, id)) => trees.get(Part::Entries, &id).transpose(),
            Err(err) => Some(Err(err.into())),
        })
    }

    fn trees(&self) -> Arc<Trees> {
        Arc::clone(&self.trees.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_lock(&self) -> MutexGuard<'_, ()> {
        // What a panic left behind is on the disk whole or not at all.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalogue for Index {
    fn apply(&self, group: &[(Position, i64, Record)]) -> std::result::Result<(), CatalogueError> {
        // The group is in the ledger: an index that was built anew has it.
        Ok(self.mending(|| Index::apply(self, group))?)
    }

    fn find_uid(&self, uid: &Uid) -> std::result::Result<Option<Known>, CatalogueError> {
        Ok(self.mending(|| Index::find_uid(self, uid))?)
    }

    fn is_on_record(&self, at: &Placement) -> std::result::Result<bool, CatalogueError> {
        Ok(self.mending(|| Index::is_on_record(self, at))?)
    }
}

/// Takes the lock beside the directory: `<dir>.lock`.
fn lock(dir: &Path) -> Result<File> {
    let path = beside(dir, "lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|err| IndexError::io(&path, err))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(IndexError::Locked(dir.to_owned())),
        Err(err) => Err(IndexError::io(&path, err)),
    }
}

fn create(dir: &Path) -> Result<()> {
    // Source paths can hold names: nobody else may look in.
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(IndexError::io(dir, err))
        }
        _ => Ok(()),
    }
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

/// Which boot of the machine this is.
fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(|err| IndexError::io(path, err))?;
    Ok(text.trim().to_owned())
}

/// Whether an index that opened may be believed; if not, why.
fn trustworthy(trees: &Trees, boot_id: &str) -> std::result::Result<(), String> {
    let fault = |err: IndexError| err.to_string();
    let version = trees.get::<u32>(Part::Meta, VERSION_KEY).map_err(fault)?;
    let session = trees.get::<Session>(Part::Meta, SESSION).map_err(fault)?;
    trees.get::<Position>(Part::Meta, CURSOR).map_err(fault)?;
    let closed = trees.untouched && session.as_ref().is_some_and(|session| session.clean);
    if !closed && trees.kept_sum().map_err(fault)? != trees.sum().map_err(fault)? {
        return Err("its checksum is wrong: it has been damaged".to_owned());
    }
    match (version, session) {
        (None, None) if trees.tree(Part::Entries).is_empty() => Ok(()),
        (Some(VERSION), Some(session)) if session.clean || session.boot_id == boot_id => Ok(()),
        (Some(VERSION), Some(_)) => {
            Err("the machine went down while the index was in use".to_owned())
        }
        (Some(VERSION), None) | (None, _) => Err("it was never completed".to_owned()),
        (Some(other), _) => Err(format!(
            "it has version {other}, this program writes version {VERSION}"
        )),
    }
}

fn begin_session(trees: &Trees, boot_id: String) -> Result<()> {
    write_meta(trees, VERSION_KEY, &VERSION)?;
    write_meta(
        trees,
        SESSION,
        &Session {
            boot_id,
            clean: false,
        },
    )
}

fn write_meta<T: Serialize>(trees: &Trees, key: &[u8], value: &T) -> Result<()> {
    let value = entry::encode(value).map_err(|err| IndexError::value(Part::Meta, err))?;
    trees.tree(Part::Meta).insert(key, value)?;
    Ok(())
}

/// Renames an unusable index out of the way, for whoever wants to look at it; an older such one goes.
fn move_aside(dir: &Path) -> Result<PathBuf> {
    for old in broken_ones(dir) {
        remove_all(&old).map_err(|err| IndexError::io(&old, err))?;
    }
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let aside = beside(dir, &format!("broken-{time}"));
    std::fs::rename(dir, &aside).map_err(|err| IndexError::io(dir, err))?;
    Ok(aside)
}

fn broken_ones(dir: &Path) -> Vec<PathBuf> {
    let Some(parent) = dir.parent() else {
        return Vec::new();
    };
    let start = beside(dir, "broken-");
    let is_broken = |path: &PathBuf| {
        path.as_os_str()
            .as_encoded_bytes()
            .starts_with(start.as_os_str().as_encoded_bytes())
    };
    let items = std::fs::read_dir(parent).into_iter().flatten();
    items
        .filter_map(|item| Some(item.ok()?.path()))
        .filter(is_broken)
        .collect()
}

/// Opens a generation and says why it cannot be believed, if it cannot.
fn open_trusted(dir: &Path, boot_id: &str) -> Result<std::result::Result<Trees, String>> {
    match Trees::open(dir) {
        // sled can also panic when it first reads what is damaged.
        Ok(trees) => Ok(
            catch_unwind(AssertUnwindSafe(|| trustworthy(&trees, boot_id)))
                .unwrap_or_else(|_| Err("sled panicked while reading it".to_owned()))
                .map(|()| trees),
        ),
        Err(OpenFault::Unusable(why)) => Ok(Err(why)),
        Err(OpenFault::Locked) => Err(IndexError::Locked(dir.to_owned())),
        Err(OpenFault::Io(source)) => Err(IndexError::io(dir, source)),
    }
}

/// Removes a directory, or what else lies in its place.
fn remove_all(path: &Path) -> std::io::Result<()> {
    if path.is_file() {
        std::fs::remove_file(path)
    } else {
        std::fs::remove_dir_all(path)
    }
}

/// Removes a directory and the lock beside it, if they are there.
fn remove(dir: &Path) -> Result<()> {
    let lock = beside(dir, "lock");
    for (path, removed) in [(dir, remove_all(dir)), (&lock, std::fs::remove_file(&lock))] {
        match removed {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(IndexError::io(path, err));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
