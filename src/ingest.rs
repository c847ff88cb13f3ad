//! The way of one file, from settled to told: read, decode, classify, decide, plan, file.
//!
//! One call is one file; how many calls run at once is the caller's business (see [`crate::daemon`]). A file is never
//! touched before its decision is written down, and whatever goes wrong on the way leaves it where it is, to be
//! taken up again.

mod told;
mod verdict;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::config::settings::{Action, Media, WatchSettings};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Completeness, Content, Decoded, Spent};
use crate::domain::decision::decide;
use crate::domain::dossier::Timings;
use crate::domain::instance::Header;
use crate::domain::placement::{
    Filling, OTHER_FOLDER, RelPathError, RootId, Template, digest_name, review_folder,
};
use crate::domain::{Decision, Dossier, Fingerprint, Placement, Reason, RelPath};
use crate::filing::filer::{Filer, FilingError, FilingRequest, HoldReason, Outcome};
use crate::filing::record::{Digest, Fate};
use crate::filing::secrets::Secrets;
use crate::model::{Classified, Classify, Model, ModelError};
use crate::sys::writeback;
use crate::watch::{Settled, ShareKind};
use told::told;
pub use told::{Told, Took};
use verdict::{Verdict, judge};

/// What every file's way needs. Cheap to share; a reload makes a new one, files under way keep the old.
pub struct Services {
    /// The jailed decoders.
    pub pool: Arc<Pool>,
    /// The model in use, with its thresholds.
    pub model: Arc<Model>,
    /// How paths in the library are made.
    pub template: Template,
    /// Moves files and records it.
    pub filer: Filer,
    /// Makes pseudonyms.
    pub secrets: Arc<Secrets>,
}

/// One drop directory.
pub struct Drop {
    /// Its settings.
    pub settings: WatchSettings,
    /// Decide, but record and touch nothing (`sort --dry-run`).
    pub dry_run: bool,
    /// Who else is told what became of its files (`sort`).
    pub told: Option<tokio::sync::mpsc::UnboundedSender<Told>>,
}

/// How one file's way ended.
#[derive(Debug)]
pub enum Ending {
    /// It has a fate.
    Done(Box<Told>),
    /// It was taken before (copy and observe mode).
    AlreadyTaken,
    /// It changed under way, or is not complete after all: settle again.
    Changed,
    /// It is no longer there.
    Gone,
    /// It cannot be taken: shown in `status`, tried again later.
    CannotTake(String),
    /// Its share or the library's cannot be worked with now: intake stops for a while.
    Held(HoldReason),
    /// The service itself is in trouble (model, decoders, ledger): intake stops, perhaps for good.
    Failed(Trouble),
}

