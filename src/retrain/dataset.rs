//! Labelled files as pictures: decoded by the jailed decoders that `run` uses, and kept in a [cache](super::pixel_cache), so
//! that a second run decodes nothing.

mod patient;
mod standing;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};

pub use self::patient::is_placeholder;
use self::patient::patient;
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
    /// They are made from fewer samples than the file has pixels: decisions that hang by a thread are taken again in full.
    #[serde(default)]
    pub reduced: bool,
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
pub(super) struct LeftOut {
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
            about: self.about(header, decoded.reduced),
            pictures: pictures(&decoded),
        };
        if let Some(cache) = self.cache {
            cache.keep(digest, self.specs, &kept);
        }
        Ok((kept, false))
    }

    fn about(&self, header: &Header, reduced: bool) -> About {
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
            reduced,
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
pub(super) fn read(path: &Path) -> Result<(File, Digest), LeftOut> {
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
        reduced: about.reduced,
        header: HeaderView::of(&about.description),
        circumstances: circumstances(&about.description),
        pictures,
        digest,
    }
}
