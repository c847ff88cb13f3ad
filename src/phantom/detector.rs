//! From attenuation to the numbers that a detector stores: scatter, exposure, collimation, markers, grid, noise, processing.
//!
//! Everything here is a nuisance: [`Detector::new`] draws it from a stream that never sees the category.

use super::canvas::{Canvas, Frame, P, Tube, rise};
use super::dice::Dice;
use super::texture::{blur, clouds, mix};
use super::{Difficulty, Photometric};

/// What lies outside the collimated field.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Surround {
    /// Open to the detector's border.
    Open,
    /// Shadow of the lead: little exposure, so bright in the usual polarity.
    Lead,
    /// Lead, then cut away by the workstation to one value.
    Shutter,
}

/// One exposure's settings and flaws.
#[derive(Debug, Clone)]
pub(super) struct Detector {
    pub columns: u32,
    pub rows: u32,
    pub bits_stored: u16,
    pub photometric: Photometric,
    surround: Surround,
    /// Collimated field as shares of the picture: left, top, right, bottom.
    field: [f32; 4],
    skew: f32,
    /// Where the shutter cuts, mm inside the shadow's edge.
    shutter_edge: f32,
    /// Standard deviation of ln(signal) for a 0.15 mm pixel at full exposure.
    noise: f32,
    scatter: f32,
    /// How much of the large-scale differences is taken out by processing.
    equalise: f32,
    /// Exponent of the tone curve.
    tone: f32,
    heel: f32,
    grid: Option<(f32, f32)>,
    /// First and last stored value used by the picture, as shares of the full range.
    range: (f32, f32),
    clutter: f32,
    glare: f32,
    marker: Option<Marker>,
    seed: u64,
    pub turn: f32,
    /// Stored value of shuttered pixels is declared as padding.
    pub declares_padding: bool,
}

#[derive(Debug, Clone)]
struct Marker {
    letter: char,
    initials: [char; 2],
    /// As shares of the picture.
    at: (f32, f32),
    height: f32,
    mirrored: bool,
    /// Burnt in by the workstation instead of lead on the cassette.
    electronic: bool,
}

/// A finished picture before its header.
pub(super) struct Picture {
    pub pixels: Vec<u16>,
    /// First and last stored value that a viewer should show, in the stored polarity.
    pub shown: (f32, f32),
    /// The value of shuttered pixels, where there are any.
    pub padding: Option<u16>,
}

impl Picture {
    /// Grey values from 0 (black) to 1, stored up to `most`, all of them shown.
    pub(super) fn of_grey(grey: &[f32], most: u16, inverse: bool) -> Self {
        let stored = |grey: &f32| {
            let value = (grey.clamp(0.0, 1.0) * f32::from(most)).round() as u16;
            if inverse { most - value } else { value }
        };
        Self {
            pixels: grey.iter().map(stored).collect(),
            shown: (0.0, f32::from(most)),
            padding: None,
        }
    }
}

