//! Group commits: the ledger first, then the index, and only then what follows from each record.

use std::time::Instant;

use super::super::checkpoint;
use super::super::timing::Step;
use super::{After, Entry, Reply, Worker};
use crate::filing::ledger::LedgerError;
use crate::filing::record::{Intent, Record};
use crate::filing::request::{FilingError, HoldReason, Outcome};
use crate::telemetry::Event;

impl Worker {
    /// Writes one group; then the index, then what follows from each record.
    pub(super) fn commit(&mut self) -> Result<(), FilingError> {
        let entries = std::mem::take(&mut self.entries);
        let records: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        let begins = records
            .iter()
            .any(|record| matches!(record, Record::Intent(_)));
        let ends = records
            .iter()
            .any(|record| matches!(record, Record::Filed { .. } | Record::Quarantined { .. }));
        place(begins, "before-intent");
        place(ends, "before-filed");
        let started = Instant::now();
        let appended = self.ledger.append_group(&records);
        (self.timing)(Step::Ledger, started.elapsed());
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
        self.keep_checkpoint(checkpoint::WORTH);
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
            After::Appended(None) | After::Recovered(None) | After::Nothing => {}
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
        for Entry { record, after } in entries {
            match (record, after) {
                (Record::Intent(intent), After::Carry(underway)) => {
                    self.release(&intent);
                    self.answer(
                        underway.reply,
                        Outcome::Held(HoldReason::Ledger(why.to_owned())),
                    );
                }
                (Record::Observed(intent), After::Answer { reply, .. }) => {
                    self.release(&intent);
                    self.answer(reply, Outcome::Held(HoldReason::Ledger(why.to_owned())));
                }
                (_, After::Appended(Some(reply))) => {
                    let _ = reply.send(Err(HoldReason::Ledger(why.to_owned())));
                }
                (record, after) => self.unwritten.push(Entry { record, after }),
            }
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
