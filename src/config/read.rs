//! From the merged tree to [`Settings`]: every key with its range and default, and what must not contradict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fragment::{Located, Node, Problems, Section};
use super::library;
use super::monitoring;
use super::overlap::{self, Named, Places};
#[allow(clippy::wildcard_imports)]
use super::settings::*;
use super::units::{self, DAY, SECOND};
use super::watches::{Watch, same_names, watch};
use crate::domain::CategoryId;
use crate::domain::decision::ViewThresholds;

/// Every key of every section, to say where a misplaced one belongs. `[review.categories]` is free.
pub const KEYS: &[(&str, &[&str])] = &[
    (
        "[[watch]]",
        &[
            "path",
            "name",
            "recursive",
            "settle",
            "truncated",
            "mode",
            "poll-interval",
            "ignore",
            "action",
            "trusted",
            "non-dicom",
            "executables",
            "max-size",
            "other",
            "media",
            "max-rate",
        ],
    ),
    (
        "[library]",
        &["path", "template", "file-mode", "directory-mode"],
    ),
    ("[quarantine]", &["path"]),
    ("[duplicates]", &["path"]),
    (
        "[review]",
        &[
            "below",
            "view-sure",
            "view-margin",
            "may-loosen",
            "uncertified",
            "categories",
        ],
    ),
    ("[model]", &["bundle"]),
    (
        "[runtime]",
        &["library", "device", "gpu", "threads", "batch", "batch-wait"],
    ),
    (
        "[decoders]",
        &[
            "count",
            "memory",
            "cpu-time",
            "wall-time",
            "permits-per-watch",
        ],
    ),
    ("[state]", &["path"]),
    ("[control]", &["socket"]),
    ("[log]", &["level", "target", "identifiers"]),
    ("[metrics]", &["textfile", "interval", "socket", "listen"]),
    (
        "[alert]",
        &[
            "command",
            "timeout",
            "every",
            "review-rate",
            "quarantine-rate",
            "drift",
            "waiting",
            "disk-below",
        ],
    ),
];

/// Reads everything. `None` when something needed is missing; the problems say what.
pub fn settings(source: &Path, tree: Node, problems: &Problems) -> Option<Settings> {
    let mut top = Section::top(tree, problems);
    let watches: Vec<_> = top.sections("watch").into_iter().map(watch).collect();
    let library = top.section("library", "[library]");
    let quarantine = top.section("quarantine", "[quarantine]");
    let duplicates = top.section("duplicates", "[duplicates]");
    let library = library::library(library, quarantine, duplicates);
    let review = review(top.section("review", "[review]"));
    let model = model(top.section("model", "[model]"));
    let runtime = runtime(top.section("runtime", "[runtime]"));
    let decoders = decoders(top.section("decoders", "[decoders]"));
    let state = state(top.section("state", "[state]"));
    let control = control(source, top.section("control", "[control]"), state.as_ref());
    let log = log(top.section("log", "[log]"));
    let metrics = monitoring::metrics(top.section("metrics", "[metrics]"), control.as_ref());
    let alert = monitoring::alert(top.section("alert", "[alert]"));
    if watches.is_empty() {
        problems.add(
            &top.place,
            "there is no drop directory: add a [[watch]] section with a path",
        );
    }
    finish(top);

    same_names(watches.iter().flatten(), problems);
    if let (Some(library), Some(state)) = (&library, &state) {
        let watch = |watch: &Watch| {
            Named::new(
                format!("the drop directory {:?}", watch.settings.name),
                &watch.path,
            )
        };
        let places = Places {
            watches: watches.iter().flatten().map(watch).collect(),
            library: Named::new("the library", &library.path),
            quarantine: Named::new("the quarantine", &library.quarantine),
            duplicates: Named::new("the duplicates", &library.duplicates),
            state: Named::new("the state directory", state),
            ours: [
                ("the control socket", control.as_ref()),
                ("the metrics socket", metrics.socket.as_ref()),
                (
                    "the directory of the metrics file",
                    metrics.textfile.as_ref(),
                ),
            ]
            .into_iter()
            .filter_map(|(what, path)| Some(Named::new(what, path?)))
            .collect(),
        };
        overlap::check(&places, problems);
    }

    Some(Settings {
        source: source.to_owned(),
        watches: watches
            .into_iter()
            .flatten()
            .map(|watch| watch.settings)
            .collect(),
        library: library?.settings,
        review,
        model,
        runtime,
        decoders,
        state: state?.value,
        control: ControlSettings {
            socket: control?.value,
        },
        log,
        metrics: metrics.into_settings(),
        alert,
    })
}

