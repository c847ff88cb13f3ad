#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::domain::decision::HeaderView;
use crate::filing::record::Digest;
use crate::retrain::dataset::Example;
use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};
use crate::retrain::phantoms;

const HEIGHT: usize = 64;
const WIDTH: usize = 40;

/// A smooth picture, different for each seed.
fn picture(seed: u64) -> Vec<u16> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let waves: Vec<[f32; 4]> = (0..6)
        .map(|_| [(); 4].map(|()| rng.random::<f32>()))
        .collect();
    (0..HEIGHT * WIDTH)
        .map(|k| {
            let (y, x) = (
                (k / WIDTH) as f32 / HEIGHT as f32,
                (k % WIDTH) as f32 / WIDTH as f32,
            );
            let sum: f32 = waves
                .iter()
                .map(|[a, b, c, d]| a * (10.0 * (b * y + c * x) + 6.0 * d).sin())
                .sum();
            (30_000.0 + 4_000.0 * sum) as u16
        })
        .collect()
}

fn example(patient: &str, picture: Vec<u16>) -> Example {
    Example {
        path: "x.dcm".into(),
        digest: Digest(patient.to_owned()),
        category: Some(0),
        origin: LabelOrigin::Csv,
        patient: patient.to_owned(),
        study: None,
        nameless: false,
        by_header: None,
        reduced: false,
        header: HeaderView::Absent,
        circumstances: Circumstances::default(),
        pictures: vec![picture],
    }
}

fn dataset(examples: Vec<Example>) -> Dataset {
    let bundle = crate::model::Bundle::open_or_shipped(None).unwrap();
    let spec = crate::decode::RenderSpec {
        height: HEIGHT as u32,
        width: WIDTH as u32,
        ..bundle.render_specs()[0].clone()
    };
    Dataset {
        examples,
        specs: vec![spec],
        ..Dataset::default()
    }
}

fn sides(all: &[(&str, Side)]) -> Sides {
    Sides {
        patients: all
            .iter()
            .map(|(patient, side)| ((*patient).to_owned(), *side))
            .collect::<BTreeMap<_, _>>(),
        ..Sides::default()
    }
}

#[test]
fn a_copy_under_another_patient_is_found_although_it_was_windowed_anew_and_is_noisy() {
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let copy: Vec<u16> = picture(1)
        .iter()
        .map(|p| (f32::from(*p) * 0.8 + 4000.0 + 300.0 * rng.random::<f32>()) as u16)
        .collect();
    let dataset = dataset(vec![
        example("A", picture(1)),
        example("B", copy),
        example("C", picture(2)),
    ]);
    let apart = sides(&[
        ("A", Side::Training),
        ("B", Side::Golden),
        ("C", Side::Training),
    ]);
    assert_eq!(
        leaks(&dataset, &apart),
        [Leak { index: 0, of: 1 }],
        "the golden one stays"
    );
    let alike = sides(&[("A", Side::Test), ("B", Side::Test), ("C", Side::Training)]);
    assert!(
        leaks(&dataset, &alike).is_empty(),
        "on one side nothing leaks"
    );
}

#[test]
fn different_images_of_one_kind_are_not_taken_for_copies() {
    let examples = (0..60)
        .map(|k| example(&format!("P{k}"), picture(k)))
        .collect();
    let all: Vec<String> = (0..60).map(|k| format!("P{k}")).collect();
    let sides = sides(
        &all.iter()
            .enumerate()
            .map(|(k, patient)| (patient.as_str(), Side::ALL[k % 4]))
            .collect::<Vec<_>>(),
    );
    assert!(leaks(&dataset(examples), &sides).is_empty());
}

/// A copy whose content was moved, mirrored, or labelled.
fn changed(seed: u64, down: usize, right: usize, mirrored: bool, label: bool) -> Vec<u16> {
    let original = picture(seed);
    (0..HEIGHT * WIDTH)
        .map(|k| {
            let (y, mut x) = (k / WIDTH, k % WIDTH);
            if label && (5..8).contains(&y) && (8..22).contains(&x) {
                return 60_000;
            }
            if mirrored {
                x = WIDTH - 1 - x;
            }
            original[(y + down).min(HEIGHT - 1) * WIDTH + (x + right).min(WIDTH - 1)]
        })
        .collect()
}

