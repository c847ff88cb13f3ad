//! What the service counts and measures, and how monitoring gets at it.
//!
//! [`Metrics`] counts from the start of the process; how things stand now comes from [`Status`](crate::control::status::Status).
//! [`exposition`] writes both as Prometheus's text, for a [`textfile`] or for whoever asks the [`server`]. Labels are the
//! site, the configured drop directories, the bundle's categories and radsort's own words: bounded, and nothing of a patient.

pub mod exposition;
mod recent;
pub mod server;
pub mod textfile;
mod timed;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::control::status::OBSERVED;
use crate::ingest::{Told, Took};
pub use recent::{Rates, RecentFiles};
pub use timed::{Timed, timing};

/// Label names with their values.
pub type Labels = Vec<(&'static str, String)>;

/// A file's way is measured in these stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From first seen to settled.
    Settle,
    /// Reading the file and computing its digest.
    Read,
    /// Header pass, decoding and rendering in the jail, with the jail itself.
    Decode,
    /// The header pass (part of decoding).
    Header,
    /// The codec (part of decoding).
    Codec,
    /// Grey values at the networks' sizes, with the reading of uncompressed pixels (part of decoding).
    Render,
    /// Waiting for and running the model.
    Infer,
    /// Waiting for the model, and for the other images of the batch (part of inferring).
    Queue,
    /// Running the model alone (part of inferring).
    Model,
    /// Judging by the header, deciding on the model's answer, and where the file goes.
    Decide,
    /// From handed to the filer to on disk and in ledger and index.
    File,
    /// Writing one group of records to the ledger and waiting for the disk (part of filing).
    Ledger,
    /// Renaming or copying, and of a copy the waiting for the disk (part of filing).
    Carry,
    /// Waiting for the disk: of a file that will be renamed, of a group of ledger records, of the directories of a group of
    /// renamed files (part of filing; the second is part of the ledger's).
    Fsync,
    /// Applying one group of records to the index (part of filing).
    Index,
}

impl Stage {
    /// Every stage, in the order of a file's way.
    pub const ALL: &[Self] = &[
        Self::Settle,
        Self::Read,
        Self::Decode,
        Self::Header,
        Self::Codec,
        Self::Render,
        Self::Infer,
        Self::Queue,
        Self::Model,
        Self::Decide,
        Self::File,
        Self::Ledger,
        Self::Carry,
        Self::Fsync,
        Self::Index,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Read => "read",
            Self::Decode => "decode",
            Self::Header => "header",
            Self::Codec => "codec",
            Self::Render => "render",
            Self::Infer => "infer",
            Self::Queue => "queue",
            Self::Model => "model",
            Self::Decide => "decide",
            Self::File => "file",
            Self::Ledger => "ledger",
            Self::Carry => "carry",
            Self::Fsync => "fsync",
            Self::Index => "index",
        }
    }
}

/// Why a file has to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It changed under way.
    Changed,
    /// It may not be taken.
    CannotTake,
    /// Its share or the library is in trouble.
    Held,
    /// The service is in trouble.
    Failed,
}

impl Retry {
    const ALL: [Self; 4] = [Self::Changed, Self::CannotTake, Self::Held, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::CannotTake => "cannot-take",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

/// Upper bounds of the histograms' buckets, seconds: from a decode to a share's settle time and beyond.
const BUCKETS: [f64; 16] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0,
    14400.0,
];
/// Beyond so many categories the others are counted together: bundles come and go while the service runs.
const MOST_CATEGORIES: usize = 200;
/// How a run of the alert command ends.
const OUTCOMES: [&str; 2] = ["ok", "failed"];
/// What one-off passes are called together: each has a watch of its own, named by a hash.
const PASSES: &str = "sort";

type Counters = Family<Labels, Counter>;

/// What is counted since the process started.
pub struct Metrics {
    site: String,
    registry: Registry,
    files: Counters,
    retries: Counters,
    vanished: Counters,
    alerts: Counters,
    stages: Family<Labels, Histogram, fn() -> Histogram>,
    categories: Mutex<BTreeSet<String>>,
    recent: RecentFiles,
}

impl Metrics {
    /// Starts counting for a [site](site_of); the recent past of each drop directory is read from the state directory, if
    /// it is there.
    pub fn open(state: &Path, site: String) -> Self {
        let stages: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        for stage in Stage::ALL {
            // Seen with 0 before the first file, so that rates can be computed from the first.
            drop(stages.get_or_create(&vec![("stage", stage.as_str().to_owned())]));
        }
        let alerts = Counters::default();
        for outcome in OUTCOMES {
            drop(alerts.get_or_create(&vec![("outcome", outcome.to_owned())]));
        }
        let mut metrics = Self {
            registry: registry(&site),
            site,
            files: Counters::default(),
            retries: Counters::default(),
            vanished: Counters::default(),
            alerts,
            stages,
            categories: Mutex::default(),
            recent: RecentFiles::open(state),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "files",
            "Files that have a fate, by drop directory, decision, category (filed ones) and reason (others)",
            metrics.files.clone(),
        );
        registry.register(
            "retries",
            "Times that a file had to be looked at again, by what was in the way",
            metrics.retries.clone(),
        );
        registry.register(
            "vanished_files",
            "Files that went away before radsort had taken them: somebody else moves or deletes them",
            metrics.vanished.clone(),
        );
        registry.register(
            "alert_runs",
            "Runs of the alert command, by outcome",
            metrics.alerts.clone(),
        );
        registry.register(
            "stage_duration_seconds",
            "How long the stages of a file's way take",
            metrics.stages.clone(),
        );
        metrics
    }

