//! Headers as vendors write them: some complete, some with a wrong view position, some with hardly anything.
//!
//! Drawn from the nuisance stream and from the patient; the category is never consulted. The view is: a modality knows
//! whether it took a frontal or a lateral film, and is right about it most of the time.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::Photometric;
use super::anatomy::Patient;
use super::detector::{Detector, Picture};
use super::dice::Dice;
use super::plan::{Plan, Subject};

/// A made-up vendor and what its machines leave in headers.
struct Vendor {
    manufacturer: &'static str,
    model: &'static str,
    station: &'static str,
    /// Computed radiography (plates) or digital radiography.
    digital: bool,
    /// How often the view position is missing, and how often it is wrong.
    view_missing: f32,
    view_wrong: f32,
    orientation: bool,
    body_parts: &'static [&'static str],
    windows: Windows,
    /// Rescale slope and intercept, where written.
    rescale: Option<(f32, f32)>,
}

/// A vendor's habit with the VOI window (PS3.3 C.11.2).
#[derive(Clone, Copy, PartialEq)]
enum Windows {
    None,
    One,
    /// Several, with explanations; the first is the one to use.
    Several,
    /// With the function named.
    Named,
}

const VENDORS: [Vendor; 6] = [
    Vendor {
        manufacturer: "Aurelia Imaging",
        model: "SpineView 400",
        station: "DRX1",
        digital: true,
        view_missing: 0.1,
        view_wrong: 0.003,
        orientation: true,
        body_parts: &["SPINE", "WHOLESPINE"],
        windows: Windows::One,
        rescale: Some((1.0, 0.0)),
    },
    Vendor {
        manufacturer: "Aurelia Imaging",
        model: "CR Reader 75",
        station: "CR2",
        digital: false,
        view_missing: 0.35,
        view_wrong: 0.003,
        orientation: false,
        body_parts: &["TSPINE", "LSPINE", ""],
        windows: Windows::Several,
        rescale: None,
    },
    Vendor {
        manufacturer: "NORDLYS MEDICAL",
        model: "Longview",
        station: "STITCH",
        digital: true,
        view_missing: 0.15,
        view_wrong: 0.005,
        orientation: true,
        body_parts: &["SPINE"],
        windows: Windows::Named,
        rescale: Some((1.0, 0.0)),
    },
    Vendor {
        manufacturer: "Kestrel",
        model: "K-DR 17",
        station: "KDR",
        digital: true,
        view_missing: 0.5,
        view_wrong: 0.002,
        orientation: true,
        body_parts: &["", "CHEST", "SPINE"],
        windows: Windows::None,
        rescale: None,
    },
    Vendor {
        manufacturer: "Tessera X-ray Works",
        model: "TX9",
        station: "ROOM3",
        digital: false,
        view_missing: 0.2,
        view_wrong: 0.006,
        orientation: false,
        body_parts: &["SPINE", "TLSPINE"],
        windows: Windows::One,
        rescale: Some((0.5, -100.0)),
    },
    Vendor {
        manufacturer: "Olm & Partner",
        model: "Slot 2 Standing",
        station: "SLOT",
        digital: true,
        view_missing: 0.05,
        view_wrong: 0.006,
        orientation: true,
        body_parts: &["SPINE"],
        windows: Windows::Several,
        rescale: Some((1.0, 0.0)),
    },
];

