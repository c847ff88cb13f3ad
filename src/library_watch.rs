//! Looks at the library from time to time, and records what people have done there: moved, put in, taken away.
//!
//! A look first walks the folders and then, while nobody moves filed files at a person's request, compares what seems to
//! differ with the records once more. What the differences mean is decided in
//! [`domain::correction`](crate::domain::correction). Nothing in the library is ever changed here.

mod compare;
mod ids;
mod suspects;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::control::protocol::Looked;
use crate::decode::Content;
use crate::decode::pool::Pool;
use crate::domain::{Fingerprint, Instance, correction};
use crate::engine::Engine;
use crate::filing::filer::{FilingError, HoldReason};
use crate::filing::quarantine;
use crate::filing::record::{Digest, Label, Record, RecordId};
use crate::filing::secrets::Secrets;
use crate::judgement::Desk;
use crate::sys::heap;
use crate::telemetry::Event;

use compare::{Adoption, Change, Findings};
use ids::Ids;
use walk::Stopped;

/// The least time between two looks: people who sort by hand see their work recorded within minutes, and a library of
/// some hundred thousand files costs little.
const EVERY: Duration = Duration::from_mins(5);

/// How many times longer than a look itself the pause after it is: a huge or slow library is not looked at all day.
const REST: u32 = 20;

/// Of how many files at least is recorded at once what has changed: each takes 64 KB in memory while the index is told, and
/// people rename folders of a hundred thousand.
const AT_ONCE: usize = 500;
const _: () = assert!(AT_ONCE > correction::MANY);

/// Why the library could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It is not there, or not in order.
    #[error("the library was not looked at: {0}")]
    Held(HoldReason),
    /// A folder could not be read. Nothing was recorded.
    #[error("the library could not be looked at as a whole: {0}")]
    Io(#[from] std::io::Error),
    /// The index.
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
    /// The ledger.
    #[error(transparent)]
    Filing(#[from] FilingError),
    /// What was given back and still is here could not be looked at.
    #[error("what is being given back could not be looked at: {0:#}")]
    Undo(anyhow::Error),
    /// The service is stopping.
    #[error("the look was given up, because the service is stopping")]
    Stopped,
    /// A bug: a task that died.
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<HoldReason> for LookError {
    fn from(reason: HoldReason) -> Self {
        Self::Held(reason)
    }
}

impl From<Stopped> for LookError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Asked => Self::Stopped,
            Stopped::Io(error) => Self::Io(error),
        }
    }
}

/// What is remembered from one look to the next; a restart forgets it, and what needs two looks takes longer then.
#[derive(Debug, Default)]
pub struct LibraryWatch {
    memory: tokio::sync::Mutex<Memory>,
}

/// What the look before this one has found.
#[derive(Debug, Default)]
struct Memory {
    /// When it began, microseconds since the Unix epoch; 0: there was none.
    began_us: i64,
    /// Files that nobody knows: as they were, and their digests as far as they were needed.
    strangers: HashMap<Fingerprint, Option<Digest>>,
    /// Files that were nowhere.
    absent: Ids,
}

/// Reads headers of files that people have put into the library.
pub struct Headers {
    /// The jailed decoders.
    pub pool: Arc<Pool>,
    /// Makes pseudonyms.
    pub secrets: Arc<Secrets>,
}

impl Headers {
    fn read(&self, file: &std::fs::File, size: u64) -> Option<Instance> {
        match self.pool.inspect(file, size).ok()?.content {
            Content::Radiograph { header }
            | Content::Other { header }
            | Content::Damaged { header, .. } => {
                Instance::from_header(&header, |patient, issuer| {
                    self.secrets.pseudonym(patient, issuer)
                })
                .ok()
            }
            _ => None,
        }
    }
}

