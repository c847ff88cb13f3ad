//! What others see of a watcher: the files it offers, and how it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Settled;
use crate::root::Root;

/// After so long in one turn the share counts as not answering, microseconds.
const NOT_ANSWERING_US: i64 = 15_000_000;
/// For so long after a pause it counts as being tried whether what caused it is over.
const TRYING: Duration = Duration::from_secs(5);

/// How a drop directory stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// The watch.
    pub name: String,
    /// The drop directory.
    pub path: PathBuf,
    /// The filesystem, e.g. `ext4`, `nfs`.
    pub share: String,
    /// How changes are noticed.
    pub notices: Notices,
    /// Whether it works.
    pub state: WatchState,
    /// Files found and not finished with, beside those that are held or given up.
    pub under_way: usize,
    /// Of these: not settled yet, whatever the reason.
    pub waiting: usize,
    /// Of the waiting: shorter than their own structure says.
    pub short: usize,
    /// Of the waiting: open for writing.
    pub open: usize,
    /// Of those under way: settled and ready to be taken.
    pub ready: usize,
    /// Of those under way: taken.
    pub in_flight: usize,
    /// Files that cannot be taken for now.
    pub held: usize,
    /// Why, with how many.
    pub held_because: BTreeMap<String, usize>,
    /// Files that stay where they are.
    pub left: usize,
    /// One-shot: files that did not settle in time.
    pub given_up: usize,
    /// Since when the oldest file that is not finished with waits, microseconds since the Unix epoch.
    pub oldest_us: Option<i64>,
    /// Complete scans so far.
    pub full_scans: u64,
    /// When the last complete scan ended, microseconds since the Unix epoch.
    pub last_full_scan_us: Option<i64>,
    /// A complete scan is under way.
    pub scanning: bool,
    /// Directories that could not be read in the last complete scan, and those found since.
    pub unreadable: usize,
    /// Other filesystems mounted below, which are not entered.
    pub mounts: usize,
    /// Symbolic links, which are not followed.
    pub links: usize,
    /// Files that scans found and no event had announced.
    pub missed: u64,
    /// Files that went away before they were taken, and did not turn up under another name.
    pub vanished: u64,
    /// Looks at files so far.
    pub looks: u64,
    /// The last error, for people; no path below the drop directory.
    pub last_error: Option<String>,
}

/// How changes are noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notices {
    /// By events, with a scan from time to time.
    #[default]
    Events,
    /// By scanning again and again, and by what events there are.
    Polling,
    /// By scanning again and again, for want of something that events need.
    PollingBecause(String),
}

/// Whether it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum WatchState {
    /// It has not been opened yet.
    #[default]
    Starting,
    /// It works.
    Online,
    /// The directory is away: it is retried; what was found is kept.
    Offline {
        /// Since when, microseconds since the Unix epoch.
        since_us: i64,
        /// Why, for people.
        why: String,
    },
    /// It was told to give nothing out.
    Paused {
        /// Why, for people.
        why: String,
    },
    /// A call into its filesystem does not return.
    NotAnswering {
        /// Since when, microseconds since the Unix epoch.
        since_us: i64,
    },
}

/// What thread and handle share.
#[derive(Default)]
pub struct Shared {
    /// What is offered.
    pub offers: Mutex<Offers>,
    /// Told when the offers change.
    pub wake: Notify,
    /// When the thread's turn began, microseconds since the Unix epoch; 0 while it sleeps.
    pub working_since_us: AtomicI64,
}

/// What is offered.
#[derive(Default)]
pub struct Offers {
    /// Settled files, in the order in which they were first seen.
    pub ready: BTreeMap<u64, Settled>,
    /// The directory, while it is there.
    pub root: Option<Arc<Root>>,
    /// Why nothing is given out.
    pub paused: Option<String>,
    /// Why nothing was given out until then: whether that is over is being tried.
    pub tried: Option<(String, Instant)>,
    /// No more files will come.
    pub ended: bool,
    /// The next file is given out no earlier (`max-rate`).
    pub not_before: Option<Instant>,
}

impl Offers {
    /// Whether nothing may be given out.
    pub fn is_shut(&self) -> bool {
        self.paused.is_some() || self.root.is_none()
    }

    /// Why files are not taken, as far as is known: nothing was given out until a moment ago, and nothing has been taken since.
    fn why_paused(&self) -> Option<&String> {
        let tried = self.tried.as_ref();
        let tried = tried.filter(|(_, since)| since.elapsed() < TRYING);
        self.paused.as_ref().or(tried.map(|(why, _)| why))
    }
}

impl Shared {
    /// What is offered, locked.
    pub fn offers(&self) -> MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more files will come.
    pub fn end(&self) {
        self.offers().ended = true;
        self.wake.notify_waiters();
    }

    /// Adds to a status what the thread cannot say itself.
    pub fn complete(&self, mut status: WatchStatus) -> WatchStatus {
        let since_us = self.working_since_us.load(Ordering::Relaxed);
        if since_us != 0 && now_us() - since_us > NOT_ANSWERING_US {
            status.state = WatchState::NotAnswering { since_us };
        } else if status.state == WatchState::Online
            && let Some(why) = self.offers().why_paused()
        {
            status.state = WatchState::Paused { why: why.clone() };
        }
        status
    }
}

/// The wall clock, microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
