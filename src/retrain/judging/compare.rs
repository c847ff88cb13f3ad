//! Whether a candidate may take the place of the bundle in use: both on the same golden images, compared image by image.
//!
//! The rule of `--promote if-better`, for two kinds of errors (the likeliest category is wrong; filed where it does not
//! belong) and for each class (each category, and images of neither view):
//!
//! - A class with fewer than [`SMALL_CLASS`] golden images blocks when the candidate has any net new error in it.
//! - A larger class blocks when there are net new errors and the one-sided 95 % bound of the difference of error rates is
//!   above [`MARGIN`].
//! - A category that the candidate can name and no golden image shows blocks: nothing is known about it.
//! - A promise that the bundle in use keeps and the candidate does not keep blocks; with both kept, so does a coverage that
//!   falls by more than [`MARGIN`]. Without a promise that the candidate keeps, a fall beyond that margin blocks when it is more
//!   than chance explains.
//! - Radiographs of something else block when the candidate files more of them than the bundle in use, and more than chance
//!   explains: McNemar's exact one-sided p is at most [`CHANCE`].
//!
//! What is not blocked is better when it is right on more images than the bundle in use, or on as many while it files more
//! under the same kept promise. McNemar's p on golden images is told beside it and decides nothing: golden sets are small.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::intervals::{Proportion, difference_bound, mcnemar};
use super::outcome::Outcome;
use super::outside::{Distance, Outside};
use super::promise::{self, Promise};
use crate::domain::{CategoryId, Pseudonym};

/// With fewer golden images, a class tolerates no net new error.
pub const SMALL_CLASS: u64 = 100;

/// By how much the error rate of a larger class may have grown, at the one-sided 95 % bound: 1 percentage point.
pub const MARGIN: f64 = 0.01;

/// How likely it may be by chance that more radiographs of something else are filed.
pub const CHANCE: f64 = 0.05;

/// The two cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// There is nothing to compare on.
    #[error("there are no golden images to compare on: label some, then judge both bundles again")]
    Empty,
    /// An image stands twice in one list.
    #[error("image {} is listed twice for one bundle: judge each image once", .0.0)]
    Repeated(Pseudonym),
    /// An image was judged with one of them only.
    #[error("image {} was judged with one of the two bundles only: judge both on the same images", .0.0)]
    Alone(Pseudonym),
    /// The two lists disagree about what an image is.
    #[error("image {} has different labels for the two bundles: judge both with the same labels", .0.0)]
    Label(Pseudonym),
}

/// A bundle on the golden images.
#[derive(Clone, Copy, Debug)]
pub struct Contender<'a> {
    /// Name and version.
    pub name: &'a str,
    /// What it can name.
    pub categories: &'a [CategoryId],
    /// What became of each golden image.
    pub outcomes: &'a [Outcome],
    /// What may be promised about it, if that was checked.
    pub promise: Option<&'a Promise>,
    /// What became of images of no category, the same ones for both.
    pub outside: &'a [Outside],
}

/// The golden set, and how worn it is: each look at it makes its figures a little less honest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GoldenSet {
    /// Its version.
    pub version: String,
    /// How often it has been looked at, this time included.
    pub looks: u64,
}

/// Whether the candidate is promoted by `if-better`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is better, and nothing speaks against it.
    Better,
    /// Nothing speaks against it, but it is not better.
    NotBetter,
    /// Something speaks against it.
    Blocked,
}

/// One kind of error of both bundles on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Paired {
    /// Number of images.
    pub images: u64,
    /// Errors that both make.
    pub both: u64,
    /// Errors that only the candidate makes.
    pub new: u64,
    /// Errors that only the bundle in use makes.
    pub mended: u64,
    /// McNemar's exact two-sided p.
    pub p: f64,
    /// One-sided 95 % upper bound of how much higher the candidate's error rate is, −1 to 1.
    pub worse_by_at_most: f64,
}

impl Paired {
    /// `errors`: for each image, whether the candidate and whether the bundle in use is wrong.
    fn of(errors: impl Iterator<Item = (bool, bool)>) -> Self {
        let (mut images, mut both, mut new, mut mended) = (0, 0, 0, 0);
        for (candidate, in_use) in errors {
            images += 1;
            both += u64::from(candidate && in_use);
            new += u64::from(candidate && !in_use);
            mended += u64::from(!candidate && in_use);
        }
        Self {
            images,
            both,
            new,
            mended,
            p: mcnemar(mended, new),
            worse_by_at_most: difference_bound(new, mended, images),
        }
    }

