//! `radsort run`: the service in the foreground.

use std::process::ExitCode;

use anyhow::Context;

use super::access::{self, ConfigArg};
use crate::config::Settings;
use crate::sys::heap;
use crate::telemetry::Event;
use crate::{daemon, telemetry};

/// Run the service in the foreground.
///
/// Watches the configured drop directories until it is told to stop. SIGTERM or Ctrl-C finishes what is in flight and
/// stops; SIGHUP takes up a changed configuration (as `radsort reload` does, which also says whether that worked).
/// Under systemd it reports READY once the model is warm, and STATUS from time to time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort check --config radsort.toml && radsort run --config radsort.toml
  RUST_LOG=radsort=debug radsort run --config radsort.toml

Exit status: 0 stopped as asked; 1 failed; 2 wrong usage; 75 a fresh process may cure it (a GPU error that sticks, a
ledger that cannot be written any more); 78 a person must act: the configuration is bad, or the ledger damaged or of a
later version.")]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the service until it is told to stop.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load();
    // Without a configuration nobody has said where to: what is wrong with it is told where the service would start.
    let log = settings.as_ref().map(|settings| settings.log.clone());
    let for_programs = telemetry::start(&log.unwrap_or_default())?;
    match settings.and_then(serve) {
        Err(error) if for_programs => {
            let exit_status = super::exit_status(&error);
            let why = super::in_words(&error);
            tracing::error!(event = %Event::Failed, exit_status, "{why}");
            Ok(ExitCode::from(exit_status))
        }
        ended => ended,
    }
}

fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    access::refuse_as_root(&settings)?;
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
