//! What an optimizer step does with each number of a network, in one pass.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::vector::{PORTION, widest};
use super::{made, numbers};

/// One step of `AdamW` (Loshchilov & Hutter 2019) as far as it is the same for all numbers of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// What remains of the running means of gradients and of their squares.
    pub decays: [f32; 2],
    /// What these means are divided by, because they began at 0.
    pub corrections: [f32; 2],
    /// Added to deviations.
    pub epsilon: f32,
    /// The learning rate.
    pub rate: f32,
    /// What remains of each number: decoupled weight decay.
    pub kept: f32,
}

/// Of tensors without gradients.
#[backend_extension(Flex)]
pub trait Steps: Backend {
    /// The next parameters, means of gradients, and means of their squares.
    fn adam_step(
        parameters: FloatTensor<Self>,
        gradients: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        how: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `decay · a + (1 − decay) · b`.
    fn mix(a: FloatTensor<Self>, b: FloatTensor<Self>, decay: f32) -> FloatTensor<Self>;
}

impl Steps for Flex {
    fn adam_step(
        parameters: FlexTensor,
        gradients: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        how: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let shape = parameters.shape();
        let mut moved = numbers(&parameters.to_contiguous()).to_vec();
        let gradients = gradients.to_contiguous();
        let [mut first, mut second] =
            [first, second].map(|moments| numbers(&moments.to_contiguous()).to_vec());
        moved
            .par_chunks_mut(PORTION)
            .zip(numbers(&gradients).par_chunks(PORTION))
            .zip(first.par_chunks_mut(PORTION))
            .zip(second.par_chunks_mut(PORTION))
            .for_each(|(((moved, gradients), first), second)| {
                widest(
                    #[inline(always)]
                    || how.take(moved, gradients, first, second),
                );
            });
        (
            made(moved, shape.clone()),
            made(first, shape.clone()),
            made(second, shape),
        )
    }

    fn mix(a: FlexTensor, b: FlexTensor, decay: f32) -> FlexTensor {
        let (a, b) = (a.to_contiguous(), b.to_contiguous());
        let mixed = super::vector::map_two(
            numbers(&a),
            numbers(&b),
            #[inline(always)]
            |a, b| a * decay + b * (1.0 - decay),
        );
        made(mixed, a.shape())
    }
}

impl AdamStep {
    #[inline(always)]
    fn take(self, moved: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32]) {
        let [first_decay, second_decay] = self.decays;
        let moments = first.iter_mut().zip(second);
        for ((number, gradient), (first, second)) in moved.iter_mut().zip(gradients).zip(moments) {
            *first = *first * first_decay + gradient * (1.0 - first_decay);
            *second = *second * second_decay + gradient * gradient * (1.0 - second_decay);
            let deviation = (*second / self.corrections[1]).sqrt();
            let direction = *first / self.corrections[0] / (deviation + self.epsilon);
            *number = *number * self.kept - direction * self.rate;
        }
    }

    /// The same with any device's tensors: the next parameters, and the two means.
    pub fn apply(
        self,
        parameters: Tensor<4>,
        gradients: Tensor<4>,
        [first, second]: [Tensor<4>; 2],
    ) -> (Tensor<4>, [Tensor<4>; 2]) {
        if super::has(&parameters) {
            let [parameters, gradients, first, second] =
                [parameters, gradients, first, second].map(Tensor::into_dispatch);
            let (moved, first, second) =
                Dispatch::adam_step(parameters, gradients, first, second, self);
            let means = [first, second].map(Tensor::from_dispatch);
            return (Tensor::from_dispatch(moved), means);
        }
        let [first_decay, second_decay] = self.decays;
        let square = gradients.clone() * gradients.clone();
        let first = first.mul_scalar(first_decay) + gradients.mul_scalar(1.0 - first_decay);
        let second = second.mul_scalar(second_decay) + square.mul_scalar(1.0 - second_decay);
        let deviation = second.clone().div_scalar(self.corrections[1]).sqrt();
        let direction =
            first.clone().div_scalar(self.corrections[0]) / deviation.add_scalar(self.epsilon);
        let moved = parameters.mul_scalar(self.kept) - direction.mul_scalar(self.rate);
        (moved, [first, second])
    }
}

/// `decay · a + (1 − decay) · b`, of tensors without gradients.
pub fn mix(a: Tensor<4>, b: Tensor<4>, decay: f32) -> Tensor<4> {
    if super::has(&a) {
        let (a, b) = (a.into_dispatch(), b.into_dispatch());
        return Tensor::from_dispatch(Dispatch::mix(a, b, decay));
    }
    a.mul_scalar(decay) + b.mul_scalar(1.0 - decay)
}
