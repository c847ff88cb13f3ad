//! Prepared pictures on disk, so that nothing is decoded twice.
//!
//! Keyed by the file's digest, the way of rendering, the preprocessing version and the program's. It holds pixels, pseudonyms and
//! technical header fields, and is readable by its owner only. It leaves the service beside it its [room](super::room): where a
//! disk is too small for it, pictures are decoded anew each time.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::room::Room;
use crate::decode::{PREPROCESSING_VERSION, RenderSpec};
use crate::domain::instance::Description;
use crate::filing::record::Digest;

/// Raised when the cache holds something else.
const VERSION: u32 = 5;

/// How far a file's time may be behind the clock: filesystems take it from the kernel's last tick.
const TICK: Duration = Duration::from_secs(1);

/// When room is made, it is made for more than one picture.
const AT_ONCE: u64 = 64 << 20;

/// What the cache holds of a file.
pub(super) struct Kept {
    pub(super) about: About,
    pub(super) pictures: Vec<Vec<u16>>,
}

/// What the file's header says of it.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    /// The patient's pseudonym, unless the Patient ID is a placeholder.
    pub(super) patient: Option<String>,
    /// The pseudonym that everybody under that placeholder has.
    pub(super) of_placeholder: Option<String>,
    /// The pseudonym that the Patient ID has without its issuer.
    pub(super) of_id_alone: String,
    pub(super) study: Option<String>,
    pub(super) description: Description,
    /// Pictures are made from fewer samples than the file has pixels.
    pub(super) reduced: bool,
}

/// A folder of prepared pictures.
pub struct PixelCache {
    dir: PathBuf,
    room: Room,
    /// What was last used before is for other trainings.
    opened: SystemTime,
    /// There is no room, and that was told.
    full: Mutex<bool>,
}

impl PixelCache {
    /// In this folder, which is made when there is something to keep.
    pub fn new(dir: PathBuf, room: Room) -> Self {
        Self {
            dir,
            room,
            opened: SystemTime::now() - TICK,
            full: Mutex::new(false),
        }
    }

