//! JPEG 2000 and HTJ2K, lossless and lossy, through `OpenJPEG`, at the lowest resolution level that is large enough.

use super::{Coded, Frame, Samples, check_components, check_size, luminance};
use crate::decode::Fault;
use crate::decode::attributes::{Photometric, PixelDescription};
use crate::domain::Reason;

/// What the main header says (ITU-T T.800 §A.5, §A.6).
struct MainHeader {
    width: u32,
    height: u32,
    /// The image does not begin at the reference grid's origin.
    shifted: bool,
    /// Bits of the first component's samples.
    precision: u32,
    /// The first component's samples may be negative.
    signed: bool,
    components: u32,
    /// Wavelet decompositions, the least of all components.
    levels: u32,
    reversible: bool,
    /// Components 0 to 2 are transformed colours, which the decoder turns back into red, green and blue.
    colour_transform: bool,
}

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
    scale: f64,
) -> Result<Frame<'static>, Fault> {
    // Some devices wrap the codestream into a JP2 file, which DICOM does not allow; what is in it counts.
    let start = codestream
        .windows(4)
        .take(4096)
        .position(|bytes| bytes == b"\xFF\x4F\xFF\x51");
    let codestream = &codestream[start.ok_or_else(|| fault("there is no codestream"))?..];
    let header = main_header(codestream).ok_or_else(|| fault("the main header cannot be read"))?;
    check_size(description, header.width, header.height)?;
    check_components(description, header.components)?;

    // Where codestream and Pixel Representation disagree about the sign, samples are two's complement cells: what the
    // wavelet averages of them is no number, and only the full size gives them back. The same where a lossless codestream
    // keeps bits above the stored value's (overlays, once), which are masked out of cells.
    let foreign_bits = header.reversible && header.precision > u32::from(description.high_bit) + 1;
    let overlaid = foreign_bits && description.embedded_overlay;
    let most = if header.shifted || header.signed != description.signed || overlaid {
        0
    } else {
        header.levels.min(5)
    };
    let mut reduce = (0..=most)
        .rev()
        .find(|level| is_large_enough(&header, *level, scale))
        .unwrap_or(0);
    let mut image = decode(codestream, reduce)?;
    // Such bits of which nobody has told.
    if reduce > 0 && foreign_bits && has_foreign_bits(&image, description) {
        reduce = 0;
        image = decode(codestream, reduce)?;
    }
    let components = image.components();
    let (width, height) = (
        header.width.div_ceil(1 << reduce),
        header.height.div_ceil(1 << reduce),
    );
    let colours = description.samples == 3
        && (header.colour_transform
            || !matches!(
                description.photometric,
                Photometric::Ybr | Photometric::Ybr422
            ));
    let needed = if colours { 3 } else { 1 };
    let fits = |c: &jpeg2k::ImageComponent| c.width() == width && c.height() == height;
    if components.len() != header.components as usize || !components[..needed].iter().all(fits) {
        return Err(fault(
            "what was decoded has another size than the codestream's header says",
        ));
    }

    // Two's complement in an unsigned component stays as it is; negative numbers become two's complement.
    let least = if description.signed {
        i32::from(i16::MIN)
    } else {
        0
    };
    let numbers = reduce > 0 || !header.reversible;
    let cell = move |value: i32| {
        if numbers {
            value.clamp(least, i32::from(u16::MAX)) as u16
        } else {
            value as u16
        }
    };
    let fill = move |y: usize, row: &mut [u16]| {
        let start = y * row.len();
        let of = |component: usize| {
            let data = image.components()[component].data();
            data[start..].iter().map(|value| cell(*value))
        };
        if colours {
            let colours = of(0).zip(of(1)).zip(of(2));
            for (sample, ((red, green), blue)) in row.iter_mut().zip(colours) {
                *sample = luminance(red, green, blue);
            }
        } else {
            for (sample, cell) in row.iter_mut().zip(of(0)) {
                *sample = cell;
            }
        }
    };
    let step = f64::from(1_u32 << reduce);
    Coded {
        width: width as usize,
        height: height as usize,
        precision: header.precision,
        numbers,
        step,
        // The low-pass samples of a wavelet stand at even places: sample k of level r is centred on pixel k × 2^r.
        offset: 0.5 - step / 2.0,
        samples: Samples::Rows(Box::new(fill)),
    }
    .into_frame(description)
}

