//! JPEG: baseline and extended (8 and 12 bits, reduced in the DCT domain), lossless process 14 with any predictor.

use super::{Coded, Frame, check_components, check_size, luminance_of_triples};
use crate::decode::Fault;
use crate::decode::attributes::{MAX_PIXELS, PixelDescription};
use crate::domain::Reason;
use crate::sys::turbojpeg::{Jpeg, JpegError};

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
    scale: f64,
) -> Result<Frame<'static>, Fault> {
    let fault = |JpegError(text)| Fault::new(Reason::CannotDecode, format!("JPEG: {text}"));
    let mut jpeg = Jpeg::open(codestream, MAX_PIXELS as u32).map_err(fault)?;
    let header = jpeg.header();
    check_size(description, header.width, header.height)?;
    check_components(description, if header.grey { 1 } else { 3 })?;
    let reduction = if header.lossless {
        1
    } else {
        [8, 4, 2]
            .into_iter()
            .find(|n| scale * f64::from(*n) <= 1.0)
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
        samples: if colours {
            luminance_of_triples(description, &image.samples)
        } else {
            image.samples
        },
    }
    .into_frame(description)
}
