//! Does the index say what the ledger says, and do the folders hold what both say?
//!
//! Nothing is changed. What does not agree is a [`Difference`]: some of them radsort puts right by itself, for the
//! others a person must look.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::store::Part;
use super::whose::whose;
use super::{Index, IndexError, Query};
use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath};
use crate::filing::ledger::Ledger;
use crate::filing::record::{Digest, Fate, RecordId};
use crate::root::Root;

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The ledger cannot be read, or its chain of hashes is broken.
    Ledger,
    /// The index does not say what the ledger says.
    Index,
    /// An intent has not been carried out yet.
    Open,
    /// A root cannot be read now.
    Offline,
    /// A file is nowhere below the roots.
    Missing,
    /// A file is at another place than recorded.
    Moved,
    /// A file has other bytes than recorded.
    Changed,
    /// A file that is not recorded.
    Unknown,
}

impl Kind {
    /// Whether radsort puts it right by itself (or `radsort reindex` does).
    pub fn reconcilable(self) -> bool {
        match self {
            Self::Index | Self::Open | Self::Offline | Self::Moved | Self::Unknown => true,
            Self::Ledger | Self::Missing | Self::Changed => false,
        }
    }

    /// What to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Ledger => "restore the ledger from a backup; nothing has been changed",
            Self::Index => "run `radsort reindex`",
            Self::Open => "the daemon finishes it, or gives it up, when it starts",
            Self::Offline => "bring the share back and verify again",
            Self::Missing => {
                "restore the file from a backup, or drop it again; the daemon records it as missing"
            }
            Self::Moved => "the daemon records it as a person's correction",
            Self::Changed => "restore the file from a backup: radsort never writes to a filed file",
            Self::Unknown => {
                "in a category's folder the daemon adopts it, once accepted (`radsort labels list`); elsewhere it stays as it is \
                 until somebody moves it into one, or back into the drop directory"
            }
        }
    }
}

/// One thing that does not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What kind of thing.
    pub kind: Kind,
    /// The record, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RecordId>,
    /// The place, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Placement>,
    /// What exactly.
    pub detail: String,
}

/// The end of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Records of the ledger.
    pub records: u64,
    /// Entries whose file was looked for.
    pub entries: u64,
    /// Files whose bytes were read.
    pub digests: u64,
    /// Differences by kind.
    pub differences: BTreeMap<Kind, u64>,
}

impl Summary {
    /// Whether a person must look.
    pub fn is_bad(&self) -> bool {
        self.differences
            .iter()
            .any(|(kind, count)| !kind.reconcilable() && *count > 0)
    }
}

/// What a comparison tells on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// How far it is: what, how many, of how many.
    Progress(&'static str, u64, Option<u64>),
    /// Something does not agree.
    Difference(Difference),
}

/// A comparison under way.
struct Comparison<'a, F> {
    tell: &'a mut F,
    summary: Summary,
}

impl<F: FnMut(Finding)> Comparison<'_, F> {
    fn differs(
        &mut self,
        kind: Kind,
        id: Option<&RecordId>,
        at: Option<&Placement>,
        detail: impl Into<String>,
    ) {
        *self.summary.differences.entry(kind).or_default() += 1;
        let difference = Difference {
            kind,
            id: id.cloned(),
            at: at.cloned(),
            detail: detail.into(),
        };
        (self.tell)(Finding::Difference(difference));
    }
}

/// What the name of the text beside a quarantined file ends with.
const REASON_SUFFIX: &[u8] = b".reason.txt";

/// How often what seems to differ is looked at again, because the daemon goes on filing meanwhile.
const ROUNDS: usize = 3;

/// Compares everything. `state` holds the ledger (and, for the time being, a second index); `roots` are the library,
/// the quarantine and the duplicates; `digests` asks for every file's bytes.
pub fn verify(
    index: &Index,
    state: &Path,
    roots: &[(RootId, PathBuf)],
    digests: bool,
    tell: &mut impl FnMut(Finding),
) -> Result<Summary, IndexError> {
    let mut comparison = Comparison {
        tell,
        summary: Summary::default(),
    };
    compare_with_ledger(&mut comparison, index, state)?;
    compare_with_disk(&mut comparison, index, roots, digests)?;
    Ok(comparison.summary)
}

/// The same for an index that has just been built from the ledger: compares it with the folders alone.
pub fn verify_rebuilt(index: &Index, roots: &[(RootId, PathBuf)]) -> Result<Summary, IndexError> {
    let mut comparison = Comparison {
        tell: &mut |_| {},
        summary: Summary::default(),
    };
    compare_with_disk(&mut comparison, index, roots, false)?;
    Ok(comparison.summary)
}

