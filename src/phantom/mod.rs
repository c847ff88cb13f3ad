//! Phantoms: synthetic full-spine radiographs with known truth, so that a whole installation can be tried, tested and
//! trained without any patient's data.
//!
//! [`plan()`] decides deterministically what a set holds; [`Plan::draw`] makes the pixels and the header of one image;
//! [`Phantom::write`] and [`write_set`] write DICOM files. Anatomy is computed as attenuation in millimetres
//! (`anatomy`, `frontal`, `lateral`, `devices`, `outside`), then exposed on a detector with its flaws (`detector`).
//! Nuisances (size, bits, vendor, window, markers, noise, polarity) come from a stream that never sees the category.
//!
//! These pictures look like radiographs and are none: nothing about accuracy on patients follows from them.

mod anatomy;
mod brace;
mod canvas;
mod detector;
mod devices;
mod dice;
mod encode;
mod frontal;
mod frontal_bones;
mod header;
mod lateral;
mod lateral_bones;
mod outside;
mod plan;
mod set;
mod sheet;
mod syntax;
#[cfg(test)]
mod tests;
mod texture;

use std::path::Path;

use dicom_object::InMemDicomObject;

pub use encode::PhantomError;
pub use outside::OutsideKind;
pub use plan::{Plan, plan, plan_with};
pub use set::{Layout, Summary, write_set};
pub use sheet::contact_sheet;
pub use syntax::{Syntax, SyntaxChoice};

/// The ten categories: stable id and a name for people. Five frontal, then the same five lateral.
pub const CATEGORIES: [(&str, &str); 10] = [
    ("frontal-preop", "Frontal, preoperative, no brace"),
    ("frontal-preop-brace", "Frontal, preoperative, in brace"),
    ("frontal-fusion", "Frontal, after fusion"),
    ("frontal-growing-rods", "Frontal, growing rods"),
    ("frontal-tether", "Frontal, vertebral body tether"),
    ("lateral-preop", "Lateral, preoperative, no brace"),
    ("lateral-preop-brace", "Lateral, preoperative, in brace"),
    ("lateral-fusion", "Lateral, after fusion"),
    ("lateral-growing-rods", "Lateral, growing rods"),
    ("lateral-tether", "Lateral, vertebral body tether"),
];

/// How clean the images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Difficulty {
    /// As a careful department takes them.
    Normal,
    /// Metal glare, underexposure, odd crops, partial spines, overlapping devices.
    Hard,
}

impl Difficulty {
    /// The word for it, as on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Hard => "hard",
        }
    }
}

/// How often each category occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Imbalance {
    /// As in Mulford et al. 2024: 7777 frontal to 5621 lateral images, most without a device, few with a rare one.
    Paper,
    /// Each category as often as any other.
    Even,
}

/// The view that an image truly shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrueView {
    /// AP or PA full spine.
    Frontal,
    /// Lateral full spine.
    Lateral,
    /// Anything else.
    Neither,
}

impl TrueView {
    /// `frontal`, `lateral` or `neither`, as in `labels.csv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontal => "frontal",
            Self::Lateral => "lateral",
            Self::Neither => "neither",
        }
    }
}

/// What a set of phantoms is to hold.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Number of images, those outside both views included.
    pub count: usize,
    /// Same seed, same images.
    pub seed: u64,
    /// How often each category occurs.
    pub imbalance: Imbalance,
    /// How clean the images are.
    pub difficulty: Difficulty,
    /// Columns × rows; None draws each image at the size of its detector (2000–3000 × 3000–4300).
    pub size: Option<(u32, u32)>,
    /// Share of images that belong to neither view, 0..=1.
    pub outside: f32,
}

/// What is known for certain about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truth {
    /// An id from [`CATEGORIES`]; None for images that belong to neither view.
    pub category: Option<&'static str>,
    /// The view shown.
    pub view: TrueView,
    /// Patient ID, such as `PH20260101-0001`: the seed, and a number from 1.
    pub patient: String,
}

/// How stored values map to brightness (PS3.3 C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Photometric {
    /// Low values are bright.
    Monochrome1,
    /// Low values are dark.
    Monochrome2,
}

impl Photometric {
    /// The defined term.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
        }
    }
}

/// One drawn image: unsigned pixels and its header.
#[derive(Debug, Clone)]
pub struct Phantom {
    /// Height in pixels.
    pub rows: u32,
    /// Width in pixels.
    pub columns: u32,
    /// Significant bits of each pixel, 10..=16.
    pub bits_stored: u16,
    /// Polarity of the stored values.
    pub photometric: Photometric,
    /// Row by row, `rows * columns` values.
    pub pixels: Vec<u16>,
    /// Every attribute but the pixel data; [`Phantom::write`] adjusts what the transfer syntax demands.
    pub header: InMemDicomObject,
}

impl Phantom {
    /// Writes a DICOM file (PS3.10) in `syntax`. Errors name the file.
    pub fn write(&self, path: &Path, syntax: Syntax) -> Result<(), PhantomError> {
        encode::write(self, path, syntax)
    }

    /// The picture as a person would see it, 8 bits a pixel: windowed as the header says, bright bone.
    pub fn preview(&self) -> Vec<u8> {
        let table = encode::shown_as_eight_bits(self);
        let invert = self.photometric == Photometric::Monochrome1;
        self.pixels
            .iter()
            .map(|&p| {
                if invert {
                    255 - table[p as usize]
                } else {
                    table[p as usize]
                }
            })
            .collect()
    }
}
