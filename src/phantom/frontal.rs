//! The frontal view: trunk, arms, lungs, heart and bowel, seen from the front; the bones have a file of their own.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, L5, Patient, Spine, T12};
use super::canvas::{Canvas, P, Profile, Tube, rise, round_edge, smooth};
use super::dice::Dice;
use super::frontal_bones::{pelvis, ribs, shoulders, skull, vertebra};

/// Attenuation of soft tissue, and how much less an inflated lung has, nepers a millimetre.
pub(super) const TISSUE: f32 = 0.0185;
pub(super) const AIR: f32 = -0.0115;

/// The trunk's shape at each height above (negative) or below the sacrum's top.
pub(super) struct Trunk {
    pub middle: Profile,
    pub half_width: Profile,
    /// Front to back.
    depth: Profile,
    /// The chest's inner half width.
    pub chest: Profile,
}

impl Trunk {
    fn new(patient: &Patient, spine: &Spine, pose: &mut Dice) -> Self {
        let k = patient.size;
        let g = patient.girth;
        let top = spine.top().1;
        let hips = if patient.female { 1.04 } else { 0.97 };
        // The trunk follows the spine a third of the way.
        let shift = pose.normal(0.0, 3.0) * k;
        let middle: Vec<(f32, f32)> = std::iter::once((top - 220.0 * k, spine.levels[C2].centre.0))
            .chain(std::iter::once((top - 30.0 * k, spine.top().0 * 0.9)))
            .chain((0..9).map(|i| {
                let y = top * (1.0 - i as f32 / 9.0);
                let share = 0.38 + 0.4 * rise(0.25, 0.0, i as f32 / 9.0);
                (y + 12.0, spine.axis_at(y).0 * share + shift)
            }))
            .chain([(30.0, 0.0), (250.0 * k, 0.0)])
            .collect();
        // Head: widest around the braincase, narrowing to jaw and neck. Children's heads reach lower.
        let (skull, jaw) = (k * patient.head, k * (118.0 - 45.0 * patient.head));
        let half_width = [
            (top - 118.0 * k - 150.0 * skull, 52.0 * skull),
            (top - 118.0 * k - 70.0 * skull, 77.0 * skull),
            (top - 118.0 * k - 10.0 * skull, 70.0 * skull),
            (top - jaw - 14.0 * k, 52.0 * skull),
            (top - jaw + 8.0 * k, 55.0 * k * g),
            (top - jaw * 0.5, 60.0 * k * g),
            (top - 14.0 * k, 104.0 * k * g),
            (top + 8.0 * k, 152.0 * k * g.sqrt()),
            (top + 40.0 * k, 172.0 * k * g.sqrt()),
            (top + 90.0 * k, 166.0 * k * g),
            (top + 140.0 * k, 158.0 * k * g),
            (-170.0 * k, 143.0 * k * g),
            (-70.0 * k, 128.0 * k * g),
            (5.0 * k, 148.0 * k * g * hips),
            (95.0 * k, 172.0 * k * g * hips),
            (200.0 * k, 166.0 * k * g * hips),
        ];
        let depth = [
            (top - 120.0 * k, 150.0 * k * patient.head),
            (top - 60.0 * k, 105.0 * k * g),
            (top, 120.0 * k * g),
            (top + 120.0 * k, 190.0 * k * g),
            (-150.0 * k, 200.0 * k * g),
            (-60.0 * k, 172.0 * k * g),
            (30.0 * k, 196.0 * k * g),
            (160.0 * k, 180.0 * k * g),
        ];
        let c = k * g.sqrt();
        let chest = [
            (top - 30.0 * c, 34.0 * c),
            (top + 10.0 * c, 74.0 * c),
            (top + 60.0 * c, 106.0 * c),
            (top + 130.0 * c, 126.0 * c),
            (top + 210.0 * c, 136.0 * c),
            (top + 290.0 * c, 131.0 * c),
        ];
        Self {
            middle: Profile::new(&middle),
            half_width: Profile::new(&half_width),
            depth: Profile::new(&depth),
            chest: Profile::new(&chest),
        }
    }
}

