//! From cells to what the model sees: grey values from 0 to 1 at the network's size. The one path for `run`,
//! `classify`, `render` and training.
//!
//! In this order: Bits Stored masked and sign-extended; Pixel Padding set aside; Modality LUT; VOI LUT or window (so
//! far by one table look-up a pixel, because averaging first would be wrong wherever a window clips); area average;
//! where nothing clips (percentiles, whole range) the range is taken from, and applied to, the averaged image; MONOCHROME1
//! and Presentation LUT Shape INVERSE inverted once; letterboxed.
//!
//! - *Whole range* (no window): from the least to the greatest averaged value.
//! - *Percentiles* are those of the averaged image, so that reduced decoding does not move them, without padding and
//!   without *collimation*: rows and columns at the edges along which the image hardly changes (the middle 80 % of
//!   their values within 2 % of the image's range), up to 40 % of the side at each edge.
//! - An output pixel is the mean of what it covers without padding; where it covers only padding it is the pad value.

use super::attributes::{Function, Modality, Photometric, PixelDescription, Voi};
use super::pixels::{Cells, Frame, Grid};
use super::{Fault, Fit, Intensity, Polarity, Radiograph, RenderSpec};
use crate::domain::Reason;

/// The largest side of an output; a whole detector image is well below.
const MAX_SIDE: u32 = 20_000;

/// Prepares stored values in memory (`rows × columns`, as Native Pixel Data would hold them) for a network.
pub fn render_plane(
    stored: &[u16],
    description: &PixelDescription,
    spec: &RenderSpec,
) -> Result<Radiograph, Fault> {
    let specs = std::slice::from_ref(spec);
    let mut radiographs = render(&mut Frame::of(stored, description.clone())?, specs)?;
    radiographs
        .pop()
        .ok_or_else(|| Fault::new(Reason::CannotDecode, "nothing was rendered"))
}

/// A spec that keeps the aspect ratio and makes no side longer than `longest` (nor longer than it is).
pub fn picture_spec(
    rows: u32,
    columns: u32,
    longest: Option<u32>,
    intensity: Intensity,
) -> RenderSpec {
    let side = f64::from(rows.max(columns).max(1));
    let scale = longest.map_or(1.0, |longest| (f64::from(longest) / side).min(1.0));
    let scaled = |n: u32| ((f64::from(n) * scale).round() as u32).max(1);
    RenderSpec {
        height: scaled(rows),
        width: scaled(columns),
        fit: Fit::Squash,
        pad: 0.0,
        resampler: super::Resampler::Area,
        intensity,
        polarity: Polarity::Monochrome2,
    }
}

/// Output pixels per image pixel, at most 1, that the most demanding spec wants along an axis.
pub(super) fn needed_scale(columns: u32, rows: u32, specs: &[RenderSpec]) -> f64 {
    let demand = |spec: &RenderSpec| {
        let x = f64::from(spec.width) / f64::from(columns);
        let y = f64::from(spec.height) / f64::from(rows);
        if spec.fit == Fit::Letterbox {
            x.min(y)
        } else {
            x.max(y)
        }
    };
    specs.iter().map(demand).fold(0.0, f64::max).min(1.0)
}

