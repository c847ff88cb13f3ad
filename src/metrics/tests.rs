//! The exposition against the format's own rules, and every figure against what happened.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::control::status::{DiskStatus, GpuMemory, ModelStatus, Status, tests::watch};
use crate::domain::Reason;
use crate::filing::record::Fate;
use crate::ingest::Took;

/// One sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text format (0.0.4), strictly: what Prometheus would refuse is refused.
fn parse(text: &str) -> Vec<Sample> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples: Vec<Sample> = Vec::new();
    assert!(text.ends_with('\n'), "the last line must end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name, kind).is_none(), "two types: {line}");
            assert!(
                !samples.iter().any(|it| it.0 == name),
                "samples before their type: {line}"
            );
        } else if line.starts_with("# HELP ") {
            assert!(!line.contains('\\'), "{line}");
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            samples.push(sample(line));
        }
    }
    for (name, ..) in &samples {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            (types.get(family) == Some(&"histogram")).then_some(family)
        });
        let kind = types
            .get(family.unwrap_or(name))
            .unwrap_or_else(|| panic!("{name} has no type"));
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
    }
    samples
}

fn sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(name_end);
    let good = |c: char| c.is_ascii_lowercase() || c == '_';
    assert!(
        name.starts_with("radsort_") && name.chars().all(good),
        "{line}"
    );
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"").unwrap();
            let (mut value, mut end, mut escaped) = (String::new(), None, false);
            for (at, c) in after.char_indices() {
                match (escaped, c) {
                    (true, 'n') => value.push('\n'),
                    (true, '\\' | '"') | (false, _) if escaped || !matches!(c, '\\' | '"') => {
                        value.push(c);
                    }
                    (false, '\\') => {}
                    (false, '"') => {
                        end = Some(at);
                        break;
                    }
                    _ => panic!("a bad escape: {line}"),
                }
                escaped = !escaped && c == '\\';
            }
            assert!(labels.insert(key.to_owned(), value).is_none(), "{line}");
            rest = &after[end.unwrap() + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = match rest.strip_prefix(' ').unwrap() {
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap(),
    };
    (name.to_owned(), labels, value)
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |sample: &&Sample| {
        sample.0 == name
            && labels
                .iter()
                .all(|(key, value)| sample.1.get(*key).map_or("", |it| it) == *value)
    };
    samples.iter().find(has).map(|sample| sample.2)
}

fn told(watch: &str, fate: Fate, reason: Option<Reason>) -> Told {
    Told {
        id: None,
        watch: watch.into(),
        fate,
        observed: false,
        sop_instance_uid: None,
        category: Some("frontal-fusion".into()),
        reason,
        detail: None,
        confidence: Some(0.9),
        model: Some("spine 1".into()),
        to: None,
        ms: 1.0,
        took: Took {
            settle: Some(Duration::from_secs(5)),
            decode: Some(Duration::from_millis(20)),
            ..Took::default()
        },
    }
}

fn open(state: &Path) -> Metrics {
    Metrics::open(state, "radsort".into())
}

fn status() -> Status {
    Status {
        version: "1.2.3".into(),
        now_us: 9_010_000_000,
        model: Some(ModelStatus {
            name: "spine 1".into(),
            provider: "cuda:0".into(),
            gpu_refused: None,
            promise: None,
        }),
        watches: vec![watch("north")],
        totals: BTreeMap::from([("filed".into(), 5)]),
        disks: vec![
            DiskStatus {
                what: "library".into(),
                free: Some(7),
                total: Some(9),
                ..DiskStatus::default()
            },
            DiskStatus {
                what: "state".into(),
                ..DiskStatus::default()
            },
        ],
        decoder_restarts: 3,
        gpus: vec![GpuMemory {
            number: 0,
            used: 1,
            total: 2,
        }],
        ..Status::default()
    }
}

/// All names that there are when every part of the service has something to say.
pub(crate) fn names() -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let metrics = open(dir.path());
    metrics.told(&told("north", Fate::Filed, None));
    metrics.retried("north", Retry::Changed);
    metrics.vanished("north");
    metrics.alerted(true);
    let mut status = status();
    status.watches[0].quarantine_rate = Some(0.0);
    status.watches[0].last_scan_us = Some(1);
    let samples = parse(&exposition::text(&metrics, &status));
    samples.into_iter().map(|sample| sample.0).collect()
}

