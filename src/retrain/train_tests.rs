#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::retrain::augment::Augmentation;
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
        groups: Vec::new(),
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
        normalisation: Normalisation::same(0.5, 0.25),
        seed: 4,
        ..Recipe::default()
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
fn an_epoch_tells_after_each_step_how_many_pictures_it_has_learned_from() {
    let recipe = Recipe {
        accumulate: 2,
        ..recipe(2)
    };
    let mut told = Vec::new();
    fit_kept(
        &graph(),
        &toy(72, 1),
        &toy(12, 2),
        &recipe,
        &Device::flex(),
        None,
        |heard| {
            told.push(match heard {
                Told::Step(within) => {
                    assert!(within.loss > 0.0 && within.loss.is_finite(), "{within:?}");
                    (within.epoch, within.pictures, within.of)
                }
                Told::Epoch(done) => (done.epoch, 0, 0),
                Told::NotKept(_) => return,
            });
        },
    )
    .unwrap();
    let epoch = |n| [(n, 32, 72), (n, 64, 72), (n, 72, 72), (n, 0, 0)];
    assert_eq!(told, [epoch(1), epoch(2)].concat());
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
        groups: Vec::new(),
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

/// The answers of a run's weights to a few pictures.
fn logits_of(weights: &Weights, recipe: &Recipe) -> Vec<f32> {
    let (device, pictures) = (Device::flex(), toy(12, 2));
    let answers = answer(
        &graph(),
        weights,
        &pictures,
        recipe.normalisation,
        5,
        &device,
    )
    .unwrap();
    answers.into_iter().flat_map(|a| a.logits).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_run_that_is_interrupted_and_resumed_ends_like_one_that_was_not() {
    let (training, validation, device) = (toy(48, 1), toy(12, 2), Device::flex());
    let recipe = Recipe {
        accumulate: 2,
        batch: 8,
        patience: 9,
        ..recipe(4)
    };
    let graph = graph();
    let straight = fit(&graph, &training, &validation, &recipe, &device, |_| ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // After two epochs, and in the midst of the third: each step is kept, and a panic is the kill.
    for (epochs, every) in [(2, Duration::MAX), (2, Duration::ZERO)] {
        let file = dir.path().join(format!("{every:?}.checkpoint"));
        let keeping = Keeping {
            file: file.clone(),
            every,
            resume: true,
        };
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fit_kept(
                &graph,
                &training,
                &validation,
                &recipe,
                &device,
                Some(&keeping),
                |told| {
                    if let Told::Epoch(p) = told {
                        assert!(p.epoch < epochs, "killed");
                    }
                },
            )
        }));
        assert!(killed.is_err());
        let mut first = None;
        let resumed = fit_kept(
            &graph,
            &training,
            &validation,
            &recipe,
            &device,
            Some(&keeping),
            |told| {
                if let Told::Epoch(p) = told {
                    first.get_or_insert(p.epoch);
                }
            },
        )
        .unwrap();
        assert_eq!(first, Some(epochs + 1));
        let apart = largest_difference(
            &logits_of(&straight, &recipe),
            &logits_of(&resumed, &recipe),
        );
        assert!(apart < 1e-5, "{apart}");
    }
}

