//! The recent past of each drop directory, for rates and drift; kept in the state directory over restarts. Numbers only.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::drift::{Course, Recent};
use crate::filing::record::Fate;
use crate::ingest::Told;

/// Rates of one drop directory; `None` while too few files have come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// The share of classified files that went to review, 0 to 1.
    pub review: Option<f64>,
    /// The share of all files that were quarantined, 0 to 1.
    pub quarantine: Option<f64>,
    /// The population stability index of the confidence.
    pub drift: Option<f64>,
}

/// All of them.
pub struct RecentFiles {
    file: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_watch: BTreeMap<String, Recent>,
    changed: bool,
}

impl RecentFiles {
    /// Reads `recent.json` in the state directory. It is a convenience: one that cannot be read is begun anew.
    pub fn open(state: &Path) -> Self {
        let file = state.join("recent.json");
        let by_watch = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let inner = Inner {
            by_watch,
            changed: false,
        };
        Self {
            file,
            inner: Mutex::new(inner),
        }
    }

    /// Takes in one file.
    pub fn note(&self, told: &Told) {
        let course = match told.fate {
            Fate::Filed => Course::Filed,
            Fate::Review => Course::Review,
            Fate::Quarantined => Course::Quarantined,
            Fate::Other | Fate::Duplicate | Fate::Conflict | Fate::Left => return,
        };
        let said = told.model.as_deref().zip(told.confidence);
        let mut inner = self.lock();
        inner.changed = true;
        let recent = inner.by_watch.entry(told.watch.clone()).or_default();
        recent.note(course, said);
    }

    /// Rates and drift of a drop directory.
    pub fn rates(&self, watch: &str) -> Rates {
        let inner = self.lock();
        let recent = inner.by_watch.get(watch);
        recent.map_or_else(Rates::default, |recent| Rates {
            review: recent.review_rate(),
            quarantine: recent.quarantine_rate(),
            drift: recent.drift(),
        })
    }

    /// Writes the file, if anything has changed since.
    pub fn save(&self) -> io::Result<()> {
        let bytes = {
            let mut inner = self.lock();
            if !std::mem::take(&mut inner.changed) {
                return Ok(());
            }
            serde_json::to_vec(&inner.by_watch)?
        };
        let new = self.file.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        std::fs::rename(new, &self.file)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
