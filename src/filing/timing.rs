//! The clock on filing: which steps are timed, and who is told.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A step of filing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing one group of records to the ledger, `fdatasync` included.
    Ledger,
    /// Renaming or copying one file; of a copy, `fsync` of content and directories included.
    Carry,
    /// Waiting for the disk: a file that will be renamed, a group of records, the directories of a group of renamed files.
    Fsync,
}

type Listener = dyn Fn(Step, Duration) + Send + Sync;

/// Is told how long a step took. Called from the filer's thread and the shares' threads.
#[derive(Clone)]
pub struct Timing(Arc<Listener>);

impl Timing {
    /// With somebody who is told.
    pub fn new(told: impl Fn(Step, Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Tells how long a step took.
    pub fn took(&self, step: Step, took: Duration) {
        (self.0)(step, took);
    }

    /// Runs a step and tells how long it took.
    pub fn of<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.took(step, started.elapsed());
        done
    }
}

impl Default for Timing {
    /// Nobody is told.
    fn default() -> Self {
        Self::new(|_, _| ())
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timing")
    }
}
