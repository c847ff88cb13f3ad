//! From Pixel Data to rows of cells, one module a codec family, at reduced size where the format allows it.
//!
//! Every codestream's own dimensions, components and depth are compared with the header before it is decoded, and what
//! came out afterwards; nothing is allocated for a size that the header declares before that.

mod jpeg;
mod jpeg2000;
mod jpegls;
mod jpegxl;
mod native;
mod rle;

use super::Fault;
use super::attributes::{Photometric, PixelDescription};
use super::bytes::Bytes;
use super::dataset::PixelData;
use super::header::{Pixels, Syntax};
use crate::domain::Reason;

/// The longest compressed frame; the largest detectors' images are a tenth of it uncompressed.
const MAX_CODESTREAM: u64 = 400 << 20;

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

/// Writes a row of samples, which its first argument counts from the top.
type Fill = Box<dyn Fn(usize, &mut [u16])>;

enum Rows<'a> {
    Native(native::Native<'a>),
    Plane(Vec<u16>),
    Filled(Fill),
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
            Rows::Filled(fill) => {
                let mut row = vec![0; self.grid.width];
                for y in 0..self.grid.height {
                    fill(y, &mut row);
                    each(y, &row);
                }
                return Ok(());
            }
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
    let (offsets, fragments) = match &pixels.data {
        PixelData::Native { at, swapped, .. } => {
            let memory = pixels.inflated.as_deref().map(Bytes::Memory);
            return Ok(native::frame(memory, bytes, *at, *swapped, pixels));
        }
        PixelData::Encapsulated { offsets, fragments } => (*offsets, fragments),
    };
    if pixels.syntax == Syntax::Wrapped {
        return wrapped(bytes, pixels, fragments);
    }
    let fragments = fragments_of_first_frame(bytes, pixels, offsets, fragments)?;
    let codestream = join(bytes, fragments)?;
    let description = &pixels.description;
    match pixels.syntax {
        Syntax::Rle => rle::frame(&codestream, description),
        Syntax::Jpeg => jpeg::frame(&codestream, description, scale),
        Syntax::JpegLs => jpegls::frame(&codestream, description),
        Syntax::Jpeg2000 => jpeg2000::frame(&codestream, description, scale),
        Syntax::JpegXl => jpegxl::frame(&codestream, description),
        Syntax::Native | Syntax::Deflated | Syntax::Wrapped | Syntax::Unknown => {
            let detail = "Pixel Data is encapsulated but the transfer syntax is not";
            Err(Fault::new(Reason::UnsupportedTransferSyntax, detail))
        }
    }
}

/// Encapsulated uncompressed pixels: the first fragment is the first frame.
fn wrapped<'a>(
    bytes: &'a Bytes<'a>,
    pixels: &'a Pixels,
    fragments: &[(u64, u32)],
) -> Result<Frame<'a>, Fault> {
    let needed = pixels.description.frame_bytes();
    match fragments {
        [(at, len), ..] if u64::from(*len) >= needed => {
            Ok(native::frame(None, bytes, *at, false, pixels))
        }
        _ => {
            let detail = format!("the first fragment has fewer bytes than the {needed} of a frame");
            Err(Fault::new(Reason::Malformed, detail))
        }
    }
}

/// The fragments that hold the first frame: by the Basic Offset Table, by their number, or by where the next
/// codestream begins.
fn fragments_of_first_frame<'f>(
    bytes: &Bytes,
    pixels: &Pixels,
    (table, table_len): (u64, u32),
    fragments: &'f [(u64, u32)],
) -> Result<&'f [(u64, u32)], Fault> {
    if pixels.frames <= 1 || fragments.len() <= 1 {
        return Ok(fragments);
    }
    if fragments.len() == pixels.frames as usize {
        return Ok(&fragments[..1]);
    }
    let begin = fragments[0].0;
    if table_len >= 8 {
        let mut second = [0; 4];
        bytes.read_at(table + 4, &mut second)?;
        let second = begin + u64::from(u32::from_le_bytes(second));
        let count = fragments.iter().take_while(|(at, _)| *at < second).count();
        return Ok(&fragments[..count.max(1)]);
    }
    for (index, (at, len)) in fragments.iter().enumerate().skip(1) {
        let mut magic = [0; 3];
        if *len >= 3 {
            bytes.read_at(*at, &mut magic)?;
        }
        // The beginnings of JPEG and JPEG-LS, of JPEG 2000, and of JPEG XL; RLE frames are one fragment each.
        let begins = matches!(magic, [0xFF, 0xD8 | 0x4F, 0xFF] | [0xFF, 0x0A, _]);
        if begins || pixels.syntax == Syntax::Rle {
            return Ok(&fragments[..index]);
        }
    }
    Ok(fragments)
}

