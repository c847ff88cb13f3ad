//! The one way in which records change the index: read what is there, gather what changes, write it all at once.
//!
//! The same function serves the running daemon (a transaction a group) and the rebuild (a batch a few hundred
//! records), which is why both end with the same index.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::filing::record::{Position, Record, RecordId};

use super::entry::{self, Entry, Packer, State, Story, Told};
use super::store::{Part, Trees, hash};
use super::{IndexError, keys};

/// What a group of records changes.
pub(super) struct Changes<'a> {
    trees: &'a Trees,
    pub(super) writes: BTreeMap<(Part, Vec<u8>), Option<Vec<u8>>>,
    /// Intents that this group opens. Most are closed in it as well, and never written.
    opened: BTreeMap<RecordId, Told>,
    /// Ids that the index did not know before this group: nothing of theirs is there to be looked up.
    new_ids: BTreeSet<Vec<u8>>,
    packer: Packer,
}

impl<'a> Changes<'a> {
    pub(super) fn new(trees: &'a Trees) -> Self {
        Self {
            trees,
            writes: BTreeMap::new(),
            opened: BTreeMap::new(),
            new_ids: BTreeSet::new(),
            packer: Packer::new(),
        }
    }

    /// Folds one record. A record that does not fit what came before it (about an id that nobody opened, say)
    /// changes nothing: the ledger is the truth, and the index must not stop at it.
    pub(super) fn fold(&mut self, time_us: i64, record: Record) -> Result<(), IndexError> {
        let told = Told { time_us, record };
        match &told.record {
            Record::Intent(intent) => {
                self.opened.insert(intent.id.clone(), told);
            }
            Record::Observed(intent) => {
                let entry = Entry::new(intent, None, false, time_us);
                self.replace(&entry, &[told])?;
            }
            Record::Filed { id, to } | Record::Quarantined { id, to } => {
                if let Some(began) = self.take_open(id)?
                    && let Record::Intent(intent) = &began.record
                {
                    let entry = Entry::new(intent, to.as_ref(), true, time_us);
                    self.replace(&entry, &[began, told])?;
                }
            }
            Record::Abandoned { id, .. } => {
                self.take_open(id)?;
            }
            Record::Adopted {
                id,
                at,
                digest,
                fingerprint,
                instance,
            } => {
                let entry = Entry {
                    fingerprint: *fingerprint,
                    ..Entry::adopted(id, at, digest, time_us)
                };
                let entry = entry.with_instance(instance.as_deref());
                self.replace(&entry, &[told])?;
            }
            // Missing also ends an intent of which neither source nor target could be found after a crash.
            Record::Missing { id } => match self.take_open(id)? {
                Some(began) => {
                    if let Record::Intent(intent) = &began.record {
                        let mut entry = Entry::new(intent, None, true, time_us);
                        entry.state = State::Missing;
                        self.replace(&entry, &[began, told])?;
                    }
                }
                None => self.amend(told)?,
            },
            Record::Released { .. }
            | Record::Undone { .. }
            | Record::Stayed { .. }
            | Record::Moved { .. }
            | Record::Label(_)
            | Record::Judged { .. }
            | Record::LetGo { .. } => self.amend(told)?,
            Record::Library { .. }
            | Record::Promoted { .. }
            | Record::Checkpoint { .. }
            | Record::Unknown(_) => {}
        }
        Ok(())
    }

    /// Remembers how far the ledger has been folded.
    pub(super) fn reached(&mut self, position: &Position) -> Result<(), IndexError> {
        let value = entry::encode(position).map_err(|err| IndexError::value(Part::Meta, err))?;
        self.put(Part::Meta, super::CURSOR, value);
        Ok(())
    }

    /// Adds what is still open, and brings the checksum up to date: the last thing before the changes are written.
    pub(super) fn seal(&mut self) -> Result<(), IndexError> {
        for (id, told) in std::mem::take(&mut self.opened) {
            let value = self.pack(Part::Open, &told)?;
            self.put(Part::Open, id.0.as_bytes(), value);
        }
        if self.writes.is_empty() {
            return Ok(());
        }
        let mut sum = self.trees.kept_sum()?;
        for ((part, key), value) in self
            .writes
            .iter()
            .filter(|((part, _), _)| *part != Part::Meta)
        {
            if !self.is_new(*part, key, value.as_deref())
                && let Some(old) = self.trees.tree(*part).get(key)?
            {
                sum ^= hash(*part, key, &old);
            }
            if let Some(new) = value {
                sum ^= hash(*part, key, new);
            }
        }
        let value =
            entry::encode(&format!("{sum:x}")).map_err(|err| IndexError::value(Part::Meta, err))?;
        self.put(Part::Meta, super::SUM, value);
        Ok(())
    }

    /// Whether the index cannot have had anything there: what is written belongs to an id that it did not know.
    fn is_new(&self, part: Part, key: &[u8], value: Option<&[u8]>) -> bool {
        match part {
            Part::Entries | Part::Stories => self.new_ids.contains(key),
            Part::Keys => value.is_some_and(|id| self.new_ids.contains(id)),
            Part::Open | Part::Counters | Part::Meta => false,
        }
    }

