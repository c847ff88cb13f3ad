//! `radsort models import`: a bundle's folder, or ONNX files from elsewhere as a bundle.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::config::Settings;
use crate::model::{Bundle, trial};

/// What is brought in.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// A bundle's folder, or ONNX files of category classifiers (each with its --classes)
    #[arg(required = true, value_name = "DIR|FILE.onnx")]
    pub from: Vec<PathBuf>,
    /// ONNX: the categories and their views in the order of the logits, e.g. pre:frontal,post:frontal; once a file
    #[arg(long, value_name = "ID:VIEW,…")]
    pub classes: Vec<String>,
    /// ONNX: a network that tells the view; without one the header alone tells it
    #[arg(long, value_name = "FILE.onnx")]
    pub view: Option<PathBuf>,
    /// ONNX: the view network's classes in the order of its logits
    #[arg(long, value_name = "LIST", default_value = "frontal,lateral,neither")]
    pub view_classes: String,
    /// ONNX: the bundle's name [default: the first file's]
    #[arg(long)]
    pub name: Option<String>,
    /// ONNX: the bundle's version
    #[arg(long, default_value = "1")]
    pub version: String,
    /// ONNX: the licence of the weights
    #[arg(long, default_value = "unknown")]
    pub licence: String,
    /// ONNX: subtracted from grey values from 0 to 1; one for each channel, or one for all
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.5"
    )]
    pub mean: Vec<f32>,
    /// ONNX: divided by
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.25"
    )]
    pub std: Vec<f32>,
    /// ONNX: rows and columns of the input where the graph leaves them open, e.g. 320x192
    #[arg(long, value_name = "ROWSxCOLUMNS")]
    pub input_size: Option<String>,
    /// ONNX: the least confidence at which a file is filed without a person looking
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub threshold: f32,
}

/// Brings it into the store; gives the bundle's name and version, and its folder's name.
pub fn run(settings: &Settings, args: &ImportArgs) -> anyhow::Result<(String, String)> {
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    let is_onnx = |path: &Path| path.extension().is_some_and(|it| it == "onnx");
    let bundle = match &args.from[..] {
        [dir] if !is_onnx(dir) => Bundle::open(dir)?,
        files => {
            if let Some(other) = files.iter().find(|file| !is_onnx(file)) {
                bail!(
                    "{}: wanted is one bundle's folder, or ONNX files",
                    other.display()
                );
            }
            of_onnx(settings, args, scratch.path())?
        }
    };
    let store = super::own(settings)?;
    trial::try_in_child(bundle.dir(), &settings.runtime).map_err(anyhow::Error::msg)?;
    let folder = store.keep(&bundle)?;
    Ok((bundle.name_and_version(), folder))
}

#[cfg(feature = "retrain")]
fn of_onnx(settings: &Settings, args: &ImportArgs, scratch: &Path) -> anyhow::Result<Bundle> {
    use anyhow::ensure;

    use crate::model::runtime::Runtime;
    use crate::retrain::bundle_writer;
    use crate::retrain::foreign::{self, About, Network, Tells};

    ensure!(
        args.classes.len() == args.from.len(),
        "{} ONNX files, but --classes was given {} times: say what each file's logits stand for, e.g. --classes pre:frontal,post:frontal",
        args.from.len(),
        args.classes.len()
    );
    ensure!(
        (0.5..=1.0).contains(&args.threshold),
        "--threshold {}: from 0.5 to 1",
        args.threshold
    );
    let mut networks = Vec::new();
    if let Some(file) = &args.view {
        let classes = foreign::view_classes(&args.view_classes).map_err(anyhow::Error::msg)?;
        networks.push(Network {
            file: file.clone(),
            tells: Tells::View(classes),
        });
    }
    for (file, words) in args.from.iter().zip(&args.classes) {
        let told = foreign::categories(words).map_err(anyhow::Error::msg)?;
        networks.push(Network {
            file: file.clone(),
            tells: Tells::Categories(told),
        });
    }
    let stem = args.from[0]
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let plain: String = stem
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    let input = args.input_size.as_deref().map(|text| {
        let sides = text.split_once('x');
        let sides =
            sides.and_then(|(rows, columns)| Some([rows.parse().ok()?, columns.parse().ok()?]));
        sides.with_context(|| format!("--input-size {text}: wanted is ROWSxCOLUMNS, e.g. 320x192"))
    });
    let about = About {
        name: args.name.clone().unwrap_or(plain),
        version: args.version.clone(),
        licence: args.licence.clone(),
        mean: args.mean.clone(),
        std: args.std.clone(),
        input: input.transpose()?,
        threshold: args.threshold,
    };
    let runtime = Runtime::load(&settings.runtime)?;
    let (manifest, fitted) = foreign::bundle(&networks, &about, &runtime)?;
    let dir = scratch.join("bundle");
    bundle_writer::write(&dir, manifest, &fitted)?;
    Ok(Bundle::open(&dir)?)
}

#[cfg(not(feature = "retrain"))]
fn of_onnx(_: &Settings, _: &ImportArgs, _: &Path) -> anyhow::Result<Bundle> {
    bail!("this radsort was built without `retrain`: it imports bundle folders only")
}
