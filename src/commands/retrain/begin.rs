//! The bundle that a training starts from, as it was asked for.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::run_folder::RunFolder;
use super::{Mode, Plan, chosen};
use crate::domain::View;
use crate::model::Bundle;
use crate::retrain::efficientnet::Variant;
use crate::retrain::start::{Change, Init, Start};
use crate::retrain::weights::Kind;

/// Changes of the categories; renames come first, then removals, then additions.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[allow(clippy::struct_field_names)] // they are the options' names
pub struct Categories {
    /// A category that the bundle does not know yet, e.g. frontal-halo:frontal (repeatable)
    #[arg(long, value_name = "ID:VIEW", value_parser = addition)]
    pub add_category: Vec<String>,
    /// A category that the new bundle shall not have any more (repeatable)
    #[arg(long, value_name = "ID")]
    pub remove_category: Vec<String>,
    /// Another id (and folder) for a category, e.g. frontal-tether=frontal-vbt (repeatable)
    #[arg(long, value_name = "OLD=NEW", value_parser = renaming)]
    pub rename_category: Vec<String>,
}

/// Networks built from nothing.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct InitArgs {
    /// Put a new network in the place of the old one: efficientnet-b0 to efficientnet-b7
    #[arg(long, value_name = "NETWORK")]
    pub init: Option<String>,
    /// Its weights: a safetensors file with the names of torchvision or timm
    #[arg(long, value_name = "FILE", requires = "init")]
    pub weights: Option<PathBuf>,
    /// Whose weights they are: timm's tf_efficientnet pads and normalises otherwise than its efficientnet, and the file does
    /// not tell
    #[arg(long, value_enum, default_value = "torchvision")]
    #[serde(default)]
    pub weights_kind: Kind,
    /// Channels of its input, 1 or 3; 1 adds up the three of given weights [default: 3 with weights, else 1]
    #[arg(long, value_name = "N", requires = "init", value_parser = clap::value_parser!(u8).range(1..=3))]
    pub channels: Option<u8>,
    /// Rows and columns of its input, e.g. 320x192 [default: the published square]
    #[arg(long, value_name = "ROWSxCOLUMNS", requires = "init", value_parser = size)]
    pub input_size: Option<String>,
}

fn addition(text: &str) -> Result<String, String> {
    added(text).map(|_| text.to_owned())
}

fn added(text: &str) -> Result<Change, String> {
    let (id, view) = text
        .split_once(':')
        .ok_or("wanted is ID:frontal or ID:lateral")?;
    let view = [View::Frontal, View::Lateral]
        .into_iter()
        .find(|it| it.as_str() == view)
        .ok_or_else(|| format!("{view:?} is no view: frontal or lateral"))?;
    let id = id.to_owned();
    Ok(Change::Add { id, view })
}

fn renaming(text: &str) -> Result<String, String> {
    renamed(text).map(|_| text.to_owned())
}

fn renamed(text: &str) -> Result<Change, String> {
    let (from, to) = text.split_once('=').ok_or("wanted is OLD=NEW")?;
    Ok(Change::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    })
}

fn size(text: &str) -> Result<String, String> {
    rows_and_columns(text).map(|_| text.to_owned())
}

fn rows_and_columns(text: &str) -> Result<[usize; 2], String> {
    let sides = text.split_once('x').and_then(|(rows, columns)| {
        let sides: [usize; 2] = [rows.parse().ok()?, columns.parse().ok()?];
        sides
            .iter()
            .all(|side| (32..=2048).contains(side))
            .then_some(sides)
    });
    sides.ok_or_else(|| "wanted is ROWSxCOLUMNS, each from 32 to 2048, e.g. 320x192".to_owned())
}

impl Plan {
    /// What is said of the mode that it is not, which would be passed over in silence.
    pub(super) fn of_the_other_mode(&self) -> Option<String> {
        let full = [
            ("--epochs", self.epochs.is_some()),
            ("--batch", self.batch.is_some()),
            ("--learning-rate", self.learning_rate.is_some()),
            ("--backbone-rate", self.backbone_rate.is_some()),
            ("--freeze-norms", self.freeze_norms),
            ("--patience", self.patience.is_some()),
        ];
        let head = [("--hidden", self.hidden.is_some())];
        let (others, mode, other) = match self.mode() {
            Mode::Head => (&full[..], "head", "full"),
            Mode::Full => (&head[..], "full", "head"),
        };
        let (option, _) = others.iter().find(|(_, is_given)| *is_given)?;
        Some(format!(
            "{option} says something of --mode {other}, and this is --mode {mode}: leave it out, or say --mode {other}\n"
        ))
    }
}

impl Categories {
    fn changes(&self) -> anyhow::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for text in &self.rename_category {
            changes.push(renamed(text).map_err(anyhow::Error::msg)?);
        }
        for id in &self.remove_category {
            changes.push(Change::Remove { id: id.clone() });
        }
        for text in &self.add_category {
            changes.push(added(text).map_err(anyhow::Error::msg)?);
        }
        Ok(changes)
    }
}

/// The bundle to start from, and the ids of the classifiers that must be trained because of what was changed.
pub(super) fn start(plan: &Plan, folder: &RunFolder) -> anyhow::Result<(Bundle, Vec<String>)> {
    let bundle = Bundle::open(folder.bundle())?;
    let changes = plan.categories.changes()?;
    if changes.is_empty() && plan.init.init.is_none() {
        return Ok((bundle, Vec::new()));
    }
    let mut start = Start::of(&bundle)?;
    let mut must = Vec::new();
    for change in &changes {
        must.extend(start.change(change)?);
    }
    if let Some(name) = &plan.init.init {
        if plan.mode() == Mode::Head && plan.init.weights.is_none() {
            bail!("--init without --weights has learned nothing yet: it takes --mode full");
        }
        let variant = Variant::named(name).with_context(|| {
            format!("--init {name}: there are efficientnet-b0 to efficientnet-b7")
        })?;
        let ids = chosen(&bundle, &plan.classifier)?;
        let input = plan.init.input_size.as_deref().map(rows_and_columns);
        let init = Init {
            variant,
            channels: match plan.init.channels {
                Some(2) => bail!("--channels 2: a network takes 1 or 3"),
                Some(n) => usize::from(n),
                None if plan.init.weights.is_some() => 3,
                None => 1,
            },
            input: input.transpose().map_err(anyhow::Error::msg)?,
            weights: plan.init.weights.as_deref(),
            kind: plan.init.weights_kind,
            seed: plan.seed,
        };
        for loaded in start.initialise(&ids, &init)? {
            eprintln!(
                "{} tensors of weights were taken{}{}{}",
                loaded.tensors,
                if loaded.folded {
                    ", the three channels of the first added up into one"
                } else {
                    ""
                },
                if loaded.head_skipped {
                    "; the last layer begins anew"
                } else {
                    ""
                },
                match loaded.unused.len() {
                    0 => String::new(),
                    n => format!("; {n} of the file have no place in the network"),
                }
            );
        }
        must.extend(ids);
    }
    let dir = folder.start();
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    Ok((start.write(&dir)?, must))
}
