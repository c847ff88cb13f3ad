//! What `radsort status` shows: how the daemon and each of its drop directories are. Holds no patient's identity.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::config::settings::Action;

/// Why a drop directory is offline whose filesystem does not return.
pub const NOT_ANSWERING: &str = "its filesystem does not answer";

/// Below so many columns there is no room for a table.
const NARROW: u16 = 76;

/// What files are counted as that are only decided on: nobody is told that they were filed.
pub const OBSERVED: &str = "observed";

/// How the daemon is. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// When this was true.
    pub now_us: i64,
    /// When it became ready.
    pub up_since_us: i64,
    /// What classifies, once it is loaded.
    pub model: Option<ModelStatus>,
    /// Every drop directory.
    pub watches: Vec<WatchStatus>,
    /// Live entries of the index by fate; those only decided on together as [`OBSERVED`].
    pub totals: BTreeMap<String, u64>,
    /// Room on the disks that are written to.
    pub disks: Vec<DiskStatus>,
    /// Decoders that died and were replaced.
    pub decoder_restarts: u64,
    /// Files on record that were looked for and not found, since the service started.
    pub missing: u64,
    /// Filed files whose bytes were found to be no longer those that were filed, since the service started.
    pub altered: u64,
    /// Memory of the GPU in use, where its driver tells.
    pub gpus: Vec<GpuMemory>,
    /// The last errors, the newest first.
    pub errors: Vec<ErrorLine>,
    /// Why the last reload failed; `None` when it succeeded or there was none.
    pub reload_error: Option<ErrorLine>,
}

/// What classifies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelStatus {
    /// Bundle name and version.
    pub name: String,
    /// The execution provider that ran at warm-up, e.g. `cpu` or `cuda:0`.
    pub provider: String,
    /// Why the GPU that was preferred is not used.
    pub gpu_refused: Option<String>,
    /// What the bundle promises about its errors, or why it cannot.
    #[serde(default)]
    pub promise: Option<String>,
}

/// Memory of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuMemory {
    /// The GPU's number.
    pub number: u32,
    /// Bytes in use, by everybody.
    pub used: u64,
    /// Bytes altogether.
    pub total: u64,
}

/// How one drop directory is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// What is done with its files.
    pub action: Action,
    /// What it lies on, e.g. `ext4 (local)`, `nfs`, `smb`.
    pub share: String,
    /// How changes are noticed.
    pub noticing: Noticing,
    /// Whether it is worked with.
    pub state: WatchState,
    /// Why not, when it is not.
    #[serde(default)]
    pub why: Option<String>,
    /// Files seen that have no fate yet, those that may not be taken among them.
    #[serde(default)]
    pub waiting: u64,
    /// Since when the oldest of them waits.
    #[serde(default)]
    pub oldest_waiting_us: Option<i64>,
    /// Of these: being decoded, classified or filed.
    #[serde(default)]
    pub in_flight: u64,
    /// Of the waiting: files that may not be taken (sticky directory, no permission).
    #[serde(default)]
    pub cannot_take: u64,
    /// Folders (and files in them) that cannot be listed or looked at: what lies there is not seen.
    #[serde(default)]
    pub unreadable: u64,
    /// Files that were given back (`undo`, `quarantine release`) and not let go: they are not taken again until they change.
    #[serde(default)]
    pub given_back: u64,
    /// When the last complete scan ended.
    #[serde(default)]
    pub last_scan_us: Option<i64>,
    /// Live entries of the index by fate, as in [`Status::totals`].
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// The share of the last classified files that went to review, 0 to 1; `None` while there are too few.
    #[serde(default)]
    pub review_rate: Option<f64>,
    /// The share of the last files that was quarantined, 0 to 1; `None` while there are too few.
    #[serde(default)]
    pub quarantine_rate: Option<f64>,
    /// How differently the model's confidence is distributed (population stability index); `None` until two windows are
    /// full.
    #[serde(default)]
    pub drift: Option<f64>,
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noticing {
    /// By inotify, and scans from time to time.
    Events,
    /// By scans only.
    Polling,
}

/// Whether a drop directory is worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchState {
    /// Yes.
    Online,
    /// The share is gone.
    Offline,
    /// Intake has stopped: a full disk, a read-only share, a library that is offline.
    Held,
}

impl WatchState {
    /// For people: in capitals what is wrong.
    fn in_capitals(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "OFFLINE",
            Self::Held => "HELD",
        }
    }
}

/// Room on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskStatus {
    /// `library` or `state`.
    pub what: String,
    /// Where.
    pub path: String,
    /// Bytes that radsort can still write; `None` when the disk does not answer.
    pub free: Option<u64>,
    /// Bytes altogether.
    pub total: Option<u64>,
}

