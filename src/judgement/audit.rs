//! Audits: filed files drawn at random for a person to judge. Without them people only ever correct what went visibly
//! wrong, and no error rate can be known.
//!
//! Lists lie in `<state>/audits/`, one JSON file each, mode 0600. A judgement on a file of any list has origin `audit`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Desk;
use crate::control::protocol::AuditList;
use crate::filing::record::{Fate, RecordId};
use crate::index::entry::Entry;
use crate::index::query::Query;
use crate::index::{Index, IndexError};

/// The most files of one list: more than anybody goes through.
pub const MOST: u64 = 10_000;

impl Desk {
    /// Draws files and keeps the list.
    pub fn sample(&self, count: u64, seed: u64) -> anyhow::Result<(Vec<Entry>, AuditList)> {
        let (entries, filed) = draw(&self.index, count, seed)?;
        let now = jiff::Timestamp::now();
        let list = AuditList {
            id: now.strftime("%Y%m%dT%H%M%SZ").to_string(),
            drawn_us: now.as_microsecond(),
            seed,
            filed,
            files: entries.iter().map(|entry| entry.id.clone()).collect(),
        };
        let list = keep(&self.state, list).context("the audit list cannot be kept")?;
        Ok((entries, list))
    }
}

/// Draws `count` files uniformly from those that radsort has filed and that are there: the ones whose keyed hash of the
/// record's id is smallest, so that the same seed draws the same files whatever their order.
pub fn draw(index: &Index, count: u64, seed: u64) -> Result<(Vec<Entry>, u64), IndexError> {
    let count = usize::try_from(count.min(MOST)).unwrap_or(usize::MAX);
    let mut drawn: Vec<([u8; 32], Entry)> = Vec::new();
    let mut filed = 0;
    let query = Query {
        fate: Some(Fate::Filed),
        ..Query::default()
    };
    for entry in index.query(&query) {
        let entry = entry?;
        // What people have put there says nothing about how well the model does.
        if !entry.placed || entry.watch.is_none() {
            continue;
        }
        filed += 1;
        drawn.push((rank(seed, &entry.id), entry));
        if drawn.len() >= 2 * count.max(500) {
            keep_smallest(&mut drawn, count);
        }
    }
    keep_smallest(&mut drawn, count);
    Ok((drawn.into_iter().map(|(_, entry)| entry).collect(), filed))
}

fn keep_smallest(drawn: &mut Vec<([u8; 32], Entry)>, count: usize) {
    drawn.sort_by_key(|(rank, _)| *rank);
    drawn.truncate(count);
}

fn rank(seed: u64, id: &RecordId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("radsort audit sample v1");
    hasher
        .update(&seed.to_le_bytes())
        .update(id.0.as_bytes())
        .finalize()
        .into()
}

fn directory(state: &Path) -> PathBuf {
    state.join("audits")
}

/// Keeps a list under a name that is free, which is its id from then on.
pub fn keep(state: &Path, mut list: AuditList) -> io::Result<AuditList> {
    let dir = directory(state);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)?;
    let base = list.id.clone();
    for n in 2.. {
        let part = dir.join(format!(".{}.part", list.id));
        let path = dir.join(format!("{}.json", list.id));
        if !path.try_exists()? {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&serde_json::to_vec(&list)?)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            fs::File::open(&dir)?.sync_all()?;
            break;
        }
        list.id = format!("{base}-{n}");
    }
    Ok(list)
}

/// Every file that is on any list.
pub fn on_lists(state: &Path) -> io::Result<BTreeSet<RecordId>> {
    let lists = lists(state)?.into_iter();
    Ok(lists.flat_map(|list| list.files).collect())
}

/// All lists, the oldest first.
pub fn lists(state: &Path) -> io::Result<Vec<AuditList>> {
    let mut lists = Vec::<AuditList>::new();
    let entries = match fs::read_dir(directory(state)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lists),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            lists.push(serde_json::from_slice(&fs::read(&path)?)?);
        }
    }
    lists.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(lists)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(files: &[&str]) -> AuditList {
        AuditList {
            id: "20261123T100000Z".into(),
            drawn_us: 1,
            seed: 7,
            filed: 9,
            files: files.iter().map(|id| RecordId((*id).to_owned())).collect(),
        }
    }

    #[test]
    fn lists_are_kept_apart_and_read_together() {
        let dir = tempfile::tempdir().unwrap();
        assert!(on_lists(dir.path()).unwrap().is_empty());
        let first = keep(dir.path(), list(&["a-1", "a-2"])).unwrap();
        let second = keep(dir.path(), list(&["a-2", "a-3"])).unwrap();
        assert_eq!(first.id, "20261123T100000Z");
        assert_eq!(second.id, "20261123T100000Z-2");
        let ids: Vec<String> = on_lists(dir.path())
            .unwrap()
            .into_iter()
            .map(|id| id.0)
            .collect();
        assert_eq!(ids, ["a-1", "a-2", "a-3"]);
    }

    #[test]
    fn every_file_is_as_likely_to_be_drawn() {
        let mut counts = [0u32; 20];
        for seed in 0..2000 {
            let ids: Vec<RecordId> = (0..20).map(|n| RecordId(format!("x-{n}"))).collect();
            let first = (0..20).min_by_key(|n| rank(seed, &ids[*n])).unwrap();
            counts[first] += 1;
        }
        // 100 expected each; the standard deviation is about 10.
        assert!(
            counts.iter().all(|count| (50..=150).contains(count)),
            "{counts:?}"
        );
    }
}
