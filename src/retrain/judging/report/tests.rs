//! Reports of made-up outcomes: whole in themselves, escaped, and honest about what cannot be promised.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::super::compare::{Contender, GoldenSet, beside, compare};
use super::super::examples::{id, image, kept_back};
use super::super::intervals::Proportion;
use super::super::outcome::{Circumstances, LabelOrigin};
use super::super::outside::{Distance, Outside};
use super::super::promise::{Terms, certify};
use super::*;

const CATEGORIES: [&str; 5] = [
    "frontal-none",
    "frontal-brace",
    "frontal-screws",
    "frontal-rods",
    "frontal-fusion",
];

/// A classifier that is right in about so many of 1000 images, and knows roughly how sure it is.
fn outcomes(count: u32, right: u32, seed: u64) -> Vec<Outcome> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|k| {
            if k % 40 == 0 {
                return kept_back(k, "", "out-of-scope");
            }
            let truth = CATEGORIES[(k as usize * k as usize / 7) % 5];
            // A hard image is one for both bundles.
            let hard = k.wrapping_mul(2_654_435_761) % 1000 >= right;
            let other = CATEGORIES[(k as usize) % 5];
            let confidence: f32 = if hard {
                dice.random_range(0.4..0.97)
            } else {
                1.0 - dice.random_range(0.0f32..0.5).powi(3)
            };
            let mut outcome = image(k, truth, if hard { other } else { truth }, confidence);
            outcome.circumstances = Circumstances {
                detector: Some(["DR-1 Wide", "CR 75", "Slot 2"][k as usize % 3].into()),
                matrix: Some(["2022 × 4300", "1760 × 2140"][k as usize % 2].into()),
                year: (k % 9 != 0).then(|| (2021 + k % 4).to_string()),
                age_band: Some(["0–9", "10–19", "20–39", "40+"][(k / 3) as usize % 4].into()),
            };
            outcome.at_threshold(0.8)
        })
        .collect()
}

fn thumbnail(seed: u32) -> Thumbnail {
    let (width, height) = (80u32, 128u32);
    let grey = (0..width * height)
        .map(|k| {
            let (x, y) = (f64::from(k % width), f64::from(k / width));
            let spine =
                (-((x - 40.0 - 6.0 * (y / 20.0 + f64::from(seed)).sin()) / 9.0).powi(2)).exp();
            (30.0 + 190.0 * spine * (0.8 + 0.2 * (y / 3.0).sin())) as u8
        })
        .collect();
    Thumbnail {
        width,
        height,
        grey,
    }
}

/// A report with everything in it.
fn example() -> (Report, Vec<Mistake>) {
    let categories: Vec<CategoryId> = CATEGORIES.iter().map(|text| id(text)).collect();
    let (candidate, in_use) = (outcomes(1600, 985, 1), outcomes(1600, 960, 2));
    let used = HashSet::new();
    let terms = Terms {
        target: 0.01,
        threshold: Some(0.8),
        categories: &categories,
        used: &used,
        files_uncertified: false,
        seed: 1,
    };
    let promises = [&candidate, &in_use].map(|outcomes| certify(outcomes, &terms));
    let contender = |name, outcomes, promise| Contender {
        name,
        categories: &[],
        outcomes,
        promise: Some(promise),
        outside: &[],
    };
    let golden = GoldenSet {
        version: "4".into(),
        looks: 2,
    };
    let comparison = compare(
        contender("spine-site 3", &candidate, &promises[0]),
        contender("spine-site 2", &in_use, &promises[1]),
        golden,
    );
    let epochs = |seed: u32| {
        let epoch = |epoch: u32| Epoch {
            epoch,
            loss: 1.5 * (-f64::from(epoch + seed) / 6.0).exp() + 0.03,
            validation_accuracy: 1.0 - 0.4 * (-f64::from(epoch) / 4.0).exp(),
        };
        (1..=20).map(epoch).collect()
    };
    let set = |name: &str, images: u64| SetCount {
        name: name.into(),
        images,
        patients: images * 3 / 4,
        categories: CATEGORIES
            .iter()
            .map(|c| ((*c).into(), images / 5))
            .collect(),
    };
    let names = ["untreated", "brace", "screws", "growing rods", "fusion"];
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mistakes = worst(&candidate, 12)
        .into_iter()
        .enumerate()
        .map(|(k, outcome)| Mistake::new(outcome, (k != 5).then(|| thumbnail(k as u32))))
        .collect();
    let outside = Outside {
        distance: Distance::Far,
        name: "<noise>".into(),
        kept_back: Proportion::of(63, 64),
        recognised: Proportion::of(60, 64),
        reasons: [("out-of-scope".to_owned(), 60)].into(),
        filed: Vec::new(),
    };
    let report = Report {
        outside: vec![outside],
        known: None,
        false_reviews: vec![("frontal".into(), 0.0327)],
        title: "spine-site 3".into(),
        made: "Judged on 23 November 2026 by radsort 0.1.0".into(),
        names: categories
            .iter()
            .zip(names)
            .map(|(id, name)| (id.clone(), format!("Frontal, {name}")))
            .collect(),
        data: Data {
            sets: vec![
                set("training", 7000),
                set("validation", 1500),
                set("golden", 1600),
            ],
            left_out: vec![
                ("patient ID is a placeholder".into(), 31),
                ("pending labels".into(), 12),
            ],
        },
        judged: vec![JudgedSet {
            name: "golden".into(),
            judgement: Judgement::of(&categories, &candidate),
        }],
        training: vec![Course {
            classifier: "frontal".into(),
            epochs: epochs(0),
        }],
        promise: Some(promises[0].clone()),
        beside: beside("spine-site 2", &candidate, &in_use).ok(),
        comparison: comparison.ok(),
        in_use_since: None,
        not_compared: None,
        shortcuts: Shortcuts {
            baseline: Proportion::of(350, 1560).unwrap(),
            guessing: Proportion::of(312, 1560).unwrap(),
            model: Proportion::of(1530, 1560).unwrap(),
            suspicious: false,
        }
        .into(),
        hyperparameters: vec![
            pair("learning rate", "0.002"),
            pair("epochs", "20"),
            pair("batch", "20"),
        ],
        digests: vec![
            pair("training set (BLAKE3)", &"7f3a".repeat(16)),
            pair("frontal.onnx (SHA-256)", &"09bc".repeat(16)),
        ],
    };
    (report, mistakes)
}

