//! Filing with a clock: how long the index takes for a group of records, and the filer for its steps.

use std::sync::Arc;
use std::time::Instant;

use super::{Metrics, Stage};
use crate::domain::{Placement, Uid};
use crate::filing::catalogue::{Catalogue, CatalogueError, Known};
use crate::filing::record::{Position, Record};
use crate::filing::timing::{Step, Timing};

/// Puts the times of the filer's steps into the metrics.
pub fn timing(metrics: &Arc<Metrics>) -> Timing {
    let metrics = Arc::clone(metrics);
    Timing::new(move |step, took| {
        let stage = match step {
            Step::Ledger => Stage::Ledger,
            Step::Carry => Stage::Carry,
            Step::Fsync => Stage::Fsync,
        };
        metrics.took(stage, took);
    })
}

/// A catalogue whose groups are timed.
pub struct Timed {
    /// The catalogue.
    pub inner: Arc<dyn Catalogue>,
    /// Where the times go.
    pub metrics: Arc<Metrics>,
}

impl Catalogue for Timed {
    fn apply(&self, group: &[(Position, i64, Record)]) -> Result<(), CatalogueError> {
        let started = Instant::now();
        let applied = self.inner.apply(group);
        self.metrics.took(Stage::Index, started.elapsed());
        applied
    }

    fn find_uid(&self, uid: &Uid) -> Result<Option<Known>, CatalogueError> {
        self.inner.find_uid(uid)
    }

    fn is_on_record(&self, at: &Placement) -> Result<bool, CatalogueError> {
        self.inner.is_on_record(at)
    }
}