/// Paints everything that belongs to the patient; devices are painted elsewhere.
pub(super) fn paint(canvas: &mut Canvas, patient: &Patient, spine: &Spine, pose: &mut Dice) {
    let mut shapes = Dice::new(patient.shapes, "frontal", 0);
    let trunk = Trunk::new(patient, spine, pose);
    soft_tissue(canvas, patient, &trunk, pose);
    lungs(canvas, patient, spine, &trunk, &mut shapes, pose);
    bowel(canvas, patient, pose);
    ribs(canvas, patient, spine, &trunk, &mut shapes);
    pelvis(canvas, patient, &mut shapes);
    shoulders(canvas, patient, spine, pose);
    skull(canvas, patient, spine, &mut shapes);
    for number in (L5..=C2).rev() {
        vertebra(canvas, patient, &spine.levels[number], number);
    }
}

fn soft_tissue(canvas: &mut Canvas, patient: &Patient, trunk: &Trunk, pose: &mut Dice) {
    let k = patient.size;
    let g = patient.girth;
    let crotch = 135.0 * k;
    let gap = pose.between(4.0, 40.0) * k;
    canvas.everywhere(|p, value| {
        let half = trunk.half_width.at(p.1);
        let depth = trunk.depth.at(p.1);
        let x = p.0 - trunk.middle.at(p.1);
        let mut through = depth * body(x / half);
        if p.1 > crotch {
            // Two thighs instead of one trunk.
            let leg = (half - gap * rise(crotch, crotch + 60.0 * k, p.1)) / 2.0;
            let legs = depth * 0.95 * body((p.0.abs() - (half - leg)) / leg);
            through += (legs - through) * rise(crotch, crotch + 25.0 * k, p.1);
        }
        value + through * TISSUE
    });
    // Arms: hanging at the sides, a little away from the trunk. Where arm and trunk overlap they are one body.
    let spread = pose.between(0.02, 0.3);
    let top = trunk.chest.start() + 30.0 * k * g.sqrt();
    let lean = trunk.middle.at(top + 30.0 * k);
    let mut arms = Canvas::new(canvas.columns, canvas.rows, canvas.frame);
    let joints = |side: f32| {
        let shoulder = P(lean + side * 163.0 * k * g.sqrt(), top + 36.0 * k);
        let elbow = shoulder.plus(side * 285.0 * k * spread.sin(), 285.0 * k * spread.cos());
        (shoulder, elbow, elbow.plus(side * 36.0 * k, 230.0 * k))
    };
    for side in [-1.0, 1.0] {
        let (shoulder, elbow, wrist) = joints(side);
        let line = smooth(
            &[
                shoulder.plus(side * 4.0 * k, 2.0 * k),
                shoulder.toward(elbow, 0.5).plus(side * 3.0, 0.0),
                elbow,
                elbow.toward(wrist, 0.4),
                wrist,
            ],
            8,
            false,
        );
        arms.tube(
            &line,
            Tube {
                radius: (41.0 * k * g, 27.0 * k * g),
                wall: 0.0,
                mu: (TISSUE, TISSUE),
            },
        );
    }
    for (value, arm) in canvas.data.iter_mut().zip(&arms.data) {
        if *arm > 0.0 {
            *value = (value.powi(3) + arm.powi(3)).cbrt();
        }
    }
    let m = patient.mineral;
    for side in [-1.0, 1.0] {
        let (shoulder, elbow, wrist) = joints(side);
        let bone = |start: f32, end: f32| Tube {
            radius: (start * k, end * k),
            wall: 3.2 * k,
            mu: (0.040 * m, 0.006),
        };
        canvas.tube(
            &[shoulder.plus(0.0, 8.0 * k), elbow.plus(0.0, -4.0 * k)],
            bone(12.0, 10.5),
        );
        canvas.blob(
            elbow.plus(0.0, -3.0 * k),
            0.0,
            (22.0 * k, 9.0 * k),
            0.26 * m,
        );
        canvas.tube(
            &[
                elbow.plus(9.0 * side * k, 8.0 * k),
                wrist.plus(9.0 * side * k, 0.0),
            ],
            bone(8.5, 7.0),
        );
        canvas.tube(
            &[
                elbow.plus(-8.0 * side * k, 2.0),
                wrist.plus(-7.0 * side * k, 0.0),
            ],
            bone(9.5, 6.0),
        );
        canvas.ellipsoid(
            shoulder.plus(-side * 5.0 * k, -2.0 * k),
            0.0,
            (24.0 * k, 25.0 * k),
            46.0 * k,
            0.008 * m,
        );
        canvas.ellipsoid(
            shoulder.plus(side * 13.0 * k, 4.0 * k),
            0.3 * side,
            (10.0 * k, 16.0 * k),
            20.0 * k,
            0.008 * m,
        );
    }
}

