//! JPEG: baseline and extended (8 and 12 bits, reduced in the DCT domain), lossless process 14 with any predictor.

use std::borrow::Cow;

use super::{Coded, Frame, Samples, check_components, check_size, luminance_of_triples};
use crate::decode::Fault;
use crate::decode::attributes::{MAX_PIXELS, Photometric, PixelDescription};
use crate::domain::Reason;
use crate::sys::turbojpeg::{Jpeg, JpegError};

/// So many samples are wanted to an output pixel along each axis at least. They come out of the decoder rounded to 8 bits (12
/// for extended JPEG), and a narrow window makes much of that: averaging over more takes it out, and costs little.
const SAMPLES: f64 = 2.8;

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
    scale: f64,
) -> Result<Frame<'static>, Fault> {
    let fault = |JpegError(text)| Fault::new(Reason::CannotDecode, format!("JPEG: {text}"));
    let codestream = with_colours_named(codestream, description);
    let mut jpeg = Jpeg::open(&codestream, MAX_PIXELS as u32).map_err(fault)?;
    let header = jpeg.header();
    check_size(description, header.width, header.height)?;
    check_components(description, if header.grey { 1 } else { 3 })?;
    let reduction = if header.lossless {
        1
    } else {
        [8, 4, 2]
            .into_iter()
            .find(|n| SAMPLES * scale * f64::from(*n) <= 1.0)
            .unwrap_or(1)
    };
    // Lossy colours come out as luminance; lossless ones have no colour transform and are mixed here.
    let colours = header.lossless && !header.grey;
    let image = jpeg.decode(reduction, colours).map_err(fault)?;
    Coded {
        width: image.width as usize,
        height: image.height as usize,
        precision: header.precision,
        numbers: !header.lossless,
        step: f64::from(reduction),
        offset: 0.0,
        samples: Samples::Plane(if colours {
            luminance_of_triples(description, &image.samples)
        } else {
            image.samples
        }),
    }
    .into_frame(description)
}

/// Where a codestream does not say which colours its components are, JPEG's own rule takes them for luminance and colour
/// differences; Photometric Interpretation wins over that, and is put into it as Adobe would.
fn with_colours_named<'a>(codestream: &'a [u8], description: &PixelDescription) -> Cow<'a, [u8]> {
    /// APP14, version 100, no flags, no transform (ITU-T T.872 §6.5.3).
    const ADOBE_RGB: &[u8] = b"\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00\x00";
    if description.photometric != Photometric::Rgb || names_colours(codestream) {
        return Cow::Borrowed(codestream);
    }
    let (start, rest) = codestream.split_at(codestream.len().min(2));
    Cow::Owned([start, ADOBE_RGB, rest].concat())
}

/// Whether a JFIF or Adobe segment stands before the first scan; also where the segments cannot be followed.
fn names_colours(codestream: &[u8]) -> bool {
    const APP0: u8 = 0xE0;
    const APP14: u8 = 0xEE;
    const SOS: u8 = 0xDA;
    let mut rest = codestream.get(2..).unwrap_or_default();
    loop {
        let [0xFF, marker, high, low, ..] = *rest else {
            return true;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some(body) = rest.get(4..2 + len) else {
            return true;
        };
        match marker {
            SOS => return false,
            APP0 if body.starts_with(b"JFIF\0") => return true,
            APP14 if body.starts_with(b"Adobe") => return true,
            _ => rest = &rest[2 + len..],
        }
    }
}
