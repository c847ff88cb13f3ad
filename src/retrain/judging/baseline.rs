//! What can be told without looking at the picture: multinomial logistic regression on header fields and image borders.
//! Its accuracy stands beside the model's. A baseline well above guessing means that a shortcut is there to be taken
//! (a detector that only one ward uses, a collimation that only one treatment gets), and that the model may have taken it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::intervals::Proportion;
use super::outcome::Circumstances;

/// Steps of the fit; more change no accuracy that matters.
const STEPS: usize = 200;
/// Weight of the squared weights: with many features and few images, the regression must not learn images by heart.
const RIDGE: f64 = 0.003;
/// How many rows or columns make a border.
const BORDER: usize = 4;
/// How many detector models are told apart: a site has few, and each is a feature more to learn by heart.
const DETECTORS: usize = 8;

/// The baseline cannot be fitted or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// No images, or images without features.
    #[error("the baseline needs at least one image with at least one feature")]
    Empty,
    /// Not all images have the same number of features.
    #[error(
        "image {image} has {found} features where the first one has {wanted}: extract the same ones from all"
    )]
    Width {
        /// Which, by its place in the list.
        image: usize,
        /// How many it has.
        found: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// A class that does not exist.
    #[error("image {image} is of class {class}, but there are only {classes}")]
    Class {
        /// Which, by its place in the list.
        image: usize,
        /// Its class.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// A feature is not a number.
    #[error("image {image} has a feature that is not a finite number: write a missing one as -1")]
    NotFinite {
        /// Which, by its place in the list.
        image: usize,
    },
}

/// An image as the baseline sees it: its features and its class.
pub type Seen<'a> = (&'a [f32], usize);

/// The fitted regression.
#[derive(Clone, Debug)]
pub struct Baseline {
    classes: usize,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// A row a class: one weight a feature, then the constant.
    weights: Vec<Vec<f64>>,
}

impl Baseline {
    /// Fits it on training images. Deterministic.
    pub fn fit(training: &[Seen], classes: usize) -> Result<Self, BaselineError> {
        check(training, classes)?;
        let (mean, deviation) = spread(training);
        let mut baseline = Self {
            classes,
            weights: vec![vec![0.0; mean.len() + 1]; classes],
            mean,
            deviation,
        };
        let rows: Vec<(Vec<f64>, usize)> = training
            .iter()
            .map(|(features, class)| (baseline.standardised(features), *class))
            .collect();
        // The loss curves at most half as much as the features' second moments; a step of 1 / curvature cannot overshoot.
        let step = 1.0 / (0.5 * greatest_moment(&rows) + RIDGE);
        let mut before = baseline.weights.clone();
        for turn in 0..STEPS {
            // Nesterov's momentum: the steps go on a little in the direction of the last one.
            let momentum = turn as f64 / (turn + 3) as f64;
            let mut ahead = baseline.weights.clone();
            for (row, old) in ahead.iter_mut().zip(&before) {
                for (weight, old) in row.iter_mut().zip(old) {
                    *weight += momentum * (*weight - old);
                }
            }
            let gradient = gradient(&ahead, &rows);
            for (row, slope) in ahead.iter_mut().zip(&gradient) {
                for (weight, slope) in row.iter_mut().zip(slope) {
                    *weight -= step * (slope + RIDGE * *weight);
                }
            }
            before = std::mem::replace(&mut baseline.weights, ahead);
        }
        Ok(baseline)
    }

    /// The class that it guesses for an image with as many features as those that it was fitted on.
    pub fn class_of(&self, features: &[f32]) -> usize {
        let scores = scores(&self.weights, &self.standardised(features));
        (0..self.classes)
            .rev()
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap_or(0)
    }

    /// How many it gets right; None of none.
    pub fn accuracy(&self, images: &[Seen]) -> Option<Proportion> {
        Proportion::count(images, |(features, class)| {
            self.class_of(features) == *class
        })
    }

