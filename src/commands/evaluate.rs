//! `radsort evaluate`: what a bundle is worth on labelled images.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::access::{self, ConfigArg};
use super::certify;
use super::known;
use super::labelled::{self, Source};
use super::outside::{self, OutsideArgs};
use super::train_phantom::Terminal;
use super::training_report::{self, Set};
use crate::config::settings::{DecoderSettings, ReviewSettings, RuntimeSettings};
use crate::domain::{CategoryId, Pseudonym};
use crate::model::Bundle;
use crate::model::bundle::check_version;
use crate::model::store::Store;
use crate::retrain::bundle_writer;
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::judging::outcome::{Done, Outcome};
use crate::retrain::judging::report::{page, summary};
use crate::retrain::phantom_bundle::Report as _;
use crate::retrain::trial::{self, Under};

/// Judge a bundle on labelled images, end to end: decoded, classified and decided on as `run` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort evaluate --from /data/checked                 folders called like the categories
  radsort evaluate --labels labels.csv --bundle models/next --json
  radsort evaluate --labels labels.csv --complete --target 0.01 --certified models/certified

Exit status: 0 when the images could be judged (and the promise is kept, with --certified), 1 when not.")]
pub struct EvaluateArgs {
    /// The bundle; default: that in use by the configuration, else the shipped one
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// The labelled images
    #[command(flatten)]
    pub source: Source,
    /// The list leaves no image of its set out, and each was judged for it: its error rate says something about all files
    #[arg(long, requires = "labels")]
    pub complete: bool,
    /// The part of what is filed automatically that may be wrong, for the promise
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, value_parser = share)]
    pub target: f64,
    /// Images of no category
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// Write a page with figures, curves and the worst mistakes
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// When the promise is kept: write the bundle with it into this new folder, for `radsort models import`. Its own
    /// thresholds count, not those of a configuration
    #[arg(long, value_name = "DIR")]
    pub certified: Option<PathBuf>,
    /// With --certified and without a configuration, whose state knows: none of these patients was learned from, says who asks
    #[arg(long, requires = "certified")]
    pub unseen: bool,
    /// The version of the bundle with the promise [default: that of the bundle, and the time]
    #[arg(long, value_name = "VERSION", requires = "certified", value_parser = version)]
    pub as_version: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Take bundle, thresholds, ONNX Runtime and decoder limits from this configuration
    #[command(flatten)]
    pub config: ConfigArg,
}

/// A share above 0 and below 1.
pub fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share < 1.0)
        .ok_or_else(|| "write a share above 0 and below 1, such as 0.005".to_owned())
}

impl EvaluateArgs {
    /// Whether a configuration has a say: one that is named has; the usual one where what is asked for is the site's: the
    /// bundle in use, its labels, or whom it has learned from. Any bundle can be judged on any images without.
    fn asks_the_site(&self) -> bool {
        let Source { from, labels } = &self.source;
        let wanted = self.bundle.is_none()
            || (from.is_none() && labels.is_none())
            || (self.certified.is_some() && !self.unseen);
        self.config.config.is_some() || (wanted && self.config.path().exists())
    }
}

