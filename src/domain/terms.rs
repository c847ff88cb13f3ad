//! Which words of a header are kept. An attribute whose values the standard lists holds one of those or, in a careless or
//! hostile file, anything: a patient's name as well. Only what is known is kept, so that no such name gets into the ledger.

use super::Uid;
use super::decision::HeaderView;
use super::instance::Description;

/// What stands for every word that is not known.
const OTHER: &str = "OTHER";

/// Modality (PS3.3 §C.7.3.1.1.1), those that the standard has given up as well, and `DR`, which it never had.
const MODALITIES: &str = "\
    AR AS ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DR DS DX EC ECG EEG EMG EOG EPS \
    ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV \
    OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN \
    RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC";

/// Photometric Interpretation (PS3.3 §C.7.6.3.1.2).
const PHOTOMETRIC: &[&str] = &[
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "HSV",
    "ARGB",
    "CMYK",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
];

/// View Position that is none of [`HeaderView`]'s: decubitus (PS3.3 §C.8.11.5.1), mammography's, and what devices write.
const POSITIONS: &[&str] = &[
    "RLD", "LLD", "CC", "ML", "LM", "MLO", "AXIAL", "FRONTAL", "TANG",
];

/// Body Part Examined (PS3.16 annex L), and what devices write of the trunk and the spine; without spaces and punctuation.
const BODY_PARTS: &str = "\
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA ARM AXILLA BACK BILEDUCT BLADDER BONE BRAIN BREAST BRONCHUS \
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVICALSPINE CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS \
    CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ENTIREBODY \
    ENTIRESPINE ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FIBULA FINGER FOOT FOREARM FULLSPINE GALLBLADDER HAND \
    HEAD HEADNECK HEART HIP HUMERUS IAC ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LOWERLEG LSPINE \
    LSSPINE LUMBARSPINE LUMBOSACRALSPINE LUNG MANDIBLE MAXILLA MEDIASTINUM MOUTH NASALBONE NECK NECKCHEST \
    NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT OVARY PANCREAS PARANASALSINUS PAROTID PATELLA PELVIS PENIS \
    PHANTOM PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM RIB RIBS SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER \
    SIJOINT SINUS SKULL SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THORACICSPINE \
    THORACOLUMBARSPINE THORAX THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE \
    TOTALSPINE ULNA UPPERARM URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WHOLESPINE WRIST ZYGOMA";

/// The same with only those words that are known. Manufacturer and model are free text, and kept; Study Date has been read.
///
/// What cannot stand in such an attribute at all (no UID, no age) is dropped; of what could, `OTHER` is left, so that it does
/// not look as if nothing had been said.
pub fn only_known(description: Description) -> Description {
    let d = description;
    Description {
        sop_class_uid: uid(d.sop_class_uid),
        transfer_syntax_uid: uid(d.transfer_syntax_uid),
        modality: kept_if(is_among(MODALITIES, &d.modality), d.modality),
        view_position: if HeaderView::of_position(&d.view_position).is_some() {
            d.view_position
        } else {
            known(d.view_position, POSITIONS)
        },
        patient_orientation: kept_if(
            is_orientation(&d.patient_orientation),
            d.patient_orientation,
        ),
        laterality: known(d.laterality, &["L", "R", "U", "B"]),
        body_part_examined: {
            let letters = |c: &char| c.is_alphanumeric();
            let plain: String = d.body_part_examined.chars().filter(letters).collect();
            kept_if(is_among(BODY_PARTS, &plain), d.body_part_examined)
        },
        patient_age: if is_age(&d.patient_age) {
            d.patient_age
        } else {
            String::new()
        },
        photometric_interpretation: known(d.photometric_interpretation, PHOTOMETRIC),
        ..d
    }
}

fn uid(text: String) -> String {
    Uid::parse(&text).map_or_else(|_| String::new(), String::from)
}

/// Whether a word, of whatever case, is one of those between spaces.
fn is_among(words: &str, word: &str) -> bool {
    words
        .split(' ')
        .any(|known| known.eq_ignore_ascii_case(word))
}

fn known(text: String, terms: &[&str]) -> String {
    kept_if(terms.contains(&text.to_ascii_uppercase().as_str()), text)
}

fn kept_if(is_known: bool, text: String) -> String {
    if is_known || text.is_empty() {
        text
    } else {
        OTHER.to_owned()
    }
}

/// Two directions, each of up to three of the letters left, right, anterior, posterior, head, feet (PS3.3 §C.7.6.1.1.1).
fn is_orientation(text: &str) -> bool {
    let direction = |part: &str| {
        let part = part.trim();
        part.len() <= 3 && part.chars().all(|c| "LRAPHF".contains(c))
    };
    text.split('\\').count() <= 2 && text.split('\\').all(direction)
}

/// Three digits and D, W, M or Y (PS3.5 §6.2, AS).
fn is_age(text: &str) -> bool {
    matches!(text.as_bytes(), [a, b, c, b'D' | b'W' | b'M' | b'Y']
        if [a, b, c].iter().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same word wherever the standard lists words.
    fn everywhere(word: &str) -> Description {
        let word = || word.to_owned();
        Description {
            sop_class_uid: word(),
            transfer_syntax_uid: word(),
            modality: word(),
            view_position: word(),
            patient_orientation: word(),
            laterality: word(),
            body_part_examined: word(),
            patient_age: word(),
            photometric_interpretation: word(),
            ..Description::default()
        }
    }

    #[test]
    fn a_name_in_place_of_a_known_word_is_not_kept() {
        for name in ["KOWALSKA", "Kowalska^Anna", "1.2.Kowalska", "A\\KOWALSKA"] {
            let kept = only_known(everywhere(name));
            let expected = Description {
                sop_class_uid: String::new(),
                transfer_syntax_uid: String::new(),
                patient_age: String::new(),
                ..everywhere(OTHER)
            };
            assert_eq!(kept, expected, "{name}");
        }
        assert_eq!(only_known(everywhere("")), everywhere(""));
    }

    #[test]
    fn what_devices_write_is_kept_as_it_is() {
        for (position, orientation, body_part, age) in [
            ("AP", "L\\F", "TSPINE", "012Y"),
            ("left lateral", "A\\F", "L-SPINE", "003M"),
            ("LLD", "LA\\FP", "Whole Spine", "010D"),
            ("", "", "", ""),
        ] {
            let description = Description {
                sop_class_uid: "1.2.840.10008.5.1.4.1.1.1".into(),
                transfer_syntax_uid: "1.2.840.10008.1.2.4.70".into(),
                modality: "DX".into(),
                view_position: position.into(),
                patient_orientation: orientation.into(),
                laterality: "U".into(),
                body_part_examined: body_part.into(),
                patient_age: age.into(),
                photometric_interpretation: "PALETTE COLOR".into(),
                manufacturer: "Kowalski & Co".into(),
                ..Description::default()
            };
            assert_eq!(only_known(description.clone()), description);
        }
    }
}
