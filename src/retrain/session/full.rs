//! All weights of one classifier, trained through the interpreter.

use super::asked::{Asked, CHUNK, hear};
use super::batch::Batch;
use super::parity::{self, Apart};
use super::{Ask, Epoch, SessionError, Watch, failed};
use crate::model::manifest::{ClassifierSpec, Laterality};
use crate::model::onnx::ModelProto;
use crate::retrain::augment::Augmentation;
use crate::retrain::checkpoint::Keeping;
use crate::retrain::graph::{Graph, GraphError, Weights};
use crate::retrain::head::{Head, Place};
use crate::retrain::train::{self, Normalisation, Progress, Recipe, Told, Within};

/// Images on which interpreter and ONNX Runtime are compared before training.
const GATE_IMAGES: usize = 8;
/// How far their logits may be apart then, as a part of the largest (and at least of 1).
const GATE: f32 = 1e-4;
/// A checkpoint within an epoch is written when the last one is this old.
const CHECKPOINT_EVERY: std::time::Duration = std::time::Duration::from_mins(2);

/// A network that can be trained, with the names that the session knows it by.
pub(super) struct Trainable {
    pub(super) graph: Graph,
    /// The network with the features among its outputs.
    pub(super) model: ModelProto,
    /// The value that holds the features, or else the logits.
    pub(super) features: String,
    /// The last layer, where it can be told.
    place: Option<Place>,
}

impl Trainable {
    pub(super) fn of(spec: &ClassifierSpec, model: ModelProto) -> Result<Self, GraphError> {
        let logits = &spec.outputs.logits;
        let place = Place::find(&model, logits).ok();
        let (model, features) = match (&spec.outputs.features, &place) {
            (Some(name), _) => (model, name.clone()),
            (None, Some(place)) => (place.with_features(model), place.features.clone()),
            (None, None) => (model, logits.clone()),
        };
        Ok(Self {
            graph: Graph::with_outputs(model.clone(), logits, &features)?,
            model,
            features,
            place,
        })
    }
}

/// A network with its new weights.
pub(super) struct Trained {
    pub(super) network: ModelProto,
    /// How the training went.
    pub(super) curve: Vec<Epoch>,
    /// What it says about some validation images, by the interpreter.
    pub(super) logits: Vec<Vec<f32>>,
}

