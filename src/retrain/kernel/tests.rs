//! Each operation and its gradients against burn's own.
#![allow(clippy::unwrap_used)]

use burn::tensor::{
    Device, Tensor, TensorData, activation, module as functional, ops::ConvOptions,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::*;

/// Input, kernel, strides, and pads before and after, of rows and of columns.
type Case = ([usize; 2], [usize; 2], [usize; 2], [(usize, usize); 2]);

/// Numbers around `level`, to be trained.
fn random<const D: usize>(dims: [usize; D], level: f32, seed: u64) -> Tensor<D> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let count = dims.iter().product();
    let numbers: Vec<f32> = (0..count)
        .map(|_| level + rng.random_range(-2.0..2.0))
        .collect();
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(numbers, dims), &device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn close(found: &[f32], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1.0f32, |most, it| most.max(it.abs()));
    for (k, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let apart = (found - wanted).abs();
        assert!(
            apart <= 3e-5 * largest,
            "{what}, number {k}: {found}, not {wanted}"
        );
    }
}

/// The result and the gradients of its inputs, where each number of the result counts differently.
fn with_gradients<const N: usize>(
    inputs: [Tensor<4>; N],
    work: impl FnOnce([Tensor<4>; N]) -> Tensor<4>,
) -> Vec<Vec<f32>> {
    let y = work(inputs.clone());
    let counts = random(y.dims(), 0.0, 99).detach();
    let gradients = (y.clone() * counts).sum().backward();
    let mut all = vec![values(y)];
    all.extend(inputs.iter().map(|it| values(it.grad(&gradients).unwrap())));
    all
}

fn agree(found: &[Vec<f32>], wanted: &[Vec<f32>], what: &str) {
    for (k, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let part = if k == 0 {
            "the result".into()
        } else {
            format!("gradient {k}")
        };
        close(found, wanted, &format!("{what}: {part}"));
    }
}

#[test]
fn silu_and_its_gradient_are_those_of_burn() {
    for dims in [[1, 1, 1, 1], [2, 3, 7, 5], [3, 8, 40, 41]] {
        let x = random(dims, 0.0, 1);
        let found = with_gradients([x.clone()], |[x]| silu(x));
        let wanted = with_gradients([x], |[x]| x.clone() * activation::sigmoid(x));
        agree(&found, &wanted, "silu");
    }
}

#[test]
fn a_view_of_other_numbers_gives_the_same() {
    let x = random([2, 3, 7, 5], 0.0, 1);
    let found = with_gradients([x.clone()], |[x]| silu(x.swap_dims(1, 3)));
    let wanted = with_gradients([x], |[x]| {
        let x = x.swap_dims(1, 3);
        x.clone() * activation::sigmoid(x)
    });
    agree(&found, &wanted, "silu of a view");
}

#[test]
fn batch_normalisation_and_its_gradients_are_those_of_burn() {
    // Numbers far from 0, too, where a careless variance has no digits left.
    for (dims, level) in [
        ([2, 3, 7, 5], 0.0),
        ([4, 17, 20, 20], 50.0),
        ([8, 2, 1, 1], 0.0),
    ] {
        let c = dims[1];
        let inputs = [
            random(dims, level, 1),
            random([1, 1, 1, c], 1.0, 2),
            random([1, 1, 1, c], 0.0, 3),
        ];
        let found = with_gradients(inputs.clone(), |[x, gamma, beta]| {
            let (gamma, beta) = (gamma.reshape([c]), beta.reshape([c]));
            normalise_batch(x, gamma, beta, 1e-3).0
        });
        let wanted = with_gradients(inputs.clone(), |[x, gamma, beta]| {
            let (gamma, beta) = (gamma.reshape([c]), beta.reshape([c]));
            functional::batch_norm_train(x, gamma, beta, 1e-3).output
        });
        agree(&found, &wanted, "normalised by the batch");

        let [x, gamma, beta] = inputs.clone();
        let (gamma, beta) = (gamma.reshape([c]), beta.reshape([c]));
        let (_, mean, variance) = normalise_batch(x.clone(), gamma.clone(), beta.clone(), 1e-3);
        let of_burn = functional::batch_norm_train(x, gamma, beta, 1e-3);
        close(&values(mean), &values(of_burn.mean), "mean");
        close(&values(variance), &values(of_burn.variance), "variance");

        let given = || {
            let mean = random([c], level, 4).detach();
            let variance = random([c], 5.0, 5).detach();
            (mean, variance)
        };
        let found = with_gradients(inputs.clone(), |[x, gamma, beta]| {
            let (mean, variance) = given();
            let of_channels = [gamma.reshape([c]), beta.reshape([c]), mean, variance];
            normalise(x, of_channels, 1e-3)
        });
        let wanted = with_gradients(inputs, |[x, gamma, beta]| {
            let (mean, variance) = given();
            let (gamma, beta) = (gamma.reshape([c]), beta.reshape([c]));
            functional::batch_norm(x, gamma, beta, mean, variance, 1e-3)
        });
        agree(&found, &wanted, "normalised by what is given");
    }
}