/// What keeps the service from working at all.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The decoders.
    #[error("no decoder could be started: {0}")]
    Decoders(String),
    /// The filer.
    #[error(transparent)]
    Filing(#[from] FilingError),
    /// A bug: a task that died.
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Takes one settled file all the way. `deciding` is let go once it is decided on and its pixels are gone.
pub async fn ingest(
    services: &Services,
    drop: &Drop,
    settled: &Settled,
    deciding: OwnedSemaphorePermit,
) -> Ending {
    match way(services, drop, settled, deciding).await {
        Ok(ending) | Err(ending) => ending,
    }
}

async fn way(
    services: &Services,
    drop: &Drop,
    settled: &Settled,
    deciding: OwnedSemaphorePermit,
) -> Result<Ending, Ending> {
    let started = Instant::now();

    // Read and decode: the descriptor that was decoded is kept until the file has been renamed.
    let (file, fingerprint, ctime_ns) = open(settled).await?;
    if fingerprint.size > drop.settings.max_size {
        let (size, most) = (fingerprint.size, drop.settings.max_size);
        let why = format!("it has {size} bytes, more than max-size allows ({most})");
        return Ok(Ending::CannotTake(why));
    }
    let moves = drop.settings.action == Action::Move && !drop.dry_run;
    let (reading, decoded) = tokio::join!(
        read(&file, moves),
        decode(services, &file, fingerprint.size)
    );
    let (reading, decoded) = (reading?, decoded?);
    if now_at(&file) != Some(fingerprint) {
        return Ok(Ending::Changed);
    }

    // Decide: from what the file is, then from what the model says.
    let mut ms = Timings {
        read: reading.ms,
        decode: millis(decoded.took),
        infer: 0.0,
    };
    let within_decode = decoded.spent;
    let judging = Instant::now();
    let mut verdict = judge(drop, settled, decoded, services)?;
    let judged = judging.elapsed();
    let mut in_model = None;
    let (decision, prediction, detail) = match verdict.decision.take() {
        Some(decision) => (decision, None, verdict.detail),
        None => match predict(services, &file, fingerprint, &mut verdict, &mut ms).await? {
            Ok(Classified { prediction, took }) => {
                in_model = Some(took);
                let decision = decide(&prediction, services.model.thresholds());
                (decision, Some(prediction), None)
            }
            Err(why) => {
                let reason = Reason::NoPrediction;
                (Decision::Review { reason }, None, Some(why))
            }
        },
    };
    std::mem::drop((verdict.radiographs, deciding));

    // Plan: where it goes.
    let planning = Instant::now();
    let dossier = Dossier {
        seen_us: settled.seen_us,
        settled_us: settled.settled_us,
        decided_us: jiff::Timestamp::now().as_microsecond(),
        instance: verdict.instance,
        prediction,
        decision,
        ms,
    };
    let action = match drop.settings.media {
        Media::Copy if settled.media && drop.settings.action == Action::Move => Action::Copy,
        _ => drop.settings.action,
    };
    let (fate, placement) = plan(
        services,
        &drop.settings.name,
        settled,
        &dossier,
        &reading.digest,
    )
    .map_err(|error| Ending::CannotTake(error.to_string()))?;
    let mut told = told(drop, fate, &dossier, detail.clone(), placement.clone());
    told.took.within_decode = within_decode;
    told.took.model = in_model;
    told.took.decide = Some(judged + planning.elapsed());

    // File, and tell.
    if !drop.dry_run {
        let handed = Instant::now();
        let request = FilingRequest {
            watch: drop.settings.name.clone(),
            root: Arc::clone(&settled.root),
            from: settled.path.clone(),
            file,
            fingerprint,
            ctime_ns,
            digest: reading.digest,
            action,
            trusted: drop.settings.trusted,
            dossier,
            placement,
            fate,
            detail,
        };
        match services
            .filer
            .file(request)
            .await
            .map_err(|error| Ending::Failed(error.into()))?
        {
            Outcome::Done { id, fate, to } => {
                told.took.file = Some(handed.elapsed());
                told.reason = match fate {
                    Fate::Duplicate => Some(Reason::Duplicate),
                    Fate::Conflict => Some(Reason::UidConflict),
                    _ => told.reason,
                };
                told.id = Some(id);
                told.fate = fate;
                told.to = to;
            }
            Outcome::AlreadyTaken => return Ok(Ending::AlreadyTaken),
            Outcome::Changed => return Ok(Ending::Changed),
            Outcome::Gone => return Ok(Ending::Gone),
            Outcome::CannotTake(why) => return Ok(Ending::CannotTake(why)),
            Outcome::Held(reason) => return Ok(Ending::Held(reason)),
        }
    }
    told.ms = millis(started.elapsed());
    Ok(Ending::Done(Box::new(told)))
}

/// Opens the file beneath its root, and makes sure that it is the one that settled.
async fn open(settled: &Settled) -> Result<(Arc<File>, Fingerprint, Option<i64>), Ending> {
    let (root, path) = (Arc::clone(&settled.root), settled.path.clone());
    let opened = blocking(move || {
        let (file, fingerprint) = root.open_file(&path)?;
        let ctime_ns = ctime_of(&file)?;
        io::Result::Ok((file, fingerprint, ctime_ns))
    })
    .await?;
    match opened {
        Ok((file, fingerprint, ctime_ns)) if fingerprint == settled.fingerprint => {
            Ok((Arc::new(file), fingerprint, ctime_ns))
        }
        Ok(_) => Err(Ending::Changed),
        Err(error) => Err(ending_of(&error)),
    }
}

/// Its time of last status change, on disks that this machine alone writes.
fn ctime_of(file: &File) -> io::Result<Option<i64>> {
    if !ShareKind::of(file)?.shows_writers() {
        return Ok(None);
    }
    Ok(Some(crate::root::ctime_ns(&rustix::fs::fstat(file)?)))
}

/// What an error on the drop directory means for the file.
fn ending_of(error: &io::Error) -> Ending {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ending::Gone,
        io::ErrorKind::PermissionDenied => Ending::CannotTake("no permission to read it".into()),
        io::ErrorKind::InvalidInput => Ending::CannotTake(error.to_string()),
        io::ErrorKind::WouldBlock => {
            Ending::CannotTake("another program holds it (a lease)".into())
        }
        _ => Ending::CannotTake(format!("it cannot be read: {error}")),
    }
}

