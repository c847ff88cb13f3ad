//! Images that belong under no category: how many of them are kept from being filed. Nothing is ever fitted on them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::intervals::Proportion;
use super::outcome::{Done, Outcome};

/// How far a set of such images is from what the bundle knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// Radiographs of something else.
    Near,
    /// No radiographs.
    Far,
}

impl Distance {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }
}

/// What became of a set of such images.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outside {
    /// How far they are from what the bundle knows.
    pub distance: Distance,
    /// What they show, for people.
    pub name: String,
    /// Not filed.
    pub kept_back: Option<Proportion>,
    /// Known as unlike anything seen, or as neither view: not merely unsure.
    pub recognised: Option<Proportion>,
    /// Why they were not filed, with counts.
    pub reasons: BTreeMap<String, u64>,
    /// Whether each was filed, in their order.
    #[serde(skip)]
    pub filed: Vec<bool>,
}

/// Reasons that say what the image is not, rather than that the model is unsure which category it is.
const RECOGNISED: [&str; 2] = ["out-of-scope", "out-of-distribution"];

impl Outside {
    /// Counts outcomes.
    pub fn of(distance: Distance, name: &str, outcomes: &[Outcome]) -> Self {
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for outcome in outcomes {
            if let Done::NotFiled { reason } = &outcome.done {
                *reasons.entry(reason.clone()).or_default() += 1;
            }
        }
        let known = |outcome: &&Outcome| match &outcome.done {
            Done::NotFiled { reason } => RECOGNISED.contains(&reason.as_str()),
            Done::Filed { .. } => false,
        };
        Self {
            distance,
            name: name.to_owned(),
            kept_back: Proportion::count(outcomes, |outcome| outcome.filed().is_none()),
            recognised: Proportion::count(outcomes, known),
            reasons,
            filed: outcomes.iter().map(|it| it.filed().is_some()).collect(),
        }
    }
}

/// Plain grey, black to nearly white, and stripes: `each` of both, as they are rendered: `[height, width]`, 65535 is white.
pub fn plain(each: usize, size: [usize; 2]) -> Vec<Vec<u16>> {
    let [height, width] = size;
    let grey = |k: usize| vec![(k * usize::from(u16::MAX) / each.max(1)) as u16; height * width];
    let both = |k: usize| [grey(k), stripes(size, 2 + k % 30, k.is_multiple_of(2))];
    (0..each).flat_map(both).collect()
}

/// Black and white stripes.
fn stripes([height, width]: [usize; 2], period: usize, upright: bool) -> Vec<u16> {
    let at = |row: usize, column: usize| if upright { column } else { row };
    let grey = |k: usize| u16::from((k / period).is_multiple_of(2)) * u16::MAX;
    (0..height * width)
        .map(|k| grey(at(k / width, k % width)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::examples::{image, kept_back};
    use super::*;

    #[test]
    fn what_was_filed_counts_against_the_bundle_and_reasons_are_counted() {
        let outcomes = [
            image(1, "a", "a", 0.9),
            kept_back(2, "a", "low-confidence"),
            kept_back(3, "a", "out-of-distribution"),
            kept_back(4, "a", "out-of-scope"),
        ];
        let outside = Outside::of(Distance::Near, "chests", &outcomes);
        let kept = outside.kept_back.unwrap();
        assert_eq!((kept.part, kept.whole), (3, 4));
        let recognised = outside.recognised.unwrap();
        assert_eq!((recognised.part, recognised.whole), (2, 4));
        assert_eq!(outside.reasons["low-confidence"], 1);
        let nothing = Outside::of(Distance::Far, "nothing", &[]);
        assert!(nothing.kept_back.is_none());
    }

    #[test]
    fn plain_pictures_are_whole_and_all_different() {
        let pictures = plain(3, [20, 10]);
        assert_eq!(pictures.len(), 6);
        assert!(pictures.iter().all(|picture| picture.len() == 200));
        let different: std::collections::HashSet<_> = pictures.iter().collect();
        assert_eq!(different.len(), 6);
    }
}
