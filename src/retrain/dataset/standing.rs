//! Rows of a list about the same bytes: which of them is right, and for which audits it counts.

use std::collections::HashMap;

use super::{LeftOut, Loaded};
use crate::filing::record::Digest;
use crate::retrain::audits::Audits;
use crate::retrain::judging::outcome::LabelOrigin;
use crate::retrain::rows::Row;

/// Of each file's bytes, the row that says what they are; `None`: rows contradict each other.
pub(super) fn standing(
    rows: &[Row],
    loaded: &[Result<Loaded, LeftOut>],
) -> HashMap<Digest, Option<usize>> {
    let mut same: HashMap<&Digest, Vec<usize>> = HashMap::new();
    for (place, loaded) in loaded.iter().enumerate() {
        if let Ok((example, _)) = loaded {
            same.entry(&example.digest).or_default().push(place);
        }
    }
    same.into_iter()
        .map(|(digest, places)| (digest.clone(), last_word(rows, &places)))
        .collect()
}

/// Which of the rows about the same bytes is right: the first where they agree, else the one that was said last, if all tell
/// when. What nobody has looked at contradicts nobody.
fn last_word(rows: &[Row], places: &[usize]) -> Option<usize> {
    let is_seen = |place: &usize| rows[*place].origin != LabelOrigin::Untouched;
    let mut said: Vec<usize> = places.iter().copied().filter(is_seen).collect();
    if said.is_empty() {
        said = places.to_vec();
    }
    let first = *said.first()?;
    let says = |place: usize| rows[place].category;
    if said.iter().all(|place| says(*place) == says(first)) {
        return Some(first);
    }
    if said.iter().any(|place| rows[*place].said_us.is_none()) {
        return None;
    }
    let last = said
        .iter()
        .copied()
        .max_by_key(|place| rows[*place].said_us)?;
    let as_late = |place: &usize| rows[*place].said_us == rows[last].said_us;
    let agreed = said.iter().filter(|place| as_late(place));
    agreed
        .into_iter()
        .all(|place| says(*place) == says(last))
        .then_some(last)
}

/// The audits of each row, where rows that say the same of the same bytes are one label: it is of the audits of all of them,
/// and counted once in each.
pub(super) fn audits_of_each(
    rows: &[Row],
    loaded: &[Result<Loaded, LeftOut>],
    standing: &HashMap<Digest, Option<usize>>,
    audits: &mut Audits,
) -> Vec<Vec<String>> {
    let mut of_each: Vec<Vec<String>> = rows.iter().map(|row| row.audits.clone()).collect();
    for (place, (row, loaded)) in rows.iter().zip(loaded).enumerate() {
        let Ok((example, _)) = loaded else { continue };
        let Some(right) = standing.get(&example.digest).copied().flatten() else {
            continue;
        };
        if right == place || rows[right].category != row.category {
            continue;
        }
        for name in &row.audits {
            if of_each[right].contains(name) {
                audits.lose_of(name);
            } else {
                of_each[right].push(name.clone());
            }
        }
    }
    of_each
}

/// Whether a row is the one of its bytes that counts.
pub(super) fn counts(
    place: usize,
    row: &Row,
    stands: Option<(usize, &Row)>,
) -> Result<(), LeftOut> {
    match stands {
        Some((standing, _)) if standing == place => Ok(()),
        Some((_, right)) if right.category == row.category => {
            Err(LeftOut::harmless("the same file again"))
        }
        // An audit that lost its file to another list's word cannot tell how often things go wrong, and one that has both
        // has counted it twice.
        Some(_) => Err(LeftOut {
            why: "the same file, of which something else was said later".to_owned(),
            harmless: row.audits.is_empty(),
        }),
        None => Err(LeftOut::unknown(
            "the same file under several categories: say which is right, or when each was said (column `time`)",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_contradicting_labels_of_one_file_the_last_one_is_right_and_none_where_nobody_knows() {
        use LabelOrigin::{Csv, Untouched};
        let said = |labels: &[(usize, LabelOrigin, Option<i64>)]| {
            let rows: Vec<Row> = labels
                .iter()
                .map(|(category, origin, said_us)| Row {
                    said_us: *said_us,
                    ..Row::of("x.dcm".into(), Some(*category), *origin)
                })
                .collect();
            let places: Vec<usize> = (0..rows.len()).collect();
            last_word(&rows, &places)
        };
        assert_eq!(said(&[(1, Csv, None), (1, Csv, None)]), Some(0));
        assert_eq!(said(&[(1, Csv, None), (2, Csv, None)]), None);
        assert_eq!(said(&[(1, Csv, Some(5)), (2, Csv, None)]), None);
        assert_eq!(said(&[(1, Csv, Some(5)), (2, Csv, Some(5))]), None);
        assert_eq!(said(&[(1, Csv, Some(5)), (2, Csv, Some(6))]), Some(1));
        assert_eq!(said(&[(1, Csv, Some(7)), (2, Csv, Some(6))]), Some(0));
        // A person's word is above the model's.
        assert_eq!(said(&[(1, Untouched, Some(9)), (2, Csv, None)]), Some(1));
    }

    #[test]
    fn a_contradicted_file_is_left_out_and_its_audit_promises_nothing() {
        let row = Row::of("x.dcm".into(), Some(0), LabelOrigin::Csv);
        let other = Row {
            audits: vec!["A".into()],
            ..Row::of("y.dcm".into(), Some(1), LabelOrigin::Csv)
        };
        assert!(counts(0, &row, Some((0, &row))).is_ok());
        assert!(counts(1, &row, Some((0, &row))).unwrap_err().harmless);
        assert!(!counts(1, &other, Some((0, &row))).unwrap_err().harmless);
        assert!(!counts(0, &row, None).unwrap_err().harmless);
    }
}