fn compare_with_disk(
    comparison: &mut Comparison<'_, impl FnMut(Finding)>,
    index: &Index,
    roots: &[(RootId, PathBuf)],
    digests: bool,
) -> Result<(), IndexError> {
    for intent in index.open_intents()? {
        let detail = format!(
            "begun, and neither carried out nor given up ({})",
            intent.fate
        );
        comparison.differs(Kind::Open, Some(&intent.id), Some(&intent.to), detail);
    }
    compare_with_folders(comparison, index, roots, digests)
}

/// Folds the ledger once more, aside, and compares.
fn compare_with_ledger(
    comparison: &mut Comparison<'_, impl FnMut(Finding)>,
    index: &Index,
    state: &Path,
) -> Result<(), IndexError> {
    let scratch = state.join("verify");
    super::remove(&scratch)?;
    let mut read = 0;
    let folded = Ledger::read(state, None)
        .map_err(IndexError::ledger)
        .and_then(|ledger| {
            Index::rebuild(&scratch, ledger, |records| {
                read = records;
                (comparison.tell)(Finding::Progress("reading the ledger", records, None));
            })
        });
    comparison.summary.records = read;
    match folded {
        Ok(again) => {
            compare_indexes(comparison, index, &again, state)?;
            drop(again);
        }
        Err(IndexError::Ledger(err)) => {
            comparison.differs(Kind::Ledger, None, None, err.to_string());
        }
        Err(err) => return Err(err),
    }
    super::remove(&scratch)
}

fn compare_indexes(
    comparison: &mut Comparison<'_, impl FnMut(Finding)>,
    index: &Index,
    again: &Index,
    state: &Path,
) -> Result<(), IndexError> {
    let mut suspects = differing(index, again, None)?;
    for _ in 0..ROUNDS {
        if suspects.is_empty() {
            break;
        }
        // The daemon may have filed since the ledger was read: read on, and look at those again.
        again.catch_up(state, |_| {})?;
        suspects = differing(index, again, Some(&suspects))?;
    }
    for (part, key) in suspects {
        let id = matches!(part, Part::Entries | Part::Stories | Part::Open)
            .then(|| RecordId(String::from_utf8_lossy(&key).into_owned()));
        let detail = format!("the index's {} are not what the ledger gives", part.name());
        comparison.differs(Kind::Index, id.as_ref(), None, detail);
    }
    Ok(())
}

type Keys = BTreeSet<(Part, Vec<u8>)>;

/// The keys whose values differ, of all or of some.
fn differing(one: &Index, other: &Index, among: Option<&Keys>) -> Result<Keys, IndexError> {
    let (one, other) = (one.trees(), other.trees());
    let same = |part: Part, key: &[u8]| -> Result<bool, IndexError> {
        Ok(one.tree(part).get(key)? == other.tree(part).get(key)?)
    };
    let mut found = Keys::new();
    if let Some(among) = among {
        for (part, key) in among {
            if !same(*part, key)? {
                found.insert((*part, key.clone()));
            }
        }
        return Ok(found);
    }
    for part in [
        Part::Entries,
        Part::Stories,
        Part::Open,
        Part::Keys,
        Part::Counters,
    ] {
        for key in one
            .tree(part)
            .iter()
            .keys()
            .chain(other.tree(part).iter().keys())
        {
            let key = key?;
            if !same(part, &key)? {
                found.insert((part, key.to_vec()));
            }
        }
    }
    Ok(found)
}

/// Looks for every entry's file, and for files that are no entry's.
fn compare_with_folders(
    comparison: &mut Comparison<'_, impl FnMut(Finding)>,
    index: &Index,
    roots: &[(RootId, PathBuf)],
    digests: bool,
) -> Result<(), IndexError> {
    let mut open = Vec::new();
    let mut strangers: Vec<(Placement, u64)> = Vec::new();
    for (id, path) in roots {
        let root = match Root::open(path) {
            Ok(root) => root,
            Err(err) => {
                comparison.differs(
                    Kind::Offline,
                    None,
                    None,
                    format!("{}: {err}", path.display()),
                );
                continue;
            }
        };
        let mut walk = Walk {
            index,
            root: &root,
            id,
            others: roots,
            strangers: &mut strangers,
        };
        if let Err(err) = walk.dir(None) {
            comparison.differs(
                Kind::Offline,
                None,
                None,
                format!("{}: {err}", path.display()),
            );
        }
        open.push((id, root));
    }
    let total = index.count(&Query::default())?;
    for entry in index.query(&Query::default()) {
        let entry = entry?;
        let Some((_, root)) = open
            .iter()
            .find(|(id, _)| entry.placed && **id == entry.at.root)
        else {
            continue;
        };
        comparison.summary.entries += 1;
        if comparison.summary.entries.is_multiple_of(100) {
            (comparison.tell)(Finding::Progress(
                "looking at files",
                comparison.summary.entries,
                Some(total),
            ));
        }
        let holder = whose(root, &entry.at.path, index.live_at(&entry.at)?).unwrap_or_default();
        if let Some(other) = holder.filter(|it| it.id != entry.id) {
            // One that came back into a drop directory and was filed anew is what lies there.
            if other.digest != entry.digest {
                let detail = format!("what lies there is the file of record {}", other.id);
                comparison.differs(Kind::Missing, Some(&entry.id), Some(&entry.at), detail);
            }
            continue;
        }
        look_at(comparison, &entry, root, digests, &mut strangers);
    }
    for (at, _) in strangers {
        comparison.differs(Kind::Unknown, None, Some(&at), "no record of this file");
    }
    Ok(())
}

