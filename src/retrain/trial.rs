//! What a bundle makes of labelled images, end to end: the cascade and the decision that `run` takes.

use crate::config::settings::{DecoderSettings, ReviewSettings, RuntimeSettings, Settings};
use crate::decode::{Radiograph, RenderSpec};
use crate::domain::decision::decide;
use crate::domain::{Decision, Prediction, Reason};
use crate::model::cascade::{Cascade, Image};
use crate::model::thresholds::ThresholdError;
use crate::model::{Bundle, ModelError, Thresholds};

use super::dataset::Example;
use super::second_look::SecondLook;

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

/// Under which settings a bundle is asked.
#[derive(Clone, Copy, Debug)]
pub struct Under<'a> {
    /// What is filed without a person looking.
    pub review: &'a ReviewSettings,
    /// ONNX Runtime.
    pub runtime: &'a RuntimeSettings,
    /// For files that are decoded again.
    pub decoders: &'a DecoderSettings,
}

impl<'a> Under<'a> {
    /// A site's.
    pub fn of(settings: &'a Settings) -> Self {
        Self {
            review: &settings.review,
            runtime: &settings.runtime,
            decoders: &settings.decoders,
        }
    }
}

/// Asks a bundle about examples whose pictures were rendered by `specs`; one verdict for each, in order.
pub fn hold<'a>(
    bundle: &Bundle,
    specs: &[RenderSpec],
    examples: impl ExactSizeIterator<Item = &'a Example>,
    under: Under<'_>,
    mut done: impl FnMut(usize),
) -> Result<Vec<Verdict>, TrialError> {
    let place = |wanted: &RenderSpec| specs.iter().position(|spec| spec == wanted);
    let order: Vec<usize> = bundle
        .render_specs()
        .iter()
        .map(place)
        .collect::<Option<_>>()
        .ok_or_else(|| TrialError::OtherPictures(bundle.name_and_version()))?;
    let thresholds = Thresholds::new(bundle, under.review)?;
    let mut cascade = Cascade::load(bundle.clone(), under.runtime, thresholds.view())?;
    let second_look = SecondLook::new(under.decoders);
    let mut verdicts = Vec::with_capacity(examples.len());
    for example in examples {
        let radiographs: Vec<Radiograph> = order
            .iter()
            .map(|index| radiograph(&specs[*index], &example.pictures[*index]))
            .collect();
        let mut verdict = ask(&mut cascade, example, &radiographs, &thresholds)?;
        if example.reduced
            && let Some(prediction) = &verdict.prediction
            && thresholds.is_close_call(prediction)
            && let Some(in_full) = second_look.at(example, bundle.render_specs())
        {
            verdict = ask(&mut cascade, example, &in_full, &thresholds)?;
        }
        verdicts.push(verdict);
        done(verdicts.len());
    }
    Ok(verdicts)
}

fn radiograph(spec: &RenderSpec, picture: &[u16]) -> Radiograph {
    let grey = |pixel: &u16| f32::from(*pixel) / f32::from(u16::MAX);
    Radiograph {
        height: spec.height,
        width: spec.width,
        pixels: picture.iter().map(grey).collect(),
    }
}

fn ask(
    cascade: &mut Cascade,
    example: &Example,
    radiographs: &[Radiograph],
    thresholds: &Thresholds,
) -> Result<Verdict, TrialError> {
    let image = Image {
        header: example.header,
        radiographs,
    };
    match cascade.classify(&[image]).into_iter().next() {
        Some(Ok(prediction)) => Ok(Verdict {
            decision: decide(&prediction, thresholds),
            prediction: Some(prediction),
        }),
        Some(Err(error)) if !error.is_about_one_image() => Err(error.into()),
        _ => Ok(Verdict {
            prediction: None,
            decision: Decision::Review {
                reason: Reason::NoPrediction,
            },
        }),
    }
}
