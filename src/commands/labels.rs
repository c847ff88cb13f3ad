//! `radsort labels`: what people have said about files, in and out.

mod contradictions;
mod export;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ArgGroup;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::access::{self, ConfigArg};
use super::judge::{self, Office};
use super::query::{self, write_json};
use super::row::no_formula;
use super::when;
use crate::config::Settings;
use crate::control::protocol::{ImportRow, Judgement, Looked, Reply, Request};
use crate::domain::placement::RootId;
use crate::domain::{CategoryId, Origin, Placement};
use crate::index::entry::{Entry, Given};
use crate::index::query::{LabelState, Query};
use crate::library_watch::LibraryWatch;
use crate::separator;

pub use export::export_to;

/// How many rows of an imported list go into one request.
const ROWS: usize = 500;

/// What people have said about files: list it, take it elsewhere, bring it in, and settle what waits.
///
/// A label comes from `radsort correct` and `confirm`, from an imported list, or from a file that a person has moved to
/// another category's folder (the service notices that within minutes). Labels wait to be accepted when more than 20
/// files were moved at once, when a whole folder was renamed, when a file comes back that had been missing, when radsort
/// did not put the file there, and when the folder is called like a category (a-z, 0-9 and '-') that the model does not
/// know: accepted, they are what `radsort retrain --add-category` learns it from. Files are never moved back, whatever is
/// accepted or rejected.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort labels list --pending
  radsort labels accept --all
  radsort labels accept --category frontal-halo     a new one, of which the model knows nothing yet
  radsort labels reject /srv/library/frontal-fusion/1.2.3.dcm
  radsort labels import truth.csv             columns sop_instance_uid, category[, person, note, origin, time]
  radsort labels export --out labels.csv      what `radsort retrain --labels` reads
  radsort labels look                         look at the library now instead of within minutes

