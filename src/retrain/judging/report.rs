//! What a person reads after training or judging: everything that is known, as a page, as JSON, for a terminal, and as the
//! model card of a bundle. [`Report`] is all that goes in; it has no place for a patient.

use std::collections::BTreeMap;

use serde::Serialize;

use super::baseline::Shortcuts;
use super::compare::{Beside, Comparison, p_value};
use super::figures::Judgement;
use super::intervals::Proportion;
use super::outcome::Outcome;
use super::outside::Outside;
use super::promise::{Promise, Verdict};
use crate::domain::{CategoryId, Pseudonym};

mod card;
mod html;
mod text;

pub use card::{CARD_FILE, Card, model_card, promised_anew};
pub use html::page;
pub use text::summary;

/// How the sentence begins wherever nothing can be promised.
pub const NO_GUARANTEE: &str = "No guarantee";

/// How many images and patients a set has.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetCount {
    /// E.g. `training`.
    pub name: String,
    /// Number of images.
    pub images: u64,
    /// Number of patients.
    pub patients: u64,
    /// Images of each category (by id, or `neither`).
    pub categories: BTreeMap<String, u64>,
}

/// The images that there were.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Data {
    /// Each set.
    pub sets: Vec<SetCount>,
    /// What was left out: why, and how many images.
    pub left_out: Vec<(String, u64)>,
}

/// One epoch of training.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Epoch {
    /// From 1 on.
    pub epoch: u32,
    /// Mean training loss.
    pub loss: f64,
    /// Accuracy on the validation set, 0 to 1.
    pub validation_accuracy: f64,
}

/// How the training of one classifier went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Course {
    /// The classifier's id.
    pub classifier: String,
    /// Its epochs.
    pub epochs: Vec<Epoch>,
}

/// The figures of one set.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JudgedSet {
    /// E.g. `golden`.
    pub name: String,
    /// Its figures.
    pub judgement: Judgement,
}

/// What a site's state knows of images that were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Known {
    /// All of them.
    pub images: u64,
    /// Those of patients on the training or validation side.
    pub fitted: u64,
    /// Those of golden patients.
    pub golden: u64,
    /// How often the golden set has been looked at, this time included.
    pub golden_looks: u32,
}

impl Known {
    /// What has to be known beside the figures; None where the state knows nobody.
    fn in_words(&self) -> Option<String> {
        let Self {
            images,
            fitted,
            golden,
            golden_looks,
        } = self;
        let on_fitted = (*fitted > 0).then(|| {
            format!(
                "{fitted} of the {images} judged images are of patients whom models of this site were fitted on (training and \
                 validation): with those, figures of such a model are better than they will be with new patients."
            )
        });
        let on_golden = (*golden > 0).then(|| {
            format!(
                "{golden} are golden: the golden set has been looked at {golden_looks} times so far, and each look makes it a \
                 little less honest."
            )
        });
        let lines: Vec<String> = [on_fitted, on_golden].into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join(" "))
    }
}

/// All that is known about a bundle.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What this is about, e.g. `spine-site 3`.
    pub title: String,
    /// When and by what it was made, in words.
    pub made: String,
    /// The categories' names for people, by id; the id where there is none.
    pub names: BTreeMap<CategoryId, String>,
    /// The images that there were.
    pub data: Data,
    /// Whom a site's models were fitted on of those that were judged, where a bundle was only judged and a state knows.
    pub known: Option<Known>,
    /// The sets that it was judged on. The first one is the one that headlines tell.
    pub judged: Vec<JudgedSet>,
    /// How training went; empty when nothing was trained.
    pub training: Vec<Course>,
    /// What may be promised, if that was checked.
    pub promise: Option<Promise>,
    /// Of each classifier that measures how far an image is from those that it learned from: the part of usual images that
    /// go to review for it, at most, as the bundle states.
    pub false_reviews: Vec<(String, f64)>,
    /// Images that belong under no category, by what they show; nothing was fitted on them.
    pub outside: Vec<Outside>,
    /// The bundle in use on the images of the first set, if it was asked.
    pub beside: Option<Beside>,
    /// The bundle in use beside it on golden images, if there are any.
    pub comparison: Option<Comparison>,
    /// What was put to use while this was trained: all that is told of the bundle in use is of the one before it.
    pub in_use_since: Option<String>,
    /// Why there is no comparison where one was wanted.
    pub not_compared: Option<String>,
    /// What can be told without the picture, if that was looked at.
    pub shortcuts: Option<Shortcuts>,
    /// Settings of the training, by name.
    pub hyperparameters: Vec<(String, String)>,
    /// Digests of what went in and came out, by name.
    pub digests: Vec<(String, String)>,
}

