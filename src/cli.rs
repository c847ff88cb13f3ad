//! The command line: which verbs there are. Each verb's arguments and help stand with its code in `commands`.

use clap::{Parser, Subcommand};

use crate::commands;

/// Sorts a hospital's radiographs: watches DICOM drop directories, classifies each new image, files it into a folder.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Start here:
  radsort demo                                   the whole job on synthetic images, in a scratch directory
  radsort check --config /etc/radsort/radsort.toml   would the service run? what is missing?
  radsort sort /data/old --config … --dry-run    what would become of these files?
  radsort status                                 what is the service doing?

Exit codes: 0 success; 1 it failed, or found something wrong; 2 wrong usage; 75 try again (the GPU has to be reset);
78 a person must act: the configuration is bad, or the ledger damaged or of a later version. Each command's help says more."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What radsort can do. A comment here would replace the help that stands with each verb's arguments.
#[allow(missing_docs)]
#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(commands::run::RunArgs),
    Sort(commands::sort::SortArgs),
    Status(commands::status::StatusArgs),
    Query(commands::query::QueryArgs),
    Show(commands::show::ShowArgs),
    Check(commands::check::CheckArgs),
    Setup(commands::setup::SetupArgs),
    Reload(commands::reload::ReloadArgs),
    Quarantine(commands::quarantine::QuarantineArgs),
    Correct(commands::judge::CorrectArgs),
    Confirm(commands::judge::ConfirmArgs),
    Labels(commands::labels::LabelsArgs),
    Audit(commands::audit::AuditArgs),
    Undo(commands::undo::UndoArgs),
    Verify(commands::verify::VerifyArgs),
    Reindex(commands::reindex::ReindexArgs),
    #[cfg(feature = "retrain")]
    Retrain(Box<commands::retrain::RetrainArgs>),
    #[cfg(feature = "retrain")]
    Evaluate(commands::evaluate::EvaluateArgs),
    Models(commands::models::ModelsArgs),
    Classify(commands::classify::ClassifyArgs),
    Render(commands::render::RenderArgs),
    Phantom(commands::phantom::PhantomArgs),
    Demo(commands::demo::DemoArgs),
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    TrainPhantomBundle(commands::train_phantom::Args),
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    PhantomTrial(commands::phantom_trial::Args),
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    BenchTrain(commands::bench_train::BenchTrainArgs),
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    TryDevice(commands::try_device::TryDeviceArgs),
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    TryStep(commands::try_step::TryStepArgs),
    #[command(hide = true)]
    PackagingFiles(commands::packaging_files::Args),
    #[command(hide = true)]
    TryBundle(commands::try_bundle::TryBundleArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