#[test]
fn what_happened_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = open(dir.path());
    for _ in 0..2 {
        metrics.told(&told("north", Fate::Filed, None));
    }
    metrics.told(&told("north", Fate::Review, Some(Reason::LowConfidence)));
    metrics.told(&told(
        "sort-0123abcd",
        Fate::Quarantined,
        Some(Reason::Truncated),
    ));
    metrics.told(&Told {
        observed: true,
        ..told("south", Fate::Filed, None)
    });
    metrics.retried("north", Retry::Held);
    metrics.vanished("north");
    let samples = parse(&exposition::text(&metrics, &status()));
    let files = |labels: &[(&str, &str)]| value(&samples, "radsort_files_total", labels);
    assert_eq!(
        files(&[
            ("watch", "north"),
            ("decision", "filed"),
            ("category", "frontal-fusion"),
            ("reason", "")
        ]),
        Some(2.0)
    );
    assert_eq!(
        files(&[
            ("decision", "review"),
            ("category", ""),
            ("reason", "low-confidence")
        ]),
        Some(1.0)
    );
    assert_eq!(
        files(&[
            ("watch", "south"),
            ("decision", "observed"),
            ("category", "frontal-fusion"),
            ("reason", "")
        ]),
        Some(1.0),
        "nobody is told that it was filed"
    );
    assert_eq!(
        files(&[
            ("watch", "sort"),
            ("decision", "quarantined"),
            ("reason", "truncated")
        ]),
        Some(1.0)
    );
    let one = |name: &str, labels: &[(&str, &str)]| {
        value(&samples, name, labels).unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(
        one(
            "radsort_retries_total",
            &[("watch", "north"), ("reason", "held")]
        ),
        1.0
    );
    assert_eq!(
        one("radsort_vanished_files_total", &[("watch", "north")]),
        1.0
    );
    assert_eq!(
        one(
            "radsort_stage_duration_seconds_count",
            &[("stage", "settle")]
        ),
        5.0
    );
    assert_eq!(
        one("radsort_stage_duration_seconds_sum", &[("stage", "settle")]),
        25.0
    );
    assert_eq!(
        one(
            "radsort_stage_duration_seconds_count",
            &[("stage", "infer")]
        ),
        0.0
    );
    assert_eq!(
        one(
            "radsort_stage_duration_seconds_bucket",
            &[("stage", "settle"), ("le", "3.0")]
        ),
        0.0
    );
    assert_eq!(
        one(
            "radsort_stage_duration_seconds_bucket",
            &[("stage", "settle"), ("le", "10.0")]
        ),
        5.0
    );
    assert_eq!(
        one(
            "radsort_watch_state",
            &[("watch", "north"), ("state", "offline")]
        ),
        1.0
    );
    assert_eq!(
        one(
            "radsort_watch_state",
            &[("watch", "north"), ("state", "online")]
        ),
        0.0
    );
    assert_eq!(
        one("radsort_oldest_waiting_seconds", &[("watch", "north")]),
        10.0
    );
    assert_eq!(one("radsort_waiting_files", &[("watch", "north")]), 12.0);
    assert_eq!(one("radsort_disk_free_bytes", &[("disk", "library")]), 7.0);
    assert_eq!(
        value(&samples, "radsort_disk_free_bytes", &[("disk", "state")]),
        None
    );
    assert_eq!(
        one(
            "radsort_model_info",
            &[("model", "spine 1"), ("provider", "cuda:0")]
        ),
        1.0
    );
    assert_eq!(one("radsort_gpu_memory_used_bytes", &[("gpu", "0")]), 1.0);
    assert_eq!(one("radsort_decoder_restarts_total", &[]), 3.0);
    assert_eq!(one("radsort_index_files", &[("decision", "filed")]), 5.0);
    assert_eq!(one("radsort_score_drift", &[("watch", "north")]), 0.3);
    let updated = one("radsort_last_update_timestamp_seconds", &[]);
    assert_eq!(updated, 9010.0);
}

