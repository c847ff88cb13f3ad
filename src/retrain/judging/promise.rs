//! What may be promised about files that nobody looks at: "at most 0.5 % wrong among those filed automatically".
//!
//! The threshold is chosen on one set of patients and the promise is checked on another. It holds when the one-sided 95 %
//! Clopper–Pearson upper bound of the error rate, end to end through the cascade and with one random image a patient, is at
//! or below the target. Only labels of an audit or of a complete table count: people correct what went visibly wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::intervals::{Proportion, images_needed, upper_bound};
use super::outcome::Outcome;
use crate::domain::{CategoryId, Pseudonym};
use crate::model::manifest::Promised;

/// A category needs so many certifying images, else its files go to review (`uncertified-category`).
pub const CERTIFYING_IMAGES: u64 = 100;

/// Whether a promise can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The bound is at or below the target.
    Kept,
    /// There were images enough to tell, and the bound is above the target.
    NotKept,
    /// There was nothing to tell it by.
    NoGuarantee,
}

/// A target and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Promise {
    /// The part of the automatically filed images that may be wrong, 0 to 1.
    pub target: f64,
    /// Whether it is kept.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub why: String,
    /// The threshold in force, when there was one for all categories.
    pub threshold: Option<f32>,
    /// Images judged: one a patient.
    pub images: u64,
    /// Those that were filed automatically, under categories with certifying images enough.
    pub filed: u64,
    /// Those that were filed wrongly.
    pub errors: u64,
    /// One-sided 95 % upper bound of the error rate, 0 to 1.
    pub bound: f64,
    /// Of the judged images of a category: filed automatically, 0 to 1.
    pub coverage: Option<Proportion>,
    /// Categories with fewer than [`CERTIFYING_IMAGES`], and how many they have.
    pub uncertified: Vec<Uncertified>,
    /// Labelled images that could not count, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
}

impl From<&Promise> for Promised {
    /// As a bundle carries it.
    fn from(promise: &Promise) -> Self {
        let uncertified = promise.uncertified.iter();
        Self {
            target: promise.target,
            kept: promise.verdict == Verdict::Kept,
            why: promise.why.clone(),
            bound: promise.bound,
            filed: promise.filed,
            errors: promise.errors,
            uncertified: uncertified.map(|one| one.category.clone()).collect(),
        }
    }
}

/// A category about which too little is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Uncertified {
    /// Which.
    pub category: CategoryId,
    /// How many certifying images were filed under it.
    pub images: u64,
}

/// A threshold and what it brought on the images that it was chosen on, which is no promise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    /// The least confidence that is filed.
    pub threshold: f32,
    /// Images filed at it.
    pub filed: u64,
    /// Wrong ones among them.
    pub errors: u64,
    /// Whether their upper bound is at or below the target: only then is a promise likely to be kept on other images.
    pub reaches_target: bool,
}

/// The lowest threshold (at least `floor`) whose upper bound on these images is at or below the target; where there is none,
/// the one with the lowest bound. None when no image could be filed.
pub fn choose_threshold(outcomes: &[Outcome], target: f64, floor: f32) -> Option<Choice> {
    let mut fileable: Vec<(f32, bool)> = outcomes
        .iter()
        .filter_map(|outcome| {
            let right = Some(outcome.fileable()?) == outcome.truth.as_ref();
            (outcome.confidence >= floor).then_some((outcome.confidence, right))
        })
        .collect();
    fileable.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut filed, mut errors) = (0, 0);
    let mut best: Option<(Choice, f64)> = None;
    for tied in fileable.chunk_by(|a, b| a.0 == b.0) {
        filed += tied.len() as u64;
        errors += tied.iter().filter(|(_, right)| !right).count() as u64;
        let bound = upper_bound(errors, filed);
        let reaches_target = bound <= target;
        let choice = Choice {
            threshold: tied[0].0,
            filed,
            errors,
            reaches_target,
        };
        let better = best.as_ref().is_none_or(|(found, least)| {
            reaches_target || (!found.reaches_target && bound < *least)
        });
        if better {
            best = Some((choice, bound));
        }
    }
    best.map(|(choice, _)| choice)
}

