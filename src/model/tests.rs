//! Promises of bundles and classifiers, shown on tiny networks (`tests/data/model/`) in the real ONNX Runtime.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use super::cascade::{Cascade, Image};
use super::manifest::{
    Applies, Category, ClassifierSpec, FileRef, GreyFormat, Laterality, Method, Normalisation,
    OutOfDistribution, Outputs, Reference, Role, SCHEMA,
};
use super::network::Network;
use super::runtime::{Provider, Runtime};
use super::*;
use crate::config::settings::{Device, GpuPolicy, ReviewSettings, RuntimeSettings};
use crate::decode::{
    Fit, Intensity, PREPROCESSING_VERSION, Polarity, Radiograph, RenderSpec, Resampler,
};
use crate::domain::decision::{CategoryThreshold as _, HeaderView, ViewThresholds};
use crate::domain::instance::Description;
use crate::domain::{CategoryId, Prediction, Reason, View};

/// Settings under which the tests run ONNX Runtime: one thread on the CPU.
pub(crate) fn runtime_settings() -> RuntimeSettings {
    RuntimeSettings {
        library: None,
        device: Device::Cpu,
        gpu: GpuPolicy::Prefer,
        threads: 1,
        batch: 4,
        batch_wait: Duration::from_millis(1),
    }
}

fn runtime() -> Runtime {
    Runtime::load(&runtime_settings())
        .expect("these tests need ONNX Runtime; `make runtime` fetches it")
}

const SIDE: u32 = 8;

/// An image with one grey value a quadrant: top left, top right, bottom left, bottom right.
fn quadrants(values: [f32; 4]) -> Radiograph {
    let half = SIDE / 2;
    let pixel = |i: u32| values[usize::from(i / SIDE >= half) * 2 + usize::from(i % SIDE >= half)];
    Radiograph {
        height: SIDE,
        width: SIDE,
        pixels: (0..SIDE * SIDE).map(pixel).collect(),
    }
}

fn frontal_top() -> Radiograph {
    quadrants([1.0, 0.2, 0.6, 0.0])
}

fn lateral_bottom() -> Radiograph {
    quadrants([0.0, 0.5, 0.3, 1.0])
}

fn render() -> RenderSpec {
    RenderSpec {
        height: SIDE,
        width: SIDE,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Voi,
        polarity: Polarity::Monochrome2,
    }
}

fn network_file(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/model")
        .join(format!("{name}.onnx"));
    std::fs::read(file).unwrap()
}

fn category(id: &str, view: View) -> Category {
    Category {
        id: CategoryId::parse(id).unwrap(),
        view,
        name: format!("Category {id}"),
        folder: id.to_owned(),
        threshold: 0.8,
    }
}

/// A bundle being made in a folder: networks of `tests/data/model/` and what `bundle.toml` says.
struct Draft {
    dir: tempfile::TempDir,
    manifest: Manifest,
}

impl Draft {
    fn empty() -> Self {
        let manifest = Manifest {
            schema: SCHEMA,
            name: "tiny".into(),
            version: "1.0.0".into(),
            preprocessing: PREPROCESSING_VERSION,
            laterality: Laterality::Ignored,
            licence: "MIT OR Apache-2.0".into(),
            intended_use: "Tests only.".into(),
            provenance: "tests/data/model/make.py".into(),
            training_set: String::new(),
            view_thresholds: ViewThresholds::default(),
            categories: vec![
                category("frontal-top", View::Frontal),
                category("frontal-bottom", View::Frontal),
                category("lateral-top", View::Lateral),
                category("lateral-bottom", View::Lateral),
            ],
            classifiers: Vec::new(),
            references: Vec::new(),
            metrics: toml::Table::new(),
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            manifest,
        }
    }

    /// View classifier, then one classifier a view; the frontal one takes three channels.
    fn full() -> Self {
        let mut draft = Self::empty();
        draft.add(
            "view",
            Role::View,
            Applies::Any,
            "view",
            1,
            &["frontal", "lateral", "neither"],
        );
        let frontal = ["frontal-top", "frontal-bottom"];
        draft.add(
            "frontal",
            Role::Category,
            Applies::Frontal,
            "category-three-channels",
            3,
            &frontal,
        );
        draft.add(
            "lateral",
            Role::Category,
            Applies::Lateral,
            "category",
            1,
            &["lateral-top", "lateral-bottom"],
        );
        draft
    }

