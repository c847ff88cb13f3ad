//! What many outcomes amount to: accuracy, precision and recall with intervals, how far confidences can be believed, how
//! many errors a threshold leaves, and all of it by how the images were taken.

use std::collections::BTreeMap;

use serde::Serialize;

use super::intervals::{self, Interval, Proportion};
use super::outcome::{Circumstances, Done, Outcome, patients};
use crate::domain::CategoryId;
use crate::retrain::evaluate::Confusion;

/// Bins of the reliability diagram, each with the same number of images (Nguyen and O'Connor 2015: equal mass).
pub const BINS: usize = 15;
/// The coverage curve keeps at most so many points.
const CURVE_POINTS: usize = 400;

/// The figures of a set of images.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    /// Number of images.
    pub images: u64,
    /// Number of patients.
    pub patients: u64,
    /// Of the images of a category: the likeliest category is the true one. No category counts as wrong.
    pub accuracy: Option<Proportion>,
    /// Of the images that were filed: under their category. A filed image of neither view counts as wrong.
    pub filed_rightly: Option<Proportion>,
    /// Of the images of a category: filed without a person looking.
    pub coverage: Option<Proportion>,
    /// Of the images of neither view: filed all the same.
    pub neither_filed: Option<Proportion>,
    /// Why images were not filed, and how many.
    pub not_filed: BTreeMap<String, u64>,
    /// Each category, in the order of the confusion matrix.
    pub categories: Vec<CategoryFigures>,
    /// By truth (rows) and likeliest category (columns). After the categories: neither view (row), no category (column).
    pub confusion: Confusion,
    /// How far confidences can be believed.
    pub calibration: Calibration,
    /// What each threshold would bring, from strict to lax.
    pub coverage_curve: Vec<CurvePoint>,
    /// By detector, matrix size, year and age band.
    pub breakdowns: Vec<Breakdown>,
}

/// The figures of one category.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CategoryFigures {
    /// Which.
    pub category: CategoryId,
    /// Of what was called so: rightly. None when nothing was.
    pub precision: Option<Proportion>,
    /// Of what is so: called so. None when there is none.
    pub recall: Option<Proportion>,
    /// Harmonic mean of both, 0 to 1.
    pub f1: Option<f64>,
    /// Its 95 % interval, see [`intervals::f1`].
    pub f1_interval: Option<Interval>,
}

/// How far confidences can be believed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calibration {
    /// [`BINS`]: they hold equally many images, except that equal confidences stay together.
    pub bins: usize,
    /// Images with a confidence, i.e. those for which a category was named.
    pub images: u64,
    /// Expected calibration error: the mean distance of confidence and rate of right answers over bins, weighted by images.
    pub error: Option<f64>,
    /// The points of the reliability diagram.
    pub points: Vec<ReliabilityPoint>,
}

/// One bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReliabilityPoint {
    /// Mean confidence, 0 to 1.
    pub confidence: f64,
    /// How many are right.
    pub right: Proportion,
}

/// What a threshold would bring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CurvePoint {
    /// The least confidence that is filed.
    pub threshold: f32,
    /// The part of the images of a category that would be filed, 0 to 1.
    pub coverage: f64,
    /// The part of what would be filed that would be wrong, 0 to 1.
    pub error: f64,
}

/// Figures by one circumstance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Breakdown {
    /// Which circumstance, e.g. `detector`.
    pub by: &'static str,
    /// Its values, in alphabetical order; images without one last.
    pub groups: Vec<Group>,
}

/// The figures of one value of a circumstance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The value; None for images without one.
    pub value: Option<String>,
    /// Number of images.
    pub images: u64,
    /// As in [`Judgement`].
    pub accuracy: Option<Proportion>,
    /// As in [`Judgement`].
    pub filed_rightly: Option<Proportion>,
    /// As in [`Judgement`].
    pub coverage: Option<Proportion>,
}

