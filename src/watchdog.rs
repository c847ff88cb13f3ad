//! The watchdog: the service manager is told again and again that the service is alive, as long as the two threads that
//! every file passes still answer: the filer and the model.
//!
//! An idle service is healthy: both answer at once. The threads of the shares are not asked: a share that hangs is no
//! reason to restart, and a restart would not cure it.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::ingest::Trouble;
use crate::service_manager::ServiceManager;

/// How often the service manager wants to hear, if at all (`WATCHDOG_USEC`).
pub fn wanted() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Reports every third of `limit` until `stop`. While a thread does not answer, nothing is reported, and the service
/// manager acts when `limit` has passed.
pub async fn keep(
    engine: Arc<Engine>,
    manager: Arc<ServiceManager>,
    limit: Duration,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(limit / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = both_answer(&engine, limit / 3) => answer,
        };
        match answer {
            Ok(()) => manager.tell(&[NotifyState::Watchdog]),
            // A thread that has ended is not waited for: a new process is the cure.
            Err(trouble) => return engine.fail_if_fatal(&trouble),
        }
    }
}

/// Waits until both threads have come around, and says so when that takes longer than `long`.
async fn both_answer(engine: &Engine, long: Duration) -> Result<(), Trouble> {
    let services = engine.services();
    told_if_late("filer", long, services.filer.ping()).await?;
    told_if_late("model", long, services.model.classifier().ping()).await?;
    Ok(())
}

async fn told_if_late<T>(who: &str, long: Duration, answer: impl Future<Output = T>) -> T {
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        () = tokio::time::sleep(long) => {
            tracing::error!("the {who} thread has not answered for {} s", long.as_secs());
            answer.await
        }
    }
}