impl DiskStatus {
    /// Asks the filesystem. Blocks; may hang on a share that does.
    pub fn of(what: &str, path: &std::path::Path) -> Self {
        let room = rustix::fs::statvfs(path).ok();
        Self {
            what: what.to_owned(),
            path: path.display().to_string(),
            free: room
                .as_ref()
                .map(|room| room.f_bavail.saturating_mul(room.f_frsize)),
            total: room
                .as_ref()
                .map(|room| room.f_blocks.saturating_mul(room.f_frsize)),
        }
    }
}

/// One error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorLine {
    /// When.
    pub time_us: i64,
    /// What, and what to do.
    pub message: String,
    /// How often in a row.
    pub times: u64,
}

/// The last errors, for `status`: a bounded list in which repetitions are counted.
#[derive(Debug, Default)]
pub struct RecentErrors(VecDeque<ErrorLine>);

impl RecentErrors {
    const LIMIT: usize = 20;

    /// Adds an error.
    pub fn push(&mut self, time_us: i64, message: &str) {
        if let Some(last) = self.0.front_mut().filter(|last| last.message == message) {
            last.time_us = time_us;
            last.times += 1;
            return;
        }
        self.0.push_front(ErrorLine {
            time_us,
            message: message.to_owned(),
            times: 1,
        });
        self.0.truncate(Self::LIMIT);
    }

    /// The newest first.
    pub fn list(&self) -> Vec<ErrorLine> {
        self.0.iter().cloned().collect()
    }
}

impl Status {
    /// For people: a short text, `width` columns wide at most where it can be.
    pub fn to_text(&self, width: u16) -> String {
        let mut text = String::new();
        let up = age(self.now_us - self.up_since_us);
        let _ = writeln!(
            text,
            "radsort {}, process {}, up for {up}",
            self.version, self.pid
        );
        match &self.model {
            Some(model) => {
                let _ = writeln!(text, "model {} on {}", model.name, model.provider);
                if let Some(promise) = &model.promise {
                    let _ = writeln!(text, "  promise: {promise}");
                }
                if let Some(why) = &model.gpu_refused {
                    let _ = writeln!(text, "  NOT ON THE GPU: {why}");
                }
            }
            None => text.push_str("no model is loaded\n"),
        }
        if let Some(error) = &self.reload_error {
            let ago = age(self.now_us - error.time_us);
            let _ = writeln!(
                text,
                "THE LAST RELOAD FAILED {ago} ago, the settings before it are in use: {}",
                error.message
            );
        }
        if self.altered > 0 {
            let _ = writeln!(
                text,
                "FILED FILES ALTERED: {}; `radsort verify --digests` says which",
                self.altered
            );
        }
        text.push('\n');
        if width < NARROW {
            text.push_str(&self.watch_lines());
        } else {
            text.push_str(&self.watch_table(width));
        }
        for watch in &self.watches {
            if let Some(why) = &watch.why {
                let _ = writeln!(text, "{}: {why}", watch.name);
            }
            text.push_str(&rates(watch));
            if watch.cannot_take > 0 {
                let _ = writeln!(
                    text,
                    "{}: {} files may not be taken; `radsort check` says what is missing",
                    watch.name, watch.cannot_take
                );
            }
            if watch.given_back > 0 {
                let _ = writeln!(
                    text,
                    "{}: {} files were given back and are not taken again until they change or are let go \
                     (radsort undo --let-go --since 7d)",
                    watch.name, watch.given_back
                );
            }
        }
        let total = self
            .totals
            .iter()
            .map(|(fate, count)| format!("{count} {fate}"))
            .collect::<Vec<_>>()
            .join(", ");
        let _ = writeln!(
            text,
            "\nin the index: {}",
            if total.is_empty() {
                "nothing yet"
            } else {
                &total
            }
        );
        for disk in &self.disks {
            let room = disk.free.map_or_else(
                || "does not answer".to_owned(),
                |free| format!("{} free", bytes(free)),
            );
            let _ = writeln!(text, "{} ({}): {room}", disk.what, disk.path);
        }
        if !self.errors.is_empty() {
            text.push_str("\nlast errors:\n");
            for error in &self.errors {
                let ago = age(self.now_us - error.time_us);
                let times = if error.times > 1 {
                    format!(" ({} times)", error.times)
                } else {
                    String::new()
                };
                let _ = writeln!(text, "  {ago} ago: {}{times}", error.message);
            }
        }
        text
    }

    /// What the table says, where it has no room.
    fn watch_lines(&self) -> String {
        let mut text = String::new();
        for watch in &self.watches {
            let counts = counts(watch).join(", ");
            let _ = writeln!(
                text,
                "{}: {}, {} waiting, oldest {}\n  {}, {}, last scan {}{}{counts}",
                watch.name,
                watch.state.in_capitals(),
                watch.waiting,
                self.since(watch.oldest_waiting_us),
                watch.path,
                watch.share,
                self.since(watch.last_scan_us),
                if counts.is_empty() { "" } else { "\n  " },
            );
        }
        text
    }

