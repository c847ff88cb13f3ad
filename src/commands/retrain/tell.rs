//! What people are told before anything is trained.

use super::super::labelled;
use crate::domain::View;
use crate::retrain::dataset::Dataset;
use crate::retrain::session::{self, Forecast, Wish};
use crate::retrain::shared::Shared;
use crate::retrain::sides::Side;

/// What there is to learn from, and on what it will be computed.
pub(super) fn plan(wish: &Wish<'_>, shared: Shared, device: &str) {
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
    for line in unknown(dataset) {
        eprintln!("{line}");
    }
    nobodies(wish, shared);
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
    if let Some(confidence) = wish.trust_untouched {
        eprintln!(
            "{} images more, which nobody has looked at, are learned from (confidence {confidence} or more)",
            session::untouched(wish)
        );
    }
    if wish.mode == session::Mode::Full {
        eprintln!("{device}");
    }
}

/// How the categories are learned that people have named and the bundle does not know.
fn unknown(dataset: &Dataset) -> impl Iterator<Item = String> {
    dataset.unknown.iter().map(|(id, unknown)| {
        let view = unknown.view().map_or("VIEW", View::as_str);
        format!(
            "{} images are said to be {id}, which the bundle does not know: --add-category {id}:{view} learns it",
            unknown.files
        )
    })
}

/// Whose images are taken as one patient a study, because it is not known who they are.
fn nobodies(wish: &Wish<'_>, shared: Shared) {
    let examples = &wish.dataset.examples;
    let nameless = examples.iter().filter(|example| example.nameless).count();
    if nameless > 0 {
        eprintln!(
            "{nameless} images name no patient, or a placeholder (such as ANON): taken as one patient a study"
        );
    }
    if shared.images > 0 {
        eprintln!(
            "{} images are under {} names that must stand for many patients (too many studies for one person): taken as one patient a study",
            shared.images, shared.names
        );
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
