//! What is no full spine: radiographs of something else (chest, neck, lying patients, pelvis, hand), pictures of nothing,
//! and pictures that are no radiographs at all.

use super::anatomy::{Patient, Spine};
use super::canvas::{Canvas, P, Tube, ridge, smooth};
use super::dice::Dice;
use super::frontal::{self, TISSUE};

/// What images of neither view are to show. The first three are near to what a spine bundle knows, the others far away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum OutsideKind {
    /// The chest, taken standing.
    Chest,
    /// The cervical spine alone.
    Cervical,
    /// A lying patient's lower spine, on a table.
    Supine,
    /// White noise.
    Noise,
    /// Nothing but black.
    Black,
    /// Things over each other, lit from a side, as on photographs.
    PhotographLike,
}

impl OutsideKind {
    /// Radiographs of something else.
    pub const NEAR: [Self; 3] = [Self::Chest, Self::Cervical, Self::Supine];
    /// No radiographs.
    pub const FAR: [Self; 3] = [Self::Noise, Self::Black, Self::PhotographLike];

    /// The word for it, as on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chest => "chest",
            Self::Cervical => "cervical",
            Self::Supine => "supine",
            Self::Noise => "noise",
            Self::Black => "black",
            Self::PhotographLike => "photograph-like",
        }
    }
}

impl From<OutsideKind> for Other {
    fn from(kind: OutsideKind) -> Self {
        match kind {
            OutsideKind::Chest => Self::Chest,
            OutsideKind::Cervical => Self::Cervical,
            OutsideKind::Supine => Self::Supine,
            OutsideKind::Noise => Self::Snow,
            OutsideKind::Black => Self::Black,
            OutsideKind::PhotographLike => Self::Photograph,
        }
    }
}

/// What a picture outside the two views shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Other {
    Chest,
    Pelvis,
    Hand,
    /// A calibration shot: a step wedge, or nothing at all.
    Noise,
    Cervical,
    Supine,
    Snow,
    Black,
    Photograph,
}

impl Other {
    /// What the picture covers: left, top, right, bottom, in the patient's millimetres.
    pub(super) fn field(self, patient: &Patient, spine: &Spine) -> [f32; 4] {
        let k = patient.size;
        let top = spine.top().1;
        match self {
            Self::Chest => [-185.0 * k, top - 45.0 * k, 185.0 * k, -135.0 * k],
            Self::Pelvis => [-190.0 * k, -70.0 * k, 190.0 * k, 215.0 * k],
            Self::Hand => [-75.0 * k, -115.0 * k, 75.0 * k, 95.0 * k],
            Self::Cervical => [-95.0 * k, top - 140.0 * k, 95.0 * k, top + 50.0 * k],
            Self::Supine => [-175.0 * k, -360.0 * k, 175.0 * k, 70.0 * k],
            Self::Noise | Self::Snow | Self::Black | Self::Photograph => {
                [-200.0, -200.0, 200.0, 200.0]
            }
        }
    }

    /// Body part and view position as a modality would enter them.
    pub(super) fn habit(self, dice: &mut Dice) -> (&'static str, &'static str) {
        match self {
            Self::Chest => ("CHEST", "PA"),
            Self::Pelvis => ("PELVIS", "AP"),
            Self::Hand => ("HAND", dice.pick(&["PA", "AP", ""])),
            Self::Noise => (dice.pick(&["", "PHANTOM"]), ""),
            Self::Cervical => ("CSPINE", "AP"),
            Self::Supine => (dice.pick(&["LSPINE", "ABDOMEN"]), "AP"),
            // They claim what they are not.
            Self::Snow | Self::Black | Self::Photograph => {
                (dice.pick(&["SPINE", ""]), dice.pick(&["AP", "LL"]))
            }
        }
    }

