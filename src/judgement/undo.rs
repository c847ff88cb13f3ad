//! Taking filed files back to where they came from, and holding them there.

use std::path::PathBuf;
use std::sync::Arc;

use super::Desk;
use crate::commands::access;
use crate::config::settings::Action;
use crate::control::protocol::{Released, Undo};
use crate::domain::placement::RootId;
use crate::domain::{CategoryId, Placement};
use crate::filing::quarantine::Item;
use crate::filing::record::{Fate, Held, Record, RecordId};
use crate::index::IndexError;
use crate::index::entry::{Entry, State};
use crate::index::query::Query;
use crate::root::{self, Root};

type GivenBack = Result<(RecordId, Held), String>;
type Found = Result<(Box<Item>, PathBuf), String>;

/// A file that is to go back, as it was asked for.
struct Asked {
    what: String,
    /// What a person has said that it is.
    label: Option<CategoryId>,
    found: Found,
}

impl Desk {
    /// Takes files back, one after the other; what cannot be taken back is told, each for itself.
    pub async fn undo(
        &self,
        which: Undo,
        dry_run: bool,
        by: Option<u32>,
    ) -> anyhow::Result<Vec<Released>> {
        let _alone = self.filer.by_hand().await;
        if which.let_go {
            return self.let_go(which, dry_run, by).await;
        }
        let desk = self.clone();
        let found = tokio::task::spawn_blocking(move || desk.to_undo(&which)).await??;
        let mut undone = Vec::new();
        for Asked { what, label, found } in found {
            let result = match found {
                Ok((item, _)) if dry_run => Ok((self.old_place(&item), None)),
                Ok((item, path)) => self.take_back(*item, path, by).await?,
                Err(why) => Err(why),
            };
            undone.push(Released::new(what, result).with_label(label));
        }
        Ok(undone)
    }

    /// Lets files that were given back be taken again, as if they had just been dropped.
    async fn let_go(
        &self,
        which: Undo,
        dry_run: bool,
        by: Option<u32>,
    ) -> anyhow::Result<Vec<Released>> {
        let desk = self.clone();
        let found = tokio::task::spawn_blocking(move || desk.given_back(&which)).await??;
        let mut released = Vec::new();
        for (what, found) in found {
            let result = match found {
                Ok((id, held)) => {
                    let at = self.place_of(&held);
                    let record = Record::LetGo {
                        id,
                        by,
                        held: self.as_it_is(held).await?,
                    };
                    let appended = if dry_run {
                        Ok(())
                    } else {
                        self.filer.append(vec![record]).await?
                    };
                    appended.map(|()| at).map_err(|reason| reason.to_string())
                }
                Err(why) => Err(why),
            };
            released.push(Released::new(what, result.map(|at| (at, None))));
        }
        Ok(released)
    }

    /// The file as it was given back, and as it is now: a remounted share gives it another device or inode.
    async fn as_it_is(&self, held: Held) -> anyhow::Result<Vec<Held>> {
        let path = self.path_of(&held.watch);
        let now = tokio::task::spawn_blocking(move || {
            let stat = path.and_then(|path| Root::open(&path).ok()?.stat(&held.path).ok());
            let now = stat.map(|stat| Held {
                fingerprint: root::fingerprint(&stat),
                ..held.clone()
            });
            std::iter::once(held).chain(now).collect()
        });
        Ok(now.await?)
    }

    fn path_of(&self, watch: &str) -> Option<PathBuf> {
        let watch = RootId::Watch(watch.to_owned());
        let mut places = self.places.iter();
        places
            .find(|(root, _)| *root == watch)
            .map(|(_, path)| path.clone())
    }

    fn place_of(&self, held: &Held) -> String {
        let at = Placement {
            root: RootId::Watch(held.watch.clone()),
            path: held.path.clone(),
        };
        access::absolute(&self.places, &at)
    }

    /// Every file meant that was given back, with what is held of it.
    fn given_back(&self, which: &Undo) -> anyhow::Result<Vec<(String, GivenBack)>> {
        let mut found = Vec::new();
        if which.what.is_empty() {
            let query = Query {
                since_us: which.since_us,
                model: which.model.clone(),
                ..Query::default()
            };
            // Queries find what is live: these were, when they were filed.
            for entry in self.index.all() {
                let entry = entry?;
                let as_filed = Entry {
                    state: State::Live,
                    ..entry.clone()
                };
                if entry.state.is_held() && query.matches(&as_filed) {
                    let name = access::absolute(&self.places, &entry.at);
                    // Of what was given back long ago, by an older program, nothing is known.
                    if let Ok(held) = self.held(&entry)? {
                        found.push((name, Ok(held)));
                    }
                }
            }
            return Ok(found);
        }
        for what in &which.what {
            let entries = self.index.resolve(&self.places, what)?;
            let held = match entries.iter().find(|entry| entry.state.is_held()) {
                Some(entry) => self.held(entry)?,
                None if entries.iter().any(|entry| entry.state == State::LetGo) => {
                    Err("it may be taken again already".to_owned())
                }
                None => Err("it was not given back".to_owned()),
            };
            found.push((what.clone(), held));
        }
        Ok(found)
    }

    fn held(&self, entry: &Entry) -> anyhow::Result<GivenBack> {
        let story = self.index.story(&entry.id)?;
        let history = story.into_iter().flat_map(|story| story.history);
        let held = history.rev().find_map(|told| match told.record {
            Record::Undone { held, .. } | Record::Released { held, .. } => held,
            _ => None,
        });
        Ok(match held {
            Some(held) => Ok((entry.id.clone(), held)),
            None => Err("its record does not say where it went".to_owned()),
        })
    }

