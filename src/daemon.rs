//! The service: starts everything, keeps the drop directories tended, reloads, and stops in order.
//!
//! READY is said when the model is warm and every drop directory is being tended. SIGTERM and SIGINT stop intake, let
//! what is under way end, and close ledger and index. SIGHUP (and the control socket) reload: new settings and model
//! are made ready aside and put in force together, or not at all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commands::EXIT_TRY_AGAIN;
use crate::config::settings::WatchSettings;
use crate::config::{self, Settings};
use crate::control::listener;
use crate::control::server::{self, Limits};
use crate::control::status::ErrorLine;
use crate::engine::{Engine, Inspector};
use crate::filing::filer::FilingError;
use crate::filing::ledger::RESERVE;
use crate::filing::record::Record;
use crate::handler::Answers;
use crate::ingest::{Drop, Trouble};
use crate::intake::tend;
use crate::library_watch::keep_looking;
use crate::model::Model;
use crate::model::store::Store;
use crate::model::trial;
use crate::monitor::Monitor;
use crate::service_manager::ServiceManager;
use crate::sys::heap;
use crate::telemetry::Event;
use crate::watch::{Consumed, WatchState, WatchStatus, Watcher};
use crate::watchdog;

/// How long what is under way may take to end after SIGTERM. What has not ended is in the drop directory or finished
/// by the next start's recovery.
const GRACE: Duration = Duration::from_mins(1);
/// How often the service manager is told what the service is doing.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How much more time is asked for while starting.
const MORE_TIME: Duration = Duration::from_mins(1);
/// How often.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// For how long at most: a start that takes longer than a long rebuild of the index has hung.
const LONGEST_START: Duration = Duration::from_hours(2);

/// The drop directories that are tended, by name.
pub type Watches = Arc<Mutex<BTreeMap<String, Tended>>>;

/// One drop directory that is tended.
pub struct Tended {
    /// Its settings.
    pub settings: WatchSettings,
    /// Its watcher.
    pub watcher: Arc<Watcher>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A request to reload, answered when the new settings are in force or refused.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// Runs until told to stop.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    // Before anything else, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(event = %Event::Starting, version, "radsort {version} is starting");

