//! What surgeons add: rods, screws, actuators, tethers; and metal that has no meaning for the category.
//!
//! A treatment is planned once a patient, so that its levels and lengths are the same on every image.

use std::f32::consts::PI;

use super::anatomy::{Patient, Spine, T1};
use super::brace;
use super::canvas::{Canvas, P, Tube, smooth};
use super::dice::Dice;

/// What is done about the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Treatment {
    None,
    Brace,
    Fusion,
    GrowingRods,
    Tether,
}

impl Treatment {
    /// The share of the scoliosis that is left under this treatment, drawn once a patient.
    pub(super) fn remaining(self, dice: &mut Dice) -> f32 {
        match self {
            Self::None => 1.0,
            Self::Brace => dice.between(0.5, 0.9),
            Self::Fusion => dice.between(0.2, 0.6),
            Self::GrowingRods => dice.between(0.45, 0.85),
            Self::Tether => dice.between(0.4, 0.8),
        }
    }
}

/// Titanium, steel or cobalt-chrome, nepers a millimetre.
pub(super) fn metal(dice: &mut Dice) -> f32 {
    dice.pick(&[0.17, 0.19, 0.24, 0.30])
}

/// A solid rod of one radius.
pub(super) fn solid(radius: f32, mu: f32) -> Tube {
    Tube {
        radius: (radius, radius),
        wall: 0.0,
        mu: (mu, mu),
    }
}

/// The construct's levels and sizes.
#[derive(Debug, Clone)]
struct Construct {
    lower: usize,
    upper: usize,
    rod: f32,
    mu: f32,
}

impl Construct {
    fn new(treatment: Treatment, patient: &Patient, dice: &mut Dice) -> Self {
        let (lower, upper) = match treatment {
            Treatment::Fusion => (dice.whole(1, 5) as usize, T1 - dice.whole(1, 4) as usize),
            Treatment::GrowingRods => (dice.whole(1, 4) as usize, T1 - dice.whole(1, 3) as usize),
            _ => {
                // A tether spans its curve.
                let apex = (patient.main_curve().apex * 16.5) as usize;
                (
                    apex.saturating_sub(dice.whole(3, 4) as usize).max(2),
                    (apex + dice.whole(3, 4) as usize).min(T1 - 3),
                )
            }
        };
        Self {
            lower,
            upper,
            rod: dice.pick(&[2.25, 2.4, 2.75, 2.75, 3.0]),
            mu: metal(dice),
        }
    }
}

/// Paints the treatment as seen from the front.
pub(super) fn frontal(
    canvas: &mut Canvas,
    treatment: Treatment,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let construct = Construct::new(treatment, patient, dice);
    match treatment {
        Treatment::None => {}
        Treatment::Brace => brace::frontal(canvas, patient, spine, dice),
        Treatment::Fusion => fusion_frontal(canvas, &construct, patient, spine, dice),
        Treatment::GrowingRods => growing_frontal(canvas, &construct, patient, spine, dice),
        Treatment::Tether => tether_frontal(canvas, &construct, patient, spine, dice),
    }
}

/// Paints the treatment as seen from the side.
pub(super) fn lateral(
    canvas: &mut Canvas,
    treatment: Treatment,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let construct = Construct::new(treatment, patient, dice);
    match treatment {
        Treatment::None => {}
        Treatment::Brace => brace::lateral(canvas, patient, spine, dice),
        Treatment::Fusion => fusion_lateral(canvas, &construct, patient, spine, dice),
        Treatment::GrowingRods => growing_lateral(canvas, &construct, patient, spine, dice),
        Treatment::Tether => tether_lateral(canvas, &construct, patient, spine, dice),
    }
}

/// A pedicle screw seen from the front: its head, and a shaft that points mostly at the viewer.
fn screw_frontal(canvas: &mut Canvas, at: P, angle: f32, side: f32, k: f32, mu: f32) {
    let tip = at.step(angle, -side * 13.0 * k, 3.0 * k);
    canvas.tube(
        &[at, tip],
        Tube {
            radius: (3.1 * k, 2.0 * k),
            wall: 0.0,
            mu: (mu, mu),
        },
    );
    canvas.tube(
        &[at.step(angle, 0.0, -1.5 * k), at.step(angle, 0.0, 1.5 * k)],
        solid(5.6 * k, mu * 0.75),
    );
}

