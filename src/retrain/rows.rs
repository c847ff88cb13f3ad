//! Which files a site says are what: category folders as people have left them, or a list of labels.

mod list;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::audits::Audits;
use super::judging::outcome::LabelOrigin;
use super::omitted::Omitted;
use crate::domain::category::NAMES_OF_NEITHER;
use crate::domain::correction::UnknownOrigin;
use crate::domain::{CategoryId, View};
use crate::model::manifest::Category;

pub use list::from_csv;

/// The labels cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The list.
    #[error("{}: {problem}; wanted are a header line with `path` or `sop_instance_uid`, and `category`", path.display())]
    Csv {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the line.
        problem: csv::Error,
    },
    /// A line says of its label what is not known.
    #[error("{}, line {line}: {problem}", path.display())]
    Origin {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What it says.
        problem: UnknownOrigin,
    },
    /// The list holds nothing.
    #[error("{}: the list is empty", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The list is separated by something else than commas.
    #[error("{}: it is separated by {found}: save it with commas between the columns", path.display())]
    Separator {
        /// Which.
        path: PathBuf,
        /// What was found.
        found: &'static str,
    },
}

/// One file and what it is said to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file.
    pub path: PathBuf,
    /// Its place in the bundle's categories; `None`: of neither view.
    pub category: Option<usize>,
    /// Who the patient is, by a name that the list gives; otherwise the file itself says.
    pub patient: Option<String>,
    /// Where the label comes from.
    pub origin: LabelOrigin,
    /// How sure the model was, 0 to 1, where the list says so.
    pub confidence: Option<f32>,
    /// BLAKE3 of the bytes that were judged, where the list says so: a file that holds others now is another one.
    pub digest: Option<String>,
    /// The audits that it was drawn for, by their lists' names.
    pub audits: Vec<String>,
    /// When it was said, microseconds since the Unix epoch, where the list says so.
    pub said_us: Option<i64>,
}

impl Row {
    /// A file of which nothing more is known.
    pub fn of(path: PathBuf, category: Option<usize>, origin: LabelOrigin) -> Self {
        Self {
            path,
            category,
            patient: None,
            origin,
            confidence: None,
            digest: None,
            audits: Vec::new(),
            said_us: None,
        }
    }
}

/// What was found, and what was passed over, by reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The files.
    pub rows: Vec<Row>,
    /// How many were passed over, and why.
    pub left_out: Omitted,
    /// Those of them that are said to be of a category which the bundle does not know.
    pub unknown: BTreeMap<CategoryId, Unknown>,
    /// How much of each audit was judged, files that cannot be used among it.
    pub audits: Audits,
}

/// What is said to be of a category that the bundle does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Unknown {
    /// Files.
    pub files: usize,
    /// Those that were taken for frontal ones.
    pub frontal: usize,
    /// Those that were taken for lateral ones.
    pub lateral: usize,
    /// One of radsort's own labels says so: a person has taken it for a category. What other lists say may be anything.
    pub by_a_label: bool,
}

impl Unknown {
    /// What most of them were taken for.
    pub fn view(&self) -> Option<View> {
        match self.frontal.cmp(&self.lateral) {
            Ordering::Greater => Some(View::Frontal),
            Ordering::Less => Some(View::Lateral),
            Ordering::Equal => None,
        }
    }
}

impl Rows {
    /// Leaves out what nobody has looked at, unless the model was at least so sure of it.
    #[must_use]
    pub fn trusting(self, least: Option<f32>) -> Self {
        let mut trusted = Self {
            left_out: self.left_out,
            unknown: self.unknown,
            audits: self.audits,
            rows: Vec::new(),
        };
        for row in self.rows {
            match why_not(&row, least) {
                Some(why) => trusted.left_out.count(why, 1),
                None => trusted.rows.push(row),
            }
        }
        trusted
    }
}

/// How every reason begins for which images are left out that nobody has looked at.
pub const SEEN_BY_NOBODY: &str = "seen by nobody";

fn why_not(row: &Row, least: Option<f32>) -> Option<&'static str> {
    if row.origin != LabelOrigin::Untouched {
        return None;
    }
    match (least, row.confidence) {
        (None, _) => Some("seen by nobody (--trust-untouched)"),
        (Some(_), None) => {
            Some("seen by nobody, with no confidence in the list (column `confidence`)")
        }
        (Some(least), Some(sure)) if sure < least || sure.is_nan() => {
            Some("seen by nobody, and the model was not sure enough")
        }
        _ => None,
    }
}

/// Why files are left out that lie in a folder which is called like no category.
const UNKNOWN_FOLDER: &str = "in a folder that is no category";

