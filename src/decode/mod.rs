//! From a file's bytes to what the model will see. Untrusted bytes are touched only in a jailed child.
//!
//! [`header`] reads the structure, [`pixels`] decodes (at reduced size where the format allows it), [`render`]
//! prepares the model's input; [`worker`] runs the three in the jail and [`pool`] is its parent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{Header, Reason};

/// Raised whenever the same file would give another [`Radiograph`]; bundles name the version they were trained with.
pub const PREPROCESSING_VERSION: u32 = 1;

/// Whether the file is all there, judged by its own structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Completeness {
    /// The structure's last byte is the file's last, or only padding follows.
    Complete,
    /// The structure goes on so many bytes beyond the end of the file (at least 1).
    ShortBy(u64),
    /// The structure does not tell (deflated, no pixel data, not DICOM).
    Undetermined,
}

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
    /// Time spent in the child.
    pub took: Duration,
}
