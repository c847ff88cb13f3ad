//! `radsort train-phantom-bundle`: makes the bundle that is shipped, from phantoms. For developers (`make model`).

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

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
    pace: Option<Pace>,
}

/// Between two lines about the same phase lie at least this time and a tenth of what is to be done.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How fast a phase goes, told in lines.
struct Pace {
    /// When the phase was first heard of, and how far it had come then.
    began: (Instant, usize),
    /// The last line.
    told: (Instant, usize),
    /// How far it has come.
    done: usize,
}

impl Pace {
    fn new(done: usize, now: Instant) -> Self {
        Self {
            began: (now, done),
            told: (now, done),
            done,
        }
    }

    /// Whether a line is to be written; the end is always told.
    fn due(&mut self, done: usize, of: usize, now: Instant) -> bool {
        self.done = done;
        let (when, told) = self.told;
        let is_due = done == of || (now - when >= LINE_EVERY && 10 * (done - told) >= of);
        if is_due {
            self.told = (now, done);
        }
        is_due
    }

    /// How many a second, and how long the rest takes; nothing before that is known.
    fn in_words(&self, of: usize, now: Instant) -> String {
        let (began, from) = self.began;
        let (seconds, done) = ((now - began).as_secs_f64(), (self.done - from) as f64);
        if seconds <= 0.0 || done <= 0.0 {
            return String::new();
        }
        let rate = done / seconds;
        let left = Duration::from_secs_f64(of.saturating_sub(self.done) as f64 / rate);
        let rest = match self.done {
            done if done == of => String::new(),
            _ => format!(", {} left", HumanDuration(left)),
        };
        format!(", {rate:.1} a second{rest}")
    }
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
            let now = Instant::now();
            // What has fewer than before is another phase, or an epoch anew.
            let same = self.pace.take().filter(|pace| pace.done <= done);
            let mut pace = same.unwrap_or_else(|| Pace::new(done, now));
            if pace.due(done, of, now) {
                eprintln!("{phase}: {done} of {of}{}", pace.in_words(of, now));
            }
            self.pace = (done != of).then_some(pace);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_a_phase_are_few_and_say_how_fast_it_goes_and_how_long_it_takes() {
        let began = Instant::now();
        let mut pace = Pace::new(10, began);
        let mut lines = Vec::new();
        // Ten images every two seconds.
        for step in 2..=200 {
            let (done, now) = (
                10 * step,
                began + Duration::from_secs(2 * (step as u64 - 1)),
            );
            if pace.due(done, 2000, now) {
                lines.push(format!("{done}{}", pace.in_words(2000, now)));
            }
        }
        assert_eq!(lines.len(), 10, "{lines:?}");
        assert_eq!(lines[0], "210, 5.0 a second, 6 minutes left");
        assert_eq!(lines[9], "2000, 5.0 a second");

        // What is soon done is told once.
        let mut pace = Pace::new(1, began);
        let soon = (2..=100).filter(|done| pace.due(*done, 100, began + Duration::from_secs(1)));
        assert_eq!(soon.count(), 1);
        let at_once = Pace::new(100, began);
        assert_eq!(at_once.in_words(100, began), "");
    }
}
