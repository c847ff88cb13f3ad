//! What a bundle makes of labelled images, end to end: the cascade and the decision that `run` takes.

use crate::config::settings::{ReviewSettings, RuntimeSettings};
use crate::decode::{Radiograph, RenderSpec};
use crate::domain::decision::decide;
use crate::domain::{Decision, Prediction};
use crate::model::cascade::{Cascade, Image};
use crate::model::thresholds::ThresholdError;
use crate::model::{Bundle, ModelError, Thresholds};

use super::dataset::Example;

/// A trial could not be held.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The site's thresholds do not fit the bundle.
    #[error(transparent)]
    Thresholds(#[from] ThresholdError),
    /// ONNX Runtime or a network failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The images were rendered for another bundle.
    #[error("bundle {0} takes other pictures than those that were prepared: evaluate it by itself")]
    OtherPictures(String),
}

/// What a bundle made of one image.
pub struct Verdict {
    /// What the networks said; `None` when they had no usable answer.
    pub prediction: Option<Prediction>,
    /// What `run` would do.
    pub decision: Decision,
}

/// Asks a bundle about examples whose pictures were rendered by `specs`; one verdict for each, in order.
pub fn hold<'a>(
    bundle: &Bundle,
    specs: &[RenderSpec],
    examples: impl ExactSizeIterator<Item = &'a Example>,
    review: &ReviewSettings,
    runtime: &RuntimeSettings,
    mut done: impl FnMut(usize),
) -> Result<Vec<Verdict>, TrialError> {
    let place = |wanted: &RenderSpec| specs.iter().position(|spec| spec == wanted);
    let order: Vec<usize> = bundle
        .render_specs()
        .iter()
        .map(place)
        .collect::<Option<_>>()
        .ok_or_else(|| TrialError::OtherPictures(bundle.name_and_version()))?;
    let thresholds = Thresholds::new(bundle, review)?;
    let mut cascade = Cascade::load(bundle.clone(), runtime, thresholds.view())?;
    let mut verdicts = Vec::with_capacity(examples.len());
    for example in examples {
        let radiographs: Vec<Radiograph> = order
            .iter()
            .map(|index| Radiograph {
                height: specs[*index].height,
                width: specs[*index].width,
                pixels: example.pictures[*index]
                    .iter()
                    .map(|pixel| f32::from(*pixel) / f32::from(u16::MAX))
                    .collect(),
            })
            .collect();
        let image = Image {
            header: example.header,
            radiographs: &radiographs,
        };
        for answer in cascade.classify(&[image]) {
            verdicts.push(match answer {
                Ok(prediction) => Verdict {
                    decision: decide(&prediction, &thresholds),
                    prediction: Some(prediction),
                },
                Err(error) if error.is_about_one_image() => Verdict {
                    prediction: None,
                    decision: Decision::Review {
                        reason: crate::domain::Reason::NoPrediction,
                    },
                },
                Err(error) => return Err(error.into()),
            });
        }
        done(verdicts.len());
    }
    Ok(verdicts)
}
