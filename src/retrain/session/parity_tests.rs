#![allow(clippy::unwrap_used)]
use burn::tensor::Device;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::super::{Full, Mode, Wish};
use super::*;
use crate::config::settings::RuntimeSettings;
use crate::domain::decision::HeaderView;
use crate::filing::record::Digest;
use crate::model::manifest::{ClassifierSpec, Role};
use crate::model::runtime::Runtime;
use crate::retrain::bundle_writer;
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::device::Wanted;
use crate::retrain::head::{Head, Place};
use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};
use crate::retrain::sides::Sides;

struct Silent;

impl Watch for Silent {
    fn line(&mut self, _: &str) {}
    fn progress(&mut self, _: &str, _: usize, _: usize) {}
}

/// Noise of every category.
fn dataset(bundle: &Bundle) -> Dataset {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let specs = bundle.render_specs().to_vec();
    let count = 2 * bundle.categories().len();
    let mut picture = |spec: &crate::decode::RenderSpec| -> Vec<u16> {
        let pixels = spec.height * spec.width;
        (0..pixels).map(|_| rng.random()).collect()
    };
    let example = |k: usize| Example {
        path: "x.dcm".into(),
        digest: Digest(k.to_string()),
        category: Some(k / 2),
        origin: LabelOrigin::Csv,
        patient: k.to_string(),
        study: None,
        nameless: false,
        by_header: None,
        reduced: false,
        header: HeaderView::Absent,
        circumstances: Circumstances::default(),
        pictures: specs.iter().map(&mut picture).collect(),
    };
    Dataset {
        examples: (0..count).map(example).collect(),
        specs: specs.clone(),
        ..Dataset::default()
    }
}

fn wish<'a>(bundle: &'a Bundle, dataset: &'a Dataset, sides: &'a Sides) -> Wish<'a> {
    Wish {
        bundle,
        dataset,
        sides,
        classifiers: Vec::new(),
        mode: Mode::Head,
        hidden: 0,
        full: Full {
            epochs: 1,
            batch: 1,
            learning_rate: 1e-3,
            backbone_rate: 1.0,
            frozen_norms: false,
            patience: 0,
            checkpoints: None,
            resume: false,
        },
        device: Device::flex(),
        device_name: Wanted::Cpu,
        seed: 1,
        trust_untouched: None,
        few_patients: true,
        version: "1".into(),
        threads: 1,
    }
}

/// Writes the shipped bundle with a head that was spoilt on the way, and holds it against the head that was meant.
fn written_with(spoil: impl FnOnce(&mut Head)) -> (Result<(), SessionError>, tempfile::TempDir) {
    let bundle = Bundle::open_or_shipped(None).unwrap();
    let (dataset, sides) = (dataset(&bundle), Sides::default());
    let wish = wish(&bundle, &dataset, &sides);
    let runtime = Runtime::load(&RuntimeSettings::default()).unwrap();
    let ask = Ask {
        wish: &wish,
        runtime: &runtime,
    };
    let is_category = |spec: &&ClassifierSpec| spec.role == Role::Category;
    let specs = &bundle.manifest().classifiers;
    let spec = specs.iter().find(is_category).unwrap();
    let all: Vec<usize> = (0..dataset.examples.len()).collect();
    let asked = Asked::of(&wish, spec, &all).some(IMAGES);
    assert!(asked.pictures.len() >= 8);

    let mut fitted: Vec<Fitted> = specs
        .iter()
        .map(|spec| Fitted::of(&bundle, spec).unwrap())
        .collect();
    let network = fitted
        .iter_mut()
        .find(|it| it.spec.id == spec.id)
        .map(|it| &mut it.network)
        .unwrap();
    let place = Place::find(network, &spec.outputs.logits).unwrap();
    let mut head = place.read(network).unwrap();
    let seen = place.with_features(network.clone());
    let seen = hear(&ask, spec, &seen, &place.features, &asked, &mut Silent).unwrap();
    let expected = Expected {
        classifier: spec.id.clone(),
        logits: seen
            .answers
            .iter()
            .map(|answer| head.logits(&answer.features))
            .collect(),
        asked,
    };
    spoil(&mut head);
    *network = place.replace(network.clone(), &head);
    let out = tempfile::tempdir().unwrap();
    bundle_writer::write(out.path(), bundle.manifest().clone(), &fitted).unwrap();
    let checked = check(&ask, out.path(), &[expected], &mut Silent);
    (checked, out)
}

#[test]
fn a_file_that_says_what_was_trained_is_kept() {
    let (checked, out) = written_with(|_| {});
    checked.unwrap();
    assert!(out.path().join(FILE_NAME).exists());
}

#[test]
fn a_spoilt_file_is_refused_and_its_folder_is_no_bundle() {
    for spoil in [
        |head: &mut Head| head.bias[0] += 0.01,
        |head: &mut Head| head.weight.swap(0, 1),
        |head: &mut Head| head.bias[1] = f32::NAN,
    ] {
        let (checked, out) = written_with(spoil);
        let why = checked.unwrap_err().to_string();
        assert!(
            why.contains("differs from the trained network") || why.contains("not finite"),
            "{why}"
        );
        assert!(!out.path().join(FILE_NAME).exists());
    }
}

#[test]
fn another_class_is_infinitely_far_away_unless_it_is_a_tie() {
    let answer = |logits: &[f32]| Answer {
        features: Vec::new(),
        logits: logits.to_vec(),
    };
    let far = |mine: &[f32], theirs: &[f32]| apart([mine].into_iter(), &[answer(theirs)]).absolute;
    assert!(far(&[1.0, 1.0005], &[1.0005, 1.0]) <= PARITY);
    assert!(far(&[1.0, 1.0], &[1.0, f32::NAN]).is_infinite());
    assert!(far(&[1.0, 0.0], &[1.0]).is_infinite());
    assert!(far(&[2.0, 1.0], &[1.0, 2.0]).is_infinite());
}

#[test]
fn the_margin_is_between_the_two_highest() {
    assert!((margin(&[0.5, 3.0, 2.0]) - 1.0).abs() < 1e-6);
    assert!(margin(&[1.0]).is_infinite());
}
