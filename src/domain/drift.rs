//! Whether a drop directory brings other images than it used to: how many go to review or into the quarantine, and
//! whether the model's confidence is distributed as it was when this model was put to use.
//!
//! Drift is the population stability index (PSI) of the joint confidence: the first [`WINDOW`] classified files of a
//! drop directory under one model are the reference, the last [`WINDOW`] after them are what is compared, in ten bins of
//! equal width. PSI = Σ (p − q) ln(p / q), with half a file added to each bin. By custom, below 0.1 nothing has changed,
//! above 0.25 something has (Siddiqi, Credit Risk Scorecards, 2006).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many files rates and drift look back.
pub const WINDOW: usize = 500;
/// Rates of fewer files mean nothing.
pub const LEAST: usize = 20;

/// Bins of the confidence from 0 to 1.
const BINS: usize = 10;
/// So many files are added to each bin, so that an empty one is no division by zero.
const SMOOTHING: f64 = 0.5;

type Histogram = [u32; BINS];

/// What became of a file, as far as rates go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Course {
    /// Filed under a category.
    Filed,
    /// A person has to look.
    Review,
    /// It could not be read.
    Quarantined,
}

/// The recent past of one drop directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recent {
    courses: VecDeque<Course>,
    model: String,
    reference: Histogram,
    confidences: VecDeque<f32>,
}

impl Recent {
    /// Takes in one file: what became of it, and what the model said of it (its name and version, the confidence).
    pub fn note(&mut self, course: Course, said: Option<(&str, f32)>) {
        push(&mut self.courses, course);
        let Some((model, confidence)) = said else {
            return;
        };
        if self.model != model {
            // Another model's confidence is another scale.
            model.clone_into(&mut self.model);
            self.reference = Histogram::default();
            self.confidences.clear();
        }
        if total(&self.reference) < WINDOW {
            self.reference[bin(confidence)] += 1;
        } else {
            push(&mut self.confidences, confidence);
        }
    }

    /// Which share of the last files that were classified went to review, 0 to 1; `None` while there are too few.
    pub fn review_rate(&self) -> Option<f64> {
        let classified = self.count(Course::Filed) + self.count(Course::Review);
        rate(self.count(Course::Review), classified)
    }

    /// Which share of the last files was quarantined, 0 to 1; `None` while there are too few.
    pub fn quarantine_rate(&self) -> Option<f64> {
        rate(self.count(Course::Quarantined), self.courses.len())
    }

    /// The population stability index, 0 and up; `None` until reference and window are full.
    pub fn drift(&self) -> Option<f64> {
        if self.confidences.len() < WINDOW {
            return None;
        }
        let mut recent = Histogram::default();
        for confidence in &self.confidences {
            recent[bin(*confidence)] += 1;
        }
        Some(stability_index(&self.reference, &recent))
    }

    fn count(&self, course: Course) -> usize {
        self.courses.iter().filter(|it| **it == course).count()
    }
}

fn push<T>(window: &mut VecDeque<T>, value: T) {
    window.push_back(value);
    if window.len() > WINDOW {
        window.pop_front();
    }
}

fn rate(part: usize, whole: usize) -> Option<f64> {
    (whole >= LEAST).then(|| part as f64 / whole as f64)
}

fn bin(confidence: f32) -> usize {
    // NaN becomes 0.
    ((confidence * BINS as f32) as usize).min(BINS - 1)
}

fn total(histogram: &Histogram) -> usize {
    histogram.iter().map(|count| *count as usize).sum()
}

fn stability_index(reference: &Histogram, recent: &Histogram) -> f64 {
    let share = |histogram: &Histogram, bin: usize| {
        let all = total(histogram) as f64 + SMOOTHING * BINS as f64;
        (f64::from(histogram[bin]) + SMOOTHING) / all
    };
    (0..BINS)
        .map(|bin| {
            let (p, q) = (share(recent, bin), share(reference, bin));
            (p - q) * (p / q).ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn brought(files: impl IntoIterator<Item = (Course, f32)>) -> Recent {
        let mut recent = Recent::default();
        for (course, confidence) in files {
            recent.note(course, Some(("spine 1", confidence)));
        }
        recent
    }

    #[test]
    fn rates_are_of_the_last_files_and_need_a_few() {
        let few = brought((1..LEAST).map(|_| (Course::Review, 0.5)));
        assert_eq!((few.review_rate(), few.quarantine_rate()), (None, None));
        let mut recent = brought((0..WINDOW).map(|_| (Course::Review, 0.5)));
        assert_eq!(recent.review_rate(), Some(1.0));
        for n in 0..WINDOW {
            let course = [
                Course::Filed,
                Course::Filed,
                Course::Review,
                Course::Quarantined,
            ][n % 4];
            recent.note(course, None);
        }
        assert!((recent.review_rate().unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!((recent.quarantine_rate().unwrap() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn drift_is_seen_when_confidence_falls_and_not_when_it_stays() {
        let confident = |n: usize| 0.8 + 0.19 * (n % 10) as f32 / 10.0;
        let mut recent = brought((0..2 * WINDOW).map(|n| (Course::Filed, confident(n))));
        assert!(recent.drift().unwrap() < 0.01);
        for n in 0..WINDOW {
            recent.note(Course::Filed, Some(("spine 1", confident(n) - 0.3)));
        }
        assert!(recent.drift().unwrap() > 0.25);
    }

    #[test]
    fn another_model_starts_its_own_reference() {
        let mut recent = brought((0..2 * WINDOW).map(|_| (Course::Filed, 0.9)));
        assert!(recent.drift().is_some());
        recent.note(Course::Filed, Some(("spine 2", 0.1)));
        assert_eq!(recent.drift(), None);
        assert!(recent.review_rate().is_some());
    }

    proptest! {
        #[test]
        fn the_index_is_never_negative_and_zero_for_the_same(a in proptest::array::uniform10(0u32..1000), b in proptest::array::uniform10(0u32..1000)) {
            prop_assert!(stability_index(&a, &b) >= 0.0);
            prop_assert!(stability_index(&a, &a).abs() < 1e-12);
        }

        #[test]
        fn any_confidence_has_a_bin(confidence in proptest::num::f32::ANY) {
            prop_assert!(bin(confidence) < BINS);
        }

        #[test]
        fn what_is_kept_is_bounded_and_reads_back(files in proptest::collection::vec((0u8..3, 0f32..=1.0), 0..1500)) {
            let course = |n| [Course::Filed, Course::Review, Course::Quarantined][usize::from(n)];
            let recent = brought(files.into_iter().map(|(n, confidence)| (course(n), confidence)));
            prop_assert!(recent.courses.len() <= WINDOW && recent.confidences.len() <= WINDOW);
            let text = serde_json::to_string(&recent).unwrap();
            prop_assert_eq!(serde_json::from_str::<Recent>(&text).unwrap(), recent);
        }
    }
}
