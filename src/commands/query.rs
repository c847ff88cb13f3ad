//! `radsort query`: which files were filed, sent to review, quarantined… and where they are.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::access::{self, Access, ConfigArg};
use super::row::Row;
use super::when;
use crate::config::Settings;
use crate::control::ControlError;
use crate::control::protocol::{Reply, Request};
use crate::domain::placement::RootId;
use crate::domain::{CategoryId, Reason, Uid, View};
use crate::filing::record::Fate;
use crate::index::entry::Entry;
use crate::index::query::{LabelState, Query};

/// How many rows a table has unless told otherwise; JSON and CSV have all.
const TABLE_ROWS: u64 = 50;

/// Find files by what is known about them, the newest first.
///
/// All conditions that are given must hold. Times are when a file got its place; T can be a span back from now, a day,
/// or a time: 2h, 7d, today, yesterday, 2026-11-23, "2026-11-23 14:00" (local time), 2026-11-23T14:00:00Z.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  radsort query --since yesterday                     what came in since yesterday
  radsort query --reason low-confidence --below 0.6   what the model was least sure of
  radsort query --category fusion --count             how many (answered without looking at each)
  radsort query --study 1.2.840.1 --json              one JSON object a line
  radsort query --since 7d --csv > week.csv           for a spreadsheet

Exit status: 0 when the question was answered (also when nothing was found), 1 otherwise, 2 for wrong arguments.")]
pub struct QueryArgs {
    /// Category id, e.g. frontal-fusion: a person's label if there is one, else what the model said.
    #[arg(long, value_name = "C", value_parser = |text: &str| CategoryId::parse(text))]
    pub category: Option<CategoryId>,
    /// frontal or lateral.
    #[arg(long, value_name = "V", value_parser = view)]
    pub view: Option<View>,
    /// Study Instance UID.
    #[arg(long, value_name = "UID", value_parser = |text: &str| Uid::parse(text))]
    pub study: Option<Uid>,
    /// From this time on.
    #[arg(long, value_name = "T", value_parser = time)]
    pub since: Option<i64>,
    /// Before this time.
    #[arg(long, value_name = "T", value_parser = time)]
    pub until: Option<i64>,
    /// Name of the drop directory that it came through.
    #[arg(long, value_name = "W")]
    pub source: Option<String>,
    /// Bundle name, version, or both.
    #[arg(long, value_name = "V")]
    pub model: Option<String>,
    /// Joint confidence of view and category below this, 0 to 1.
    #[arg(long, value_name = "CONF", value_parser = confidence)]
    pub below: Option<f32>,
    /// Why it was not filed, e.g. low-confidence, view-conflict, truncated.
    #[arg(long, value_name = "R")]
    pub reason: Option<Reason>,
    /// filed, review, other, quarantined, duplicate, conflict or left; what was only observed (action = "observe") counts as
    /// what would have become of it.
    #[arg(long, value_name = "F")]
    pub fate: Option<Fate>,
    /// Whether a person has said what it is: given, pending (waits to be accepted) or none.
    #[arg(long, value_name = "STATE")]
    pub label: Option<LabelState>,
    /// Only how many.
    #[arg(long)]
    pub count: bool,
    /// At most so many; a table has 50 unless told otherwise.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// One JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values with a header line.
    #[arg(long, conflicts_with = "count")]
    pub csv: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

fn view(text: &str) -> Result<View, String> {
    [View::Frontal, View::Lateral]
        .into_iter()
        .find(|view| view.as_str() == text)
        .ok_or_else(|| "there are: frontal, lateral".to_owned())
}

fn confidence(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 1 is wanted".to_owned()),
    }
}

fn time(text: &str) -> Result<i64, String> {
    when::parse(text, &jiff::ZonedDateTime::now())
}

impl QueryArgs {
    fn query(&self) -> Query {
        Query {
            category: self.category.clone(),
            view: self.view,
            study: self.study.clone(),
            since_us: self.since,
            until_us: self.until,
            source: self.source.clone(),
            model: self.model.clone(),
            below: self.below,
            reason: self.reason,
            fate: self.fate,
            label: self.label,
            limit: self.limit,
        }
    }
}

