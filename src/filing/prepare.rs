//! Before the Intent: is the file still the one that was decoded, may it be taken, and where exactly does it go.
//!
//! Nothing here changes anything. [`prepare`] runs on the drop directory's thread, [`check`] on the destinations'.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};

use rustix::fs::{Advice, FileType, Mode, Stat};
use rustix::io::Errno;

use super::alarms::Alarms;
use super::catalogue::Known;
use super::destinations::{Destinations, Roots, group_of_new_files, open_if_there};
use super::names;
use super::record::{Digest, Fate, RecordId};
use super::request::{FilingRequest, HoldReason, Outcome};
use super::timing::{Step, Timing};
use crate::config::settings::Action;
use crate::domain::placement::{RootId, digest_name, review_folder};
use crate::domain::{Placement, Reason, RelPath};
use crate::root::{Root, fingerprint};
use crate::telemetry::Event;

/// Who owns the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub links: u64,
    /// An access list lets in others than the permission bits say.
    pub listed: bool,
}

/// Puts a file that is to be moved on the disk: its writer may not have, and a rename would make it look safe.
///
/// Takes the disk's time, and many can be under way at once.
pub(super) fn sync(request: &FilingRequest, timing: &Timing) -> Result<(), Outcome> {
    if request.action != Action::Move || request.fate == Fate::Left {
        return Ok(());
    }
    match timing.of(Step::Fsync, || rustix::fs::fsync(&request.file)) {
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ROFS) => Ok(()),
        Err(error) => {
            // Now memory may have bytes that the disk has not, and nothing would say so again: the next one who reads
            // it shall read what is on the disk.
            let _ = rustix::fs::fadvise(&request.file, 0, None, Advice::DontNeed);
            let watch = RootId::Watch(request.watch.clone());
            Err(Outcome::Held(HoldReason::of(&watch, &error.into())))
        }
    }
}

/// Looks at the source once more. An `Err` is the final answer.
pub(super) fn prepare(request: &FilingRequest) -> Result<Source, Outcome> {
    let root_id = RootId::Watch(request.watch.clone());
    let held = |error: &io::Error| Outcome::Held(HoldReason::of(&root_id, error));
    let kept = rustix::fs::fstat(&request.file).map_err(|error| held(&error.into()))?;
    same_as_decoded(request, &kept)?;
    if request.action == Action::Move && request.fate != Fate::Left {
        may_take(&request.root, &request.from, &kept, &root_id)?;
    }
    match request.root.stat_if_there(&request.from) {
        Ok(Some(stat)) => same_as_decoded(request, &stat)?,
        Ok(None) if request.root.is_current() => return Err(Outcome::Gone),
        Ok(None) => {
            let why = "the drop directory is no longer where it was".to_owned();
            return Err(Outcome::Held(HoldReason::Offline(root_id, why)));
        }
        Err(error) => return Err(held(&error)),
    }
    Ok(Source {
        uid: kept.st_uid,
        gid: kept.st_gid,
        mode: kept.st_mode & 0o7777,
        links: kept.st_nlink as u64,
        listed: has_access_list(&request.file),
    })
}

/// Whether a file has an access list (acl(5)). A rename would take it along, and it holds beside any permission bits.
fn has_access_list(file: &impl AsFd) -> bool {
    let mut list = [0_u8; 1024];
    matches!(
        rustix::fs::fgetxattr(file, "system.posix_acl_access", &mut list),
        Ok(1..) | Err(Errno::RANGE)
    )
}

fn same_as_decoded(request: &FilingRequest, stat: &Stat) -> Result<(), Outcome> {
    if fingerprint(stat) == request.fingerprint {
        Ok(())
    } else {
        Err(Outcome::Changed)
    }
}

