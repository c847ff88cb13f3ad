//! Made-up outcomes for tests.
#![allow(clippy::unwrap_used)]

use super::outcome::{Circumstances, Done, LabelOrigin, Outcome};
use crate::domain::decision::Score;
use crate::domain::{CategoryId, Pseudonym};

/// A category's id.
pub fn id(text: &str) -> CategoryId {
    CategoryId::parse(text).unwrap()
}

/// An image (and patient) of this number that is `truth` (empty: neither view) and was filed under `filed`.
pub fn image(number: u32, truth: &str, filed: &str, confidence: f32) -> Outcome {
    Outcome {
        image: Pseudonym(format!("{number:08x}")),
        patient: Pseudonym(format!("p{number:08x}")),
        truth: (!truth.is_empty()).then(|| id(truth)),
        origin: LabelOrigin::CompleteCsv,
        scores: vec![Score {
            category: id(filed),
            probability: confidence,
        }],
        confidence,
        done: Done::Filed {
            category: id(filed),
        },
        circumstances: Circumstances::default(),
    }
}

/// An image that no category classifier was asked about.
pub fn kept_back(number: u32, truth: &str, reason: &str) -> Outcome {
    Outcome {
        scores: Vec::new(),
        confidence: 0.0,
        done: Done::NotFiled {
            reason: reason.into(),
        },
        ..image(number, truth, "none", 0.0)
    }
}

/// `right` images filed rightly and then `wrong` filed wrongly, of one category, one patient each.
pub fn filed(category: &str, right: u32, wrong: u32, first: u32) -> Vec<Outcome> {
    (0..right + wrong)
        .map(|k| {
            let other = if k < right { category } else { "other" };
            image(first + k, category, other, 0.99)
        })
        .collect()
}
