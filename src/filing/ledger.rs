//! The ledger: an append-only record of what was decided and done, in JSON lines that each carry the hash of the line
//! before. What [`Ledger::append_group`] returned for survives a power cut, whole groups only.
//!
//! `<state>/ledger/00000001.jsonl`, `00000002.jsonl`…, mode 0600. The state directory is locked (`flock`) while a
//! ledger is open for writing. Nothing is ever rewritten; the only thing ever cut off is a torn end after the last
//! commit, and that is kept beside as `.torn`.

mod chain;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use chain::Reader;
use chain::{Chain, Line, Step, hash_line, segment_path, segments};

use super::failpoints;
use super::record::{Position, Record, RecordId};

/// The version that is written. Older lines are read; newer ones are refused: fields and kinds of records may be added
/// without a new version, which stands for a change of meaning.
const VERSION: u32 = 1;

/// While less than this is free on the disk of the state directory, no file is taken: what is under way must find its
/// place in the ledger and the index, and an index that runs out of room stops the service.
pub const RESERVE: u64 = 32 << 20;

/// A segment that has reached this size is followed by a new one.
const SEGMENT_SIZE: u64 = 64 << 20;

/// What can go wrong with the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another radsort holds the state directory.
    #[error("another radsort is using the state directory {}: stop it first, or give this one its own [state] path", .0.display())]
    Locked(PathBuf),
    /// A read or write failed; for a write: nothing was recorded, and the ledger is as it was.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line is damaged although valid ones follow, or the chain of hashes is broken.
    #[error(
        "the ledger is damaged at byte {offset} of {}: {what}. Nothing was changed. Restore the ledger from a backup, or \
         move the whole ledger directory aside to start a new one (files stay where they are)", segment.display()
    )]
    Corrupt {
        /// The segment's file.
        segment: PathBuf,
        /// Where the bad line begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A later radsort has written here.
    #[error(
        "the ledger was written by a later radsort: {} has a line of version {version} at byte {offset}, and this program \
         reads up to version {VERSION}. Nothing was changed. Install that radsort again", segment.display()
    )]
    Newer {
        /// The segment's file.
        segment: PathBuf,
        /// Where the line begins.
        offset: u64,
        /// Its version.
        version: u32,
    },
    /// The line at which reading should go on is not there: another ledger, or one restored from a backup.
    #[error("{} has no such line at byte {offset}: the ledger is another one than before", segment.display())]
    Mismatch {
        /// The segment's file.
        segment: PathBuf,
        /// Where the line should begin.
        offset: u64,
    },
    /// What is on disk is no longer known (`fdatasync` failed, or a failed write could not be undone). Only opening the
    /// ledger anew tells what was recorded.
    #[error(
        "it is not known what of the ledger is on disk ({0}): stop, check the disk, start again"
    )]
    Poisoned(String),
}

impl LedgerError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// What opening a ledger found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Committed records.
    pub records: u64,
    /// Where the torn end of an interrupted write was moved to.
    pub torn: Option<PathBuf>,
    /// Whether nothing was ever recorded (a first start that was interrupted counts as none).
    pub new: bool,
}

/// How far a ledger goes, or went: enough to go on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The last line: a commit, or a segment's first.
    pub at: Position,
    /// The ledger's instance id.
    pub instance: String,
    /// The number that the next record id gets.
    pub next_number: u64,
    /// Committed records up to there.
    pub records: u64,
}

/// What [`verify`] counted in a ledger whose chain is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments.
    pub segments: u64,
    /// Committed records.
    pub records: u64,
    /// Groups.
    pub groups: u64,
    /// What follows the last commit, if anything: an interrupted write (or one under way).
    pub torn: Option<String>,
}

/// The ledger, open for appending.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    instance: String,
    next_number: u64,
    segment: u32,
    segment_size: u64,
    file: File,
    /// Where the next line begins: the segment's length after the last commit.
    end: u64,
    /// Where the last line begins.
    last: u64,
    /// Committed records.
    records: u64,
    prev: String,
    poisoned: Option<String>,
    /// How long the last group waited for the disk.
    last_sync: Duration,
    /// Held for its lock.
    lock: File,
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn ledger_dir(state: &Path) -> PathBuf {
    state.join("ledger")
}

impl Ledger {
    /// Opens (or begins) the ledger of a state directory, which must exist, and locks the directory.
    pub fn open(state: &Path) -> Result<(Self, OpenReport), LedgerError> {
        Self::open_with(state, None, |_, _, _| {})
    }