    pub(super) fn paint(
        self,
        canvas: &mut Canvas,
        patient: &Patient,
        spine: &Spine,
        pose: &mut Dice,
    ) {
        match self {
            Self::Chest => {
                // Chests are taken softer in contrast behind the heart: the spine hardly shows.
                let patient = Patient {
                    mineral: patient.mineral * 0.62,
                    ..patient.clone()
                };
                frontal::paint(canvas, &patient, spine, pose);
            }
            Self::Pelvis | Self::Cervical => frontal::paint(canvas, patient, spine, pose),
            Self::Supine => {
                frontal::paint(canvas, patient, spine, pose);
                table(canvas, patient.size);
            }
            Self::Hand => hand(canvas, patient, pose),
            Self::Noise | Self::Snow | Self::Black | Self::Photograph => nothing(canvas, pose),
        }
    }

    /// The grey values, 0 to 1, of a picture that no detector has taken.
    pub(super) fn no_radiograph(self, size: (usize, usize), dice: &mut Dice) -> Option<Vec<f32>> {
        let pixels = size.0 * size.1;
        match self {
            Self::Snow => Some((0..pixels).map(|_| dice.between(0.0, 1.0)).collect()),
            Self::Black => Some(vec![0.0; pixels]),
            Self::Photograph => Some(photograph(size, dice)),
            _ => None,
        }
    }
}

/// A table with a rail on each side, below a lying patient.
fn table(canvas: &mut Canvas, k: f32) {
    let rail = 168.0 * k;
    canvas.everywhere(|p, value| value + 0.08 + 0.5 * ridge(p.0.abs() - rail, 4.0, 1.0));
}

/// Boxes and balls over each other before a wall, each lit from one side.
fn photograph((columns, rows): (usize, usize), dice: &mut Dice) -> Vec<f32> {
    let light = (dice.between(-0.3, 0.3), dice.between(-0.3, 0.3));
    let wall = dice.between(0.2, 0.8);
    let shade = |x: f32, y: f32| light.0 * (x - 0.5) + light.1 * (y - 0.5);
    let mut grey: Vec<f32> = (0..rows * columns)
        .map(|k| {
            let (x, y) = (k % columns, k / columns);
            wall + shade(x as f32 / columns as f32, y as f32 / rows as f32)
        })
        .collect();
    for _ in 0..dice.whole(8, 24) {
        let (x, y) = (dice.between(0.0, 1.0), dice.between(0.0, 1.0));
        let (w, h) = (dice.between(0.05, 0.5), dice.between(0.05, 0.5));
        let (tone, round) = (dice.between(0.0, 1.0), dice.chance(0.5));
        let within = |from: f32, length: f32, of: usize| {
            let end = ((from + length).min(1.0) * of as f32) as usize;
            (from * of as f32) as usize..end
        };
        for row in within(y, h, rows) {
            for column in within(x, w, columns) {
                let u = (column as f32 / columns as f32 - x) / w;
                let v = (row as f32 / rows as f32 - y) / h;
                let (from_middle, lit) = ((u - 0.5).hypot(v - 0.5), tone + 2.0 * shade(u, v));
                if !round || from_middle < 0.5 {
                    grey[row * columns + column] = lit;
                }
            }
        }
    }
    grey
}

fn nothing(canvas: &mut Canvas, pose: &mut Dice) {
    if pose.chance(0.5) {
        let steps = pose.whole(6, 12) as f32;
        canvas.patch(
            P(0.0, 0.0),
            pose.normal(0.0, 0.05),
            (40.0, 150.0),
            |_, v| 0.25 * (((v + 150.0) / 300.0 * steps).floor() + 1.0),
        );
    }
    let (x, y, slope) = (
        pose.between(-1.0, 1.0),
        pose.between(-1.0, 1.0),
        pose.between(0.0, 0.002),
    );
    canvas.everywhere(|p, value| value + 1.5 + slope * (x * p.0 + y * p.1));
}

