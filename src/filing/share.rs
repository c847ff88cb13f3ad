//! The one thread that touches a root's files for filing. A share that hangs holds up its own thread and nobody else.
//!
//! Directories are synced for many files at once: what has been renamed waits until nothing else is to be done, or until
//! enough others wait beside it, and only then goes on. A sync takes as long for a hundred names as for one.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::timing::{Step, Timing};
use crate::domain::RelPath;
use crate::root::Root;

/// The most jobs that wait for one sync.
const GROUP: usize = 64;

/// How long a job waits for others before its directories are synced.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a job leaves behind.
pub(super) enum Left {
    /// Nothing: it is through.
    Nothing,
    /// Names that are not on the disk yet.
    Unsynced(Unsynced),
}

/// Names that are not on the disk yet, and what follows when they are.
pub(super) struct Unsynced {
    /// Where a name was made.
    pub to: Name,
    /// Where a name was taken away.
    pub from: Name,
    /// Told how syncing the two directories went.
    pub then: Box<dyn FnOnce(Synced) + Send>,
}

/// A name below a root.
pub(super) type Name = (Arc<Root>, RelPath);

/// How syncing the directory of the new and of the old name went.
pub(super) struct Synced {
    pub to: Result<(), Arc<io::Error>>,
    pub from: Result<(), Arc<io::Error>>,
}

type Job = Box<dyn FnOnce() -> Left + Send>;

/// A thread that runs jobs one after the other. It ends when every handle is gone and its jobs are done.
#[derive(Clone, Debug)]
pub struct Share {
    jobs: mpsc::Sender<Job>,
}

impl Share {
    /// Starts the thread of a root; `name` shows in `top -H`.
    pub fn start(name: &str, timing: Timing) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name(format!("share {name}"))
            .spawn(move || serve(&queue, &timing))?;
        Ok(Self { jobs })
    }

    /// Runs a job after those before it.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.submit_renaming(move || {
            job();
            Left::Nothing
        });
    }

    /// Runs a job that may leave names to be synced.
    pub(super) fn submit_renaming(&self, job: impl FnOnce() -> Left + Send + 'static) {
        // A lost job drops its reply channel, which is how the one who asked learns of it.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Runs a job and gives its answer to whoever waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.submit(move || {
            let _ = reply.send(job());
        });
        answer
    }
}

fn serve(queue: &mpsc::Receiver<Job>, timing: &Timing) {
    let mut waiting: Vec<Unsynced> = Vec::new();
    let mut since = Instant::now();
    loop {
        let enough = waiting.len() >= GROUP || (!waiting.is_empty() && since.elapsed() > PATIENCE);
        let job = match waiting.is_empty() {
            true => queue.recv().ok(),
            false if enough => None,
            false => queue.try_recv().ok(),
        };
        match job {
            Some(job) => {
                if let Some(Left::Unsynced(unsynced)) = guarded(job) {
                    if waiting.is_empty() {
                        since = Instant::now();
                    }
                    waiting.push(unsynced);
                }
            }
            None if waiting.is_empty() => return,
            None => sync(std::mem::take(&mut waiting), timing),
        }
    }
}

/// Syncs every directory once, first those of new names: after a power cut a file shall have two names rather than none.
fn sync(waiting: Vec<Unsynced>, timing: &Timing) {
    let directory = |(root, path): &Name| (Arc::as_ptr(root), path.parent());
    let mut done = HashMap::new();
    let mut once = |name: &Name| {
        let synced = done.entry(directory(name)).or_insert_with(|| {
            let (root, path) = name;
            root.sync_directory_of(path).map_err(Arc::new)
        });
        synced.clone()
    };
    let (to, from): (Vec<_>, Vec<_>) = timing.of(Step::Fsync, || {
        let to = waiting.iter().map(|it| once(&it.to)).collect();
        (to, waiting.iter().map(|it| once(&it.from)).collect())
    });
    for ((unsynced, to), from) in waiting.into_iter().zip(to).zip(from) {
        guarded(move || (unsynced.then)(Synced { to, from }));
    }
}

/// A job that panics loses its own answer, not those of the files behind it.
fn guarded<T>(job: impl FnOnce() -> T) -> Option<T> {
    let done = std::panic::catch_unwind(AssertUnwindSafe(job));
    if done.is_err() {
        tracing::error!("a step of filing panicked; its file is looked after at the next start");
    }
    done.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(root: &Arc<Root>, path: &str) -> Name {
        (Arc::clone(root), RelPath::new(path).unwrap())
    }

    /// Two directories in a scratch directory, one that is not there, and a share's thread.
    fn scene() -> (tempfile::TempDir, Arc<Root>, Share) {
        let scratch = tempfile::tempdir().unwrap();
        for made in ["from", "to"] {
            std::fs::create_dir(scratch.path().join(made)).unwrap();
        }
        let root = Arc::new(Root::open(scratch.path()).unwrap());
        (
            scratch,
            root,
            Share::start("test", Timing::default()).unwrap(),
        )
    }

    #[test]
    fn what_was_renamed_goes_on_when_its_directories_are_synced_also_when_the_share_ends() {
        let (_scratch, root, share) = scene();
        let (told, ends) = mpsc::channel();
        for number in 0..3 * GROUP {
            let (told, root) = (told.clone(), Arc::clone(&root));
            share.submit_renaming(move || {
                Left::Unsynced(Unsynced {
                    to: name(&root, &format!("to/{number}")),
                    from: name(&root, &format!("from/{number}")),
                    then: Box::new(move |synced| {
                        let _ = told.send((number, synced.to.is_ok() && synced.from.is_ok()));
                    }),
                })
            });
        }
        drop((share, told));
        let ends: Vec<_> = ends.iter().collect();
        assert_eq!(
            ends,
            (0..3 * GROUP)
                .map(|number| (number, true))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_directory_that_cannot_be_synced_and_a_step_that_panics_are_nobody_elses_trouble() {
        let (_scratch, root, share) = scene();
        let (told, ends) = mpsc::channel();
        for (number, to) in ["to/a", "gone/b", "to/c", "gone/d"].into_iter().enumerate() {
            let (told, root) = (told.clone(), Arc::clone(&root));
            share.submit_renaming(move || {
                Left::Unsynced(Unsynced {
                    to: name(&root, to),
                    from: name(&root, "from/x"),
                    then: Box::new(move |synced| {
                        assert!(number != 0, "this one panics");
                        let _ = told.send((to, synced.to.is_ok(), synced.from.is_ok()));
                    }),
                })
            });
        }
        drop((share, told));
        let ends: Vec<_> = ends.iter().collect();
        assert_eq!(
            ends,
            [
                ("gone/b", false, true),
                ("to/c", true, true),
                ("gone/d", false, true)
            ]
        );
    }
}