/// Whether the name can be taken out of its directory: write permission, and in a sticky directory the right owner.
fn may_take(root: &Root, path: &RelPath, file: &Stat, root_id: &RootId) -> Result<(), Outcome> {
    let held = |error: &io::Error| Outcome::Held(HoldReason::of(root_id, error));
    match root.may_change_names_beside(path) {
        Ok(()) => {}
        Err(error) => {
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::ACCESS | Errno::PERM) => {
                    Outcome::CannotTake("no permission to move files out of its directory".into())
                }
                Some(Errno::NOENT) => Outcome::Gone,
                _ => held(&error),
            });
        }
    }
    if root.is_marked(path).map_err(|error| held(&error))? {
        let why = "it or its directory is marked as append-only or immutable (lsattr shows it)";
        return Err(Outcome::CannotTake(why.into()));
    }
    let directory = root.stat_directory_of(path).map_err(|error| held(&error))?;
    let me = rustix::process::geteuid().as_raw();
    let sticky = Mode::from_raw_mode(directory.st_mode).contains(Mode::SVTX);
    let any_owner = me == 0 && (*OWNERS_ARE_KNOWN || file.st_uid != NOBODY);
    if sticky && !any_owner && me != file.st_uid && me != directory.st_uid {
        return Err(Outcome::CannotTake(
            "its directory is sticky: only the file's owner may move it out (set action = \"copy\" for this watch)".into(),
        ));
    }
    Ok(())
}

/// Who owns a file whose owner is not in the user namespace.
const NOBODY: u32 = 65534;

/// Whether root here is root of all users: in a user namespace (a container without root) it may not do what others' files
/// would need.
static OWNERS_ARE_KNOWN: LazyLock<bool> = LazyLock::new(|| {
    // user_namespaces(7): from, to, how many; all of them in the first namespace.
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.map_or(true, |map| {
        map.split_whitespace().eq(["0", "0", "4294967295"])
    })
});

/// What is to be done with a file, after looking at the destinations.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub roots: Arc<Roots>,
    pub fate: Fate,
    pub to: Placement,
    pub way: Way,
}

/// How a file gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a rename; it gets these permission bits (`None`: it keeps its own).
    Rename { set_mode: Option<u32> },
    /// By a verified copy.
    Copy,
}

/// What [`check`] has to know of a request.
pub(super) struct Question {
    pub id: RecordId,
    pub action: Action,
    pub trusted: bool,
    pub fate: Fate,
    pub placement: Placement,
    pub digest: Digest,
    pub uid: Option<String>,
    pub device: u64,
    pub source: Source,
    pub known: Option<Known>,
    /// Another record may still put a file at `placement`.
    pub reserved: bool,
}

/// Looks for the recorded copy of the same instance and for a free name.
pub(super) fn check(
    destinations: &Destinations,
    question: &Question,
    alarms: &Alarms,
) -> Result<Checked, HoldReason> {
    let roots = destinations.current()?;
    let (fate, to) = settle_fate(&roots, question, alarms)?;
    if question.action == Action::Observe
        || (question.action == Action::Copy && fate == Fate::Duplicate)
    {
        return Ok(Checked {
            roots,
            fate,
            to,
            way: Way::Copy,
        });
    }
    let to = free_name(&roots, question, to)?;
    let way = way(&roots, question, &to)?;
    Ok(Checked {
        roots,
        fate,
        to,
        way,
    })
}

fn settle_fate(
    roots: &Roots,
    question: &Question,
    alarms: &Alarms,
) -> Result<(Fate, Placement), HoldReason> {
    let planned = (question.fate, question.placement.clone());
    if !matches!(question.fate, Fate::Filed | Fate::Review | Fate::Other) {
        return Ok(planned);
    }
    if let Some(known) = &question.known
        && let Some(found) = digest_at(roots, &known.placement)?
    {
        if found == question.digest {
            return duplicate(question);
        }
        if found != known.digest {
            alarms.note_altered(known.id.clone());
            tracing::error!(event = %Event::Altered, id = %known.id, "a filed file's bytes are no longer those that were filed");
        }
        return conflict(question);
    }
    // Somebody else put the same file there, or the records were lost.
    if !question.reserved
        && digest_at(roots, &question.placement)?.as_ref() == Some(&question.digest)
    {
        return duplicate(question);
    }
    Ok(planned)
}

