//! Looks after the service while it runs: the line for the service manager, metrics for whoever scrapes them, and what
//! a site should know of, in the journal and by its alert command. Nothing here is waited for by intake.

pub mod alert;
mod bounded;
pub mod conditions;
mod gpu;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::control::listener;
use crate::control::status::{Status, bytes};
use crate::engine::Engine;
use crate::handler::Answers;
use crate::metrics::server::{self, Limits, Page, Pages};
use crate::metrics::{exposition, textfile};
use crate::telemetry::Event;
use alert::Alerts;
use conditions::{Change, Latch, conditions};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// How often the GPU is asked, and the recent past is saved.
const SELDOM: Duration = Duration::from_mins(1);
/// How long the status may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What looks after the service.
pub struct Monitor {
    engine: Arc<Engine>,
    answers: Arc<Answers>,
    alerts: Alerts,
    line: Mutex<String>,
}

impl Monitor {
    /// Looks for the first time.
    pub async fn new(engine: Arc<Engine>, answers: Arc<Answers>) -> std::io::Result<Arc<Self>> {
        let monitor = Self {
            alerts: Alerts::start(Arc::clone(engine.metrics()))?,
            engine,
            answers,
            line: Mutex::default(),
        };
        monitor.look().await;
        Ok(Arc::new(monitor))
    }

    /// How the service was at the last look, in one line for the service manager.
    pub fn line(&self) -> String {
        self.line
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks now. `None` when the status cannot be had in time.
    pub async fn look(&self) -> Option<Status> {
        let status = timeout(PATIENCE, self.answers.now()).await.ok()?.ok()?;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = status.line();
        Some(status)
    }

    /// Looks again and again until told to stop.
    pub async fn keep_looking(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut latch, mut file) = (Latch::default(), TextFile::of(&self.engine));
        let mut seldom = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if let Some(status) = self.look().await {
                self.note(&mut latch, &status);
                if let Some(file) = &mut file {
                    file.write_if_due(&self.engine, &status).await;
                }
            }
            if Instant::now() >= seldom {
                seldom = Instant::now() + SELDOM;
                self.seldom().await;
            }
        }
        if let Some(file) = file {
            let _ = tokio::task::spawn_blocking(move || textfile::remove(&file.path)).await;
        }
    }

    /// Says what has begun or is over.
    fn note(&self, latch: &mut Latch, status: &Status) {
        let settings = self.engine.settings();
        let found = conditions(status, &settings.alert);
        for change in latch.update(Instant::now(), settings.alert.every, found) {
            if change.log {
                log(&change);
            }
            if change.tell {
                self.alerts.tell(&settings.alert, &settings.source, &change);
            }
        }
    }

    async fn seldom(&self) {
        let services = self.engine.services();
        let on_gpu = services
            .model
            .classifier()
            .info()
            .provider
            .starts_with("cuda");
        let metrics = Arc::clone(self.engine.metrics());
        let looked = tokio::task::spawn_blocking(move || {
            if let Err(error) = metrics.save() {
                tracing::debug!(%error, "rates and drift are not kept");
            }
            if on_gpu { gpu::memory() } else { Vec::new() }
        });
        if let Ok(gpus) = looked.await {
            self.answers.gpus_seen(gpus);
        }
    }

    /// Opens the listeners that the site wants. One that cannot be opened keeps nothing else from working.
    pub async fn serve(self: &Arc<Self>, stop: &CancellationToken) {
        let settings = self.engine.settings();
        if let Some(path) = settings.metrics.socket.clone() {
            let bound = tokio::task::spawn_blocking(move || listener::bind(&path)).await;
            match bound {
                Ok(Ok(listener)) => {
                    let (pages, stop) = (Arc::clone(self), stop.clone());
                    tokio::spawn(async move {
                        let served = server::serve_unix(listener, pages, Limits::default(), stop);
                        if let Err(error) = served.await {
                            tracing::warn!(event = %Event::MetricsFailed, "the metrics socket: {error}");
                        }
                    });
                }
                Ok(Err(error)) => self.cannot_serve(&format!("the metrics socket: {error}")),
                Err(error) => self.cannot_serve(&format!("the metrics socket: {error}")),
            }
        }
        if let Some(address) = settings.metrics.listen {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let (pages, stop) = (Arc::clone(self), stop.clone());
                    tokio::spawn(server::serve_tcp(listener, pages, Limits::default(), stop));
                }
                Err(error) => self.cannot_serve(&format!(
                    "metrics at {address}: {error}; {} (docs/monitoring.md)",
                    match error.kind() {
                        std::io::ErrorKind::AddrInUse => "another program has that port",
                        _ => "does the unit allow it?",
                    }
                )),
            }
        }
    }

    fn cannot_serve(&self, why: &str) {
        tracing::warn!(event = %Event::MetricsFailed, "{why}");
        self.engine.note_error(why);
    }
}

