//! After the Intent: the file goes where it is to go, by a rename or by a verified copy, and nothing is ever replaced.
//!
//! Whatever goes wrong, the source is back in its place ([`Carried::Back`]) or it is known that it may not be
//! ([`Carried::Stuck`], the Intent stays open for recovery). Runs on the drop directory's thread.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::destinations::Roots;
use super::ledger::random_hex;
use super::names;
use super::prepare::Way;
use super::record::{Digest, Fate, Intent, RecordId};
use super::request::{HoldReason, Outcome, is_offline};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Fingerprint, RelPath};
use crate::root::{Removed, Root, fingerprint, may_have_two_names, same_inode};
use crate::sys::lease;
use crate::watch::ShareKind;

/// How carrying out an Intent ended.
#[derive(Debug)]
pub(super) enum Carried {
    /// The file (or its copy) is at this path below its target's root, synced.
    Done(RelPath),
    /// It is there by a rename, which a power cut could still take back: both directories are to be synced first.
    Renamed(RelPath),
    /// Not done; the source is in the drop directory, to be found by the next scan.
    Back(Outcome),
    /// Not done, and perhaps not undone either.
    Stuck(Outcome),
}

/// One file on its way.
pub(super) struct Job<'a> {
    pub intent: &'a Intent,
    pub source: &'a Root,
    pub file: &'a File,
    pub roots: &'a Roots,
    pub way: Way,
}

/// Carries out an Intent. The directories of a file that was renamed are left to be synced together with those of others.
pub(super) fn carry_out(job: &Job<'_>) -> Carried {
    match job.go() {
        Ok((path, true)) => Carried::Done(path),
        Ok((path, false)) => Carried::Renamed(path),
        Err(carried) => carried,
    }
}

fn synced(path: RelPath) -> (RelPath, bool) {
    (path, true)
}

fn back(outcome: Outcome) -> Carried {
    Carried::Back(outcome)
}

