//! The report for a terminal: what matters, in tables that fit 100 columns.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{JudgedSet, Known, Report, html, percent, with_interval};

/// The columns that a terminal is trusted to have.
const WIDTH: u16 = 100;

/// The report in plain text; no line is longer than 100 columns.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    paragraph(&mut text, &one_line(&report.title));
    for fact in report.headline() {
        let _ = writeln!(
            text,
            "  {:<24} {:>9}  {}",
            fact.label,
            one_line(&fact.value),
            fact.detail
        );
    }
    text.push('\n');
    if let Some(known) = report.known.as_ref().and_then(Known::in_words) {
        paragraph(&mut text, &known);
    }
    paragraph(&mut text, &report.promise_in_words());
    if let Some(uncertified) = report.uncertified_in_words() {
        paragraph(&mut text, &uncertified);
    }
    for set in &report.judged {
        judged(&mut text, report, set);
    }
    if let Some(false_reviews) = report.false_reviews_in_words() {
        paragraph(&mut text, &false_reviews);
    }
    for set in &report.outside {
        let line = format!(
            "Of no category, {}: {}: kept back {}, recognised as such {}.",
            set.distance.word(),
            one_line(&set.name),
            with_interval(set.kept_back),
            with_interval(set.recognised)
        );
        paragraph(&mut text, &line);
    }
    if let Some(overtaken) = report.overtaken_in_words() {
        paragraph(&mut text, &overtaken);
    }
    if let Some(comparison) = &report.comparison {
        let names = format!(
            "Candidate {} beside {}: {}",
            comparison.candidate,
            comparison.in_use,
            html::verdict(report, comparison)
        );
        paragraph(&mut text, &names);
        comparison
            .reasons
            .iter()
            .for_each(|reason| paragraph(&mut text, reason));
        let golden = &comparison.golden;
        let golden = format!(
            "Golden set version {}, looked at {} times so far.",
            golden.version, golden.looks
        );
        paragraph(&mut text, &golden);
    }
    if let Some(why) = &report.not_compared {
        paragraph(&mut text, why);
    }
    if let Some(found) = &report.shortcuts {
        let line = format!(
            "Header and borders alone: {} right; always the commonest category: {}; the model: {}.",
            percent(found.baseline.estimate),
            percent(found.guessing.estimate),
            percent(found.model.estimate)
        );
        paragraph(&mut text, &line);
    }
    text
}

fn judged(text: &mut String, report: &Report, set: &JudgedSet) {
    let mut categories = table(&["category", "images", "precision", "recall", "F1"]);
    for category in &set.judgement.categories {
        categories.add_row([
            one_line(&report.name(&category.category)),
            category.recall.map_or(0, |recall| recall.whole).to_string(),
            with_interval(category.precision),
            with_interval(category.recall),
            category
                .f1
                .map_or_else(super::dash, |f1| format!("{f1:.3}")),
        ]);
    }
    for column in [1, 4] {
        if let Some(column) = categories.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let _ = writeln!(text, "{}:\n{categories}\n", one_line(&set.name));
    for breakdown in &set.judgement.breakdowns {
        let mut groups = table(&[breakdown.by, "images", "accuracy", "filed automatically"]);
        for group in &breakdown.groups {
            let value = group.value.as_deref().unwrap_or("not told");
            groups.add_row([
                one_line(value),
                group.images.to_string(),
                with_interval(group.accuracy),
                with_interval(group.coverage),
            ]);
        }
        let _ = writeln!(text, "{groups}\n");
    }
}

fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(headers.iter().copied());
    table
}

/// Control characters could move a terminal's cursor or colour its text.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Words in lines of at most 100 columns, then an empty line.
fn paragraph(text: &mut String, words: &str) {
    let mut column = 0;
    for word in one_line(words).split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > usize::from(WIDTH) {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push_str("\n\n");
}
