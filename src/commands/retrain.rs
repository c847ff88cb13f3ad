//! `radsort retrain`: fits the model in use to the site's own images.

mod begin;
mod comparison;
mod copies;
mod promise;
mod publish;
mod run_folder;
mod tell;
mod worth;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::error::ErrorKind;
use serde::{Deserialize, Serialize};

use self::comparison::Pair;
use self::publish::Ending;
use self::run_folder::RunFolder;
use super::access::{self, ConfigArg};
use super::evaluate::outcomes;
use super::labelled::{self, Source};
use super::outside::{self, OutsideArgs};
use super::train_phantom::Terminal;
use super::training_report::{self, Set};
use crate::config::Settings;
use crate::model::manifest::FILE_NAME;
use crate::model::runtime::Runtime;
use crate::model::store::{Store, StoreError, not_pinned};
use crate::model::{Bundle, trial};
use crate::retrain::dataset::Dataset;
use crate::retrain::device::{self, Wanted};
use crate::retrain::judging::compare::Verdict;
use crate::retrain::judging::outcome::Outcome;
use crate::retrain::looks::Looks;
use crate::retrain::people::People;
use crate::retrain::phantom_bundle::Report as _;
use crate::retrain::session::{self, Full, Mode, Watch, Wish};
use crate::retrain::sides::{Side, Sides};
use crate::retrain::trial::Under;

/// Fit the model to the site's own images.
///
/// Reads labelled images, keeps patients apart (a tenth is golden and never learned from, the rest is shared out 70:15:15),
/// trains, calibrates, judges the new bundle against the one in use on the same golden images, and keeps it beside the
/// others (`radsort models`). It runs beside the service and needs nothing of it. It may be killed at any time:
/// `--resume` goes on, and comes to the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort retrain --config radsort.toml                                     what people at this site have said
  radsort retrain --config radsort.toml --from /data/checked --dry-run      what is there to learn from, how long will it take?
  radsort retrain --config radsort.toml --from /data/checked                the last layers, minutes on a CPU
  radsort retrain --config radsort.toml --labels labels.csv --mode full --promote if-better
  radsort retrain --config radsort.toml --resume                            go on after a kill or a power cut
  radsort retrain --config radsort.toml --from /data/checked --add-category frontal-halo:frontal
  radsort retrain --config radsort.toml --from /data/checked --init efficientnet-b0 --weights b0.safetensors

Exit status: 0 a new bundle was made, 1 not (the reason is on stderr), 2 wrong usage, 78 bad configuration.")]
pub struct RetrainArgs {
    /// Which configuration: its bundle in use is what is fitted, its state directory keeps the result.
    #[command(flatten)]
    pub config: ConfigArg,
    /// What is to be done.
    #[command(flatten)]
    pub plan: Plan,
    /// Go on with the training that was interrupted, as it was told then
    #[arg(long, conflicts_with_all = PLAN, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Say what would be learned from, how long it takes and how much memory, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object at the end; with --dry-run: what would be done
    #[arg(long)]
    pub json: bool,
}

/// The options of [`Plan`], which a resumed training has been told already.
const PLAN: [&str; 32] = [
    "bundle",
    "from",
    "labels",
    "complete",
    "classifier",
    "mode",
    "add_category",
    "remove_category",
    "rename_category",
    "init",
    "weights",
    "weights_kind",
    "channels",
    "input_size",
    "hidden",
    "epochs",
    "batch",
    "learning_rate",
    "backbone_rate",
    "freeze_norms",
    "patience",
    "device",
    "seed",
    "as_version",
    "out",
    "target",
    "near",
    "far",
    "trust_untouched",
    "leave_out_copies",
    "few_patients",
    "promote",
];