fn duplicate(question: &Question) -> Result<(Fate, Placement), HoldReason> {
    let name = digest_name(
        question.uid.as_deref().unwrap_or(""),
        &question.digest.0,
        ".dcm",
    );
    Ok((Fate::Duplicate, placement(RootId::Duplicates, name)?))
}

fn conflict(question: &Question) -> Result<(Fate, Placement), HoldReason> {
    let name = digest_name(
        question.uid.as_deref().unwrap_or(""),
        &question.digest.0,
        ".dcm",
    );
    let path = format!("{}/{name}", review_folder(Reason::UidConflict));
    Ok((Fate::Conflict, placement(RootId::Library, path)?))
}

fn placement(root: RootId, path: String) -> Result<Placement, HoldReason> {
    match RelPath::new(path) {
        Ok(path) => Ok(Placement { root, path }),
        Err(error) => Err(HoldReason::Trouble(root, error.to_string())),
    }
}

fn root<'a>(roots: &'a Roots, id: &RootId) -> Result<&'a Root, HoldReason> {
    let missing = || HoldReason::Trouble(id.clone(), "it is no destination".into());
    roots.get(id).map(AsRef::as_ref).ok_or_else(missing)
}

/// The digest of the regular file at a place, `None` where none is.
pub(super) fn digest_at(roots: &Roots, at: &Placement) -> Result<Option<Digest>, HoldReason> {
    let held = |error: io::Error| HoldReason::of(&at.root, &error);
    let Some(root) = roots.get(&at.root) else {
        return Ok(None);
    };
    digest_of_file_at(root, &at.path).map_err(held)
}

/// The digest of the regular file at a path, `None` where none is.
pub(super) fn digest_of_file_at(root: &Root, path: &RelPath) -> io::Result<Option<Digest>> {
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !root.stat_if_there(path)?.is_some_and(|stat| is_file(&stat)) {
        return Ok(None);
    }
    match open_if_there(root, path)? {
        Some(file) => Digest::of_file(&file).map(Some),
        None => Ok(None),
    }
}

/// The target itself, or its alternative when something is there.
fn free_name(roots: &Roots, question: &Question, to: Placement) -> Result<Placement, HoldReason> {
    let held = |error: io::Error| HoldReason::of(&to.root, &error);
    let there = root(roots, &to.root)?
        .stat_if_there(&to.path)
        .map_err(held)?;
    if there.is_none() && !(question.reserved && to == question.placement) {
        return Ok(to);
    }
    let other = names::alternative(&to.path, &question.digest, &question.id);
    let path = other.map_err(|error| HoldReason::Trouble(to.root.clone(), error.to_string()))?;
    Ok(Placement {
        root: to.root,
        path,
    })
}

/// Whether the file is ours to rename: on the same filesystem, with one name only, and already owned as configured, without
/// an access list (or the watch is trusted). Everything else is copied: who owns a file can still write to it.
fn way(roots: &Roots, question: &Question, to: &Placement) -> Result<Way, HoldReason> {
    let root = root(roots, &to.root)?;
    if question.action != Action::Move
        || question.device != root.device()
        || question.source.links != 1
    {
        return Ok(Way::Copy);
    }
    if question.trusted {
        return Ok(Way::Rename { set_mode: None });
    }
    let top =
        rustix::fs::fstat(root.dir()).map_err(|error| HoldReason::of(&to.root, &error.into()))?;
    let source = question.source;
    let ours = source.uid == rustix::process::geteuid().as_raw()
        && source.gid == group_of_new_files(&top)
        && !source.listed;
    let set_mode = (source.mode != roots.file_mode).then_some(roots.file_mode);
    Ok(if ours {
        Way::Rename { set_mode }
    } else {
        Way::Copy
    })
}