    let manager = Arc::new(ServiceManager::from_environment());
    let socket = settings.control.socket.clone();
    let starting = async {
        wait_for_room(&manager, &settings.state).await;
        let told = Arc::clone(&manager);
        let say = move |what: &str| say_progress(&told, what);
        let opening = tokio::task::spawn_blocking(move || Engine::open(settings, &say));
        let engine = opening.await??;
        for alarm in engine.state.recover().await? {
            engine.note_error(&alarm);
        }
        anyhow::Ok(engine)
    };
    let engine = tokio::select! {
        engine = starting => Arc::new(engine?),
        never = ask_for_more_time(&manager) => match never {},
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    let listener = listener::bind(&socket)?;

    let (reloads, mut asked_to_reload) = mpsc::channel::<ReloadRequest>(8);
    let watches = Watches::default();
    let stop = CancellationToken::new();
    let answers = Arc::new(Answers::new(
        Arc::clone(&engine),
        Arc::clone(&watches),
        reloads,
        stop.clone(),
    ));
    let monitor = Monitor::new(Arc::clone(&engine), Arc::clone(&answers)).await?;
    let daemon = Daemon {
        engine: Arc::clone(&engine),
        watches,
        tasks: TaskTracker::new(),
        monitor: Arc::clone(&monitor),
        manager: Arc::clone(&manager),
    };
    for watch in &engine.settings().watches {
        daemon.start_watch(watch)?;
    }
    let control = tokio::spawn(server::serve(
        listener,
        Arc::clone(&answers),
        Limits::default(),
        stop.clone(),
    ));
    daemon
        .tasks
        .spawn(keep_looking(Arc::clone(&engine), stop.clone()));
    // Whoever is told that the service is ready may scrape it.
    monitor.serve(&stop).await;
    monitor.look().await;
    daemon
        .tasks
        .spawn(Arc::clone(&monitor).keep_looking(stop.clone()));
    if let Some(limit) = watchdog::wanted() {
        let (engine, manager) = (Arc::clone(&engine), Arc::clone(&manager));
        tokio::spawn(watchdog::keep(engine, manager, limit, stop.clone()));
    }
    manager.must_hear(&[NotifyState::Ready, NotifyState::Status(&monitor.line())]);
    let (model, provider) = daemon.model();
    tracing::info!(event = %Event::Ready, model, provider, "ready: {model} on {provider}");
    if let Some(promise) = engine.services().model.promise() {
        tracing::info!(event = %Event::Model, "the model's promise: {promise}");
    }

    let mut ticks = tokio::time::interval(STATUS_EVERY);
    let (mut told, mut giving) = (String::new(), heap::Giving::default());
    let code = loop {
        tokio::select! {
            _ = terminate.recv() => break ExitCode::SUCCESS,
            _ = interrupt.recv() => break ExitCode::SUCCESS,
            _ = hang_up.recv() => {
                answers.reloaded(daemon.reload().await);
                daemon.is_ready_again().await;
            }
            Some(reply) = asked_to_reload.recv() => {
                let result = daemon.reload().await;
                answers.reloaded(result.clone());
                daemon.is_ready_again().await;
                // Whoever asked may have hung up.
                let _ = reply.send(result);
            }
            fatal = engine.fatal() => {
                tracing::error!(event = %Event::Fatal, "stopping, so that a new process can start afresh: {}", fatal.what);
                break ExitCode::from(EXIT_TRY_AGAIN);
            }
            _ = ticks.tick() => {
                let line = monitor.line();
                manager.tell(&[NotifyState::Status(&line)]);
                tokio::spawn(ask_filer(Arc::clone(&engine)));
                if giving.is_due(Instant::now(), line != told) {
                    tokio::task::spawn_blocking(heap::give_back);
                }
                told = line;
            }
        }
    };

    manager.must_hear(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing what is under way"),
    ]);
    tracing::info!(event = %Event::Stopping, "stopping");
    stop.cancel();
    daemon.stop_watches().await;
    // The socket goes last: until then `status` can say what is still under way.
    if let Err(error) = control.await.context("the control socket's task")? {
        tracing::warn!("the control socket: {error}");
    }
    engine.state.close().await;
    tracing::info!(event = %Event::Stopped, "stopped");
    Ok(code)
}

struct Daemon {
    engine: Arc<Engine>,
    watches: Watches,
    tasks: TaskTracker,
    monitor: Arc<Monitor>,
    manager: Arc<ServiceManager>,
}

impl Daemon {
    fn start_watch(&self, settings: &WatchSettings) -> anyhow::Result<()> {
        let tended = tend_directory(&self.engine, settings)?;
        self.lock().insert(settings.name.clone(), tended);
        Ok(())
    }

    /// Reads the configuration again, makes everything ready aside, then swaps.
    async fn reload(&self) -> Result<(), String> {
        self.manager
            .must_hear(&[NotifyState::Reloading, monotonic_now()]);
        let result = self
            .try_reload()
            .await
            .map_err(|error| format!("{error:#}"));
        match &result {
            Ok(()) => tracing::info!(event = %Event::ConfigReloaded, "reloaded"),
            Err(why) => {
                tracing::error!(event = %Event::ConfigRefused, why, "the reload failed, the settings before it stay in force: {why}");
            }
        }
        result
    }

    /// After a reload whose outcome has been noted: the line says it.
    async fn is_ready_again(&self) {
        self.monitor.look().await;
        self.manager.must_hear(&[
            NotifyState::Ready,
            NotifyState::Status(&self.monitor.line()),
        ]);
    }

