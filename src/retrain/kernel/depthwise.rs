//! Convolutions in which every channel has a kernel of its own.
//!
//! A plane is laid out with its pads, and where the kernel strides by more than one, as one grid for each place within a
//! stride ([`Grid`]). What one weight of the kernel adds to a whole plane is then one product with numbers that stand in a
//! row, whatever the size of the plane: a few numbers behind the end of each row are computed for nothing.

use rayon::prelude::*;

use super::channels::Planes;
use super::vector::{sum_two, widest};

/// Numbers of a plane that are looked at together, so that they stay in the CPU's first cache.
const BLOCK: usize = 2048;

/// A kernel of one channel, and how it moves: rows first, then columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depthwise {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub strides: [usize; 2],
    /// Zeros before the rows and before the columns.
    pub pads: [usize; 2],
    /// Rows and columns of what it takes.
    pub input: [usize; 2],
    /// Rows and columns of what it makes.
    pub output: [usize; 2],
}

/// Where the numbers of a padded plane stand.
#[derive(Clone, Copy, Debug)]
struct Grid {
    of: Depthwise,
    /// Rows and columns of each of the grids, one for each place within a stride.
    rows: usize,
    pitch: usize,
}

impl Depthwise {
    fn grid(self) -> Grid {
        // As far as the last window reaches, or the input.
        let reach = |k: usize| {
            let windows = (self.output[k] - 1) * self.strides[k] + self.kernel[k];
            windows.max(self.pads[k] + self.input[k])
        };
        Grid {
            of: self,
            rows: reach(0).div_ceil(self.strides[0]),
            pitch: reach(1).div_ceil(self.strides[1]),
        }
    }

    fn weights(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn outputs(self) -> usize {
        self.output[0] * self.output[1]
    }

    fn inputs(self) -> usize {
        self.input[0] * self.input[1]
    }
}

impl Grid {
    fn length(self) -> usize {
        let [down, across] = self.of.strides;
        down * across * self.rows * self.pitch
    }

    /// Where the numbers begin that one weight of the kernel meets.
    #[inline(always)]
    fn first(self, weight: usize) -> usize {
        let ([_, columns], [down, across]) = (self.of.kernel, self.of.strides);
        let (row, column) = (weight / columns, weight % columns);
        let grid = (row % down) * across + column % across;
        (grid * self.rows + row / down) * self.pitch + column / across
    }

    /// Numbers from the first output to the last, in rows of `pitch`.
    #[inline(always)]
    fn span(self) -> usize {
        (self.of.output[0] - 1) * self.pitch + self.of.output[1]
    }

    /// Each number of a plane, and where it stands.
    #[inline(always)]
    fn each(self, mut visit: impl FnMut(usize, usize)) {
        let ([top, left], [down, across]) = (self.of.pads, self.of.strides);
        let [rows, columns] = self.of.input;
        for row in 0..rows {
            let at = row + top;
            for column in 0..columns {
                let across_at = column + left;
                let grid = (at % down) * across + across_at % across;
                let place = (grid * self.rows + at / down) * self.pitch + across_at / across;
                visit(row * columns + column, place);
            }
        }
    }

    /// A plane with its pads.
    #[inline(always)]
    fn lay_out(self, plane: &[f32], grid: &mut [f32]) {
        if self.of.strides == [1, 1] {
            let [top, left] = self.of.pads;
            let columns = self.of.input[1];
            for (row, numbers) in plane.chunks_exact(columns).enumerate() {
                let at = (row + top) * self.pitch + left;
                grid[at..at + columns].copy_from_slice(numbers);
            }
        } else {
            self.each(|k, place| grid[place] = plane[k]);
        }
    }

    /// The plane without its pads.
    #[inline(always)]
    fn gather(self, grid: &[f32], plane: &mut [f32]) {
        if self.of.strides == [1, 1] {
            let [top, left] = self.of.pads;
            let columns = self.of.input[1];
            for (row, numbers) in plane.chunks_exact_mut(columns).enumerate() {
                let at = (row + top) * self.pitch + left;
                numbers.copy_from_slice(&grid[at..at + columns]);
            }
        } else {
            self.each(|k, place| plane[k] = grid[place]);
        }
    }