/// The fragments' bytes in one piece; the header pass has seen that the file holds them all.
fn join(bytes: &Bytes, fragments: &[(u64, u32)]) -> Result<Vec<u8>, Fault> {
    let len: u64 = fragments.iter().map(|(_, len)| u64::from(*len)).sum();
    if len > MAX_CODESTREAM {
        let detail = format!(
            "a compressed frame of {len} bytes is more than the {MAX_CODESTREAM} that are decoded"
        );
        return Err(Fault::new(Reason::CannotDecode, detail));
    }
    let mut joined = vec![0; len as usize];
    let mut rest = joined.as_mut_slice();
    for (at, len) in fragments {
        let (part, tail) = rest.split_at_mut(*len as usize);
        bytes.read_at(*at, part)?;
        rest = tail;
    }
    Ok(joined)
}

/// What a codec gives back: one channel of samples (grey, or the luminance of colours).
struct Coded {
    width: usize,
    height: usize,
    /// Bits of a sample in the codestream.
    precision: u32,
    /// The samples are numbers that coding or reduction has changed, not cells as they were stored.
    numbers: bool,
    /// Pixels that a sample stands for, along each axis.
    step: f64,
    /// Where the first sample begins, in pixels.
    offset: f64,
    samples: Samples,
}

/// Samples that a codec gives back.
enum Samples {
    /// All of them, row by row.
    Plane(Vec<u16>),
    /// `width × height` of them, made from what the codec holds as they are needed: a copy would be half as large again.
    Rows(Fill),
}

impl Coded {
    fn into_frame(self, description: &PixelDescription) -> Result<Frame<'static>, Fault> {
        let Self {
            width,
            height,
            precision,
            numbers,
            step,
            offset,
            samples,
        } = self;
        let whole = match &samples {
            Samples::Plane(plane) => plane.len() == width * height,
            Samples::Rows(_) => true,
        };
        if !whole || width * height == 0 {
            return Err(Fault::new(
                Reason::CannotDecode,
                "the codestream holds another number of samples than it says",
            ));
        }
        if precision > description.bits_allocated.into() {
            let detail =
                format!("the codestream has {precision} bits a sample, more than Bits Allocated");
            return Err(Fault::new(Reason::CannotDecode, detail));
        }
        let mut description = if description.samples == 1 {
            description.clone()
        } else {
            luminance_of(description)
        };
        // Samples of fewer bits than High Bit needs are not shifted within their cells.
        let shifted = description.high_bit + 1 > description.bits_stored;
        if precision <= description.high_bit.into() {
            description.high_bit = description.bits_stored - 1;
        }
        let numbers = numbers && !(shifted && precision > description.high_bit.into());
        // Two's complement of `precision` bits becomes one of 16.
        let extended = numbers && description.signed && precision < 16;
        let unused = if extended { 16 - precision } else { 0 };
        let extend = move |samples: &mut [u16]| {
            for sample in samples {
                *sample = ((*sample << unused) as i16 >> unused) as u16;
            }
        };
        let rows = match samples {
            Samples::Plane(mut plane) => {
                if extended {
                    extend(&mut plane);
                }
                Rows::Plane(plane)
            }
            Samples::Rows(fill) if extended => Rows::Filled(Box::new(move |y, row| {
                fill(y, row);
                extend(row);
            })),
            Samples::Rows(fill) => Rows::Filled(fill),
        };
        Ok(Frame {
            description,
            cells: if numbers {
                Cells::Number
            } else {
                Cells::Stored
            },
            grid: Grid {
                width,
                height,
                step,
                offset,
            },
            rows,
        })
    }
}

/// A codestream's size must be the header's.
fn check_size(description: &PixelDescription, width: u32, height: u32) -> Result<(), Fault> {
    if (width, height) == (description.columns, description.rows) {
        return Ok(());
    }
    let PixelDescription { columns, rows, .. } = description;
    let detail =
        format!("the codestream has {width}×{height} pixels and the header {columns}×{rows}");
    Err(Fault::new(Reason::CannotDecode, detail))
}

/// A codestream's number of components must be Samples per Pixel.
fn check_components(description: &PixelDescription, components: u32) -> Result<(), Fault> {
    if components == u32::from(description.samples) {
        return Ok(());
    }
    let detail = format!(
        "the codestream has {components} components and the header {}",
        description.samples
    );
    Err(Fault::new(Reason::CannotDecode, detail))
}

/// What luminance that was made from colours means.
fn luminance_of(colours: &PixelDescription) -> PixelDescription {
    let top = f64::from(u16::MAX >> (16 - colours.bits_stored));
    PixelDescription {
        samples: 1,
        high_bit: colours.bits_stored - 1,
        signed: false,
        photometric: Photometric::Monochrome2,
        planar: false,
        ..colours.clone().of_luminance(top)
    }
}

/// Luminance of a colour (ITU-R BT.601, as in PS3.3 §C.7.6.3.1.2).
fn luminance(red: u16, green: u16, blue: u16) -> u16 {
    ((299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue) + 500) / 1000) as u16
}

/// Luminance of interleaved samples as they were stored: of YBR the first of three.
fn luminance_of_triples(description: &PixelDescription, samples: &[u16]) -> Vec<u16> {
    let stored = matches!(
        description.photometric,
        Photometric::Ybr | Photometric::Ybr422
    );
    let triples = samples.as_chunks::<3>().0.iter();
    triples
        .map(|[first, second, third]| {
            if stored {
                *first
            } else {
                luminance(*first, *second, *third)
            }
        })
        .collect()
}
