//! The area average, row by row: rows are added up as they come, each output row is summed up across when its last row has
//! come. Pixel centres lie at half integers.

use std::collections::VecDeque;

use super::super::attributes::PixelDescription;
use super::super::pixels::Grid;
use super::super::{Fit, RenderSpec};
use super::inner_size;

/// What an output pixel covers along one axis, in cells.
pub(super) struct Span {
    first: usize,
    last: usize,
    /// Weight of the first cell; the last one's is `tail`, those between count whole.
    head: f32,
    tail: f32,
}

impl Span {
    fn len(&self) -> f32 {
        if self.first == self.last {
            self.head
        } else {
            self.head + self.tail + (self.last - self.first - 1) as f32
        }
    }

    /// The weighted sum of what it covers.
    fn sum(&self, cells: &[f32]) -> f32 {
        if self.first == self.last {
            return self.head * cells[self.first];
        }
        let between: f32 = cells[self.first + 1..self.last].iter().sum();
        self.head * cells[self.first] + between + self.tail * cells[self.last]
    }

    fn weight(&self, cell: usize) -> f32 {
        if cell == self.first {
            self.head
        } else if cell == self.last {
            self.tail
        } else {
            1.0
        }
    }
}

/// Divides `from..to` (in pixels of the full image) into `count` spans of cells.
fn spans(from: f64, to: f64, count: u32, cells: usize, grid: Grid) -> Vec<Span> {
    let place = |i: u32| {
        let pixel = from + (to - from) * f64::from(i) / f64::from(count);
        ((pixel - grid.offset) / grid.step).clamp(0.0, cells as f64)
    };
    (0..count)
        .map(|i| {
            let (a, b) = (place(i), place(i + 1));
            let first = (a as usize).min(cells - 1);
            let last = ((b.ceil() as usize).max(1) - 1).clamp(first, cells - 1);
            if first == last {
                // Never without weight, even where a reduced grid ends early.
                return Span {
                    first,
                    last,
                    head: ((b - a) as f32).max(1e-6),
                    tail: 0.0,
                };
            }
            Span {
                first,
                last,
                head: ((first + 1) as f64 - a) as f32,
                tail: (b - last as f64) as f32,
            }
        })
        .collect()
}

/// The running area average for one output.
pub(super) struct Average {
    /// What each output column covers.
    pub columns: Vec<Span>,
    /// What each output row covers.
    pub rows: Vec<Span>,
    /// Output rows before this one are finished.
    next: usize,
    /// Sums down the columns for the output rows from `next` on that have begun.
    open: VecDeque<Line>,
    /// Lines to be used again.
    spare: Vec<Line>,
    padded: bool,
    means: Vec<f32>,
}

/// The sum of rows, cell by cell.
#[derive(Default)]
struct Line {
    sums: Vec<f32>,
    /// Weight that was not padding; empty where there is none.
    weights: Vec<f32>,
}

impl Line {
    fn clear(&mut self, width: usize, padded: bool) {
        self.sums.clear();
        self.sums.resize(width, 0.0);
        self.weights.clear();
        self.weights.resize(if padded { width } else { 0 }, 0.0);
    }

    fn add(&mut self, row: &[f32], weight: f32) {
        if self.weights.is_empty() {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
            return;
        }
        for ((sum, total), value) in self.sums.iter_mut().zip(&mut self.weights).zip(row) {
            let there = if value.is_nan() { 0.0 } else { weight };
            *sum += there * if value.is_nan() { 0.0 } else { *value };
            *total += there;
        }
    }
}

impl Average {
    /// Of an image that comes as `grid`, for one spec. `padded`: values may be NaN, which count for nothing.
    pub fn new(description: &PixelDescription, grid: Grid, spec: &RenderSpec) -> Self {
        let (columns, rows) = (f64::from(description.columns), f64::from(description.rows));
        // Pixels need not be square.
        let tall = rows * description.aspect;
        let (inner_width, inner_height) = inner_size(columns, tall, spec);
        let (mut x, mut y) = ((0.0, columns), (0.0, rows));
        if spec.fit == Fit::Crop {
            let scale = (f64::from(spec.width) / columns).max(f64::from(spec.height) / tall);
            let middle = |side: f64, wanted: f64| {
                let kept = (wanted / scale).min(side);
                ((side - kept) / 2.0, f64::midpoint(side, kept))
            };
            let height = f64::from(spec.height) / description.aspect;
            (x, y) = (middle(columns, f64::from(spec.width)), middle(rows, height));
        }
        let size = inner_width as usize * inner_height as usize;
        Self {
            columns: spans(x.0, x.1, inner_width, grid.width, grid),
            rows: spans(y.0, y.1, inner_height, grid.height, grid),
            next: 0,
            open: VecDeque::new(),
            spare: Vec::new(),
            padded: description.padding.is_some(),
            means: Vec::with_capacity(size),
        }
    }

    /// Takes the next row, number `y`.
    pub fn add(&mut self, y: usize, row: &[f32]) {
        let covering = self.rows[self.next..]
            .iter()
            .take_while(|span| span.first <= y);
        for (index, span) in covering.enumerate() {
            if index == self.open.len() {
                let mut line = self.spare.pop().unwrap_or_default();
                line.clear(row.len(), self.padded);
                self.open.push_back(line);
            }
            self.open[index].add(row, span.weight(y));
        }
        while self.rows.get(self.next).is_some_and(|span| span.last <= y) {
            let Some(line) = self.open.pop_front() else {
                break;
            };
            self.finish(&line);
            self.spare.push(line);
        }
    }

    /// Sums one output row up across.
    fn finish(&mut self, line: &Line) {
        let height = self.rows[self.next].len();
        self.next += 1;
        let means = self.columns.iter().map(|span| {
            let sum = span.sum(&line.sums);
            if line.weights.is_empty() {
                return sum / (height * span.len());
            }
            // A sliver of a pixel beside padding is none.
            let weight = span.sum(&line.weights);
            if weight > 1e-3 {
                sum / weight
            } else {
                f32::NAN
            }
        });
        self.means.extend(means);
    }

    /// The means, NaN where there is only padding or nothing has come. To be called after the last row.
    pub fn means(mut self) -> Vec<f32> {
        self.means
            .resize(self.columns.len() * self.rows.len(), f32::NAN);
        self.means
    }
}
