//! Images that are nearly the same although their patients are on different sides: copies under another name, which would
//! let a model be judged on what it has learned from. The copy on the side that judges more strictly stays.

use super::dataset::Dataset;
use super::sides::{Side, Sides};

/// Rows and columns of the thumbnails that are compared.
const SIZE: usize = 32;
/// Rows of the difference hash; each has as many bits.
const HASH: usize = 16;
/// Bits by which the hashes of copies may differ, of 256.
const BITS: u32 = 24;
/// The correlation of thumbnails from which on two images are the same. Copies that were compressed or windowed anew have
/// more than 0.999; different people's images of one kind have less than 0.99.
const CORRELATION: f32 = 0.998;

/// What an image looks like from afar.
struct Look {
    hash: [u64; 4],
    /// Mean 0, length 1.
    thumbnail: Vec<f32>,
}

/// An example that must not be used, because one that is nearly the same is on a side that judges more strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// The example's place in the dataset.
    pub index: usize,
    /// The place of the one that it is nearly the same as.
    pub of: usize,
}

/// Every such example, in order.
pub fn leaks(dataset: &Dataset, sides: &Sides) -> Vec<Leak> {
    let Some((place, spec)) = dataset
        .specs
        .iter()
        .enumerate()
        .min_by_key(|(_, spec)| spec.height * spec.width)
    else {
        return Vec::new();
    };
    let size = [spec.height as usize, spec.width as usize];
    let mut looks: Vec<(usize, Side, Look)> = Vec::new();
    for (index, example) in dataset.examples.iter().enumerate() {
        // Who was never given a side may be learned from.
        let side = sides.of(&example.patient).unwrap_or(Side::Training);
        looks.push((index, side, Look::of(&example.pictures[place], size)));
    }
    looks.sort_by_key(|(_, side, _)| *side);
    let mut leaking = Vec::new();
    for (k, (index, side, look)) in looks.iter().enumerate() {
        let mut stricter = looks[k + 1..].iter().filter(|(_, other, _)| other > side);
        if let Some((of, _, _)) = stricter.find(|(_, _, other)| look.is(other)) {
            leaking.push(Leak {
                index: *index,
                of: *of,
            });
        }
    }
    leaking.sort_unstable();
    leaking
}

impl Look {
    fn of(picture: &[u16], size: [usize; 2]) -> Self {
        let mut thumbnail = shrink(picture, size, [SIZE, SIZE]);
        let mean = thumbnail.iter().sum::<f32>() / thumbnail.len() as f32;
        thumbnail.iter_mut().for_each(|x| *x -= mean);
        let length = thumbnail.iter().map(|x| x * x).sum::<f32>().sqrt();
        thumbnail
            .iter_mut()
            .for_each(|x| *x /= length.max(f32::MIN_POSITIVE));
        let small = shrink(picture, size, [HASH, HASH + 1]);
        let mut hash = [0u64; 4];
        for bit in 0..HASH * HASH {
            let at = bit / HASH * (HASH + 1) + bit % HASH;
            hash[bit / 64] |= u64::from(small[at] < small[at + 1]) << (bit % 64);
        }
        Self { hash, thumbnail }
    }

    fn is(&self, other: &Self) -> bool {
        let pairs = self.hash.iter().zip(&other.hash);
        let bits: u32 = pairs.map(|(a, b)| (a ^ b).count_ones()).sum();
        let correlation = || -> f32 {
            let pairs = self.thumbnail.iter().zip(&other.thumbnail);
            pairs.map(|(a, b)| a * b).sum()
        };
        bits <= BITS && correlation() >= CORRELATION
    }
}

/// Means over boxes.
fn shrink(picture: &[u16], [height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let span = |k: usize, of: usize, length: usize| {
        let from = k * length / of;
        from..((k + 1) * length / of).max(from + 1).min(length)
    };
    let mut small = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            let (down, right) = (span(row, rows, height), span(column, columns, width));
            let count = (down.len() * right.len()).max(1) as f32;
            let sum: f32 = down
                .flat_map(|y| {
                    right
                        .clone()
                        .map(move |x| f32::from(picture[y * width + x]))
                })
                .sum();
            small.push(sum / count);
        }
    }
    small
}

#[cfg(test)]
#[path = "alike_tests.rs"]
mod tests;
