//! A network's numbers while it is trained: parameters, which gradients reach, and running statistics, which follow.

use burn::tensor::{Device, Tensor};

use super::graph::{GraphError, Held, read_back};
use super::initializer::tensor;
use super::kernel::step::mix;

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Every parameter.
    #[default]
    Everything,
    /// The layers behind the features; the others are constants.
    Head,
}

/// A tensor's dimensions and numbers.
pub(super) type Numbers = ([usize; 4], Vec<f32>);

/// A network's numbers: its parameters, and the running means and variances of its batch normalisations.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The trainable part, rank padded to 4.
    pub(super) parameters: Vec<Tensor<4>>,
    /// Running statistics, rank padded to 4; never on an autodiff device.
    pub(super) statistics: Vec<Tensor<4>>,
}

impl Weights {
    pub(super) fn new(
        parameters: &[Held],
        statistics: &[Held],
        part: Part,
        device: &Device,
    ) -> Self {
        let parameter = |held: &Held| {
            let tensor = tensor(&held.dims, &held.data, device);
            if tensor.is_autodiff() && (part == Part::Everything || held.in_head) {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        let plain = device.clone().inner();
        let statistic = |held: &Held| tensor(&held.dims, &held.data, &plain);
        Self {
            parameters: parameters.iter().map(parameter).collect(),
            statistics: statistics.iter().map(statistic).collect(),
        }
    }

    /// The same numbers without gradient tracking.
    #[must_use]
    pub fn without_gradients(&self) -> Self {
        Self {
            parameters: self.parameters.iter().map(plain).collect(),
            statistics: self.statistics.clone(),
        }
    }

    /// Moves each parameter towards `other`'s: `self = decay · self + (1 − decay) · other`; takes its statistics over.
    pub fn average(&mut self, other: &Self, decay: f32) {
        for (mine, theirs) in self.parameters.iter_mut().zip(&other.parameters) {
            *mine = mix(mine.clone(), plain(theirs), decay);
        }
        self.statistics.clone_from(&other.statistics);
    }

    /// How many trainable numbers there are.
    pub fn parameter_count(&self) -> usize {
        let count = |tensor: &Tensor<4>| tensor.dims().iter().product::<usize>();
        self.parameters.iter().map(count).sum()
    }

    /// How many tensors there are, statistics included.
    pub(super) fn tensors(&self) -> usize {
        self.parameters.len() + self.statistics.len()
    }

    /// Every tensor in a fixed order, as dimensions and numbers.
    pub(super) fn numbers(&self) -> Result<Vec<Numbers>, GraphError> {
        let tensors = self.parameters.iter().chain(&self.statistics);
        tensors
            .map(|tensor| Ok((tensor.dims(), read_back(tensor.clone())?)))
            .collect()
    }

    /// Puts numbers in the place of its own, in the order of [`numbers`](Self::numbers); what gradients reach stays.
    /// False where they do not fit.
    pub(super) fn replace(&mut self, numbers: &[Numbers]) -> bool {
        if numbers.len() != self.tensors() {
            return false;
        }
        let own = self.parameters.iter_mut().chain(&mut self.statistics);
        for (own, (dims, data)) in own.zip(numbers) {
            if own.dims() != *dims || data.len() != dims.iter().product::<usize>() {
                return false;
            }
            let gradients = own.is_require_grad();
            let read = tensor(dims, data, &own.device());
            *own = if gradients { read.require_grad() } else { read };
        }
        true
    }
}

/// A tensor without gradient tracking.
pub(super) fn plain(tensor: &Tensor<4>) -> Tensor<4> {
    if tensor.is_autodiff() {
        tensor.clone().inner()
    } else {
        tensor.clone()
    }
}
