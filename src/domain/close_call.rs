//! Whether a decision hangs by so little that the same picture, made from more of the file's pixels, could turn it over.
//!
//! Most files are decoded at a reduced resolution, which moves scores a little (docs/performance.md, "That it does no
//! harm"). That matters to the few whose scores lie near a threshold: those are decoded in full and decided on again.

use super::decision::{CategoryThreshold, ViewScores, ViewThresholds, decide, resolve_view};
use super::{CategoryId, Prediction};

/// Two probabilities whose odds are no further apart than by this factor are near each other.
const NEAR: f32 = 3.0;
/// The same for the distance from what the model knows.
const NEAR_DISTANCE: f32 = 1.1;
/// The same for the lead of one view over the other, in absolute terms.
const NEAR_LEAD: f32 = 0.2;

/// Whether another decision would have been taken, had all scores been somewhat better or somewhat worse.
pub fn is_close_call(
    prediction: &Prediction,
    thresholds: &impl CategoryThreshold,
    view: ViewThresholds,
) -> bool {
    if let Some(scores) = &prediction.view_scores
        && is_close_view(prediction, scores, view)
    {
        return true;
    }
    if prediction.view_problem.is_some() {
        return false;
    }
    let decided_with = |nudge: f32, distance: f32| {
        let nudged = Prediction {
            out_of_distribution: prediction.out_of_distribution.map(|it| it * distance),
            ..prediction.clone()
        };
        decide(&nudged, &Nudged(thresholds, nudge))
    };
    let taken = decided_with(1.0, 1.0);
    // Two categories of which either would be filed.
    let tied = || match prediction.scores.as_slice() {
        [first, second, ..] => first.probability < second.probability * NEAR,
        _ => false,
    };
    taken != decided_with(1.0 / NEAR, 1.0 / NEAR_DISTANCE)
        || taken != decided_with(NEAR, NEAR_DISTANCE)
        || (taken.category().is_some() && tied())
}

/// Whether the table of header and pixels would say something else.
fn is_close_view(prediction: &Prediction, scores: &ViewScores, view: ViewThresholds) -> bool {
    let resolved_with = |nudge: f32, lead: f32| {
        let scores = ViewScores {
            neither: scores.neither * nudge,
            ..*scores
        };
        let thresholds = ViewThresholds {
            sure: nudged(view.sure, nudge),
            margin: view.margin + lead,
        };
        resolve_view(prediction.header_view, Some(&scores), thresholds)
    };
    let resolved = resolved_with(1.0, 0.0);
    resolved != resolved_with(1.0 / NEAR, NEAR_LEAD) || resolved != resolved_with(NEAR, -NEAR_LEAD)
}

/// Thresholds whose odds are all so many times as high.
struct Nudged<'a, T>(&'a T, f32);

impl<T: CategoryThreshold> CategoryThreshold for Nudged<'_, T> {
    fn threshold(&self, category: &CategoryId) -> f32 {
        nudged(self.0.threshold(category), self.1)
    }

    fn is_certified(&self, category: &CategoryId) -> bool {
        self.0.is_certified(category)
    }
}

