//! The lateral view: the same patient seen from the side, arms raised forward, the front towards +x before mirroring.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, L5, Patient, Spine, T1, T12, Vertebra};
use super::canvas::{Canvas, P, Profile, Tube, ridge, rise, round_edge, smooth, table};
use super::dice::Dice;
use super::frontal::{AIR, TISSUE};

/// The skin's contour: back and front of the trunk at each height, and the trunk's width (the beam's way).
pub(super) struct Contour {
    back: Profile,
    front: Profile,
    width: Profile,
}

impl Contour {
    pub(super) fn new(patient: &Patient, spine: &Spine) -> Self {
        let k = patient.size;
        let g = patient.girth;
        let top = spine.top();
        let level = |n: usize| spine.levels[n].centre;
        let depth = |mm: f32| mm * k * g;
        let head = patient.head;
        let behind = |n: usize, mm: f32| (level(n).1, level(n).0 - mm * k * g.sqrt());
        let back = [
            (top.1 - 215.0 * k * head, level(C2).0 - 92.0 * k * head),
            (level(C2).1 - 6.0 * k, level(C2).0 - 64.0 * k * head.sqrt()),
            behind(C2 - 2, 52.0),
            behind(C7, 60.0),
            behind(T1 - 4, 68.0),
            behind(T1 - 7, 67.0),
            behind(T12, 67.0),
            behind(2, 76.0),
            (8.0 * k, -88.0 * k * g.sqrt()),
            (70.0 * k, -116.0 * k * g),
            (115.0 * k, -112.0 * k * g),
            (165.0 * k, -84.0 * k * g),
            (260.0 * k, -76.0 * k * g),
        ];
        let chest = level(T1 - 6).0;
        let front = [
            (top.1 - 215.0 * k * head, level(C2).0 + 96.0 * k * head),
            (level(C2).1 + 8.0 * k, level(C2).0 + 88.0 * k * head),
            (level(C2 - 2).1 + 14.0 * k, level(C2 - 2).0 + depth(52.0)),
            (level(C7).1 + 8.0 * k, level(C7).0 + depth(50.0)),
            (top.1 + 40.0 * k, top.0 + depth(84.0)),
            (top.1 + 120.0 * k, chest + depth(136.0)),
            (-205.0 * k, chest + depth(146.0)),
            (-110.0 * k, chest * 0.4 + depth(128.0)),
            (-30.0 * k, depth(120.0)),
            (60.0 * k, depth(102.0)),
            (140.0 * k, depth(88.0)),
            (260.0 * k, depth(80.0)),
        ];
        let width = [
            (top.1 - 120.0 * k, 140.0 * k * head),
            (top.1 - 50.0 * k, 116.0 * k * g),
            (top.1 - 5.0 * k, 200.0 * k * g),
            (top.1 + 40.0 * k, 262.0 * k * g),
            (top.1 + 95.0 * k, 280.0 * k * g),
            (-150.0 * k, 272.0 * k * g),
            (-60.0 * k, 250.0 * k * g),
            (70.0 * k, 308.0 * k * g),
            (200.0 * k, 262.0 * k * g),
        ];
        Self {
            back: Profile::new(&back),
            front: Profile::new(&front),
            width: Profile::new(&width),
        }
    }

    /// Back and front of the skin at height `y`.
    pub(super) fn at(&self, y: f32) -> (f32, f32) {
        (self.back.at(y), self.front.at(y))
    }
}

/// Paints everything that belongs to the patient.
pub(super) fn paint(canvas: &mut Canvas, patient: &Patient, spine: &Spine, pose: &mut Dice) {
    let mut shapes = Dice::new(patient.shapes, "lateral", 0);
    let contour = Contour::new(patient, spine);
    canvas.everywhere(|p, value| {
        let (back, front) = contour.at(p.1);
        let u = (2.0 * p.0 - front - back) / (front - back);
        let q = 1.0 - u.abs().powf(2.4);
        if q > 0.0 {
            value + contour.width.at(p.1) * q.sqrt() * TISSUE * 0.84
        } else {
            value
        }
    });
    if patient.female && patient.age > 11.5 {
        let y = spine.levels[T1 - 7].centre.1;
        let front = contour.at(y).1;
        let k = patient.size;
        canvas.ellipsoid(
            P(front - 12.0 * k, y),
            0.3,
            (34.0 * k, 46.0 * k),
            80.0 * k,
            TISSUE * 0.7,
        );
    }
    arms(canvas, patient, spine, pose);
    lungs(canvas, patient, spine, &contour, &mut shapes, pose);
    bowel(canvas, patient, pose);
    ribs(canvas, patient, spine, &contour, &mut shapes);
    pelvis(canvas, patient, spine, &mut shapes, pose);
    skull(canvas, patient, spine, &mut shapes);
    for number in (L5..=C2).rev() {
        vertebra(canvas, patient, &spine.levels[number], number);
    }
}

