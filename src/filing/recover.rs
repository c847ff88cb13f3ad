//! After a crash: each Intent that nothing completed is finished, undone or waited for, by what lies where.
//!
//! | found                                          | then                                             |
//! |------------------------------------------------|--------------------------------------------------|
//! | a root offline, or not readable                | wait                                             |
//! | target with the digest, claim                  | verify the claim, remove it, finish              |
//! | target with the digest, source the same inode  | remove the source's name, finish                 |
//! | target with the digest, source untouched       | the target is someone else's: abandon            |
//! | target with the digest                         | finish                                           |
//! | claim                                          | put it back, abandon; the scan finds it          |
//! | target is our inode with other bytes           | its writer went on: put it back, abandon         |
//! | target and source the same inode, other bytes  | remove the target's name, abandon                |
//! | source                                         | abandon; the scan finds it                       |
//! | none, but the digest elsewhere in the library  | a person moved it: finish there                  |
//! | none, but the digest elsewhere in the drop     | a person moved it: abandon; the scan finds it    |
//! | none, but other bytes at the target            | moved in its stead: put it back, abandon         |
//! | none                                           | missing: an alarm                                |
//!
//! A file that was moved while somebody had it open, or gave it another name, is put back too: nobody could tell otherwise
//! when it is written to. A name that was being removed (`.aside`) goes, or, if another file had it by then, comes back.
//!
//! Where the target's name is taken by other bytes, its alternative (with digest and record number) is looked at too,
//! and a file that is taken anew gets a new name. Unfinished copies (`.part`) go in any case.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::fs::{FileType, Mode, Stat};

use super::carry::{has_writer, put_back, remove_reason, write_reason};
use super::catalogue::Catalogue;
use super::destinations::{Roots, open_if_there};
use super::ledger::now_us;
use super::names::{self, HIDDEN};
use super::prepare::digest_of_file_at;
use super::record::{Fate, Intent, RecordId};
use crate::config::settings::Action;
use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath};
use crate::root::{Removed, Root, aside_name, ctime_ns, fingerprint, same_inode};

/// How many names a search by digest looks at before it gives up.
const SEARCH_LIMIT: usize = 1_000_000;

/// What became of an open Intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The file is there, and the source gone.
    Finished(Placement),
    /// Nothing has happened; the file is in the drop directory.
    Abandoned(String),
    /// The file is nowhere.
    Missing,
    /// It cannot be told now.
    Wait(String),
}

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverReport {
    /// Intents that were finished.
    pub finished: u64,
    /// Intents whose files were left or put back in the drop directory.
    pub abandoned: u64,
    /// Intents whose files are nowhere to be found: an alarm.
    pub missing: u64,
    /// Intents that have to wait, each with why.
    pub waiting: Vec<String>,
}

impl RecoverReport {
    /// What a person should know of that watch.
    pub fn alarm(&self, watch: &str) -> Option<String> {
        let missing = self.missing;
        (missing > 0).then(|| format!("{watch}: {missing} files are nowhere to be found"))
    }
}

/// The claims that lie anywhere in a drop directory: looked for when they are first asked for, and once, however many Intents
/// are open.
#[derive(Debug, Default)]
pub struct Claims(OnceCell<Vec<RelPath>>);

impl Claims {
    fn of(&self, source: &Root) -> io::Result<&[RelPath]> {
        if let Some(found) = self.0.get() {
            return Ok(found);
        }
        let mut found = Vec::new();
        walk(source, usize::MAX, true, &mut |path| {
            if hidden(path, ".claim").is_some() {
                found.push(path.clone());
            }
            Ok(true)
        })?;
        Ok(self.0.get_or_init(|| found))
    }
}

/// Finishes or undoes one Intent. `source` is the root of its watch, `claims` are those that lie in it.
pub fn resolve(
    intent: &Intent,
    roots: &Roots,
    source: &Root,
    claims: &Claims,
    catalogue: &dyn Catalogue,
) -> Resolution {
    let Some(target) = roots.get(&intent.to.root) else {
        return Resolution::Wait(format!("{:?} is no destination", intent.to.root));
    };
    if !source.is_current() {
        return Resolution::Wait(format!("the watch {} is offline", intent.watch));
    }
    match (Case {
        intent,
        roots,
        target,
        source,
        claims,
        catalogue,
    })
    .resolve()
    {
        Ok(resolution) => resolution,
        Err(error) => Resolution::Wait(error.to_string()),
    }
}

