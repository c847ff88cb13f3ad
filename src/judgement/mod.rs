//! Where people's judgements are taken: corrections, confirmations, lists from elsewhere, and what waits to be accepted.
//!
//! A label is on disk before anything is moved. A file that is corrected goes into its category's folder, because that
//! is where a person looks for it; if it cannot be moved the label stands all the same, and the answer says why.

pub mod audit;
pub mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::commands::access;
use crate::config::Settings;
use crate::control::protocol::{ImportRow, Judged, Judgement};
use crate::domain::category::{CategoryIdError, NEITHER, says_neither};
use crate::domain::placement::{Filling, RootId, Template};
use crate::domain::{CategoryId, Origin, RelPath, Uid, View};
use crate::engine::Engine;
use crate::filing::destinations::Destinations;
use crate::filing::filer::Filer;
use crate::filing::record::{Fate, Label, Record, RecordId};
use crate::index::Index;
use crate::index::entry::{Entry, State as EntryState};
use crate::index::query::{Entries, LabelState, Query};
use crate::model::Bundle;
use crate::model::manifest::Category;
use crate::model::store::Store;
use crate::said_at;
use crate::state::State;

/// What is needed to take judgements: the records, and what the bundle in use calls things.
#[derive(Clone)]
pub struct Desk {
    /// Moves files and records it.
    pub filer: Filer,
    /// Answers questions.
    pub index: Arc<Index>,
    /// Library, quarantine and duplicates.
    pub destinations: Arc<Destinations>,
    /// Where audit lists are kept.
    pub state: PathBuf,
    /// Every root with its path.
    pub places: Vec<(RootId, PathBuf)>,
    categories: Vec<Category>,
    bundle: String,
    template: Template,
}

/// One file with what is to be recorded about it.
struct Verdict {
    what: String,
    entry: Entry,
    category: CategoryId,
    origin: Origin,
    person: Option<String>,
    note: Option<String>,
    /// Its place in the category's folder, when it does not lie there.
    to: Option<RelPath>,
}

/// What is to be recorded, or what is told at once because nothing is.
type Found = Result<Verdict, Judged>;

/// A file by the name that is told, whose label waits; or what is told at once because nothing does.
type Waiting = Result<(String, Entry), Judged>;

/// The category that a file is corrected to.
struct Target {
    id: CategoryId,
    folder: String,
    /// `None`: the bundle in use does not know the category.
    view: Option<View>,
}

impl From<&Category> for Target {
    fn from(category: &Category) -> Self {
        Self {
            id: category.id.clone(),
            folder: category.folder.clone(),
            view: Some(category.view),
        }
    }
}

impl Target {
    /// One that no bundle knows yet: its folder will have its name, as `retrain --add-category` gives it.
    fn new(id: CategoryId) -> Self {
        Self {
            folder: id.to_string(),
            id,
            view: None,
        }
    }
}

impl Desk {
    /// With the running service's settings and model.
    pub fn of_service(engine: &Engine) -> Self {
        let services = engine.services();
        let bundle = services.model.classifier().bundle();
        Self::new(&engine.state, &engine.settings(), bundle)
    }

    /// Without a service.
    pub fn of_state(state: &State, settings: &Settings) -> anyhow::Result<Self> {
        let bundle = Bundle::open(&Store::in_use(settings)?)?;
        Ok(Self::new(state, settings, &bundle))
    }

    fn new(state: &State, settings: &Settings, bundle: &Bundle) -> Self {
        Self {
            filer: state.filer.clone(),
            index: Arc::clone(&state.index),
            destinations: Arc::clone(&state.destinations),
            state: state.dir.clone(),
            places: state.places(),
            categories: bundle.categories().to_vec(),
            bundle: bundle.name_and_version(),
            template: settings.library.template.clone(),
        }
    }

    /// Whose folder a first component of a path in the library is; people put what belongs under no category into `neither/`.
    pub fn category_of_folder(&self, folder: &[u8]) -> Option<CategoryId> {
        let folder = std::str::from_utf8(folder).ok()?;
        let mut categories = self.categories.iter();
        categories
            .find(|category| category.folder == folder || category.was_called(folder))
            .map(|category| category.id.clone())
            .or_else(|| {
                let neither = (folder == NEITHER).then(|| CategoryId::parse(folder).ok());
                neither.flatten()
            })
    }

    /// Whether the bundle in use has a category of this id, or had it under this id before it was renamed, or it means none.
    fn knows(&self, id: &CategoryId) -> bool {
        let mut categories = self.categories.iter();
        id.as_str() == NEITHER
            || categories.any(|category| category.id == *id || category.was_called(id.as_str()))
    }

