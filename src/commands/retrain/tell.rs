//! What people are told before anything is trained.

use super::super::labelled;
use crate::retrain::session::{self, Forecast, Wish};
use crate::retrain::sides::Side;

/// What there is to learn from, and on what it will be computed.
pub(super) fn plan(wish: &Wish<'_>, device: &str) {
    let dataset = wish.dataset;
    let mut patients: Vec<&str> = dataset
        .examples
        .iter()
        .map(|example| example.patient.as_str())
        .collect();
    patients.sort_unstable();
    patients.dedup();
    eprintln!(
        "{} images of {} patients ({} prepared before); {}",
        dataset.examples.len(),
        patients.len(),
        dataset.from_cache,
        labelled::counts(dataset)
    );
    eprintln!(
        "{:<28} {:>9} {:>11} {:>6} {:>7}",
        "images that a person has seen", "training", "validation", "test", "golden"
    );
    let categories = wish.bundle.categories();
    let classes = categories
        .iter()
        .enumerate()
        .map(|(place, category)| (Some(place), category.id.as_str()))
        .chain([(None, "neither view")]);
    for (class, name) in classes {
        let count = |side| {
            session::seen_on(wish, side)
                .into_iter()
                .filter(|index| dataset.examples[*index].category == class)
                .count()
        };
        let [training, validation, test, golden] = Side::ALL.map(count);
        eprintln!("{name:<29} {training:>9} {validation:>11} {test:>6} {golden:>7}");
    }
    if wish.mode == session::Mode::Full {
        eprintln!("{device}");
    }
}

/// How long it will take, and how much memory.
pub(super) fn forecast(forecast: &Forecast) {
    let megabytes = forecast.memory.div_ceil(1_000_000);
    eprintln!(
        "at most about {} and {megabytes} MB of memory besides what the program itself takes",
        duration(forecast.time.as_secs())
    );
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => "a minute".to_owned(),
        60..7200 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", (seconds as f64 / 3600.0).ceil()),
    }
}
