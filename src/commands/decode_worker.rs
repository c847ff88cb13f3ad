//! `radsort decode-worker`: the jailed decoder's zygote, started by radsort itself and hidden from the help.

use std::process::ExitCode;

use crate::decode::worker;

/// `decode-worker` takes no arguments: what it needs comes over its standard input, a socket.
#[derive(Debug, clap::Args)]
pub struct DecodeWorkerArgs {}

/// Serves until the parent hangs up.
///
/// `main` calls this before anything else (see [`worker::serve`]); from clap it only ever explains itself.
pub fn run(_args: &DecodeWorkerArgs) -> anyhow::Result<ExitCode> {
    worker::serve()?;
    Ok(ExitCode::SUCCESS)
}

/// The way in from `main`, without logging, threads or configuration.
pub fn main() -> ExitCode {
    run(&DecodeWorkerArgs {}).unwrap_or_else(|error| {
        eprintln!("radsort: {error:#}");
        ExitCode::from(2)
    })
}
