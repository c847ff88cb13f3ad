//! Turns logits into probabilities that can be believed, and finds the limits beyond which a person should look. Fitted on
//! validation pictures only.

use crate::model::calibration::softmax;

/// The range in which a temperature may lie.
pub const TEMPERATURES: [f32; 2] = [0.5, 10.0];

/// Fewer pictures than this, or no wrong answer among them, cannot justify sharper probabilities than the network's own.
const ENOUGH: usize = 200;

/// The temperature that makes the validation pictures likeliest, within [`TEMPERATURES`]. At least 1 when there are too few
/// pictures or no errors to tell how sure is too sure. `cases`: logits and true class.
pub fn temperature(cases: &[(&[f32], usize)]) -> f32 {
    let errors = cases
        .iter()
        .filter(|(logits, class)| super::evaluate::argmax(logits) != *class)
        .count();
    let lowest = if cases.len() < ENOUGH || errors == 0 {
        1.0
    } else {
        TEMPERATURES[0]
    };
    let (mut low, mut high) = (f32::ln(lowest), TEMPERATURES[1].ln());
    // The likelihood has a single maximum in 1/T: halve the bracket by thirds.
    for _ in 0..60 {
        let third = (high - low) / 3.0;
        let (a, b) = (low + third, high - third);
        if surprise(cases, a.exp()) < surprise(cases, b.exp()) {
            high = b;
        } else {
            low = a;
        }
    }
    f32::midpoint(low, high)
        .exp()
        .clamp(lowest, TEMPERATURES[1])
}

/// Mean negative log-likelihood of the true classes.
pub fn surprise(cases: &[(&[f32], usize)], temperature: f32) -> f64 {
    let sum: f64 = cases
        .iter()
        .map(|(l, class)| -f64::from(softmax(l, temperature)[*class].max(1e-30)).ln())
        .sum();
    sum / cases.len().max(1) as f64
}

/// How many of so many values may lie beyond a limit that leaves at most `part` of them there.
pub fn allowed(values: usize, part: f64) -> usize {
    (values as f64 * part) as usize
}

/// The largest limit that leaves at most `part` of the values below it; 0 for no values.
pub fn lower_limit(mut values: Vec<f32>, part: f64) -> f32 {
    values.sort_by(f32::total_cmp);
    values
        .get(allowed(values.len(), part))
        .copied()
        .unwrap_or(0.0)
}

/// The smallest limit that leaves at most `part` of the values above it; 0 for no values.
pub fn upper_limit(values: Vec<f32>, part: f64) -> f32 {
    -lower_limit(values.into_iter().map(|x| -x).collect(), part)
}

/// Parameters of `feature-mahalanobis-diagonal`: each class's mean features, then each feature's variance within classes.
/// `cases`: features and true class, of training pictures.
pub fn feature_distance(cases: &[(&[f32], usize)], classes: usize) -> Vec<f32> {
    let width = cases.first().map_or(0, |(features, _)| features.len());
    let mut means = vec![vec![0.0f64; width]; classes];
    let mut counts = vec![0.0f64; classes];
    for (features, class) in cases {
        counts[*class] += 1.0;
        means[*class]
            .iter_mut()
            .zip(*features)
            .for_each(|(mean, x)| *mean += f64::from(*x));
    }
    for (mean, count) in means.iter_mut().zip(&counts) {
        mean.iter_mut().for_each(|x| *x /= count.max(1.0));
    }
    let mut variances = vec![0.0f64; width];
    for (features, class) in cases {
        for ((variance, x), mean) in variances.iter_mut().zip(*features).zip(&means[*class]) {
            *variance += (f64::from(*x) - mean).powi(2) / cases.len() as f64;
        }
    }
    // A feature that hardly ever moves would make any movement look enormous.
    let floor = (variances.iter().sum::<f64>() / width.max(1) as f64 * 0.05).max(1e-6);
    let within = variances.iter().map(|variance| variance.max(floor));
    means
        .iter()
        .flatten()
        .copied()
        .chain(within)
        .map(|x| x as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::calibration::Distance;
    use crate::model::manifest::{GreyFormat, Method, OutOfDistribution};

    /// `right` of 1000 pictures where the network says class 0 with these logits.
    fn cases(logits: &[f32], right: usize) -> Vec<(&[f32], usize)> {
        (0..1000)
            .map(|k| (logits, usize::from(k >= right)))
            .collect()
    }

    #[test]
    fn the_fitted_probability_is_the_rate_at_which_the_network_is_right() {
        for (gap, right) in [(4.0, 800), (2.0, 900), (6.0, 950)] {
            let logits = [gap, 0.0];
            let t = temperature(&cases(&logits, right));
            let p = softmax(&logits, t)[0];
            assert!(
                (p - right as f32 / 1000.0).abs() < 0.01,
                "gap {gap}: temperature {t} gives {p}"
            );
        }
    }

    #[test]
    fn the_temperature_stays_in_its_range_and_is_never_sharpened_without_errors() {
        assert!((temperature(&cases(&[9.0, 0.0], 500)) - TEMPERATURES[1]).abs() < 1e-3);
        assert!((temperature(&cases(&[0.1, 0.0], 999)) - TEMPERATURES[0]).abs() < 1e-3);
        assert!((temperature(&cases(&[0.5, 0.0], 1000)) - 1.0).abs() < 1e-3);
        assert!(
            (temperature(&[(&[0.5, 0.0], 0), (&[0.5, 0.0], 0), (&[0.0, 0.1], 0)]) - 1.0).abs()
                < 1.0
        );
        assert!(temperature(&[]) >= 1.0);
    }

    #[test]
    fn limits_leave_out_no_more_than_the_stated_part() {
        let values: Vec<f32> = (0..1000).map(|k| k as f32).collect();
        assert_eq!(lower_limit(values.clone(), 0.01), 10.0);
        assert_eq!(upper_limit(values.clone(), 0.002), 997.0);
        assert_eq!(lower_limit(values, 0.0), 0.0);
        assert_eq!(lower_limit(Vec::new(), 0.01), 0.0);
    }

    #[test]
    fn the_feature_distance_is_small_at_a_class_and_large_far_from_all() {
        let cases: Vec<(Vec<f32>, usize)> = (0..200)
            .map(|k| {
                (
                    vec![
                        (k % 2 * 10) as f32 + (k % 7) as f32 * 0.1,
                        (k % 5) as f32,
                        3.0,
                    ],
                    k % 2,
                )
            })
            .collect();
        let borrowed: Vec<(&[f32], usize)> = cases
            .iter()
            .map(|(f, class)| (f.as_slice(), *class))
            .collect();
        let parameters = feature_distance(&borrowed, 2);
        assert_eq!(parameters.len(), 9);
        let spec = OutOfDistribution {
            method: Method::FeatureMahalanobisDiagonal,
            threshold: 1.0,
            centre: 0.0,
            false_review_rate: 0.0,
            parameters: None,
        };
        let distance = Distance::new(&spec, &GreyFormat::F32.encode(&parameters), 2, 1.0).unwrap();
        assert!(
            distance.of(&[], &[0.3, 2.0, 3.0]) < 0.5 && distance.of(&[], &[10.3, 2.0, 3.0]) < 0.5
        );
        assert!(distance.of(&[], &[5.0, 2.0, 3.0]) > 5.0);
        assert!(distance.of(&[], &[0.3, 2.0, 9.0]) > 5.0);
    }
}
