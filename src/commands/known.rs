//! What a site's state knows of images that are judged: whom its models were fitted on, and which are golden.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};

use crate::config::Settings;
use crate::domain::Pseudonym;
use crate::model::Bundle;
use crate::retrain::dataset::Dataset;
use crate::retrain::judging::report::Known;
use crate::retrain::looks::{LIKE_ONE_LEARNED_FROM, Looks};
use crate::retrain::people::People;
use crate::retrain::sides::{Side, Sides};

/// Joins the images' people, by whatever name the state knows them. Gives those whose images weights or thresholds were fitted
/// on, which promise nothing, and what is to be told.
pub fn ask(
    dataset: &mut Dataset,
    bundle: &Bundle,
    settings: Option<&Settings>,
) -> anyhow::Result<(HashSet<Pseudonym>, Option<Known>)> {
    let mut sides = match settings.map(|settings| Sides::place(&settings.state)) {
        Some(place) => Sides::read(&place).with_context(|| place.display().to_string())?,
        None => Sides::default(),
    };
    let people = People::join(dataset, &mut sides);
    for line in people.found.in_words() {
        eprintln!("{line}");
    }
    let Some(settings) = settings else {
        return Ok((HashSet::new(), None));
    };
    leave_out_copies(dataset, &sides, bundle, settings)?;
    let on = |side: Side| {
        let examples = dataset.examples.iter();
        let on_side = examples.filter(|it| sides.of(&it.patient) == Some(side));
        on_side.count() as u64
    };
    let golden = on(Side::Golden);
    // Each look makes them a little less honest, whoever looks.
    let place = Sides::place(&settings.state);
    let golden_looks = match golden {
        0 => sides.golden_looks,
        _ => Sides::look_at_golden(&place).with_context(|| place.display().to_string())?,
    };
    let known = Known {
        images: dataset.examples.len() as u64,
        fitted: on(Side::Training) + on(Side::Validation),
        golden,
        golden_looks,
    };
    let used = sides
        .patients
        .into_iter()
        .filter(|(_, side)| is_fitted(*side));
    let used = used.map(|(patient, _)| Pseudonym(patient)).collect();
    Ok((used, Some(known)))
}

/// Leaves out what looks like an image that a model of this site was fitted on, under whatever name it comes: nobody knows whose
/// it is, and its figures would be too good. Images of those who are known to be learned from say so themselves.
fn leave_out_copies(
    dataset: &mut Dataset,
    sides: &Sides,
    bundle: &Bundle,
    settings: &Settings,
) -> anyhow::Result<()> {
    let looks = Looks::read(&settings.state, bundle.render_specs());
    let folder = || Looks::folder(&settings.state).display().to_string();
    let Some(looks) = looks.with_context(folder)? else {
        return Ok(());
    };
    let is_new = |index: &usize| {
        let side = sides.of(&dataset.examples[*index].patient);
        !side.is_some_and(is_fitted)
    };
    let new: Vec<usize> = (0..dataset.examples.len()).filter(is_new).collect();
    looks.leave_out(dataset, &new);
    ensure!(
        !dataset.examples.is_empty(),
        "every image is {LIKE_ONE_LEARNED_FROM}: judge by images of new patients"
    );
    Ok(())
}

fn is_fitted(side: Side) -> bool {
    matches!(side, Side::Training | Side::Validation)
}
