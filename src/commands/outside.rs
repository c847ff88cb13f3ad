//! How a bundle does on images that belong under no category: near ones and far ones apart, kind by kind, for `retrain` and
//! `evaluate`. Nothing is ever fitted on them.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::evaluate::outcomes;
use super::labelled;
use crate::config::Settings;
use crate::decode::{Content, Decoded};
use crate::domain::decision::HeaderView;
use crate::filing::record::Digest;
use crate::model::Bundle;
use crate::phantom::{self, Difficulty, Imbalance, OutsideKind, PlanOptions, Syntax};
use crate::retrain::dataset::{Dataset, Example, pictures};
use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};
use crate::retrain::judging::outside::{Distance, Outside, plain};
use crate::retrain::phantoms::{self, Drawn, Wanted};
use crate::retrain::trial::Under;

/// Pictures of each kind that the program makes itself.
const EACH: usize = 16;
/// The seed of their phantoms, which no training uses.
const SEED: u64 = 0x6f75_7473_6964_6500;
/// The size at which they are drawn at most, columns and rows.
const SIZE: (u32, u32) = (480, 720);

/// Where images of no category are.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct OutsideArgs {
    /// Radiographs of other things: how many would be filed is reported, nothing is fitted; phantoms of chests, necks and
    /// lying patients are always tried
    #[arg(long, value_name = "DIR")]
    pub near: Option<PathBuf>,
    /// DICOM files of anything else; noise, black, plain grey, stripes and photograph-like pictures are always tried
    #[arg(long, value_name = "DIR")]
    pub far: Option<PathBuf>,
}

impl OutsideArgs {
    /// Refuses at once folders that could not be read hours later.
    pub fn are_there(&self) -> anyhow::Result<()> {
        for (option, folder) in [("--near", &self.near), ("--far", &self.far)] {
            if let Some(folder) = folder {
                std::fs::read_dir(folder)
                    .with_context(|| format!("{option} {}", folder.display()))?;
            }
        }
        Ok(())
    }
}

/// Asks a bundle about all of them.
pub fn ask(
    args: &OutsideArgs,
    bundle: &Bundle,
    settings: Option<&Settings>,
    under: Under<'_>,
) -> anyhow::Result<Vec<Outside>> {
    let mut all = ask_at(Distance::Near, args, bundle, settings, under)?;
    all.extend(ask_at(Distance::Far, args, bundle, settings, under)?);
    Ok(all)
}

/// Asks a bundle about those at one distance.
pub fn ask_at(
    distance: Distance,
    args: &OutsideArgs,
    bundle: &Bundle,
    settings: Option<&Settings>,
    under: Under<'_>,
) -> anyhow::Result<Vec<Outside>> {
    let mut all = Vec::new();
    let mut judge = |name: &str, dataset: &Dataset| -> anyhow::Result<()> {
        let indices: Vec<usize> = (0..dataset.examples.len()).collect();
        let outcomes = outcomes(bundle, bundle, dataset, &indices, under)?;
        all.push(Outside::of(distance, name, &outcomes));
        Ok(())
    };
    let (kinds, folder, noun) = match distance {
        Distance::Near => (OutsideKind::NEAR, &args.near, " phantoms"),
        Distance::Far => (OutsideKind::FAR, &args.far, ""),
    };
    for kind in kinds {
        judge(&format!("{}{noun}", kind.word()), &drawn(kind, bundle)?)?;
    }
    if let Some(folder) = folder {
        let dataset = labelled::load_outside(folder, bundle, settings)?;
        judge("those of the folder", &dataset)?;
    }
    if distance == Distance::Far {
        judge("plain grey and stripes", &made_up(bundle))?;
    }
    Ok(all)
}

/// Phantoms of one kind, through a file and the decoders, as any image comes.
fn drawn(kind: OutsideKind, bundle: &Bundle) -> anyhow::Result<Dataset> {
    let options = PlanOptions {
        count: EACH,
        seed: SEED,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: None,
        outside: 1.0,
    };
    let wanted: Vec<Wanted> = phantom::plan_with(&options, &[kind])
        .into_iter()
        .map(|plan| Wanted {
            patient: plan.truth.patient.clone(),
            plan,
            drawn: Drawn::Within(SIZE.0, SIZE.1),
            syntax: Syntax::ExplicitLe,
            normal: true,
        })
        .collect();
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    let specs = bundle.render_specs();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let examples = phantoms::decode_each(&wanted, specs, threads, scratch.path(), example, |_| {})
        .with_context(|| format!("phantoms of kind {}", kind.word()))?;
    Ok(Dataset {
        examples,
        specs: specs.to_vec(),
        ..Dataset::default()
    })
}

fn example(wanted: &Wanted, decoded: Decoded) -> Example {
    let header = match &decoded.inspection.content {
        Content::Radiograph { header } => HeaderView::of(&header.description),
        _ => HeaderView::Absent,
    };
    Example {
        header,
        pictures: pictures(&decoded),
        ..of_no_category(wanted.plan.sop_instance_uid.clone())
    }
}

fn of_no_category(name: String) -> Example {
    Example {
        path: PathBuf::new(),
        digest: Digest(name.clone()),
        category: None,
        origin: LabelOrigin::CompleteCsv,
        patient: name,
        study: None,
        nameless: false,
        by_header: None,
        reduced: false,
        header: HeaderView::Absent,
        circumstances: Circumstances::default(),
        pictures: Vec::new(),
    }
}

/// Pictures of nothing, under headers that claim a view.
fn made_up(bundle: &Bundle) -> Dataset {
    let specs = bundle.render_specs();
    let by_spec: Vec<Vec<Vec<u16>>> = specs
        .iter()
        .map(|spec| plain(EACH, [spec.height as usize, spec.width as usize]))
        .collect();
    let count = by_spec.first().map_or(0, Vec::len);
    let example = |k: usize| Example {
        header: [HeaderView::Ap, HeaderView::Ll][k / 2 % 2],
        pictures: by_spec.iter().map(|of| of[k].clone()).collect(),
        ..of_no_category(format!("made up {k}"))
    };
    Dataset {
        examples: (0..count).map(example).collect(),
        specs: specs.to_vec(),
        ..Dataset::default()
    }
}