fn arms(canvas: &mut Canvas, patient: &Patient, spine: &Spine, pose: &mut Dice) {
    let k = patient.size;
    let g = patient.girth;
    let m = patient.mineral;
    let top = spine.top();
    // Fists on the collar bones, or arms held out to a bar.
    let fists = pose.chance(0.6);
    let forward = if fists {
        pose.between(0.5, 1.0)
    } else {
        pose.between(-0.2, 0.5)
    };
    for side in [-1.0f32, 1.0] {
        let shoulder = top.plus(
            (10.0 + side * pose.between(2.0, 12.0)) * k,
            (36.0 + side * 4.0) * k,
        );
        let angle = forward + side * pose.between(0.0, 0.12);
        let elbow = shoulder.step(angle, 270.0 * k, 0.0);
        let wrist = if fists {
            elbow.plus(-70.0 * k, -215.0 * k)
        } else {
            elbow.step(angle - 0.15, 230.0 * k, 0.0)
        };
        let mut arm = Canvas::new(canvas.columns, canvas.rows, canvas.frame);
        let line = smooth(
            &[
                shoulder,
                shoulder.toward(elbow, 0.5),
                elbow,
                elbow.toward(wrist, 0.4),
                wrist,
            ],
            8,
            false,
        );
        arm.tube(
            &line,
            Tube {
                radius: (37.0 * k * g, 26.0 * k * g),
                wall: 0.0,
                mu: (TISSUE * 0.8, TISSUE * 0.8),
            },
        );
        // Arm and shoulder are one body where they meet, two farther out.
        for (value, arm) in canvas.data.iter_mut().zip(&arm.data) {
            if *arm > 0.0 {
                *value = (value.powi(2) + arm.powi(2)).sqrt() * 0.75 + (*value + arm) * 0.25;
            }
        }
        let bone = |r0: f32, r1: f32| Tube {
            radius: (r0 * k, r1 * k),
            wall: 3.0 * k,
            mu: (0.034 * m, 0.005),
        };
        canvas.tube(&[shoulder, elbow], bone(12.0, 10.5));
        canvas.blob(elbow, angle, (14.0 * k, 16.0 * k), 0.22 * m);
        canvas.tube(
            &[elbow.plus(0.0, 6.0), wrist.plus(0.0, 8.0)],
            bone(8.0, 6.5),
        );
        canvas.tube(
            &[elbow.plus(0.0, -4.0), wrist.plus(0.0, -6.0)],
            bone(8.0, 6.0),
        );
        canvas.ellipsoid(shoulder, 0.0, (23.0 * k, 24.0 * k), 44.0 * k, 0.0065 * m);
        // Scapula, edge on.
        let blade = smooth(
            &[
                shoulder.plus(-18.0 * k, 4.0 * k),
                shoulder.plus(-50.0 * k, 50.0 * k),
                shoulder.plus(-48.0 * k, 118.0 * k),
            ],
            6,
            false,
        );
        canvas.tube(
            &blade,
            Tube {
                radius: (7.0 * k, 3.5 * k),
                wall: 1.5 * k,
                mu: (0.014 * m, 0.005 * m),
            },
        );
    }
}

