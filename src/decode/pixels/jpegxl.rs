//! JPEG XL through jxl-oxide. It decodes to floating point inside; rows are made integers as they come out. What is three
//! colours inside is decoded in strips, which come out the same and take a third of the memory.

use jxl_oxide::{AllocTracker, CropInfo, JxlImage};

use super::{Coded, Frame, Samples, check_components, check_size, luminance};
use crate::decode::Fault;
use crate::decode::attributes::PixelDescription;
use crate::domain::Reason;

/// Memory that the decoder may take: for 90 million pixels of lossless grey, which is decoded as a whole.
const MEMORY: usize = 700 << 20;
/// The same for what is decoded in strips.
const STRIPS_MEMORY: usize = 480 << 20;

/// Pixels of which three colours are decoded at once, about: each takes some 25 bytes.
const STRIP: u32 = 6_000_000;

/// Rows that a strip has at least: its neighbours' rows, as far as filters reach, are decoded with it.
const STRIP_ROWS: u32 = 256;

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
) -> Result<Frame<'static>, Fault> {
    // Header first, so that nothing is decoded of an image of another size.
    let tracker = AllocTracker::with_limit(MEMORY);
    let mut image = JxlImage::builder()
        .alloc_tracker(tracker.clone())
        .read(codestream)
        .map_err(|error| fault(&error.to_string()))?;
    check_size(description, image.width(), image.height())?;
    let colours = !image.pixel_format().is_grayscale();
    check_components(description, if colours { 3 } else { 1 })?;
    let metadata = &image.image_header().metadata;
    let bits = metadata.bit_depth.bits_per_sample();
    if bits == 0 || bits > 16 {
        return Err(fault(&format!(
            "{bits} bits a sample; 16 at most are decoded"
        )));
    }
    // Lossy grey is three colours inside (ISO/IEC 18181-1, XYB).
    let rows = if colours || metadata.xyb_encoded {
        tracker
            .shrink_limit(MEMORY - STRIPS_MEMORY)
            .map_err(|error| fault(&error.to_string()))?;
        (STRIP / image.width().max(1)).max(STRIP_ROWS)
    } else {
        image.height()
    };
    image.set_render_spot_color(false);
    let samples = samples(&mut image, bits, rows)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    // Whether anything was lost the file does not tell plainly; a number is right in both cases.
    Coded {
        width,
        height,
        precision: bits,
        numbers: true,
        step: 1.0,
        offset: 0.0,
        samples: Samples::Plane(samples),
    }
    .into_frame(description)
}

/// Grey, so many rows at a time.
fn samples(image: &mut JxlImage, bits: u32, rows: u32) -> Result<Vec<u16>, Fault> {
    let (width, height) = (image.width(), image.height());
    let top_value = f32::from(u16::MAX >> (16 - bits));
    let cell = |value: f32| (value * top_value).round().clamp(0.0, top_value) as u16;
    let mut samples = Vec::with_capacity(width as usize * height as usize);
    for top in (0..height).step_by(rows.max(1) as usize) {
        let height = rows.min(height - top);
        image.set_image_region(CropInfo {
            width,
            height,
            left: 0,
            top,
        });
        let render = image
            .render_frame(0)
            .map_err(|error| fault(&error.to_string()))?;
        let mut stream = render.stream_no_alpha();
        let channels = stream.channels() as usize;
        if (stream.width(), stream.height()) != (width, height) || !matches!(channels, 1 | 3) {
            return Err(fault(
                "what was decoded has another size than the codestream's header says",
            ));
        }
        let mut row = vec![0.0_f32; width as usize * channels];
        for _ in 0..height {
            if stream.write_to_buffer(&mut row) != row.len() {
                return Err(fault("the picture is not complete"));
            }
            if channels == 1 {
                samples.extend(row.iter().map(|value| cell(*value)));
            } else {
                let triples = row.as_chunks::<3>().0;
                samples.extend(
                    triples
                        .iter()
                        .map(|[r, g, b]| luminance(cell(*r), cell(*g), cell(*b))),
                );
            }
        }
    }
    Ok(samples)
}

fn fault(text: &str) -> Fault {
    Fault::new(Reason::CannotDecode, format!("JPEG XL: {text}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn strips_give_the_same_picture_as_the_whole() {
        for name in ["strips.jxl", "strips-rgb.jxl"] {
            let path = format!(
                "{}/tests/data/codestreams/{name}",
                env!("CARGO_MANIFEST_DIR")
            );
            let mut image = JxlImage::builder().open(path).unwrap();
            let whole = samples(&mut image, 8, 10_000).unwrap();
            for rows in [1, 7, 64, 255, 256, 257] {
                assert!(
                    samples(&mut image, 8, rows).unwrap() == whole,
                    "{name}, {rows} rows"
                );
            }
        }
    }
}
