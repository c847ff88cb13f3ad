//! Where a file goes: paths that cannot point outside their root, and the site's template that makes them.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{CategoryId, Instance, Reason};

/// A path relative to a root, as raw bytes: no leading slash, no empty, `.` or `..` component, no NUL.
///
/// In JSON it is a string in which `%` and bytes that are not UTF-8 are written as `%XX`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(Vec<u8>);

/// A text is no relative path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a path inside its folder: it is empty, absolute, or has an empty, '.', '..' or over-long component or a NUL"
)]
pub struct RelPathError;

impl RelPath {
    /// Checks raw bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, RelPathError> {
        let bytes = bytes.into();
        let good = |part: &[u8]| {
            !part.is_empty()
                && part != b"."
                && part != b".."
                && part.len() <= 255
                && !part.contains(&0)
        };
        if bytes.len() <= 4096 && bytes.split(|b| *b == b'/').all(good) {
            Ok(Self(bytes))
        } else {
            Err(RelPathError)
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// All but the last component, `None` for a single one.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// This path with another last component.
    pub fn with_file_name(&self, name: &[u8]) -> Result<Self, RelPathError> {
        let mut bytes = self.parent().map(|parent| parent.0).unwrap_or_default();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// This path followed by `name`.
    pub fn join(&self, name: &[u8]) -> Result<Self, RelPathError> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }
}

impl TryFrom<String> for RelPath {
    type Error = RelPathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'%' {
                let digits = tail
                    .get(..2)
                    .and_then(|pair| std::str::from_utf8(pair).ok());
                let byte = digits
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                    .ok_or(RelPathError)?;
                bytes.push(byte);
                rest = &tail[2..];
            } else {
                bytes.push(first);
                rest = tail;
            }
        }
        Self::new(bytes)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.to_string()
    }
}

/// Control characters, and those that turn the direction of writing around or have no width: as they are, a file's
/// name could write to a terminal whatever it likes.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '%' || is_invisible(c) {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes)
                        .bytes()
                        .try_for_each(|byte| write!(f, "%{byte:02X}"))?;
                } else {
                    f.write_char(c)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    /// Source paths can hold patients' names: they are shown only by asking for `Display`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelPath(…)")
    }
}

/// Which file this is, and in what state: the same fingerprint means the same bytes as far as the filesystem tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Device number of the filesystem.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Time of last modification, nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

/// Which root a path is relative to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootId {
    /// The library (also holds `_review` and `_other`).
    Library,
    /// The quarantine.
    Quarantine,
    /// The duplicates.
    Duplicates,
    /// A watched drop directory, by its name.
    Watch(String),
}

/// Where a file is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The root.
    pub root: RootId,
    /// The path below it.
    pub path: RelPath,
}

/// How the paths of filed files are made, e.g. `{category}/{study_date}/{sop_instance_uid}.dcm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    components: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A field that a template may use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($(#[$doc])* $name,)* }

        impl Field {
            /// Every field with its name in a template.
            pub const ALL: &[(&str, Self)] = &[$(($text, Self::$name),)*];
        }
    };
}