fn lungs(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    contour: &Contour,
    shapes: &mut Dice,
    pose: &mut Dice,
) {
    let k = patient.size;
    let top = spine.top();
    let breath = pose.normal(0.0, 9.0) * k;
    let dome = spine.levels[T12 + 2].centre.1 - 8.0 * k + breath;
    let apex = top.1 - 2.0 * k;
    let width = 96.0 * k * patient.girth;
    let mut air = Canvas::new(canvas.columns, canvas.rows, canvas.frame);
    for lower in [0.0, 10.0 * k] {
        air.everywhere(|p, value| {
            if p.1 < apex || p.1 > dome + 120.0 * k {
                return value;
            }
            let (skin_back, skin_front) = contour.at(p.1);
            let from_apex = (p.1 - apex) / (80.0 * k);
            // The apex is narrow and lies at the back.
            let back = skin_back + 24.0 * k + 14.0 * k * (1.0 - round_edge(from_apex * 2.0));
            let front =
                back + (skin_front - 18.0 * k - back) * (0.30 + 0.70 * round_edge(from_apex * 0.8));
            let (from_back, from_front) = (p.0 - back, front - p.0);
            if from_back <= 0.0 || from_front <= 0.0 {
                return value;
            }
            let u = from_back / (front - back);
            // The diaphragm: high in front, deep behind.
            let floor = dome
                + lower
                + 92.0 * k * (0.62 - u).max(0.0).powi(2) * 2.4
                + 26.0 * k * (u - 0.62).max(0.0).powi(2) * 4.0;
            let above = floor - p.1;
            let base = 0.42 * round_edge(above / (2.5 * k)) + 0.58 * rise(0.0, 55.0 * k, above);
            let shape = round_edge(from_back / (42.0 * k))
                * (0.35 * round_edge(from_front / (8.0 * k))
                    + 0.65 * round_edge(from_front / (46.0 * k)));
            let high = 0.45 + 0.55 * rise(0.0, 1.6, from_apex);
            value + width * shape * base * high * round_edge(from_apex * 2.5) * AIR
        });
    }
    let hilum = spine.levels[11].centre.plus(46.0 * k, 4.0 * k);
    for _ in 0..30 {
        let mut direction = shapes.between(0.0, 2.0 * PI);
        let mut p = hilum.plus(shapes.normal(0.0, 8.0) * k, shapes.normal(0.0, 10.0) * k);
        let mut line = vec![p];
        for _ in 0..shapes.whole(4, 10) {
            direction += shapes.normal(0.0, 0.18);
            p = p.plus(direction.cos() * 8.0 * k, direction.sin() * 8.0 * k);
            let (back, front) = contour.at(p.1);
            if p.1 < dome && p.1 > apex && p.0 > back + 34.0 * k && p.0 < front - 26.0 * k {
                line.push(p);
            }
        }
        if line.len() > 1 {
            air.tube(
                &line,
                Tube {
                    radius: (shapes.between(1.2, 2.8) * k, 0.5 * k),
                    wall: 0.0,
                    mu: (0.012, 0.012),
                },
            );
        }
    }
    let front = contour.at(dome).1;
    air.ellipsoid(
        P(front - 70.0 * k, dome - 34.0 * k),
        -0.7,
        (60.0 * k, 46.0 * k),
        112.0 * k,
        -AIR * 0.8,
    );
    // Aortic arch and the descending aorta in front of the spine.
    let arch = smooth(
        &[
            hilum.plus(18.0 * k, -30.0 * k),
            hilum.plus(2.0 * k, -52.0 * k),
            hilum.plus(-24.0 * k, -36.0 * k),
            hilum.plus(-30.0 * k, 20.0 * k),
            P(spine.axis_at(dome).0 + 22.0 * k, dome),
        ],
        6,
        false,
    );
    air.tube(
        &arch,
        Tube {
            radius: (12.0 * k, 9.0 * k),
            wall: 0.0,
            mu: (0.008, 0.008),
        },
    );
    air.blob(hilum, 0.6, (18.0 * k, 22.0 * k), 0.22);
    for (value, air) in canvas.data.iter_mut().zip(&air.data) {
        *value = (*value + air.min(0.0)).max(0.0);
    }
    let windpipe = smooth(
        &[
            spine.levels[C7 + 2].centre.plus(26.0 * k, 0.0),
            top.plus(30.0 * k, 0.0),
            hilum.plus(-6.0 * k, -16.0 * k),
        ],
        8,
        false,
    );
    canvas.tube(
        &windpipe,
        Tube {
            radius: (8.5 * k, 7.5 * k),
            wall: 0.0,
            mu: (-0.016, -0.016),
        },
    );
    // Breastbone.
    let sternum: Vec<P> = [44.0, 75.0, 110.0, 150.0, 190.0]
        .iter()
        .map(|&mm| {
            let y = top.1 + mm * k;
            P(contour.at(y).1 - 15.0 * k, y)
        })
        .collect();
    canvas.tube(
        &smooth(&sternum, 5, false),
        Tube {
            radius: (5.5 * k, 4.5 * k),
            wall: 1.1 * k,
            mu: (0.022 * patient.mineral, 0.009),
        },
    );
}

