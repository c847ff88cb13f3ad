//! The filer: whoever has decided on a file hands it over here, and is answered when the file is where it belongs and
//! the ledger says so on disk.
//!
//! One thread (`worker`) orders ledger and index and commits in groups of what is waiting. It never touches a share:
//! that happens on one thread a root, so that a share that hangs holds up nobody else.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use tokio::sync::oneshot;

use super::catalogue::Catalogue;
use super::consumed::Consumed;
use super::destinations::Destinations;
use super::prepare::prepare;
use super::quarantine::{Item, ReleaseError, Released};
use super::record::{Held, Record};
use super::recover;
pub use super::recover::RecoverReport;
use super::replay::Opened;
pub use super::request::{FilingError, FilingRequest, HoldReason, Outcome};
use super::share::Share;
use super::worker::{Message, Worker};
use crate::config::settings::Action;
use crate::domain::Fingerprint;
use crate::domain::placement::RootId;
use crate::root::Root;

/// The threads of the roots, started when they are first needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    by_root: Arc<Mutex<HashMap<RootId, Share>>>,
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
        let share = Share::start(name).map_err(|error| HoldReason::of(root, &error))?;
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
    destinations: Arc<Destinations>,
    /// The ledger's instance, and the number of the first record of this run.
    began: (String, u64),
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
    ) -> Result<Self, FilingError> {
        let shares = Shares::default();
        let failure = Arc::new(Mutex::new(None));
        let consumed = Arc::clone(&opened.replay.consumed);
        let began = (
            opened.ledger.instance().to_owned(),
            opened.ledger.next_number(),
        );
        let (worker, messages) = Worker::new(
            opened,
            catalogue,
            Arc::clone(&destinations),
            shares.clone(),
            Arc::clone(&failure),
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
                destinations,
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

    /// Whether this very file was copied, observed, left or released before and is not to be taken again.
    pub fn is_taken(&self, action: Action, fingerprint: &Fingerprint) -> bool {
        self.inner
            .consumed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(action, fingerprint)
    }

    /// Looks after the open Intents of a watch: to be called when its root is (again) there, before its files come.
    pub async fn share_online(
        &self,
        watch: &str,
        root: Arc<Root>,
    ) -> Result<RecoverReport, FilingError> {
        self.ask(|reply| Message::Recover {
            watch: watch.to_owned(),
            root,
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

    /// Gives a quarantined file back to the watch that it came from, whose root is given. It is not taken again until it
    /// changes. `by` is the user id of who asked, when known.
    pub async fn release(
        &self,
        item: Item,
        root: Arc<Root>,
        by: Option<u32>,
    ) -> Result<Result<Released, ReleaseError>, FilingError> {
        let destinations = Arc::clone(&self.inner.destinations);
        let library = match self.inner.shares.of(&RootId::Library) {
            Ok(share) => share,
            Err(reason) => return Ok(Err(ReleaseError::Held(reason))),
        };
        // First the record, then the file: a crash in between leaves it in the quarantine, to be released again.
        let opened = library.run(move || item.open(&destinations).map(|opened| (item, opened)));
        let (item, opened) = match opened.await.map_err(|_| self.stopped())? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let held = Held {
            watch: item.intent.watch.clone(),
            path: item.intent.from.clone(),
            digest: item.intent.digest.clone(),
            fingerprint: opened.fingerprint,
        };
        let record = Record::Released {
            id: item.intent.id.clone(),
            by,
            held: Some(held),
        };
        if let Err(reason) = self.append(vec![record]).await? {
            return Ok(Err(ReleaseError::Held(reason)));
        }
        let share = match self.share(&item.intent.watch) {
            Ok(share) => share,
            Err(reason) => return Ok(Err(ReleaseError::Held(reason))),
        };
        share
            .run(move || item.give_back(&opened, &root))
            .await
            .map_err(|_| self.stopped())
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
        let (instance, before) = &self.inner.began;
        let swept = recover::sweep(&roots.library, instance, *before);
        swept.map_err(|error| HoldReason::of(&RootId::Library, &error))
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
