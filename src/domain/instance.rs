//! A DICOM Instance as far as radsort needs to know it: identifiers that are safe ever after, and header fields.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A DICOM unique identifier (PS3.5 §9.1): 1 to 64 characters of digits and single dots.
///
/// Leading zeros in a component are tolerated, because real devices write them; nothing else is. A `Uid` can
/// therefore be used in a file name as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

/// A SOP Instance UID (0008,0018).
pub type SopInstanceUid = Uid;

/// Why a text is no UID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Nothing is left after trimming the padding.
    #[error("the UID is empty")]
    Empty,
    /// More than 64 characters.
    #[error("the UID has {0} characters, more than the 64 that PS3.5 allows")]
    TooLong(usize),
    /// Something else than digits separated by single dots.
    #[error("the UID holds something else than digits separated by single dots")]
    Malformed,
}

impl Uid {
    /// Parses a UID, ignoring the padding (NUL and spaces at the end) that PS3.5 prescribes or devices add.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let text = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
        if text.is_empty() {
            return Err(UidError::Empty);
        }
        if text.len() > 64 {
            return Err(UidError::TooLong(text.chars().count()));
        }
        let component = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if text.split('.').all(component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(UidError::Malformed)
        }
    }

    /// The UID without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Uid {
    type Error = UidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A keyed pseudonym of a patient (HMAC-SHA256 over issuer and Patient ID, 32 hexadecimal digits).
///
/// The same patient has the same pseudonym on one installation, and nobody without its key can tell who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pseudonym(pub String);

/// The header fields that the jailed child sends to its parent: bounded, trimmed, not yet trusted.
///
/// The only place outside the file itself where a patient's identity stands; it is turned into an [`Instance`]
/// at once and never logged, so it has no `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Header {
    /// SOP Instance UID (0008,0018), raw; empty when absent.
    pub sop_instance_uid: String,
    /// Study Instance UID (0020,000D), raw; empty when absent.
    pub study_instance_uid: String,
    /// Series Instance UID (0020,000E), raw; empty when absent.
    pub series_instance_uid: String,
    /// Patient ID (0010,0020).
    pub patient_id: String,
    /// Issuer of Patient ID (0010,0021).
    pub issuer_of_patient_id: String,
    /// The bytes before the data set make the file a program or a script as well (PS3.10 §7.1 leaves them to anybody).
    #[serde(default)]
    pub executable: bool,
    /// What is not about who the patient is.
    pub description: Description,
}

/// Header fields that say nothing about who the patient is. Texts are trimmed and at most 64 characters long; of those whose values
/// the standard lists, only what is known stands here ([`super::terms`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Study Date (0008,0020) as `YYYYMMDD`, empty when absent or not a date.
    pub study_date: String,
    /// View Position (0018,5101).
    pub view_position: String,
    /// Patient Orientation (0020,0020), e.g. `L\F`.
    pub patient_orientation: String,
    /// What View Code Sequence (0054,0220) says, first item, in words of [`super::view_code`], or empty.
    pub view_code: String,
    /// Image Laterality (0020,0062) or Laterality (0020,0060).
    pub laterality: String,
    /// Body Part Examined (0018,0015).
    pub body_part_examined: String,
    /// Patient's Age (0010,1010), e.g. `012Y`.
    pub patient_age: String,
    /// Manufacturer (0008,0070).
    pub manufacturer: String,
    /// Manufacturer's Model Name (0008,1090).
    pub manufacturer_model_name: String,
    /// Photometric Interpretation (0028,0004).
    pub photometric_interpretation: String,
    /// Rows (0028,0010).
    pub rows: u32,
    /// Columns (0028,0011).
    pub columns: u32,
    /// Number of Frames (0028,0008), 1 when absent.
    pub number_of_frames: u32,
    /// Bits Allocated (0028,0100).
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
}

/// A DICOM Instance whose identifiers have been checked and whose patient has become a pseudonym.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: SopInstanceUid,
    /// Study Instance UID (0020,000D), when there is a valid one.
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID (0020,000E), when there is a valid one.
    pub series_instance_uid: Option<Uid>,
    /// The patient's pseudonym; `None` when the file has no Patient ID.
    pub patient: Option<Pseudonym>,
    /// The rest of the header that is kept.
    #[serde(flatten)]
    pub description: Description,
}

impl Instance {
    /// Checks a header. `pseudonym` turns (Patient ID, Issuer) into a pseudonym with this installation's key.
    pub fn from_header(
        header: &Header,
        pseudonym: impl FnOnce(&str, &str) -> Pseudonym,
    ) -> Result<Self, UidError> {
        Ok(Self {
            sop_instance_uid: Uid::parse(&header.sop_instance_uid)?,
            study_instance_uid: Uid::parse(&header.study_instance_uid).ok(),
            series_instance_uid: Uid::parse(&header.series_instance_uid).ok(),
            patient: (!header.patient_id.is_empty())
                .then(|| pseudonym(&header.patient_id, &header.issuer_of_patient_id)),
            description: header.description.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_uid_is_trimmed() {
        assert_eq!(
            Uid::parse("1.2.840\0").map(String::from),
            Ok("1.2.840".into())
        );
        assert_eq!(
            Uid::parse("1.2.840 ").map(String::from),
            Ok("1.2.840".into())
        );
    }

    #[test]
    fn a_hostile_uid_is_refused() {
        for text in [
            "../../etc/passwd",
            "1.2\0.3",
            "1..2",
            ".1",
            "1.",
            "1.2.é",
            "１.２",
            "",
            "a.b",
        ] {
            assert!(Uid::parse(text).is_err(), "{text:?}");
        }
        assert!(matches!(
            Uid::parse(&"1".repeat(300)),
            Err(UidError::TooLong(300))
        ));
    }
}
