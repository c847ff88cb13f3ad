//! What the ledger says about now: the Intents that nothing has completed, what was consumed, which library it is.
//!
//! The same fold runs over the whole ledger at start and over each group afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::checkpoint;
use super::consumed::Consumed;
use super::ledger::{Ledger, LedgerError, OpenReport, Reached};
use super::record::{Intent, Record, RecordId};
use crate::config::settings::Action;

/// The fold.
#[derive(Debug, Default)]
pub struct Replay {
    /// Intents without their end.
    pub open: BTreeMap<RecordId, Intent>,
    /// What is not to be taken again.
    pub consumed: Arc<RwLock<Consumed>>,
    /// The id in the library's marker.
    pub marker: Option<String>,
}

impl Replay {
    /// Takes in one record, in the ledger's order.
    pub fn fold(&mut self, record: &Record) {
        match record {
            Record::Intent(intent) => {
                self.open.insert(intent.id.clone(), (**intent).clone());
            }
            Record::Filed { id, .. } | Record::Quarantined { id, .. } => {
                if let Some(intent) = self.open.remove(id)
                    && intent.action != Action::Move
                {
                    self.change(|consumed| consumed.remember(&intent));
                }
            }
            Record::Abandoned { id, .. } | Record::Missing { id } => {
                self.open.remove(id);
            }
            Record::Observed(intent) => self.change(|consumed| consumed.remember(intent)),
            Record::Released {
                held: Some(held), ..
            }
            | Record::Undone {
                held: Some(held), ..
            } => self.change(|consumed| consumed.hold(held)),
            Record::LetGo { held, .. } => self.change(|consumed| {
                held.iter().for_each(|held| consumed.let_go(held));
            }),
            Record::Stayed { held, .. } => self.change(|consumed| consumed.let_go(held)),
            Record::Library { marker } => self.marker = Some(marker.clone()),
            _ => {}
        }
    }

    fn change(&self, change: impl FnOnce(&mut Consumed)) {
        change(
            &mut self
                .consumed
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// An open ledger with what it says.
#[derive(Debug)]
pub struct Opened {
    /// The ledger, locked.
    pub ledger: Ledger,
    /// What opening it found.
    pub report: OpenReport,
    /// What it says about now.
    pub replay: Replay,
    /// How many records were read for that: those behind the checkpoint.
    pub read: u64,
    /// The state directory.
    pub state: PathBuf,
}

/// Opens the ledger of a state directory and folds it, from its checkpoint on where there is one that fits. The index
/// catches up after this and before the filer starts.
pub fn open(state: &Path) -> Result<Opened, LedgerError> {
    if let Some((reached, replay)) = checkpoint::read(state) {
        match fold_from(state, Some(&reached), replay) {
            Err(LedgerError::Mismatch { .. }) => {}
            opened => return opened,
        }
    }
    fold_from(state, None, Replay::default())
}

fn fold_from(
    state: &Path,
    from: Option<&Reached>,
    mut replay: Replay,
) -> Result<Opened, LedgerError> {
    let (ledger, report) = Ledger::open_with(state, from, |_, _, record| replay.fold(&record))?;
    Ok(Opened {
        ledger,
        read: report.records - from.map_or(0, |from| from.records),
        report,
        replay,
        state: state.to_owned(),
    })
}
