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

/// What radsort can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the service in the foreground.
    Run(commands::run::RunArgs),
    /// Sort directories once, and exit.
    Sort(commands::sort::SortArgs),
    /// Say what the service is doing.
    Status(commands::status::StatusArgs),
    /// Find filed images.
    Query(commands::query::QueryArgs),
    /// Tell the whole story of one file.
    Show(commands::show::ShowArgs),
    /// Try everything that `run` needs.
    Check(commands::check::CheckArgs),
    /// Give the service what its configuration names: directories, permissions, its place in systemd.
    Setup(commands::setup::SetupArgs),
    /// Ask the running service to take up a changed configuration.
    Reload(commands::reload::ReloadArgs),
    /// List quarantined files, or give them back.
    Quarantine(commands::quarantine::QuarantineArgs),
    /// Say that a file is of another category.
    Correct(commands::judge::CorrectArgs),
    /// Say that files are what their records say.
    Confirm(commands::judge::ConfirmArgs),
    /// List, export, import, accept and reject what people have said.
    Labels(commands::labels::LabelsArgs),
    /// Draw filed files at random for a person to judge.
    Audit(commands::audit::AuditArgs),
    /// Take filed files back to where they came from.
    Undo(commands::undo::UndoArgs),
    /// Check ledger, index and folders against each other.
    Verify(commands::verify::VerifyArgs),
    /// Delete the index and build it anew from the ledger.
    Reindex(commands::reindex::ReindexArgs),
    /// Fit the model to the site's own images.
    #[cfg(feature = "retrain")]
    Retrain(commands::retrain::RetrainArgs),
    /// Judge a bundle on labelled images.
    #[cfg(feature = "retrain")]
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Keep bundle versions side by side, and choose which one is in use.
    Models(commands::models::ModelsArgs),
    /// Classify files without moving them.
    Classify(commands::classify::ClassifyArgs),
    /// Write the picture that the model gets.
    Render(commands::render::RenderArgs),
    /// Make synthetic radiographs with known truth.
    Phantom(commands::phantom::PhantomArgs),
    /// Show the whole main job on synthetic radiographs.
    Demo(commands::demo::DemoArgs),
    /// Train the shipped bundle on phantoms.
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    TrainPhantomBundle(commands::train_phantom::Args),
    /// Count how often a bundle is right on fresh phantoms.
    #[cfg(feature = "retrain")]
    #[command(hide = true)]
    PhantomTrial(commands::phantom_trial::Args),
    /// Write the files of the package that are generated: man pages, completions, configuration.
    #[command(hide = true)]
    PackagingFiles(commands::packaging_files::Args),
    /// Load a bundle in a process of its own, as the service does before taking it up.
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
