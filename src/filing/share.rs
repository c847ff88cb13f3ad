//! The one thread that touches a root's files for filing. A share that hangs holds up its own thread and nobody else.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs jobs one after the other. It ends when every handle is gone and its jobs are done.
#[derive(Clone, Debug)]
pub struct Share {
    jobs: mpsc::Sender<Job>,
}

impl Share {
    /// Starts the thread of a root; `name` shows in `top -H`.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name(format!("share {name}"))
            .spawn(move || {
                for job in queue {
                    // A job that panics loses its own answer, not those of the files behind it.
                    if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!(
                            "a step of filing panicked; its file is looked after at the next start"
                        );
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs a job after those before it.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
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
