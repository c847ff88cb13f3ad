//! From Pixel Data to rows of cells, one module a codec family, at reduced size where the format allows it.
//!
//! Every codestream's own dimensions, components and depth are compared with the header before it is decoded, and what
//! came out afterwards; nothing is allocated for a size that the header declares before that.

mod native;

use super::Fault;
use super::attributes::{Function, Modality, Photometric, PixelDescription, Voi};
use super::bytes::Bytes;
use super::dataset::PixelData;
use super::header::{Pixels, Syntax};
use crate::domain::Reason;

/// One frame, delivered row by row as cells of one channel.
pub struct Frame<'a> {
    /// What a cell means.
    pub description: PixelDescription,
    /// How a cell holds a stored value.
    pub cells: Cells,
    /// How cells lie over the full image.
    pub grid: Grid,
    rows: Rows<'a>,
}

/// How a cell holds a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// As Native Pixel Data does: only Bits Stored bits below High Bit count, what is around them may be garbage.
    Stored,
    /// As a number (two's complement when signed) that lossy coding may have pushed beyond what Bits Stored allows.
    Number,
}

/// How cells lie over the full image: cell `i` covers `offset + i × step` to `offset + (i + 1) × step` of its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Cells in a row.
    pub width: usize,
    /// Rows of cells.
    pub height: usize,
    /// Pixels that a cell stands for, along each axis.
    pub step: f64,
    /// Where the first cell begins, in pixels.
    pub offset: f64,
}

impl Grid {
    /// A cell for each pixel.
    pub fn full(description: &PixelDescription) -> Self {
        Self {
            width: description.columns as usize,
            height: description.rows as usize,
            step: 1.0,
            offset: 0.0,
        }
    }
}

enum Rows<'a> {
    Native(native::Native<'a>),
    Plane(Vec<u16>),
    Borrowed(&'a [u16]),
}

impl<'a> Frame<'a> {
    /// Cells in memory, at full size, as Native Pixel Data would hold them.
    pub fn of(stored: &'a [u16], description: PixelDescription) -> Result<Self, Fault> {
        let grid = Grid::full(&description);
        if stored.len() != grid.width * grid.height {
            return Err(Fault::new(
                Reason::CannotDecode,
                "there are not Rows × Columns values",
            ));
        }
        Ok(Self {
            description,
            cells: Cells::Stored,
            grid,
            rows: Rows::Borrowed(stored),
        })
    }

    /// Calls `each` with every row of cells, from the top.
    pub fn each_row(&mut self, mut each: impl FnMut(usize, &[u16])) -> Result<(), Fault> {
        let plane = match &self.rows {
            Rows::Native(native) => return native.each_row(each),
            Rows::Plane(plane) => plane,
            Rows::Borrowed(plane) => *plane,
        };
        plane
            .chunks_exact(self.grid.width)
            .enumerate()
            .for_each(|(y, row)| each(y, row));
        Ok(())
    }
}

/// Decodes the first frame, not smaller than `scale` (cells per pixel, at most 1) along each axis.
pub(super) fn first_frame<'a>(
    bytes: &'a Bytes<'a>,
    pixels: &'a Pixels,
    scale: f64,
) -> Result<Frame<'a>, Fault> {
    let _ = scale;
    match (&pixels.data, pixels.syntax) {
        (PixelData::Native { at, swapped, .. }, _) => {
            let memory = pixels.inflated.as_deref().map(Bytes::Memory);
            Ok(native::frame(memory, bytes, *at, *swapped, pixels))
        }
        (
            PixelData::Encapsulated { .. },
            Syntax::Native | Syntax::Deflated | Syntax::Unknown | _,
        ) => Err(Fault::new(
            Reason::UnsupportedTransferSyntax,
            "no decoder for encapsulated pixels of this kind",
        )),
    }
}

/// What luminance that was made from colours means: everything from 0 to the greatest value is shown.
fn luminance_of(colours: &PixelDescription) -> PixelDescription {
    let top = f64::from(u16::MAX >> (16 - colours.bits_stored));
    PixelDescription {
        samples: 1,
        high_bit: colours.bits_stored - 1,
        signed: false,
        photometric: Photometric::Monochrome2,
        planar: false,
        modality: Modality::Linear {
            slope: 1.0,
            intercept: 0.0,
        },
        voi: Voi::Window {
            center: top / 2.0,
            width: top,
            function: Function::LinearExact,
        },
        padding: None,
        inverse: false,
        ..colours.clone()
    }
}

/// Luminance of a colour (ITU-R BT.601, as in PS3.3 §C.7.6.3.1.2).
fn luminance(red: u16, green: u16, blue: u16) -> u16 {
    ((299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) + 500) / 1000) as u16
}