#[test]
fn a_checkpoint_within_an_epoch_goes_on_at_the_next_step() {
    let (training, device) = (toy(48, 1), Device::flex());
    let (recipe, graph) = (recipe(2), graph());
    let dir = tempfile::tempdir().unwrap();
    let keeping = Keeping {
        file: dir.path().join("checkpoint"),
        every: Duration::ZERO,
        resume: true,
    };
    let run = Run {
        graph: &graph,
        training: &training,
        recipe: &recipe,
        device: &device,
        tracked: device.clone().autodiff(),
        logits: 1,
        in_head: graph.in_head(),
        keeping: Some((&keeping, "digest".into())),
    };
    // All three steps of the first epoch, each written; then the state after the first is taken up again.
    let mut straight = run.start().unwrap();
    let mut first = straight.clone();
    run.epoch(&mut straight, &mut |_| ()).unwrap();
    for_each_batch(&graph, &training, &recipe, 1, 0, |_, pixels, classes| {
        let images = batch_tensor(pixels, &training, &graph, &run.tracked);
        let output = graph.train(&mut first.weights, images).swap_remove(1);
        let gradients = cross_entropy(output, classes, &recipe, classes.len()).backward();
        let gradients = first.weights.parameters.iter().map(|p| p.grad(&gradients));
        let gradients = gradients.collect();
        run.step(&mut first, gradients);
        Ok(false)
    })
    .unwrap();
    run.keep(&first, &mut |_| {}).unwrap();
    let mut resumed = run.start().unwrap();
    assert_eq!((resumed.place.done, resumed.place.step), (1, 1));
    run.epoch(&mut resumed, &mut |_| ()).unwrap();
    assert_eq!((resumed.place.done, resumed.place.step), (3, 3));
    let apart = largest_difference(
        &logits_of(&straight.averaged, &recipe),
        &logits_of(&resumed.averaged, &recipe),
    );
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn a_checkpoint_of_another_run_or_a_broken_one_is_refused() {
    let (training, validation, device) = (toy(24, 1), toy(6, 2), Device::flex());
    let dir = tempfile::tempdir().unwrap();
    let keeping = Keeping {
        file: dir.path().join("checkpoint"),
        every: Duration::MAX,
        resume: true,
    };
    let run = |seed, keeping: &Keeping| {
        let recipe = Recipe { seed, ..recipe(1) };
        fit_kept(
            &graph(),
            &training,
            &validation,
            &recipe,
            &device,
            Some(keeping),
            |_| (),
        )
    };
    run(1, &keeping).unwrap();
    let error = run(2, &keeping).unwrap_err();
    assert!(
        matches!(error, TrainError::Checkpoint(CheckpointError::Other { .. })),
        "{error}"
    );
    let bytes = std::fs::read(&keeping.file).unwrap();
    std::fs::write(&keeping.file, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(1, &keeping).unwrap_err();
    assert!(
        matches!(
            error,
            TrainError::Checkpoint(CheckpointError::Broken { .. })
        ),
        "{error}"
    );
    let anew = Keeping {
        resume: false,
        ..keeping
    };
    run(2, &anew).unwrap();
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "no scraps");
}

#[test]
fn two_small_batches_make_the_step_of_a_large_one_where_statistics_are_frozen() {
    let (training, validation, device) = (toy(40, 1), toy(6, 2), Device::flex());
    let run = |batch, accumulate| {
        let recipe = Recipe {
            batch,
            accumulate,
            frozen_norms: true,
            augmentation: Augmentation::NONE,
            class_weights: vec![0.5, 1.0, 1.5],
            ..recipe(2)
        };
        let weights = fit(&graph(), &training, &validation, &recipe, &device, |_| ()).unwrap();
        logits_of(&weights, &recipe)
    };
    let apart = largest_difference(&run(16, 1), &run(8, 2));
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn head_only_leaves_everything_before_the_features_as_it_was() {
    let (training, validation, device) = (toy(24, 1), toy(6, 2), Device::flex());
    let recipe = Recipe {
        head_only: true,
        ..recipe(2)
    };
    let graph = graph();
    let before = graph.weights(&device).numbers().unwrap();
    let trained = fit(&graph, &training, &validation, &recipe, &device, |_| ()).unwrap();
    let after = trained.numbers().unwrap();
    let in_head = graph.in_head();
    for (k, ((_, a), (_, b))) in before.iter().zip(&after).enumerate() {
        let head = in_head.get(k).copied().unwrap_or(false);
        // The average of equal numbers may differ from them in the last bit.
        assert_eq!(largest_difference(a, b) > 1e-4, head, "tensor {k}");
    }
    assert_eq!(in_head.iter().filter(|head| **head).count(), 2);
}

#[test]
fn the_backbone_learns_at_its_own_rate() {
    let (training, validation, device) = (toy(24, 1), toy(6, 2), Device::flex());
    let graph = graph();
    let before = graph.weights(&device).numbers().unwrap();
    let moved = |backbone_rate| {
        let recipe = Recipe {
            backbone_rate,
            average: 0.0,
            ..recipe(1)
        };
        let trained = fit(&graph, &training, &validation, &recipe, &device, |_| ()).unwrap();
        largest_difference(&before[0].1, &trained.numbers().unwrap()[0].1)
    };
    let (full, tenth, none) = (moved(1.0), moved(0.1), moved(0.0));
    assert!(
        none == 0.0 && tenth > 0.0 && tenth < 0.3 * full,
        "{full} {tenth}"
    );
}

#[test]
fn a_run_without_progress_ends_early_with_its_best_weights() {
    let (training, validation, device) = (toy(24, 1), toy(12, 2), Device::flex());
    let recipe = Recipe {
        patience: 2,
        learning_rate: 0.3,
        average: 0.0,
        warm_up: 0.0,
        ..recipe(30)
    };
    let mut losses = Vec::new();
    let weights = fit(&graph(), &training, &validation, &recipe, &device, |p| {
        losses.push(p.validation_loss);
    })
    .unwrap();
    assert!(losses.len() < 30, "{losses:?}");
    let best = losses.iter().copied().fold(f32::MAX, f32::min);
    assert_eq!(losses[losses.len() - 3], best);
    let answers = answer(
        &graph(),
        &weights,
        &validation,
        recipe.normalisation,
        16,
        &device,
    )
    .unwrap();
    let (loss, _) = validate(&answers, &validation, &[]);
    assert!((loss as f32 - best).abs() < 1e-4 * best.max(1.0));
}

#[test]
fn a_loss_that_is_no_number_takes_training_back_with_a_lower_rate() {
    let (training, validation, device) = (toy(24, 1), toy(6, 2), Device::flex());
    // So high a rate that weights overflow; halved often enough it is a usable one.
    let recipe = Recipe {
        learning_rate: 1e30,
        weight_decay: 0.0,
        rollbacks: 110,
        warm_up: 0.0,
        ..recipe(2)
    };
    let mut last = None;
    fit(&graph(), &training, &validation, &recipe, &device, |p| {
        last = Some(p.clone());
    })
    .unwrap();
    let last = last.unwrap();
    assert!(
        last.epoch == 2 && last.rollbacks > 0 && last.loss.is_finite(),
        "{last:?}"
    );
}

#[test]
fn class_weights_must_cover_the_classes() {
    let recipe = Recipe {
        class_weights: vec![1.0, 1.0],
        ..recipe(1)
    };
    let device = Device::flex();
    let error = fit(&graph(), &toy(6, 1), &toy(6, 2), &recipe, &device, |_| ()).unwrap_err();
    assert!(
        matches!(error, TrainError::ClassWeights { given: 2 }),
        "{error}"
    );
}

#[test]
fn a_heavier_class_is_answered_more_often() {
    let (training, validation, device) = (toy(24, 1), toy(30, 2), Device::flex());
    let answers = |weight: f32| {
        let recipe = Recipe {
            class_weights: vec![1.0, 1.0, weight],
            average: 0.0,
            ..recipe(1)
        };
        let weights = fit(&graph(), &training, &validation, &recipe, &device, |_| ()).unwrap();
        let logits = logits_of(&weights, &recipe);
        let third = logits.chunks(3).map(|row| row[2] - row[0].max(row[1]));
        third.sum::<f32>()
    };
    assert!(answers(8.0) > answers(0.1));
}