    /// Like [`Ledger::open`], and shows every committed record (position, time, record) behind `from` while at it
    /// (`None`: all of them). What lies before is not read.
    ///
    /// # Errors
    /// [`LedgerError::Mismatch`]: this ledger has never been at `from`.
    pub fn open_with(
        state: &Path,
        from: Option<&Reached>,
        mut visit: impl FnMut(&Position, i64, Record),
    ) -> Result<(Self, OpenReport), LedgerError> {
        let lock = lock(state)?;
        let dir = ledger_dir(state);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(LedgerError::io(&dir, error));
            }
            Err(_) => {}
            Ok(()) => sync_dir(state)?,
        }

        reach_disk(&dir)?;
        let mut chain = Chain::new(&dir, from.map(|from| &from.at))?;
        let mut report = OpenReport {
            records: from.map_or(0, |from| from.records),
            ..OpenReport::default()
        };
        let mut instance = from.map(|from| from.instance.clone());
        let mut next_number = from.map_or(1, |from| from.next_number);
        let (mut last, mut prev) = from.map_or((0, String::new()), |from| {
            (from.at.offset, from.at.hash.clone())
        });
        let (mut segment, mut end) = chain.place();
        let mut group = Vec::new();
        loop {
            match chain.step()? {
                Step::End { .. } => break,
                Step::Line {
                    at,
                    end: line_end,
                    line,
                } => {
                    let line = *line;
                    if let Some(record) = line.record {
                        group.push((at, line.t, record));
                        continue;
                    }
                    instance = line.ledger.or(instance);
                    (segment, end, last, prev) = (at.segment, line_end, at.offset, at.hash);
                    report.records += group.len() as u64;
                    for (at, time, record) in group.drain(..) {
                        if let (Some(id), Some(instance)) = (record_id(&record), &instance) {
                            next_number = next_number.max(number_of(id, instance) + 1);
                        }
                        visit(&at, time, record);
                    }
                }
            }
        }
        report.torn = move_torn_end_aside(&dir, segment, end)?;
        report.new = report.records == 0;
        let instance = match instance {
            Some(instance) => instance,
            None => random_hex::<8>(&dir)?,
        };
        let mut ledger = Self {
            file: lock
                .try_clone()
                .map_err(|error| LedgerError::io(state, error))?,
            dir,
            instance,
            next_number,
            segment,
            segment_size: failpoints::limit("RADSORT_SEGMENT_BYTES", SEGMENT_SIZE),
            end,
            last,
            records: report.records,
            prev,
            poisoned: None,
            last_sync: Duration::ZERO,
            lock,
        };
        if segment == 0 {
            ledger.begin_segment()?;
        } else {
            let path = segment_path(&ledger.dir, segment);
            ledger.file = OpenOptions::new()
                .append(true)
                .open(&path)
                .map_err(|error| LedgerError::io(&path, error))?;
        }
        Ok((ledger, report))
    }

    /// The committed records behind the line at `from` (`None`: all of them). Needs no lock.
    pub fn read(state: &Path, from: Option<&Position>) -> Result<Reader, LedgerError> {
        Reader::new(&ledger_dir(state), from)
    }

    /// The ledger's random instance id, 16 hexadecimal digits.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// How far it goes now.
    pub fn reached(&self) -> Reached {
        Reached {
            at: Position {
                segment: self.segment,
                offset: self.last,
                hash: self.prev.clone(),
            },
            instance: self.instance.clone(),
            next_number: self.next_number,
            records: self.records,
        }
    }

    /// The number that the next record id gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// A new record id. Ids that are never recorded leave a gap, which means nothing.
    pub fn next_id(&mut self) -> RecordId {
        let id = RecordId(format!("{}-{}", self.instance, self.next_number));
        self.next_number += 1;
        id
    }

    /// Starts a new segment when the current one has reached this size (64 MiB unless set).
    pub fn set_segment_size(&mut self, bytes: u64) {
        self.segment_size = bytes;
    }

    /// Appends records as one group, and returns each one's position and time once they are on disk.
    ///
    /// After [`LedgerError::Io`] nothing was recorded and it may be tried again; after [`LedgerError::Poisoned`] it is
    /// not known, and every further append fails the same way.
    pub fn append_group(
        &mut self,
        records: &[Record],
    ) -> Result<Vec<(Position, i64)>, LedgerError> {
        self.check()?;
        if self.end >= self.segment_size {
            self.begin_segment()?;
        }
        let time = now_us();
        let (mut bytes, mut prev) = (Vec::new(), self.prev.clone());
        let mut positions = Vec::with_capacity(records.len());
        for record in records {
            let offset = self.end + bytes.len() as u64;
            let line = Line {
                v: VERSION,
                t: time,
                prev,
                ledger: None,
                record: Some(record.clone()),
                commit: None,
            };
            prev = self.write_line(&mut bytes, &line)?;
            positions.push((
                Position {
                    segment: self.segment,
                    offset,
                    hash: prev.clone(),
                },
                time,
            ));
        }
        let commit = Some(records.len() as u64);
        let last = self.end + bytes.len() as u64;
        prev = self.write_line(
            &mut bytes,
            &Line {
                v: VERSION,
                t: time,
                prev,
                ledger: None,
                record: None,
                commit,
            },
        )?;
        self.write_and_sync(&bytes)?;
        // Only what is in the ledger that the next start reads is on record.
        self.check()?;
        self.prev = prev;
        self.last = last;
        self.records += records.len() as u64;
        Ok(positions)
    }

    /// Makes sure that what is open is still what the next start would read, and that nobody else has written to it.
    ///
    /// # Errors
    /// [`LedgerError::Poisoned`]: it was removed, replaced or changed under the running service.
    pub fn check(&mut self) -> Result<(), LedgerError> {
        if let Some(why) = &self.poisoned {
            return Err(LedgerError::Poisoned(why.clone()));
        }
        let path = segment_path(&self.dir, self.segment);
        let ours = || -> io::Result<bool> {
            let (named, open) = (std::fs::symlink_metadata(&path)?, self.file.metadata()?);
            Ok((named.dev(), named.ino()) == (open.dev(), open.ino()) && open.len() == self.end)
        };
        let why = match ours() {
            Ok(true) => return Ok(()),
            Ok(false) => "it was replaced or changed while radsort was running".to_owned(),
            Err(error) => format!("it was removed while radsort was running ({error})"),
        };
        Err(self.poison(format!("{}: {why}", path.display())))
    }

    /// How many bytes are free on its disk; `None` where that cannot be told.
    pub fn room(&self) -> Option<u64> {
        fail::fail_point!("state-full", |_| Some(0));
        let room = rustix::fs::fstatvfs(&self.lock).ok()?;
        Some(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn write_line(&self, bytes: &mut Vec<u8>, line: &Line) -> Result<String, LedgerError> {
        let text =
            serde_json::to_vec(line).map_err(|error| LedgerError::io(&self.dir, error.into()))?;
        bytes.extend_from_slice(&text);
        bytes.push(b'\n');
        Ok(hash_line(&text))
    }

    /// A failed write is cut back to the last good length; a failed sync is never tried again (the kernel may have
    /// dropped the pages and would call the next one a success).
    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let path = segment_path(&self.dir, self.segment);
        let written = fail_write().and_then(|()| self.file.write_all(bytes));
        if let Err(error) = written {
            if let Err(undo) = self.file.set_len(self.end) {
                return Err(self.poison(format!("{}: {error}, then {undo}", path.display())));
            }
            return Err(LedgerError::Io { path, error });
        }
        let waiting = Instant::now();
        let synced = fail_sync().and_then(|()| self.file.sync_data());
        self.last_sync = waiting.elapsed();
        if let Err(error) = synced {
            return Err(self.poison(format!("{}: {error}", path.display())));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// How long the last group waited for the disk.
    pub fn last_sync(&self) -> Duration {
        self.last_sync
    }

    fn poison(&mut self, why: String) -> LedgerError {
        self.poisoned = Some(why.clone());
        LedgerError::Poisoned(why)
    }

    fn begin_segment(&mut self) -> Result<(), LedgerError> {
        let path = segment_path(&self.dir, self.segment + 1);
        let failed = |error| LedgerError::io(&path, error);
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let ledger = Some(self.instance.clone());
        let mut bytes = Vec::new();
        let line = Line {
            v: VERSION,
            t: now_us(),
            prev: self.prev.clone(),
            ledger,
            record: None,
            commit: None,
        };
        let prev = self.write_line(&mut bytes, &line)?;
        let synced = (&file).write_all(&bytes).and_then(|()| file.sync_all());
        if let Err(error) = synced.map_err(failed).and_then(|()| sync_dir(&self.dir)) {
            // Nothing refers to it yet; if it cannot be removed either, opening anew finds out.
            return match std::fs::remove_file(&path) {
                Ok(()) => Err(error),
                Err(undo) => Err(self.poison(format!("{error}, then {undo}"))),
            };
        }
        (self.file, self.segment, self.end, self.prev) =
            (file, self.segment + 1, bytes.len() as u64, prev);
        self.last = 0;
        Ok(())
    }
}

/// Walks over the whole ledger of a state directory and checks its chain.
pub fn verify(state: &Path) -> Result<VerifyReport, LedgerError> {
    let dir = ledger_dir(state);
    let mut report = VerifyReport {
        segments: segments(&dir)?.len() as u64,
        ..VerifyReport::default()
    };
    let mut chain = Chain::new(&dir, None)?;
    let mut open = 0;
    loop {
        match chain.step()? {
            Step::End { torn } => {
                report.torn =
                    torn.or((open > 0).then(|| format!("{open} records without a commit")));
                return Ok(report);
            }
            Step::Line { line, .. } if line.commit.is_some() => {
                report.groups += 1;
                report.records += std::mem::take(&mut open);
            }
            Step::Line { line, .. } => open += u64::from(line.record.is_some()),
        }
    }
}

fn lock(state: &Path) -> Result<File, LedgerError> {
    let directory = File::open(state).map_err(|error| LedgerError::io(state, error))?;
    match rustix::fs::flock(
        &directory,
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    ) {
        Ok(()) => Ok(directory),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LedgerError::Locked(state.to_owned())),
        Err(error) => Err(LedgerError::io(state, error.into())),
    }
}

fn sync_dir(dir: &Path) -> Result<(), LedgerError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|error| LedgerError::io(dir, error))
}