impl LibraryWatch {
    /// One look. What it finds is on record when it returns. Without `headers` nothing is adopted.
    pub async fn look(
        &self,
        desk: &Desk,
        headers: Option<Headers>,
        stop: &CancellationToken,
    ) -> Result<Looked, LookError> {
        let mut memory = self.memory.lock().await;
        let (walking, stopping) = (desk.clone(), stop.clone());
        let walked = tokio::task::spawn_blocking(move || walk::walk(&walking, &stopping)).await??;
        let _alone = desk.filer.by_hand().await;
        let (comparing, before) = (desk.clone(), std::mem::take(&mut *memory));
        let findings = tokio::task::spawn_blocking(move || {
            compare::compare(&comparing, walked, &before, headers.as_ref())
        })
        .await??;
        let Findings {
            looked,
            mut changes,
            adoptions,
            given_back,
            missing,
            left_quarantine,
            memory: remembered,
        } = findings;
        for entry in given_back {
            let (id, to) = (entry.id.clone(), entry.at.clone());
            if !desk.finish_undoing(entry).await.map_err(LookError::Undo)? {
                changes.push(vec![Record::Moved { id, to }]);
            }
        }
        let ids = desk.filer.next_ids(adoptions.len()).await?;
        changes.extend(ids.into_iter().zip(adoptions).map(adopt));
        let missing = missing.into_iter().map(|id| vec![Record::Missing { id }]);
        for piece in pieces(changes).chain(pieces(missing.collect())) {
            desk.filer.append(piece).await??;
        }
        let destinations = Arc::clone(desk.filer.destinations());
        let tidied = move || quarantine::remove_reasons(&destinations, &left_quarantine);
        tokio::task::spawn_blocking(tidied).await?;
        *memory = remembered;
        // The lists of a large library are large.
        tokio::task::spawn_blocking(heap::give_back);
        Ok(looked)
    }
}

/// Records in pieces, each of [`AT_ONCE`] files or more if there are so many: were the service killed between two of them, the
/// next look would still see that many were moved at once, and their labels wait.
fn pieces(changes: Vec<Change>) -> impl Iterator<Item = Vec<Record>> {
    let files = changes.len();
    let pieces = (files / AT_ONCE).max(usize::from(files > 0));
    let mut left = changes.into_iter();
    (0..pieces).map(move |n| {
        let size = files * (n + 1) / pieces - files * n / pieces;
        left.by_ref().take(size).flatten().collect()
    })
}

fn adopt((id, adoption): (RecordId, Adoption)) -> Change {
    let Adoption {
        at,
        digest,
        fingerprint,
        instance,
        meant,
        by,
    } = adoption;
    let label = Label {
        id: id.clone(),
        category: meant.category,
        origin: meant.origin,
        by,
        person: None,
        note: None,
        shown: None,
        pending: meant.pending,
    };
    let adopted = Record::Adopted {
        id,
        at,
        digest,
        fingerprint: Some(fingerprint),
        instance: instance.map(Box::new),
    };
    vec![adopted, Record::Label(Box::new(label))]
}

/// A look by the running service.
pub async fn look(engine: &Engine, stop: &CancellationToken) -> Result<Looked, LookError> {
    let headers = Headers {
        pool: Arc::clone(&engine.pool),
        secrets: Arc::clone(&engine.state.secrets),
    };
    let desk = Desk::of_service(engine);
    let looked = engine
        .library_watch
        .look(&desk, Some(headers), stop)
        .await?;
    if looked.missing > 0 {
        engine.note_error(&format!(
            "{} filed files are nowhere to be found: `radsort verify` says which",
            looked.missing
        ));
    }
    let Looked {
        moved,
        labels,
        pending,
        adopted,
        missing,
        ..
    } = looked;
    if moved + adopted + missing > 0 {
        tracing::info!(
            event = %Event::LibraryChanged,
            moved,
            labels,
            pending,
            adopted,
            missing,
            "people have changed the library"
        );
    }
    Ok(looked)
}

/// Looks again and again until told to stop.
pub async fn keep_looking(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        let started = Instant::now();
        match look(&engine, &stop).await {
            Ok(_) => {}
            // Filing itself says what is wrong with the library, loudly.
            Err(error) => tracing::debug!("{error}"),
        }
        let pause = EVERY.max(started.elapsed() * REST);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(n: usize) -> Change {
        let id = RecordId(n.to_string());
        let judged = Record::Judged {
            id: id.clone(),
            accepted: false,
            by: None,
        };
        let missing = Record::Missing { id };
        vec![missing, judged]
    }

    proptest! {
        #[test]
        fn what_is_recorded_in_pieces_is_all_of_it_and_each_piece_is_many_files(files in 0..4 * AT_ONCE) {
            let changes: Vec<Change> = (0..files).map(change).collect();
            let pieces: Vec<_> = pieces(changes.clone()).collect();
            for piece in &pieces {
                let in_it = piece.len() / 2;
                prop_assert!(in_it >= AT_ONCE.min(files) && in_it < 2 * AT_ONCE);
                prop_assert_eq!(piece.len() % 2, 0);
            }
            prop_assert_eq!(pieces.concat(), changes.concat());
        }
    }
}