/// How a promise is checked.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The part of the automatically filed images that may be wrong, above 0 and below 1.
    pub target: f64,
    /// The threshold in force, when there is one for all categories; only told, see [`Outcome::at_threshold`].
    pub threshold: Option<f32>,
    /// The categories of the bundle.
    pub categories: &'a [CategoryId],
    /// Patients used for fitting, temperature or threshold: their images do not count.
    pub used: &'a HashSet<Pseudonym>,
    /// The site files categories that are uncertified all the same.
    pub files_uncertified: bool,
    /// Draws the image of each patient.
    pub seed: u64,
}

/// Checks a promise on images as they were decided.
pub fn certify(outcomes: &[Outcome], terms: &Terms) -> Promise {
    let mut left_out = BTreeMap::new();
    let sample = one_a_patient(countable(outcomes, terms.used, &mut left_out), terms.seed);
    let uncertified = uncertified(&sample, terms.categories);
    let goes_to_review = |category: &CategoryId| {
        !terms.files_uncertified && uncertified.iter().any(|one| one.category == *category)
    };
    let filed: Vec<&&Outcome> = sample
        .iter()
        .filter(|outcome| {
            outcome
                .filed()
                .is_some_and(|category| !goes_to_review(category))
        })
        .collect();
    let errors = filed.iter().filter(|outcome| outcome.is_misfiled()).count() as u64;
    let covered = filed.iter().filter(|outcome| outcome.truth.is_some());
    let of_category = sample.iter().filter(|outcome| outcome.truth.is_some());
    let (covered, of_category) = (covered.count() as u64, of_category.count() as u64);
    let filed = filed.len() as u64;
    let bound = upper_bound(errors, filed);
    let (verdict, mut why) = decide(terms.target, sample.len(), filed, errors);
    let held = sample
        .iter()
        .filter(|outcome| outcome.filed().is_some_and(goes_to_review))
        .count();
    if verdict == Verdict::NoGuarantee && held > 0 {
        why.push_str(&few(held, &uncertified));
    }
    Promise {
        target: terms.target,
        verdict,
        why,
        threshold: terms.threshold,
        images: sample.len() as u64,
        filed,
        errors,
        bound,
        coverage: Proportion::of(covered, of_category),
        uncertified,
        left_out,
    }
}

/// The images whose labels may carry a promise.
fn countable<'a>(
    outcomes: &'a [Outcome],
    used: &HashSet<Pseudonym>,
    left_out: &mut BTreeMap<&'static str, u64>,
) -> Vec<&'a Outcome> {
    outcomes
        .iter()
        .filter(|outcome| {
            let why_not = if !outcome.origin.certifies() {
                "the label is neither from a finished audit nor from a complete table"
            } else if outcome.patient.0.is_empty() {
                "the patient is unknown"
            } else if used.contains(&outcome.patient) {
                "the patient was used to fit the model or its limits"
            } else {
                return true;
            };
            *left_out.entry(why_not).or_default() += 1;
            false
        })
        .collect()
}

/// One image of each patient, drawn by a digest of seed, patient and image: it depends on nothing else.
fn one_a_patient(outcomes: Vec<&Outcome>, seed: u64) -> Vec<&Outcome> {
    let mut drawn: HashMap<&Pseudonym, ([u8; 32], &Outcome)> = HashMap::new();
    for outcome in outcomes {
        let lot = lot(outcome, seed);
        let held = drawn.entry(&outcome.patient).or_insert((lot, outcome));
        if lot < held.0 {
            *held = (lot, outcome);
        }
    }
    drawn.into_values().map(|(_, outcome)| outcome).collect()
}

