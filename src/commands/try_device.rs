//! `radsort try-device`: what `retrain` runs in a child process before it computes on a GPU; hidden from the help.

use std::process::ExitCode;

use crate::retrain::device::{self, Wanted};

/// Compute a product on a device, and end.
///
/// A missing or broken driver can crash whoever asks for it.
#[derive(Debug, clap::Args)]
#[command(
    hide = true,
    after_help = "Exit status: 0 when it works, 1 when not (the reason is on stderr)."
)]
pub struct TryDeviceArgs {
    /// Which.
    pub device: Wanted,
}

/// Runs the command.
pub fn run(args: &TryDeviceArgs) -> anyhow::Result<ExitCode> {
    device::try_out(args.device)?;
    Ok(ExitCode::SUCCESS)
}
