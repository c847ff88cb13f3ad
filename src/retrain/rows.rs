//! Which files a site says are what: category folders as people have left them, or a list of labels.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::audits::Audits;
use super::judging::outcome::LabelOrigin;
use super::omitted::Omitted;
use crate::domain::category::{NAMES_OF_NEITHER, says_neither};
use crate::domain::{CategoryId, View};
use crate::model::manifest::Category;
use crate::{said_at, separator};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, serde::Serialize)]
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
/// Why files are left out of which a list says something that is no category.
const UNKNOWN_CATEGORY: &str = "of a category that is not known";

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

/// A line of the list. Other columns are passed over.
#[derive(Deserialize)]
struct Line {
    /// Relative to the list's folder.
    #[serde(default)]
    path: Option<PathBuf>,
    /// Names the file when no path does.
    #[serde(default)]
    sop_instance_uid: Option<String>,
    /// Id or folder of a category; `neither` (or nothing) for neither view.
    category: String,
    #[serde(default)]
    patient: Option<String>,
    #[serde(default)]
    origin: Option<String>,
    /// How sure the model was. Other people's columns of that name may hold anything.
    #[serde(default, deserialize_with = "csv::invalid_option")]
    confidence: Option<f32>,
    #[serde(default)]
    digest: Option<String>,
    /// The audits that the file was drawn for, see [`audits`](super::audits).
    #[serde(default)]
    audit: Option<String>,
    /// What the model took it for.
    #[serde(default, deserialize_with = "csv::invalid_option")]
    view: Option<View>,
    /// When it was said. Other people's columns of that name may hold anything.
    #[serde(default)]
    time: Option<String>,
}

/// A list of labels as CSV with the columns `category`, `path` or `sop_instance_uid`, and perhaps `patient`, `origin` and
/// `confidence`. `complete`: the list leaves no image of its set out. `by_uid` finds the files below the list's folder by
/// their SOP Instance UIDs; it is asked at most once.
pub fn from_csv(
    list: &Path,
    categories: &[Category],
    complete: bool,
    by_uid: impl FnOnce(&Path) -> Result<HashMap<String, PathBuf>, RowsError>,
) -> Result<Rows, RowsError> {
    let failed = |problem| RowsError::Csv {
        path: list.to_owned(),
        problem,
    };
    let folder = list.parent().unwrap_or(Path::new(""));
    let file = fs::File::open(list).map_err(at(list))?;
    let mut reader = separator::reader().from_reader(file);
    // One that cannot be read would be passed over, and columns be told by their order.
    if let Some(found) = separator::other(reader.headers().map_err(failed)?) {
        let path = list.to_owned();
        return Err(RowsError::Separator { path, found });
    }
    if reader.headers().map_err(failed)?.is_empty() {
        let path = list.to_owned();
        return Err(RowsError::Empty { path });
    }
    let lines: Vec<Line> = reader
        .into_deserialize()
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if lines.is_empty() {
        let path = list.to_owned();
        return Err(RowsError::Empty { path });
    }
    let zone = TimeZone::system();
    let files = if lines.iter().any(|line| line.path.is_none()) {
        by_uid(folder)?
    } else {
        HashMap::new()
    };
    let mut found = Rows::default();
    for line in lines {
        let said = origin_of(line.origin.as_deref().unwrap_or(""), complete);
        let name = line.category.trim();
        let place = categories
            .iter()
            .position(|category| category.is_meant_by(name));
        if place.is_none() && !says_neither(name) {
            found.left_out.named(UNKNOWN_CATEGORY, name, 1);
            if said == LabelOrigin::CompleteCsv {
                found.audits.lacks_one();
            }
            if let (Ok(id), true) = (CategoryId::parse(name), said != LabelOrigin::Untouched) {
                let unknown = found.unknown.entry(id).or_default();
                unknown.files += 1;
                unknown.by_a_label |= line.origin.is_some();
                unknown.frontal += usize::from(line.view == Some(View::Frontal));
                unknown.lateral += usize::from(line.view == Some(View::Lateral));
            }
            continue;
        }
        let uid = line.sop_instance_uid.as_deref().unwrap_or("").trim();
        let path = match line.path {
            Some(path) => Some(folder.join(path)),
            None => files.get(uid).cloned(),
        };
        let Some(path) = path else {
            found
                .left_out
                .named("no file has this SOP Instance UID", uid, 1);
            if said == LabelOrigin::CompleteCsv {
                found.audits.lacks_one();
            }
            continue;
        };
        let audits = found.audits.count(line.audit.as_deref().unwrap_or(""));
        found.rows.push(Row {
            path,
            category: place,
            patient: line.patient.filter(|patient| !patient.is_empty()),
            origin: said,
            confidence: line.confidence,
            // Only radsort's own lists say where a label is from, and their digests are BLAKE3.
            digest: line
                .digest
                .filter(|digest| !digest.is_empty() && line.origin.is_some())
                .map(|digest| digest.to_ascii_lowercase()),
            audits,
            said_us: line.time.and_then(|time| said_at::parse(&time, &zone)),
        });
    }
    Ok(found)
}