    /// A category that has got another id is still the same one.
    pub fn as_called_now(&self, id: &CategoryId) -> CategoryId {
        let mut categories = self.categories.iter();
        let renamed = categories.find(|category| category.was_called(id.as_str()));
        renamed.map_or_else(|| id.clone(), |category| category.id.clone())
    }

    /// Records what a person says. `by` is their user id, when known.
    pub async fn judge(
        &self,
        judgement: Judgement,
        by: Option<u32>,
    ) -> anyhow::Result<Vec<Judged>> {
        let _alone = self.filer.by_hand().await;
        let desk = self.clone();
        if let Judgement::Settle {
            accept,
            what,
            category,
        } = judgement
        {
            let find = move || match (category, what.is_empty()) {
                (Some(category), _) => desk.waiting_for(&category),
                (None, true) => desk.all_waiting(accept),
                (None, false) => desk.waiting(what),
            };
            let waiting = tokio::task::spawn_blocking(find).await??;
            return self.settle(waiting, accept, by).await;
        }
        let verdicts = tokio::task::spawn_blocking(move || desk.verdicts(judgement)).await??;
        let labels = verdicts
            .iter()
            .flatten()
            .map(|verdict| Record::Label(Box::new(verdict.label(by))))
            .collect();
        if let Err(reason) = self.filer.append(labels).await? {
            anyhow::bail!("nothing was recorded: {reason}");
        }
        let mut judged = Vec::new();
        for verdict in verdicts {
            judged.push(match verdict {
                Ok(verdict) => self.move_there(verdict).await?,
                Err(not) => not,
            });
        }
        Ok(judged)
    }

    async fn move_there(&self, verdict: Verdict) -> anyhow::Result<Judged> {
        let Verdict {
            what,
            entry,
            category,
            to,
            ..
        } = verdict;
        let mut judged = Judged {
            what,
            category: Some(category.to_string()),
            to: None,
            error: None,
            already: false,
        };
        let Some(to) = to else { return Ok(judged) };
        match self
            .filer
            .relocate(entry.id, entry.at, to, entry.digest)
            .await?
        {
            Ok(at) => judged.to = Some(access::absolute(&self.places, &at)),
            Err(error) => judged.error = Some(error.to_string()),
        }
        Ok(judged)
    }

    async fn settle(
        &self,
        waiting: Vec<Waiting>,
        accepted: bool,
        by: Option<u32>,
    ) -> anyhow::Result<Vec<Judged>> {
        let records = waiting
            .iter()
            .flatten()
            .map(|(_, entry)| Record::Judged {
                id: entry.id.clone(),
                accepted,
                by,
            })
            .collect();
        if let Err(reason) = self.filer.append(records).await? {
            anyhow::bail!("nothing was recorded: {reason}");
        }
        let settled = |(what, entry): (String, Entry)| {
            let category = match &entry.pending {
                Some(given) if accepted => Some(&given.label.category),
                _ => entry.category.as_ref(),
            };
            Judged {
                what,
                category: category.map(ToString::to_string),
                to: None,
                error: None,
                already: false,
            }
        };
        Ok(waiting
            .into_iter()
            .map(|one| one.map_or_else(|not| not, settled))
            .collect())
    }

    /// Every file whose label waits. Whoever accepts all of them at once need not have thought of a folder that is called
    /// like no category: those are left waiting, and it is told how to accept them.
    fn all_waiting(&self, accept: bool) -> anyhow::Result<Vec<Waiting>> {
        let (mut waiting, mut new) = (Vec::new(), BTreeMap::<CategoryId, usize>::new());
        for entry in self.pending() {
            let entry = entry?;
            let said = entry.pending.as_ref().map(|given| &given.label.category);
            match said.filter(|said| accept && !self.knows(said)) {
                Some(said) => *new.entry(said.clone()).or_default() += 1,
                None => waiting.push(Ok(self.named(entry))),
            }
        }
        waiting.extend(new.into_iter().map(|(category, count)| {
            let why = format!(
                "{} so and wait on, because {} does not know it; \
                 `radsort labels accept --category {category}` if it is to become a category",
                if count == 1 {
                    "1 label says".to_owned()
                } else {
                    format!("{count} labels say")
                },
                self.bundle
            );
            Err(not(category.to_string(), why))
        }));
        Ok(waiting)
    }

