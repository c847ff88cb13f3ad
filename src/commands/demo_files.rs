//! The files of `radsort demo`: what is dropped beside the phantoms, the bookkeeping of digests, and the contact sheet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use serde_json::Value;

use crate::commands::render::png_bytes;
use crate::contact_sheet::{self, Item, Section};
use crate::decode::{self, RenderSpec};

/// Where the files lie that are dropped among the phantoms.
pub fn extras_dir(phantoms: &Path) -> PathBuf {
    phantoms.with_file_name("not-for-it")
}

/// Writes what is not for radsort: a PDF, a CT slice, text, junk, and a copy of `phantom` that was cut off.
pub fn write_extras(dir: &Path, phantom: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let whole = fs::read(phantom)?;
    let junk: Vec<u8> = blake3_stream(b"junk", 50_000);
    let files = [
        (
            "letter.pdf",
            b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n".to_vec(),
        ),
        ("readme.txt", b"These are the images of Monday.\n".to_vec()),
        ("junk.bin", junk),
        ("cut-off.dcm", whole[..whole.len() * 3 / 5].to_vec()),
    ];
    let mut paths = Vec::new();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes)?;
        paths.push(dir.join(name));
    }
    let slice = dir.join("ct-slice.dcm");
    write_ct_slice(&slice)?;
    paths.push(slice);
    Ok(paths)
}

fn blake3_stream(seed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(seed)
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// A small, valid CT image.
fn write_ct_slice(path: &Path) -> anyhow::Result<()> {
    const UID: &str = "2.25.318429120947281634";
    let text = |object: &mut InMemDicomObject, tag, vr, value: &str| {
        object.put_element(dicom_core::DataElement::new(
            tag,
            vr,
            PrimitiveValue::from(value),
        ));
    };
    let number = |object: &mut InMemDicomObject, tag, value: u16| {
        object.put_element(dicom_core::DataElement::new(
            tag,
            VR::US,
            PrimitiveValue::from(value),
        ));
    };
    let mut object = InMemDicomObject::new_empty();
    text(
        &mut object,
        tags::SOP_CLASS_UID,
        VR::UI,
        uids::CT_IMAGE_STORAGE,
    );
    text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, UID);
    text(&mut object, tags::MODALITY, VR::CS, "CT");
    text(&mut object, tags::PATIENT_ID, VR::LO, "PH0001");
    text(
        &mut object,
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        "MONOCHROME2",
    );
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 64),
        (tags::COLUMNS, 64),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 12),
        (tags::HIGH_BIT, 11),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        number(&mut object, tag, value);
    }
    let pixels: Vec<u16> = (0..64 * 64).map(|index| (index % 4096) as u16).collect();
    object.put_element(dicom_core::DataElement::new(
        tags::PIXEL_DATA,
        VR::OW,
        PrimitiveValue::U16(pixels.into()),
    ));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
        .media_storage_sop_instance_uid(UID);
    object
        .with_meta(meta)?
        .write_to_file(path)
        .context("the CT slice")?;
    Ok(())
}

/// The digests of every regular file below some directories, as a multiset; hidden files and radsort's own count too,
/// but not the reason files beside quarantined ones and the library's marker, which radsort adds.
pub fn digests(dirs: &[&Path]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if !(name.starts_with(".radsort-")
                || name.ends_with(".reason.txt")
                || name == "labels.csv")
            {
                found.push(blake3::hash(&fs::read(entry.path())?).to_hex().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The folder in which a record's file lies, below the library: what people look for first, without dates.
pub fn folder_of(library: &Path, record: &Value) -> String {
    let place = record["path"].as_str().unwrap_or("");
    let Ok(below) = Path::new(place).strip_prefix(library) else {
        return "(left in the drop directory)".to_owned();
    };
    let depth = if below.starts_with("_review") || below.starts_with("_quarantine") {
        2
    } else {
        1
    };
    let folders: PathBuf = below.parent().unwrap_or(below).iter().take(depth).collect();
    folders.display().to_string()
}

/// Thumbnails of everything in the library, by folder.
pub fn write_contact_sheet(path: &Path, library: &Path, records: &[Value]) -> anyhow::Result<()> {
    let spec = RenderSpec {
        height: 240,
        width: 160,
        fit: decode::Fit::Letterbox,
        pad: 0.0,
        resampler: decode::Resampler::Area,
        intensity: decode::Intensity::Voi,
        polarity: decode::Polarity::Monochrome2,
    };
    let mut sections: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    let folders: BTreeSet<String> = records
        .iter()
        .map(|record| folder_of(library, record))
        .collect();
    for folder in folders {
        sections.insert(folder, Vec::new());
    }
    for record in records {
        let Some(place) = record["path"].as_str() else {
            continue;
        };
        let Ok(file) = fs::File::open(place) else {
            continue;
        };
        let size = file.metadata()?.len();
        // These are the demo's own phantoms, so they are decoded right here.
        let Ok(decoded) = decode::decode(&file, size, std::slice::from_ref(&spec)) else {
            continue;
        };
        let Some(radiograph) = decoded.radiographs.first() else {
            continue;
        };
        let caption = match (record["category"].as_str(), record["confidence"].as_f64()) {
            (Some(category), Some(confidence)) => format!("{category} {:.0} %", 100.0 * confidence),
            _ => record["reason"].as_str().unwrap_or("").to_owned(),
        };
        let items = sections.entry(folder_of(library, record)).or_default();
        items.push(Item {
            caption,
            thumbnail: png_bytes(radiograph, false)?,
            marked: false,
        });
    }
    let sections: Vec<Section> = sections
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(title, items)| Section {
            title,
            subtitle: format!("{} images", items.len()),
            items,
        })
        .collect();
    contact_sheet::write(
        path,
        "What was filed where",
        "radsort demo: synthetic radiographs only",
        &sections,
    )?;
    Ok(())
}
