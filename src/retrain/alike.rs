//! Images that are nearly the same although their patients are on different sides: copies under another name, which would
//! let a model be judged on what it has learned from. The copy on the side that judges more strictly stays.
//!
//! A copy may have been windowed (by a line, a gamma, a sigmoid) or compressed anew, mirrored, moved by a few pixels, or got a
//! label burned in: two images are compared in a window that is moved about and mirrored, with their grey values as they are
//! and with the one's spread like the other's, and where they differ most does not count.

use super::dataset::{Dataset, Example};
use super::sides::{Side, Sides};
use crate::decode::RenderSpec;

/// Rows and columns of the thumbnails that are compared.
const SIZE: usize = 32;
/// Rows of the difference hash; each has as many bits.
const HASH: usize = 16;
/// Bits by which the hashes of copies may differ, of 256.
const BITS: u32 = 24;
/// The correlation of thumbnails from which on two images are the same. Copies that were compressed or windowed anew have
/// more than 0.999; different people's images of one kind have less than 0.99.
const CORRELATION: f32 = 0.998;
/// From here on it is worth looking whether grey values were only spread otherwise.
const WORTH_MATCHING: f32 = 0.85;
/// The part of a thumbnail that need not be the same: there a label may have been burned in.
const LABEL: f32 = 0.06;
/// By how many pixels a copy may have been moved, up, down and to the sides.
const MOVED: usize = 4;
/// Hashes tell windows apart that are so many pixels away from each other.
const STEP: usize = 2;

/// An image of the set that is looked through.
struct Placed {
    index: usize,
    side: Side,
    /// Of the middle window.
    hash: Hash,
}

type Hash = [u64; HASH * HASH / 64];

/// An example that must not be used, because one that is nearly the same is on a side that judges more strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// The example's place in the dataset.
    pub index: usize,
    /// The place of the one that it is nearly the same as.
    pub of: usize,
}

/// The way of rendering with the fewest pixels: what images are compared in.
pub fn smallest(ways: &[RenderSpec]) -> Option<&RenderSpec> {
    ways.iter().min_by_key(|spec| spec.height * spec.width)
}

/// What an image looks like from afar, to be recognised by later.
pub struct Look {
    /// Of the middle window.
    hash: Hash,
    /// Of the middle window, 255 is white.
    thumbnail: Vec<u8>,
}

impl Look {
    /// How many bytes it takes.
    pub const BYTES: usize = size_of::<Hash>() + SIZE * SIZE;

    /// That of a picture.
    pub fn of(picture: &[u16], spec: &RenderSpec) -> Self {
        let sums = Sums::of(picture, size_of_picture(spec));
        let thumbnail = sums.thumbnail(Window::MIDDLE).into_iter();
        Self {
            hash: sums.hash(Window::MIDDLE),
            thumbnail: thumbnail.map(|grey| (grey / 257.0).round() as u8).collect(),
        }
    }

    /// As it was [written](Self::append_to).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (hash, thumbnail) = bytes.split_at_checked(size_of::<Hash>())?;
        let mut words = hash.as_chunks::<8>().0.iter();
        let hash = std::array::from_fn(|_| words.next().map_or(0, |it| u64::from_le_bytes(*it)));
        (thumbnail.len() == SIZE * SIZE).then(|| Self {
            hash,
            thumbnail: thumbnail.to_vec(),
        })
    }

    /// Writes it behind other bytes.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.hash.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(&self.thumbnail);
    }
}

/// Whether a picture is nearly the same as one of those that looked like this.
pub fn is_like_any<'a>(
    picture: &[u16],
    spec: &RenderSpec,
    looks: impl Iterator<Item = &'a Look>,
) -> bool {
    let probe = Probe::of(Sums::of(picture, size_of_picture(spec)));
    let mut looks = looks;
    looks.any(|look| {
        let thumbnail = || look.thumbnail.iter().copied().map(f32::from).collect();
        probe.is_like(&look.hash, thumbnail)
    })
}

fn size_of_picture(spec: &RenderSpec) -> [usize; 2] {
    [spec.height as usize, spec.width as usize]
}

/// A picture that others are compared with, in every window.
struct Probe {
    sums: Sums,
    hashes: Vec<(Window, Hash)>,
}

impl Probe {
    fn of(sums: Sums) -> Self {
        let hashes = Window::coarse().map(|window| (window, sums.hash(window)));
        Self {
            hashes: hashes.collect(),
            sums,
        }
    }

