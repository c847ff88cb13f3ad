//! What `retrain` and `evaluate` found, put together for [`Report`] and written beside the bundle.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;

use super::evaluate::ids;
use crate::decode::{RenderSpec, render};
use crate::domain::Pseudonym;
use crate::model::Bundle;
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::judging::baseline::{HeaderFields, Shortcuts, border_features};
use crate::retrain::judging::compare::Comparison;
use crate::retrain::judging::figures::Judgement;
use crate::retrain::judging::outcome::{LabelOrigin, Outcome};
use crate::retrain::judging::promise::{Promise, Terms, Verdict, certify};
use crate::retrain::judging::report::{
    CARD_FILE, Card, Course, Data, Epoch, JudgedSet, Mistake, Report, SetCount, Thumbnail,
    model_card, page, worst,
};
use crate::retrain::session::{self, Made, Mode, Wish};
use crate::retrain::sides::Side;

/// How many of the worst mistakes are shown.
const MISTAKES: usize = 24;

/// A judged set of images: which examples, and what became of each.
pub struct Set {
    /// E.g. `test`.
    pub name: &'static str,
    /// Places in the dataset.
    pub indices: Vec<usize>,
    /// In the same order.
    pub outcomes: Vec<Outcome>,
}

/// The report on a bundle that was only judged.
pub fn on_evaluation(
    bundle: &Bundle,
    set: &Set,
    left_out: &BTreeMap<String, usize>,
    promise: Promise,
) -> Report {
    Report {
        title: bundle.name_and_version(),
        made: made_now("evaluate"),
        names: names(bundle),
        data: Data {
            sets: Vec::new(),
            left_out: left_out_of(left_out),
        },
        judged: vec![judged(bundle, set)],
        promise: Some(promise),
        false_reviews: false_reviews(bundle),
        digests: digests(bundle),
        ..Report::default()
    }
}

/// The report on a bundle that was just trained; `sets` are judged, the one for headlines first.
pub fn on_training(
    candidate: &Bundle,
    wish: &Wish<'_>,
    made: &Made,
    sets: &[Set],
    comparison: Option<Comparison>,
    promise: Promise,
) -> Report {
    Report {
        title: candidate.name_and_version(),
        made: made_now("retrain"),
        names: names(candidate),
        data: Data {
            sets: Side::ALL.iter().map(|side| count(wish, *side)).collect(),
            left_out: left_out_of(wish.dataset.left_out.counts()),
        },
        judged: sets.iter().map(|set| judged(candidate, set)).collect(),
        training: courses(made),
        promise: Some(promise),
        beside: None,
        comparison,
        known: None,
        in_use_since: None,
        not_compared: None,
        shortcuts: shortcuts(wish, sets),
        false_reviews: false_reviews(candidate),
        outside: Vec::new(),
        hyperparameters: hyperparameters(wish),
        digests: digests(candidate),
    }
}

/// Checks "at most `target` of what is filed automatically is wrong" on images whose patients were used for nothing else.
#[allow(clippy::implicit_hasher)] // one caller makes sets of its own
pub fn promise(
    bundle: &Bundle,
    outcomes: &[Outcome],
    used: &HashSet<Pseudonym>,
    target: f64,
    files_uncertified: bool,
    seed: u64,
) -> Promise {
    certify(
        outcomes,
        &Terms {
            target,
            threshold: None,
            categories: &ids(bundle),
            used,
            files_uncertified,
            seed,
        },
    )
}

/// What may be promised about a bundle that was just trained, from test and golden images.
pub fn certified(
    candidate: &Bundle,
    wish: &Wish<'_>,
    sets: &[Set],
    target: f64,
    files_uncertified: bool,
) -> Promise {
    let judging = sets
        .iter()
        .filter(|set| set.name != Side::Validation.word());
    let outcomes: Vec<Outcome> = judging
        .flat_map(|set| set.outcomes.iter().cloned())
        .collect();
    let used = used(wish);
    let mut promise = promise(
        candidate,
        &outcomes,
        &used,
        target,
        files_uncertified,
        wish.seed,
    );
    promise.why.push_str(&wish.dataset.audits.in_words());
    let audited = |outcome: &Outcome| outcome.origin == LabelOrigin::Audit;
    if promise.verdict == Verdict::Kept && outcomes.iter().any(audited) {
        promise.why.push_str(
            " Audited images were drawn from what the bundle before had filed: about files that it would have left to \
             a person, this says nothing; audit again once the new bundle is in use.",
        );
    }
    promise
}

