//! Loops over numbers, with the widest instructions that this CPU has.
//!
//! Sums are made in a fixed number of parts, so that they are the same however wide the instructions are.

use rayon::prelude::*;

/// Numbers that one thread takes at a time.
pub(super) const PORTION: usize = 1 << 14;
/// How many sums run beside each other.
const PARTS: usize = 16;

/// Runs loops compiled for this CPU's widest instructions; what is called in them must be `#[inline(always)]`.
#[inline(always)]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Of each number, and of two in the same place, on all cores.
pub(super) fn map(x: &[f32], function: impl Fn(f32) -> f32 + Copy + Sync) -> Vec<f32> {
    let mut made = vec![0.0; x.len()];
    let portions = made.par_chunks_mut(PORTION).zip(x.par_chunks(PORTION));
    portions.for_each(|(made, x)| {
        widest(
            #[inline(always)]
            || {
                for (made, x) in made.iter_mut().zip(x) {
                    *made = function(*x);
                }
            },
        );
    });
    made
}

/// The same of two numbers in the same place.
pub(super) fn map_two(
    a: &[f32],
    b: &[f32],
    function: impl Fn(f32, f32) -> f32 + Copy + Sync,
) -> Vec<f32> {
    let mut made = vec![0.0; a.len()];
    let inputs = a.par_chunks(PORTION).zip(b.par_chunks(PORTION));
    let portions = made.par_chunks_mut(PORTION).zip(inputs);
    portions.for_each(|(made, (a, b))| {
        widest(
            #[inline(always)]
            || {
                for (made, (a, b)) in made.iter_mut().zip(a.iter().zip(b)) {
                    *made = function(*a, *b);
                }
            },
        );
    });
    made
}

/// The sum of a function of each number.
#[inline(always)]
pub(super) fn sum(x: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = x.as_chunks::<PARTS>();
    let mut parts = [0.0; PARTS];
    for x in whole {
        for (part, x) in parts.iter_mut().zip(x) {
            *part += function(*x);
        }
    }
    for (part, x) in parts.iter_mut().zip(rest) {
        *part += function(*x);
    }
    parts.iter().sum()
}

/// The sum of a function of each two numbers in the same place.
#[inline(always)]
pub(super) fn sum_two(a: &[f32], b: &[f32], function: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>());
    let mut parts = [0.0; PARTS];
    for (a, b) in a.iter().zip(b) {
        for ((part, a), b) in parts.iter_mut().zip(a).zip(b) {
            *part += function(*a, *b);
        }
    }
    for ((part, a), b) in parts.iter_mut().zip(a_rest).zip(b_rest) {
        *part += function(*a, *b);
    }
    parts.iter().sum()
}

/// `e^x` of a number from −87 to 87, to 2 units in the last place; what lies beyond counts as that (Cephes' `expf`: Moshier 1989).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts: the first has few bits, so that the product is exact.
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut series = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        series = series * rest + coefficient;
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    (series * rest * rest + rest + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_e_are_right_to_two_units_in_the_last_place() {
        for k in -87_000..=87_000_i32 {
            let x = k as f32 / 1000.0;
            let (found, exact) = (exp(x), f64::from(x).exp());
            let apart = (f64::from(found) - exact).abs() / exact;
            assert!(apart < 2.5e-7, "e^{x}: {found}, not {exact}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(-1000.0), exp(-87.0));
    }

    #[test]
    fn sums_of_any_length_leave_nothing_out() {
        for length in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..length).map(|k| k as f32).collect();
            let squares: f32 = x.iter().map(|x| x * x).sum();
            assert_eq!(sum(&x, |x| x * x), squares);
            assert_eq!(sum_two(&x, &x, |a, b| a * b), squares);
        }
    }
}
