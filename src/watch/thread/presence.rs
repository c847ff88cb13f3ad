//! Whether the drop directory is there: opening it, noticing that it has gone, opening it again.
//!
//! Promises: a share that was mounted and is not any more is offline, whatever its bare mount point holds; what was found
//! before is kept. The open descriptor keeps a filesystem busy: stop radsort before unmounting it (a lazy unmount is
//! noticed within a minute).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{CHECK_ROOT, Command, IoThread, Occasion, RETRY_LATE, SCAN_SOON};
use crate::config::settings::WatchMode;
use crate::domain::settle::Moment;
use crate::root::Root;
use crate::telemetry::Event;
use crate::watch::events::Events;
use crate::watch::scan::Scan;
use crate::watch::share::ShareKind;
use crate::watch::status::now_us;

/// The directory while it is there.
pub(super) struct Online {
    pub root: Arc<Root>,
    pub share: ShareKind,
    pub events: Option<Events>,
    /// Why events cannot be relied upon, although the share would give them.
    pub deaf: Option<String>,
    pub check_root: Moment,
}

/// The directory while it is away.
pub(super) struct Offline {
    pub since_us: i64,
    pub why: String,
    pub retry_at: Moment,
    pub pause: Duration,
}

impl IoThread {
    pub(super) fn try_open(&mut self) {
        match self.open() {
            Ok(online) => {
                tracing::info!(event = %Event::ShareOnline, watch = self.status.name, share = %online.share, "drop directory {} is online", self.status.name);
                self.set_root(Some(Arc::clone(&online.root)));
                self.status.share = online.share.to_string();
                self.queue.set_exact(online.share.shows_writers());
                self.online = Ok(online);
                // What was ready was seen in the directory as it was before.
                let ready = std::mem::take(&mut self.offers().ready);
                let now = self.now();
                for id in ready.into_keys() {
                    self.queue.taken_back(now, id);
                }
                self.full = None;
                self.interval = SCAN_SOON;
                self.begin_scan(Occasion::Expected);
            }
            Err(error) => self.go_offline(&error),
        }
    }

    pub(super) fn open(&mut self) -> io::Result<Online> {
        let settings = &self.setup.settings;
        let root = Root::open(&settings.path)?;
        if self.mounted && !root.is_mounted() {
            return Err(io::Error::other("nothing is mounted there any more"));
        }
        root.open_dir(None)?;
        let share = ShareKind::of(root.dir())?;
        let (mut events, mut deaf) = (None, None);
        if !self.setup.once && settings.mode != WatchMode::Poll {
            let commands = self.setup.commands.clone();
            let wake = move || drop(commands.send(Command::Wake));
            match Events::start(&settings.path, self.setup.ignore.clone(), wake) {
                Ok(started) => events = Some(started),
                Err(error) => deaf = Some(format!("inotify cannot be used: {error}")),
            }
        }
        self.mounted |= root.is_mounted();
        Ok(Online {
            root: Arc::new(root),
            share,
            events,
            deaf,
            check_root: self.now() + CHECK_ROOT,
        })
    }

    pub(super) fn go_offline(&mut self, error: &io::Error) {
        let why = error.to_string();
        let (since_us, pause) = match &self.online {
            Ok(_) => (now_us(), Duration::ZERO),
            Err(offline) => (offline.since_us, offline.pause),
        };
        if !matches!(&self.online, Err(offline) if offline.why == why) {
            tracing::warn!(event = %Event::ShareOffline, watch = self.status.name, why, "drop directory {} is offline: {why}", self.status.name);
        }
        let pause = (2 * pause).clamp(Duration::from_secs(1), RETRY_LATE);
        self.online = Err(Offline {
            since_us,
            why,
            retry_at: self.now() + pause,
            pause,
        });
        self.set_root(None);
        self.full = None;
        self.partial = Scan::partial(self.setup.settings.recursive);
        self.backlog.clear();
    }

    pub(super) fn set_root(&self, root: Option<Arc<Root>>) {
        self.offers().root = root;
        self.setup.shared.wake.notify_waiters();
    }

    /// An error in the directory: is it the file's, or is the whole directory away?
    pub(super) fn trouble(&mut self, error: &io::Error) {
        let error_now = Some(error.to_string());
        if self.status.last_error != error_now {
            let watch = self.status.name.as_str();
            tracing::warn!(event = %Event::ShareUnreadable, watch, "not all of the drop directory {watch} can be read: {error}");
            self.status.last_error = error_now;
        }
        let Ok(online) = &self.online else { return };
        match online.root.open_dir(None) {
            Ok(_) if online.root.is_current() => {}
            Ok(_) => self.go_offline(&io::Error::other("another directory is in its place")),
            Err(error) => self.go_offline(&error),
        }
    }

    pub(super) fn check_root(&mut self) {
        let now = self.now();
        let Ok(online) = &mut self.online else { return };
        if now >= online.check_root {
            online.check_root = now + CHECK_ROOT;
            self.check_root_now();
        }
    }

    /// Whether the path still leads to the directory that is open; if not, that is reopened at once.
    pub(super) fn check_root_now(&mut self) -> bool {
        let current = match &self.online {
            Ok(online) => online.root.is_current(),
            Err(_) => return false,
        };
        if !current {
            self.go_offline(&io::Error::other("it was removed, replaced or unmounted"));
            self.try_open();
        }
        current
    }
}
