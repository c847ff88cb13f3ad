//! The verbs of the command line, one file each: their arguments, what they do, what they print.

use std::process::ExitCode;

use crate::cli::Verb;

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
mod drop_tree;
#[cfg(feature = "retrain")]
pub mod evaluate;
mod for_a_person;
pub mod judge;
#[cfg(feature = "retrain")]
mod known;
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

/// The configuration is bad (or what it names), or the ledger damaged or of a later program: restarting is pointless
/// (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// A fresh process may cure it (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_TRY_AGAIN: u8 = 75;
/// Exit code of a command whose output nobody reads any more: as if SIGPIPE had ended it.
pub const EXIT_BROKEN_PIPE: u8 = 141;

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
    let words = format!("radsort: {}", in_words(error));
    if systemd_journal_logger::connected_to_journal() {
        // sd-daemon(3): an error for the journal, so that `journalctl -p err` shows why the service does not start.
        words.lines().for_each(|line| eprintln!("<3>{line}"));
    } else {
        eprintln!("{words}");
    }
    ExitCode::from(exit_status(error))
}

/// The exit code for an error: whether trying again makes sense.
fn exit_status(error: &anyhow::Error) -> u8 {
    if error.chain().any(for_a_person::is_for_a_person) {
        EXIT_CONFIG
    } else {
        1
    }
}

/// The error with its causes. A cause that was told with the error above it is not told twice.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_twice() {
        let cause = || std::io::Error::other("the disk is gone");
        let path = "/state".into();
        let told = crate::control::ControlError::Io {
            path,
            source: cause(),
        };
        let told = anyhow::Error::from(told).context("cannot start");
        assert_eq!(in_words(&told), "cannot start: /state: the disk is gone");
        let apart = anyhow::Error::from(cause()).context("cannot start");
        assert_eq!(in_words(&apart), "cannot start: the disk is gone");
    }
}
