//! Labelled files as pictures: decoded by the jailed decoders that `run` uses, and kept in a [cache](super::pixel_cache), so
//! that a second run decodes nothing.

mod standing;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};

use self::standing::{audits_of_each, counts, standing};
use super::audits::Audits;
use super::judging::outcome::{Circumstances, LabelOrigin};
use super::omitted::Omitted;
use super::pixel_cache::{About, Kept, PixelCache};
use super::rows::{Row, Rows, Unknown};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Content, Decoded, RenderSpec};
use crate::domain::decision::HeaderView;
use crate::domain::instance::{Description, Header};
use crate::domain::{CategoryId, Pseudonym};
use crate::filing::record::Digest;

/// One labelled image as the networks get it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Example {
    /// The file.
    #[serde(with = "any_path")]
    pub path: PathBuf,
    /// Its bytes.
    pub digest: Digest,
    /// Place in the bundle's categories; `None`: of neither view.
    pub category: Option<usize>,
    /// Where the label comes from.
    pub origin: LabelOrigin,
    /// The patient's name in splits: a pseudonym, else the study, else the file.
    pub patient: String,
    /// Study Instance UID, when there is one.
    pub study: Option<String>,
    /// Neither the file nor the list says who the patient is: nothing, or a placeholder.
    pub nameless: bool,
    /// The pseudonym of the file's own Patient ID, unless that is a placeholder: a list may call the same person otherwise.
    #[serde(default)]
    pub by_header: Option<String>,
    /// What the header says about the view.
    pub header: HeaderView,
    /// By what a report breaks figures down.
    pub circumstances: Circumstances,
    /// One picture for each way of rendering, row by row; 65535 is white. Its cache keeps them.
    #[serde(skip)]
    pub pictures: Vec<Vec<u16>>,
}

/// Paths need not be UTF-8.
mod any_path {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(from).map(PathBuf::from)
    }
}

impl Example {
    /// Whether a person has looked at it: only then may anything be judged by it.
    pub fn is_seen(&self) -> bool {
        self.origin != LabelOrigin::Untouched
    }

    /// The patient's name in splits where it is not known who that is: better one patient a study than one for all.
    pub fn study_or_file(&self) -> String {
        study_or_file(self.study.as_deref(), &self.digest)
    }

    /// The study as one of the names by which its patient is known.
    pub fn by_study(&self) -> Option<String> {
        self.study.as_deref().map(by_study)
    }

    /// The file's bytes as such a name.
    pub fn by_file(&self) -> String {
        by_file(&self.digest)
    }
}

fn by_study(study: &str) -> String {
    format!("study {study}")
}

fn by_file(digest: &Digest) -> String {
    format!("file {}", digest.0)
}

/// Grey values, 0 black to 1 white, as they are kept: 65535 is white.
pub fn at_16_bits(grey: &[f32]) -> Vec<u16> {
    let stored = |value: &f32| (value * f32::from(u16::MAX)).round() as u16;
    grey.iter().map(stored).collect()
}

/// The pictures of a decoded file, one for each spec, as [`at_16_bits`].
pub fn pictures(decoded: &Decoded) -> Vec<Vec<u16>> {
    let radiographs = decoded.radiographs.iter();
    radiographs
        .map(|radiograph| at_16_bits(&radiograph.pixels))
        .collect()
}

fn study_or_file(study: Option<&str>, digest: &Digest) -> String {
    study.map_or_else(|| by_file(digest), by_study)
}

/// By what a report breaks figures down.
fn circumstances(description: &Description) -> Circumstances {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let model = format!(
        "{} {}",
        description.manufacturer, description.manufacturer_model_name
    );
    Circumstances {
        detector: some(model.trim().to_owned()),
        matrix: Some(format!("{} × {}", description.columns, description.rows)),
        year: description
            .study_date
            .get(..4)
            .and_then(|year| some(year.to_owned())),
        age_band: age_band(&description.patient_age),
    }
}

