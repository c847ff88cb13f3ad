//! RLE (PS3.5 annex G): a header with the places of segments, each a byte plane packed by `PackBits`.

use super::{Coded, Frame, luminance_of_triples};
use crate::decode::Fault;
use crate::decode::attributes::{Photometric, PixelDescription};
use crate::domain::Reason;

pub(super) fn frame(
    codestream: &[u8],
    description: &PixelDescription,
) -> Result<Frame<'static>, Fault> {
    let (width, height) = (description.columns as usize, description.rows as usize);
    let pixels = width * height;
    let bytes_each = usize::from(description.bits_allocated / 8);
    let samples = usize::from(description.samples);
    let segments = segments(codestream)?;
    if segments.len() != bytes_each * samples {
        return Err(fault("the number of segments contradicts the header"));
    }
    // Two bytes make 128 at best: what cannot become the whole picture is refused before memory is taken for it.
    if segments
        .iter()
        .any(|segment| segment.len().saturating_mul(64) < pixels)
    {
        return Err(fault("the segments are too short for Rows and Columns"));
    }
    // Luminance is all that is needed of YBR.
    let used = if description.photometric == Photometric::Rgb {
        samples
    } else {
        1
    };
    let mut cells = vec![0_u16; pixels * used];
    for (index, segment) in segments.iter().take(used * bytes_each).enumerate() {
        let (sample, byte) = (index / bytes_each, index % bytes_each);
        // The most significant byte comes first.
        let shift = 8 * (bytes_each - 1 - byte);
        unpack(segment, pixels, |at, value| {
            cells[at * used + sample] |= u16::from(value) << shift;
        })?;
    }
    let samples = if used == 3 {
        luminance_of_triples(description, &cells)
    } else {
        cells
    };
    let precision = description.bits_allocated.into();
    Coded {
        width,
        height,
        precision,
        numbers: false,
        step: 1.0,
        offset: 0.0,
        samples,
    }
    .into_frame(description)
}

fn fault(text: &str) -> Fault {
    Fault::new(Reason::CannotDecode, format!("RLE: {text}"))
}

/// The byte planes that the header points at.
fn segments(codestream: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    let (header, _) = codestream
        .split_first_chunk::<64>()
        .ok_or_else(|| fault("the header is cut off"))?;
    let words: Vec<usize> = header
        .as_chunks()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word) as usize)
        .collect();
    let count = words[0];
    if !(1..=15).contains(&count) {
        return Err(fault("the number of segments is not 1 to 15"));
    }
    let end_of = |index: usize| {
        if index == count {
            codestream.len()
        } else {
            words[index + 1]
        }
    };
    (1..=count)
        .map(|index| codestream.get(words[index].max(64)..end_of(index)))
        .collect::<Option<_>>()
        .ok_or_else(|| fault("a segment lies outside the codestream"))
}

/// Unpacks exactly `count` bytes (PS3.5 §G.3.2) and gives each with its place.
fn unpack(packed: &[u8], count: usize, mut put: impl FnMut(usize, u8)) -> Result<(), Fault> {
    let mut rest = packed;
    let mut at = 0;
    while at < count {
        let [control, tail @ ..] = rest else {
            return Err(fault("a segment ends too early"));
        };
        rest = tail;
        match *control {
            128 => {}
            literal @ 0..128 => {
                let len = usize::from(literal) + 1;
                let (run, tail) = rest
                    .split_at_checked(len)
                    .ok_or_else(|| fault("a segment ends too early"))?;
                for value in run.iter().take(count - at) {
                    put(at, *value);
                    at += 1;
                }
                rest = tail;
            }
            repeat => {
                let [value, tail @ ..] = rest else {
                    return Err(fault("a segment ends too early"));
                };
                for _ in 0..(257 - usize::from(repeat)).min(count - at) {
                    put(at, *value);
                    at += 1;
                }
                rest = tail;
            }
        }
    }
    Ok(())
}