struct Case<'a> {
    intent: &'a Intent,
    roots: &'a Roots,
    target: &'a Root,
    source: &'a Root,
    claims: &'a Claims,
    catalogue: &'a dyn Catalogue,
}

impl Case<'_> {
    fn resolve(&self) -> io::Result<Resolution> {
        let intent = self.intent;
        self.end_removal()?;
        let from = self.source.stat_if_there(&intent.from)?;
        let landed = self.landed()?;
        let renamed = landed
            .as_ref()
            .is_some_and(|(_, there)| there.st_ino == intent.fingerprint.ino);
        let in_place = from.as_ref().is_some_and(|from| self.untouched(from));
        let claimed = self.claimed(!in_place && !renamed)?;
        let claim = claimed.as_ref().map(|(claim, stat)| (claim, *stat));
        let resolution = match landed {
            Some((path, there)) => self.landed_at(&path, &there, claim, from.as_ref())?,
            None => self.nothing_landed(claim, from.as_ref())?,
        };
        let part = names::part(&intent.to.path, &intent.id).map_err(io::Error::other)?;
        if self.target.stat_if_there(&part)?.is_some() {
            self.target.unlink(&part)?;
        }
        if intent.fate == Fate::Quarantined
            && matches!(resolution, Resolution::Abandoned(_))
            && matches!(self.target.stat_if_there(&intent.to.path), Ok(None))
        {
            remove_reason(self.target, &intent.to.path);
        }
        Ok(resolution)
    }

    /// A name that was being removed when it was interrupted: of this file, or of another one that had come in its place.
    fn end_removal(&self) -> io::Result<()> {
        let intent = self.intent;
        let aside = aside_name(intent.fingerprint.ino);
        let aside = intent.from.with_file_name(aside.as_bytes());
        let aside = aside.map_err(io::Error::other)?;
        match self.source.stat_if_there(&aside)? {
            // It has the name that it was given instead, too.
            Some(stat) if self.has_more_names(&stat) => self.source.unlink(&aside),
            Some(_) => put_back(self.source, &aside, self.source, intent),
            None => Ok(()),
        }
    }

    /// Whether this is the file, with a name more than it had.
    fn has_more_names(&self, stat: &Stat) -> bool {
        stat.st_ino == self.intent.fingerprint.ino && stat.st_nlink > self.intent.links
    }

    /// The claimed file: in its place, or, if it must be somewhere, where its folder has been moved to.
    fn claimed(&self, somewhere: bool) -> io::Result<Option<(RelPath, Stat)>> {
        let Some(claim) = &self.intent.claim else {
            return Ok(None);
        };
        if let Some(stat) = self.source.stat_if_there(claim)? {
            return Ok(Some((claim.clone(), stat)));
        }
        if !somewhere {
            return Ok(None);
        }
        let claims = self.claims.of(self.source)?.iter();
        for path in claims.filter(|path| path.file_name() == claim.file_name()) {
            if let Some(stat) = self.source.stat_if_there(path)?
                && self.is_ours(path, &stat)?
            {
                return Ok(Some((path.clone(), stat)));
            }
        }
        Ok(None)
    }

    /// Anyone may make a claim's name: it must be the file, too. Over FUSE a file that was moved may have another number.
    fn is_ours(&self, path: &RelPath, stat: &Stat) -> io::Result<bool> {
        Ok(stat.st_ino == self.intent.fingerprint.ino
            || digest_of_file_at(self.source, path)?.as_ref() == Some(&self.intent.digest))
    }

    /// Whether a claimed file has a name in the drop directory besides: claiming it was interrupted, or its folder was moved
    /// meanwhile, where names are given by hard links. The name that was being removed then ([`Self::end_removal`]) has been
    /// moved as well, and goes.
    fn has_another_name(&self, stat: &Stat) -> io::Result<bool> {
        let mut found = false;
        let mut aside = None;
        if stat.st_nlink > self.intent.links {
            walk(self.source, usize::MAX, true, &mut |path| {
                let is_aside = hidden(path, ".aside").is_some();
                // Hidden names are not looked at by scans, and those of NFS and FUSE for open files go by themselves.
                if is_aside || !path.file_name().starts_with(b".") {
                    let there = self.source.stat_if_there(path)?;
                    if there.is_some_and(|there| same_inode(&there, stat)) {
                        found |= !is_aside;
                        aside = is_aside.then(|| path.clone()).or(aside.take());
                    }
                }
                Ok(true)
            })?;
        }
        if let Some(aside) = aside {
            self.source.unlink_file(&aside, &fingerprint(stat))?;
        }
        Ok(found)
    }

    /// A share may tell of a name from memory when its folder has been moved elsewhere: the case is looked at anew then.
    fn remove_claim(&self, claim: &RelPath, stat: &Stat) -> io::Result<()> {
        match self.source.unlink_file(claim, &fingerprint(stat))? {
            Removed::Now => Ok(()),
            Removed::Before | Removed::Not => Err(io::Error::other(
                "a claimed file was changed or moved just now",
            )),
        }
    }

    /// The target, under its name or its alternative.
    fn candidates(&self) -> io::Result<[RelPath; 2]> {
        let intent = self.intent;
        let other = names::alternative(&intent.to.path, &intent.digest, &intent.id)
            .map_err(io::Error::other)?;
        Ok([intent.to.path.clone(), other])
    }

    /// Where the bytes are, if they have landed.
    fn landed(&self) -> io::Result<Option<(RelPath, Stat)>> {
        for path in self.candidates()? {
            if let Some(stat) = self.target.stat_if_there(&path)?
                && fingerprint(&stat).size == self.intent.fingerprint.size
                && digest_of_file_at(self.target, &path)?.as_ref() == Some(&self.intent.digest)
            {
                return Ok(Some((path, stat)));
            }
        }
        Ok(None)
    }

    fn landed_at(
        &self,
        path: &RelPath,
        there: &Stat,
        claim: Option<(&RelPath, Stat)>,
        from: Option<&Stat>,
    ) -> io::Result<Resolution> {
        let intent = self.intent;
        if let Some((claim, stat)) = claim {
            // The copy must be on disk before the last other name goes.
            self.make_safe(path)?;
            let copied = same_inode(&stat, there)
                || digest_of_file_at(self.source, claim)?.as_ref() == Some(&intent.digest);
            if copied {
                self.remove_claim(claim, &stat)?;
            } else {
                put_back(self.source, claim, self.source, intent)?;
            }
        } else if let (Action::Move, Some(from)) = (intent.action, from) {
            if same_inode(from, there) {
                self.make_safe(path)?;
                // If another file has the name by now, the scan finds it.
                self.source.unlink_file(&intent.from, &fingerprint(from))?;
            } else if self.untouched(from) {
                return Ok(Resolution::Abandoned(
                    "the file was not moved; its target was taken by an equal one".into(),
                ));
            }
        }
        if claim.is_none() && intent.action == Action::Move && self.could_change(path)? {
            put_back(self.target, path, self.source, intent)?;
            return Ok(Resolution::Abandoned(
                "somebody had it open or gave it another name while it was moved; put back".into(),
            ));
        }
        self.make_safe(path)?;
        self.source.sync_directory_of(&intent.from).or_else(gone)?;
        Ok(Resolution::Finished(Placement {
            root: intent.to.root.clone(),
            path: path.clone(),
        }))
    }

    /// Whether the file itself was moved and somebody could still write to it, where that can be seen.
    fn could_change(&self, path: &RelPath) -> io::Result<bool> {
        let Some(file) = open_if_there(self.target, path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let stat = rustix::fs::fstat(&file)?;
        Ok(stat.st_ino == self.intent.fingerprint.ino && (stat.st_nlink > 1 || has_writer(&file)))
    }

    fn nothing_landed(
        &self,
        claim: Option<(&RelPath, Stat)>,
        from: Option<&Stat>,
    ) -> io::Result<Resolution> {
        let intent = self.intent;
        let abandoned = |why: &str| Ok(Resolution::Abandoned(why.to_owned()));
        if let Some((claim, stat)) = claim {
            if self.has_another_name(&stat)? {
                self.remove_claim(claim, &stat)?;
                return abandoned("it was interrupted between its old name and a hidden one");
            }
            put_back(self.source, claim, self.source, intent)?;
            return abandoned("interrupted before its copy was complete; put back");
        }
        if intent.action == Action::Copy {
            return abandoned("interrupted before its copy was complete");
        }
        for path in self.candidates()? {
            // Device numbers change with a remount.
            let Some(there) = self.target.stat_if_there(&path)?.filter(is_file) else {
                continue;
            };
            if from.is_some_and(|from| same_inode(from, &there)) {
                self.target.unlink_file(&path, &fingerprint(&there))?;
            } else if there.st_ino == intent.fingerprint.ino {
                put_back(self.target, &path, self.source, intent)?;
                return abandoned("it was written to while it was moved; put back");
            }
        }
        if from.is_some() {
            return abandoned("interrupted before it was moved");
        }
        let in_library = |path: &RelPath| Placement {
            root: RootId::Library,
            path: path.clone(),
        };
        // What another record has put there is not this file, whatever its bytes.
        let free = |path: &RelPath| {
            let taken = self.catalogue.is_on_record(&in_library(path));
            taken.map(|taken| !taken).map_err(io::Error::other)
        };
        if let Some(path) = find(&self.roots.library, intent, free)? {
            return Ok(Resolution::Finished(in_library(&path)));
        }
        if find(self.source, intent, |_| Ok(true))?.is_some() {
            return abandoned("it has another name in the drop directory now");
        }
        let top = RelPath::new(intent.from.file_name()).map_err(io::Error::other)?;
        if let Some(there) = self.source.stat_if_there(&top)?
            && there.st_ino == intent.fingerprint.ino
        {
            return abandoned("it was put back to the top of the drop directory");
        }
        // In the last moment another file had taken its name, and was moved in its stead.
        for path in self.candidates()? {
            if self
                .target
                .stat_if_there(&path)?
                .is_some_and(|there| is_file(&there))
            {
                put_back(self.target, &path, self.source, intent)?;
                return abandoned("another file had its name when it was moved; put back");
            }
        }
        // The bare mount point of a share that is not mounted says nothing about its files.
        if !self.source.is_mounted() && self.source.device() != intent.fingerprint.dev {
            return Ok(Resolution::Wait(format!(
                "{} lies on another filesystem than before: is its share mounted?",
                self.source.path().display()
            )));
        }
        Ok(Resolution::Missing)
    }

    /// Whether the source is the very file of the Intent (device numbers change with a remount).
    fn untouched(&self, from: &Stat) -> bool {
        let (now, then) = (fingerprint(from), self.intent.fingerprint);
        (now.ino, now.size, now.mtime_ns) == (then.ino, then.size, then.mtime_ns)
    }

    /// What carrying it out would have done after the file had landed.
    fn make_safe(&self, path: &RelPath) -> io::Result<()> {
        let Some(file) = open_if_there(self.target, path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Some(mode) = self.intent.set_mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        file.sync_all()?;
        if self.intent.fate == Fate::Quarantined {
            write_reason(self.target, path, self.intent, self.roots.file_mode)?;
        }
        self.target.sync_directory_of(path)
    }
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// Looks for a file by its size, then its digest, at places that may be meant.
fn find(
    root: &Root,
    intent: &Intent,
    may_be: impl Fn(&RelPath) -> io::Result<bool>,
) -> io::Result<Option<RelPath>> {
    let mut found = None;
    walk(root, SEARCH_LIMIT, false, &mut |path| {
        if found.is_none()
            && !path.file_name().starts_with(HIDDEN.as_bytes())
            && root
                .stat_if_there(path)?
                .is_some_and(|stat| fingerprint(&stat).size == intent.fingerprint.size)
            && digest_of_file_at(root, path)?.as_ref() == Some(&intent.digest)
            && may_be(path)?
        {
            found = Some(path.clone());
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Visits regular files until `visit` says `false` or the limit is reached. What vanishes meanwhile is passed over, and
/// so is, where that is enough, what may not be read.
fn walk(
    root: &Root,
    limit: usize,
    readable_is_enough: bool,
    visit: &mut dyn FnMut(&RelPath) -> io::Result<bool>,
) -> io::Result<()> {
    let mut directories = vec![None];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for entry in root.entries(directory.as_ref()) {
            let entry = match entry {
                Err(error)
                    if directory.is_some()
                        && (readable_is_enough || error.kind() == io::ErrorKind::NotFound) =>
                {
                    break;
                }
                entry => entry?,
            };
            seen += 1;
            match entry.is_dir {
                Some(true) => directories.push(Some(entry.path)),
                Some(false) if seen > limit || !visit(&entry.path)? => return Ok(()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes unfinished copies of this ledger's earlier records (numbers below `before`), however they came to stay, and gives
/// a name to what was hidden while another name of it was removed, a day ago.
pub fn sweep(root: &Root, instance: &str, before: u64) -> io::Result<u64> {
    let mut removed = 0;
    walk(root, usize::MAX, false, &mut |path| {
        let is_old = |id: &str| number_in(id, instance).is_some_and(|number| number < before);
        if hidden(path, ".part").is_some_and(is_old) {
            root.unlink(path)?;
            removed += 1;
        }
        if let Some(id) = hidden(path, ".aside")
            && root
                .stat_if_there(path)?
                .is_some_and(|stat| is_forgotten(&stat))
        {
            make_visible(root, path, id)?;
        }
        Ok(true)
    })?;
    Ok(removed)
}

/// What [`tidy`] must know of a ledger as it was when the service started.
#[derive(Debug)]
pub struct Began {
    /// The ledger's instance.
    pub instance: String,
    /// The number of the first record of this run.
    pub before: u64,
    /// Intents that were open then.
    pub open: BTreeSet<RecordId>,
}

/// How old another installation's claim must be to count as forgotten.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// Brings hidden names of earlier runs in a drop directory to an end: unfinished copies of files that were being given back
/// are removed, and claims of which no record knows any more (the ledger was lost, or restored from a backup) get a name
/// again that the scan finds. Anyone may write there and choose such names: only our own files are removed. Gives how many
/// names there were.
pub fn tidy(root: &Root, began: &Began) -> io::Result<u64> {
    let me = rustix::process::geteuid().as_raw();
    let mut done = 0;
    walk(root, usize::MAX, true, &mut |path| {
        let (part, claim) = (hidden(path, ".part"), hidden(path, ".claim"));
        let Some(id) = part.or(claim).or(hidden(path, ".aside")) else {
            return Ok(true);
        };
        let Some(stat) = root.stat_if_there(path)? else {
            return Ok(true);
        };
        let is_old = number_in(id, &began.instance).is_some_and(|number| number < began.before);
        if part.is_some() {
            // A copy that was given back by root has got its owner already.
            if is_old && (stat.st_uid == me || me == 0) {
                root.unlink(path)?;
                done += 1;
            }
        } else if !began.open.contains(&RecordId(id.to_owned())) && (is_old || is_forgotten(&stat))
        {
            done += u64::from(make_visible(root, path, id)?);
        }
        Ok(true)
    })?;
    Ok(done)
}

/// Gives a hidden file a name that is found; whether that could be done today.
fn make_visible(root: &Root, path: &RelPath, id: &str) -> io::Result<bool> {
    let name = format!("returned-{id}.dcm");
    let visible = path.with_file_name(name.as_bytes());
    let renamed = root.rename_noreplace(path, root, &visible.map_err(io::Error::other)?);
    if let Err(error) = &renamed {
        tracing::warn!(%error, "a forgotten file stays hidden");
    }
    Ok(renamed.is_ok())
}

fn is_forgotten(stat: &Stat) -> bool {
    let age_us = now_us().saturating_sub(ctime_ns(stat) / 1000);
    u64::try_from(age_us).is_ok_and(|age| Duration::from_micros(age) > FORGOTTEN)
}

/// The id in a hidden name with this ending.
fn hidden<'a>(path: &'a RelPath, ending: &str) -> Option<&'a str> {
    let name = std::str::from_utf8(path.file_name()).ok()?;
    name.strip_prefix(HIDDEN)?.strip_suffix(ending)
}

fn number_in(id: &str, instance: &str) -> Option<u64> {
    id.strip_prefix(instance)?.strip_prefix('-')?.parse().ok()
}
