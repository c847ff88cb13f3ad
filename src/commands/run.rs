//! `radsort run`: the service in the foreground.

use std::process::ExitCode;

use anyhow::Context;

use super::access::ConfigArg;
use crate::sys::heap;
use crate::{daemon, telemetry};

/// Run the service in the foreground.
///
/// Watches the configured drop directories until it is told to stop. SIGTERM or Ctrl-C finishes what is in flight and
/// stops; SIGHUP takes up a changed configuration (as `radsort reload` does, which also says whether that worked).
/// Under systemd it reports READY once the model is warm, and STATUS from time to time.
///
/// Exit codes: 0 stopped as asked; 1 failed; 2 wrong usage; 75 a fresh process may cure it (a GPU error that sticks);
/// 78 a person must act: the configuration is bad, or the ledger damaged or of a later version.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort check --config radsort.toml && radsort run --config radsort.toml
  RUST_LOG=radsort=debug radsort run --config radsort.toml")]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the service until it is told to stop.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    telemetry::start(&settings.log)?;
    heap::share_between_threads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("radsort")
        .build()
        .context("cannot start threads")?;
    let code = runtime.block_on(daemon::run(settings));
    // A share that hangs may hold a blocking thread for ever; it has nothing that could be lost.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    code
}
