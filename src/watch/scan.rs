//! Walking a drop directory by descriptors, a slice at a time: one directory's names are in memory, never the whole tree.
//!
//! Promises: symbolic links are not followed, other filesystems mounted below are not entered, and an error of the
//! filesystem is told: an unreadable tree is never an empty one. A damaged directory or file does not keep the walk from
//! those behind it; an error of the root itself, or very many, end it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::ignore::Ignore;
use crate::domain::RelPath;
use crate::root::{Root, is_mount_point};

/// Something that the walk came upon.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(RelPath, Stat),
    /// A directory that holds a DICOMDIR.
    Medium(RelPath),
}

/// What a walk passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Directories that may not be read, or whose paths are too long.
    pub unreadable: usize,
    /// Directories on which another filesystem is mounted.
    pub mounts: usize,
    /// Symbolic links.
    pub links: usize,
    /// Directories and files with which the filesystem failed.
    pub failed: usize,
}

/// More failures than these are trouble with the whole tree.
const FAILURES: usize = 100;

/// A walk under way.
#[derive(Debug)]
pub struct Scan {
    /// Directories still to be listed (`None` is the root), the next one last.
    pending: Vec<Option<RelPath>>,
    listing: Option<Listing>,
    recursive: bool,
    /// What was passed over so far.
    pub passed_over: PassedOver,
    failure: Option<io::Error>,
}

/// One directory, listed; its entries are taken one after another, by name.
#[derive(Debug)]
struct Listing {
    path: Option<RelPath>,
    dir: OwnedFd,
    names: std::vec::IntoIter<(Vec<u8>, FileType)>,
    directories: Vec<Option<RelPath>>,
}

impl Scan {
    /// A walk through the whole drop directory.
    pub fn full(recursive: bool) -> Self {
        Self {
            pending: vec![None],
            listing: None,
            recursive,
            passed_over: PassedOver::default(),
            failure: None,
        }
    }

    /// A walk through single directories, added by [`Scan::add`].
    pub fn partial(recursive: bool) -> Self {
        Self {
            pending: Vec::new(),
            ..Self::full(recursive)
        }
    }

    /// Also walks this directory.
    pub fn add(&mut self, directory: RelPath) {
        self.pending.push(Some(directory));
    }

    /// Whether everything has been walked.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.listing.is_none()
    }

    /// Looks at up to `budget` entries. `enter` is called before a directory is listed: what appears in it after that must
    /// be noticed by other means.
    pub fn turn(
        &mut self,
        root: &Root,
        ignore: &Ignore,
        mut budget: usize,
        enter: &mut dyn FnMut(Option<&RelPath>),
    ) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        while budget > 0 && !self.is_done() {
            budget -= 1;
            let Some(listing) = &mut self.listing else {
                if let Some(directory) = self.pending.pop() {
                    self.open(root, directory, enter, &mut found)?;
                }
                continue;
            };
            let Some((name, kind)) = listing.names.next() else {
                // Sub-directories come after the files, the first by name first.
                self.pending
                    .extend(std::mem::take(&mut listing.directories).into_iter().rev());
                self.listing = None;
                continue;
            };
            let Ok(path) = below(listing.path.as_ref(), &name) else {
                self.passed_over.unreadable += 1;
                continue;
            };
            if ignore.entry(&path) {
                continue;
            }
            let stat = match kind {
                FileType::Directory => None,
                FileType::RegularFile | FileType::Unknown => {
                    match rustix::fs::statat(
                        listing.dir.as_fd(),
                        name.as_slice(),
                        AtFlags::SYMLINK_NOFOLLOW,
                    ) {
                        Ok(stat) => Some(stat),
                        Err(Errno::NOENT) => continue,
                        Err(Errno::ACCESS | Errno::PERM) => {
                            self.passed_over.unreadable += 1;
                            continue;
                        }
                        Err(error) => {
                            self.fails(error.into())?;
                            continue;
                        }
                    }
                }
                FileType::Symlink => {
                    self.passed_over.links += 1;
                    continue;
                }
                _ => continue,
            };
            match stat.map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode)) {
                FileType::Directory if self.recursive => listing.directories.push(Some(path)),
                FileType::RegularFile => found.extend(stat.map(|stat| Found::File(path, stat))),
                FileType::Symlink => self.passed_over.links += 1,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Opens and lists a directory. One that vanished meanwhile is no error; the root is.
    fn open(
        &mut self,
        root: &Root,
        path: Option<RelPath>,
        enter: &mut dyn FnMut(Option<&RelPath>),
        found: &mut Vec<Found>,
    ) -> io::Result<()> {
        let dir = match root.open_dir(path.as_ref()) {
            Ok(dir) => dir,
            Err(error) if path.is_some() => return self.pass_over(error),
            Err(error) => return Err(error),
        };
        if path.is_some() {
            match is_mount_point(&dir, root) {
                Ok(false) => {}
                Ok(true) => {
                    self.passed_over.mounts += 1;
                    return Ok(());
                }
                Err(error) => return self.fails(error),
            }
        }
        enter(path.as_ref());
        let mut names = Vec::new();
        let entries = match Dir::read_from(&dir) {
            Err(error) if path.is_some() => return self.fails(error.into()),
            entries => entries?,
        };
        for entry in entries {
            let entry = match entry {
                // What has been listed so far is looked at.
                Err(error) if path.is_some() => {
                    self.fails(error.into())?;
                    break;
                }
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        if let Some(path) = path
            .clone()
            .filter(|_| names.iter().any(|(name, _)| is_dicomdir(name)))
        {
            found.push(Found::Medium(path));
        }
        self.listing = Some(Listing {
            path,
            dir,
            names: names.into_iter(),
            directories: Vec::new(),
        });
        Ok(())
    }

    fn pass_over(&mut self, error: io::Error) -> io::Result<()> {
        match Errno::from_io_error(&error) {
            // Gone, or something else (a link) in its place.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Some(Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG) => {
                self.passed_over.unreadable += 1;
                Ok(())
            }
            _ => self.fails(error),
        }
    }

    /// Goes on behind what failed, unless too much does.
    fn fails(&mut self, error: io::Error) -> io::Result<()> {
        if self.passed_over.failed >= FAILURES {
            return Err(error);
        }
        self.passed_over.failed += 1;
        self.failure.get_or_insert(error);
        Ok(())
    }

    /// The first failure since the last call.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }
}

/// Whether a name is a DICOMDIR (PS3.10 section 8.6), as CDs and those who copy them write it.
pub fn is_dicomdir(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"DICOMDIR")
}