impl Job<'_> {
    /// Where it lies now, and whether that would outlive a power cut.
    fn go(&self) -> Result<(RelPath, bool), Carried> {
        let to = &self.intent.to;
        let target = self.target()?;
        if let Some(parent) = to.path.parent() {
            let made = target.make_directories(&parent, self.roots.directory_mode);
            made.map_err(|error| back(self.held(&error)))?;
        }
        if self.intent.fate == Fate::Quarantined {
            let written = write_reason(target, &to.path, self.intent, self.roots.file_mode);
            written.map_err(|error| back(self.held(&error)))?;
        }
        let moved = match (self.intent.action, self.way) {
            (Action::Move, Way::Rename { set_mode }) => match self.rename(target, set_mode) {
                Ok(None) => self.claim_and_copy(target).map(synced),
                Ok(Some(path)) => Ok((path, false)),
                Err(carried) => Err(carried),
            },
            (Action::Move, Way::Copy) => self.claim_and_copy(target).map(synced),
            (Action::Copy, _) => self.copy(target).map(synced),
            (Action::Observe, _) => Err(back(Outcome::Held(
                self.trouble("an observed file is not carried"),
            ))),
        };
        let (path, synced) = match moved {
            Ok(moved) => moved,
            Err(carried) => {
                if self.intent.fate == Fate::Quarantined && matches!(carried, Carried::Back(_)) {
                    remove_reason(target, &to.path);
                }
                return Err(carried);
            }
        };
        if self.intent.fate == Fate::Quarantined && path != to.path {
            remove_reason(target, &to.path);
            let written = write_reason(target, &path, self.intent, self.roots.file_mode);
            written.map_err(|error| Carried::Stuck(self.held(&error)))?;
        }
        Ok((path, synced))
    }

    fn target(&self) -> Result<&Root, Carried> {
        let root = self.roots.get(&self.intent.to.root).map(AsRef::as_ref);
        root.ok_or_else(|| back(Outcome::Held(self.trouble("it is no destination"))))
    }

    fn trouble(&self, what: &str) -> HoldReason {
        HoldReason::Trouble(self.intent.to.root.clone(), what.to_owned())
    }

    /// What an error on the target's side means.
    fn held(&self, error: &io::Error) -> Outcome {
        Outcome::Held(HoldReason::of(&self.intent.to.root, error))
    }

    /// What an error on the source's side means.
    fn source_held(&self, error: &io::Error) -> Outcome {
        Outcome::Held(HoldReason::of(
            &RootId::Watch(self.intent.watch.clone()),
            error,
        ))
    }

    /// Renames. `None`: it has to be copied, nothing was changed.
    fn rename(&self, target: &Root, mode: Option<u32>) -> Result<Option<RelPath>, Carried> {
        let from = &self.intent.from;
        match self.source.stat_if_there(from) {
            Ok(Some(stat)) if fingerprint(&stat) == self.intent.fingerprint => {}
            Ok(Some(_)) => return Err(back(Outcome::Changed)),
            Ok(None) => return Err(back(Outcome::Gone)),
            Err(error) => return Err(back(self.source_held(&error))),
        }
        fail::fail_point!("before-rename");
        let landed = match self.land(self.source, from, target) {
            Ok(path) => path,
            Err(error) => match error.kind() {
                io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported => return Ok(None),
                io::ErrorKind::NotFound => return Err(back(self.gone())),
                io::ErrorKind::PermissionDenied
                    if target.may_change_names_beside(&self.intent.to.path).is_ok() =>
                {
                    return Err(back(Outcome::CannotTake(
                        "the system does not let it be moved".into(),
                    )));
                }
                _ if is_offline(&error) || may_have_two_names(&error) => {
                    return Err(Carried::Stuck(self.held(&error)));
                }
                _ => return Err(back(self.held(&error))),
            },
        };
        fail::fail_point!("after-rename");
        // Between the look above and the rename another file can have taken its name, its writer gone on, or somebody
        // opened it or given it a second name, who could go on. From here on nobody finds it under its old name.
        let there = target
            .stat(&landed)
            .map_err(|error| Carried::Stuck(self.held(&error)))?;
        if !self.is_kept_file(&there)
            || there.st_nlink > 1
            || has_writer(self.file)
            || !self.unchanged()
        {
            return Err(self.put_back(target, &landed, Outcome::Changed));
        }
        if let Some(mode) = mode
            && let Err(error) = rustix::fs::fchmod(self.file, Mode::from_raw_mode(mode))
        {
            tracing::warn!(id = %self.intent.id, %error, "a filed file keeps its permission bits");
        }
        fail::fail_point!("before-sync");
        Ok(Some(landed))
    }

    /// Copies what a claim keeps from everyone else's hands, then removes the claim.
    fn claim_and_copy(&self, target: &Root) -> Result<RelPath, Carried> {
        let from = &self.intent.from;
        let Some(claim) = &self.intent.claim else {
            return Err(back(Outcome::CannotTake(
                "its path is too long for a hidden name beside it".into(),
            )));
        };
        fail::fail_point!("before-claim");
        if let Err(error) = self.source.rename_noreplace(from, self.source, claim) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => back(self.gone()),
                // Whoever may write there can guess the name; that must not hold up other files.
                io::ErrorKind::AlreadyExists => back(Outcome::CannotTake(
                    "its hidden name is taken by another file".into(),
                )),
                io::ErrorKind::PermissionDenied => {
                    back(Outcome::CannotTake("the system does not let it be moved".into()))
                }
                io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices => back(Outcome::CannotTake(
                    "its filesystem offers neither renaming without replacing nor links (set action = \"copy\")".into(),
                )),
                _ if is_offline(&error) || may_have_two_names(&error) => {
                    Carried::Stuck(self.source_held(&error))
                }
                _ => back(self.source_held(&error)),
            });
        }
        fail::fail_point!("after-claim");
        let there = self
            .source
            .stat(claim)
            .map_err(|error| Carried::Stuck(self.source_held(&error)))?;
        if !self.is_kept_file(&there) || has_writer(self.file) || !self.unchanged() {
            return Err(self.put_back(self.source, claim, Outcome::Changed));
        }
        // The copy must not outlive a claim that a power cut takes back: recovery could not tell whose it is.
        if let Err(error) = self.source.sync_directory_of(from) {
            return Err(self.put_back(self.source, claim, self.source_held(&error)));
        }
        let landed = match self.copy(target) {
            Ok(path) => path,
            Err(Carried::Back(outcome)) => return Err(self.put_back(self.source, claim, outcome)),
            Err(other) => return Err(other),
        };
        // A writer that still had it open has written on: what was copied is no longer what it is.
        if !self.unchanged() {
            return Err(self.take_back_copy(target, &landed, claim, Outcome::Changed));
        }
        fail::fail_point!("before-unclaim");
        let held = |error: &io::Error| Carried::Stuck(self.source_held(error));
        let Some(removed) = self.remove_claim(claim).map_err(|error| held(&error))? else {
            // Whose folder it is has made it sticky meanwhile. That is between him and his file.
            let why = "its directory does not let it be removed any more";
            let outcome = Outcome::CannotTake(why.into());
            return Err(self.take_back_copy(target, &landed, claim, outcome));
        };
        let removed_here = match removed {
            Removed::Now => true,
            Removed::Before => false,
            Removed::Not => {
                let there = self.source.stat_if_there(claim);
                match there.map_err(|error| held(&error))? {
                    Some(there) if self.is_kept_file(&there) => {
                        return Err(self.take_back_copy(target, &landed, claim, Outcome::Changed));
                    }
                    // Somebody has put another file there.
                    Some(_) => drop(self.put_back(self.source, claim, Outcome::Changed)),
                    None => {}
                }
                false
            }
        };
        if !removed_here && !self.has_no_name() {
            return Err(self.folder_moved());
        }
        fail::fail_point!("after-unclaim");
        self.sync_source();
        Ok(landed)
    }

    /// Removes the claim's name. `None`: its directory is sticky, or was a moment ago.
    fn remove_claim(&self, claim: &RelPath) -> io::Result<Option<Removed>> {
        const TRIES: usize = 10;
        let remove = || self.source.unlink_file(claim, &self.intent.fingerprint);
        let mut removed = remove();
        for _ in 0..TRIES {
            match removed {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    if self.source.is_sticky_beside(claim) {
                        return Ok(None);
                    }
                    removed = remove();
                }
                other => return other.map(Some),
            }
        }
        removed.map(Some)
    }

    /// Removes a copy that is not to stay, and puts the file back.
    fn take_back_copy(
        &self,
        target: &Root,
        landed: &RelPath,
        claim: &RelPath,
        outcome: Outcome,
    ) -> Carried {
        match target.unlink(landed) {
            Ok(()) => self.put_back(self.source, claim, outcome),
            Err(error) => Carried::Stuck(self.held(&error)),
        }
    }

    /// Copies through the kept descriptor to a hidden name, checks what was written, and gives it its name.
    fn copy(&self, target: &Root) -> Result<RelPath, Carried> {
        let part = names::part(&self.intent.to.path, &self.intent.id)
            .map_err(|_| back(Outcome::Held(self.trouble("the path is too long"))))?;
        let spec = CopySpec {
            digest: &self.intent.digest,
            fingerprint: &self.intent.fingerprint,
            mode: self.roots.file_mode,
        };
        let written = write_copy(self.file, target, &part, &spec);
        fail::fail_point!("after-part");
        let landed = written.map_err(|fault| match fault {
            CopyFault::Changed => Outcome::Changed,
            CopyFault::Source(error) => self.source_held(&error),
            CopyFault::Target(error) => self.held(&error),
        });
        let landed = match landed {
            Ok(()) if self.unchanged() => match self.land(target, &part, target) {
                Err(error) if may_have_two_names(&error) => {
                    return Err(Carried::Stuck(self.held(&error)));
                }
                landed => landed.map_err(|error| self.held(&error)),
            },
            Ok(()) => Err(Outcome::Changed),
            Err(outcome) => Err(outcome),
        };
        let landed = match landed {
            Ok(landed) => landed,
            Err(outcome) => {
                if let Err(error) = target.unlink(&part) {
                    tracing::warn!(id = %self.intent.id, %error, "an unfinished copy stays until the next start");
                }
                return Err(back(outcome));
            }
        };
        fail::fail_point!("after-landing");
        fail::fail_point!("before-sync");
        target
            .sync_directory_of(&landed)
            .map_err(|error| Carried::Stuck(self.held(&error)))?;
        Ok(landed)
    }

    /// Renames to the target's name, or to its alternative if someone was faster. `Unsupported` for a copy means that
    /// the library's filesystem cannot be used at all.
    fn land(&self, root: &Root, from: &RelPath, target: &Root) -> io::Result<RelPath> {
        let to = &self.intent.to.path;
        match root.rename_noreplace(from, target, to) {
            Ok(()) => Ok(to.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let other = names::alternative(to, &self.intent.digest, &self.intent.id)
                    .map_err(io::Error::other)?;
                root.rename_noreplace(from, target, &other)?;
                Ok(other)
            }
            Err(error) => Err(error),
        }
    }

    fn is_kept_file(&self, there: &Stat) -> bool {
        let fingerprint = &self.intent.fingerprint;
        there.st_dev == fingerprint.dev && there.st_ino == fingerprint.ino
    }

    /// A folder was moved while a file in it was claimed: recovery looks for the file.
    fn folder_moved(&self) -> Carried {
        let what = "a folder was moved while a file in it was copied".to_owned();
        let watch = RootId::Watch(self.intent.watch.clone());
        Carried::Stuck(Outcome::Held(HoldReason::Trouble(watch, what)))
    }

    /// Whether the file surely has no name left. Where its folder has been moved FUSE may not even tell.
    fn has_no_name(&self) -> bool {
        rustix::fs::fstat(self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The system says that something is not there: the file, or the directory that it was to go to?
    fn gone(&self) -> Outcome {
        match self.source.stat_if_there(&self.intent.from) {
            Ok(Some(_)) => Outcome::Changed,
            Ok(None) => Outcome::Gone,
            Err(error) => self.source_held(&error),
        }
    }

    fn unchanged(&self) -> bool {
        rustix::fs::fstat(self.file).is_ok_and(|stat| fingerprint(&stat) == self.intent.fingerprint)
    }

    fn put_back(&self, root: &Root, at: &RelPath, outcome: Outcome) -> Carried {
        match put_back(root, at, self.source, self.intent) {
            Ok(()) => Carried::Back(outcome),
            Err(error) => {
                tracing::error!(id = %self.intent.id, %error, "a file could not be put back; recovery tries again");
                Carried::Stuck(outcome)
            }
        }
    }

    /// After a power cut a source that was not synced away is found again, so a failure here costs a duplicate at most.
    fn sync_source(&self) {
        if let Err(error) = self.source.sync_directory_of(&self.intent.from) {
            tracing::warn!(%error, "the drop directory cannot be synced");
        }
    }
}

/// Whether someone has a file open for writing, where that can be seen.
pub(super) fn has_writer(file: &File) -> bool {
    ShareKind::of(file).is_ok_and(ShareKind::shows_writers)
        && lease::open_for_writing(file) == Some(true)
}

/// Puts a file back to where it came from, or beside that when its name has been taken in the meantime, or to the top of
/// the drop directory when its folder has gone.
pub(super) fn put_back(
    root: &Root,
    at: &RelPath,
    source: &Root,
    intent: &Intent,
) -> io::Result<()> {
    let (mut place, mut home) = (intent.from.clone(), intent.from.clone());
    let mut mark = intent.id.clone();
    loop {
        let error = match root.rename_noreplace(at, source, &home) {
            Ok(()) => return source.sync_directory_of(&home),
            Err(error) => error,
        };
        let no_folder = matches!(
            Errno::from_io_error(&error),
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
        );
        if error.kind() == io::ErrorKind::AlreadyExists {
            if is_one_file(root, at, source, &home)? {
                root.unlink(at)?;
                return source.sync_directory_of(&home);
            }
            home = names::returned(&place, &mark).map_err(io::Error::other)?;
            // Whoever may write there can guess that name; the ones after it nobody can.
            let random = random_hex::<4>(source.path()).map_err(io::Error::other)?;
            mark = RecordId(format!("{}-{random}", intent.id));
        } else if no_folder && place.parent().is_some() && root.stat_if_there(at)?.is_some() {
            place = RelPath::new(place.file_name()).map_err(io::Error::other)?;
            home = place.clone();
        } else {
            return Err(error);
        }
    }
}

/// Whether two paths are names of the same file.
fn is_one_file(root: &Root, at: &RelPath, other: &Root, to: &RelPath) -> io::Result<bool> {
    let (one, other) = (root.stat_if_there(at)?, other.stat_if_there(to)?);
    Ok(one
        .zip(other)
        .is_some_and(|(one, other)| same_inode(&one, &other)))
}

/// What a copy must turn out to be.
pub(super) struct CopySpec<'a> {
    pub digest: &'a Digest,
    pub fingerprint: &'a Fingerprint,
    pub mode: u32,
}

