//! The comparison: which file on record each unknown file is, and what follows.
//!
//! A file is recognised by device, inode, size and time; failing that by its bytes, of which only those are read whose
//! size fits. Open intents are read before anything else: a file that the service is just filing is not unknown.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::control::protocol::Looked;
use crate::domain::correction::{self, Difference, Folder, Known, Meant};
use crate::domain::placement::RootId;
use crate::domain::{Fingerprint, Instance, Origin, Placement, RelPath};
use crate::filing::destinations::Roots;
use crate::filing::record::{Digest, Label, Record, RecordId};
use crate::index::entry::{Entry, State};
use crate::index::whose::whose;
use crate::judgement::{Desk, audit};
use crate::root::{ctime_ns, fingerprint};

use super::ids::Ids;
use super::suspects::Suspects;
use super::walk::Walked;
use super::{Headers, LookError, Memory};

/// What is to be recorded.
pub(super) struct Findings {
    pub looked: Looked,
    pub changes: Vec<Change>,
    pub adoptions: Vec<Adoption>,
    /// Files that are on record as given back and were not touched here since: that was interrupted.
    pub given_back: Vec<Entry>,
    /// Files that are nowhere, now as at the look before.
    pub missing: Vec<RecordId>,
    /// Where files were in the quarantine that a person has taken out of it: what told why goes, too.
    pub left_quarantine: Vec<RelPath>,
    pub memory: Memory,
}

/// What is to be recorded of one file.
pub(super) type Change = Vec<Record>;

/// A file that a person has put into a category's folder.
pub(super) struct Adoption {
    pub at: Placement,
    pub digest: Digest,
    pub fingerprint: Fingerprint,
    pub instance: Option<Instance>,
    pub meant: Meant,
    pub by: Option<u32>,
}

/// A file that lies where no record says.
struct Stranger {
    at: Placement,
    fingerprint: Fingerprint,
    /// When its status last changed, microseconds since the Unix epoch.
    changed_us: i64,
    owner: u32,
    digest: Option<Digest>,
}

/// Files on record that are not where their record says. Those that no unknown file can be are kept as ids: a share can lose
/// a million files at once.
#[derive(Default)]
struct Absent {
    /// Of those that are gone: they came back into a drop directory, it seems, and were filed anew to the same place.
    again: BTreeSet<RecordId>,
    /// They were there, until now, and none of the unknown files has their size.
    vanished: Vec<RecordId>,
    /// They were there, until now.
    gone: Suspects,
    /// They have been missing, or were given back.
    lost: Suspects,
}

pub(super) fn compare(
    desk: &Desk,
    walked: Walked,
    before: &Memory,
    headers: Option<&Headers>,
) -> Result<Findings, LookError> {
    let under_way = desk.index.open_intents()?;
    let comparison = Comparison {
        desk,
        roots: &walked.roots,
        under_way: under_way.into_iter().map(|intent| intent.digest).collect(),
        audited: audit::on_lists(&desk.state)?,
    };
    let mut strangers = comparison.strangers(walked.strangers, before)?;
    let mut looked = Looked::default();
    let mut absent = comparison.absent(&walked.in_place, &strangers, &mut looked)?;

    let mut recognised = Comparison::by_inode(&mut strangers, &mut absent);
    let mut unknown = Vec::new();
    for mut stranger in strangers {
        if let Some(entry) = comparison.by_bytes(&mut stranger, &mut absent)? {
            recognised.push((stranger, entry));
        } else {
            unknown.push(stranger);
        }
    }

    let mut given_back = Vec::new();
    let mut others = Vec::new();
    for (stranger, entry) in recognised {
        if comparison.is_being_given_back(&stranger, &entry)? {
            given_back.push(entry);
        } else {
            others.push((stranger, entry));
        }
    }
    let recognised = others;

    let left_quarantine = recognised
        .iter()
        .filter(|(stranger, entry)| {
            entry.at.root == RootId::Quarantine && stranger.at.root != RootId::Quarantine
        })
        .map(|(_, entry)| entry.at.path.clone())
        .collect();
    let mut changes = Vec::new();
    let differences: Vec<Difference> = recognised
        .iter()
        .map(|(stranger, entry)| comparison.difference(stranger, entry, before))
        .collect::<Result<_, _>>()?;
    for ((stranger, entry), meant) in recognised.iter().zip(correction::meaning(&differences)) {
        looked.moved += 1;
        let mut change = vec![Record::Moved {
            id: entry.id.clone(),
            to: stranger.at.clone(),
        }];
        if let Some(meant) = meant {
            count(&mut looked, &meant);
            let label = comparison.label(stranger, entry, meant)?;
            change.push(Record::Label(Box::new(label)));
        } else if comparison.is_taken_back(stranger, entry) {
            // Whoever accepts all that waits would say what nobody means any more.
            change.push(Record::Judged {
                id: entry.id.clone(),
                accepted: false,
                by: None,
            });
        }
        changes.push(change);
    }

    let (mut memory, mut missing) = (Memory::default(), Vec::new());
    let mut adoptions = Vec::new();
    for mut stranger in unknown {
        let seen_before = before.strangers.contains_key(&stranger.fingerprint);
        if seen_before
            && let Some(headers) = headers
            && let Some(adoption) = comparison.adoption(&mut stranger, headers)?
        {
            looked.adopted += 1;
            count(&mut looked, &adoption.meant);
            adoptions.push(adoption);
        }
        memory
            .strangers
            .insert(stranger.fingerprint, stranger.digest);
    }

    // Only roots that are still what they were can say that a file is gone.
    let still = desk.destinations.current()?;
    let online = std::sync::Arc::ptr_eq(&still, &walked.roots);
    if online {
        memory.began_us = walked.began_us;
        missing = absent.vanished;
        for Entry { id, .. } in absent.gone.left() {
            if absent.again.contains(&id) {
                let (by, held) = (None, Vec::new());
                changes.push(vec![Record::LetGo { id, by, held }]);
            } else {
                missing.push(id);
            }
        }
        missing.iter().for_each(|id| memory.absent.insert(id));
        correction::keep_missing(&mut missing, |id| before.absent.contains(id));
        missing.sort_unstable();
        looked.missing = missing.len() as u64;
    }
    Ok(Findings {
        looked,
        changes,
        adoptions,
        given_back,
        missing,
        left_quarantine,
        memory,
    })
}

