//! The bones of the lateral view: ribs of both sides, vertebrae, sacrum and pelvis, skull base.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, L5, Patient, Spine, T1, T12, Vertebra};
use super::canvas::{Canvas, P, Tube, ridge, rise, smooth, table};
use super::dice::Dice;
use super::lateral::Contour;

pub(super) fn ribs(
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

pub(super) fn vertebra(canvas: &mut Canvas, patient: &Patient, v: &Vertebra, number: usize) {
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

pub(super) fn pelvis(
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
        canvas.ellipsoid(head, 0.0, (23.5 * k, 23.5 * k), 46.0 * k, 0.0035 * m);
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
                mu: (0.035 * m, 0.035 * m),
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

pub(super) fn skull(canvas: &mut Canvas, patient: &Patient, spine: &Spine, shapes: &mut Dice) {
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