/// Everything that decides what comes out: kept beside the checkpoints, so that a killed training goes on as it began.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct Plan {
    /// Start from this bundle instead of the one in use
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// The labelled images
    #[command(flatten)]
    pub source: Source,
    /// The list leaves no image of its set out, and each was judged for it
    #[arg(long, requires = "labels")]
    pub complete: bool,
    /// Which classifiers: frontal, lateral, view (their ids in the bundle), or all
    #[arg(long, value_name = "ID", default_value = "all")]
    pub classifier: String,
    /// head: the last layer on frozen features; full: all weights [default: head; full with --init]
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Changes of the categories
    #[command(flatten)]
    pub categories: begin::Categories,
    /// Networks built from nothing
    #[command(flatten)]
    pub init: begin::InitArgs,
    /// head: neurons of a hidden layer before the last one; 0: none [default: 0]
    #[arg(long, value_name = "N", value_parser = neurons)]
    pub hidden: Option<usize>,
    /// full: how often each image is seen, at most [default: 10]
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    pub epochs: Option<usize>,
    /// full: images a step; halved by itself where memory is short [default: 16]
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    pub batch: Option<usize>,
    /// full: the highest learning rate [default: 0.0005]
    #[arg(long, value_name = "RATE", value_parser = learning_rate)]
    pub learning_rate: Option<f64>,
    /// full: the part of it that everything before the last layer gets [default: 0.3; 1 with --init and no weights]
    #[arg(long, value_name = "PART", value_parser = part)]
    pub backbone_rate: Option<f64>,
    /// full: keep batch normalisation's statistics as they are
    #[arg(long)]
    pub freeze_norms: bool,
    /// full: end after so many epochs without a lower validation loss; 0: never [default: 5]
    #[arg(long, value_name = "N")]
    pub patience: Option<usize>,
    /// full: where to compute
    #[arg(long, value_enum, default_value = "auto")]
    pub device: Wanted,
    /// Of order, augmentation, random weights, and of who is drawn as golden
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// The new bundle's version [default: that of the old one, and when it was begun]
    #[arg(long, value_name = "VERSION", value_parser = super::evaluate::version)]
    pub as_version: Option<String>,
    /// Write the bundle into this folder instead of keeping it beside the others
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The part of what is filed automatically that may be wrong. The bundle carries it as its promise: thresholds are
    /// raised for it, and categories with fewer than 100 certifying images go to review [default: none; 0.005 in the report]
    #[arg(long, value_name = "SHARE", value_parser = super::evaluate::share)]
    pub target: Option<f64>,
    /// Images of no category
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// Learn also from images that nobody has looked at, where the model was at least so sure [without a value: 0.99];
    /// nothing is ever calibrated or judged on them
    #[arg(long, value_name = "CONFIDENCE", num_args = 0..=1, require_equals = true, default_missing_value = "0.99", value_parser = confidence)]
    pub trust_untouched: Option<f32>,
    /// Leave images out that are nearly the same as one of another patient on a side that judges
    #[arg(long)]
    pub leave_out_copies: bool,
    /// Train also when classes have too few patients to be judged
    #[arg(long)]
    pub few_patients: bool,
    /// Put the new bundle to use when it is better than the one in use on golden images
    #[arg(long, value_enum, default_value = "never", conflicts_with = "out")]
    #[serde(default)]
    pub promote: PromoteArg,
}

fn one_or_more(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "write a number from 1 on".to_owned())
}

/// More would be no head any more, and not fit into memory.
fn neurons(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= 65_536)
        .ok_or_else(|| "write a number from 0 to 65536".to_owned())
}

fn learning_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "write a number above 0, such as 5e-4".to_owned())
}

/// A part of something, which may be none and all of it.
fn part(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part| (0.0..=1.0).contains(part))
        .ok_or_else(|| "write a number from 0 to 1, such as 0.3".to_owned())
}

/// A confidence from 0 to 1.
fn confidence(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|confidence| (0.0..=1.0).contains(confidence))
        .ok_or_else(|| "write a confidence from 0 to 1, such as 0.99".to_owned())
}

impl Plan {
    fn mode(&self) -> Mode {
        match self.mode {
            Some(ModeArg::Full) => Mode::Full,
            None if self.init.init.is_some() => Mode::Full,
            Some(ModeArg::Head) | None => Mode::Head,
        }
    }

    /// Refuses at once what could not be promoted hours later.
    fn may_promote(&self, settings: &Settings) -> Result<(), StoreError> {
        match self.promote {
            PromoteArg::IfBetter => not_pinned(settings),
            PromoteArg::Never => Ok(()),
        }
    }

