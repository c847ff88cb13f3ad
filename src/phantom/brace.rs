//! Braces: a plastic shell that shows mostly where it is seen edge on, pads, straps with metal buckles and rivets.

use super::anatomy::{Patient, Spine};
use super::canvas::{Canvas, P, Tube, rise, smooth};
use super::devices::{metal, solid};
use super::dice::Dice;
use super::lateral::Contour;

/// Plastic seen edge on along a line, and its faint face on the inner side.
fn shell_edge(canvas: &mut Canvas, line: &[P], strength: f32) {
    canvas.tube(
        line,
        Tube {
            radius: (2.6, 2.6),
            wall: 0.0,
            mu: (strength * 0.05, strength * 0.05),
        },
    );
}

/// A strap's buckle: a metal frame, a rivet, and the rivet that holds the strap's other end.
fn buckle(canvas: &mut Canvas, at: P, angle: f32, mu: f32, dice: &mut Dice) {
    let (w, h) = (dice.between(9.0, 13.0), dice.between(11.0, 17.0));
    let corner = |a: f32, b: f32| at.step(angle, a * w, b * h);
    let frame = [
        corner(-1.0, -1.0),
        corner(1.0, -1.0),
        corner(1.0, 1.0),
        corner(-1.0, 1.0),
        corner(-1.0, -1.0),
    ];
    canvas.tube(&frame, solid(1.5, mu));
    canvas.tube(&[corner(0.0, -1.0), corner(0.0, 1.0)], solid(1.2, mu));
    for along in [-1.0f32, 1.0] {
        let rivet = at.step(angle, along * (w + dice.between(12.0, 38.0)), 0.0);
        canvas.tube(
            &[rivet, rivet.plus(0.2, 0.0)],
            solid(dice.between(3.2, 4.6), mu * 0.7),
        );
    }
}

/// A brace seen from the front.
pub(super) fn frontal(canvas: &mut Canvas, patient: &Patient, spine: &Spine, dice: &mut Dice) {
    let k = patient.size;
    let g = patient.girth;
    let top = spine.top().1;
    let strength = dice.between(0.7, 1.3);
    let mu = metal(dice) * 0.8;
    let high = dice.sign();
    for side in [-1.0f32, 1.0] {
        let upper = top
            + if side * high > 0.0 {
                dice.between(92.0, 125.0)
            } else {
                dice.between(130.0, 190.0)
            } * k;
        let at = |x: f32, y: f32| P(side * x * k * g, y);
        let outline = smooth(
            &[
                at(146.0, upper),
                at(152.0, upper + 40.0 * k),
                at(140.0, -150.0 * k),
                at(124.0, -72.0 * k),
                at(150.0, -5.0 * k),
                at(172.0, 70.0 * k),
                at(176.0, 104.0 * k),
            ],
            8,
            false,
        );
        shell_edge(canvas, &outline, strength * 1.5);
        let inner: Vec<P> = outline.iter().map(|p| p.plus(-side * 6.0, 0.0)).collect();
        shell_edge(canvas, &inner, strength * 0.5);
        // Trim lines: front and back edges of the shell cross the trunk.
        let trim = smooth(
            &[
                at(146.0, upper),
                at(108.0, upper + 34.0 * k),
                at(60.0, upper + 58.0 * k),
                at(18.0, upper + 66.0 * k),
            ],
            8,
            false,
        );
        shell_edge(canvas, &trim, strength * 0.8);
        let lower = smooth(
            &[
                at(176.0, 104.0 * k),
                at(140.0, 92.0 * k),
                at(96.0, 34.0 * k),
                at(40.0, 58.0 * k),
                at(10.0, 70.0 * k),
            ],
            8,
            false,
        );
        shell_edge(canvas, &lower, strength * 0.8);
        // Pressure pads.
        if dice.chance(0.75) {
            let pad = at(112.0, dice.between(-240.0, -80.0) * k);
            canvas.patch(pad, 0.1 * side, (30.0 * k, 46.0 * k), |u, v| {
                let q = ((u / (30.0 * k)).powi(4) + (v / (46.0 * k)).powi(4)).powf(0.25);
                0.13 * strength * rise(1.0, 0.93, q)
            });
        }
    }
    // The shell's opening runs down the middle, at the back or in front; straps bridge it.
    let opening = dice.normal(0.0, 8.0) * k;
    for side in [-1.0f32, 1.0] {
        let x = opening + side * dice.between(10.0, 26.0) * k;
        let edge = smooth(
            &[P(x, top + 210.0 * k), P(x + 3.0, -90.0 * k), P(x, 55.0 * k)],
            10,
            false,
        );
        shell_edge(canvas, &edge, strength * 0.7);
    }
    let straps = dice.whole(2, 4);
    for n in 0..straps {
        let share = (n as f32 + 0.5) / straps as f32;
        let y = (-215.0 + 245.0 * share) * k + dice.normal(0.0, 8.0);
        let at = P(opening + dice.sign() * dice.between(22.0, 60.0) * k, y);
        buckle(canvas, at, dice.normal(0.0, 0.12), mu, dice);
    }
}

