//! Places for clients: so many at the same time, and whoever has been silent for longest gives way to the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long one who is to give way may take to go.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one who is just leaving may take: nobody need give way for that.
const LEAVING: Duration = Duration::from_millis(20);

/// The places, and who is in one without anything being done for it.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    silent: Mutex<Waiting>,
}

/// Whoever is silent, the longest first.
#[derive(Default)]
struct Waiting {
    next: u64,
    queue: VecDeque<(u64, CancellationToken)>,
}

impl Places {
    /// So many.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            silent: Mutex::default(),
        })
    }

    /// A free place, or that of a silent client; `None` when everybody is being served.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        if let Ok(place) = timeout(LEAVING, Arc::clone(&self.free).acquire_owned()).await {
            return place.ok();
        }
        loop {
            let (_, longest) = self.lock().queue.pop_front()?;
            longest.cancel();
            // It may just have said something, and stays then.
            if let Ok(place) = timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await {
                return place.ok();
            }
        }
    }

    /// To be held by a client that nothing is done for.
    pub fn silent(self: &Arc<Self>) -> Silent {
        let gives_way = CancellationToken::new();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.queue.push_back((number, gives_way.clone()));
        drop(waiting);
        Silent {
            places: Arc::clone(self),
            number,
            gives_way,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that nothing is done for, until dropped.
pub(crate) struct Silent {
    places: Arc<Places>,
    number: u64,
    gives_way: CancellationToken,
}

impl Silent {
    /// Something is done for it from now on; gives where it is to be silent again.
    pub fn speaks(self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// Returns when another needs its place.
    pub async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }

    /// Cancelled when another needs its place.
    pub fn to_give_way(&self) -> CancellationToken {
        self.gives_way.clone()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let mut waiting = self.places.lock();
        waiting.queue.retain(|(number, _)| *number != self.number);
    }
}
