//! One pass over directories through the same pipeline as the service's: what `radsort sort` does, beside a daemon or
//! without one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::config::settings::{Action, WatchSettings};
use crate::control::protocol::{SortProgress, SortSummary};
use crate::daemon::consumed;
use crate::engine::{Engine, Inspector};
use crate::filing::record::Fate;
use crate::ingest::{Drop, Told};
use crate::intake::tend;
use crate::watch::{WatchState, WatchStatus, Watcher};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Goes through directories once, one after the other; gives what became of their files.
pub async fn run(
    engine: &Arc<Engine>,
    dirs: &[PathBuf],
    dry_run: bool,
    out: mpsc::Sender<SortProgress>,
    stop: CancellationToken,
) -> anyhow::Result<SortSummary> {
    let started = Instant::now();
    let mut summary = SortSummary::default();
    for dir in dirs {
        let settings = settings_for(engine, dir)?;
        can_be_worked_in(&settings)?;
        if !dry_run {
            engine
                .state
                .roots
                .remember(&settings.name, &settings.path)?;
        }
        one(engine, settings, dry_run, &out, &stop, &mut summary).await?;
        summary.seconds = started.elapsed().as_secs_f64();
    }
    Ok(summary)
}

/// The settings for a directory: those of the watch that it is or lies in, else those of the first watch.
fn settings_for(engine: &Engine, dir: &Path) -> anyhow::Result<WatchSettings> {
    let settings = engine.settings();
    let dir = dir
        .canonicalize()
        .map_err(|error| anyhow::anyhow!("{}: {error}", dir.display()))?;
    anyhow::ensure!(dir.is_dir(), "{} is not a directory", dir.display());
    for taken in [
        &settings.library.path,
        &settings.library.quarantine,
        &settings.library.duplicates,
        &settings.state,
    ] {
        let taken = taken.canonicalize().unwrap_or_else(|_| taken.clone());
        anyhow::ensure!(
            !dir.starts_with(&taken) && !taken.starts_with(&dir),
            "{} overlaps {}, where radsort keeps what it has sorted",
            dir.display(),
            taken.display()
        );
    }
    let same = |watch: &&WatchSettings| watch.path.canonicalize().is_ok_and(|path| path == dir);
    let around = |watch: &&WatchSettings| {
        watch
            .path
            .canonicalize()
            .is_ok_and(|path| dir.starts_with(path))
    };
    if let Some(watch) = settings.watches.iter().find(same) {
        return Ok(watch.clone());
    }
    let model = settings
        .watches
        .iter()
        .find(around)
        .or(settings.watches.first());
    let model = model.ok_or_else(|| anyhow::anyhow!("the configuration has no [[watch]]"))?;
    // The path may hold a name: the watch is called by its hash.
    let hash = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    Ok(WatchSettings {
        name: format!("sort-{}", &hash[..8]),
        path: dir,
        ..model.clone()
    })
}

/// The service's sandbox lets it write only where its configuration says: a directory that is named by hand may be closed.
fn can_be_worked_in(settings: &WatchSettings) -> anyhow::Result<()> {
    let writes = match settings.action {
        Action::Move => Access::WRITE_OK,
        Action::Copy | Action::Observe => Access::empty(),
    };
    let access = writes | Access::READ_OK | Access::EXEC_OK;
    let path = settings.path.display();
    accessat(CWD, &settings.path, access, AtFlags::EACCESS).map_err(|error| {
        let why = match error {
            Errno::ROFS => "it is mounted read-only here (a service may write only where its configuration says)".to_owned(),
            error => std::io::Error::from(error).to_string(),
        };
        anyhow::anyhow!(
            "files cannot be taken out of {path}: {why}. Name it in the configuration as a [[watch]], run `radsort setup` and \
             restart the service; or stop the service, and run this again as its user"
        )
    })
}

async fn one(
    engine: &Arc<Engine>,
    settings: WatchSettings,
    dry_run: bool,
    out: &mpsc::Sender<SortProgress>,
    stop: &CancellationToken,
    summary: &mut SortSummary,
) -> anyhow::Result<()> {
    let inspector = Arc::new(Inspector(Arc::clone(&engine.pool)));
    let watcher = Arc::new(Watcher::once(
        &settings,
        inspector,
        consumed(engine, &settings),
    )?);
    let mut status = watcher.subscribe();
    let (tell, mut told) = mpsc::unbounded_channel();
    let drop = Arc::new(Drop {
        settings,
        dry_run,
        told: Some(tell),
    });
    let permits = engine.settings().decoders.permits_per_watch;
    let cancelled = stop.child_token();
    let mut task = tokio::spawn(tend(
        Arc::clone(engine),
        drop,
        Arc::clone(&watcher),
        permits,
        cancelled.clone(),
    ));
    let mut ticks = tokio::time::interval(TELL_EVERY);
    let done = loop {
        tokio::select! {
            Some(told) = told.recv() => count(summary, &told),
            _ = ticks.tick() => {
                let now = status.borrow_and_update().clone();
                if let WatchState::Offline { why, .. } = &now.state {
                    cancelled.cancel();
                    anyhow::bail!("{}: {why}", now.path.display());
                }
                if let Err(TrySendError::Closed(_)) = out.try_send(progress(summary, &now)) {
                    cancelled.cancel();
                    anyhow::bail!("whoever asked for it has gone");
                }
            }
            fatal = engine.fatal() => {
                cancelled.cancel();
                anyhow::bail!("{}", fatal.what);
            }
            ended = &mut task => break ended,
        }
    };
    done?;
    while let Ok(told) = told.try_recv() {
        count(summary, &told);
    }
    let last = watcher.status();
    summary.waiting += (last.given_up + last.held + last.under_way) as u64;
    anyhow::ensure!(
        !stop.is_cancelled(),
        "stopped before every file was accounted for"
    );
    Ok(())
}

fn progress(summary: &SortSummary, status: &WatchStatus) -> SortProgress {
    SortProgress {
        found: accounted(summary) + (status.under_way + status.held + status.given_up) as u64,
        complete: status.full_scans > 0 && !status.scanning,
        so_far: *summary,
    }
}

/// Files that have a fate.
pub fn accounted(summary: &SortSummary) -> u64 {
    summary.filed
        + summary.review
        + summary.other
        + summary.left
        + summary.quarantined
        + summary.duplicates
}

fn count(summary: &mut SortSummary, told: &Told) {
    summary.observed += u64::from(told.only_observed());
    *match told.fate {
        Fate::Filed => &mut summary.filed,
        Fate::Review | Fate::Conflict => &mut summary.review,
        Fate::Other => &mut summary.other,
        Fate::Left => &mut summary.left,
        Fate::Quarantined => &mut summary.quarantined,
        Fate::Duplicate => &mut summary.duplicates,
    } += 1;
}