    fn add(
        &mut self,
        id: &str,
        role: Role,
        applies: Applies,
        network: &str,
        channels: usize,
        classes: &[&str],
    ) {
        let file = format!("{id}.onnx");
        let bytes = network_file(network);
        std::fs::write(self.dir.path().join(&file), &bytes).unwrap();
        let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
        let (left, right, top, bottom) = (0.8, 0.1, 0.6, 0.3);
        let logits = match network {
            "view" | "view-one-at-a-time" => vec![
                30.0 * (left - right),
                30.0 * (right - left),
                12.0 - 24.0 * (left + right),
            ],
            "all" => {
                let (h, v) = (30.0 * (left - right), 30.0 * (top - bottom));
                vec![h + v, h - v, v - h, -h - v]
            }
            "poisoned" => vec![(100.0f32 - 60.0).ln(), (100.0f32).ln()],
            _ => vec![30.0 * (top - bottom), 30.0 * (bottom - top)],
        };
        let image = GreyFormat::F32.encode(&quadrants([1.0, 0.2, 0.6, 0.0]).pixels);
        let image_file = format!("{id}.grey");
        std::fs::write(self.dir.path().join(&image_file), &image).unwrap();
        self.manifest.references.push(Reference {
            classifier: id.into(),
            image: FileRef::of(image_file, &image),
            format: GreyFormat::F32,
            logits,
            tolerance: 1e-3,
        });
        self.manifest.classifiers.push(ClassifierSpec {
            id: id.into(),
            role,
            applies,
            model: FileRef::of(file, &bytes),
            channels,
            input: "image".into(),
            outputs: Outputs {
                logits: "logits".into(),
                features: Some("features".into()),
            },
            temperature: 1.0,
            classes,
            render: render(),
            normalisation: Normalisation {
                mean: vec![0.0; channels],
                std: vec![1.0; channels],
            },
            out_of_distribution: None,
        });
    }

    fn write(&self) -> &Path {
        std::fs::write(
            self.dir.path().join("bundle.toml"),
            self.manifest.to_toml().unwrap(),
        )
        .unwrap();
        self.dir.path()
    }

    fn open(&self) -> Result<Bundle, BundleError> {
        Bundle::open(self.write())
    }

    fn load(&self) -> Result<Cascade, ModelError> {
        Cascade::load(
            self.open()?,
            &runtime_settings(),
            self.manifest.view_thresholds,
        )
    }

    /// What opening and loading says, after a change that must not be accepted.
    fn refusal(change: impl FnOnce(&mut Self)) -> String {
        let mut draft = Self::full();
        change(&mut draft);
        let error = draft.load().err().expect("refused").to_string();
        assert!(
            error.contains(draft.dir.path().to_str().unwrap()),
            "names the bundle: {error}"
        );
        error
    }
}

fn one(
    cascade: &mut Cascade,
    header: HeaderView,
    image: Radiograph,
) -> Result<Prediction, ModelError> {
    cascade
        .classify(&[Image {
            header,
            radiographs: &[image],
        }])
        .remove(0)
}

#[test]
fn a_bundle_reads_back_as_it_was_written() {
    let mut draft = Draft::full();
    draft
        .manifest
        .metrics
        .insert("accuracy".into(), toml::Value::Float(0.97));
    draft.manifest.classifiers[0].temperature = 0.1;
    let bundle = draft.open().unwrap();
    assert_eq!(*bundle.manifest(), draft.manifest);
    assert_eq!(bundle.name_and_version(), "tiny 1.0.0");
    assert_eq!(
        bundle.render_specs(),
        [render()],
        "three classifiers that want the same picture share it"
    );
    let text = std::fs::read_to_string(bundle.dir().join("bundle.toml")).unwrap();
    assert!(
        text.contains("temperature = 0.1\n"),
        "floats are written as they were meant: {text}"
    );
}

#[test]
fn classifiers_that_want_other_pictures_get_them() {
    let mut draft = Draft::full();
    draft.manifest.classifiers[1].render.pad = 0.5;
    let bundle = draft.open().unwrap();
    assert_eq!(bundle.render_specs().len(), 2);
    assert_eq!([0, 1, 2].map(|index| bundle.render_index(index)), [0, 1, 0]);
}