struct Reading {
    digest: Digest,
    ms: f32,
}

/// Computes the digest over the whole file: by the parent, which trusts no child with it. A file that will be renamed must
/// be on its disk before (see [`FilingRequest`]): that begins meanwhile.
async fn read(file: &Arc<File>, moves: bool) -> Result<Reading, Ending> {
    let file = Arc::clone(file);
    let started = Instant::now();
    let digest = blocking(move || {
        if moves {
            writeback::begin(&file);
        }
        Digest::of_file(&file)
    })
    .await?;
    match digest {
        Ok(digest) => Ok(Reading {
            digest,
            ms: millis(started.elapsed()),
        }),
        Err(error) => Err(ending_of(&error)),
    }
}

/// Decodes in the jail. What is wrong with the file becomes a quarantine, what is wrong elsewhere does not.
async fn decode(services: &Services, file: &Arc<File>, size: u64) -> Result<Decoded, Ending> {
    let (pool, file, specs) = (
        Arc::clone(&services.pool),
        Arc::clone(file),
        services.model.render_specs().to_vec(),
    );
    let started = Instant::now();
    let (result, header) = blocking(move || {
        let result = pool.decode(&file, size, &specs);
        let header = match &result {
            Err(error) if worth_a_look(error) => header_of(&pool, &file, size),
            _ => Header::default(),
        };
        (result, header)
    })
    .await?;
    match result {
        Ok(decoded) => Ok(decoded),
        Err(DecodeError::Fault(fault)) => Ok(Decoded {
            inspection: crate::decode::Inspection {
                completeness: Completeness::Undetermined,
                content: Content::Damaged { header, fault },
            },
            radiographs: Vec::new(),
            reduced: false,
            took: started.elapsed(),
            spent: Spent::default(),
        }),
        Err(DecodeError::Io(error)) => Err(ending_of(&error)),
        Err(DecodeError::Unavailable(why)) => Err(Ending::Failed(Trouble::Decoders(why))),
    }
}

/// The pictures once more, from every pixel; `None` where time or memory do not suffice for that.
async fn decode_in_full(
    services: &Services,
    file: &Arc<File>,
    size: u64,
) -> Result<Option<Decoded>, Ending> {
    let (pool, file, specs) = (
        Arc::clone(&services.pool),
        Arc::clone(file),
        services.model.render_specs().to_vec(),
    );
    match blocking(move || pool.decode_in_full(&file, size, &specs)).await? {
        Ok(decoded) => Ok((!decoded.radiographs.is_empty()).then_some(decoded)),
        Err(DecodeError::Fault(_)) => Ok(None),
        Err(DecodeError::Io(error)) => Err(ending_of(&error)),
        Err(DecodeError::Unavailable(why)) => Err(Ending::Failed(Trouble::Decoders(why))),
    }
}

/// Whether a file that cannot be decoded may have a header that can be read within bounds: not if it has used up its time or
/// memory before.
fn worth_a_look(error: &DecodeError) -> bool {
    let DecodeError::Fault(fault) = error else {
        return false;
    };
    !matches!(fault.reason, Reason::DecoderTimeout | Reason::DecoderMemory)
}

/// What the header pass alone can read of a file that cannot be decoded: people look for it by its UID.
fn header_of(pool: &Pool, file: &File, size: u64) -> Header {
    match pool.inspect(file, size).map(|found| found.content) {
        Ok(
            Content::Radiograph { header }
            | Content::Other { header }
            | Content::Damaged { header, .. },
        ) => header,
        _ => Header::default(),
    }
}

