//! `report.html`: one self-contained page. No script, no request; light or dark as the reader's system is; prints.
//!
//! Every text that comes from outside goes through [`Html::cell`] or [`Html::text`], which escape it.

use std::fmt::Write as _;

use super::{
    Course, JudgedSet, Known, Mistake, NO_GUARANTEE, Report, counts, dash, interval, percent,
    with_interval,
};
use crate::contact_sheet::{base64, escape};
use crate::retrain::judging::compare::{self, Comparison, Paired};
use crate::retrain::judging::figures::{Breakdown, Judgement};
use crate::retrain::judging::intervals::Proportion;
use crate::retrain::judging::outside::{Distance, Outside};
use crate::retrain::judging::promise;
use crate::retrain::judging::svg::{Axis, Mark, Plot};

const STYLE: &str = include_str!("report.css");

/// Over what is said about the bundle in use.
const BESIDE: &str = "Beside the bundle in use";

/// The page being written.
#[derive(Default)]
struct Html(String);

/// A table's cell.
enum Cell {
    /// Words.
    Text(String),
    /// A number, flush right.
    Number(String),
    /// A proportion with its interval below it.
    Proportion(Option<Proportion>),
    /// A count, shaded by its part of the row; the diagonal is good, the rest is not.
    Shaded { count: u64, part: f64, right: bool },
}

impl Html {
    /// An element with text in it; `element` may carry attributes.
    fn text(&mut self, element: &str, text: &str) {
        let name = element.split(' ').next().unwrap_or(element);
        let _ = writeln!(self.0, "<{element}>{}</{name}>", escape(text));
    }

    fn section(&mut self, title: &str) {
        self.0.push_str(
            "</section>
<section>",
        );
        self.text("h2", title);
    }

    fn cell(&mut self, cell: &Cell) {
        let _ = match cell {
            Cell::Text(text) => write!(self.0, "<td>{}</td>", escape(text)),
            Cell::Number(text) => write!(self.0, "<td class=\"n\">{}</td>", escape(text)),
            Cell::Proportion(None) => write!(self.0, "<td class=\"n\">{}</td>", dash()),
            Cell::Proportion(Some(p)) => write!(
                self.0,
                "<td class=\"n\" title=\"{}\">{}<small>{}</small></td>",
                counts(p),
                percent(p.estimate),
                interval(p)
            ),
            Cell::Shaded { count: 0, .. } => write!(self.0, "<td class=\"m\">·</td>"),
            Cell::Shaded { count, part, right } => write!(
                self.0,
                "<td class=\"m {}\" style=\"--part:{:.0}%\">{count}</td>",
                if *right { "right" } else { "wrong" },
                15.0 + 60.0 * part
            ),
        };
    }

    /// A table that scrolls by itself where it is wider than the page. Headers are flush right over numbers.
    fn table(&mut self, class: &str, caption: &str, headers: &[&str], rows: &[Vec<Cell>]) {
        let _ = write!(self.0, "<div class=\"scroll\"><table class=\"{class}\">");
        if !caption.is_empty() {
            self.text("caption", caption);
        }
        if !headers.is_empty() {
            self.head(headers, rows.first());
        }
        self.0.push_str("<tbody>\n");
        for row in rows {
            self.0.push_str("<tr>");
            row.iter().for_each(|cell| self.cell(cell));
            self.0.push_str("</tr>\n");
        }
        self.0.push_str("</tbody></table></div>\n");
    }

    fn head(&mut self, headers: &[&str], row: Option<&Vec<Cell>>) {
        self.0.push_str("<thead><tr>");
        for (column, header) in headers.iter().enumerate() {
            let words = row
                .and_then(|row| row.get(column))
                .is_none_or(|cell| matches!(cell, Cell::Text(_)));
            let class = if words { "" } else { " class=\"n\"" };
            let _ = write!(self.0, "<th{class}>{}</th>", escape(header));
        }
        self.0.push_str("</tr></thead>");
    }

    fn pairs(&mut self, caption: &str, pairs: &[(String, String)]) {
        let rows: Vec<Vec<Cell>> = pairs
            .iter()
            .map(|(name, value)| vec![Cell::Text(name.clone()), Cell::Text(value.clone())])
            .collect();
        self.table("pairs", caption, &[], &rows);
    }

    fn plot(&mut self, title: &str, plot: &Plot) {
        let _ = writeln!(
            self.0,
            "<figure class=\"chart\"><figcaption>{}</figcaption>{}</figure>",
            escape(title),
            plot.svg()
        );
    }
}

