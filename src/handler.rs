//! The running service's answers to what is asked over the control socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::commands::quarantine;
use crate::config::settings::Action;
use crate::control::disk::Disk;
use crate::control::protocol::{
    AuditList, Code, Judged, Judgement, Looked, Progress, Refusal, Released, SortProgress,
    SortSummary, Undo,
};
use crate::control::server::{Handler, Peer};
use crate::control::status::{
    ErrorLine, GpuMemory, ModelStatus, NOT_ANSWERING, Noticing, OBSERVED, Status, WatchState,
    WatchStatus,
};
use crate::daemon::{ReloadRequest, Tended, Watches};
use crate::domain::placement::RootId;
use crate::engine::Engine;
use crate::filing::ledger::Ledger;
use crate::filing::request::HoldReason;
use crate::index::entry::{Entry, Story};
use crate::index::query::Query;
use crate::index::verify::{self, Finding, Summary};
use crate::judgement::Desk;
use crate::library_watch;
use crate::metrics::Metrics;
use crate::pass;
use crate::watch;

type Answer<T> = Result<T, Refusal>;

/// What answers.
pub struct Answers {
    engine: Arc<Engine>,
    watches: Watches,
    reloads: mpsc::Sender<ReloadRequest>,
    reload_error: Mutex<Option<ErrorLine>>,
    /// One pass over directories, one reindexing at a time.
    long_task: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    up_since_us: i64,
    /// Neither can change while the service runs.
    disks: [Disk; 2],
    gpus: Mutex<Vec<GpuMemory>>,
}

impl Answers {
    /// Answers about this service.
    pub fn new(
        engine: Arc<Engine>,
        watches: Watches,
        reloads: mpsc::Sender<ReloadRequest>,
        stop: CancellationToken,
    ) -> Self {
        let settings = engine.settings();
        Self {
            disks: [
                Disk::new("library", settings.library.path.clone()),
                Disk::new("state", settings.state.clone()),
            ],
            engine,
            watches,
            reloads,
            reload_error: Mutex::default(),
            long_task: tokio::sync::Mutex::default(),
            stop,
            up_since_us: now_us(),
            gpus: Mutex::default(),
        }
    }

    /// Remembers how much memory the GPU has left.
    pub fn gpus_seen(&self, gpus: Vec<GpuMemory>) {
        *self.gpus.lock().unwrap_or_else(PoisonError::into_inner) = gpus;
    }