Exit status: 0 when everything was done, 1 otherwise.")]
pub struct LabelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with labels.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List labels, the newest files first.
    #[command(after_help = "Examples:
  radsort labels list --pending            what waits for `accept` or `reject`
  radsort labels list --csv > labels.csv   to look through in a spreadsheet")]
    List {
        /// Only those that wait to be accepted.
        #[arg(long)]
        pending: bool,
        /// One JSON object a line.
        #[arg(long, conflicts_with = "csv")]
        json: bool,
        /// Comma-separated values with a header line.
        #[arg(long)]
        csv: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Write labels as CSV: labels that count, one row a file. No patient's identity, only pseudonyms and UIDs, and notes as
    /// people wrote them. The column `audit` names the audits that a file was drawn for, each with how many files it has:
    /// without it labels of origin `audit` promise nothing.
    #[command(after_help = "Examples:
  radsort labels export --out labels.csv
  radsort labels export --untouched --out all.csv   also what nobody has judged")]
    Export {
        /// Where to; standard output if not given. An existing file is replaced.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Also filed files that nobody has judged, with what the model said and origin `untouched`.
        #[arg(long)]
        untouched: bool,
        /// One JSON object a line instead of CSV.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Read labels from a CSV file with the columns sop_instance_uid and category (`neither` or nothing: it belongs under
    /// none), and perhaps person, note, origin (audit, review, correction, adopted, csv or untouched) and time (2026-11-23,
    /// "2026-11-23 14:00" or RFC 3339). No file is moved. A label that is there already stays, with its origin, person and
    /// time, and so does one that was given after the row's time; rows of origin `untouched` are no labels.
    #[command(after_help = "Examples:
  radsort labels import truth.csv
  radsort labels import labels.csv --new-category   also what the model does not know yet

The file begins with the names of its columns:
  sop_instance_uid,category,person,note
  1.2.826.0.1.3680043.10.1,frontal-fusion,R. Meyer,second look")]
    Import {
        /// The list.
        #[arg(value_name = "CSV")]
        file: PathBuf,
        /// Also categories that the model has yet to learn (`radsort retrain --add-category`).
        #[arg(long)]
        new_category: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Labels that wait count from now on.
    #[command(after_help = "Examples:
  radsort labels accept --all
  radsort labels accept 1.2.826.0.1.3680043.10.1")]
    Accept(SettleArgs),
    /// Labels that wait are forgotten; their files stay where they are.
    #[command(after_help = "Examples:
  radsort labels reject --all
  radsort labels reject /srv/library/frontal-fusion/1.2.3.dcm")]
    Reject(SettleArgs),
    /// Look at the library now. Files that were put in, and missing ones, are recorded when two looks have seen them so.
    #[command(after_help = "Examples:
  radsort labels look && radsort labels list --pending")]
    Look {
        /// One JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Whose labels.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("whose").args(["what", "all", "category"]).required(true).multiple(true)))]
pub struct SettleArgs {
    /// SOP Instance UIDs, paths or record ids.
    #[arg(value_name = "UID|PATH")]
    pub what: Vec<OsString>,
    /// All that wait (accept: only those whose category the model knows).
    #[arg(long, conflicts_with = "what")]
    pub all: bool,
    /// All that wait and say this category, whether the model knows it or not.
    #[arg(long, value_name = "ID", value_parser = CategoryId::parse, conflicts_with_all = ["what", "all"])]
    pub category: Option<CategoryId>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &LabelsArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List {
            pending,
            json,
            csv,
            config,
        } => list(&config.load()?, *pending, *json, *csv),
        Verb::Export {
            out,
            untouched,
            json,
            config,
        } => export::export(&config.load()?, out.as_deref(), *untouched, *json),
        Verb::Import {
            file,
            new_category,
            json,
            config,
        } => import(&config.load()?, file, *new_category, *json),
        Verb::Accept(args) => settle(args, true),
        Verb::Reject(args) => settle(args, false),
        Verb::Look { json, config } => look(&config.load()?, *json),
    }
}

/// A label as it is listed. The fields and their order are what scripts rely on: add at the end, never change.
#[derive(Debug, Serialize)]
struct LabelRow {
    /// When it was given, RFC 3339, UTC.
    time: String,
    /// `given`, or why it waits.
    state: String,
    category: String,
    origin: String,
    /// User id.
    by: Option<u32>,
    person: Option<String>,
    note: Option<String>,
    /// What the model had said.
    shown: Option<String>,
    /// The model that had said it.
    model: Option<String>,
    path: String,
    sop_instance_uid: Option<String>,
    record: String,
}

impl LabelRow {
    fn new(given: &Given, entry: &Entry, roots: &[(RootId, PathBuf)]) -> Self {
        let label = &given.label;
        let shown = label.shown.clone().unwrap_or_default();
        let state = label
            .pending
            .and_then(|why| serde_json::to_value(why).ok()?.as_str().map(str::to_owned));
        Self {
            time: when::rfc3339(given.time_us),
            state: state.unwrap_or_else(|| LabelState::Given.as_str().to_owned()),
            category: label.category.to_string(),
            origin: label.origin.to_string(),
            by: label.by,
            person: label.person.clone(),
            note: label.note.clone(),
            shown: shown.category.map(|category| category.to_string()),
            model: shown.model,
            path: place(entry, roots),
            sop_instance_uid: entry.sop_instance_uid.as_ref().map(ToString::to_string),
            record: entry.id.to_string(),
        }
    }

    fn for_spreadsheet(mut self) -> Self {
        without_formulas(&mut self.path, [&mut self.person, &mut self.note]);
        self
    }
}

/// Notes, names and paths are whatever people write.
fn without_formulas(path: &mut String, texts: [&mut Option<String>; 2]) {
    *path = no_formula(std::mem::take(path));
    for text in texts {
        *text = text.take().map(no_formula);
    }
}

/// Where the file is: an observed one is still in its drop directory.
fn place(entry: &Entry, roots: &[(RootId, PathBuf)]) -> String {
    match (&entry.watch, &entry.from) {
        (Some(watch), Some(from)) if !entry.placed => {
            let at = Placement {
                root: RootId::Watch(watch.clone()),
                path: from.clone(),
            };
            access::absolute(roots, &at)
        }
        _ => access::absolute(roots, &entry.at),
    }
}

fn labelled(state: LabelState) -> Query {
    Query {
        label: Some(state),
        ..Query::default()
    }
}

fn list(settings: &Settings, pending: bool, json: bool, csv: bool) -> anyhow::Result<ExitCode> {
    let roots = access::roots(settings);
    let mut rows = Vec::new();
    query::each(settings, &labelled(LabelState::Pending), |entry| {
        rows.extend(
            entry
                .pending
                .as_ref()
                .map(|given| LabelRow::new(given, &entry, &roots)),
        );
        Ok(())
    })?;
    if !pending {
        query::each(settings, &labelled(LabelState::Given), |entry| {
            rows.extend(
                entry
                    .label
                    .as_ref()
                    .map(|given| LabelRow::new(given, &entry, &roots)),
            );
            Ok(())
        })?;
    }
    let mut out = io::stdout().lock();
    let printed = if json {
        rows.iter().try_for_each(|row| write_json(&mut out, row))
    } else if csv {
        let rows: Vec<LabelRow> = rows.into_iter().map(LabelRow::for_spreadsheet).collect();
        write_csv(&mut out, &rows)
    } else if rows.is_empty() {
        eprintln!("there are no labels");
        Ok(())
    } else {
        Ok(writeln!(out, "{}", table(&rows))?)
    };
    query::ignore_closed_pipe(printed)?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[LabelRow]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(access::table_width());
    table.set_header(["time", "state", "category", "was", "origin", "by", "path"]);
    for row in rows {
        let by = row
            .person
            .clone()
            .or(row.by.map(|uid| uid.to_string()))
            .unwrap_or_default();
        table.add_row([
            row.time.as_str(),
            &row.state,
            &row.category,
            row.shown.as_deref().unwrap_or_default(),
            &row.origin,
            &by,
            &row.path,
        ]);
    }
    table
}

fn write_csv<T: Serialize>(out: &mut impl Write, rows: &[T]) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    rows.iter().try_for_each(|row| csv.serialize(row))?;
    Ok(csv.flush()?)
}

fn read_rows(file: &Path) -> anyhow::Result<Vec<contradictions::Row>> {
    let shown = file.display();
    let mut reader = separator::reader()
        .from_path(file)
        .with_context(|| format!("cannot read {shown}"))?;
    let headers = reader
        .headers()
        .with_context(|| format!("cannot read {shown}"))?;
    if headers.is_empty() {
        bail!("{shown}: the list is empty");
    }
    if let Some(found) = separator::other(headers) {
        bail!("{shown} is separated by {found}: save it with commas between the columns");
    }
    for wanted in ["sop_instance_uid", "category"] {
        if !headers.iter().any(|header| header == wanted) {
            bail!("{shown} has no column {wanted:?} in its first line");
        }
    }
    let headers = headers.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("cannot read {shown}"))?;
        let row: ImportRow = record
            .deserialize(Some(&headers))
            .with_context(|| format!("cannot read {shown}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        Origin::listed(row.origin.as_deref().unwrap_or(""))
            .with_context(|| format!("{shown}, line {line}"))?;
        rows.push((line, row));
    }
    if rows.is_empty() {
        bail!("{shown}: the list is empty");
    }
    Ok(rows)
}

fn import(
    settings: &Settings,
    file: &Path,
    new_category: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let (rows, contradicting) = contradictions::refuse(read_rows(file)?);
    let judgements = rows
        .chunks(ROWS)
        .map(|rows| Judgement::Import {
            rows: rows.to_vec(),
            new_category,
        })
        .collect();
    let mut judged = judge::ask(settings, judgements)?;
    judged.extend(contradicting);
    let already = judged.iter().filter(|one| one.already).count();
    let good = judged.iter().filter(|one| one.category.is_some()).count() - already;
    let not: Vec<_> = judged
        .iter()
        .filter(|one| json || one.error.is_some())
        .cloned()
        .collect();
    let code = judge::print(&not, json)?;
    if !json {
        println!(
            "{good} of {} labels imported, {already} were there already",
            judged.len()
        );
    }
    Ok(code)
}

fn settle(args: &SettleArgs, accept: bool) -> anyhow::Result<ExitCode> {
    let what = judge::designations(&args.what)?;
    let judgement = Judgement::Settle {
        accept,
        what,
        category: args.category.clone(),
    };
    let judged = judge::ask(&args.config.load()?, vec![judgement])?;
    if judged.is_empty() && !args.json {
        println!("no label waits");
    }
    judge::print(&judged, args.json)
}

fn look(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let looked = match Office::open(settings)? {
        Office::Service(mut client) => {
            client.ask(&Request::LookAtLibrary {}, |reply| match reply {
                Reply::Looked(looked) => Some(looked),
                _ => None,
            })?
        }
        Office::Alone(office) => office.run(async |desk, _| {
            let watch = LibraryWatch::default();
            Ok(watch.look(&desk, None, &CancellationToken::new()).await?)
        })?,
    };
    if json {
        println!("{}", serde_json::to_string(&looked)?);
    } else {
        let Looked {
            in_place,
            moved,
            labels,
            pending,
            adopted,
            missing,
        } = looked;
        println!(
            "{in_place} files in their places; {moved} were moved, {adopted} put in, {missing} are missing; \
             {labels} new labels, {pending} more wait to be accepted"
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(text: &str) -> anyhow::Result<Vec<ImportRow>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("list.csv");
        std::fs::write(&path, text)?;
        let rows = read_rows(&path)?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    #[test]
    fn a_list_may_lack_who_said_so() {
        let short = rows("category,sop_instance_uid\nbrace,1.2.3\n").unwrap();
        assert_eq!(
            (short[0].category.as_str(), &short[0].person),
            ("brace", &None)
        );
        let long = rows("sop_instance_uid,category,person,note\n1.2.3,brace,M. Muster,\n").unwrap();
        assert_eq!(long[0].person.as_deref(), Some("M. Muster"));
        assert_eq!(long[0].note, None);
        let blanks = rows("sop_instance_uid, category\n1.2.3,\n").unwrap();
        assert_eq!(blanks[0].category, "");
        for nothing in ["", "sop_instance_uid,category\n"] {
            let why = rows(nothing).unwrap_err().to_string();
            assert!(why.ends_with("the list is empty"), "{why}");
        }
        let misspelt =
            "sop_instance_uid,category,origin\n1.2.3,brace,Untouched\n1.2.4,brace,model\n";
        let why = format!("{:#}", rows(misspelt).unwrap_err());
        assert!(why.contains("line 3: the origin \"model\""), "{why}");
        let error = rows("uid,category\n1.2,brace\n").unwrap_err().to_string();
        assert!(error.contains("sop_instance_uid"), "{error}");
        let error = rows("sop_instance_uid;category\n1.2;brace\n").unwrap_err();
        assert!(
            error.to_string().contains("separated by semicolons"),
            "{error}"
        );
    }
}
