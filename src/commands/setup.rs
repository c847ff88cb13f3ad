//! `radsort setup`: gives the service what its configuration names, and says what a person has to do.
//!
//! It may be run again and again: what is as it should be stays untouched. Nobody's files change owner or permissions;
//! where that is needed, the commands for it are printed.

pub(super) mod account;
pub(super) mod advice;
pub(super) mod directories;
mod drops;
pub(super) mod grants;
pub mod sites;
mod textfile;
pub(super) mod unit;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use serde::Serialize;

use self::account::Account;
use self::advice::{in_shell, real};
use self::directories::{Directories, closed_above};
use self::grants::{grants, named};
use self::unit::{Mounts, Unit};
use super::access::ConfigArg;
use crate::config::{self, ConfigError, Settings};

/// What `--gpu` adds to the unit.
const GPU: &str = include_str!("../../packaging/usr/share/radsort/systemd/gpu.conf");
/// The user in the package's units.
const PACKAGED_USER: &str = "radsort";
/// How a drop-in of ours begins; others are not overwritten.
const OURS: &str = "# Written by `radsort setup";
/// Where drop-ins of the machine's administrator lie.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// Give the service what its configuration names.
///
/// Makes the library (with its marker, owner, group and setgid bit) and missing drop directories, writes the drop-in by which
/// systemd lets the service see and write exactly its directories and waits for their mounts, and tries as the service's
/// user whether it can work in them. What only a person can decide (permissions of directories that others use) is printed as
/// commands. Run it again after every change of paths or actions in the configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort setup --dry-run                            what would be done?
  radsort setup && systemctl enable --now radsort
  radsort setup --gpu && systemctl restart radsort   with the NVIDIA drop-in
  radsort setup --config /etc/radsort/ward3.toml && systemctl enable --now radsort@ward3

Exit status: 0 when everything is as it should be, 1 when something is left for a person, 2 wrong usage, 78 bad configuration.")]
pub struct SetupArgs {
    /// Which configuration. /etc/radsort/NAME.toml belongs to radsort@NAME.service.
    #[command(flatten)]
    pub config: ConfigArg,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also let the service use NVIDIA GPUs (a drop-in of its own)
    #[arg(long)]
    pub gpu: bool,
    /// One JSON object a line: state, what, message, commands
    #[arg(long)]
    pub json: bool,
    /// The service's unit, when the configuration's name does not tell it
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// The service's user; for another than the package's the drop-ins say so
    #[arg(long, value_name = "NAME", default_value = PACKAGED_USER)]
    pub user: String,
    /// Where drop-ins of units go
    #[arg(long, value_name = "DIR", default_value = UNITS, hide = true)]
    pub units: PathBuf,
}

/// Runs the command.
pub fn run(args: &SetupArgs) -> anyhow::Result<ExitCode> {
    // Directories above a library, and drop-ins, are for everybody to pass and read, whatever root's umask is.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let account = Account::of(&args.user);
    if let Ok(account) = &account
        && !account.can_be_tried()
    {
        anyhow::bail!(
            "setup wants root: only root can give directories to {}, and try them as that user (nothing was looked at)",
            account.name
        );
    }
    let settings = args.config.load()?;
    let mut report = Report::new(args.json, args.dry_run);
    match &account {
        Ok(account) => {
            configuration(&settings, account, &mut report);
            for shared in sites::shared_here(&settings) {
                report.add(Step {
                    state: State::ToDo,
                    what: "several sites".into(),
                    message: format!("{}. {}", shared.message(), shared.advice()),
                    commands: Vec::new(),
                });
            }
            let mut directories = Directories {
                settings: &settings,
                account,
                mounts: Mounts::of_this_machine(),
                own_state: Unit::of(&settings.source, args.unit.as_deref())
                    .map(|unit| unit.state()),
                report: &mut report,
            };
            directories.state();
            directories.destinations();
            directories.drops();
            textfile::check(&settings.metrics, account, &mut report);
        }
        Err(why) => report.add(Step {
            state: State::ToDo,
            what: "user".into(),
            message: format!("{why}; directories were not looked at"),
            commands: vec!["systemd-sysusers /usr/lib/sysusers.d/radsort.conf".into()],
        }),
    }
    let runs_as = match &account {
        Ok(account) if account.name != PACKAGED_USER => unit::runs_as(account),
        _ => String::new(),
    };
    units(args, &settings, &runs_as, &mut report)?;
    Ok(report.end())
}