/// Why a copy was not made.
#[derive(Debug)]
pub(super) enum CopyFault {
    /// The source does not have the expected bytes.
    Changed,
    /// Reading failed.
    Source(io::Error),
    /// Writing failed, or what was written reads otherwise.
    Target(io::Error),
}

/// Writes a copy to `part`, synced, and reads it again: the digest counts for what is on disk. The copy keeps the
/// source's time of modification.
pub(super) fn write_copy(
    from: &File,
    root: &Root,
    part: &RelPath,
    spec: &CopySpec<'_>,
) -> Result<(), CopyFault> {
    root.unlink(part).map_err(CopyFault::Target)?;
    let mut copy = root.create_new(part, 0o600).map_err(CopyFault::Target)?;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
    loop {
        let count = match from.read_at(&mut buffer, offset) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyFault::Source(error)),
        };
        hasher.update(&buffer[..count]);
        copy.write_all(&buffer[..count])
            .map_err(CopyFault::Target)?;
        offset += count as u64;
        fail::fail_point!("within-copy");
        if offset > spec.fingerprint.size {
            return Err(CopyFault::Changed);
        }
    }
    if Digest::from(hasher.finalize()) != *spec.digest {
        return Err(CopyFault::Changed);
    }
    let finish = || -> io::Result<()> {
        rustix::fs::fchmod(&copy, Mode::from_raw_mode(spec.mode))?;
        let nanoseconds = spec.fingerprint.mtime_ns;
        let time = Timespec {
            tv_sec: nanoseconds.div_euclid(1_000_000_000),
            tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
        };
        // Not every filesystem lets the time be set; it is a courtesy.
        let _ = rustix::fs::futimens(
            &copy,
            &Timestamps {
                last_access: time,
                last_modification: time,
            },
        );
        copy.sync_all()?;
        // Read from the disk, not from memory, where the kernel follows the advice.
        let _ = rustix::fs::fadvise(&copy, 0, None::<NonZeroU64>, Advice::DontNeed);
        if Digest::of_file(&copy)? == *spec.digest {
            Ok(())
        } else {
            Err(io::Error::other(
                "what was written reads otherwise: the disk is not to be trusted",
            ))
        }
    };
    finish().map_err(CopyFault::Target)
}