    /// Remembers how the last reload went.
    pub fn reloaded(&self, result: Result<(), String>) {
        let error = result.err().map(|message| ErrorLine {
            time_us: now_us(),
            message,
            times: 1,
        });
        *self
            .reload_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn watch_status(tended: &Tended, metrics: &Metrics) -> WatchStatus {
        let now = tended.watcher.status();
        let rates = metrics.rates(&tended.settings.name);
        let in_the_way = in_the_way(&now);
        let (state, why) = match now.state {
            watch::WatchState::Starting | watch::WatchState::Online => (WatchState::Online, None),
            watch::WatchState::Offline { why, .. } => (WatchState::Offline, Some(why)),
            watch::WatchState::Paused { why } => (WatchState::Held, Some(why)),
            watch::WatchState::NotAnswering { .. } => {
                (WatchState::Offline, Some(NOT_ANSWERING.into()))
            }
        };
        let polling = match &now.notices {
            watch::Notices::Events => None,
            watch::Notices::Polling => Some(None),
            watch::Notices::PollingBecause(why) => Some(Some(why.clone())),
        };
        let why = why.or(in_the_way).or(polling.clone().flatten());
        // While intake is paused, what is held waits for that, and not for permission.
        let cannot_take = if state == WatchState::Held {
            0
        } else {
            now.held
        };
        WatchStatus {
            name: now.name,
            path: now.path.display().to_string(),
            action: tended.settings.action,
            share: now.share,
            noticing: if polling.is_some() {
                Noticing::Polling
            } else {
                Noticing::Events
            },
            state,
            why,
            waiting: (now.under_way + now.held) as u64,
            in_flight: now.in_flight as u64,
            oldest_waiting_us: now.oldest_us,
            cannot_take: cannot_take as u64,
            unreadable: now.unreadable as u64,
            given_back: 0,
            last_scan_us: now.last_full_scan_us,
            counts: BTreeMap::new(),
            review_rate: rates.review,
            quarantine_rate: rates.quarantine,
            drift: rates.drift,
        }
    }
}

/// Everything that keeps some of its files from being taken.
fn in_the_way(now: &watch::WatchStatus) -> Option<String> {
    let held = now.held_because.iter();
    let mut why: Vec<String> = held
        .map(|(why, count)| format!("{count} files: {why}"))
        .collect();
    if let Some(error) = &now.last_error {
        why.push(format!("not all of it can be read: {error}"));
    }
    if now.unreadable > 0 {
        why.push(format!("{} of its entries cannot be read", now.unreadable));
    }
    (!why.is_empty()).then(|| why.join("; "))
}

/// What the next file would come upon: nothing can be filed.
fn hold(watch: &mut WatchStatus, why: &str) {
    watch.state = WatchState::Held;
    watch.why = Some(why.to_owned());
    // What waits, waits for that, and not for permission.
    watch.cannot_take = 0;
}

impl Answers {
    /// Why nothing can be filed into the library, before any file has come upon it.
    async fn library_is_away(&self) -> Option<String> {
        let destinations = Arc::clone(self.engine.state.filer.destinations());
        let [library, _] = &self.disks;
        let away = move || destinations.current().err();
        let mut why = library.ask(away).await.flatten();
        if library.does_not_answer() {
            why = Some(HoldReason::Offline(RootId::Library, NOT_ANSWERING.into()));
        }
        why.map(|why| why.to_string())
    }

    /// How the service is, now.
    pub async fn now(&self) -> Answer<Status> {
        let services = self.engine.services();
        let info = services.model.classifier().info();
        let mut watches: Vec<WatchStatus> = {
            let tended = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let metrics = self.engine.metrics();
            let status = |tended| Self::watch_status(tended, metrics);
            tended.values().map(status).collect()
        };
        let index = Arc::clone(&self.engine.state.index);
        let (mut totals, counts, observed, given_back) = blocking(move || {
            let counters = |prefix| {
                let counters = index.counters(prefix);
                counters.map_err(|error| Refusal::failed(&error))
            };
            let (totals, by_watch) = (counters("fate/")?, counters("watch/")?);
            let observed = counters("observed/")?;
            Ok::<_, Refusal>((totals, by_watch, observed, counters("held/")?))
        })
        .await??;
        for (key, count) in &observed {
            let fate = key.rsplit('/').next().unwrap_or_default();
            only_observed(&mut totals, fate, *count);
        }
        let mut disks = Vec::new();
        for disk in &self.disks {
            disks.push(disk.status().await);
        }
        if let Some(why) = self.library_is_away().await {
            let online = |watch: &&mut WatchStatus| watch.state == WatchState::Online;
            for watch in watches.iter_mut().filter(online) {
                if watch.action != Action::Observe {
                    hold(watch, &why);
                }
            }
        }
        for watch in &mut watches {
            watch.given_back = given_back.get(&watch.name).copied().unwrap_or_default();
            let prefix = format!("{}/", watch.name);
            watch.counts = counts
                .iter()
                .filter_map(|(key, count)| Some((key.strip_prefix(&prefix)?.to_owned(), *count)))
                .collect();
            for (key, count) in &observed {
                if let Some(fate) = key.strip_prefix(&prefix) {
                    only_observed(&mut watch.counts, fate, *count);
                }
            }
        }
        let alarms = self.engine.state.filer.alarms();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            now_us: now_us(),
            up_since_us: self.up_since_us,
            model: Some(ModelStatus {
                name: format!("{} {}", info.name, info.version),
                provider: info.provider.clone(),
                gpu_refused: info.gpu_refused.clone(),
                promise: services.model.promise(),
            }),
            watches,
            totals,
            disks,
            decoder_restarts: self.engine.pool.restarts(),
            missing: alarms.missing(),
            altered: alarms.altered(),
            gpus: self
                .gpus
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            errors: self.engine.errors(),
            reload_error: self
                .reload_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        })
    }
}