/// Void elements aside, each element that is opened is closed in order.
fn is_well_formed(html: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let body = html.split("</style>").nth(1).unwrap_or_default();
    for tag in body
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split('>').next())
    {
        let name = tag
            .split([' ', '/'])
            .find(|name| !name.is_empty())
            .unwrap_or("");
        if tag.starts_with('/') {
            if name != "html" && open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') && !["img", "meta", "!doctype"].contains(&name) {
            open.push(name);
        }
    }
    open.is_empty()
}

#[test]
fn a_report_of_made_up_outcomes_has_all_its_parts() {
    let (report, mistakes) = example();
    let html = page(&report, &mistakes);
    for part in [
        "Confusion matrix",
        "Reliability diagram",
        "Coverage against error",
        "validation accuracy",
        "By detector",
        "By age band",
        "as the bundle states: at most 3.3 % of those that frontal is asked about",
        "McNemar p",
        "golden set version 4, looked at 2 times",
        "Without looking at the picture",
        "Left out",
        "learning rate",
        "data:image/png;base64,iVBORw0KGgo",
        "prefers-color-scheme:dark",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(is_well_formed(&html));
    let card = model_card(&Card::default(), &report);
    assert!(
        card.contains("at most 3.3 % of those that frontal"),
        "{card}"
    );
    if let Some(file) = std::env::var_os("RADSORT_EXAMPLE_REPORT") {
        std::fs::write(&file, &html).unwrap();
        std::fs::write(std::path::Path::new(&file).with_extension("md"), card).unwrap();
        std::fs::write(
            std::path::Path::new(&file).with_extension("txt"),
            summary(&report),
        )
        .unwrap();
    }
}

#[test]
fn the_page_asks_for_nothing_from_elsewhere_and_runs_nothing() {
    let (report, mistakes) = example();
    let html = page(&report, &mistakes);
    for forbidden in [
        "http:",
        "https:",
        "<script",
        "javascript:",
        "@import",
        "url(",
        "<link",
        "onload",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn whatever_is_planted_comes_out_escaped() {
    let evil = "<script>alert(1)</script>\"'&\u{1b}[31m|x";
    let (mut report, mut mistakes) = example();
    report.title = evil.into();
    report.made = evil.into();
    report
        .names
        .values_mut()
        .for_each(|name| *name = evil.into());
    report.data.left_out.push((evil.into(), 1));
    report.data.sets[0].name = evil.into();
    report.data.sets[0].categories.insert(evil.into(), 3);
    report.training[0].classifier = evil.into();
    report.hyperparameters.push((evil.into(), evil.into()));
    report.digests.push((evil.into(), evil.into()));
    mistakes[0].image = Pseudonym(evil.into());
    let mut unusual = outcomes(60, 900, 3);
    unusual[1].done = super::super::outcome::Done::NotFiled {
        reason: evil.into(),
    };
    unusual[2].circumstances.detector = Some(evil.into());
    let judgement = Judgement::of(&[], &unusual);
    report.judged.push(JudgedSet {
        name: evil.into(),
        judgement,
    });
    report.promise.as_mut().unwrap().why = evil.into();
    let comparison = report.comparison.as_mut().unwrap();
    comparison.reasons.push(evil.into());
    comparison.candidate = evil.into();
    comparison.golden.version = evil.into();

    let html = page(&report, &mistakes);
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    assert!(!html.contains("<script") && is_well_formed(&html));
    let card = Card {
        model: evil.into(),
        intended_use: evil.into(),
        ..Card::default()
    };
    let card = model_card(&card, &report);
    assert!(!card.contains("<script") && !card.contains('\u{1b}') && card.contains("\\|x"));
    assert!(!summary(&report).contains('\u{1b}'));
}

#[test]
fn where_nothing_can_be_promised_every_form_says_so() {
    let (mut report, _) = example();
    let mut corrections = outcomes(800, 990, 1);
    for outcome in &mut corrections {
        outcome.origin = LabelOrigin::Correction;
    }
    let categories = CATEGORIES.map(id);
    let terms = Terms {
        target: 0.005,
        threshold: None,
        categories: &categories,
        used: &HashSet::new(),
        files_uncertified: false,
        seed: 1,
    };
    for promise in [None, Some(certify(&corrections, &terms))] {
        report.promise = promise;
        for text in [
            page(&report, &[]),
            summary(&report),
            model_card(&Card::default(), &report),
        ] {
            assert!(text.contains(NO_GUARANTEE));
        }
    }
}

#[test]
fn the_summary_fits_a_hundred_columns() {
    let (report, _) = example();
    let text = summary(&report);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(text.contains("precision") && text.contains("Frontal, fusion"));
}

#[test]
fn the_bundle_in_use_stands_beside_the_candidate_and_the_golden_set_is_named() {
    let (mut report, _) = example();
    let text = summary(&report);
    assert!(text.contains("accuracy, bundle in use"), "{text}");
    let images = report.judged[0].judgement.accuracy.unwrap().whole;
    assert_eq!(report.beside.as_ref().unwrap().wrong.images, images);
    assert!(
        text.contains("Golden set version 4, looked at 2 times so far."),
        "{text}"
    );
    (report.comparison, report.not_compared) = (None, Some("There are no golden images.".into()));
    for text in [
        page(&report, &[]),
        summary(&report),
        model_card(&Card::default(), &report),
    ] {
        assert!(text.contains("There are no golden images."), "{text}");
    }
}

#[test]
fn a_bundle_that_gave_way_meanwhile_is_not_called_in_use() {
    let (mut report, _) = example();
    report.in_use_since = Some("spine-site 9".into());
    for text in [
        page(&report, &[]),
        summary(&report),
        model_card(&Card::default(), &report),
    ] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("was put to use while this was trained")
                && text.contains("which was in use when this began")
                && !text.contains("it may take the place of the bundle in use"),
            "{text}"
        );
    }
    assert!(!summary(&report).contains("accuracy, bundle in use"));
}

#[test]
fn the_json_has_the_figures_and_no_patient() {
    let (report, _) = example();
    let json = report.json().unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let judgement = &value["judged"][0]["judgement"];
    assert_eq!(judgement["images"], 1600);
    assert!(
        judgement["accuracy"]["low"].as_f64().unwrap()
            < judgement["accuracy"]["high"].as_f64().unwrap()
    );
    assert_eq!(value["comparison"]["golden"]["looks"], 2);
    assert!(!json.contains("p00000001"), "a patient's pseudonym");
    assert!(!page(&report, &[]).contains("p00000001"));
}

#[test]
fn an_empty_report_is_still_a_page() {
    let report = Report::default();
    let html = page(&report, &[]);
    assert!(is_well_formed(&html) && html.contains(NO_GUARANTEE));
    assert!(summary(&report).contains(NO_GUARANTEE));
}

#[test]
fn misfiled_images_are_worse_than_reviewed_ones_and_sure_ones_worse_than_unsure_ones() {
    let wrong = [
        image(1, "fusion", "screws", 0.7),
        image(2, "fusion", "screws", 0.99).at_threshold(1.0),
        image(3, "fusion", "screws", 0.9),
        image(4, "fusion", "fusion", 0.9),
        image(5, "", "fusion", 0.8),
    ];
    let order: Vec<&str> = worst(&wrong, 3)
        .iter()
        .map(|o| o.image.0.as_str())
        .collect();
    assert_eq!(order, ["00000003", "00000005", "00000001"]);
    assert_eq!(worst(&wrong, 9).len(), 4);
}

#[test]
fn a_percentage_never_rounds_to_none_or_all() {
    for (part, text) in [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.982, "98.2 %"),
        (0.9996, "99.96 %"),
        (0.000_02, "0.002 %"),
        (0.5, "50.0 %"),
    ] {
        assert_eq!(percent(part), text);
    }
}

#[test]
fn a_thumbnail_whose_pixels_do_not_fit_is_no_picture() {
    let mut bad = thumbnail(0);
    bad.grey.pop();
    assert!(bad.png().is_none() && thumbnail(0).png().is_some());
}