/// The page. `mistakes`: the worst ones with their pictures, see [`worst`](super::worst).
pub fn page(report: &Report, mistakes: &[Mistake]) -> String {
    let mut html = Html::default();
    let title = escape(&report.title);
    let _ = writeln!(
        html.0,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline';img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<main><header><h1>{title}</h1><p>{}</p></header>\n<section>",
        escape(&report.made)
    );
    summary(&mut html, report);
    for set in &report.judged {
        judged(&mut html, report, set);
    }
    if let Some(false_reviews) = report.false_reviews_in_words() {
        html.section("Images unlike any seen");
        html.text("p", &false_reviews);
    }
    outside(&mut html, report);
    if let Some(comparison) = &report.comparison {
        compared(&mut html, report, comparison);
    }
    shortcuts(&mut html, report);
    training(&mut html, &report.training);
    data(&mut html, report);
    if !mistakes.is_empty() {
        sheet(&mut html, report, mistakes);
    }
    if !report.hyperparameters.is_empty() || !report.digests.is_empty() {
        html.section("How it was made");
        for (caption, pairs) in [
            ("Settings", &report.hyperparameters),
            ("Digests", &report.digests),
        ] {
            if !pairs.is_empty() {
                html.pairs(caption, pairs);
            }
        }
    }
    html.0.push_str("</section></main>\n</html>\n");
    html.0
}

fn summary(html: &mut Html, report: &Report) {
    html.0.push_str("<div class=\"tiles\">");
    for fact in report.headline() {
        let _ = writeln!(
            html.0,
            "<div class=\"tile\"><span>{}</span><b>{}</b><small>{}</small></div>",
            escape(fact.label),
            escape(&fact.value),
            escape(&fact.detail)
        );
    }
    html.0.push_str("</div>\n");
    if let Some(known) = report.known.as_ref().and_then(Known::in_words) {
        note(html, "Not all of these images are new", false, &[known]);
    }
    let promise = report.promise_in_words();
    let kept = !promise.starts_with(NO_GUARANTEE);
    let mut lines = vec![promise];
    lines.extend(report.uncertified_in_words());
    note(html, "Promise", kept, &lines);
    if let Some(comparison) = &report.comparison {
        let better = comparison.verdict == compare::Verdict::Better;
        let mut lines = vec![verdict(report, comparison).to_owned()];
        lines.extend(comparison.reasons.iter().cloned());
        note(html, BESIDE, better, &lines);
    }
    if let Some(overtaken) = report.overtaken_in_words() {
        note(html, "Another bundle is in use now", false, &[overtaken]);
    }
    if let Some(why) = &report.not_compared {
        note(html, BESIDE, false, std::slice::from_ref(why));
    }
}

fn note(html: &mut Html, title: &str, good: bool, lines: &[String]) {
    let class = if good { "good" } else { "bad" };
    let _ = writeln!(html.0, "<div class=\"note {class}\">");
    html.text("h3", title);
    lines.iter().for_each(|line| html.text("p", line));
    html.0.push_str("</div>\n");
}

/// The verdict of a comparison, in a sentence.
pub(super) fn verdict(report: &Report, comparison: &Comparison) -> &'static str {
    match (comparison.verdict, &report.in_use_since) {
        (compare::Verdict::Better, None) => "Better: it may take the place of the bundle in use.",
        (compare::Verdict::Better, Some(_)) => "Better than what was in use when this began.",
        (compare::Verdict::NotBetter, _) => "Not better: the bundle in use stays.",
        (compare::Verdict::Blocked, _) => "Blocked: the bundle in use stays.",
    }
}