/// Patient's Age (PS3.5 §6.2, AS) in bands of five years.
fn age_band(age: &str) -> Option<String> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let number: u32 = number.parse().ok()?;
    let years = match unit {
        "Y" => number,
        "M" => number / 12,
        "W" => number / 52,
        "D" => number / 365,
        _ => return None,
    };
    let from = years / 5 * 5;
    Some(format!("{from}–{}", from + 4))
}

/// What was loaded, and what was not. Written down it says which images those are, without their pictures.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Dataset {
    /// The images.
    pub examples: Vec<Example>,
    /// How many files were left out, and why.
    pub left_out: Omitted,
    /// What is said to be of categories that the bundle does not know.
    pub unknown: BTreeMap<CategoryId, Unknown>,
    /// How much of each audit was judged.
    pub audits: Audits,
    /// How many came from the cache.
    #[serde(skip)]
    pub from_cache: usize,
    /// How the pictures of each example are rendered, in order.
    #[serde(skip)]
    pub specs: Vec<RenderSpec>,
}

impl Dataset {
    /// Which of an example's pictures is rendered this way.
    pub fn place(&self, spec: &RenderSpec) -> Option<usize> {
        self.specs.iter().position(|it| it == spec)
    }
}

/// An image, and whether it came from the cache.
type Loaded = (Example, bool);

/// Why a file is not among the images.
#[derive(Debug)]
struct LeftOut {
    why: String,
    /// What is said of the others holds without it as well: the service would not file it, or it is there already.
    harmless: bool,
}

impl LeftOut {
    fn harmless(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            harmless: true,
        }
    }

    fn unknown(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            harmless: false,
        }
    }
}

/// Makes a pseudonym of (Patient ID, issuer).
pub type Pseudonyms<'a> = &'a (dyn Fn(&str, &str) -> Pseudonym + Sync);

/// Where else a file with this digest may lie. People and radsort itself move files while a training is under way.
pub type Elsewhere<'a> = &'a (dyn Fn(&Digest) -> Vec<PathBuf> + Sync);

/// How files become examples.
pub struct Loader<'a> {
    /// The jailed decoders.
    pub pool: &'a Pool,
    /// How pictures are rendered: the ways of the bundles that will be asked.
    pub specs: &'a [RenderSpec],
    /// How patients are named.
    pub pseudonym: Pseudonyms<'a>,
    /// Where pictures are kept; `None`: nowhere.
    pub cache: Option<&'a PixelCache>,
    /// Finds files that are not where they were.
    pub elsewhere: Elsewhere<'a>,
    /// Threads.
    pub threads: usize,
}

/// Patient IDs that stand for nobody: images of many people under one of them would make one patient of all.
const PLACEHOLDERS: [&str; 12] = [
    "ANON",
    "ANONYMOUS",
    "ANONYMIZED",
    "ANONYMISED",
    "UNKNOWN",
    "NONE",
    "NA",
    "N/A",
    "TEST",
    "PATIENT",
    "NOID",
    "NO ID",
];

/// Whether a Patient ID stands for nobody in particular, in a header or in a list: nothing, zeros, dashes, a word for
/// nobody, or one character over and over. (Patients may well be called 7 or 22.)
pub fn is_placeholder(patient_id: &str) -> bool {
    let id = patient_id
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_ascii_uppercase();
    let Some(first) = id.chars().next() else {
        return true;
    };
    let all_alike = id.chars().all(|c| c == first);
    let says_nothing = matches!(first, '0' | 'X') || !first.is_alphanumeric();
    (all_alike && (says_nothing || id.len() >= 4)) || PLACEHOLDERS.contains(&id.as_str())
}

