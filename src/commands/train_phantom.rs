//! `radsort train-phantom-bundle`: makes the bundle that is shipped, from phantoms. For developers (`make model`).

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::phantom_trial;
use crate::model::Bundle;
use crate::phantom::Difficulty;
use crate::retrain::bundle_writer;
use crate::retrain::phantom_bundle::{Effort, Report, Start, draw, make};

/// Options of `train-phantom-bundle`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The folder that the bundle is written to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Scales how much is drawn and how long is trained; 1 is what the shipped bundle is made with
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub effort: f64,
    /// Go on from a bundle that this command made, with fresh phantoms, instead of from random weights
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// How many epochs [default: as the effort says]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value_t = Effort::default().learning_rate)]
    pub learning_rate: f64,
    /// Seed of phantoms, weights and order
    #[arg(long, default_value_t = Effort::default().seed)]
    pub seed: u64,
}

/// Trains and writes the bundle.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.effort > 0.0 && args.effort <= 100.0,
        "--effort must lie above 0 and up to 100"
    );
    let full = Effort::default();
    let scaled = |count: usize| ((count as f64 * args.effort).round() as usize).max(1);
    let effort = Effort {
        normal: scaled(full.normal),
        hard: scaled(full.hard),
        neither: scaled(full.neither),
        learning_rate: args.learning_rate,
        epochs: args.epochs.unwrap_or(
            ((full.epochs as f64 * args.effort.min(1.0).sqrt()).round() as usize).max(2),
        ),
        seed: args.seed,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ..full
    };
    let scratch = args.out.join(".scratch");
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("cannot make {}", scratch.display()))?;
    let start = match &args.from {
        Some(dir) => Some(Start::of(&Bundle::open(dir)?)?),
        None => None,
    };
    let drawn = draw(&effort, &scratch, &mut Terminal::default());
    // The scratch folder holds at most a few phantoms; that it stays is no reason to fail.
    let _ = std::fs::remove_dir_all(&scratch);
    let mut manifest = make(&effort, &drawn?, start, &args.out, &mut Terminal::default())?;
    for difficulty in [Difficulty::Normal, Difficulty::Hard] {
        let fresh = phantom_trial::fresh(scaled(600), phantom_trial::SEED, difficulty);
        let tally = phantom_trial::trial(&args.out, &fresh)?;
        manifest.metrics.insert(
            format!("fresh-{}", difficulty.word()),
            tally.figures().into(),
        );
    }
    bundle_writer::write_manifest(&args.out, &manifest)?;
    eprintln!(
        "{} written to {}",
        manifest.name_and_version(),
        args.out.display()
    );
    Ok(())
}

/// Lines on standard error, with a bar when a person is looking.
#[derive(Default)]
pub struct Terminal {
    bar: Option<ProgressBar>,
}

impl Report for Terminal {
    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn progress(&mut self, phase: &str, done: usize, of: usize) {
        if !std::io::stderr().is_terminal() {
            if done.is_multiple_of(100) || done == of {
                eprintln!("{phase}: {done} of {of}");
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}, {eta} left");
            ProgressBar::new(of as u64)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_message(phase.to_owned());
        bar.set_position(done as u64);
        if done == of {
            bar.finish_and_clear();
            self.bar = None;
        }
    }
}