/// The probability with odds so many times as high; what is none (a category that is never filed) stays what it is.
fn nudged(probability: f32, odds: f32) -> f32 {
    if (0.0..=1.0).contains(&probability) {
        probability * odds / (probability * odds + 1.0 - probability)
    } else {
        probability
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::decision::{HeaderView, Score};
    use super::super::{Reason, View};
    use super::*;
    use proptest::prelude::*;

    /// A sure frontal view by header and pixels, as like what the model knows as half its threshold.
    fn prediction(probabilities: &[f32]) -> Prediction {
        let score = |(n, probability): (usize, &f32)| Score {
            category: CategoryId::parse(&format!("c{n}")).unwrap(),
            probability: *probability,
        };
        Prediction {
            header_view: HeaderView::Ap,
            view_scores: Some(ViewScores {
                frontal: 0.99,
                lateral: 0.01,
                neither: 0.0,
            }),
            view: Some(View::Frontal),
            view_problem: None,
            scores: probabilities.iter().enumerate().map(score).collect(),
            confidence: probabilities[0],
            out_of_distribution: Some(0.5),
            model: String::new(),
            provider: String::new(),
        }
    }

    fn is_close(prediction: &Prediction, threshold: f32) -> bool {
        is_close_call(
            prediction,
            &|_: &CategoryId| threshold,
            ViewThresholds::default(),
        )
    }

    #[test]
    fn what_lies_near_a_threshold_is_a_close_call_on_both_sides_of_it() {
        for (confidence, threshold, close) in [
            (0.999, 0.6, false),
            (0.9, 0.6, false),
            (0.75, 0.6, true),
            (0.55, 0.6, true),
            (0.3, 0.6, false),
            // Where the threshold is high, near is nearer.
            (0.999, 0.99, false),
            (0.995, 0.99, true),
            (0.98, 0.99, true),
            (0.9, 0.99, false),
            (0.999, f32::INFINITY, false),
        ] {
            let prediction = prediction(&[confidence, 1.0 - confidence]);
            assert_eq!(
                is_close(&prediction, threshold),
                close,
                "{confidence} {threshold}"
            );
        }
    }

    #[test]
    fn two_categories_of_nearly_one_probability_are_a_close_call_if_either_would_be_filed() {
        assert!(is_close(&prediction(&[0.5, 0.45]), 0.1));
        assert!(!is_close(&prediction(&[0.7, 0.1]), 0.1));
        assert!(!is_close(&prediction(&[0.5, 0.45]), 0.9));
    }

    #[test]
    fn an_image_at_the_edge_of_what_the_model_knows_is_a_close_call() {
        for (distance, close) in [(0.5, false), (0.95, true), (1.05, true), (1.5, false)] {
            let prediction = Prediction {
                out_of_distribution: Some(distance),
                ..prediction(&[0.999, 0.001])
            };
            assert_eq!(is_close(&prediction, 0.6), close, "{distance}");
        }
    }

    #[test]
    fn a_view_that_is_nearly_another_or_nearly_sure_is_a_close_call() {
        let none = Reason::ViewUnsure;
        for (header, scores, problem, close) in [
            // Nothing but the pixels says which view it is: sure from 0.9 on.
            (HeaderView::Absent, (0.999, 0.001, 0.0), None, false),
            (HeaderView::Absent, (0.95, 0.05, 0.0), None, true),
            (HeaderView::Absent, (0.85, 0.15, 0.0), Some(none), true),
            (HeaderView::Absent, (0.6, 0.4, 0.0), Some(none), false),
            // The header says it, the pixels contradict.
            (
                HeaderView::Ap,
                (0.15, 0.8, 0.05),
                Some(Reason::ViewConflict),
                false,
            ),
            (HeaderView::Ap, (0.35, 0.5, 0.15), None, true),
            (
                HeaderView::Ap,
                (0.0, 0.99, 0.01),
                Some(Reason::ViewConflict),
                false,
            ),
            // Neither of the two.
            (HeaderView::Ap, (0.6, 0.0, 0.4), None, true),
            (
                HeaderView::Ap,
                (0.3, 0.1, 0.6),
                Some(Reason::OutOfScope),
                true,
            ),
            (
                HeaderView::Ap,
                (0.1, 0.0, 0.9),
                Some(Reason::OutOfScope),
                false,
            ),
        ] {
            let (frontal, lateral, neither) = scores;
            let prediction = Prediction {
                header_view: header,
                view_scores: Some(ViewScores {
                    frontal,
                    lateral,
                    neither,
                }),
                view: problem.is_none().then_some(View::Frontal),
                view_problem: problem,
                ..prediction(&[0.999, 0.001])
            };
            assert_eq!(is_close(&prediction, 0.6), close, "{header:?} {scores:?}");
        }
    }

    proptest! {
        /// So that deciding again can only matter to what is a close call.
        #[test]
        fn scores_that_move_less_than_is_near_change_no_decision_but_a_close_one(
            confidence in 0.0f32..1.0, threshold in 0.0f32..1.0, distance in 0.0f32..2.0,
            odds in 0.34f32..2.9, further in 0.92f32..1.09,
        ) {
            let threshold_of = |_: &CategoryId| threshold;
            let before = Prediction { out_of_distribution: Some(distance), ..prediction(&[confidence]) };
            let after = Prediction {
                out_of_distribution: Some(distance * further),
                ..prediction(&[nudged(confidence, odds)])
            };
            let close = is_close_call(&before, &threshold_of, ViewThresholds::default());
            prop_assert!(close || decide(&before, &threshold_of) == decide(&after, &threshold_of));
        }
    }
}
