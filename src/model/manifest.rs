//! `bundle.toml`, schema version 1: everything that radsort must know about a model besides its weights.
//!
//! `retrain` writes it, [`Bundle::open`](super::Bundle::open) reads it. Unknown keys are errors: a bundle made for a
//! later version is refused instead of half understood.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::decode::RenderSpec;
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};

/// The schema version that this program reads and writes.
pub const SCHEMA: u32 = 1;

/// The name of the file in a bundle's folder.
pub const FILE_NAME: &str = "bundle.toml";

/// The classes of a view classifier, in the order that [`ClassifierSpec::classes`] may permute.
pub const VIEW_CLASSES: [&str; 3] = ["frontal", "lateral", "neither"];

/// What `bundle.toml` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// 1 to 64 of letters, digits, `.`, `-` and `+`; another file means another version.
    pub version: String,
    /// [`PREPROCESSING_VERSION`](crate::decode::PREPROCESSING_VERSION) of the program that prepared the training images.
    pub preprocessing: u32,
    /// Whether a mirrored image would be of another category.
    pub laterality: Laterality,
    /// The licence of the weights (SPDX where there is one).
    pub licence: String,
    /// What the model is for, and what not.
    pub intended_use: String,
    /// Where it comes from: program, architecture, date.
    pub provenance: String,
    /// A digest over the training set's digests and labels; empty when there is none.
    #[serde(default)]
    pub training_set: String,
    /// When the pixels count as sure of a view.
    #[serde(default)]
    pub view_thresholds: ViewThresholds,
    /// Every category that a file can be filed under.
    pub categories: Vec<Category>,
    /// At most one view classifier, and one category classifier a view (or one for any view).
    pub classifiers: Vec<ClassifierSpec>,
    /// Images whose logits are known; at least one for each classifier.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// The error rate that was asked for when it was trained, and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promised>,
    /// How good it was found to be; not read by the program.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub metrics: toml::Table,
}

impl Manifest {
    /// The text of `bundle.toml`.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    /// `name version`, as it stands in every record.
    pub fn name_and_version(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

/// "At most so much of what is filed automatically is wrong", and whether that could be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Promised {
    /// The part of the automatically filed images that may be wrong, 0 to 1.
    pub target: f64,
    /// Whether the bound is at or below it.
    pub kept: bool,
    /// Why, in a sentence.
    pub why: String,
    /// One-sided 95 % upper bound of the error rate (Clopper and Pearson 1934), 0 to 1; 1 when nothing could be counted.
    pub bound: f64,
    /// Certifying images that were filed: one a patient, used for nothing else.
    pub filed: u64,
    /// Wrong ones among them.
    pub errors: u64,
    /// Categories with too few certifying images: their files go to review, unless the site says otherwise.
    pub uncertified: Vec<CategoryId>,
}

impl Promised {
    /// In a sentence for people.
    pub fn in_words(&self) -> String {
        let target = 100.0 * self.target;
        if self.kept {
            format!("at most {target} % of what it files is wrong: {}", self.why)
        } else {
            format!("no guarantee of at most {target} % errors: {}", self.why)
        }
    }
}

/// Whether a mirrored image would be of another category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Laterality {
    /// No category depends on the side: training may flip images.
    Ignored,
    /// Some category depends on the side: images are never flipped.
    Matters,
}

/// A category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Category {
    /// Never changes, whatever the category is called.
    pub id: CategoryId,
    /// Its view.
    pub view: View,
    /// For people, e.g. `Postoperative, fusion (frontal)`.
    pub name: String,
    /// Its folder below the library.
    pub folder: String,
    /// The least joint confidence (view and category together, 0 to 1) at which a file is filed unseen.
    pub threshold: f32,
    /// Ids and folders that it had before it was renamed: labels may still say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<String>,
}

impl Category {
    /// Whether a label or a folder of this name means it.
    pub fn is_meant_by(&self, name: &str) -> bool {
        self.id.as_str() == name || self.folder == name || self.was_called(name)
    }

    /// Whether it had this id or folder before.
    pub fn was_called(&self, name: &str) -> bool {
        self.formerly.iter().any(|before| before == name)
    }
}