impl Judgement {
    /// Judges. `categories`: those of the bundle, in its order; others that occur are put behind them.
    pub fn of(categories: &[CategoryId], outcomes: &[Outcome]) -> Self {
        let (categories, confusion) = confusion(categories, outcomes);
        let mut not_filed = BTreeMap::new();
        for outcome in outcomes {
            if let Done::NotFiled { reason } = &outcome.done {
                *not_filed.entry(reason.clone()).or_default() += 1;
            }
        }
        let all: Vec<&Outcome> = outcomes.iter().collect();
        let neither = outcomes.iter().filter(|outcome| outcome.truth.is_none());
        Self {
            images: outcomes.len() as u64,
            patients: patients(outcomes),
            accuracy: accuracy(&all),
            filed_rightly: filed_rightly(&all),
            coverage: coverage(&all),
            neither_filed: Proportion::count(neither, |outcome| outcome.filed().is_some()),
            not_filed,
            categories: categories
                .into_iter()
                .enumerate()
                .map(|(class, category)| CategoryFigures::of(category, class, &confusion))
                .collect(),
            confusion,
            calibration: Calibration::of(outcomes),
            coverage_curve: coverage_curve(outcomes),
            breakdowns: breakdowns(&all),
        }
    }
}

fn accuracy(outcomes: &[&Outcome]) -> Option<Proportion> {
    let of_category = outcomes.iter().filter(|outcome| outcome.truth.is_some());
    Proportion::count(of_category, |outcome| outcome.is_right())
}

fn filed_rightly(outcomes: &[&Outcome]) -> Option<Proportion> {
    let filed = outcomes.iter().filter(|outcome| outcome.filed().is_some());
    Proportion::count(filed, |outcome| !outcome.is_misfiled())
}

fn coverage(outcomes: &[&Outcome]) -> Option<Proportion> {
    let of_category = outcomes.iter().filter(|outcome| outcome.truth.is_some());
    Proportion::count(of_category, |outcome| outcome.filed().is_some())
}

/// Counts truth against likeliest category; the class after the last one is neither view, or no category.
fn confusion(known: &[CategoryId], outcomes: &[Outcome]) -> (Vec<CategoryId>, Confusion) {
    let mut categories = known.to_vec();
    let mut unknown: Vec<&CategoryId> = outcomes
        .iter()
        .flat_map(|outcome| outcome.truth.iter().chain(outcome.likeliest()))
        .filter(|category| !known.contains(category))
        .collect();
    unknown.sort();
    unknown.dedup();
    categories.extend(unknown.into_iter().cloned());
    let place: BTreeMap<&CategoryId, usize> =
        categories.iter().enumerate().map(|(k, c)| (c, k)).collect();
    let class = |category: Option<&CategoryId>| {
        category
            .and_then(|category| place.get(category).copied())
            .unwrap_or(categories.len())
    };
    let pairs = outcomes
        .iter()
        .map(|outcome| (class(outcome.truth.as_ref()), class(outcome.likeliest())));
    let confusion = Confusion::of(categories.len() + 1, pairs);
    (categories, confusion)
}

impl CategoryFigures {
    fn of(category: CategoryId, class: usize, confusion: &Confusion) -> Self {
        let counts = confusion.counts();
        let right = counts[class][class];
        let is: u64 = counts[class].iter().sum();
        let called: u64 = counts.iter().map(|row| row[class]).sum();
        let f1 = intervals::f1(right, is + called - right);
        Self {
            category,
            precision: Proportion::of(right, called),
            recall: Proportion::of(right, is),
            f1: f1.map(|(f1, _)| f1),
            f1_interval: f1.map(|(_, interval)| interval),
        }
    }
}

