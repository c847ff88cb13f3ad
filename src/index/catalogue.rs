//! The index as the filer sees it.

use super::Index;
use crate::domain::Uid;
use crate::filing::catalogue::{Catalogue, CatalogueError, Known};
use crate::filing::record::{Position, Record};

impl Catalogue for Index {
    fn apply(&self, group: &[(Position, i64, Record)]) -> Result<(), CatalogueError> {
        Ok(Self::apply(self, group)?)
    }

    fn find_uid(&self, uid: &Uid) -> Result<Option<Known>, CatalogueError> {
        let known = Self::find_uid(self, uid)?;
        Ok(known.map(|known| Known {
            id: known.id,
            placement: known.placement,
            digest: known.digest,
        }))
    }
}