impl Detector {
    /// Draws an exposure; `dice` must come from the nuisance stream.
    pub(super) fn new(dice: &mut Dice, difficulty: Difficulty) -> Self {
        let hard = difficulty == Difficulty::Hard;
        let surround = dice.pick(&[
            Surround::Open,
            Surround::Lead,
            Surround::Lead,
            Surround::Shutter,
        ]);
        let margin = |dice: &mut Dice, most: f32| {
            if dice.chance(0.6) {
                dice.between(0.0, most)
            } else {
                dice.between(0.0, 0.015)
            }
        };
        let (side, end) = (margin(dice, 0.13), margin(dice, 0.04));
        let field = [
            side + dice.between(0.0, 0.015),
            end + dice.between(0.0, 0.01),
            1.0 - side - dice.between(0.0, 0.015),
            1.0 - end - dice.between(0.0, 0.01),
        ];
        // Normal and hard draw the same numbers and differ in what they make of them: the same seed gives the same
        // exposure, only worse. Hard images may be badly underexposed.
        let (good, poor, underexposed) = (
            dice.between(0.0025, 0.007),
            dice.between(0.008, 0.02),
            dice.chance(0.6),
        );
        let noise = if hard && underexposed { poor } else { good };
        let glare = dice.between(0.0, 0.8);
        let turn = dice.normal(0.0, 1.0);
        let full = dice.chance(0.5);
        Self {
            columns: dice.whole(2000, 3000),
            rows: dice.whole(3000, 4300),
            bits_stored: dice.pick(&[10, 12, 12, 12, 14, 14, 15, 16]),
            photometric: if dice.chance(0.35) {
                Photometric::Monochrome1
            } else {
                Photometric::Monochrome2
            },
            surround,
            field,
            skew: dice.normal(0.0, 0.006),
            shutter_edge: dice.between(-1.5, 4.0),
            noise,
            scatter: dice.between(0.15, 0.5),
            equalise: if dice.chance(0.15) {
                dice.between(0.0, 0.2)
            } else {
                dice.between(0.35, 0.75)
            },
            tone: dice.between(0.95, 1.75),
            heel: dice.normal(0.0, 0.16),
            grid: dice
                .chance(0.5)
                .then(|| (dice.between(0.30, 0.75), dice.between(0.002, 0.012))),
            range: if full {
                (dice.between(0.0, 0.03), dice.between(0.95, 1.0))
            } else {
                (dice.between(0.02, 0.3), dice.between(0.55, 0.95))
            },
            clutter: dice.between(0.6, 1.5),
            glare: if hard { glare } else { 0.0 },
            marker: dice.chance(0.85).then(|| Marker::new(dice, &field)),
            seed: dice.bits(),
            turn: turn * if hard { 0.05 } else { 0.018 },
            declares_padding: dice.chance(0.5),
        }
    }

    /// The stored pixels for the patient's attenuation `low` (at any resolution), with `metal` on top (painted by the
    /// caller's `paint` at the final resolution).
    pub(super) fn expose(
        &self,
        mut low: Canvas,
        out: (usize, usize),
        paint: impl Fn(&mut Canvas),
    ) -> Picture {
        let (columns, rows) = out;
        let pixel = low.pixel();
        let mut dice = Dice::new(self.seed, "exposure", 0);
        let body = clouds(
            &mut dice,
            low.columns,
            low.rows,
            pixel,
            &[
                (70.0, 0.05),
                (32.0, 0.03),
                (15.0, 0.018),
                (7.0, 0.016),
                (3.4, 0.014),
                (1.7, 0.010),
            ],
        );
        for (value, cloud) in low.data.iter_mut().zip(&body) {
            *value += value.clamp(0.0, 3.0) * cloud * self.clutter;
        }
        if self.glare > 0.0 {
            // Glare of metal: light spreads in the screen, and processing rings around the edges.
            let mut metal = Canvas::new(low.columns, low.rows, low.frame);
            paint(&mut metal);
            let near = blur(
                &metal.data,
                low.columns,
                low.rows,
                (4.0 / pixel) as usize + 1,
            );
            for (value, glow) in low.data.iter_mut().zip(&near) {
                *value += glow * self.glare;
            }
        }
        self.scatter(&mut low, pixel);
        // The useful range, judged on the patient alone as a vendor's exposure recognition does.
        let (least, most) = quantiles(&low, &self.field);
        self.equalise(&mut low, pixel);
        let (first, last) = quantiles(&low, &self.field);

        let zoom = columns as f32 / low.columns as f32;
        let frame = Frame {
            scale: low.frame.scale * zoom,
            origin: P(low.frame.origin.0 * zoom, low.frame.origin.1 * zoom),
            ..low.frame
        };
        let mut metal = Canvas::new(columns, rows, frame);
        paint(&mut metal);
        if let Some(marker) = self.marker.as_ref().filter(|m| !m.electronic) {
            marker.paint(&mut metal, 0.11);
        }
        let mut picture = enlarge(&low.data, (low.columns, low.rows), (columns, rows));
        // Behind metal, scattered light is all that is left: it saturates.
        let most_metal = 1.5 - self.scatter;
        for (value, &m) in picture.iter_mut().zip(&metal.data) {
            if m != 0.0 {
                *value += most_metal * (1.0 - (-m / most_metal).exp());
            }
        }
        let burnt = self.marker.as_ref().filter(|m| m.electronic).map(|marker| {
            metal.data.fill(0.0);
            marker.paint(&mut metal, 1.0);
            metal.data
        });
        self.read_out(
            &picture,
            burnt.as_deref(),
            (columns, rows),
            frame,
            (first, last, last - first, most - least),
        )
    }

