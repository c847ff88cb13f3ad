//! What is done channel by channel, over the images of a batch: batch normalisation (Ioffe & Szegedy 2015).

use rayon::prelude::*;

use super::vector::{sum, sum_two, widest};

/// How `[images, channels, rows, columns]` lie in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub(super) images: usize,
    pub(super) channels: usize,
    /// Rows times columns.
    pub(super) size: usize,
}

impl Planes {
    pub(super) fn of(shape: &[usize]) -> Self {
        Self {
            images: shape.first().copied().unwrap_or(1),
            channels: shape.get(1).copied().unwrap_or(1),
            size: shape.iter().skip(2).product(),
        }
    }

    /// Numbers of one channel.
    fn count(self) -> f32 {
        (self.images * self.size) as f32
    }

    /// The planes of one channel, image by image.
    #[inline(always)]
    pub(super) fn of_channel(self, x: &[f32], channel: usize) -> impl Iterator<Item = &[f32]> {
        let planes = x.chunks_exact(self.size.max(1));
        planes.skip(channel).step_by(self.channels.max(1))
    }

    /// The same to write into, for every channel.
    pub(super) fn by_channel(self, x: &mut [f32]) -> Vec<Vec<&mut [f32]>> {
        let room = || Vec::with_capacity(self.images);
        let mut channels: Vec<Vec<_>> = (0..self.channels).map(|_| room()).collect();
        for (k, plane) in x.chunks_exact_mut(self.size.max(1)).enumerate() {
            channels[k % self.channels.max(1)].push(plane);
        }
        channels
    }

    fn each<R: Send>(self, work: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        let channels = (0..self.channels).into_par_iter();
        channels
            .map(|c| {
                widest(
                    #[inline(always)]
                    || work(c),
                )
            })
            .collect()
    }

    /// Of each plane, given its channel.
    fn map(
        self,
        x: &[f32],
        of_plane: impl Fn(usize, &mut [f32], &[f32]) + Sync + Send,
    ) -> Vec<f32> {
        let mut made = vec![0.0; x.len()];
        let size = self.size.max(1);
        let planes = made
            .par_chunks_exact_mut(size)
            .zip(x.par_chunks_exact(size));
        planes
            .with_min_len(16)
            .enumerate()
            .for_each(|(k, (made, x))| {
                widest(
                    #[inline(always)]
                    || of_plane(k % self.channels, made, x),
                );
            });
        made
    }
}

/// Mean and biased variance of each channel.
pub(super) fn statistics(x: &[f32], planes: Planes) -> (Vec<f32>, Vec<f32>) {
    let count = planes.count();
    let of_channel = planes.each(
        #[inline(always)]
        |c| {
            let mean = planes.of_channel(x, c).map(|x| sum(x, |x| x)).sum::<f32>() / count;
            let squares = planes.of_channel(x, c).map(|x| {
                sum(x, |x| {
                    let from_mean = x - mean;
                    from_mean * from_mean
                })
            });
            (mean, squares.sum::<f32>() / count)
        },
    );
    of_channel.into_iter().unzip()
}

/// `(x − mean) · scale + shift`, channel by channel.
pub(super) fn scale_and_shift(
    x: &[f32],
    mean: &[f32],
    scale: &[f32],
    shift: &[f32],
    planes: Planes,
) -> Vec<f32> {
    planes.map(
        x,
        #[inline(always)]
        |c, made, x| {
            let (mean, scale, shift) = (mean[c], scale[c], shift[c]);
            for (made, x) in made.iter_mut().zip(x) {
                *made = (x - mean) * scale + shift;
            }
        },
    )
}

/// For each channel, the sums of a gradient and of its products with `x − mean`.
pub(super) fn sums(
    x: &[f32],
    mean: &[f32],
    gradient: &[f32],
    planes: Planes,
) -> (Vec<f32>, Vec<f32>) {
    let of_channel = planes.each(
        #[inline(always)]
        |c| {
            let mean = mean[c];
            let both = planes
                .of_channel(x, c)
                .zip(planes.of_channel(gradient, c))
                .map(|(x, gradient)| {
                    (
                        sum(gradient, |gradient| gradient),
                        sum_two(x, gradient, |x, gradient| (x - mean) * gradient),
                    )
                });
            both.fold((0.0, 0.0), |(a, b), (of_gradient, of_products)| {
                (a + of_gradient, b + of_products)
            })
        },
    );
    of_channel.into_iter().unzip()
}

/// `gradient · scale`, channel by channel.
pub(super) fn scale(gradient: &[f32], scale: &[f32], planes: Planes) -> Vec<f32> {
    planes.map(
        gradient,
        #[inline(always)]
        |c, made, gradient| {
            let scale = scale[c];
            for (made, gradient) in made.iter_mut().zip(gradient) {
                *made = gradient * scale;
            }
        },
    )
}

/// The gradient of `x` where mean and variance are the batch's own, from [`sums`]; `inverse` is 1 / √(variance + ε).
pub(super) fn backward(
    x: &[f32],
    gradient: &[f32],
    [gamma, mean, inverse]: [&[f32]; 3],
    (of_gradient, of_products): (&[f32], &[f32]),
    planes: Planes,
) -> Vec<f32> {
    let count = planes.count();
    let mut made = vec![0.0; x.len()];
    let size = planes.size.max(1);
    let inputs = x
        .par_chunks_exact(size)
        .zip(gradient.par_chunks_exact(size));
    let all = made.par_chunks_exact_mut(size).zip(inputs);
    all.with_min_len(16)
        .enumerate()
        .for_each(|(k, (made, (x, gradient)))| {
            let c = k % planes.channels;
            let (mean, inverse) = (mean[c], inverse[c]);
            let scale = gamma[c] * inverse;
            let level = of_gradient[c] / count;
            let slope = of_products[c] / count * inverse * inverse;
            widest(
                #[inline(always)]
                || {
                    for (made, (x, gradient)) in made.iter_mut().zip(x.iter().zip(gradient)) {
                        *made = scale * (gradient - level - (x - mean) * slope);
                    }
                },
            );
        });
    made
}
