//! `radsort audit left`: how much of each audit is still to be judged, and which files.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::super::access::{self, Access, ConfigArg};
use super::super::query::{ignore_closed_pipe, write_json};
use super::super::when;
use crate::config::Settings;
use crate::control::protocol::AuditList;
use crate::domain::placement::RootId;
use crate::filing::record::RecordId;
use crate::index::entry::Entry;
use crate::judgement::audit;

/// Which audit.
#[derive(Debug, clap::Args)]
pub struct LeftArgs {
    /// Name the files that are left of this one.
    pub list: Option<String>,
    /// One JSON object an audit, with its files that are left.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// An audit as `--json` tells of it: the fields are what scripts rely on.
#[derive(Debug, Serialize)]
struct Audit {
    list: String,
    /// When it was drawn, RFC 3339, UTC.
    drawn: String,
    /// How many files it has.
    files: usize,
    judged: usize,
    left: Vec<Left>,
}

/// A file that nobody has judged.
#[derive(Debug, Serialize)]
struct Left {
    record: String,
    /// Absent when nothing is on record of it any more.
    sop_instance_uid: Option<String>,
    category: Option<String>,
    path: Option<String>,
}

/// Runs the command.
pub fn run(args: &LeftArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let mut lists = audit::lists(&settings.state).with_context(|| {
        format!(
            "cannot read the audits in {}, which only the service's user and root may",
            settings.state.display()
        )
    })?;
    if let Some(wanted) = &args.list {
        lists.retain(|list| list.id == *wanted);
        ensure!(
            !lists.is_empty(),
            "there is no audit {wanted}; `radsort audit left` names those that there are"
        );
    }
    let audits = audits(&settings, lists)?;
    let mut out = io::stdout().lock();
    let printed = if args.json {
        audits
            .iter()
            .try_for_each(|audit| write_json(&mut out, audit))
    } else if args.list.is_some() {
        let left = audits.iter().flat_map(|audit| &audit.left);
        left.map(|file| file.path.as_ref().unwrap_or(&file.record))
            .try_for_each(|path| Ok(writeln!(out, "{}", path.escape_debug())?))
    } else if audits.is_empty() {
        writeln!(out, "no audit was drawn: radsort audit sample N").map_err(Into::into)
    } else {
        writeln!(out, "{}", table(&audits)).map_err(Into::into)
    };
    ignore_closed_pipe(printed)?;
    Ok(ExitCode::SUCCESS)
}

fn table(audits: &[Audit]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(access::table_width());
    table.set_header(["audit", "drawn", "files", "judged", "left"]);
    for audit in audits {
        table.add_row([
            audit.list.clone(),
            audit.drawn.clone(),
            audit.files.to_string(),
            audit.judged.to_string(),
            audit.left.len().to_string(),
        ]);
    }
    table
}

fn audits(settings: &Settings, lists: Vec<AuditList>) -> anyhow::Result<Vec<Audit>> {
    let roots = access::roots(settings);
    let mut access = Access::open(settings)?;
    let mut audits = Vec::new();
    for list in lists {
        let mut audit = Audit {
            list: list.id,
            drawn: when::rfc3339(list.drawn_us),
            files: list.files.len(),
            judged: 0,
            left: Vec::new(),
        };
        for id in list.files {
            let story = access.stories(&roots, &id.0)?.pop();
            match story.map(|story| story.entry) {
                Some(entry) if entry.label.is_some() => audit.judged += 1,
                entry => audit.left.push(Left::new(id, entry, &roots)),
            }
        }
        audits.push(audit);
    }
    access.close()?;
    Ok(audits)
}

impl Left {
    fn new(id: RecordId, entry: Option<Entry>, roots: &[(RootId, PathBuf)]) -> Self {
        let entry = entry.as_ref();
        Self {
            record: id.0,
            sop_instance_uid: entry.and_then(|it| Some(it.sop_instance_uid.as_ref()?.to_string())),
            category: entry.and_then(|it| Some(it.category.as_ref()?.to_string())),
            path: entry.map(|it| access::absolute(roots, &it.at)),
        }
    }
}