/// A version that a bundle may have.
pub fn version(text: &str) -> Result<String, String> {
    check_version(text).map(|()| text.to_owned())
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let settings = args.asks_the_site().then(|| args.config.load());
    let settings = settings.transpose()?;
    // By who asked for it; what is kept at the site belongs to the site.
    let page_file = args.report.as_deref().map(new_page).transpose()?;
    if let Some(settings) = settings.as_ref().filter(|it| it.state.exists()) {
        access::become_owner_of(&settings.state)?;
    }
    args.outside.are_there()?;
    ensure!(
        args.certified.is_none() || settings.is_some() || args.unseen,
        "nobody knows whether these patients were learned from: name the site's configuration (--config), or say that none \
         was (--unseen)"
    );
    let certified = args.certified.as_deref();
    let certified = certified.map(certify::Folder::make).transpose()?;
    let bundle = match (&args.bundle, &settings) {
        (Some(dir), _) => Bundle::open(dir)?,
        (None, Some(settings)) => Bundle::open(&Store::in_use(settings)?)?,
        (None, None) => Bundle::open_or_shipped(None)?,
    };
    let loaded = labelled::load(
        &args.source,
        args.complete,
        None,
        &[&bundle],
        settings.as_ref(),
    );
    let mut dataset = match &settings {
        Some(settings) => access::as_whom(loaded, &settings.state)?,
        None => loaded?,
    };
    let (used, known) = known::ask(&mut dataset, &bundle, settings.as_ref())?;
    let usual_review = ReviewSettings::default();
    let (runtime, decoders) = (RuntimeSettings::default(), DecoderSettings::default());
    let site = settings.as_ref();
    let mut under = site.map_or(
        Under {
            review: &usual_review,
            runtime: &runtime,
            decoders: &decoders,
        },
        Under::of,
    );
    if certified.is_some() {
        under.review = &usual_review;
    }
    let all: Vec<usize> = (0..dataset.examples.len()).collect();
    let outcomes = outcomes(&bundle, &bundle, &dataset, &all, under)?;
    let set = Set {
        name: "images",
        indices: all,
        outcomes,
    };
    let mut promise = training_report::promise(
        &bundle,
        &set.outcomes,
        &used,
        args.target,
        under.review.files_uncertified,
        1,
    );
    promise.why.push_str(&dataset.audits.in_words());
    if args.unseen {
        promise.why.push_str(
            " That none of these patients was learned from is the word of whoever asked for it.",
        );
    }
    let mut report =
        training_report::on_evaluation(&bundle, &set, dataset.left_out.counts(), promise);
    report.known = known;
    report.outside = outside::ask(&args.outside, &bundle, site, under)?;
    if let Some((mut file, path)) = page_file {
        let mistakes = training_report::mistakes(&dataset, &set);
        empty(&file)
            .and_then(|()| file.write_all(page(&report, &mistakes).as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    labelled::name_left_out(&dataset);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", labelled::counts(&dataset));
        print!("{}", summary(&report));
    }
    if let Some(folder) = certified {
        let version = args.as_version.clone();
        let version = version.unwrap_or_else(|| bundle_writer::next_version(&bundle));
        folder.fill(&bundle, &report, &version)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A report that is there stays as it is until there is a new one.
fn new_page(path: &Path) -> anyhow::Result<(File, &Path)> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, path))
}

/// Pipes and terminals have no length.
fn empty(file: &File) -> std::io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(())
}

/// A bundle's categories, in its order.
pub fn ids(bundle: &Bundle) -> Vec<CategoryId> {
    bundle
        .categories()
        .iter()
        .map(|category| category.id.clone())
        .collect()
}

/// What a bundle makes of some examples, whose labels are categories of the bundle `labelled_with`.
pub fn outcomes(
    bundle: &Bundle,
    labelled_with: &Bundle,
    dataset: &Dataset,
    indices: &[usize],
    under: Under<'_>,
) -> anyhow::Result<Vec<Outcome>> {
    let mut terminal = Terminal::default();
    let phase = format!("asking {}", bundle.name_and_version());
    let examples: Vec<&Example> = indices
        .iter()
        .map(|index| &dataset.examples[*index])
        .collect();
    let verdicts = trial::hold(
        bundle,
        &dataset.specs,
        examples.iter().copied(),
        under,
        |done| terminal.progress(&phase, done, indices.len()),
    )?;
    let ids = ids(labelled_with);
    Ok(examples
        .iter()
        .zip(verdicts)
        .map(|(example, verdict)| Outcome {
            image: Pseudonym(example.digest.0.clone()),
            patient: Pseudonym(example.patient.clone()),
            truth: example.category.map(|index| ids[index].clone()),
            origin: example.origin,
            scores: verdict
                .prediction
                .as_ref()
                .map_or_else(Vec::new, |prediction| prediction.scores.clone()),
            confidence: verdict
                .prediction
                .as_ref()
                .map_or(0.0, |prediction| prediction.confidence),
            done: Done::from(&verdict.decision),
            circumstances: example.circumstances.clone(),
        })
        .collect())
}