/// Patients whose images promise nothing, because weights or thresholds may have been fitted on them.
pub fn used(wish: &Wish<'_>) -> HashSet<Pseudonym> {
    wish.dataset
        .examples
        .iter()
        .map(|example| example.patient.as_str())
        .filter(|patient| !matches!(wish.sides.of(patient), Some(Side::Test | Side::Golden)))
        .map(|patient| Pseudonym(patient.to_owned()))
        .collect()
}

/// The pictures of the worst mistakes of a set.
pub fn mistakes(dataset: &Dataset, set: &Set) -> Vec<Mistake> {
    // The largest picture that a classifier gets.
    let (specs, examples) = (&dataset.specs, &dataset.examples);
    let Some(render) = (0..specs.len()).max_by_key(|k| specs[*k].height) else {
        return Vec::new();
    };
    let place: BTreeMap<&str, usize> = set
        .indices
        .iter()
        .map(|index| (examples[*index].digest.0.as_str(), *index))
        .collect();
    let thumbnail = |outcome: &Outcome| {
        let picture = examples[*place.get(outcome.image.0.as_str())?]
            .pictures
            .get(render)?;
        Some(Thumbnail {
            width: specs[render].width,
            height: specs[render].height,
            grey: picture.iter().map(|pixel| (pixel >> 8) as u8).collect(),
        })
    };
    worst(&set.outcomes, MISTAKES)
        .into_iter()
        .map(|outcome| Mistake::new(outcome, thumbnail(outcome)))
        .collect()
}