/// Renders a frame for each spec in one pass over its rows.
pub(super) fn render(frame: &mut Frame, specs: &[RenderSpec]) -> Result<Vec<Radiograph>, Fault> {
    if specs
        .iter()
        .any(|spec| !(1..=MAX_SIDE).contains(&spec.height) || !(1..=MAX_SIDE).contains(&spec.width))
    {
        return Err(Fault::new(
            Reason::CannotDecode,
            format!("the wanted size is not 1 to {MAX_SIDE} a side"),
        ));
    }
    let mut stages: Vec<Stage> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let shown = spec.intensity == Intensity::Voi && frame.description.voi != Voi::WholeRange;
        let average = Average::new(&frame.description, frame.grid, spec);
        match stages.iter_mut().find(|stage| stage.shown == shown) {
            Some(stage) => stage.averages.push((index, average)),
            None => stages.push(Stage {
                shown,
                table: table(&frame.description, frame.cells, shown),
                row: vec![0.0; frame.grid.width],
                averages: vec![(index, average)],
            }),
        }
    }
    let padded = frame.description.padding.is_some();
    frame.each_row(|y, cells| {
        for stage in &mut stages {
            let mask = stage.table.len() - 1;
            for (grey, cell) in stage.row.iter_mut().zip(cells) {
                *grey = stage.table[usize::from(*cell) & mask];
            }
            for (_, average) in &mut stage.averages {
                average.add(y, &stage.row, padded);
            }
        }
    })?;
    let mut averages: Vec<_> = stages
        .into_iter()
        .flat_map(|stage| stage.averages.into_iter().map(move |a| (a, stage.shown)))
        .collect();
    averages.sort_by_key(|((index, _), _)| *index);
    let inverted =
        frame.description.inverse || frame.description.photometric == Photometric::Monochrome1;
    let finish = |(((_, average), shown), spec): (((usize, Average), bool), &RenderSpec)| {
        let (width, height) = (average.columns.len(), average.rows.len());
        let mut values = average.means(padded);
        if !shown {
            let (lo, hi) = match spec.intensity {
                Intensity::Voi => range(values.iter().copied(), 0.0, 100.0),
                Intensity::Percentile { lo, hi } => {
                    range(without_collimation(&values, width, height), lo, hi)
                }
            };
            let scale = if hi > lo { 1.0 / (hi - lo) } else { 0.0 };
            for value in &mut values {
                *value = ((*value - lo) * scale).clamp(0.0, 1.0);
            }
        }
        if inverted && spec.polarity == Polarity::Monochrome2 {
            for value in &mut values {
                *value = 1.0 - *value;
            }
        }
        place(&values, width, height, spec)
    };
    Ok(averages.into_iter().zip(specs).map(finish).collect())
}

/// Specs that share a table.
struct Stage {
    /// The table ends with what is shown (0 to 1), not with the modality's values.
    shown: bool,
    table: Vec<f32>,
    row: Vec<f32>,
    averages: Vec<(usize, Average)>,
}

/// What each cell stands for: a modality value, or, when `shown`, a grey value from 0 to 1. Padding is NaN.
fn table(description: &PixelDescription, cells: Cells, shown: bool) -> Vec<f32> {
    let wide = description.bits_allocated > 8 || cells == Cells::Number;
    let range: std::ops::RangeInclusive<u16> = if wide { 0..=u16::MAX } else { 0..=255 };
    range
        .map(|cell| {
            stored_value(description, cells, cell).map_or(f32::NAN, |value| {
                let value = modality_value(description, value);
                if shown {
                    shown_value(&description.voi, value) as f32
                } else {
                    value as f32
                }
            })
        })
        .collect()
}

/// A cell's stored value; `None` for padding.
fn stored_value(description: &PixelDescription, cells: Cells, cell: u16) -> Option<i32> {
    let bits = u32::from(description.bits_stored);
    let (least, greatest) = if description.signed {
        (-(1_i32 << (bits - 1)), (1_i32 << (bits - 1)) - 1)
    } else {
        (0, ((1_i64 << bits) - 1) as i32)
    };
    let whole = if !description.signed {
        i32::from(cell)
    } else if cells == Cells::Stored && description.bits_allocated == 8 {
        i32::from(cell as u8 as i8)
    } else {
        i32::from(cell as i16)
    };
    let value = match cells {
        Cells::Number => whole.clamp(least, greatest),
        Cells::Stored => {
            let low = i32::from(cell >> (description.high_bit + 1 - description.bits_stored))
                & ((1 << bits) - 1);
            if low > greatest {
                low - (1 << bits)
            } else {
                low
            }
        }
    };
    let padding = description.padding.is_some_and(|(first, last)| {
        // A padding value that does not fit into Bits Stored fills the whole cell.
        let fits = first >= least && last <= greatest;
        let compared = if fits { value } else { whole };
        (first..=last).contains(&compared)
    });
    (!padding).then_some(value)
}

