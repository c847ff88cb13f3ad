//! The intake of one drop directory: how many files are under way at once, what becomes of the answer, who is told.
//!
//! Permits are taken before the next settled file is: pixels in memory never exceed those for deciding, and a share that
//! hangs keeps its own permits only. Once it is decided on, a file has no pixels left and makes room for the next: many can
//! then go on record together, which costs little more than one.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::engine::Engine;
use crate::filing::record::Fate;
use crate::filing::request::HoldReason;
use crate::ingest::{Drop, Ending, Told, ingest};
use crate::metrics::{Metrics, Retry};
use crate::telemetry::Event;
use crate::watch::{Settled, Verdict, WatchStatus, Watcher};

/// How long a file that cannot be taken is left alone.
const RETRY_FILE: Duration = Duration::from_mins(1);
/// How long intake stops when the library, its disk or the service itself is in trouble.
const RETRY_SHARE: Duration = Duration::from_secs(10);

/// How many files of one drop directory may wait to be filed at the same time, beside those that are being decided on. Enough for
/// a group commit to be worth its `fdatasync`; no more, because each keeps a descriptor open, of which a service has 1,024.
const FILING: usize = 32;

/// Takes files as they settle until `stop`; returns when everything under way has ended.
pub async fn tend(
    engine: Arc<Engine>,
    drop: Arc<Drop>,
    watcher: Arc<Watcher>,
    permits: usize,
    stop: CancellationToken,
) {
    let metrics = Arc::clone(engine.metrics());
    metrics.begin(&drop.settings.name);
    tokio::spawn(count_vanished(
        metrics,
        drop.settings.name.clone(),
        watcher.subscribe(),
    ));
    let permits = permits.max(1);
    let (all, deciding) = (
        Arc::new(Semaphore::new(permits + FILING)),
        Arc::new(Semaphore::new(permits)),
    );
    let trouble = Arc::new(Trouble::default());
    let under_way = tokio_util::task::TaskTracker::new();
    loop {
        let Ok(way) = Arc::clone(&all).acquire_owned().await else {
            break;
        };
        let Ok(deciding) = Arc::clone(&deciding).acquire_owned().await else {
            break;
        };
        let settled = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            settled = watcher.next() => settled,
        };
        let Some(settled) = settled else { break };
        let intake = Intake {
            engine: Arc::clone(&engine),
            drop: Arc::clone(&drop),
            watcher: Arc::clone(&watcher),
            trouble: Arc::clone(&trouble),
        };
        under_way.spawn(async move {
            intake.take(settled, deciding).await;
            std::mem::drop(way);
        });
    }
    under_way.close();
    under_way.wait().await;
}

/// Counts files that go away before they are taken, until the watcher ends.
async fn count_vanished(
    metrics: Arc<Metrics>,
    watch: String,
    mut status: channel::Receiver<WatchStatus>,
) {
    let mut counted = 0;
    loop {
        let vanished = status.borrow_and_update().vanished;
        (counted..vanished).for_each(|_| metrics.vanished(&watch));
        counted = vanished;
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// What keeps all files of a drop directory waiting, as it was said last.
#[derive(Default)]
struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Notes it; gives whether it is news.
    fn begins(&self, why: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.as_deref() != Some(why);
        *known = Some(why.to_owned());
        news
    }

    /// Notes that it is over; gives whether there was any.
    fn ends(&self) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.take().is_some()
    }
}

/// What one file's way needs here.
struct Intake {
    engine: Arc<Engine>,
    drop: Arc<Drop>,
    watcher: Arc<Watcher>,
    trouble: Arc<Trouble>,
}

impl Intake {
    async fn take(&self, settled: Settled, deciding: OwnedSemaphorePermit) {
        let (engine, drop) = (&self.engine, &self.drop);
        let ending = ingest(&engine.services(), drop, &settled, deciding).await;
        let verdict = verdict_of(&ending, drop.settings.action, drop.dry_run, &settled);
        let watch = drop.settings.name.as_str();
        match &ending {
            Ending::Done(told) => {
                self.goes_on();
                log(engine, told);
                engine.tell(Told::clone(told));
                if let Some(listener) = &drop.told {
                    // Whoever counted may have given up.
                    let _ = listener.send(Told::clone(told));
                }
            }
            Ending::CannotTake(why) => {
                engine.metrics().retried(watch, Retry::CannotTake);
                self.refused(&settled, why);
            }
            Ending::Held(reason) if self.concerns_few(reason).await => {
                engine.metrics().retried(watch, Retry::CannotTake);
                self.refused(&settled, &reason.to_string());
            }
            Ending::Held(reason) => {
                engine.metrics().retried(watch, Retry::Held);
                engine.note_error(&format!("{watch}: intake stopped: {reason}"));
                self.pause("held", reason.to_string());
            }
            Ending::Failed(trouble) => {
                engine.metrics().retried(watch, Retry::Failed);
                engine.note_error(&trouble.to_string());
                self.pause("failed", trouble.to_string());
            }
            Ending::Changed => engine.metrics().retried(watch, Retry::Changed),
            // Counted when it does not turn up under another name.
            Ending::Gone => {}
            Ending::AlreadyTaken => self.goes_on(),
        }
        self.watcher.finished(settled.path, verdict);
        if let Ending::Failed(trouble) = ending {
            engine.fail_if_fatal(&trouble);
        }
    }

    /// Tells of a file that cannot be taken: once, until it can, or until something about it changes. The source path may
    /// hold a name: it stands in `status`' counts and in the log only as a count.
    fn refused(&self, settled: &Settled, why: &str) {
        let watch = self.drop.settings.name.as_str();
        if settled.refused.as_deref() == Some(why) {
            tracing::debug!(watch, "a file still cannot be taken: {why}");
        } else {
            tracing::warn!(event = %Event::CannotTake, watch, reason = "cannot-take", "a file cannot be taken: {why}");
        }
        self.engine
            .note_error(&format!("{watch}: a file cannot be taken: {why}"));
    }