/// The path of an entry of a directory (`None`: the root).
pub fn below(
    directory: Option<&RelPath>,
    name: &[u8],
) -> Result<RelPath, crate::domain::placement::RelPathError> {
    match directory {
        Some(directory) => directory.join(name),
        None => RelPath::new(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    /// Walks everything, `budget` entries at a time.
    fn walk(
        root: &Root,
        ignore: &[&str],
        recursive: bool,
        budget: usize,
    ) -> (Vec<String>, Vec<String>, PassedOver) {
        let ignore = Ignore::new(
            &ignore
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let mut scan = Scan::full(recursive);
        let (mut files, mut media) = (Vec::new(), Vec::new());
        while !scan.is_done() {
            for found in scan.turn(root, &ignore, budget, &mut |_| {}).unwrap() {
                match found {
                    Found::File(path, _) => files.push(path.to_string()),
                    Found::Medium(path) => media.push(path.to_string()),
                }
            }
        }
        (files, media, scan.passed_over)
    }

    #[test]
    fn regular_files_are_found_by_name_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        };
        for path in [
            "b.dcm",
            "a.dcm",
            "sub/deep/c.dcm",
            "sub/d.dcm",
            "cd/dicomdir",
            "cd/x/1",
            ".hidden/e",
            "f.part",
            "log/g",
        ] {
            make(path);
        }
        symlink(dir.path(), dir.path().join("sub/loop")).unwrap();
        symlink("a.dcm", dir.path().join("alias.dcm")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for budget in [1, 2, 100] {
            let (files, media, passed_over) = walk(&root, &["log"], true, budget);
            assert_eq!(
                files,
                [
                    "a.dcm",
                    "b.dcm",
                    "cd/dicomdir",
                    "cd/x/1",
                    "sub/d.dcm",
                    "sub/deep/c.dcm"
                ]
            );
            assert_eq!(media, ["cd"]);
            assert_eq!(
                passed_over,
                PassedOver {
                    links: 2,
                    ..PassedOver::default()
                }
            );
        }
        assert_eq!(walk(&root, &[], false, 100).0, ["a.dcm", "b.dcm"]);
    }

    #[test]
    fn a_directory_is_entered_before_it_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let ignore = Ignore::new(&[]).unwrap();
        let mut scan = Scan::full(true);
        let mut found = Vec::new();
        while !scan.is_done() {
            let late = |entered: Option<&RelPath>| {
                let at = entered.map_or_else(String::new, ToString::to_string);
                std::fs::write(dir.path().join(at).join("late"), "x").unwrap();
            };
            found.extend(scan.turn(&root, &ignore, 1, &mut { late }).unwrap());
        }
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_root_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        drop(dir);
        let ignore = Ignore::new(&[]).unwrap();
        // Linux lists a deleted directory as empty: the watcher compares the root with its path before each scan.
        assert!(!root.is_current());
        let mut scan = Scan::partial(true);
        scan.add(RelPath::new("gone").unwrap());
        assert!(
            scan.turn(&root, &ignore, 10, &mut |_| {})
                .unwrap()
                .is_empty()
        );
        assert!(scan.is_done());
    }
}