impl Loader<'_> {
    /// Loads every file; `done` hears how many are finished. A file that cannot be used is left out and counted.
    pub fn load(&self, rows: &Rows, done: impl FnMut(usize)) -> Dataset {
        let mut dataset = Dataset {
            specs: self.specs.to_vec(),
            left_out: rows.left_out.clone(),
            unknown: rows.unknown.clone(),
            audits: rows.audits.clone(),
            ..Dataset::default()
        };
        let loaded = self.each(&rows.rows, |row| self.one(row), done);
        let standing = standing(&rows.rows, &loaded);
        let audits = audits_of_each(&rows.rows, &loaded, &standing, &mut dataset.audits);
        let mut of_examples = Vec::new();
        for (place, (row, loaded)) in rows.rows.iter().zip(loaded).enumerate() {
            let taken = loaded.and_then(|loaded| {
                let stands = standing.get(&loaded.0.digest).copied().flatten();
                let stands = stands.map(|stands| (stands, &rows.rows[stands]));
                counts(place, row, stands).map(|()| loaded)
            });
            match taken {
                Ok((example, from_cache)) => {
                    dataset.from_cache += usize::from(from_cache);
                    dataset.examples.push(example);
                    of_examples.push(audits[place].as_slice());
                }
                Err(LeftOut { why, harmless }) => {
                    dataset.left_out.file(&why, &row.path);
                    if !harmless && row.origin != LabelOrigin::Untouched {
                        dataset.audits.lose(&row.audits);
                    }
                }
            }
        }
        let said = dataset.examples.iter().map(|example| example.origin);
        dataset.audits.close(said.zip(of_examples.iter().copied()));
        for (example, audits) in dataset.examples.iter_mut().zip(of_examples) {
            example.origin = dataset.audits.origin(example.origin, audits);
        }
        dataset
    }

    /// Gets the pictures of images that were loaded before, with everything that was said of them as it was then. Gives the
    /// places of those whose pictures cannot be had any more.
    pub fn load_again(
        &self,
        mut dataset: Dataset,
        done: impl FnMut(usize),
    ) -> Result<Dataset, Lost> {
        dataset.specs = self.specs.to_vec();
        let again = self.each(&dataset.examples, |example| self.again(example), done);
        let mut lost = Vec::new();
        for (example, again) in dataset.examples.iter_mut().zip(again) {
            match again {
                Some((kept, from_cache)) => {
                    example.pictures = kept.pictures;
                    dataset.from_cache += usize::from(from_cache);
                }
                None => lost.push(example.path.clone()),
            }
        }
        if lost.is_empty() {
            Ok(dataset)
        } else {
            let of = dataset.examples.len();
            Err(Lost { paths: lost, of })
        }
    }

    /// Of every item, in order, on all threads.
    fn each<I: Sync, T: Send>(
        &self,
        items: &[I],
        one: impl Fn(&I) -> T + Sync,
        mut done: impl FnMut(usize),
    ) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let mut results: Vec<Option<T>> = items.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            for _ in 0..self.threads.max(1) {
                let (sender, next, one) = (sender.clone(), &next, &one);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = items.get(index) else { return };
                        if sender.send((index, one(item))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (count, (index, result)) in receiver.into_iter().enumerate() {
                results[index] = Some(result);
                done(count + 1);
            }
        });
        // A thread that panics has ended the scope with its panic: nothing is missing.
        results.into_iter().flatten().collect()
    }

    fn one(&self, row: &Row) -> Result<Loaded, LeftOut> {
        let judged = row.digest.as_ref().map(|digest| Digest(digest.clone()));
        let (file, digest) = match (read(&row.path), judged) {
            (Ok((_, digest)), Some(judged)) if judged != digest => {
                return Err(LeftOut::unknown(
                    "not the bytes any more that were judged (column `digest`)",
                ));
            }
            (Err(why), Some(judged)) => (self.find(&judged).ok_or(why)?, judged),
            (found, _) => found?,
        };
        let (kept, from_cache) = self.pictures_of(&file, &digest)?;
        Ok((example(row, digest, kept, self.pseudonym), from_cache))
    }

    /// What was there once: out of the cache, from where it was, or from where it is now.
    fn again(&self, example: &Example) -> Option<(Kept, bool)> {
        let digest = &example.digest;
        if let Some(kept) = self
            .cache
            .and_then(|cache| cache.recall(digest, self.specs))
        {
            return Some((kept, true));
        }
        let there = read(&example.path).ok();
        let there = there.filter(|(_, is)| is == digest).map(|(file, _)| file);
        let file = there.or_else(|| self.find(digest))?;
        self.pictures_of(&file, digest).ok()
    }

    /// The file with these bytes, where it is not at its place.
    fn find(&self, digest: &Digest) -> Option<File> {
        let places = (self.elsewhere)(digest);
        let mut found = places.iter().filter_map(|path| read(path).ok());
        found.find(|(_, is)| is == digest).map(|(file, _)| file)
    }

    /// Pictures, and whether they came from the cache.
    fn pictures_of(&self, file: &File, digest: &Digest) -> Result<(Kept, bool), LeftOut> {
        if let Some(kept) = self
            .cache
            .and_then(|cache| cache.recall(digest, self.specs))
        {
            return Ok((kept, true));
        }
        let size = file.metadata().map_err(unreadable)?.len();
        let decoded = self
            .pool
            .decode(file, size, self.specs)
            .map_err(|error| match error {
                DecodeError::Fault(fault) => LeftOut::harmless(fault.reason.code()),
                DecodeError::Io(_) => LeftOut::unknown("cannot be read"),
                DecodeError::Unavailable(_) => LeftOut::unknown("no decoder"),
            })?;
        let Content::Radiograph { header } = &decoded.inspection.content else {
            return Err(LeftOut::harmless("no radiograph"));
        };
        let kept = Kept {
            about: self.about(header),
            pictures: pictures(&decoded),
        };
        if let Some(cache) = self.cache {
            cache.keep(digest, self.specs, &kept);
        }
        Ok((kept, false))
    }

    fn about(&self, header: &Header) -> About {
        let name = (self.pseudonym)(&header.patient_id, &header.issuer_of_patient_id).0;
        let (patient, of_placeholder) = if is_placeholder(&header.patient_id) {
            (None, Some(name))
        } else {
            (Some(name), None)
        };
        let study = header.study_instance_uid.trim_end_matches(['\0', ' ']);
        About {
            patient,
            of_placeholder,
            of_id_alone: (self.pseudonym)(&header.patient_id, "").0,
            study: (!study.is_empty()).then(|| study.to_owned()),
            description: header.description.clone(),
        }
    }
}

