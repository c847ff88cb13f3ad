//! What the filer needs of the index: to be told each group, and to be asked for a UID. A trait, so that the filer can
//! be tested without sled.

use std::error::Error;

use super::record::{Digest, Position, Record, RecordId};
use crate::domain::{Placement, Uid};

/// A copy of an instance that is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The intent that filed it.
    pub id: RecordId,
    /// Where it is.
    pub placement: Placement,
    /// Its bytes.
    pub digest: Digest,
}

/// What is wrong with a catalogue.
pub type CatalogueError = Box<dyn Error + Send + Sync>;

/// The index, as the filer sees it.
pub trait Catalogue: Send + Sync {
    /// Takes in a group that is in the ledger: all of it or nothing, with the position that it reaches.
    fn apply(&self, group: &[(Position, i64, Record)]) -> Result<(), CatalogueError>;

    /// The copy that stands for an instance: filed, in review or among the others; no duplicate and no conflict.
    fn find_uid(&self, uid: &Uid) -> Result<Option<Known>, CatalogueError>;

    /// Whether what lies at a place is some record's file.
    fn is_on_record(&self, at: &Placement) -> Result<bool, CatalogueError>;
}
