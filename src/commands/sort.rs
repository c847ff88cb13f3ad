//! `radsort sort`: one pass over directories through the same pipeline as the service's.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::access::{self, ConfigArg};
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::{Reply, Request, SortProgress, SortSummary};
use crate::engine::Engine;
use crate::{pass, telemetry};

/// Sort directories once, and exit.
///
/// Every file goes the same way as in the service, by the settings of the `[[watch]]` that the directory is or lies in,
/// else of the first one. Beside a running service the directories are handed over to it. Ends when every file is
/// accounted for: files that are still being written or cannot be taken count as waiting.
///
/// Exit codes: 0 every file has its place; 1 some are waiting, or it failed; 2 wrong usage; 78 bad configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort sort /data/2019 /data/2020 --config radsort.toml
  radsort sort /data/2019 --dry-run            decide, but record and touch nothing
  radsort sort /data/2019 --json | jq .review

Exit status: 0 when nothing waits any more, 1 when files do (they were still being written, or cannot be taken), 2 on wrong usage.")]
pub struct SortArgs {
    /// The directories.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
    /// Decide only: record and touch nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Sorts.
pub fn run(args: &SortArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let mut dirs = Vec::new();
    for dir in &args.dirs {
        dirs.push(
            dir.canonicalize()
                .with_context(|| dir.display().to_string())?,
        );
    }
    let mut progress = Shown::new();
    let summary = match Client::connect(&settings.control.socket)? {
        Some(client) => hand_over(client, dirs, args.dry_run, &mut progress)?,
        None => alone(settings, dirs, args.dry_run, &mut progress)?,
    };
    progress.clear();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary, args.dry_run);
    }
    Ok(if summary.waiting == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks the running service.
fn hand_over(
    mut client: Client,
    dirs: Vec<PathBuf>,
    dry_run: bool,
    progress: &mut Shown,
) -> anyhow::Result<SortSummary> {
    let mut summary = None;
    for reply in client.request(&Request::Sort { dirs, dry_run })? {
        match reply? {
            Reply::SortProgress(now) => progress.show(&now),
            Reply::Sorted(end) => summary = Some(end),
            _ => {}
        }
    }
    summary.context("the service did not say how it ended")
}

/// Does it in this process, which holds the state directory meanwhile.
fn alone(
    settings: Settings,
    dirs: Vec<PathBuf>,
    dry_run: bool,
    progress: &mut Shown,
) -> anyhow::Result<SortSummary> {
    // A dry run leaves nothing behind: what is not there yet is made elsewhere for as long as it lasts.
    let elsewhere = (dry_run && !settings.state.exists())
        .then(tempfile::tempdir)
        .transpose()?;
    let settings = match &elsewhere {
        Some(elsewhere) => settings.with_everything_in(elsewhere.path()),
        None => settings,
    };
    if settings.state.exists() {
        access::become_owner_of(&settings.state)?;
    }
    telemetry::start_quiet(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("radsort")
        .build()?;
    let result = runtime.block_on(async {
        let engine = Arc::new(Engine::open(settings, &|_| {})?);
        if !dry_run {
            engine.state.recover().await?;
        }
        let stop = CancellationToken::new();
        let (out, mut told) = mpsc::channel(16);
        let mut pass = {
            let (engine, stop) = (Arc::clone(&engine), stop.clone());
            tokio::spawn(async move { pass::run(&engine, &dirs, dry_run, out, stop).await })
        };
        let summary = loop {
            tokio::select! {
                Some(now) = told.recv() => progress.show(&now),
                _ = tokio::signal::ctrl_c() => stop.cancel(),
                ended = &mut pass => break ended?,
            }
        };
        engine.state.close().await;
        summary
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Progress: a bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = "{bar:40} {pos}/{len} files  {per_sec}  {msg} (about {eta} left)";
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self {
            bar,
            last_line: Instant::now(),
        }
    }

    fn show(&mut self, now: &SortProgress) {
        let done = pass::accounted(&now.so_far);
        match &self.bar {
            Some(bar) => {
                bar.set_length(now.found);
                bar.set_position(done);
                bar.set_message(if now.complete { "" } else { "still looking" });
            }
            None if self.last_line.elapsed() > Duration::from_secs(10) => {
                eprintln!("{done} of {} files", now.found);
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn print(summary: &SortSummary, dry_run: bool) {
    let would = if dry_run {
        " (nothing was touched: --dry-run)"
    } else if summary.observed > 0 {
        " (nothing was touched: action = \"observe\"; this is what would become of them)"
    } else {
        ""
    };
    println!(
        "{} files in {:.1} s{would}",
        pass::accounted(summary) + summary.waiting,
        summary.seconds
    );
    for (count, what) in [
        (summary.filed, "filed under a category"),
        (summary.review, "for a person to review"),
        (
            summary.other,
            "DICOM that is no radiograph, moved to _other",
        ),
        (summary.left, "left where they are (not for radsort)"),
        (summary.quarantined, "quarantined (cannot be read)"),
        (summary.duplicates, "duplicates"),
        (
            summary.waiting,
            "waiting (still being written, or not to be taken)",
        ),
    ] {
        if count > 0 {
            println!("  {count:7}  {what}");
        }
    }
}
