//! The filer: whoever has decided on a file hands it over here, and is answered when the file is where it belongs and
//! the ledger says so on disk.
//!
//! One thread (`worker`) orders ledger and index and commits in groups of what is waiting. It never touches a share:
//! that happens on one thread a root, so that a share that hangs holds up nobody else.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use tokio::sync::oneshot;

use super::alarms::Alarms;
use super::catalogue::Catalogue;
use super::consumed::Consumed;
use super::destinations::Destinations;
use super::prepare::{prepare, sync};
use super::quarantine::{self, Item, ReleaseError, Released};
use super::record::{Digest, Held, Record, RecordId};
pub use super::recover::RecoverReport;
use super::recover::{self, Began};
use super::replay::Opened;
pub use super::request::{FilingError, FilingRequest, HoldReason, Outcome};
use super::share::Share;
use super::timing::Timing;
use super::worker::{Message, Worker};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::settle::Sight;
use crate::domain::{Placement, RelPath};
use crate::root::Root;

/// The threads of the roots, started when they are first needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    by_root: Arc<Mutex<HashMap<RootId, Share>>>,
    timing: Timing,
}

impl Shares {
    /// The thread of a root.
    pub fn of(&self, root: &RootId) -> Result<Share, HoldReason> {
        let mut by_root = self.by_root.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = by_root.get(root) {
            return Ok(share.clone());
        }
        let name = match root {
            RootId::Watch(name) => name.as_str(),
            _ => "library",
        };
        let share = Share::start(name, self.timing.clone())
            .map_err(|error| HoldReason::of(root, &error))?;
        by_root.insert(root.clone(), share.clone());
        Ok(share)
    }
}

/// A handle to the filer. The filer stops when it is told to, or when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Filer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    messages: Sender<Message>,
    shares: Shares,
    consumed: Arc<RwLock<Consumed>>,
    failure: Arc<Mutex<Option<FilingError>>>,
    alarms: Arc<Alarms>,
    destinations: Arc<Destinations>,
    by_hand: tokio::sync::Mutex<()>,
    /// Held while a file is given back: who asks at the same time must not take that for an interrupted one.
    giving_back: tokio::sync::Mutex<()>,
    /// What the ledger said at the start.
    began: Began,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop(None));
    }
}