/// One network of the cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassifierSpec {
    /// Unique in the bundle, 1 to 64 of `a-z`, `0-9` and `-`; used in messages.
    pub id: String,
    /// What it tells.
    pub role: Role,
    /// Which images it is asked about.
    pub applies: Applies,
    /// The ONNX graph.
    pub model: FileRef,
    /// Channels of its input: 1, or 3 with the same grey in each.
    pub channels: usize,
    /// The name of its input, `float32[N, channels, height, width]`; N is free, or 1.
    pub input: String,
    /// The names of its outputs.
    pub outputs: Outputs,
    /// Logits are divided by it before softmax; above 0.
    pub temperature: f32,
    /// What each logit stands for: category ids, or [`VIEW_CLASSES`] for a view classifier.
    pub classes: Vec<String>,
    /// How a file becomes grey values from 0 to 1.
    pub render: RenderSpec,
    /// How grey values become the network's input.
    pub normalisation: Normalisation,
    /// How it knows that an image is unlike any it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_distribution: Option<OutOfDistribution>,
}

/// What a classifier tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The view.
    View,
    /// The category.
    Category,
}

/// Which images a classifier is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applies {
    /// All.
    Any,
    /// Those of a frontal view.
    Frontal,
    /// Those of a lateral view.
    Lateral,
}

impl Applies {
    /// Whether images of this view are meant.
    pub fn to(self, view: View) -> bool {
        match self {
            Self::Any => true,
            Self::Frontal => view == View::Frontal,
            Self::Lateral => view == View::Lateral,
        }
    }
}

/// A file of the bundle and what its bytes must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileRef {
    /// Its path inside the bundle's folder.
    pub file: String,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
}

impl FileRef {
    /// Names a file with these bytes.
    pub fn of(file: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            file: file.into(),
            sha256: sha256(bytes),
        }
    }
}

/// SHA-256 as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The names of a network's outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Outputs {
    /// `float32[N, classes]`, before softmax.
    pub logits: String,
    /// `float32[N, features]`, what the last layer sees; needed by the feature methods of [`Method`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

/// `(grey - mean) / std`, one value a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Normalisation {
    /// In grey values from 0 to 1.
    pub mean: Vec<f32>,
    /// In grey values from 0 to 1; above 0.
    pub std: Vec<f32>,
}

/// How a classifier knows that an image is unlike any it was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OutOfDistribution {
    /// What is measured.
    pub method: Method,
    /// The measure from which on an image goes to review. The reported distance is
    /// `(measure - centre) / (threshold - centre)`, so that 1 is the threshold.
    pub threshold: f32,
    /// The measure of a usual image: the mean over the training set for `energy`, else 0.
    #[serde(default)]
    pub centre: f32,
    /// The part of usual images that the threshold sends to review at most, 0 to 1. `retrain` states what the validation
    /// images can show with 95 % certainty.
    pub false_review_rate: f32,
    /// Parameters of the feature methods, raw little-endian `float32`: for each class (in logits order) the mean of its
    /// features; for `feature-mahalanobis-diagonal` then the variance of each feature within classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<FileRef>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Free energy of the logits, `-T log Σ exp(logit / T)` (Liu et al. 2020, "Energy-based Out-of-distribution Detection").
    Energy,
    /// To the nearest class mean: the root of the mean over features of `(feature - mean)² / variance`.
    FeatureMahalanobisDiagonal,
    /// To the nearest class mean: Euclidean distance.
    FeatureCentroid,
}

/// An image whose logits are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reference {
    /// The id of the classifier that it is for.
    pub classifier: String,
    /// The grey values of the rendered image (before normalisation), row by row, as the classifier's `render` gives them.
    pub image: FileRef,
    /// How they are written.
    pub format: GreyFormat,
    /// The logits that the classifier must give, in order.
    pub logits: Vec<f32>,
    /// The largest difference of a logit that is allowed.
    pub tolerance: f32,
}

/// How grey values are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GreyFormat {
    /// One byte a pixel, 255 is white.
    U8,
    /// Two bytes a pixel, little endian, 65535 is white.
    U16,
    /// `float32` a pixel, little endian, 1 is white.
    F32,
}

impl GreyFormat {
    /// Bytes of one pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
        }
    }

    /// Grey values from 0 to 1 as bytes.
    pub fn encode(self, pixels: &[f32]) -> Vec<u8> {
        pixels
            .iter()
            .flat_map(|grey| match self {
                Self::U8 => vec![(grey.clamp(0.0, 1.0) * 255.0).round() as u8],
                Self::U16 => ((grey.clamp(0.0, 1.0) * 65535.0).round() as u16)
                    .to_le_bytes()
                    .to_vec(),
                Self::F32 => grey.to_le_bytes().to_vec(),
            })
            .collect()
    }

    /// Bytes as grey values from 0 to 1; a rest of less than a pixel is ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::U8 => bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect(),
            Self::U16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|pair| f32::from(u16::from_le_bytes(*pair)) / 65535.0)
                .collect(),
            Self::F32 => floats(bytes),
        }
    }
}

/// Little-endian `float32`s; a rest of less than four bytes is ignored.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect()
}
