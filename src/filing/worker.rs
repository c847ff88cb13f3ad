//! The filer's thread: takes what waits, writes it to the ledger as one group, tells the index, and only then acts or
//! answers.
//!
//! A file passes here twice: its Intent (after which the share's thread moves it) and its end (after which whoever
//! asked is answered). Files with the same UID or the same bytes go one after the other.

mod groups;
mod mending;
mod requests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::mending::RECOVER_AGAIN;
use super::alarms::Alarms;
use super::carry::Carried;
use super::catalogue::Catalogue;
use super::checkpoint;
use super::destinations::{Destinations, Roots};
use super::filer::Shares;
use super::ledger::Ledger;
use super::prepare::{Checked, Source, Way};
use super::record::{Intent, Record, RecordId};
use super::recover::{RecoverReport, Resolution};
use super::replay::{Opened, Replay};
use super::request::{FilingError, FilingRequest, HoldReason, Outcome};
use super::timing::Timing;
use crate::root::{Root, Whereabouts};

/// The most messages that one group takes in.
const GROUP: usize = 256;

/// How long until what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<Outcome, FilingError>>;

/// What the filer's thread is told.
pub(super) enum Message {
    File {
        request: Box<FilingRequest>,
        source: Source,
        reply: Reply,
    },
    Checked {
        pending: Box<Pending>,
        checked: Result<Checked, HoldReason>,
    },
    Carried {
        underway: Box<Underway>,
        carried: Carried,
    },
    Recover {
        watch: String,
        at: Whereabouts,
        reply: Option<oneshot::Sender<RecoverReport>>,
    },
    Recovered {
        at: Whereabouts,
        resolved: Vec<(Intent, Resolution)>,
        reply: Option<oneshot::Sender<RecoverReport>>,
    },
    Append {
        records: Vec<Record>,
        reply: oneshot::Sender<Result<(), HoldReason>>,
    },
    Ids {
        count: usize,
        reply: oneshot::Sender<Vec<RecordId>>,
    },
    Ping(oneshot::Sender<()>),
    Stop(Option<oneshot::Sender<()>>),
}

/// A request that has its id and waits for a look at the destinations.
pub(super) struct Pending {
    request: FilingRequest,
    source: Source,
    id: RecordId,
    reply: Reply,
}

/// A request whose Intent is (being) written.
pub(super) struct Underway {
    intent: Intent,
    root: Arc<Root>,
    file: Arc<File>,
    roots: Arc<Roots>,
    way: Way,
    reply: Reply,
}

/// What follows when a record is on disk.
enum After {
    Carry(Box<Underway>),
    Answer {
        intent: Box<Intent>,
        outcome: Outcome,
        reply: Reply,
    },
    Appended(Option<oneshot::Sender<Result<(), HoldReason>>>),
    Recovered(Option<(oneshot::Sender<RecoverReport>, RecoverReport)>),
    /// It was given together with the one behind it, whose fate it shares.
    WithNext,
    Nothing,
}

struct Entry {
    record: Record,
    after: After,
}

pub(super) struct Worker {
    ledger: Ledger,
    replay: Replay,
    state: PathBuf,
    /// Records that the next start would have to read.
    since_checkpoint: u64,
    catalogue: Arc<dyn Catalogue>,
    destinations: Arc<Destinations>,
    shares: Shares,
    failure: Arc<Mutex<Option<FilingError>>>,
    alarms: Arc<Alarms>,
    timing: Timing,
    inbox: Receiver<Message>,
    messages: Sender<Message>,
    /// What goes into the next group.
    entries: Vec<Entry>,
    /// What has happened but could not be written yet.
    unwritten: Vec<Entry>,
    /// UIDs and digests of files under way.
    busy: HashSet<String>,
    /// Files that wait for one of those.
    waiting: VecDeque<(Box<FilingRequest>, Source, Reply)>,
    /// Open Intents that someone is looking after.
    attended: BTreeSet<RecordId>,
    /// Requests between their arrival and their answer.
    under_way: usize,
    recovering_since: HashMap<String, Instant>,
    /// Watches with an Intent that could be neither finished nor undone, where they lie, and since when: recovery tries
    /// again, whether or not another file comes. They are opened for each attempt: held open, they could not be unmounted.
    stuck: HashMap<String, (Whereabouts, Instant)>,
    /// Whether the last group could not be written (said once, not at each attempt).
    unwritable: bool,
    stopping: Option<Vec<oneshot::Sender<()>>>,
}

