//! Rows of a list that say different things of the same file: which of them counts. As `retrain --labels` reads them: the one
//! with the latest `time`; where a row has none, or two are as late, nobody knows, and none counts.

use std::collections::{BTreeSet, HashMap};

use jiff::tz::TimeZone;

use crate::control::protocol::{ImportRow, Judged};
use crate::domain::category::says_neither;
use crate::said_at;

/// A row, and the line of the list that it is in.
pub(super) type Row = (u64, ImportRow);

/// Takes the rows out that do not count because of another one; gives why, each.
pub(super) fn refuse(rows: Vec<Row>) -> (Vec<ImportRow>, Vec<Judged>) {
    let mut of_file: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, (_, row)) in rows.iter().enumerate() {
        let uid = row.sop_instance_uid.trim().to_owned();
        of_file.entry(uid).or_default().push(place);
    }
    let mut refused: HashMap<usize, String> = HashMap::new();
    for places in of_file.values() {
        let of_this: Vec<&Row> = places.iter().map(|place| &rows[*place]).collect();
        let said: BTreeSet<&str> = of_this.iter().map(|row| says(row)).collect();
        if said.len() < 2 {
            continue;
        }
        let last = last_word(&of_this);
        for place in places {
            if last != Some(says(&rows[*place])) {
                refused.insert(*place, why(&of_this, last));
            }
        }
    }
    let (mut kept, mut not) = (Vec::new(), Vec::new());
    for (place, (_, row)) in rows.into_iter().enumerate() {
        match refused.remove(&place) {
            None => kept.push(row),
            Some(why) => not.push(Judged {
                what: row.sop_instance_uid.trim().to_owned(),
                category: None,
                to: None,
                error: Some(why),
                already: false,
            }),
        }
    }
    (kept, not)
}

/// What a row says.
fn says((_, row): &Row) -> &str {
    let category = row.category.trim();
    if says_neither(category) { "" } else { category }
}

/// What was said last, if all rows tell when.
fn last_word<'a>(rows: &[&'a Row]) -> Option<&'a str> {
    let mut latest: Option<(i64, BTreeSet<&str>)> = None;
    for row in rows {
        let time = row.1.time.as_deref().unwrap_or_default();
        let said_us = said_at::parse(time, &TimeZone::system())?;
        match &mut latest {
            Some((last, _)) if *last > said_us => {}
            Some((last, said)) if *last == said_us => {
                said.insert(says(row));
            }
            _ => latest = Some((said_us, BTreeSet::from([says(row)]))),
        }
    }
    let (_, said) = latest?;
    (said.len() == 1).then(|| said.first().copied()).flatten()
}

fn why(rows: &[&Row], last: Option<&str>) -> String {
    let lines: Vec<String> = rows.iter().map(|(line, _)| line.to_string()).collect();
    let lines = lines.join(", ");
    match last {
        Some(_) => format!(
            "lines {lines} of the list say different things of it: the one with the latest time is taken, this is an earlier one"
        ),
        None => format!(
            "lines {lines} of the list say different things of it: leave one, or say when each was said (column `time`: {})",
            said_at::FORMS
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rows: &[(&str, &str, &str)]) -> (Vec<String>, Vec<String>) {
        let row = |(place, (uid, category, time)): (usize, &(&str, &str, &str))| {
            let row = ImportRow {
                sop_instance_uid: (*uid).to_owned(),
                category: (*category).to_owned(),
                person: None,
                note: None,
                origin: None,
                time: Some((*time).to_owned()),
            };
            (place as u64 + 2, row)
        };
        let (kept, not) = refuse(rows.iter().enumerate().map(row).collect());
        let kept = kept.into_iter().map(|row| row.category).collect();
        let not = not.into_iter().filter_map(|one| one.error).collect();
        (kept, not)
    }

    #[test]
    fn rows_that_contradict_each_other_are_refused_unless_one_is_the_last_word() {
        let (kept, not) = refused(&[
            ("1.2", "brace", ""),
            ("1.3", "fusion", ""),
            (" 1.2", "vbt", ""),
        ]);
        assert_eq!(kept, ["fusion"]);
        assert_eq!(not.len(), 2);
        assert!(not[0].starts_with("lines 2, 4 of the list"), "{}", not[0]);

        let days = [("1.2", "vbt", "2026-11-23"), ("1.2", "brace", "2026-11-22")];
        let (kept, not) = refused(&days);
        assert_eq!((kept, not.len()), (vec!["vbt".to_owned()], 1));
        let same_day = [("1.2", "vbt", "2026-11-23"), ("1.2", "brace", "2026-11-23")];
        assert_eq!(refused(&same_day).1.len(), 2);
        let one_without = [("1.2", "vbt", "2026-11-23"), ("1.2", "brace", "")];
        assert_eq!(refused(&one_without).1.len(), 2);
    }

    #[test]
    fn rows_that_say_the_same_twice_contradict_nobody() {
        let (kept, not) = refused(&[
            ("1.2", "brace", ""),
            ("1.2", " brace", ""),
            ("1.3", "", ""),
            ("1.3", "neither", ""),
        ]);
        assert_eq!((kept.len(), not.len()), (4, 0));
    }
}
