//! Uncompressed pixels, read in strips of a few hundred kilobytes and never held as a whole.

use zerocopy::IntoBytes as _;

use super::{Cells, Frame, Grid, Rows, luminance, luminance_of};
use crate::decode::Fault;
use crate::decode::attributes::{Photometric, PixelDescription};
use crate::decode::bytes::Bytes;
use crate::decode::header::Pixels;

const STRIP: usize = 256 << 10;

pub(super) struct Native<'a> {
    /// The inflated data set, if the file is deflated.
    memory: Option<Bytes<'a>>,
    file: &'a Bytes<'a>,
    at: u64,
    big_endian: bool,
    swapped: bool,
    description: &'a PixelDescription,
}

/// The first frame of Native Pixel Data at `at`, of which the header pass has seen that it is all there.
pub(super) fn frame<'a>(
    memory: Option<Bytes<'a>>,
    file: &'a Bytes<'a>,
    at: u64,
    swapped: bool,
    pixels: &'a Pixels,
) -> Frame<'a> {
    let description = &pixels.description;
    let swapped = swapped && description.bits_allocated == 8;
    let native = Native {
        memory,
        file,
        at,
        big_endian: pixels.encoding.big_endian,
        swapped,
        description,
    };
    let grey = description.samples == 1;
    Frame {
        description: if grey {
            description.clone()
        } else {
            luminance_of(description)
        },
        cells: Cells::Stored,
        grid: Grid::full(description),
        rows: Rows::Native(native),
    }
}

impl Native<'_> {
    pub(super) fn each_row(&self, mut each: impl FnMut(usize, &[u16])) -> Result<(), Fault> {
        let description = self.description;
        let (rows, columns) = (description.rows as usize, description.columns as usize);
        let bytes_each = usize::from(description.bits_allocated / 8);
        let samples = match description.photometric {
            Photometric::Ybr422 => 2,
            _ if description.planar => 1,
            _ => usize::from(description.samples),
        };
        // Of planes only luminance is needed from YBR, all three from RGB.
        let planes = if description.planar && description.photometric == Photometric::Rgb {
            3
        } else {
            1
        };
        let row_bytes = columns * samples * bytes_each;
        let strip_rows = (STRIP / row_bytes).clamp(1, rows);

        let mut raw = vec![0; strip_rows * row_bytes + 2];
        let mut cells = vec![vec![0_u16; strip_rows * columns * samples]; planes];
        let mut row_cells = vec![0_u16; columns];
        let mut top = 0;
        while top < rows {
            let strip = strip_rows.min(rows - top);
            for (plane, cells) in cells.iter_mut().enumerate() {
                let offset = (plane * rows + top) * row_bytes;
                self.read(offset, strip * row_bytes, &mut raw, cells)?;
            }
            for y in 0..strip {
                let row = y * columns * samples..(y + 1) * columns * samples;
                match &cells[..] {
                    [grey] if samples == 1 => each(top + y, &grey[row]),
                    [colours] => {
                        self.mix(&colours[row], &mut row_cells);
                        each(top + y, &row_cells);
                    }
                    [red, green, blue] => {
                        let colours = red[row.clone()]
                            .iter()
                            .zip(&green[row.clone()])
                            .zip(&blue[row]);
                        for (out, ((red, green), blue)) in row_cells.iter_mut().zip(colours) {
                            *out = luminance(self.mask(*red), self.mask(*green), self.mask(*blue));
                        }
                        each(top + y, &row_cells);
                    }
                    _ => {}
                }
            }
            top += strip;
        }
        Ok(())
    }

    /// Reads `len` bytes at `offset` of the pixel data and turns them into cells.
    fn read(
        &self,
        offset: usize,
        len: usize,
        raw: &mut [u8],
        cells: &mut [u16],
    ) -> Result<(), Fault> {
        let bytes = self.memory.as_ref().unwrap_or(self.file);
        let at = self.at + offset as u64;
        if self.description.bits_allocated == 16 {
            let cells = &mut cells[..len / 2];
            bytes.read_at(at, cells.as_mut_bytes())?;
            if self.big_endian {
                cells
                    .iter_mut()
                    .for_each(|cell| *cell = u16::from_be(*cell));
            } else {
                cells
                    .iter_mut()
                    .for_each(|cell| *cell = u16::from_le(*cell));
            }
            return Ok(());
        }
        // Big-endian OW swaps 8-bit samples in pairs: read from an even place and take each one's neighbour.
        let lead = if self.swapped { offset % 2 } else { 0 };
        let even = if self.swapped {
            (lead + len).next_multiple_of(2)
        } else {
            len
        };
        let even = even
            .min((bytes.len() - (at - lead as u64)) as usize)
            .min(raw.len());
        bytes.read_at(at - lead as u64, &mut raw[..even])?;
        if self.swapped {
            raw[..even]
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .for_each(|pair| pair.reverse());
        }
        for (cell, byte) in cells.iter_mut().zip(&raw[lead..lead + len]) {
            *cell = u16::from(*byte);
        }
        Ok(())
    }

    /// Interleaved colours to luminance.
    fn mix(&self, colours: &[u16], out: &mut [u16]) {
        match self.description.photometric {
            Photometric::Ybr422 => {
                for (pair, [first, second, ..]) in out.chunks_mut(2).zip(colours.as_chunks::<4>().0)
                {
                    for (out, luminance) in pair.iter_mut().zip([first, second]) {
                        *out = self.mask(*luminance);
                    }
                }
            }
            Photometric::Ybr => {
                for (out, [luminance, ..]) in out.iter_mut().zip(colours.as_chunks::<3>().0) {
                    *out = self.mask(*luminance);
                }
            }
            _ => {
                for (out, [red, green, blue]) in out.iter_mut().zip(colours.as_chunks::<3>().0) {
                    *out = luminance(self.mask(*red), self.mask(*green), self.mask(*blue));
                }
            }
        }
    }

    fn mask(&self, cell: u16) -> u16 {
        let description = self.description;
        let shift = description.high_bit + 1 - description.bits_stored;
        cell >> shift & (u16::MAX >> (16 - description.bits_stored))
    }
}