/// Writes why a file is in the quarantine beside it. No path and nothing from the header: it may be read by others.
pub(super) fn write_reason(
    root: &Root,
    target: &RelPath,
    intent: &Intent,
    mode: u32,
) -> io::Result<()> {
    let path = names::reason(target).map_err(io::Error::other)?;
    let reason = intent.dossier.decision.reason();
    let when = jiff::Timestamp::from_microsecond(intent.dossier.decided_us).unwrap_or_default();
    let text = format!(
        "reason:  {}\nmeaning: {}\ndetail:  {}\nwatch:   {}\ntime:    {when}\nblake3:  {}\nrecord:  {}\n\n\
         To give the file back: radsort quarantine release {}\n",
        reason.map_or("unknown", crate::domain::Reason::code),
        reason.map_or("", crate::domain::Reason::explanation),
        intent.detail.as_deref().unwrap_or("-"),
        intent.watch,
        intent.digest.0,
        intent.id,
        intent.id,
    );
    root.unlink(&path)?;
    let mut file = root.create_new(&path, mode)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes the reason of a file that is not in the quarantine (any more).
pub(super) fn remove_reason(root: &Root, target: &RelPath) {
    if let Ok(path) = names::reason(target)
        && let Err(error) = root.unlink(&path)
    {
        tracing::debug!(%error, "a reason file stays");
    }
}