    async fn try_reload(&self) -> anyhow::Result<()> {
        let old = self.engine.settings();
        let source = old.source.clone();
        let (new, model) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let new = config::load(&source)?;
            needs_restart(&old, &new)?;
            // A bad graph can crash the runtime: another process goes first.
            let bundle = Store::in_use(&new)?;
            trial::try_in_child(&bundle, &new.runtime).map_err(anyhow::Error::msg)?;
            let model = Model::start(&new)?;
            Ok((new, model))
        })
        .await??;
        for watch in &new.watches {
            self.engine.state.roots.remember(&watch.name, &watch.path)?;
        }
        let (gone, fresh) = {
            let mut watches = self.lock();
            let keeps = |tended: &Tended| new.watches.contains(&tended.settings);
            let gone: Vec<String> = watches
                .iter()
                .filter(|(_, tended)| !keeps(tended))
                .map(|(name, _)| name.clone())
                .collect();
            let gone: Vec<Tended> = gone
                .iter()
                .filter_map(|name| watches.remove(name))
                .collect();
            let fresh: Vec<WatchSettings> = new
                .watches
                .iter()
                .filter(|watch| !watches.contains_key(&watch.name))
                .cloned()
                .collect();
            (gone, fresh)
        };
        let (before, _) = self.model();
        self.engine.put_in_force(new, model);
        let (model, provider) = self.model();
        if model != before {
            tracing::info!(event = %Event::ModelChanged, model, provider, model_before = before, "{model} takes over from {before}");
            let promoted = Record::Promoted { model };
            if let Err(reason) = self.engine.state.filer.append(vec![promoted]).await? {
                tracing::warn!("the change of the model is not in the ledger: {reason}");
            }
        }
        for tended in gone {
            // What is under way ends in its own time; its directory may be tended anew meanwhile.
            self.tasks.spawn(tended.end());
        }
        for watch in fresh {
            self.start_watch(&watch)?;
        }
        Ok(())
    }

    async fn stop_watches(&self) {
        let all = std::mem::take(&mut *self.lock());
        for tended in all.into_values() {
            self.tasks.spawn(tended.end());
        }
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some files are still under way; the next start looks after them");
        }
    }

    /// The model in force with its version, and where it runs.
    fn model(&self) -> (String, String) {
        let services = self.engine.services();
        let info = services.model.classifier().info();
        (
            format!("{} {}", info.name, info.version),
            info.provider.clone(),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Tended>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tended {
    /// Takes no more files, waits for those under way.
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(watch = %self.settings.name, "its task died: {error}");
        }
        if let Ok(watcher) = Arc::try_unwrap(self.watcher).map_err(drop) {
            watcher.stop().await;
        }
    }
}

/// Starts a watcher and the task that takes its files.
pub fn tend_directory(engine: &Arc<Engine>, settings: &WatchSettings) -> anyhow::Result<Tended> {
    let inspector = Arc::new(Inspector(Arc::clone(&engine.pool)));
    let watcher = Arc::new(Watcher::start(
        settings,
        inspector,
        consumed(engine, settings),
    )?);
    let drop = Arc::new(Drop {
        settings: settings.clone(),
        dry_run: false,
        told: None,
    });
    tokio::spawn(look_after(
        Arc::clone(engine),
        settings.name.clone(),
        settings.path.clone(),
        watcher.subscribe(),
    ));
    let stop = CancellationToken::new();
    let permits = engine.settings().decoders.permits_per_watch;
    let task = tokio::spawn(tend(
        Arc::clone(engine),
        drop,
        Arc::clone(&watcher),
        permits,
        stop.clone(),
    ));
    Ok(Tended {
        settings: settings.clone(),
        watcher,
        stop,
        task,
    })
}

/// Finishes what was left open on a share whenever it comes back, without waiting for its next file. Ends with its
/// watcher.
async fn look_after(
    engine: Arc<Engine>,
    name: String,
    path: PathBuf,
    mut status: tokio::sync::watch::Receiver<WatchStatus>,
) {
    // At the start everything that was there has been looked after already.
    let mut there = true;
    while status.changed().await.is_ok() {
        let now = match status.borrow_and_update().state {
            WatchState::Online | WatchState::Paused { .. } => true,
            WatchState::Offline { .. } | WatchState::NotAnswering { .. } => false,
            WatchState::Starting => there,
        };
        if now && !there {
            match engine.state.recover_share(&name, path.clone()).await {
                Ok(report) => {
                    if let Some(alarm) = report.alarm(&name) {
                        engine.note_error(&alarm);
                    }
                }
                Err(error) => engine.note_error(&format!("{name}: {error:#}")),
            }
        }
        there = now;
    }
}