fn judged(html: &mut Html, report: &Report, set: &JudgedSet) {
    let JudgedSet { name, judgement } = set;
    html.section(&format!("Judged on the {name} set"));
    let rows: Vec<Vec<Cell>> = judgement
        .categories
        .iter()
        .map(|category| {
            let f1 = category.f1.map_or_else(dash, |f1| format!("{f1:.3}"));
            let f1_interval = category.f1_interval.map_or_else(dash, |interval| {
                format!("{:.3}–{:.3}", interval.low, interval.high)
            });
            let images = category.recall.map_or(0, |recall| recall.whole);
            vec![
                Cell::Text(report.name(&category.category)),
                Cell::Number(images.to_string()),
                Cell::Proportion(category.precision),
                Cell::Proportion(category.recall),
                Cell::Number(f1),
                Cell::Number(f1_interval),
            ]
        })
        .collect();
    let headers = [
        "category",
        "images",
        "precision",
        "recall",
        "F1",
        "F1, 95 %",
    ];
    html.table(
        "",
        "Each category, with Wilson 95 % intervals",
        &headers,
        &rows,
    );
    confusion(html, report, judgement);
    html.0.push_str("<div class=\"charts\">");
    html.plot("Can its confidence be believed?", &reliability(judgement));
    html.plot("Errors against coverage", &coverage(report, judgement));
    html.0.push_str("</div>\n");
    if !judgement.not_filed.is_empty() {
        let rows: Vec<Vec<Cell>> = judgement
            .not_filed
            .iter()
            .map(|(reason, count)| {
                vec![Cell::Text(reason.clone()), Cell::Number(count.to_string())]
            })
            .collect();
        html.table("", "Left to a person", &["reason", "images"], &rows);
    }
    for breakdown in &judgement.breakdowns {
        broken_down(html, breakdown);
    }
}

/// Truth in rows, likeliest category in columns; columns are numbered, because names do not fit above them.
fn confusion(html: &mut Html, report: &Report, judgement: &Judgement) {
    let counts = judgement.confusion.counts();
    let last = judgement.categories.len();
    let mut headers = vec!["truth".to_owned(), String::new()];
    headers.extend((1..=last).map(|k| k.to_string()));
    headers.push("none".to_owned());
    let rows: Vec<Vec<Cell>> = counts
        .iter()
        .enumerate()
        .filter(|(k, row)| *k < last || row.iter().any(|count| *count > 0))
        .map(|(truth, row)| {
            let class = judgement.categories.get(truth).map(|c| &c.category);
            let number = if truth < last {
                (truth + 1).to_string()
            } else {
                String::new()
            };
            let whole = row.iter().sum::<u64>().max(1) as f64;
            let shaded = row.iter().enumerate().map(|(k, count)| Cell::Shaded {
                count: *count,
                part: *count as f64 / whole,
                right: k == truth,
            });
            [Cell::Text(report.class_name(class)), Cell::Number(number)]
                .into_iter()
                .chain(shaded)
                .collect()
        })
        .collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    html.table(
        "confusion",
        "Confusion matrix: what is true (rows) and what is likeliest (columns)",
        &headers,
        &rows,
    );
}

fn reliability(judgement: &Judgement) -> Plot {
    let points = &judgement.calibration.points;
    let values = points
        .iter()
        .flat_map(|point| [point.confidence, point.right.low]);
    let axis = |label| Axis::around(label, values.clone().chain([1.0]), [0.0, 1.0], true);
    let (x, y) = (axis("mean confidence"), axis("right"));
    let diagonal = vec![(x.low, y.low), (1.0, 1.0)];
    let whiskers = points
        .iter()
        .map(|p| (p.confidence, p.right.estimate, [p.right.low, p.right.high]));
    Plot {
        title: "Reliability diagram".into(),
        marks: vec![
            Mark::Guide(diagonal, String::new()),
            Mark::Whiskers(whiskers.collect()),
        ],
        x,
        y,
    }
}

fn coverage(report: &Report, judgement: &Judgement) -> Plot {
    let curve = &judgement.coverage_curve;
    let points: Vec<(f64, f64)> = curve.iter().map(|p| (p.coverage, p.error)).collect();
    let target = report.promise.as_ref().map(|promise| promise.target);
    let errors = points.iter().map(|(_, error)| *error).chain(target);
    let x = Axis::around("filed automatically", [0.0, 1.0], [0.0, 1.0], true);
    let y = Axis::around(
        "wrong among those filed",
        errors.chain([0.0, 0.001]),
        [0.0, 1.0],
        true,
    );
    let mut marks = Vec::new();
    if let Some(target) = target {
        let line = vec![(0.0, target), (1.0, target)];
        marks.push(Mark::Guide(line, format!("target {}", percent(target))));
    }
    if let Some(now) = judgement.coverage {
        let line = vec![(now.estimate, y.low), (now.estimate, y.high)];
        marks.push(Mark::Guide(line, "as decided".into()));
    }
    marks.push(Mark::Line(points));
    Plot {
        title: "Coverage against error".into(),
        x,
        y,
        marks,
    }
}

