//! The I/O thread of one drop directory: it alone touches the directory, and does a bounded amount of work at a time, so
//! that commands and events never wait behind a large scan.
//!
//! Promises: a directory that is away, replaced by its bare mount point or unreadable is offline, never empty; what was
//! found before is kept. Between events, commands and deadlines the thread sleeps.

mod presence;
mod scans;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;
use tokio::sync::watch as channel;

use super::events::Happened;
use presence::{Offline, Online};
use scans::{Occasion, exhausted};

use super::ignore::Ignore;
use super::look::{Lookers, Outcome, Request, sight_of};
use super::queue::{Errand, Origin, Queue, Ready, Seen};
use super::scan::{Scan, is_dicomdir};
use super::status::{Notices, Shared, WatchState, WatchStatus, now_us};
use super::{Consumed, Settled, Verdict};
use crate::config::settings::WatchSettings;
use crate::domain::RelPath;
use crate::domain::settle::{Moment, Rules, Sight};
use crate::telemetry::Event;

/// Entries of a scan, events or deadlines handled in one turn.
const SLICE: usize = 500;
/// Settled files that are kept ready; more are looked at when some of these are taken.
const READY: usize = 64;
/// How soon a scan follows when events have been missed, and how long it takes when they never are.
const SCAN_SOON: Duration = Duration::from_mins(2);
const SCAN_LATE: Duration = Duration::from_hours(1);
/// How often the root is compared with its path: an unmount tells nobody. One `stat`.
const CHECK_ROOT: Duration = Duration::from_secs(5);
/// How much a share's clock may differ from this machine's when a file's age is judged by its times.
const CLOCK_DOUBT: Duration = Duration::from_hours(24);
/// The longest time between two attempts to open a directory that is away.
const RETRY_LATE: Duration = Duration::from_mins(1);

/// What the thread is told.
pub enum Command {
    /// Events have come in.
    Wake,
    /// A ready file was taken.
    Taken,
    /// A helper has looked at a candidate.
    Looked(u64, Outcome),
    /// A taken file is finished with.
    Finished(RelPath, Verdict),
    /// Scan everything now.
    Rescan,
    /// The same, and what stays where it is is asked about again.
    AskAgain,
    /// For tests: as if the kernel had sent this.
    #[cfg(test)]
    Inject(notify::Event),
    /// End.
    Stop,
}

/// What the thread starts with.
pub struct Setup {
    /// The watch.
    pub settings: WatchSettings,
    /// Its patterns, compiled.
    pub ignore: Ignore,
    /// One scan, no events.
    pub once: bool,
    /// Whether a file was taken before.
    pub consumed: Consumed,
    /// The helpers.
    pub lookers: Lookers,
    /// Shared with the handle.
    pub shared: Arc<Shared>,
    /// Where the status goes.
    pub publisher: channel::Sender<WatchStatus>,
    /// To wake itself.
    pub commands: Sender<Command>,
    /// What it is told.
    pub receiver: Receiver<Command>,
}

struct IoThread {
    setup: Setup,
    start: Instant,
    queue: Queue,
    online: Result<Online, Offline>,
    /// Whether the directory was a mount point when it was first opened.
    mounted: bool,
    full: Option<(Scan, Occasion, Moment)>,
    partial: Scan,
    next_full: Moment,
    interval: Duration,
    backlog: VecDeque<(RelPath, Happened)>,
    /// Paths to be asked about one by one.
    asks: VecDeque<RelPath>,
    media: BTreeSet<RelPath>,
    media_found: BTreeSet<RelPath>,
    looking: usize,
    status: WatchStatus,
}

/// Runs until it is stopped.
pub fn run(setup: Setup) {
    let rules = Rules {
        settle: setup.settings.settle,
        truncated: setup.settings.truncated,
    };
    let status = setup.publisher.borrow().clone();
    let thread = IoThread {
        start: Instant::now(),
        queue: Queue::new(rules, setup.once),
        online: Err(Offline {
            since_us: now_us(),
            why: String::new(),
            retry_at: Duration::ZERO,
            pause: Duration::ZERO,
        }),
        mounted: false,
        full: None,
        partial: Scan::partial(setup.settings.recursive),
        next_full: Duration::ZERO,
        interval: SCAN_SOON,
        backlog: VecDeque::new(),
        asks: VecDeque::new(),
        media: BTreeSet::new(),
        media_found: BTreeSet::new(),
        looking: 0,
        status,
        setup,
    };
    thread.work();
}

