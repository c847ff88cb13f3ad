//! The verbs of the command line, one file each: their arguments, what they do, what they print.

use std::process::ExitCode;

use crate::cli::Verb;
use crate::filing::ledger::LedgerError;

pub mod access;
pub mod audit;
#[cfg(feature = "retrain")]
pub mod bench_train;
#[cfg(feature = "retrain")]
pub mod certify;
pub mod check;
pub mod classify;
pub mod decode_worker;
pub mod demo;
pub mod demo_files;
#[cfg(feature = "retrain")]
pub mod evaluate;
pub mod judge;
#[cfg(feature = "retrain")]
pub mod labelled;
pub mod labels;
pub mod models;
#[cfg(feature = "retrain")]
pub mod outside;
pub mod packaging_files;
pub mod phantom;
#[cfg(feature = "retrain")]
pub mod phantom_trial;
pub mod quarantine;
pub mod query;
pub mod reindex;
pub mod reload;
pub mod render;
#[cfg(feature = "retrain")]
pub mod retrain;
pub mod row;
pub mod run;
pub mod setup;
pub mod show;
pub mod sort;
pub mod status;
mod status_watch;
#[cfg(feature = "retrain")]
pub mod train_phantom;
#[cfg(feature = "retrain")]
pub mod training_report;
pub mod try_bundle;
#[cfg(feature = "retrain")]
pub mod try_device;
#[cfg(feature = "retrain")]
pub mod try_step;
pub mod undo;
pub mod verify;
pub mod when;

/// The configuration is bad, or the ledger damaged or of a later program: restarting is pointless (`EX_CONFIG` of
/// sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// A fresh process may cure it (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_TRY_AGAIN: u8 = 75;

/// Runs a verb.
pub fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Sort(args) => sort::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Query(args) => query::run(&args),
        Verb::Show(args) => show::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Quarantine(args) => quarantine::run(&args),
        Verb::Correct(args) => judge::correct(&args),
        Verb::Confirm(args) => judge::confirm(&args),
        Verb::Labels(args) => labels::run(&args),
        Verb::Audit(args) => audit::run(&args),
        Verb::Undo(args) => undo::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Reindex(args) => reindex::run(&args),
        Verb::Models(args) => models::run(&args),
        #[cfg(feature = "retrain")]
        Verb::Retrain(args) => retrain::run(&args),
        #[cfg(feature = "retrain")]
        Verb::Evaluate(args) => evaluate::run(&args),
        Verb::Classify(args) => classify::run(&args),
        Verb::Render(args) => render::run(&args),
        Verb::Phantom(args) => phantom::run(&args),
        Verb::Demo(args) => demo::run(&args),
        #[cfg(feature = "retrain")]
        Verb::TrainPhantomBundle(args) => train_phantom::run(&args).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "retrain")]
        Verb::PhantomTrial(args) => phantom_trial::run(&args),
        #[cfg(feature = "retrain")]
        Verb::BenchTrain(args) => bench_train::run(&args),
        #[cfg(feature = "retrain")]
        Verb::TryDevice(args) => try_device::run(&args),
        #[cfg(feature = "retrain")]
        Verb::TryStep(args) => try_step::run(&args),
        Verb::Setup(args) => setup::run(&args),
        Verb::PackagingFiles(args) => packaging_files::run(&args),
        Verb::TryBundle(args) => try_bundle::run(&args),
    }
}

/// Tells a person what went wrong, and gives the exit code that says whether trying again makes sense.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("radsort: {error:#}");
    let is_for_a_person = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<crate::config::ConfigError>()
            || matches!(
                cause.downcast_ref(),
                Some(LedgerError::Newer { .. } | LedgerError::Corrupt { .. })
            )
    };
    if error.chain().any(is_for_a_person) {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::FAILURE
    }
}
