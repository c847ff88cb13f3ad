//! `radsort labels export`: labels as a list that `radsort retrain --labels` and other programs read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::super::access;
use super::super::query::{self, write_json};
use super::super::when;
use super::{labelled, place, without_formulas, write_csv};
use crate::config::Settings;
use crate::control::protocol::AuditList;
use crate::domain::Origin;
use crate::domain::placement::RootId;
use crate::filing::record::{Fate, RecordId};
use crate::index::entry::Entry;
use crate::index::query::{LabelState, Query};
use crate::judgement::audit;
use crate::model::Bundle;
use crate::model::store::Store;

/// One file of an export. The columns are what `retrain --labels` reads: add at the end, never change.
#[derive(Debug, Serialize)]
struct ExportRow {
    sop_instance_uid: Option<String>,
    path: String,
    /// BLAKE3.
    digest: String,
    category: String,
    origin: String,
    /// The patient's pseudonym.
    patient: Option<String>,
    /// Study Instance UID.
    study: Option<String>,
    view: Option<String>,
    /// What the model said.
    predicted: Option<String>,
    model: Option<String>,
    /// When the label was given (untouched: when the file was filed), RFC 3339, UTC.
    time: String,
    /// The model's joint confidence, 0 to 1.
    confidence: Option<f32>,
    /// Who gave the label: their user id.
    by: Option<u32>,
    /// Who gave the label, as an imported list names them.
    person: Option<String>,
    /// What they added.
    note: Option<String>,
    /// The audits that the file was drawn for, each with how many files were: `20261123T100000Z/200; …`. `unknown` where the
    /// lists cannot be read.
    audit: Option<String>,
}

impl ExportRow {
    /// `None` when nothing is known about what it shows.
    fn new(entry: &Entry, roots: &[(RootId, PathBuf)], drawn: &Drawn) -> Option<Self> {
        let (category, origin, time_us) = match &entry.label {
            Some(given) => (&given.label.category, given.label.origin, given.time_us),
            None => (entry.category.as_ref()?, Origin::Untouched, entry.filed_us),
        };
        let label = entry.label.as_ref().map(|given| &given.label);
        Some(Self {
            sop_instance_uid: entry.sop_instance_uid.as_ref().map(ToString::to_string),
            path: place(entry, roots),
            digest: entry.digest.0.clone(),
            category: category.to_string(),
            origin: match origin {
                // Of a later version: who reads the list knows no such word.
                Origin::Unknown => Origin::Csv.to_string(),
                known => known.to_string(),
            },
            patient: entry.patient.as_ref().map(|patient| patient.0.clone()),
            study: entry.study_instance_uid.as_ref().map(ToString::to_string),
            view: entry.view.map(|view| view.to_string()),
            predicted: entry.predicted.as_ref().map(ToString::to_string),
            model: entry.model.clone(),
            time: when::rfc3339(time_us),
            confidence: entry.confidence,
            by: label.and_then(|label| label.by),
            person: label.and_then(|label| label.person.clone()),
            note: label.and_then(|label| label.note.clone()),
            audit: drawn.told(&entry.id, origin),
        })
    }

    fn for_spreadsheet(mut self) -> Self {
        without_formulas(&mut self.path, [&mut self.person, &mut self.note]);
        self
    }
}

/// Which files were drawn for which audits: names, and how many files each has.
#[derive(Default)]
struct Drawn(BTreeMap<RecordId, Vec<(String, usize)>>);

impl Drawn {
    /// Who may ask the service need not be able to read what it keeps: then nothing is known.
    fn read(state: &Path) -> Self {
        let mut drawn = Self::default();
        for AuditList { id, files, .. } in audit::lists(state).unwrap_or_default() {
            let count = files.len();
            for file in files {
                drawn.0.entry(file).or_default().push((id.clone(), count));
            }
        }
        drawn
    }

    fn told(&self, file: &RecordId, origin: Origin) -> Option<String> {
        let audits = self.0.get(file).map(|audits| {
            let each = audits.iter().map(|(list, count)| format!("{list}/{count}"));
            each.collect::<Vec<_>>().join("; ")
        });
        audits.or_else(|| (origin == Origin::Audit).then(|| "unknown".to_owned()))
    }
}

/// `radsort labels export`.
pub(super) fn export(
    settings: &Settings,
    out: Option<&Path>,
    untouched: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let rows = export_rows(settings, untouched)?;
    let count = rows.len();
    match out {
        Some(path) => write_export(&mut create(path)?, rows, json)?,
        None => query::ignore_closed_pipe(write_export(&mut io::stdout().lock(), rows, json))?,
    }
    eprintln!("{count} labels");
    Ok(ExitCode::SUCCESS)
}

/// Writes the labels that count, and `untouched` files as well, as a list that `retrain --labels` reads; says how many.
pub fn export_to(settings: &Settings, list: &Path, untouched: bool) -> anyhow::Result<usize> {
    let rows = export_rows(settings, untouched)?;
    let count = rows.len();
    write_export(&mut create(list)?, rows, false)?;
    Ok(count)
}

fn create(list: &Path) -> anyhow::Result<File> {
    File::create(list).with_context(|| format!("cannot write {}", list.display()))
}

fn write_export(out: &mut impl Write, rows: Vec<ExportRow>, json: bool) -> anyhow::Result<()> {
    if json {
        return rows.iter().try_for_each(|row| write_json(out, row));
    }
    let rows: Vec<_> = rows.into_iter().map(ExportRow::for_spreadsheet).collect();
    write_csv(out, &rows)
}

fn export_rows(settings: &Settings, untouched: bool) -> anyhow::Result<Vec<ExportRow>> {
    let roots = access::roots(settings);
    let drawn = Drawn::read(&settings.state);
    let mut rows = Vec::new();
    query::each(settings, &labelled(LabelState::Given), |entry| {
        rows.extend(ExportRow::new(&entry, &roots, &drawn));
        Ok(())
    })?;
    if untouched {
        // Who may ask the service need not be able to read what it keeps.
        let bundle = Store::in_use(settings).ok();
        let bundle = bundle.and_then(|dir| Bundle::open(&dir).ok());
        let query = Query {
            fate: Some(Fate::Filed),
            ..Query::default()
        };
        query::each(settings, &query, |entry| {
            // What waits is in doubt: it is neither a label nor untouched.
            let in_doubt = entry.label.is_some() || entry.pending.is_some();
            if !in_doubt && entry.placed && lies_at_home(&entry, bundle.as_ref()) {
                rows.extend(ExportRow::new(&entry, &roots, &drawn));
            }
            Ok(())
        })?;
    }
    Ok(rows)
}

/// Whether a file lies in the folder of what its record says: who has taken it out of there has touched it.
fn lies_at_home(entry: &Entry, bundle: Option<&Bundle>) -> bool {
    let (Some(bundle), Some(category)) = (bundle, &entry.category) else {
        return true;
    };
    let folder = entry.at.path.components().next().unwrap_or_default();
    let folder = String::from_utf8_lossy(folder);
    let mut known = bundle.categories().iter();
    let known = known.find(|known| known.is_meant_by(category.as_str()));
    known.is_none_or(|known| known.is_meant_by(&folder))
}
