//! From a file's bytes to what the model will see. Untrusted bytes are touched only in a jailed child.
//!
//! [`header`] reads the structure, [`pixels`] decodes (at reduced size where the format allows it), [`render`]
//! prepares the model's input; [`worker`] runs the three in the jail and [`pool`] is its parent.

pub mod attributes;
pub mod bytes;
pub mod confine;
pub mod dataset;
pub mod encoding;
pub mod header;
mod inflate;
#[cfg(feature = "failpoints")]
pub mod misbehave;
pub mod pixels;
pub mod pool;
pub mod protocol;
pub mod render;
#[cfg(test)]
mod tests;
pub mod worker;

pub use header::inspect;

use std::fs::File;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::domain::{Header, Reason};
use bytes::Bytes;

pub use crate::domain::settle::Completeness;

/// Raised whenever the same file would give another [`Radiograph`]; bundles name the version they were trained with.
pub const PREPROCESSING_VERSION: u32 = 1;

/// What the header pass found.
#[derive(Clone, Serialize, Deserialize)]
pub struct Inspection {
    /// Whether the file is all there.
    pub completeness: Completeness,
    /// What it is.
    pub content: Content,
}

/// What a file is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Content {
    /// Not DICOM at all.
    NotDicom,
    /// A ZIP or another archive.
    Archive,
    /// A DICOMDIR (Media Storage Directory Storage).
    Dicomdir,
    /// DICOM, but no radiograph: CT, MR, structured report, encapsulated PDF…
    Other {
        /// Its header.
        header: Header,
    },
    /// A radiograph: computed or digital radiography, or a secondary capture that says so.
    Radiograph {
        /// Its header.
        header: Header,
    },
    /// DICOM that cannot be read.
    Damaged {
        /// The header as far as it could be read.
        header: Header,
        /// Why not.
        fault: Fault,
    },
}

/// Why a file could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Fault {
    /// The reason under which it is quarantined.
    pub reason: Reason,
    /// What exactly, for people; at most 300 characters, never a value from the header that could name a patient.
    pub detail: String,
}

impl Fault {
    /// A fault with its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(300) {
            detail.truncate(end);
        }
        Self { reason, detail }
    }
}

/// How a radiograph is prepared for a network; part of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenderSpec {
    /// Rows of the network's input.
    pub height: u32,
    /// Columns of the network's input.
    pub width: u32,
    /// How another aspect ratio is fitted.
    #[serde(default)]
    pub fit: Fit,
    /// Grey value (0 to 1) of what letterboxing adds.
    #[serde(default)]
    pub pad: f32,
    /// How pixels are averaged; only `area` so far.
    #[serde(default)]
    pub resampler: Resampler,
    /// How stored values become grey values from 0 to 1.
    #[serde(default)]
    pub intensity: Intensity,
    /// Whether bone is bright or as the file has it.
    #[serde(default)]
    pub polarity: Polarity,
}

/// How another aspect ratio is fitted into the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Whole image, aspect kept, centred, the rest padded.
    #[default]
    Letterbox,
    /// Whole image, aspect not kept.
    Squash,
    /// Aspect kept, centred, what does not fit cut off.
    Crop,
}

/// How pixels are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resampler {
    /// Area average; pixel centres at half integers.
    #[default]
    Area,
}

/// How stored values become grey values from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Intensity {
    /// Modality LUT, then VOI LUT or the first window, or the whole range of values when the file has neither.
    #[default]
    Voi,
    /// Modality LUT, then linear between two percentiles of the image without collimation and pixel padding.
    Percentile {
        /// 0 to 100, becomes 0.
        lo: f32,
        /// 0 to 100, becomes 1.
        hi: f32,
    },
}

/// Whether bone is bright or as the file has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Polarity {
    /// Dense is bright: MONOCHROME1 is inverted.
    #[default]
    Monochrome2,
    /// Values as stored.
    AsStored,
}

/// How much of an image a codec is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// No more than the specs need, where the format has reduced resolutions.
    AsNeeded,
    /// Every pixel: several times slower, for the few images where the difference could matter.
    Full,
}

/// Decoded pixels, already at the model's resolution: grey values from 0 to 1, row by row, before normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Radiograph {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `height × width` values from 0 to 1, all finite.
    pub pixels: Vec<f32>,
}