/// Trains; the logits are of `few`.
pub(super) fn train(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    model: ModelProto,
    training: &Asked<'_>,
    validation: &Asked<'_>,
    few: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<Trained, SessionError> {
    let graph_failed = |source: GraphError| failed(spec, source.into());
    let trainable = Trainable::of(spec, model).map_err(graph_failed)?;
    let graph = &trainable.graph;
    let device = &ask.wish.device;
    gate(
        ask,
        spec,
        graph,
        &trainable.model,
        &validation.some(GATE_IMAGES),
        watch,
    )?;
    let wish = &ask.wish.full;
    let keeping = wish.checkpoints.as_ref().map(|folder| Keeping {
        file: folder.join(format!("{}.safetensors", spec.id)),
        every: CHECKPOINT_EVERY,
        resume: wish.resume,
    });
    let batch = Batch::choose(ask, spec, &trainable, keeping.as_ref(), watch)?;
    let class_weights = match &trainable.place {
        Some(_) => class_weights(&training.classes, spec.classes.len()),
        // What weights do to the last layer's bias could not be taken back.
        None => Vec::new(),
    };
    let recipe = Recipe {
        epochs: wish.epochs,
        batch: batch.images,
        accumulate: batch.times,
        learning_rate: wish.learning_rate,
        backbone_rate: wish.backbone_rate,
        frozen_norms: wish.frozen_norms,
        patience: wish.patience,
        label_smoothing: 0.02,
        augmentation: Augmentation {
            shift: 0.03,
            scale: 0.05,
            rotation: 3.0,
            gamma: 0.12,
            contrast: 0.06,
            noise: 0.015,
            collimation: 0.06,
            mirror: ask.wish.bundle.manifest().laterality == Laterality::Ignored,
        },
        pad: spec.render.pad,
        normalisation: Normalisation::of(&spec.normalisation),
        seed: ask.wish.seed,
        class_weights: class_weights.clone(),
        ..Recipe::default()
    };
    let (mut curve, mut told_of_room) = (Vec::new(), false);
    let (learn, check) = (training.training(spec), validation.plain(spec));
    let weights = train::fit_kept(
        graph,
        &learn,
        &check,
        &recipe,
        device,
        keeping.as_ref(),
        |told| match told {
            Told::Step(within) => {
                watch.progress(&phase(spec, &within), within.pictures, within.of);
            }
            Told::NotKept(why) => {
                if !std::mem::replace(&mut told_of_room, true) {
                    watch.line(&why.to_string());
                }
            }
            Told::Epoch(epoch) => {
                watch.line(&in_words(spec, epoch));
                curve.push(Epoch {
                    loss: epoch.loss,
                    validation_accuracy: epoch.validation_accuracy,
                });
            }
        },
    )
    .map_err(|source| failed(spec, source))?;
    let trained = graph.to_onnx(&weights).map_err(graph_failed)?;
    let mut logits = answers(ask, spec, graph, &weights, few)?;
    let network = match (&trainable.place, class_weights.is_empty()) {
        (Some(place), false) => {
            for (logit, weight) in logits
                .iter_mut()
                .flat_map(|of| of.iter_mut().zip(&class_weights))
            {
                *logit -= weight.ln();
            }
            without_class_weights(place, trained, &class_weights)
        }
        _ => trained,
    };
    Ok(Trained {
        network,
        curve,
        logits,
    })
}

/// Logits by the interpreter.
fn answers(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    graph: &Graph,
    weights: &Weights,
    few: &Asked<'_>,
) -> Result<Vec<Vec<f32>>, SessionError> {
    let by = Normalisation::of(&spec.normalisation);
    let pictures = few.plain(spec);
    let device = &ask.wish.device;
    let answers = train::answer(graph, weights, &pictures, by, CHUNK, device)
        .map_err(|source| failed(spec, source))?;
    Ok(answers.into_iter().map(|answer| answer.logits).collect())
}

/// What is counted while an epoch goes on.
fn phase(spec: &ClassifierSpec, within: &Within) -> String {
    let Within {
        epoch,
        epochs,
        loss,
        ..
    } = within;
    let id = &spec.id;
    format!("{id}: images of epoch {epoch}/{epochs}, loss {loss:.4}")
}

fn in_words(spec: &ClassifierSpec, epoch: &Progress) -> String {
    let seconds = epoch.elapsed.as_secs();
    let left = seconds / epoch.epoch.max(1) as u64 * (epoch.epochs - epoch.epoch) as u64;
    format!(
        "{}: epoch {} of {}, loss {:.4}, validation {:.2} % (loss {:.4}), {seconds} s, at most {left} s to go",
        spec.id,
        epoch.epoch,
        epoch.epochs,
        epoch.loss,
        100.0 * epoch.validation_accuracy,
        epoch.validation_loss,
    )
}

/// Before anything is trained: the interpreter must compute what ONNX Runtime computes.
fn gate(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    graph: &Graph,
    model: &ModelProto,
    few: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<(), SessionError> {
    let weights = graph.weights(&ask.wish.device);
    let worst = apart(ask, spec, graph, &weights, model, few, watch)?;
    if worst.relative > GATE {
        return Err(SessionError::Gate {
            classifier: spec.id.clone(),
            worst: worst.relative,
            limit: GATE,
        });
    }
    watch.line(&format!(
        "{}: the interpreter agrees with ONNX Runtime to {:.1e} on {} images",
        spec.id,
        worst.relative,
        few.pictures.len()
    ));
    Ok(())
}

fn apart(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    graph: &Graph,
    weights: &Weights,
    model: &ModelProto,
    few: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<Apart, SessionError> {
    let mine = answers(ask, spec, graph, weights, few)?;
    let theirs = hear(ask, spec, model, &spec.outputs.logits, few, watch)?;
    Ok(parity::apart(
        mine.iter().map(Vec::as_slice),
        &theirs.answers,
    ))
}

/// Rare classes count more, by the root of how rare they are: 1 on average over the images.
fn class_weights(classes: &[usize], count: usize) -> Vec<f32> {
    let mut images = vec![0usize; count];
    classes.iter().for_each(|class| images[*class] += 1);
    let root = |n: usize| (1.0 / n.max(1) as f32).sqrt();
    let total: f32 = images.iter().map(|n| *n as f32 * root(*n)).sum();
    images
        .iter()
        .map(|n| root(*n) * classes.len() as f32 / total.max(f32::MIN_POSITIVE))
        .collect()
}

/// Weighted training makes rare classes look common; this takes it back (Saerens et al. 2002): log weights off the bias.
fn without_class_weights(place: &Place, model: ModelProto, weights: &[f32]) -> ModelProto {
    let Some(head) = place.read(&model) else {
        return model;
    };
    let bias = head.bias.iter().zip(weights);
    let bias = bias.map(|(bias, weight)| bias - weight.ln()).collect();
    place.replace(model, &Head { bias, ..head })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_classes_weigh_more_and_the_average_image_weighs_one() {
        let classes: Vec<usize> = (0..110).map(|n| usize::from(n >= 100)).collect();
        let weights = class_weights(&classes, 3);
        let mean: f32 = classes.iter().map(|class| weights[*class]).sum::<f32>() / 110.0;
        assert!((mean - 1.0).abs() < 1e-5, "{weights:?}");
        assert!((weights[1] / weights[0] - 10f32.sqrt()).abs() < 1e-4);
        assert!(weights[2].is_finite(), "a class without images");
    }
}