impl Report {
    /// `report.json`.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// What a category is called.
    fn name(&self, category: &CategoryId) -> String {
        self.names
            .get(category)
            .map_or_else(|| category.to_string(), Clone::clone)
    }

    /// What a class is called: a category, or neither view.
    fn class_name(&self, class: Option<&CategoryId>) -> String {
        class.map_or_else(|| "neither view".to_owned(), |category| self.name(category))
    }

    /// What may be promised, in sentences.
    fn promise_in_words(&self) -> String {
        match &self.promise {
            None => format!(
                "{NO_GUARANTEE}: how often automatically filed images are wrong was not checked on labels that can tell."
            ),
            Some(promise) => {
                let target = percent(promise.target);
                let why = &promise.why;
                match promise.verdict {
                    Verdict::Kept => format!(
                        "At most {target} of the automatically filed images are wrong, with 95 % certainty. {why}"
                    ),
                    Verdict::NotKept => format!(
                        "{NO_GUARANTEE}: the promise of at most {target} wrong among the automatically filed images is \
                         not kept. {why}"
                    ),
                    Verdict::NoGuarantee => format!(
                        "{NO_GUARANTEE} that at most {target} of the automatically filed images are wrong. {why}"
                    ),
                }
            }
        }
    }

    /// That people have put another bundle to use meanwhile, in words; None when nobody has.
    fn overtaken_in_words(&self) -> Option<String> {
        let now = self.in_use_since.as_ref()?;
        let of_golden = self.comparison.as_ref().map(|it| &it.in_use);
        let before = of_golden.or_else(|| self.beside.as_ref().map(|it| &it.in_use));
        let before = before.map_or("the one before it", String::as_str);
        Some(format!(
            "{now} was put to use while this was trained. All that is said here of the bundle in use is of {before}, which was in \
             use when this began. Nothing was compared with {now}, so nothing takes its place by itself."
        ))
    }

    /// Categories that go to review because too little is known about them, in words; None when there are none.
    fn uncertified_in_words(&self) -> Option<String> {
        let promise = self.promise.as_ref()?;
        let told: Vec<String> = promise
            .uncertified
            .iter()
            .map(|one| format!("{} ({})", self.name(&one.category), one.images))
            .collect();
        (!told.is_empty()).then(|| {
            format!(
                "Uncertified, with fewer than {} certifying images: {}.",
                super::promise::CERTIFYING_IMAGES,
                told.join(", ")
            )
        })
    }

    /// How many usual images go to review as unlike any seen, in words; None where no distance is measured.
    fn false_reviews_in_words(&self) -> Option<String> {
        let each = self.false_reviews.iter();
        let each: Vec<String> = each
            .map(|(classifier, rate)| {
                format!(
                    "{} of those that {classifier} is asked about",
                    percent(*rate)
                )
            })
            .collect();
        (!each.is_empty()).then(|| {
            format!(
                "Usual images that go to review as unlike any seen (out-of-distribution), as the bundle states: at most {}.",
                each.join(", ")
            )
        })
    }

