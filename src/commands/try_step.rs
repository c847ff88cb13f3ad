//! `radsort try-step`: what `retrain` runs in a child process before it trains all weights; hidden from the help.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::retrain::first_step::{self, Step};

/// Make one training step on pictures of nothing, and end.
///
/// A step that does not fit into memory kills whoever makes it.
#[derive(Debug, clap::Args)]
#[command(
    hide = true,
    after_help = "Exit status: 0 when it fits, 1 when it cannot be tried (the reason is on stderr); killed when not."
)]
pub struct TryStepArgs {
    /// The network
    pub network: PathBuf,
    /// The step
    #[command(flatten)]
    pub step: Step,
}

/// Runs the command.
pub fn run(args: &TryStepArgs) -> anyhow::Result<ExitCode> {
    first_step::try_out(&args.network, &args.step)?;
    Ok(ExitCode::SUCCESS)
}
