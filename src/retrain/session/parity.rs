//! Before anything is published: the ONNX files as they were written, run through ONNX Runtime, against the networks as they
//! were trained, on some validation images.

use std::fs;
use std::path::Path;

use super::asked::{Asked, hear};
use super::{Ask, SessionError, Watch};
use crate::model::Bundle;
use crate::model::manifest::FILE_NAME;
use crate::retrain::bundle_writer::Fitted;
use crate::retrain::evaluate::argmax;
use crate::retrain::train::Answer;

/// How many images, at most.
pub(super) const IMAGES: usize = 64;
/// How far logits may be apart.
const PARITY: f32 = 1e-3;

/// What a trained network says about some images, computed from its own numbers and not from the written file.
pub(super) struct Expected<'a> {
    /// The classifier's id.
    pub(super) classifier: String,
    /// The images.
    pub(super) asked: Asked<'a>,
    /// Their logits.
    pub(super) logits: Vec<Vec<f32>>,
}

/// Refuses a bundle whose files do not say what was trained; its folder is no bundle any more.
pub(super) fn check(
    ask: &Ask<'_>,
    out: &Path,
    expected: &[Expected<'_>],
    watch: &mut dyn Watch,
) -> Result<(), SessionError> {
    let written = Bundle::open(out)?;
    let checked = expected
        .iter()
        .try_for_each(|expected| expected.hold_against(ask, &written, watch));
    if checked.is_err() {
        // It is refused whether or not this succeeds.
        let _ = fs::remove_file(out.join(FILE_NAME));
    }
    checked
}

impl Expected<'_> {
    fn hold_against(
        &self,
        ask: &Ask<'_>,
        written: &Bundle,
        watch: &mut dyn Watch,
    ) -> Result<(), SessionError> {
        let mut specs = written.manifest().classifiers.iter();
        let Some(spec) = specs.find(|spec| spec.id == self.classifier) else {
            return Err(self.refused(f32::INFINITY));
        };
        let network = Fitted::of(written, spec)?.network;
        let logits = &spec.outputs.logits;
        let theirs = hear(ask, spec, &network, logits, &self.asked, watch)?.answers;
        let Apart { absolute, .. } = apart(self.logits.iter().map(Vec::as_slice), &theirs);
        if absolute > PARITY || theirs.len() != self.logits.len() {
            return Err(self.refused(absolute));
        }
        watch.line(&format!(
            "{}: the written file says in ONNX Runtime what was trained, to {absolute:.1e} on {} images",
            self.classifier,
            theirs.len()
        ));
        Ok(())
    }

    fn refused(&self, worst: f32) -> SessionError {
        SessionError::Parity {
            classifier: self.classifier.clone(),
            worst,
            images: self.logits.len(),
            limit: PARITY,
        }
    }
}

/// How far logits are apart; infinitely where they name another class.
pub(super) struct Apart {
    pub(super) absolute: f32,
    /// As a part of the largest logit, and at least of 1.
    pub(super) relative: f32,
}

/// Compares image by image.
pub(super) fn apart<'a>(mine: impl Iterator<Item = &'a [f32]>, theirs: &[Answer]) -> Apart {
    let (mut absolute, mut largest) = (0.0f32, 1.0f32);
    for (mine, Answer { logits, .. }) in mine.zip(theirs) {
        if mine.len() != logits.len() {
            absolute = f32::INFINITY;
        }
        for (a, b) in mine.iter().zip(logits) {
            // A difference that is no number must not pass for a small one.
            let difference = (a - b).abs();
            absolute = if difference.is_nan() {
                f32::INFINITY
            } else {
                absolute.max(difference)
            };
            largest = largest.max(b.abs());
        }
        let tie = absolute <= PARITY && margin(logits) <= 2.0 * PARITY;
        if argmax(mine) != argmax(logits) && !tie {
            absolute = f32::INFINITY;
        }
    }
    Apart {
        absolute,
        relative: absolute / largest,
    }
}

/// How far the highest logit lies above the next.
fn margin(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted[..] {
        [first, second, ..] => first - second,
        _ => f32::INFINITY,
    }
}

#[cfg(test)]
#[path = "parity_tests.rs"]
mod tests;