#[test]
fn an_altered_or_missing_file_is_refused_by_name() {
    let error = Draft::refusal(|draft| {
        std::fs::write(draft.dir.path().join("lateral.onnx"), network_file("view")).unwrap();
    });
    assert!(
        error.contains("lateral.onnx") && error.contains("SHA-256"),
        "{error}"
    );
    let error = Draft::refusal(|draft| {
        std::fs::remove_file(draft.dir.path().join("frontal.onnx")).unwrap()
    });
    assert!(error.contains("frontal.onnx"), "{error}");
    let error =
        Draft::refusal(|draft| draft.manifest.classifiers[0].model.file = "../view.onnx".into());
    assert!(error.contains("../view.onnx"), "{error}");
    let error = Draft::refusal(|draft| {
        std::os::unix::fs::symlink("view.onnx", draft.dir.path().join("link.onnx")).unwrap();
        draft.manifest.classifiers[0].model.file = "link.onnx".into();
    });
    assert!(error.contains("link.onnx"), "{error}");
}

#[test]
fn a_graph_that_does_not_fit_is_refused_by_name() {
    type Change = fn(&mut ClassifierSpec);
    let changes: [(Change, &str); 6] = [
        (|spec| spec.input = "pixels".into(), "image, not pixels"),
        (
            |spec| spec.outputs.logits = "scores".into(),
            "no output scores",
        ),
        (
            |spec| spec.outputs.features = Some("embedding".into()),
            "no output embedding",
        ),
        (|spec| spec.render.width = 16, "float32[N, 1, 8, 16]"),
        (
            |spec| {
                spec.model = FileRef::of(
                    "lateral.grey",
                    &GreyFormat::F32.encode(&frontal_top().pixels),
                )
            },
            "lateral.grey",
        ),
        (
            |spec| {
                spec.channels = 3;
                spec.normalisation = Normalisation {
                    mean: vec![0.0; 3],
                    std: vec![1.0; 3],
                };
            },
            "float32[N, 3, 8, 8]",
        ),
    ];
    for (change, why) in changes {
        let error = Draft::refusal(|draft| {
            change(&mut draft.manifest.classifiers[2]);
            // The reference image has to keep up with the size, or it is what gets refused.
            if draft.manifest.classifiers[2].render.width == 16 {
                let bytes = vec![0; 8 * 16 * 4];
                std::fs::write(draft.dir.path().join("wide.grey"), &bytes).unwrap();
                draft.manifest.references[2].image = FileRef::of("wide.grey", &bytes);
            }
        });
        assert!(
            error.contains(why) && error.contains("lateral"),
            "{why}: {error}"
        );
    }
    // Two classes where the graph has three.
    let error = Draft::refusal(|draft| {
        let bytes = network_file("view");
        std::fs::write(draft.dir.path().join("lateral.onnx"), &bytes).unwrap();
        draft.manifest.classifiers[2].model = FileRef::of("lateral.onnx", &bytes);
    });
    assert!(error.contains("float32[N, 2]"), "{error}");
}

#[test]
fn a_reference_image_that_disagrees_is_refused_by_name() {
    let error = Draft::refusal(|draft| draft.manifest.references[1].logits[0] += 0.01);
    assert!(
        error.contains("frontal.grey") && error.contains("tolerance"),
        "{error}"
    );
    let error =
        Draft::refusal(|draft| draft.manifest.classifiers[1].normalisation.std = vec![2.0; 3]);
    assert!(
        error.contains("frontal.grey") && error.contains("tolerance"),
        "a normalisation that is not the training's: {error}"
    );
    let error = Draft::refusal(|draft| draft.manifest.references[1].format = GreyFormat::U8);
    assert!(
        error.contains("frontal.grey") && error.contains("64"),
        "{error}"
    );
    let error = Draft::refusal(|draft| drop(draft.manifest.references.remove(1)));
    assert!(
        error.contains("frontal") && error.contains("no reference image"),
        "{error}"
    );
}

#[test]
fn a_bundle_for_another_program_is_refused() {
    let error = Draft::refusal(|draft| draft.manifest.preprocessing += 1);
    assert!(error.contains("preprocessing"), "{error}");
    let error = Draft::refusal(|draft| draft.manifest.schema = 2);
    assert!(error.contains("schema version 2"), "{error}");
    let draft = Draft::full();
    let text = format!("{}\n[extra]\nkey = 1\n", draft.manifest.to_toml().unwrap());
    std::fs::write(draft.dir.path().join("bundle.toml"), text).unwrap();
    let error = Bundle::open(draft.dir.path()).unwrap_err().to_string();
    assert!(error.contains("extra"), "{error}");
}

