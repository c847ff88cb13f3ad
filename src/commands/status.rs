//! `radsort status`: how the daemon and each of its drop directories are.

use std::process::ExitCode;

use super::access::{self, ConfigArg};
use super::status_watch;
use crate::control::ControlError;
use crate::control::client::Client;
use crate::control::protocol::{Reply, Request};
use crate::control::status::Status;

/// Show how the daemon is: model and provider, every drop directory, totals, disks, the last errors.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  radsort status
  radsort status --json | jq '.watches[] | select(.state != \"online\")'
  radsort status --watch                          live; q or Ctrl-C ends
  radsort status --watch --interval 60 >> log     a line a minute
  radsort status --watch --json --count 3         one object a line

Exit status: 0 when the daemon runs, 3 when none does, 1 when it does not answer; with --watch, at the last look.")]
pub struct StatusArgs {
    /// As one JSON object; times are microseconds since the Unix epoch.
    #[arg(long)]
    pub json: bool,
    /// Again and again: a live view on a terminal, else one line each time.
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, requires = "watch", value_parser = interval)]
    pub interval: f64,
    /// End after so many looks.
    #[arg(long, value_name = "N", requires = "watch")]
    pub count: Option<u64>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("expected 0.1 to 86400 seconds".to_owned())
    }
}

/// Runs the command.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let socket = args.config.socket()?;
    if args.watch {
        return status_watch::run(&socket, args);
    }
    let Some(mut client) = Client::connect(&socket)? else {
        // As systemctl and LSB do: 3 means "not running".
        if args.json {
            println!("null");
        }
        eprintln!(
            "no daemon answers at {}: start it with `{}`",
            socket.display(),
            access::starting(&args.config.path())
        );
        return Ok(ExitCode::from(3));
    };
    let status = ask(&mut client)?;
    if args.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", status.to_text(access::width()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a daemon how it is.
pub(super) fn ask(client: &mut Client) -> Result<Status, ControlError> {
    client.ask(&Request::Status {}, |reply| match reply {
        Reply::Status(status) => Some(*status),
        _ => None,
    })
}