#[test]
fn depthwise_convolutions_and_their_gradients_are_those_of_burn() {
    let cases: [Case; 8] = [
        ([9, 7], [3, 3], [1, 1], [(1, 1), (1, 1)]),
        ([9, 7], [3, 3], [2, 2], [(1, 1), (1, 1)]),
        ([10, 8], [5, 5], [2, 2], [(2, 2), (2, 2)]),
        ([7, 7], [7, 7], [1, 1], [(3, 3), (3, 3)]),
        ([60, 61], [5, 3], [1, 2], [(2, 2), (1, 1)]),
        ([8, 8], [3, 3], [2, 2], [(0, 1), (0, 1)]),
        ([5, 6], [2, 3], [3, 2], [(0, 0), (0, 0)]),
        ([4, 4], [1, 1], [2, 2], [(0, 0), (0, 0)]),
    ];
    for (input, kernel, strides, pads) in cases {
        let output =
            [0, 1].map(|k| (input[k] + pads[k].0 + pads[k].1 - kernel[k]) / strides[k] + 1);
        let how = Depthwise {
            kernel,
            strides,
            pads: pads.map(|(before, _)| before),
            input,
            output,
        };
        let channels = 5;
        let inputs = [
            random([3, channels, input[0], input[1]], 0.0, 1),
            random([channels, 1, kernel[0], kernel[1]], 0.0, 2),
        ];
        let found = with_gradients(inputs.clone(), |[x, kernels]| {
            convolve(x, kernels, Convolution::Depthwise(how))
        });
        let wanted = with_gradients(inputs, |[x, kernels]| {
            // Burn takes pads of the same size on both sides only; more zeros behind are windows that are cut off.
            let both = pads.map(|(before, after)| before.max(after));
            let options = ConvOptions::new([1, 1], both, [1, 1], channels);
            let y = functional::conv2d(x, kernels, None, options);
            let first = [0, 1].map(|k| both[k] - pads[k].0);
            let places = |k: usize| {
                let places: Vec<i32> = (0..output[k])
                    .map(|at| (first[k] + at * strides[k]) as i32)
                    .collect();
                Tensor::<1, burn::tensor::Int>::from_data(
                    TensorData::from(&places[..]),
                    &Device::flex().autodiff(),
                )
            };
            y.select(2, places(0)).select(3, places(1))
        });
        agree(&found, &wanted, &format!("{how:?}"));
    }
}

#[test]
fn convolutions_of_one_pixel_and_their_gradients_are_those_of_burn() {
    // More pixels than weights, and fewer.
    for (dims, given) in [([3, 4, 12, 11], 6), ([2, 40, 2, 2], 30), ([2, 5, 1, 1], 3)] {
        let inputs = [random(dims, 0.0, 1), random([given, dims[1], 1, 1], 0.0, 2)];
        let found = with_gradients(inputs.clone(), |[x, kernels]| {
            convolve(x, kernels, Convolution::Pointwise)
        });
        let wanted = with_gradients(inputs, |[x, kernels]| {
            let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
            functional::conv2d(x, kernels, None, options)
        });
        agree(&found, &wanted, &format!("{dims:?} to {given} channels"));
    }
}

#[test]
fn steps_of_an_optimizer_are_those_of_its_formula() {
    let dims = [1, 2, 3, 50];
    let mut of = [1, 2, 3, 4].map(|seed| random(dims, 0.0, seed).inner());
    of[3] = of[3].clone() * of[3].clone();
    let step = step::AdamStep {
        decays: [0.9, 0.999],
        corrections: [0.19, 0.002],
        epsilon: 1e-5,
        rate: 1e-3,
        kept: 0.99,
    };
    let [parameters, gradients, first, second] = of.clone();
    let (moved, means) = step.apply(parameters, gradients, [first, second]);
    let [parameters, gradients, first, second] = of.map(values);
    let (moved, means) = (values(moved), means.map(values));
    for k in 0..parameters.len() {
        let m = 0.9 * first[k] + 0.1 * gradients[k];
        let v = 0.999 * second[k] + 0.001 * gradients[k] * gradients[k];
        let p = 0.99 * parameters[k] - 1e-3 * (m / 0.19) / ((v / 0.002).sqrt() + 1e-5);
        close(&[moved[k], means[0][k], means[1][k]], &[p, m, v], "AdamW");
    }
    let (a, b) = (random(dims, 0.0, 5).inner(), random(dims, 0.0, 6).inner());
    let mixed = values(step::mix(a.clone(), b.clone(), 0.75));
    let wanted = values(a.mul_scalar(0.75) + b.mul_scalar(0.25));
    close(&mixed, &wanted, "an average");
}

#[test]
fn what_is_no_number_stays_none() {
    let x = random([1, 2, 3, 3], 0.0, 1).detach();
    let nan = x.clone().mul_scalar(f32::NAN);
    assert!(values(silu(nan.clone())).iter().all(|it| it.is_nan()));
    let (gamma, beta) = (random([2], 0.0, 2), random([2], 0.0, 3));
    let y = normalise_batch(nan, gamma, beta, 1e-3).0;
    assert!(values(y).iter().all(|it| it.is_nan()));
}
