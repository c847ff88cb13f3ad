//! One request on its way through the filer: admitted, looked at, intended, carried, answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use super::{After, Entry, Message, Pending, Reply, Underway, Worker};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Placement, Reason, RelPath};
use crate::filing::carry::{Carried, Job, carry_out};
use crate::filing::names;
use crate::filing::prepare::{Checked, Question, Source, Way, check};
use crate::filing::record::{Fate, Intent, Record};
use crate::filing::request::{FilingError, FilingRequest, HoldReason, Outcome};
use crate::filing::share::{Left, Synced, Unsynced};
use crate::filing::timing::Step;

impl Worker {
    /// Takes a request in hand, unless one with the same UID or bytes is: then it waits for that one's end.
    pub(super) fn admit(
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
        let FilingRequest {
            action,
            fingerprint,
            ctime_ns,
            digest,
            ..
        } = request;
        // All of its bytes have been read: they must be those that were taken, whatever the file says of itself.
        let known = consumed.contains_file(*action, fingerprint, digest)
            || consumed.contains_bytes(*action, &request.watch, &request.from, digest);
        if known {
            consumed.recognise(*action, fingerprint, *ctime_ns, digest);
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
        let alarms = Arc::clone(&self.alarms);
        library.submit(move || {
            let looked = AssertUnwindSafe(|| check(&destinations, &question, &alarms));
            let checked = catch_unwind(looked);
            let panicked = || HoldReason::Trouble(RootId::Library, "looking at it panicked".into());
            let checked = checked.unwrap_or_else(|_| Err(panicked()));
            let _ = messages.send(Message::Checked {
                pending: Box::new(pending),
                checked,
            });
        });
        Ok(())
    }

    pub(super) fn checked(&mut self, pending: Pending, checked: Result<Checked, HoldReason>) {
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

    pub(super) fn carry(&mut self, underway: Box<Underway>) {
        let share = match self
            .shares
            .of(&RootId::Watch(underway.intent.watch.clone()))
        {
            Ok(share) => share,
            Err(reason) => return self.carried(*underway, Carried::Back(Outcome::Held(reason))),
        };
        self.attended.insert(underway.intent.id.clone());
        let (messages, timing) = (self.messages.clone(), self.timing.clone());
        share.submit_renaming(move || {
            let job = Job {
                intent: &underway.intent,
                source: &underway.root,
                file: &underway.file,
                roots: &underway.roots,
                way: underway.way,
            };
            let carry = || catch_unwind(AssertUnwindSafe(|| carry_out(&job)));
            let carried = timing.of(Step::Carry, carry).unwrap_or_else(|_| {
                let watch = RootId::Watch(underway.intent.watch.clone());
                Carried::Stuck(Outcome::Held(HoldReason::Trouble(
                    watch,
                    "a step of filing panicked".into(),
                )))
            });
            match (carried, underway.roots.get(&underway.intent.to.root)) {
                (Carried::Renamed(path), Some(target)) => Left::Unsynced(Unsynced {
                    to: (Arc::clone(target), path.clone()),
                    from: (Arc::clone(&underway.root), underway.intent.from.clone()),
                    then: Box::new(move |synced| {
                        let carried = on_disk(&underway.intent, path, synced);
                        let _ = messages.send(Message::Carried { underway, carried });
                    }),
                }),
                (carried, _) => {
                    let _ = messages.send(Message::Carried { underway, carried });
                    Left::Nothing
                }
            }
        });
    }

    pub(super) fn carried(&mut self, underway: Underway, carried: Carried) {
        let Underway {
            intent,
            reply,
            root,
            ..
        } = underway;
        let id = intent.id.clone();
        let (record, outcome) = match carried {
            Carried::Done(path) | Carried::Renamed(path) => {
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
            // The Intent stays open; recovery looks after it before the watch's next file, and without one.
            Carried::Stuck(outcome) => {
                self.is_stuck(&intent, &root.whereabouts());
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

/// A file that was renamed, once its directories have been synced or could not be.
fn on_disk(intent: &Intent, path: RelPath, synced: Synced) -> Carried {
    // After a power cut its old name is found again beside the new one, which costs a duplicate at most.
    if let Err(error) = synced.from {
        tracing::warn!(%error, "the drop directory cannot be synced");
    }
    match synced.to {
        Ok(()) => Carried::Done(path),
        Err(error) => Carried::Stuck(Outcome::Held(HoldReason::of(&intent.to.root, &error))),
    }
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
        links: pending.source.links,
        ctime_ns: request
            .ctime_ns
            .filter(|_| request.action != Action::Move || fate == Fate::Left),
        uid: source.uid,
        gid: source.gid,
        mode: source.mode,
        claim: None,
        set_mode: None,
        dossier: request.dossier.clone(),
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

/// The record that ends an Intent; the placement is written only where it differs.
pub(super) fn completion(intent: &Intent, at: Placement) -> Record {
    let to = (at != intent.to).then_some(at);
    let id = intent.id.clone();
    if intent.fate == Fate::Quarantined {
        Record::Quarantined { id, to }
    } else {
        Record::Filed { id, to }
    }
}
