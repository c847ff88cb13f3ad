//! AdamW (Loshchilov & Hutter 2019) on a list of tensors, with a learning rate for each, and a state that can be kept in
//! a file: burn's own optimizer has one rate a module and hides its state behind random identifiers.

use burn::tensor::{Device, Tensor};

use super::graph::{GraphError, read_back};
use super::initializer::tensor;
use super::kernel::step::AdamStep;
use super::parameters::plain;

const FIRST: f32 = 0.9;
const SECOND: f32 = 0.999;
const EPSILON: f32 = 1e-5;

/// The running means of gradients and of their squares.
#[derive(Clone, Debug)]
pub(super) struct AdamW {
    decay: f32,
    time: i32,
    /// None for a tensor that has had no gradient yet.
    moments: Vec<Option<[Tensor<4>; 2]>>,
}

/// A tensor's moments as numbers: dimensions, first, second.
pub(super) type Moments = ([usize; 4], Vec<f32>, Vec<f32>);

impl AdamW {
    pub(super) fn new(tensors: usize, decay: f32) -> Self {
        Self {
            decay,
            time: 0,
            moments: vec![None; tensors],
        }
    }

    /// One step. Tensors without a gradient stay as they are.
    pub(super) fn step(
        &mut self,
        parameters: &mut [Tensor<4>],
        gradients: Vec<Option<Tensor<4>>>,
        rate: impl Fn(usize) -> f64,
    ) {
        self.time += 1;
        let correction = |decay: f32| 1.0 - decay.powi(self.time);
        for (k, gradient) in gradients.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let moments = self.moments[k].take();
            let moments = moments.unwrap_or_else(|| [0, 1].map(|_| gradient.zeros_like()));
            let rate = rate(k);
            let step = AdamStep {
                decays: [FIRST, SECOND],
                corrections: [correction(FIRST), correction(SECOND)],
                epsilon: EPSILON,
                rate: rate as f32,
                kept: (1.0 - rate * f64::from(self.decay)) as f32,
            };
            let (moved, moments) = step.apply(plain(&parameters[k]), gradient, moments);
            parameters[k] = Tensor::from_inner(moved).require_grad();
            self.moments[k] = Some(moments);
        }
    }

    /// How many steps it has taken.
    pub(super) fn time(&self) -> i32 {
        self.time
    }

    /// Its moments, tensor by tensor.
    pub(super) fn numbers(&self) -> Result<Vec<Option<Moments>>, GraphError> {
        let moments = self.moments.iter().map(|moments| {
            let Some([first, second]) = moments else {
                return Ok(None);
            };
            let dims = first.dims();
            Ok(Some((
                dims,
                read_back(first.clone())?,
                read_back(second.clone())?,
            )))
        });
        moments.collect()
    }

    /// The state that [`time`](Self::time) and [`numbers`](Self::numbers) have told.
    pub(super) fn restored(
        decay: f32,
        time: i32,
        numbers: &[Option<Moments>],
        device: &Device,
    ) -> Self {
        let moments = numbers.iter().map(|moments| {
            let (dims, first, second) = moments.as_ref()?;
            Some([tensor(dims, first, device), tensor(dims, second, device)])
        });
        Self {
            decay,
            time,
            moments: moments.collect(),
        }
    }
}