/// A decoded file.
pub struct Decoded {
    /// The header pass.
    pub inspection: Inspection,
    /// One radiograph for each [`RenderSpec`] asked for; empty unless the content is [`Content::Radiograph`].
    pub radiographs: Vec<Radiograph>,
    /// They are made from fewer samples than the file has pixels.
    pub reduced: bool,
    /// Time spent in the child.
    pub took: Duration,
    /// What its parts took.
    pub spent: Spent,
}

/// What the parts of decoding took, microseconds; 0 for those that there was no need of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// The header pass.
    pub header_us: u64,
    /// The codec.
    pub codec_us: u64,
    /// Grey values at the networks' sizes. Uncompressed pixels are read here, a few rows at a time.
    pub render_us: u64,
}

impl Spent {
    /// The same as told by somebody who may lie: none took longer than the whole.
    #[must_use]
    pub fn within(self, whole: Duration) -> Self {
        let most = micros(whole);
        Self {
            header_us: self.header_us.min(most),
            codec_us: self.codec_us.min(most),
            render_us: self.render_us.min(most),
        }
    }
}

/// The whole way of a file within the jail: header pass, pixels, one [`Radiograph`] for each spec.
///
/// A radiograph that cannot be decoded, and a damaged file, is a fault; what is no radiograph comes back with its
/// inspection and without pictures. Of several frames the first is taken.
pub fn decode(file: &File, size: u64, specs: &[RenderSpec]) -> Result<Decoded, Fault> {
    decode_at(file, size, specs, Resolution::AsNeeded)
}

fn decode_at(
    file: &File,
    size: u64,
    specs: &[RenderSpec],
    resolution: Resolution,
) -> Result<Decoded, Fault> {
    decode_from(&Bytes::File { file, len: size }, specs, resolution)
}

/// [`decode`] for bytes in memory, from as many samples as are needed.
pub fn decode_bytes(bytes: &[u8], specs: &[RenderSpec]) -> Result<Decoded, Fault> {
    decode_from(&Bytes::Memory(bytes), specs, Resolution::AsNeeded)
}

/// The same from every pixel.
pub fn decode_bytes_in_full(bytes: &[u8], specs: &[RenderSpec]) -> Result<Decoded, Fault> {
    decode_from(&Bytes::Memory(bytes), specs, Resolution::Full)
}

/// The most samples of an image that is decoded in full although fewer would do: codecs take up to 8 bytes for each.
const MOST_IN_FULL: u64 = 36_000_000;

fn decode_from(
    bytes: &Bytes,
    specs: &[RenderSpec],
    resolution: Resolution,
) -> Result<Decoded, Fault> {
    let begun = Instant::now();
    let header::Examined { inspection, pixels } = header::examine(bytes, inflate::WHOLE);
    let mut spent = Spent {
        header_us: micros(begun.elapsed()),
        ..Spent::default()
    };
    let mut reduced = false;
    let radiographs = match &inspection.content {
        Content::Damaged { fault, .. } => return Err(fault.clone()),
        Content::Radiograph { .. } if !specs.is_empty() => {
            let truncated = || Fault::new(Reason::Truncated, "the file ends before its pixels do");
            let pixels = pixels.ok_or_else(truncated)?;
            let scale = match resolution {
                Resolution::AsNeeded => render::needed_scale(&pixels.description, specs),
                Resolution::Full if pixels.description.samples_in_all() > MOST_IN_FULL => {
                    let why = "it has too many pixels to be decoded in full";
                    return Err(Fault::new(Reason::DecoderMemory, why));
                }
                Resolution::Full => 1.0,
            };
            let begun = Instant::now();
            let mut frame = pixels::first_frame(bytes, &pixels, scale)?;
            spent.codec_us = micros(begun.elapsed());
            reduced = frame.grid.step > 1.0;
            let begun = Instant::now();
            let radiographs = render::render(&mut frame, specs)?;
            spent.render_us = micros(begun.elapsed());
            radiographs
        }
        _ => Vec::new(),
    };
    Ok(Decoded {
        inspection,
        radiographs,
        reduced,
        took: begun.elapsed(),
        spent,
    })
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