fields! {
    /// The category's folder name, or `_review/<reason>` and `_other` for files that are not filed.
    Category = "category";
    /// `frontal` or `lateral`.
    View = "view";
    /// Study Date (0008,0020) as `YYYYMMDD`, or `unknown-date`.
    StudyDate = "study_date";
    /// The first four digits of Study Date, or `unknown-date`.
    StudyYear = "study_year";
    /// SOP Instance UID; every template must hold it.
    SopInstanceUid = "sop_instance_uid";
    /// Study Instance UID, or `unknown-study`.
    StudyInstanceUid = "study_instance_uid";
    /// Series Instance UID, or `unknown-series`.
    SeriesInstanceUid = "series_instance_uid";
    /// The patient's pseudonym, or `unknown-patient`.
    Patient = "patient";
    /// Modality (0008,0060).
    Modality = "modality";
    /// Manufacturer (0008,0070).
    Manufacturer = "manufacturer";
    /// Manufacturer's Model Name (0008,1090).
    Model = "model";
    /// The name of the watch that the file came through.
    Watch = "watch";
}

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without `}` or the other way round.
    #[error("a brace in the template has no partner")]
    Brace,
    /// A field that does not exist.
    #[error("the template's field {{{0}}} does not exist; there are: {1}")]
    UnknownField(String, String),
    /// Two files could get the same path.
    #[error("two files could get the same path: the file name must hold {{sop_instance_uid}}")]
    CanCollide,
    /// The category must come first, so that people find their folders.
    #[error("the first folder of the template must be exactly {{category}}")]
    CategoryFirst,
    /// It would put line breaks and the like into file names, where they confuse whoever lists them.
    #[error("the template holds a control character")]
    ControlCharacter,
    /// More folders than any filesystem has room for in one path.
    #[error("the template has more than {MOST_FOLDERS} folders")]
    TooDeep,
    /// Not a path below the library.
    #[error("the template is not a path inside the library: {0}")]
    NotAPath(RelPathError),
}

/// What a template is filled with.
pub struct Filling<'a> {
    /// The category's folder (one component, already validated by the bundle).
    pub category_folder: &'a str,
    /// `frontal` or `lateral`, empty when unknown.
    pub view: &'a str,
    /// The instance.
    pub instance: &'a Instance,
    /// The watch's name.
    pub watch: &'a str,
}

/// How many folders deep a template may be: 200 bytes each, in a path of 4096.
const MOST_FOLDERS: usize = 16;

impl Template {
    /// Parses and checks a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut components = Vec::new();
        for component in text.split('/') {
            components.push(parse_component(component)?);
        }
        for literal in text.split(['{', '}', '/']).filter(|part| !part.is_empty()) {
            RelPath::new(literal).map_err(TemplateError::NotAPath)?;
        }
        if text.contains(char::is_control) {
            return Err(TemplateError::ControlCharacter);
        }
        if components.len() > MOST_FOLDERS {
            return Err(TemplateError::TooDeep);
        }
        if components.iter().any(Vec::is_empty) {
            return Err(TemplateError::NotAPath(RelPathError));
        }
        if components[0] != [Piece::Field(Field::Category)] {
            return Err(TemplateError::CategoryFirst);
        }
        let name = components.last().map(Vec::as_slice).unwrap_or_default();
        if components.len() < 2 || !name.contains(&Piece::Field(Field::SopInstanceUid)) {
            return Err(TemplateError::CanCollide);
        }
        Ok(Self { components })
    }

    /// Makes the path of a file. Always a valid path: values are escaped, and over-long names end in a hash.
    pub fn fill(&self, filling: &Filling<'_>) -> RelPath {
        let parts: Vec<String> = self
            .components
            .iter()
            .map(|pieces| component(pieces, filling))
            .collect();
        RelPath(parts.join("/").into_bytes())
    }
}

fn parse_component(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('{') {
            let (name, tail) = tail.split_once('}').ok_or(TemplateError::Brace)?;
            let field = Field::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, field)| *field);
            let names = || {
                Field::ALL
                    .iter()
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            pieces.push(Piece::Field(field.ok_or_else(|| {
                TemplateError::UnknownField(name.to_owned(), names())
            })?));
            rest = tail;
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            if rest[..end].contains('}') {
                return Err(TemplateError::Brace);
            }
            pieces.push(Piece::Text(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    Ok(pieces)
}

fn component(pieces: &[Piece], filling: &Filling<'_>) -> String {
    let text: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(field) => value(*field, filling),
        })
        .collect();
    cap(text)
}