/// What the model says of the pictures; where its decision hangs by a thread, of pictures from every pixel.
async fn predict(
    services: &Services,
    file: &Arc<File>,
    fingerprint: Fingerprint,
    verdict: &mut Verdict,
    ms: &mut Timings,
) -> Result<Result<Classified, String>, Ending> {
    let waiting = Instant::now();
    let answer = classify(services, verdict).await?;
    ms.infer = millis(waiting.elapsed());
    let Ok(first) = &answer else {
        return Ok(answer);
    };
    if !verdict.reduced || !services.model.thresholds().is_close_call(&first.prediction) {
        return Ok(answer);
    }
    let Some(decoded) = decode_in_full(services, file, fingerprint.size).await? else {
        return Ok(answer);
    };
    if now_at(file) != Some(fingerprint) {
        return Err(Ending::Changed);
    }
    ms.decode += millis(decoded.took);
    verdict.radiographs = decoded.radiographs;
    let waiting = Instant::now();
    let mut again = classify(services, verdict).await?;
    ms.infer += millis(waiting.elapsed());
    if let Ok(second) = &mut again {
        second.took += first.took;
    }
    Ok(again)
}

/// Asks the model; when it has no answer for this one image, says why: a person looks at it then, the others go on.
async fn classify(
    services: &Services,
    verdict: &Verdict,
) -> Result<Result<Classified, String>, Ending> {
    let description = verdict
        .instance
        .as_ref()
        .map(|instance| instance.description.clone())
        .unwrap_or_default();
    let classifier = services.model.classifier();
    match classifier
        .classify(&description, verdict.radiographs.clone())
        .await
    {
        Ok(classified) => Ok(Ok(classified)),
        Err(error) if error.is_about_one_image() => Ok(Err(error.to_string())),
        Err(error) => Err(Ending::Failed(error.into())),
    }
}

/// Where a file goes: the library by the template, review and others by reason, the quarantine by digest.
fn plan(
    services: &Services,
    watch: &str,
    settled: &Settled,
    dossier: &Dossier,
    digest: &Digest,
) -> Result<(Fate, Placement), RelPathError> {
    let library = |path: String| {
        RelPath::new(path).map(|path| Placement {
            root: RootId::Library,
            path,
        })
    };
    let uid = dossier
        .instance
        .as_ref()
        .map(|instance| instance.sop_instance_uid.as_str());
    let name = || match uid {
        Some(uid) => format!("{uid}.dcm"),
        None => digest_name("unnamed", &digest.0, ".dcm"),
    };
    Ok(match (&dossier.decision, &dossier.instance) {
        (Decision::File { category }, Some(instance)) => {
            let filling = Filling {
                category_folder: services.model.folder(category),
                view: dossier
                    .prediction
                    .as_ref()
                    .and_then(|p| p.view)
                    .map_or("", crate::domain::View::as_str),
                instance,
                watch,
            };
            let path = services.template.fill(&filling);
            (
                Fate::Filed,
                Placement {
                    root: RootId::Library,
                    path,
                },
            )
        }
        (Decision::Review { reason }, _) => (
            Fate::Review,
            library(format!("{}/{}", review_folder(*reason), name()))?,
        ),
        (Decision::Other { .. }, _) => {
            (Fate::Other, library(format!("{OTHER_FOLDER}/{}", name()))?)
        }
        (Decision::Leave { .. }, _) => (
            Fate::Left,
            Placement {
                root: RootId::Watch(watch.to_owned()),
                path: settled.path.clone(),
            },
        ),
        // A category without an instance cannot happen; it would be a file without a name, so: quarantine.
        (Decision::Quarantine { .. } | Decision::File { .. }, _) => {
            let reason = dossier.decision.reason().unwrap_or(Reason::Malformed);
            let name = digest_name(uid.unwrap_or("unnamed"), &digest.0, ".dcm");
            let path = RelPath::new(format!("{}/{name}", reason.code()))?;
            (
                Fate::Quarantined,
                Placement {
                    root: RootId::Quarantine,
                    path,
                },
            )
        }
    })
}

/// The file's fingerprint now, by its descriptor.
fn now_at(file: &File) -> Option<Fingerprint> {
    rustix::fs::fstat(file)
        .ok()
        .map(|stat| crate::root::fingerprint(&stat))
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Ending> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| Ending::Failed(error.into()))
}

fn millis(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1e3
}
