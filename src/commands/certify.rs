//! A bundle with the promise that its evaluation could keep, as a version of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::model::Bundle;
use crate::model::manifest::{FILE_NAME, Promised};
use crate::retrain::bundle_writer;
use crate::retrain::judging::promise::Verdict;
use crate::retrain::judging::report::{CARD_FILE, Report, promised_anew};

/// The figures that the promise rests on.
const FIGURES: &str = "certification.json";

/// The folder of the new version: made before the long work, gone again when there is no bundle to put into it.
pub struct Folder {
    path: PathBuf,
    whole: bool,
}

impl Folder {
    /// Makes it; it must not be there yet.
    pub fn make(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            whole: false,
        })
    }

    /// Puts the bundle into it, with the promise of `report`, which must be kept. Networks, thresholds and the report of its
    /// training stay as they are.
    pub fn fill(mut self, bundle: &Bundle, report: &Report, version: &str) -> anyhow::Result<()> {
        let Some(promise) = &report.promise else {
            bail!("nothing was promised");
        };
        ensure!(
            promise.verdict == Verdict::Kept,
            "not certified, {} is not written. {}",
            self.path.display(),
            promise.why
        );
        let mut manifest = bundle.manifest().clone();
        version.clone_into(&mut manifest.version);
        manifest.promise = Some(Promised::from(promise));
        let files = bundle.files();
        for file in files.with_context(|| format!("cannot read {}", bundle.dir().display()))? {
            let name = file.file_name().unwrap_or_default();
            if name != FILE_NAME {
                let copied = fs::copy(&file, self.path.join(name));
                copied.with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
        let card = self.path.join(CARD_FILE);
        if let Ok(text) = fs::read_to_string(&card) {
            put(
                &card,
                &promised_anew(&text, &manifest.name_and_version(), report),
            )?;
        }
        put(&self.path.join(FIGURES), &report.json()?)?;
        // Last, so that a folder with a manifest is a whole bundle.
        bundle_writer::write_manifest(&self.path, &manifest)?;
        Bundle::open(&self.path)?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_dir_all(&self.path); // it was made here
        }
    }
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
