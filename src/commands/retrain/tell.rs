//! What people are told before anything is trained.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::labelled;
use crate::domain::View;
use crate::retrain::dataset::Dataset;
use crate::retrain::people::Found;
use crate::retrain::session::{self, Forecast, Wish};
use crate::retrain::sides::Side;

/// What there is to learn from, and on what it will be computed.
pub(super) fn plan(wish: &Wish<'_>, found: Found, device: &str) {
    let dataset = wish.dataset;
    eprintln!(
        "{} images of {} patients ({} prepared before); {}",
        dataset.examples.len(),
        patients(dataset),
        dataset.from_cache,
        labelled::counts(dataset)
    );
    labelled::name_left_out(dataset);
    for line in unknown(dataset) {
        eprintln!("{line}");
    }
    let audits = dataset.audits.in_words();
    if !audits.is_empty() {
        eprintln!("{}", audits.trim_start());
    }
    nobodies(wish, found);
    eprintln!(
        "{:<28} {:>9} {:>11} {:>6} {:>7}",
        "images that a person has seen", "training", "validation", "test", "golden"
    );
    for (name, counts) in classes(wish) {
        let [training, validation, test, golden] = counts;
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

fn patients(dataset: &Dataset) -> usize {
    let names = dataset.examples.iter().map(|it| it.patient.as_str());
    names.collect::<BTreeSet<_>>().len()
}

/// How many images of each class a person has seen, by side.
fn classes<'a>(wish: &Wish<'a>) -> impl Iterator<Item = (&'a str, [usize; 4])> {
    let count = |class: Option<usize>| {
        Side::ALL.map(|side| {
            let seen = session::seen_on(wish, side).into_iter();
            let of_class = seen.filter(|index| wish.dataset.examples[*index].category == class);
            of_class.count()
        })
    };
    let categories = wish.bundle.categories().iter().enumerate();
    let mut counted: Vec<_> = categories
        .map(|(place, category)| (category.id.as_str(), count(Some(place))))
        .collect();
    counted.push(("neither view", count(None)));
    counted.into_iter()
}

/// The same for programs.
pub(super) fn as_json(wish: &Wish<'_>, found: Found, forecast: &Forecast) -> serde_json::Value {
    let dataset = wish.dataset;
    let seen: Vec<_> = classes(wish)
        .map(|(class, counts)| {
            let [training, validation, test, golden] = counts;
            json!({
                "class": class,
                "training": training,
                "validation": validation,
                "test": test,
                "golden": golden,
            })
        })
        .collect();
    let refused = session::unseen(wish).into_iter();
    let refused: Vec<String> = refused.map(|why| why.to_string()).collect();
    let unknown: Vec<_> = dataset
        .unknown
        .iter()
        .map(|(id, unknown)| {
            // What other people's lists say may be anything, also a patient's name.
            let id = unknown.by_a_label.then_some(id);
            json!({ "id": id, "images": unknown.files, "view": unknown.view() })
        })
        .collect();
    json!({
        "dry_run": true,
        "bundle": wish.bundle.name_and_version(),
        "classifiers": wish.classifiers,
        "mode": match wish.mode {
            session::Mode::Head => "head",
            session::Mode::Full => "full",
        },
        "device": wish.device_name,
        "images": dataset.examples.len(),
        "patients": patients(dataset),
        "prepared_before": dataset.from_cache,
        "left_out": dataset.left_out.counts(),
        "unknown_categories": unknown,
        "nameless_images": nameless(dataset),
        "images_under_shared_names": found.shared.images,
        "joined_names": found.names,
        "joined_people": found.people,
        "people_on_several_sides": found.on_several_sides,
        "passed_over_ids": found.of_nearly_all,
        "seen_by_a_person": seen,
        "seen_by_nobody": session::untouched(wish),
        "seconds_at_most": forecast.time.as_secs(),
        "memory_bytes": forecast.memory,
        "too_few": session::too_few(wish),
        "would_be_refused": refused,
    })
}

fn nameless(dataset: &Dataset) -> usize {
    dataset.examples.iter().filter(|it| it.nameless).count()
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

/// Whose images are taken as one patient a study, because it is not known who they are, and who is one person.
fn nobodies(wish: &Wish<'_>, found: Found) {
    let nameless = nameless(wish.dataset);
    if nameless > 0 {
        eprintln!(
            "{nameless} images name no patient, or a placeholder (such as ANON): taken as one patient a study"
        );
    }
    for line in found.in_words() {
        eprintln!("{line}");
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
