//! `radsort phantom-trial`: how often a bundle is right on fresh phantoms. For developers (`make trial`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::commands::train_phantom::Terminal;
use crate::config::settings::RuntimeSettings;
use crate::model::Bundle;
use crate::phantom::{Difficulty, Imbalance, PlanOptions};
use crate::retrain::phantom_bundle::Report as _;
use crate::retrain::phantom_trial::{Tally, hold};

/// The seed of the trial that is published; training draws from others.
pub const SEED: u64 = 977_000;

/// Count how often a bundle files fresh phantoms where they belong.
///
/// Draws phantoms of full size in mixed transfer syntaxes, decodes and classifies them as `run` would, with the bundle's
/// own thresholds. What goes to review counts as wrong.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort phantom-trial                            the shipped bundle on 600 normal phantoms
  radsort phantom-trial --difficulty hard --seed 7 --json

Exit status: 0 when the share of right ones reaches --at-least, 1 when not.")]
pub struct Args {
    /// The bundle; default: the shipped one
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// How many phantoms
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub count: usize,
    /// Which phantoms
    #[arg(long, default_value_t = SEED)]
    pub seed: u64,
    /// normal or hard
    #[arg(long, value_enum, default_value_t = Difficulty::Normal)]
    pub difficulty: Difficulty,
    /// Columns and rows [default: each detector's own]
    #[arg(long, value_name = "WxH", value_parser = crate::commands::phantom::size)]
    pub size: Option<(u32, u32)>,
    /// Fail when fewer are right, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub at_least: f64,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let bundle = Bundle::open_or_shipped(args.model.as_deref())?;
    let options = PlanOptions {
        size: args.size,
        ..fresh(args.count, args.seed, args.difficulty)
    };
    let tally = trial(bundle.dir(), &options)?;
    if args.json {
        println!("{}", serde_json::to_string(&tally)?);
    } else {
        tell(&tally);
    }
    Ok(if tally.accuracy() >= args.at_least {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A fresh set: every category as often as any other, all of them spines.
pub fn fresh(count: usize, seed: u64, difficulty: Difficulty) -> PlanOptions {
    PlanOptions {
        count,
        seed,
        imbalance: Imbalance::Even,
        difficulty,
        size: None,
        outside: 0.0,
    }
}

/// Holds a trial on all cores, with progress on standard error.
pub fn trial(bundle: &Path, options: &PlanOptions) -> anyhow::Result<Tally> {
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut terminal = Terminal::default();
    Ok(hold(
        bundle,
        &RuntimeSettings::default(),
        options,
        threads,
        scratch.path(),
        |done| terminal.progress("fresh phantoms", done, options.count),
    )?)
}

fn tell(tally: &Tally) {
    println!(
        "{} of {} right ({:.2} %), {} filed wrongly, {} to review",
        tally.right,
        tally.images,
        100.0 * tally.accuracy(),
        tally.misfiled,
        tally.reviewed.values().sum::<usize>()
    );
    for (truth, done) in &tally.mistakes {
        for (what, count) in done {
            println!("  {truth:<24} {what:<28} {count:>4}");
        }
    }
}