    /// Errors that the candidate makes.
    pub fn of_candidate(&self) -> u64 {
        self.both + self.new
    }

    /// Errors that the bundle in use makes.
    pub fn of_bundle_in_use(&self) -> u64 {
        self.both + self.mended
    }

    /// Why this stands in the way, if it does; `what` is the kind of error, `of` the class.
    fn objection(&self, what: &str, of: &str) -> Option<String> {
        let Self {
            new,
            mended,
            images,
            worse_by_at_most,
            ..
        } = self;
        if new <= mended {
            return None;
        }
        let told = format!("{of}: {new} new and {mended} mended of {images} images {what}");
        if *images < SMALL_CLASS {
            Some(format!(
                "{told}; with fewer than {SMALL_CLASS} images no net new error is tolerated."
            ))
        } else if *worse_by_at_most > MARGIN {
            Some(format!(
                "{told}; the error rate may have grown by {:.2} percentage points, and {:.0} is tolerated.",
                100.0 * worse_by_at_most,
                100.0 * MARGIN
            ))
        } else {
            None
        }
    }
}

/// Both kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Errors {
    /// The likeliest category is wrong; an image of neither view: filed.
    pub wrong: Paired,
    /// Filed where it does not belong.
    pub misfiled: Paired,
}

/// The errors in one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClassErrors {
    /// The category; None for images of neither view.
    pub class: Option<CategoryId>,
    /// Its errors.
    #[serde(flatten)]
    pub errors: Errors,
}

/// The candidate beside the bundle in use.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// Name and version of the candidate.
    pub candidate: String,
    /// Name and version of the bundle in use.
    pub in_use: String,
    /// The golden set.
    pub golden: GoldenSet,
    /// All images.
    pub all: Errors,
    /// Each class of the golden set.
    pub classes: Vec<ClassErrors>,
    /// Of the golden images of a category, the part that the candidate files.
    pub candidate_coverage: Option<Proportion>,
    /// The same of the bundle in use.
    pub in_use_coverage: Option<Proportion>,
    /// Whether the candidate is promoted by `if-better`.
    pub verdict: Verdict,
    /// Why, in sentences.
    pub reasons: Vec<String>,
}

/// The bundle in use beside the candidate on images by which nothing is decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Beside {
    /// Name and version of the bundle in use.
    pub in_use: String,
    /// Images of a category whose likeliest category is another one.
    pub wrong: Paired,
}

impl Beside {
    /// The part that the bundle in use gets right.
    pub fn accuracy(&self) -> Option<Proportion> {
        let images = self.wrong.images;
        Proportion::of(images - self.wrong.of_bundle_in_use(), images)
    }
}

/// Holds the bundle called `name` beside the candidate, on the images of a category, as accuracy is told.
pub fn beside(
    name: &str,
    candidate: &[Outcome],
    in_use: &[Outcome],
) -> Result<Beside, CompareError> {
    let mut pairs = pairs(candidate, in_use)?;
    pairs.retain(|(outcome, _)| outcome.truth.is_some());
    Ok(Beside {
        in_use: name.to_owned(),
        wrong: errors(&pairs).wrong,
    })
}

