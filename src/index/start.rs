//! From whatever lies in the state directory to an index that says what the ledger says.

use std::path::{Path, PathBuf};

use super::{Index, IndexError, REBUILD_BATCH};
use crate::filing::ledger::{Ledger, LedgerError};

/// How the index came to be up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It was the ledger's, up to these last records.
    CaughtUp {
        /// How many records were missing.
        records: u64,
    },
    /// It has been built anew.
    Rebuilt {
        /// Why.
        why: String,
        /// Records of the ledger.
        records: u64,
        /// The index before it knew records: there was a ledger that had some.
        had_records: bool,
        /// The last of them is not in the ledger: it is an older copy, or another one.
        other_ledger: bool,
    },
}

/// Where a state directory has its index.
pub fn index_dir(state: &Path) -> PathBuf {
    state.join("index")
}

impl Index {
    /// Opens the index of a state directory and brings it up to date, by building it anew if need be.
    ///
    /// `progress` is told how many records have been folded.
    pub fn start(state: &Path, mut progress: impl FnMut(u64)) -> Result<(Self, Start), IndexError> {
        let (mut had_records, mut other_ledger) = (false, false);
        let caught_up = Self::open(&index_dir(state)).and_then(|index| {
            had_records = index.cursor()?.is_some();
            let caught_up = index.catch_up(state, &mut progress);
            other_ledger = had_records && matches!(caught_up, Err(IndexError::NeedsRebuild { .. }));
            let records = caught_up?;
            Ok((index, Start::CaughtUp { records }))
        });
        match caught_up {
            Err(err) if err.asks_for_rebuild() => {
                let (index, records) = Self::start_anew(state, progress)?;
                let rebuilt = Start::Rebuilt {
                    why: err.to_string(),
                    records,
                    had_records,
                    other_ledger,
                };
                Ok((index, rebuilt))
            }
            result => result,
        }
    }

    /// Builds the index of a state directory anew; gives how many records the ledger has.
    pub fn start_anew(
        state: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<(Self, u64), IndexError> {
        let ledger = Ledger::read(state, None).map_err(IndexError::ledger)?;
        let mut records = 0;
        let index = Self::rebuild(&index_dir(state), ledger, |folded| {
            records = folded;
            progress(folded);
        })?;
        Ok((index, records))
    }

    /// Folds what the ledger has behind the cursor, and returns how many records that were. A ledger that has no such
    /// line means [`IndexError::NeedsRebuild`].
    pub fn catch_up(&self, state: &Path, mut progress: impl FnMut(u64)) -> Result<u64, IndexError> {
        let cursor = self.cursor()?;
        let ledger = Ledger::read(state, cursor.as_ref()).map_err(|err| self.mismatch(err))?;
        let mut group = Vec::new();
        let mut folded = 0;
        for line in ledger {
            group.push(line.map_err(|err| self.mismatch(err))?);
            if group.len() == REBUILD_BATCH {
                self.apply(&group)?;
                folded += group.len() as u64;
                group.clear();
                progress(folded);
            }
        }
        self.apply(&group)?;
        Ok(folded + group.len() as u64)
    }

    fn mismatch(&self, err: LedgerError) -> IndexError {
        match err {
            LedgerError::Mismatch { .. } => IndexError::NeedsRebuild {
                dir: self.dir.clone(),
                why: err.to_string(),
                aside: None,
            },
            err => IndexError::ledger(err),
        }
    }
}