    /// The files whose labels wait and say this.
    fn waiting_for(&self, category: &CategoryId) -> anyhow::Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        for entry in self.pending() {
            let entry = entry?;
            let said = entry.pending.as_ref().map(|given| &given.label.category);
            if said == Some(category) {
                waiting.push(Ok(self.named(entry)));
            }
        }
        Ok(waiting)
    }

    fn pending(&self) -> Entries {
        self.index.query(&Query {
            label: Some(LabelState::Pending),
            ..Query::default()
        })
    }

    fn named(&self, entry: Entry) -> (String, Entry) {
        (access::absolute(&self.places, &entry.at), entry)
    }

    /// The files that are named, whose labels wait.
    fn waiting(&self, what: Vec<String>) -> anyhow::Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        for what in what {
            let mut entries = self.index.resolve(&self.places, &what)?;
            entries.retain(|entry| entry.state == EntryState::Live && entry.pending.is_some());
            if entries.is_empty() {
                let why =
                    "no label of this file waits; `radsort labels list --pending` shows which do";
                waiting.push(Err(not(what, why)));
                continue;
            }
            waiting.extend(entries.into_iter().map(|entry| Ok((what.clone(), entry))));
        }
        Ok(waiting)
    }

    fn verdicts(&self, judgement: Judgement) -> anyhow::Result<Vec<Found>> {
        let audited = audit::on_lists(&self.state).context("the audit lists cannot be read")?;
        match judgement {
            Judgement::Correct {
                what,
                category,
                note,
                new_category,
            } => {
                let category = self.target(&category, new_category);
                let found = self.correction(what, category, note, &audited)?;
                Ok(vec![found])
            }
            Judgement::Confirm { what } => what
                .into_iter()
                .map(|what| self.confirmation(what, &audited))
                .collect(),
            Judgement::Import { rows, new_category } => rows
                .into_iter()
                .map(|row| self.imported(row, new_category))
                .collect(),
            Judgement::Settle { .. } => Ok(Vec::new()),
        }
    }

    fn correction(
        &self,
        what: String,
        category: Result<Target, String>,
        note: Option<String>,
        audited: &BTreeSet<RecordId>,
    ) -> anyhow::Result<Found> {
        let entry = match self.meant(&what)? {
            Ok(entry) => entry,
            Err(why) => return Ok(Err(not(what, why))),
        };
        let category = match category {
            Ok(category) => category,
            Err(why) => return Ok(Err(not(what, why))),
        };
        Ok(Ok(Verdict {
            to: self.place(&entry, &category)?,
            origin: origin(&entry, audited),
            category: category.id,
            person: None,
            what,
            entry,
            note,
        }))
    }

    fn confirmation(&self, what: String, audited: &BTreeSet<RecordId>) -> anyhow::Result<Found> {
        let entry = match self.meant(&what)? {
            Ok(entry) => entry,
            Err(why) => return Ok(Err(not(what, why))),
        };
        let category = entry.category.as_ref();
        let Some(category) = category.map(|category| self.as_called_now(category)) else {
            let why = "its record names no category that could be confirmed; use `radsort correct`, with `neither` if it \
                       belongs under none";
            return Ok(Err(not(what, why)));
        };
        // A file in review that is confirmed is what the model thought most likely: it goes there.
        let to = match self.categories.iter().find(|known| known.id == category) {
            Some(category) if entry.fate != Fate::Filed => self.place(&entry, &category.into())?,
            _ => None,
        };
        Ok(Ok(Verdict {
            origin: origin(&entry, audited),
            person: None,
            note: None,
            what,
            entry,
            category,
            to,
        }))
    }

    fn imported(&self, row: ImportRow, new_category: bool) -> anyhow::Result<Found> {
        let ImportRow {
            sop_instance_uid,
            category,
            person,
            note,
            origin,
            time,
        } = row;
        let what = sop_instance_uid.trim().to_owned();
        match Origin::listed(origin.as_deref().unwrap_or("")) {
            Err(unknown) => return Ok(Err(not(what, unknown.to_string()))),
            Ok(Origin::Untouched) => {
                let why =
                    "nobody has looked at it, says the list (origin untouched): that is no label";
                return Ok(Err(not(what, why)));
            }
            Ok(_) => {}
        }
        if let Err(error) = Uid::parse(&what) {
            return Ok(Err(not(what, error.to_string())));
        }
        let entry = match self.meant(&what)? {
            Ok(entry) => entry,
            Err(why) => return Ok(Err(not(what, why))),
        };
        // As `retrain --labels` reads it: a cell that is left empty says that it is of no category.
        let category = if category.trim().is_empty() {
            NEITHER
        } else {
            category.trim()
        };
        let category = match self.target(category, new_category) {
            Ok(category) => category.id,
            Err(why) => return Ok(Err(not(what, why))),
        };
        let time = time.filter(|time| !time.trim().is_empty());
        let said_us = time
            .as_ref()
            .map(|time| said_at::parse(time, &jiff::tz::TimeZone::system()));
        if said_us == Some(None) {
            // Taken as said now it could overrule what was said later.
            let why = format!(
                "when it was said cannot be read (column `time`: {:?}); write {}",
                time.unwrap_or_default(),
                said_at::FORMS
            );
            return Ok(Err(not(what, why)));
        }
        // Who said it first, when and on what occasion would be lost: an audit's label certifies, a list's does not.
        let label = entry.label.as_ref().map(|given| &given.label.category);
        if label.map(|label| self.as_called_now(label)).as_ref() == Some(&category) {
            return Ok(Err(Judged {
                what,
                category: Some(category.to_string()),
                to: None,
                error: None,
                already: true,
            }));
        }
        if let (Some(said_us), Some(given)) = (said_us.flatten(), &entry.label)
            && given.time_us > said_us
        {
            let why = format!(
                "a person has said {} since the list did (column `time`)",
                given.label.category
            );
            return Ok(Err(not(what, why)));
        }
        Ok(Ok(Verdict {
            origin: Origin::Csv,
            to: None,
            what,
            entry,
            category,
            person,
            note,
        }))
    }

    /// The one file that a person means.
    fn meant(&self, what: &str) -> anyhow::Result<Result<Entry, String>> {
        let mut entries = self.index.resolve(&self.places, what)?;
        entries.retain(|entry| entry.state == EntryState::Live);
        if entries.len() > 1 {
            // Repeats and conflicts share its UID; meant is the one that stands for it.
            let stands =
                |entry: &Entry| matches!(entry.fate, Fate::Filed | Fate::Review | Fate::Other);
            entries.retain(stands);
        }
        Ok(match entries.len() {
            0 => Err("no file on record is meant by this".to_owned()),
            1 => Ok(entries.remove(0)),
            _ => Err("more than one file is meant by this: give its path".to_owned()),
        })
    }

    /// What a person means by a category: one of the bundle's, `neither`, or, if they say so, one that it has yet to learn.
    fn target(&self, text: &str, new_category: bool) -> Result<Target, String> {
        match self.category(text) {
            Ok(category) => Ok(category.into()),
            Err(_) if !text.is_empty() && says_neither(text) => {
                Ok(Target::new(CategoryId::parse(NEITHER).map_err(in_words)?))
            }
            Err(_) if new_category => CategoryId::parse(text).map(Target::new).map_err(in_words),
            Err(why) => Err(why),
        }
    }

    /// A category by its id or its folder's name, or by one that it had before it was renamed.
    fn category(&self, text: &str) -> Result<&Category, String> {
        let is_it = |category: &&Category| {
            category.is_meant_by(text) || category.folder.eq_ignore_ascii_case(text)
        };
        if let Some(category) = self.categories.iter().find(is_it) {
            return Ok(category);
        }
        let mut ids: Vec<&str> = self
            .categories
            .iter()
            .map(|category| category.id.as_str())
            .collect();
        let likeness = |id: &&str| strsim::jaro_winkler(id, text);
        ids.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        let nearest = ids.first().copied().unwrap_or_default();
        Err(format!(
            "{} has no category {text:?}; did you mean {nearest}? There are: {}; and `neither` for what belongs under none. \
             With --new-category it is one that the model has yet to learn",
            self.bundle,
            ids.join(", ")
        ))
    }

    /// Where a file belongs that is of a category: `None` when it lies there, or is not radsort's to move.
    fn place(&self, entry: &Entry, category: &Target) -> anyhow::Result<Option<RelPath>> {
        let folder = category.folder.as_bytes();
        let there = entry.at.path.components().next() == Some(folder);
        if !entry.placed || entry.at.root != RootId::Library || there {
            return Ok(None);
        }
        let story = self.index.story(&entry.id)?;
        let instance = story
            .as_ref()
            .and_then(|story| story.dossier())
            .and_then(|dossier| dossier.instance.as_ref());
        Ok(Some(match instance {
            Some(instance) => self.template.fill(&Filling {
                category_folder: &category.folder,
                view: category.view.or(entry.view).map_or("", View::as_str),
                instance,
                watch: entry.watch.as_deref().unwrap_or_default(),
            }),
            None => RelPath::new(folder)?.join(entry.at.path.file_name())?,
        }))
    }
}

impl Verdict {
    fn label(&self, by: Option<u32>) -> Label {
        Label {
            id: self.entry.id.clone(),
            category: self.category.clone(),
            origin: self.origin,
            by,
            person: self.person.clone(),
            note: self.note.clone(),
            shown: Some(self.entry.shown()),
            pending: None,
        }
    }
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn in_words(error: CategoryIdError) -> String {
    error.to_string()
}

/// Where the label of a person comes from who was shown this file.
fn origin(entry: &Entry, audited: &BTreeSet<RecordId>) -> Origin {
    if audited.contains(&entry.id) {
        Origin::Audit
    } else if entry.fate == Fate::Filed {
        Origin::Correction
    } else {
        Origin::Review
    }
}

fn not(what: String, why: impl Into<String>) -> Judged {
    Judged {
        what,
        category: None,
        to: None,
        error: Some(why.into()),
        already: false,
    }
}
