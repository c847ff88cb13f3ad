//! A bundle and images so small that what is left is radsort itself: for harnesses that file hundreds of thousands.
//!
//! The networks of `tests/data/model/` compare the halves of a picture: four pictures, four categories.

#![allow(dead_code, clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

use std::fs;
use std::path::{Path, PathBuf};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use radsort::decode::{Fit, Intensity, PREPROCESSING_VERSION, Polarity, RenderSpec, Resampler};
use radsort::domain::decision::ViewThresholds;
use radsort::domain::{CategoryId, View};
use radsort::model::manifest::{
    Applies, Category, ClassifierSpec, FileRef, GreyFormat, Laterality, Normalisation, Outputs,
    Reference, Role, SCHEMA,
};
use radsort::model::{Manifest, manifest};

use crate::common::{put, uid};

/// What the networks see.
const SIDE: u32 = 8;

/// The categories, in the order of [`PICTURES`].
const CATEGORIES: [(&str, View); 4] = [
    ("frontal-top", View::Frontal),
    ("frontal-bottom", View::Frontal),
    ("lateral-top", View::Lateral),
    ("lateral-bottom", View::Lateral),
];

/// Grey values of the quarters: top left, top right, bottom left, bottom right.
const PICTURES: [[f32; 4]; 4] = [
    [1.0, 0.2, 0.6, 0.0],
    [0.6, 0.0, 1.0, 0.2],
    [0.2, 1.0, 0.0, 0.6],
    [0.0, 0.6, 0.2, 1.0],
];

/// A bundle in a directory of its own.
pub struct Bundle(tempfile::TempDir);

impl Bundle {
    /// Version 1.0.0.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_bundle(dir.path(), "1.0.0");
        Self(dir)
    }

    /// The configuration that uses it.
    pub fn section(&self) -> String {
        section(self.0.path())
    }
}

/// The configuration that uses the bundle in a folder.
pub fn section(bundle: &Path) -> String {
    format!("[model]\nbundle = {bundle:?}\n")
}

/// Writes the bundle into a folder that is there.
pub fn write_bundle(dir: &Path, version: &str) {
    let categories = CATEGORIES.map(|(id, view)| Category {
        id: CategoryId::parse(id).unwrap(),
        view,
        name: format!("Category {id}"),
        folder: id.to_owned(),
        threshold: 0.8,
        formerly: Vec::new(),
    });
    let mut manifest = Manifest {
        schema: SCHEMA,
        name: "tiny".into(),
        version: version.into(),
        preprocessing: PREPROCESSING_VERSION,
        laterality: Laterality::Ignored,
        licence: "MIT OR Apache-2.0".into(),
        intended_use: "Tests only.".into(),
        provenance: "tests/data/model/make.py".into(),
        training_set: String::new(),
        view_thresholds: ViewThresholds::default(),
        categories: categories.into(),
        classifiers: Vec::new(),
        references: Vec::new(),
        promise: None,
        metrics: toml::Table::new(),
    };
    let any = ["frontal", "lateral", "neither"];
    // The means of the first picture's halves: left 0.8, right 0.1, top 0.6, bottom 0.3.
    let (across, down) = (30.0 * 0.7, 30.0 * 0.3);
    let networks = [
        (
            "view",
            Role::View,
            Applies::Any,
            "view",
            &any[..],
            vec![across, -across, -9.6],
        ),
        (
            "frontal",
            Role::Category,
            Applies::Frontal,
            "category",
            &["frontal-top", "frontal-bottom"][..],
            vec![down, -down],
        ),
        (
            "lateral",
            Role::Category,
            Applies::Lateral,
            "category",
            &["lateral-top", "lateral-bottom"][..],
            vec![down, -down],
        ),
    ];
    for (id, role, applies, network, classes, logits) in networks {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/model");
        let bytes = fs::read(source.join(format!("{network}.onnx"))).unwrap();
        let file = format!("{id}.onnx");
        fs::write(dir.join(&file), &bytes).unwrap();
        let pixels: Vec<f32> = (0..SIDE * SIDE).map(|n| grey(0, n, SIDE)).collect();
        let image = GreyFormat::F32.encode(&pixels);
        let image_file = format!("{id}.grey");
        fs::write(dir.join(&image_file), &image).unwrap();
        manifest.references.push(Reference {
            classifier: id.into(),
            image: FileRef::of(image_file, &image),
            format: GreyFormat::F32,
            logits,
            tolerance: 1e-3,
        });
        manifest.classifiers.push(ClassifierSpec {
            id: id.into(),
            role,
            applies,
            model: FileRef::of(file, &bytes),
            channels: 1,
            input: "image".into(),
            outputs: Outputs {
                logits: "logits".into(),
                features: Some("features".into()),
            },
            temperature: 1.0,
            classes: classes.iter().map(ToString::to_string).collect(),
            render: RenderSpec {
                height: SIDE,
                width: SIDE,
                fit: Fit::Letterbox,
                pad: 0.0,
                resampler: Resampler::Area,
                intensity: Intensity::Voi,
                polarity: Polarity::Monochrome2,
            },
            normalisation: Normalisation {
                mean: vec![0.0],
                std: vec![1.0],
            },
            out_of_distribution: None,
        });
    }
    fs::write(dir.join(manifest::FILE_NAME), manifest.to_toml().unwrap()).unwrap();
}