fn count(looked: &mut Looked, meant: &Meant) {
    if meant.pending.is_some() {
        looked.pending += 1;
    } else {
        looked.labels += 1;
    }
}

struct Comparison<'a> {
    desk: &'a Desk,
    roots: &'a Roots,
    /// What the service is just filing.
    under_way: HashSet<Digest>,
    /// What is on the lists of audits.
    audited: BTreeSet<RecordId>,
}

impl Comparison<'_> {
    /// Looks at the unknown files again: what has gone, or is known by now, is none.
    fn strangers(&self, at: Vec<Placement>, before: &Memory) -> Result<Vec<Stranger>, LookError> {
        let mut strangers = Vec::new();
        for at in at {
            let Some(root) = self.roots.get(&at.root) else {
                continue;
            };
            let Some(stat) = root.stat_if_there(&at.path)? else {
                continue;
            };
            if self.desk.index.is_on_record(&at)? {
                continue;
            }
            let fingerprint = fingerprint(&stat);
            strangers.push(Stranger {
                at,
                fingerprint,
                changed_us: ctime_ns(&stat) / 1000,
                owner: stat.st_uid,
                digest: before.strangers.get(&fingerprint).cloned().flatten(),
            });
        }
        Ok(strangers)
    }

    /// Goes through all records for files that are not where they should be.
    fn absent(
        &self,
        in_place: &Ids,
        strangers: &[Stranger],
        looked: &mut Looked,
    ) -> Result<Absent, LookError> {
        let sizes: HashSet<u64> = strangers
            .iter()
            .map(|stranger| stranger.fingerprint.size)
            .collect();
        let mut absent = Absent::default();
        for entry in self.desk.index.all() {
            let entry = entry?;
            if !entry.placed {
                continue;
            }
            let suspect = entry.size().is_none_or(|size| sizes.contains(&size));
            if entry.state != State::Live {
                if suspect {
                    absent.lost.insert(entry);
                }
                continue;
            }
            if in_place.contains(&entry.id) {
                looked.in_place += 1;
                continue;
            }
            match self.holder(&entry.at)? {
                Some(holder) if holder.id == entry.id => looked.in_place += 1,
                Some(holder) if holder.digest == entry.digest => {
                    // Unless it is one of the unknown files: then the same image was sent again.
                    absent.again.insert(entry.id.clone());
                    absent.gone.insert(entry);
                }
                _ if self.roots.get(&entry.at.root).is_none() => {}
                _ if suspect => absent.gone.insert(entry),
                _ => absent.vanished.push(entry.id),
            }
        }
        Ok(absent)
    }

    /// Whether its file lies where it says.
    fn is_there(&self, entry: &Entry) -> Result<bool, LookError> {
        Ok(self.holder(&entry.at)?.is_some_and(|it| it.id == entry.id))
    }

    /// The record of the file that lies at a place.
    fn holder(&self, at: &Placement) -> Result<Option<Entry>, LookError> {
        let Some(root) = self.roots.get(&at.root) else {
            return Ok(None);
        };
        if root.stat_if_there(&at.path)?.is_none() {
            return Ok(None);
        }
        Ok(whose(root, &at.path, self.desk.index.live_at(at)?)?)
    }

    /// The files that were renamed: the same inode, unchanged.
    fn by_inode(strangers: &mut Vec<Stranger>, absent: &mut Absent) -> Vec<(Stranger, Entry)> {
        let mut recognised = Vec::new();
        let mut others = Vec::new();
        for stranger in strangers.drain(..) {
            match absent.gone.take_file(&stranger.fingerprint) {
                Some(entry) => recognised.push((stranger, entry)),
                None => others.push(stranger),
            }
        }
        *strangers = others;
        recognised
    }

    /// The file on record that has these bytes and is not where it should be.
    fn by_bytes(
        &self,
        stranger: &mut Stranger,
        absent: &mut Absent,
    ) -> Result<Option<Entry>, LookError> {
        let size = stranger.fingerprint.size;
        if !absent.gone.may_have(size) && !absent.lost.may_have(size) {
            return Ok(None);
        }
        let Some(digest) = self.digest(stranger)? else {
            return Ok(None);
        };
        if self.under_way.contains(&digest) {
            return Ok(None);
        }
        if let Some(entry) = absent.gone.take_bytes(&digest, |_| true) {
            return Ok(Some(entry));
        }
        // It never left, though others with its bytes may have come.
        if let Some(id) = self.given_back_there(stranger, absent.lost.with_bytes(&digest))? {
            return Ok(absent.lost.take_bytes(&digest, |entry| entry.id == id));
        }
        if self.is_copy_of_another(&digest)? {
            return Ok(None);
        }
        let at_home = |entry: &Entry| entry.at == stranger.at;
        let lost = absent.lost.take_bytes(&digest, at_home);
        Ok(lost.or_else(|| absent.lost.take_bytes(&digest, |_| true)))
    }

    /// The first of these entries that the unknown file is as it lay there when that was recorded as given back.
    fn given_back_there<'e>(
        &self,
        stranger: &Stranger,
        mut entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<Option<RecordId>, LookError> {
        entries
            .find_map(|entry| match self.is_being_given_back(stranger, entry) {
                Ok(false) => None,
                Ok(true) => Some(Ok(entry.id.clone())),
                Err(error) => Some(Err(error)),
            })
            .transpose()
    }

    /// Whether a file lies as it lay when it was recorded as given back.
    fn is_being_given_back(&self, stranger: &Stranger, entry: &Entry) -> Result<bool, LookError> {
        let given_back = entry.state.is_held() || entry.state == State::LetGo;
        if !given_back || entry.at != stranger.at {
            return Ok(false);
        }
        let since_us = self.desk.given_back_us(&entry.id)?;
        Ok(since_us.is_some_and(|since_us| stranger.changed_us < since_us))
    }

    /// The digest of an unknown file, `None` when it went or changed while it was read.
    fn digest(&self, stranger: &mut Stranger) -> Result<Option<Digest>, LookError> {
        if stranger.digest.is_none()
            && let Some(file) = self.open(stranger)?
        {
            let digest = Digest::of_file(&file)?;
            if self.open(stranger)?.is_some() {
                stranger.digest = Some(digest);
            }
        }
        Ok(stranger.digest.clone())
    }

    /// Opens an unknown file, if it is still what was seen and can be read.
    fn open(&self, stranger: &Stranger) -> io::Result<Option<File>> {
        let Some(root) = self.roots.get(&stranger.at.root) else {
            return Ok(None);
        };
        match root.open_file(&stranger.at.path) {
            Ok((file, now)) => Ok((now == stranger.fingerprint).then_some(file)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a file with these bytes lies where its record says: then this one is a copy that somebody has made, and
    /// perhaps the first half of a move.
    fn is_copy_of_another(&self, digest: &Digest) -> Result<bool, LookError> {
        for entry in self.desk.index.with_digest(digest)? {
            if entry.state == State::Live && self.is_there(&entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn folder(&self, at: &Placement) -> Folder {
        Folder::of(at, |folder| self.desk.category_of_folder(folder))
    }

    fn difference(
        &self,
        stranger: &Stranger,
        entry: &Entry,
        before: &Memory,
    ) -> Result<Difference, LookError> {
        let known = if entry.state == State::Live {
            Known::At {
                folder: self.folder(&entry.at),
                folder_exists: self.top_folder_exists(&entry.at),
            }
        } else {
            Known::Lost
        };
        let category = entry.category.as_ref();
        let judged_since = match &entry.label {
            Some(given) => given.time_us > self.moved_us(stranger, entry, before)?,
            None => false,
        };
        Ok(Difference {
            known,
            category: category.map(|category| self.desk.as_called_now(category)),
            labelled: entry.label.is_some(),
            judged_since,
            found: self.folder(&stranger.at),
        })
    }

    /// When a person moved a file, as far as that can be told: not before the last look that saw it in its place, and not
    /// before its status last changed, nor that of its folders if the one that it lay in is gone: a file in a folder that is
    /// renamed stays as it is.
    fn moved_us(
        &self,
        stranger: &Stranger,
        entry: &Entry,
        before: &Memory,
    ) -> Result<i64, LookError> {
        let mut latest = stranger.changed_us;
        if !before.absent.contains(&entry.id) {
            latest = latest.max(before.began_us);
        }
        let old_folder = entry.at.path.parent();
        let old_root = self.roots.get(&entry.at.root);
        if let (Some(folder), Some(root)) = (&old_folder, old_root)
            && root.stat_if_there(folder)?.is_some()
        {
            return Ok(latest);
        }
        let mut folder = stranger.at.path.parent();
        while let (Some(path), Some(root)) = (&folder, self.roots.get(&stranger.at.root)) {
            if let Some(stat) = root.stat_if_there(path)? {
                latest = latest.max(ctime_ns(&stat) / 1000);
            }
            folder = path.parent();
        }
        Ok(latest)
    }

    /// Whether a label waits that follows from a place where the file lies no more: it is back in the folder of what its
    /// record says.
    fn is_taken_back(&self, stranger: &Stranger, entry: &Entry) -> bool {
        let waits = entry.pending.as_ref().map(|given| &given.label.category);
        match self.folder(&stranger.at) {
            Folder::Category(found) | Folder::Unknown(found) => {
                waits.is_some_and(|waits| self.desk.as_called_now(waits) != found)
            }
            Folder::Undecided | Folder::Other => false,
        }
    }

    fn top_folder_exists(&self, at: &Placement) -> bool {
        let top = at
            .path
            .components()
            .next()
            .and_then(|top| RelPath::new(top).ok());
        match (self.roots.get(&at.root), top) {
            (Some(root), Some(top)) => root.open_dir(Some(&top)).is_ok(),
            _ => true,
        }
    }

    /// What a person says by moving a file of an audit's list is a judgement of that audit: were it only a correction,
    /// the audit would count what was right and forget what was wrong.
    fn label(&self, stranger: &Stranger, entry: &Entry, meant: Meant) -> Result<Label, LookError> {
        let origin = if self.audited.contains(&entry.id) {
            Origin::Audit
        } else {
            meant.origin
        };
        Ok(Label {
            id: entry.id.clone(),
            category: meant.category,
            origin,
            by: self.mover(stranger, entry)?,
            person: None,
            note: None,
            shown: Some(entry.shown()),
            pending: meant.pending,
        })
    }

    /// Who moved it: a rename does not tell. Who copied it owns the copy, unless that is who owned the file before.
    fn mover(&self, stranger: &Stranger, entry: &Entry) -> Result<Option<u32>, LookError> {
        let renamed = entry
            .fingerprint
            .is_some_and(|was| was.ino == stranger.fingerprint.ino);
        if renamed || stranger.owner == rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        let story = self.desk.index.story(&entry.id)?;
        let owner_before = story.and_then(|story| {
            story.history.iter().find_map(|told| match &told.record {
                Record::Intent(intent) => Some(intent.uid),
                _ => None,
            })
        });
        Ok(Some(stranger.owner).filter(|owner| Some(*owner) != owner_before))
    }

    /// An unknown file in a category's folder that is DICOM, has been quiet since the last look, and is no copy.
    fn adoption(
        &self,
        stranger: &mut Stranger,
        headers: &Headers,
    ) -> Result<Option<Adoption>, LookError> {
        let difference = Difference {
            known: Known::Never,
            category: None,
            labelled: false,
            judged_since: false,
            found: self.folder(&stranger.at),
        };
        let Some(meant) = correction::meaning(&[difference]).pop().flatten() else {
            return Ok(None);
        };
        if stranger.at.root != RootId::Library {
            return Ok(None);
        }
        let Some(file) = self.open(stranger)?.filter(is_dicom) else {
            return Ok(None);
        };
        let Some(digest) = self.digest(stranger)? else {
            return Ok(None);
        };
        if self.under_way.contains(&digest) || self.is_copy_of_another(&digest)? {
            return Ok(None);
        }
        let me = rustix::process::geteuid().as_raw();
        Ok(Some(Adoption {
            at: stranger.at.clone(),
            digest,
            fingerprint: stranger.fingerprint,
            instance: headers.read(&file, stranger.fingerprint.size),
            meant,
            by: Some(stranger.owner).filter(|owner| *owner != me),
        }))
    }
}

/// PS3.10 §7.1: `DICM` after 128 bytes. People's other files (spreadsheets, thumbnails) are not radsort's business.
fn is_dicom(file: &File) -> bool {
    let mut prefix = [0; 4];
    file.read_exact_at(&mut prefix, 128).is_ok() && prefix == *b"DICM"
}
