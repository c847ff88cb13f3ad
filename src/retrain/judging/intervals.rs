//! How far a counted proportion may be from the true one.
//!
//! Two-sided 95 % intervals are Wilson's (1927), which hold for small numbers and proportions near 0 and 1. Promises rest
//! on the one-sided 95 % bound of Clopper and Pearson (1934), which never promises too much. Two classifiers on the same
//! images are compared by McNemar's test (1947) in its exact form and by Tango's score bound (1998) of the difference.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF as _};
use statrs::function::beta::checked_beta_reg;

/// The 97.5th percentile of the normal distribution: two-sided 95 %.
const TWO_SIDED: f64 = 1.959_963_984_540_054;
/// The 95th percentile of the normal distribution: one-sided 95 %.
const ONE_SIDED: f64 = 1.644_853_626_951_472_2;
/// What a one-sided bound may miss.
const RISK: f64 = 0.05;
/// Halvings of an interval below 1 until it is narrower than a double can tell.
const HALVINGS: usize = 60;

/// A range of proportions, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A counted proportion and its Wilson 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Proportion {
    /// How many.
    pub part: u64,
    /// Of how many; above 0.
    pub whole: u64,
    /// `part / whole`.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// `part` of `whole`; None of none.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let Interval { low, high } = wilson(part, whole)?;
        let estimate = part as f64 / whole as f64;
        Some(Self {
            part,
            whole,
            estimate,
            low,
            high,
        })
    }

    /// How many of `all` are so; None of none.
    pub fn count<T>(all: impl IntoIterator<Item = T>, so: impl Fn(&T) -> bool) -> Option<Self> {
        let (mut part, mut whole) = (0, 0);
        for one in all {
            part += u64::from(so(&one));
            whole += 1;
        }
        Self::of(part, whole)
    }
}

/// Wilson's 95 % score interval (Wilson 1927; Newcombe 1998, method 3); None for a `whole` of 0.
pub fn wilson(part: u64, whole: u64) -> Option<Interval> {
    if whole == 0 {
        return None;
    }
    let part = part.min(whole);
    let (n, p, z2) = (
        whole as f64,
        part as f64 / whole as f64,
        TWO_SIDED * TWO_SIDED,
    );
    let centre = p + z2 / (2.0 * n);
    let half = TWO_SIDED * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At 0 and 1 the formula is exact up to rounding, which must not put the estimate outside.
    Some(Interval {
        low: if part == 0 {
            0.0
        } else {
            (centre - half) / scale
        },
        high: if part == whole {
            1.0
        } else {
            (centre + half) / scale
        },
    })
}

/// The F1 score of a class and its 95 % interval, from true positives and from all images that are of the class or were
/// called it; None when there are none. F1 = 2J / (1 + J) with J = true positives / all of these, which is a proportion:
/// Wilson's interval of J is carried over (Lam 2023, arXiv:2309.14621, "Wilson indirect").
pub fn f1(true_positives: u64, all: u64) -> Option<(f64, Interval)> {
    let of = Proportion::of(true_positives, all)?;
    let f1 = |j: f64| 2.0 * j / (1.0 + j);
    let interval = Interval {
        low: f1(of.low),
        high: f1(of.high),
    };
    Some((f1(of.estimate), interval))
}

/// The one-sided 95 % upper bound of an error rate (Clopper and Pearson 1934): with a greater true rate, so few errors
/// would be seen in less than 5 of 100 samples. 1 without images.
pub fn upper_bound(errors: u64, images: u64) -> f64 {
    if errors >= images {
        return 1.0;
    }
    let n = images as f64;
    if errors == 0 {
        return 1.0 - RISK.powf(1.0 / n);
    }
    let (a, b) = (errors as f64 + 1.0, (images - errors) as f64);
    // P(no more errors than these | rate) = 1 - I_rate(a, b) falls from 1 to 0 as the rate grows.
    upper_root(errors as f64 / n, 1.0, |rate| {
        checked_beta_reg(a, b, rate).is_ok_and(|below| 1.0 - below <= RISK)
    })
}

