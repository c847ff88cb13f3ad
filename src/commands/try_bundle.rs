//! `radsort try-bundle`: what the daemon runs in a child process before it takes up a new bundle; hidden from the help.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::domain::decision::ViewThresholds;
use crate::model::{Bundle, Classifier, ModelError, trial};

/// Load and warm up a bundle, compare its reference images, and end.
///
/// radsort runs this in a child process before it takes up a new bundle, because a bad graph can crash ONNX Runtime.
#[derive(Debug, clap::Args)]
#[command(
    hide = true,
    after_help = "Exit status: 0 when the bundle can be used, 1 when not (the reason is on stderr)."
)]
pub struct TryBundleArgs {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// ONNX Runtime's library.
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// auto, cpu or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// require or prefer.
    #[arg(long, default_value = "prefer")]
    pub gpu: String,
    /// Threads of one inference; 0: as many as the machine has cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// The largest batch on a GPU.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
}

/// Runs the command.
pub fn run(args: &TryBundleArgs) -> anyhow::Result<ExitCode> {
    let Some(settings) = trial::settings(
        args.library.clone(),
        &args.device,
        &args.gpu,
        args.threads,
        args.batch,
    ) else {
        eprintln!("radsort: --device is auto, cpu or cuda:N, and --gpu is require or prefer");
        return Ok(ExitCode::from(2));
    };
    let tried = Bundle::open(&args.bundle)
        .map_err(ModelError::from)
        .and_then(|bundle| Classifier::start(bundle, &settings, ViewThresholds::default()));
    Ok(match tried {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}