/// The header for what `detector` made of `plan`; `scale` is in pixels a millimetre.
pub(super) fn describe(
    plan: &Plan,
    patient: &Patient,
    detector: &Detector,
    picture: &Picture,
    scale: f32,
) -> (InMemDicomObject, Photometric) {
    let mut dice = Dice::new(plan.seed, "header", plan.number);
    let vendor = &VENDORS[dice.whole(0, 5) as usize];
    let mut header = Header(InMemDicomObject::new_empty());
    header.text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100");
    let (class, modality) = if vendor.digital {
        (uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION, "DX")
    } else {
        (uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "CR")
    };
    header.text(tags::SOP_CLASS_UID, VR::UI, class);
    header.text(tags::SOP_INSTANCE_UID, VR::UI, &plan.sop_instance_uid);
    header.text(tags::STUDY_INSTANCE_UID, VR::UI, &plan.study_instance_uid);
    header.text(tags::SERIES_INSTANCE_UID, VR::UI, &plan.series_instance_uid);
    header.text(tags::MODALITY, VR::CS, modality);
    header.text(tags::MANUFACTURER, VR::LO, vendor.manufacturer);
    header.text(tags::MANUFACTURER_MODEL_NAME, VR::LO, vendor.model);
    header.text(tags::STATION_NAME, VR::SH, vendor.station);
    header.text(tags::INSTITUTION_NAME, VR::LO, "PHANTOM HOSPITAL");
    header.text(
        tags::IMAGE_TYPE,
        VR::CS,
        dice.pick(&[
            "ORIGINAL\\PRIMARY",
            "DERIVED\\PRIMARY",
            "ORIGINAL\\PRIMARY\\\\STITCHED",
        ]),
    );
    if vendor.digital {
        header.text(tags::PRESENTATION_INTENT_TYPE, VR::CS, "FOR PRESENTATION");
    }
    patient_and_dates(&mut header, plan, patient, &mut dice);
    view(&mut header, plan, vendor, &mut dice);

    let bits = detector.bits_stored;
    header.number(tags::SAMPLES_PER_PIXEL, 1);
    header.text(
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        detector.photometric.as_str(),
    );
    header.number(tags::BITS_ALLOCATED, 16);
    header.number(tags::BITS_STORED, bits);
    header.number(tags::HIGH_BIT, bits - 1);
    header.number(tags::PIXEL_REPRESENTATION, 0);
    let spacing = format!("{:.4}\\{:.4}", 1.0 / scale, 1.0 / scale);
    header.text(tags::IMAGER_PIXEL_SPACING, VR::DS, &spacing);
    header.text(tags::KVP, VR::DS, &format!("{}", dice.whole(70, 102)));
    header.text(
        tags::PRESENTATION_LUT_SHAPE,
        VR::CS,
        if detector.photometric == Photometric::Monochrome1 {
            "INVERSE"
        } else {
            "IDENTITY"
        },
    );
    if let Some((slope, intercept)) = vendor.rescale {
        header.text(tags::RESCALE_SLOPE, VR::DS, &format!("{slope}"));
        header.text(tags::RESCALE_INTERCEPT, VR::DS, &format!("{intercept}"));
        header.text(tags::RESCALE_TYPE, VR::LO, "US");
    }
    window(&mut header, vendor, picture, &mut dice);
    if let Some(padding) = picture.padding.filter(|_| detector.declares_padding) {
        header.number(tags::PIXEL_PADDING_VALUE, padding);
    }
    (header.0, detector.photometric)
}

struct Header(InMemDicomObject);

impl Header {
    fn text(&mut self, tag: Tag, vr: VR, value: &str) {
        self.0
            .put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    }

    fn number(&mut self, tag: Tag, value: u16) {
        self.0
            .put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
}

fn patient_and_dates(header: &mut Header, plan: &Plan, patient: &Patient, dice: &mut Dice) {
    header.text(
        tags::PATIENT_NAME,
        VR::PN,
        &format!("PHANTOM^{:04}", plan.patient),
    );
    header.text(tags::PATIENT_ID, VR::LO, &plan.truth.patient);
    header.text(
        tags::PATIENT_SEX,
        VR::CS,
        if patient.female { "F" } else { "M" },
    );
    // Birth belongs to the patient. Visits are spread over a few years, not in the order of the images: the order
    // follows from how images were dealt to patients, and a date must not tell what was dealt when.
    let mut past = Dice::new(plan.seed, "dates", plan.patient);
    let first = past.between(2008.0, 2022.0);
    let born = first - patient.age;
    let mut past = Dice::new(plan.seed, "visit", plan.patient << 8 | plan.visit);
    let at = first + past.between(0.0, 2.5);
    header.text(tags::PATIENT_BIRTH_DATE, VR::DA, &date(born));
    header.text(tags::STUDY_DATE, VR::DA, &date(at));
    header.text(
        tags::STUDY_TIME,
        VR::TM,
        &format!(
            "{:02}{:02}{:02}",
            7 + past.whole(0, 10),
            past.whole(0, 59),
            past.whole(0, 59)
        ),
    );
    if dice.chance(0.7) {
        header.text(
            tags::PATIENT_AGE,
            VR::AS,
            &format!("{:03}Y", (at - born) as u32),
        );
    }
    header.text(
        tags::STUDY_ID,
        VR::SH,
        &format!("{}", plan.patient * 100 + u64::from(past.whole(10, 99))),
    );
    header.text(tags::SERIES_NUMBER, VR::IS, "1");
    header.text(
        tags::INSTANCE_NUMBER,
        VR::IS,
        &format!("{}", dice.whole(1, 4)),
    );
    header.text(
        tags::ACCESSION_NUMBER,
        VR::SH,
        &format!("A{:07}", plan.patient * 100 + u64::from(past.whole(10, 99))),
    );
    header.text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "");
}