fn lot(outcome: &Outcome, seed: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for text in [&outcome.patient.0, &outcome.image.0] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Categories under which fewer than [`CERTIFYING_IMAGES`] of the sample were filed, in the order given.
fn uncertified(sample: &[&Outcome], categories: &[CategoryId]) -> Vec<Uncertified> {
    let mut counts: HashMap<&CategoryId, u64> = HashMap::new();
    for category in sample.iter().filter_map(|outcome| outcome.filed()) {
        *counts.entry(category).or_default() += 1;
    }
    categories
        .iter()
        .map(|category| Uncertified {
            category: category.clone(),
            images: counts.get(category).copied().unwrap_or(0),
        })
        .filter(|one| one.images < CERTIFYING_IMAGES)
        .collect()
}

/// Why images do not count that would have been filed.
fn few(held: usize, uncertified: &[Uncertified]) -> String {
    let least = uncertified.iter().min_by_key(|one| one.images);
    let least = least.map(|one| format!(" ({} has the fewest: {})", one.category, one.images));
    format!(
        " {held} images more do not count as filed: their categories have fewer than {CERTIFYING_IMAGES} certifying images, \
         and go to review{}.",
        least.unwrap_or_default()
    )
}

fn decide(target: f64, sample: usize, filed: u64, errors: u64) -> (Verdict, String) {
    let percent = |part: f64| format!("{:.2} %", 100.0 * part);
    let bound = percent(upper_bound(errors, filed));
    let least = images_needed(target, 0);
    let told = format!("{errors} of {filed} automatically filed images, one a patient, are wrong");
    if sample == 0 {
        let why = "No label comes from a finished audit or from a complete table, on a patient not used before.";
        (Verdict::NoGuarantee, why.to_owned())
    } else if upper_bound(errors, filed) <= target {
        let why = format!(
            "{told}: with 95 % certainty at most {bound}, and {} was the target.",
            percent(target)
        );
        (Verdict::Kept, why)
    } else if filed < least {
        let why = format!(
            "{told}. A target of {} needs at least {least} such images, even without an error.",
            percent(target)
        );
        (Verdict::NoGuarantee, why)
    } else {
        let why = format!(
            "{told}: it may be as much as {bound}, and {} was the target. With so many errors it would take {} images.",
            percent(target),
            images_needed(target, errors)
        );
        (Verdict::NotKept, why)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::examples::{filed, id, image, kept_back};
    use super::super::outcome::LabelOrigin;
    use super::*;
    use proptest::prelude::*;

    fn terms<'a>(categories: &'a [CategoryId], used: &'a HashSet<Pseudonym>) -> Terms<'a> {
        Terms {
            target: 0.005,
            threshold: None,
            categories,
            used,
            files_uncertified: false,
            seed: 7,
        }
    }

    fn judged(outcomes: &[Outcome]) -> Promise {
        certify(outcomes, &terms(&[id("fusion")], &HashSet::new()))
    }

    #[test]
    fn half_a_percent_is_promised_from_598_images_without_an_error_on() {
        let promise = judged(&filed("fusion", 598, 0, 0));
        assert_eq!(promise.verdict, Verdict::Kept);
        assert_eq!((promise.filed, promise.errors), (598, 0));
        assert!(promise.bound <= 0.005 && promise.uncertified.is_empty());
        let promise = judged(&filed("fusion", 597, 0, 0));
        assert_eq!(promise.verdict, Verdict::NoGuarantee);
        assert!(promise.why.contains("598"), "{}", promise.why);
    }

    #[test]
    fn one_error_too_many_breaks_the_promise() {
        let mut outcomes = filed("fusion", 598, 0, 0);
        outcomes.extend((598..600).map(|k| image(k, "screws", "fusion", 0.9)));
        let promise = judged(&outcomes);
        assert_eq!((promise.verdict, promise.errors), (Verdict::NotKept, 2));
        assert!(promise.why.contains(&images_needed(0.005, 2).to_string()));
    }

    #[test]
    fn an_image_of_neither_view_that_is_filed_is_an_error() {
        let mut outcomes = filed("fusion", 700, 0, 0);
        outcomes.push(image(700, "", "fusion", 0.99));
        let promise = judged(&outcomes);
        assert_eq!((promise.errors, promise.filed), (1, 701));
        assert_eq!(promise.coverage.unwrap().whole, 700);
    }

    #[test]
    fn labels_that_people_gave_to_what_went_wrong_promise_nothing() {
        let mut outcomes = filed("fusion", 1000, 0, 0);
        for outcome in &mut outcomes {
            outcome.origin = LabelOrigin::Correction;
        }
        let promise = judged(&outcomes);
        assert_eq!(promise.verdict, Verdict::NoGuarantee);
        assert_eq!(promise.left_out.values().sum::<u64>(), 1000);
        assert!(promise.why.contains("audit"));
    }

    #[test]
    fn patients_that_were_used_before_do_not_count() {
        let outcomes = filed("fusion", 598, 0, 0);
        let used = HashSet::from([outcomes[5].patient.clone()]);
        let promise = certify(&outcomes, &terms(&[id("fusion")], &used));
        assert_eq!(
            (promise.filed, promise.verdict),
            (597, Verdict::NoGuarantee)
        );
    }

    #[test]
    fn a_category_with_99_images_is_uncertified_and_its_files_do_not_count() {
        let mut outcomes = filed("fusion", 598, 0, 0);
        outcomes.extend(filed("screws", 98, 0, 1000));
        outcomes.push(image(2000, "fusion", "screws", 0.9));
        let categories = [id("fusion"), id("screws"), id("brace")];
        let used = HashSet::new();
        let promise = certify(&outcomes, &terms(&categories, &used));
        let found: Vec<(&str, u64)> = promise
            .uncertified
            .iter()
            .map(|one| (one.category.as_str(), one.images))
            .collect();
        assert_eq!(found, [("screws", 99), ("brace", 0)]);
        assert_eq!((promise.filed, promise.errors), (598, 0));
        assert_eq!(promise.verdict, Verdict::Kept);
        assert_eq!(
            promise.coverage.map(|c| (c.part, c.whole)),
            Some((598, 697))
        );

        let all = certify(
            &outcomes,
            &Terms {
                files_uncertified: true,
                ..terms(&categories, &used)
            },
        );
        let few = certify(&outcomes[598..], &terms(&categories, &used));
        let why = "99 images more do not count as filed: their categories have fewer than 100";
        assert!(few.why.contains(why), "{}", few.why);
        assert!(
            few.why.contains("(fusion has the fewest: 0)"),
            "{}",
            few.why
        );
        assert_eq!((all.filed, all.errors), (697, 1));
        assert_eq!(all.verdict, Verdict::NotKept);
    }

    #[test]
    fn each_patient_counts_once_whatever_the_order_of_their_images() {
        let mut outcomes: Vec<Outcome> = (0..600)
            .map(|k| image(k, "fusion", "fusion", 0.9))
            .collect();
        for outcome in &mut outcomes {
            outcome.patient = Pseudonym(format!("p{}", outcome.image.0.as_str() < "0000012c"));
        }
        assert_eq!(judged(&outcomes).images, 2);
        let image_of = |outcomes: &[Outcome], seed| -> Vec<String> {
            let mut drawn: Vec<String> = one_a_patient(outcomes.iter().collect(), seed)
                .iter()
                .map(|outcome| outcome.image.0.clone())
                .collect();
            drawn.sort();
            drawn
        };
        let reversed: Vec<Outcome> = outcomes.iter().rev().cloned().collect();
        assert_eq!(image_of(&outcomes, 1), image_of(&reversed, 1));
        assert_ne!(image_of(&outcomes, 1), image_of(&outcomes, 2));
    }

    #[test]
    fn the_threshold_is_the_lowest_that_reaches_the_target() {
        let mut outcomes: Vec<Outcome> = (0..700)
            .map(|k| image(k, "fusion", "fusion", 0.99 - k as f32 * 1e-4))
            .collect();
        outcomes.extend((700..720).map(|k| image(k, "fusion", "screws", 0.6)));
        outcomes.push(kept_back(720, "fusion", "view-unsure"));
        let choice = choose_threshold(&outcomes, 0.005, 0.5).unwrap();
        assert!(choice.reaches_target);
        assert_eq!((choice.filed, choice.errors), (700, 0));
        assert!((choice.threshold - 0.9201).abs() < 1e-4);
    }

    #[test]
    fn a_target_out_of_reach_gives_the_threshold_that_comes_nearest() {
        let mut outcomes = filed("fusion", 100, 0, 0);
        outcomes.extend((200..210).map(|k| image(k, "fusion", "screws", 0.6)));
        let choice = choose_threshold(&outcomes, 0.005, 0.5).unwrap();
        assert_eq!((choice.threshold, choice.reaches_target), (0.99, false));
        assert_eq!(choose_threshold(&[], 0.005, 0.5), None);
        assert_eq!(choose_threshold(&outcomes, 0.005, 0.995), None);
    }

    proptest! {
        #[test]
        fn a_promise_is_kept_exactly_when_the_bound_is_at_or_below_the_target(
            right in 1u32..1500, wrong in 0u32..6, target in 0.001f64..0.05,
        ) {
            let mut outcomes = filed("fusion", right, 0, 0);
            outcomes.extend((0..wrong).map(|k| image(5000 + k, "screws", "fusion", 0.9)));
            let used = HashSet::new();
            let categories = [id("fusion")];
            let promise = certify(&outcomes, &Terms { target, files_uncertified: true, ..terms(&categories, &used) });
            prop_assert_eq!(promise.verdict == Verdict::Kept, promise.bound <= target);
            prop_assert_eq!(promise.bound, upper_bound(u64::from(wrong), u64::from(right + wrong)));
        }
    }
}
