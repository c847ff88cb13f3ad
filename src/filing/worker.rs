//! The filer's thread: takes what waits, writes it to the ledger as one group, tells the index, and only then acts or
//! answers.
//!
//! A file passes here twice: its Intent (after which the share's thread moves it) and its end (after which whoever
//! asked is answered). Files with the same UID or the same bytes go one after the other.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::carry::{Carried, Job, carry_out};
use super::catalogue::Catalogue;
use super::destinations::{Destinations, Roots};
use super::filer::Shares;
use super::ledger::{Ledger, LedgerError};
use super::names;
use super::prepare::{Checked, Question, Source, Way, check};
use super::record::{Fate, Intent, Record, RecordId};
use super::recover::{RecoverReport, Resolution, resolve};
use super::replay::{Opened, Replay};
use super::request::{FilingError, FilingRequest, HoldReason, Outcome};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Placement, Reason};
use crate::root::Root;

/// The most messages that one group takes in.
const GROUP: usize = 256;

/// How long until what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long between two attempts to recover a watch that were asked for by files coming in.
const RECOVER_AGAIN: Duration = Duration::from_secs(10);

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
        root: Arc<Root>,
        reply: Option<oneshot::Sender<RecoverReport>>,
    },
    Recovered {
        resolved: Vec<(Intent, Resolution)>,
        reply: Option<oneshot::Sender<RecoverReport>>,
    },
    Append {
        records: Vec<Record>,
        reply: oneshot::Sender<Result<(), HoldReason>>,
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
    Nothing,
}

struct Entry {
    record: Record,
    after: After,
}

