//! Reads `[library]`, `[quarantine]` and `[duplicates]`: where files go, and who may read them there.

use std::path::PathBuf;

use super::fragment::{Located, Section};
use super::read::finish;
use super::settings::LibrarySettings;
use crate::domain::placement::Template;

/// Where filed files go below the library, unless the site says otherwise.
const DEFAULT_TEMPLATE: &str = "{category}/{study_date}/{sop_instance_uid}.dcm";

/// The library, with the places of its paths.
pub struct Library {
    /// What is said of it.
    pub settings: LibrarySettings,
    /// Its directory.
    pub path: Located<PathBuf>,
    /// The quarantine's.
    pub quarantine: Located<PathBuf>,
    /// The duplicates'.
    pub duplicates: Located<PathBuf>,
}

/// Reads `[library]`, `[quarantine]` and `[duplicates]`; `None` when it is not said where the library is.
pub fn library(
    mut section: Section<'_>,
    mut quarantine: Section<'_>,
    mut duplicates: Section<'_>,
) -> Option<Library> {
    let path = section.path("path");
    let template = section.parsed("template", "a path with fields in braces", |text| {
        Template::parse(text)
            .map(|template| (template, text.to_owned()))
            .map_err(|error| error.to_string())
    });
    let file_mode = mode(&mut section, "file-mode", 0o640, 0o600, 0o666);
    let directory_mode = mode(&mut section, "directory-mode", 0o2750, 0o700, 0o2777);
    let quarantine_path = quarantine.path("path");
    let duplicates_path = duplicates.path("path");
    if path.is_none() {
        section.problem(
            "path is missing (or not usable): the directory where files are filed, absolute",
        );
    }
    finish(section);
    finish(quarantine);
    finish(duplicates);

    let path = path?;
    let below = |name: &str| Located {
        value: path.value.join(name),
        place: path.place.clone(),
    };
    let quarantine = quarantine_path.unwrap_or_else(|| below("_quarantine"));
    let duplicates = duplicates_path.unwrap_or_else(|| below("_duplicates"));
    let (template, template_text) = match template {
        Some(template) => template.value,
        None => (
            Template::parse(DEFAULT_TEMPLATE).ok()?,
            DEFAULT_TEMPLATE.to_owned(),
        ),
    };
    let settings = LibrarySettings {
        path: path.value.clone(),
        template,
        template_text,
        file_mode,
        directory_mode,
        quarantine: quarantine.value.clone(),
        duplicates: duplicates.value.clone(),
    };
    Some(Library {
        settings,
        path,
        quarantine,
        duplicates,
    })
}

/// Permission bits in octal, between what radsort itself needs and what makes sense.
fn mode(
    section: &mut Section<'_>,
    key: &'static str,
    default: u32,
    needed: u32,
    allowed: u32,
) -> u32 {
    let expected = format!("an octal number in quotes, e.g. \"{default:04o}\"");
    let read = section.parsed(key, &expected, |text| {
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|_| (3..=4).contains(&text.len()));
        match mode {
            Some(mode) if mode & !allowed != 0 => {
                Err(format!("{text:?} has bits outside {allowed:04o}"))
            }
            Some(mode) if mode & needed != needed => {
                Err(format!("{text:?} lacks {needed:04o}, which radsort needs"))
            }
            Some(mode) => Ok(mode),
            None => Err(format!(
                "{text:?} is no octal number of three or four digits"
            )),
        }
    });
    read.map_or(default, |mode| mode.value)
}
