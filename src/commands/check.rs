//! `radsort check`: everything that `run` needs, tried for real, one finding a line as it is found.
//!
//! Each finding is ok, a warning or an error, and says what to do. What is tried leaves nothing behind: a probe file in
//! a drop directory or the library is hidden, empty, and gone a moment later; drop directories that are only observed
//! or copied from are not written to.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use rustix::fs::{Access, AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::config::Settings;
use crate::config::settings::{Action, LogTarget, WatchMode, WatchSettings};
use crate::decode::pool::Pool;
use crate::index::{Index, IndexError};
use crate::model::runtime::Runtime;
use crate::model::{Bundle, Classifier, Thresholds};

/// Below so many free bytes a disk is an error, or a warning.
const SPACE: (u64, u64) = (256 << 20, 5 << 30);

/// At most so many directories are counted below a drop directory.
const COUNTED: usize = 500_000;

/// Check everything that the daemon needs, by trying it.
///
/// Configuration, directories and permissions (and whether files of other owners can be taken), inotify limits, disk
/// space, the state directory and its index, the jail of the decoders, ONNX Runtime, and the model: each classifier is
/// warmed up on the device that it will use and must give the known answers for its reference images.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it as the user that the daemon runs as: what root may do says little.

Examples:
  runuser -u radsort -- radsort check --config /etc/radsort/radsort.toml
  radsort check --config radsort.toml --json | jq 'select(.level != \"ok\")'

Exit status: 0 when nothing is an error (there may be warnings), 1 when something is, 2 on wrong usage.")]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON object a line: level, what, message, advice.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::new(args.json);
    match crate::config::load(&args.config) {
        Err(error) => findings.error(
            "configuration",
            error,
            "Correct it; nothing else was checked.",
        ),
        Ok(settings) => {
            findings.ok("configuration", args.config.display());
            check_user(&settings, &mut findings);
            let running = check_control(&settings, &mut findings);
            for watch in &settings.watches {
                check_watch(watch, &settings.library.path, &mut findings);
            }
            check_inotify(&settings, &mut findings);
            check_destinations(&settings, &mut findings);
            check_state(&settings, running, &mut findings);
            check_log(&settings, &mut findings);
            check_jail(&settings, &mut findings);
            check_model(&settings, &mut findings);
        }
    }
    findings.end()
}

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was found out.
#[derive(Serialize)]
struct Finding<'a> {
    level: Level,
    what: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
}

/// Prints findings as they come, so that a crash on the way leaves those before it.
struct Findings {
    json: bool,
    colour: bool,
    counts: [usize; 3],
    failed: io::Result<()>,
}

