//! `radsort status`: how the daemon and each of its drop directories are.

use std::process::ExitCode;

use super::access::{self, ConfigArg};
use crate::control::client::Client;
use crate::control::protocol::{Reply, Request};

/// Show how the daemon is: model and provider, every drop directory, totals, disks, the last errors.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  radsort status
  radsort status --json | jq '.watches[] | select(.state != \"online\")'

Exit status: 0 when the daemon runs, 3 when none does, 1 when it does not answer.")]
pub struct StatusArgs {
    /// As one JSON object; times are microseconds since the Unix epoch.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let socket = args.config.socket()?;
    let Some(mut client) = Client::connect(&socket)? else {
        // As systemctl and LSB do: 3 means "not running".
        if args.json {
            println!("null");
        }
        eprintln!(
            "no daemon answers at {}: start it with `radsort run`",
            socket.display()
        );
        return Ok(ExitCode::from(3));
    };
    let status = client.ask(&Request::Status {}, |reply| match reply {
        Reply::Status(status) => Some(status),
        _ => None,
    })?;
    if args.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", status.to_text(access::width()));
    }
    Ok(ExitCode::SUCCESS)
}