fn broken_down(html: &mut Html, breakdown: &Breakdown) {
    let rows: Vec<Vec<Cell>> = breakdown
        .groups
        .iter()
        .map(|group| {
            let value = group.value.clone().unwrap_or_else(|| "not told".into());
            vec![
                Cell::Text(value),
                Cell::Number(group.images.to_string()),
                Cell::Proportion(group.accuracy),
                Cell::Proportion(group.filed_rightly),
                Cell::Proportion(group.coverage),
            ]
        })
        .collect();
    let headers = [
        breakdown.by,
        "images",
        "accuracy",
        "right among those filed",
        "filed automatically",
    ];
    html.table("", &format!("By {}", breakdown.by), &headers, &rows);
}

fn compared(html: &mut Html, report: &Report, comparison: &Comparison) {
    html.section(BESIDE);
    html.text(
        "p",
        &format!(
            "Candidate {} and {} on the same images: golden set version {}, looked at {} times so far. A class with fewer \
             than {} images tolerates no net new error; in a larger one the error rate may have grown by at most {} \
             (one-sided 95 % bound of the paired difference).",
            comparison.candidate,
            comparison.in_use,
            comparison.golden.version,
            comparison.golden.looks,
            compare::SMALL_CLASS,
            percent(compare::MARGIN)
        ),
    );
    let row = |name: String, paired: &Paired| {
        vec![
            Cell::Text(name),
            Cell::Number(paired.images.to_string()),
            Cell::Number(paired.of_candidate().to_string()),
            Cell::Number(paired.of_bundle_in_use().to_string()),
            Cell::Number(paired.new.to_string()),
            Cell::Number(paired.mended.to_string()),
            Cell::Number(percent(paired.worse_by_at_most)),
            Cell::Number(
                compare::p_value(paired.p)
                    .trim_start_matches("= ")
                    .to_owned(),
            ),
        ]
    };
    let headers = [
        "class",
        "images",
        "candidate",
        "in use",
        "new",
        "mended",
        "worse by at most",
        "McNemar p",
    ];
    type Kind = fn(&compare::Errors) -> &Paired;
    let kinds: [(&str, Kind); 2] = [
        ("Named wrongly", |errors| &errors.wrong),
        ("Misfiled", |errors| &errors.misfiled),
    ];
    for (caption, kind) in kinds {
        let classes = comparison
            .classes
            .iter()
            .map(|class| row(report.class_name(class.class.as_ref()), kind(&class.errors)));
        let rows: Vec<Vec<Cell>> = classes
            .chain([row("all".into(), kind(&comparison.all))])
            .collect();
        html.table("total", caption, &headers, &rows);
    }
    html.text(
        "p",
        &format!(
            "Filed automatically: {} with the candidate, {} with the bundle in use.",
            with_interval(comparison.candidate_coverage),
            with_interval(comparison.in_use_coverage)
        ),
    );
}

fn outside(html: &mut Html, report: &Report) {
    if report.outside.is_empty() {
        return;
    }
    html.section("Images that belong under no category");
    html.text(
        "p",
        "Nothing was fitted on them. Kept back: not filed, for whatever reason. Recognised: sent to review as \
         out-of-scope or out-of-distribution, not merely as unsure.",
    );
    let row = |set: &Outside| {
        let reasons: Vec<String> = set
            .reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        vec![
            Cell::Text(set.name.clone()),
            Cell::Proportion(set.kept_back),
            Cell::Proportion(set.recognised),
            Cell::Text(reasons.join(", ")),
        ]
    };
    let headers = ["images", "kept back", "recognised", "why"];
    for (distance, caption) in [
        (Distance::Near, "Near: radiographs of something else"),
        (Distance::Far, "Far: no radiographs"),
    ] {
        let sets = report.outside.iter();
        let rows: Vec<Vec<Cell>> = sets
            .filter(|set| set.distance == distance)
            .map(row)
            .collect();
        if !rows.is_empty() {
            html.table("", caption, &headers, &rows);
        }
    }
}

fn shortcuts(html: &mut Html, report: &Report) {
    let Some(found) = &report.shortcuts else {
        return;
    };
    html.section("Without looking at the picture");
    let said = if found.suspicious {
        "Header and borders alone tell more than guessing does. The model may be using them: look at the breakdowns, and \
         at images whose header does not fit their category."
    } else {
        "Header and borders alone tell no more than guessing does."
    };
    html.text("p", said);
    let rows: Vec<Vec<Cell>> = [
        ("the model", found.model),
        ("header and borders alone", found.baseline),
        ("always the commonest category", found.guessing),
    ]
    .into_iter()
    .map(|(name, proportion)| vec![Cell::Text(name.into()), Cell::Proportion(Some(proportion))])
    .collect();
    html.table("", "", &["told by", "right"], &rows);
}

