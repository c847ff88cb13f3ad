//! Finds files in drop directories and waits until they are complete.
//!
//! Events are hints, the [`scan`] is the truth; the [rules of settling](crate::domain::settle) are pure. One I/O thread a
//! drop directory owns its events, scans and [`queue`]; two helpers [`look`] at candidates. What has settled waits in
//! a short list until [`Watcher::next`] takes it: the drop directory is the queue, and only paths are in memory.
//!
//! Two rules worth knowing: other filesystems mounted below a drop directory are not entered (make them a `[[watch]]` of
//! their own), and a DICOMDIR directly in the drop directory does not make all of it a medium.

mod events;
mod ignore;
mod look;
mod queue;
mod scan;
pub mod share;
mod status;
mod thread;
mod vanished;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::Instant;

pub use ignore::Ignore;
pub use share::ShareKind;
pub use status::{Notices, WatchState, WatchStatus};

use crate::config::settings::WatchSettings;
use crate::domain::settle::{Completeness, Sight};
use crate::domain::{Fingerprint, RelPath};
use crate::root::Root;
use status::Shared;
use thread::{Command, Setup};

/// Judges a file by its own structure.
pub trait Inspect: Send + Sync {
    /// Whether the file, `size` bytes long, is all there. Called from helper threads; may block. An error means that this
    /// cannot be told now (the file, its share or the decoder failed): it is asked again later.
    fn completeness(&self, file: &File, size: u64) -> io::Result<Completeness>;
}

/// Says whether a file in this state was taken before (copy and observe mode).
pub type Consumed = Arc<dyn Fn(&Sight) -> bool + Send + Sync>;

/// A file that may be read.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The directory in which it was seen. After the share has been away it is another one.
    pub root: Arc<Root>,
    /// The path below it.
    pub path: RelPath,
    /// The state in which it settled; in any other state it must settle again.
    pub fingerprint: Fingerprint,
    /// When it was first seen, microseconds since the Unix epoch.
    pub seen_us: i64,
    /// When it settled, microseconds since the Unix epoch.
    pub settled_us: i64,
    /// It is shorter than its own structure says, and has been for longer than the limit.
    pub truncated: bool,
    /// It lies in a folder (below the drop directory) that holds a DICOMDIR, or below one.
    pub media: bool,
    /// Why it could not be taken when it was offered last: it is tried again and again, and told once.
    pub refused: Option<String>,
}

/// What became of a settled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was filed.
    Gone,
    /// It is no longer there, and nobody here took it.
    Vanished,
    /// It stays where it is, in this state: it is not offered again unless it changes.
    Stays(Fingerprint),
    /// It changed under way: it settles again.
    Again,
    /// It cannot be taken for now: shown in the status, offered again later or when something happens to it.
    Hold {
        /// For people; no path.
        reason: String,
        /// When to offer it again.
        retry_after: Duration,
    },
}

/// A drop directory that cannot be watched at all. (One that is away is merely offline.)
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A thread could not be started.
    #[error("watch {name}: no thread can be started: {source}")]
    Thread {
        /// The watch.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A directory that is to be gone through once is not there.
    #[error("{}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pattern in `ignore` is no glob.
    #[error("watch {name}: ignore: {source}")]
    Ignore {
        /// The watch.
        name: String,
        /// Why not.
        source: globset::Error,
    },
}

/// A watched drop directory. Dropping it ends the watching.
pub struct Watcher {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    status: channel::Receiver<WatchStatus>,
    max_rate: Option<f64>,
}

impl Watcher {
    /// Starts watching. A directory that is away is retried until it is there.
    pub fn start(
        settings: &WatchSettings,
        inspector: Arc<dyn Inspect>,
        consumed: Consumed,
    ) -> Result<Self, WatchError> {
        Self::launch(settings, inspector, consumed, false)
    }

    /// Goes through the directory once, without events: files at rest for their settle time (by their own times) settle at
    /// once, others get their settle time and are then given up ([`WatchStatus::given_up`]). [`Watcher::next`] ends when all
    /// are finished with, or when the directory goes away ([`WatchState::Offline`]).
    pub fn once(
        settings: &WatchSettings,
        inspector: Arc<dyn Inspect>,
        consumed: Consumed,
    ) -> Result<Self, WatchError> {
        Root::open(&settings.path).map_err(|source| WatchError::Open {
            path: settings.path.clone(),
            source,
        })?;
        Self::launch(settings, inspector, consumed, true)
    }

