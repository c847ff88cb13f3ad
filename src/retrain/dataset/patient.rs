//! Who the patient of a file is, as its header and a list say: by pseudonym, or nobody in particular.

use super::Pseudonyms;
use crate::retrain::pixel_cache::About;

/// Patient IDs that stand for nobody: images of many people under one of them would make one patient of all.
const PLACEHOLDERS: [&str; 12] = [
    "ANON",
    "ANONYMOUS",
    "ANONYMIZED",
    "ANONYMISED",
    "UNKNOWN",
    "NONE",
    "NA",
    "N/A",
    "TEST",
    "PATIENT",
    "NOID",
    "NO ID",
];

/// Whether a Patient ID stands for nobody in particular, in a header or in a list: nothing, zeros, dashes, a word for
/// nobody, or one character over and over. (Patients may well be called 7 or 22.)
pub fn is_placeholder(patient_id: &str) -> bool {
    let id = patient_id
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_ascii_uppercase();
    let Some(first) = id.chars().next() else {
        return true;
    };
    let all_alike = id.chars().all(|c| c == first);
    let says_nothing = matches!(first, '0' | 'X') || !first.is_alphanumeric();
    (all_alike && (says_nothing || id.len() >= 4)) || PLACEHOLDERS.contains(&id.as_str())
}

/// Who the patient is, by pseudonym: as the list says, else as the file says. A Patient ID has the same pseudonym in a list as
/// in a header, so that nobody is two patients; a pseudonym, as `radsort labels export` writes it, stays what it is.
pub(super) fn patient(
    listed: Option<&str>,
    about: &About,
    pseudonym: Pseudonyms<'_>,
) -> Option<String> {
    let listed = listed.map(|name| name.trim_matches(|c: char| c.is_whitespace() || c == '\0'));
    let Some(name) = listed.filter(|name| !is_placeholder(name)) else {
        return about.patient.clone();
    };
    let hashed = pseudonym(name, "").0;
    // Said of the file as well: a list knows no issuer, the header may.
    if hashed == about.of_id_alone {
        return about.patient.clone();
    }
    // The ledger has a pseudonym for placeholders too, and the lists that come from it.
    if about.of_placeholder.as_deref() == Some(name) {
        return None;
    }
    Some(if is_pseudonym(name) {
        name.to_owned()
    } else {
        hashed
    })
}

/// Whether a name looks like one of [`Pseudonym`](crate::domain::Pseudonym).
fn is_pseudonym(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Example, example};
    use super::*;
    use crate::domain::Pseudonym;
    use crate::domain::decision::HeaderView;
    use crate::domain::instance::Description;
    use crate::filing::record::Digest;
    use crate::retrain::judging::outcome::LabelOrigin;
    use crate::retrain::pixel_cache::Kept;
    use crate::retrain::rows::Row;

    #[test]
    fn placeholders_are_told_from_patients_who_are_called_by_short_numbers() {
        for nobody in [
            "",
            " ",
            "\0",
            "0",
            "000",
            "-",
            "???",
            "XXX",
            "9999",
            "AAAA",
            "anon",
            " Anonymous ",
            "UNKNOWN",
            "test",
            "n/a",
        ] {
            assert!(is_placeholder(nobody), "{nobody:?}");
        }
        for somebody in ["1", "7", "22", "333", "A", "4711", "PH0001", "TESTA", "100"] {
            assert!(!is_placeholder(somebody), "{somebody:?}");
        }
    }

    fn pseudonym(patient: &str, issuer: &str) -> Pseudonym {
        let digest = blake3::hash(format!("{issuer}/{patient}").as_bytes());
        Pseudonym(digest.to_hex()[..32].to_owned())
    }

    /// The pseudonym of a name in a list.
    fn of_name(name: &str) -> String {
        pseudonym(name, "").0
    }

    /// What is loaded of a file of one hospital, whose header may name the patient.
    fn loaded(listed: Option<&str>, header: Option<&str>, study: Option<&str>) -> Example {
        let row = Row {
            patient: listed.map(str::to_owned),
            ..Row::of("x.dcm".into(), Some(0), LabelOrigin::Csv)
        };
        let of_hospital = |patient| pseudonym(patient, "HOSPITAL").0;
        let about = About {
            patient: header.map(of_hospital),
            of_placeholder: header.is_none().then(|| of_hospital("ANON")),
            of_id_alone: of_name(header.unwrap_or("ANON")),
            study: study.map(str::to_owned),
            description: Description::default(),
            reduced: false,
        };
        let pictures = Vec::new();
        let kept = Kept { about, pictures };
        example(&row, Digest("d".into()), kept, &pseudonym)
    }

    #[test]
    fn a_placeholder_in_a_list_in_a_header_or_in_the_ledger_is_one_patient_a_study() {
        let patient = |listed, header, study| loaded(listed, header, study).patient;
        assert_eq!(patient(Some("P1"), Some("h"), Some("1.2")), of_name("P1"));
        assert_eq!(patient(Some("P1"), None, Some("1.2")), of_name("P1"));
        let of_anon = pseudonym("ANON", "HOSPITAL").0;
        for nobody in ["ANON", "0", of_anon.as_str()] {
            assert_eq!(patient(Some(nobody), None, Some("1.2")), "study 1.2");
        }
        assert_eq!(
            patient(Some("ANON"), Some("h"), Some("1.2")),
            pseudonym("h", "HOSPITAL").0,
            "the file knows"
        );
        assert_eq!(patient(None, None, None), "file d");
        assert!(loaded(None, None, Some("1.2")).nameless);
        assert!(!loaded(Some("P1"), None, None).nameless);
        assert_eq!(loaded(None, None, None).header, HeaderView::Absent);
    }

    #[test]
    fn a_patient_has_one_pseudonym_whether_a_list_a_header_or_the_ledger_says_who_it_is() {
        let patient = |listed, header| loaded(listed, Some(header), None).patient;
        let of_header = patient(None, "4711");
        let of_ledger = pseudonym("4711", "HOSPITAL").0;
        assert_eq!(of_header, of_ledger);
        for name in ["4711", " 4711 ", of_ledger.as_str()] {
            assert_eq!(patient(Some(name), "4711"), of_header, "{name:?}");
        }
        // A list may say that two names are one patient: by any name, or by a pseudonym.
        assert_eq!(patient(Some("P1"), "4711"), patient(Some("P1"), "4712"));
        assert_eq!(patient(Some(&of_ledger), "4712"), of_header);
        // Patient IDs may look like pseudonyms.
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(patient(Some(digits), digits), patient(None, digits));
    }
}