/// Images that a training was begun with and that cannot be had any more.
#[derive(Debug)]
pub struct Lost {
    /// Where they were.
    pub paths: Vec<PathBuf>,
    /// How many images there were.
    pub of: usize,
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn unreadable(_: io::Error) -> LeftOut {
    LeftOut::unknown("cannot be read")
}

/// Opens a regular file, and computes its digest.
fn read(path: &Path) -> Result<(File, Digest), LeftOut> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(LeftOut::unknown("not a regular file"));
    }
    let digest = Digest::of_file(&file).map_err(unreadable)?;
    Ok((file, digest))
}

fn example(row: &Row, digest: Digest, kept: Kept, pseudonym: Pseudonyms<'_>) -> Example {
    let Kept { about, pictures } = kept;
    let name = patient(row.patient.as_deref(), &about, pseudonym);
    let nameless = name.is_none();
    let patient = name.unwrap_or_else(|| study_or_file(about.study.as_deref(), &digest));
    Example {
        path: row.path.clone(),
        category: row.category,
        origin: row.origin,
        patient,
        study: about.study,
        nameless,
        by_header: about.patient,
        header: HeaderView::of(&about.description),
        circumstances: circumstances(&about.description),
        pictures,
        digest,
    }
}

/// Who the patient is, by pseudonym: as the list says, else as the file says. A Patient ID has the same pseudonym in a list as
/// in a header, so that nobody is two patients; a pseudonym, as `radsort labels export` writes it, stays what it is.
fn patient(listed: Option<&str>, about: &About, pseudonym: Pseudonyms<'_>) -> Option<String> {
    let listed = listed.map(|name| name.trim_matches(|c: char| c.is_whitespace() || c == '\0'));
    let Some(name) = listed.filter(|name| !is_placeholder(name)) else {
        return about.patient.clone();
    };
    let hashed = pseudonym(name, "").0;
    // Said of the file as well: a list knows no issuer, the header may.
    if hashed == about.of_id_alone {
        return about.patient.clone();
    }
    // The ledger has a pseudonym for placeholders too, and the lists that come from it.
    if about.of_placeholder.as_deref() == Some(name) {
        return None;
    }
    Some(if is_pseudonym(name) {
        name.to_owned()
    } else {
        hashed
    })
}

