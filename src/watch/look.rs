//! Opening a candidate and looking at it: on helper threads, so that a slow header pass holds up neither scan nor events.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Inspect;
use crate::domain::RelPath;
use crate::domain::settle::{Look, Sight};
use crate::root::{Root, ctime_ns, fingerprint};
use crate::sys::lease;

/// How many threads look at files of one drop directory.
pub const LOOKERS: usize = 2;

/// What is to be looked at.
pub struct Request {
    /// The candidate.
    pub id: u64,
    /// Its root.
    pub root: Arc<Root>,
    /// Its path.
    pub path: RelPath,
    /// Whether its structure must be read.
    pub structure: bool,
    /// Whether leases are to be believed here.
    pub shows_writers: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// It was looked at.
    Looked(Look),
    /// There is no such regular file any more.
    Gone,
    /// It may not be read.
    Denied,
    /// Another program holds a lease on it: it works on it, or keeps others off.
    Leased,
    /// It, or its share, or the decoder, failed.
    Failed(io::Error),
}

/// The threads. They end when this is dropped and what they are at is done.
pub struct Lookers {
    requests: SyncSender<Request>,
}

impl Lookers {
    /// Starts them; `answer` is called from their threads.
    pub fn start(
        name: &str,
        inspector: Arc<dyn Inspect>,
        answer: impl Fn(u64, Outcome) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, receiver) = sync_channel(2 * LOOKERS);
        let receiver = Arc::new(Mutex::new(receiver));
        for inspector in std::iter::repeat_n(inspector, LOOKERS) {
            let (receiver, answer) = (Arc::clone(&receiver), answer.clone());
            let work = move || {
                while let Some(request) = next(&receiver) {
                    // A bug in the inspector costs one look, not the thread.
                    let looked = AssertUnwindSafe(|| look(&request, inspector.as_ref()));
                    let outcome = catch_unwind(looked)
                        .unwrap_or_else(|_| Err(io::Error::other("the inspection panicked")));
                    answer(request.id, outcome.unwrap_or_else(judge));
                }
            };
            thread::Builder::new()
                .name(format!("look:{name}").chars().take(15).collect())
                .spawn(work)?;
        }
        Ok(Self { requests })
    }

    /// Hands one in; false when all are busy.
    pub fn ask(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }
}

fn next(receiver: &Mutex<Receiver<Request>>) -> Option<Request> {
    receiver
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

fn judge(error: io::Error) -> Outcome {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Outcome::Gone,
        Some(Errno::ACCESS | Errno::PERM) => Outcome::Denied,
        Some(Errno::AGAIN) => Outcome::Leased,
        _ => Outcome::Failed(error),
    }
}

/// The order matters: writers are asked about after the structure, and the file must not have changed from before to
/// after.
fn look(request: &Request, inspector: &dyn Inspect) -> io::Result<Outcome> {
    let file = match request.root.open_file(&request.path) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(Outcome::Gone),
        Err(error) => return Err(error),
    };
    let before = sight(&file)?;
    let size = before.fingerprint.size;
    let completeness = if request.structure {
        Some(inspector.completeness(&file, size)?)
    } else {
        None
    };
    let holes = has_holes(&file, size);
    let writer = if request.shows_writers {
        lease::open_for_writing(&file)
    } else {
        None
    };
    let after = sight(&file)?;
    Ok(Outcome::Looked(Look {
        before,
        after,
        writer,
        holes,
        completeness,
    }))
}

fn sight(file: impl AsFd) -> io::Result<Sight> {
    Ok(sight_of(&rustix::fs::fstat(file)?))
}

/// What `stat` told, as far as settling is concerned.
pub fn sight_of(stat: &rustix::fs::Stat) -> Sight {
    Sight {
        fingerprint: fingerprint(stat),
        ctime_ns: ctime_ns(stat),
    }
}

/// Whether parts of the file have never been written: a file made at its full length that is still filling up. Where the
/// filesystem cannot tell, there are none.
fn has_holes(file: &File, size: u64) -> bool {
    let first = rustix::fs::seek(file, SeekFrom::Hole(0));
    // The descriptor is used by nobody else; its position is put back for order's sake.
    let _ = rustix::fs::seek(file, SeekFrom::Start(0));
    size > 0 && first.is_ok_and(|hole| hole < size)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_made_at_its_full_length_has_holes_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create_new(dir.path().join("file")).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(has_holes(&file, 1 << 20));
        file.write_all(&vec![1; 1 << 20]).unwrap();
        assert!(!has_holes(&file, 1 << 20));
        assert!(!has_holes(
            &File::create_new(dir.path().join("empty")).unwrap(),
            0
        ));
    }
}
