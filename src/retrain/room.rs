//! Room on the disk of the state directory. The service beside a training takes no file while less than [`RESERVE`] is free
//! there: what a training keeps there must never be the reason.

use std::path::{Path, PathBuf};

use crate::filing::ledger::RESERVE;

/// What prepared pictures leave free: this, or a twentieth of the disk if that is more. They only save time.
const BESIDE_PICTURES: u64 = 8 * RESERVE;
/// What checkpoints leave free: without them, a training that is killed was for nothing.
const BESIDE_CHECKPOINTS: u64 = 2 * RESERVE;

/// A disk, and how much of it stays free.
pub struct Room {
    dir: PathBuf,
    spare: u64,
    free: fn(&Path) -> Option<u64>,
}

impl Room {
    /// On the disk of this folder, which need not exist yet.
    pub fn for_pictures(dir: &Path) -> Self {
        let dir = existing(dir);
        let disk = rustix::fs::statvfs(dir).map_or(0, |disk| disk.f_blocks * disk.f_frsize);
        Self::leaving(dir, BESIDE_PICTURES.max(disk / 20))
    }

    /// On the disk of this folder, which need not exist yet.
    pub(super) fn for_checkpoints(dir: &Path) -> Self {
        Self::leaving(existing(dir), BESIDE_CHECKPOINTS)
    }

    fn leaving(dir: &Path, spare: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            spare,
            free,
        }
    }

    /// A disk of which so much is free as `free` says of the folder.
    #[cfg(test)]
    pub(super) fn of_test(dir: &Path, spare: u64, free: fn(&Path) -> Option<u64>) -> Self {
        Self {
            free,
            ..Self::leaving(dir, spare)
        }
    }

    /// What stays free, in bytes.
    pub(super) fn spare(&self) -> u64 {
        self.spare
    }

    /// Whether so many bytes more may be written. Where nobody can tell, they may.
    pub(super) fn has(&self, bytes: u64) -> bool {
        (self.free)(&self.dir).is_none_or(|free| free >= self.spare.saturating_add(bytes))
    }
}

fn free(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The folder, or the one around it that exists.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|it| it.exists()).unwrap_or(dir)
}