/// Runs the command.
pub fn run(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let query = args.query();
    if args.count {
        let count = count(&settings, &query)?;
        if args.json {
            println!("{}", serde_json::json!({ "count": count }));
        } else {
            println!("{count}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let roots = access::roots(&settings);
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = if args.json {
        each(&settings, &query, |entry| {
            write_json(&mut out, &Row::new(&entry, &roots))
        })
    } else if args.csv {
        let mut csv = csv::Writer::from_writer(&mut out);
        each(&settings, &query, |entry| {
            Ok(csv.serialize(Row::new(&entry, &roots).for_spreadsheet())?)
        })
        .and_then(|()| Ok(csv.flush()?))
    } else {
        print_table(&mut out, &settings, query, &roots)
    };
    ignore_closed_pipe(printed.and_then(|()| Ok(out.flush()?)))?;
    Ok(ExitCode::SUCCESS)
}

/// One JSON object on one line.
pub fn write_json<T: serde::Serialize>(out: &mut impl Write, value: &T) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

/// `radsort query | head` is no error.
pub fn ignore_closed_pipe(result: anyhow::Result<()>) -> anyhow::Result<()> {
    let is_closed_pipe = |err: &anyhow::Error| {
        err.chain().any(|cause| {
            let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            let json = cause
                .downcast_ref::<serde_json::Error>()
                .and_then(serde_json::Error::io_error_kind);
            let csv = cause
                .downcast_ref::<csv::Error>()
                .and_then(|err| match err.kind() {
                    csv::ErrorKind::Io(err) => Some(err.kind()),
                    _ => None,
                });
            io.or(json).or(csv) == Some(io::ErrorKind::BrokenPipe)
        })
    };
    match result {
        Err(err) if is_closed_pipe(&err) => Ok(()),
        other => other,
    }
}

fn count(settings: &Settings, query: &Query) -> anyhow::Result<u64> {
    match Access::open(settings)? {
        Access::Daemon(mut client) => {
            let request = Request::Count {
                query: query.clone(),
            };
            Ok(client.ask(&request, |reply| match reply {
                Reply::Count { count } => Some(count),
                _ => None,
            })?)
        }
        Access::Direct(index) => {
            let count = index.count(query)?;
            index.close()?;
            Ok(count)
        }
    }
}

/// Hands over every entry that a query asks for.
pub fn each(
    settings: &Settings,
    query: &Query,
    mut take: impl FnMut(Entry) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match Access::open(settings)? {
        Access::Daemon(mut client) => {
            for reply in client.request(&Request::Query {
                query: query.clone(),
            })? {
                match reply? {
                    Reply::Entry(entry) => take(*entry)?,
                    other => return Err(ControlError::Garbled(format!("{other:?}")).into()),
                }
            }
        }
        Access::Direct(index) => {
            index.query(query).try_for_each(|entry| take(entry?))?;
            index.close()?;
        }
    }
    Ok(())
}

fn print_table(
    out: &mut impl Write,
    settings: &Settings,
    query: Query,
    roots: &[(RootId, PathBuf)],
) -> anyhow::Result<()> {
    let limit = query.limit.unwrap_or(TABLE_ROWS);
    let mut entries = Vec::new();
    // One more than is shown tells whether there are more.
    let asked = Query {
        limit: Some(limit.saturating_add(1)),
        ..query
    };
    each(settings, &asked, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    if entries.is_empty() {
        eprintln!("nothing found");
        return Ok(());
    }
    let more = entries.len() as u64 > limit;
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    writeln!(out, "{}", table(&entries, roots, access::table_width())).context("cannot write")?;
    if more {
        eprintln!("there are more: --limit N, --json or --csv");
    }
    Ok(())
}

/// A table that fits into `width` columns.
pub fn table(entries: &[Entry], roots: &[(RootId, PathBuf)], width: u16) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    table.set_header(["time", "fate", "category", "view", "conf", "reason", "path"]);
    if let Some(confidence) = table.column_mut(4) {
        confidence.set_cell_alignment(CellAlignment::Right);
    }
    for entry in entries {
        let would = if entry.placed { "" } else { "would be " };
        let fate = match entry.action {
            Some(crate::config::settings::Action::Observe) => format!("{would}{}", entry.fate),
            _ => entry.fate.to_string(),
        };
        table.add_row([
            when::local(entry.filed_us),
            fate,
            entry
                .category
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            entry.view.map(|view| view.to_string()).unwrap_or_default(),
            entry
                .confidence
                .map(|confidence| format!("{confidence:.2}"))
                .unwrap_or_default(),
            entry
                .reason
                .map(|reason| reason.to_string())
                .unwrap_or_default(),
            access::absolute(roots, &entry.at),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: QueryArgs,
    }

    fn parse(line: &str) -> Result<QueryArgs, clap::Error> {
        Cli::try_parse_from(std::iter::once("query").chain(line.split_whitespace()))
            .map(|cli| cli.args)
    }

    fn example() -> Entry {
        serde_json::from_str(include_str!("testdata/entry.json")).unwrap()
    }

    fn roots() -> Vec<(RootId, PathBuf)> {
        vec![(RootId::Library, "/srv/library".into())]
    }

    #[test]
    fn arguments_become_a_query() {
        let query = parse(
            "--category fusion --view lateral --study 1.2 --below 0.7 --reason truncated --limit 3",
        )
        .unwrap()
        .query();
        assert_eq!(query.category.unwrap().as_str(), "fusion");
        assert_eq!((query.view, query.below), (Some(View::Lateral), Some(0.7)));
        assert_eq!(
            (query.reason, query.limit),
            (Some(Reason::Truncated), Some(3))
        );
        for wrong in [
            "--view up",
            "--below 2",
            "--reason because",
            "--since soon",
            "--study x",
            "--json --csv",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn json_and_csv_are_stable() {
        let row = Row::new(&example(), &roots());
        let mut json = Vec::new();
        write_json(&mut json, &row).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            include_str!("testdata/row.json")
        );
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.serialize(row).unwrap();
        assert_eq!(
            String::from_utf8(csv.into_inner().unwrap()).unwrap(),
            include_str!("testdata/row.csv")
        );
    }

    #[test]
    fn the_table_fits_the_terminal() {
        for width in [80, 120] {
            let text = table(&[example()], &roots(), width).to_string();
            assert!(text.contains("fusion") && text.contains("0.93"), "{text}");
            assert!(
                text.lines()
                    .all(|line| line.chars().count() <= usize::from(width)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(ignore_closed_pipe(Err(closed().into())).is_ok());
        assert!(ignore_closed_pipe(Err(serde_json::Error::io(closed()).into())).is_ok());
        assert!(ignore_closed_pipe(Err(csv::Error::from(closed()).into())).is_ok());
        assert!(
            ignore_closed_pipe(Err(io::Error::from(io::ErrorKind::StorageFull).into())).is_err()
        );
    }
}
