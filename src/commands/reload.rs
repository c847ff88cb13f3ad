//! `radsort reload`: the daemon reads its configuration and model again.

use std::process::ExitCode;

use anyhow::bail;

use super::access::ConfigArg;
use crate::control::client::Client;
use crate::control::protocol::Request;

/// Have the daemon read its configuration and model again, and wait until they are in use.
///
/// New settings and a new model are built and warmed up beside the old ones. If they are bad, the old ones stay in use
/// and this command says what is wrong.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  radsort check && radsort reload
  systemctl reload radsort                         the same, by systemd

Exit status: 0 when the new settings are in use, 1 when the old ones still are.")]
pub struct ReloadArgs {
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let socket = args.config.socket()?;
    let Some(mut client) = Client::connect(&socket)? else {
        bail!(
            "no daemon answers at {}: there is nothing to reload",
            socket.display()
        );
    };
    for reply in client.request(&Request::Reload {})? {
        reply?;
    }
    if args.json {
        println!("{}", serde_json::json!({ "reloaded": true }));
    } else {
        println!("the new settings are in use");
    }
    Ok(ExitCode::SUCCESS)
}