    fn launch(
        settings: &WatchSettings,
        inspector: Arc<dyn Inspect>,
        consumed: Consumed,
        once: bool,
    ) -> Result<Self, WatchError> {
        let name = settings.name.clone();
        let ignore = Ignore::new(&settings.ignore).map_err(|source| WatchError::Ignore {
            name: name.clone(),
            source,
        })?;
        let (commands, receiver) = mpsc::channel();
        let (publisher, status) = channel::channel(WatchStatus::new(&name, settings.path.clone()));
        let shared = Arc::new(Shared::default());
        let failed = |source| WatchError::Thread {
            name: name.clone(),
            source,
        };
        let answers = commands.clone();
        let answer = move |id, outcome| drop(answers.send(Command::Looked(id, outcome)));
        let lookers = look::Lookers::start(&name, inspector, answer).map_err(failed)?;
        let setup = Setup {
            settings: settings.clone(),
            ignore,
            once,
            consumed,
            lookers,
            shared: Arc::clone(&shared),
            publisher,
            commands: commands.clone(),
            receiver,
        };
        let label = format!("watch:{name}").chars().take(15).collect();
        std::thread::Builder::new()
            .name(label)
            .spawn(move || thread::run(setup))
            .map_err(failed)?;
        Ok(Self {
            shared,
            commands,
            status,
            max_rate: settings.max_rate,
        })
    }

    /// The next settled file, the one first that was seen first; it must be [finished](Watcher::finished) with. Waits while
    /// there is none, or while the watch is paused or offline. `None` after [`Watcher::stop`], and at the end of
    /// [`Watcher::once`]. Cancelling loses nothing.
    pub async fn next(&self) -> Option<Settled> {
        loop {
            let woken = self.shared.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let not_before = {
                let mut offers = self.shared.offers();
                if offers.ended {
                    return None;
                }
                let now = Instant::now();
                let not_before = offers.not_before.filter(|moment| *moment > now);
                if !offers.is_shut()
                    && not_before.is_none()
                    && let Some((_, settled)) = offers.ready.pop_first()
                {
                    offers.not_before = self
                        .max_rate
                        .map(|rate| now + Duration::from_secs_f64(1.0 / rate));
                    drop(offers);
                    self.tell(Command::Taken);
                    return Some(settled);
                }
                not_before.filter(|_| !offers.is_shut() && !offers.ready.is_empty())
            };
            match not_before {
                Some(moment) => {
                    tokio::select! {
                        () = woken => {}
                        () = tokio::time::sleep_until(moment) => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    /// Says what became of a file that [`Watcher::next`] gave.
    pub fn finished(&self, path: RelPath, verdict: Verdict) {
        self.tell(Command::Finished(path, verdict));
    }

    /// The directory as it is open now, `None` while it is away.
    pub fn root(&self) -> Option<Arc<Root>> {
        self.shared.offers().root.clone()
    }

    /// How it stands.
    pub fn status(&self) -> WatchStatus {
        self.shared.complete(self.status.borrow().clone())
    }

    /// Told whenever the status changes.
    pub fn subscribe(&self) -> channel::Receiver<WatchStatus> {
        self.status.clone()
    }

    /// Gives no more files out until [`Watcher::resume`]; those that are out go on.
    pub fn pause(&self, why: impl Into<String>) {
        self.shared.offers().paused = Some(why.into());
        self.shared.wake.notify_waiters();
    }

    /// Ends a pause, to see whether what caused it is over. Until [`Watcher::goes_on`], or for a while, the status says that
    /// it is not.
    pub fn resume(&self) {
        let mut offers = self.shared.offers();
        offers.tried = offers.paused.take().map(|why| (why, Instant::now()));
        drop(offers);
        self.shared.wake.notify_waiters();
    }

    /// What caused the last pause is over.
    pub fn goes_on(&self) {
        self.shared.offers().tried = None;
    }

    /// Scans the whole directory now.
    pub fn rescan(&self) {
        self.tell(Command::Rescan);
    }

    /// The same after files that were held have been let go.
    pub fn ask_again(&self) {
        self.tell(Command::AskAgain);
    }

    /// Waits until a complete scan has been done (after this call) and everything that was found has been finished with.
    /// Files that are held or given up are not waited for. False when the watcher ended before.
    pub async fn idle_after_full_scan(&self) -> bool {
        let mut status = self.status.clone();
        let before = status.borrow().full_scans;
        self.rescan();
        let idle = status.wait_for(|status| status.full_scans > before && status.under_way == 0);
        idle.await.is_ok()
    }

    /// Ends the watching and waits for its thread, unless that hangs in a dead share. Files that are out may still be
    /// worked on; what is said about them is not heard any more.
    pub async fn stop(&self) {
        let mut status = self.status.clone();
        self.end();
        let ended = async { while status.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
    }

    fn end(&self) {
        self.shared.end();
        self.tell(Command::Stop);
    }

    /// As if the kernel had sent an event.
    #[cfg(test)]
    fn inject(&self, event: notify::Event) {
        self.tell(Command::Inject(event));
    }

    fn tell(&self, command: Command) {
        // Fails only after the thread has ended; then there is nobody to care.
        let _ = self.commands.send(command);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

impl WatchStatus {
    fn new(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod tests;
