//! What a classifier is asked about, and what ONNX Runtime answers.

use prost::Message as _;

use super::{Ask, SessionError, Watch, Wish, class_of};
use crate::model::extract::Extractor;
use crate::model::manifest::ClassifierSpec;
use crate::model::onnx::ModelProto;
use crate::retrain::judge::Heard;
use crate::retrain::train::{Answer, Pictures};

/// Images that ONNX Runtime is given at once.
pub(super) const CHUNK: usize = 16;

/// The pictures of some examples that a classifier is asked about, with their classes.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    pub(super) pictures: Vec<&'a Vec<u16>>,
    pub(super) classes: Vec<usize>,
    /// Whose each picture is.
    patients: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(wish: &Wish<'a>, spec: &ClassifierSpec, indices: &[usize]) -> Self {
        let mut asked = Self {
            pictures: Vec::new(),
            classes: Vec::new(),
            patients: Vec::new(),
        };
        let Some(render) = wish.dataset.place(&spec.render) else {
            return asked;
        };
        for index in indices {
            let example = &wish.dataset.examples[*index];
            if let Some(class) = class_of(spec, wish.bundle.categories(), example)
                && let Some(picture) = example.pictures.get(render)
            {
                asked.pictures.push(picture);
                asked.classes.push(class);
                asked.patients.push(&example.patient);
            }
        }
        asked
    }

    /// At most so many of them, from all over.
    pub(super) fn some(&self, most: usize) -> Self {
        let step = self.pictures.len().div_ceil(most.max(1)).max(1);
        Self {
            pictures: self.pictures.iter().step_by(step).copied().collect(),
            classes: self.classes.iter().step_by(step).copied().collect(),
            patients: self.patients.iter().step_by(step).copied().collect(),
        }
    }

    /// As training takes them: a patient's pictures side by side, so that they come into the same batch, where only what
    /// tells them apart can lower the loss.
    pub(super) fn training(&self, spec: &ClassifierSpec) -> Pictures {
        let mut order: Vec<usize> = (0..self.pictures.len()).collect();
        order.sort_by_key(|index| self.patients[*index]);
        let same = |a: &usize, b: &usize| self.patients[*a] == self.patients[*b];
        let groups = order.chunk_by(same).map(<[usize]>::len).collect();
        Pictures {
            groups,
            ..self.pictures(spec, &order)
        }
    }

    /// In their own order.
    pub(super) fn plain(&self, spec: &ClassifierSpec) -> Pictures {
        let order: Vec<usize> = (0..self.pictures.len()).collect();
        self.pictures(spec, &order)
    }

    fn pictures(&self, spec: &ClassifierSpec, order: &[usize]) -> Pictures {
        let sample = |index: &usize| (self.pictures[*index].clone(), self.classes[*index]);
        Pictures {
            height: spec.render.height as usize,
            width: spec.render.width as usize,
            samples: order.iter().map(sample).collect(),
            groups: Vec::new(),
        }
    }
}

/// What ONNX Runtime says about pictures: logits, and the features by their name.
pub(super) fn hear(
    ask: &Ask<'_>,
    spec: &ClassifierSpec,
    model: &ModelProto,
    features: &str,
    asked: &Asked<'_>,
    watch: &mut dyn Watch,
) -> Result<Heard, SessionError> {
    let outputs = [spec.outputs.logits.as_str(), features];
    let mut network = Extractor::load(
        &model.encode_to_vec(),
        spec,
        &outputs,
        ask.runtime,
        ask.wish.threads,
    )?;
    let phase = format!("{}: asking ONNX Runtime", spec.id);
    let mut answers = Vec::with_capacity(asked.pictures.len());
    for chunk in asked.pictures.chunks(CHUNK) {
        let grey: Vec<Vec<f32>> = chunk.iter().map(|picture| to_grey(picture)).collect();
        let grey: Vec<&[f32]> = grey.iter().map(Vec::as_slice).collect();
        for mut vectors in network.run(&grey)? {
            let features = vectors.pop().unwrap_or_default();
            let logits = vectors.pop().unwrap_or_default();
            answers.push(Answer { features, logits });
        }
        watch.progress(&phase, answers.len(), asked.pictures.len());
    }
    Ok(Heard {
        answers,
        classes: asked.classes.clone(),
    })
}

fn to_grey(picture: &[u16]) -> Vec<f32> {
    picture
        .iter()
        .map(|pixel| f32::from(*pixel) / f32::from(u16::MAX))
        .collect()
}