/// Where the control socket is, whatever is wrong with the rest.
pub fn socket(source: &Path, tree: Node) -> Option<PathBuf> {
    let problems = Problems::default();
    let mut top = Section::top(tree, &problems);
    let state = state(top.section("state", "[state]"));
    let control = control(source, top.section("control", "[control]"), state.as_ref());
    control.map(|socket| socket.value)
}

/// The runtime directory that systemd has made for the packaged unit of this configuration: the service is told it by its
/// environment, commands are not.
pub fn runtime_directory(source: &Path) -> Option<PathBuf> {
    let source = std::path::absolute(source).ok()?;
    let run = Path::new("/run").join(runtime_name(&source)?);
    run.is_dir().then_some(run)
}

fn runtime_name(source: &Path) -> Option<String> {
    if source.parent() != Some(Path::new("/etc/radsort")) || source.extension()? != "toml" {
        return None;
    }
    match source.file_stem()?.to_str()? {
        "radsort" => Some("radsort".to_owned()),
        name => Some(format!("radsort-{name}")),
    }
}

pub(super) fn finish(section: Section<'_>) {
    let elsewhere: Vec<(&str, &str)> = KEYS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(|key| (*section, *key)))
        .collect();
    section.finish(&elsewhere);
}

fn review(mut section: Section<'_>) -> ReviewSettings {
    let mut threshold = |key| {
        if section.is_word(key, "bundle") {
            None
        } else {
            section.number(key, 0.0, 1.0)
        }
    };
    let (below, sure, margin) = (
        threshold("below"),
        threshold("view-sure"),
        threshold("view-margin"),
    );
    let may_loosen = section.boolean("may-loosen").is_some_and(|may| may.value);
    let files_uncertified = section
        .word("uncertified", &[("review", false), ("file", true)])
        .is_some_and(|file| file.value);
    let mut categories = section.section("categories", "[review.categories]");
    let mut below_by_category = Vec::new();
    for (id, threshold) in categories.numbers(0.0, 1.0) {
        match CategoryId::parse(&id.value) {
            Ok(_) => below_by_category.push((id.value, threshold as f32)),
            Err(error) => categories.note(&id.place, error.to_string()),
        }
    }
    let view = match (sure, margin) {
        (Some(sure), Some(margin)) => Some(ViewThresholds {
            sure: sure.value as f32,
            margin: margin.value as f32,
        }),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            section.note(
                &one.place,
                "view-sure and view-margin go together: give both or neither",
            );
            None
        }
    };
    finish(section);
    ReviewSettings {
        below: below.map(|below| below.value as f32),
        below_by_category,
        view,
        may_loosen,
        files_uncertified,
    }
}

fn model(mut section: Section<'_>) -> ModelSettings {
    let bundle = section.path_or_auto("bundle").map(|path| path.value);
    finish(section);
    ModelSettings { bundle }
}

fn runtime(mut section: Section<'_>) -> RuntimeSettings {
    let default = RuntimeSettings::default();
    let library = section.path_or_auto("library").map(|path| path.value);
    let device = section.parsed(
        "device",
        "\"auto\", \"cpu\", \"cuda\" or \"cuda:N\"",
        |text| match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            other => {
                let number = other
                    .strip_prefix("cuda:")
                    .and_then(|number| number.parse().ok());
                number
                    .map(Device::Cuda)
                    .ok_or_else(|| format!("there is no device {other:?}"))
            }
        },
    );
    let policies = [
        ("require", GpuPolicy::Require),
        ("prefer", GpuPolicy::Prefer),
    ];
    let gpu = section.word("gpu", &policies);
    let threads = section
        .integer("threads", 0..1025)
        .map_or(default.threads, |threads| threads.value as usize);
    let batch = section
        .integer("batch", 1..1025)
        .map_or(default.batch, |batch| batch.value as usize);
    let batch_wait = section.duration("batch-wait", Duration::ZERO..=10 * SECOND);
    let device = device.map_or(default.device, |device| device.value);
    if let Some(gpu) = gpu
        .as_ref()
        .filter(|gpu| gpu.value == GpuPolicy::Require && device == Device::Cpu)
    {
        section.note(&gpu.place, "gpu = \"require\" contradicts device = \"cpu\"");
    }
    finish(section);
    RuntimeSettings {
        library,
        device,
        gpu: gpu.map_or(default.gpu, |gpu| gpu.value),
        threads,
        batch,
        batch_wait: batch_wait.map_or(default.batch_wait, |wait| wait.value),
    }
}