    /// Whether it is nearly the same as a picture with this hash and thumbnail of its middle window.
    fn is_like(&self, hash: &Hash, thumbnail: impl FnOnce() -> Vec<f32>) -> bool {
        let mut alike = self.hashes.iter().filter(|(_, own)| near(own, hash));
        let Some(first) = alike.next() else {
            return false;
        };
        let thumbnail = thumbnail();
        let same = |window: Window| is_same(&self.sums.thumbnail(window), &thumbnail);
        std::iter::once(first)
            .chain(alike)
            .any(|(window, _)| window.around().any(same))
    }
}

/// Every such example, in order.
pub fn leaks(dataset: &Dataset, sides: &Sides) -> Vec<Leak> {
    let Some(spec) = smallest(&dataset.specs) else {
        return Vec::new();
    };
    let Some(place) = dataset.place(spec) else {
        return Vec::new();
    };
    let size = size_of_picture(spec);
    let sums = |example: &Example| Sums::of(&example.pictures[place], size);
    let mut looks: Vec<Placed> = Vec::new();
    for (index, example) in dataset.examples.iter().enumerate() {
        looks.push(Placed {
            index,
            // Who was never given a side may be learned from.
            side: sides.of(&example.patient).unwrap_or(Side::Training),
            hash: sums(example).hash(Window::MIDDLE),
        });
    }
    looks.sort_by_key(|look| look.side);
    let mut leaking: Vec<Leak> = Vec::new();
    for (k, stricter) in looks.iter().enumerate() {
        let others = || looks[..k].iter().take_while(|it| it.side < stricter.side);
        if others().next().is_none() {
            continue;
        }
        let probe = Probe::of(sums(&dataset.examples[stricter.index]));
        for other in others() {
            let thumbnail = || sums(&dataset.examples[other.index]).thumbnail(Window::MIDDLE);
            if probe.is_like(&other.hash, thumbnail) {
                leaking.push(Leak {
                    index: other.index,
                    of: stricter.index,
                });
            }
        }
    }
    leaking.sort_unstable();
    leaking.dedup_by_key(|leak| leak.index);
    leaking
}

/// A part of a picture that leaves room to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// From where on, `2 * MOVED` at most.
    down: usize,
    right: usize,
    mirrored: bool,
}

impl Window {
    const MIDDLE: Self = Self {
        down: MOVED,
        right: MOVED,
        mirrored: false,
    };

    /// All of them, so densely that hashes tell where to look closer.
    fn coarse() -> impl Iterator<Item = Self> {
        let places = || (0..=2 * MOVED).step_by(STEP);
        places().flat_map(move |down| {
            places().flat_map(move |right| {
                [false, true].map(|mirrored| Self {
                    down,
                    right,
                    mirrored,
                })
            })
        })
    }

    /// This one and those a pixel away.
    fn around(self) -> impl Iterator<Item = Self> {
        let near = |at: usize| at.saturating_sub(1)..=(at + 1).min(2 * MOVED);
        near(self.down).flat_map(move |down| {
            near(self.right).map(move |right| Self {
                down,
                right,
                ..self
            })
        })
    }
}

/// Sums over everything above and to the left of each pixel: means over boxes cost the same whatever their size.
struct Sums {
    /// One row and one column more than the picture has, the first ones 0.
    table: Vec<u64>,
    height: usize,
    width: usize,
}

impl Sums {
    fn of(picture: &[u16], [height, width]: [usize; 2]) -> Self {
        let mut table = vec![0; (height + 1) * (width + 1)];
        for (y, row) in picture.chunks(width).take(height).enumerate() {
            let mut left = 0;
            for (x, grey) in row.iter().enumerate() {
                left += u64::from(*grey);
                table[(y + 1) * (width + 1) + x + 1] = table[y * (width + 1) + x + 1] + left;
            }
        }
        Self {
            table,
            height,
            width,
        }
    }

