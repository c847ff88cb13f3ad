//! What training on the CPU spends most of its time with: one pass over the numbers where burn's own operations take several,
//! on all cores, with gradients that are written out. On other devices burn's own are used.
//!
//! An extension of burn's CPU backend (`burn::backend::backend_extension`): [`Kernels`] names the operations, `Flex` computes
//! them, [`autodiff`] records them so that gradients flow back. The functions at the end are what operators call.

// Loops are compiled for this CPU's instructions only where they are inlined (`vector::widest`).
#![allow(clippy::inline_always)]

mod autodiff;
mod channels;
mod depthwise;
mod silu;
pub mod step;
mod vector;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, Bytes, DType, Dispatch, DispatchDevice, Flex, Shape, TensorMetadata, backend_extension,
};
use burn::tensor::Tensor;

use channels::Planes;
pub use depthwise::Depthwise;

/// The operations. Images are `[N, C, rows, columns]`, what belongs to channels is `[C]`.
#[backend_extension(Flex, Autodiff)]
pub trait Kernels: Backend {
    /// `x · sigmoid(x)`.
    fn silu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Mean and biased variance of each channel.
    fn statistics(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `(x − mean) / √(variance + ε) · gamma + beta`.
    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        how: Norm,
    ) -> FloatTensor<Self>;

    /// One of the convolutions that are computed here.
    fn convolve(
        x: FloatTensor<Self>,
        kernels: FloatTensor<Self>,
        how: Convolution,
    ) -> FloatTensor<Self>;
}

/// Their gradients.
pub trait Differentiated: Kernels {
    /// The gradient of [`Kernels::silu`]'s input.
    fn silu_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradients of `x`, gamma and beta.
    fn normalise_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        how: Norm,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of `x` and of the kernels.
    fn convolve_backward(
        x: FloatTensor<Self>,
        kernels: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        how: Convolution,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// A convolution that is computed here.
#[derive(Clone, Copy, Debug)]
pub enum Convolution {
    /// Every channel has a kernel of its own, `[C, 1, rows, columns]`.
    Depthwise(Depthwise),
    /// Every pixel is on its own: kernels `[K, C, 1, 1]`, no pads, no strides.
    Pointwise,
}

/// How channels are normalised.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Added to variances.
    pub epsilon: f64,
    /// Mean and variance follow from `x`, and gradients flow through them; else they are given.
    pub of_batch: bool,
}

impl Norm {
    /// `1 / √(variance + ε)`.
    fn inverse(self, variance: &[f32]) -> Vec<f32> {
        let of_one = |variance: &f32| (1.0 / (f64::from(*variance) + self.epsilon).sqrt()) as f32;
        variance.iter().map(of_one).collect()
    }
}

/// A tensor's numbers, row-major. `tensor` must be contiguous: [`FlexTensor::to_contiguous`].
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn made(numbers: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(numbers),
        Layout::contiguous(shape),
        DType::F32,
    )
}

fn of_channels(numbers: Vec<f32>) -> FlexTensor {
    let shape = Shape::new([numbers.len()]);
    made(numbers, shape)
}

fn planes(x: &FlexTensor) -> Planes {
    Planes::of(x.layout().shape().as_slice())
}

impl Kernels for Flex {
    fn silu(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        made(silu::forward(numbers(&x)), x.shape())
    }

    fn statistics(x: FlexTensor) -> (FlexTensor, FlexTensor) {
        let x = x.to_contiguous();
        let (mean, variance) = channels::statistics(numbers(&x), planes(&x));
        (of_channels(mean), of_channels(variance))
    }

    fn normalise(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        how: Norm,
    ) -> FlexTensor {
        let [x, gamma, beta, mean, variance] =
            [x, gamma, beta, mean, variance].map(|tensor| tensor.to_contiguous());
        let inverse = how.inverse(numbers(&variance));
        let scale: Vec<f32> = numbers(&gamma)
            .iter()
            .zip(inverse)
            .map(|(g, i)| g * i)
            .collect();
        let (mean, shift) = (numbers(&mean), numbers(&beta));
        let y = channels::scale_and_shift(numbers(&x), mean, &scale, shift, planes(&x));
        made(y, x.shape())
    }

    fn convolve(x: FlexTensor, kernels: FlexTensor, how: Convolution) -> FlexTensor {
        match how {
            Convolution::Depthwise(how) => {
                let (x, kernels) = (x.to_contiguous(), kernels.to_contiguous());
                let planes = planes(&x);
                let y = depthwise::forward(numbers(&x), numbers(&kernels), planes, how);
                let [rows, columns] = how.output;
                made(
                    y,
                    Shape::new([planes.images, planes.channels, rows, columns]),
                )
            }
            Convolution::Pointwise => {
                let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
                Self::conv2d(x, kernels, None, options)
            }
        }
    }
}

impl Differentiated for Flex {
    fn silu_backward(x: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        made(silu::backward(numbers(&x), numbers(&gradient)), x.shape())
    }