/// Every file below a folder that is called like a category (by id or folder, or as before it was renamed). People have put
/// them there.
pub fn from_folders(dir: &Path, categories: &[Category]) -> Result<Rows, RowsError> {
    let mut found = Rows::default();
    for (place, category) in categories.iter().enumerate() {
        let before = category.formerly.iter().map(String::as_str);
        let names = before.chain([category.folder.as_str(), category.id.as_str()]);
        for name in names.collect::<BTreeSet<_>>() {
            gather(&dir.join(name), Some(place), &mut found)?;
        }
    }
    for name in NAMES_OF_NEITHER {
        gather(&dir.join(name), None, &mut found)?;
    }
    let known = |name: &str| {
        NAMES_OF_NEITHER.contains(&name)
            || categories.iter().any(|category| category.is_meant_by(name))
    };
    for entry in read_dir(dir)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) || known(&name) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            // What cannot be looked into is one thing that is left out.
            let files = files_below(&path).map_or(1, |files| files.len());
            let shown = path.display().to_string();
            found.left_out.named(UNKNOWN_FOLDER, &shown, files);
        } else if path.extension().is_none_or(|it| it != "csv") {
            found.left_out.file("in no category's folder", &path);
        }
    }
    Ok(found)
}

fn gather(dir: &Path, category: Option<usize>, found: &mut Rows) -> Result<(), RowsError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let mut entries = read_dir(dir)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(at(&entry.path()))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden {
            found.left_out.file("hidden", &entry.path());
        } else if kind.is_dir() {
            gather(&entry.path(), category, found)?;
        } else if kind.is_file() {
            let origin = LabelOrigin::Adopted;
            found.rows.push(Row::of(entry.path(), category, origin));
        } else if kind.is_symlink() {
            found
                .left_out
                .file("symbolic links, which are not followed", &entry.path());
        } else {
            found.left_out.file("not a regular file", &entry.path());
        }
    }
    Ok(())
}

fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>, RowsError> {
    fs::read_dir(dir)
        .and_then(Iterator::collect)
        .map_err(at(dir))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RowsError {
    let path = path.to_owned();
    move |source| RowsError::Io { path, source }
}

/// Every regular file below a folder that is not hidden.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, RowsError> {
    let mut found = Rows::default();
    gather(folder, None, &mut found)?;
    Ok(found.rows.into_iter().map(|row| row.path).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(super) fn categories() -> Vec<Category> {
        let bundle = crate::model::Bundle::open_or_shipped(None).unwrap();
        bundle.categories().to_vec()
    }

    #[test]
    fn files_below_category_folders_are_found_and_others_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let categories = categories();
        let put = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        let (first, second) = (categories[0].id.as_str(), categories[1].id.as_str());
        put(&format!("{first}/20240101/1.dcm"));
        put(&format!("{second}/2.dcm"));
        put(&format!("{second}/.hidden"));
        put("neither/3.dcm");
        put("DOE JOHN/4.dcm");
        put("DOE JOHN/more/5.dcm");
        put(".nothing/6.dcm");
        let link = dir.path().join(second).join("link.dcm");
        std::os::unix::fs::symlink("2.dcm", link).unwrap();
        put("_quarantine/5.dcm");
        let found = from_folders(dir.path(), &categories).unwrap();
        let got: Vec<Option<usize>> = found.rows.iter().map(|row| row.category).collect();
        assert_eq!(got, [Some(0), Some(1), None]);
        let left: Vec<(&str, usize)> = found
            .left_out
            .counts()
            .iter()
            .map(|(k, n)| (k.as_str(), *n))
            .collect();
        let link = "symbolic links, which are not followed";
        assert_eq!(left, [("hidden", 1), (UNKNOWN_FOLDER, 2), (link, 1)]);
        // Folders may be called like patients: that is for the terminal alone.
        let names: Vec<String> = found.left_out.names().collect();
        assert!(
            names.iter().any(|line| line.ends_with("/DOE JOHN")),
            "{names:?}"
        );
    }

    #[test]
    fn what_nobody_has_looked_at_is_only_trusted_when_asked_and_where_the_model_was_sure() {
        let row = |origin, confidence| Row {
            confidence,
            ..Row::of("x.dcm".into(), Some(0), origin)
        };
        let rows = Rows {
            rows: vec![
                row(LabelOrigin::Correction, Some(0.4)),
                row(LabelOrigin::Untouched, Some(0.995)),
                row(LabelOrigin::Untouched, Some(0.98)),
                row(LabelOrigin::Untouched, Some(f32::NAN)),
                row(LabelOrigin::Untouched, None),
            ],
            ..Rows::default()
        };
        let seen = rows.clone().trusting(None);
        assert_eq!(seen.rows, rows.rows[..1]);
        let trusted = rows.clone().trusting(Some(0.99));
        assert_eq!(trusted.rows, rows.rows[..2]);
        assert_eq!(trusted.left_out.counts().values().sum::<usize>(), 3);
    }
}
