//! Changes to a training picture that a radiograph allows: the patient stands a little elsewhere, the detector and the
//! exposure are a little other. Values run from 0 to 1.

use rand::Rng;

use super::network::normal;

/// How far each change may go; each is drawn uniformly from minus to plus its range.
#[derive(Clone, Copy, Debug)]
pub struct Augmentation {
    /// Shift, as a part of the picture's sides.
    pub shift: f32,
    /// Change of size, as a part.
    pub scale: f32,
    /// Rotation in degrees.
    pub rotation: f32,
    /// Exponent of the grey values, as a natural logarithm.
    pub gamma: f32,
    /// Brightness (added) and contrast (about the middle).
    pub contrast: f32,
    /// Largest standard deviation of white noise.
    pub noise: f32,
    /// How far a collimator's blades come in from each side, as a part of it; from every other side they do not.
    pub collimation: f32,
    /// Mirror every other picture. Only where left and right do not matter.
    pub mirror: bool,
}

impl Augmentation {
    /// No change at all.
    pub const NONE: Self = Self {
        shift: 0.0,
        scale: 0.0,
        rotation: 0.0,
        gamma: 0.0,
        contrast: 0.0,
        noise: 0.0,
        collimation: 0.0,
        mirror: false,
    };

    /// Appends the changed picture to `out`; what comes in from outside, or lies behind the collimator, has the value `pad`.
    pub fn apply(
        &self,
        pixels: &[u16],
        [height, width]: [usize; 2],
        pad: f32,
        rng: &mut impl Rng,
        out: &mut Vec<f32>,
    ) {
        let mut draw = |range: f32| (rng.random::<f32>() * 2.0 - 1.0) * range;
        let (dy, dx) = (
            draw(self.shift) * height as f32,
            draw(self.shift) * width as f32,
        );
        let (zoom, angle) = (
            1.0 / (1.0 + draw(self.scale)),
            draw(self.rotation).to_radians(),
        );
        let (gamma, brightness, contrast) = (
            draw(self.gamma).exp(),
            draw(self.contrast),
            1.0 + draw(self.contrast),
        );
        let noise = draw(self.noise).abs();
        let flip = if self.mirror && draw(1.0) < 0.0 {
            -1.0
        } else {
            1.0
        };
        // Drawn only where wanted, so that other recipes get the numbers that they always got.
        let mut blade = |side: usize| match self.collimation {
            range if range > 0.0 => (draw(range).max(0.0) * side as f32) as usize,
            _ => 0,
        };
        let rows = blade(height)..height - blade(height);
        let columns = blade(width)..width - blade(width);
        let (sin, cos) = angle.sin_cos();
        let (middle_y, middle_x) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        for row in 0..height {
            for column in 0..width {
                let (y, x) = (
                    row as f32 - middle_y - dy,
                    (column as f32 - middle_x - dx) * flip,
                );
                let source_y = (cos * y - sin * x) * zoom + middle_y;
                let source_x = (sin * y + cos * x) * zoom + middle_x;
                let exposed = rows.contains(&row) && columns.contains(&column);
                let value = exposed
                    .then(|| sample(pixels, height, width, source_y, source_x))
                    .flatten()
                    .unwrap_or(pad);
                let value = (value.powf(gamma) - 0.5) * contrast + 0.5 + brightness;
                let value = if noise > 0.0 {
                    value + noise * normal(rng)
                } else {
                    value
                };
                out.push(value.clamp(0.0, 1.0));
            }
        }
    }
}

/// Bilinear; None outside the picture.
fn sample(pixels: &[u16], height: usize, width: usize, y: f32, x: f32) -> Option<f32> {
    if y < 0.0 || x < 0.0 || y > (height - 1) as f32 || x > (width - 1) as f32 {
        return None;
    }
    let (row, column) = (y as usize, x as usize);
    let (below, right) = ((row + 1).min(height - 1), (column + 1).min(width - 1));
    let (fy, fx) = (y - row as f32, x - column as f32);
    let at = |row: usize, column: usize| f32::from(pixels[row * width + column]);
    let top = at(row, column) * (1.0 - fx) + at(row, right) * fx;
    let bottom = at(below, column) * (1.0 - fx) + at(below, right) * fx;
    Some((top * (1.0 - fy) + bottom * fy) / f32::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    #[test]
    fn no_change_leaves_the_picture_as_it_is() {
        let pixels: Vec<u16> = (0..12).map(|k| k * 5000).collect();
        let mut out = Vec::new();
        Augmentation::NONE.apply(
            &pixels,
            [4, 3],
            0.0,
            &mut ChaCha12Rng::seed_from_u64(1),
            &mut out,
        );
        for (a, b) in pixels.iter().zip(&out) {
            assert!((f32::from(*a) / 65535.0 - b).abs() < 1e-5, "{a} became {b}");
        }
    }

    #[test]
    fn changed_pictures_keep_their_size_and_range() {
        let all = Augmentation {
            shift: 0.2,
            scale: 0.2,
            rotation: 20.0,
            gamma: 0.5,
            contrast: 0.3,
            noise: 0.2,
            collimation: 0.4,
            mirror: true,
        };
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        for _ in 0..20 {
            let mut out = Vec::new();
            all.apply(&[40_000; 35], [7, 5], 0.0, &mut rng, &mut out);
            assert_eq!(out.len(), 35);
            assert!(out.iter().all(|x| (0.0..=1.0).contains(x)));
        }
    }

    #[test]
    fn a_collimator_leaves_a_rectangle_of_the_picture_and_the_same_dice_the_same_one() {
        let collimated = Augmentation {
            collimation: 0.2,
            ..Augmentation::NONE
        };
        let (height, width) = (40, 30);
        let picture = |seed| {
            let mut out = Vec::new();
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            collimated.apply(&[40_000; 1200], [height, width], 0.0, &mut rng, &mut out);
            out
        };
        let mut covered = [0; 4];
        for seed in 0..200 {
            let out = picture(seed);
            assert_eq!(out, picture(seed));
            let exposed = |k: &usize| out[*k] > 0.0;
            let lit: Vec<usize> = (0..out.len()).filter(exposed).collect();
            let (top, bottom) = (lit[0] / width, height - 1 - lit[lit.len() - 1] / width);
            let (left, right) = (lit[0] % width, width - 1 - lit[lit.len() - 1] % width);
            let area = (height - top - bottom) * (width - left - right);
            assert_eq!(lit.len(), area, "a rectangle");
            let far = [(top, 8), (bottom, 8), (left, 6), (right, 6)];
            assert!(far.iter().all(|(blade, most)| blade <= most), "{far:?}");
            for (count, (blade, _)) in covered.iter_mut().zip(far) {
                *count += usize::from(blade > 0);
            }
        }
        // Some 87 and 83 expected; the standard deviation is about 7.
        assert!(
            covered.iter().all(|count| (55..=115).contains(count)),
            "{covered:?}"
        );
    }
}
