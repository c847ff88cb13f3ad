//! Labelled files as pictures: decoded by the jailed decoders that `run` uses, and kept in a cache, so that a second run
//! decodes nothing.
//!
//! The cache is keyed by the file's digest, the way of rendering, the preprocessing version and the program's. It holds pixels,
//! pseudonyms and technical header fields, and is readable by its owner only.

mod standing;

use std::collections::BTreeMap;
use std::fs::{self, File};
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
use super::rows::{Row, Rows, Unknown};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Content, Decoded, PREPROCESSING_VERSION, RenderSpec};
use crate::domain::decision::HeaderView;
use crate::domain::instance::{Description, Header};
use crate::domain::{CategoryId, Pseudonym};
use crate::filing::record::Digest;

/// Raised when the cache holds something else.
const CACHE_VERSION: u32 = 4;

/// One labelled image as the networks get it.
#[derive(Clone, Debug)]
pub struct Example {
    /// The file.
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
    /// What the header says about the view.
    pub header: HeaderView,
    /// By what a report breaks figures down.
    pub circumstances: Circumstances,
    /// One picture for each way of rendering, row by row; 65535 is white.
    pub pictures: Vec<Vec<u16>>,
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
    match study {
        Some(study) => format!("study {study}"),
        None => format!("file {}", digest.0),
    }
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

/// What was loaded, and what was not.
#[derive(Debug, Default)]
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
    pub from_cache: usize,
    /// How the pictures of each example are rendered, in order.
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

/// How files become examples.
pub struct Loader<'a> {
    /// The jailed decoders.
    pub pool: &'a Pool,
    /// How pictures are rendered: the ways of the bundles that will be asked.
    pub specs: &'a [RenderSpec],
    /// How patients are named.
    pub pseudonym: Pseudonyms<'a>,
    /// Where pictures are kept; `None`: nowhere.
    pub cache: Option<&'a Path>,
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
        let loaded = self.each(&rows.rows, done);
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

    /// Every file, in the rows' order, on all threads.
    fn each(&self, rows: &[Row], mut done: impl FnMut(usize)) -> Vec<Result<Loaded, LeftOut>> {
        let next = AtomicUsize::new(0);
        let mut loaded: Vec<Option<Result<Loaded, LeftOut>>> = rows.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            for _ in 0..self.threads.max(1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(row) = rows.get(index) else { return };
                        if sender.send((index, self.one(row))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (count, (index, result)) in receiver.into_iter().enumerate() {
                loaded[index] = Some(result);
                done(count + 1);
            }
        });
        // A thread that panics has ended the scope with its panic: nothing is missing.
        loaded.into_iter().flatten().collect()
    }

    fn one(&self, row: &Row) -> Result<Loaded, LeftOut> {
        let unreadable = |_: io::Error| LeftOut::unknown("cannot be read");
        let file = File::options()
            .read(true)
            .custom_flags(
                (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32,
            )
            .open(&row.path)
            .map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(LeftOut::unknown("not a regular file"));
        }
        let digest = Digest::of_file(&file).map_err(unreadable)?;
        if row
            .digest
            .as_ref()
            .is_some_and(|judged| *judged != digest.0)
        {
            return Err(LeftOut::unknown(
                "not the bytes any more that were judged (column `digest`)",
            ));
        }
        let entry = self.cache.map(|cache| cache.join(self.key(&digest)));
        if let Some(kept) = entry.as_deref().and_then(|entry| self.recall(entry)) {
            return Ok((example(row, digest, kept, self.pseudonym), true));
        }
        let decoded =
            self.pool
                .decode(&file, about.len(), self.specs)
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
        if let Some(entry) = &entry {
            // A cache that cannot be written costs time, nothing else.
            if let Err(error) = keep(entry, &kept) {
                tracing::debug!("the cache cannot be written: {error}");
            }
        }
        Ok((example(row, digest, kept, self.pseudonym), false))
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

    /// The cache's name for a file rendered this way.
    fn key(&self, digest: &Digest) -> PathBuf {
        // Another release may decode what this one could not, or decode it better.
        let release = env!("CARGO_PKG_VERSION");
        let way = serde_json::to_vec(&(PREPROCESSING_VERSION, CACHE_VERSION, release, self.specs))
            .unwrap_or_default();
        let way = blake3::hash(&way).to_hex();
        PathBuf::from(&way[..16])
            .join(digest.0.get(..2).unwrap_or("00"))
            .join(&digest.0)
    }

    fn recall(&self, entry: &Path) -> Option<Kept> {
        let bytes = fs::read(entry).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let about: About = serde_json::from_slice(&bytes[..end]).ok()?;
        let mut rest = &bytes[end + 1..];
        let mut pictures = Vec::with_capacity(self.specs.len());
        for spec in self.specs {
            let (picture, after) =
                rest.split_at_checked(2 * spec.height as usize * spec.width as usize)?;
            pictures.push(
                picture
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect(),
            );
            rest = after;
        }
        rest.is_empty().then_some(Kept { about, pictures })
    }
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

/// What the cache holds of a file.
struct Kept {
    about: About,
    pictures: Vec<Vec<u16>>,
}

#[derive(Serialize, Deserialize)]
struct About {
    /// The patient's pseudonym, unless the Patient ID is a placeholder.
    patient: Option<String>,
    /// The pseudonym that everybody under that placeholder has.
    of_placeholder: Option<String>,
    /// The pseudonym that the Patient ID has without its issuer.
    of_id_alone: String,
    study: Option<String>,
    description: Description,
}

fn keep(entry: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = entry.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = serde_json::to_vec(&kept.about)?;
    bytes.push(b'\n');
    bytes.extend(
        kept.pictures
            .iter()
            .flatten()
            .flat_map(|pixel| pixel.to_le_bytes()),
    );
    let part = entry.with_extension("part");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    io::Write::write_all(&mut file, &bytes)?;
    fs::rename(&part, entry)
}

/// Removes the oldest pictures until the cache holds at most `limit` bytes.
pub fn bound_cache(cache: &Path, limit: u64) -> io::Result<()> {
    let mut files = Vec::new();
    let mut folders = vec![cache.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((about.modified()?, about.len(), entry.path()));
            }
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= limit {
            break;
        }
        fs::remove_file(path)?;
        total -= size;
    }
    Ok(())
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