/// The service reads the configuration as its own user.
fn configuration(settings: &Settings, account: &Account, report: &mut Report) {
    let read = account.run(|| config::load(&settings.source).map(drop));
    let Ok(Err(ConfigError::Read { path, source })) = read else {
        return;
    };
    // It may be a link to somewhere, the directory of its drop-ins, or one of the directories above that is closed.
    let leads = real(&path);
    let closed = account.run(|| closed_above(&leads).map(Path::to_owned));
    let name = &account.name;
    let (message, command) = if let Ok(Some(closed)) = closed {
        let group = in_shell(account.group());
        let shown = in_shell(&closed);
        // The home of another user is nobody's business.
        let command = if closed.starts_with("/etc") {
            format!("chgrp {group} {shown} && chmod g+x {shown}")
        } else {
            format!(
                "# put the configuration itself into /etc/radsort, or: setfacl -m u:{name}:x {shown}"
            )
        };
        let message = format!(
            "{name} cannot get to {}: {} is closed to it",
            leads.display(),
            closed.display()
        );
        (message, command)
    } else {
        let letters = if path.is_dir() { "rx" } else { "r" };
        let shown = in_shell(&leads);
        let group = in_shell(account.group());
        (
            format!("{name} cannot read {}: {source}", path.display()),
            format!("chgrp {group} {shown} && chmod g+{letters} {shown}"),
        )
    };
    report.add(Step {
        state: State::ToDo,
        what: "configuration".into(),
        message,
        commands: vec![command],
    });
}

/// The drop-ins, and telling systemd of them.
///
/// `runs_as`: lines for a user other than the package's.
fn units(
    args: &SetupArgs,
    settings: &Settings,
    runs_as: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(unit) = Unit::of(&settings.source, args.unit.as_deref()) else {
        report.add(Step {
            state: State::ToDo,
            what: "unit".into(),
            message: format!(
                "no unit of the package reads {}: the service reads /etc/radsort/radsort.toml, radsort@NAME reads \
                 /etc/radsort/NAME.toml (or name the unit by --unit)",
                settings.source.display()
            ),
            commands: Vec::new(),
        });
        return Ok(());
    };
    let mounts = Mounts::of_this_machine();
    let granted = grants(settings, &unit);
    let sources = [settings.source.as_path()].into_iter();
    let mut paths = sources.chain(granted.iter().map(|grant| grant.path.as_path()));
    if let Some(path) = paths.find(|path| !unit::can_be_written(path)) {
        report.add(Step {
            state: State::ToDo,
            what: "drop-in".into(),
            message: format!(
                "{:?} has a character in its name that a unit cannot hold (a new line or the like): nothing was written; \
                 give it another name",
                path.to_string_lossy()
            ),
            commands: Vec::new(),
        });
        return Ok(());
    }
    control(settings, &unit, report);
    let systemd = systemd_version();
    let mut changed = false;
    let mut write = |folder: String, file: &str, text: &str| -> anyhow::Result<()> {
        let path = args.units.join(folder).join(file);
        changed |= write_drop_in(&path, text, report)?;
        Ok(())
    };
    let text = unit::drop_in(settings, &granted, &mounts, systemd) + runs_as;
    write(format!("{}.d", unit.service()), "10-setup.conf", &text)?;
    // Each by itself: only the state is written to, even where it lies beside the others.
    let text = unit::retraining_drop_in(settings, &named(settings, &unit)) + runs_as;
    write(format!("{}.d", unit.retraining()), "10-setup.conf", &text)?;
    if args.gpu {
        // Its cache is in the unit's own state: that of another site is closed to it.
        let gpu = GPU.replace("%S/radsort/", &format!("%S/{}/", unit.folder()));
        let text = format!("{OURS} --gpu`.\n{gpu}");
        write(format!("{}.d", unit.service()), "20-gpu.conf", &text)?;
    }
    let here = args.units == Path::new(UNITS) && Path::new("/run/systemd/system").is_dir();
    if changed && here && !report.dry_run {
        let told = Command::new("systemctl").arg("daemon-reload").status();
        if !told.is_ok_and(|status| status.success()) {
            report.add(Step {
                state: State::ToDo,
                what: "systemd".into(),
                message: "systemd has not read the drop-ins".into(),
                commands: vec!["systemctl daemon-reload".into()],
            });
        } else if is_active(unit.service()) {
            // No `ToDo`: `radsort setup && systemctl restart radsort` has to go on.
            report.add(Step {
                state: State::Note,
                what: "service".into(),
                message: "it runs as it was before, until it is restarted".into(),
                commands: vec![format!("systemctl restart {}", unit.service())],
            });
        }
    }
    Ok(())
}