    /// A drop directory is tended from now on. Its counters are seen with 0 before anything happens: `increase()` knows only what
    /// comes after the first value.
    pub fn begin(&self, watch: &str) {
        for why in Retry::ALL {
            drop(self.retries.get_or_create(&retry_labels(watch, why)));
        }
        drop(self.vanished.get_or_create(&watch_labels(watch)));
    }

    /// Counts a file that has its fate, and what it took.
    pub fn told(&self, told: &Told) {
        let Took {
            settle,
            read,
            decode,
            within_decode,
            infer,
            model,
            decide,
            file,
        } = told.took;
        let part = |us: u64| (us > 0).then(|| Duration::from_micros(us));
        let queue = infer.zip(model);
        let stages = [
            (Stage::Settle, settle),
            (Stage::Read, read),
            (Stage::Decode, decode),
            (Stage::Header, part(within_decode.header_us)),
            (Stage::Codec, part(within_decode.codec_us)),
            (Stage::Render, part(within_decode.render_us)),
            (Stage::Infer, infer),
            (
                Stage::Queue,
                queue.map(|(all, model)| all.saturating_sub(model)),
            ),
            (Stage::Model, model),
            (Stage::Decide, decide),
            (Stage::File, file),
        ];
        for (stage, took) in stages {
            if let Some(took) = took {
                self.took(stage, took);
            }
        }
        let decision = if told.only_observed() {
            OBSERVED
        } else {
            told.fate.as_str()
        };
        let filed = told.reason.is_none();
        let category = told.category.as_deref().filter(|_| filed);
        let labels = vec![
            ("watch", watch_label(&told.watch)),
            ("decision", decision.to_owned()),
            (
                "category",
                category.map_or_else(String::new, |it| self.category_label(it)),
            ),
            (
                "reason",
                told.reason
                    .map_or("", crate::domain::Reason::code)
                    .to_owned(),
            ),
        ];
        self.files.get_or_create(&labels).inc();
        if watch_label(&told.watch) == told.watch {
            self.recent.note(told);
        }
    }

    /// Measures a stage.
    pub fn took(&self, stage: Stage, took: Duration) {
        let labels = vec![("stage", stage.as_str().to_owned())];
        self.stages
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Counts a file that has to be looked at again.
    pub fn retried(&self, watch: &str, why: Retry) {
        self.retries.get_or_create(&retry_labels(watch, why)).inc();
    }

    /// Counts a file that went away by itself.
    pub fn vanished(&self, watch: &str) {
        self.vanished.get_or_create(&watch_labels(watch)).inc();
    }

    /// Counts a run of the alert command.
    pub fn alerted(&self, worked: bool) {
        let [ok, failed] = OUTCOMES;
        let outcome = if worked { ok } else { failed };
        self.alerts
            .get_or_create(&vec![("outcome", outcome.to_owned())])
            .inc();
    }

    /// Rates and drift of a drop directory.
    pub fn rates(&self, watch: &str) -> Rates {
        self.recent.rates(watch)
    }

    /// Keeps the recent past for the next start. Blocks.
    pub fn save(&self) -> std::io::Result<()> {
        self.recent.save()
    }

    fn category_label(&self, category: &str) -> String {
        let mut known = self
            .categories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !known.contains(category) {
            if known.len() >= MOST_CATEGORIES {
                return "(others)".to_owned();
            }
            known.insert(category.to_owned());
        }
        category.to_owned()
    }
}

/// The site that a configuration describes, as every series is labelled and the text file is named: the configuration's
/// name. Several sites on one server are told apart by it.
pub fn site_of(config: &Path) -> String {
    let stem = config.file_stem().unwrap_or("radsort".as_ref());
    stem.to_string_lossy().into_owned()
}

/// An empty registry whose series all name their site.
fn registry(site: &str) -> Registry {
    let label = (Cow::from("site"), Cow::from(site.to_owned()));
    Registry::with_prefix_and_labels("radsort", std::iter::once(label))
}

fn watch_labels(watch: &str) -> Labels {
    vec![("watch", watch_label(watch))]
}

fn retry_labels(watch: &str, why: Retry) -> Labels {
    vec![
        ("watch", watch_label(watch)),
        ("reason", why.as_str().to_owned()),
    ]
}

/// The drop directory's name; one-off passes have one together.
fn watch_label(watch: &str) -> String {
    let hash = watch.strip_prefix("sort-").unwrap_or_default();
    let pass = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pass { PASSES } else { watch }.to_owned()
}

#[cfg(test)]
mod tests;
