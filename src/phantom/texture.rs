//! Texture that no shape gives: clouds of random detail at many sizes, as overlapping tissue and trabeculae make.

use super::dice::Dice;

/// Clouds of random detail over a map of `columns` × `rows` pixels of `pixel` mm: each size of detail in `sizes` (mm) adds
/// values spread about 0 with the deviation beside it.
pub(super) fn clouds(
    dice: &mut Dice,
    columns: usize,
    rows: usize,
    pixel: f32,
    sizes: &[(f32, f32)],
) -> Vec<f32> {
    let mut sum = vec![0.0f32; columns * rows];
    for &(size, deviation) in sizes {
        let cell = size / pixel;
        // Each size has its own seed whatever the resolution, so that the same plan looks alike at any size.
        let seed = dice.bits();
        if cell < 1.5 {
            continue;
        }
        let lattice_columns = (columns as f32 / cell) as usize + 3;
        let weights: Vec<(usize, f32)> = (0..columns)
            .map(|x| {
                let at = x as f32 / cell;
                (at as usize, ease(at.fract()))
            })
            .collect();
        let value = |x: usize, y: usize| lattice(seed, x, y) * deviation * 2.4;
        let mut upper: Vec<f32> = (0..lattice_columns).map(|x| value(x, 0)).collect();
        let mut lower: Vec<f32> = (0..lattice_columns).map(|x| value(x, 1)).collect();
        let mut at_row = 0;
        let mut blend = vec![0.0f32; lattice_columns];
        for (row, line) in sum.chunks_exact_mut(columns).enumerate() {
            let y = row as f32 / cell;
            while at_row < y as usize {
                at_row += 1;
                std::mem::swap(&mut upper, &mut lower);
                for (x, v) in lower.iter_mut().enumerate() {
                    *v = value(x, at_row + 1);
                }
            }
            let t = ease(y.fract());
            for ((b, u), l) in blend.iter_mut().zip(&upper).zip(&lower) {
                *b = u + (l - u) * t;
            }
            for (out, &(x, t)) in line.iter_mut().zip(&weights) {
                *out += blend[x] + (blend[x + 1] - blend[x]) * t;
            }
        }
    }
    sum
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// A random value in -0.5..0.5 for one lattice point.
fn lattice(seed: u64, x: usize, y: usize) -> f32 {
    let bits = mix(seed ^ (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((y as u64) << 32));
    (bits >> 40) as f32 / 16_777_216.0 - 0.5
}

/// Scrambles 64 bits (the finaliser of `SplitMix64`, Steele et al. 2014).
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Averages over a window of `2 * radius + 1` pixels a side, three times over: close to a Gaussian.
pub(super) fn blur(map: &[f32], columns: usize, rows: usize, radius: usize) -> Vec<f32> {
    let mut map = map.to_vec();
    let mut line = vec![0.0f32; columns.max(rows)];
    for _ in 0..3 {
        for row in map.chunks_exact_mut(columns) {
            line[..columns].copy_from_slice(row);
            sliding_mean(&line[..columns], radius, |x, mean| row[x] = mean);
        }
        // Columns are averaged with running sums kept for a whole row at a time, which walks memory in order.
        let source = map.clone();
        let mut sums = vec![0.0f32; columns];
        for y in 0..=radius.min(rows - 1) {
            add(&mut sums, &source[y * columns..(y + 1) * columns], 1.0);
        }
        for y in 0..rows {
            let (from, to) = (y.saturating_sub(radius), (y + radius).min(rows - 1));
            let scale = 1.0 / (to - from + 1) as f32;
            for (out, sum) in map[y * columns..(y + 1) * columns].iter_mut().zip(&sums) {
                *out = sum * scale;
            }
            if y + radius + 1 < rows {
                add(
                    &mut sums,
                    &source[(y + radius + 1) * columns..(y + radius + 2) * columns],
                    1.0,
                );
            }
            if y >= radius {
                add(
                    &mut sums,
                    &source[(y - radius) * columns..(y - radius + 1) * columns],
                    -1.0,
                );
            }
        }
    }
    map
}

fn add(sums: &mut [f32], row: &[f32], factor: f32) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value * factor;
    }
}

fn sliding_mean(line: &[f32], radius: usize, mut put: impl FnMut(usize, f32)) {
    let n = line.len();
    let mut sum: f32 = line[..=radius.min(n - 1)].iter().sum();
    for x in 0..n {
        let (from, to) = (x.saturating_sub(radius), (x + radius).min(n - 1));
        put(x, sum / (to - from + 1) as f32);
        if x + radius + 1 < n {
            sum += line[x + radius + 1];
        }
        if x >= radius {
            sum -= line[x - radius];
        }
    }
}
