//! What happened to one labelled image, end to end: what it is, what the cascade said, what was done with it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::domain::decision::{Prediction, Score};
use crate::domain::{CategoryId, Decision, Pseudonym, Reason};

/// Where a label comes from. Only some of them can carry a promise: people correct what went visibly wrong, so that
/// corrections alone say nothing about how often things go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelOrigin {
    /// Drawn uniformly from everything, then looked at by a person.
    Audit,
    /// The same, but other files of that audit were judged by nobody.
    UnfinishedAudit,
    /// A table of labels that leaves no image out.
    CompleteCsv,
    /// A table of labels that may leave images out.
    Csv,
    /// A person sorted it out of review.
    Review,
    /// A person moved it or said so.
    Correction,
    /// A person put it there.
    Adopted,
    /// Nobody has objected.
    Untouched,
}

impl LabelOrigin {
    /// Whether labels of this origin can carry a promise.
    pub fn certifies(self) -> bool {
        matches!(self, Self::Audit | Self::CompleteCsv)
    }
}

/// What was done with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Done {
    /// Filed without a person looking.
    Filed {
        /// Under which category.
        category: CategoryId,
    },
    /// Left to a person.
    NotFiled {
        /// The code of the reason, see [`Reason`].
        reason: String,
    },
}

impl From<&Decision> for Done {
    fn from(decision: &Decision) -> Self {
        match (decision.category(), decision.reason()) {
            (Some(category), _) => Self::Filed {
                category: category.clone(),
            },
            (None, reason) => Self::NotFiled {
                reason: reason.map_or("none", Reason::code).to_owned(),
            },
        }
    }
}

/// How and when an image was taken, as far as figures are broken down by it. Never who is on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Circumstances {
    /// The detector's model name.
    pub detector: Option<String>,
    /// Columns and rows, e.g. `2022 × 4300`.
    pub matrix: Option<String>,
    /// The year.
    pub year: Option<String>,
    /// The patient's age in bands, e.g. `10–19`.
    pub age_band: Option<String>,
}

/// One labelled image and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    /// The image, by a pseudonym that is unique among the images judged together.
    pub image: Pseudonym,
    /// The patient, by a pseudonym; the study's where there is none.
    pub patient: Pseudonym,
    /// What it is; None for an image of neither view, which must not be filed.
    pub truth: Option<CategoryId>,
    /// Who says so.
    pub origin: LabelOrigin,
    /// Calibrated probabilities, the likeliest first; empty when no category classifier ran.
    pub scores: Vec<Score>,
    /// Probability of the likeliest category and of its view together, 0 to 1.
    pub confidence: f32,
    /// What was done with it.
    pub done: Done,
    /// How it was taken.
    #[serde(default)]
    pub circumstances: Circumstances,
}

impl Outcome {
    /// What the cascade made of an image.
    pub fn new(
        image: Pseudonym,
        patient: Pseudonym,
        (truth, origin): (Option<CategoryId>, LabelOrigin),
        prediction: &Prediction,
        decision: &Decision,
        circumstances: Circumstances,
    ) -> Self {
        Self {
            image,
            patient,
            truth,
            origin,
            scores: prediction.scores.clone(),
            confidence: prediction.confidence,
            done: decision.into(),
            circumstances,
        }
    }

    /// The likeliest category, whether or not it was filed under it.
    pub fn likeliest(&self) -> Option<&CategoryId> {
        self.scores.first().map(|score| &score.category)
    }

    /// The category that it was filed under.
    pub fn filed(&self) -> Option<&CategoryId> {
        match &self.done {
            Done::Filed { category } => Some(category),
            Done::NotFiled { .. } => None,
        }
    }

    /// Whether the likeliest category is the true one; an image of neither view is right when it is not filed.
    pub fn is_right(&self) -> bool {
        match &self.truth {
            Some(truth) => self.likeliest() == Some(truth),
            None => self.filed().is_none(),
        }
    }

    /// Whether it was filed where it does not belong.
    pub fn is_misfiled(&self) -> bool {
        self.filed()
            .is_some_and(|category| self.truth.as_ref() != Some(category))
    }

    /// The category that it would be filed under if any confidence were enough; None when something else keeps it back.
    pub fn fileable(&self) -> Option<&CategoryId> {
        let confident = [Reason::LowConfidence, Reason::UncertifiedCategory].map(Reason::code);
        match &self.done {
            Done::Filed { category } => Some(category),
            Done::NotFiled { reason } if confident.contains(&reason.as_str()) => self.likeliest(),
            Done::NotFiled { .. } => None,
        }
    }

    /// The same image, decided anew with one threshold for all categories.
    #[must_use]
    pub fn at_threshold(&self, threshold: f32) -> Self {
        let done = match self.fileable() {
            Some(category) if self.confidence >= threshold => Done::Filed {
                category: category.clone(),
            },
            Some(_) => Done::NotFiled {
                reason: Reason::LowConfidence.code().to_owned(),
            },
            None => self.done.clone(),
        };
        Self {
            done,
            ..self.clone()
        }
    }
}

/// How many different patients are on these images.
pub fn patients<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> u64 {
    let different: HashSet<&str> = outcomes
        .into_iter()
        .map(|outcome| outcome.patient.0.as_str())
        .collect();
    different.len() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::examples::{image, kept_back};
    use super::*;

    #[test]
    fn an_image_of_neither_view_is_right_when_it_is_not_filed() {
        assert!(image(1, "", "fusion", 0.9).is_misfiled());
        assert!(!image(1, "", "fusion", 0.9).is_right());
        assert!(kept_back(1, "", "out-of-scope").is_right());
        assert!(!kept_back(1, "fusion", "out-of-scope").is_right());
    }

    #[test]
    fn another_threshold_files_what_was_unsure_and_nothing_that_was_stopped_for_another_reason() {
        let unsure = image(1, "fusion", "fusion", 0.6).at_threshold(0.7);
        assert_eq!(
            unsure.done,
            Done::NotFiled {
                reason: "low-confidence".into()
            }
        );
        assert!(unsure.at_threshold(0.6).filed().is_some());
        let mut stopped = image(1, "fusion", "fusion", 0.99);
        stopped.done = Done::NotFiled {
            reason: "out-of-distribution".into(),
        };
        assert_eq!(stopped.at_threshold(0.0), stopped);
    }

    #[test]
    fn decisions_become_what_was_done() {
        let category = CategoryId::parse("fusion").unwrap();
        assert_eq!(
            Done::from(&Decision::File {
                category: category.clone()
            }),
            Done::Filed { category }
        );
        let reason = Reason::ViewConflict;
        assert_eq!(
            Done::from(&Decision::Review { reason }),
            Done::NotFiled {
                reason: "view-conflict".into()
            }
        );
    }

    #[test]
    fn an_outcome_survives_json() {
        let outcome = image(3, "fusion", "screws", 0.4);
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
}
