//! The bones of the frontal view: ribs, vertebrae, pelvis, shoulder girdle, skull base.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, Patient, Spine, T1, T12, Vertebra};
use super::canvas::{Canvas, P, Tube, ridge, rise, smooth, table};
use super::dice::Dice;
use super::frontal::Trunk;

pub(super) fn ribs(
    canvas: &mut Canvas,
    patient: &Patient,
    spine: &Spine,
    trunk: &Trunk,
    shapes: &mut Dice,
) {
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
pub(super) fn vertebra(canvas: &mut Canvas, patient: &Patient, v: &Vertebra, number: usize) {
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

pub(super) fn pelvis(canvas: &mut Canvas, patient: &Patient, shapes: &mut Dice) {
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

pub(super) fn shoulders(canvas: &mut Canvas, patient: &Patient, spine: &Spine, pose: &mut Dice) {
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

pub(super) fn skull(canvas: &mut Canvas, patient: &Patient, spine: &Spine, shapes: &mut Dice) {
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
