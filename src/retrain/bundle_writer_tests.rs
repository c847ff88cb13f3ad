#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::Device;

use super::*;
use crate::decode::{
    Fit, Intensity, PREPROCESSING_VERSION, Polarity, Radiograph, RenderSpec, Resampler,
};
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};
use crate::model::Bundle;
use crate::model::manifest::{self, Applies, Category, Laterality, Method, Outputs, Role, SCHEMA};
use crate::model::network::Network;
use crate::model::runtime::{Provider, Runtime};
use crate::model::tests::runtime_settings;
use crate::retrain::augment::Augmentation;
use crate::retrain::evaluate::argmax;
use crate::retrain::graph::Graph;
use crate::retrain::network::{Architecture, FEATURES, INPUT, LOGITS, Stage, keep_classes};
use crate::retrain::train::{self, Normalisation, Pictures, Recipe};

const HEIGHT: usize = 48;
const WIDTH: usize = 32;
const NORMALISATION: Normalisation = Normalisation::same(0.4, 0.25);

/// Bright bars at four heights.
fn pictures(count: usize) -> Pictures {
    let picture = |k: usize| {
        let bar = |i: usize| (i / WIDTH) / 12 == k % 4 && i % 7 != k % 5;
        (0..HEIGHT * WIDTH)
            .map(|i| {
                if bar(i) {
                    50_000
                } else {
                    (i * (k + 3) * 37 % 9_000) as u16
                }
            })
            .collect()
    };
    Pictures {
        height: HEIGHT,
        width: WIDTH,
        samples: (0..count).map(|k| (picture(k), k % 4)).collect(),
        groups: Vec::new(),
    }
}

/// A trained network of four classes, cut down to the first two.
fn trained() -> (Graph, Fitted) {
    let stage = |fused| Stage {
        fused,
        expansion: 2,
        channels: 8,
        blocks: 2,
        stride: 2,
        kernel: 3,
    };
    let stages = vec![stage(true), stage(false)];
    let architecture = Architecture {
        height: HEIGHT,
        width: WIDTH,
        stem: [6, 5, 2],
        stages,
        features: 12,
        classes: 4,
    };
    let graph = Graph::new(architecture.build(1)).unwrap();
    let recipe = Recipe {
        epochs: 4,
        batch: 8,
        learning_rate: 1e-2,
        warm_up: 0.1,
        weight_decay: 0.01,
        label_smoothing: 0.02,
        average: 0.0,
        augmentation: Augmentation::NONE,
        pad: 0.0,
        normalisation: NORMALISATION,
        seed: 2,
        ..Recipe::default()
    };
    let device = Device::flex();
    let weights = train::fit(
        &graph,
        &pictures(48),
        &pictures(8),
        &recipe,
        &device,
        |_| (),
    )
    .unwrap();
    let network = keep_classes(graph.to_onnx(&weights).unwrap(), 0..2);
    let graph = Graph::new(network.clone()).unwrap();
    let parameters = Some(vec![0.5; 3 * 12]);
    let answers = train::answer(
        &graph,
        &graph.weights(&device),
        &pictures(1),
        NORMALISATION,
        1,
        &device,
    )
    .unwrap();
    let references = vec![(pictures(1).samples[0].0.clone(), answers[0].logits.clone())];
    (
        graph,
        Fitted {
            spec: spec(),
            network,
            parameters,
            references,
        },
    )
}

fn spec() -> ClassifierSpec {
    ClassifierSpec {
        id: "frontal".into(),
        role: Role::Category,
        applies: Applies::Frontal,
        model: FileRef {
            file: String::new(),
            sha256: String::new(),
        },
        channels: 1,
        input: INPUT.into(),
        outputs: Outputs {
            logits: LOGITS.into(),
            features: Some(FEATURES.into()),
        },
        temperature: 1.0,
        classes: vec!["top".into(), "bottom".into()],
        render: RenderSpec {
            height: HEIGHT as u32,
            width: WIDTH as u32,
            fit: Fit::Letterbox,
            pad: 0.0,
            resampler: Resampler::Area,
            intensity: Intensity::Voi,
            polarity: Polarity::Monochrome2,
        },
        normalisation: manifest::Normalisation {
            mean: vec![NORMALISATION.mean[0]],
            std: vec![NORMALISATION.deviation[0]],
        },
        out_of_distribution: Some(OutOfDistribution {
            method: Method::FeatureMahalanobisDiagonal,
            threshold: 100.0,
            centre: 0.0,
            false_review_rate: 0.01,
            parameters: None,
        }),
    }
}

fn manifest() -> Manifest {
    let category = |id: &str| Category {
        id: CategoryId::parse(id).unwrap(),
        view: View::Frontal,
        name: id.into(),
        folder: id.into(),
        threshold: 0.8,
        formerly: Vec::new(),
    };
    Manifest {
        schema: SCHEMA,
        name: "bars".into(),
        version: "1.0.0".into(),
        preprocessing: PREPROCESSING_VERSION,
        laterality: Laterality::Ignored,
        licence: "MIT OR Apache-2.0".into(),
        intended_use: "Tests only.".into(),
        provenance: "a test".into(),
        training_set: String::new(),
        view_thresholds: ViewThresholds::default(),
        categories: vec![category("top"), category("bottom")],
        classifiers: Vec::new(),
        references: Vec::new(),
        promise: None,
        metrics: toml::Table::new(),
    }
}

#[test]
fn onnx_runtime_gives_the_logits_of_the_network_that_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (graph, fitted) = trained();
    write(dir.path(), manifest(), &[fitted]).unwrap();

    let settings = runtime_settings();
    let runtime =
        Runtime::load(&settings).expect("this test needs ONNX Runtime; `make runtime` fetches it");
    let bundle = Bundle::open(dir.path()).unwrap();
    let spec = &bundle.manifest().classifiers[0];
    let mut network = Network::load(&bundle, spec, &runtime, &settings, Provider::Cpu, 1).unwrap();

    let (pictures, device) = (pictures(64), Device::flex());
    let expected = train::answer(
        &graph,
        &graph.weights(&device),
        &pictures,
        NORMALISATION,
        16,
        &device,
    )
    .unwrap();
    for ((pixels, _), expected) in pictures.samples.iter().zip(expected) {
        let pixels = pixels
            .iter()
            .map(|p| f32::from(*p) / f32::from(u16::MAX))
            .collect();
        let radiograph = Radiograph {
            height: HEIGHT as u32,
            width: WIDTH as u32,
            pixels,
        };
        let answer = network.run(&[&radiograph]).unwrap().remove(0).unwrap();
        for (a, b) in answer.logits.iter().zip(&expected.logits) {
            assert!((a - b).abs() <= 1e-3, "{a} in ONNX Runtime, {b} in burn");
        }
        assert_eq!(argmax(&answer.logits), argmax(&expected.logits));
        assert!(answer.out_of_distribution.is_some());
    }
}

#[test]
fn writing_again_replaces_the_bundle_and_leaves_no_scraps() {
    let dir = tempfile::tempdir().unwrap();
    let (_, fitted) = trained();
    let first = write(dir.path(), manifest(), std::slice::from_ref(&fitted)).unwrap();
    let second = write(dir.path(), manifest(), &[fitted]).unwrap();
    assert_eq!(first, second);
    assert_eq!(Bundle::open(dir.path()).unwrap().manifest(), &second);
    let mut names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "bundle.toml",
            "frontal-distance.f32",
            "frontal-reference-0.u16",
            "frontal.onnx"
        ]
    );
}
