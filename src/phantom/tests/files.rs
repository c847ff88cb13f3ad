//! Files in every transfer syntax read back through dicom-object with the pixels that were drawn.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, open_file};
use dicom_pixeldata::PixelDecoder as _;

use super::*;

fn text(object: &DefaultDicomObject, tag: Tag) -> String {
    object
        .get(tag)
        .map(|e| e.to_str().unwrap().trim().to_owned())
        .unwrap_or_default()
}

/// The stored pixels of a file, decoded by whoever can: dicom-rs, or the C codecs where it cannot.
fn pixels(object: &DefaultDicomObject, syntax: Syntax) -> Vec<u16> {
    let fragment = || {
        object
            .element(tags::PIXEL_DATA)
            .unwrap()
            .fragments()
            .unwrap()[0]
            .clone()
    };
    match syntax {
        Syntax::JpegLs => {
            let bytes = charls::CharLS::default().decode(&fragment()).unwrap();
            bytes
                .chunks_exact(2)
                .map(|b| u16::from_ne_bytes([b[0], b[1]]))
                .collect()
        }
        Syntax::Jpeg2000 | Syntax::Jpeg2000Lossless => {
            let image = jpeg2k::Image::from_bytes(&fragment()).unwrap();
            image.components()[0]
                .data()
                .iter()
                .map(|&v| v as u16)
                .collect()
        }
        Syntax::ExplicitLe | Syntax::ImplicitLe | Syntax::ExplicitBe | Syntax::Deflated => object
            .element(tags::PIXEL_DATA)
            .unwrap()
            .to_multi_int()
            .unwrap(),
        Syntax::Rle | Syntax::JpegLossless | Syntax::JpegBaseline => {
            let decoded = object.decode_pixel_data().unwrap();
            if decoded.bits_allocated() == 8 {
                decoded.data().iter().map(|&b| u16::from(b)).collect()
            } else {
                decoded
                    .data()
                    .chunks_exact(2)
                    .map(|b| u16::from_ne_bytes([b[0], b[1]]))
                    .collect()
            }
        }
        // dicom-rs cannot; the decoder's own tests read these files.
        Syntax::JpegExtended => Vec::new(),
    }
}

#[test]
fn every_syntax_reads_back_with_the_pixels_that_were_drawn() {
    let dir = tempfile::tempdir().unwrap();
    // All depths from 10 to 16 bits, odd widths too.
    let mut plans = plan(&PlanOptions {
        size: Some((101, 150)),
        ..options(60)
    });
    plans.sort_by_key(|p| p.draw_at(64, 64).bits_stored);
    plans.dedup_by_key(|p| p.draw_at(64, 64).bits_stored);
    assert!(plans.len() >= 5, "only {} depths", plans.len());
    for plan in &plans {
        let phantom = plan.draw();
        for syntax in Syntax::ALL {
            let path = dir
                .path()
                .join(format!("{}-{}.dcm", phantom.bits_stored, syntax.name()));
            phantom.write(&path, syntax).unwrap();
            let object = open_file(&path).unwrap();
            assert_eq!(object.meta().transfer_syntax(), syntax.uid());
            assert_eq!(text(&object, tags::SOP_INSTANCE_UID), plan.sop_instance_uid);
            assert_eq!(text(&object, tags::COLUMNS), "101");
            let read = pixels(&object, syntax);
            let note = format!("{} at {} bits", syntax.name(), phantom.bits_stored);
            match syntax {
                _ if syntax.is_lossless() => assert_eq!(read, phantom.pixels, "{note}"),
                Syntax::Jpeg2000 => {
                    let error: f64 = read
                        .iter()
                        .zip(&phantom.pixels)
                        .map(|(a, b)| f64::from(a.abs_diff(*b)))
                        .sum::<f64>()
                        / read.len() as f64;
                    assert!(
                        error < 0.02 * f64::from(u16::MAX >> (16 - phantom.bits_stored)),
                        "{note}: off by {error}"
                    );
                }
                Syntax::JpegBaseline => {
                    assert_eq!(text(&object, tags::BITS_STORED), "8");
                    assert_eq!(text(&object, tags::WINDOW_CENTER), "");
                    let shown = encode::shown_as_eight_bits(&phantom);
                    let error: f64 = read
                        .iter()
                        .zip(&phantom.pixels)
                        .map(|(a, b)| (f64::from(*a) - f64::from(shown[*b as usize])).abs())
                        .sum::<f64>()
                        / read.len() as f64;
                    assert!(error < 4.0, "{note}: off by {error} of 255");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn headers_are_complete_enough_to_file_and_name_no_real_person() {
    let dir = tempfile::tempdir().unwrap();
    for plan in plan(&options(40)) {
        let path = dir.path().join("one.dcm");
        plan.draw_at(64, 96)
            .write(&path, Syntax::ExplicitLe)
            .unwrap();
        let object = open_file(&path).unwrap();
        assert!(text(&object, tags::PATIENT_NAME).starts_with("PHANTOM^"));
        assert_eq!(text(&object, tags::PATIENT_ID), plan.truth.patient);
        assert_eq!(text(&object, tags::STUDY_DATE).len(), 8);
        let modality = text(&object, tags::MODALITY);
        let class = text(&object, tags::SOP_CLASS_UID);
        assert!(matches!(
            (modality.as_str(), class.as_str()),
            ("CR", "1.2.840.10008.5.1.4.1.1.1") | ("DX", "1.2.840.10008.5.1.4.1.1.1.1")
        ));
    }
}

#[test]
fn a_set_is_written_by_category_with_its_labels_beside() {
    let dir = tempfile::tempdir().unwrap();
    let plans = plan(&PlanOptions {
        size: Some((64, 96)),
        ..options(22)
    });
    let heard = std::sync::atomic::AtomicUsize::new(0);
    let summary = write_set(
        dir.path(),
        &plans,
        SyntaxChoice::Mixed,
        Layout::ByCategory,
        |_| {
            heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        },
    )
    .unwrap();
    assert_eq!((summary.images, heard.into_inner()), (22, 22));
    assert!(summary.syntaxes.len() > 4);
    let labels = std::fs::read_to_string(dir.path().join("labels.csv")).unwrap();
    let mut lines = labels.lines();
    assert_eq!(lines.next(), Some("sop_instance_uid,category,patient,view"));
    for (line, plan) in lines.zip(&plans) {
        let truth = &plan.truth;
        let expected = [
            plan.sop_instance_uid.as_str(),
            truth.category.unwrap_or(""),
            &truth.patient,
            truth.view.as_str(),
        ]
        .join(",");
        assert_eq!(line, expected);
    }
    let fusions = std::fs::read_dir(dir.path().join("frontal-fusion"))
        .unwrap()
        .count();
    assert_eq!(fusions, summary.categories["frontal-fusion"]);
    let again = tempfile::tempdir().unwrap();
    write_set(
        again.path(),
        &plans,
        SyntaxChoice::Mixed,
        Layout::Flat,
        |_| {},
    )
    .unwrap();
    let first = |dir: &Path, name: &str| std::fs::read(dir.join(name)).unwrap();
    let folder = plans[0].truth.category.unwrap_or("outside");
    assert_eq!(
        first(again.path(), "000001.dcm"),
        first(&dir.path().join(folder), "000001.dcm"),
        "files are the same to the byte"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    std::fs::write(&file, "").unwrap();
    let error = write_set(
        &file,
        &plan(&options(1)),
        SyntaxChoice::One(Syntax::ExplicitLe),
        Layout::Flat,
        |_| {},
    )
    .unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
}
