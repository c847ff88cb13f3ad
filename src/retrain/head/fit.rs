//! Fits a last layer to frozen features: a multinomial logistic regression, pulled towards the rows that it had (of a new
//! category: towards 0), so that what few images say little about stays as it was. It is convex: the same data and the same old
//! head give the same head, in minutes on a CPU for tens of thousands of images.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};

use super::Head;
use super::descent::{Prepared, descend};
use crate::retrain::graph::read_back;
use crate::retrain::train::TrainError;

/// How a head is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Strength of the pull towards the old rows, on standardised features.
    pub penalty: f32,
    /// At most so many steps.
    pub steps: usize,
    /// The relative change of the loss below which it has converged.
    pub tolerance: f32,
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            penalty: 1e-3,
            steps: 1500,
            tolerance: 1e-5,
        }
    }
}

#[derive(Module, Debug)]
struct Numbers {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
}

/// Fits a head to features `[image][feature]` and classes, each class with the weight of `class_weights`; `old` is the head that
/// there was, if it is worth anything. `progress` hears the step and the loss.
pub fn fit(
    features: &[Vec<f32>],
    classes: &[usize],
    class_weights: &[f32],
    old: Option<&Head>,
    how: Fit,
    progress: impl FnMut(usize, f32),
) -> Result<Head, TrainError> {
    let prepared = Prepared::new(features, classes, class_weights)?;
    let (length, count) = (prepared.length, prepared.count);
    let (means, deviations) = (&prepared.means, &prepared.deviations);
    let fits =
        |old: &&Head| old.weight.len() == count && old.weight.iter().all(|row| row.len() == length);
    let old = old.filter(fits);
    let (old, bias) = old.map_or_else(
        || (vec![0.0; length * count], vec![0.0; count]),
        |old| old.on_standardised(means, deviations),
    );
    let old = Tensor::<2>::from_data(TensorData::new(old, [length, count]), &prepared.device);
    let bias = Tensor::<2>::from_data(TensorData::new(bias, [1, count]), &prepared.device);
    let numbers = Numbers {
        weight: Param::from_tensor(old.clone().require_grad()),
        bias: Param::from_tensor(bias.require_grad()),
    };
    let loss = |numbers: &Numbers| {
        let logits = prepared.inputs.clone().matmul(numbers.weight.val()) + numbers.bias.val();
        let moved = numbers.weight.val() - old.clone();
        let penalty = moved.powi_scalar(2).sum() * (how.penalty / 2.0);
        penalty - prepared.likelihood(logits)
    };
    // A rate that falls, so that it comes to rest.
    let rate = |step: usize| 0.05 / (1.0 + step as f64 / 50.0);
    let numbers = descend(numbers, how, rate, loss, progress)?;
    let weight = read_back(numbers.weight.val().inner())?;
    let bias = read_back(numbers.bias.val().inner())?;
    // Back to the features as they come: w/σ, b − Σ w·μ/σ.
    let rows: Vec<Vec<f32>> = (0..count)
        .map(|class| {
            (0..length)
                .map(|feature| weight[feature * count + class] / deviations[feature])
                .collect()
        })
        .collect();
    let bias = rows
        .iter()
        .zip(bias)
        .map(|(row, bias)| bias - row.iter().zip(means).map(|(w, mean)| w * mean).sum::<f32>())
        .collect();
    Ok(Head { weight: rows, bias })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng as _, SeedableRng as _};

    #[test]
    fn a_fitted_head_separates_what_can_be_separated_and_outweighs_rare_classes() {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        // Three blobs in five dimensions of very different scale; the last class is rare.
        let (mut features, mut classes) = (Vec::new(), Vec::new());
        for n in 0..420 {
            let class = if n % 21 == 0 { 2 } else { n % 2 };
            let mut row: Vec<f32> = (0..5).map(|_| rng.random::<f32>()).collect();
            row[class] += 2.0;
            row[4] *= 1e3;
            features.push(row);
            classes.push(class);
        }
        let weights = [1.0, 1.0, 10.0];
        let fitted = || {
            fit(
                &features,
                &classes,
                &weights,
                None,
                Fit::default(),
                |_, _| {},
            )
            .unwrap()
        };
        let head = fitted();
        let right = features
            .iter()
            .zip(&classes)
            .filter(|(row, class)| crate::retrain::evaluate::argmax(&head.logits(row)) == **class)
            .count();
        assert_eq!(right, features.len());
        assert_eq!(head, fitted(), "the same data give the same head");
    }
    #[test]
    fn a_head_keeps_of_its_rows_what_no_image_says_anything_about() {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        // Only the first feature tells these images apart; the second is the same in all of them.
        let classes: Vec<usize> = (0..200).map(|n| n % 2).collect();
        let row = |class: &usize| vec![*class as f32 * 2.0 + rng.random::<f32>(), 0.5];
        let features: Vec<Vec<f32>> = classes.iter().map(row).collect();
        let old = Head {
            weight: vec![vec![0.0, 3.0], vec![0.0, -3.0]],
            bias: vec![0.0, 0.0],
        };
        let fitted = |old: Option<&Head>| {
            fit(
                &features,
                &classes,
                &[1.0, 1.0],
                old,
                Fit::default(),
                |_, _| {},
            )
            .unwrap()
        };
        let (head, anew) = (fitted(Some(&old)), fitted(None));
        for (row, old) in head.weight.iter().zip(&old.weight) {
            assert!((row[1] - old[1]).abs() < 0.1, "{row:?}");
        }
        let answers = |head: &Head, row| crate::retrain::evaluate::argmax(&head.logits(row));
        for (row, class) in features.iter().zip(&classes) {
            assert_eq!(answers(&head, row), *class);
        }
        // Images of which the second feature speaks.
        assert_eq!(answers(&head, &[1.5, 3.0]), 0);
        assert_eq!(answers(&head, &[1.5, -3.0]), 1);
        assert_eq!(answers(&anew, &[1.5, 3.0]), answers(&anew, &[1.5, -3.0]));
    }
}