    fn scatter(&self, low: &mut Canvas, pixel: f32) {
        let exposed: Vec<f32> = low.data.iter().map(|&a| (-a).exp()).collect();
        let source: Vec<f32> = exposed
            .iter()
            .zip(&low.data)
            .map(|(&e, &a)| e * (1.0 - (-2.0 * a.max(0.0)).exp()))
            .collect();
        let veil = blur(&source, low.columns, low.rows, (18.0 / pixel) as usize + 1);
        let height = low.rows as f32;
        let columns = low.columns;
        for (i, (value, (e, s))) in low
            .data
            .iter_mut()
            .zip(exposed.iter().zip(&veil))
            .enumerate()
        {
            let heel = self.heel * ((i / columns) as f32 / height - 0.5);
            *value = -(e + self.scatter * s).ln() + heel;
        }
    }

    fn equalise(&self, low: &mut Canvas, pixel: f32) {
        let wide = blur(
            &low.data,
            low.columns,
            low.rows,
            (24.0 / pixel) as usize + 1,
        );
        for (value, mean) in low.data.iter_mut().zip(&wide) {
            *value -= self.equalise * mean;
        }
    }

    fn read_out(
        &self,
        picture: &[f32],
        burnt: Option<&[f32]>,
        (columns, rows): (usize, usize),
        frame: Frame,
        (first, last, span, raw_span): (f32, f32, f32, f32),
    ) -> Picture {
        let full = f32::from(u16::MAX >> (16 - self.bits_stored));
        let (low, high) = (self.range.0 * full, self.range.1 * full);
        let pixel = 1.0 / frame.scale;
        // Quanta: the fewer come through, the noisier; averaging larger pixels makes it quieter.
        let quiet = self.noise * 0.15 / pixel;
        let stretch = raw_span / span.max(0.05);
        let noise_at: Vec<f32> = (0..=256)
            .map(|i| {
                let a = (first + (i as f32 / 256.0 * 1.6 - 0.2) * span - first) * stretch;
                quiet * (1.0 + (a / 1.0).exp()).sqrt() + quiet * 0.4
            })
            .collect();
        let (left, top) = (self.field[0] * columns as f32, self.field[1] * rows as f32);
        let (right, bottom) = (self.field[2] * columns as f32, self.field[3] * rows as f32);
        let penumbra = (1.2 * frame.scale).max(0.7);
        let lead = span * 0.32 + 0.25;
        // The workstation cuts inside the lead or leaves a bright rim of it.
        let shutter_edge = self.shutter_edge * frame.scale;
        let shutter = if self.photometric == Photometric::Monochrome2 {
            0.0
        } else {
            full
        };
        // An S-curve between straight and steep; a table is quicker than powers for ten million pixels.
        let curve: Vec<f32> = (0..=1024)
            .map(|i| {
                let t = i as f32 / 1024.0;
                let s = t.powf(self.tone);
                0.55 * s + 0.45 * rise(0.0, 1.0, s)
            })
            .collect();
        let grid_amplitude = self.grid.map_or(0.0, |(period, amplitude)| {
            let x = std::f32::consts::PI * pixel / period;
            amplitude * (x.sin() / x).abs()
        });
        let grid_step = self.grid.map_or(0.0, |(period, _)| {
            2.0 * std::f32::consts::PI * pixel / period
        });
        let lines: Vec<f32> = (0..columns)
            .map(|x| grid_amplitude * (x as f32 * grid_step).sin())
            .collect();
        let gauss = Gauss::new();
        let mut pixels = vec![0u16; columns * rows];
        let mut padded = false;
        for y in 0..rows {
            let mut state = mix(self.seed ^ (y as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93));
            let (dy, shift) = (y as f32 + 0.5, self.skew * (y as f32 - rows as f32 / 2.0));
            let (edge_left, edge_right) = (left + shift, right + shift);
            let line = &picture[y * columns..(y + 1) * columns];
            let out = &mut pixels[y * columns..(y + 1) * columns];
            let inside_y = (dy - top).min(bottom - dy);
            for (x, (pixel_out, &value)) in out.iter_mut().zip(line).enumerate() {
                let dx = x as f32 + 0.5;
                let mut a = value + lines[x];
                let mut hidden = false;
                if self.surround != Surround::Open {
                    let inside = inside_y.min(dx - edge_left).min(edge_right - dx);
                    if inside < penumbra {
                        let dark = rise(penumbra, -penumbra, inside);
                        a += (last + lead - a).max(0.0) * dark * 0.9;
                        hidden = self.surround == Surround::Shutter && inside < shutter_edge;
                    }
                }
                let place = ((a - first) / span + 0.2) / 1.6 * 256.0;
                let deviation = noise_at[place.clamp(0.0, 256.0) as usize];
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                a += deviation * gauss.at(state);
                let t = (a - first) / span;
                let mut g = if t <= 0.0 {
                    t * 0.3
                } else if t >= 1.0 {
                    1.0 + (t - 1.0) * 0.45
                } else {
                    curve[(t * 1024.0) as usize]
                };
                if let Some(ink) = burnt
                    && ink[y * columns + x] > 0.5
                {
                    g = 1.25;
                }
                if self.photometric == Photometric::Monochrome1 {
                    g = 1.0 - g;
                }
                let mut stored = low + g * (high - low);
                if hidden {
                    stored = shutter;
                    padded = true;
                }
                *pixel_out = stored.clamp(0.0, full).round() as u16;
            }
        }
        Picture {
            pixels,
            shown: (low, high),
            padding: padded.then_some(shutter as u16),
        }
    }
}

