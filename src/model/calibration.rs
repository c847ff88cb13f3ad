//! From what a network says to what can be relied on: calibrated probabilities, and how unusual an image is.

use super::manifest::{Method, OutOfDistribution, floats};

/// Probabilities that sum to 1: softmax of `logits / temperature`. Logits must be finite.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits
        .iter()
        .map(|logit| ((logit - largest) / temperature).exp())
        .collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials
        .into_iter()
        .map(|exponential| exponential / sum)
        .collect()
}

/// Free energy, `-T log Σ exp(logit / T)`: higher is less usual.
pub fn energy(logits: &[f32], temperature: f32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits
        .iter()
        .map(|logit| ((logit - largest) / temperature).exp())
        .sum();
    -(largest + temperature * sum.ln())
}

/// Measures how unusual an image is.
#[derive(Clone, Debug)]
pub struct Distance {
    method: Method,
    centre: f32,
    span: f32,
    temperature: f32,
    /// One row of features a class.
    means: Vec<Vec<f32>>,
    /// One variance a feature; ones for plain distances.
    variances: Vec<f32>,
}

impl Distance {
    /// Reads the parameters (raw little-endian `float32`; empty for `energy`) for so many classes.
    pub fn new(
        spec: &OutOfDistribution,
        parameters: &[u8],
        classes: usize,
        temperature: f32,
    ) -> Result<Self, String> {
        let rows = match spec.method {
            Method::Energy => 0,
            Method::FeatureMahalanobisDiagonal => classes + 1,
            Method::FeatureCentroid => classes,
        };
        let values = floats(parameters);
        if !values.iter().all(|value| value.is_finite()) {
            return Err("holds a value that is not finite".into());
        }
        let features = values.len().checked_div(rows).unwrap_or(0);
        if values.len() * 4 != parameters.len()
            || features * rows != values.len()
            || (rows > 0 && features == 0)
        {
            return Err(format!(
                "{} bytes are not {rows} rows of float32 features",
                parameters.len()
            ));
        }
        let means = values
            .chunks_exact(features.max(1))
            .take(classes.min(rows))
            .map(<[f32]>::to_vec)
            .collect();
        let variances = match spec.method {
            Method::FeatureMahalanobisDiagonal => values[classes * features..].to_vec(),
            Method::FeatureCentroid | Method::Energy => vec![1.0; features],
        };
        if variances.iter().any(|variance| *variance <= 0.0) {
            return Err("holds a variance that is not above 0".into());
        }
        Ok(Self {
            method: spec.method,
            centre: spec.centre,
            span: spec.threshold - spec.centre,
            temperature,
            means,
            variances,
        })
    }

    /// How many features it compares; 0 when it only needs the logits.
    pub fn features(&self) -> usize {
        self.variances.len()
    }

    /// The distance in units of the threshold: above 1 is out of distribution.
    pub fn of(&self, logits: &[f32], features: &[f32]) -> f32 {
        let squared = |mean: &Vec<f32>| -> f32 {
            let terms = features.iter().zip(mean).zip(&self.variances);
            terms
                .map(|((feature, mean), variance)| (feature - mean).powi(2) / variance)
                .sum()
        };
        let nearest = || self.means.iter().map(squared).fold(f32::INFINITY, f32::min);
        let measure = match self.method {
            Method::Energy => energy(logits, self.temperature),
            Method::FeatureMahalanobisDiagonal => (nearest() / self.features() as f32).sqrt(),
            Method::FeatureCentroid => nearest().sqrt(),
        };
        (measure - self.centre) / self.span
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::manifest::GreyFormat;
    use proptest::prelude::*;

    fn spec(method: Method, threshold: f32, centre: f32) -> OutOfDistribution {
        OutOfDistribution {
            method,
            threshold,
            centre,
            false_review_rate: 0.01,
            parameters: None,
        }
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_keep_the_order(
            logits in proptest::collection::vec(-1e4f32..1e4, 1..12), temperature in 0.05f32..20.0,
        ) {
            let probabilities = softmax(&logits, temperature);
            prop_assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            for (a, b) in logits.iter().zip(&probabilities) {
                for (c, d) in logits.iter().zip(&probabilities) {
                    prop_assert!(a < c || b >= d);
                }
            }
        }
    }

    #[test]
    fn a_higher_temperature_makes_less_sure() {
        assert!(softmax(&[2.0, 0.0], 4.0)[0] < softmax(&[2.0, 0.0], 1.0)[0]);
    }

    #[test]
    fn energy_is_minus_log_sum_exp() {
        let expected = -(1f32.exp() + 2f32.exp()).ln();
        assert!((energy(&[1.0, 2.0], 1.0) - expected).abs() < 1e-6);
        let distance = Distance::new(&spec(Method::Energy, -1.0, -5.0), &[], 2, 1.0).unwrap();
        assert!(
            (distance.of(&[1.0, -40.0], &[]) - 1.0).abs() < 1e-6,
            "the threshold itself is 1"
        );
        assert!(distance.of(&[9.0, 0.0], &[]) < 0.0 && distance.of(&[0.0, -9.0], &[]) > 1.0);
    }

    #[test]
    fn distances_are_to_the_nearest_class_in_units_of_the_threshold() {
        let means = [0.0, 0.0, 10.0, 0.0];
        let bytes = |values: &[f32]| GreyFormat::F32.encode(values);
        let centroid = Distance::new(
            &spec(Method::FeatureCentroid, 2.0, 0.0),
            &bytes(&means),
            2,
            1.0,
        )
        .unwrap();
        assert!((centroid.of(&[], &[10.0, 3.0]) - 1.5).abs() < 1e-6);
        let with_variances = [0.0, 0.0, 10.0, 0.0, 4.0, 9.0];
        let spec = spec(Method::FeatureMahalanobisDiagonal, 2.0, 0.0);
        let mahalanobis = Distance::new(&spec, &bytes(&with_variances), 2, 1.0).unwrap();
        assert!((mahalanobis.of(&[], &[2.0, 3.0]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        let spec = spec(Method::FeatureMahalanobisDiagonal, 2.0, 0.0);
        let bytes = |values: &[f32]| GreyFormat::F32.encode(values);
        for (parameters, why) in [
            (vec![], "rows"),
            (bytes(&[0.0; 7]), "rows"),
            (vec![0; 25], "rows"),
            (bytes(&[0.0; 6]), "variance"),
            (bytes(&[0.0, f32::NAN, 0.0, 0.0, 1.0, 1.0]), "finite"),
        ] {
            let error = Distance::new(&spec, &parameters, 2, 1.0).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
