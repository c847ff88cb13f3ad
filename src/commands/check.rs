//! `radsort check`: everything that `run` needs, tried for real, one finding a line as it is found.
//!
//! Each finding is ok, a warning or an error, and says what to do. What is tried leaves nothing behind: a probe file in
//! a drop directory or the library is hidden, empty, and gone a moment later; drop directories that are only observed
//! or copied from are not written to. One file a subject; where a judgement is not simply "it worked", looking gives facts
//! and a pure rule judges them.

mod cleaners;
mod confinement;
mod disks;
mod drops;
mod findings;
mod gpu;
mod metrics;
mod model;
mod neighbours;
mod programs;
mod service;
mod shares;
mod state;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Access, AtFlags, CWD};

use super::access::ConfigArg;
use super::drop_tree::DropTree;
use crate::watch::ShareKind;
use findings::Findings;

/// Check everything that the daemon needs, by trying it.
///
/// Configuration, directories and permissions (and whether files of other owners can be taken), network shares (who owns
/// what is made there, locks, clocks), other programs in the drop directories, inotify limits, disk space, the state
/// directory and its index, SELinux and AppArmor, the GPU's driver and libraries, the jail of the decoders, ONNX Runtime,
/// and the model: each classifier is warmed up on the device that it will use and must give the known answers for its
/// reference images.
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
            service::check_user(&settings, &mut findings);
            let running = service::check_control(&settings, &mut findings);
            let drop_in = service::drop_in(&settings);
            service::check_unit(&settings, drop_in.as_ref(), &mut findings);
            for watch in &settings.watches {
                let tree = DropTree::look(watch);
                drops::check(
                    watch,
                    &settings.library.path,
                    &tree,
                    drop_in.as_ref(),
                    &mut findings,
                );
                shares::check_drop(watch, &tree, &mut findings);
                neighbours::check(watch, &settings.source, &mut findings);
            }
            neighbours::check_sites(&settings, &mut findings);
            drops::check_inotify(&settings, &mut findings);
            disks::check_destinations(&settings, &mut findings);
            shares::check_library(&settings.library, &mut findings);
            state::check(&settings, running, &mut findings);
            service::check_log(&settings, &mut findings);
            metrics::check_textfile(&settings, &mut findings);
            metrics::check_listen(&settings, running, drop_in.as_ref(), &mut findings);
            confinement::check(&settings, &mut findings);
            programs::check(&settings.runtime, &mut findings);
            programs::check_alert(&settings.alert.command, &mut findings);
            gpu::check(&settings.runtime, &mut findings);
            model::check_jail(&settings, &mut findings);
            model::check_model(&settings, &mut findings);
        }
    }
    findings.end()
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

/// Whether this (effective) user may.
pub(super) fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// What kind of filesystem a directory is on.
fn share_kind(path: &Path) -> io::Result<ShareKind> {
    ShareKind::of(File::open(path)?)
}