    /// Outputs as they lie in rows of `pitch`; what is between them is 0.
    #[inline(always)]
    fn spread(self, plane: &[f32], span: &mut [f32]) {
        let columns = self.of.output[1];
        for (numbers, row) in plane
            .chunks_exact(columns)
            .zip(span.chunks_mut(self.pitch.max(1)))
        {
            row[..columns].copy_from_slice(numbers);
        }
    }
}

/// `sum += weight · numbers`
#[inline(always)]
fn add_scaled(sum: &mut [f32], weight: f32, numbers: &[f32]) {
    for (sum, number) in sum.iter_mut().zip(numbers) {
        *sum += weight * number;
    }
}

/// Images `[N, C, rows, columns]` and kernels `[C, 1, rows, columns]` give `[N, C, output rows, output columns]`.
pub(super) fn forward(x: &[f32], kernels: &[f32], planes: Planes, of: Depthwise) -> Vec<f32> {
    let grid = of.grid();
    let mut made = vec![0.0; planes.images * planes.channels * of.outputs()];
    let room = || (vec![0.0; grid.length()], vec![0.0; grid.span()]);
    made.par_chunks_exact_mut(of.outputs())
        .zip(x.par_chunks_exact(of.inputs()))
        .enumerate()
        .for_each_init(room, |(laid_out, span), (k, (made, x))| {
            let kernel = &kernels[k % planes.channels * of.weights()..][..of.weights()];
            widest(
                #[inline(always)]
                || {
                    grid.lay_out(x, laid_out);
                    span.fill(0.0);
                    for (block, from) in span.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
                        for (k, weight) in kernel.iter().enumerate() {
                            let numbers = &laid_out[grid.first(k) + from..][..block.len()];
                            add_scaled(block, *weight, numbers);
                        }
                    }
                    for (row, numbers) in made
                        .chunks_exact_mut(of.output[1])
                        .zip(span.chunks(grid.pitch))
                    {
                        row.copy_from_slice(&numbers[..row.len()]);
                    }
                },
            );
        });
    made
}

/// The gradients of images and kernels, given that of the result.
pub(super) fn backward(
    [x, kernels, gradient]: [&[f32]; 3],
    planes: Planes,
    of: Depthwise,
) -> (Vec<f32>, Vec<f32>) {
    let grid = of.grid();
    let (mut of_x, mut of_kernels) = (vec![0.0; x.len()], vec![0.0; kernels.len()]);
    let outputs = Planes {
        size: of.outputs(),
        ..planes
    };
    let room = || {
        let laid_out = vec![0.0; grid.length()];
        (laid_out.clone(), laid_out, vec![0.0; grid.span()])
    };
    planes
        .by_channel(&mut of_x)
        .into_par_iter()
        .zip(of_kernels.par_chunks_exact_mut(of.weights()))
        .enumerate()
        .for_each_init(room, |(laid_out, of_grid, span), (c, (of_x, of_kernel))| {
            let kernel = &kernels[c * of.weights()..][..of.weights()];
            let images = planes
                .of_channel(x, c)
                .zip(outputs.of_channel(gradient, c))
                .zip(of_x);
            for ((x, gradient), of_x) in images {
                widest(
                    #[inline(always)]
                    || {
                        grid.lay_out(x, laid_out);
                        grid.spread(gradient, span);
                        of_grid.fill(0.0);
                        for (block, from) in span.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
                            for (k, of_weight) in of_kernel.iter_mut().enumerate() {
                                let met = grid.first(k) + from..grid.first(k) + from + block.len();
                                *of_weight += sum_two(block, &laid_out[met.clone()], |a, b| a * b);
                                add_scaled(&mut of_grid[met], kernel[k], block);
                            }
                        }
                        grid.gather(of_grid, of_x);
                    },
                );
            }
        });
    (of_x, of_kernels)
}
