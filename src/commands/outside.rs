//! How a bundle does on images that belong under no category: near ones and far ones apart, for `retrain` and `evaluate`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::evaluate::outcomes;
use super::labelled;
use crate::config::Settings;
use crate::config::settings::{ReviewSettings, RuntimeSettings};
use crate::domain::decision::HeaderView;
use crate::filing::record::Digest;
use crate::model::Bundle;
use crate::retrain::dataset::{Dataset, Example};
use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};
use crate::retrain::judging::outside::{Outside, far};

/// Pictures of each kind that the program makes itself.
const EACH: usize = 16;

/// Where images of no category are.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct OutsideArgs {
    /// Radiographs of other things (chests, necks, lying patients): how many would be filed is reported, nothing is fitted
    #[arg(long, value_name = "DIR")]
    pub near: Option<PathBuf>,
    /// DICOM files of anything else; plain grey, noise, stripes and scenes are always tried
    #[arg(long, value_name = "DIR")]
    pub far: Option<PathBuf>,
}

/// Asks a bundle about all of them.
pub fn ask(
    args: &OutsideArgs,
    bundle: &Bundle,
    settings: Option<&Settings>,
    review: &ReviewSettings,
    runtime: &RuntimeSettings,
) -> anyhow::Result<Vec<Outside>> {
    let mut all = Vec::new();
    let mut judge = |name: &str, dataset: &Dataset| -> anyhow::Result<()> {
        let indices: Vec<usize> = (0..dataset.examples.len()).collect();
        let outcomes = outcomes(bundle, bundle, dataset, &indices, review, runtime)?;
        all.push(Outside::of(name, &outcomes));
        Ok(())
    };
    for (name, folder) in [
        ("near: radiographs of other things", &args.near),
        ("far: from a folder", &args.far),
    ] {
        if let Some(folder) = folder {
            judge(name, &labelled::load_outside(folder, bundle, settings)?)?;
        }
    }
    judge("far: plain grey, noise, stripes, scenes", &made_up(bundle))?;
    Ok(all)
}

/// Pictures that are no radiographs, under headers that claim a view.
fn made_up(bundle: &Bundle) -> Dataset {
    let specs = bundle.render_specs();
    let by_spec: Vec<Vec<Vec<u16>>> = specs
        .iter()
        .map(|spec| far(EACH, [spec.height as usize, spec.width as usize], 1))
        .collect();
    let count = by_spec.first().map_or(0, Vec::len);
    let example = |k: usize| Example {
        path: PathBuf::new(),
        digest: Digest(format!("made up {k}")),
        category: None,
        origin: LabelOrigin::CompleteCsv,
        patient: format!("made up {k}"),
        study: None,
        nameless: false,
        header: [HeaderView::Ap, HeaderView::Ll][k % 2],
        circumstances: Circumstances::default(),
        pictures: by_spec.iter().map(|of| of[k].clone()).collect(),
    };
    Dataset {
        examples: (0..count).map(example).collect(),
        specs: specs.to_vec(),
        ..Dataset::default()
    }
}