fn hand(canvas: &mut Canvas, patient: &Patient, pose: &mut Dice) {
    let k = patient.size * 0.92;
    let m = patient.mineral;
    let side = pose.sign();
    let at = |x: f32, y: f32| P(side * x * k, y * k);
    let spread = pose.between(0.8, 1.25);
    let soft = |r0: f32, r1: f32| Tube {
        radius: (r0 * k, r1 * k),
        wall: 0.0,
        mu: (TISSUE * 1.2, TISSUE * 1.2),
    };
    // Thumb to little finger: root, direction in radians from straight up, lengths of metacarpal and phalanges.
    let fingers: [(f32, f32, f32, &[f32], f32); 5] = [
        (-26.0, 26.0, -0.75, &[43.0, 30.0, 22.0], 1.12),
        (-15.0, 14.0, -0.17, &[62.0, 38.0, 23.0, 17.0], 1.0),
        (-3.0, 11.0, -0.03, &[60.0, 42.0, 27.0, 18.0], 1.05),
        (9.0, 14.0, 0.11, &[54.0, 39.0, 25.0, 18.0], 0.95),
        (19.0, 19.0, 0.26, &[50.0, 31.0, 18.0, 15.0], 0.85),
    ];
    let palm = smooth(
        &[
            at(-24.0, 30.0),
            at(-34.0, -6.0),
            at(-26.0, -48.0),
            at(0.0, -56.0),
            at(26.0, -46.0),
            at(34.0, -10.0),
            at(26.0, 34.0),
            at(0.0, 40.0),
        ],
        4,
        true,
    );
    canvas.plate(&palm, 0.42, -0.2, 8.0);
    canvas.tube(&[at(0.0, 20.0), at(0.0, 130.0)], soft(27.0, 33.0));
    for (x, y, direction, lengths, thick) in fingers {
        let direction = direction * spread - std::f32::consts::FRAC_PI_2;
        let mut p = at(x, y);
        let start = p;
        for (n, &length) in lengths.iter().enumerate() {
            let ahead = |p: P, mm: f32| {
                let (sin, cos) = direction.sin_cos();
                p.plus(side * cos * mm * k, sin * mm * k)
            };
            let end = ahead(p, length);
            let r = (4.6 - 0.55 * n as f32) * thick * k;
            let shaft = Tube {
                radius: (r, r * 0.86),
                wall: 1.3 * k,
                mu: (0.075 * m, 0.02 * m),
            };
            canvas.tube(&[ahead(p, 4.0), ahead(p, length - 4.0)], shaft);
            for (place, size) in [(4.0, 1.35), (length - 3.5, 1.2)] {
                let knuckle = ahead(p, place);
                canvas.tube(
                    &[knuckle, knuckle.plus(0.1, 0.1)],
                    Tube {
                        radius: (r * size, r * size),
                        wall: 0.9 * k,
                        mu: (0.05 * m, 0.02 * m),
                    },
                );
            }
            p = end;
        }
        canvas.tube(&[start, p], soft(11.0 * thick, 8.0 * thick));
    }
    for (x, y, r) in [
        (-18.0, 32.0, 8.0),
        (-9.0, 24.0, 7.0),
        (1.0, 22.0, 9.0),
        (12.0, 26.0, 8.0),
        (-13.0, 42.0, 8.5),
        (1.0, 42.0, 9.0),
        (13.0, 39.0, 7.5),
        (18.0, 33.0, 5.0),
    ] {
        canvas.tube(
            &[at(x, y), at(x + 1.0, y + 1.0)],
            Tube {
                radius: (r * k, r * k),
                wall: 1.1 * k,
                mu: (0.04 * m, 0.018 * m),
            },
        );
    }
    let arm = |r0: f32, r1: f32| Tube {
        radius: (r0 * k, r1 * k),
        wall: 2.2 * k,
        mu: (0.05 * m, 0.014 * m),
    };
    canvas.tube(
        &smooth(
            &[at(-8.0, 58.0), at(-9.0, 80.0), at(-10.0, 160.0)],
            6,
            false,
        ),
        arm(13.0, 7.5),
    );
    canvas.tube(
        &smooth(&[at(15.0, 60.0), at(15.0, 80.0), at(13.0, 160.0)], 6, false),
        arm(7.5, 7.0),
    );
}
