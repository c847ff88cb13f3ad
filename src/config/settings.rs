//! The validated configuration: every value is present, in range and consistent with the others.
//!
//! Only `config` makes these; every adapter takes the part that concerns it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::decision::ViewThresholds;
use crate::domain::placement::Template;

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The file that was read, for messages and for reloading.
    pub source: PathBuf,
    /// The drop directories; at least one, with distinct names and none inside another or inside a destination.
    pub watches: Vec<WatchSettings>,
    /// Where files go.
    pub library: LibrarySettings,
    /// When a person should look.
    pub review: ReviewSettings,
    /// The bundle.
    pub model: ModelSettings,
    /// ONNX Runtime.
    pub runtime: RuntimeSettings,
    /// The jailed decoders.
    pub decoders: DecoderSettings,
    /// Ledger, index and keys; a directory on a local disk.
    pub state: PathBuf,
    /// The control socket.
    pub control: ControlSettings,
    /// Logging.
    pub log: LogSettings,
    /// What monitoring is given.
    pub metrics: MetricsSettings,
    /// When somebody is told.
    pub alert: AlertSettings,
}

impl Settings {
    /// The same with everything that is written in a scratch directory: for a dry run where nothing is there yet.
    #[must_use]
    pub fn with_everything_in(mut self, scratch: &Path) -> Self {
        self.state = scratch.join("state");
        self.library.path = scratch.join("library");
        self.library.quarantine = self.library.path.join("_quarantine");
        self.library.duplicates = self.library.path.join("_duplicates");
        self.control.socket = scratch.join("control.sock");
        self.metrics = MetricsSettings::default();
        self
    }
}

/// One drop directory.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    /// Unique; used in records, queries and status. Default: the directory's last component.
    pub name: String,
    /// Absolute.
    pub path: PathBuf,
    /// Also its sub-directories (default true).
    pub recursive: bool,
    /// How long a file must be quiet before it counts as complete, where that cannot be seen otherwise. `None`: 5 s
    /// where open writers can be seen (local disks), 120 s elsewhere (shares).
    pub settle: Option<Duration>,
    /// How long a file that is shorter than its own structure says may stay so before it is quarantined.
    pub truncated: Duration,
    /// How changes are noticed.
    pub mode: WatchMode,
    /// Time between two scans where events do not arrive.
    pub poll_interval: Duration,
    /// File names or paths below the drop directory (globs) that are left alone, beside the built-in ones.
    pub ignore: Vec<String>,
    /// What is done with a file.
    pub action: Action,
    /// Rename files of any owner and mode into the library as they are, instead of copying them.
    pub trusted: bool,
    /// Files that are not DICOM.
    pub non_dicom: NonDicom,
    /// DICOM that is a program or a script as well.
    pub executables: Executables,
    /// DICOM that is no radiograph.
    pub other: OtherDicom,
    /// Folders with a DICOMDIR.
    pub media: Media,
    /// Larger files stay where they are, bytes: reading an endless one (a sparse file costs nobody anything) takes hours.
    pub max_size: u64,
    /// At most so many files a second, `None` for no limit.
    pub max_rate: Option<f64>,
}

/// How changes in a drop directory are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchMode {
    /// Events where the filesystem gives them, polling elsewhere.
    Auto,
    /// inotify, with scans from time to time.
    Events,
    /// Scans only.
    Poll,
}

/// What is done with a file of a drop directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Decide and record; touch nothing.
    Observe,
    /// Leave the original, file a copy.
    Copy,
    /// Move it.
    Move,
}

/// What is done with files that are not DICOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonDicom {
    /// They stay where they are.
    Leave,
    /// They go to the quarantine.
    Quarantine,
}

/// DICOM whose preamble makes it a program or a script as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Executables {
    /// To the quarantine: whoever opens it by its other nature runs it.
    Quarantine,
    /// Like any other.
    Accept,
}

/// What is done with DICOM that is no radiograph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherDicom {
    /// It stays where it is.
    Leave,
    /// It goes to `_other/` in the library.
    Move,
}

/// What is done with a folder that holds a DICOMDIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Media {
    /// It stays as it is.
    Leave,
    /// Its radiographs are copied.
    Copy,
    /// Its radiographs are treated like any other file.
    Move,
}

/// Where files go.
#[derive(Clone, Debug, PartialEq)]
pub struct LibrarySettings {
    /// The library's root, absolute.
    pub path: PathBuf,
    /// How paths below it are made.
    pub template: Template,
    /// The template as the site wrote it.
    pub template_text: String,
    /// Permission bits of filed files, e.g. `0o640`.
    pub file_mode: u32,
    /// Permission bits of directories that radsort makes, e.g. `0o2750`.
    pub directory_mode: u32,
    /// DICOM that cannot be read. Default `_quarantine` beside the categories.
    pub quarantine: PathBuf,
    /// Same-UID same-bytes repeats. Default `_duplicates` beside the categories.
    pub duplicates: PathBuf,
}