impl Worker {
    pub fn new(
        opened: Opened,
        catalogue: Arc<dyn Catalogue>,
        destinations: Arc<Destinations>,
        shares: Shares,
        failure: Arc<Mutex<Option<FilingError>>>,
        alarms: Arc<Alarms>,
        timing: Timing,
    ) -> Result<(Self, Sender<Message>), FilingError> {
        let (messages, inbox) = mpsc::channel();
        let mut worker = Self {
            ledger: opened.ledger,
            replay: opened.replay,
            state: opened.state,
            since_checkpoint: opened.read,
            catalogue,
            destinations,
            shares,
            failure,
            alarms,
            timing,
            inbox,
            messages: messages.clone(),
            entries: Vec::new(),
            unwritten: Vec::new(),
            busy: HashSet::new(),
            waiting: VecDeque::new(),
            attended: BTreeSet::new(),
            under_way: 0,
            recovering_since: HashMap::new(),
            stuck: HashMap::new(),
            unwritable: false,
            stopping: None,
        };
        if worker.replay.marker.is_none() {
            let marker = worker.destinations.marker().to_owned();
            worker.entries.push(Entry {
                record: Record::Library { marker },
                after: After::Nothing,
            });
            worker.commit()?;
            if !worker.unwritten.is_empty() {
                return Err(FilingError::Ledger(
                    "the ledger cannot be written (disk full?)".into(),
                ));
            }
        }
        worker.keep_checkpoint(*checkpoint::WORTH);
        Ok((worker, messages))
    }

    pub fn run(mut self) {
        loop {
            if let Err(failure) = self.turn() {
                tracing::error!(%failure, "the filer stops");
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                return; // whoever waits finds its answer's channel closed, and asks for the failure
            }
            if self.is_through()
                && let Some(replies) = self.stopping.take()
            {
                self.destinations.close();
                self.keep_checkpoint(1);
                drop(self.ledger);
                for reply in replies {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Whether nothing is left to be done. What cannot be written now does not hold up a stop: those Intents are open, and
    /// the next start finds that they were carried out.
    fn is_through(&self) -> bool {
        let unanswered = self
            .unwritten
            .iter()
            .filter(|entry| matches!(entry.after, After::Answer { .. }))
            .count();
        self.under_way == unanswered && (self.unwritten.is_empty() || self.unwritable)
    }

    /// Writes down how far the ledger goes, if the next start would have to read so many records otherwise, and the
    /// ledger is long.
    fn keep_checkpoint(&mut self, records: u64) {
        let reached = self.ledger.reached();
        if self.since_checkpoint < records || reached.records < *checkpoint::WORTH {
            return;
        }
        self.since_checkpoint = 0;
        if let Err(error) = checkpoint::write(&self.state, reached, &self.replay) {
            tracing::warn!("no checkpoint was written, the next start takes longer: {error}");
        }
    }

    /// Takes what waits, and writes until nothing is left to be written.
    fn turn(&mut self) -> Result<(), FilingError> {
        let first = if !self.unwritten.is_empty() {
            self.inbox.recv_timeout(RETRY).ok()
        } else if !self.stuck.is_empty() {
            self.inbox.recv_timeout(RECOVER_AGAIN).ok()
        } else {
            self.inbox.recv().ok()
        };
        if let Some(first) = first {
            self.handle(first)?;
            for _ in 1..GROUP {
                let Ok(message) = self.inbox.try_recv() else {
                    break;
                };
                self.handle(message)?;
            }
        }
        self.recover_stuck();
        let unwritten = std::mem::take(&mut self.unwritten);
        self.entries.splice(0..0, unwritten);
        while !self.entries.is_empty() {
            self.commit()?;
        }
        Ok(())
    }

    fn handle(&mut self, message: Message) -> Result<(), FilingError> {
        match message {
            Message::File {
                request,
                source,
                reply,
            } => {
                if self.stopping.is_some() {
                    let _ = reply.send(Err(FilingError::Stopped));
                    return Ok(());
                }
                self.under_way += 1;
                self.recover(&request.watch, request.root.whereabouts(), None);
                self.admit(request, source, reply)
            }
            Message::Checked { pending, checked } => {
                self.checked(*pending, checked);
                self.wake()
            }
            Message::Carried { underway, carried } => {
                self.carried(*underway, carried);
                self.wake()
            }
            Message::Recover { watch, at, reply } => {
                self.recover(&watch, at, Some(reply));
                Ok(())
            }
            Message::Recovered {
                at,
                resolved,
                reply,
            } => {
                self.recovered(&at, resolved, reply);
                Ok(())
            }
            Message::Append { records, reply } => {
                let last = records.len().saturating_sub(1);
                let mut reply = Some(reply);
                for (n, record) in records.into_iter().enumerate() {
                    let after = if n == last {
                        After::Appended(reply.take())
                    } else {
                        After::WithNext
                    };
                    self.entries.push(Entry { record, after });
                }
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
                Ok(())
            }
            Message::Ids { count, reply } => {
                let ids = (0..count).map(|_| self.ledger.next_id()).collect();
                let _ = reply.send(ids);
                Ok(())
            }
            Message::Ping(reply) => {
                // Also noticed while no files come.
                self.ledger
                    .check()
                    .map_err(|error| FilingError::Ledger(error.to_string()))?;
                let _ = reply.send(());
                Ok(())
            }
            Message::Stop(reply) => {
                self.stopping.get_or_insert_default().extend(reply);
                Ok(())
            }
        }
    }
}