    /// The intent of an id, which is closed now.
    fn take_open(&mut self, id: &RecordId) -> Result<Option<Told>, IndexError> {
        let told = match self.opened.remove(id) {
            Some(told) => told,
            None => match self.get::<Told>(Part::Open, id.0.as_bytes())? {
                Some(told) => told,
                None => return Ok(None),
            },
        };
        // An earlier group may have opened it, too.
        self.writes
            .insert((Part::Open, id.0.as_bytes().to_vec()), None);
        Ok(matches!(told.record, Record::Intent(_)).then_some(told))
    }

    /// Changes an entry and adds to its story; an id that is not known changes nothing.
    fn amend(&mut self, told: Told) -> Result<(), IndexError> {
        let time_us = told.time_us;
        let (id, change): (_, &dyn Fn(&mut Entry)) = match &told.record {
            Record::Missing { id } => (id, &|entry| entry.state = State::Missing),
            Record::Released { id, .. } => (id, &|entry| entry.state = State::Released),
            Record::Undone { id, .. } => (id, &|entry| entry.state = State::Undone),
            Record::Stayed { id, .. } => (id, &|entry| entry.state = State::Live),
            Record::LetGo { id, .. } => (id, &|entry| entry.state = State::LetGo),
            Record::Moved { id, to } => (id, &|entry| entry.move_to(to)),
            Record::Label(label) => (&label.id, &|entry| entry.labelled(time_us, label)),
            Record::Judged { id, accepted, by } => {
                (id, &|entry| entry.judged(time_us, *accepted, *by))
            }
            _ => return Ok(()),
        };
        let key = id.0.as_bytes().to_vec();
        let Some(mut entry) = self.get::<Entry>(Part::Entries, &key)? else {
            return Ok(());
        };
        change(&mut entry);
        let mut history = self
            .get::<Vec<Told>>(Part::Stories, &key)?
            .unwrap_or_default();
        history.push(told);
        self.replace(&entry, &history)
    }

    /// Puts an entry with its keys and counters in the place of what its id had before.
    fn replace(&mut self, new: &Entry, history: &[Told]) -> Result<(), IndexError> {
        let id = new.id.0.as_bytes();
        if let Some(old) = self.get::<Entry>(Part::Entries, id)? {
            for key in keys::of(&old) {
                self.writes.insert((Part::Keys, key), None);
            }
            for counter in keys::counters(&old) {
                self.count(&counter, |count| count.saturating_sub(1))?;
            }
        } else {
            self.new_ids.insert(id.to_vec());
        }
        for key in keys::of(new) {
            self.put(Part::Keys, &key, id.to_vec());
        }
        for counter in keys::counters(new) {
            self.count(&counter, |count| count.saturating_add(1))?;
        }
        let value = entry::encode(new).map_err(|err| IndexError::value(Part::Entries, err))?;
        let story = self.pack(Part::Stories, &history)?;
        self.put(Part::Entries, id, value);
        self.put(Part::Stories, id, story);
        Ok(())
    }

    fn count(&mut self, counter: &str, change: impl FnOnce(u64) -> u64) -> Result<(), IndexError> {
        let count = change(
            self.get::<u64>(Part::Counters, counter.as_bytes())?
                .unwrap_or(0),
        );
        // A counter that nothing counts in does not exist: a rebuilt index must be the same as a grown one.
        let value = if count == 0 {
            None
        } else {
            Some(entry::encode(&count).map_err(|err| IndexError::value(Part::Counters, err))?)
        };
        self.writes
            .insert((Part::Counters, counter.as_bytes().to_vec()), value);
        Ok(())
    }

    fn pack<T: Serialize>(&mut self, part: Part, value: &T) -> Result<Vec<u8>, IndexError> {
        let packed = self.packer.encode(value);
        packed.map_err(|err| IndexError::value(part, err))
    }

    fn put(&mut self, part: Part, key: &[u8], value: Vec<u8>) {
        self.writes.insert((part, key.to_vec()), Some(value));
    }

    fn get<T: serde::de::DeserializeOwned>(
        &self,
        part: Part,
        key: &[u8],
    ) -> Result<Option<T>, IndexError> {
        match self.writes.get(&(part, key.to_vec())) {
            Some(written) => written
                .as_deref()
                .map(|bytes| entry::decode(bytes).map_err(|err| IndexError::value(part, err)))
                .transpose(),
            None => self.trees.get(part, key),
        }
    }
}

impl Trees {
    /// An entry with its history.
    pub(super) fn story_of(&self, entry: Entry) -> Result<Story, IndexError> {
        let history = self
            .get::<Vec<Told>>(Part::Stories, entry.id.0.as_bytes())?
            .unwrap_or_default();
        Ok(Story { entry, history })
    }
}
