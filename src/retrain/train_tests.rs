#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::retrain::network::{Architecture, Stage, normal};

const SIZE: usize = 32;

/// Stripes, across or along, or a disc, in noise.
fn toy(count: usize, seed: u64) -> Pictures {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let samples = (0..count)
        .map(|k| {
            let phase = normal(&mut rng) * 3.0;
            let pixels = (0..SIZE * SIZE)
                .map(|i| {
                    let (y, x) = ((i / SIZE) as f32, (i % SIZE) as f32);
                    let value = match k % 3 {
                        0 => (0.7 * y + phase).sin(),
                        1 => (0.7 * x + phase).sin(),
                        _ => f32::from((y - 16.0).hypot(x - 16.0) < 8.0 + phase.sin()) * 2.0 - 1.0,
                    };
                    ((0.5 + 0.3 * value + 0.1 * normal(&mut rng)).clamp(0.0, 1.0) * 65535.0) as u16
                })
                .collect();
            (pixels, k % 3)
        })
        .collect();
    Pictures {
        height: SIZE,
        width: SIZE,
        samples,
        together: 1,
    }
}

fn graph() -> Graph {
    let stage = |fused, channels| Stage {
        fused,
        expansion: 2,
        channels,
        blocks: 1,
        stride: 2,
        kernel: 3,
    };
    let stages = vec![stage(true, 8), stage(false, 12)];
    Graph::new(
        Architecture {
            height: SIZE,
            width: SIZE,
            stem: [6, 3, 2],
            stages,
            features: 16,
            classes: 3,
        }
        .build(3),
    )
    .unwrap()
}

fn recipe(epochs: usize) -> Recipe {
    Recipe {
        epochs,
        batch: 16,
        learning_rate: 1e-2,
        warm_up: 0.1,
        weight_decay: 0.01,
        label_smoothing: 0.05,
        average: 0.9,
        augmentation: Augmentation {
            shift: 0.05,
            rotation: 3.0,
            noise: 0.05,
            ..Augmentation::NONE
        },
        pad: 0.5,
        normalisation: Normalisation {
            mean: 0.5,
            deviation: 0.25,
        },
        seed: 4,
    }
}

#[test]
fn a_small_network_learns_to_tell_simple_pictures_apart() {
    let (training, validation) = (toy(120, 1), toy(60, 2));
    let mut last = None;
    fit(
        &graph(),
        &training,
        &validation,
        &recipe(10),
        &Device::flex(),
        |p| last = Some(p.clone()),
    )
    .unwrap();
    let last = last.unwrap();
    assert!(
        last.epoch == 10 && last.validation_accuracy > 0.95,
        "{last:?}"
    );
}

#[test]
fn two_runs_with_one_seed_agree_and_another_seed_differs() {
    let (training, validation) = (toy(48, 1), toy(12, 2));
    let run = |seed| {
        let recipe = Recipe { seed, ..recipe(2) };
        let weights = fit(
            &graph(),
            &training,
            &validation,
            &recipe,
            &Device::flex(),
            |_| (),
        )
        .unwrap();
        let answers = answer(
            &graph(),
            &weights,
            &validation,
            recipe.normalisation,
            5,
            &Device::flex(),
        )
        .unwrap();
        answers
            .into_iter()
            .flat_map(|a| a.logits)
            .collect::<Vec<f32>>()
    };
    let (one, again, other) = (run(1), run(1), run(2));
    let apart = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    assert!(apart(&one, &again) < 1e-5, "{}", apart(&one, &again));
    assert!(apart(&one, &other) > 1e-3);
}

#[test]
fn answers_do_not_depend_on_the_batch_size() {
    let pictures = toy(10, 3);
    let (graph, device) = (graph(), Device::flex());
    let weights = graph.weights(&device);
    let normalisation = recipe(1).normalisation;
    let one = answer(&graph, &weights, &pictures, normalisation, 1, &device).unwrap();
    let many = answer(&graph, &weights, &pictures, normalisation, 7, &device).unwrap();
    for (a, b) in one.iter().zip(&many) {
        for (a, b) in a.logits.iter().zip(&b.logits) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
    assert_eq!((one.len(), many.len()), (10, 10));
}

#[test]
fn a_run_that_diverges_says_so() {
    let wild = Recipe {
        learning_rate: f64::from(f32::MAX),
        warm_up: 0.0,
        ..recipe(3)
    };
    let error = fit(
        &graph(),
        &toy(48, 1),
        &toy(6, 2),
        &wild,
        &Device::flex(),
        |_| (),
    )
    .unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

#[test]
fn empty_sets_and_wrong_sizes_are_errors() {
    let none = Pictures {
        samples: Vec::new(),
        together: 1,
        ..toy(3, 1)
    };
    let error = fit(
        &graph(),
        &none,
        &toy(3, 1),
        &recipe(1),
        &Device::flex(),
        |_| (),
    )
    .unwrap_err();
    assert!(matches!(error, TrainError::Empty("training")), "{error}");
    let odd = Pictures {
        width: SIZE - 1,
        ..toy(3, 1)
    };
    let error = fit(
        &graph(),
        &toy(3, 1),
        &odd,
        &recipe(1),
        &Device::flex(),
        |_| (),
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Size {
                which: "validation",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_learning_rate_rises_then_falls_to_nothing() {
    let rates: Vec<f64> = (0..100).map(|step| schedule(step, 100, 0.1)).collect();
    assert!(rates[0] < 0.1 && rates[99] < 0.01);
    assert!(rates[..10].is_sorted() && rates[10..].iter().rev().is_sorted());
    assert!(rates.iter().all(|r| (0.0..=1.0).contains(r)));
}