    /// Whether most files can be filed all the same: the library is there, and only the quarantine's or the duplicates' own
    /// disk is full, or read-only.
    async fn concerns_few(&self, reason: &HoldReason) -> bool {
        if !matches!(reason.root(), Some(RootId::Quarantine | RootId::Duplicates)) {
            return false;
        }
        let destinations = Arc::clone(self.engine.state.filer.destinations());
        let open = tokio::task::spawn_blocking(move || destinations.current().is_ok());
        open.await.unwrap_or(false)
    }

    /// Stops giving files out for a while, then tries again: with one trouble at a time, the next file shows whether it
    /// is over. Said once, however often it is tried.
    fn pause(&self, reason: &str, why: String) {
        let watch = self.drop.settings.name.as_str();
        if self.trouble.begins(&why) {
            tracing::error!(event = %Event::IntakePaused, watch, reason, why, "{watch}: intake stops until it is over: {why}");
        } else {
            tracing::debug!(watch, reason, "intake stops again: {why}");
        }
        self.watcher.pause(why);
        tokio::spawn(resume(
            Arc::clone(&self.engine),
            Arc::clone(&self.drop),
            Arc::downgrade(&self.watcher),
        ));
    }

    fn goes_on(&self) {
        self.watcher.goes_on();
        if self.trouble.ends() {
            let watch = self.drop.settings.name.as_str();
            tracing::info!(event = %Event::IntakeResumed, watch, "{watch}: intake goes on");
        }
    }
}

/// How often it is tried to finish what is half done before files are taken again all the same: one file that nobody can
/// finish must not stop all others.
const TRIES: u32 = 6;

/// Gives files out again after a while: when what the trouble left half done is finished.
async fn resume(engine: Arc<Engine>, drop: Arc<Drop>, watcher: Weak<Watcher>) {
    let settings = &drop.settings;
    let mut tries = 0;
    loop {
        tokio::time::sleep(RETRY_SHARE).await;
        tries += 1;
        let Some(watcher) = watcher.upgrade() else {
            return;
        };
        match engine
            .state
            .recover_share(&settings.name, settings.path.clone())
            .await
        {
            Ok(report) if !report.waiting.is_empty() && tries < TRIES => {}
            Ok(_) => return watcher.resume(),
            Err(error) => {
                engine.note_error(&format!("{}: {error:#}", settings.name));
                return watcher.resume();
            }
        }
    }
}

/// What the watcher is to do with the file from now on.
fn verdict_of(ending: &Ending, action: Action, dry_run: bool, settled: &Settled) -> Verdict {
    match ending {
        Ending::Done(told)
            if dry_run || told.fate == Fate::Left || action != Action::Move || settled.media =>
        {
            Verdict::Stays(settled.fingerprint)
        }
        Ending::Done(_) => Verdict::Gone,
        Ending::Gone => Verdict::Vanished,
        Ending::AlreadyTaken => Verdict::Stays(settled.fingerprint),
        Ending::Changed => Verdict::Again,
        Ending::CannotTake(why) => Verdict::Hold {
            reason: why.clone(),
            retry_after: RETRY_FILE,
        },
        Ending::Held(reason) => Verdict::Hold {
            reason: reason.to_string(),
            retry_after: RETRY_SHARE,
        },
        Ending::Failed(trouble) => Verdict::Hold {
            reason: trouble.to_string(),
            retry_after: RETRY_SHARE,
        },
    }
}

/// One line a file.
fn log(engine: &Engine, told: &Told) {
    let uid = told
        .sop_instance_uid
        .as_deref()
        .map(|uid| engine.name_in_log(uid));
    let reason = told.reason.map(crate::domain::Reason::code);
    let confidence = told.confidence.map(four_digits);
    tracing::info!(
        event = %event_of(told),
        record = told.id.as_ref().map(tracing::field::display),
        sop_instance_uid = uid,
        watch = told.watch,
        category = told.category,
        reason,
        confidence,
        model = told.model,
        duration_ms = told.ms.round() as u64,
        "{}",
        in_words(told),
    );
}

fn in_words(told: &Told) -> String {
    let reason = told.reason.map_or("", crate::domain::Reason::code);
    match (told.fate, told.category.as_deref()) {
        (Fate::Filed, Some(category)) if told.observed => format!("would be filed as {category}"),
        (Fate::Filed, Some(category)) => format!("filed as {category}"),
        (fate, _) if told.only_observed() => format!("would be: {fate} ({reason})"),
        (fate, _) => format!("{fate} ({reason})"),
    }
}

fn event_of(told: &Told) -> Event {
    match told.fate {
        Fate::Left => Event::Left,
        _ if told.observed => Event::Observed,
        Fate::Filed => Event::Filed,
        Fate::Review => Event::Review,
        Fate::Other => Event::Other,
        Fate::Quarantined => Event::Quarantined,
        Fate::Duplicate => Event::Duplicate,
        Fate::Conflict => Event::Conflict,
    }
}

/// 0.97, not 0.9700000286102295.
fn four_digits(confidence: f32) -> f64 {
    (f64::from(confidence) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_and_its_end_too() {
        let trouble = Trouble::default();
        assert!(!trouble.ends());
        assert!(trouble.begins("full") && !trouble.begins("full") && trouble.begins("read-only"));
        assert!(trouble.ends() && !trouble.ends() && trouble.begins("full"));
    }

    #[test]
    fn a_confidence_is_logged_as_people_write_it() {
        assert_eq!(four_digits(0.97).to_string(), "0.97");
    }
}
