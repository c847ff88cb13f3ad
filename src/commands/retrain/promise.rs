//! A stated error rate: thresholds are raised for it, and the bundle carries what became of it.

use super::ask;
use crate::config::Settings;
use crate::model::Bundle;
use crate::model::manifest::{Manifest, Promised};
use crate::retrain::bundle_writer;
use crate::retrain::judging::promise::{Promise, choose_threshold};
use crate::retrain::session::{self, Wish};
use crate::retrain::sides::Side;

/// The target that reports check when none was stated: one file of 200.
pub(super) const USUAL_TARGET: f64 = 0.005;
/// No category is filed below this confidence, however well validation images did.
const FLOOR: f32 = 0.5;

/// Raises the thresholds to where validation images reach the target, if they can.
pub(super) fn raise_thresholds(
    candidate: Bundle,
    target: f64,
    wish: &Wish<'_>,
    settings: &Settings,
) -> anyhow::Result<Bundle> {
    let indices = session::seen_on(wish, Side::Validation);
    let outcomes = ask(&candidate, wish, &indices, settings)?;
    let Some(choice) = choose_threshold(&outcomes, target, FLOOR) else {
        return Ok(candidate);
    };
    let mut manifest = candidate.manifest().clone();
    for category in &mut manifest.categories {
        category.threshold = category.threshold.max(choice.threshold);
    }
    amended(&candidate, &manifest)
}

/// Writes into the bundle what may be promised about it.
pub(super) fn carry(candidate: Bundle, promise: &Promise) -> anyhow::Result<Bundle> {
    let mut manifest = candidate.manifest().clone();
    manifest.promise = Some(Promised::from(promise));
    amended(&candidate, &manifest)
}

/// The bundle with another manifest.
pub(super) fn amended(candidate: &Bundle, manifest: &Manifest) -> anyhow::Result<Bundle> {
    bundle_writer::write_manifest(candidate.dir(), manifest)?;
    Ok(Bundle::open(candidate.dir())?)
}