fn bowel(canvas: &mut Canvas, patient: &Patient, pose: &mut Dice) {
    let k = patient.size;
    for _ in 0..pose.whole(6, 24) {
        let centre = P(pose.between(18.0, 98.0) * k, pose.between(-165.0, 40.0) * k);
        let r = pose.between(5.0, 16.0) * k;
        canvas.ellipsoid(
            centre,
            pose.between(0.0, PI),
            (r * pose.between(1.0, 1.8), r),
            r * 1.8,
            -0.011,
        );
    }
    if pose.chance(0.7) {
        canvas.ellipsoid(
            P(pose.between(30.0, 66.0) * k, -190.0 * k),
            0.3,
            (26.0 * k, 16.0 * k),
            46.0 * k,
            -0.012,
        );
    }
    canvas.blob(P(60.0 * k, -165.0 * k), 0.2, (58.0 * k, 46.0 * k), 0.2);
}

fn ribs(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    contour: &Contour,
    shapes: &mut Dice,
) {
    let k = patient.size;
    for number in 0..12 {
        let level = spine.levels[T1 - number];
        let n = number as f32;
        let drop = table(
            &[
                (0.0, 34.0),
                (3.0, 88.0),
                (7.0, 128.0),
                (9.0, 134.0),
                (11.0, 62.0),
            ],
            n,
        ) * k;
        let end = table(
            &[
                (0.0, 2.7),
                (6.0, 2.6),
                (8.0, 2.25),
                (9.0, 1.95),
                (10.0, 1.3),
                (11.0, 0.95),
            ],
            n,
        );
        for side in [-1.0f32, 1.0] {
            // The far side is magnified and shifted; the hump of a curved spine pushes one side back.
            let hump = side * (level.twist + 0.35) * 5.0 * k + shapes.normal(0.0, 1.5) * k;
            let start = level.centre.step(
                level.angle,
                -level.half_depth * 0.9,
                -level.half_height * 0.5,
            );
            let (back, _) = contour.at(level.centre.1 + 6.0 * k);
            let rear = back + 22.0 * k + hump;
            let line: Vec<P> = (0..=26)
                .map(|step| {
                    let phi = end * step as f32 / 26.0;
                    let y = start.1 + drop * (1.0 - phi.cos()) / 2.0 + side * 3.5 * k;
                    let (_, front) = contour.at(y);
                    let reach = front - 20.0 * k - rear;
                    // From the spine back to the angle of the rib, then round to the front.
                    let around = rear + reach * (1.0 - (phi - 0.42).cos()) / 1.72;
                    let x = around + (start.0 - around) * (1.0 - phi / 0.42).max(0.0).powf(1.5);
                    P(x, y)
                })
                .collect();
            let radius = table(&[(0.0, 6.0), (2.0, 5.4), (8.0, 5.6), (11.0, 4.0)], n) * k;
            canvas.tube(
                &line,
                Tube {
                    radius: (radius, radius * 0.92),
                    wall: 1.2 * k,
                    mu: (0.021 * patient.mineral, 0.006),
                },
            );
        }
    }
}