/// Compares both on the same images.
pub fn compare(
    candidate: Contender,
    in_use: Contender,
    golden: GoldenSet,
) -> Result<Comparison, CompareError> {
    let pairs = pairs(candidate.outcomes, in_use.outcomes)?;
    let mut by_class: BTreeMap<(bool, Option<&CategoryId>), Vec<Pair>> = BTreeMap::new();
    for pair in &pairs {
        let truth = pair.0.truth.as_ref();
        by_class
            .entry((truth.is_none(), truth))
            .or_default()
            .push(*pair);
    }
    let classes: Vec<ClassErrors> = by_class
        .into_iter()
        .map(|((_, class), pairs)| ClassErrors {
            class: class.cloned(),
            errors: errors(&pairs),
        })
        .collect();
    let all = errors(&pairs);
    let mut objections: Vec<String> = classes.iter().flat_map(objections_of).collect();
    objections.extend(never_shown(candidate.categories, &classes));
    objections.extend(broken_promise(candidate.promise, in_use.promise));
    objections.extend(files_less(&pairs, candidate.promise));
    objections.extend(filed_from_outside(candidate.outside, in_use.outside));
    let (verdict, reasons) = if objections.is_empty() {
        gain(&all.wrong, candidate.promise, in_use.promise)
    } else {
        (Verdict::Blocked, objections)
    };
    let coverage = |outcomes: &[Outcome]| {
        let of_category = outcomes.iter().filter(|outcome| outcome.truth.is_some());
        Proportion::count(of_category, |outcome| outcome.filed().is_some())
    };
    Ok(Comparison {
        candidate: candidate.name.to_owned(),
        in_use: in_use.name.to_owned(),
        golden,
        all,
        classes,
        candidate_coverage: coverage(candidate.outcomes),
        in_use_coverage: coverage(in_use.outcomes),
        verdict,
        reasons,
    })
}

/// What became of one image with the candidate and with the bundle in use.
type Pair<'a> = (&'a Outcome, &'a Outcome);

fn pairs<'a>(
    candidate: &'a [Outcome],
    in_use: &'a [Outcome],
) -> Result<Vec<Pair<'a>>, CompareError> {
    let mut others: HashMap<&Pseudonym, &Outcome> = HashMap::new();
    for outcome in in_use {
        if others.insert(&outcome.image, outcome).is_some() {
            return Err(CompareError::Repeated(outcome.image.clone()));
        }
    }
    let mut pairs = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for outcome in candidate {
        if !seen.insert(&outcome.image) {
            return Err(CompareError::Repeated(outcome.image.clone()));
        }
        let other = others
            .remove(&outcome.image)
            .ok_or_else(|| CompareError::Alone(outcome.image.clone()))?;
        if other.truth != outcome.truth {
            return Err(CompareError::Label(outcome.image.clone()));
        }
        pairs.push((outcome, other));
    }
    match others.into_keys().min() {
        Some(image) => Err(CompareError::Alone(image.clone())),
        None if pairs.is_empty() => Err(CompareError::Empty),
        None => Ok(pairs),
    }
}

fn errors(pairs: &[Pair]) -> Errors {
    let of =
        |wrong: fn(&Outcome) -> bool| Paired::of(pairs.iter().map(|(a, b)| (wrong(a), wrong(b))));
    Errors {
        wrong: of(|outcome| !outcome.is_right()),
        misfiled: of(Outcome::is_misfiled),
    }
}

fn objections_of(class: &ClassErrors) -> Vec<String> {
    let name = class
        .class
        .as_ref()
        .map_or("neither view", CategoryId::as_str);
    let Errors { wrong, misfiled } = &class.errors;
    [
        wrong.objection("named wrongly", name),
        misfiled.objection("misfiled", name),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the candidate can name and nothing was seen of: it may have forgotten it. Whether the bundle in use knows it does not
/// matter, because neither was asked.
fn never_shown(categories: &[CategoryId], classes: &[ClassErrors]) -> Option<String> {
    let is_shown = |id: &CategoryId| classes.iter().any(|it| it.class.as_ref() == Some(id));
    let categories = categories.iter().filter(|id| !is_shown(id));
    let missing: Vec<&str> = categories.map(CategoryId::as_str).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "No golden image shows {}, so that nobody knows what the candidate makes of it: label images of five patients              or more, or look at the report and promote by hand (`radsort models promote`).",
            missing.join(", ")
        )
    })
}

/// Both promises, if the bundle in use keeps one.
fn kept<'a>(
    candidate: Option<&'a Promise>,
    in_use: Option<&'a Promise>,
) -> Option<(Option<&'a Promise>, &'a Promise)> {
    let in_use = in_use.filter(|promise| promise.verdict == promise::Verdict::Kept)?;
    let same = candidate.filter(|promise| {
        promise.verdict == promise::Verdict::Kept && promise.target <= in_use.target
    });
    Some((same, in_use))
}

fn covered(promise: &Promise) -> f64 {
    promise.coverage.map_or(0.0, |coverage| coverage.estimate)
}

