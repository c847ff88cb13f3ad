//! `x · sigmoid(x)`: SiLU (Elfwing, Uchibe & Doya 2018), which ONNX files spell as `Sigmoid` and `Mul`.

use super::vector::{exp, map, map_two};

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn forward(x: &[f32]) -> Vec<f32> {
    map(
        x,
        #[inline(always)]
        |x| x * sigmoid(x),
    )
}

/// The gradient of `x`, given that of the result.
pub(super) fn backward(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    map_two(
        x,
        gradient,
        #[inline(always)]
        |x, gradient| {
            let s = sigmoid(x);
            gradient * s * (1.0 + x * (1.0 - s))
        },
    )
}