    /// Refuses at once what could not be kept hours later.
    fn may_keep(&self, settings: &Settings, in_use: &Bundle) -> anyhow::Result<()> {
        let start = self.bundle.as_deref().unwrap_or_else(|| in_use.dir());
        if let Some(out) = &self.out {
            for dir in [start, in_use.dir()] {
                let same = out
                    .canonicalize()
                    .is_ok_and(|out| dir.canonicalize().is_ok_and(|dir| dir == out));
                ensure!(
                    !same,
                    "--out {}: this bundle is what is started from, or in use: give another folder",
                    out.display()
                );
            }
            ensure!(
                is_free(out),
                "--out {}: there are other things in this folder: give a new or an empty one, or that of an earlier bundle",
                out.display()
            );
        } else if let Some(version) = &self.as_version {
            let name = Bundle::open(start)?.manifest().name.clone();
            Store::new(&settings.state).may_keep(&name, version)?;
        }
        Ok(())
    }

    /// Makes the folder of `--out`, and tries to write there.
    fn make_out(&self) -> anyhow::Result<()> {
        if let Some(out) = &self.out {
            std::fs::create_dir_all(out)
                .and_then(|()| tempfile::tempfile_in(out).map(drop))
                .with_context(|| format!("--out {}", out.display()))?;
        }
        Ok(())
    }

    /// Weights that know nothing must all learn at once.
    fn backbone_rate(&self) -> f64 {
        let from_nothing = self.init.init.is_some() && self.init.weights.is_none();
        let usual = if from_nothing { 1.0 } else { 0.3 };
        self.backbone_rate.unwrap_or(usual)
    }
}

/// Whether a bundle may be written there without overwriting what is no bundle. What cannot be read is found out later.
fn is_free(out: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(out) else {
        return true;
    };
    entries.next().is_none() || out.join(FILE_NAME).is_file()
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum ModeArg {
    /// The last layer.
    Head,
    /// All weights.
    Full,
}

/// When the new bundle is put to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum PromoteArg {
    /// By `radsort models promote`.
    #[default]
    Never,
    /// At once, when golden images say that it is better.
    IfBetter,
}