/// The line of a rod on one side of the spine between two levels, with its ends standing out.
fn rod_line(spine: &Spine, lower: usize, upper: usize, side: f32, k: f32) -> Vec<P> {
    let mut points: Vec<P> = (lower..=upper)
        .map(|n| {
            let v = spine.levels[n];
            v.centre.step(
                v.angle,
                side * v.half_width * 0.62 + v.twist * v.half_width * 0.25,
                -v.half_height * 0.2,
            )
        })
        .collect();
    let (first, last) = (spine.levels[lower], spine.levels[upper]);
    points.insert(0, points[0].step(first.angle, 0.0, 15.0 * k));
    let end = points[points.len() - 1].step(last.angle, 0.0, -13.0 * k);
    points.push(end);
    // A bent rod does not follow every vertebra: average over neighbours.
    let smoothed: Vec<P> = (0..points.len())
        .map(|i| {
            let near = &points[i.saturating_sub(1)..(i + 2).min(points.len())];
            let n = near.len() as f32;
            P(near.iter().map(|p| p.0).sum::<f32>() / n, points[i].1)
        })
        .collect();
    smooth(&smoothed, 4, false)
}

fn size_of_metal(patient: &Patient) -> f32 {
    patient.size.sqrt()
}

fn fusion_frontal(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    let skip = dice.between(0.0, 0.35);
    for side in [-1.0f32, 1.0] {
        canvas.tube(
            &rod_line(spine, c.lower, c.upper, side, k),
            solid(c.rod, c.mu),
        );
        for n in c.lower..=c.upper {
            let ends = n < c.lower + 2 || n + 2 > c.upper;
            if !ends && dice.chance(skip) {
                continue;
            }
            let v = spine.levels[n];
            let at = v.centre.step(
                v.angle,
                side * v.half_width * 0.62 + v.twist * v.half_width * 0.25,
                -v.half_height * 0.2 + dice.normal(0.0, 0.8),
            );
            screw_frontal(
                canvas,
                at,
                v.angle,
                side,
                k * (0.75 + 0.25 * v.half_width / 22.0),
                c.mu,
            );
        }
    }
    if dice.chance(0.35) {
        let v = spine.levels[usize::midpoint(c.lower, c.upper)];
        let half = v.half_width * 0.62;
        canvas.tube(
            &[
                v.centre.step(v.angle, -half, 9.0 * k),
                v.centre.step(v.angle, half, 9.0 * k),
            ],
            solid(2.2 * k, c.mu),
        );
    }
}

/// A magnetically driven lengthener (or, in older sets, a tandem connector) at `middle` along a rod.
fn actuator(canvas: &mut Canvas, middle: P, angle: f32, k: f32, mu: f32, tandem: bool) {
    let up = |mm: f32| middle.step(angle, mm * k, 0.0);
    if tandem {
        canvas.patch(middle, angle, (28.0 * k, 6.5 * k), |_, v| {
            mu * 7.0 * (1.0 - 0.25 * (v / (6.5 * k)).abs())
        });
        return;
    }
    canvas.tube(
        &[up(-36.0), up(36.0)],
        Tube {
            radius: (4.6 * k, 4.6 * k),
            wall: 1.4 * k,
            mu: (mu, mu * 0.35),
        },
    );
    canvas.tube(&[up(-26.0), up(-6.0)], solid(3.2 * k, mu * 0.9));
    canvas.tube(&[up(-4.0), up(34.0)], solid(1.6 * k, mu));
    for end in [-36.0, 36.0] {
        canvas.tube(&[up(end), up(end * 1.12)], solid(3.8 * k, mu));
    }
}

/// The middle and direction of the part of `line` that lies around `share` of its way.
fn along(line: &[P], share: f32) -> (P, f32) {
    let i = ((line.len() - 2) as f32 * share) as usize;
    let (a, b) = (line[i.saturating_sub(2)], line[(i + 3).min(line.len() - 1)]);
    (line[i], (b.1 - a.1).atan2(b.0 - a.0))
}

fn growing_frontal(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    let tandem = dice.chance(0.3);
    let single = dice.chance(0.15);
    let place = dice.between(0.28, 0.5);
    let only = dice.sign();
    for side in [-1.0f32, 1.0] {
        if single && side * only < 0.0 {
            continue;
        }
        let line = rod_line(spine, c.lower, c.upper, side * 1.15, k);
        canvas.tube(&line, solid(c.rod * 0.92, c.mu));
        let (middle, angle) = along(&line, place + side * 0.03);
        actuator(canvas, middle, angle, k, c.mu, tandem);
        for n in [c.lower, c.lower + 1, c.upper - 1, c.upper] {
            let v = spine.levels[n];
            let at = v.centre.step(
                v.angle,
                side * v.half_width * 0.66 + v.twist * v.half_width * 0.25,
                -v.half_height * 0.2,
            );
            screw_frontal(
                canvas,
                at,
                v.angle,
                side,
                k * (0.72 + 0.25 * v.half_width / 22.0),
                c.mu,
            );
        }
    }
}

