//! RLE (PS3.5 annex G): a header with the places of segments, each a byte plane packed by `PackBits`.

use super::{Coded, Frame, Samples, luminance_of_triples};
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
    let mut plane = vec![0_u8; pixels];
    for (index, segment) in segments.iter().take(used * bytes_each).enumerate() {
        let (sample, byte) = (index / bytes_each, index % bytes_each);
        // The most significant byte comes first.
        let shift = 8 * (bytes_each - 1 - byte);
        unpack(segment, &mut plane)?;
        let add = |(cell, value): (&mut u16, &u8)| *cell |= u16::from(*value) << shift;
        if used == 1 {
            cells.iter_mut().zip(&plane).for_each(add);
        } else {
            let of_sample = cells[sample..].iter_mut().step_by(used);
            of_sample.zip(&plane).for_each(add);
        }
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
        samples: Samples::Plane(samples),
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

/// Unpacks exactly as many bytes as the plane has (PS3.5 §G.3.2); what a segment holds beyond is left alone.
fn unpack(packed: &[u8], plane: &mut [u8]) -> Result<(), Fault> {
    let too_early = || fault("a segment ends too early");
    let (mut rest, mut missing) = (packed, plane);
    while !missing.is_empty() {
        let (control, tail) = rest.split_first().ok_or_else(too_early)?;
        match *control {
            128 => rest = tail,
            literal @ 0..128 => {
                let (run, tail) = tail
                    .split_at_checked(usize::from(literal) + 1)
                    .ok_or_else(too_early)?;
                let len = run.len().min(missing.len());
                let (now, later) = missing.split_at_mut(len);
                now.copy_from_slice(&run[..len]);
                (rest, missing) = (tail, later);
            }
            repeat => {
                let (value, tail) = tail.split_first().ok_or_else(too_early)?;
                let len = (257 - usize::from(repeat)).min(missing.len());
                let (now, later) = missing.split_at_mut(len);
                now.fill(*value);
                (rest, missing) = (tail, later);
            }
        }
    }
    Ok(())
}