fn training(html: &mut Html, courses: &[Course]) {
    if courses.is_empty() {
        return;
    }
    html.section("Training");
    for course in courses {
        html.0.push_str("<div class=\"charts\">");
        let plot = |what: &str, value: fn(&super::Epoch) -> f64, bounds, is_percent| {
            let points: Vec<(f64, f64)> = course
                .epochs
                .iter()
                .map(|epoch| (f64::from(epoch.epoch), value(epoch)))
                .collect();
            let x = Axis::around("epoch", points.iter().map(|p| p.0), [0.0, 1e9], false);
            let y = Axis::around(what, points.iter().map(|p| p.1), bounds, is_percent);
            Plot {
                title: format!("{}: {what}", course.classifier),
                x,
                y,
                marks: vec![Mark::Line(points)],
            }
        };
        let loss = plot("training loss", |epoch| epoch.loss, [0.0, 1e9], false);
        let accuracy = plot(
            "validation accuracy",
            |epoch| epoch.validation_accuracy,
            [0.0, 1.0],
            true,
        );
        html.plot(&format!("{}, loss", course.classifier), &loss);
        html.plot(&format!("{}, accuracy", course.classifier), &accuracy);
        html.0.push_str("</div>\n");
    }
}

fn data(html: &mut Html, report: &Report) {
    html.section("Images");
    let sets = &report.data.sets;
    let mut headers = vec![""];
    headers.extend(sets.iter().map(|set| set.name.as_str()));
    let row = |name: String, count: &dyn Fn(&super::SetCount) -> u64| -> Vec<Cell> {
        let counts = sets.iter().map(|set| Cell::Number(count(set).to_string()));
        std::iter::once(Cell::Text(name)).chain(counts).collect()
    };
    let mut rows = vec![
        row("images".into(), &|set| set.images),
        row("patients".into(), &|set| set.patients),
    ];
    let mut ids: Vec<&String> = sets.iter().flat_map(|set| set.categories.keys()).collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        let name = report
            .names
            .iter()
            .find(|(known, _)| known.as_str() == id)
            .map_or_else(|| id.clone(), |(_, name)| name.clone());
        rows.push(row(name, &|set| {
            set.categories.get(id).copied().unwrap_or(0)
        }));
    }
    html.table("", "", &headers, &rows);
    let left_out = |pairs: &mut dyn Iterator<Item = (String, u64)>| -> Vec<Vec<Cell>> {
        pairs
            .map(|(why, count)| vec![Cell::Text(why), Cell::Number(count.to_string())])
            .collect()
    };
    let rows = left_out(&mut report.data.left_out.iter().cloned());
    if rows.is_empty() {
        html.text("p", "Nothing was left out.");
    } else {
        html.table("", "Left out", &["why", "images"], &rows);
    }
    if let Some(promise::Promise { left_out: not, .. }) = &report.promise
        && !not.is_empty()
    {
        let rows = left_out(&mut not.iter().map(|(why, count)| ((*why).to_owned(), *count)));
        html.table(
            "",
            "Cannot count for the promise",
            &["why", "images"],
            &rows,
        );
    }
}

fn sheet(html: &mut Html, report: &Report, mistakes: &[Mistake]) {
    html.section("The worst mistakes");
    html.text(
        "p",
        "Misfiled images first (marked), then what a person was shown with a wrong name; the surest first.",
    );
    html.0.push_str("<div class=\"sheet\">");
    for mistake in mistakes {
        let class = if mistake.filed {
            " class=\"marked\""
        } else {
            ""
        };
        let picture = mistake
            .thumbnail
            .as_ref()
            .and_then(super::Thumbnail::png)
            .map_or_else(
                || "no picture".to_owned(),
                |png| {
                    let data = base64(&png);
                    format!("<img alt=\"\" src=\"data:image/png;base64,{data}\">")
                },
            );
        let named = mistake.named.as_ref().map_or_else(
            || "no category".to_owned(),
            |category| report.name(category),
        );
        let _ = writeln!(
            html.0,
            "<figure{class}><div class=\"picture\">{picture}</div><figcaption><b>{}</b>\
             <span>is {}</span><small>{} · {}</small></figcaption></figure>",
            escape(&named),
            escape(&report.class_name(mistake.truth.as_ref())),
            percent(f64::from(mistake.confidence)),
            escape(&mistake.image.0)
        );
    }
    html.0.push_str("</div>\n");
}