fn decoders(mut section: Section<'_>) -> DecoderSettings {
    let default = DecoderSettings::default();
    let or_cores = |read: Option<Located<i64>>, automatic: usize| match read {
        Some(Located { value: 1.., .. }) => read.map_or(automatic, |read| read.value as usize),
        _ => automatic,
    };
    let count = or_cores(section.integer("count", 0..1025), default.count);
    let permits_per_watch = or_cores(
        section.integer("permits-per-watch", 0..4097),
        default.permits_per_watch,
    );
    let memory = section.parsed("memory", "a size such as \"512MiB\" or \"1GiB\"", |text| {
        let memory = units::size(text).ok_or_else(|| format!("{text:?} is no size"))?;
        if memory >= 64 << 20 {
            Ok(memory)
        } else {
            Err(format!(
                "{text:?} is less than 64MiB, too little for any radiograph"
            ))
        }
    });
    let cpu_time = section.duration("cpu-time", SECOND..=Duration::from_hours(1));
    let wall_time = section.duration("wall-time", SECOND..=DAY);
    let cpu = cpu_time.map_or(default.cpu_time, |time| time.value);
    // A site that allows more CPU time means more waiting, too.
    let wall = wall_time
        .as_ref()
        .map_or(default.wall_time.max(3 * cpu), |time| time.value);
    if let Some(wall_time) = wall_time.filter(|wall| wall.value < cpu) {
        section.note(
            &wall_time.place,
            format!("wall-time must not be shorter than cpu-time ({cpu:?})"),
        );
    }
    finish(section);
    DecoderSettings {
        count,
        memory: memory.map_or(default.memory, |memory| memory.value),
        cpu_time: cpu,
        wall_time: wall,
        permits_per_watch,
    }
}

fn state(mut section: Section<'_>) -> Option<Located<PathBuf>> {
    let path = section.path("path");
    if path.is_none() {
        section.problem("path is missing (or not usable): a directory on a local disk for ledger, index and keys");
    }
    finish(section);
    path
}

fn control(
    source: &Path,
    mut section: Section<'_>,
    state: Option<&Located<PathBuf>>,
) -> Option<Located<PathBuf>> {
    let socket = section.path_or_auto("socket");
    let place = section.place.clone();
    finish(section);
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|folders| !folders.is_empty());
    let automatic = || match runtime {
        // systemd joins several directories with colons; the first is the service's own.
        Some(folders) => folders.to_str()?.split(':').next().map(PathBuf::from),
        None => runtime_directory(source).or_else(|| state.map(|state| state.value.clone())),
    };
    socket.or_else(|| {
        automatic().map(|folder| Located {
            value: folder.join("control.sock"),
            place,
        })
    })
}

fn log(mut section: Section<'_>) -> LogSettings {
    let level = section.parsed(
        "level",
        "a filter such as \"info\" or \"radsort=debug\"",
        log_filter,
    );
    let targets = [
        ("auto", LogTarget::Auto),
        ("journal", LogTarget::Journal),
        ("stderr", LogTarget::Stderr),
        ("json", LogTarget::Json),
    ];
    let target = section
        .word("target", &targets)
        .map_or(LogTarget::Auto, |target| target.value);
    let identifiers = [
        ("uid", LogIdentifiers::Uid),
        ("pseudonym", LogIdentifiers::Pseudonym),
    ];
    let identifiers = section
        .word("identifiers", &identifiers)
        .map_or(LogIdentifiers::Pseudonym, |word| word.value);
    finish(section);
    LogSettings {
        level: level.map_or_else(|| "info".to_owned(), |level| level.value),
        target,
        identifiers,
    }
}

/// A word that is no level would be taken for the name of a part, and silence everything else.
fn log_filter(text: &str) -> Result<String, String> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(text);
    filter.map_err(|error| error.to_string())?;
    // Within brackets a comma parts nothing.
    let mut parts = text.split(',').map(str::trim);
    let is_level = |part: &str| part.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let known = |part: &str| part.contains('=') || part.starts_with("radsort") || is_level(part);
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    match parts.find(|&part| !part.is_empty() && !known(part)) {
        Some(part) if !text.contains('[') => Err(format!("{part:?} is no level")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_configurations_name_tells_the_runtime_directory() {
        let name = |path: &str| runtime_name(path.as_ref());
        assert_eq!(
            name("/etc/radsort/radsort.toml").as_deref(),
            Some("radsort")
        );
        assert_eq!(name("/etc/radsort/a.toml").as_deref(), Some("radsort-a"));
        assert_eq!(name("/etc/radsort/conf.d/a.toml"), None);
        assert_eq!(name("/home/me/radsort.toml"), None);
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_does_not_silence_the_log() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,radsort::watch=debug",
            "radsort=trace",
            "info,",
        ] {
            assert_eq!(log_filter(good).as_deref(), Ok(good));
        }
        for bad in ["verbose", "inf", "", "info,debgu"] {
            assert!(log_filter(bad).is_err(), "{bad:?}");
        }
    }
}
