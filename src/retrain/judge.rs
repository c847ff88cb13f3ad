//! Judges a trained classifier on validation pictures: temperature, distance, threshold, figures.

use burn::tensor::Device;

use super::bundle_writer::Fitted;
use super::calibrate;
use super::evaluate::{Confusion, argmax};
use super::graph::Graph;
use super::judging::intervals::upper_bound;
use super::network::{FEATURES, INPUT, LOGITS};
use super::phantoms::Labelled;
use super::task::Task;
use super::train::{self, Answer, Normalisation, Pictures, TrainError};
use crate::model::calibration::{Distance, softmax};
use crate::model::manifest::{
    self, ClassifierSpec, FileRef, GreyFormat, Method, OutOfDistribution, Outputs, Role,
};
use crate::model::onnx::ModelProto;

/// The part of usual pictures that each classifier's distance may send to review, where there are validation pictures enough
/// to tell. What is stated is what they can show, see [`distance_limit`].
const FALSE_REVIEW_RATE: f64 = 0.002;
/// The part of usual, rightly named pictures that low confidence may send to review.
const LOW_CONFIDENCE_RATE: f64 = 0.004;
/// Reference images written for each classifier.
const REFERENCES: usize = 2;

/// A classifier and what was found out about it on validation pictures.
pub struct Judged {
    /// Ready to be written.
    pub classifier: Fitted,
    /// The confidence below which a person looks.
    pub threshold: f32,
    /// For the manifest's metrics.
    pub figures: toml::Table,
    /// For a person who watches.
    pub summary: String,
}

/// What a classifier answered about labelled pictures.
pub struct Heard {
    /// Its answers.
    pub answers: Vec<Answer>,
    /// The true classes, in the same order.
    pub classes: Vec<usize>,
}

impl Heard {
    fn cases<'a>(&'a self, part: impl Fn(&'a Answer) -> &'a Vec<f32>) -> Vec<(&'a [f32], usize)> {
        self.answers
            .iter()
            .zip(&self.classes)
            .map(|(answer, class)| (part(answer).as_slice(), *class))
            .collect()
    }
}

/// [`settle`] for a phantom classifier, whose answers the interpreter gives.
pub fn judge(
    task: &Task,
    network: ModelProto,
    training: &[&Labelled],
    validation: &[&Labelled],
    normalisation: Normalisation,
) -> Result<Judged, TrainError> {
    let (graph, device) = (Graph::new(network.clone())?, Device::flex());
    let weights = graph.weights(&device);
    let hear = |pictures: &Pictures| -> Result<Heard, TrainError> {
        Ok(Heard {
            answers: train::answer(&graph, &weights, pictures, normalisation, 16, &device)?,
            classes: pictures.samples.iter().map(|sample| sample.1).collect(),
        })
    };
    // The view classifier knows what is neither view; a distance from its classes would only repeat that.
    let training = match task.role {
        Role::Category => Some(hear(&task.pictures(training))?),
        Role::View => None,
    };
    let pictures = task.pictures(validation);
    let usual: Vec<bool> = task.asked(validation).iter().map(|asked| asked.2).collect();
    let spec = ClassifierSpec {
        id: task.id.to_owned(),
        role: task.role,
        applies: task.applies,
        model: FileRef {
            file: String::new(),
            sha256: String::new(),
        },
        channels: 1,
        input: INPUT.to_owned(),
        outputs: Outputs {
            logits: LOGITS.to_owned(),
            features: Some(FEATURES.to_owned()),
        },
        temperature: 1.0,
        classes: task.classes().into_iter().map(str::to_owned).collect(),
        render: task.render(),
        normalisation: manifest::Normalisation {
            mean: vec![normalisation.mean[0]],
            std: vec![normalisation.deviation[0]],
        },
        out_of_distribution: None,
    };
    let held_out = hear(&pictures)?;
    let grey: Vec<&Vec<u16>> = pictures.samples.iter().map(|sample| &sample.0).collect();
    Ok(settle(
        spec,
        network,
        training.as_ref(),
        &held_out,
        &usual,
        &grey,
    ))
}