impl Filer {
    /// Starts the filer's thread on an open ledger. The index has caught up with the ledger before this.
    ///
    /// Open Intents are looked after by [`Filer::share_online`], or at the latest when their watch brings a file.
    pub fn start(
        opened: Opened,
        catalogue: Arc<dyn Catalogue>,
        destinations: Arc<Destinations>,
        timing: Timing,
    ) -> Result<Self, FilingError> {
        let shares = Shares {
            timing: timing.clone(),
            ..Shares::default()
        };
        let failure = Arc::new(Mutex::new(None));
        let alarms = Arc::<Alarms>::default();
        let consumed = Arc::clone(&opened.replay.consumed);
        let began = Began {
            instance: opened.ledger.instance().to_owned(),
            before: opened.ledger.next_number(),
            open: opened.replay.open.keys().cloned().collect(),
        };
        let (worker, messages) = Worker::new(
            opened,
            catalogue,
            Arc::clone(&destinations),
            shares.clone(),
            Arc::clone(&failure),
            Arc::clone(&alarms),
            timing,
        )?;
        thread::Builder::new()
            .name("filer".into())
            .spawn(move || worker.run())
            .map_err(|error| {
                FilingError::Ledger(format!("the filer's thread cannot be started: {error}"))
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                messages,
                shares,
                consumed,
                failure,
                alarms,
                destinations,
                by_hand: tokio::sync::Mutex::default(),
                giving_back: tokio::sync::Mutex::default(),
                began,
            }),
        })
    }

    /// Files one file.
    pub async fn file(&self, request: FilingRequest) -> Result<Outcome, FilingError> {
        let share = match self.share(&request.watch) {
            Ok(share) => share,
            Err(reason) => return Ok(Outcome::Held(reason)),
        };
        let timing = self.inner.shares.timing.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let synced = sync(&request, &timing);
            (request, synced)
        });
        let (request, synced) = synced.await.map_err(|_| self.stopped())?;
        if let Err(outcome) = synced {
            return Ok(outcome);
        }
        let looked = share.run(move || {
            let looked = prepare(&request);
            (request, looked)
        });
        let (request, looked) = looked.await.map_err(|_| self.stopped())?;
        match looked {
            Err(outcome) => Ok(outcome),
            Ok(source) => {
                self.ask(|reply| Message::File {
                    request: Box::new(request),
                    source,
                    reply,
                })
                .await?
            }
        }
    }

    /// What it came upon that nobody may overlook.
    pub fn alarms(&self) -> &Alarms {
        &self.inner.alarms
    }

    /// Whether this very file was copied, observed, left or released before and is not to be taken again.
    pub fn is_taken(&self, action: Action, sight: &Sight) -> bool {
        self.inner
            .consumed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(action, &sight.fingerprint, Some(sight.ctime_ns))
    }

    /// Looks after the open Intents of a watch: to be called when its root is (again) there, before its files come.
    pub async fn share_online(
        &self,
        watch: &str,
        root: Arc<Root>,
    ) -> Result<RecoverReport, FilingError> {
        self.ask(|reply| Message::Recover {
            watch: watch.to_owned(),
            at: root.whereabouts(),
            reply: Some(reply),
        })
        .await
    }

    /// Appends records of other kinds (labels, promotions…); returns when they are on disk and in the index.
    pub async fn append(
        &self,
        records: Vec<Record>,
    ) -> Result<Result<(), HoldReason>, FilingError> {
        self.ask(|reply| Message::Append { records, reply }).await
    }

    /// Ids for records of other kinds (adoptions).
    pub async fn next_ids(&self, count: usize) -> Result<Vec<RecordId>, FilingError> {
        self.ask(|reply| Message::Ids { count, reply }).await
    }

    /// Held by whoever moves filed files at a person's request, and by whoever compares folders with records: neither
    /// must see the other's work half done.
    pub async fn by_hand(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.by_hand.lock().await
    }

    /// Moves a file that is on record to another place in the library at a person's request, and records that. A crash
    /// in between leaves it there with its old record: the next look at the library records the move.
    pub async fn relocate(
        &self,
        id: RecordId,
        from: Placement,
        to: RelPath,
        digest: Digest,
    ) -> Result<Result<Placement, ReleaseError>, FilingError> {
        let destinations = Arc::clone(&self.inner.destinations);
        let library = match self.inner.shares.of(&RootId::Library) {
            Ok(share) => share,
            Err(reason) => return Ok(Err(ReleaseError::Held(reason))),
        };
        let moved = {
            let id = id.clone();
            library.run(move || quarantine::relocate(&destinations, &id, &from, &to, &digest))
        };
        let to = match moved.await.map_err(|_| self.stopped())? {
            Ok(path) => Placement {
                root: RootId::Library,
                path,
            },
            Err(error) => return Ok(Err(error)),
        };
        let record = Record::Moved { id, to: to.clone() };
        Ok(self
            .append(vec![record])
            .await?
            .map(|()| to)
            .map_err(ReleaseError::Held))
    }

    /// Gives a quarantined file back to the watch that it came from, whose root is given. It is not taken again until it
    /// changes. `by` is the user id of who asked, when known.
    pub async fn release(
        &self,
        item: Item,
        root: Arc<Root>,
        by: Option<u32>,
    ) -> Result<Result<Released, ReleaseError>, FilingError> {
        let record = move |id, held| Record::Released {
            id,
            by,
            held: Some(held),
        };
        self.give_back(item, root, record).await
    }

    /// The same for a file in the library or among the duplicates.
    pub async fn undo(
        &self,
        item: Item,
        root: Arc<Root>,
        by: Option<u32>,
    ) -> Result<Result<Released, ReleaseError>, FilingError> {
        let record = move |id, held| Record::Undone {
            id,
            by,
            held: Some(held),
        };
        self.give_back(item, root, record).await
    }

    /// First the record, then the file: a crash in between leaves it where it is, to be given back again. What fails is on
    /// record as well: nobody would look for the file where it is otherwise.
    async fn give_back(
        &self,
        item: Item,
        root: Arc<Root>,
        record: impl FnOnce(RecordId, Held) -> Record,
    ) -> Result<Result<Released, ReleaseError>, FilingError> {
        let _alone = self.inner.giving_back.lock().await;
        let destinations = Arc::clone(&self.inner.destinations);
        let (library, share) = match (
            self.inner.shares.of(&RootId::Library),
            self.share(&item.intent.watch),
        ) {
            (Ok(library), Ok(share)) => (library, share),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(ReleaseError::Held(reason))),
        };
        let opened = library.run(move || item.open(&destinations).map(|opened| (item, opened)));
        let (item, opened) = match opened.await.map_err(|_| self.stopped())? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let consumed = Arc::clone(&self.inner.consumed);
        let held = share.run(move || {
            let there = item.there_already(&root, &consumed)?;
            let held = item.held(&opened, &root, there.as_ref())?;
            Ok((item, opened, root, held, there))
        });
        let (item, opened, root, held, there) = match held.await.map_err(|_| self.stopped())? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let id = item.intent.id.clone();
        let record = record(id.clone(), held.clone());
        if let Err(reason) = self.append(vec![record]).await? {
            return Ok(Err(ReleaseError::Held(reason)));
        }
        fail::fail_point!("before-giving-back");
        let carried_out = share.run(move || {
            let given_back = match there {
                Some(path) => item.finish(&opened, &root, path),
                None => item.give_back(&opened, &root),
            };
            let stayed = given_back.is_err() && item.is_only_here(&opened, &root, &held);
            (given_back, stayed.then_some(held))
        });
        let (given_back, stayed) = carried_out.await.map_err(|_| self.stopped())?;
        if let Some(held) = stayed
            && let Err(reason) = self
                .append(vec![Record::Stayed {
                    id: id.clone(),
                    held,
                }])
                .await?
        {
            tracing::warn!(%id, %reason, "a file that could not be given back is on record as given back until it is found");
        }
        Ok(given_back)
    }

    /// Removes a file that is on record as given back and still here, if it is in its drop directory as well: giving it back
    /// was interrupted. Whether it was removed.
    pub async fn finish_giving_back(
        &self,
        item: Item,
        root: Arc<Root>,
    ) -> Result<Result<bool, ReleaseError>, FilingError> {
        let _alone = self.inner.giving_back.lock().await;
        let share = match self.share(&item.intent.watch) {
            Ok(share) => share,
            Err(reason) => return Ok(Err(ReleaseError::Held(reason))),
        };
        let destinations = Arc::clone(&self.inner.destinations);
        let consumed = Arc::clone(&self.inner.consumed);
        let finish = move || {
            let opened = item.open(&destinations)?;
            let there = item.there_already(&root, &consumed)?;
            match there {
                Some(path) => item.finish(&opened, &root, path).map(|_| true),
                None => Ok(false),
            }
        };
        share.run(finish).await.map_err(|_| self.stopped())
    }

    /// The library, the quarantine and the duplicates, for others who look at them.
    pub fn destinations(&self) -> &Arc<Destinations> {
        &self.inner.destinations
    }

    /// The thread of a watch's root.
    #[cfg(test)]
    pub(super) fn thread_of(&self, watch: &str) -> Share {
        #[allow(clippy::unwrap_used)]
        self.share(watch).unwrap()
    }

    /// Comes back when the filer has come around; for the watchdog.
    pub async fn ping(&self) -> Result<(), FilingError> {
        self.ask(Message::Ping).await
    }

    /// Takes nothing more, finishes what is under way, closes the ledger.
    pub async fn stop(&self) {
        // An answer that does not come means that it has stopped already.
        let _ = self.ask(|reply| Message::Stop(Some(reply))).await;
    }

    /// Why the filer has stopped by itself, if it has.
    pub fn failure(&self) -> Option<FilingError> {
        self.inner
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Removes what unfinished copies of earlier runs have left in the library; can take long, and hurts nobody
    /// meanwhile. To be called on a thread of its own.
    pub fn sweep(&self) -> Result<u64, HoldReason> {
        let roots = self.inner.destinations.current()?;
        let Began {
            instance, before, ..
        } = &self.inner.began;
        let mut swept = recover::sweep(&roots.library, instance, *before);
        // They usually lie in the library.
        for other in [&roots.quarantine, &roots.duplicates] {
            if !other.path().starts_with(roots.library.path()) {
                let more = recover::sweep(other, instance, *before);
                swept = swept.and_then(|count| Ok(count + more?));
            }
        }
        swept.map_err(|error| HoldReason::of(&RootId::Library, &error))
    }

    /// Ends what earlier runs have left hidden in a drop directory. As [`Filer::sweep`].
    pub fn tidy(&self, root: &Root) -> io::Result<u64> {
        recover::tidy(root, &self.inner.began)
    }

    fn share(&self, watch: &str) -> Result<Share, HoldReason> {
        self.inner.shares.of(&RootId::Watch(watch.to_owned()))
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, FilingError> {
        let (reply, answer) = oneshot::channel();
        self.inner
            .messages
            .send(message(reply))
            .map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> FilingError {
        self.failure().unwrap_or(FilingError::Stopped)
    }
}
