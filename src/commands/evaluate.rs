//! `radsort evaluate`: what a bundle is worth on labelled images.

use std::path::PathBuf;
use std::process::ExitCode;

use super::access::ConfigArg;
use super::labelled::{self, Source};
use super::train_phantom::Terminal;
use crate::config::settings::{ReviewSettings, RuntimeSettings};
use crate::domain::{CategoryId, Pseudonym};
use crate::model::Bundle;
use crate::model::store::Store;
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::judging::figures::Judgement;
use crate::retrain::judging::intervals::Proportion;
use crate::retrain::judging::outcome::{Done, Outcome};
use crate::retrain::phantom_bundle::Report as _;
use crate::retrain::trial;

/// Judge a bundle on labelled images, end to end: decoded, classified and decided on as `run` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort evaluate --from /data/checked                 folders called like the categories
  radsort evaluate --labels labels.csv --bundle models/next --json

Exit status: 0 when the images could be judged, 1 when not.")]
pub struct EvaluateArgs {
    /// The bundle; default: that in use by the configuration, else the shipped one
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// The labelled images
    #[command(flatten)]
    pub source: Source,
    /// The list leaves no image of its set out: its error rate says something about all files
    #[arg(long, requires = "labels")]
    pub complete: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Take bundle, thresholds, ONNX Runtime and decoder limits from this configuration
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.config.is_some().then(|| args.config.load());
    let settings = settings.transpose()?;
    let bundle = match (&args.bundle, &settings) {
        (Some(dir), _) => Bundle::open(dir)?,
        (None, Some(settings)) => Bundle::open(&Store::in_use(settings)?)?,
        (None, None) => Bundle::open_or_shipped(None)?,
    };
    let dataset = labelled::load(
        &args.source,
        args.complete,
        false,
        &bundle,
        settings.as_ref(),
    )?;
    let (review, runtime) = match &settings {
        Some(settings) => (settings.review.clone(), settings.runtime.clone()),
        None => (ReviewSettings::default(), RuntimeSettings::default()),
    };
    let all: Vec<usize> = (0..dataset.examples.len()).collect();
    let outcomes = outcomes(&bundle, &bundle, &dataset, &all, &review, &runtime)?;
    let judgement = Judgement::of(&ids(&bundle), &outcomes);
    if args.json {
        let report = serde_json::json!({
            "bundle": bundle.name_and_version(),
            "left_out": dataset.left_out,
            "figures": judgement,
        });
        println!("{report}");
    } else {
        println!("{} on {} images", bundle.name_and_version(), outcomes.len());
        println!("{}", labelled::counts(&dataset));
        print!("{}", text(&judgement));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bundle's categories, in its order.
pub fn ids(bundle: &Bundle) -> Vec<CategoryId> {
    bundle
        .categories()
        .iter()
        .map(|category| category.id.clone())
        .collect()
}

/// What a bundle makes of some examples, whose pictures were prepared for the bundle `prepared_for`.
pub fn outcomes(
    bundle: &Bundle,
    prepared_for: &Bundle,
    dataset: &Dataset,
    indices: &[usize],
    review: &ReviewSettings,
    runtime: &RuntimeSettings,
) -> anyhow::Result<Vec<Outcome>> {
    let mut terminal = Terminal::default();
    let phase = format!("asking {}", bundle.name_and_version());
    let examples: Vec<&Example> = indices
        .iter()
        .map(|index| &dataset.examples[*index])
        .collect();
    let verdicts = trial::hold(
        bundle,
        prepared_for.render_specs(),
        examples.iter().copied(),
        review,
        runtime,
        |done| terminal.progress(&phase, done, indices.len()),
    )?;
    let ids = ids(prepared_for);
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

/// The figures for a terminal.
pub fn text(judgement: &Judgement) -> String {
    let mut lines = vec![
        format!(
            "{:<28} {}",
            "the likeliest is right",
            said(judgement.accuracy)
        ),
        format!("{:<28} {}", "filed", said(judgement.coverage)),
        format!(
            "{:<28} {}",
            "of the filed, right",
            said(judgement.filed_rightly)
        ),
        format!(
            "{:<28} {}",
            "of neither view, yet filed",
            said(judgement.neither_filed)
        ),
        String::new(),
        format!("{:<28} {:<34} recall", "category", "precision"),
    ];
    lines.extend(judgement.categories.iter().map(|category| {
        format!(
            "{:<28} {:<34} {}",
            category.category.as_str(),
            said(category.precision),
            said(category.recall)
        )
    }));
    lines.join("\n") + "\n"
}

/// `97.8 % (96.3–98.7), 587 of 600`.
fn said(share: Option<Proportion>) -> String {
    share.map_or_else(
        || "–".to_owned(),
        |share| {
            format!(
                "{:.1} % ({:.1}–{:.1}), {} of {}",
                100.0 * share.estimate,
                100.0 * share.low,
                100.0 * share.high,
                share.part,
                share.whole
            )
        },
    )
}