/// Finds everything that the manifest says about a classifier besides its weights: temperature, distance, threshold. The
/// distance is learned on training pictures (none: none is measured); all limits come from the `usual` ones among
/// validation pictures that were not trained on; `grey` are those pictures, of which some become references.
pub fn settle(
    spec: ClassifierSpec,
    network: ModelProto,
    training: Option<&Heard>,
    validation: &Heard,
    usual: &[bool],
    grey: &[&Vec<u16>],
) -> Judged {
    let classes: Vec<&str> = spec.classes.iter().map(String::as_str).collect();
    let cases = validation.cases(|answer| &answer.logits);
    let temperature = calibrate::temperature(&cases);
    let usual: Vec<(&Answer, usize)> = validation
        .answers
        .iter()
        .zip(&validation.classes)
        .zip(usual)
        .filter_map(|((answer, class), usual)| usual.then_some((answer, *class)))
        .collect();
    let parameters = training.map(|training| {
        calibrate::feature_distance(&training.cases(|answer| &answer.features), classes.len())
    });
    let distance = parameters
        .as_ref()
        .map(|parameters| distance_limit(&usual, parameters, classes.len(), temperature));
    let right = usual
        .iter()
        .filter(|(answer, class)| argmax(&answer.logits) == *class);
    let sure = right
        .map(|(answer, _)| {
            softmax(&answer.logits, temperature)
                .into_iter()
                .fold(0.0, f32::max)
        })
        .collect();
    // A little lower: the confidence that is compared with it also covers the view.
    let threshold = (calibrate::lower_limit(sure, LOW_CONFIDENCE_RATE) * 0.98).clamp(0.5, 0.9);
    let confusion = Confusion::of(
        classes.len(),
        cases.iter().map(|(logits, class)| (*class, argmax(logits))),
    );
    let references = grey
        .iter()
        .zip(&validation.answers)
        .step_by(cases.len().div_ceil(REFERENCES).max(1))
        .map(|(grey, answer)| ((*grey).clone(), answer.logits.clone()))
        .collect();
    Judged {
        threshold,
        figures: figures(&confusion, &classes, cases.len()),
        summary: format!(
            "{}: temperature {temperature:.2}, threshold {threshold:.2}, validation {:?}",
            spec.id,
            confusion.counts()
        ),
        classifier: Fitted {
            spec: ClassifierSpec {
                temperature,
                out_of_distribution: distance,
                ..spec
            },
            network,
            parameters,
            references,
        },
    }
}

/// The distance from which on a picture counts as unlike any seen, from usual validation pictures only, and the rate at which
/// it sends usual ones to review.
///
/// With the limit at the farthest but k of n pictures, the rate among all others is distributed as Beta(k + 1, n − k), whatever
/// the distances are (a one-sided tolerance limit: Wilks 1941, Annals of Mathematical Statistics 12: 91–96). Its 95th percentile
/// is stated, which is the bound of Clopper and Pearson for k of n: 3.3 % with 90 pictures, 0.36 % with 4000. The limit lies a
/// tenth farther than that picture, which makes the rate lower by nobody knows how much.
fn distance_limit(
    usual: &[(&Answer, usize)],
    parameters: &[f32],
    classes: usize,
    temperature: f32,
) -> OutOfDistribution {
    let beyond = calibrate::allowed(usual.len(), FALSE_REVIEW_RATE) as u64;
    let mut limit = OutOfDistribution {
        method: Method::FeatureMahalanobisDiagonal,
        threshold: 1.0,
        centre: 0.0,
        false_review_rate: upper_bound(beyond, usual.len() as u64) as f32,
        parameters: None,
    };
    // Parameters made above cannot be refused; were they, every picture would be at distance 0 and the limit unused.
    if let Ok(distance) = Distance::new(
        &limit,
        &GreyFormat::F32.encode(parameters),
        classes,
        temperature,
    ) {
        let measured: Vec<f32> = usual
            .iter()
            .map(|(a, _)| distance.of(&a.logits, &a.features))
            .collect();
        limit.threshold = 1.1 * calibrate::upper_limit(measured, FALSE_REVIEW_RATE);
    }
    limit
}

fn figures(confusion: &Confusion, classes: &[&str], count: usize) -> toml::Table {
    let mut table = toml::Table::new();
    let share = |x: Option<f64>| toml::Value::Float((x.unwrap_or(0.0) * 1e4).round() / 1e4);
    table.insert(
        "validation-images".into(),
        toml::Value::Integer(count as i64),
    );
    table.insert("validation-accuracy".into(), share(confusion.accuracy()));
    for (k, class) in classes.iter().enumerate() {
        let mut of_class = toml::Table::new();
        of_class.insert("precision".into(), share(confusion.precision(k)));
        of_class.insert("recall".into(), share(confusion.recall(k)));
        table.insert((*class).to_owned(), of_class.into());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit from `count` pictures of one class at all distances up to 1.
    fn limit(count: usize) -> OutOfDistribution {
        let answers: Vec<Answer> = (1..=count)
            .map(|k| Answer {
                logits: vec![0.0],
                features: vec![k as f32 / count as f32],
            })
            .collect();
        let usual: Vec<(&Answer, usize)> = answers.iter().map(|answer| (answer, 0)).collect();
        // Mean 0, variance 1.
        distance_limit(&usual, &[0.0, 1.0], 1, 1.0)
    }

    #[test]
    fn the_stated_rate_of_false_reviews_is_what_so_many_pictures_can_show() {
        for (count, stated) in [(90, 0.0327), (499, 0.006), (4000, 0.0036)] {
            let rate = limit(count).false_review_rate;
            assert!((rate - stated).abs() < 1e-4, "{count}: {rate}");
        }
        assert_eq!(limit(0).false_review_rate, 1.0);
    }
}