fn value(field: Field, filling: &Filling<'_>) -> String {
    let instance = filling.instance;
    let header = &instance.description;
    let uid = |uid: Option<&super::Uid>, absent: &str| {
        uid.map_or_else(|| absent.to_owned(), |uid| uid.as_str().to_owned())
    };
    match field {
        Field::Category => filling.category_folder.to_owned(),
        Field::View => or(filling.view, "unknown-view"),
        Field::StudyDate => or(&safe(&header.study_date), "unknown-date"),
        Field::StudyYear => or(
            &safe(header.study_date.get(..4).unwrap_or("")),
            "unknown-date",
        ),
        Field::SopInstanceUid => instance.sop_instance_uid.as_str().to_owned(),
        Field::StudyInstanceUid => uid(instance.study_instance_uid.as_ref(), "unknown-study"),
        Field::SeriesInstanceUid => uid(instance.series_instance_uid.as_ref(), "unknown-series"),
        Field::Patient => or(
            &safe(instance.patient.as_ref().map_or("", |p| p.0.as_str())),
            "unknown-patient",
        ),
        Field::Modality => or(&safe(&header.modality), "unknown-modality"),
        Field::Manufacturer => or(&safe(&header.manufacturer), "unknown-manufacturer"),
        Field::Model => or(&safe(&header.manufacturer_model_name), "unknown-model"),
        Field::Watch => or(&safe(filling.watch), "unknown-watch"),
    }
}

fn or(text: &str, absent: &str) -> String {
    if text.is_empty() {
        absent.to_owned()
    } else {
        text.to_owned()
    }
}

