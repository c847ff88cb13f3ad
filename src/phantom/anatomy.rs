//! A synthetic patient: proportions, spinal curve and habits that stay the same over all of that patient's images.
//!
//! Lengths are in millimetres at adult size and are multiplied by [`Patient::size`]; mean sizes follow published
//! morphometry of vertebrae roughly, which is all that a picture at this scale shows.

use std::f32::consts::PI;

use super::canvas::{P, table};
use super::dice::Dice;

/// A scoliotic curve in the frontal plane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    /// Height of the apex above the sacrum, as a share of the length from sacrum to T1.
    pub apex: f32,
    /// From apex to each end, same unit.
    pub half: f32,
    /// Cobb angle in radians; positive where the convexity points to the image's right.
    pub cobb: f32,
}

/// Everything about a patient that a radiograph shows, apart from devices.
#[derive(Debug, Clone)]
pub(super) struct Patient {
    /// Years.
    pub age: f32,
    pub female: bool,
    /// 1 for an adult; 0.55 for a four-year-old.
    pub size: f32,
    /// Width of the body relative to its height; 1 is usual.
    pub girth: f32,
    /// Size of the head relative to the rest; children's are larger.
    pub head: f32,
    pub curves: Vec<Curve>,
    /// Thoracic kyphosis, lumbar lordosis and sacral slope, radians.
    pub kyphosis: f32,
    pub lordosis: f32,
    pub slope: f32,
    /// Mineral in the bones relative to the usual.
    pub mineral: f32,
    /// Seed for the small shapes of this patient's bones.
    pub shapes: u64,
}

impl Patient {
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Dice::new(seed, "patient", number);
        let age = if dice.chance(0.35) {
            dice.between(4.0, 10.0)
        } else {
            dice.between(10.0, 18.0)
        };
        let growth = table(&[(3.0, 0.52), (10.0, 0.74), (16.5, 0.96)], age);
        let size = growth * dice.normal(1.0, 0.035);
        let convex = if dice.chance(0.8) { 1.0 } else { -1.0 };
        let main = dice.between(12.0, 75.0).to_radians() * convex;
        let at = |apex: f32, half: f32, cobb: f32| Curve { apex, half, cobb };
        let curves = match dice.whole(0, 3) {
            // Main thoracic with a small lumbar answer; double; thoracolumbar; long C of neuromuscular disease.
            0 => vec![
                at(0.62 + dice.normal(0.0, 0.03), 0.27, main),
                at(0.22, 0.24, -main * dice.between(0.3, 0.6)),
                at(0.93, 0.14, -main * dice.between(0.1, 0.4)),
            ],
            1 => vec![
                at(0.64 + dice.normal(0.0, 0.03), 0.24, main),
                at(
                    0.23 + dice.normal(0.0, 0.02),
                    0.23,
                    -main * dice.between(0.75, 1.0),
                ),
                at(0.93, 0.12, -main * dice.between(0.1, 0.3)),
            ],
            2 => vec![
                at(
                    0.36 + dice.normal(0.0, 0.03),
                    0.28,
                    -main * dice.between(0.6, 0.9),
                ),
                at(0.72, 0.22, main * dice.between(0.2, 0.5)),
            ],
            _ => vec![at(
                0.45 + dice.normal(0.0, 0.05),
                0.45,
                main * dice.between(0.7, 1.1),
            )],
        };
        Self {
            age,
            female: dice.chance(0.7),
            size,
            girth: dice.normal(1.0, 0.09) * table(&[(4.0, 1.08), (9.0, 0.96), (17.0, 1.0)], age),
            head: table(&[(3.0, 1.5), (8.0, 1.25), (16.0, 1.0)], age),
            curves,
            kyphosis: dice.normal(36.0, 11.0).to_radians(),
            lordosis: dice.normal(54.0, 9.0).to_radians(),
            slope: dice.normal(39.0, 6.0).to_radians(),
            mineral: dice.normal(1.0, 0.1) * table(&[(4.0, 0.85), (16.0, 1.05)], age),
            shapes: dice.bits(),
        }
    }

    /// The sharpest curve, which a tether is set against.
    pub(super) fn main_curve(&self) -> Curve {
        let mut main = self.curves[0];
        for &curve in &self.curves {
            if curve.cobb.abs() > main.cobb.abs() {
                main = curve;
            }
        }
        main
    }
}

/// One vertebra as the image plane sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vertebra {
    /// The middle of the body.
    pub centre: P,
    /// Direction of the body's left-to-right (or front-to-back) axis on the image, radians.
    pub angle: f32,
    /// Half width in the frontal plane, half depth, half height of the body, mm.
    pub half_width: f32,
    pub half_depth: f32,
    pub half_height: f32,
    /// Turn about the long axis: -1..1, positive towards the image's right.
    pub twist: f32,
}

/// From the sacrum up: L5 is number 0, T12 5, T1 16, C7 17, C2 22.
pub(super) const L5: usize = 0;
pub(super) const T12: usize = 5;
pub(super) const T1: usize = 16;
pub(super) const C7: usize = 17;
pub(super) const C2: usize = 22;

