//! Promises of bundles and classifiers, shown on tiny networks (`tests/data/model/`) in the real ONNX Runtime.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod cascade;

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
        formerly: Vec::new(),
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
            promise: None,
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
