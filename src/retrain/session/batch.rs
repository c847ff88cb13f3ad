//! How many images are trained with at a time: by what memory is free, then by trying the first step.
//!
//! It is part of the recipe that a checkpoint belongs to. So it is kept beside the checkpoint, and a run that goes on takes
//! it from there, whatever is free by then.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::full::Trainable;
use super::{Ask, SessionError, Watch, failed};
use crate::model::manifest::ClassifierSpec;
use crate::retrain::checkpoint::{self, CheckpointError, Keeping};
use crate::retrain::first_step::{self, Ending, Step};
use crate::retrain::memory;

/// What makes one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// Images at a time.
    pub images: usize,
    /// How many times a step.
    pub times: usize,
}

impl Batch {
    /// The batch of the run that goes on, or the largest that fits.
    pub(super) fn choose(
        ask: &Ask<'_>,
        spec: &ClassifierSpec,
        trainable: &Trainable,
        keeping: Option<&Keeping>,
        watch: &mut dyn Watch,
    ) -> Result<Self, SessionError> {
        let Some(keeping) = keeping else {
            return Self::that_fits(ask, spec, trainable, watch);
        };
        let file = place(&keeping.file);
        if keeping.resume
            && keeping.file.exists()
            && let Some(batch) = Self::read(&file)
        {
            return batch.still_fits(ask, spec, trainable, watch);
        }
        let batch = Self::that_fits(ask, spec, trainable, watch)?;
        batch
            .write(&file)
            .map_err(|source| failed(spec, CheckpointError::File { file, source }.into()))?;
        Ok(batch)
    }

    fn that_fits(
        ask: &Ask<'_>,
        spec: &ClassifierSpec,
        trainable: &Trainable,
        watch: &mut dyn Watch,
    ) -> Result<Self, SessionError> {
        let graph = &trainable.graph;
        let wanted = ask.wish.full.batch;
        let available = memory::available().unwrap_or(u64::MAX);
        let (expected, times) = memory::fitting(graph, wanted, available);
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let needed = memory::of_training(graph, expected);
        if needed > available {
            return Err(SessionError::Memory {
                classifier: spec.id.clone(),
                needed: megabytes(needed),
                available: megabytes(available),
            });
        }
        let tried = |images| first_step(ask, spec, trainable, images, watch);
        let (images, more) =
            first_step::surviving(expected, tried).map_err(|how| SessionError::FirstStep {
                classifier: spec.id.clone(),
                how,
            })?;
        if images < wanted {
            watch.line(&format!(
                "{}: {} MB are free: {images} images at a time instead of {wanted}, {} times a step",
                spec.id,
                megabytes(available),
                times * more
            ));
        }
        Ok(Self {
            images,
            times: times * more,
        })
    }

    /// This batch, if its first step survives once more: another one would be another run.
    fn still_fits(
        self,
        ask: &Ask<'_>,
        spec: &ClassifierSpec,
        trainable: &Trainable,
        watch: &mut dyn Watch,
    ) -> Result<Self, SessionError> {
        match first_step(ask, spec, trainable, self.images, watch) {
            Ending::Made | Ending::NotTried(_) => Ok(self),
            Ending::Died(how) => Err(SessionError::Resume {
                classifier: spec.id.clone(),
                images: self.images,
                how,
            }),
        }
    }

    /// `None` where there is none.
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    fn write(self, file: &Path) -> std::io::Result<()> {
        checkpoint::replace(file, &serde_json::to_vec(&self)?)
    }
}

/// Where the batch of a checkpoint is kept.
fn place(checkpoint: &Path) -> PathBuf {
    checkpoint.with_extension("batch.json")
}

/// Tries the first step with so many images in a child process.
fn first_step(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    trainable: &Trainable,
    images: usize,
    watch: &mut dyn Watch,
) -> Ending {
    let step = Step {
        logits: spec.outputs.logits.clone(),
        features: trainable.features.clone(),
        rows: spec.render.height as usize,
        columns: spec.render.width as usize,
        batch: images,
        device: ask.wish.device_name,
        address_space: memory::address_space_left(),
    };
    let ending = first_step::in_child(&trainable.model, &step);
    let id = &spec.id;
    match &ending {
        Ending::Made => watch.line(&format!(
            "{id}: a first step with {images} images at a time fits into memory"
        )),
        Ending::Died(how) => watch.line(&format!(
            "{id}: a first step with {images} images at a time ended with {how}: memory is short"
        )),
        Ending::NotTried(why) => {
            watch.line(&format!("{id}: the first step could not be tried: {why}"));
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_batch_is_kept_beside_its_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let file = place(&dir.path().join("frontal.safetensors"));
        assert_eq!(Batch::read(&file), None);
        let batch = Batch {
            images: 3,
            times: 4,
        };
        batch.write(&file).unwrap();
        assert_eq!(Batch::read(&file), Some(batch));
    }
}
