//! Writing a whole set: one file an image, and `labels.csv` with the truth beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::Serialize;

use super::dice::Dice;
use super::{PhantomError, Plan, Syntax, SyntaxChoice};

/// Where the files of a set go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Layout {
    /// All in one directory.
    Flat,
    /// A directory a category; `outside` for those that belong to neither view.
    ByCategory,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Number of images.
    pub images: usize,
    /// Number of patients.
    pub patients: usize,
    /// Bytes in all image files together.
    pub bytes: u64,
    /// Images a category; `outside` counts those of neither view.
    pub categories: BTreeMap<String, usize>,
    /// Images a transfer syntax.
    pub syntaxes: BTreeMap<String, usize>,
}

/// The folder and summary name of images without a category.
const OUTSIDE: &str = "outside";

impl SyntaxChoice {
    /// The syntax of one image: with `Mixed`, by a stream of its own that never sees the category.
    pub fn of(self, plan: &Plan) -> Syntax {
        match self {
            Self::One(syntax) => syntax,
            Self::Mixed => Dice::new(plan.seed, "syntax", plan.number).pick(&Syntax::ALL),
        }
    }
}

/// Draws and writes all `plans` into `dir` (made if missing) on all cores, then `labels.csv`; `progress` hears of each file
/// as it is finished. Files are named by their number in the set, which says nothing about the category.
pub fn write_set(
    dir: &Path,
    plans: &[Plan],
    syntax: SyntaxChoice,
    layout: Layout,
    progress: impl Fn(&Path) + Sync,
) -> Result<Summary, PhantomError> {
    let places: Vec<PathBuf> = plans
        .iter()
        .map(|plan| {
            let name = format!("{:06}.dcm", plan.number + 1);
            match layout {
                Layout::Flat => dir.join(name),
                Layout::ByCategory => dir.join(plan.truth.category.unwrap_or(OUTSIDE)).join(name),
            }
        })
        .collect();
    for folder in std::iter::once(dir).chain(places.iter().filter_map(|p| p.parent())) {
        fs::create_dir_all(folder).map_err(|source| PhantomError::Io {
            path: folder.to_owned(),
            source,
        })?;
    }

    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<PhantomError>> = Mutex::new(None);
    let bytes: AtomicUsize = AtomicUsize::new(0);
    let work = || {
        while let Some((plan, path)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            plans.get(n).zip(places.get(n))
        } {
            match plan.draw().write(path, syntax.of(plan)) {
                Ok(()) => {
                    bytes.fetch_add(
                        fs::metadata(path).map_or(0, |m| m.len() as usize),
                        Ordering::Relaxed,
                    );
                    progress(path);
                }
                Err(error) => {
                    next.store(plans.len(), Ordering::Relaxed);
                    failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism()
            .map_or(1, usize::from)
            .min(16)
        {
            scope.spawn(work);
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    labels(&dir.join("labels.csv"), plans)?;
    Ok(summarise(plans, syntax, bytes.into_inner() as u64))
}

/// Writes the truth: SOP Instance UID, category (empty for neither view), patient, view.
fn labels(path: &Path, plans: &[Plan]) -> Result<(), PhantomError> {
    let io = |e: csv::Error| PhantomError::Io {
        path: path.to_owned(),
        source: e.into(),
    };
    let mut out = csv::Writer::from_path(path).map_err(io)?;
    out.write_record(["sop_instance_uid", "category", "patient", "view"])
        .map_err(io)?;
    for plan in plans {
        let truth = &plan.truth;
        out.write_record([
            &plan.sop_instance_uid,
            truth.category.unwrap_or(""),
            &truth.patient,
            truth.view.as_str(),
        ])
        .map_err(io)?;
    }
    out.flush().map_err(|source| PhantomError::Io {
        path: path.to_owned(),
        source,
    })
}

fn summarise(plans: &[Plan], syntax: SyntaxChoice, bytes: u64) -> Summary {
    let mut summary = Summary {
        images: plans.len(),
        bytes,
        ..Summary::default()
    };
    for plan in plans {
        *summary
            .categories
            .entry(plan.truth.category.unwrap_or(OUTSIDE).to_owned())
            .or_default() += 1;
        *summary
            .syntaxes
            .entry(syntax.of(plan).name().to_owned())
            .or_default() += 1;
    }
    let patients: std::collections::BTreeSet<&str> =
        plans.iter().map(|p| p.truth.patient.as_str()).collect();
    summary.patients = patients.len();
    summary
}
