//! Which names are left alone: those that say hidden, temporary or partial, and those that the site lists.
//!
//! A pattern without `/` is compared with every name on the way to the file; one with `/` with the path below the drop
//! directory. What is below an ignored directory is ignored.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::domain::RelPath;

/// Whether a name (of a file or a directory) says that it is hidden, temporary, partial, or an operating system's own:
/// such things are never looked at. Covers what browsers, rsync, scp clients, editors, Windows, macOS and network storage
/// write, and the hidden names under which radsort itself works.
pub fn is_temporary(name: &[u8]) -> bool {
    const ENDINGS: &[&[u8]] = &[
        b"~",
        b".part",
        b".partial",
        b".filepart",
        b".tmp",
        b".temp",
        b".crdownload",
        b".download",
        b".swp",
        b".opdownload",
        b".!ut",
        b".lock",
    ];
    const STARTS: &[&[u8]] = &[
        b".",
        b"~$",
        b"@eadir",
        b"#recycle",
        b"#snapshot",
        b"$recycle.bin",
    ];
    const NAMES: &[&[u8]] = &[
        b"thumbs.db",
        b"ehthumbs.db",
        b"desktop.ini",
        b"lost+found",
        b"system volume information",
    ];
    let name = name.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
        || STARTS.iter().any(|start| name.starts_with(start))
        || NAMES.contains(&name.as_slice())
}

/// The built-in names and the site's patterns.
#[derive(Clone, Debug)]
pub struct Ignore {
    names: GlobSet,
    paths: GlobSet,
}

impl Ignore {
    /// Compiles the site's patterns.
    pub fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            if pattern.contains('/') {
                paths.add(
                    GlobBuilder::new(pattern.trim_start_matches('/'))
                        .literal_separator(true)
                        .build()?,
                );
            } else {
                names.add(Glob::new(pattern)?);
            }
        }
        Ok(Self {
            names: names.build()?,
            paths: paths.build()?,
        })
    }

    /// Only the built-in names.
    pub fn none() -> Self {
        Self {
            names: GlobSet::empty(),
            paths: GlobSet::empty(),
        }
    }

    /// Whether something directly in a directory that is not ignored itself is.
    pub fn entry(&self, path: &RelPath) -> bool {
        let name = path.file_name();
        is_temporary(name)
            || self.names.is_match(OsStr::from_bytes(name))
            || self.paths.is_match(OsStr::from_bytes(path.as_bytes()))
    }

    /// Whether a path is, or anything on the way to it.
    pub fn path(&self, path: &RelPath) -> bool {
        self.entry(path) || path.parent().is_some_and(|parent| self.path(&parent))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_that_say_temporary_are_known() {
        for name in [
            "a.dcm.part",
            "A.TMP",
            ".hidden",
            ".a.dcm.Xy12Zq",
            ".nfs000001",
            "Thumbs.db",
            ".DS_Store",
            "a.dcm~",
            "x.crdownload",
            "y.filepart",
            "~$report.doc",
            "@eaDir",
            "#recycle",
            "$RECYCLE.BIN",
            "desktop.ini",
        ] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in [
            "a.dcm",
            "1.2.840.113619",
            "part",
            "IM0001",
            "tmp",
            "template.dcm",
            "a.partly",
            "DICOMDIR",
        ] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn patterns_match_names_anywhere_and_paths_from_the_top() {
        let patterns = ["*.log", "old", "ct/**/raw", "/exact/one.dcm"].map(str::to_owned);
        let ignore = Ignore::new(&patterns).unwrap();
        let ignored = |path: &str| ignore.path(&RelPath::new(path).unwrap());
        for path in [
            "a.log",
            "x/y/a.log",
            "old/a.dcm",
            "x/old/a.dcm",
            "ct/1/2/raw/a.dcm",
            "exact/one.dcm",
            ".git/a.dcm",
        ] {
            assert!(ignored(path), "{path}");
        }
        for path in [
            "a.dcm",
            "older/a.dcm",
            "x/ct/1/raw/a.dcm",
            "exact/two.dcm",
            "x/exact/one.dcm",
        ] {
            assert!(!ignored(path), "{path}");
        }
        assert!(Ignore::new(&["a[".to_owned()]).is_err());
    }
}