fn modality_value(description: &PixelDescription, value: i32) -> f64 {
    if let Photometric::Palette(palette) = &description.photometric {
        let [red, green, blue] = palette
            .each_ref()
            .map(|lut| f64::from(lut.at(value.into())) / lut.top().max(1.0));
        return 0.299 * red + 0.587 * green + 0.114 * blue;
    }
    match &description.modality {
        Modality::Linear { slope, intercept } => f64::from(value) * slope + intercept,
        Modality::Table(lut) => f64::from(lut.at(value.into())),
    }
}

fn shown_value(voi: &Voi, value: f64) -> f64 {
    let shown = match voi {
        Voi::WholeRange => value,
        Voi::Table(lut) => f64::from(lut.at(value)) / lut.top().max(1.0),
        Voi::Window {
            center,
            width,
            function: Function::Linear,
        } => {
            let (center, width) = (center - 0.5, width - 1.0);
            // At width 1 the slope is infinite (PS3.3 §C.11.2.1.2.1).
            if value <= center - width / 2.0 {
                0.0
            } else if value > center + width / 2.0 {
                1.0
            } else {
                (value - center) / width + 0.5
            }
        }
        Voi::Window {
            center,
            width,
            function: Function::LinearExact,
        } => (value - center) / width + 0.5,
        Voi::Window {
            center,
            width,
            function: Function::Sigmoid,
        } => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
    };
    shown.clamp(0.0, 1.0)
}

/// What an output pixel covers along one axis, in cells.
struct Span {
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
struct Average {
    columns: Vec<Span>,
    rows: Vec<Span>,
    /// Rows before this one are finished.
    next: usize,
    sums: Vec<f32>,
    /// Weight that was not padding; empty until there is padding to leave out.
    weights: Vec<f32>,
    line: Vec<f32>,
    line_weights: Vec<f32>,
}

impl Average {
    fn new(description: &PixelDescription, grid: Grid, spec: &RenderSpec) -> Self {
        let (columns, rows) = (f64::from(description.columns), f64::from(description.rows));
        let (inner_width, inner_height) = inner_size(columns, rows, spec);
        let (mut x, mut y) = ((0.0, columns), (0.0, rows));
        if spec.fit == Fit::Crop {
            let scale = (f64::from(spec.width) / columns).max(f64::from(spec.height) / rows);
            let middle = |side: f64, wanted: u32| {
                let kept = (f64::from(wanted) / scale).min(side);
                ((side - kept) / 2.0, f64::midpoint(side, kept))
            };
            (x, y) = (middle(columns, spec.width), middle(rows, spec.height));
        }
        let size = inner_width as usize * inner_height as usize;
        let padded = description.padding.is_some();
        Self {
            columns: spans(x.0, x.1, inner_width, grid.width, grid),
            rows: spans(y.0, y.1, inner_height, grid.height, grid),
            next: 0,
            sums: vec![0.0; size],
            weights: vec![0.0; if padded { size } else { 0 }],
            line: vec![0.0; inner_width as usize],
            line_weights: vec![0.0; if padded { inner_width as usize } else { 0 }],
        }
    }

    fn add(&mut self, y: usize, row: &[f32], padded: bool) {
        while self.rows.get(self.next).is_some_and(|span| span.last < y) {
            self.next += 1;
        }
        if self.rows.get(self.next).is_none_or(|span| span.first > y) {
            return;
        }
        if padded {
            self.line_without_padding(row);
        } else {
            self.line(row);
        }
        let width = self.columns.len();
        for (index, span) in self
            .rows
            .iter()
            .enumerate()
            .skip(self.next)
            .take_while(|(_, span)| span.first <= y)
        {
            let weight = span.weight(y);
            let at = index * width..(index + 1) * width;
            for (sum, value) in self.sums[at.clone()].iter_mut().zip(&self.line) {
                *sum += weight * value;
            }
            if padded {
                for (sum, value) in self.weights[at].iter_mut().zip(&self.line_weights) {
                    *sum += weight * value;
                }
            }
        }
    }

    fn line(&mut self, row: &[f32]) {
        for (sum, span) in self.line.iter_mut().zip(&self.columns) {
            *sum = if span.first == span.last {
                span.head * row[span.first]
            } else {
                let between: f32 = row[span.first + 1..span.last].iter().sum();
                span.head * row[span.first] + between + span.tail * row[span.last]
            };
        }
    }

