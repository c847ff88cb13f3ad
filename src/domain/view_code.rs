//! What View Code Sequence (0054,0220) says: by its code, whatever language its meaning is in, else by the meaning's words.

use super::decision::HeaderView;

/// Views of PS3.16 CID 4010 (DX View) and CID 4062 (VL View) that are one of ours: SNOMED CT, SNOMED RT, view. Where the standard
/// has changed a code, both stand here; what it has for limbs, skulls and feet is left to the pixels.
const CODES: [(&str, &str, HeaderView); 29] = [
    ("399348003", "R-10206", HeaderView::Ap),
    ("272479007", "R-10214", HeaderView::Pa),
    ("399066004", "R-10214", HeaderView::Pa),
    ("399173006", "R-10236", HeaderView::Ll),
    ("399198007", "R-10232", HeaderView::Rl),
    ("399067008", "R-102CD", HeaderView::Lateral),
    ("399260004", "R-10224", HeaderView::Lateral), // medial-lateral
    ("399352003", "R-10228", HeaderView::Lateral), // lateral-medial
    ("399182000", "R-102C1", HeaderView::Oblique),
    ("399160007", "R-10204", HeaderView::Oblique), // frontal
    ("399312000", "R-10208", HeaderView::Oblique), // antero-posterior
    ("399059000", "R-10216", HeaderView::Oblique), // postero-anterior
    ("399038007", "R-10210", HeaderView::Oblique), // right posterior
    ("399006002", "R-10212", HeaderView::Oblique), // left posterior
    ("399356000", "R-40985", HeaderView::Oblique), // right anterior
    ("399356000", "R-10218", HeaderView::Oblique),
    ("399135007", "R-10220", HeaderView::Oblique), // left anterior
    ("399236003", "R-10234", HeaderView::Oblique), // right
    ("399184004", "R-10238", HeaderView::Oblique), // left
    ("260427002", "R-40783", HeaderView::Oblique), // lateral
    ("260426006", "R-40782", HeaderView::Oblique), // medial
    ("260421001", "R-4077D", HeaderView::Oblique), // left lateral
    ("260424009", "R-40780", HeaderView::Oblique), // right lateral
    ("399368009", "R-10226", HeaderView::Oblique), // medio-lateral
    ("399099002", "R-10230", HeaderView::Oblique), // latero-medial
    ("399004004", "R-10246", HeaderView::Oblique), // axial
    ("399288005", "R-10248", HeaderView::Oblique), // cranio-caudal
    ("399225005", "R-10250", HeaderView::Oblique), // caudo-cranial
    ("399325008", "R-10254", HeaderView::Oblique), // sagittal, axial
];

/// The view as a word of ours, never one of the file's: `other` for what none of them is, empty when nothing is said.
///
/// `value`, `scheme` and `meaning` are Code Value (0008,0100), Coding Scheme Designator (0008,0102) and Code Meaning
/// (0008,0104) of the first item.
pub fn term(value: &str, scheme: &str, meaning: &str) -> &'static str {
    if value.is_empty() && meaning.is_empty() {
        return "";
    }
    match of_code(value, scheme).or_else(|| of_meaning(meaning)) {
        Some(HeaderView::Ap) => "antero-posterior",
        Some(HeaderView::Pa) => "postero-anterior",
        Some(HeaderView::Ll) => "left lateral",
        Some(HeaderView::Rl) => "right lateral",
        Some(HeaderView::Lateral) => "lateral",
        Some(HeaderView::Oblique) => "oblique",
        Some(HeaderView::Other | HeaderView::Absent) | None => "other",
    }
}

fn of_code(value: &str, scheme: &str) -> Option<HeaderView> {
    let found = CODES.iter().find(|(ct, rt, _)| match scheme {
        "SCT" => value == *ct,
        // PS3.16 §8: two older names of the same scheme.
        "SRT" | "SNM3" | "99SDM" => value == *rt,
        _ => false,
    });
    found.map(|(_, _, view)| *view)
}