impl Calibration {
    /// Compares confidence and rate of right answers of all images for which a category was named.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut named: Vec<(f32, bool)> = outcomes
            .iter()
            .filter_map(|outcome| {
                let right = Some(outcome.likeliest()?) == outcome.truth.as_ref();
                Some((outcome.confidence, right))
            })
            .collect();
        named.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points: Vec<ReliabilityPoint> = equal_bins(&named)
            .filter_map(|bin| {
                let sum: f64 = bin
                    .iter()
                    .map(|(confidence, _)| f64::from(*confidence))
                    .sum();
                Some(ReliabilityPoint {
                    confidence: sum / bin.len() as f64,
                    right: Proportion::count(bin, |(_, right)| *right)?,
                })
            })
            .collect();
        let images = named.len() as u64;
        let distance = |point: &ReliabilityPoint| {
            point.right.whole as f64 * (point.confidence - point.right.estimate).abs()
        };
        Self {
            bins: BINS,
            images,
            error: (images > 0).then(|| points.iter().map(distance).sum::<f64>() / images as f64),
            points,
        }
    }
}

/// Cuts what is sorted by confidence into [`BINS`] parts of equal size, never between equal confidences.
fn equal_bins(sorted: &[(f32, bool)]) -> impl Iterator<Item = &[(f32, bool)]> {
    let mut from = 0;
    sorted
        .chunk_by(|a, b| a.0 == b.0)
        .scan(0, |end, tied| {
            *end += tied.len();
            Some(*end)
        })
        .filter_map(move |end| {
            let whole = |count: usize| count * BINS / sorted.len();
            (whole(end) > whole(from)).then(|| &sorted[std::mem::replace(&mut from, end)..end])
        })
}

/// What each threshold would bring, from the strictest to the laxest.
fn coverage_curve(outcomes: &[Outcome]) -> Vec<CurvePoint> {
    let of_category = outcomes
        .iter()
        .filter(|outcome| outcome.truth.is_some())
        .count();
    let mut fileable: Vec<(f32, bool, bool)> = outcomes
        .iter()
        .filter_map(|outcome| {
            let right = Some(outcome.fileable()?) == outcome.truth.as_ref();
            Some((outcome.confidence, right, outcome.truth.is_some()))
        })
        .collect();
    fileable.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut filed, mut wrong, mut covered) = (0usize, 0usize, 0usize);
    let points: Vec<CurvePoint> = fileable
        .chunk_by(|a, b| a.0 == b.0)
        .map(|tied| {
            filed += tied.len();
            wrong += tied.iter().filter(|(_, right, _)| !right).count();
            covered += tied.iter().filter(|(.., category)| *category).count();
            CurvePoint {
                threshold: tied[0].0,
                coverage: covered as f64 / of_category.max(1) as f64,
                error: wrong as f64 / filed as f64,
            }
        })
        .collect();
    thin(points)
}

/// At most [`CURVE_POINTS`] of the points, evenly spread, the first and the last among them.
fn thin(points: Vec<CurvePoint>) -> Vec<CurvePoint> {
    if points.len() <= CURVE_POINTS {
        return points;
    }
    (0..CURVE_POINTS)
        .map(|k| points[k * (points.len() - 1) / (CURVE_POINTS - 1)])
        .collect()
}

type Circumstance = (&'static str, fn(&Circumstances) -> &Option<String>);

/// What figures are broken down by.
const CIRCUMSTANCES: [Circumstance; 4] = [
    ("detector", |c| &c.detector),
    ("matrix size", |c| &c.matrix),
    ("year", |c| &c.year),
    ("age band", |c| &c.age_band),
];

/// A circumstance that no image tells is left out.
fn breakdowns(outcomes: &[&Outcome]) -> Vec<Breakdown> {
    let by = |(by, value): Circumstance| {
        type Key<'a> = (bool, Option<u32>, &'a Option<String>);
        let mut groups: BTreeMap<Key<'_>, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            let value = value(&outcome.circumstances);
            groups
                .entry((
                    value.is_none(),
                    value.as_deref().and_then(first_number),
                    value,
                ))
                .or_default()
                .push(outcome);
        }
        let told = groups.keys().any(|(missing, ..)| !missing);
        told.then(|| Breakdown {
            by,
            groups: groups
                .into_iter()
                .map(|((.., value), group)| Group {
                    value: value.clone(),
                    images: group.len() as u64,
                    accuracy: accuracy(&group),
                    filed_rightly: filed_rightly(&group),
                    coverage: coverage(&group),
                })
                .collect(),
        })
    };
    CIRCUMSTANCES.into_iter().filter_map(by).collect()
}