#[test]
fn series_of_two_sites_on_one_server_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let series = |config: &str| -> BTreeSet<(String, BTreeMap<String, String>)> {
        let metrics = Metrics::open(dir.path(), site_of(config.as_ref()));
        metrics.told(&told("north", Fate::Filed, None));
        let samples = parse(&exposition::text(&metrics, &status()));
        samples.into_iter().map(|it| (it.0, it.1)).collect()
    };
    let (one, other) = (
        series("/etc/radsort/radsort.toml"),
        series("/etc/radsort/ward3.toml"),
    );
    assert_eq!(one.len(), other.len());
    let both: Vec<_> = one.intersection(&other).collect();
    assert!(both.is_empty(), "node_exporter would drop {both:?}");
    assert!(other.iter().all(|(_, labels)| labels["site"] == "ward3"));
}

#[test]
fn the_recent_past_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = open(dir.path());
    for n in 0..40 {
        let (fate, reason) = if n % 4 == 0 {
            (Fate::Review, Some(Reason::LowConfidence))
        } else {
            (Fate::Filed, None)
        };
        metrics.told(&told("north", fate, reason));
    }
    assert_eq!(metrics.rates("north").review, Some(0.25));
    metrics.save().unwrap();
    assert_eq!(open(dir.path()).rates("north"), metrics.rates("north"));
    std::fs::write(dir.path().join("recent.json"), "{").unwrap();
    assert_eq!(open(dir.path()).rates("north"), Rates::default());
}

#[test]
fn categories_beyond_what_any_bundle_has_are_counted_together() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = open(dir.path());
    for n in 0..3 * MOST_CATEGORIES {
        let mut one = told("north", Fate::Filed, None);
        one.category = Some(format!("category-{n}"));
        metrics.told(&one);
    }
    let samples = parse(&exposition::text(&metrics, &Status::default()));
    let files = samples
        .iter()
        .filter(|sample| sample.0 == "radsort_files_total");
    assert_eq!(files.count(), MOST_CATEGORIES + 1);
    let rest = value(&samples, "radsort_files_total", &[("category", "(others)")]);
    assert_eq!(rest, Some(2.0 * MOST_CATEGORIES as f64));
}

#[test]
fn the_manual_names_every_metric_and_no_other() {
    let manual = include_str!("../../docs/monitoring.md");
    let listed: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `radsort_")?.split_once('`')?.0))
        .map(|name| format!("radsort_{}", name.split('{').next().unwrap()))
        .collect();
    let histogram = |name: &String| {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter()
            .find_map(|end| name.strip_suffix(end))
            .map(str::to_owned)
    };
    let there: BTreeSet<String> = names()
        .iter()
        .map(|name| histogram(name).unwrap_or(name.clone()))
        .collect();
    assert_eq!(listed, there);
}

/// Every `radsort_…` word of a text.
fn words(text: &str) -> BTreeSet<String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(part)
        .filter(|word| word.starts_with("radsort_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn dashboard_and_rules_ask_for_metrics_that_exist() {
    let there = names();
    for (what, text) in [
        (
            "the dashboard",
            include_str!("../../packaging/grafana/radsort.json"),
        ),
        (
            "the rules",
            include_str!("../../packaging/prometheus/radsort.rules.yml"),
        ),
    ] {
        let asked = words(text);
        assert!(asked.len() > 5, "{what} asks for nothing");
        let missing: Vec<_> = asked.difference(&there).collect();
        assert!(missing.is_empty(), "{what} asks for {missing:?}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../packaging/grafana/radsort.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(
            panel["title"].is_string() && panel["targets"].is_array(),
            "{panel}"
        );
    }
}

proptest! {
    #[test]
    fn any_name_of_a_drop_directory_is_a_label_that_reads_back(name in "[^/\\p{Cc}]{1,64}|[\"\\\\n{}=, ]{1,20}") {
        let dir = tempfile::tempdir().unwrap();
        let metrics = open(dir.path());
        metrics.told(&told(&name, Fate::Filed, None));
        let mut status = status();
        status.watches[0].name = name.clone();
        let samples = parse(&exposition::text(&metrics, &status));
        prop_assert_eq!(value(&samples, "radsort_files_total", &[("watch", &name)]), Some(1.0));
        prop_assert_eq!(value(&samples, "radsort_waiting_files", &[("watch", &name)]), Some(12.0));
    }
}
