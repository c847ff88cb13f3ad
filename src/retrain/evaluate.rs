//! What a classifier's answers are worth: the confusion matrix and the figures read off it.

use serde::Serialize;

/// Counts by true class (rows) and predicted class (columns).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// An empty matrix.
    pub fn new(classes: usize) -> Self {
        Self {
            counts: vec![vec![0; classes]; classes],
        }
    }

    /// Counts pairs of (truth, prediction).
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut confusion = Self::new(classes);
        for (truth, predicted) in pairs {
            confusion.add(truth, predicted);
        }
        confusion
    }

    /// Counts one image.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth][predicted] += 1;
    }

    /// The counts, `[truth][predicted]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Number of images.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Part of all images predicted rightly; None without images.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(
            (0..self.counts.len()).map(|k| self.counts[k][k]).sum(),
            self.total(),
        )
    }

    /// Part of the images of `class` that were found; None when there are none.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.counts[class][class], self.counts[class].iter().sum())
    }

    /// Part of what was predicted as `class` that is; None when nothing was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(
            self.counts[class][class],
            self.counts.iter().map(|row| row[class]).sum(),
        )
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The index of the largest number; the first among equals, 0 for an empty list.
pub fn argmax(numbers: &[f32]) -> usize {
    (0..numbers.len())
        .rev()
        .max_by(|a, b| numbers[*a].total_cmp(&numbers[*b]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn figures_are_read_off_the_right_side_of_the_matrix() {
        // 8 of class 0: 6 right, 2 called 1; 2 of class 1: both called 1; class 2 never seen, never predicted.
        let pairs = [(0, 0); 6]
            .into_iter()
            .chain([(0, 1); 2])
            .chain([(1, 1); 2]);
        let confusion = Confusion::of(3, pairs);
        assert_eq!(confusion.accuracy(), Some(0.8));
        assert_eq!(
            (confusion.recall(0), confusion.precision(0)),
            (Some(0.75), Some(1.0))
        );
        assert_eq!(
            (confusion.recall(1), confusion.precision(1)),
            (Some(1.0), Some(0.5))
        );
        assert_eq!((confusion.recall(2), confusion.precision(2)), (None, None));
        assert_eq!(Confusion::new(3).accuracy(), None);
    }

    #[test]
    fn the_first_of_equal_numbers_is_the_largest() {
        assert_eq!(
            (argmax(&[0.1, 0.7, 0.2]), argmax(&[]), argmax(&[2.0, 2.0])),
            (1, 0, 0)
        );
    }
}
