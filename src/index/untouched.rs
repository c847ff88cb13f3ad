//! Whether a database's files are as they were left: then its content need not be summed up at the start, which takes
//! minutes when the index is large.
//!
//! Files that were changed, restored or copied have another time or inode; after a crash there is no note at all.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The files of a database, sorted by name.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Files(Vec<Found>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Found {
    name: String,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Files {
    fn of(database: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(database)? {
            let entry = entry?;
            // `blobs` is a directory: its time tells when one came or went.
            let metadata: Metadata = entry.metadata()?;
            found.push(Found {
                name: entry.file_name().to_string_lossy().into_owned(),
                ino: metadata.ino(),
                size: metadata.size(),
                mtime: (metadata.mtime(), metadata.mtime_nsec()),
            });
        }
        found.sort();
        Ok(Self(found))
    }
}

fn note_path(database: &Path) -> PathBuf {
    database.with_extension("closed")
}

/// Notes how the files are, after the database was closed. Without a note everything is summed up: failing is no harm.
pub(super) fn note(database: &Path) {
    let write = || -> io::Result<()> {
        let files = Files::of(database)?;
        fs::write(note_path(database), serde_json::to_vec(&files)?)
    };
    if let Err(error) = write() {
        tracing::debug!("{}: {error}", note_path(database).display());
    }
}

/// Whether the files are as noted. The note is gone after this: it holds for one opening.
pub(super) fn take(database: &Path) -> bool {
    let path = note_path(database);
    let noted = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Files>(&bytes).ok());
    fs::remove_file(&path).is_ok()
        && noted.is_some_and(|noted| Files::of(database).is_ok_and(|now| now == noted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_that_are_as_they_were_left_are_untouched_once() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db-1");
        fs::create_dir(&database).unwrap();
        fs::write(database.join("db"), "content").unwrap();
        assert!(!take(&database), "no note");
        note(&database);
        assert!(take(&database));
        assert!(!take(&database), "a note holds once");

        note(&database);
        fs::write(database.join("db"), "c0ntent").unwrap();
        assert!(!take(&database), "changed");
        note(&database);
        fs::copy(database.join("db"), database.join("new")).unwrap();
        fs::rename(database.join("new"), database.join("db")).unwrap();
        assert!(!take(&database), "restored from elsewhere");
    }
}