impl Findings {
    fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self {
            json,
            colour,
            counts: [0; 3],
            failed: Ok(()),
        }
    }

    fn ok(&mut self, what: &str, message: impl fmt::Display) {
        self.add(Level::Ok, what, &message.to_string(), None);
    }

    fn warning(&mut self, what: &str, message: impl fmt::Display, advice: &str) {
        self.add(Level::Warning, what, &message.to_string(), Some(advice));
    }

    fn error(&mut self, what: &str, message: impl fmt::Display, advice: &str) {
        self.add(Level::Error, what, &message.to_string(), Some(advice));
    }

    fn add(&mut self, level: Level, what: &str, message: &str, advice: Option<&str>) {
        self.counts[level as usize] += 1;
        if self.failed.is_ok() {
            self.failed = self.print(&Finding {
                level,
                what,
                message,
                advice,
            });
        }
    }

    fn print(&self, finding: &Finding<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, finding)?;
            return writeln!(out);
        }
        let (word, colour) = match finding.level {
            Level::Ok => ("ok", "32"),
            Level::Warning => ("warning", "33"),
            Level::Error => ("ERROR", "1;31"),
        };
        let (on, off) = if self.colour {
            (format!("\x1b[{colour}m"), "\x1b[0m")
        } else {
            (String::new(), "")
        };
        let indent = format!("\n{:25}", "");
        write!(
            out,
            "{on}{word:8}{off} {:16}{}",
            finding.what,
            finding.message.replace('\n', &indent)
        )?;
        if let Some(advice) = finding.advice.filter(|advice| !advice.is_empty()) {
            write!(out, "{indent}{}", advice.replace('\n', &indent))?;
        }
        writeln!(out)
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        self.failed?;
        let [ok, warnings, errors] = self.counts;
        if !self.json {
            println!("\n{ok} ok, {warnings} warnings, {errors} errors");
        }
        Ok(if errors == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Whether what is tried here is what the daemon could do.
fn check_user(settings: &Settings, findings: &mut Findings) {
    let me = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(&settings.state).map(|state| state.uid());
    match owner {
        Ok(owner) if owner != me => findings.warning(
            "user",
            format!("this is user {me}, but {} belongs to user {owner}", settings.state.display()),
            "What follows holds for this user. Run the check as the daemon's user: runuser -u radsort -- radsort check …",
        ),
        _ if me == 0 => findings.warning(
            "user",
            "this is root, who may do anything",
            "What follows holds for root. If the daemon runs as another user (it should), run the check as that one.",
        ),
        _ => findings.ok("user", format!("user {me}")),
    }
}

/// Whether a daemon is running on these settings.
fn check_control(settings: &Settings, findings: &mut Findings) -> bool {
    let socket = &settings.control.socket;
    if UnixStream::connect(socket).is_ok() {
        findings.ok(
            "control socket",
            format!("{}: a daemon is running", socket.display()),
        );
        return true;
    }
    let parent = socket.parent().unwrap_or(Path::new("/"));
    match (
        may(parent, Access::WRITE_OK | Access::EXEC_OK),
        parent.exists(),
    ) {
        (Ok(()), _) => findings.ok("control socket", socket.display()),
        // systemd makes /run/radsort, the daemon makes its state directory.
        (Err(_), false) if parent.starts_with("/run") || parent == settings.state => {
            findings.ok(
                "control socket",
                format!("{} (its directory is made at the start)", socket.display()),
            );
        }
        (Err(error), _) => findings.error(
            "control socket",
            format!("{}: {error}", parent.display()),
            "Make that directory writable for the daemon, or set [control] socket.",
        ),
    }
    false
}

/// One drop directory: what the daemon may do there, by doing it.
fn check_watch(watch: &WatchSettings, library: &Path, findings: &mut Findings) {
    let what = format!("watch {}", watch.name);
    let path = watch.path.display();
    if let Err(error) = std::fs::read_dir(&watch.path)
        .and_then(|_| may(&watch.path, Access::READ_OK | Access::EXEC_OK))
    {
        return findings.error(
            &what,
            format!("{path}: {error}"),
            "The daemon must be able to list and enter it.",
        );
    }
    let notice = match (filesystem(&watch.path), watch.mode) {
        (Ok(kind), WatchMode::Events) if !kind.gives_events() => {
            findings.warning(
                &what,
                format!("{path} is on {kind}, which tells nothing about changes made elsewhere, but mode = \"events\""),
                "Set mode = \"auto\" or \"poll\"; else such files are only found by the scans from time to time.",
            );
            "events".to_owned()
        }
        (Ok(kind), WatchMode::Auto) if !kind.gives_events() => format!("{kind}, polled"),
        (Ok(kind), WatchMode::Poll) => format!("{kind}, polled"),
        (Ok(kind), _) => format!("{kind}, events"),
        (Err(error), _) => format!("kind of filesystem unknown ({error})"),
    };
    match watch.action {
        Action::Observe => findings.ok(
            &what,
            format!("{path} ({notice}): observed, nothing is touched"),
        ),
        Action::Copy => findings.ok(
            &what,
            format!("{path} ({notice}): copied from, nothing is removed"),
        ),
        Action::Move => check_taking(watch, library, &notice, &what, findings),
    }
    check_readable(watch, &what, findings);
}

/// How a file gets from a drop directory into the library.
#[derive(Debug, PartialEq, Eq)]
enum Taking {
    Rename,
    LinkAndUnlink,
    Copy(&'static str),
    Not(String),
}

fn check_taking(
    watch: &WatchSettings,
    library: &Path,
    notice: &str,
    what: &str,
    findings: &mut Findings,
) {
    let path = watch.path.display();
    let taking = try_taking(&watch.path, library);
    let own = match &taking {
        Taking::Rename => "renamed into the library".to_owned(),
        Taking::LinkAndUnlink => "linked into the library, then unlinked".to_owned(),
        Taking::Copy(why) => format!("copied into the library, then removed ({why})"),
        Taking::Not(why) => {
            return findings.error(
                what,
                format!("{path}: files cannot be taken: {why}"),
                "Give the daemon write permission on the drop directory (and all below it), or set action = \"copy\".",
            );
        }
    };
    match sticky_against_us(&watch.path) {
        Ok(true) => findings.warning(
            what,
            format!("{path} ({notice}): own files are {own}; files of other owners cannot be taken at all (sticky directory)"),
            "Take the sticky bit away (chmod -t), make the daemon's user the directory's owner, or set action = \"copy\".",
        ),
        Ok(false) => {
            let renames = taking != Taking::Copy("another filesystem");
            let others = if watch.trusted || !renames { own.clone() } else { "copied, then removed".to_owned() };
            findings.ok(what, format!("{path} ({notice}): own files are {own}; files of other owners are {others}"));
        }
        Err(error) => findings.error(what, format!("{path}: {error}"), ""),
    }
}

/// Tries it with an empty hidden file.
fn try_taking(drop: &Path, library: &Path) -> Taking {
    let name = probe_name();
    let (from, to) = (Probe(drop.join(&name)), Probe(library.join(&name)));
    if let Err(error) = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&from.0)
    {
        return Taking::Not(error.to_string());
    }
    match rustix::fs::renameat_with(CWD, &from.0, CWD, &to.0, RenameFlags::NOREPLACE) {
        Ok(()) => Taking::Rename,
        Err(Errno::XDEV) => copied(&from, "another filesystem"),
        Err(Errno::NOENT) if !library.exists() => copied(&from, "the library does not exist yet"),
        Err(_) => match rustix::fs::linkat(CWD, &from.0, CWD, &to.0, AtFlags::empty()) {
            Ok(()) => match rustix::fs::unlink(&from.0) {
                Ok(()) => Taking::LinkAndUnlink,
                Err(error) => Taking::Not(error.to_string()),
            },
            Err(_) => copied(
                &from,
                "the filesystem refuses to rename or link without clobbering",
            ),
        },
    }
}

/// A file that is copied must be removable where it was.
fn copied(from: &Probe, why: &'static str) -> Taking {
    match rustix::fs::unlink(&from.0) {
        Ok(()) => Taking::Copy(why),
        Err(error) => Taking::Not(error.to_string()),
    }
}

/// A file that was made to try something; gone when dropped.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Hidden, temporary by its name (the watcher ignores it), and nobody else's.
fn probe_name() -> String {
    let mut random = [0; 8];
    // Without randomness the name is still only a name; a clash is an error, not an overwrite.
    let _ = getrandom::fill(&mut random);
    format!(".radsort-check-{:016x}.part", u64::from_le_bytes(random))
}

/// Whether the directory is sticky and neither it nor root is ours, so that others' files cannot be renamed or removed.
fn sticky_against_us(dir: &Path) -> io::Result<bool> {
    let metadata = std::fs::metadata(dir)?;
    let me = rustix::process::geteuid().as_raw();
    Ok(metadata.mode() & 0o1000 != 0 && metadata.uid() != me && me != 0)
}

/// Whether the files that lie there now can be read.
fn check_readable(watch: &WatchSettings, what: &str, findings: &mut Findings) {
    let files = std::fs::read_dir(&watch.path)
        .into_iter()
        .flatten()
        .flatten();
    let files = files
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .take(100);
    let (mut seen, mut refused) = (0, 0);
    for file in files {
        seen += 1;
        refused += usize::from(may(&file.path(), Access::READ_OK).is_err());
    }
    if refused > 0 {
        findings.warning(
            what,
            format!("{refused} of the first {seen} files there cannot be read by this user"),
            "Let the senders write group-readable files and make the daemon a member of that group, \
             or give the directory a default ACL.",
        );
    }
}

/// inotify needs a watch for each directory.
fn check_inotify(settings: &Settings, findings: &mut Findings) {
    let limit = |name: &str| -> Option<usize> {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let by_events = |watch: &&WatchSettings| {
        watch.mode != WatchMode::Poll && filesystem(&watch.path).is_ok_and(Kind::gives_events)
    };
    let needed: usize = settings
        .watches
        .iter()
        .filter(by_events)
        .map(directories)
        .sum();
    let Some(watches) = limit("max_user_watches") else {
        return findings.warning("inotify", "its limits cannot be read", "Is /proc mounted?");
    };
    let queue = limit("max_queued_events").unwrap_or(0);
    let message = format!(
        "{needed} directories, {watches} watches allowed for this user, {queue} events queued"
    );
    if needed > watches {
        findings.error(
            "inotify",
            message,
            "Raise the limit: sysctl fs.inotify.max_user_watches=… (and in /etc/sysctl.d/), or set mode = \"poll\".",
        );
    } else if needed > watches / 2 {
        findings.warning(
            "inotify",
            message,
            "Other programs of this user share the limit; raise fs.inotify.max_user_watches.",
        );
    } else {
        findings.ok("inotify", message);
    }
}

/// The directories of a watch, itself included; links are not followed.
fn directories(watch: &WatchSettings) -> usize {
    let (mut count, mut open) = (1, vec![watch.path.clone()]);
    while let Some(dir) = open.pop().filter(|_| watch.recursive && count < COUNTED) {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(below.inspect(|_| count += 1).map(|entry| entry.path()));
    }
    count
}

/// Library, quarantine and duplicates: can be written to, and have room.
fn check_destinations(settings: &Settings, findings: &mut Findings) {
    let library = &settings.library;
    for (what, path) in [
        ("library", &library.path),
        ("quarantine", &library.quarantine),
        ("duplicates", &library.duplicates),
    ] {
        let below_library = path != &library.path && path.starts_with(&library.path);
        let existing = path
            .ancestors()
            .find(|dir| dir.exists())
            .unwrap_or(Path::new("/"));
        if let Err(error) = try_writing(existing) {
            let advice = "The daemon's user must be able to make files and directories there.";
            findings.error(what, format!("{}: {error}", existing.display()), advice);
            continue;
        }
        if existing == path || below_library {
            let kind = filesystem(existing)
                .map_or_else(|error| error.to_string(), |kind| kind.to_string());
            findings.ok(
                what,
                format!("{} ({kind}) can be written to", path.display()),
            );
        } else {
            findings.warning(
                what,
                format!(
                    "{} does not exist yet; it can be made in {}",
                    path.display(),
                    existing.display()
                ),
                "If it is a mount point or a share, it is not there now.",
            );
        }
        if !below_library {
            check_space(what, existing, findings);
        }
    }
}

/// Makes a directory and a file in it, syncs, and removes both.
fn try_writing(dir: &Path) -> io::Result<()> {
    let made = dir.join(probe_name());
    DirBuilder::new().create(&made)?;
    let tried = (|| {
        let file = Probe(made.join("probe.part"));
        let mut opened = File::create_new(&file.0)?;
        opened.write_all(b"radsort check")?;
        opened.sync_all()
    })();
    std::fs::remove_dir(&made).and(tried)
}

fn check_space(what: &str, path: &Path, findings: &mut Findings) {
    let what = format!("{what} space");
    let stat = match rustix::fs::statvfs(path) {
        Ok(stat) => stat,
        Err(error) => return findings.error(&what, format!("{}: {error}", path.display()), ""),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Some filesystems (btrfs, shares) have no fixed number of inodes and say 0.
    let inodes = (stat.f_files > 0).then_some(stat.f_favail);
    let inodes_text = inodes.map_or(String::new(), |inodes| format!(", {inodes} inodes"));
    let message = format!("{}: {} free{inodes_text}", path.display(), bytes(free));
    let inodes = inodes.unwrap_or(u64::MAX);
    if free < SPACE.0 || inodes < 1000 {
        findings.error(
            &what,
            message,
            "Make room: when it is full, intake stops (nothing is lost).",
        );
    } else if free < SPACE.1 || inodes < 100_000 {
        findings.warning(
            &what,
            message,
            "Make room soon: when it is full, intake stops (nothing is lost).",
        );
    } else {
        findings.ok(&what, message);
    }
}

/// The state directory: on a local disk, private, with an index that opens.
fn check_state(settings: &Settings, running: bool, findings: &mut Findings) {
    let state = &settings.state;
    let existing = state
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    match filesystem(existing) {
        Ok(kind @ (Kind::Network(_) | Kind::Fuse)) => findings.error(
            "state",
            format!("{} is on {kind}", state.display()),
            "Ledger and index need a local disk: set [state] path to one.",
        ),
        Ok(kind @ (Kind::Memory | Kind::Overlay)) => findings.warning(
            "state",
            format!("{} is on {kind}", state.display()),
            "The ledger would be gone after a restart of the machine or container: set [state] path to a disk or volume.",
        ),
        Ok(kind) => findings.ok("state", format!("{} ({kind})", state.display())),
        Err(error) => findings.error("state", format!("{}: {error}", existing.display()), ""),
    }
    check_space("state", existing, findings);
    if existing != state {
        return match may(existing, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => findings.ok("index", "none yet; it is made at the first start"),
            Err(error) => findings.error(
                "state",
                format!(
                    "{} does not exist, and cannot be made in {}: {error}",
                    state.display(),
                    existing.display()
                ),
                "Make it, owned by the daemon's user, mode 0700 (systemd: StateDirectory=radsort).",
            ),
        };
    }
    match std::fs::metadata(state) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => findings.warning(
            "state",
            format!(
                "{} has mode {:04o}: others can look into it",
                state.display(),
                metadata.mode() & 0o7777
            ),
            "Ledger and index hold source paths, which can hold names: chmod 0700.",
        ),
        _ => {}
    }
    if let Err(error) = may(state, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return findings.error(
            "state",
            format!("{}: {error}", state.display()),
            "The daemon's user must own it.",
        );
    }
    check_index(state, running, findings);
}

/// Opens the index, if there is one that is ours to open (it would be given to this user).
fn check_index(state: &Path, running: bool, findings: &mut Findings) {
    let dir = state.join("index");
    let mine = |metadata: std::fs::Metadata| metadata.uid() == rustix::process::geteuid().as_raw();
    match std::fs::metadata(&dir).map(mine) {
        Err(_) => return findings.ok("index", "none yet; it is made at the first start"),
        Ok(false) => {
            return findings.ok(
                "index",
                format!("{}: not tried, it belongs to another user", dir.display()),
            );
        }
        Ok(true) if running => {
            return findings.ok(
                "index",
                format!("{}: held by the running daemon", dir.display()),
            );
        }
        Ok(true) => {}
    }
    match Index::open(&dir) {
        Ok(index) => match index.close() {
            Ok(()) => findings.ok("index", format!("{} opens", dir.display())),
            Err(error) => findings.error(
                "index",
                error,
                "If the disk is sound, run `radsort reindex`.",
            ),
        },
        Err(IndexError::Locked(_)) => findings.ok(
            "index",
            format!("{}: held by another radsort process", dir.display()),
        ),
        Err(error @ IndexError::NeedsRebuild { .. }) => findings.warning("index", error, ""),
        Err(error) => findings.error(
            "index",
            error,
            "If the disk is sound, run `radsort reindex`.",
        ),
    }
}

fn check_log(settings: &Settings, findings: &mut Findings) {
    if settings.log.target == LogTarget::Journal
        && !Path::new("/run/systemd/journal/socket").exists()
    {
        findings.warning(
            "log",
            "target = \"journal\", but there is no journal on this machine",
            "Set [log] target = \"auto\", \"stderr\" or \"json\".",
        );
    }
}

/// The decoders' jail, closed around a real child.
fn check_jail(settings: &Settings, findings: &mut Findings) {
    match Pool::start(&settings.decoders) {
        Err(error) => findings.error("jail", error, "Nothing is decoded outside the jail."),
        Ok(pool) => {
            let confinement = pool.confinement();
            let landlock = confinement
                .landlock
                .map_or("no Landlock".to_owned(), |abi| format!("Landlock {abi}"));
            if !confinement.seccomp {
                findings.error(
                    "jail",
                    "this kernel has no seccomp filters",
                    "Use a kernel with CONFIG_SECCOMP_FILTER.",
                );
            } else if confinement.landlock.is_none() {
                let advice = "seccomp alone confines the decoders. Linux 5.13 or later with Landlock adds a second wall.";
                findings.warning("jail", format!("seccomp, {landlock}"), advice);
            } else {
                findings.ok("jail", format!("seccomp, {landlock}"));
            }
        }
    }
}

/// ONNX Runtime, the bundle, the thresholds, and every classifier where it will run.
fn check_model(settings: &Settings, findings: &mut Findings) {
    match Runtime::load(&settings.runtime) {
        Ok(runtime) => {
            let version = runtime.minor_version();
            findings.ok(
                "ONNX Runtime",
                format!("1.{version}, {}", runtime.library().display()),
            );
        }
        Err(error) => return findings.error("ONNX Runtime", error, ""),
    }
    let bundle = match Bundle::open_or_shipped(settings.model.bundle.as_deref()) {
        Ok(bundle) => bundle,
        Err(error) => return findings.error("bundle", error, ""),
    };
    let categories = bundle.categories().len();
    findings.ok(
        "bundle",
        format!(
            "{}, {categories} categories, {}",
            bundle.name_and_version(),
            bundle.dir().display()
        ),
    );
    let thresholds = match Thresholds::new(&bundle, &settings.review) {
        Ok(thresholds) => thresholds,
        Err(error) => return findings.error("thresholds", error, ""),
    };
    let started = Instant::now();
    match Classifier::start(bundle, &settings.runtime, thresholds.view()) {
        Err(error) => findings.error("model", error, ""),
        Ok(classifier) => {
            let info = classifier.info();
            let message = format!(
                "{} run on {} (seen in ONNX Runtime's profile), reference images agree, ready in {:.1} s",
                info.classifiers.join(", "),
                info.provider,
                started.elapsed().as_secs_f32()
            );
            findings.ok("model", message);
            if let Some(why) = &info.gpu_refused {
                let advice = "Every record and `status` will say cpu. Repair it, or say device = \"cpu\" to stop this warning.";
                findings.warning(
                    "GPU",
                    format!("the model runs on the CPU, not on the GPU: {why}"),
                    advice,
                );
            }
        }
    }
}

/// What a directory lies on, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Disk(&'static str),
    Memory,
    Overlay,
    Fuse,
    Network(&'static str),
    Unknown(u64),
}

impl Kind {
    /// Whether inotify tells about every change.
    fn gives_events(self) -> bool {
        matches!(self, Self::Disk(_) | Self::Memory | Self::Unknown(_))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(name) => f.write_str(name),
            Self::Memory => f.write_str("tmpfs (memory)"),
            Self::Overlay => f.write_str("overlay"),
            Self::Fuse => f.write_str("FUSE"),
            Self::Network(name) => write!(f, "a network share ({name})"),
            Self::Unknown(magic) => write!(f, "a filesystem of type {magic:#x}"),
        }
    }
}

/// statfs(2) and linux/magic.h.
fn filesystem(path: &Path) -> io::Result<Kind> {
    let magic = (rustix::fs::statfs(path)?.f_type as u64) & 0xffff_ffff;
    Ok(match magic {
        0xef53 => Kind::Disk("ext4"),
        0x5846_5342 => Kind::Disk("xfs"),
        0x9123_683e => Kind::Disk("btrfs"),
        0x2fc1_2fc1 => Kind::Disk("zfs"),
        0xf2f5_2010 => Kind::Disk("f2fs"),
        0xca45_1a4e => Kind::Disk("bcachefs"),
        0x0102_1994 | 0x8584_58f6 => Kind::Memory,
        0x794c_7630 => Kind::Overlay,
        0x6573_5546 => Kind::Fuse,
        0x6969 => Kind::Network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Kind::Network("SMB"),
        0x0102_1997 => Kind::Network("9p"),
        0x00c3_6400 => Kind::Network("Ceph"),
        0x5346_414f | 0x6b41_4653 => Kind::Network("AFS"),
        0x0bd0_0bd0 => Kind::Network("Lustre"),
        0x4750_4653 => Kind::Network("GPFS"),
        other => Kind::Unknown(other),
    })
}

/// Whether this (effective) user may.
fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// `4.2 GiB`.
fn bytes(n: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")];
    let unit = units.iter().find(|(size, _)| n >= *size);
    unit.map_or_else(
        || format!("{n} bytes"),
        |(size, name)| format!("{:.1} {name}", n as f64 / *size as f64),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn empty(dir: &Path) -> bool {
        std::fs::read_dir(dir).unwrap().next().is_none()
    }

    #[test]
    fn what_is_tried_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (drop, library) = (dir.path().join("drop"), dir.path().join("library"));
        std::fs::create_dir(&drop).unwrap();
        std::fs::create_dir(&library).unwrap();
        assert_eq!(try_taking(&drop, &library), Taking::Rename);
        try_writing(&library).unwrap();
        assert!(empty(&drop) && empty(&library));
        std::fs::remove_dir(&library).unwrap();
        assert_eq!(
            try_taking(&drop, &library),
            Taking::Copy("the library does not exist yet")
        );
        assert!(empty(&drop));
    }

    #[test]
    fn another_filesystem_means_copying() {
        let (here, memory) = (
            tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")),
            tempfile::tempdir_in("/dev/shm"),
        );
        let (Ok(here), Ok(memory)) = (here, memory) else {
            eprintln!("SKIPPED: needs /dev/shm");
            return;
        };
        if here.path().metadata().unwrap().dev() == memory.path().metadata().unwrap().dev() {
            eprintln!("SKIPPED: needs two filesystems");
            return;
        }
        assert_eq!(
            try_taking(here.path(), memory.path()),
            Taking::Copy("another filesystem")
        );
        assert!(empty(here.path()) && empty(memory.path()));
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_taken_from() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            try_taking(&dir.path().join("gone"), dir.path()),
            Taking::Not(_)
        ));
    }

    #[test]
    fn shares_give_no_events() {
        assert!(Kind::Disk("ext4").gives_events());
        assert!(
            !Kind::Network("NFS").gives_events()
                && !Kind::Fuse.gives_events()
                && !Kind::Overlay.gives_events()
        );
    }

    #[test]
    fn sizes_are_told_in_units_for_people() {
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes(17), "17 bytes");
    }
}