    fn old_place(&self, item: &Item) -> String {
        let at = Placement {
            root: RootId::Watch(item.intent.watch.clone()),
            path: item.intent.from.clone(),
        };
        access::absolute(&self.places, &at)
    }

    async fn take_back(
        &self,
        item: Item,
        path: PathBuf,
        by: Option<u32>,
    ) -> anyhow::Result<Result<(String, Option<String>), String>> {
        let shown = path.display().to_string();
        let root = match tokio::task::spawn_blocking(move || Root::open(&path)).await? {
            Ok(root) => Arc::new(root),
            Err(error) => return Ok(Err(format!("{shown}: {error}"))),
        };
        let watch = RootId::Watch(item.intent.watch.clone());
        let back = self.filer.undo(item, root, by).await?;
        Ok(back
            .map(|back| {
                let at = Placement {
                    root: watch,
                    path: back.path,
                };
                (access::absolute(&self.places, &at), back.not_restored)
            })
            .map_err(|error| error.to_string()))
    }

    /// Ends what was interrupted: a file on record as given back that is in its drop directory and was not removed here yet.
    /// Whether it was.
    pub async fn finish_undoing(&self, entry: Entry) -> anyhow::Result<bool> {
        let Ok((item, path)) = self.item(entry)? else {
            return Ok(false);
        };
        let Ok(root) = tokio::task::spawn_blocking(move || Root::open(&path)).await? else {
            return Ok(false);
        };
        let id = item.intent.id.clone();
        let finished = self.filer.finish_giving_back(*item, Arc::new(root));
        Ok(finished.await?.unwrap_or_else(|error| {
            tracing::debug!(%id, %error, "a file that was given back is still here, too");
            false
        }))
    }

    /// When a file was last given back, microseconds since the Unix epoch.
    pub fn given_back_us(&self, id: &RecordId) -> Result<Option<i64>, IndexError> {
        let story = self.index.story(id)?;
        let history = story.into_iter().flat_map(|story| story.history);
        let mut given_back = history
            .filter(|told| matches!(told.record, Record::Undone { .. } | Record::Released { .. }));
        Ok(given_back.next_back().map(|told| told.time_us))
    }

    fn to_undo(&self, which: &Undo) -> anyhow::Result<Vec<Asked>> {
        let mut asked = Vec::new();
        if which.what.is_empty() {
            let query = Query {
                since_us: which.since_us,
                model: which.model.clone(),
                ..Query::default()
            };
            for entry in self.index.query(&query) {
                let entry = entry?;
                let name = access::absolute(&self.places, &entry.at);
                let found = match (&entry.label, undoable(&entry)) {
                    (Some(_), Ok(())) => {
                        let why = "a person has labelled it: name it to take it back all the same";
                        Err(why.to_owned())
                    }
                    (None, Ok(())) => self.item(entry)?,
                    // Nothing that this question is about.
                    (_, Err(_)) => continue,
                };
                asked.push(Asked {
                    what: name,
                    label: None,
                    found,
                });
            }
            return Ok(asked);
        }
        for what in &which.what {
            let entries = self.index.resolve(&self.places, what)?;
            // The newest that can go back; else why the newest cannot.
            let chosen = entries
                .iter()
                .find(|entry| undoable(entry).is_ok())
                .or(entries.first());
            let found = match chosen {
                Some(entry) => match undoable(entry) {
                    Ok(()) => self.item(entry.clone())?,
                    Err(why) => Err(why.to_owned()),
                },
                None => Err("no file on record is meant by this".to_owned()),
            };
            let label = chosen.and_then(|entry| entry.label.as_ref());
            asked.push(Asked {
                what: what.clone(),
                label: label.map(|given| given.label.category.clone()),
                found,
            });
        }
        Ok(asked)
    }

    /// The file with the record that filed it, and the drop directory that it came from.
    fn item(&self, entry: Entry) -> anyhow::Result<Found> {
        let story = self.index.story(&entry.id)?;
        let intent = story.and_then(|story| {
            story
                .history
                .into_iter()
                .find_map(|told| match told.record {
                    Record::Intent(intent) => Some(*intent),
                    _ => None,
                })
        });
        let Some(intent) = intent else {
            return Ok(Err("its record does not say where it came from".to_owned()));
        };
        let watch = RootId::Watch(intent.watch.clone());
        let Some((_, path)) = self.places.iter().find(|(root, _)| *root == watch) else {
            return Ok(Err(format!(
                "it came through {:?}, which is no drop directory any more: move it by hand",
                intent.watch
            )));
        };
        let item = Item {
            intent,
            at: entry.at,
            time_us: entry.filed_us,
        };
        Ok(Ok((Box::new(item), path.clone())))
    }
}

/// Whether a file is one that radsort has moved and that can go back.
fn undoable(entry: &Entry) -> Result<(), &'static str> {
    match (entry.state, entry.action) {
        _ if !entry.placed => Err("it was never moved"),
        // Recorded as undone, but perhaps still there: an undo that was interrupted can be asked for again.
        (State::Live | State::Undone | State::LetGo, Some(Action::Move))
            if entry.fate != Fate::Quarantined =>
        {
            Ok(())
        }
        (State::Live, Some(Action::Move)) => {
            Err("it is in the quarantine: use `radsort quarantine release`")
        }
        (State::Live, Some(_)) => Err("it was copied: the original is where it was"),
        (State::Live, None) => Err("radsort did not put it there"),
        (State::Missing, _) => Err("it is missing"),
        (State::Released | State::Undone | State::LetGo, _) => {
            Err("it has been given back already")
        }
    }
}