fn broken_promise(candidate: Option<&Promise>, in_use: Option<&Promise>) -> Option<String> {
    let (candidate, in_use) = kept(candidate, in_use)?;
    let target = 100.0 * in_use.target;
    let Some(candidate) = candidate else {
        return Some(format!(
            "The bundle in use keeps its promise of at most {target:.2} % wrong among those filed automatically; \
             the candidate does not."
        ));
    };
    let (now, then) = (covered(candidate), covered(in_use));
    (then - now > MARGIN).then(|| {
        format!(
            "Under the same promise the candidate files {:.1} % automatically and the bundle in use {:.1} %: more than \
             {:.0} percentage point less.",
            100.0 * now,
            100.0 * then,
            100.0 * MARGIN
        )
    })
}

/// Whether the candidate files fewer images of a category rightly than chance explains. What it gives up for a promise that it keeps
/// is well given.
fn files_less(pairs: &[Pair], promise: Option<&Promise>) -> Option<String> {
    if promise.is_some_and(|promise| promise.verdict == promise::Verdict::Kept) {
        return None;
    }
    // Who keeps back what the other misfiles loses nothing by it.
    let of_category = pairs.iter().filter(|(candidate, in_use)| {
        candidate.truth.is_some() && !candidate.is_misfiled() && !in_use.is_misfiled()
    });
    let kept_back = |outcome: &Outcome| outcome.filed().is_none();
    let Paired {
        images,
        new,
        mended,
        p,
        ..
    } = Paired::of(of_category.map(|(a, b)| (kept_back(a), kept_back(b))));
    let fall = new.saturating_sub(mended) as f64 / images.max(1) as f64;
    (fall > MARGIN && p / 2.0 <= CHANCE).then(|| {
        format!(
            "Of {images} golden images the candidate keeps back {new} that the bundle in use files, and files {mended} \
             that it keeps back."
        )
    })
}

/// Whether the candidate files more radiographs of something else than chance explains.
fn filed_from_outside(candidate: &[Outside], in_use: &[Outside]) -> Option<String> {
    fn filed(all: &[Outside]) -> impl Iterator<Item = bool> {
        let near = all.iter().filter(|of| of.distance == Distance::Near);
        near.flat_map(|of| of.filed.iter().copied())
    }
    let found = Paired::of(filed(candidate).zip(filed(in_use)));
    let Paired {
        images,
        new,
        mended,
        p,
        ..
    } = found;
    (new > mended && p / 2.0 <= CHANCE).then(|| {
        format!(
            "Of {images} radiographs of something else the candidate files {new} that the bundle in use keeps back, and \
             keeps back {mended} that it files."
        )
    })
}

/// E.g. `= 0.012`.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else {
        format!("= {p:.3}")
    }
}

/// Whether there is anything to win, when nothing stands in the way.
fn gain(
    wrong: &Paired,
    candidate: Option<&Promise>,
    in_use: Option<&Promise>,
) -> (Verdict, Vec<String>) {
    let Paired {
        images,
        new,
        mended,
        p,
        ..
    } = wrong;
    let told = format!(
        "On {images} golden images the candidate names {mended} rightly that the bundle in use does not, and {new} the \
         other way round (McNemar's exact p {}).",
        p_value(*p)
    );
    if mended > new {
        return (Verdict::Better, vec![told]);
    }
    if new > mended {
        let why = "That is within the margin, but not better.".to_owned();
        return (Verdict::NotBetter, vec![told, why]);
    }
    match kept(candidate, in_use) {
        Some((Some(candidate), in_use)) if covered(candidate) > covered(in_use) => {
            let why = format!(
                "Equally accurate, and under the same promise it files {:.1} % automatically instead of {:.1} %.",
                100.0 * covered(candidate),
                100.0 * covered(in_use)
            );
            (Verdict::Better, vec![told, why])
        }
        Some((Some(_), _)) => {
            let why = "Equally accurate, and under the promise that both keep it files no more.";
            (Verdict::NotBetter, vec![told, why.to_owned()])
        }
        _ => {
            let why = "Equally accurate; that more is filed counts only under a promise that both keep, and they do not.";
            (Verdict::NotBetter, vec![told, why.to_owned()])
        }
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