    /// Mean 0 and deviation 1 on the training images; a constant 1 behind.
    fn standardised(&self, features: &[f32]) -> Vec<f64> {
        let standard = features
            .iter()
            .zip(&self.mean)
            .zip(&self.deviation)
            .map(|((x, mean), deviation)| (f64::from(*x) - mean) / deviation);
        standard.chain([1.0]).collect()
    }
}

fn check(images: &[Seen], classes: usize) -> Result<(), BaselineError> {
    let wanted = images.first().map_or(0, |(features, _)| features.len());
    if wanted == 0 {
        return Err(BaselineError::Empty);
    }
    for (image, (features, class)) in images.iter().enumerate() {
        if features.len() != wanted {
            let found = features.len();
            return Err(BaselineError::Width {
                image,
                found,
                wanted,
            });
        }
        if *class >= classes {
            return Err(BaselineError::Class {
                image,
                class: *class,
                classes,
            });
        }
        if !features.iter().all(|x| x.is_finite()) {
            return Err(BaselineError::NotFinite { image });
        }
    }
    Ok(())
}

/// Mean and deviation of each feature; a feature that never changes gets a deviation of 1.
fn spread(images: &[Seen]) -> (Vec<f64>, Vec<f64>) {
    let (n, width) = (images.len() as f64, images[0].0.len());
    let column = |k: usize| {
        images
            .iter()
            .map(move |(features, _)| f64::from(features[k]))
    };
    let mean: Vec<f64> = (0..width).map(|k| column(k).sum::<f64>() / n).collect();
    let deviation = (0..width)
        .map(|k| (column(k).map(|x| (x - mean[k]).powi(2)).sum::<f64>() / n).sqrt())
        .map(|deviation| if deviation < 1e-6 { 1.0 } else { deviation })
        .collect();
    (mean, deviation)
}

/// The greatest eigenvalue of the features' second moments, by power iteration, a little too large on purpose.
fn greatest_moment(rows: &[(Vec<f64>, usize)]) -> f64 {
    let width = rows[0].0.len();
    let mut direction = vec![1.0 / (width as f64).sqrt(); width];
    let mut greatest = 1.0;
    for _ in 0..20 {
        let mut next = vec![0.0; width];
        for (x, _) in rows {
            let along = dot(x, &direction) / rows.len() as f64;
            next.iter_mut().zip(x).for_each(|(n, x)| *n += along * x);
        }
        greatest = dot(&next, &next).sqrt();
        direction = next.iter().map(|x| x / greatest.max(1e-12)).collect();
    }
    // The constant has a moment of 1, whatever direction the iteration has found.
    1.2 * greatest.max(1.0)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn scores(weights: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    weights.iter().map(|row| dot(row, x)).collect()
}

/// Of the mean negative log-likelihood.
fn gradient(weights: &[Vec<f64>], rows: &[(Vec<f64>, usize)]) -> Vec<Vec<f64>> {
    let mut gradient: Vec<Vec<f64>> = weights.iter().map(|row| vec![0.0; row.len()]).collect();
    for (x, class) in rows {
        let scores = scores(weights, x);
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let powers: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for (k, (slope, power)) in gradient.iter_mut().zip(&powers).enumerate() {
            let error = (power / sum - f64::from(u8::from(k == *class))) / rows.len() as f64;
            slope.iter_mut().zip(x).for_each(|(s, x)| *s += error * x);
        }
    }
    gradient
}

/// Header fields as features: matrix, year, age and the detector's model.
#[derive(Clone, Debug)]
pub struct HeaderFields {
    /// The most frequent models; all others are alike.
    detectors: Vec<String>,
}

impl HeaderFields {
    /// With the detectors of the training images.
    pub fn of<'a>(training: impl IntoIterator<Item = &'a Circumstances>) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for detector in training.into_iter().filter_map(|it| it.detector.as_deref()) {
            *counts.entry(detector).or_default() += 1;
        }
        let mut detectors: Vec<(&str, usize)> = counts.into_iter().collect();
        detectors.sort_by_key(|(_, count)| Reverse(*count));
        let names = detectors.into_iter().map(|(name, _)| name.to_owned());
        Self {
            detectors: names.take(DETECTORS).collect(),
        }
    }

    /// The features of one image; a number that is missing is -1, the others are about as large as 1.
    pub fn features(&self, of: &Circumstances) -> Vec<f32> {
        let mut sides = of.matrix.as_deref().unwrap_or("").split(" × ");
        let mut side = || scaled(sides.next(), 0.0, 4000.0);
        let (columns, rows) = (side(), side());
        let year = scaled(of.year.as_deref(), 2000.0, 20.0);
        let youngest = of
            .age_band
            .as_deref()
            .and_then(|band| band.split('–').next());
        let mut features = vec![columns, rows, year, scaled(youngest, 0.0, 20.0)];
        let is = |name: &String| f32::from(u8::from(of.detector.as_ref() == Some(name)));
        features.extend(self.detectors.iter().map(is));
        features
    }
}

