//! `retrain/run/` in the state directory: what a training was told, its list of labels, which images it learns from, and its
//! checkpoints, so that one that was killed goes on as it began. It is removed when the new bundle is kept.

use std::fs::{self, DirEntry, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::super::labelled::Source;
use super::super::labels;
use super::super::models::{TOLD, TRAINING};
use super::Plan;
use crate::config::Settings;
use crate::model::Bundle;
use crate::retrain::bundle_writer;
use crate::retrain::dataset::Dataset;

/// A training under way.
pub(super) struct RunFolder {
    dir: PathBuf,
    run: Run,
    /// Held as long as the training goes on; nobody else may touch the folder.
    _lock: Option<File>,
}

/// `run.json`.
#[derive(Serialize, Deserialize)]
struct Run {
    plan: Plan,
    /// The new bundle's version.
    version: String,
    /// The folder of the bundle that it starts from.
    bundle: PathBuf,
}

const LABELS: &str = "labels.csv";
/// Which images it was begun with, and what was said of them then. Pixels are in the cache.
const IMAGES: &str = "images.json";

impl RunFolder {
    /// A new training in the place of any that was interrupted.
    pub(super) fn begin(settings: &Settings, plan: &Plan, in_use: &Bundle) -> anyhow::Result<Self> {
        let dir = settings.state.join(TRAINING);
        let lock = lock(&dir)?;
        // A mistyped path must not cost an interrupted training.
        let named = [
            ("--from", &plan.source.from),
            ("--labels", &plan.source.labels),
            ("--weights", &plan.init.weights),
        ];
        for (option, path) in named {
            if let Some(path) = path {
                fs::metadata(path).with_context(|| format!("{option} {}", path.display()))?;
            }
        }
        let start = match &plan.bundle {
            Some(dir) => Bundle::open(dir)?,
            None => in_use.clone(),
        };
        if has_checkpoints(&dir)? {
            eprintln!(
                "the training that was interrupted in {} is given up; --resume would have gone on with it",
                dir.display()
            );
        }
        empty(&dir)?;
        let mut plan = plan.clone();
        // A path must mean the same wherever it is gone on from.
        for path in [
            &mut plan.bundle,
            &mut plan.source.from,
            &mut plan.source.labels,
            &mut plan.init.weights,
            &mut plan.out,
            &mut plan.outside.near,
            &mut plan.outside.far,
        ]
        .into_iter()
        .flatten()
        {
            *path = std::path::absolute(&*path)?;
        }
        if plan.source.from.is_none() && plan.source.labels.is_none() {
            // What people say meanwhile is for the next training.
            labels::export_to(settings, &dir.join(LABELS), plan.trust_untouched.is_some())?;
        }
        let run = Run {
            version: plan
                .as_version
                .clone()
                .unwrap_or_else(|| bundle_writer::next_version(&start)),
            bundle: start.dir().to_owned(),
            plan,
        };
        put(&dir.join(TOLD), &serde_json::to_vec_pretty(&run)?)?;
        Ok(Self {
            dir,
            run,
            _lock: Some(lock),
        })
    }

    /// The training that was interrupted.
    pub(super) fn resume(state: &Path) -> anyhow::Result<Self> {
        let dir = state.join(TRAINING);
        let file = dir.join(TOLD);
        if !file.exists() {
            bail!("there is no interrupted training in {}", dir.display());
        }
        let lock = lock(&dir)?;
        let run = get(&file)?;
        Ok(Self {
            dir,
            run,
            _lock: Some(lock),
        })
    }

    /// For a dry run: nothing is kept.
    pub(super) fn passing(scratch: &Path, plan: Plan, in_use: &Bundle) -> anyhow::Result<Self> {
        let dir = scratch.join("run");
        fs::create_dir_all(&dir)?;
        let bundle = plan
            .bundle
            .clone()
            .unwrap_or_else(|| in_use.dir().to_owned());
        let run = Run {
            plan,
            version: "0".into(),
            bundle,
        };
        Ok(Self {
            dir,
            run,
            _lock: None,
        })
    }

    /// What was asked for.
    pub(super) fn plan(&self) -> &Plan {
        &self.run.plan
    }

    /// The new bundle's version.
    pub(super) fn version(&self) -> String {
        self.run.version.clone()
    }

    /// The bundle that it starts from, before any change.
    pub(super) fn bundle(&self) -> &Path {
        &self.run.bundle
    }

    /// Where the labels are: the list as it was when the training began.
    pub(super) fn source(&self) -> Source {
        let list = self.dir.join(LABELS);
        if list.exists() {
            Source {
                from: None,
                labels: Some(list),
            }
        } else {
            self.run.plan.source.clone()
        }
    }

    /// The images that it was begun with; `None`: nothing was learned from any yet.
    pub(super) fn images(&self) -> anyhow::Result<Option<Dataset>> {
        let file = self.dir.join(IMAGES);
        file.exists().then(|| get(&file)).transpose()
    }

    /// Keeps which images are learned from and judged by, before anything is learned. They were [as text](Self::as_text).
    pub(super) fn begin_with(&self, images: &[u8]) -> anyhow::Result<()> {
        let file = self.dir.join(IMAGES);
        if file.exists() {
            return Ok(());
        }
        put(&file, images)
    }

    /// Images as [`RunFolder::begin_with`] takes them.
    pub(super) fn as_text(images: &Dataset) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(images)?)
    }

    /// Where the changed bundle that it starts from is written.
    pub(super) fn start(&self) -> PathBuf {
        self.dir.join("start")
    }

    /// Where the new bundle is written before it is kept: its reference images are patients', so it lies nowhere else, and what a
    /// killed training has left of it is removed.
    pub(super) fn made(&self) -> anyhow::Result<PathBuf> {
        let made = self.dir.join("bundle");
        match fs::remove_dir_all(&made) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot empty {}", made.display()))
            }
            _ => Ok(made),
        }
    }

    /// Where checkpoints are kept.
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.dir.clone()
    }

    /// It is done: nothing is left to go on with.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        empty(&self.dir)
    }
}

/// Two trainings at once would overwrite each other's checkpoints.
fn lock(dir: &Path) -> anyhow::Result<File> {
    make(dir).with_context(|| dir.display().to_string())?;
    let path = dir.with_extension("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("{}: another training is under way here", path.display()))?;
    Ok(file)
}

/// By rename: what is there is whole.
fn put(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let part = file.with_extension("part");
    let write = || -> std::io::Result<()> {
        let mut open = File::create(&part)?;
        open.write_all(text)?;
        open.sync_all()?;
        fs::rename(&part, file)
    };
    write().with_context(|| file.display().to_string())
}

fn get<T: for<'de> Deserialize<'de>>(file: &Path) -> anyhow::Result<T> {
    let text = fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{}: it was written by another version of radsort; start the training anew",
            file.display()
        )
    })
}

fn has_checkpoints(dir: &Path) -> anyhow::Result<bool> {
    let files = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let is_checkpoint = |file: &DirEntry| {
        file.path()
            .extension()
            .is_some_and(|it| it == "safetensors")
    };
    Ok(files
        .filter_map(Result::ok)
        .any(|file| is_checkpoint(&file)))
}

fn empty(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot empty {}", dir.display());
    fs::remove_dir_all(dir).with_context(failed)?;
    make(dir).with_context(failed)
}

/// For its owner only: labels and pictures of patients are in it.
fn make(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}
