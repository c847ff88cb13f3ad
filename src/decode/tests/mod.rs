//! What decoding promises, on files made byte by byte, on codestreams made by other encoders, and on real radiographs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod codecs;
mod mutations;
mod real;
mod rendering;
mod structure;
mod synthetic;

use super::{
    Content, Decoded, Fault, Intensity, Radiograph, RenderSpec, decode_bytes, header, render,
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