/// The directory of the control socket, which may be one that nobody makes.
fn control(settings: &Settings, unit: &Unit, report: &mut Report) {
    let socket = &settings.control.socket;
    let parent = socket.parent().unwrap_or(Path::new("/"));
    let own = unit.runtime();
    if parent.is_dir() || unit::is_made_at_start(parent, &own, &settings.state) {
        return;
    }
    report.add(Step {
        state: State::ToDo,
        what: "control socket".into(),
        message: format!(
            "{} is not there, and nobody makes it: leave [control] socket out, or",
            parent.display()
        ),
        commands: vec![format!(
            "# in {}: [control] socket = {:?}",
            settings.source.display(),
            own.join("control.sock").to_string_lossy()
        )],
    });
}

/// Writes a drop-in if it is not as it should be; whether it was not.
fn write_drop_in(path: &Path, text: &str, report: &mut Report) -> anyhow::Result<bool> {
    let what = "drop-in".to_owned();
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(old) if old == text => {
            report.unchanged(what, format!("{shown} is up to date"));
            return Ok(false);
        }
        Ok(old) if !old.starts_with(OURS) => {
            report.add(Step {
                state: State::ToDo,
                what,
                message: format!("{shown} was not written by this command, and stays"),
                commands: vec![format!("mv {shown} {shown}.old    # then run this again")],
            });
            return Ok(false);
        }
        _ => {}
    }
    if !report.dry_run {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let new = path.with_extension("new");
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, path));
        written.with_context(|| format!("{shown} cannot be written (this wants root)"))?;
    }
    report.done(
        what,
        format!("wrote {shown}"),
        format!("would write {shown}"),
    );
    Ok(true)
}

fn systemd_version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn is_active(unit: &str) -> bool {
    Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What became of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It was made or changed.
    Done,
    /// It would be made or changed.
    Would,
    /// It is as it should be.
    Unchanged,
    /// Good to know.
    Note,
    /// Only a person can do it.
    ToDo,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Would => "would",
            Self::Unchanged => "unchanged",
            Self::Note => "note",
            Self::ToDo => "TO DO",
        })
    }
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
struct Step {
    state: State,
    what: String,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    commands: Vec<String>,
}

/// Says what was done, as it is done.
struct Report {
    json: bool,
    dry_run: bool,
    to_do: usize,
}

impl Report {
    fn new(json: bool, dry_run: bool) -> Self {
        Self {
            json,
            dry_run,
            to_do: 0,
        }
    }

    fn add(&mut self, step: Step) {
        self.to_do += usize::from(step.state == State::ToDo);
        if self.json {
            println!("{}", serde_json::json!(step));
            return;
        }
        println!("{:<9} {}: {}", step.state, step.what, step.message);
        for command in &step.commands {
            println!("            {command}");
        }
    }

    fn unchanged(&mut self, what: String, message: String) {
        let state = State::Unchanged;
        self.add(Step {
            state,
            what,
            message,
            commands: Vec::new(),
        });
    }

    /// Something that was done, or would be.
    fn done(&mut self, what: String, did: String, would: String) {
        let (state, message) = if self.dry_run {
            (State::Would, would)
        } else {
            (State::Done, did)
        };
        self.add(Step {
            state,
            what,
            message,
            commands: Vec::new(),
        });
    }

    fn end(&self) -> ExitCode {
        if self.to_do == 0 {
            return ExitCode::SUCCESS;
        }
        if !self.json {
            println!(
                "\n{} left to do, see above; then run this again.",
                self.to_do
            );
        }
        ExitCode::FAILURE
    }
}