/// Looks at one entry's file; when it is not there, for a stranger with its bytes.
fn look_at(
    comparison: &mut Comparison<'_, impl FnMut(Finding)>,
    entry: &Entry,
    root: &Root,
    digests: bool,
    strangers: &mut Vec<(Placement, u64)>,
) {
    let (id, at) = (Some(&entry.id), Some(&entry.at));
    match root.open_file(&entry.at.path) {
        Ok((file, seen)) => {
            if entry.size().is_some_and(|size| size != seen.size) {
                let detail = format!(
                    "{} bytes instead of {}",
                    seen.size,
                    entry.size().unwrap_or(0)
                );
                comparison.differs(Kind::Changed, id, at, detail);
            } else if digests {
                comparison.summary.digests += 1;
                match digest_of(file) {
                    Ok(digest) if digest == entry.digest => {}
                    Ok(_) => comparison.differs(
                        Kind::Changed,
                        id,
                        at,
                        "its bytes are not those that were filed",
                    ),
                    Err(err) => {
                        comparison.differs(Kind::Changed, id, at, format!("cannot be read: {err}"));
                    }
                }
            }
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let same_bytes = |(place, size): &(Placement, u64)| {
                place.root == entry.at.root
                    && entry.size().is_none_or(|expected| expected == *size)
                    && root.open_file(&place.path).is_ok_and(|(file, _)| {
                        digest_of(file).is_ok_and(|digest| digest == entry.digest)
                    })
            };
            match strangers.iter().position(same_bytes) {
                Some(found) => {
                    let (place, _) = strangers.swap_remove(found);
                    comparison.differs(
                        Kind::Moved,
                        id,
                        Some(&place),
                        format!("was at {}", entry.at.path),
                    );
                }
                None => comparison.differs(Kind::Missing, id, at, "recorded, and not there"),
            }
        }
        Err(err) => comparison.differs(Kind::Changed, id, at, format!("cannot be opened: {err}")),
    }
}

/// BLAKE3 of what is left to read.
fn digest_of(mut file: std::fs::File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

/// Finds the files below a root that the index does not know.
struct Walk<'a> {
    index: &'a Index,
    root: &'a Root,
    id: &'a RootId,
    others: &'a [(RootId, PathBuf)],
    strangers: &'a mut Vec<(Placement, u64)>,
}

impl Walk<'_> {
    fn dir(&mut self, path: Option<&RelPath>) -> io::Result<()> {
        let mut below = Vec::new();
        for entry in self.root.entries(path) {
            // Hidden files are radsort's own (the marker, parts, claims) or the share's.
            let entry = entry?;
            if entry.path.file_name().starts_with(b".") {
                continue;
            }
            match entry.is_dir {
                // The quarantine and the duplicates usually lie in the library.
                Some(true) if !self.is_another_root(&entry.path) => below.push(entry.path),
                Some(false) => self.file(entry.path),
                _ => {}
            }
        }
        below.iter().try_for_each(|path| self.dir(Some(path)))
    }

    fn file(&mut self, path: RelPath) {
        let at = Placement {
            root: self.id.clone(),
            path,
        };
        let on_record = self.index.is_on_record(&at).unwrap_or_default();
        if !on_record && !self.is_reason_file(&at) {
            let size = self
                .root
                .stat(&at.path)
                .map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
            // Gone again: nothing to tell.
            if let Ok(size) = size {
                self.strangers.push((at, size));
            }
        }
    }

    /// Each quarantined file has a text beside it that says why.
    fn is_reason_file(&self, at: &Placement) -> bool {
        let Some(stem) = at.path.file_name().strip_suffix(REASON_SUFFIX) else {
            return false;
        };
        let beside = at.path.with_file_name(stem).map(|path| Placement {
            root: self.id.clone(),
            path,
        });
        beside.is_ok_and(|beside| {
            let known = self.index.at_place(&beside).unwrap_or_default();
            known.iter().any(|entry| entry.fate == Fate::Quarantined)
        })
    }

    fn is_another_root(&self, path: &RelPath) -> bool {
        let absolute = self
            .root
            .path()
            .join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path.as_bytes()));
        self.others
            .iter()
            .any(|(id, root)| id != self.id && *root == absolute)
    }
}

#[cfg(test)]
mod tests;
