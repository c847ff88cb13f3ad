//! What the ledger records. Kinds are versioned: fields may be added, never changed in meaning or removed.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::config::settings::Action;
use crate::domain::{
    CategoryId, Dossier, Fingerprint, Instance, Origin, Pending, Placement, Reason, RelPath, Shown,
};

/// Unique across installations: the ledger's random instance id and a running number, `<16 hex>-<number>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId(pub String);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A line of the ledger, which need not be the last: reading goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The segment's number, from 1 on.
    pub segment: u32,
    /// The line's first byte in the segment.
    pub offset: u64,
    /// The line's hash, which the next line carries: BLAKE3 without the newline, its first 32 hexadecimal digits.
    pub hash: String,
}

/// BLAKE3 of a file's bytes, 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub String);

impl Digest {
    /// Of a whole file, in bounded pieces. Decoders share the file's offset: it is neither used nor moved.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let (mut buffer, mut offset) = (vec![0; 256 << 10], 0);
        loop {
            match file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(hasher.finalize().into()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.to_hex().to_string())
    }
}

/// What became (or is to become) of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// In its category's folder.
    Filed,
    /// In `_review/<reason>/`.
    Review,
    /// In `_other/`.
    Other,
    /// In the quarantine.
    Quarantined,
    /// In the duplicates (or, in copy and observe mode, only recorded as one).
    Duplicate,
    /// In `_review/uid-conflict/`.
    Conflict,
    /// Where it was.
    Left,
}

impl Fate {
    /// Every fate.
    pub const ALL: &[Self] = &[
        Self::Filed,
        Self::Review,
        Self::Other,
        Self::Quarantined,
        Self::Duplicate,
        Self::Conflict,
        Self::Left,
    ];

    /// The name used in records, counters and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filed => "filed",
            Self::Review => "review",
            Self::Other => "other",
            Self::Quarantined => "quarantined",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Left => "left",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Fate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|fate| fate.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|fate| fate.as_str()).collect();
                format!("{text:?} is no fate; there are: {}", names.join(", "))
            })
    }
}

/// Everything about one file that has a fate: written before anything is touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// This record.
    pub id: RecordId,
    /// The watch that the file came through.
    pub watch: String,
    /// Whether it is moved, copied or only observed.
    pub action: Action,
    /// Its path below the watch's root.
    pub from: RelPath,
    /// Where it goes; for `observe` and `left`, where it would have gone or stays.
    pub to: Placement,
    /// What becomes of it.
    pub fate: Fate,
    /// The reason, unless filed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What exactly was wrong, for people (quarantine).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its bytes.
    pub digest: Digest,
    /// The file as it was seen.
    pub fingerprint: Fingerprint,
    /// Its time of last status change, nanoseconds since the Unix epoch, where it stays and that can be relied upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctime_ns: Option<i64>,
    /// How many names it had.
    #[serde(default = "one_name", skip_serializing_if = "is_one_name")]
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// The hidden name (in the same directory) under which a file that must be copied is claimed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<RelPath>,
    /// The permission bits that it gets when it is renamed; `None`: it keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_mode: Option<u32>,
    /// What was learned and decided.
    pub dossier: Dossier,
}

fn one_name() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_one_name(links: &u64) -> bool {
    *links == 1
}

/// A file that was given back and is not taken again until it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The watch that it goes back to.
    pub watch: String,
    /// Its path there.
    pub path: RelPath,
    /// Its bytes.
    pub digest: Digest,
    /// The file as it comes back (a rename keeps device and inode).
    pub fingerprint: Fingerprint,
}

/// What a person says a file is. When it was said is the ledger line's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The file: the intent or adoption that it began with.
    pub id: RecordId,
    /// The category.
    pub category: CategoryId,
    /// Where the label comes from.
    pub origin: Origin,
    /// Who says so (user id at the control socket, or the owner of a new copy), when known.
    #[serde(default)]
    pub by: Option<u32>,
    /// Who says so, as an imported list names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// What they add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the model had said, as far as it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
    /// Why it does not count until it is accepted ([`Record::Judged`]), if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// One record of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// A file is about to be moved or copied.
    Intent(Box<Intent>),
    /// The intent was carried out; its source is gone (move) or stays (copy).
    Filed {
        /// The intent.
        id: RecordId,
        /// Where the file really is, when its name had to differ from the intent's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Placement>,
    },
    /// The intent was carried out into the quarantine.
    Quarantined {
        /// The intent.
        id: RecordId,
        /// Where the file really is, when its name had to differ from the intent's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Placement>,
    },
    /// The intent was not carried out; the file is where it was, and will be found again.
    Abandoned {
        /// The intent.
        id: RecordId,
        /// Why.
        why: String,
    },
    /// A file that is left where it is, or only observed: recorded, so that no scan takes it again.
    Observed(Box<Intent>),
    /// A quarantined file went back to where it came from.
    Released {
        /// The intent that had quarantined it.
        id: RecordId,
        /// Who asked (user id at the control socket), when known.
        by: Option<u32>,
        /// The file as it comes back: it is not taken again until it changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
    },
    /// The library that this ledger is about: only a directory whose marker names this id is that library.
    Library {
        /// The random id in its marker.
        marker: String,
    },
    /// A filed file is somewhere else now, by a person's hand.
    Moved {
        /// The intent that had filed it.
        id: RecordId,
        /// Its new place.
        to: Placement,
    },
    /// A file in the library that radsort did not put there.
    Adopted {
        /// A new id for it.
        id: RecordId,
        /// Its place.
        at: Placement,
        /// Its bytes.
        digest: Digest,
        /// The file as it was found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fingerprint: Option<Fingerprint>,
        /// Its header, when it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<Box<Instance>>,
    },
    /// What a person says a file is.
    Label(Box<Label>),
    /// What became of a file's pending label.
    Judged {
        /// The file.
        id: RecordId,
        /// Whether the label counts now; otherwise it is forgotten.
        accepted: bool,
        /// Who decided (user id at the control socket), when known.
        #[serde(default)]
        by: Option<u32>,
    },
    /// A filed file is nowhere to be found.
    Missing {
        /// The intent that had filed it.
        id: RecordId,
    },
    /// A filed file went back to where it came from.
    Undone {
        /// The intent that had filed it.
        id: RecordId,
        /// Who asked (user id at the control socket), when known.
        #[serde(default)]
        by: Option<u32>,
        /// The file as it comes back: it is not taken again until it changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
    },
    /// A file that was to be given back could not be: it is where it was.
    Stayed {
        /// The intent that had filed or quarantined it.
        id: RecordId,
        /// What was held of it, and is no more.
        held: Held,
    },
    /// A file that was given back may be taken again.
    LetGo {
        /// The intent that had filed or quarantined it.
        id: RecordId,
        /// Who asked (user id at the control socket), when known.
        #[serde(default)]
        by: Option<u32>,
        /// What was held: as it was given back, and as it is now.
        held: Vec<Held>,
    },
    /// Another bundle was put into use.
    Promoted {
        /// Its name and version.
        model: String,
    },
    /// A point from which reading may start; nothing is open before it.
    Checkpoint {
        /// Counts by fate up to here, for a quick look.
        totals: std::collections::BTreeMap<String, u64>,
    },
    /// A kind that a later version writes; kept, not understood.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}