fn tether_frontal(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    let side = patient.main_curve().cobb.signum();
    for n in c.lower..=c.upper {
        let v = spine.levels[n];
        let low = dice.normal(0.0, 0.06) * v.half_height;
        let head = v.centre.step(v.angle, side * (v.half_width + 5.0 * k), low);
        let tip = v.centre.step(
            v.angle,
            -side * v.half_width * dice.between(0.55, 0.95),
            low + dice.normal(0.0, 0.8),
        );
        canvas.tube(
            &[head, tip],
            Tube {
                radius: (3.2 * k, 2.5 * k),
                wall: 0.0,
                mu: (c.mu, c.mu),
            },
        );
        // Head with its set screw, and the washer against the bone.
        canvas.tube(
            &[
                head.step(v.angle, -side * 1.0, 0.0),
                head.step(v.angle, side * 5.0 * k, 0.0),
            ],
            solid(5.0 * k, c.mu * 0.8),
        );
        let washer = v.centre.step(v.angle, side * (v.half_width + 1.0), low);
        canvas.tube(
            &[
                washer.step(v.angle, 0.0, -7.0 * k),
                washer.step(v.angle, 0.0, 7.0 * k),
            ],
            solid(1.3 * k, c.mu),
        );
    }
}

/// How far behind the middle of the body the heads of pedicle screws lie.
fn rod_behind(spine: &Spine, n: usize) -> P {
    let v = spine.levels[n];
    v.centre
        .step(v.angle, -v.half_depth * 1.85 - 6.0, -v.half_height * 0.35)
}

fn rod_line_lateral(spine: &Spine, lower: usize, upper: usize, k: f32, shift: P) -> Vec<P> {
    let mut points: Vec<P> = (lower..=upper)
        .map(|n| rod_behind(spine, n).plus(shift.0, shift.1))
        .collect();
    let (first, last) = (spine.levels[lower], spine.levels[upper]);
    points.insert(0, points[0].step(first.angle, 0.0, 15.0 * k));
    let end = points[points.len() - 1].step(last.angle, 0.0, -13.0 * k);
    points.push(end);
    smooth(&points, 4, false)
}

fn screw_lateral(canvas: &mut Canvas, spine: &Spine, n: usize, shift: P, k: f32, mu: f32) {
    let v = spine.levels[n];
    let head = rod_behind(spine, n).plus(shift.0, shift.1);
    let tip = v
        .centre
        .step(v.angle, v.half_depth * 0.45, -v.half_height * 0.15)
        .plus(shift.0, shift.1);
    canvas.tube(
        &[head, tip],
        Tube {
            radius: (3.0 * k, 1.9 * k),
            wall: 0.0,
            mu: (mu, mu),
        },
    );
    canvas.tube(
        &[
            head.step(v.angle, -5.0 * k, 0.0),
            head.step(v.angle, 4.0 * k, 0.0),
        ],
        solid(5.2 * k, mu * 0.75),
    );
}

fn fusion_lateral(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    let skip = dice.between(0.0, 0.35);
    for side in [-0.5f32, 0.5] {
        let shift = P(dice.between(1.0, 6.0) * side, dice.between(0.0, 4.0) * side);
        canvas.tube(
            &rod_line_lateral(spine, c.lower, c.upper, k, shift),
            solid(c.rod, c.mu),
        );
        for n in c.lower..=c.upper {
            let ends = n < c.lower + 2 || n + 2 > c.upper;
            if ends || !dice.chance(skip) {
                screw_lateral(
                    canvas,
                    spine,
                    n,
                    shift,
                    k * (0.75 + 0.25 * spine.levels[n].half_width / 22.0),
                    c.mu,
                );
            }
        }
    }
}

fn growing_lateral(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    let tandem = dice.chance(0.3);
    let single = dice.chance(0.15);
    let place = dice.between(0.28, 0.5);
    for side in [-0.5f32, 0.5] {
        if single && side > 0.0 {
            continue;
        }
        let shift = P(
            dice.between(2.0, 8.0) * side - 3.0,
            dice.between(0.0, 4.0) * side,
        );
        let line = rod_line_lateral(spine, c.lower, c.upper, k, shift);
        canvas.tube(&line, solid(c.rod * 0.92, c.mu));
        let (middle, angle) = along(&line, place + side * 0.06);
        actuator(canvas, middle, angle, k, c.mu, tandem);
        for n in [c.lower, c.lower + 1, c.upper - 1, c.upper] {
            screw_lateral(
                canvas,
                spine,
                n,
                shift,
                k * (0.72 + 0.25 * spine.levels[n].half_width / 22.0),
                c.mu,
            );
        }
    }
}

