//! Where files lie that are not where they were: people go on sorting while a training is under way, and radsort itself moves
//! what they correct.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::super::{access, query};
use crate::config::Settings;
use crate::filing::record::Digest;
use crate::index::query::Query;
use crate::retrain::rows;

type Places = HashMap<Digest, Vec<PathBuf>>;

/// Knows files by their bytes. It looks when it is asked for the first time, which it seldom is.
pub(super) struct Elsewhere<'a> {
    /// The site whose records say where files lie.
    settings: Option<&'a Settings>,
    /// A folder that people have sorted.
    folder: Option<&'a Path>,
    known: OnceLock<Places>,
}

impl<'a> Elsewhere<'a> {
    pub(super) fn new(settings: Option<&'a Settings>, folder: Option<&'a Path>) -> Self {
        Self {
            settings,
            folder,
            known: OnceLock::new(),
        }
    }

    /// Where a file with these bytes lies, as far as anybody knows.
    pub(super) fn places(&self, digest: &Digest) -> Vec<PathBuf> {
        let known = self.known.get_or_init(|| {
            let mut known = Places::new();
            if let Some(settings) = self.settings
                && let Err(error) = recorded(settings, &mut known)
            {
                eprintln!("nobody says where files lie now: {error:#}");
            }
            if let Some(folder) = self.folder {
                below(folder, &mut known);
            }
            known
        });
        known.get(digest).cloned().unwrap_or_default()
    }
}

/// What the service has on record, or the index where no service runs.
fn recorded(settings: &Settings, known: &mut Places) -> anyhow::Result<()> {
    let roots = access::roots(settings);
    query::each(settings, &Query::default(), |entry| {
        if let Some((_, root)) = roots.iter().find(|(root, _)| *root == entry.at.root) {
            let place = root.join(OsStr::from_bytes(entry.at.path.as_bytes()));
            known.entry(entry.digest).or_default().push(place);
        }
        Ok(())
    })
}

/// What lies below a folder.
fn below(folder: &Path, known: &mut Places) {
    for path in rows::files_below(folder).unwrap_or_default() {
        if let Ok(digest) = File::open(&path).and_then(|file| Digest::of_file(&file)) {
            known.entry(digest).or_default().push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_was_moved_within_its_folder_is_known_by_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("lateral-fusion/a.dcm");
        std::fs::create_dir(place.parent().unwrap()).unwrap();
        std::fs::write(&place, "pixels").unwrap();
        let elsewhere = Elsewhere::new(None, Some(dir.path()));
        let of = |bytes: &[u8]| elsewhere.places(&blake3::hash(bytes).into());
        assert_eq!(of(b"pixels"), [place]);
        assert_eq!(of(b"others"), [""; 0].map(PathBuf::from));
    }
}
