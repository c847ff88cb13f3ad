//! `radsort check`: everything that `run` needs, tried for real, one finding a line as it is found.
//!
//! Each finding is ok, a warning or an error, and says what to do. What is tried leaves nothing behind: a probe file in
//! a drop directory or the library is hidden, empty, and gone a moment later; drop directories that are only observed
//! or copied from are not written to.

mod disks;
mod drops;

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use rustix::fs::{Access, AtFlags, CWD};
use serde::Serialize;

use super::access::ConfigArg;
use crate::config::Settings;
use crate::config::settings::LogTarget;
use crate::decode::pool::Pool;
use crate::model::runtime::Runtime;
use crate::model::store::Store;
use crate::model::{Bundle, Classifier, Thresholds};
use crate::watch::ShareKind;

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
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
    /// One JSON object a line: level, what, message, advice.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::new(args.json);
    match args.config.load_typed() {
        Err(error) => findings.error(
            "configuration",
            error,
            "Correct it; nothing else was checked.",
        ),
        Ok(settings) => {
            findings.ok("configuration", args.config.path().display());
            check_user(&settings, &mut findings);
            let running = check_control(&settings, &mut findings);
            for watch in &settings.watches {
                drops::check(watch, &settings.library.path, &mut findings);
            }
            drops::check_inotify(&settings, &mut findings);
            disks::check_destinations(&settings, &mut findings);
            disks::check_state(&settings, running, &mut findings);
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
            let plural = |n: usize| if n == 1 { "" } else { "s" };
            println!(
                "\n{ok} ok, {warnings} warning{}, {errors} error{}",
                plural(warnings),
                plural(errors)
            );
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
        Err(error) => {
            return findings.error(
                "ONNX Runtime",
                error,
                "Without it nothing can be classified; [runtime] library can name it.",
            );
        }
    }
    let bundle = match Store::in_use(settings)
        .map_err(anyhow::Error::from)
        .and_then(|dir| Ok(Bundle::open(&dir)?))
    {
        Ok(bundle) => bundle,
        Err(error) => return findings.error("bundle", error, "[model] bundle names the folder with bundle.toml; without it the shipped bundle is used. A damaged one has to be copied anew."),
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
        Err(error) => return findings.error("thresholds", error, "Correct [review]."),
    };
    let started = Instant::now();
    match Classifier::start(bundle, &settings.runtime, thresholds.view()) {
        Err(error) => findings.error("model", error, "Go back to the bundle that worked before, or make it anew. For the GPU, [runtime] device and gpu say what is wanted."),
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

/// Whether this (effective) user may.
fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// What kind of filesystem a directory is on.
fn share_kind(path: &Path) -> io::Result<ShareKind> {
    ShareKind::of(File::open(path)?)
}
