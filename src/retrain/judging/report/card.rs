//! The model card of a bundle (after Mitchell et al. 2019): what it is for, what it was made from, how good it is, and what
//! it must not be trusted with.

use std::fmt::Write as _;

use super::{Report, html, percent, with_interval};

/// The card's name in a bundle's folder.
pub const CARD_FILE: &str = "model-card.md";

/// What the bundle says about itself.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Name and version.
    pub model: String,
    /// What it is for, and what not.
    pub intended_use: String,
    /// The licence of the weights.
    pub licence: String,
    /// Where it comes from.
    pub provenance: String,
}

/// The card, as Markdown.
pub fn model_card(card: &Card, report: &Report) -> String {
    let mut text = format!("# {}\n\n", plain(&card.model));
    for (title, words) in [
        ("Intended use", &card.intended_use),
        ("Provenance", &card.provenance),
        ("Licence", &card.licence),
    ] {
        let _ = writeln!(text, "**{title}.** {}\n", plain(words));
    }
    text.push_str(&promise(report));
    for set in &report.judged {
        let judgement = &set.judgement;
        let _ = writeln!(
            text,
            "## On the {} set\n\n{} images of {} patients. Accuracy {}; right among those filed automatically {}; filed \
             automatically {}; calibration error {}. Intervals are Wilson's, 95 %.\n",
            plain(&set.name),
            judgement.images,
            judgement.patients,
            with_interval(judgement.accuracy),
            with_interval(judgement.filed_rightly),
            with_interval(judgement.coverage),
            judgement
                .calibration
                .error
                .map_or_else(super::dash, percent)
        );
        text.push_str("| category | images | precision | recall |\n|---|--:|--:|--:|\n");
        for category in &judgement.categories {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                plain(&report.name(&category.category)),
                category.recall.map_or(0, |recall| recall.whole),
                with_interval(category.precision),
                with_interval(category.recall)
            );
        }
        text.push('\n');
    }
    if let Some(false_reviews) = report.false_reviews_in_words() {
        let _ = writeln!(
            text,
            "## Images unlike any seen\n\n{}\n",
            plain(&false_reviews)
        );
    }
    if !report.data.sets.is_empty() {
        text.push_str("## Images\n\n| set | images | patients |\n|---|--:|--:|\n");
        for set in &report.data.sets {
            let name = plain(&set.name);
            let _ = writeln!(text, "| {name} | {} | {} |", set.images, set.patients);
        }
        text.push('\n');
    }
    if let Some(overtaken) = report.overtaken_in_words() {
        let _ = writeln!(
            text,
            "## Another bundle is in use now\n\n{}\n",
            plain(&overtaken)
        );
    }
    if let Some(comparison) = &report.comparison {
        let _ = writeln!(
            text,
            "## Beside {}\n\n{}",
            plain(&comparison.in_use),
            html::verdict(report, comparison)
        );
        for reason in &comparison.reasons {
            let _ = writeln!(text, "- {}", plain(reason));
        }
        let golden = &comparison.golden;
        let _ = writeln!(
            text,
            "- Golden set version {}, looked at {} times.\n",
            plain(&golden.version),
            golden.looks
        );
    }
    if let Some(why) = &report.not_compared {
        let _ = writeln!(text, "## Beside the bundle in use\n\n{}\n", plain(why));
    }
    if !report.digests.is_empty() {
        text.push_str("## Digests\n\n");
        for (name, digest) in &report.digests {
            let _ = writeln!(text, "- {}: {}", plain(name), plain(digest));
        }
    }
    text
}

const PROMISE: &str = "## What may be promised\n";

fn promise(report: &Report) -> String {
    let mut text = format!("{PROMISE}\n{}\n\n", plain(&report.promise_in_words()));
    if let Some(uncertified) = report.uncertified_in_words() {
        let _ = writeln!(text, "{}\n", plain(&uncertified));
    }
    text
}

/// A card under another name and with another promise; all else stays as it was.
pub fn promised_anew(card: &str, model: &str, report: &Report) -> String {
    let body = card.split_once('\n').map_or("", |(_, body)| body);
    let (before, after) = body.split_once(PROMISE).unwrap_or((body, ""));
    let after = after.find("\n## ").map_or("", |start| &after[start + 1..]);
    format!("# {}\n{before}{}{after}", plain(model), promise(report))
}

/// Text in one line that Markdown takes as it is.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => plain.push_str("&lt;"),
            '&' => plain.push_str("&amp;"),
            '|' | '[' | ']' | '*' | '`' | '\\' | '#' => plain.extend(['\\', c]),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}