fn scaled(text: Option<&str>, from: f32, by: f32) -> f32 {
    let number: Option<f32> = text.and_then(|text| text.parse().ok());
    number.map_or(-1.0, |number| (number - from) / by)
}

/// Mean and deviation of the four borders of a picture with rows of `width` grey values: top, bottom, left, right. It fills
/// the rows and columns `filled`; around them it was padded, which tells nothing.
pub fn border_features(grey: &[f32], width: usize, filled: [Range<usize>; 2]) -> [f32; 8] {
    let [rows, columns] = filled;
    let strip = |rows: Range<usize>, columns: Range<usize>| {
        let places = rows.flat_map(|row| columns.clone().map(move |column| row * width + column));
        let values: Vec<f32> = places.filter_map(|k| grey.get(k).copied()).collect();
        let n = values.len().max(1) as f32;
        let mean = values.iter().sum::<f32>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        [mean, variance.sqrt()]
    };
    let first = |of: &Range<usize>| of.start..(of.start + BORDER).min(of.end);
    let last = |of: &Range<usize>| of.end.saturating_sub(BORDER).max(of.start)..of.end;
    let strips = [
        strip(first(&rows), columns.clone()),
        strip(last(&rows), columns.clone()),
        strip(rows.clone(), first(&columns)),
        strip(rows.clone(), last(&columns)),
    ];
    let mut features = [0.0; 8];
    features
        .iter_mut()
        .zip(strips.into_iter().flatten())
        .for_each(|(feature, value)| *feature = value);
    features
}

/// The baseline beside the model, on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shortcuts {
    /// Rightly told from header and borders alone.
    pub baseline: Proportion,
    /// Rightly told by always naming the commonest class of the training images.
    pub guessing: Proportion,
    /// Rightly told by the model.
    pub model: Proportion,
    /// Header and borders tell significantly more than guessing does.
    pub suspicious: bool,
}

impl Shortcuts {
    /// Fits on training images, asks about test images; `model_right` is how many of the latter the model gets right.
    pub fn of(
        training: &[Seen],
        test: &[Seen],
        classes: usize,
        model_right: u64,
    ) -> Result<Self, BaselineError> {
        let width = training.first().map_or(0, |(features, _)| features.len());
        let found = test
            .iter()
            .position(|(features, _)| features.len() != width);
        if let Some(image) = found {
            return Err(BaselineError::Width {
                image,
                found: test[image].0.len(),
                wanted: width,
            });
        }
        check(test, classes)?;
        let fitted = Baseline::fit(training, classes)?;
        let commonest = (0..classes)
            .rev()
            .max_by_key(|k| training.iter().filter(|(_, class)| class == k).count());
        let guessing = Proportion::count(test, |(_, class)| Some(*class) == commonest);
        let model = Proportion::of(model_right, test.len() as u64);
        match (fitted.accuracy(test), guessing, model) {
            (Some(baseline), Some(guessing), Some(model)) => Ok(Self {
                suspicious: baseline.low > guessing.high,
                baseline,
                guessing,
                model,
            }),
            _ => Err(BaselineError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn borrowed(images: &[(Vec<f32>, usize)]) -> Vec<Seen<'_>> {
        images
            .iter()
            .map(|(features, class)| (features.as_slice(), *class))
            .collect()
    }

    /// Three classes; the second of three features is by `tell` higher for each next class, the others are noise.
    fn noise(count: usize, tell: f32, seed: u64) -> Vec<(Vec<f32>, usize)> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|k| {
                let mut features: Vec<f32> = (0..3).map(|_| dice.random_range(-1.0..1.0)).collect();
                features[1] = 500.0 + 100.0 * (features[1] + tell * (k % 3) as f32);
                (features, k % 3)
            })
            .collect()
    }