/// Counts files apart that were only decided on.
fn only_observed(counts: &mut BTreeMap<String, u64>, fate: &str, count: u64) {
    if let Some(all) = counts.get_mut(fate) {
        *all = all.saturating_sub(count);
        if *all == 0 {
            counts.remove(fate);
        }
    }
    *counts.entry(OBSERVED.to_owned()).or_default() += count;
}

impl Handler for Answers {
    async fn status(&self, _peer: Peer) -> Answer<Status> {
        self.now().await
    }

    async fn query(&self, _peer: Peer, query: Query, out: mpsc::Sender<Entry>) -> Answer<()> {
        let index = Arc::clone(&self.engine.state.index);
        blocking(move || {
            for entry in index.query(&query) {
                let entry = entry.map_err(|error| Refusal::failed(&error))?;
                if out.blocking_send(entry).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await?
    }

    async fn count(&self, _peer: Peer, query: Query) -> Answer<u64> {
        let index = Arc::clone(&self.engine.state.index);
        blocking(move || index.count(&query).map_err(|error| Refusal::failed(&error))).await?
    }

    async fn show(&self, _peer: Peer, what: String) -> Answer<Vec<Story>> {
        let (index, places) = (
            Arc::clone(&self.engine.state.index),
            self.engine.state.places(),
        );
        blocking(move || {
            let entries = index
                .resolve(&places, &what)
                .map_err(|error| Refusal::failed(&error))?;
            let mut stories = Vec::new();
            for entry in entries {
                stories.push(
                    index
                        .story_of(entry)
                        .map_err(|error| Refusal::failed(&error))?,
                );
            }
            if stories.is_empty() {
                return Err(Refusal::new(
                    Code::NotFound,
                    "no file on record is meant by this",
                ));
            }
            Ok(stories)
        })
        .await?
    }

    async fn reload(&self, _peer: Peer) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Refusal::new(Code::Stopping, "the service is stopping");
        self.reloads.send(reply).await.map_err(|_| stopping())?;
        answer
            .await
            .map_err(|_| stopping())?
            .map_err(|why| Refusal::new(Code::Failed, why))
    }

    async fn sort(
        &self,
        _peer: Peer,
        dirs: Vec<PathBuf>,
        dry_run: bool,
        out: mpsc::Sender<SortProgress>,
    ) -> Answer<SortSummary> {
        let _alone = self.long_task.try_lock().map_err(|_| busy())?;
        pass::run(&self.engine, &dirs, dry_run, out, self.stop.child_token())
            .await
            .map_err(|error| Refusal::new(Code::Failed, format!("{error:#}")))
    }

    async fn quarantine_list(&self, peer: Peer, out: mpsc::Sender<Entry>) -> Answer<()> {
        self.query(peer, quarantine::listing(), out).await
    }

    async fn quarantine_release(&self, peer: Peer, what: Vec<String>) -> Answer<Vec<Released>> {
        let state = &self.engine.state;
        let settings = self.engine.settings();
        quarantine::release_all(
            &state.filer,
            &state.index,
            &state.destinations,
            &settings,
            what,
            Some(peer.uid),
        )
        .await
        .map_err(|error| Refusal::new(Code::Failed, format!("{error:#}")))
    }

    async fn judge(&self, peer: Peer, judgement: Judgement) -> Answer<Vec<Judged>> {
        Desk::of_service(&self.engine)
            .judge(judgement, Some(peer.uid))
            .await
            .map_err(|error| Refusal::new(Code::Failed, format!("{error:#}")))
    }

    async fn look_at_library(&self, _peer: Peer) -> Answer<Looked> {
        library_watch::look(&self.engine, &self.stop)
            .await
            .map_err(|error| Refusal::failed(&error))
    }

    async fn audit_sample(
        &self,
        _peer: Peer,
        count: u64,
        seed: u64,
        out: mpsc::Sender<Entry>,
    ) -> Answer<AuditList> {
        let desk = Desk::of_service(&self.engine);
        blocking(move || {
            let (entries, list) = desk
                .sample(count, seed)
                .map_err(|error| Refusal::new(Code::Failed, format!("{error:#}")))?;
            for entry in entries {
                if out.blocking_send(entry).is_err() {
                    break;
                }
            }
            Ok(list)
        })
        .await?
    }

    async fn undo(&self, peer: Peer, which: Undo, dry_run: bool) -> Answer<Vec<Released>> {
        let let_go = which.let_go && !dry_run;
        let undone = Desk::of_service(&self.engine)
            .undo(which, dry_run, Some(peer.uid))
            .await
            .map_err(|error| Refusal::new(Code::Failed, format!("{error:#}")))?;
        if let_go {
            // Nothing happens to the files: somebody has to look at them again.
            let watches = self.watches.lock();
            for tended in watches.unwrap_or_else(PoisonError::into_inner).values() {
                tended.watcher.ask_again();
            }
        }
        Ok(undone)
    }

    async fn reindex(&self, _peer: Peer, out: mpsc::Sender<Progress>) -> Answer<u64> {
        let _alone = self.long_task.try_lock().map_err(|_| busy())?;
        let (index, state) = (
            Arc::clone(&self.engine.state.index),
            self.engine.settings().state.clone(),
        );
        blocking(move || {
            let ledger = Ledger::read(&state, None).map_err(|error| Refusal::failed(&error))?;
            let mut records = 0;
            let told = |done| {
                records = done;
                let _ = out.try_send(Progress {
                    stage: "indexing".into(),
                    done,
                    total: None,
                });
            };
            index
                .reindex(ledger, told)
                .map_err(|error| Refusal::failed(&error))?;
            Ok(records)
        })
        .await?
    }

    async fn verify(
        &self,
        _peer: Peer,
        digests: bool,
        out: mpsc::Sender<Finding>,
    ) -> Answer<Summary> {
        let (index, state) = (
            Arc::clone(&self.engine.state.index),
            self.engine.settings().state.clone(),
        );
        let roots = self.engine.state.destination_paths();
        blocking(move || {
            let mut tell = |finding| {
                // A client that has gone does not want the rest; the comparison is bounded.
                let _ = out.blocking_send(finding);
            };
            verify::verify(&index, &state, &roots, digests, &mut tell)
                .map_err(|error| Refusal::failed(&error))
        })
        .await?
    }

    async fn subscribe(&self, _peer: Peer, out: mpsc::Sender<Entry>) -> Answer<()> {
        let mut events = self.engine.subscribe();
        loop {
            let told = tokio::select! {
                told = events.recv() => told,
                () = out.closed() => return Ok(()),
                () = self.stop.cancelled() => return Ok(()),
            };
            let told = match told {
                Ok(told) => told,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                    return Err(Refusal::new(
                        Code::Failed,
                        format!("{missed} events were missed: read faster"),
                    ));
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
            };
            let Some(id) = told.id else { continue };
            let index = Arc::clone(&self.engine.state.index);
            let entry = blocking(move || index.get(&id))
                .await?
                .map_err(|error| Refusal::failed(&error))?;
            if let Some(entry) = entry
                && out.send(entry).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(
        Code::Busy,
        "another pass or reindexing is under way: try again when it has ended",
    )
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| Refusal::new(Code::Failed, format!("a task died: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_does_not_hide_another() {
        let mut now = watch::WatchStatus::default();
        assert_eq!(in_the_way(&now), None);
        now.unreadable = 1;
        now.held_because = BTreeMap::from([("radsort may not read it".to_owned(), 2)]);
        let why = in_the_way(&now);
        let expected = "2 files: radsort may not read it; 1 of its entries cannot be read";
        assert_eq!(why.as_deref(), Some(expected));
    }
}
