//! Prepared pictures on disk, so that nothing is decoded twice.
//!
//! Keyed by the file's digest, the way of rendering, the preprocessing version and the program's. It holds pixels, pseudonyms and
//! technical header fields, and is readable by its owner only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::decode::{PREPROCESSING_VERSION, RenderSpec};
use crate::domain::instance::Description;
use crate::filing::record::Digest;

/// Raised when the cache holds something else.
const VERSION: u32 = 4;

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
}

/// A folder of prepared pictures.
pub struct PixelCache {
    dir: PathBuf,
}

impl PixelCache {
    /// In this folder, which is made when there is something to keep.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// What is kept of a file that was rendered in these ways.
    pub(super) fn recall(&self, digest: &Digest, specs: &[RenderSpec]) -> Option<Kept> {
        let bytes = fs::read(self.entry(digest, specs)).ok()?;
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
        if let Err(error) = write(&self.entry(digest, specs), kept) {
            tracing::debug!("the cache cannot be written: {error}");
        }
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

    /// Removes the oldest pictures until the cache holds at most `limit` bytes.
    pub fn bound(&self, limit: u64) -> io::Result<()> {
        let files = self.files()?;
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total <= limit {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }

    /// Every file in it, the oldest first, with its time and size.
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

fn write(entry: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(folder) = entry.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut bytes = serde_json::to_vec(&kept.about)?;
    bytes.push(b'\n');
    bytes.extend(
        kept.pictures
            .iter()
            .flatten()
            .flat_map(|pixel| pixel.to_le_bytes()),
    );
    let part = entry.with_extension("part");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    io::Write::write_all(&mut file, &bytes)?;
    fs::rename(&part, entry)
}