/// The number that a text begins with, so that `5–9` comes before `10–14`.
fn first_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::examples::{id, image, kept_back};
    use super::*;
    use proptest::prelude::*;

    fn ids() -> [CategoryId; 2] {
        [id("fusion"), id("screws")]
    }

    /// 6 of fusion: 4 right, 1 called screws, 1 without a category; 2 of screws, both called so, one of them unsure;
    /// 2 of neither view, one filed under fusion.
    fn ten() -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> =
            (0..4).map(|k| image(k, "fusion", "fusion", 0.9)).collect();
        outcomes.push(image(4, "fusion", "screws", 0.7));
        outcomes.push(kept_back(5, "fusion", "view-unsure"));
        outcomes.push(image(6, "screws", "screws", 0.8));
        outcomes.push(image(7, "screws", "screws", 0.5).at_threshold(0.6));
        outcomes.push(image(8, "", "fusion", 0.6));
        outcomes.push(kept_back(9, "", "out-of-scope"));
        outcomes
    }

    fn counts(proportion: Option<Proportion>) -> (u64, u64) {
        proportion.map_or((0, 0), |p| (p.part, p.whole))
    }

    #[test]
    fn figures_are_counted_from_outcomes() {
        let judged = Judgement::of(&ids(), &ten());
        assert_eq!((judged.images, judged.patients), (10, 10));
        assert_eq!(counts(judged.accuracy), (6, 8));
        assert_eq!(counts(judged.filed_rightly), (5, 7));
        assert_eq!(counts(judged.coverage), (6, 8));
        assert_eq!(counts(judged.neither_filed), (1, 2));
        assert_eq!(judged.not_filed["low-confidence"], 1);
        assert_eq!(judged.not_filed["view-unsure"], 1);
        assert_eq!(
            judged.confusion.counts(),
            [vec![4, 1, 1], vec![0, 2, 0], vec![1, 0, 1]]
        );
        let [fusion, screws] = &judged.categories[..] else {
            panic!("two categories");
        };
        assert_eq!(counts(fusion.precision), (4, 5));
        assert_eq!(counts(fusion.recall), (4, 6));
        assert_eq!(counts(screws.precision), (2, 3));
        let harmonic = 2.0 * 0.8 * (4.0 / 6.0) / (0.8 + 4.0 / 6.0);
        assert!((fusion.f1.unwrap() - harmonic).abs() < 1e-12);
    }

    #[test]
    fn no_outcomes_give_no_figures_instead_of_wrong_ones() {
        let judged = Judgement::of(&ids(), &[]);
        assert!(judged.accuracy.is_none() && judged.calibration.error.is_none());
        assert!(judged.coverage_curve.is_empty() && judged.breakdowns.is_empty());
    }

    #[test]
    fn a_category_that_the_bundle_does_not_have_gets_its_row() {
        let judged = Judgement::of(&ids(), &[image(1, "brace", "fusion", 0.9)]);
        assert_eq!(judged.categories[2].category, id("brace"));
        assert_eq!(judged.confusion.counts()[2][0], 1);
    }

    #[test]
    fn the_coverage_curve_goes_from_strict_to_lax() {
        let curve = coverage_curve(&ten());
        let told: Vec<(f64, f64)> = curve.iter().map(|p| (p.coverage, p.error)).collect();
        assert_eq!(
            told,
            [
                (0.5, 0.0),
                (0.625, 0.0),
                (0.75, 1.0 / 6.0),
                (0.75, 2.0 / 7.0),
                (0.875, 2.0 / 8.0)
            ]
        );
        assert_eq!(curve[0].threshold, 0.9);
    }

    #[test]
    fn confidences_that_are_right_as_often_as_they_say_have_no_calibration_error() {
        let outcomes: Vec<Outcome> = (0..1000)
            .map(|k| {
                let confidence = [0.6, 0.8][k as usize % 2];
                let right = (k / 2) % 10 < [6, 8][k as usize % 2];
                image(
                    k,
                    "fusion",
                    if right { "fusion" } else { "screws" },
                    confidence,
                )
            })
            .collect();
        let calibration = Calibration::of(&outcomes);
        assert_eq!(
            calibration.points.len(),
            2,
            "equal confidences stay together"
        );
        assert!(calibration.error.unwrap() < 1e-6);
        let sure: Vec<Outcome> = outcomes
            .into_iter()
            .map(|outcome| Outcome {
                confidence: 1.0,
                ..outcome
            })
            .collect();
        assert!((Calibration::of(&sure).error.unwrap() - 0.3).abs() < 1e-6);
    }

    #[test]
    fn groups_are_judged_apart_and_unknown_ones_come_last() {
        let mut outcomes = ten();
        for (k, outcome) in outcomes.iter_mut().enumerate().skip(2) {
            outcome.circumstances.year = Some(format!("{}", 2020 + k % 2));
        }
        let judged = Judgement::of(&ids(), &outcomes);
        assert_eq!(judged.breakdowns.len(), 1);
        let groups = &judged.breakdowns[0].groups;
        let values: Vec<Option<&str>> = groups.iter().map(|g| g.value.as_deref()).collect();
        assert_eq!(values, [Some("2020"), Some("2021"), None]);
        assert_eq!(counts(groups[2].accuracy), (2, 2));
    }

    #[test]
    fn age_bands_come_in_the_order_of_age() {
        let mut outcomes = ten();
        for (outcome, age) in outcomes.iter_mut().zip(["10–14", "0–4", "5–9"]) {
            outcome.circumstances.age_band = Some(age.to_owned());
        }
        let judged = Judgement::of(&ids(), &outcomes);
        let groups = judged.breakdowns[0].groups.iter();
        let values: Vec<Option<&str>> = groups.map(|g| g.value.as_deref()).collect();
        assert_eq!(values, [Some("0–4"), Some("5–9"), Some("10–14"), None]);
    }

    proptest! {
        #[test]
        fn bins_hold_every_image_once_and_nearly_equally_many(n in 1usize..500) {
            let sorted: Vec<(f32, bool)> = (0..n).map(|k| (k as f32 / n as f32, true)).collect();
            let sizes: Vec<usize> = equal_bins(&sorted).map(<[_]>::len).collect();
            prop_assert_eq!(sizes.iter().sum::<usize>(), n);
            prop_assert_eq!(sizes.len(), n.min(BINS));
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }

        #[test]
        fn the_order_of_the_images_does_not_matter(
            cases in proptest::collection::vec((0u32..5, any::<bool>()), 1..60),
        ) {
            let outcomes: Vec<Outcome> = cases.iter().enumerate().map(|(k, (confidence, right))| {
                let filed = if *right { "fusion" } else { "screws" };
                image(k as u32, "fusion", filed, *confidence as f32 / 5.0)
            }).collect();
            let reversed: Vec<Outcome> = outcomes.iter().rev().cloned().collect();
            let (a, b) = (Judgement::of(&ids(), &outcomes), Judgement::of(&ids(), &reversed));
            prop_assert_eq!(a.calibration.error, b.calibration.error);
            prop_assert_eq!(&a.coverage_curve, &b.coverage_curve);
            let last = a.coverage_curve.last().unwrap();
            let wrong = cases.iter().filter(|(_, right)| !right).count();
            prop_assert_eq!(last.coverage, 1.0);
            prop_assert!((last.error - wrong as f64 / cases.len() as f64).abs() < 1e-12);
        }
    }
}