impl IoThread {
    fn work(mut self) {
        loop {
            self.setup
                .shared
                .working_since_us
                .store(now_us(), Ordering::Relaxed);
            let sleep_until = self.turn();
            self.publish();
            if self.setup.once && (self.is_through() || self.online.is_err()) {
                self.setup.shared.end();
            }
            self.setup
                .shared
                .working_since_us
                .store(0, Ordering::Relaxed);
            let pause = sleep_until.saturating_sub(self.now());
            match self.setup.receiver.recv_timeout(pause) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for _ in 0..SLICE {
                match self.setup.receiver.try_recv() {
                    Ok(Command::Stop) => return,
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                }
            }
        }
    }

    fn now(&self) -> Moment {
        self.start.elapsed()
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Wake | Command::Taken | Command::Stop => {}
            Command::Looked(id, outcome) => {
                self.looking -= 1;
                self.status.looks += 1;
                if let Outcome::Failed(error) = &outcome {
                    self.trouble(error);
                }
                let errand = self.queue.looked(now, id, outcome);
                self.run_errand(errand);
            }
            Command::Finished(path, verdict) => {
                if self.queue.finished(now, &path, verdict) {
                    self.asks.push_back(path);
                }
            }
            Command::AskAgain => {
                self.queue.forget_left();
                self.full = None;
                self.begin_scan(Occasion::Expected);
            }
            Command::Rescan => {
                self.full = None;
                self.begin_scan(Occasion::Expected);
            }
            #[cfg(test)]
            Command::Inject(event) => {
                if let Ok(Online {
                    events: Some(events),
                    ..
                }) = &self.online
                {
                    events.inject(&event);
                }
            }
        }
    }

    /// A bounded amount of whatever there is to do. Returns until when there is nothing more.
    fn turn(&mut self) -> Moment {
        if let Err(offline) = &self.online {
            if self.now() < offline.retry_at {
                return offline.retry_at;
            }
            self.try_open();
            if let Err(offline) = &self.online {
                return offline.retry_at;
            }
        }
        self.check_root();
        self.take_events();
        self.work_off_backlog();
        let now = self.now();
        let expired = self.queue.expired(now, SLICE);
        let asked = self.asks.len().min(SLICE);
        for path in self.asks.drain(..asked).chain(expired).collect::<Vec<_>>() {
            self.ask(path, Origin::Timer);
        }
        if self.full.is_none() && self.now() >= self.next_full {
            let polling = self.polling();
            self.begin_scan(if polling {
                Occasion::Expected
            } else {
                Occasion::Periodic
            });
        }
        self.scan();
        self.hand_out_looks();
        self.react_to_missed();
        self.status.vanished += self.queue.take_vanished(self.now());
        self.sleep_until()
    }

    fn sleep_until(&self) -> Moment {
        let online = match &self.online {
            Ok(online) => online,
            Err(offline) => return offline.retry_at,
        };
        if self.full.is_some()
            || !self.partial.is_done()
            || !self.backlog.is_empty()
            || !self.asks.is_empty()
        {
            return Duration::ZERO;
        }
        let timer = self.queue.next_timer().unwrap_or(Moment::MAX);
        timer.min(self.next_full).min(online.check_root)
    }

    /// One-shot: whether everything is accounted for.
    fn is_through(&self) -> bool {
        self.status.full_scans > 0
            && self.full.is_none()
            && self.asks.is_empty()
            && self.partial.is_done()
            && self.queue.counts().under_way() == 0
    }

    // Events.

    fn take_events(&mut self) {
        let Ok(Online {
            events: Some(events),
            deaf,
            ..
        }) = &mut self.online
        else {
            return;
        };
        let pending = events.take();
        if pending.exhausted && deaf.is_none() {
            *deaf = Some(exhausted());
        }
        self.backlog.extend(pending.paths);
        if pending.root {
            self.check_root_now();
        }
        if pending.rescan {
            tracing::info!(event = %Event::EventsLost, watch = self.status.name, "events were lost in {}: scanning", self.status.name);
            self.full = None;
            self.begin_scan(Occasion::Expected);
        }
    }

    fn work_off_backlog(&mut self) {
        for _ in 0..SLICE {
            let Some((path, happened)) = self.backlog.pop_front() else {
                break;
            };
            if is_dicomdir(path.file_name()) {
                self.media.extend(path.parent());
            }
            self.ask_event(path, happened);
        }
    }

    fn ask_event(&mut self, path: RelPath, happened: Happened) {
        if !self.setup.settings.recursive && path.parent().is_some() {
            return;
        }
        if happened.directory {
            match self.is_directory(&path) {
                Ok(true) if self.setup.settings.recursive => return self.partial.add(path),
                Ok(true) => return,
                Ok(false) => self.asks.extend(self.queue.below(&path)),
                Err(error) => self.trouble(&error),
            }
        }
        self.ask(path, Origin::Event(happened.hint));
    }

    fn is_directory(&self, path: &RelPath) -> io::Result<bool> {
        Ok(self
            .stat(path)?
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    }

    fn stat(&self, path: &RelPath) -> io::Result<Option<rustix::fs::Stat>> {
        let Ok(online) = &self.online else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match online.root.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// Asks the filesystem about one path, and tells the queue.
    fn ask(&mut self, path: RelPath, origin: Origin) {
        if self.online.is_err() {
            // Asked again by the scan when it is back.
            return self.queue.postpone(self.now() + RETRY_LATE, &path);
        }
        match self.stat(&path) {
            Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.see(path, sight_of(&stat), origin);
            }
            Ok(_) => {
                let errand = self.queue.gone(self.now(), &path);
                self.run_errand(errand);
            }
            Err(error) => {
                self.queue.postpone(self.now() + RETRY_LATE, &path);
                self.trouble(&error);
            }
        }
    }

    fn see(&mut self, path: RelPath, sight: Sight, origin: Origin) {
        let rested = if self.setup.once {
            self.rested(&sight)
        } else {
            Duration::ZERO
        };
        let seen = Seen {
            path,
            sight,
            origin,
            rested,
            now_us: now_us(),
        };
        let consumed = Arc::clone(&self.setup.consumed);
        let errand = self.queue.seen(self.now(), seen, |sight| consumed(sight));
        self.run_errand(errand);
    }

    /// How long a file has been at rest by its own times. A share's clock is trusted only roughly.
    fn rested(&self, sight: &Sight) -> Duration {
        let shows_writers = self
            .online
            .as_ref()
            .is_ok_and(|online| online.share.shows_writers());
        let age_ns =
            (now_us() * 1000).saturating_sub(sight.fingerprint.mtime_ns.max(sight.ctime_ns));
        let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or(0));
        if shows_writers {
            age
        } else {
            age.saturating_sub(CLOCK_DOUBT)
        }
    }

    // Looking and offering.

    fn hand_out_looks(&mut self) {
        let Ok(online) = &self.online else { return };
        let (root, shows_writers) = (Arc::clone(&online.root), online.share.shows_writers());
        let ready = self.offers().ready.len();
        while ready + self.looking < READY {
            let Some((id, path, structure)) = self.queue.next_look() else {
                return;
            };
            let request = Request {
                id,
                root: Arc::clone(&root),
                path,
                structure,
                shows_writers,
            };
            if !self.setup.lookers.ask(request) {
                return self.queue.not_looked(id, structure);
            }
            self.looking += 1;
        }
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::None => {}
            Errand::Offer(ready) => self.offer(ready),
            Errand::TakeBack(id) => {
                let taken_back = self.offers().ready.remove(&id).is_some();
                if taken_back {
                    self.queue.taken_back(self.now(), id);
                } else {
                    self.queue.disturbed(id);
                }
            }
        }
    }

    fn offer(&mut self, ready: Ready) {
        let Ok(online) = &self.online else {
            return self.queue.taken_back(self.now(), ready.id);
        };
        let media = std::iter::successors(ready.path.parent(), RelPath::parent)
            .any(|folder| self.media.contains(&folder));
        let settled = Settled {
            root: Arc::clone(&online.root),
            path: ready.path,
            fingerprint: ready.fingerprint,
            seen_us: ready.seen_us,
            settled_us: now_us(),
            truncated: ready.truncated,
            media,
            refused: ready.refused,
        };
        self.offers().ready.insert(ready.id, settled);
        self.setup.shared.wake.notify_waiters();
    }

    fn offers(&self) -> std::sync::MutexGuard<'_, super::status::Offers> {
        self.setup.shared.offers()
    }

    fn publish(&mut self) {
        let counts = self.queue.counts();
        let ready = self.offers().ready.len();
        let status = &mut self.status;
        status.under_way = counts.under_way();
        status.waiting = counts.settling + counts.short + counts.open;
        status.short = counts.short;
        status.open = counts.open;
        status.ready = ready;
        status.in_flight = counts.offered.saturating_sub(ready);
        status.held = counts.held;
        status.held_because = self.queue.held();
        status.given_up = counts.given_up;
        status.left = self.queue.left();
        status.oldest_us = self.queue.oldest_us();
        status.scanning = self.full.is_some();
        status.state = match &self.online {
            Ok(_) => WatchState::Online,
            Err(offline) => WatchState::Offline {
                since_us: offline.since_us,
                why: offline.why.clone(),
            },
        };
        let polling = self.polling();
        self.status.notices = match &self.online {
            Ok(Online {
                deaf: Some(why), ..
            }) => Notices::PollingBecause(why.clone()),
            _ if polling => Notices::Polling,
            _ => Notices::Events,
        };
        let status = &self.status;
        self.setup.publisher.send_if_modified(|published| {
            let modified = published != status;
            if modified {
                published.clone_from(status);
            }
            modified
        });
    }
}