impl Pages for Monitor {
    async fn metrics(&self) -> Page {
        match timeout(PATIENCE, self.answers.now()).await {
            Ok(Ok(status)) => Page {
                ok: true,
                text: exposition::text(self.engine.metrics(), &status),
            },
            _ => Page {
                ok: false,
                text: "the status cannot be had now\n".into(),
            },
        }
    }

    async fn health(&self) -> Page {
        Page {
            ok: true,
            text: "alive\n".into(),
        }
    }

    async fn readiness(&self) -> Page {
        match timeout(PATIENCE, self.answers.now()).await {
            Ok(Ok(status)) => server::readiness(&status),
            _ => Page {
                ok: false,
                text: "the status cannot be had now\n".into(),
            },
        }
    }
}

/// The journal's part, for what is not said where it happens.
fn log(change: &Change) {
    let condition = &change.condition;
    let message = &condition.message;
    match (condition.event, change.over) {
        // These are said where they are noticed.
        (
            Event::IntakePaused
            | Event::ShareOffline
            | Event::NotOnGpu
            | Event::ConfigRefused
            | Event::Missing
            | Event::Altered,
            _,
        ) => {}
        (Event::DiskLow, over) => {
            let disk = condition.subject.as_str();
            let free = bytes(condition.value.unwrap_or_default() as u64);
            if over {
                tracing::info!(event = %Event::DiskEnough, disk, free, "the disk of the {disk} has room again");
            } else {
                tracing::warn!(event = %Event::DiskLow, disk, free, "{message}");
            }
        }
        (event, over) => {
            let watch = condition.subject.as_str();
            let (value, limit) = (condition.value, condition.limit);
            if over {
                tracing::info!(event = %event, watch, state = "over", "no longer: {message}");
            } else {
                tracing::warn!(event = %event, watch, value, limit, state = "begins", "{message}");
            }
        }
    }
}

/// The file for node_exporter.
struct TextFile {
    path: PathBuf,
    due: Instant,
    /// Said once until it works again.
    failing: bool,
}

impl TextFile {
    fn of(engine: &Engine) -> Option<Self> {
        let settings = engine.settings();
        let directory = textfile::directory_to_use(&settings.metrics.textfile)?;
        Some(Self {
            path: textfile::path(directory, &settings.source),
            due: Instant::now(),
            failing: false,
        })
    }

    async fn write_if_due(&mut self, engine: &Engine, status: &Status) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + engine.settings().metrics.interval;
        let (path, text) = (
            self.path.clone(),
            exposition::text(engine.metrics(), status),
        );
        let written = tokio::task::spawn_blocking(move || textfile::write(&path, &text)).await;
        let failed = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let news = failed.is_some() && !self.failing;
        self.failing = failed.is_some();
        if let Some(why) = failed.filter(|_| news) {
            let what = format!("{} cannot be written: {why}", self.path.display());
            tracing::warn!(event = %Event::MetricsFailed, "{what}");
            engine.note_error(&what);
        }
    }
}