    /// Means over boxes of a window, row by row.
    fn means(&self, window: Window, [rows, columns]: [usize; 2]) -> Vec<f32> {
        // Small pictures cannot be moved about.
        let room = |length: usize| (2 * MOVED).min(length / 4);
        let (height, width) = (
            self.height - room(self.height),
            self.width - room(self.width),
        );
        let down = window.down.min(room(self.height));
        let right = window.right.min(room(self.width));
        let span = |k: usize, of: usize, length: usize| {
            let from = k * length / of;
            (from, ((k + 1) * length / of).max(from + 1).min(length))
        };
        let at = |y: usize, x: usize| self.table[y * (self.width + 1) + x] as f64;
        let mut means = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let (top, bottom) = span(row, rows, height);
            let (top, bottom) = (top + down, bottom + down);
            for column in 0..columns {
                let (mut from, mut to) = span(column, columns, width);
                (from, to) = (from + right, to + right);
                if window.mirrored {
                    (from, to) = (self.width - to, self.width - from);
                }
                let sum = at(bottom, to) - at(top, to) - at(bottom, from) + at(top, from);
                means.push((sum / ((bottom - top) * (to - from)).max(1) as f64) as f32);
            }
        }
        means
    }

    fn hash(&self, window: Window) -> Hash {
        let small = self.means(window, [HASH, HASH + 1]);
        let mut hash = Hash::default();
        for bit in 0..HASH * HASH {
            let at = bit / HASH * (HASH + 1) + bit % HASH;
            hash[bit / 64] |= u64::from(small[at] < small[at + 1]) << (bit % 64);
        }
        hash
    }

    fn thumbnail(&self, window: Window) -> Vec<f32> {
        self.means(window, [SIZE, SIZE])
    }
}

fn near(one: &Hash, other: &Hash) -> bool {
    let mut bits = 0;
    one.iter().zip(other).all(|(a, b)| {
        bits += (a ^ b).count_ones();
        bits <= BITS
    })
}

/// Whether thumbnails are the same but for how bright each grey is shown, and a label.
fn is_same(one: &[f32], other: &[f32]) -> bool {
    match correlation(one, other) {
        high if high >= CORRELATION => true,
        low if low < WORTH_MATCHING => false,
        _ => correlation(&spread_like(one, other), other) >= CORRELATION,
    }
}

/// The correlation of thumbnails without the part of them that fits least, which may be a label; 0 where what is left shows little.
fn correlation(one: &[f32], other: &[f32]) -> f32 {
    let mut pairs: Vec<(f32, f32)> = one.iter().copied().zip(other.iter().copied()).collect();
    let whole = Fit::of(&pairs);
    let mut fit = whole;
    for _ in 0..2 {
        pairs.sort_by(|a, b| fit.misses(*a).total_cmp(&fit.misses(*b)));
        fit = Fit::of(&pairs[..pairs.len() - (LABEL * pairs.len() as f32) as usize]);
    }
    // What was left away must not be what there is to see.
    let still = |kept: f32, all: f32| kept > 0.3 * all;
    let shows =
        still(fit.variances[0], whole.variances[0]) && still(fit.variances[1], whole.variances[1]);
    if shows { fit.correlation() } else { 0.0 }
}

/// The darkest of one picture as dark as the darkest of the other, and so on: what any window that keeps the order of greys
/// comes to.
fn spread_like(one: &[f32], other: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..one.len()).collect();
    order.sort_by(|a, b| one[*a].total_cmp(&one[*b]));
    let mut greys = other.to_vec();
    greys.sort_by(f32::total_cmp);
    let mut spread = vec![0.0; one.len()];
    for (place, grey) in order.into_iter().zip(greys) {
        spread[place] = grey;
    }
    spread
}

/// A straight line through pairs of grey values.
#[derive(Clone, Copy)]
struct Fit {
    means: [f32; 2],
    variances: [f32; 2],
    covariance: f32,
}

impl Fit {
    fn of(pairs: &[(f32, f32)]) -> Self {
        let mean = |of: &dyn Fn(&(f32, f32)) -> f32| {
            pairs.iter().map(of).sum::<f32>() / pairs.len().max(1) as f32
        };
        let means = [mean(&|pair| pair.0), mean(&|pair| pair.1)];
        let [a, b] = means;
        Self {
            means,
            variances: [
                mean(&|pair| (pair.0 - a).powi(2)),
                mean(&|pair| (pair.1 - b).powi(2)),
            ],
            covariance: mean(&|pair| (pair.0 - a) * (pair.1 - b)),
        }
    }

    fn correlation(&self) -> f32 {
        let [a, b] = self.variances;
        self.covariance / (a * b).sqrt().max(f32::MIN_POSITIVE)
    }

    /// How far a pair is from the line.
    fn misses(&self, pair: (f32, f32)) -> f32 {
        let slope = self.covariance / self.variances[0].max(f32::MIN_POSITIVE);
        (pair.1 - self.means[1] - slope * (pair.0 - self.means[0])).abs()
    }
}

#[cfg(test)]
#[path = "alike_tests.rs"]
mod tests;