    #[test]
    fn a_header_that_tells_the_class_is_suspicious_and_one_that_does_not_is_not() {
        let shortcuts = |tell| {
            let (training, test) = (noise(600, tell, 1), noise(300, tell, 2));
            Shortcuts::of(&borrowed(&training), &borrowed(&test), 3, 290).unwrap()
        };
        let told = shortcuts(3.0);
        assert!(told.suspicious && told.baseline.estimate > 0.95, "{told:?}");
        assert_eq!((told.guessing.part, told.model.part), (100, 290));
        let silent = shortcuts(0.0);
        assert!(
            !silent.suspicious && silent.baseline.estimate < 0.45,
            "{silent:?}"
        );
    }

    #[test]
    fn the_fit_comes_to_rest_also_with_features_that_repeat_each_other() {
        let images: Vec<(Vec<f32>, usize)> = noise(300, 1.0, 3)
            .into_iter()
            .map(|(features, class)| (features.repeat(30), class))
            .collect();
        let baseline = Baseline::fit(&borrowed(&images), 3).unwrap();
        assert!(baseline.accuracy(&borrowed(&images)).unwrap().estimate > 0.6);
    }

    #[test]
    fn what_cannot_be_fitted_is_named() {
        let of = |images: &[(Vec<f32>, usize)]| Baseline::fit(&borrowed(images), 2).unwrap_err();
        assert_eq!(of(&[]), BaselineError::Empty);
        assert_eq!(of(&[(vec![], 0)]), BaselineError::Empty);
        let uneven = [(vec![1.0], 0), (vec![1.0, 2.0], 1)];
        assert!(matches!(
            of(&uneven),
            BaselineError::Width {
                image: 1,
                found: 2,
                ..
            }
        ));
        assert!(matches!(
            of(&[(vec![1.0], 2)]),
            BaselineError::Class { class: 2, .. }
        ));
        assert!(matches!(
            of(&[(vec![f32::NAN], 0)]),
            BaselineError::NotFinite { .. }
        ));
        let (one, two) = ([(vec![1.0], 0)], [(vec![1.0, 2.0], 0)]);
        assert!(Shortcuts::of(&borrowed(&one), &borrowed(&two), 1, 0).is_err());
    }

    /// Images of three classes and one matrix; what else the header says is `said` of the class, or of anything.
    fn headers(
        count: usize,
        tells: bool,
        said: impl Fn(usize) -> Circumstances,
    ) -> Vec<(Circumstances, usize)> {
        let mut dice = ChaCha8Rng::seed_from_u64(count as u64);
        let of = |k: usize| {
            let anything = dice.random_range(0..3);
            let about = said(if tells { k % 3 } else { anything });
            let matrix = Some("2022 × 4300".to_owned());
            (Circumstances { matrix, ..about }, k % 3)
        };
        (0..count).map(of).collect()
    }

