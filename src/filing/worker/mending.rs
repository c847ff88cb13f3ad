//! Open Intents that nobody is carrying out: after a crash, or when a share went away in the middle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::requests::completion;
use super::{After, Entry, Message, Worker};
use crate::domain::placement::RootId;
use crate::filing::record::{Intent, Record};
use crate::filing::recover::{Claims, RecoverReport, Resolution, resolve};
use crate::root::Whereabouts;
use crate::telemetry::Event;

/// How long between two attempts to recover a watch that nobody has asked for.
pub(super) const RECOVER_AGAIN: Duration =
    Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

impl Worker {
    /// Has the open Intents of a watch looked after. Without a `reply` it is not asked for too often.
    #[allow(clippy::option_option)] // not asked for, asked for without an answer, asked for with one
    pub(super) fn recover(
        &mut self,
        watch: &str,
        at: Whereabouts,
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
            _ => return self.recovered(&at, Vec::new(), reply),
        };
        self.recovering_since
            .insert(watch.to_owned(), Instant::now());
        self.attended
            .extend(intents.iter().map(|intent| intent.id.clone()));
        self.under_way += 1;
        let (destinations, messages) = (Arc::clone(&self.destinations), self.messages.clone());
        let catalogue = Arc::clone(&self.catalogue);
        share.submit(move || {
            let claims = Claims::default();
            let opened = match (destinations.current(), at.open()) {
                (Ok(roots), Ok(source)) => Ok((roots, source)),
                (Err(reason), _) => Err(reason.to_string()),
                (_, Err(error)) => Err(format!("{}: {error}", at.path().display())),
            };
            let resolve = |intent: Intent| {
                let resolution = match &opened {
                    Ok((roots, source)) => resolve(&intent, roots, source, &claims, &*catalogue),
                    Err(why) => Resolution::Wait(why.clone()),
                };
                (intent, resolution)
            };
            let resolved = intents.into_iter().map(resolve).collect();
            drop(opened); // whoever hears of it may unmount it
            let _ = messages.send(Message::Recovered {
                at,
                resolved,
                reply,
            });
        });
    }

    /// Remembers that an Intent is to be looked after again.
    pub(super) fn is_stuck(&mut self, intent: &Intent, at: &Whereabouts) {
        let since = (at.clone(), Instant::now());
        self.stuck.insert(intent.watch.clone(), since);
    }

    /// Tries again where an Intent got stuck; no more when none is open there.
    pub(super) fn recover_stuck(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let mut stuck = std::mem::take(&mut self.stuck);
        let open = &self.replay.open;
        stuck.retain(|watch, _| open.values().any(|intent| intent.watch == *watch));
        for (watch, (at, since)) in &stuck {
            // Folders that are being moved have a moment to arrive.
            if since.elapsed() >= RECOVER_AGAIN {
                self.recover(watch, at.clone(), None);
            }
        }
        self.stuck = stuck;
    }

    pub(super) fn recovered(
        &mut self,
        at: &Whereabouts,
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
                    tracing::error!(event = %Event::Missing, %id, "a file that was under way is nowhere to be found");
                    Record::Missing { id: id.clone() }
                }
                Resolution::Wait(why) => {
                    self.attended.remove(&id);
                    self.is_stuck(&intent, at);
                    report.waiting.push(why);
                    continue;
                }
            };
            // Attended to until that is on disk: otherwise it would be finished twice while the disk is full.
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
}