/// Writes report.html, report.json and the model card into a bundle's folder.
pub fn write(
    dir: &Path,
    bundle: &Bundle,
    report: &Report,
    mistakes: &[Mistake],
) -> anyhow::Result<()> {
    let manifest = bundle.manifest();
    let card = Card {
        model: bundle.name_and_version(),
        intended_use: manifest.intended_use.clone(),
        licence: manifest.licence.clone(),
        provenance: manifest.provenance.clone(),
    };
    for (name, text) in [
        ("report.html", page(report, mistakes)),
        ("report.json", report.json()?),
        (CARD_FILE, model_card(&card, report)),
    ] {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn made_now(verb: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    format!("{now}, radsort {} {verb}", env!("CARGO_PKG_VERSION"))
}

fn names(bundle: &Bundle) -> BTreeMap<crate::domain::CategoryId, String> {
    bundle
        .categories()
        .iter()
        .map(|category| (category.id.clone(), category.name.clone()))
        .collect()
}

fn left_out_of(left_out: &BTreeMap<String, usize>) -> Vec<(String, u64)> {
    left_out
        .iter()
        .map(|(why, count)| (why.clone(), *count as u64))
        .collect()
}

fn judged(bundle: &Bundle, set: &Set) -> JudgedSet {
    JudgedSet {
        name: set.name.to_owned(),
        judgement: Judgement::of(&ids(bundle), &set.outcomes),
    }
}

fn count(wish: &Wish<'_>, side: Side) -> SetCount {
    let mut patients = HashSet::new();
    let mut categories: BTreeMap<String, u64> = BTreeMap::new();
    let seen = session::seen_on(wish, side);
    for index in &seen {
        let example = &wish.dataset.examples[*index];
        patients.insert(example.patient.as_str());
        let name = example.category.map_or("neither", |category| {
            wish.bundle.categories()[category].id.as_str()
        });
        *categories.entry(name.to_owned()).or_default() += 1;
    }
    SetCount {
        name: side.word().to_owned(),
        images: seen.len() as u64,
        patients: patients.len() as u64,
        categories,
    }
}

fn courses(made: &Made) -> Vec<Course> {
    let epochs = |curve: &Vec<session::Epoch>| {
        curve
            .iter()
            .enumerate()
            .map(|(k, epoch)| Epoch {
                epoch: k as u32 + 1,
                loss: f64::from(epoch.loss),
                validation_accuracy: epoch.validation_accuracy,
            })
            .collect()
    };
    made.curves
        .iter()
        .map(|(classifier, curve)| Course {
            classifier: classifier.clone(),
            epochs: epochs(curve),
        })
        .collect()
}

/// What header and borders alone tell, beside the model, on test images.
fn shortcuts(wish: &Wish<'_>, sets: &[Set]) -> Option<Shortcuts> {
    let test = sets.iter().find(|set| set.name == Side::Test.word())?;
    let spec = wish.dataset.specs.first()?;
    let classes = wish.bundle.categories().len() + 1;
    let training = session::seen_on(wish, Side::Training);
    let fields = HeaderFields::of(
        training
            .iter()
            .map(|index| &wish.dataset.examples[*index].circumstances),
    );
    let features = |index: &usize| -> (Vec<f32>, usize) {
        let example = &wish.dataset.examples[*index];
        let grey: Vec<f32> = example
            .pictures
            .first()
            .map(|picture| picture.iter().map(|p| f32::from(*p) / 65535.0).collect())
            .unwrap_or_default();
        let mut features =
            border_features(&grey, spec.width as usize, filled(example, spec)).to_vec();
        features.extend(fields.features(&example.circumstances));
        (
            features,
            example.category.map_or(classes - 1, |category| category),
        )
    };
    let training: Vec<_> = training.iter().map(features).collect();
    let asked: Vec<_> = test.indices.iter().map(features).collect();
    fn seen(all: &[(Vec<f32>, usize)]) -> Vec<(&[f32], usize)> {
        all.iter()
            .map(|(features, class)| (features.as_slice(), *class))
            .collect()
    }
    let right = test
        .outcomes
        .iter()
        .filter(|outcome| outcome.is_right())
        .count() as u64;
    // With too few images there is nothing to say.
    Shortcuts::of(&seen(&training), &seen(&asked), classes, right).ok()
}

/// Which rows and columns of the network's input show the image; all where its own size is not known.
fn filled(example: &Example, spec: &RenderSpec) -> [Range<usize>; 2] {
    let matrix = example.circumstances.matrix.as_deref().unwrap_or_default();
    let sides = matrix.split_once(" × ");
    let sides = sides.and_then(|(columns, rows)| Some([rows.parse().ok()?, columns.parse().ok()?]));
    render::filled(sides.unwrap_or([spec.height, spec.width]), spec)
}

fn hyperparameters(wish: &Wish<'_>) -> Vec<(String, String)> {
    let mut all = vec![
        ("classifiers".to_owned(), wish.classifiers.join(", ")),
        (
            "mode".to_owned(),
            match wish.mode {
                Mode::Head => "head: last layer, multinomial logistic, classes weighted alike",
                Mode::Full => "full: all weights, AdamW, warm-up and cosine",
            }
            .to_owned(),
        ),
        ("seed".to_owned(), wish.seed.to_string()),
        (
            "images that nobody has looked at".to_owned(),
            match wish.trust_untouched {
                Some(confidence) => format!(
                    "{} learned from, with a confidence of {confidence} or more",
                    session::untouched(wish)
                ),
                None => "not learned from".to_owned(),
            },
        ),
    ];
    if wish.mode == Mode::Full {
        all.extend([
            ("epochs at most".to_owned(), wish.full.epochs.to_string()),
            ("batch".to_owned(), wish.full.batch.to_string()),
            (
                "learning rate".to_owned(),
                format!(
                    "{} (before the last layer {})",
                    wish.full.learning_rate,
                    wish.full.learning_rate * wish.full.backbone_rate
                ),
            ),
            (
                "batch normalisation".to_owned(),
                if wish.full.frozen_norms {
                    "frozen"
                } else {
                    "trained"
                }
                .to_owned(),
            ),
            (
                "ends early after".to_owned(),
                format!("{} epochs without progress", wish.full.patience),
            ),
        ]);
    }
    all
}

/// At which rate each distance sends usual images to review, as the bundle states.
fn false_reviews(bundle: &Bundle) -> Vec<(String, f64)> {
    let classifiers = bundle.manifest().classifiers.iter();
    let stated = classifiers.filter_map(|spec| {
        let distance = spec.out_of_distribution.as_ref()?;
        // As it is written there: a single has other digits behind it as a double.
        let rate = (f64::from(distance.false_review_rate) * 1e6).round() / 1e6;
        Some((spec.id.clone(), rate))
    });
    stated.collect()
}

fn digests(bundle: &Bundle) -> Vec<(String, String)> {
    let manifest = bundle.manifest();
    let networks = manifest
        .classifiers
        .iter()
        .map(|spec| (spec.model.file.clone(), spec.model.sha256.clone()));
    [(
        "training set (BLAKE3)".to_owned(),
        manifest.training_set.clone(),
    )]
    .into_iter()
    .chain(networks)
    .collect()
}
