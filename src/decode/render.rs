//! From cells to what the model sees: grey values from 0 to 1 at the network's size. The one path for `run`,
//! `classify`, `render` and training.
//!
//! In this order: Bits Stored masked and sign-extended; Pixel Padding set aside; Modality LUT; VOI LUT or window (pixel by
//! pixel, because averaging first would be wrong wherever a window clips); area average; where nothing clips (percentiles,
//! whole range) the range is taken from, and applied to, the averaged image; MONOCHROME1 and Presentation LUT Shape INVERSE
//! inverted once; letterboxed (pixels that are not square become so, but where a bundle wants it squashed).
//!
//! - *Whole range* (no window): from the least to the greatest averaged value.
//! - *Percentiles* are those of the averaged image, so that reduced decoding does not move them, without padding and
//!   without *collimation*: rows and columns at the edges along which the image hardly changes (the middle 80 % of
//!   their values within 2 % of the image's range), up to 40 % of the side at each edge.
//! - An output pixel is the mean of what it covers without padding; where it covers only padding it is the pad value.

mod average;
mod shade;

use std::ops::Range;

use super::attributes::{Photometric, PixelDescription, Voi};
use super::pixels::Frame;
use super::{Fault, Fit, Intensity, Polarity, Radiograph, RenderSpec};
use crate::domain::Reason;
use average::Average;
use shade::Shade;

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

/// A spec that keeps the aspect ratio and makes no side longer than `longest`, nor longer than it is, nor than a picture can be.
pub fn picture_spec(
    rows: u32,
    columns: u32,
    longest: Option<u32>,
    intensity: Intensity,
) -> RenderSpec {
    let side = f64::from(rows.max(columns).max(1));
    let longest = longest.unwrap_or(MAX_SIDE);
    let scale = (f64::from(longest) / side).min(1.0);
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
pub(super) fn needed_scale(description: &PixelDescription, specs: &[RenderSpec]) -> f64 {
    let demand = |spec: &RenderSpec| {
        let x = f64::from(spec.width) / f64::from(description.columns);
        let y = f64::from(spec.height) / f64::from(description.rows);
        let aspect = description.aspect;
        match spec.fit {
            Fit::Squash => x.max(y),
            Fit::Letterbox => x.min(y / aspect) * aspect.max(1.0),
            Fit::Crop => x.max(y / aspect) * aspect.max(1.0),
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
                shade: Shade::new(&frame.description, frame.cells, shown),
                row: vec![0.0; frame.grid.width],
                averages: vec![(index, average)],
            }),
        }
    }
    frame.each_row(|y, cells| {
        for stage in &mut stages {
            stage.shade.row(cells, &mut stage.row);
            for (_, average) in &mut stage.averages {
                average.add(y, &stage.row);
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
        let mut values = average.means();
        if !shown {
            let (lo, hi) = match spec.intensity {
                Intensity::Voi => range(values.iter().copied(), 0.0, 100.0),
                Intensity::Percentile { lo, hi } => {
                    range(without_collimation(&values, width, height), lo, hi)
                }
            };
            let scale = if hi > lo { 1.0 / (hi - lo) } else { 0.0 };
            for value in &mut values {
                *value = (*value - lo) * scale;
            }
        }
        // Weights are rounded: the mean of nothing but ones can be a little more than one.
        for value in &mut values {
            *value = value.clamp(0.0, 1.0);
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

/// Specs that share a shade.
struct Stage {
    /// It ends with what is shown (0 to 1), not with the modality's values.
    shown: bool,
    shade: Shade,
    row: Vec<f32>,
    averages: Vec<(usize, Average)>,
}

/// The part of the output that an image of so many columns, and as tall as so many of them are wide, fills.
fn inner_size(columns: f64, tall: f64, spec: &RenderSpec) -> (u32, u32) {
    if spec.fit != Fit::Letterbox {
        return (spec.width, spec.height);
    }
    let scale = (f64::from(spec.width) / columns).min(f64::from(spec.height) / tall);
    let inner = |side: f64, most: u32| ((side * scale).round() as u32).clamp(1, most);
    (inner(columns, spec.width), inner(tall, spec.height))
}

/// The rows and columns of the output that a picture of so many rows and columns (of square pixels) fills; what is around it is
/// padding.
pub fn filled([rows, columns]: [u32; 2], spec: &RenderSpec) -> [Range<usize>; 2] {
    let (columns, rows) = (f64::from(columns.max(1)), f64::from(rows.max(1)));
    let (width, height) = inner_size(columns, rows, spec);
    let centred = |most: u32, inner: u32| {
        let from = ((most - inner) / 2) as usize;
        from..from + inner as usize
    };
    [centred(spec.height, height), centred(spec.width, width)]
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
    let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut at = |percent: f32| {
        let rank = f64::from(percent.clamp(0.0, 100.0)) / 100.0 * (values.len() - 1) as f64;
        // Sorting all of them would take longer than everything else here.
        let (_, below, rest) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
        let above = rest
            .iter()
            .copied()
            .min_by(f32::total_cmp)
            .unwrap_or(*below);
        *below + (above - *below) * rank.fract() as f32
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