fn grey(picture: usize, pixel: u32, side: u32) -> f32 {
    let (row, column) = (pixel / side, pixel % side);
    let quarter = usize::from(row >= side / 2) * 2 + usize::from(column >= side / 2);
    PICTURES[picture][quarter]
}

/// A whole radiograph of 16 × 16 pixels, of about a kilobyte: a test's n-th file.
pub fn image(n: usize) -> Vec<u8> {
    image_of(n, n, |_| ())
}

/// One that is whole and goes to the quarantine: it has more rows than its pixels fill.
pub fn unreadable(n: usize) -> Vec<u8> {
    image_of(n, n, |object| {
        let rows = PrimitiveValue::from(100_u16);
        object.put(DataElement::new(tags::ROWS, VR::US, rows));
    })
}

/// The same with the UID of one file and the picture of another, and any change of the header.
pub fn image_of(n: usize, picture: usize, change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
    const SIDE: u16 = 16;
    let picture = picture % PICTURES.len();
    let mut object = InMemDicomObject::new_empty();
    let view = if picture < 2 { "PA" } else { "LL" };
    let (instance, patient) = (uid(n), format!("P{}", n / 4));
    let study = format!("1.2.826.0.1.3680043.10.778.{}", n / 2);
    let series = format!("1.2.826.0.1.3680043.10.779.{n}");
    for (tag, vr, value) in [
        (
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        ),
        (tags::SOP_INSTANCE_UID, VR::UI, instance.as_str()),
        (tags::STUDY_DATE, VR::DA, "20261123"),
        (tags::MODALITY, VR::CS, "CR"),
        (tags::PATIENT_ID, VR::LO, patient.as_str()),
        (tags::VIEW_POSITION, VR::CS, view),
        (tags::STUDY_INSTANCE_UID, VR::UI, study.as_str()),
        (tags::SERIES_INSTANCE_UID, VR::UI, series.as_str()),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::WINDOW_CENTER, VR::DS, "500"),
        (tags::WINDOW_WIDTH, VR::DS, "1000"),
    ] {
        put(&mut object, tag, vr, value);
    }
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, SIDE),
        (tags::COLUMNS, SIDE),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let side = u32::from(SIDE);
    let pixels: Vec<u16> = (0..side * side)
        .map(|pixel| (1000.0 * grey(picture, pixel, side)) as u16)
        .collect();
    object.put(DataElement::new(
        tags::PIXEL_DATA,
        VR::OW,
        PrimitiveValue::U16(pixels.into()),
    ));
    change(&mut object);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE)
        .media_storage_sop_instance_uid("1.2.826.0.1.3680043.10.9999");
    let mut bytes = Vec::new();
    object
        .with_meta(meta)
        .unwrap()
        .write_all(&mut bytes)
        .unwrap();
    bytes
}

/// Where a test's n-th file is filed: its category's folder.
pub fn folder(n: usize) -> PathBuf {
    CATEGORIES[n % 4].0.into()
}