    /// How long ago.
    fn since(&self, time: Option<i64>) -> String {
        time.map_or_else(|| "–".to_owned(), |time| age(self.now_us - time))
    }

    fn watch_table(&self, width: u16) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table
            .set_content_arrangement(comfy_table::ContentArrangement::Dynamic)
            .set_width(width);
        table.set_header([
            "drop",
            "share",
            "state",
            "waiting",
            "oldest",
            "last scan",
            "files",
        ]);
        for watch in &self.watches {
            let noticing = match watch.noticing {
                Noticing::Events => "events",
                Noticing::Polling => "polling",
            };
            table.add_row([
                format!("{}\n{}", watch.name, watch.path),
                format!("{}\n{noticing}", watch.share),
                watch.state.in_capitals().to_owned(),
                watch.waiting.to_string(),
                self.since(watch.oldest_waiting_us),
                self.since(watch.last_scan_us),
                counts(watch).join("\n"),
            ]);
        }
        format!("{table}\n")
    }
}

/// Its entries by fate.
fn counts(watch: &WatchStatus) -> Vec<String> {
    let counts = watch.counts.iter();
    counts
        .map(|(fate, count)| format!("{count} {fate}"))
        .collect()
}

/// How its files fare, where enough have come to say.
fn rates(watch: &WatchStatus) -> String {
    let percent = |rate: Option<f64>, what| Some(format!("{:.1} % {what}", rate? * 100.0));
    let parts = [
        percent(watch.review_rate, "to review"),
        percent(watch.quarantine_rate, "quarantined"),
        watch.drift.map(|drift| format!("drift {drift:.2}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return String::new();
    }
    format!("{}: of the last files {}\n", watch.name, parts.join(", "))
}

/// A time span in its largest two units, e.g. `3 h 20 min`.
pub fn age(us: i64) -> String {
    let seconds = us.max(0) / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A size in its largest binary unit.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A drop directory that is away, with files waiting.
    pub(crate) fn watch(name: &str) -> WatchStatus {
        WatchStatus {
            name: name.into(),
            path: format!("/srv/{name}"),
            action: Action::Move,
            share: "nfs".into(),
            noticing: Noticing::Polling,
            state: WatchState::Offline,
            why: Some("the share is gone".into()),
            waiting: 12,
            oldest_waiting_us: Some(9_000_000_000),
            in_flight: 0,
            cannot_take: 0,
            unreadable: 0,
            given_back: 0,
            last_scan_us: None,
            counts: BTreeMap::from([("filed".into(), 5)]),
            review_rate: Some(0.125),
            quarantine_rate: None,
            drift: Some(0.3),
        }
    }

    fn status() -> Status {
        Status {
            version: "1.2.3".into(),
            pid: 7,
            now_us: 10_000_000_000,
            up_since_us: 0,
            model: Some(ModelStatus {
                name: "spine 1".into(),
                provider: "cpu".into(),
                gpu_refused: Some("no driver".into()),
                promise: None,
            }),
            watches: vec![watch("north")],
            totals: BTreeMap::from([("filed".into(), 5), ("review".into(), 1)]),
            disks: vec![DiskStatus {
                what: "state".into(),
                free: Some(3 << 30),
                ..DiskStatus::default()
            }],
            errors: vec![ErrorLine {
                time_us: 9_990_000_000,
                message: "disk full".into(),
                times: 3,
            }],
            ..Status::default()
        }
    }

    #[test]
    fn the_text_names_what_a_person_must_know() {
        let text = status().to_text(100);
        for part in [
            "up for 2 h 46 min",
            "NOT ON THE GPU: no driver",
            "OFFLINE",
            "polling",
            "16 min",
            "the share is gone",
            "5 filed, 1 review",
            "3.0 GiB free",
            "10 s ago: disk full (3 times)",
            "of the last files 12.5 % to review, drift 0.30",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{text}");
    }

    #[test]
    fn where_a_table_has_no_room_lines_say_the_same() {
        let text = status().to_text(50);
        for part in [
            "north: OFFLINE, 12 waiting, oldest 16 min\n",
            "  /srv/north, nfs, last scan –\n  5 filed\n",
            "the share is gone",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains('─'), "{text}");
    }

    #[test]
    fn the_list_of_errors_is_bounded_and_counts_repetitions() {
        let mut errors = RecentErrors::default();
        for n in 0..50 {
            errors.push(n, "the same");
        }
        assert_eq!(
            errors.list(),
            [ErrorLine {
                time_us: 49,
                message: "the same".into(),
                times: 50
            }]
        );
        for n in 0..50 {
            errors.push(n, &format!("error {n}"));
        }
        assert_eq!(errors.list().len(), RecentErrors::LIMIT);
        assert_eq!(errors.list()[0].message, "error 49");
    }
}
