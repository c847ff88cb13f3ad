//! Images that belong under no category: how many of them are kept from being filed. Nothing is ever fitted on them.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use serde::Serialize;

use super::intervals::Proportion;
use super::outcome::{Done, Outcome};

/// What became of a set of such images.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outside {
    /// What they show, for people.
    pub name: String,
    /// Not filed.
    pub kept_back: Option<Proportion>,
    /// Known as unlike anything seen, or as neither view: not merely unsure.
    pub recognised: Option<Proportion>,
    /// Why they were not filed, with counts.
    pub reasons: BTreeMap<String, u64>,
}

/// Reasons that say what the image is not, rather than that the model is unsure which category it is.
const RECOGNISED: [&str; 2] = ["out-of-scope", "out-of-distribution"];

impl Outside {
    /// Counts outcomes.
    pub fn of(name: &str, outcomes: &[Outcome]) -> Self {
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
            name: name.to_owned(),
            kept_back: Proportion::count(outcomes, |outcome| outcome.filed().is_none()),
            recognised: Proportion::count(outcomes, known),
            reasons,
        }
    }
}

/// Pictures that are no radiographs at all, `kinds × each` of them, as they are rendered: `[height, width]`, 65535 is white.
pub fn far(each: usize, size: [usize; 2], seed: u64) -> Vec<Vec<u16>> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let [height, width] = size;
    let mut pictures = Vec::new();
    for k in 0..each {
        let grey = (k * usize::from(u16::MAX) / each.max(1)) as u16;
        pictures.push(vec![grey; height * width]);
        pictures.push((0..height * width).map(|_| rng.random()).collect());
        pictures.push(stripes(size, 2 + k % 30, k % 2 == 0));
        pictures.push(scene(size, &mut rng));
    }
    pictures
}

/// Black and white stripes.
fn stripes([height, width]: [usize; 2], period: usize, upright: bool) -> Vec<u16> {
    let at = |row: usize, column: usize| if upright { column } else { row };
    let grey = |k: usize| u16::from((k / period).is_multiple_of(2)) * u16::MAX;
    (0..height * width)
        .map(|k| grey(at(k / width, k % width)))
        .collect()
}

/// Rectangles and discs over each other, as photographs of rooms have them.
fn scene([height, width]: [usize; 2], rng: &mut ChaCha12Rng) -> Vec<u16> {
    let mut picture = vec![rng.random::<u16>(); height * width];
    for _ in 0..rng.random_range(5..25) {
        let grey: u16 = rng.random();
        let (y, x) = (rng.random_range(0..height), rng.random_range(0..width));
        let (h, w) = (
            rng.random_range(1..=height / 2 + 1),
            rng.random_range(1..=width / 2 + 1),
        );
        let round = rng.random::<bool>();
        for row in y..(y + h).min(height) {
            for column in x..(x + w).min(width) {
                let (dy, dx) = (
                    (row - y) as f32 / h as f32 - 0.5,
                    (column - x) as f32 / w as f32 - 0.5,
                );
                if !round || dy * dy + dx * dx < 0.25 {
                    picture[row * width + column] = grey;
                }
            }
        }
    }
    picture
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
        let outside = Outside::of("near", &outcomes);
        let kept = outside.kept_back.unwrap();
        assert_eq!((kept.part, kept.whole), (3, 4));
        let recognised = outside.recognised.unwrap();
        assert_eq!((recognised.part, recognised.whole), (2, 4));
        assert_eq!(outside.reasons["low-confidence"], 1);
        assert!(Outside::of("nothing", &[]).kept_back.is_none());
    }

    #[test]
    fn far_pictures_are_whole_and_the_same_seed_gives_the_same() {
        let pictures = far(3, [20, 10], 1);
        assert_eq!(pictures.len(), 12);
        assert!(pictures.iter().all(|picture| picture.len() == 200));
        assert_eq!(pictures, far(3, [20, 10], 1));
        assert_ne!(pictures, far(3, [20, 10], 2));
    }
}