/// Depth of a trunk at `u` half widths from its middle, as a share of the depth in the middle.
fn body(u: f32) -> f32 {
    let q = 1.0 - u.abs().powf(2.6);
    if q > 0.0 { q.powf(0.42) } else { 0.0 }
}

fn lungs(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    trunk: &Trunk,
    shapes: &mut Dice,
    pose: &mut Dice,
) {
    let k = patient.size;
    let top = spine.top().1;
    let apex = top - 4.0 * k;
    // A deep breath puts the right dome at T10; the left one lies a little lower.
    let breath = pose.normal(0.0, 9.0) * k;
    let dome = spine.levels[T12 + 2].centre.1 - 14.0 * k + breath;
    let depth = 158.0 * k * patient.girth;
    let inner = Profile::new(&[
        (apex, 20.0 * k),
        (apex + 70.0 * k, 23.0 * k),
        (dome, 20.0 * k),
        (dome + 90.0 * k, 24.0 * k),
    ]);
    // Air is collected apart from the trunk, so that the heart can take back air but no more than there is.
    let mut air = Canvas::new(canvas.columns, canvas.rows, canvas.frame);
    // Anatomical left lies at the image's right.
    for (side, lower) in [(-1.0f32, 0.0), (1.0, 9.0 * k)] {
        air.everywhere(|p, value| {
            if p.1 < apex || p.1 > dome + 75.0 * k {
                return value;
            }
            let x = (p.0 - trunk.middle.at(p.1)) * side;
            let from_apex = (p.1 - apex) / (46.0 * k);
            let wall = trunk.chest.at(p.1) * (0.62 + 0.38 * round_edge(from_apex));
            let (from_wall, from_inner) = (wall - x, x - inner.at(p.1));
            if from_wall <= 0.0 || from_inner <= 0.0 {
                return value;
            }
            // The dome: highest a little medial of the middle, down to the costophrenic angle at the wall.
            let u = from_inner / (from_inner + from_wall);
            let floor = dome
                + lower
                + 62.0 * k * (u - 0.38).max(0.0).powi(2) * 2.6
                + 26.0 * k * (0.38 - u).max(0.0).powi(2);
            let above = floor - p.1;
            // In front the dome is higher than behind: the lung thins out towards it, then stops.
            let base = 0.40 * round_edge(above / (2.5 * k)) + 0.60 * rise(0.0, 58.0 * k, above);
            let shape = round_edge(from_wall / (34.0 * k))
                * (0.45 + 0.55 * round_edge(from_inner / (30.0 * k)))
                * round_edge(from_inner / (5.0 * k));
            value + depth * shape * base * round_edge(from_apex * 0.8) * AIR
        });
    }
    // Heart: two thirds to the patient's left, resting on the diaphragm; great vessels above it.
    let axis = trunk.middle.at(dome - 45.0 * k);
    let back = -AIR * 0.82;
    air.ellipsoid(
        P(axis + 22.0 * k, dome - 30.0 * k),
        0.6,
        (68.0 * k, 50.0 * k),
        165.0 * k,
        back,
    );
    air.ellipsoid(
        P(axis - 10.0 * k, dome - 46.0 * k),
        1.3,
        (50.0 * k, 35.0 * k),
        140.0 * k,
        back,
    );
    air.ellipsoid(
        P(axis + 20.0 * k, apex + 68.0 * k),
        0.2,
        (19.0 * k, 17.0 * k),
        90.0 * k,
        back,
    );
    air.ellipsoid(
        P(axis, apex + 85.0 * k),
        1.57,
        (84.0 * k, 27.0 * k),
        110.0 * k,
        back,
    );
    vessels(&mut air, patient, spine, dome, shapes);
    for (value, air) in canvas.data.iter_mut().zip(&air.data) {
        *value = (*value + air.min(0.0)).max(0.0);
    }
    // Windpipe, dividing at T5.
    let carina = P(
        spine.levels[12].centre.0 * 0.6 + 2.0 * k,
        spine.levels[12].centre.1,
    );
    let throat = spine.levels[C7 + 2].centre;
    let windpipe = smooth(&[throat, spine.top().plus(2.0 * k, 0.0), carina], 8, false);
    let tube = |r: f32, mu: f32| Tube {
        radius: (r * k, r * k),
        wall: 0.0,
        mu: (mu, mu),
    };
    canvas.tube(&windpipe, tube(8.0, -0.015));
    canvas.tube(
        &[carina, carina.plus(-30.0 * k, 28.0 * k)],
        tube(5.5, -0.010),
    );
    canvas.tube(
        &[carina, carina.plus(36.0 * k, 24.0 * k)],
        tube(5.0, -0.010),
    );
}

