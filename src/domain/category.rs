//! What an image can be: its view, and the category that a bundle gives it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// From which side the patient was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Antero-posterior or postero-anterior; the header tells which, the pixels do not.
    Frontal,
    /// From the left or the right.
    Lateral,
}

impl View {
    /// The name used in bundles, records and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontal => "frontal",
            Self::Lateral => "lateral",
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The stable id of a category in a bundle, e.g. `frontal-fusion`: 1 to 64 of `a-z`, `0-9` and `-`.
///
/// Display and folder names can change; the id never does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CategoryId(String);

/// The word of people and bundles for an image that belongs under no category, and the folder of such images.
pub const NEITHER: &str = "neither";

/// Names that lists and folders have for images of no category; `_review/out-of-scope` is where radsort itself puts them.
pub const NAMES_OF_NEITHER: [&str; 3] = [NEITHER, "outside", "_review/out-of-scope"];

/// Whether a list's cell says that the image belongs under no category: an empty one does as well.
pub fn says_neither(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || NAMES_OF_NEITHER.contains(&text)
}

/// A text is no category id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no category id: use 1 to 64 of a-z, 0-9 and '-', starting with a letter or digit"
)]
pub struct CategoryIdError(String);

impl CategoryId {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, CategoryIdError> {
        let good = (1..=64).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(CategoryIdError(text.to_owned()))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CategoryId {
    type Error = CategoryIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CategoryId> for String {
    fn from(id: CategoryId) -> Self {
        id.0
    }
}

impl fmt::Display for CategoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