/// Whether a name looks like one of [`Pseudonym`].
fn is_pseudonym(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::decision::HeaderView;

    #[test]
    fn placeholders_are_told_from_patients_who_are_called_by_short_numbers() {
        for nobody in [
            "",
            " ",
            "\0",
            "0",
            "000",
            "-",
            "???",
            "XXX",
            "9999",
            "AAAA",
            "anon",
            " Anonymous ",
            "UNKNOWN",
            "test",
            "n/a",
        ] {
            assert!(is_placeholder(nobody), "{nobody:?}");
        }
        for somebody in ["1", "7", "22", "333", "A", "4711", "PH0001", "TESTA", "100"] {
            assert!(!is_placeholder(somebody), "{somebody:?}");
        }
    }

    fn pseudonym(patient: &str, issuer: &str) -> Pseudonym {
        let digest = blake3::hash(format!("{issuer}/{patient}").as_bytes());
        Pseudonym(digest.to_hex()[..32].to_owned())
    }

    /// The pseudonym of a name in a list.
    fn of_name(name: &str) -> String {
        pseudonym(name, "").0
    }

    /// What is loaded of a file of one hospital, whose header may name the patient.
    fn loaded(listed: Option<&str>, header: Option<&str>, study: Option<&str>) -> Example {
        let row = Row {
            patient: listed.map(str::to_owned),
            ..Row::of("x.dcm".into(), Some(0), LabelOrigin::Csv)
        };
        let of_hospital = |patient| pseudonym(patient, "HOSPITAL").0;
        let about = About {
            patient: header.map(of_hospital),
            of_placeholder: header.is_none().then(|| of_hospital("ANON")),
            of_id_alone: of_name(header.unwrap_or("ANON")),
            study: study.map(str::to_owned),
            description: Description::default(),
        };
        let pictures = Vec::new();
        let kept = Kept { about, pictures };
        example(&row, Digest("d".into()), kept, &pseudonym)
    }

    #[test]
    fn a_placeholder_in_a_list_in_a_header_or_in_the_ledger_is_one_patient_a_study() {
        let patient = |listed, header, study| loaded(listed, header, study).patient;
        assert_eq!(patient(Some("P1"), Some("h"), Some("1.2")), of_name("P1"));
        assert_eq!(patient(Some("P1"), None, Some("1.2")), of_name("P1"));
        let of_anon = pseudonym("ANON", "HOSPITAL").0;
        for nobody in ["ANON", "0", of_anon.as_str()] {
            assert_eq!(patient(Some(nobody), None, Some("1.2")), "study 1.2");
        }
        assert_eq!(
            patient(Some("ANON"), Some("h"), Some("1.2")),
            pseudonym("h", "HOSPITAL").0,
            "the file knows"
        );
        assert_eq!(patient(None, None, None), "file d");
        assert!(loaded(None, None, Some("1.2")).nameless);
        assert!(!loaded(Some("P1"), None, None).nameless);
        assert_eq!(loaded(None, None, None).header, HeaderView::Absent);
    }

    #[test]
    fn a_patient_has_one_pseudonym_whether_a_list_a_header_or_the_ledger_says_who_it_is() {
        let patient = |listed, header| loaded(listed, Some(header), None).patient;
        let of_header = patient(None, "4711");
        let of_ledger = pseudonym("4711", "HOSPITAL").0;
        assert_eq!(of_header, of_ledger);
        for name in ["4711", " 4711 ", of_ledger.as_str()] {
            assert_eq!(patient(Some(name), "4711"), of_header, "{name:?}");
        }
        // A list may say that two names are one patient: by any name, or by a pseudonym.
        assert_eq!(patient(Some("P1"), "4711"), patient(Some("P1"), "4712"));
        assert_eq!(patient(Some(&of_ledger), "4712"), of_header);
        // Patient IDs may look like pseudonyms.
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(patient(Some(digits), digits), patient(None, digits));
    }
}
