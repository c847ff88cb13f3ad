//! `radsort reindex`: deletes the index and builds it again from the ledger.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::access::{self, ConfigArg};
use super::verify;
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::{Reply, Request};
use crate::index::Index;
use crate::index::verify::{Summary, verify_rebuilt};

/// Delete the index and build it again from the ledger, then compare it with the folders.
///
/// The index is a cache: nothing is lost by this, and no file is touched. The old index answers until the new one is
/// complete. The daemon does the same by itself when it finds its index damaged.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  radsort reindex                                  the service may run, and goes on
  radsort reindex --json

Exit status: 0 when the index has been built and a person need look at nothing, 1 otherwise (see `radsort verify`).")]
pub struct ReindexArgs {
    /// As one JSON object: records, the seconds that building took, and differences from the folders by kind.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &ReindexArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let bar = access::spinner("folding records");
    let (Built { records, took }, summary) = match Client::connect(&settings.control.socket)? {
        Some(mut client) => through_daemon(&mut client, &bar)?,
        None => directly(&settings, &bar)?,
    };
    bar.finish_and_clear();
    let seconds = took.as_secs_f64();
    if args.json {
        let differences = &summary.differences;
        println!(
            "{}",
            serde_json::json!({ "records": records, "seconds": seconds, "differences": differences })
        );
    } else {
        println!("the index has been built from {records} records in {seconds:.1} s");
        verify::print_summary(&summary);
    }
    Ok(if summary.is_bad() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// An index that has been built.
struct Built {
    records: u64,
    took: Duration,
}

fn through_daemon(client: &mut Client, bar: &ProgressBar) -> anyhow::Result<(Built, Summary)> {
    let began = Instant::now();
    let mut records = 0;
    for reply in client.request(&Request::Reindex {})? {
        match reply? {
            Reply::Progress(progress) => bar.set_position(progress.done),
            Reply::Reindexed { records: folded } => records = folded,
            _ => {}
        }
    }
    let took = began.elapsed();
    let mut summary = Summary::default();
    for reply in client.request(&Request::Verify { digests: false })? {
        if let Reply::Verified(verified) = reply? {
            summary = verified;
        }
    }
    Ok((Built { records, took }, summary))
}

fn directly(settings: &Settings, bar: &ProgressBar) -> anyhow::Result<(Built, Summary)> {
    access::become_owner_of(&settings.state)?;
    let began = Instant::now();
    let (index, records) = Index::start_anew(&settings.state, |folded| bar.set_position(folded))?;
    let took = began.elapsed();
    let roots = access::destinations(settings);
    let summary = Summary {
        records,
        ..verify_rebuilt(&index, &roots)?
    };
    index.close()?;
    Ok((Built { records, took }, summary))
}