/// Height with disc, width, depth of each vertebra from L5 up to C2, mm in an adult.
const SIZES: [(f32, f32, f32); 23] = [
    (37.0, 51.0, 35.0),
    (37.0, 49.0, 35.0),
    (36.5, 47.0, 34.5),
    (35.5, 45.0, 34.0),
    (34.0, 43.0, 33.0),
    (31.0, 41.0, 32.0),
    (29.0, 38.0, 31.5),
    (27.5, 35.5, 31.0),
    (26.0, 33.5, 30.0),
    (25.0, 32.0, 29.0),
    (24.5, 30.5, 28.0),
    (24.0, 29.5, 26.5),
    (23.5, 28.5, 25.0),
    (23.0, 28.5, 23.5),
    (22.5, 29.5, 21.5),
    (22.0, 31.0, 20.0),
    (21.0, 32.5, 18.5),
    (18.5, 30.0, 17.5),
    (17.5, 27.5, 17.0),
    (17.5, 26.0, 16.5),
    (17.5, 25.0, 16.0),
    (18.0, 24.0, 16.0),
    (26.0, 22.0, 15.0),
];

/// The spine on the image plane.
#[derive(Debug, Clone)]
pub(super) struct Spine {
    /// From L5 (0) up to C2 (22).
    pub levels: Vec<Vertebra>,
}

/// How much of the discs' share of the height is disc.
fn disc_share(number: usize) -> f32 {
    if number < T12 {
        0.26
    } else if number < C7 {
        0.17
    } else {
        0.27
    }
}

impl Spine {
    /// As seen from the front, with `remaining` of the scoliosis (1: as untreated).
    pub(super) fn frontal(patient: &Patient, remaining: f32) -> Self {
        let length: f32 = SIZES[..=T1].iter().map(|s| s.0).sum::<f32>();
        let lean = |share: f32| {
            let mut slope = 0.0;
            let mut offset = 0.0;
            for curve in &patient.curves {
                let u = (share - curve.apex) / curve.half;
                if u.abs() < 1.0 {
                    let sharpest = (curve.cobb * remaining / 2.0).tan();
                    slope -= sharpest * (PI * u).sin();
                    offset += sharpest * curve.half / PI * (1.0 + (PI * u).cos());
                }
            }
            (slope, offset)
        };
        let (mut along, mut p) = (0.0f32, P(0.0, 0.0));
        let levels = (0..=C2).map(|number| {
            let (height, width, depth) = SIZES[number].scaled(patient.size);
            let share = (along + height / 2.0) / (length * patient.size);
            let (slope, offset) = lean(share);
            let tilt = slope.atan();
            // The sacrum's own disc lies below L5.
            let centre = p.plus(tilt.sin() * height / 2.0, -tilt.cos() * height / 2.0);
            p = p.plus(tilt.sin() * height, -tilt.cos() * height);
            along += height;
            Vertebra {
                centre,
                angle: tilt,
                half_width: width / 2.0,
                half_depth: depth / 2.0,
                half_height: height * (1.0 - disc_share(number)) / 2.0,
                twist: (offset * 6.0).clamp(-1.0, 1.0),
            }
        });
        Self {
            levels: levels.collect(),
        }
    }

    /// As seen from the side, the front towards +x. The patient stands upright: C7 comes to lie over the sacrum.
    pub(super) fn lateral(patient: &Patient) -> Self {
        let unbalanced = Self::leaning(patient, 0.0).levels[C7].centre;
        // Bending at the hips brings C7 back over the sacrum; a little is left as it is.
        Self::leaning(patient, 0.85 * (unbalanced.0 / -unbalanced.1).atan())
    }

    /// The lateral spine with every vertebra tilted back by `back` radians.
    fn leaning(patient: &Patient, back: f32) -> Self {
        let lumbar = patient.slope - patient.lordosis;
        let cervical = lumbar + patient.kyphosis;
        // The long axis' forward lean at the sacrum, the thoracolumbar junction, T1 and the skull.
        let leans = [
            (-0.5, patient.slope * 0.85),
            (6.0, lumbar),
            (17.0, cervical),
            (23.0, cervical * 0.2 - 0.1),
        ];
        let mut p = P(0.0, 0.0);
        let levels = (0..=C2).map(|number| {
            let (height, width, depth) = SIZES[number].scaled(patient.size);
            let tilt = table(&leans, number as f32) - back;
            let centre = p.plus(tilt.sin() * height / 2.0, -tilt.cos() * height / 2.0);
            p = p.plus(tilt.sin() * height, -tilt.cos() * height);
            Vertebra {
                centre,
                angle: tilt,
                half_width: width / 2.0,
                half_depth: depth / 2.0,
                half_height: height * (1.0 - disc_share(number)) / 2.0,
                twist: 0.0,
            }
        });
        Self {
            levels: levels.collect(),
        }
    }

    /// Where the long axis passes at height `y` (mm on the image), and its lean; beyond the ends, the end's.
    pub(super) fn axis_at(&self, y: f32) -> P {
        let levels = &self.levels;
        if y >= levels[0].centre.1 {
            let t = ((levels[0].centre.1 - y) / levels[0].centre.1).clamp(-1.0, 0.0);
            return P(levels[0].centre.0 * (1.0 + t), y);
        }
        for pair in levels.windows(2) {
            let (low, high) = (pair[0].centre, pair[1].centre);
            if y >= high.1 {
                return P(low.toward(high, (low.1 - y) / (low.1 - high.1)).0, y);
            }
        }
        P(levels[C2].centre.0, y)
    }

    /// The top of T1, above which lie neck and head.
    pub(super) fn top(&self) -> P {
        self.levels[T1]
            .centre
            .plus(0.0, -self.levels[T1].half_height)
    }
}

trait Scaled {
    fn scaled(self, size: f32) -> Self;
}

impl Scaled for (f32, f32, f32) {
    fn scaled(self, size: f32) -> Self {
        (self.0 * size, self.1 * size, self.2 * size)
    }
}