fn vertebra(canvas: &mut Canvas, patient: &Patient, v: &Vertebra, number: usize) {
    let pixel = canvas.pixel();
    let (d, h) = (v.half_depth, v.half_height);
    let m = patient.mineral * if number > T1 { 0.85 } else { 1.0 };
    let width = v.half_width * 2.0;
    let line = patient.size.sqrt();
    canvas.patch(v.centre, v.angle, (d * 1.12, h * 1.15), |x, y| {
        let (a, b) = (x / d, y / h);
        let side = d * (0.92 + 0.07 * b * b) - x.abs();
        let end = h * (0.97 - 0.07 * (1.0 - a * a)) - y.abs();
        let corner = side.min(end).min((side + end) * 0.62 - 0.7);
        let inside = rise(-pixel * 0.5 - 0.3, pixel * 0.5 + 0.3, corner);
        // Both rims of each endplate show, a little apart, because the beam is never quite along the disc.
        let rims = 0.24 * ridge(end - 0.6, line * 1.6, pixel)
            + 0.13 * ridge(end - 3.0 * line, line * 1.8, pixel);
        inside * m * (width * 0.0078 + 0.15 * ridge(side - 0.8, line * 1.5, pixel) + rims)
    });
    let bone = |r0: f32, r1: f32| Tube {
        radius: (r0, r1),
        wall: 1.2 * patient.size,
        mu: (0.036 * m, 0.012 * m),
    };
    // Pedicle from the upper half of the body backwards, joint processes up and down, spinous process behind.
    let root = v.centre.step(v.angle, -d * 0.9, -h * 0.4);
    let joint = v.centre.step(v.angle, -d * 1.5, -h * 0.25);
    canvas.tube(&[root, joint], bone(h * 0.36, h * 0.36));
    let (upper, lower) = (
        joint.step(v.angle, -d * 0.02, -h * 0.95),
        joint.step(v.angle, -d * 0.35, h * 1.5),
    );
    canvas.tube(&[upper, joint, lower], bone(h * 0.27, h * 0.24));
    let (out, down) = if number < T12 {
        (1.9, 0.75)
    } else if number < C7 {
        (1.55, 1.95)
    } else {
        (1.6, 0.8)
    };
    let lamina = joint.step(v.angle, -d * 0.35, h * 0.45);
    let tip = lamina.step(v.angle, -d * (out - 0.6), h * down);
    canvas.tube(
        &[lamina, tip],
        bone(h * 0.24, h * if number < T12 { 0.44 } else { 0.26 }),
    );
}

fn pelvis(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    shapes: &mut Dice,
    pose: &mut Dice,
) {
    let k = patient.size * shapes.normal(1.0, 0.03);
    let m = patient.mineral;
    // Sacrum: five blocks along a curve that starts along the slope and bends forward at the end.
    let mut lean = patient.slope * 1.05;
    let mut p = P(0.0, 0.0);
    let half = spine.levels[L5].half_depth;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for (number, height) in [26.0, 23.0, 20.0, 18.0, 16.0, 22.0].into_iter().enumerate() {
        let taper = 1.0 - number as f32 * 0.155;
        front.push(p.step(lean, half * taper, 0.0));
        back.push(p.step(lean, -half * taper * 1.55, 0.0));
        let next = p.step(lean + PI / 2.0, height * k, 0.0);
        canvas.tube(
            &[
                p.step(lean, -half * taper * 0.9, 0.0),
                p.step(lean, half * taper * 0.95, 0.0),
            ],
            Tube {
                radius: (1.3 * k, 1.3 * k),
                wall: 0.0,
                mu: (0.085 * m, 0.085 * m),
            },
        );
        p = next;
        lean += if number < 2 { 0.12 } else { -0.26 };
    }
    back.reverse();
    front.extend([p]);
    front.extend(back);
    canvas.plate(&smooth(&front, 3, true), 0.36 * m, 0.16 * m, 2.4);
    // Hips: two heads that nearly cover each other, below and in front of the sacrum.
    let hip = P((26.0 + 26.0 * patient.slope) * k, 96.0 * k);
    let apart = P(pose.between(2.0, 12.0) * k, pose.between(-5.0, 5.0) * k);
    for side in [-0.5f32, 0.5] {
        let head = hip.plus(apart.0 * side, apart.1 * side);
        let at = |x: f32, y: f32| head.plus(x * k, y * k);
        let wing = smooth(
            &[
                at(-8.0, -24.0),
                at(-34.0, -52.0),
                at(-60.0, -92.0),
                at(-52.0, -128.0),
                at(-16.0, -140.0),
                at(28.0, -130.0),
                at(58.0, -100.0),
                at(50.0, -76.0),
                at(34.0, -62.0),
                at(26.0, -30.0),
            ],
            4,
            true,
        );
        canvas.plate(&wing, 0.10 * m, 0.16 * m, 2.6);
        canvas.ellipsoid(head, 0.0, (23.5 * k, 23.5 * k), 46.0 * k, 0.0055 * m);
        let ring: Vec<P> = (0..=22)
            .map(|i| {
                let a = PI * 0.85 + 1.3 * PI * i as f32 / 22.0;
                head.plus(26.0 * k * a.cos(), 26.0 * k * a.sin())
            })
            .collect();
        canvas.tube(
            &ring,
            Tube {
                radius: (1.6 * k, 1.6 * k),
                wall: 0.0,
                mu: (0.05 * m, 0.05 * m),
            },
        );
        let bone = |r0: f32, r1: f32| Tube {
            radius: (r0 * k, r1 * k),
            wall: 2.0 * k,
            mu: (0.016 * m, 0.004 * m),
        };
        let sit = smooth(
            &[
                at(-18.0, 2.0),
                at(-34.0, 30.0),
                at(-30.0, 58.0),
                at(-6.0, 56.0),
            ],
            5,
            false,
        );
        canvas.tube(&sit, bone(12.0, 10.0));
        canvas.tube(
            &smooth(
                &[
                    at(12.0, 8.0),
                    at(36.0, 26.0),
                    at(30.0, 44.0),
                    at(-6.0, 56.0),
                ],
                5,
                false,
            ),
            bone(9.0, 7.0),
        );
        let shaft = Tube {
            radius: (17.0 * k, 14.0 * k),
            wall: 4.4 * k,
            mu: (0.024 * m, 0.004 * m),
        };
        canvas.tube(
            &smooth(&[at(2.0, 16.0), at(-6.0, 60.0), at(4.0, 210.0)], 6, false),
            shaft,
        );
    }
}