    fn line_without_padding(&mut self, row: &[f32]) {
        for ((sum, total), span) in self
            .line
            .iter_mut()
            .zip(&mut self.line_weights)
            .zip(&self.columns)
        {
            (*sum, *total) = (0.0, 0.0);
            for (cell, value) in (span.first..).zip(&row[span.first..=span.last]) {
                if !value.is_nan() {
                    let weight = span.weight(cell);
                    *sum += weight * value;
                    *total += weight;
                }
            }
        }
    }

    /// The means, NaN where there is only padding.
    fn means(&self, padded: bool) -> Vec<f32> {
        if padded {
            // A sliver of a pixel beside padding is none.
            let mean = |(sum, weight): (&f32, &f32)| {
                if *weight > 1e-3 {
                    sum / weight
                } else {
                    f32::NAN
                }
            };
            return self.sums.iter().zip(&self.weights).map(mean).collect();
        }
        let width = self.columns.len();
        let mut means = self.sums.clone();
        for (line, row) in means.chunks_exact_mut(width).zip(&self.rows) {
            for (mean, column) in line.iter_mut().zip(&self.columns) {
                *mean /= row.len() * column.len();
            }
        }
        means
    }
}

/// The part of the output that the image fills.
fn inner_size(columns: f64, rows: f64, spec: &RenderSpec) -> (u32, u32) {
    if spec.fit != Fit::Letterbox {
        return (spec.width, spec.height);
    }
    let scale = (f64::from(spec.width) / columns).min(f64::from(spec.height) / rows);
    let inner = |side: f64, most: u32| ((side * scale).round() as u32).clamp(1, most);
    (inner(columns, spec.width), inner(rows, spec.height))
}

/// Centres the image in the output and pads.
fn place(values: &[f32], width: usize, height: usize, spec: &RenderSpec) -> Radiograph {
    let (out_width, out_height) = (spec.width as usize, spec.height as usize);
    let (left, top) = ((out_width - width) / 2, (out_height - height) / 2);
    let mut pixels = vec![spec.pad; out_width * out_height];
    for (y, line) in values.chunks_exact(width).enumerate() {
        let at = (top + y) * out_width + left;
        for (out, value) in pixels[at..at + width].iter_mut().zip(line) {
            if value.is_finite() {
                *out = *value;
            }
        }
    }
    Radiograph {
        height: spec.height,
        width: spec.width,
        pixels,
    }
}

/// Two percentiles (0 to 100, linear between ranks) of the values that are not padding.
fn range(values: impl Iterator<Item = f32>, lo: f32, hi: f32) -> (f32, f32) {
    let mut sorted: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    if sorted.is_empty() {
        return (0.0, 0.0);
    }
    sorted.sort_unstable_by(f32::total_cmp);
    let at = |percent: f32| {
        let rank = f64::from(percent.clamp(0.0, 100.0)) / 100.0 * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        below + (above - below) * rank.fract() as f32
    };
    (at(lo), at(hi))
}

/// The image without the rows and columns at its edges along which it hardly changes.
fn without_collimation(values: &[f32], width: usize, height: usize) -> impl Iterator<Item = f32> {
    let (least, greatest) = range(values.iter().copied(), 0.5, 99.5);
    let flat = 0.02 * (greatest - least);
    let is_flat = |line: &mut dyn Iterator<Item = f32>| {
        let (lo, hi) = range(line, 10.0, 90.0);
        hi - lo <= flat
    };
    let row = |y: usize| is_flat(&mut values[y * width..(y + 1) * width].iter().copied());
    let column = |x: usize| is_flat(&mut values[x..].iter().step_by(width).copied());
    let trim = |count: usize, is_flat: &dyn Fn(usize) -> bool| {
        let most = count * 2 / 5;
        let first = (0..most).find(|i| !is_flat(*i)).unwrap_or(most);
        let last = (0..most).find(|i| !is_flat(count - 1 - i)).unwrap_or(most);
        first..count - last
    };
    let (rows, columns) = (trim(height, &row), trim(width, &column));
    rows.flat_map(move |y| {
        values[y * width..(y + 1) * width][columns.clone()]
            .iter()
            .copied()
    })
}