/// The 1st and the 99.5th percentile inside the collimated field.
fn quantiles(map: &Canvas, field: &[f32; 4]) -> (f32, f32) {
    let column = |share: f32| (share * map.columns as f32) as usize;
    let row = |share: f32| (share * map.rows as f32) as usize;
    let mut seen: Vec<f32> = (row(field[1])..row(field[3]).min(map.rows))
        .step_by(5)
        .flat_map(|y| {
            (column(field[0])..column(field[2]).min(map.columns))
                .step_by(5)
                .map(move |x| map.data[y * map.columns + x])
        })
        .collect();
    if seen.is_empty() {
        return (0.0, 1.0);
    }
    let mut at = |share: f32| {
        let n = ((seen.len() - 1) as f32 * share) as usize;
        *seen.select_nth_unstable_by(n, f32::total_cmp).1
    };
    let (low, high) = (at(0.01), at(0.995));
    (low, high.max(low + 0.3))
}

/// Bilinear enlargement; a copy where the sizes agree.
fn enlarge(map: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    if from == to {
        return map.to_vec();
    }
    let places = |from: usize, to: usize| -> Vec<(usize, f32)> {
        (0..to)
            .map(|i| {
                let at = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5)
                    .clamp(0.0, from as f32 - 1.001);
                (at as usize, at.fract())
            })
            .collect()
    };
    let across = places(from.0, to.0);
    let mut out = vec![0.0f32; to.0 * to.1];
    let mut mixed = vec![0.0f32; from.0];
    for (line, (y, t)) in out.chunks_exact_mut(to.0).zip(places(from.1, to.1)) {
        let upper = &map[y * from.0..(y + 1) * from.0];
        let lower = &map[(y + 1).min(from.1 - 1) * from.0..][..from.0];
        for ((m, u), l) in mixed.iter_mut().zip(upper).zip(lower) {
            *m = u + (l - u) * t;
        }
        for (value, &(x, t)) in line.iter_mut().zip(&across) {
            *value = mixed[x] + (mixed[x + 1] - mixed[x]) * t;
        }
    }
    out
}

/// Normal deviates from a table of quantiles: one look-up a pixel.
struct Gauss(Vec<f32>);

impl Gauss {
    fn new() -> Self {
        // Quantiles by inverting a running sum of the bell curve.
        let n = 4096;
        let (mut table, mut sum, mut x) = (Vec::with_capacity(n), 0.0f64, -4.5f64);
        let step = 0.0005f64;
        for i in 0..n {
            let goal = (i as f64 + 0.5) / n as f64;
            while sum < goal && x < 4.5 {
                sum += (-x * x / 2.0).exp() * step / (2.0 * std::f64::consts::PI).sqrt();
                x += step;
            }
            table.push(x as f32);
        }
        Self(table)
    }

    fn at(&self, bits: u64) -> f32 {
        self.0[(bits >> 52) as usize]
    }
}