/// Reads whole words: what is bilateral is not lateral. What names a frontal and a lateral view at once names neither.
pub(super) fn of_meaning(meaning: &str) -> Option<HeaderView> {
    let meaning = meaning.to_lowercase();
    let words: Vec<&str> = meaning
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let has = |wanted: &[&str]| words.windows(wanted.len()).any(|found| found == wanted);
    let any = |wanted: &[&[&str]]| wanted.iter().any(|words| has(words));
    if any(&[&["oblique"], &["obl"]]) {
        return Some(HeaderView::Oblique);
    }
    let ap = any(&[
        &["ap"],
        &["a", "p"],
        &["anteroposterior"],
        &["antero", "posterior"],
        &["anterior", "posterior"],
    ]);
    let pa = any(&[
        &["pa"],
        &["p", "a"],
        &["posteroanterior"],
        &["postero", "anterior"],
        &["posterior", "anterior"],
    ]);
    // Who lies on a side is seen from the front.
    let lateral = any(&[&["lateral"], &["lat"]]) && !has(&["decubitus"]);
    match (ap, pa, lateral) {
        (true, false, false) => Some(HeaderView::Ap),
        (false, true, false) => Some(HeaderView::Pa),
        (false, false, true) if any(&[&["left", "lateral"], &["left", "lat"]]) => {
            Some(HeaderView::Ll)
        }
        (false, false, true) if any(&[&["right", "lateral"], &["right", "lat"]]) => {
            Some(HeaderView::Rl)
        }
        (false, false, true) => Some(HeaderView::Lateral),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_whatever_its_meaning_is_called() {
        for (value, scheme, meaning, expected) in [
            ("R-10206", "SRT", "anterior-posterior", "antero-posterior"),
            ("R-10206", "SNM3", "", "antero-posterior"),
            ("399348003", "SCT", "antéro-postérieur", "antero-posterior"),
            ("272479007", "SCT", "dos", "postero-anterior"),
            ("399173006", "SCT", "seitlich links", "left lateral"),
            ("R-10232", "SRT", "RL", "right lateral"),
            ("399067008", "SCT", "Profil", "lateral"),
            ("399135007", "SCT", "left anterior", "oblique"),
            // Codes of another scheme say nothing, nor do those that are none of these views.
            ("R-10206", "99LOCAL", "Aufnahme", "other"),
            ("399061009", "SCT", "axial", "other"),
            ("R-10206", "99LOCAL", "PA", "postero-anterior"),
            ("", "", "", ""),
        ] {
            assert_eq!(term(value, scheme, meaning), expected, "{value} {meaning}");
        }
    }

    #[test]
    fn a_meaning_counts_by_its_whole_words() {
        for (meaning, expected) in [
            ("antero-posterior", "antero-posterior"),
            ("Anteroposterior", "antero-posterior"),
            ("A.P. supine", "antero-posterior"),
            ("Chest PA", "postero-anterior"),
            ("left lateral", "left lateral"),
            ("Right Lateral", "right lateral"),
            ("medial-lateral", "lateral"),
            ("left lateral oblique", "oblique"),
            ("antero-posterior oblique", "oblique"),
            ("bilateral frontal", "other"),
            ("contralateral", "other"),
            ("left lateral decubitus", "other"),
            ("AP and lateral", "other"),
            ("Kowalska", "other"),
        ] {
            assert_eq!(term("", "", meaning), expected, "{meaning}");
        }
    }

    #[test]
    fn every_word_of_ours_is_read_as_what_it_was_made_of() {
        for (ct, rt, view) in CODES {
            for (value, scheme) in [(ct, "SCT"), (rt, "SRT")] {
                assert_eq!(of_meaning(term(value, scheme, "")), Some(view), "{value}");
            }
        }
    }
}