/// What a watcher need not offer again.
pub fn consumed(engine: &Engine, settings: &WatchSettings) -> Consumed {
    let (filer, action) = (engine.state.filer.clone(), settings.action);
    Arc::new(move |sight| filer.is_taken(action, sight))
}

/// What cannot be changed while the service runs.
fn needs_restart(old: &Settings, new: &Settings) -> anyhow::Result<()> {
    let without_template = |settings: &Settings| {
        let library = &settings.library;
        (
            library.path.clone(),
            library.quarantine.clone(),
            library.duplicates.clone(),
            library.file_mode,
            library.directory_mode,
        )
    };
    for (what, same) in [
        (
            "[library] or [quarantine] or [duplicates] paths and modes",
            without_template(old) == without_template(new),
        ),
        ("[state] path", old.state == new.state),
        ("[control]", old.control == new.control),
        ("[runtime] decoders", old.decoders == new.decoders),
        ("[log]", old.log == new.log),
        ("[metrics]", old.metrics == new.metrics),
    ] {
        anyhow::ensure!(
            same,
            "{what} changed: that needs a restart (systemctl restart radsort)"
        );
    }
    Ok(())
}

/// Asks the filer whether its ledger is still there, also while no files come.
async fn ask_filer(engine: Arc<Engine>) {
    let asked = tokio::time::timeout(STATUS_EVERY, engine.state.filer.ping());
    if let Ok(Err(error)) = asked.await
        && error != FilingError::Stopped
    {
        engine.fail_if_fatal(&Trouble::Filing(error));
    }
}

/// Waits until ledger and index have room to be opened: a service that fails for that again and again helps nobody.
async fn wait_for_room(manager: &ServiceManager, state: &Path) {
    let mut said = false;
    loop {
        let state = state.to_owned();
        let asked = tokio::task::spawn_blocking(move || lacks(&state));
        let Ok(Some(lacking)) = asked.await else {
            return;
        };
        if !std::mem::replace(&mut said, true) {
            let what =
                format!("waiting until {lacking} are free on the disk of the state directory");
            tracing::error!(event = %Event::LedgerUnwritable, "{what}");
            manager.tell(&[NotifyState::Status(&what)]);
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

/// So many inodes are free before ledger and index are opened: each makes some files.
const INODES: u64 = 16;

/// What a disk has too little of for ledger and index to be opened. A disk that cannot be asked lacks nothing.
fn lacks(state: &Path) -> Option<String> {
    let disk = rustix::fs::statvfs(state).ok()?;
    // Filesystems that make inodes as they need them count none.
    let inodes = disk.f_files > 0 && disk.f_favail < INODES;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < RESERVE {
        Some(format!("{} MiB", RESERVE >> 20))
    } else if inodes {
        Some(format!("{INODES} inodes"))
    } else {
        None
    }
}

/// Tells the service manager and the log what is being done while starting, and asks for more time.
fn say_progress(manager: &ServiceManager, what: &str) {
    tracing::debug!("{what}");
    manager.tell(&[more_time(), NotifyState::Status(what)]);
}

/// Asks for more time as long as starting may take: warming up on a GPU and rebuilding an index say nothing for minutes.
async fn ask_for_more_time(manager: &ServiceManager) -> Infallible {
    let mut ticks = tokio::time::interval(ASK_EVERY);
    for _ in 0..LONGEST_START.as_secs() / ASK_EVERY.as_secs() {
        ticks.tick().await;
        manager.tell(&[more_time()]);
    }
    std::future::pending().await
}

fn more_time() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX))
}

fn monotonic_now() -> NotifyState<'static> {
    NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Custom(""))
}

/// The last reload's error, for `status`.
pub type LastReload = Mutex<Option<ErrorLine>>;