#[test]
fn copies_that_were_moved_mirrored_or_labelled_are_found() {
    let apart = sides(&[("A", Side::Training), ("B", Side::Golden)]);
    for copy in [
        changed(1, 0, 0, true, false),
        changed(1, 0, 0, false, true),
        changed(1, 4, 4, false, false),
        changed(1, 3, 0, true, false),
        changed(1, 1, 2, true, true),
    ] {
        let dataset = dataset(vec![example("A", picture(1)), example("B", copy)]);
        assert_eq!(leaks(&dataset, &apart), [Leak { index: 0, of: 1 }]);
    }
}

#[test]
fn copies_that_were_windowed_by_a_gamma_or_a_sigmoid_are_found() {
    let apart = sides(&[("A", Side::Training), ("B", Side::Golden)]);
    let windows: [&dyn Fn(f32) -> f32; 5] = [
        &|grey| grey.powf(0.5),
        &|grey| grey.powf(2.2),
        &|grey| 1.0 / (1.0 + (-10.0 * (grey - 0.5)).exp()),
        &|grey| (1.0 + 20.0 * grey).ln() / 21f32.ln(),
        &|grey| 0.1 + 0.8 * grey * grey * (3.0 - 2.0 * grey),
    ];
    for (k, window) in windows.iter().enumerate() {
        let shown = |grey: &u16| (window(f32::from(*grey) / 65_535.0) * 65_535.0) as u16;
        let copy: Vec<u16> = picture(1).iter().map(shown).collect();
        for mirrored in [false, true] {
            let mut copy = copy.clone();
            if mirrored {
                copy.chunks_mut(WIDTH).for_each(<[u16]>::reverse);
            }
            let dataset = dataset(vec![
                example("A", picture(1)),
                example("B", copy),
                example("C", picture(2)),
            ]);
            let found = leaks(&dataset, &apart);
            assert_eq!(found, [Leak { index: 0, of: 1 }], "window {k}, {mirrored}");
        }
    }
}

#[test]
fn phantoms_of_different_patients_are_not_taken_for_copies() {
    let spec = crate::model::Bundle::open_or_shipped(None)
        .unwrap()
        .render_specs()[0]
        .clone();
    let options = crate::phantom::PlanOptions {
        count: 150,
        seed: 77,
        imbalance: crate::phantom::Imbalance::Paper,
        difficulty: crate::phantom::Difficulty::Normal,
        size: None,
        outside: 0.05,
    };
    let wanted: Vec<phantoms::Wanted> = crate::phantom::plan(&options)
        .into_iter()
        .map(|plan| phantoms::Wanted {
            patient: plan.truth.patient.clone(),
            plan,
            drawn: phantoms::Drawn::Within(240, 360),
            syntax: crate::phantom::Syntax::ExplicitLe,
            normal: true,
        })
        .collect();
    let scratch = tempfile::tempdir().unwrap();
    let drawn = phantoms::render(
        &wanted,
        std::slice::from_ref(&spec),
        2,
        scratch.path(),
        |_| {},
    )
    .unwrap();
    let mut patients: Vec<String> = drawn.iter().map(|it| it.patient.clone()).collect();
    patients.sort();
    patients.dedup();
    let apart = patients.iter().enumerate();
    let apart = Sides {
        patients: apart
            .map(|(k, patient)| (patient.clone(), Side::ALL[k % 4]))
            .collect(),
        ..Sides::default()
    };
    let dataset = Dataset {
        examples: drawn
            .into_iter()
            .map(|it| example(&it.patient, it.pictures[0].clone()))
            .collect(),
        specs: vec![spec],
        ..Dataset::default()
    };
    assert_eq!(leaks(&dataset, &apart), []);
}

#[test]
fn means_are_of_boxes_and_never_leave_the_picture() {
    let grey: Vec<u16> = (0..12).map(|k| k * 10).collect();
    let sums = Sums::of(&grey, [3, 4]);
    let corner = Window {
        down: 0,
        right: 0,
        mirrored: false,
    };
    // A quarter of four columns is left for moving.
    assert_eq!(sums.means(corner, [1, 1]), [50.0]);
    assert_eq!(sums.means(Window::MIDDLE, [1, 1]), [60.0]);
    let mirrored = Window {
        mirrored: true,
        ..corner
    };
    assert_eq!(sums.means(mirrored, [1, 3]), [70.0, 60.0, 50.0]);
    assert_eq!(sums.means(Window::MIDDLE, [8, 8]).len(), 64);
}