impl Marker {
    fn new(dice: &mut Dice, field: &[f32; 4]) -> Self {
        let letter = dice.pick(&['R', 'L']);
        let left = dice.chance(0.5);
        let x = if left {
            field[0] + dice.between(0.03, 0.11)
        } else {
            field[2] - dice.between(0.05, 0.13)
        };
        Self {
            letter,
            initials: [
                dice.pick(&['A', 'K', 'M', 'T', 'X']),
                dice.pick(&['E', 'H', 'N', 'V', 'Z']),
            ],
            at: (x, dice.between(0.05, 0.85)),
            height: dice.between(9.0, 17.0),
            mirrored: dice.chance(0.12),
            electronic: dice.chance(0.25),
        }
    }

    fn paint(&self, canvas: &mut Canvas, mu: f32) {
        // Markers lie on the detector: neither turned nor mirrored with the patient.
        let patient = canvas.frame;
        canvas.frame = Frame {
            turn: 0.0,
            mirror: if self.mirrored { -1.0 } else { 1.0 },
            origin: P(
                self.at.0 * canvas.columns as f32,
                self.at.1 * canvas.rows as f32,
            ),
            ..patient
        };
        glyph(canvas, self.letter, P(0.0, 0.0), self.height, mu);
        if !self.electronic {
            for (n, letter) in self.initials.into_iter().enumerate() {
                glyph(
                    canvas,
                    letter,
                    P(n as f32 * self.height * 0.42, self.height * 1.3),
                    self.height * 0.45,
                    mu,
                );
            }
        }
        canvas.frame = patient;
    }
}

/// A letter as strokes on a grid 4 wide and 6 high.
fn glyph(canvas: &mut Canvas, letter: char, at: P, height: f32, mu: f32) {
    let strokes: &[&[(f32, f32)]] = match letter {
        'R' => &[
            &[
                (0.0, 6.0),
                (0.0, 0.0),
                (2.6, 0.0),
                (3.6, 0.8),
                (3.6, 2.2),
                (2.6, 3.0),
                (0.0, 3.0),
            ],
            &[(1.8, 3.0), (3.8, 6.0)],
        ],
        'L' => &[&[(0.0, 0.0), (0.0, 6.0), (3.6, 6.0)]],
        'A' => &[
            &[(0.0, 6.0), (2.0, 0.0), (4.0, 6.0)],
            &[(0.8, 3.8), (3.2, 3.8)],
        ],
        'E' => &[
            &[(3.6, 0.0), (0.0, 0.0), (0.0, 6.0), (3.6, 6.0)],
            &[(0.0, 3.0), (2.8, 3.0)],
        ],
        'H' => &[
            &[(0.0, 0.0), (0.0, 6.0)],
            &[(4.0, 0.0), (4.0, 6.0)],
            &[(0.0, 3.0), (4.0, 3.0)],
        ],
        'K' => &[
            &[(0.0, 0.0), (0.0, 6.0)],
            &[(3.8, 0.0), (0.0, 3.4)],
            &[(1.2, 2.6), (3.8, 6.0)],
        ],
        'M' => &[&[(0.0, 6.0), (0.0, 0.0), (2.0, 3.6), (4.0, 0.0), (4.0, 6.0)]],
        'N' => &[&[(0.0, 6.0), (0.0, 0.0), (4.0, 6.0), (4.0, 0.0)]],
        'T' => &[&[(0.0, 0.0), (4.0, 0.0)], &[(2.0, 0.0), (2.0, 6.0)]],
        'V' => &[&[(0.0, 0.0), (2.0, 6.0), (4.0, 0.0)]],
        'X' => &[&[(0.0, 0.0), (4.0, 6.0)], &[(4.0, 0.0), (0.0, 6.0)]],
        _ => &[&[(0.0, 0.0), (4.0, 0.0), (0.0, 6.0), (4.0, 6.0)]],
    };
    let unit = height / 6.0;
    for stroke in strokes {
        let line: Vec<P> = stroke
            .iter()
            .map(|&(x, y)| at.plus(x * unit, y * unit))
            .collect();
        canvas.tube(
            &line,
            Tube {
                radius: (unit * 0.55, unit * 0.55),
                wall: 0.0,
                mu: (mu * 6.0, mu * 6.0),
            },
        );
    }
}
