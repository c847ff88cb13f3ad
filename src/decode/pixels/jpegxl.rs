//! JPEG XL through jxl-oxide. It decodes to floating point inside; rows are made integers as they come out.

use jxl_oxide::{AllocTracker, JxlImage};

use super::{Coded, Frame, Samples, check_components, check_size, luminance};
use crate::decode::Fault;
use crate::decode::attributes::PixelDescription;
use crate::domain::Reason;

/// Memory that the decoder may take: for 90 million pixels of lossless grey, or for 30 million of lossy grey, which is three
/// colours inside.
const MEMORY: usize = 700 << 20;
/// The same for colours, of which no detector's images are.
const COLOUR_MEMORY: usize = 480 << 20;

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
) -> Result<Frame<'static>, Fault> {
    // Header first, so that nothing is decoded of an image of another size.
    let memory = if description.samples == 1 {
        MEMORY
    } else {
        COLOUR_MEMORY
    };
    let tracker = AllocTracker::with_limit(memory);
    let mut image = JxlImage::builder()
        .alloc_tracker(tracker)
        .read(codestream)
        .map_err(|error| fault(&error.to_string()))?;
    check_size(description, image.width(), image.height())?;
    let format = image.pixel_format();
    check_components(description, if format.is_grayscale() { 1 } else { 3 })?;
    let bits = image.image_header().metadata.bit_depth.bits_per_sample();
    if bits == 0 || bits > 16 {
        return Err(fault(&format!(
            "{bits} bits a sample; 16 at most are decoded"
        )));
    }
    image.set_render_spot_color(false);
    let render = image
        .render_frame(0)
        .map_err(|error| fault(&error.to_string()))?;
    let mut stream = render.stream_no_alpha();
    let (width, height) = (stream.width() as usize, stream.height() as usize);
    let channels = stream.channels() as usize;
    if (width, height) != (description.columns as usize, description.rows as usize)
        || !matches!(channels, 1 | 3)
    {
        return Err(fault(
            "what was decoded has another size than the codestream's header says",
        ));
    }
    let top = f32::from(u16::MAX >> (16 - bits));
    let cell = |value: f32| (value * top).round().clamp(0.0, top) as u16;
    let mut row = vec![0.0_f32; width * channels];
    let mut samples = Vec::with_capacity(width * height);
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

fn fault(text: &str) -> Fault {
    Fault::new(Reason::CannotDecode, format!("JPEG XL: {text}"))
}
