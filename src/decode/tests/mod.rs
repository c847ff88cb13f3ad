//! What decoding promises, on files made byte by byte, on codestreams made by other encoders, and on real radiographs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod codecs;
mod mutations;
mod real;
mod rendering;
mod structure;
mod synthetic;

use std::time::Duration;

use super::{
    Content, Decoded, Fault, Intensity, Radiograph, RenderSpec, Spent, decode_bytes, header, render,
};

/// Decodes bytes to a picture of the file's own size, or of a longest side.
fn picture(bytes: &[u8], longest: Option<u32>) -> Result<Radiograph, Fault> {
    decoded(bytes, longest, Intensity::Voi)
        .map(|mut decoded| decoded.radiographs.pop().expect("a radiograph"))
}

fn decoded(bytes: &[u8], longest: Option<u32>, intensity: Intensity) -> Result<Decoded, Fault> {
    let (rows, columns) = match header::inspect_bytes(bytes).content {
        Content::Radiograph { header } => (
            header.description.rows.max(1),
            header.description.columns.max(1),
        ),
        Content::Damaged { fault, .. } => return Err(fault),
        _ => panic!("not a radiograph"),
    };
    let spec: RenderSpec = render::picture_spec(rows, columns, longest, intensity);
    decode_bytes(bytes, std::slice::from_ref(&spec))
}

#[test]
fn whatever_a_child_says_of_its_times_none_is_longer_than_its_life() {
    let said = Spent {
        header_us: u64::MAX,
        codec_us: 2_000,
        render_us: 1_001,
    };
    let most = Spent {
        header_us: 1_000,
        codec_us: 1_000,
        render_us: 1_000,
    };
    assert_eq!(said.within(Duration::from_millis(1)), most);
    assert_eq!(most.within(Duration::from_secs(1)), most);
}

/// Mean and greatest absolute difference.
fn difference(a: &[f32], b: &[f32]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let (sum, most) = a
        .iter()
        .zip(b)
        .fold((0.0_f64, 0.0_f32), |(sum, most), (a, b)| {
            let difference = (a - b).abs();
            (sum + f64::from(difference), most.max(difference))
        });
    ((sum / a.len() as f64) as f32, most)
}
