//! How long a retraining will take and how much memory: measured on a few of the images themselves.

use std::time::{Duration, Instant};

use super::asked::{Asked, hear};
use super::full::Trainable;
use super::{Ask, Mode, SessionError, Side, Watch, Wish, failed, learned_from, seen_on};
use crate::model::manifest::ClassifierSpec;
use crate::model::onnx::ModelProto;
use crate::model::runtime::Runtime;
use crate::retrain::bundle_writer::Fitted;
use crate::retrain::head::{self, Place};
use crate::retrain::memory;
use crate::retrain::train::{self, Normalisation};

/// Images that the measurement takes.
const IMAGES: usize = 4;
/// A training step takes about three times the forward pass: forward, and two products of its size backward.
const STEP: f64 = 3.0;

/// What is to be expected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forecast {
    /// At most: training may end early.
    pub time: Duration,
    /// Bytes at the worst moment, for networks, images and what a step needs.
    pub memory: u64,
}

/// Measures what a session will take; nothing is trained.
pub fn forecast(wish: &Wish<'_>, runtime: &Runtime) -> Result<Forecast, SessionError> {
    let ask = Ask { wish, runtime };
    let mut whole = Forecast::default();
    for spec in &wish.bundle.manifest().classifiers {
        if wish.classifiers.contains(&spec.id) {
            let one = of_classifier(&ask, spec)?;
            whole.time += one.time;
            whole.memory = whole.memory.max(one.memory);
        }
    }
    let pictures = wish.dataset.examples.iter().flat_map(|it| &it.pictures);
    // Once as loaded, once as training holds them.
    whole.memory += pictures
        .map(|picture| 4 * picture.len() as u64)
        .sum::<u64>();
    Ok(whole)
}

fn of_classifier(ask: &Ask<'_>, spec: &ClassifierSpec) -> Result<Forecast, SessionError> {
    let wish = ask.wish;
    let training = Asked::of(wish, spec, &learned_from(wish));
    let validation = Asked::of(wish, spec, &seen_on(wish, Side::Validation));
    let few = training.some(IMAGES);
    if few.pictures.is_empty() {
        return Ok(Forecast::default());
    }
    let [learned, held_out] = [&training, &validation].map(|it| it.pictures.len() as f64);
    let model = Fitted::of(wish.bundle, spec)?.network;
    let asking = seconds_asking(ask, spec, &model, &few)?;
    // Once for features or figures, once more for the distance; then the new bundle and the one in use are judged.
    let [test, golden] = [Side::Test, Side::Golden]
        .map(|side| Asked::of(wish, spec, &seen_on(wish, side)).pictures.len() as f64);
    let judged = held_out + test + golden;
    let mut seconds = asking * (2.0 * learned + held_out + 2.0 * judged);
    let mut memory = 0;
    if wish.mode == Mode::Head {
        seconds += seconds_fitting(spec, &model, learned)?;
    }
    if wish.mode == Mode::Full {
        let trainable = Trainable::of(spec, model).map_err(|source| failed(spec, source.into()))?;
        let forward = seconds_forward(ask, spec, &trainable, &few)?;
        seconds += wish.full.epochs as f64 * forward * (STEP * learned + held_out);
        let wanted = wish.full.batch;
        let (batch, _) = memory::available().map_or((wanted, 1), |available| {
            memory::fitting(&trainable.graph, wanted, available)
        });
        memory = memory::of_training(&trainable.graph, batch);
    }
    Ok(Forecast {
        time: Duration::from_secs_f64(seconds),
        memory,
    })
}

/// Nobody needs to hear of a measurement's progress.
struct Silent;

impl Watch for Silent {
    fn line(&mut self, _: &str) {}
    fn progress(&mut self, _: &str, _: usize, _: usize) {}
}

fn seconds_asking(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    model: &ModelProto,
    few: &Asked<'_>,
) -> Result<f64, SessionError> {
    let logits = &spec.outputs.logits;
    let started = Instant::now();
    hear(ask, spec, model, logits, few, &mut Silent)?;
    let with_loading = started.elapsed().as_secs_f64();
    Ok(with_loading / few.pictures.len() as f64)
}

/// Of fitting the last layer in as many steps as it may take, by two steps on a few features.
fn seconds_fitting(
    spec: &ClassifierSpec,
    model: &ModelProto,
    learned: f64,
) -> Result<f64, SessionError> {
    let Ok(place) = Place::find(model, &spec.outputs.logits) else {
        return Ok(0.0);
    };
    let (rows, steps, classes) = (256, 2, spec.classes.len());
    let features = vec![vec![0.0; place.length]; rows];
    let answers: Vec<usize> = (0..rows).map(|row| row % classes).collect();
    let how = head::Fit {
        steps,
        ..head::Fit::default()
    };
    let weights = vec![1.0; classes];
    let started = Instant::now();
    head::fit(&features, &answers, &weights, None, how, |_, _| {})
        .map_err(|source| failed(spec, source))?;
    let a_step = started.elapsed().as_secs_f64() / (rows * steps) as f64;
    Ok(a_step * learned * head::Fit::default().steps as f64)
}

fn seconds_forward(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    trainable: &Trainable,
    few: &Asked<'_>,
) -> Result<f64, SessionError> {
    let device = &ask.wish.device;
    let weights = trainable.graph.weights(device);
    let by = Normalisation::of(&spec.normalisation);
    let pictures = few.plain(spec);
    let run = || train::answer(&trainable.graph, &weights, &pictures, by, IMAGES, device);
    // The first time pays for what is done once.
    run().map_err(|source| failed(spec, source))?;
    let started = Instant::now();
    run().map_err(|source| failed(spec, source))?;
    Ok(started.elapsed().as_secs_f64() / few.pictures.len() as f64)
}