    #[test]
    fn a_detector_a_year_or_an_age_that_tells_the_class_is_suspicious_where_all_matrices_are_alike()
    {
        let detector = |k: usize| Circumstances {
            detector: Some(["Canon A", "Siemens B", "Philips C"][k].to_owned()),
            ..Circumstances::default()
        };
        let year = |k: usize| Circumstances {
            year: Some(["2003", "2011", "2024"][k].to_owned()),
            ..Circumstances::default()
        };
        let age = |k: usize| Circumstances {
            age_band: ["5–9", "10–14"].get(k).map(|band| (*band).to_owned()),
            ..Circumstances::default()
        };
        let said: [&dyn Fn(usize) -> Circumstances; 3] = [&detector, &year, &age];
        for (field, said) in said.into_iter().enumerate() {
            for tells in [true, false] {
                let (training, test) = (headers(300, tells, said), headers(150, tells, said));
                let fields = HeaderFields::of(training.iter().map(|(about, _)| about));
                let seen = |images: &[(Circumstances, usize)]| -> Vec<(Vec<f32>, usize)> {
                    let images = images.iter();
                    images
                        .map(|(about, class)| (fields.features(about), *class))
                        .collect()
                };
                let (training, test) = (seen(&training), seen(&test));
                let found = Shortcuts::of(&borrowed(&training), &borrowed(&test), 3, 150).unwrap();
                assert_eq!(found.suspicious, tells, "field {field}: {found:?}");
            }
        }
    }

    #[test]
    fn what_a_header_does_not_say_is_minus_one_and_rare_detectors_are_alike() {
        let about = |k: usize| Circumstances {
            detector: Some(format!("detector {k}")),
            ..Circumstances::default()
        };
        // Twelve models, the later the more frequent.
        let training: Vec<Circumstances> = (0..12).flat_map(|k| vec![about(k); k + 1]).collect();
        let fields = HeaderFields::of(&training);
        assert_eq!(fields.detectors.len(), DETECTORS);
        let unknown = fields.features(&Circumstances::default());
        assert_eq!(unknown[..4], [-1.0; 4]);
        assert_eq!(fields.features(&about(0)), unknown);
        assert_ne!(fields.features(&about(11)), unknown);
    }

    #[test]
    fn borders_are_those_of_the_picture() {
        let (width, height) = (20, 30);
        let grey: Vec<f32> = (0..width * height)
            .map(|k| match (k / width, k % width) {
                (0..4, _) => 1.0,
                (_, 16..) => 0.5,
                _ => 0.0,
            })
            .collect();
        let [top, top_spread, bottom, _, left, _, right, right_spread] =
            border_features(&grey, width, [0..height, 0..width]);
        assert_eq!((top, top_spread), (1.0, 0.0));
        assert!((bottom - 0.1).abs() < 1e-6 && (left - 4.0 / 30.0).abs() < 1e-6);
        assert!(right > 0.5 && right_spread > 0.0);
        assert_eq!(border_features(&[], 0, [0..0, 0..0]), [0.0; 8]);
    }

    #[test]
    fn borders_of_a_letterboxed_picture_are_those_of_what_it_shows() {
        // Ten rows of padding above, eight below; the picture's own top is white, its bottom grey.
        let (width, height) = (20, 40);
        let grey: Vec<f32> = (0..width * height)
            .map(|k| match k / width {
                10..14 => 1.0,
                14..28 => 0.3,
                28..32 => 0.6,
                _ => 0.0,
            })
            .collect();
        let [top, _, bottom, _, left, ..] = border_features(&grey, width, [10..32, 0..width]);
        assert_eq!(top, 1.0);
        assert!((bottom - 0.6).abs() < 1e-6, "{bottom}");
        assert!((left - 10.6 / 22.0).abs() < 1e-5, "{left}");
        let all = border_features(&grey, width, [0..height, 0..width]);
        assert_eq!(all[0], 0.0, "the padding");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn shifting_or_stretching_a_feature_changes_no_guess(shift in -50.0f32..50.0, stretch in 0.5f32..20.0) {
            let images = noise(60, 1.0, 4);
            let moved: Vec<(Vec<f32>, usize)> = images.iter().map(|(features, class)| {
                (vec![features[0] * stretch + shift, features[1], features[2]], *class)
            }).collect();
            let guesses = |images: &[(Vec<f32>, usize)]| -> usize {
                let fitted = Baseline::fit(&borrowed(images), 3).unwrap();
                images.iter().filter(|(features, class)| fitted.class_of(features) == *class).count()
            };
            prop_assert!(guesses(&images).abs_diff(guesses(&moved)) <= 1);
        }
    }
}