/// How many images with so many errors bring [`upper_bound`] down to `target` (above 0).
pub fn images_needed(target: f64, errors: u64) -> u64 {
    let enough = |images: u64| upper_bound(errors, images) <= target;
    let mut high = errors + 1;
    while !enough(high) && high < u64::MAX / 4 {
        high *= 2;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low.midpoint(high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// McNemar's exact test, two-sided: how likely a division at least as uneven would be if both were equally often right.
/// The arguments count the images on which exactly one of the two is right.
pub fn mcnemar(only_first_right: u64, only_second_right: u64) -> f64 {
    let fewer = only_first_right.min(only_second_right);
    Binomial::new(0.5, only_first_right + only_second_right)
        .map_or(1.0, |fair| (2.0 * fair.cdf(fewer)).min(1.0))
}

/// By how much the first may be wrong more often than the second, as a proportion of all `images` (−1 to 1): the one-sided
/// 95 % upper bound by Tango's score method (Statistics in Medicine 1998; 17: 891–908), which holds also when one of the
/// counts is 0. The counts are of the images on which exactly one of the two is wrong; 1 without images.
pub fn difference_bound(only_first_wrong: u64, only_second_wrong: u64, images: u64) -> f64 {
    if images == 0 {
        return 1.0;
    }
    let (b, c, n) = (
        only_first_wrong as f64,
        only_second_wrong as f64,
        images as f64,
    );
    let score = |difference: f64| {
        // The likeliest rate of "only the second is wrong" if the true difference were this one.
        let spread = difference * (1.0 - difference);
        let half = (2.0 * n - b + c) * difference - b - c;
        let rate = ((half * half + 8.0 * n * c * spread).max(0.0).sqrt() - half) / (4.0 * n);
        let variance = n * (2.0 * rate + spread);
        (b - c - n * difference) / variance.max(f64::MIN_POSITIVE).sqrt()
    };
    upper_root((b - c) / n, 1.0, |difference| {
        score(difference) <= -ONE_SIDED
    })
}

/// The least number between `low` and `high` that is `beyond`; everything above it must be, too. Rounded up.
fn upper_root(mut low: f64, mut high: f64, beyond: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if beyond(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a} is not {b}");
    }

    #[test]
    fn wilson_intervals_are_those_of_newcombe_1998() {
        // Newcombe, Statistics in Medicine 1998; 17: 857–872, table I, method 3.
        for (part, whole, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let interval = wilson(part, whole).unwrap();
            near(interval.low, low, 5e-5);
            near(interval.high, high, 5e-5);
        }
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn without_errors_the_bound_is_closed_and_half_a_percent_takes_598_images() {
        near(upper_bound(0, 20), 0.1391, 5e-5);
        assert!(upper_bound(0, 598) <= 0.005);
        assert!(upper_bound(0, 597) > 0.005);
        assert_eq!(images_needed(0.005, 0), 598);
    }

    #[test]
    fn the_bound_asks_for_the_samples_that_tolerance_tables_ask_for() {
        // 95 % confidence that at most 5 % are bad, with 0 to 4 bad ones seen (Wilks 1941; Hahn and Meeker 1991).
        let needed: Vec<u64> = (0..5).map(|errors| images_needed(0.05, errors)).collect();
        assert_eq!(needed, [59, 93, 124, 153, 181]);
    }

    #[test]
    fn the_bound_is_exact_for_one_error_of_two() {
        // P(at most 1 of 2) = 1 - rate² = 0.05.
        near(upper_bound(1, 2), 0.95f64.sqrt(), 1e-12);
        assert_eq!((upper_bound(3, 3), upper_bound(0, 0)), (1.0, 1.0));
    }

    #[test]
    fn mcnemar_is_that_of_fagerland_2013() {
        // Fagerland, Lydersen, Laake, BMC Medical Research Methodology 2013; 13: 91: 1 against 7 gives 0.0703.
        near(mcnemar(1, 7), 0.0703, 5e-5);
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(4, 4), 1.0);
        near(mcnemar(0, 6), 2.0 / 64.0, 1e-12);
    }

    #[test]
    fn the_bound_of_a_difference_without_any_is_that_of_the_score() {
        // With no image on which they differ, Tango's equation is n·d² = z²·d·(1 − d).
        let z2 = ONE_SIDED * ONE_SIDED;
        near(difference_bound(0, 0, 300), z2 / (300.0 + z2), 1e-12);
        assert_eq!(difference_bound(0, 0, 0), 1.0);
    }

    /// One coefficient list, highest power first, at x.
    fn polynomial(coefficients: [f64; 5], x: f64) -> f64 {
        coefficients.into_iter().fold(0.0, |sum, c| sum * x + c)
    }

    #[test]
    fn the_bound_of_a_difference_is_a_root_of_the_quartic_of_yang_sun_and_hardin() {
        // Yang, Sun, Hardin, Statistics in Medicine 2013; 32: 1336–1342 bring Tango's equation into closed form.
        for (b, c, n) in [(7u64, 1u64, 21u64), (5, 2, 300), (12, 9, 1000), (1, 0, 150)] {
            let bound = difference_bound(b, c, n);
            let g = ONE_SIDED * ONE_SIDED;
            let (n, d, s) = (n as f64, b as f64 - c as f64, (b + c) as f64);
            let quartic = [
                n * n * (n / g + 1.0).powi(2),
                -n * d * (n / g + 1.0) * (4.0 * n / g + 1.0),
                2.0 * n * d * d * (3.0 * n / g + 2.0) / g - n * n * (s / g + 1.0),
                n * d * (2.0 * s / g + 1.0) - d.powi(3) * (4.0 * n / g + 1.0) / g,
                d * d * (d * d / g - s) / g,
            ];
            let scale = quartic[0] * bound.powi(4);
            assert!(
                polynomial(quartic, bound).abs() < 1e-6 * scale,
                "{b} against {c} of {n}: {bound}"
            );
        }
    }

    proptest! {
        #[test]
        fn intervals_and_bounds_contain_the_estimate(whole in 1u64..20_000, part in 0.0..=1.0f64) {
            let part = (part * whole as f64) as u64;
            let found = Proportion::of(part, whole).unwrap();
            prop_assert!(0.0 <= found.low && found.low <= found.estimate);
            prop_assert!(found.estimate <= found.high && found.high <= 1.0);
            prop_assert!(upper_bound(part, whole) >= found.estimate);
            prop_assert!(upper_bound(part, whole) <= 1.0);
            let (f1, interval) = f1(part, whole).unwrap();
            prop_assert!(interval.low <= f1 && f1 <= interval.high);
        }

        #[test]
        fn more_errors_raise_the_bound_and_more_images_lower_it(images in 1u64..5000, errors in 0u64..50) {
            let errors = errors.min(images);
            prop_assert!(upper_bound(errors + 1, images) >= upper_bound(errors, images));
            prop_assert!(upper_bound(errors, images + 1) <= upper_bound(errors, images) + 1e-12);
        }

        #[test]
        fn the_images_needed_are_just_enough(errors in 0u64..20, target in 0.002f64..0.2) {
            let needed = images_needed(target, errors);
            prop_assert!(upper_bound(errors, needed) <= target);
            prop_assert!(upper_bound(errors, needed - 1) > target);
        }

        #[test]
        fn mcnemar_is_a_probability_that_does_not_care_who_is_first(a in 0u64..400, b in 0u64..400) {
            let p = mcnemar(a, b);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert_eq!(p, mcnemar(b, a));
            if a > b {
                prop_assert!(mcnemar(a + 1, b) <= p + 1e-12);
            }
        }

        #[test]
        fn the_bound_of_a_difference_lies_above_it_and_grows_with_new_errors(
            b in 0u64..60, c in 0u64..60, agree in 0u64..3000,
        ) {
            let images = b + c + agree + 1;
            let bound = difference_bound(b, c, images);
            prop_assert!(bound >= (b as f64 - c as f64) / images as f64 - 1e-12 && bound <= 1.0);
            prop_assert!(difference_bound(b + 1, c, images) >= bound - 1e-9);
        }
    }
}