/// A date for a fractional year; never the 29th to 31st.
fn date(year: f32) -> String {
    let day = (year.fract() * 336.0) as u32;
    format!("{:04}{:02}{:02}", year as u32, day / 28 + 1, day % 28 + 1)
}

fn view(header: &mut Header, plan: &Plan, vendor: &Vendor, dice: &mut Dice) {
    let (body_part, position) = match plan.subject {
        Subject::Frontal(_) => (dice.pick(vendor.body_parts), dice.pick(&["AP", "PA", "PA"])),
        Subject::Lateral(_) => (dice.pick(vendor.body_parts), dice.pick(&["LL", "RL", "LL"])),
        Subject::Other(other) => other.habit(dice),
    };
    let (wrong, missing) = (
        dice.chance(vendor.view_wrong),
        dice.chance(vendor.view_missing),
    );
    let position = if wrong {
        dice.pick(&["AP", "PA", "LL", "RL", "LLO"])
    } else {
        position
    };
    if !body_part.is_empty() {
        header.text(tags::BODY_PART_EXAMINED, VR::CS, body_part);
    }
    if !missing {
        header.text(tags::VIEW_POSITION, VR::CS, position);
    }
    if vendor.orientation {
        let orientation = match position {
            "AP" | "PA" => "L\\F",
            "LL" => "A\\F",
            "RL" => "P\\F",
            _ => "",
        };
        header.text(tags::PATIENT_ORIENTATION, VR::CS, orientation);
    }
    let described = match plan.subject {
        Subject::Frontal(_) | Subject::Lateral(_) => "SCOLIOSIS SERIES",
        Subject::Other(_) => "RADIOGRAPHY",
    };
    if dice.chance(0.6) {
        header.text(tags::STUDY_DESCRIPTION, VR::LO, described);
    }
}

fn window(header: &mut Header, vendor: &Vendor, picture: &Picture, dice: &mut Dice) {
    let (slope, intercept) = vendor.rescale.unwrap_or((1.0, 0.0));
    let (low, high) = (
        picture.shown.0 * slope + intercept,
        picture.shown.1 * slope + intercept,
    );
    let (off, wide) = (dice.normal(0.0, 0.02), dice.between(0.94, 1.12));
    let width = (high - low) * wide;
    let centre = f32::midpoint(high, low) + off * (high - low);
    let (centres, widths) = match vendor.windows {
        Windows::None => return,
        Windows::One | Windows::Named => (format!("{centre:.0}"), format!("{width:.0}")),
        Windows::Several => (
            format!("{centre:.0}\\{:.0}", centre * 1.08),
            format!("{width:.0}\\{:.0}", width * 0.6),
        ),
    };
    header.text(tags::WINDOW_CENTER, VR::DS, &centres);
    header.text(tags::WINDOW_WIDTH, VR::DS, &widths);
    if vendor.windows == Windows::Several {
        header.text(
            tags::WINDOW_CENTER_WIDTH_EXPLANATION,
            VR::LO,
            "NORMAL\\HARDER",
        );
    }
    if vendor.windows == Windows::Named {
        header.text(tags::VOILUT_FUNCTION, VR::CS, "LINEAR");
    }
}
