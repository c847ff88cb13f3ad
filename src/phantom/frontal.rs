//! The frontal view: trunk, lungs, ribs, spine, shoulder girdle, pelvis and skull base, seen from the front.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, L5, Patient, Spine, T1, T12, Vertebra};
use super::canvas::{Canvas, P, Profile, Tube, ridge, rise, round_edge, smooth, table};
use super::dice::Dice;

/// Attenuation of soft tissue, and how much less an inflated lung has, nepers a millimetre.
pub(super) const TISSUE: f32 = 0.0185;
pub(super) const AIR: f32 = -0.0115;

/// The trunk's shape at each height above (negative) or below the sacrum's top.
struct Trunk {
    middle: Profile,
    half_width: Profile,
    /// Front to back.
    depth: Profile,
    /// The chest's inner half width.
    chest: Profile,
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
        let half_width = [
            (top - 210.0 * k * patient.head, 60.0 * k * patient.head),
            (top - 120.0 * k, 64.0 * k * patient.head.sqrt()),
            (top - 72.0 * k, 54.0 * k * g),
            (top - 42.0 * k, 62.0 * k * g),
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

fn ribs(canvas: &mut Canvas, patient: &Patient, spine: &Spine, trunk: &Trunk, shapes: &mut Dice) {
    let k = patient.size;
    for number in 0..12 {
        let level = spine.levels[T1 - number];
        let n = number as f32;
        let wobble = shapes.normal(1.0, 0.03);
        for side in [-1.0f32, 1.0] {
            // A turned vertebra pushes the ribs of its convex side back and spreads them.
            let hump = 1.0 + 0.10 * side * level.twist;
            let drop = table(
                &[
                    (0.0, 28.0),
                    (3.0, 78.0),
                    (7.0, 118.0),
                    (9.0, 128.0),
                    (11.0, 60.0),
                ],
                n,
            ) * k
                * wobble;
            let end = table(
                &[
                    (0.0, 2.55),
                    (6.0, 2.5),
                    (8.0, 2.2),
                    (9.0, 1.95),
                    (10.0, 1.25),
                    (11.0, 0.85),
                ],
                n,
            );
            let start = level.centre.step(
                level.angle,
                side * level.half_width * 0.9,
                -level.half_height * 0.6,
            );
            let lateral_height = level.centre.1 + drop * 0.42;
            let chest = trunk.chest.at(lateral_height) + 4.0 * k;
            let skin = trunk.half_width.at(lateral_height) - 11.0 * k;
            let reach = (chest * if number == 0 { 0.72 } else { 1.0 } * hump).min(skin);
            let middle = trunk.middle.at(lateral_height);
            let line: Vec<P> = (0..=26)
                .map(|step| {
                    let phi = end * step as f32 / 26.0;
                    let x = phi.sin().max(0.0).powf(0.8);
                    let from_spine = start.0 + (middle + side * reach - start.0) * x;
                    let rise_first = -7.0 * k * (2.2 * phi).sin().max(0.0) * (1.0 - phi / PI);
                    let tilt = level.angle * (from_spine - level.centre.0) * 0.55;
                    P(
                        from_spine,
                        start.1 + drop * (1.0 - phi.cos()) / 2.0 + rise_first + tilt,
                    )
                })
                .collect();
            let radius = table(&[(0.0, 6.4), (2.0, 5.6), (8.0, 5.8), (11.0, 4.2)], n) * k;
            canvas.tube(
                &line,
                Tube {
                    radius: (radius, radius * 0.92),
                    wall: 1.25 * k,
                    mu: (0.027 * patient.mineral, 0.0085),
                },
            );
        }
    }
}

/// One vertebra: body with endplates, pedicles, transverse and spinous processes.
fn vertebra(canvas: &mut Canvas, patient: &Patient, v: &Vertebra, number: usize) {
    let pixel = canvas.pixel();
    let (w, h) = (v.half_width, v.half_height);
    let m = patient.mineral * if number > T1 { 0.8 } else { 1.0 };
    let depth = v.half_depth * 2.0;
    let line = 1.0 * patient.size.sqrt();
    canvas.patch(v.centre, v.angle, (w * 1.12, h * 1.15), |x, y| {
        let (a, b) = (x / w, y / h);
        // Waisted body: narrower at half height, with rounded corners.
        let side = w * (0.92 + 0.08 * b * b) - x.abs();
        let end = h * (0.97 - 0.06 * (1.0 - a * a)) - y.abs();
        let corner = (side.min(end)).min((side + end) * 0.62 - 0.7);
        let inside = rise(-pixel * 0.5 - 0.3, pixel * 0.5 + 0.3, corner);
        let cancellous = depth * (1.0 - 0.55 * a * a).max(0.0).sqrt() * 0.0092;
        let shell = 0.12 * ridge(side - 0.8, line * 1.6, pixel)
            + 0.20 * ridge(end - 0.7, line * 1.7, pixel);
        inside * m * (cancellous + shell)
    });
    let shift = v.twist * w * 0.34;
    // Pedicles: the vertebra's eyes.
    if number < C7 + 2 {
        let (pw, ph) = if number < T12 {
            (w * 0.19, h * 0.50)
        } else {
            (w * 0.18, h * 0.46)
        };
        for side in [-1.0f32, 1.0] {
            let out = w * if number < T12 { 0.62 } else { 0.60 };
            let narrow = 1.0 - 0.45 * (side * v.twist).max(0.0);
            let centre = v.centre.step(v.angle, side * out + shift, -h * 0.22);
            let pw = pw * narrow;
            canvas.patch(centre, v.angle, (pw * 1.5, ph * 1.3), |x, y| {
                let r = ((x / pw).powi(2) + (y / ph).powi(2)).sqrt();
                m * (0.19 * ridge((r - 0.9) * pw.min(ph), line * 1.5, pixel)
                    + 0.05 * rise(1.0, 0.7, r))
            });
        }
    }
    let process = |start: f32, end: f32| Tube {
        radius: (start, end),
        wall: 0.9,
        mu: (0.024 * m, 0.009 * m),
    };
    // Transverse processes: long in the lumbar spine, hidden by the ribs above.
    let out = if number < T12 { 0.85 } else { 0.45 };
    for side in [-1.0f32, 1.0] {
        let root = v
            .centre
            .step(v.angle, side * w * 0.8 + shift * 0.5, -h * 0.25);
        let tip = root.step(
            v.angle,
            side * w * out,
            -h * if number < T12 { 0.15 } else { 0.35 },
        );
        canvas.tube(&[root, tip], process(h * 0.24, h * 0.17));
    }
    // Laminae, the facets' overlap across the disc, and the spinous process seen end on.
    for side in [-1.0f32, 1.0] {
        let lamina = v
            .centre
            .step(v.angle, side * w * 0.34 + shift * 1.3, h * 0.42);
        canvas.blob(
            lamina,
            v.angle + side * 0.75,
            (w * 0.40, h * 0.22),
            0.17 * m,
        );
        let facet = v.centre.step(v.angle, side * w * 0.50 + shift, h * 1.08);
        canvas.tube(
            &[
                facet.step(v.angle, -side * w * 0.04, -h * 0.34),
                facet.step(v.angle, side * w * 0.03, h * 0.34),
            ],
            process(w * 0.15, w * 0.13),
        );
    }
    let low = if number < T12 { 0.85 } else { 1.1 };
    let tip = v.centre.step(v.angle, shift * 1.9, h * low);
    canvas.tube(
        &[tip.step(v.angle, -shift * 0.2, -h * 0.75), tip],
        process(h * 0.13, h * 0.22),
    );
}

fn pelvis(canvas: &mut Canvas, patient: &Patient, shapes: &mut Dice) {
    let k = patient.size * shapes.normal(1.0, 0.03);
    let m = patient.mineral;
    for side in [-1.0f32, 1.0] {
        let at = |x: f32, y: f32| P(side * x * k, y * k);
        // Iliac wing.
        let wing = smooth(
            &[
                at(38.0, -8.0),
                at(60.0, -34.0),
                at(92.0, -43.0),
                at(120.0, -28.0),
                at(134.0, 2.0),
                at(130.0, 30.0),
                at(118.0, 52.0),
                at(112.0, 76.0),
                at(96.0, 78.0),
                at(76.0, 70.0),
                at(60.0, 58.0),
                at(46.0, 36.0),
            ],
            4,
            true,
        );
        canvas.plate(&wing, 0.23 * m, 0.22 * m, 2.4);
        // Ischium and pubis: a ring around the obturator foramen.
        let bone = |r0: f32, r1: f32| Tube {
            radius: (r0 * k, r1 * k),
            wall: 2.0 * k,
            mu: (0.020 * m, 0.006 * m),
        };
        let pubis = smooth(
            &[
                at(84.0, 74.0),
                at(52.0, 84.0),
                at(24.0, 92.0),
                at(7.0, 101.0),
            ],
            5,
            false,
        );
        canvas.tube(&pubis, bone(15.0, 9.0));
        let lower = smooth(
            &[
                at(8.0, 108.0),
                at(24.0, 128.0),
                at(44.0, 142.0),
                at(60.0, 136.0),
                at(72.0, 112.0),
                at(84.0, 92.0),
            ],
            5,
            false,
        );
        canvas.tube(&lower, bone(8.0, 16.0));
        // Brim of the true pelvis.
        let brim = smooth(
            &[
                at(40.0, 20.0),
                at(56.0, 48.0),
                at(62.0, 70.0),
                at(46.0, 84.0),
                at(14.0, 94.0),
            ],
            6,
            false,
        );
        canvas.tube(
            &brim,
            Tube {
                radius: (1.6 * k, 1.4 * k),
                wall: 0.0,
                mu: (0.06 * m, 0.06 * m),
            },
        );
        // Hip: head, socket, neck, greater trochanter, shaft.
        let head = at(90.0, 92.0);
        canvas.ellipsoid(head, 0.0, (23.0 * k, 23.0 * k), 46.0 * k, 0.0065 * m);
        let ring: Vec<P> = (0..=20)
            .map(|i| {
                head.step(0.0, 0.0, 0.0).plus(
                    25.5 * k * (PI + PI * i as f32 / 20.0).cos(),
                    25.5 * k * (PI + PI * i as f32 / 20.0).sin(),
                )
            })
            .collect();
        canvas.tube(
            &ring,
            Tube {
                radius: (1.7 * k, 1.7 * k),
                wall: 0.0,
                mu: (0.055 * m, 0.055 * m),
            },
        );
        canvas.tube(&[head, at(122.0, 122.0)], bone(17.0, 18.0));
        canvas.blob(at(134.0, 118.0), 0.6, (14.0 * k, 20.0 * k), 0.24 * m);
        let shaft = Tube {
            radius: (19.0 * k, 14.5 * k),
            wall: 4.5 * k,
            mu: (0.032 * m, 0.008 * m),
        };
        canvas.tube(
            &smooth(
                &[at(124.0, 124.0), at(122.0, 170.0), at(116.0, 300.0)],
                6,
                false,
            ),
            shaft,
        );
        // Sacroiliac joint: two bright lines with a dark one between.
        let joint = smooth(&[at(44.0, 2.0), at(49.0, 22.0), at(42.0, 46.0)], 6, false);
        canvas.tube(
            &joint,
            Tube {
                radius: (1.3 * k, 1.3 * k),
                wall: 0.0,
                mu: (-0.06, -0.06),
            },
        );
        let lip: Vec<P> = joint.iter().map(|p| p.plus(side * 3.0 * k, 0.0)).collect();
        canvas.tube(
            &lip,
            Tube {
                radius: (1.2 * k, 1.2 * k),
                wall: 0.0,
                mu: (0.07 * m, 0.07 * m),
            },
        );
    }
    let s = |x: f32, y: f32| P(x * k, y * k);
    let sacrum = smooth(
        &[
            s(-26.0, 2.0),
            s(0.0, 5.0),
            s(26.0, 2.0),
            s(50.0, 10.0),
            s(44.0, 44.0),
            s(26.0, 74.0),
            s(8.0, 96.0),
            s(-8.0, 96.0),
            s(-26.0, 74.0),
            s(-44.0, 44.0),
            s(-50.0, 10.0),
        ],
        4,
        true,
    );
    canvas.plate(&sacrum, 0.27 * m, 0.10 * m, 2.5);
    for (row, y) in [22.0, 40.0, 56.0, 70.0].into_iter().enumerate() {
        for side in [-1.0, 1.0] {
            let x = side * (23.0 - 3.4 * row as f32);
            canvas.blob(s(x, y), 0.0, (5.6 * k, 4.4 * k), -0.16);
            canvas.blob(s(x, y - 6.5), side * 0.3, (7.5 * k, 1.6 * k), 0.16 * m);
        }
        canvas.blob(s(0.0, y), 0.0, (3.0 * k, 6.0 * k), 0.13 * m);
    }
    canvas.tube(
        &smooth(&[s(0.0, 95.0), s(0.0, 108.0), s(1.0, 116.0)], 4, false),
        Tube {
            radius: (5.0 * k, 2.5 * k),
            wall: 1.0,
            mu: (0.02 * m, 0.01 * m),
        },
    );
}

fn shoulders(canvas: &mut Canvas, patient: &Patient, spine: &Spine, pose: &mut Dice) {
    let k = patient.size;
    let m = patient.mineral;
    let top = spine.top();
    let wide = patient.girth.sqrt();
    for side in [-1.0f32, 1.0] {
        let lift = pose.normal(0.0, 4.0) * k;
        let at = |x: f32, y: f32| P(top.0 + side * x * k * wide, top.1 + y * k + lift);
        let clavicle = smooth(
            &[
                at(16.0, 44.0),
                at(48.0, 34.0),
                at(88.0, 24.0),
                at(122.0, 8.0),
                at(150.0, 10.0),
            ],
            6,
            false,
        );
        canvas.tube(
            &clavicle,
            Tube {
                radius: (8.0 * k, 6.2 * k),
                wall: 2.0 * k,
                mu: (0.030 * m, 0.010 * m),
            },
        );
        let blade = smooth(
            &[
                at(82.0, 34.0),
                at(110.0, 22.0),
                at(136.0, 26.0),
                at(146.0, 42.0),
                at(138.0, 62.0),
                at(122.0, 100.0),
                at(108.0, 142.0),
                at(98.0, 152.0),
                at(90.0, 128.0),
                at(82.0, 80.0),
            ],
            4,
            true,
        );
        canvas.plate(&blade, 0.055 * m, 0.17 * m, 2.6);
        // Acromion, coracoid, spine of the scapula, socket.
        canvas.tube(
            &smooth(&[at(86.0, 48.0), at(122.0, 26.0), at(158.0, 8.0)], 5, false),
            Tube {
                radius: (4.0 * k, 8.0 * k),
                wall: 1.5 * k,
                mu: (0.022 * m, 0.009 * m),
            },
        );
        canvas.tube(
            &[at(126.0, 36.0), at(140.0, 30.0)],
            Tube {
                radius: (6.0 * k, 6.0 * k),
                wall: 1.6 * k,
                mu: (0.03 * m, 0.012 * m),
            },
        );
    }
    // Sternum's handle: faint over the spine.
    canvas.blob(
        P(top.0, top.1 + 62.0 * k),
        0.0,
        (20.0 * k, 22.0 * k),
        0.10 * m,
    );
}

fn skull(canvas: &mut Canvas, patient: &Patient, spine: &Spine, shapes: &mut Dice) {
    let k = patient.size * patient.head;
    let m = patient.mineral;
    let base = spine.levels[C2]
        .centre
        .plus(0.0, -spine.levels[C2].half_height);
    // The chin is held up or down a little, which moves the jaw against the skull.
    let chin = shapes.normal(0.0, 5.0);
    let at = |x: f32, y: f32| P(base.0 + x * k, base.1 + y * k);
    // Braincase: a thick shell. The trunk's tissue already stands for what is inside.
    canvas.ellipsoid(at(0.0, -66.0), 0.0, (74.0 * k, 92.0 * k), 160.0 * k, 0.003);
    let shell: Vec<P> = (0..=60)
        .map(|i| {
            let a = 2.0 * PI * i as f32 / 60.0;
            at(
                72.0 * a.cos(),
                -66.0 + 88.0 * a.sin() * if a.sin() > 0.0 { 0.72 } else { 1.0 },
            )
        })
        .collect();
    canvas.tube(
        &shell,
        Tube {
            radius: (4.0 * k, 4.0 * k),
            wall: 0.0,
            mu: (0.045 * m, 0.045 * m),
        },
    );
    canvas.blob(at(0.0, -8.0), 0.0, (50.0 * k, 13.0 * k), 0.34 * m);
    for side in [-1.0, 1.0] {
        canvas.blob(
            at(side * 44.0, -16.0),
            side * 0.6,
            (20.0 * k, 13.0 * k),
            0.36 * m,
        );
        canvas.blob(at(side * 22.0, -36.0), 0.0, (15.0 * k, 12.0 * k), -0.24);
        canvas.blob(at(side * 32.0, -64.0), 0.0, (16.0 * k, 13.0 * k), -0.20);
        canvas.blob(at(side * 9.0, -42.0), 0.0, (5.0 * k, 16.0 * k), -0.16);
    }
    // Lower jaw and teeth.
    let jaw = smooth(
        &[
            at(-50.0, -28.0),
            at(-49.0, 8.0),
            at(-39.0, 30.0 + chin),
            at(-18.0, 46.0 + chin),
            at(0.0, 49.0 + chin),
            at(18.0, 46.0 + chin),
            at(39.0, 30.0 + chin),
            at(49.0, 8.0),
            at(50.0, -28.0),
        ],
        5,
        false,
    );
    canvas.tube(
        &jaw,
        Tube {
            radius: (10.0 * k, 10.0 * k),
            wall: 2.4 * k,
            mu: (0.026 * m, 0.010 * m),
        },
    );
    for (row, drop) in [(13.0, 0.004), (25.0 + chin, 0.012)] {
        for i in 0..10 {
            let x = (i as f32 - 4.5) * 5.6 + shapes.normal(0.0, 0.5);
            let tooth = at(x, row - x * x * drop + shapes.normal(0.0, 0.8));
            let width = shapes.between(2.2, 3.2);
            canvas.ellipsoid(
                tooth,
                x * 0.008,
                (width * k, shapes.between(6.0, 7.6) * k),
                8.0 * k,
                0.042 * m,
            );
        }
    }
    canvas.blob(at(0.0, 19.0), 0.0, (30.0 * k, 16.0 * k), 0.10 * m);
}
