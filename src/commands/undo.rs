//! `radsort undo`: filed files go back to where they came from.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::ArgGroup;

use super::access::ConfigArg;
use super::judge::{self, Office};
use super::when;
use crate::control::protocol::{Released, Reply, Request, Undo};

/// Take filed files back to where they came from, with the name, mode and time that they had.
///
/// A file that was renamed still has its owner. One that was copied belongs to the service's user, who may give nothing away
/// (unless that is root): then it is told whose it was.
///
/// Each is held there: it is not taken again until it changes, is dropped under another name, or is let go (--let-go,
/// which also lets go what `quarantine release` gave back). Files that were copied,
/// observed or quarantined, and files that people have put into the library, are not touched; with --since and --model
/// nor are those that a person has labelled.
///
/// A label goes with its file: it is in no list and no export any more, nothing learns from it, and a file that is taken again
/// is filed as the model says. `radsort labels export` before, and `radsort labels import` after the file was taken again,
/// keep it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort undo --since 2h --dry-run                what would go back?
  radsort undo --model \"spine-phantom 1.1.0\"
  radsort undo 1.2.826.0.1.3680043.10.1
  radsort undo --let-go --since today              take them again, e.g. with a better model

Exit status: 0 when all went back, 1 otherwise.")]
#[command(group(ArgGroup::new("which").args(["what", "since", "model"]).required(true).multiple(true)))]
pub struct UndoArgs {
    /// SOP Instance UIDs, paths in the library, or record ids.
    #[arg(value_name = "UID|PATH", conflicts_with_all = ["since", "model"])]
    pub what: Vec<OsString>,
    /// All that were filed from this time on: 2h, 7d, today, 2026-11-23, RFC 3339…
    #[arg(long, value_name = "T", value_parser = |text: &str| when::parse(text, &jiff::ZonedDateTime::now()))]
    pub since: Option<i64>,
    /// All that were filed with this bundle: its name, version, or both.
    #[arg(long, value_name = "V")]
    pub model: Option<String>,
    /// Take nothing back: what was given back may be taken again.
    #[arg(long)]
    pub let_go: bool,
    /// Only say which files would go where.
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &UndoArgs) -> anyhow::Result<ExitCode> {
    let which = Undo {
        what: judge::designations(&args.what)?,
        since_us: args.since,
        model: args.model.clone(),
        let_go: args.let_go,
    };
    let dry_run = args.dry_run;
    let undone = match Office::open(&args.config.load()?)? {
        Office::Service(mut client) => {
            let mut undone = Vec::new();
            for reply in client.request(&Request::Undo { which, dry_run })? {
                if let Reply::Released(one) = reply? {
                    undone.push(one);
                }
            }
            undone
        }
        Office::Alone(office) => {
            office.run(async |desk, by| desk.undo(which, dry_run, by).await)?
        }
    };
    for one in &undone {
        match (&one.to, &one.error) {
            _ if args.json => println!("{}", serde_json::to_string(one)?),
            (Some(to), _) if args.let_go && dry_run => println!("{to} would be let go"),
            (Some(to), _) if args.let_go => println!("{to} may be taken again"),
            (Some(to), _) if dry_run => {
                let label = label(one, "would go with it");
                println!("{} would go back to {to}{label}", one.what);
            }
            (Some(to), _) => {
                println!("{} is at {to}{}", one.what, label(one, "went with it"));
                if let Some(not_restored) = &one.not_restored {
                    eprintln!("{to}: {not_restored}");
                }
            }
            (None, why) => {
                eprintln!(
                    "{}: {}",
                    one.what,
                    why.as_deref().unwrap_or("not taken back")
                );
            }
        }
    }
    if undone.is_empty() && !args.json {
        println!("there is nothing that this concerns");
    }
    Ok(if undone.iter().all(|one| one.error.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// That a person's label counts no more, as the end of a line.
fn label(one: &Released, went: &str) -> String {
    let label = one.label.as_ref();
    label.map_or_else(String::new, |label| format!("; its label {label} {went}"))
}
