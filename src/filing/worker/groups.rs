//! Group commits: the ledger first, then the index, and only then what follows from each record.

use super::super::checkpoint;
use super::super::timing::Step;
use super::{After, Entry, Reply, Worker};
use crate::filing::ledger::{LedgerError, RESERVE};
use crate::filing::record::{Intent, Record};
use crate::filing::request::{FilingError, HoldReason, Outcome};
use crate::telemetry::Event;

impl Worker {
    /// Writes one group; then the index, then what follows from each record.
    pub(super) fn commit(&mut self) -> Result<(), FilingError> {
        let mut entries = std::mem::take(&mut self.entries);
        if self.ledger.room().is_some_and(|room| room < RESERVE) {
            entries = self.hold_new_files(entries);
            if entries.is_empty() {
                return self.wake();
            }
        }
        let records: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        let begins = records
            .iter()
            .any(|record| matches!(record, Record::Intent(_)));
        let ends = records
            .iter()
            .any(|record| matches!(record, Record::Filed { .. } | Record::Quarantined { .. }));
        place(begins, "before-intent");
        place(ends, "before-filed");
        let append = || self.ledger.append_group(&records);
        let appended = self.timing.of(Step::Ledger, append);
        if appended.is_ok() {
            self.timing.took(Step::Fsync, self.ledger.last_sync());
        }
        let positions = match appended {
            Ok(positions) => positions,
            Err(LedgerError::Poisoned(why)) => return Err(FilingError::Ledger(why)),
            Err(error) => {
                self.unwritable(entries, &error.to_string());
                return self.wake();
            }
        };
        self.unwritable = false;
        place(begins, "after-intent");
        place(ends, "after-filed");
        for record in &records {
            self.replay.fold(record);
            if matches!(record, Record::Missing { .. }) {
                self.alarms.note_missing();
            }
            if let Record::Filed { id, .. }
            | Record::Quarantined { id, .. }
            | Record::Abandoned { id, .. }
            | Record::Missing { id } = record
            {
                self.attended.remove(id);
            }
        }
        let group: Vec<_> = positions
            .into_iter()
            .zip(records)
            .map(|((at, time), record)| (at, time, record))
            .collect();
        self.catalogue
            .apply(&group)
            .map_err(|error| FilingError::Index(error.to_string()))?;
        self.since_checkpoint += group.len() as u64;
        self.keep_checkpoint(*checkpoint::WORTH);
        place(ends, "after-index");
        for entry in entries {
            self.follow(entry.after);
        }
        self.wake()
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Carry(underway) => self.carry(underway),
            After::Answer {
                intent,
                outcome,
                reply,
            } => {
                self.release(&intent);
                self.answer(reply, outcome);
            }
            After::Appended(Some(reply)) => drop(reply.send(Ok(()))),
            After::Recovered(Some((reply, report))) => drop(reply.send(report)),
            After::Appended(None) | After::Recovered(None) | After::WithNext | After::Nothing => {}
        }
    }

    /// The ledger cannot be written now. What has not happened yet does not happen; what has waits to be written.
    fn unwritable(&mut self, entries: Vec<Entry>, why: &str) {
        if !std::mem::replace(&mut self.unwritable, true) {
            tracing::error!(
                event = %Event::LedgerUnwritable,
                why,
                "the ledger cannot be written; nothing more is filed until it can"
            );
        }
        for entry in entries {
            match self.hold(entry, why) {
                Some(Entry {
                    after: After::Appended(Some(reply)),
                    ..
                }) => drop(reply.send(Err(HoldReason::Ledger(why.to_owned())))),
                Some(Entry {
                    after: After::WithNext,
                    ..
                })
                | None => {}
                Some(entry) => self.unwritten.push(entry),
            }
        }
    }

    /// The disk of the ledger and the index is nearly full: no more files are taken, and what is under way can end.
    fn hold_new_files(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let why = format!(
            "less than {} MiB are free on the disk of the state directory",
            RESERVE >> 20
        );
        let held = entries.into_iter().map(|entry| self.hold(entry, &why));
        held.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Answers whoever wants a file to be taken; gives everything else back.
    fn hold(&mut self, entry: Entry, why: &str) -> Option<Entry> {
        let held = || Outcome::Held(HoldReason::Ledger(why.to_owned()));
        match entry {
            Entry {
                record: Record::Intent(intent),
                after: After::Carry(underway),
            } => {
                self.release(&intent);
                self.answer(underway.reply, held());
                None
            }
            Entry {
                record: Record::Observed(intent),
                after: After::Answer { reply, .. },
            } => {
                self.release(&intent);
                self.answer(reply, held());
                None
            }
            entry => Some(entry),
        }
    }

    /// Lets go of a file's UID and bytes.
    pub(super) fn release(&mut self, intent: &Intent) {
        self.attended.remove(&intent.id);
        self.busy.remove(&intent.digest.0);
        if let Some(instance) = &intent.dossier.instance {
            self.busy.remove(instance.sop_instance_uid.as_str());
        }
    }

    /// Admits those that have waited for a UID or bytes that are free now.
    pub(super) fn wake(&mut self) -> Result<(), FilingError> {
        for _ in 0..self.waiting.len() {
            let Some((request, source, reply)) = self.waiting.pop_front() else {
                break;
            };
            self.admit(request, source, reply)?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, reply: Reply, outcome: Outcome) {
        self.under_way -= 1;
        let _ = reply.send(Ok(outcome));
    }
}

/// A failpoint that only some groups pass.
#[cfg_attr(not(feature = "failpoints"), allow(unused_variables))]
fn place(passes: bool, name: &'static str) {
    if passes {
        fail::fail_point!(name);
    }
}