    /// What is kept of a file that was rendered in these ways.
    pub(super) fn recall(&self, digest: &Digest, specs: &[RenderSpec]) -> Option<Kept> {
        let mut file = File::open(self.entry(digest, specs)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        // What is used stays longest.
        let _ = file.set_modified(SystemTime::now());
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let about: About = serde_json::from_slice(&bytes[..end]).ok()?;
        let mut rest = &bytes[end + 1..];
        let mut pictures = Vec::with_capacity(specs.len());
        for spec in specs {
            let (picture, after) =
                rest.split_at_checked(2 * spec.height as usize * spec.width as usize)?;
            pictures.push(
                picture
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect(),
            );
            rest = after;
        }
        rest.is_empty().then_some(Kept { about, pictures })
    }

    /// Keeps it. A cache that cannot be written costs time, nothing else.
    pub(super) fn keep(&self, digest: &Digest, specs: &[RenderSpec], kept: &Kept) {
        let bytes = in_bytes(kept);
        if !self.makes_room(bytes.len() as u64) {
            return;
        }
        if let Err(error) = write(&self.entry(digest, specs), &bytes) {
            tracing::debug!("the cache cannot be written: {error}");
        }
    }

    /// Whether there is room for so many bytes, perhaps in the place of what other trainings used.
    fn makes_room(&self, bytes: u64) -> bool {
        if self.room.has(bytes) {
            return true;
        }
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if *full {
            return false;
        }
        for (used, _, path) in self.files().unwrap_or_default() {
            if used >= self.opened || self.room.has(bytes.max(AT_ONCE)) {
                break;
            }
            let _ = fs::remove_file(path);
        }
        *full = !self.room.has(bytes);
        if *full {
            eprintln!(
                "the disk of {} has less than {} MB to spare: prepared pictures are not kept, and are decoded anew each time",
                self.dir.display(),
                self.room.spare() / 1_000_000
            );
        }
        !*full
    }

    /// The place of a file's pictures.
    fn entry(&self, digest: &Digest, specs: &[RenderSpec]) -> PathBuf {
        // Another release may decode what this one could not, or decode it better.
        let release = env!("CARGO_PKG_VERSION");
        let way = serde_json::to_vec(&(PREPROCESSING_VERSION, VERSION, release, specs))
            .unwrap_or_default();
        let way = blake3::hash(&way).to_hex();
        self.dir
            .join(&way[..16])
            .join(digest.0.get(..2).unwrap_or("00"))
            .join(&digest.0)
    }

    /// Removes the pictures that were not used for longest, until the cache holds at most `limit` bytes and leaves room.
    pub fn bound(&self, limit: u64) -> io::Result<()> {
        let files = self.files()?;
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total <= limit && self.room.has(0) {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }

    /// Every file in it, the one not used for longest first, with when that was and its size.
    fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let about = entry.metadata()?;
                if about.is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push((about.modified()?, about.len(), entry.path()));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

fn in_bytes(kept: &Kept) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&kept.about).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend(
        kept.pictures
            .iter()
            .flatten()
            .flat_map(|pixel| pixel.to_le_bytes()),
    );
    bytes
}

fn write(entry: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = entry.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = entry.with_extension("part");
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&part, entry));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Bundle;

    fn specs() -> Vec<RenderSpec> {
        let bundle = Bundle::open_or_shipped(None).unwrap();
        bundle.render_specs()[..1].to_vec()
    }

    fn picture() -> Kept {
        let spec = &specs()[0];
        Kept {
            about: About {
                patient: None,
                of_placeholder: None,
                of_id_alone: String::new(),
                study: None,
                description: Description::default(),
                reduced: false,
            },
            pictures: vec![vec![7; (spec.height * spec.width) as usize]],
        }
    }

    fn digest(n: usize) -> Digest {
        blake3::hash(&n.to_le_bytes()).into()
    }

    /// A disk on which ten pictures and a bit have room, as if nothing else were there.
    fn free(dir: &Path) -> Option<u64> {
        let cache = PixelCache::new(dir.to_owned(), Room::of_test(dir, 0, |_| None));
        let used: u64 = cache.files().ok()?.iter().map(|(_, size, _)| size).sum();
        let one = in_bytes(&picture()).len() as u64;
        Some((SPARE + 10 * one + one / 2).saturating_sub(used))
    }

    const SPARE: u64 = 1 << 20;

    fn cache(dir: &Path) -> PixelCache {
        PixelCache::new(dir.to_owned(), Room::of_test(dir, SPARE, free))
    }

    #[test]
    fn a_full_disk_keeps_its_spare_room_and_what_was_kept_can_be_used() {
        let (dir, specs) = (tempfile::tempdir().unwrap(), specs());
        let cache = cache(dir.path());
        for n in 0..30 {
            cache.keep(&digest(n), &specs, &picture());
        }
        assert_eq!(cache.files().unwrap().len(), 10);
        assert!(free(dir.path()).unwrap() >= SPARE);
        assert!(cache.recall(&digest(0), &specs).is_some());
        assert!(cache.recall(&digest(29), &specs).is_none());
    }

    #[test]
    fn what_other_trainings_used_gives_way_and_what_this_one_uses_stays() {
        let (dir, specs) = (tempfile::tempdir().unwrap(), specs());
        let before = cache(dir.path());
        (0..10).for_each(|n| before.keep(&digest(n), &specs, &picture()));
        for (_, _, path) in before.files().unwrap() {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let cache = cache(dir.path());
        assert!(cache.recall(&digest(3), &specs).is_some());
        for n in 10..30 {
            cache.keep(&digest(n), &specs, &picture());
        }
        let there = |n| cache.recall(&digest(n), &specs).is_some();
        assert!(there(3) && there(10) && there(18), "used now");
        assert!(!there(0) && !there(19) && !there(29));
        assert_eq!(cache.files().unwrap().len(), 10);
    }

    #[test]
    fn a_cache_that_somebody_else_has_left_too_large_gives_room_back() {
        let (dir, specs) = (tempfile::tempdir().unwrap(), specs());
        let roomy = PixelCache::new(
            dir.path().to_owned(),
            Room::of_test(dir.path(), 0, |_| None),
        );
        (0..30).for_each(|n| roomy.keep(&digest(n), &specs, &picture()));
        roomy.bound(u64::MAX).unwrap();
        assert_eq!(roomy.files().unwrap().len(), 30);
        let cache = cache(dir.path());
        cache.bound(u64::MAX).unwrap();
        assert_eq!(cache.files().unwrap().len(), 10);
        cache.bound(0).unwrap();
        assert_eq!(cache.files().unwrap().len(), 0);
    }
}
