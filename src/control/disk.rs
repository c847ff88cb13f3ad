//! A disk that may hang: asked for its room, or for something else, without ever waiting long for one that does not answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::status::DiskStatus;

/// A disk, and since when it has owed an answer.
#[derive(Debug)]
pub struct Disk {
    what: &'static str,
    path: PathBuf,
    /// Held by whoever asks: at most one thread hangs on a disk that does.
    asking: Arc<tokio::sync::Mutex<()>>,
    asked: Arc<Mutex<Option<Instant>>>,
    /// How long it may take.
    patience: Duration,
    /// How long it may owe an answer before that is told, as with a drop directory.
    silence: Duration,
}

impl Disk {
    /// The disk that holds `path`.
    pub fn new(what: &'static str, path: PathBuf) -> Self {
        Self {
            what,
            path,
            asking: Arc::default(),
            asked: Arc::default(),
            patience: Duration::from_secs(1),
            silence: Duration::from_secs(15),
        }
    }

    /// Its room; without figures when it does not answer.
    pub async fn status(&self) -> DiskStatus {
        let (what, path) = (self.what, self.path.clone());
        let status = self.ask(move || DiskStatus::of(what, &path)).await;
        status.unwrap_or_else(|| DiskStatus {
            what: self.what.to_owned(),
            path: self.path.display().to_string(),
            ..DiskStatus::default()
        })
    }

    /// Asks it something else that may hang with it; `None` when it does not answer. One that owes an answer for longer
    /// than it may take is not waited for again.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.owes_for(self.patience) {
            return None;
        }
        let answer = async {
            let turn = Arc::clone(&self.asking).lock_owned().await;
            let owed = Owed::begin(turn, &self.asked);
            tokio::task::spawn_blocking(move || {
                let answer = question();
                drop(owed);
                answer
            })
            .await
        };
        timeout(self.patience, answer).await.ok()?.ok()
    }

    /// Whether it has owed an answer for so long that people should know.
    pub fn does_not_answer(&self) -> bool {
        self.owes_for(self.silence)
    }

    fn owes_for(&self, time: Duration) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| asked.elapsed() > time)
    }
}

/// An answer that is owed, until dropped: also where the question panics.
struct Owed {
    asked: Arc<Mutex<Option<Instant>>>,
    _turn: OwnedMutexGuard<()>,
}

impl Owed {
    fn begin(turn: OwnedMutexGuard<()>, asked: &Arc<Mutex<Option<Instant>>>) -> Self {
        *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Self {
            asked: Arc::clone(asked),
            _turn: turn,
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_is_waited_for_once_and_then_told_until_it_answers() {
        let disk = Disk {
            patience: Duration::from_millis(20),
            ..Disk::new("library", PathBuf::from("/"))
        };
        let (wake, hung) = std::sync::mpsc::channel::<()>();
        assert_eq!(disk.ask(move || hung.recv()).await, None);
        assert!(!disk.does_not_answer());
        let disk = Disk {
            silence: Duration::from_millis(50),
            ..disk
        };
        while !disk.does_not_answer() {
            tokio::task::yield_now().await;
        }
        assert_eq!(disk.ask(|| 1).await, None);
        wake.send(()).unwrap();
        while disk.ask(|| 2).await != Some(2) {
            tokio::task::yield_now().await;
        }
        assert!(!disk.does_not_answer());
    }
}