fn tether_lateral(
    canvas: &mut Canvas,
    c: &Construct,
    patient: &Patient,
    spine: &Spine,
    dice: &mut Dice,
) {
    let k = size_of_metal(patient);
    for n in c.lower..=c.upper {
        let v = spine.levels[n];
        // The screw is seen end on: a bright disc with its head around it.
        let at = v.centre.step(
            v.angle,
            v.half_depth * dice.normal(-0.12, 0.12),
            v.half_height * dice.normal(0.0, 0.1),
        );
        let tip = at.step(
            v.angle,
            dice.normal(0.0, 2.5) * k,
            dice.normal(0.0, 1.5) * k,
        );
        canvas.tube(&[at, tip], solid(3.1 * k, c.mu * 2.2));
        canvas.tube(&[at, at.plus(0.3, 0.0)], solid(5.4 * k, c.mu * 0.9));
        canvas.tube(
            &[
                at.step(v.angle, -7.0 * k, 0.0),
                at.step(v.angle, 7.0 * k, 0.0),
            ],
            solid(2.0 * k, c.mu * 0.4),
        );
    }
}

/// Metal that means nothing: jewellery, buttons, a zip, electrodes; in hard images also tubes, wires and a shunt.
pub(super) fn bystanders(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    hard: bool,
    dice: &mut Dice,
) {
    let k = patient.size;
    let top = spine.top();
    let mu = metal(dice) * 0.7;
    if dice.chance(0.12) {
        let ear = spine.levels[22]
            .centre
            .plus(dice.between(-50.0, 50.0) * k, -10.0 * k);
        canvas.tube(&[ear, ear.plus(0.5, 0.0)], solid(2.2, mu));
    }
    if dice.chance(0.08) {
        let loop_line: Vec<P> = (0..=24)
            .map(|i| {
                let a = PI * i as f32 / 24.0;
                top.plus(62.0 * k * a.cos(), -14.0 * k + 66.0 * k * a.sin())
            })
            .collect();
        canvas.tube(&loop_line, solid(0.7, mu));
    }
    if dice.chance(0.10) {
        let at = P(dice.between(-20.0, 60.0) * k, dice.between(-20.0, 30.0) * k);
        canvas.tube(&[at, at.plus(0.2, 0.0)], solid(dice.between(3.0, 7.0), mu));
    }
    let electrodes = if hard {
        dice.whole(0, 5)
    } else if dice.chance(0.06) {
        dice.whole(1, 3)
    } else {
        0
    };
    for _ in 0..electrodes {
        let at = P(
            top.0 + dice.between(-110.0, 110.0) * k,
            top.1 + dice.between(30.0, 260.0) * k,
        );
        canvas.tube(&[at, at.plus(0.2, 0.0)], solid(4.5, mu * 0.6));
        let lead = smooth(
            &[
                at,
                at.plus(dice.normal(0.0, 40.0), 60.0),
                at.plus(dice.normal(0.0, 90.0), 190.0),
            ],
            10,
            false,
        );
        canvas.tube(&lead, solid(0.9, mu));
    }
    if hard && dice.chance(0.35) {
        // A shunt or feeding tube along the trunk.
        let x = dice.between(-60.0, 60.0) * k;
        let line = smooth(
            &[
                P(x, top.1 - 90.0 * k),
                P(x + dice.normal(0.0, 20.0), top.1 + 80.0 * k),
                P(x + dice.normal(0.0, 40.0), -140.0 * k),
                P(-x, -20.0 * k),
            ],
            14,
            false,
        );
        canvas.tube(&line, solid(1.4, 0.06));
    }
    if hard && dice.chance(0.25) {
        // A pump or stimulator.
        let at = P(dice.between(-95.0, 95.0) * k, dice.between(-90.0, 10.0) * k);
        canvas.tube(&[at, at.plus(9.0 * k, 0.0)], solid(22.0 * k, 0.03));
    }
    if hard && dice.chance(0.25) {
        // Bars of a wheelchair or standing frame across the picture.
        for _ in 0..dice.whole(1, 2) {
            let y = dice.between(-300.0, 100.0) * k;
            let tilt = dice.normal(0.0, 0.15);
            canvas.tube(
                &[P(-260.0, y - 260.0 * tilt), P(260.0, y + 260.0 * tilt)],
                Tube {
                    radius: (11.0, 11.0),
                    wall: 1.4,
                    mu: (0.10, 0.0),
                },
            );
        }
    }
}