/// When a person should look.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReviewSettings {
    /// Raises (never lowers, unless `may_loosen`) every category's threshold to this joint confidence, 0 to 1.
    pub below: Option<f32>,
    /// The same for single categories, by id.
    pub below_by_category: Vec<(String, f32)>,
    /// Raises the view thresholds of the bundle.
    pub view: Option<ViewThresholds>,
    /// The site says in so many words that its thresholds may be lower than the bundle's.
    pub may_loosen: bool,
    /// Categories of which the bundle's promise says that too little is known are filed all the same.
    pub files_uncertified: bool,
}

/// The bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSettings {
    /// The folder with `bundle.toml`; `None`: the shipped one, searched where packages put it.
    pub bundle: Option<PathBuf>,
}

/// ONNX Runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSettings {
    /// The shared library; `None`: searched where it is usually found.
    pub library: Option<PathBuf>,
    /// Where the model runs.
    pub device: Device,
    /// What if the GPU cannot be had.
    pub gpu: GpuPolicy,
    /// Threads of one inference (CPU); 0: as many as the machine has cores.
    pub threads: usize,
    /// The largest batch on a GPU; on the CPU it is always 1.
    pub batch: usize,
    /// How long the first image of a batch waits for others.
    pub batch_wait: Duration,
}

impl Default for RuntimeSettings {
    /// A GPU if there is one.
    fn default() -> Self {
        Self {
            library: None,
            device: Device::Auto,
            gpu: GpuPolicy::Prefer,
            threads: 0,
            batch: 16,
            batch_wait: Duration::from_millis(20),
        }
    }
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A CUDA GPU if the library and the machine have one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA GPU by its number.
    Cuda(u32),
}

/// What if the GPU cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuPolicy {
    /// Refuse to start.
    Require,
    /// Run on the CPU, and say so everywhere.
    Prefer,
}

/// The jailed decoders.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSettings {
    /// How many files are decoded at the same time, over all drop directories.
    pub count: usize,
    /// Address space of one child, bytes (default 1 GiB).
    pub memory: u64,
    /// CPU time of one child (default 5 s).
    pub cpu_time: Duration,
    /// Wall-clock time of one child, beyond which it is killed (default 60 s).
    pub wall_time: Duration,
    /// How many files of one drop directory are read, decoded and decided on at the same time.
    pub permits_per_watch: usize,
}

impl Default for DecoderSettings {
    /// As many children as the machine has cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            count: cores,
            memory: 1 << 30,
            cpu_time: Duration::from_secs(5),
            wall_time: Duration::from_mins(1),
            permits_per_watch: 2 * cores,
        }
    }
}

/// The control socket.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlSettings {
    /// Its path. Default `$RUNTIME_DIRECTORY/control.sock`, else `control.sock` in the state directory.
    pub socket: PathBuf,
}

/// Logging.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// A tracing filter, e.g. `info` or `radsort=debug`.
    pub level: String,
    /// Where to.
    pub target: LogTarget,
    /// How instances are named in the log.
    pub identifiers: LogIdentifiers,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            target: LogTarget::Auto,
            identifiers: LogIdentifiers::Pseudonym,
        }
    }
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// The journal when started by systemd, else stderr.
    Auto,
    /// The systemd journal.
    Journal,
    /// stderr, for people.
    Stderr,
    /// stderr, JSON lines.
    Json,
}

/// How instances are named in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogIdentifiers {
    /// By SOP Instance UID.
    Uid,
    /// By a keyed pseudonym of it (default); the record's id leads to the file all the same.
    Pseudonym,
}

/// What monitoring is given.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsSettings {
    /// Where `radsort.prom` is written for node_exporter's textfile collector.
    pub textfile: TextFile,
    /// How often the file is written.
    pub interval: Duration,
    /// A Unix socket for HTTP, mode 0660; `None` for none.
    pub socket: Option<PathBuf>,
    /// A port for HTTP on a loopback address; `None` for none.
    pub listen: Option<SocketAddr>,
}

impl Default for MetricsSettings {
    /// Nothing.
    fn default() -> Self {
        Self {
            textfile: TextFile::Off,
            interval: Duration::from_secs(15),
            socket: None,
            listen: None,
        }
    }
}

/// Where figures are written for node_exporter's textfile collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextFile {
    /// Where Debian's node_exporter looks for such files, if that is there and can be written to; else nowhere.
    Auto,
    /// In this directory.
    In(PathBuf),
    /// Nowhere.
    Off,
}

/// When somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSettings {
    /// A program (absolute) and its arguments; empty for none.
    pub command: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// It is run at most so often for the same thing.
    pub every: Duration,
    /// A drop directory's review rate above this is told, 0 to 1.
    pub review_rate: f64,
    /// A drop directory's quarantine rate above this is told, 0 to 1.
    pub quarantine_rate: f64,
    /// Drift (population stability index) above this is told.
    pub drift: f64,
    /// A file that has waited for longer is told.
    pub waiting: Duration,
    /// A disk with fewer bytes left is told.
    pub disk_below: u64,
}

impl Default for AlertSettings {
    /// No command; the limits hold for the journal all the same.
    fn default() -> Self {
        Self {
            command: Vec::new(),
            timeout: Duration::from_secs(30),
            every: Duration::from_mins(15),
            review_rate: 0.5,
            quarantine_rate: 0.2,
            drift: 0.25,
            waiting: Duration::from_hours(2),
            disk_below: 5 << 30,
        }
    }
}