/// A brace seen from the side.
pub(super) fn lateral(canvas: &mut Canvas, patient: &Patient, spine: &Spine, dice: &mut Dice) {
    let k = patient.size;
    let contour = Contour::new(patient, spine);
    let strength = dice.between(0.7, 1.3);
    let mu = metal(dice) * 0.8;
    let upper = spine.top().1 + dice.between(105.0, 165.0) * k;
    let (front_end, back_end) = (dice.between(20.0, 50.0) * k, dice.between(60.0, 100.0) * k);
    let line = |end: f32, pick: &dyn Fn((f32, f32)) -> f32| -> Vec<P> {
        (0..=40)
            .map(|i| {
                let y = upper + (end - upper) * i as f32 / 40.0;
                P(pick(contour.at(y)), y)
            })
            .collect()
    };
    // Plastic does not follow the lumbar hollow: it bridges it.
    let back = line(back_end, &|(back, _)| back - 5.0);
    let front = line(front_end, &|(_, front)| front + 5.0 - 8.0);
    shell_edge(canvas, &back, strength * 1.5);
    shell_edge(canvas, &front, strength * 1.5);
    let (b, f) = (back[0], front[0]);
    let trim = smooth(
        &[
            f,
            f.plus(-34.0 * k, 26.0 * k),
            b.toward(f, 0.5).plus(0.0, -10.0 * k),
            b,
        ],
        8,
        false,
    );
    shell_edge(canvas, &trim, strength * 0.8);
    let (b, f) = (back[40], front[40]);
    let lower = smooth(
        &[
            f,
            f.plus(-40.0 * k, -6.0 * k),
            P(20.0 * k, 92.0 * k),
            b.plus(20.0 * k, 8.0 * k),
            b,
        ],
        8,
        false,
    );
    shell_edge(canvas, &lower, strength * 0.8);
    if dice.chance(0.7) {
        let at = P(
            dice.between(-40.0, 40.0) * k,
            dice.between(-230.0, -60.0) * k,
        );
        canvas.patch(at, 0.1, (36.0 * k, 48.0 * k), |u, v| {
            let q = ((u / (36.0 * k)).powi(4) + (v / (48.0 * k)).powi(4)).powf(0.25);
            0.12 * strength * rise(1.0, 0.93, q)
        });
    }
    let behind = dice.chance(0.5);
    let straps = dice.whole(2, 4);
    for n in 0..straps {
        let i = ((n as f32 + 0.5) / straps as f32 * 34.0) as usize + 4;
        let edge = if behind { back[i] } else { front[i] };
        let inward = if behind { 1.0 } else { -1.0 };
        let at = edge.plus(inward * dice.between(4.0, 40.0) * k, dice.normal(0.0, 6.0));
        buckle(canvas, at, dice.normal(0.0, 0.15), mu, dice);
    }
}