fn skull(canvas: &mut Canvas, patient: &Patient, spine: &Spine, shapes: &mut Dice) {
    let k = patient.size * patient.head;
    let m = patient.mineral;
    let base = spine.levels[C2]
        .centre
        .plus(0.0, -spine.levels[C2].half_height);
    let at = |x: f32, y: f32| P(base.0 + x * k, base.1 + y * k);
    let shell: Vec<P> = (0..=60)
        .map(|i| {
            let a = 2.0 * PI * i as f32 / 60.0;
            at(
                6.0 + 92.0 * a.cos(),
                -78.0
                    + 74.0
                        * a.sin()
                        * if a.sin() > 0.0 && a.cos() > 0.0 {
                            0.8
                        } else {
                            1.0
                        },
            )
        })
        .collect();
    canvas.ellipsoid(at(6.0, -78.0), 0.0, (92.0 * k, 74.0 * k), 150.0 * k, 0.0045);
    canvas.tube(
        &shell,
        Tube {
            radius: (3.8 * k, 3.8 * k),
            wall: 0.0,
            mu: (0.07 * m, 0.07 * m),
        },
    );
    canvas.blob(at(0.0, -14.0), -0.15, (40.0 * k, 13.0 * k), 0.55 * m);
    canvas.blob(at(66.0, -18.0), 0.0, (18.0 * k, 18.0 * k), -0.3);
    canvas.blob(at(74.0, -46.0), 0.0, (16.0 * k, 13.0 * k), -0.2);
    for side in [-1.0f32, 1.0] {
        let shift = side * 2.5;
        let jaw = smooth(
            &[
                at(16.0 + shift, -16.0),
                at(20.0 + shift, 14.0),
                at(34.0 + shift, 36.0),
                at(64.0 + shift, 46.0),
                at(88.0 + shift, 46.0),
                at(92.0 + shift, 30.0),
            ],
            5,
            false,
        );
        canvas.tube(
            &jaw,
            Tube {
                radius: (10.0 * k, 8.0 * k),
                wall: 2.4 * k,
                mu: (0.022 * m, 0.010 * m),
            },
        );
    }
    for row in [11.0, 24.0] {
        for i in 0..8 {
            let tooth = at(
                42.0 + 6.4 * i as f32 + shapes.normal(0.0, 0.8),
                row + shapes.normal(0.0, 1.0),
            );
            canvas.ellipsoid(
                tooth,
                shapes.normal(0.0, 0.12),
                (shapes.between(2.8, 4.4) * k, shapes.between(6.0, 8.0) * k),
                12.0 * k,
                0.036 * m,
            );
        }
    }
    canvas.blob(at(64.0, 18.0), 0.0, (30.0 * k, 14.0 * k), 0.12 * m);
    // Hyoid bone and the arch of C1.
    canvas.tube(
        &[at(40.0, 58.0), at(58.0, 56.0)],
        Tube {
            radius: (2.5 * k, 2.0 * k),
            wall: 0.0,
            mu: (0.03 * m, 0.03 * m),
        },
    );
    canvas.tube(
        &[at(-8.0, 0.0), at(-34.0, 2.0)],
        Tube {
            radius: (4.0 * k, 5.0 * k),
            wall: 1.0,
            mu: (0.035 * m, 0.012 * m),
        },
    );
}
