//! When the drop directory is scanned, and what follows from what is found.
//!
//! Promises: a scan counts as complete only if the directory is still the one that was opened; files that it did not come
//! upon are asked about one by one before they are forgotten.

use std::collections::BTreeSet;

use super::{IoThread, RETRY_LATE, SCAN_LATE, SCAN_SOON, SLICE};
use crate::config::settings::WatchMode;
use crate::domain::RelPath;
use crate::domain::settle::Moment;
use crate::watch::events::CannotWatch;
use crate::watch::look::sight_of;
use crate::watch::queue::Origin;
use crate::watch::scan::{Found, Scan};
use crate::watch::status::now_us;

/// Why there is a full scan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Nothing new should turn up.
    Periodic,
    /// The start, lost events, a request, polling.
    Expected,
}

impl IoThread {
    pub(super) fn polling(&self) -> bool {
        match (&self.online, self.setup.settings.mode) {
            (_, WatchMode::Poll) => true,
            (Ok(online), mode) => {
                online.deaf.is_some() || (mode == WatchMode::Auto && !online.share.has_events())
            }
            (Err(_), _) => false,
        }
    }

    pub(super) fn begin_scan(&mut self, occasion: Occasion) {
        if self.online.is_err()
            || (self.setup.once && self.status.full_scans > 0)
            || !self.check_root_now()
        {
            return;
        }
        if self.full.is_none() {
            self.queue.begin_scan();
            self.media_found = BTreeSet::new();
            self.full = Some((
                Scan::full(self.setup.settings.recursive),
                occasion,
                self.now(),
            ));
        }
    }

    /// A slice of the scans that are under way.
    pub(super) fn scan(&mut self) {
        let mut partial = std::mem::replace(
            &mut self.partial,
            Scan::partial(self.setup.settings.recursive),
        );
        if !partial.is_done() {
            if self.scan_slice(&mut partial, Occasion::Expected) {
                if partial.is_done() {
                    // Counted at once; a full scan soon finds out whether it is still so.
                    let unreadable = std::mem::take(&mut partial.passed_over).unreadable;
                    if unreadable > 0 {
                        self.status.unreadable += unreadable;
                        self.next_full = self.next_full.min(self.now() + RETRY_LATE);
                    }
                }
                self.partial = partial;
            } else {
                // The error has been noted. If the directory is still there, all of it is scanned after a while.
                self.next_full = self.next_full.min(self.now() + RETRY_LATE);
            }
        }
        let Some((mut scan, occasion, began)) = self.full.take() else {
            return;
        };
        if !self.scan_slice(&mut scan, occasion) {
            self.next_full = self.now() + RETRY_LATE;
        } else if scan.is_done() {
            self.end_scan(&scan, began);
        } else {
            self.full = Some((scan, occasion, began));
        }
    }

    /// False when it failed.
    pub(super) fn scan_slice(&mut self, scan: &mut Scan, occasion: Occasion) -> bool {
        let Ok(online) = &mut self.online else {
            return false;
        };
        let (events, deaf) = (&mut online.events, &mut online.deaf);
        let mut enter = |directory: Option<&RelPath>| {
            let Some(events) = events else { return };
            if events.watch(directory) == Err(CannotWatch::Exhausted) && deaf.is_none() {
                *deaf = Some(exhausted());
            }
        };
        match scan.turn(&online.root, &self.setup.ignore, SLICE, &mut enter) {
            Ok(found) => {
                let origin = Origin::Scan {
                    expected: occasion == Occasion::Expected,
                };
                for found in found {
                    match found {
                        Found::File(path, stat) => self.see(path, sight_of(&stat), origin),
                        Found::Medium(path) => {
                            self.media_found.insert(path.clone());
                            self.media.insert(path);
                        }
                    }
                }
                if let Some(error) = scan.take_failure() {
                    self.trouble(&error);
                }
                self.online.is_ok()
            }
            Err(error) => {
                self.trouble(&error);
                false
            }
        }
    }

    pub(super) fn end_scan(&mut self, scan: &Scan, began: Moment) {
        if !self.check_root_now() {
            return;
        }
        let now = self.now();
        let failed = scan.passed_over.failed;
        let unreadable = scan.passed_over.unreadable + failed;
        self.asks.extend(self.queue.end_scan(unreadable > 0));
        self.media = std::mem::take(&mut self.media_found);
        if failed == 0 {
            self.status.last_error = None;
        }
        self.status.full_scans += 1;
        self.status.last_full_scan_us = Some(now_us());
        self.status.unreadable = unreadable;
        self.status.mounts = scan.passed_over.mounts;
        self.status.links = scan.passed_over.links;
        let took = now.saturating_sub(began);
        let pause = if self.polling() {
            self.setup.settings.poll_interval.max(took)
        } else if failed > 0 {
            RETRY_LATE.max(took)
        } else if unreadable > 0 {
            // No event tells that a directory may be read from now on. It may stay closed for good: a tenth of the time at most.
            RETRY_LATE.max(10 * took)
        } else {
            let pause = self.interval;
            self.interval = (2 * self.interval).min(SCAN_LATE);
            pause
        };
        self.next_full = if self.setup.once {
            Moment::MAX
        } else {
            now + pause
        };
    }

    /// A periodic scan that finds what no event announced makes the next ones come sooner.
    pub(super) fn react_to_missed(&mut self) {
        let missed = self.queue.take_missed();
        if missed > 0 && !self.polling() {
            self.status.missed += missed;
            self.interval = SCAN_SOON;
            self.next_full = self.next_full.min(self.now() + SCAN_SOON);
        }
    }
}

/// What is said when inotify watches run out.
pub(super) fn exhausted() -> String {
    "the limit of inotify watches is reached; raise it with sysctl fs.inotify.max_user_watches"
        .to_owned()
}
