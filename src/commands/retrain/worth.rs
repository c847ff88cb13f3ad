//! What a new bundle is worth, in its own metrics: `radsort models list` shows it.

use super::super::training_report::Set;
use super::promise::amended;
use crate::model::Bundle;
use crate::retrain::judging::intervals::Proportion;
use crate::retrain::sides::Side;

/// Writes into the bundle how many test images of a category it is right on; nothing where there are none.
pub(super) fn carry(candidate: Bundle, sets: &[Set]) -> anyhow::Result<Bundle> {
    let Some(test) = sets.iter().find(|set| set.name == Side::Test.word()) else {
        return Ok(candidate);
    };
    let of_category = test
        .outcomes
        .iter()
        .filter(|outcome| outcome.truth.is_some());
    let Some(accuracy) = Proportion::count(of_category, |outcome| outcome.is_right()) else {
        return Ok(candidate);
    };
    let mut figures = toml::Table::new();
    figures.insert("right".into(), (accuracy.part as i64).into());
    figures.insert("images".into(), (accuracy.whole as i64).into());
    let mut manifest = candidate.manifest().clone();
    manifest.metrics.insert(test.name.into(), figures.into());
    amended(&candidate, &manifest)
}