/// A header value as part of a file name that is the same on every filesystem.
///
/// Letters, digits and `+ - . _ =` stay. Everything else becomes `_`, and whatever could be confused with another
/// value (escaped, not in NFC, differing by case alone, reserved by Windows) gets a hash of the raw value appended,
/// so that two different values never share a name, not even where case does not count.
fn safe(raw: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "+-._=".contains(c);
    let name: String = raw.nfc().map(|c| if kept(c) { c } else { '_' }).collect();
    // Nor does a name look like an option, a hidden file or one of radsort's own folders.
    let name = name
        .trim_start_matches(['.', '_', '-'])
        .trim_end_matches(['.', '_'])
        .to_owned();
    let one_case = !(name.bytes().any(|b| b.is_ascii_lowercase())
        && name.bytes().any(|b| b.is_ascii_uppercase()));
    let upper_is_plain = name == raw && one_case && !raw.bytes().any(|b| b.is_ascii_lowercase());
    let lower_is_plain =
        name == raw && one_case && raw.len() == 32 && raw.bytes().all(|b| b.is_ascii_hexdigit());
    let reserved = ["CON", "PRN", "AUX", "NUL"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
        || (name.len() == 4
            && ["COM", "LPT"]
                .iter()
                .any(|word| name.to_ascii_uppercase().starts_with(word)));
    if raw.is_empty() || ((upper_is_plain || lower_is_plain) && !reserved) {
        return name;
    }
    let stem: String = name.chars().take(60).collect();
    format!("{stem}~{}", &blake3::hash(raw.as_bytes()).to_hex()[..8])
}

/// Keeps a component within 200 bytes (250 leave no room for `.part` names and digests); the cut is marked by a hash.
fn cap(text: String) -> String {
    const LIMIT: usize = 200;
    if text.len() <= LIMIT {
        return text;
    }
    let digest = blake3::hash(text.as_bytes()).to_hex();
    let extension = text
        .rfind('.')
        .map(|dot| &text[dot..])
        .filter(|ext| ext.len() <= 8)
        .unwrap_or("");
    let mut stem = text[..text.len() - extension.len()].to_owned();
    let mut end = LIMIT - 17 - extension.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    stem.truncate(end);
    format!("{stem}~{}{extension}", &digest[..16])
}

/// Where files go that are not filed under a category: their folder below the library.
pub fn review_folder(reason: Reason) -> String {
    format!("{REVIEW_FOLDER}/{}", reason.code())
}

/// The folder below the library for files that a person should look at.
pub const REVIEW_FOLDER: &str = "_review";

/// The folder below the library for DICOM that is no radiograph.
pub const OTHER_FOLDER: &str = "_other";

/// Checks a category's folder name: one visible component that cannot be confused with radsort's own folders.
pub fn check_folder(category: &CategoryId, folder: &str) -> Result<(), String> {
    let good = RelPath::new(folder).is_ok_and(|path| path.components().count() == 1)
        && !folder.starts_with(['_', '.', ' '])
        && !folder.ends_with(['.', ' '])
        && folder.len() <= 100
        && !folder
            .chars()
            .any(|c| c.is_control() || "\\:*?\"<>|".contains(c));
    if good {
        Ok(())
    } else {
        Err(format!(
            "category {category}: the folder name {folder:?} cannot be used on every filesystem"
        ))
    }
}

/// A name that carries a digest, for duplicates, conflicts and quarantined files: `<stem>~<16 hex>.<extension>`.
pub fn digest_name(stem: &str, digest_hex: &str, extension: &str) -> String {
    let digest = digest_hex.get(..16).unwrap_or(digest_hex);
    cap(format!("{}~{digest}{extension}", or(stem, "unnamed")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::instance::{Description, Uid};
    use proptest::prelude::*;

    fn instance(manufacturer: &str) -> Instance {
        Instance {
            sop_instance_uid: Uid::parse("1.2.3").unwrap(),
            study_instance_uid: None,
            series_instance_uid: None,
            patient: None,
            description: Description {
                manufacturer: manufacturer.into(),
                ..Description::default()
            },
        }
    }

    fn fill(template: &str, manufacturer: &str) -> String {
        let instance = instance(manufacturer);
        let filling = Filling {
            category_folder: "Fusion",
            view: "frontal",
            instance: &instance,
            watch: "w",
        };
        Template::parse(template)
            .unwrap()
            .fill(&filling)
            .to_string()
    }

    #[test]
    fn the_default_template_makes_the_expected_path() {
        assert_eq!(
            fill("{category}/{study_date}/{sop_instance_uid}.dcm", ""),
            "Fusion/unknown-date/1.2.3.dcm"
        );
    }

    #[test]
    fn a_template_that_can_collide_or_escape_is_refused() {
        for text in [
            "{category}/x.dcm",
            "{sop_instance_uid}.dcm",
            "../{category}/{sop_instance_uid}",
            "/{category}/{sop_instance_uid}",
            "{category}/../{sop_instance_uid}",
            "{category}//{sop_instance_uid}",
            "{category}/{nonsense}/{sop_instance_uid}",
            "{category}/{sop_instance_uid",
            "{category}/sop_instance_uid}",
            "{category}/{sop_instance_uid}/x",
            "{category}/line\nbreak/{sop_instance_uid}",
            &format!("{{category}}/{}{{sop_instance_uid}}", "x/".repeat(16)),
            "",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn twins_by_case_or_unicode_never_share_a_name() {
        let template = "{category}/{manufacturer}/{sop_instance_uid}";
        let names: std::collections::HashSet<String> = [
            "Acme", "ACME", "acme", "e\u{301}", "\u{e9}", "A/B", "A_B", "A\\B",
        ]
        .iter()
        .map(|maker| fill(template, maker).to_lowercase())
        .collect();
        assert_eq!(names.len(), 8);
    }

    proptest! {
        #[test]
        fn whatever_a_header_says_the_path_stays_inside(maker in "\\PC{0,400}|(\\.\\./)*etc|[\u{0}-\u{20}]*") {
            let path = fill("{category}/{manufacturer}/{manufacturer}-{sop_instance_uid}.dcm", &maker);
            let parsed = RelPath::try_from(path.clone()).unwrap();
            prop_assert_eq!(parsed.components().count(), 3);
            prop_assert!(path.starts_with("Fusion/"));
        }

        #[test]
        fn relative_paths_survive_json(bytes in proptest::collection::vec(1u8..=255, 1..60)) {
            if let Ok(path) = RelPath::new(bytes) {
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelPath>(&json).unwrap(), path);
            }
        }
    }
}
