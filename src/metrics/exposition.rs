//! Prometheus's text format, version 0.0.4: what every Prometheus, node_exporter's text files and most agents read.
//!
//! The client library writes OpenMetrics, which names a counter's family without `_total`; [`classic`] gives the family
//! the name that its samples have, as the older format wants it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Labels, Metrics};
use crate::control::status::{Status, WatchState, WatchStatus};

/// What HTTP calls this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Value = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Everything: what was counted, and how things stand.
pub fn text(metrics: &Metrics, status: &Status) -> String {
    let mut text = String::new();
    for registry in [&metrics.registry, &standing(status, &metrics.site)] {
        // Writing to a String does not fail.
        let _ = encode_registry(&mut text, registry);
    }
    classic(&text)
}

/// How things stand now.
fn standing(status: &Status, site: &str) -> Registry {
    let mut registry = super::registry(site);
    service(&mut registry, status);
    watches(&mut registry, status);
    disks(&mut registry, status);
    registry
}

fn service(registry: &mut Registry, status: &Status) {
    let version = vec![("version", status.version.clone())];
    gauge(
        registry,
        "build_info",
        "The program's version",
        [(version, 1.0)],
    );
    single(
        registry,
        "start_time_seconds",
        "When the service became ready, seconds since the Unix epoch",
        seconds(status.up_since_us),
    );
    // By its age is told that a service has died: its last text file stays, and looks alive otherwise.
    single(
        registry,
        "last_update_timestamp_seconds",
        "When these figures were true, seconds since the Unix epoch",
        seconds(status.now_us),
    );
    single(
        registry,
        "reload_failed",
        "1 when the last reload failed and the settings before it are in force",
        flag(status.reload_error.is_some()),
    );
    let restarts = ConstCounter::new(status.decoder_restarts);
    registry.register(
        "decoder_restarts",
        "Decoder processes that died or fell out of step and were replaced",
        restarts,
    );
    registry.register(
        "missing_files",
        "Files on record that were looked for and not found",
        ConstCounter::new(status.missing),
    );
    registry.register(
        "altered_files",
        "Filed files whose bytes were found to be no longer those that were filed",
        ConstCounter::new(status.altered),
    );
    if let Some(model) = &status.model {
        let labels = vec![
            ("model", model.name.clone()),
            ("provider", model.provider.clone()),
        ];
        gauge(
            registry,
            "model_info",
            "The model that classifies, with its version, and the ONNX Runtime provider that runs it",
            [(labels, 1.0)],
        );
        single(
            registry,
            "gpu_refused",
            "1 when a GPU is wanted and the model runs on the CPU",
            flag(model.gpu_refused.is_some()),
        );
    }
    let gpu = |what: fn(&crate::control::status::GpuMemory) -> u64| {
        let labelled = move |gpu: &crate::control::status::GpuMemory| {
            (vec![("gpu", gpu.number.to_string())], what(gpu) as f64)
        };
        status.gpus.iter().map(labelled).collect::<Vec<_>>()
    };
    gauge(
        registry,
        "gpu_memory_used_bytes",
        "Memory in use on the GPU, by everybody",
        gpu(|gpu| gpu.used),
    );
    gauge(
        registry,
        "gpu_memory_total_bytes",
        "Memory of the GPU",
        gpu(|gpu| gpu.total),
    );
    let fates = status.totals.iter();
    gauge(
        registry,
        "index_files",
        "Live entries of the index, by decision",
        fates.map(|(fate, count)| (vec![("decision", fate.clone())], *count as f64)),
    );
}

fn watches(registry: &mut Registry, status: &Status) {
    let states = [
        (WatchState::Online, "online"),
        (WatchState::Offline, "offline"),
        (WatchState::Held, "held"),
    ];
    let state = status.watches.iter().flat_map(|watch| {
        states.map(|(state, name)| {
            let labels = vec![("watch", watch.name.clone()), ("state", name.to_owned())];
            (labels, flag(watch.state == state))
        })
    });
    gauge(
        registry,
        "watch_state",
        "1 for the state that the drop directory is in: online, offline (its share is gone) or held (intake is paused)",
        state,
    );
    let mut each = |name, help, value: &dyn Fn(&WatchStatus) -> Option<f64>| {
        let of = |watch: &WatchStatus| Some((vec![("watch", watch.name.clone())], value(watch)?));
        gauge(registry, name, help, status.watches.iter().filter_map(of));
    };
    each(
        "waiting_files",
        "Files seen that have no fate yet, those that may not be taken among them",
        &|it| Some(it.waiting as f64),
    );
    each(
        "in_flight_files",
        "Of these, files being decoded, classified or filed",
        &|it| Some(it.in_flight as f64),
    );
    each(
        "untakeable_files",
        "Of these, files that may not be taken (no permission, a sticky directory)",
        &|it| Some(it.cannot_take as f64),
    );
    each(
        "unreadable_entries",
        "Folders, and files in them, that cannot be listed or looked at: what lies there is not seen",
        &|it| Some(it.unreadable as f64),
    );
    each(
        "given_back_files",
        "Files that were given back and not let go: not taken again until they change",
        &|it| Some(it.given_back as f64),
    );
    each(
        "oldest_waiting_seconds",
        "Age of the oldest file without a fate, 0 when none waits",
        &|it| {
            let age = it
                .oldest_waiting_us
                .map_or(0, |since| status.now_us - since);
            Some(seconds(age.max(0)))
        },
    );
    each(
        "last_scan_timestamp_seconds",
        "When the last complete scan ended, seconds since the Unix epoch",
        &|it| it.last_scan_us.map(seconds),
    );
    each(
        "review_ratio",
        "Share of the last 500 classified files that went to review, 0 to 1",
        &|it| it.review_rate,
    );
    each(
        "quarantine_ratio",
        "Share of the last 500 files that were quarantined, 0 to 1",
        &|it| it.quarantine_rate,
    );
    each(
        "score_drift",
        "Population stability index of the confidence: last 500 files against the first 500 under this model",
        &|it| it.drift,
    );
}

fn disks(registry: &mut Registry, status: &Status) {
    let labelled = |value: fn(&crate::control::status::DiskStatus) -> Option<u64>| {
        let disks = status.disks.iter();
        let of = move |disk: &crate::control::status::DiskStatus| {
            Some((vec![("disk", disk.what.clone())], value(disk)? as f64))
        };
        disks.filter_map(of).collect::<Vec<_>>()
    };
    gauge(
        registry,
        "disk_free_bytes",
        "Bytes that radsort can still write; absent while the disk does not answer",
        labelled(|disk| disk.free),
    );
    gauge(
        registry,
        "disk_size_bytes",
        "Bytes of the disk altogether",
        labelled(|disk| disk.total),
    );
}

fn gauge(
    registry: &mut Registry,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, f64)>,
) {
    let family = Family::<Labels, Value>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

fn single(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Value::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

/// From OpenMetrics to the older text format. What differs here: the family of a counter is named like its samples.
fn classic(text: &str) -> String {
    let counters: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let about = ["# HELP ", "# TYPE "].iter().find_map(|word| {
            let (name, rest) = line.strip_prefix(word)?.split_once(' ')?;
            counters.contains(name).then_some((word, name, rest))
        });
        let _ = match about {
            Some((word, name, rest)) => writeln!(classic, "{word}{name}_total {rest}"),
            None => writeln!(classic, "{line}"),
        };
    }
    classic
}