pub(super) struct Worker {
    ledger: Ledger,
    replay: Replay,
    catalogue: Arc<dyn Catalogue>,
    destinations: Arc<Destinations>,
    shares: Shares,
    failure: Arc<Mutex<Option<FilingError>>>,
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
    ) -> Result<(Self, Sender<Message>), FilingError> {
        let (messages, inbox) = mpsc::channel();
        let mut worker = Self {
            ledger: opened.ledger,
            replay: opened.replay,
            catalogue,
            destinations,
            shares,
            failure,
            inbox,
            messages: messages.clone(),
            entries: Vec::new(),
            unwritten: Vec::new(),
            busy: HashSet::new(),
            waiting: VecDeque::new(),
            attended: BTreeSet::new(),
            under_way: 0,
            recovering_since: HashMap::new(),
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
        Ok((worker, messages))
    }

    pub fn run(mut self) {
        loop {
            if let Err(failure) = self.turn() {
                tracing::error!(%failure, "the filer stops");
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                return; // whoever waits finds its answer's channel closed, and asks for the failure
            }
            if self.under_way == 0
                && self.unwritten.is_empty()
                && let Some(replies) = self.stopping.take()
            {
                self.destinations.close();
                drop(self.ledger);
                for reply in replies {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Takes what waits, and writes until nothing is left to be written.
    fn turn(&mut self) -> Result<(), FilingError> {
        let first = if self.unwritten.is_empty() {
            self.inbox.recv().ok()
        } else {
            self.inbox.recv_timeout(RETRY).ok()
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
                self.recover(&request.watch, &request.root, None);
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
            Message::Recover { watch, root, reply } => {
                self.recover(&watch, &root, Some(reply));
                Ok(())
            }
            Message::Recovered { resolved, reply } => {
                self.recovered(resolved, reply);
                Ok(())
            }
            Message::Append { records, reply } => {
                let last = records.len().saturating_sub(1);
                let mut reply = Some(reply);
                for (n, record) in records.into_iter().enumerate() {
                    let after = if n == last {
                        After::Appended(reply.take())
                    } else {
                        After::Nothing
                    };
                    self.entries.push(Entry { record, after });
                }
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
                Ok(())
            }
            Message::Ping(reply) => {
                let _ = reply.send(());
                Ok(())
            }
            Message::Stop(reply) => {
                self.stopping.get_or_insert_default().extend(reply);
                Ok(())
            }
        }
    }

    /// Takes a request in hand, unless one with the same UID or bytes is: then it waits for that one's end.
    fn admit(
        &mut self,
        request: Box<FilingRequest>,
        source: Source,
        reply: Reply,
    ) -> Result<(), FilingError> {
        if self.taken_before(&request) {
            self.answer(reply, Outcome::AlreadyTaken);
            return Ok(());
        }
        let keys = keys(&request);
        if keys.iter().any(|key| self.busy.contains(key)) {
            self.waiting.push_back((request, source, reply));
            return Ok(());
        }
        self.busy.extend(keys);
        let id = self.ledger.next_id();
        let pending = Pending {
            request: *request,
            source,
            id,
            reply,
        };
        if pending.request.fate == Fate::Left {
            let to = pending.request.placement.clone();
            self.observe(pending, Fate::Left, to);
            return Ok(());
        }
        self.look_at_destinations(pending)
    }

    fn taken_before(&mut self, request: &FilingRequest) -> bool {
        let mut consumed = self
            .replay
            .consumed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if consumed.contains(request.action, &request.fingerprint) {
            return true;
        }
        let known = consumed.contains_bytes(
            request.action,
            &request.watch,
            &request.from,
            &request.digest,
        );
        if known {
            consumed.recognise(request.action, &request.fingerprint);
        }
        known
    }

    fn look_at_destinations(&mut self, pending: Pending) -> Result<(), FilingError> {
        let request = &pending.request;
        let uid = request
            .dossier
            .instance
            .as_ref()
            .map(|instance| &instance.sop_instance_uid);
        let known = match uid {
            Some(uid) => self
                .catalogue
                .find_uid(uid)
                .map_err(|error| FilingError::Index(error.to_string()))?,
            None => None,
        };
        let question = Question {
            id: pending.id.clone(),
            action: request.action,
            trusted: request.trusted,
            fate: request.fate,
            placement: request.placement.clone(),
            digest: request.digest.clone(),
            uid: uid.map(|uid| uid.as_str().to_owned()),
            device: request.fingerprint.dev,
            source: pending.source,
            known,
            reserved: self
                .replay
                .open
                .values()
                .any(|open| open.to == request.placement),
        };
        let library = match self.shares.of(&RootId::Library) {
            Ok(library) => library,
            Err(reason) => {
                self.refuse(pending, Outcome::Held(reason));
                return Ok(());
            }
        };
        let (destinations, messages) = (Arc::clone(&self.destinations), self.messages.clone());
        library.submit(move || {
            let checked = catch_unwind(AssertUnwindSafe(|| check(&destinations, &question)));
            let panicked = || HoldReason::Trouble(RootId::Library, "looking at it panicked".into());
            let checked = checked.unwrap_or_else(|_| Err(panicked()));
            let _ = messages.send(Message::Checked {
                pending: Box::new(pending),
                checked,
            });
        });
        Ok(())
    }

    fn checked(&mut self, pending: Pending, checked: Result<Checked, HoldReason>) {
        let checked = match checked {
            Ok(checked) => checked,
            Err(reason) => return self.refuse(pending, Outcome::Held(reason)),
        };
        let action = pending.request.action;
        if action == Action::Observe || (action == Action::Copy && checked.fate == Fate::Duplicate)
        {
            return self.observe(pending, checked.fate, checked.to);
        }
        let mut intent = intent(&pending, checked.fate, checked.to);
        if action == Action::Move {
            intent.claim = names::claim(&intent.from, &intent.id).ok();
        }
        if let Way::Rename { set_mode } = checked.way {
            intent.set_mode = set_mode;
        }
        let underway = Box::new(Underway {
            root: pending.request.root,
            file: pending.request.file,
            roots: checked.roots,
            way: checked.way,
            reply: pending.reply,
            intent: intent.clone(),
        });
        self.entries.push(Entry {
            record: Record::Intent(Box::new(intent)),
            after: After::Carry(underway),
        });
    }

    /// Records a file that stays where it is.
    fn observe(&mut self, pending: Pending, fate: Fate, to: Placement) {
        let intent = Box::new(intent(&pending, fate, to));
        let outcome = Outcome::Done {
            id: intent.id.clone(),
            fate,
            to: None,
        };
        let after = After::Answer {
            intent: intent.clone(),
            outcome,
            reply: pending.reply,
        };
        self.entries.push(Entry {
            record: Record::Observed(intent),
            after,
        });
    }

    /// Answers a request of which nothing is on record.
    fn refuse(&mut self, pending: Pending, outcome: Outcome) {
        for key in keys(&pending.request) {
            self.busy.remove(&key);
        }
        self.answer(pending.reply, outcome);
    }

    fn carry(&mut self, underway: Box<Underway>) {
        let share = match self
            .shares
            .of(&RootId::Watch(underway.intent.watch.clone()))
        {
            Ok(share) => share,
            Err(reason) => return self.carried(*underway, Carried::Back(Outcome::Held(reason))),
        };
        self.attended.insert(underway.intent.id.clone());
        let messages = self.messages.clone();
        share.submit(move || {
            let job = Job {
                intent: &underway.intent,
                source: &underway.root,
                file: &underway.file,
                roots: &underway.roots,
                way: underway.way,
            };
            let carried = catch_unwind(AssertUnwindSafe(|| carry_out(&job))).unwrap_or_else(|_| {
                let watch = RootId::Watch(underway.intent.watch.clone());
                Carried::Stuck(Outcome::Held(HoldReason::Trouble(
                    watch,
                    "a step of filing panicked".into(),
                )))
            });
            let _ = messages.send(Message::Carried { underway, carried });
        });
    }

    fn carried(&mut self, underway: Underway, carried: Carried) {
        let Underway { intent, reply, .. } = underway;
        let id = intent.id.clone();
        let (record, outcome) = match carried {
            Carried::Done(path) => {
                let to = Placement {
                    root: intent.to.root.clone(),
                    path,
                };
                (
                    completion(&intent, to.clone()),
                    Outcome::Done {
                        id,
                        fate: intent.fate,
                        to: Some(to),
                    },
                )
            }
            Carried::Back(outcome) => (
                Record::Abandoned {
                    id,
                    why: why(&outcome),
                },
                outcome,
            ),
            // The Intent stays open; recovery looks after it before the watch's next file.
            Carried::Stuck(outcome) => {
                self.release(&intent);
                return self.answer(reply, outcome);
            }
        };
        self.entries.push(Entry {
            record,
            after: After::Answer {
                intent: Box::new(intent),
                outcome,
                reply,
            },
        });
    }

    /// Has the open Intents of a watch looked after. Without a `reply` it is not asked for too often.
    #[allow(clippy::option_option)] // not asked for, asked for without an answer, asked for with one
    fn recover(
        &mut self,
        watch: &str,
        root: &Arc<Root>,
        asked: Option<Option<oneshot::Sender<RecoverReport>>>,
    ) {
        let neglected =
            |intent: &&Intent| intent.watch == watch && !self.attended.contains(&intent.id);
        let intents: Vec<Intent> = self
            .replay
            .open
            .values()
            .filter(neglected)
            .cloned()
            .collect();
        let recently = self
            .recovering_since
            .get(watch)
            .is_some_and(|since| since.elapsed() < RECOVER_AGAIN);
        if asked.is_none() && (intents.is_empty() || recently) {
            return;
        }
        let reply = asked.flatten();
        let share = match self.shares.of(&RootId::Watch(watch.to_owned())) {
            Ok(share) if !intents.is_empty() => share,
            _ => return self.recovered(Vec::new(), reply),
        };
        self.recovering_since
            .insert(watch.to_owned(), Instant::now());
        self.attended
            .extend(intents.iter().map(|intent| intent.id.clone()));
        self.under_way += 1;
        let (destinations, messages) = (Arc::clone(&self.destinations), self.messages.clone());
        let root = Arc::clone(root);
        share.submit(move || {
            let roots = destinations.current();
            let resolve = |intent: Intent| {
                let resolution = match &roots {
                    Ok(roots) => resolve(&intent, roots, &root),
                    Err(reason) => Resolution::Wait(reason.to_string()),
                };
                (intent, resolution)
            };
            let resolved = intents.into_iter().map(resolve).collect();
            let _ = messages.send(Message::Recovered { resolved, reply });
        });
    }

    fn recovered(
        &mut self,
        resolved: Vec<(Intent, Resolution)>,
        reply: Option<oneshot::Sender<RecoverReport>>,
    ) {
        let mut report = RecoverReport::default();
        if !resolved.is_empty() {
            self.under_way -= 1;
        }
        for (intent, resolution) in resolved {
            let id = intent.id.clone();
            let record = match resolution {
                Resolution::Finished(to) => {
                    report.finished += 1;
                    completion(&intent, to)
                }
                Resolution::Abandoned(why) => {
                    report.abandoned += 1;
                    Record::Abandoned {
                        id: id.clone(),
                        why,
                    }
                }
                Resolution::Missing => {
                    report.missing += 1;
                    tracing::error!(%id, "a file that was under way is nowhere to be found");
                    Record::Missing { id: id.clone() }
                }
                Resolution::Wait(why) => {
                    self.attended.remove(&id);
                    report.waiting.push(why);
                    continue;
                }
            };
            self.attended.remove(&id);
            self.entries.push(Entry {
                record,
                after: After::Nothing,
            });
        }
        let Some(reply) = reply else { return };
        if let Some(last) = self
            .entries
            .last_mut()
            .filter(|last| matches!(last.after, After::Nothing))
        {
            last.after = After::Recovered(Some((reply, report)));
        } else {
            let _ = reply.send(report);
        }
    }

    /// Writes one group; then the index, then what follows from each record.
    fn commit(&mut self) -> Result<(), FilingError> {
        let entries = std::mem::take(&mut self.entries);
        let records: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        let begins = records
            .iter()
            .any(|record| matches!(record, Record::Intent(_)));
        let ends = records
            .iter()
            .any(|record| matches!(record, Record::Filed { .. } | Record::Quarantined { .. }));
        place(begins, "before-intent");
        place(ends, "before-filed");
        let positions = match self.ledger.append_group(&records) {
            Ok(positions) => positions,
            Err(LedgerError::Poisoned(why)) => return Err(FilingError::Ledger(why)),
            Err(error) => {
                self.unwritable(entries, &error.to_string());
                return Ok(());
            }
        };
        self.unwritable = false;
        place(begins, "after-intent");
        place(ends, "after-filed");
        for record in &records {
            self.replay.fold(record);
        }
        let group: Vec<_> = positions
            .into_iter()
            .zip(records)
            .map(|((at, time), record)| (at, time, record))
            .collect();
        self.catalogue
            .apply(&group)
            .map_err(|error| FilingError::Index(error.to_string()))?;
        place(ends, "after-index");
        for entry in entries {
            self.follow(entry.after);
        }
        self.wake()
    }

    fn follow(&mut self, after: After) {
        match after {
            After::Carry(underway) => self.carry(underway),
            After::Answer {
                intent,
                outcome,
                reply,
            } => {
                self.release(&intent);
                self.answer(reply, outcome);
            }
            After::Appended(Some(reply)) => drop(reply.send(Ok(()))),
            After::Recovered(Some((reply, report))) => drop(reply.send(report)),
            After::Appended(None) | After::Recovered(None) | After::Nothing => {}
        }
    }

    /// The ledger cannot be written now. What has not happened yet does not happen; what has waits to be written.
    fn unwritable(&mut self, entries: Vec<Entry>, why: &str) {
        if !std::mem::replace(&mut self.unwritable, true) {
            tracing::error!(
                why,
                "the ledger cannot be written; nothing more is filed until it can"
            );
        }
        for Entry { record, after } in entries {
            match (record, after) {
                (Record::Intent(intent), After::Carry(underway)) => {
                    self.release(&intent);
                    self.answer(
                        underway.reply,
                        Outcome::Held(HoldReason::Ledger(why.to_owned())),
                    );
                }
                (Record::Observed(intent), After::Answer { reply, .. }) => {
                    self.release(&intent);
                    self.answer(reply, Outcome::Held(HoldReason::Ledger(why.to_owned())));
                }
                (_, After::Appended(Some(reply))) => {
                    let _ = reply.send(Err(HoldReason::Ledger(why.to_owned())));
                }
                (record, after) => self.unwritten.push(Entry { record, after }),
            }
        }
    }

    /// Lets go of a file's UID and bytes.
    fn release(&mut self, intent: &Intent) {
        self.attended.remove(&intent.id);
        self.busy.remove(&intent.digest.0);
        if let Some(instance) = &intent.dossier.instance {
            self.busy.remove(instance.sop_instance_uid.as_str());
        }
    }

    /// Admits those that have waited for a UID or bytes that are free now.
    fn wake(&mut self) -> Result<(), FilingError> {
        for _ in 0..self.waiting.len() {
            let Some((request, source, reply)) = self.waiting.pop_front() else {
                break;
            };
            self.admit(request, source, reply)?;
        }
        Ok(())
    }

    fn answer(&mut self, reply: Reply, outcome: Outcome) {
        self.under_way -= 1;
        let _ = reply.send(Ok(outcome));
    }
}

/// What no two files under way may share.
fn keys(request: &FilingRequest) -> Vec<String> {
    let uid = request
        .dossier
        .instance
        .as_ref()
        .map(|instance| instance.sop_instance_uid.as_str().to_owned());
    uid.into_iter().chain([request.digest.0.clone()]).collect()
}

fn intent(pending: &Pending, fate: Fate, to: Placement) -> Intent {
    let Pending {
        request,
        source,
        id,
        ..
    } = pending;
    let reason = match fate {
        Fate::Duplicate => Some(Reason::Duplicate),
        Fate::Conflict => Some(Reason::UidConflict),
        _ => request.dossier.decision.reason(),
    };
    Intent {
        id: id.clone(),
        watch: request.watch.clone(),
        action: request.action,
        from: request.from.clone(),
        to,
        fate,
        reason,
        detail: request.detail.clone(),
        digest: request.digest.clone(),
        fingerprint: request.fingerprint,
        uid: source.uid,
        gid: source.gid,
        mode: source.mode,
        claim: None,
        set_mode: None,
        dossier: request.dossier.clone(),
    }
}

/// The record that ends an Intent; the placement is written only where it differs.
fn completion(intent: &Intent, at: Placement) -> Record {
    let to = (at != intent.to).then_some(at);
    let id = intent.id.clone();
    if intent.fate == Fate::Quarantined {
        Record::Quarantined { id, to }
    } else {
        Record::Filed { id, to }
    }
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { .. } | Outcome::AlreadyTaken => String::new(),
        Outcome::Changed => "the file changed before it could be moved".into(),
        Outcome::Gone => "the file is no longer there".into(),
        Outcome::CannotTake(why) => why.clone(),
        Outcome::Held(reason) => reason.to_string(),
    }
}

/// A failpoint that only some groups pass.
#[cfg_attr(not(feature = "failpoints"), allow(unused_variables))]
fn place(passes: bool, name: &'static str) {
    if passes {
        fail::fail_point!(name);
    }
}
