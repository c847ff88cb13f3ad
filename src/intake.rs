//! The intake of one drop directory: how many files are under way at once, what becomes of the answer, who is told.
//!
//! A permit is taken before the next settled file is: pixels in memory never exceed the permits, and a share that hangs
//! keeps its own permits only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::settings::Action;
use crate::engine::Engine;
use crate::filing::record::Fate;
use crate::ingest::{Drop, Ending, Told, ingest};
use crate::watch::{Settled, Verdict, Watcher};

/// How long a file that cannot be taken is left alone.
const RETRY_FILE: Duration = Duration::from_mins(1);
/// How long intake stops when the library, its disk or the service itself is in trouble.
const RETRY_SHARE: Duration = Duration::from_secs(10);

/// Takes files as they settle until `stop`; returns when everything under way has ended.
pub async fn tend(
    engine: Arc<Engine>,
    drop: Arc<Drop>,
    watcher: Arc<Watcher>,
    permits: usize,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(permits.max(1)));
    let under_way = tokio_util::task::TaskTracker::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let settled = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            settled = watcher.next() => settled,
        };
        let Some(settled) = settled else { break };
        let (engine, drop, watcher) =
            (Arc::clone(&engine), Arc::clone(&drop), Arc::clone(&watcher));
        under_way.spawn(async move {
            take(&engine, &drop, &watcher, settled).await;
            std::mem::drop(permit);
        });
    }
    under_way.close();
    under_way.wait().await;
}

async fn take(engine: &Engine, drop: &Drop, watcher: &Arc<Watcher>, settled: Settled) {
    let ending = ingest(&engine.services(), drop, &settled).await;
    let verdict = verdict_of(&ending, drop.settings.action, drop.dry_run, &settled);
    match &ending {
        Ending::Done(told) => {
            log(engine, told);
            engine.tell(Told::clone(told));
            if let Some(listener) = &drop.told {
                // Whoever counted may have given up.
                let _ = listener.send(Told::clone(told));
            }
        }
        Ending::CannotTake(why) => {
            // The source path may hold a name: it stands in `status`' counts and the debug log only as a count.
            tracing::warn!(watch = %drop.settings.name, reason = "cannot-take", "a file cannot be taken: {why}");
            engine.note_error(&format!(
                "{}: a file cannot be taken: {why}",
                drop.settings.name
            ));
        }
        Ending::Held(reason) => {
            tracing::error!(watch = %drop.settings.name, reason = "held", "intake stops for a while: {reason}");
            engine.note_error(&format!("{}: intake stopped: {reason}", drop.settings.name));
            pause(watcher, reason.to_string());
        }
        Ending::Failed(trouble) => {
            tracing::error!(watch = %drop.settings.name, reason = "failed", "{trouble}");
            engine.note_error(&trouble.to_string());
            pause(watcher, trouble.to_string());
        }
        Ending::AlreadyTaken | Ending::Changed | Ending::Gone => {}
    }
    watcher.finished(settled.path, verdict);
    if let Ending::Failed(trouble) = ending {
        engine.fail_if_fatal(&trouble);
    }
}

/// Stops giving files out for a while, then tries again: with one trouble at a time, the next file shows whether it is
/// over.
fn pause(watcher: &Arc<Watcher>, why: String) {
    watcher.pause(why);
    let watcher = Arc::downgrade(watcher);
    tokio::spawn(async move {
        tokio::time::sleep(RETRY_SHARE).await;
        if let Some(watcher) = watcher.upgrade() {
            watcher.resume();
        }
    });
}

/// What the watcher is to do with the file from now on.
fn verdict_of(ending: &Ending, action: Action, dry_run: bool, settled: &Settled) -> Verdict {
    match ending {
        Ending::Done(told)
            if dry_run || told.fate == Fate::Left || action != Action::Move || settled.media =>
        {
            Verdict::Stays(settled.fingerprint)
        }
        Ending::Done(_) | Ending::Gone => Verdict::Gone,
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
        .map(|uid| engine.name_in_log(uid))
        .unwrap_or_default();
    let reason = told.reason.map_or("", crate::domain::Reason::code);
    tracing::info!(
        sop_instance_uid = uid,
        watch = told.watch,
        fate = told.fate.as_str(),
        category = told.category.as_deref().unwrap_or(""),
        reason,
        confidence = told.confidence.unwrap_or(0.0),
        model = told.model.as_deref().unwrap_or(""),
        duration_ms = told.ms,
        "{}",
        match (told.fate, told.category.as_deref()) {
            (Fate::Filed, Some(category)) => format!("filed as {category}"),
            (fate, _) => format!("{} ({reason})", fate.as_str()),
        },
    );
}
