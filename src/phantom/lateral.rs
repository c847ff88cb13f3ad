//! The lateral view: the same patient seen from the side, arms raised forward, the front towards +x before mirroring.

use std::f32::consts::PI;

use super::anatomy::{C2, C7, L5, Patient, Spine, T1, T12};
use super::canvas::{Canvas, P, Profile, Tube, rise, round_edge, smooth};
use super::dice::Dice;
use super::frontal::{AIR, TISSUE};
use super::lateral_bones::{pelvis, ribs, skull, vertebra};

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