/// At the codestream's size divided by 2^`reduce`.
fn decode(codestream: &[u8], reduce: u32) -> Result<jpeg2k::Image, Fault> {
    let parameters = jpeg2k::DecodeParameters::new().reduce(reduce).strict(true);
    jpeg2k::Image::from_bytes_with(codestream, parameters)
        .map_err(|error| fault(&error.to_string()))
}

/// Whether samples of a reduced image are larger than stored values are, by more than a wavelet overshoots: bits above those
/// are set somewhere.
fn has_foreign_bits(image: &jpeg2k::Image, description: &PixelDescription) -> bool {
    let greatest = (1_i32 << (description.high_bit + 1)) / 4 * 5;
    let mut samples = image
        .components()
        .iter()
        .flat_map(jpeg2k::ImageComponent::data);
    samples.any(|sample| sample.abs() > greatest)
}

/// Whether a resolution level has enough samples for pictures of `scale`. The low-pass samples of a wavelet are no means:
/// noise and edges that averaging takes out are still in them, and only averaging takes them out. At least two are wanted
/// to an output pixel along each axis; 1.4 will do where the next level has more than a megapixel, which takes long. (What
/// that changes: docs/performance.md, that it does no harm.)
fn is_large_enough(header: &MainHeader, level: u32, scale: f64) -> bool {
    let samples = 1.0 / (scale * f64::from(1_u32 << level));
    let pixels = |level: u32| {
        u64::from(header.width.div_ceil(1 << level)) * u64::from(header.height.div_ceil(1 << level))
    };
    samples >= 2.0 || (samples >= 1.4 && level > 0 && pixels(level - 1) > 1 << 20)
}

fn fault(text: &str) -> Fault {
    Fault::new(Reason::CannotDecode, format!("JPEG 2000: {text}"))
}

/// Reads the marker segments before the first tile.
fn main_header(codestream: &[u8]) -> Option<MainHeader> {
    const SIZ: u8 = 0x51;
    const COD: u8 = 0x52;
    const COC: u8 = 0x53;
    const SOT: u8 = 0x90;
    let mut rest = codestream.get(2..)?;
    let mut header: Option<MainHeader> = None;
    let mut style_known = false;
    loop {
        let [0xFF, marker, high, low, ..] = *rest else {
            return None;
        };
        if marker == SOT {
            return header.filter(|_| style_known);
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + len)?;
        let word = |at: usize| {
            segment
                .get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_be_bytes)
        };
        match (marker, &mut header) {
            (SIZ, header) => {
                let (x1, y1, x0, y0) = (word(2)?, word(6)?, word(10)?, word(14)?);
                let depth = *segment.get(36)?;
                *header = Some(MainHeader {
                    width: x1.checked_sub(x0)?,
                    height: y1.checked_sub(y0)?,
                    shifted: x0 != 0 || y0 != 0,
                    precision: u32::from(depth & 0x7F) + 1,
                    signed: depth & 0x80 != 0,
                    components: u16::from_be_bytes([*segment.get(34)?, *segment.get(35)?]).into(),
                    levels: 32,
                    reversible: false,
                    colour_transform: false,
                });
            }
            (COD, Some(header)) => {
                let [_, _, _, _, transform, levels, _, _, _, wavelet, ..] = *segment else {
                    return None;
                };
                header.levels = header.levels.min(levels.into());
                header.reversible = wavelet == 1;
                header.colour_transform = transform == 1;
                style_known = true;
            }
            (COC, Some(header)) => {
                let at = if header.components < 257 { 2 } else { 3 };
                header.levels = header.levels.min((*segment.get(at)?).into());
            }
            _ => {}
        }
        rest = &rest[2 + len..];
    }
}