/// Runs the command.
pub fn run(args: &RetrainArgs) -> anyhow::Result<ExitCode> {
    if let Some(why) = args.plan.of_the_other_mode() {
        clap::Error::raw(ErrorKind::ArgumentConflict, why).print()?;
        return Ok(ExitCode::from(2));
    }
    let settings = args.config.load()?;
    access::become_owner_of(&settings.state)?;
    // The service's files come first.
    lower_priority();
    let in_use = Bundle::open(&Store::in_use(&settings)?)?;
    args.plan.may_promote(&settings)?;
    if !args.resume {
        args.plan.may_keep(&settings, &in_use)?;
    }
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    let folder = match (args.dry_run, args.resume) {
        (true, _) => RunFolder::passing(scratch.path(), args.plan.clone(), &in_use),
        (false, true) => RunFolder::resume(&settings.state),
        (false, false) => RunFolder::begin(&settings, &args.plan, &in_use),
    };
    let folder = access::as_whom(folder, &settings.state)?;
    let plan = folder.plan();
    plan.may_promote(&settings)?;
    access::as_whom(plan.outside.are_there(), &settings.state)?;
    if !args.dry_run {
        access::as_whom(plan.make_out(), &settings.state)?;
    }
    let (start, must) = access::as_whom(begin::start(plan, &folder), &settings.state)?;
    let classifiers = chosen(&start, &plan.classifier)?;
    if let Some(id) = must.iter().find(|id| !classifiers.contains(id)) {
        bail!(
            "--classifier {}: the categories of classifier {id} change, it must be trained too",
            plan.classifier
        );
    }
    let chosen = device::choose(plan.device, plan.mode())?;
    let loaded = images(&folder, &[&start, &in_use], &settings);
    let mut dataset = access::as_whom(loaded, &settings.state)?;
    let images = RunFolder::as_text(&dataset)?;
    let place = Sides::place(&settings.state);
    let mut sides = Sides::read(&place).with_context(|| place.display().to_string())?;
    let people = People::join(&mut dataset, &mut sides);
    sides.admit(&judgeable(&dataset), plan.seed);
    copies::settle(&mut dataset, &sides, plan.leave_out_copies, args.dry_run)?;
    let looks = copies::known(&mut dataset, &sides, &settings.state, &start)?;
    sides.learn_from(untouched(&dataset));
    people.settle(&mut sides);
    let mut wish = Wish {
        bundle: &start,
        dataset: &dataset,
        sides: &sides,
        classifiers,
        mode: plan.mode(),
        hidden: plan.hidden.unwrap_or(0),
        full: Full {
            epochs: plan.epochs.unwrap_or(10),
            batch: plan.batch.unwrap_or(16),
            learning_rate: plan.learning_rate.unwrap_or(5e-4),
            backbone_rate: plan.backbone_rate(),
            frozen_norms: plan.freeze_norms,
            patience: plan.patience.unwrap_or(5),
            checkpoints: Some(folder.checkpoints()),
            resume: args.resume,
        },
        device: chosen.device,
        device_name: chosen.name,
        seed: plan.seed,
        trust_untouched: plan.trust_untouched,
        few_patients: plan.few_patients,
        version: folder.version(),
        threads: match settings.runtime.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        },
    };
    if plan.classifier == ALL
        && let Some(why) = session::spare_view(&mut wish, &must)
    {
        eprintln!("{why}");
    }
    tell::plan(&wish, people.found, &chosen.why);
    if !args.dry_run {
        session::enough(&wish)?;
    }
    let runtime = Runtime::load(&settings.runtime)?;
    let forecast = session::forecast(&wish, &runtime)?;
    tell::forecast(&forecast);
    if args.dry_run {
        if args.json {
            println!("{}", tell::as_json(&wish, people.found, &forecast));
        }
        for problem in session::too_few(&wish) {
            eprintln!("too few: {problem}");
        }
        for problem in session::unseen(&wish) {
            eprintln!("would be refused: {problem}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is learned: nobody can change sides any more.
    sides
        .write(&place)
        .with_context(|| place.display().to_string())?;
    if let Some(mut looks) = looks {
        let fitted = copies::on_sides(&dataset, &sides, [Side::Training, Side::Validation]);
        looks
            .learn(&dataset, &fitted)
            .with_context(|| Looks::folder(&settings.state).display().to_string())?;
    }
    folder.begin_with(&images)?;

    let made = folder.made()?;
    let out = plan.out.clone().unwrap_or(made);
    let made = session::run(&wish, &runtime, &out, &mut Lines::default())?;
    trial::try_in_child(&out, &settings.runtime).map_err(anyhow::Error::msg)?;
    let mut candidate = Bundle::open(&out)?;
    if let Some(target) = plan.target {
        candidate = promise::raise_thresholds(candidate, target, &wish, &settings)?;
    }

    let mut sets = judge(&candidate, &wish, &settings)?;
    let target = plan.target.unwrap_or(promise::USUAL_TARGET);
    let files_uncertified = settings.review.files_uncertified;
    let certified = training_report::certified(&candidate, &wish, &sets, target, files_uncertified);
    if plan.target.is_some() {
        candidate = promise::carry(candidate, &certified)?;
        // Some categories may go to review from now on: all figures are of the bundle as it will be used.
        sets = judge(&candidate, &wish, &settings)?;
    }
    let outside = outside::ask(
        &plan.outside,
        &candidate,
        Some(&settings),
        Under::of(&settings),
    )?;
    let pair = Pair {
        candidate: &candidate,
        in_use: &in_use,
        wish: &wish,
        settings: &settings,
    };
    let beside = sets.first().map(|set| pair.beside(set)).transpose()?;
    let golden = sets.iter().find(|set| set.name == Side::Golden.word());
    let comparison = golden
        .map(|set| pair.on_golden(set, &outside, plan, target))
        .transpose()?;
    let looked = comparison.is_some();
    let not_compared = golden.is_none().then(|| comparison::no_golden(&in_use));
    let better = comparison
        .as_ref()
        .is_some_and(|comparison| comparison.verdict == Verdict::Better);
    candidate = worth::carry(candidate, &sets)?;
    let mut report =
        training_report::on_training(&candidate, &wish, &made, &sets, comparison, certified);
    (report.outside, report.beside, report.not_compared) = (outside, beside, not_compared);
    let mistakes = sets
        .first()
        .map_or_else(Vec::new, |set| training_report::mistakes(&dataset, set));
    let store = Store::new(&settings.state);
    // To the end nobody else changes what is in use: what the report says of it holds.
    let held = store.hold()?;
    report.in_use_since = publish::put_to_use_since(&settings, &in_use)?;
    training_report::write(&out, &candidate, &report, &mistakes)?;
    if looked {
        Sides::look_at_golden(&place).with_context(|| place.display().to_string())?;
    }
    let ending = Ending {
        settings: &settings,
        store: &store,
        folder: &folder,
        candidate: &candidate,
        report: &report,
        better,
        out: &out,
    };
    ending.publish(held, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// The labelled images: as they were when the training began, where it goes on.
fn images(folder: &RunFolder, bundles: &[&Bundle], settings: &Settings) -> anyhow::Result<Dataset> {
    let (plan, source) = (folder.plan(), folder.source());
    match folder.images()? {
        Some(began) => labelled::load_again(began, &source, bundles, settings),
        None => labelled::load(
            &source,
            plan.complete,
            plan.trust_untouched,
            bundles,
            Some(settings),
        ),
    }
}

/// The word for every classifier.
const ALL: &str = "all";

fn chosen(bundle: &Bundle, word: &str) -> anyhow::Result<Vec<String>> {
    let known: Vec<String> = bundle
        .manifest()
        .classifiers
        .iter()
        .map(|spec| spec.id.clone())
        .collect();
    if word == ALL {
        return Ok(known);
    }
    ensure!(
        known.iter().any(|id| id == word),
        "the bundle has no classifier {word:?}; it has {}",
        known.join(", ")
    );
    Ok(vec![word.to_owned()])
}

/// What everything that is judged rests on: images that a person has seen. Neither view counts as a class of its own.
fn judgeable(dataset: &Dataset) -> Vec<(&str, usize)> {
    let seen = dataset.examples.iter().filter(|example| example.is_seen());
    seen.map(|example| {
        let class = example.category.map_or(0, |category| category + 1);
        (example.patient.as_str(), class)
    })
    .collect()
}

/// The patients whose images nobody has looked at.
fn untouched(dataset: &Dataset) -> impl Iterator<Item = &str> {
    let untouched = dataset.examples.iter().filter(|example| !example.is_seen());
    untouched.map(|example| example.patient.as_str())
}

/// Asks the candidate about test, validation and golden images.
fn judge(candidate: &Bundle, wish: &Wish<'_>, settings: &Settings) -> anyhow::Result<Vec<Set>> {
    let mut sets = Vec::new();
    for side in [Side::Test, Side::Golden, Side::Validation] {
        let indices = session::seen_on(wish, side);
        if !indices.is_empty() {
            sets.push(Set {
                name: side.word(),
                outcomes: ask(candidate, wish, &indices, settings)?,
                indices,
            });
        }
    }
    Ok(sets)
}

fn ask(
    bundle: &Bundle,
    wish: &Wish<'_>,
    indices: &[usize],
    settings: &Settings,
) -> anyhow::Result<Vec<Outcome>> {
    outcomes(
        bundle,
        wish.bundle,
        wish.dataset,
        indices,
        Under::of(settings),
    )
}

/// The lowest priority: the service's files come first.
fn lower_priority() {
    // Not being nice is no reason to fail.
    let _ = rustix::process::nice(19);
}

/// Lines and bars on standard error.
#[derive(Default)]
struct Lines(Terminal);

impl Watch for Lines {
    fn line(&mut self, text: &str) {
        self.0.line(text);
    }

    fn progress(&mut self, phase: &str, done: usize, of: usize) {
        self.0.progress(phase, done, of);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Args as _;

    #[test]
    fn a_bundle_is_not_written_among_other_things() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        assert!(is_free(&out.join("new")) && is_free(out));
        std::fs::write(out.join("thesis.docx"), "x").unwrap();
        assert!(!is_free(out));
        std::fs::write(out.join(FILE_NAME), "x").unwrap();
        assert!(is_free(out), "an earlier bundle may be replaced");
    }

    #[test]
    fn a_resumed_training_takes_none_of_the_options_that_say_what_comes_out() {
        let command = RetrainArgs::augment_args(clap::Command::new("retrain"));
        let others = ["config", "resume", "dry_run", "json"];
        let options = command.get_arguments().map(|arg| arg.get_id().as_str());
        let mut of_plan: Vec<&str> = options.filter(|id| !others.contains(id)).collect();
        let mut refused = PLAN.to_vec();
        of_plan.sort_unstable();
        refused.sort_unstable();
        assert_eq!(of_plan, refused);
        let words = ["retrain", "--resume", "--epochs", "50"];
        let why = command.try_get_matches_from(words).unwrap_err().to_string();
        assert!(why.contains("'--epochs <N>'"), "{why}");
    }
}
