//! A list of labels, as `radsort labels export` or a person at a spreadsheet writes it.
//!
//! What a list says about a label decides what may be promised: a word that is not known is refused, never guessed at.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Row, Rows, RowsError, at};
use crate::domain::category::says_neither;
use crate::domain::{CategoryId, Origin, View};
use crate::model::manifest::Category;
use crate::retrain::audits::Audits;
use crate::retrain::judging::outcome::LabelOrigin;
use crate::{said_at, separator};

/// Why files are left out of which a list says something that is no category.
const UNKNOWN_CATEGORY: &str = "of a category that is not known";

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
    /// The audits that the file was drawn for, see [`audits`](crate::retrain::audits).
    #[serde(default)]
    audit: Option<String>,
    /// What the model took it for.
    #[serde(default, deserialize_with = "csv::invalid_option")]
    view: Option<View>,
    /// When it was said. Other people's columns of that name may hold anything.
    #[serde(default)]
    time: Option<String>,
}

/// A list of labels as CSV with the columns `category`, `path` or `sop_instance_uid`, and perhaps `patient`, `origin`, `audit`,
/// `confidence`, `digest` and `time`. `complete`: the list leaves no image of its set out. `by_uid` finds the files below the list's folder by
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
    let lines = lines(reader, list, complete)?;
    if lines.is_empty() {
        let path = list.to_owned();
        return Err(RowsError::Empty { path });
    }
    let zone = TimeZone::system();
    let files = if lines.iter().any(|(line, _)| line.path.is_none()) {
        // A list that is named without a folder lies where one stands.
        let here = folder.as_os_str().is_empty();
        by_uid(if here { Path::new(".") } else { folder })?
    } else {
        HashMap::new()
    };
    let mut found = Rows {
        audits: Audits::of_a_list(complete),
        ..Rows::default()
    };
    for (line, said) in lines {
        // Whatever becomes of it, nobody has judged it.
        let is_judged = said != LabelOrigin::Untouched;
        if !is_judged {
            found.audits.lacks_one();
        }
        let name = line.category.trim();
        let place = categories
            .iter()
            .position(|category| category.is_meant_by(name));
        if place.is_none() && !says_neither(name) {
            found.left_out.named(UNKNOWN_CATEGORY, name, 1);
            if is_judged {
                found.audits.lacks_one();
            }
            if let (Ok(id), true) = (CategoryId::parse(name), is_judged) {
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
            if is_judged {
                found.audits.lacks_one();
            }
            continue;
        };
        let told = line.audit.as_deref().filter(|_| is_judged);
        let audits = found.audits.count(told.unwrap_or(""));
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

/// Every line, and where its label comes from.
fn lines(
    mut reader: csv::Reader<fs::File>,
    list: &Path,
    complete: bool,
) -> Result<Vec<(Line, LabelOrigin)>, RowsError> {
    let path = || list.to_owned();
    let failed = |problem| RowsError::Csv {
        path: path(),
        problem,
    };
    let columns = reader.headers().map_err(failed)?.clone();
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line: Line = record.deserialize(Some(&columns)).map_err(failed)?;
        let said = Origin::listed(line.origin.as_deref().unwrap_or("")).map_err(|problem| {
            RowsError::Origin {
                path: path(),
                line: record.position().map_or(0, csv::Position::line),
                problem,
            }
        })?;
        lines.push((line, label_origin(said, complete)));
    }
    Ok(lines)
}

fn label_origin(said: Origin, complete: bool) -> LabelOrigin {
    match said {
        Origin::Audit => LabelOrigin::Audit,
        Origin::Review => LabelOrigin::Review,
        Origin::Correction => LabelOrigin::Correction,
        Origin::Adopted => LabelOrigin::Adopted,
        Origin::Untouched => LabelOrigin::Untouched,
        Origin::Csv if complete => LabelOrigin::CompleteCsv,
        // Of a later version: a label, of which no more is known.
        Origin::Csv | Origin::Unknown => LabelOrigin::Csv,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Unknown;
    use super::super::tests::categories;
    use super::*;

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
        assert_eq!(origins(&["a.dcm,ID,audit,"]).0, [UnfinishedAudit]);
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

    #[test]
    fn an_origin_is_known_whatever_its_case_and_another_word_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let read = |word: &str| {
            let id = categories()[0].id.to_string();
            let text = format!("path,category,origin\na.dcm,{id},csv\nb.dcm,{id},{word}\n");
            fs::write(&list, text).unwrap();
            let found = from_csv(&list, &categories(), false, no_files);
            found.map(|found| found.rows[1].origin)
        };
        use LabelOrigin::{Correction, Csv, Untouched};
        for (word, origin) in [
            ("untouched", Untouched),
            ("Untouched", Untouched),
            ("UNTOUCHED", Untouched),
            (" untouched ", Untouched),
            ("Correction", Correction),
            ("csv", Csv),
            (" ", Csv),
        ] {
            assert_eq!(read(word).unwrap(), origin, "{word:?}");
        }
        for word in ["untoched", "model", "unseen", "pending", "unknown"] {
            let why = read(word).unwrap_err().to_string();
            let begin = format!("{}, line 3: ", list.display());
            assert!(why.starts_with(&begin) && why.contains(word), "{why}");
            assert!(why.contains("audit, review, correction"), "{why}");
        }
    }

    #[test]
    fn a_complete_list_lacks_what_nobody_has_judged_and_an_audit_does_too() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("labels.csv");
        let id = categories()[0].id.to_string();
        let words = |rows: &[&str]| {
            let rows = rows.join("\n").replace("ID", &id);
            fs::write(&list, format!("path,category,origin,audit\n{rows}\n")).unwrap();
            let found = from_csv(&list, &categories(), true, no_files).unwrap();
            found.audits.in_words()
        };
        assert_eq!(words(&["a.dcm,ID,,", "b.dcm,neither,csv,"]), "");
        for unjudged in ["b.dcm,ID,untouched,", "b.dcm,gone,Untouched,"] {
            let told = words(&["a.dcm,ID,,", unjudged]);
            assert!(told.contains("not complete: 1 of its images"), "{told}");
        }
        let told = words(&["a.dcm,ID,audit,X/2", "b.dcm,ID,untouched,X/2"]);
        assert!(told.contains("Of the 2 files of audit X, 1 were"), "{told}");
    }
}