    fn normalise_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        gradient: FlexTensor,
        how: Norm,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [x, gamma, mean, variance, gradient] =
            [x, gamma, mean, variance, gradient].map(|tensor| tensor.to_contiguous());
        let (planes, shape) = (planes(&x), x.shape());
        let inverse = how.inverse(numbers(&variance));
        let [x, gamma, mean, gradient] = [&x, &gamma, &mean, &gradient].map(numbers);
        let (of_gradient, of_products) = channels::sums(x, mean, gradient, planes);
        let of_x = if how.of_batch {
            let sums = (&of_gradient[..], &of_products[..]);
            channels::backward(x, gradient, [gamma, mean, &inverse], sums, planes)
        } else {
            let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
            channels::scale(gradient, &scale, planes)
        };
        let of_gamma = of_products.iter().zip(inverse).map(|(p, i)| p * i);
        (
            made(of_x, shape),
            of_channels(of_gamma.collect()),
            of_channels(of_gradient),
        )
    }

    fn convolve_backward(
        x: FlexTensor,
        kernels: FlexTensor,
        gradient: FlexTensor,
        how: Convolution,
    ) -> (FlexTensor, FlexTensor) {
        match how {
            Convolution::Depthwise(how) => {
                let [x, kernels, gradient] =
                    [x, kernels, gradient].map(|tensor| tensor.to_contiguous());
                let inputs = [&x, &kernels, &gradient].map(numbers);
                let (of_x, of_kernels) = depthwise::backward(inputs, planes(&x), how);
                (made(of_x, x.shape()), made(of_kernels, kernels.shape()))
            }
            Convolution::Pointwise => pointwise_backward(x, kernels, gradient),
        }
    }
}

/// Of kernels of one pixel, as matrix products.
fn pointwise_backward(
    x: FlexTensor,
    kernels: FlexTensor,
    gradient: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let (shape, of_kernels) = (x.shape(), kernels.shape());
    let planes = planes(&x);
    let (taken, given) = (planes.channels, of_kernels.as_slice()[0]);
    let flat = |x: FlexTensor, channels: usize| {
        Flex::float_reshape(x, Shape::new([planes.images, channels, planes.size]))
    };
    let (x, gradient) = (flat(x, taken), flat(gradient, given));
    let matrix = Flex::float_reshape(kernels, Shape::new([1, given, taken]));
    let of_x = Flex::float_matmul(Flex::float_swap_dims(matrix, 1, 2), gradient.clone());
    // Image by image and then summed, or at once: whichever moves fewer numbers.
    let by_image = if given * taken < planes.size * (given + taken) {
        Flex::float_matmul(gradient, Flex::float_swap_dims(x, 1, 2))
    } else {
        let pixels = planes.images * planes.size;
        let [gradient, x] = [(gradient, given), (x, taken)].map(|(x, channels)| {
            let x = Flex::float_swap_dims(x, 0, 1);
            Flex::float_reshape(x, Shape::new([1, channels, pixels]))
        });
        Flex::float_matmul(gradient, Flex::float_swap_dims(x, 1, 2))
    };
    let sum = Flex::float_sum_dim(by_image, 0);
    (
        Flex::float_reshape(of_x, shape),
        Flex::float_reshape(sum, of_kernels),
    )
}

/// Whether a tensor lies where these operations are computed.
pub fn has(x: &Tensor<4>) -> bool {
    matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_)) && x.dtype() == DType::F32
}

/// `x · sigmoid(x)`, where [`has`] is true.
pub fn silu(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::silu(x.into_dispatch()))
}

/// Batch normalisation with statistics that are given, where [`has`] is true.
pub fn normalise(x: Tensor<4>, of_channels: [Tensor<1>; 4], epsilon: f64) -> Tensor<4> {
    let how = Norm {
        epsilon,
        of_batch: false,
    };
    let [gamma, beta, mean, variance] = of_channels.map(Tensor::into_dispatch);
    let y = Dispatch::normalise(x.into_dispatch(), gamma, beta, mean, variance, how);
    Tensor::from_dispatch(y)
}

/// Batch normalisation with the batch's own statistics, and these: the mean and the biased variance, without gradients;
/// where [`has`] is true.
pub fn normalise_batch(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let how = Norm {
        epsilon,
        of_batch: true,
    };
    let x = x.into_dispatch();
    let (mean, variance) = Dispatch::statistics(x.clone());
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    let y = Dispatch::normalise(x, gamma, beta, mean.clone(), variance.clone(), how);
    (
        Tensor::from_dispatch(y),
        Tensor::from_dispatch(mean),
        Tensor::from_dispatch(variance),
    )
}

/// One of the convolutions that are computed here, where [`has`] is true.
pub fn convolve(x: Tensor<4>, kernels: Tensor<4>, how: Convolution) -> Tensor<4> {
    let y = Dispatch::convolve(x.into_dispatch(), kernels.into_dispatch(), how);
    Tensor::from_dispatch(y)
}

#[cfg(test)]
mod tests;