/// Makes sure that what is going to be read is on the disk. A run that was killed may not have come to sync its last
/// lines; one whose sync failed may have left lines in memory that the disk does not have.
fn reach_disk(dir: &Path) -> Result<(), LedgerError> {
    let Some(last) = segments(dir)?.pop() else {
        return Ok(());
    };
    let path = segment_path(dir, last);
    let file = File::open(&path).map_err(|error| LedgerError::io(&path, error))?;
    file.sync_all()
        .map_err(|error| LedgerError::io(&path, error))?;
    // Only an advice: where it is not followed, memory is as good as it was.
    let _ = rustix::fs::fadvise(&file, 0, None::<NonZeroU64>, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// Copies what follows `end` in the last segment to a `.torn` file, then cuts it off; a segment of which nothing is
/// left goes altogether.
fn move_torn_end_aside(dir: &Path, segment: u32, end: u64) -> Result<Option<PathBuf>, LedgerError> {
    let Some(last) = segments(dir)?.pop() else {
        return Ok(None);
    };
    let end = if last == segment { end } else { 0 };
    let path = segment_path(dir, last);
    let failed = |error| LedgerError::io(&path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length == end && end > 0 {
        return Ok(None);
    }
    let mut kept = None;
    if length > end {
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(end))
            .and_then(|_| file.read_to_end(&mut tail))
            .map_err(failed)?;
        let aside = dir.join(format!("{last:08}.{end}.{}.torn", now_us()));
        let mut options = OpenOptions::new();
        let torn = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside);
        torn.and_then(|mut torn| torn.write_all(&tail).and_then(|()| torn.sync_all()))
            .map_err(|error| LedgerError::io(&aside, error))?;
        sync_dir(dir)?;
        kept = Some(aside);
    }
    if end == 0 {
        std::fs::remove_file(&path).map_err(failed)?;
        sync_dir(dir)?;
    } else {
        file.set_len(end)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
    }
    Ok(kept)
}

/// The id that a record brings into the world.
fn record_id(record: &Record) -> Option<&RecordId> {
    match record {
        Record::Intent(intent) | Record::Observed(intent) => Some(&intent.id),
        Record::Adopted { id, .. } => Some(id),
        _ => None,
    }
}

fn number_of(id: &RecordId, instance: &str) -> u64 {
    let number =
        id.0.strip_prefix(instance)
            .and_then(|rest| rest.strip_prefix('-'));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Random bytes in hexadecimal; `path` is for the message.
pub(super) fn random_hex<const N: usize>(path: &Path) -> Result<String, LedgerError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| LedgerError::io(path, io::Error::other(error.to_string())))?;
    Ok(hex(&bytes))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Failpoint: the disk is full.
#[allow(clippy::unnecessary_wraps)]
fn fail_write() -> io::Result<()> {
    fail::fail_point!("ledger-write", |_| Err(io::ErrorKind::StorageFull.into()));
    Ok(())
}

/// Failpoint: the disk fails to sync.
#[allow(clippy::unnecessary_wraps)]
fn fail_sync() -> io::Result<()> {
    fail::fail_point!("ledger-sync", |_| Err(io::Error::from_raw_os_error(5)));
    Ok(())
}

#[cfg(test)]
mod tests;