/// Vessels that fan out from both hila and get thinner.
fn vessels(canvas: &mut Canvas, patient: &Patient, spine: &Spine, dome: f32, shapes: &mut Dice) {
    let k = patient.size;
    for side in [-1.0f32, 1.0] {
        let hilum = P(
            side * 30.0 * k + spine.levels[11].centre.0 * 0.4,
            spine.levels[11].centre.1 + 4.0 * k,
        );
        canvas.blob(
            hilum.plus(side * 4.0 * k, 6.0 * k),
            0.3 * side,
            (12.0 * k, 22.0 * k),
            0.22,
        );
        for _ in 0..26 {
            let mut direction = shapes.between(-1.35, 1.5);
            let mut p = hilum.plus(0.0, shapes.between(-12.0, 18.0) * k);
            let mut line = vec![p];
            let mut reach = 0.0;
            let length = shapes.between(35.0, 92.0) * k;
            while reach < length {
                direction += shapes.normal(0.0, 0.16);
                p = p.plus(side * direction.cos() * 7.0 * k, direction.sin() * 7.0 * k);
                reach += 7.0 * k;
                if p.1 < dome - 4.0 * k {
                    line.push(p);
                }
            }
            if line.len() > 1 {
                let start = shapes.between(1.4, 3.6) * k;
                canvas.tube(
                    &line,
                    Tube {
                        radius: (start, 0.5 * k),
                        wall: 0.0,
                        mu: (0.016, 0.016),
                    },
                );
            }
        }
    }
}

/// Gas in stomach and bowel, and the stools between.
fn bowel(canvas: &mut Canvas, patient: &Patient, pose: &mut Dice) {
    let k = patient.size;
    if pose.chance(0.75) {
        let centre = P(
            pose.between(48.0, 72.0) * k,
            pose.between(-215.0, -190.0) * k,
        );
        canvas.ellipsoid(
            centre,
            pose.between(-0.4, 0.4),
            (pose.between(20.0, 38.0) * k, pose.between(12.0, 24.0) * k),
            44.0 * k,
            -0.013,
        );
    }
    let loops = pose.whole(8, 30);
    for _ in 0..loops {
        // Colon as a frame around the small bowel.
        let around = pose.between(0.0, 2.0 * PI);
        let out = if pose.chance(0.65) {
            pose.between(0.75, 1.0)
        } else {
            pose.between(0.0, 0.7)
        };
        let centre = P(
            around.cos() * out * 98.0 * k,
            -55.0 * k + around.sin() * out * 88.0 * k,
        );
        let r = pose.between(5.0, 17.0) * k;
        let angle = pose.between(0.0, PI);
        canvas.ellipsoid(
            centre,
            angle,
            (r * pose.between(1.0, 1.9), r),
            r * 1.7,
            -0.012,
        );
        for _ in 0..3 {
            let at = centre.plus(pose.normal(0.0, 14.0) * k, pose.normal(0.0, 12.0) * k);
            let r = pose.between(2.5, 7.0) * k;
            canvas.ellipsoid(at, 0.0, (r, r * 0.9), r * 2.0, -0.012);
        }
    }
    // Liver, spleen, psoas.
    canvas.blob(P(-68.0 * k, -165.0 * k), 0.2, (70.0 * k, 58.0 * k), 0.22);
    canvas.blob(P(92.0 * k, -172.0 * k), 0.5, (30.0 * k, 44.0 * k), 0.14);
    for side in [-1.0, 1.0] {
        canvas.blob(
            P(side * 42.0 * k, -55.0 * k),
            -side * 0.32,
            (19.0 * k, 80.0 * k),
            0.16,
        );
    }
}