/// Every regular file below a folder that is not hidden.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, RowsError> {
    let mut found = Rows::default();
    gather(folder, None, &mut found)?;
    Ok(found.rows.into_iter().map(|row| row.path).collect())
}

/// What the column `origin` says, as `radsort labels export` writes it.
fn origin_of(word: &str, complete: bool) -> LabelOrigin {
    match word {
        "audit" => LabelOrigin::Audit,
        "review" => LabelOrigin::Review,
        "correction" => LabelOrigin::Correction,
        "adopted" => LabelOrigin::Adopted,
        "untouched" => LabelOrigin::Untouched,
        _ if complete => LabelOrigin::CompleteCsv,
        _ => LabelOrigin::Csv,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn categories() -> Vec<Category> {
        let bundle = crate::model::Bundle::open_or_shipped(None).unwrap();
        bundle.categories().to_vec()
    }

    #[allow(clippy::unnecessary_wraps)] // what from_csv asks for
    fn no_files(_: &Path) -> Result<HashMap<String, PathBuf>, RowsError> {
        Ok(HashMap::new())
    }

    #[test]
    fn a_list_without_paths_finds_its_files_by_their_uids() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let categories = categories();
        let id = categories[0].id.as_str();
        fs::write(
            &list,
            format!("sop_instance_uid,category\n1.2,{id}\n1.3,{id}\n"),
        )
        .unwrap();
        let file = dir.path().join("a.dcm");
        let found = from_csv(&list, &categories, true, |folder| {
            assert_eq!(folder, dir.path());
            Ok(HashMap::from([("1.2".to_owned(), file.clone())]))
        })
        .unwrap();
        assert_eq!(found.rows.len(), 1);
        assert_eq!(found.rows[0].path, file);
        assert_eq!(
            found.left_out.counts()["no file has this SOP Instance UID"],
            1
        );
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
    fn labels_of_a_category_that_the_bundle_does_not_know_are_counted_with_their_views() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let lines = [
            "sop_instance_uid,path,category,origin,view",
            "1.2,a.dcm,frontal-halo,correction,frontal",
            "1.3,b.dcm,frontal-halo,review,",
            "1.4,c.dcm,gone,untouched,lateral",
            "1.5,d.dcm,No Id,correction,lateral",
        ];
        fs::write(&list, lines.join("\n")).unwrap();
        let found = from_csv(&list, &categories(), false, no_files).unwrap();
        let unknown: Vec<_> = found.unknown.iter().collect();
        let halo = CategoryId::parse("frontal-halo").unwrap();
        let counted = Unknown {
            files: 2,
            frontal: 1,
            lateral: 0,
            by_a_label: true,
        };
        assert_eq!(unknown, [(&halo, &counted)]);
        assert_eq!(counted.view(), Some(View::Frontal));
        assert_eq!(found.trusting(None).unknown.len(), 1);
    }

    #[test]
    fn labels_of_an_audit_certify_when_all_of_its_files_are_judged_and_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let id = categories()[0].id.to_string();
        let origins = |rows: &[&str]| {
            let rows = rows.join("\n").replace("ID", &id);
            fs::write(&list, format!("path,category,origin,audit\n{rows}\n")).unwrap();
            let found = from_csv(&list, &categories(), true, no_files).unwrap();
            let origin = |row: &Row| found.audits.origin(row.origin, &row.audits);
            let origins: Vec<_> = found.rows.iter().map(origin).collect();
            (origins, found.audits.in_words())
        };
        use LabelOrigin::{Audit, CompleteCsv, Correction, Csv, UnfinishedAudit};
        let whole = [
            "a.dcm,ID,audit,X/2",
            "b.dcm,ID,correction,X/2",
            "c.dcm,ID,correction,",
        ];
        assert_eq!(origins(&whole).0, [Audit, Audit, Correction]);
        let (found, words) = origins(&["a.dcm,ID,audit,X/3", "b.dcm,ID,audit,X/3; Y/1"]);
        assert_eq!(found, [UnfinishedAudit, Audit]);
        assert!(words.contains("1 were judged by nobody"), "{words}");
        // What the bundle knows no name for was misfiled: a sample without it would look too good.
        let unknown = ["a.dcm,ID,audit,X/2", "b.dcm,frontal-halo,audit,X/2"];
        assert_eq!(origins(&unknown).0, [UnfinishedAudit]);
        assert_eq!(origins(&["a.dcm,ID,audit,unknown"]).0, [UnfinishedAudit]);
        assert_eq!(origins(&["a.dcm,ID,audit,"]).0, [Audit]);
        // The same of a list that is said to be complete.
        let complete = ["a.dcm,ID,,", "b.dcm,neither,,"];
        assert_eq!(origins(&complete).0, [CompleteCsv, CompleteCsv]);
        assert_eq!(origins(&["a.dcm,ID,,", "b.dcm,chest,,"]).0, [Csv]);
    }

    #[test]
    fn a_list_names_files_beside_it_and_who_the_patients_are() {
        let dir = tempfile::tempdir().unwrap();
        let categories = categories();
        let list = dir.path().join("labels.csv");
        let id = categories[3].id.as_str();
        fs::write(
            &list,
            format!("sop_instance_uid,path,category,patient,origin\n1.2,a.dcm,{id},P1,audit\n1.3,b.dcm,neither,,\n1.4,c.dcm,nonsense,,\n1.5,d.dcm,{id},P2,untouched\n"),
        )
        .unwrap();
        let found = from_csv(&list, &categories, false, no_files).unwrap();
        assert_eq!(found.rows.len(), 3);
        assert_eq!(
            found.rows[0],
            Row {
                path: dir.path().join("a.dcm"),
                category: Some(3),
                patient: Some("P1".into()),
                origin: LabelOrigin::Audit,
                confidence: None,
                digest: None,
                audits: Vec::new(),
                said_us: None,
            }
        );
        assert_eq!(
            (found.rows[1].category, found.rows[1].origin),
            (None, LabelOrigin::Csv)
        );
        assert_eq!(found.rows[2].origin, LabelOrigin::Untouched);
        assert_eq!(found.left_out.counts()[UNKNOWN_CATEGORY], 1);
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

    #[test]
    fn a_list_without_its_columns_is_refused_with_what_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        fs::write(&list, "file,class\na,b\n").unwrap();
        let why = from_csv(&list, &categories(), false, no_files)
            .unwrap_err()
            .to_string();
        assert!(why.contains("and `category`"), "{why}");
        for nothing in ["", "path,category\n"] {
            fs::write(&list, nothing).unwrap();
            let why = from_csv(&list, &categories(), false, no_files).unwrap_err();
            assert!(why.to_string().ends_with("the list is empty"), "{why}");
        }
        fs::write(&list, "path;category\na.dcm;b\n").unwrap();
        let why = from_csv(&list, &categories(), false, no_files).unwrap_err();
        assert!(why.to_string().contains("separated by semicolons"), "{why}");
    }

    #[test]
    fn blanks_around_names_of_columns_and_categories_mean_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let id = categories()[0].id.to_string();
        let text = format!("\u{feff}path, category , time\na.dcm, {id} ,2026-11-23T14:00:00Z\n");
        fs::write(&list, text).unwrap();
        let found = from_csv(&list, &categories(), false, no_files).unwrap();
        assert_eq!(found.rows[0].path, dir.path().join("a.dcm"));
        assert_eq!(found.rows[0].category, Some(0));
        assert_eq!(found.rows[0].said_us, Some(1_795_442_400_000_000));
    }

    #[test]
    fn a_first_line_that_cannot_be_read_is_refused_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        // Latin-1, as spreadsheets write it.
        let mut text = b"path,Gr\xf6\xdfe,category\n".to_vec();
        text.extend_from_slice(format!("a.dcm,1,{}\n", categories()[0].id).as_bytes());
        fs::write(&list, text).unwrap();
        assert!(from_csv(&list, &categories(), false, no_files).is_err());
        assert!(from_csv(dir.path(), &categories(), false, no_files).is_err());
    }
}