    /// The figures that everything begins with.
    fn headline(&self) -> Vec<Fact> {
        let Some(JudgedSet { name, judgement }) = self.judged.first() else {
            return Vec::new();
        };
        let of = |label: &'static str, proportion: Option<Proportion>| Fact {
            label,
            value: proportion.map_or_else(dash, |p| percent(p.estimate)),
            detail: proportion.map_or_else(
                || "no such image".to_owned(),
                |p| format!("{}, {}", interval(&p), counts(&p)),
            ),
        };
        let mut facts = vec![
            Fact {
                label: "judged on",
                value: name.clone(),
                detail: format!(
                    "{} images of {} patients",
                    judgement.images, judgement.patients
                ),
            },
            of("accuracy", judgement.accuracy),
        ];
        if let Some(beside) = &self.beside {
            let label = match self.in_use_since {
                None => "accuracy, bundle in use",
                Some(_) => "accuracy, in use before",
            };
            let accuracy = of(label, beside.accuracy());
            let p = p_value(beside.wrong.p);
            facts.push(Fact {
                detail: format!("{}, McNemar's p {p}", accuracy.detail),
                ..accuracy
            });
        }
        facts.extend([
            of("right of those filed", judgement.filed_rightly),
            of("filed automatically", judgement.coverage),
            Fact {
                label: "calibration error",
                value: judgement.calibration.error.map_or_else(dash, percent),
                detail: format!("{} bins of equal size", judgement.calibration.bins),
            },
        ]);
        facts
    }
}

/// A figure that stands for itself.
struct Fact {
    label: &'static str,
    value: String,
    detail: String,
}

/// A picture for the report: grey, one byte a pixel, row by row.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height` bytes, 255 is white.
    pub grey: Vec<u8>,
}

impl Thumbnail {
    /// A PNG file's bytes; None when the pixels do not make a picture.
    fn png(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&self.grey).ok()?;
        writer.finish().ok()?;
        Some(bytes)
    }
}

/// An image that went wrong, for the contact sheet.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// The image's pseudonym.
    pub image: Pseudonym,
    /// What it is; None: neither view.
    pub truth: Option<CategoryId>,
    /// What it was called.
    pub named: Option<CategoryId>,
    /// How sure the cascade was, 0 to 1.
    pub confidence: f32,
    /// Filed without a person looking.
    pub filed: bool,
    /// The picture, if there is one.
    pub thumbnail: Option<Thumbnail>,
}

impl Mistake {
    /// A mistake and its picture.
    pub fn new(outcome: &Outcome, thumbnail: Option<Thumbnail>) -> Self {
        Self {
            image: outcome.image.clone(),
            truth: outcome.truth.clone(),
            named: outcome.likeliest().cloned(),
            confidence: outcome.confidence,
            filed: outcome.filed().is_some(),
            thumbnail,
        }
    }
}

/// The worst mistakes, the worst first: what was misfiled before what a person will see, the surest first.
pub fn worst(outcomes: &[Outcome], most: usize) -> Vec<&Outcome> {
    let mut wrong: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.is_misfiled() || !outcome.is_right())
        .collect();
    wrong.sort_by(|a, b| {
        (b.is_misfiled().cmp(&a.is_misfiled()))
            .then(b.confidence.total_cmp(&a.confidence))
            .then(a.image.cmp(&b.image))
    });
    wrong.truncate(most);
    wrong
}

fn dash() -> String {
    "–".to_owned()
}

/// A part in percent, with as many decimals as keep it apart from 0 and 100 % (at most four).
fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    let decimals = (1..4)
        .find(|decimals| {
            let unit = 10f64.powi(-decimals);
            let near = |end: f64| percent != end && (percent - end).abs() < unit / 2.0;
            !near(0.0) && !near(100.0)
        })
        .unwrap_or(4);
    let decimals = if percent == 0.0 || percent == 100.0 {
        0
    } else {
        decimals as usize
    };
    format!("{percent:.decimals$} %")
}

/// E.g. `97.1–99.0 %`.
fn interval(proportion: &Proportion) -> String {
    let low = percent(proportion.low);
    format!(
        "{}–{}",
        low.trim_end_matches(" %"),
        percent(proportion.high)
    )
}

/// E.g. `980 of 1000`, which stays on one line.
fn counts(proportion: &Proportion) -> String {
    format!("{}\u{a0}of\u{a0}{}", proportion.part, proportion.whole)
}

/// E.g. `98.0 % (97.1–99.0 %)`.
fn with_interval(proportion: Option<Proportion>) -> String {
    proportion.map_or_else(dash, |p| {
        format!("{} ({})", percent(p.estimate), interval(&p))
    })
}

#[cfg(test)]
mod tests;
