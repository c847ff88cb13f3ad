//! `radsort verify`: the ledger's chain of hashes, the index against the ledger, the folders against both.

use std::process::ExitCode;

use super::access::{self, Access, ConfigArg};
use crate::config::Settings;
use crate::control::protocol::{Reply, Request};
use crate::index::verify::{Difference, Finding, Summary, verify};

/// Check that ledger, index and folders agree. Nothing is changed.
///
/// Read are: the ledger with its chain of hashes, the index, the names and sizes of all filed files, and with --digests
/// every file's bytes.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  radsort verify
  radsort verify --digests --json > report.jsonl      every file is read: takes as long as copying them

Exit status: 0 when all agree, or when radsort itself puts right what does not; 1 when a person must look.")]
pub struct VerifyArgs {
    /// Read every file and compare its BLAKE3 digest.
    #[arg(long)]
    pub digests: bool,
    /// One JSON object a line: each difference, then a summary.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let roots = access::roots(&settings);
    let bar = access::spinner("comparing");
    let summary = compare(&settings, args.digests, &mut |finding| match finding {
        Finding::Progress(_, done, _) => bar.set_position(done),
        Finding::Difference(difference) => bar.suspend(|| print(&difference, &roots, args.json)),
    })?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print_summary(&summary);
    }
    Ok(if summary.is_bad() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn compare(
    settings: &Settings,
    digests: bool,
    tell: &mut impl FnMut(Finding),
) -> anyhow::Result<Summary> {
    match Access::open(settings)? {
        Access::Daemon(mut client) => {
            let mut summary = None;
            for reply in client.request(&Request::Verify { digests })? {
                match reply? {
                    Reply::Progress(progress) => tell(Finding::Progress(
                        "comparing",
                        progress.done,
                        progress.total,
                    )),
                    Reply::Difference(difference) => tell(Finding::Difference(difference)),
                    Reply::Verified(verified) => summary = Some(verified),
                    _ => {}
                }
            }
            summary.ok_or_else(|| {
                anyhow::anyhow!("the daemon did not finish the comparison: see its log")
            })
        }
        Access::Direct(index) => {
            let roots = access::destinations(settings);
            let summary = verify(&index, &settings.state, &roots, digests, tell)?;
            index.close()?;
            Ok(summary)
        }
    }
}

fn print(
    difference: &Difference,
    roots: &[(crate::domain::placement::RootId, std::path::PathBuf)],
    json: bool,
) {
    if json {
        let mut value = serde_json::to_value(difference).unwrap_or_default();
        if let (Some(fields), Some(at)) = (value.as_object_mut(), &difference.at) {
            fields.insert("path".to_owned(), access::absolute(roots, at).into());
        }
        println!("{value}");
        return;
    }
    let place = difference.at.as_ref().map(|at| access::absolute(roots, at));
    let record = difference.id.as_ref().map(|id| format!("record {id}"));
    let what = place
        .or(record)
        .map(|what| format!("{what}: "))
        .unwrap_or_default();
    println!("{:<8} {what}{}", kind(difference.kind), difference.detail);
}

fn kind(kind: crate::index::verify::Kind) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// For people: what was looked at, and what to do about what does not agree.
pub fn print_summary(summary: &Summary) {
    let read = if summary.digests > 0 {
        format!(", {} of them read", summary.digests)
    } else {
        String::new()
    };
    println!(
        "{} records, {} files{read}",
        summary.records, summary.entries
    );
    if summary.differences.is_empty() {
        println!("ledger, index and folders agree");
    }
    for (found, count) in &summary.differences {
        let who = if found.reconcilable() {
            ""
        } else {
            "A PERSON MUST LOOK: "
        };
        println!("{count} × {}: {who}{}", kind(*found), found.advice());
    }
}