#[test]
fn rules_between_categories_and_classifiers_are_kept() {
    type Change = fn(&mut Manifest);
    let changes: [(Change, &str); 10] = [
        (|it| it.categories[0].folder = "a/b".into(), "folder name"),
        (
            |it| it.categories[0].folder = "FRONTAL-BOTTOM".into(),
            "has the folder",
        ),
        (|it| it.categories[0].threshold = f32::NAN, "threshold"),
        (|it| it.classifiers[0].temperature = 0.0, "temperature"),
        (
            |it| it.classifiers[1].classes[0] = "lateral-top".into(),
            "lateral category",
        ),
        (
            |it| it.classifiers[1].applies = Applies::Any,
            "more than one category classifier",
        ),
        (
            |it| it.classifiers[2].classes.truncate(1),
            "told by 0 classifiers",
        ),
        (
            |it| it.classifiers[0].classes[2] = "other".into(),
            "frontal, lateral, neither",
        ),
        (
            |it| it.classifiers[0].normalisation.std = vec![0.0],
            "std above 0",
        ),
        (|it| it.references[0].classifier = "nobody".into(), "nobody"),
    ];
    for (change, why) in changes {
        let error = Draft::refusal(|draft| change(&mut draft.manifest));
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn the_cascade_asks_the_classifier_of_the_view() {
    let mut cascade = Draft::full().load().unwrap();
    let sure = one(&mut cascade, HeaderView::Pa, frontal_top()).unwrap();
    assert_eq!((sure.view, sure.view_problem), (Some(View::Frontal), None));
    assert_eq!(sure.category().unwrap().as_str(), "frontal-top");
    assert_eq!(sure.scores.len(), 2);
    assert!(sure.confidence > 0.99, "{sure:?}");
    assert_eq!(
        (sure.model.as_str(), sure.provider.as_str()),
        ("tiny 1.0.0", "cpu")
    );

    let lateral = one(&mut cascade, HeaderView::Absent, lateral_bottom()).unwrap();
    assert_eq!(lateral.category().unwrap().as_str(), "lateral-bottom");

    let conflict = one(&mut cascade, HeaderView::Ll, frontal_top()).unwrap();
    assert_eq!(
        (conflict.view, conflict.view_problem),
        (None, Some(Reason::ViewConflict))
    );
    assert_eq!(
        conflict.category().unwrap().as_str(),
        "frontal-top",
        "scores of the pixels' favourite are shown"
    );

    let dark = one(&mut cascade, HeaderView::Ap, quadrants([0.0; 4])).unwrap();
    assert_eq!(dark.view_problem, Some(Reason::OutOfScope));
    assert!(dark.scores.is_empty() && dark.confidence.abs() < f32::EPSILON);
}

#[test]
fn the_confidence_covers_view_and_category() {
    let mut cascade = Draft::full().load().unwrap();
    // Left 0.50, right 0.48: p(frontal) = 1 / (1 + exp(-1.2)); top is far brighter.
    let unsure = one(
        &mut cascade,
        HeaderView::Ap,
        quadrants([0.8, 0.76, 0.2, 0.2]),
    )
    .unwrap();
    let p_view = unsure.view_scores.unwrap().frontal;
    assert!(
        (p_view - 1.0 / (1.0 + (-1.2f32).exp())).abs() < 1e-3,
        "{p_view}"
    );
    assert!((unsure.confidence - p_view * unsure.scores[0].probability).abs() < 1e-6);
    assert!(unsure.confidence < 0.8);
}

#[test]
fn without_a_view_classifier_the_header_decides() {
    let mut draft = Draft::full();
    draft.manifest.classifiers.remove(0);
    draft.manifest.references.remove(0);
    let mut cascade = draft.load().unwrap();
    let by_header = one(&mut cascade, HeaderView::Rl, frontal_top()).unwrap();
    assert_eq!(
        (by_header.view, by_header.view_scores),
        (Some(View::Lateral), None)
    );
    assert!((by_header.confidence - by_header.scores[0].probability).abs() < 1e-6);
    let absent = one(&mut cascade, HeaderView::Absent, frontal_top()).unwrap();
    assert_eq!(absent.view_problem, Some(Reason::ViewUnsure));
}

#[test]
fn a_single_classifier_of_all_categories_tells_the_view_too() {
    let mut draft = Draft::empty();
    let ids = [
        "frontal-top",
        "frontal-bottom",
        "lateral-top",
        "lateral-bottom",
    ];
    draft.add("all", Role::Category, Applies::Any, "all", 1, &ids);
    let mut cascade = draft.load().unwrap();
    let told = one(&mut cascade, HeaderView::Absent, lateral_bottom()).unwrap();
    assert_eq!(
        (told.view, told.category().unwrap().as_str()),
        (Some(View::Lateral), "lateral-bottom")
    );
    let conflict = one(&mut cascade, HeaderView::Ap, lateral_bottom()).unwrap();
    assert_eq!(conflict.view_problem, Some(Reason::ViewConflict));
}

#[test]
fn a_view_that_the_bundle_does_not_know_is_out_of_scope() {
    let mut draft = Draft::full();
    draft.manifest.classifiers.pop();
    draft.manifest.references.pop();
    draft.manifest.categories.truncate(2);
    let mut cascade = draft.load().unwrap();
    let lateral = one(&mut cascade, HeaderView::Ll, lateral_bottom()).unwrap();
    assert_eq!(
        (lateral.view, lateral.view_problem),
        (None, Some(Reason::OutOfScope))
    );
}

#[test]
fn unusual_features_are_told_in_units_of_the_threshold() {
    let mut draft = Draft::full();
    // Both class means at the features of `frontal_top`.
    let means = GreyFormat::F32.encode(&[0.8, 0.1, 0.6, 0.3, 0.8, 0.1, 0.6, 0.3]);
    std::fs::write(draft.dir.path().join("means.f32"), &means).unwrap();
    draft.manifest.classifiers[1].out_of_distribution = Some(OutOfDistribution {
        method: Method::FeatureCentroid,
        threshold: 0.1,
        centre: 0.0,
        false_review_rate: 0.01,
        parameters: Some(FileRef::of("means.f32", &means)),
    });
    let mut cascade = draft.load().unwrap();
    let usual = one(&mut cascade, HeaderView::Pa, frontal_top()).unwrap();
    assert!(usual.out_of_distribution.unwrap() < 0.01, "{usual:?}");
    // Its right half brighter by 0.2, with top and bottom as they were: 0.2 / 0.1 = 2, plus what top and bottom gain.
    let unusual = one(
        &mut cascade,
        HeaderView::Pa,
        quadrants([1.0, 0.4, 0.6, 0.2]),
    )
    .unwrap();
    let expected = (0.2f32.powi(2) + 2.0 * 0.1f32.powi(2)).sqrt() / 0.1;
    assert!(
        (unusual.out_of_distribution.unwrap() - expected).abs() < 1e-3,
        "{unusual:?}"
    );
    // The lateral classifier has no measure.
    assert_eq!(
        one(&mut cascade, HeaderView::Ll, lateral_bottom())
            .unwrap()
            .out_of_distribution,
        None
    );
}

#[test]
fn what_is_not_a_number_is_an_error_and_not_a_decision() {
    let mut draft = Draft::empty();
    draft.manifest.categories.truncate(2);
    draft.add(
        "poisoned",
        Role::Category,
        Applies::Frontal,
        "poisoned",
        1,
        &["frontal-top", "frontal-bottom"],
    );
    let mut cascade = draft.load().unwrap();
    let images = [
        frontal_top(),
        quadrants([1.0, 1.0, 0.0, 0.0]),
        frontal_top(),
    ];
    let images: Vec<[Radiograph; 1]> = images.into_iter().map(|image| [image]).collect();
    let images: Vec<Image<'_>> = images
        .iter()
        .map(|it| Image {
            header: HeaderView::Ap,
            radiographs: it,
        })
        .collect();
    let results = cascade.classify(&images);
    assert!(
        results[0].is_ok() && results[2].is_ok(),
        "only the image itself is concerned"
    );
    assert!(
        matches!(&results[1], Err(ModelError::NotFinite { classifier }) if classifier == "poisoned")
    );
}

#[test]
fn an_image_that_was_not_rendered_as_asked_is_an_error() {
    let mut cascade = Draft::full().load().unwrap();
    let narrow = Radiograph {
        height: 8,
        width: 4,
        pixels: vec![0.0; 32],
    };
    let none: &[Radiograph] = &[];
    let results = cascade.classify(&[
        Image {
            header: HeaderView::Ap,
            radiographs: none,
        },
        Image {
            header: HeaderView::Ap,
            radiographs: &[frontal_top()],
        },
    ]);
    assert!(matches!(&results[0], Err(ModelError::Image { .. })));
    assert!(results[1].is_ok());
    assert!(matches!(
        one(&mut cascade, HeaderView::Ap, narrow),
        Err(ModelError::Image { .. })
    ));
}

#[test]
fn an_image_gets_the_same_answer_in_any_batch() {
    let images: Vec<Radiograph> = (0u8..7)
        .map(|i| {
            quadrants([
                f32::from(i) / 7.0,
                0.3,
                0.9 - f32::from(i) / 10.0,
                f32::from(i % 3) / 4.0,
            ])
        })
        .collect();
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let spec = &bundle.manifest().classifiers[1];
    let load = |batch| {
        Network::load(
            &bundle,
            spec,
            &runtime(),
            &runtime_settings(),
            Provider::Cpu,
            batch,
        )
        .unwrap()
    };
    let refs: Vec<&Radiograph> = images.iter().collect();
    let alone: Vec<_> = load(1)
        .run(&refs)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for batch in [2, 3, 4, 16] {
        let together: Vec<_> = load(batch)
            .run(&refs)
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .collect();
        for (a, b) in alone.iter().zip(&together) {
            assert!(
                a.logits
                    .iter()
                    .zip(&b.logits)
                    .all(|(a, b)| (a - b).abs() < 1e-4),
                "batch {batch}: {a:?} {b:?}"
            );
        }
    }
}

#[test]
fn a_graph_for_one_image_at_a_time_is_never_given_more() {
    let mut draft = Draft::full();
    let bytes = network_file("view-one-at-a-time");
    std::fs::write(draft.dir.path().join("view.onnx"), &bytes).unwrap();
    draft.manifest.classifiers[0].model = FileRef::of("view.onnx", &bytes);
    let bundle = draft.open().unwrap();
    let spec = &bundle.manifest().classifiers[0];
    let mut network = Network::load(
        &bundle,
        spec,
        &runtime(),
        &runtime_settings(),
        Provider::Cpu,
        8,
    )
    .unwrap();
    let (a, b) = (frontal_top(), lateral_bottom());
    let answers = network.run(&[&a, &b]).unwrap();
    assert!(
        answers[0].as_ref().unwrap().probabilities[0] > 0.9
            && answers[1].as_ref().unwrap().probabilities[1] > 0.9
    );
}

#[test]
fn requiring_a_gpu_without_one_is_refused_with_the_reason() {
    let draft = Draft::full();
    for device in [Device::Auto, Device::Cuda(0)] {
        let settings = RuntimeSettings {
            device,
            gpu: GpuPolicy::Require,
            ..runtime_settings()
        };
        if runtime().lacks_cuda().is_none() {
            eprintln!("SKIPPED: this ONNX Runtime has CUDA");
            return;
        }
        let error = Cascade::load(draft.open().unwrap(), &settings, ViewThresholds::default())
            .err()
            .unwrap();
        assert!(
            matches!(
                &error,
                ModelError::Runtime(runtime::RuntimeError::GpuRequired { .. })
            ),
            "{error}"
        );
        assert!(error.to_string().contains("without CUDA"), "{error}");
    }
}

#[test]
fn a_cuda_session_on_a_library_without_cuda_fails_instead_of_running_on_the_cpu() {
    if runtime().lacks_cuda().is_none() {
        eprintln!("SKIPPED: this ONNX Runtime has CUDA");
        return;
    }
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let spec = &bundle.manifest().classifiers[0];
    let loaded = Network::load(
        &bundle,
        spec,
        &runtime(),
        &runtime_settings(),
        Provider::Cuda(0),
        4,
    );
    let error = loaded.err().expect("refused").to_string();
    assert!(error.contains("CUDA"), "{error}");
}

#[tokio::test]
async fn preferring_a_gpu_runs_on_the_cpu_and_says_so() {
    let draft = Draft::full();
    let settings = RuntimeSettings {
        device: Device::Cuda(0),
        gpu: GpuPolicy::Prefer,
        ..runtime_settings()
    };
    let bundle = draft.open().unwrap();
    let classifier = tokio::task::spawn_blocking(move || {
        Classifier::start(bundle, &settings, ViewThresholds::default())
    });
    let classifier = classifier.await.unwrap().unwrap();
    let header = Description {
        view_position: "AP".into(),
        ..Description::default()
    };
    let prediction = classifier
        .classify(&header, vec![frontal_top()])
        .await
        .unwrap();
    if classifier.info().provider == "cpu" {
        assert!(classifier.info().gpu_refused.is_some());
        assert_eq!(
            (prediction.provider.as_str(), classifier.info().batch),
            ("cpu", 1)
        );
    }
    assert_eq!(prediction.category().unwrap().as_str(), "frontal-top");
}

#[tokio::test]
async fn many_ask_the_one_thread_at_the_same_time() {
    let draft = Draft::full();
    let bundle = draft.open().unwrap();
    let start = move || Classifier::start(bundle, &runtime_settings(), ViewThresholds::default());
    let classifier = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for i in 0..200 {
        let classifier = classifier.clone();
        asked.spawn(async move {
            let image = if i % 2 == 0 {
                frontal_top()
            } else {
                lateral_bottom()
            };
            let prediction = classifier
                .classify(&Description::default(), vec![image])
                .await
                .unwrap();
            (i, prediction.view)
        });
    }
    while let Some(done) = asked.join_next().await {
        let (i, view) = done.unwrap();
        assert_eq!(
            view,
            Some(if i % 2 == 0 {
                View::Frontal
            } else {
                View::Lateral
            })
        );
    }
    classifier.ping().await.unwrap();
    assert!(classifier.beats() >= 201);
}

#[tokio::test]
async fn a_bundle_that_does_not_load_leaves_no_thread_behind() {
    let mut draft = Draft::full();
    draft.manifest.references[0].logits[0] += 1.0;
    let bundle = draft.open().unwrap();
    let start = move || Classifier::start(bundle, &runtime_settings(), ViewThresholds::default());
    let error = tokio::task::spawn_blocking(start)
        .await
        .unwrap()
        .err()
        .unwrap();
    assert!(error.to_string().contains("view.grey"), "{error}");
}

#[test]
fn a_site_may_only_tighten() {
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let id = |text: &str| CategoryId::parse(text).unwrap();
    let with = |review: ReviewSettings| Thresholds::new(&bundle, &review);
    let raised = ReviewSettings {
        below: Some(0.85),
        below_by_category: vec![("frontal-top".into(), 0.95)],
        view: Some(ViewThresholds {
            sure: 0.95,
            margin: 0.1,
        }),
        may_loosen: false,
    };
    let raised = with(raised).unwrap();
    assert_eq!(raised.threshold(&id("lateral-top")).to_string(), "0.85");
    assert_eq!(raised.threshold(&id("frontal-top")).to_string(), "0.95");
    assert_eq!(
        raised.view(),
        ViewThresholds {
            sure: 0.95,
            margin: 0.1
        }
    );
    assert!(
        raised.threshold(&id("of-another-bundle")) > 1.0,
        "what the bundle does not know is never filed"
    );

    for (review, key) in [
        (
            ReviewSettings {
                below: Some(0.5),
                ..ReviewSettings::default()
            },
            "below",
        ),
        (
            ReviewSettings {
                below_by_category: vec![("lateral-top".into(), 0.7)],
                ..ReviewSettings::default()
            },
            "lateral-top",
        ),
        (
            ReviewSettings {
                view: Some(ViewThresholds {
                    sure: 0.5,
                    margin: 0.2,
                }),
                ..ReviewSettings::default()
            },
            "view.sure",
        ),
        (
            ReviewSettings {
                view: Some(ViewThresholds {
                    sure: 0.9,
                    margin: 0.5,
                }),
                ..ReviewSettings::default()
            },
            "view.margin",
        ),
    ] {
        let error = with(review.clone()).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("may-loosen") && error.contains("tiny 1.0.0"),
            "{error}"
        );
        assert!(
            with(ReviewSettings {
                may_loosen: true,
                ..review
            })
            .is_ok()
        );
    }
    let typo = ReviewSettings {
        below_by_category: vec![("frontal-topp".into(), 0.9)],
        ..ReviewSettings::default()
    };
    assert!(
        with(typo)
            .unwrap_err()
            .to_string()
            .contains("did you mean frontal-top?")
    );
    let nonsense = ReviewSettings {
        below: Some(f32::NAN),
        may_loosen: true,
        ..ReviewSettings::default()
    };
    assert!(with(nonsense).is_err());
}
