//! JPEG-LS, lossless and near-lossless, through `CharLS`. It has no reduced resolutions.

use super::{Coded, Frame, Samples, check_components, check_size, luminance_of_triples};
use crate::decode::Fault;
use crate::decode::attributes::PixelDescription;
use crate::domain::Reason;

/// What the frame and scan headers say (ITU-T T.87 §C.2).
struct Headers {
    width: u32,
    height: u32,
    precision: u32,
    components: u32,
    near: u8,
    /// One plane a component instead of one triple a pixel.
    planes: bool,
}

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
) -> Result<Frame<'static>, Fault> {
    let headers = headers(codestream).ok_or_else(|| fault("the headers cannot be read"))?;
    check_size(description, headers.width, headers.height)?;
    check_components(description, headers.components)?;
    let bytes = charls::CharLS::default()
        .decode(codestream)
        .map_err(|error| fault(&error.to_string()))?;
    let samples: Vec<u16> = if headers.precision > 8 {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|pair| u16::from_ne_bytes(*pair))
            .collect()
    } else {
        bytes.into_iter().map(u16::from).collect()
    };
    let (width, height) = (headers.width as usize, headers.height as usize);
    if samples.len() != width * height * headers.components as usize {
        return Err(fault(
            "the codestream holds another number of samples than its header says",
        ));
    }
    let samples = match (headers.components, headers.planes) {
        (1, _) => samples,
        (_, false) => luminance_of_triples(description, &samples),
        (_, true) => {
            let [red, green, blue] =
                [0, 1, 2].map(|plane| samples.iter().skip(plane * width * height));
            let triples: Vec<u16> = red
                .zip(green)
                .zip(blue)
                .take(width * height)
                .flat_map(|((r, g), b)| [*r, *g, *b])
                .collect();
            luminance_of_triples(description, &triples)
        }
    };
    let numbers = headers.near > 0;
    Coded {
        width,
        height,
        precision: headers.precision,
        numbers,
        step: 1.0,
        offset: 0.0,
        samples: Samples::Plane(samples),
    }
    .into_frame(description)
}

fn fault(text: &str) -> Fault {
    Fault::new(Reason::CannotDecode, format!("JPEG-LS: {text}"))
}

/// Reads the segments up to the first scan.
fn headers(codestream: &[u8]) -> Option<Headers> {
    let mut rest = codestream.strip_prefix(b"\xFF\xD8")?;
    let mut frame = None;
    loop {
        let [0xFF, marker, high, low, ..] = *rest else {
            return None;
        };
        if marker == 0xFF {
            rest = &rest[1..]; // fill bytes
            continue;
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..2 + len)?;
        match (marker, segment) {
            (0xF7, &[precision, a, b, c, d, components, ..]) => {
                let (height, width) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                frame = Some((precision, height, width, components));
            }
            (0xDA, &[count, ref scan @ ..]) => {
                let (precision, height, width, components) = frame?;
                let [near, interleave, ..] = *scan.get(2 * usize::from(count)..)? else {
                    return None;
                };
                return Some(Headers {
                    width: width.into(),
                    height: height.into(),
                    precision: precision.into(),
                    components: components.into(),
                    near,
                    planes: interleave == 0,
                });
            }
            _ => {}
        }
        rest = &rest[2 + len..];
    }
}
