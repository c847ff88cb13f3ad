//! A short way to the start of a service with a long ledger: what the ledger said up to one of its lines.
//!
//! `<state>/checkpoint`, mode 0600 (it names source paths). It is a cache and no truth: it carries its own digest, the
//! program's version and the hash of the ledger's line it stands for, and where any of them does not fit, the whole
//! ledger is read as if there were none. What lies before it is not checked at the start then; `radsort verify` and every
//! rebuild of the index read and check every line.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::consumed::Consumed;
use super::failpoints;
use super::ledger::Reached;
use super::record::Intent;
use super::replay::Replay;

/// A ledger of fewer records is read (and checked) as a whole at each start: that takes about a second.
pub static WORTH: LazyLock<u64> =
    LazyLock::new(|| failpoints::limit("RADSORT_CHECKPOINT_RECORDS", 50_000));

/// The first line of the file; the keys of [`Consumed`] and the digest of everything before it follow.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Another version may fold the same records into something else.
    version: String,
    reached: Reached,
    open: Vec<Intent>,
    marker: Option<String>,
}

const DIGEST: usize = blake3::OUT_LEN;

fn path(state: &Path) -> PathBuf {
    state.join("checkpoint")
}

/// Writes down what the ledger says at a line. A crash in between leaves the one before or a damaged one: neither harms.
///
/// # Errors
/// The file could not be written; whoever asks goes on without it.
pub fn write(state: &Path, reached: Reached, replay: &Replay) -> io::Result<()> {
    let head = Head {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        reached,
        open: replay.open.values().cloned().collect(),
        marker: replay.marker.clone(),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    replay
        .consumed
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .write_to(&mut bytes);
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());

    let new = path(state).with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(&new, path(state))
}

/// Whether an earlier run has written one down: its ledger was a long one.
pub fn exists(state: &Path) -> bool {
    path(state).exists()
}

/// What an earlier run has written down, if it is whole and by this version.
pub fn read(state: &Path) -> Option<(Reached, Replay)> {
    let bytes = fs::read(path(state)).ok()?;
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&content[..end]).ok()?;
    if head.version != env!("CARGO_PKG_VERSION") {
        return None;
    }
    let consumed = Consumed::read_from(&content[end + 1..])?;
    let open = head.open.into_iter();
    let replay = Replay {
        open: open.map(|intent| (intent.id.clone(), intent)).collect(),
        consumed: Arc::new(RwLock::new(consumed)),
        marker: head.marker,
    };
    Some((head.reached, replay))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ledger::Ledger;
    use super::super::record::Record;
    use super::super::replay;
    use super::*;

    fn library(marker: &str) -> Record {
        Record::Library {
            marker: marker.into(),
        }
    }

    /// A state directory with a ledger of two groups and a checkpoint between them.
    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path()).unwrap();
        ledger.append_group(&[library("before")]).unwrap();
        let replay = Replay {
            marker: Some("only the checkpoint says so".into()),
            ..Replay::default()
        };
        write(dir.path(), ledger.reached(), &replay).unwrap();
        let missing = Record::Missing {
            id: ledger.next_id(),
        };
        ledger.append_group(&[missing]).unwrap();
        dir
    }

    fn marker(state: &Path) -> String {
        let opened = replay::open(state).unwrap();
        assert_eq!(opened.report.records, 2);
        opened.replay.marker.unwrap()
    }

    #[test]
    fn reading_goes_on_behind_a_checkpoint() {
        let state = state();
        assert_eq!(marker(state.path()), "only the checkpoint says so");
        // And what is appended then fits.
        let mut opened = replay::open(state.path()).unwrap();
        opened.ledger.append_group(&[library("after")]).unwrap();
        drop(opened);
        let verified = super::super::ledger::verify(state.path()).unwrap();
        assert_eq!((verified.records, verified.torn), (3, None));
    }

    #[test]
    fn a_damaged_checkpoint_is_as_good_as_none() {
        for at in [0, 40, 300] {
            let state = state();
            let path = path(state.path());
            let mut bytes = fs::read(&path).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(marker(state.path()), "before", "byte {at}");
            fs::write(&path, &bytes[..at]).unwrap();
            assert_eq!(marker(state.path()), "before", "cut at {at}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_ledger_is_as_good_as_none() {
        let (one, other) = (state(), state());
        fs::copy(path(one.path()), path(other.path())).unwrap();
        assert_eq!(marker(other.path()), "before");
    }
}
