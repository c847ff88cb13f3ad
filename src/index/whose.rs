//! Whose file lies at a place that several records name: a file that people have moved away, or back into a drop directory,
//! leaves its name to the next one.

use std::io;

use crate::domain::RelPath;
use crate::filing::record::Digest;
use crate::root::Root;

use super::entry::Entry;

/// Of the live entries of a place, the newest first, the one whose file lies there; `None` when there is none, or no file.
/// Only where there are several is the file looked at: by its inode, size and time, and failing that by its bytes.
pub fn whose(root: &Root, path: &RelPath, mut live: Vec<Entry>) -> io::Result<Option<Entry>> {
    if live.len() < 2 {
        return Ok(live.pop());
    }
    let (file, seen) = match root.open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Closed to us, or no regular file: nobody can tell.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
            ) =>
        {
            return Ok(Some(live.swap_remove(0)));
        }
        opened => opened?,
    };
    if let Some(found) = live.iter().position(|it| it.fingerprint == Some(seen)) {
        return Ok(Some(live.swap_remove(found)));
    }
    let digest = Digest::of_file(&file)?;
    let found = live.iter().position(|it| it.digest == digest);
    // Altered since: nothing was ever filed onto another file, so the newest came last.
    Ok(Some(live.swap_remove(found.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::Placement;
    use crate::domain::placement::RootId;
    use crate::filing::record::RecordId;

    #[test]
    fn of_several_records_the_one_with_that_inode_has_the_file_else_the_one_with_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = RelPath::new("a.dcm").unwrap();
        std::fs::write(dir.path().join("a.dcm"), "old").unwrap();
        let (_, seen) = root.open_file(&path).unwrap();
        let entry = |id: &str, bytes: &[u8], fingerprint| {
            let at = Placement {
                root: RootId::Library,
                path: path.clone(),
            };
            let digest = blake3::hash(bytes).into();
            Entry {
                fingerprint,
                ..Entry::adopted(&RecordId(id.into()), &at, &digest, 0)
            }
        };
        let of = |live: Vec<Entry>| {
            let found = whose(&root, &path, live).unwrap();
            found.map(|entry| entry.id.0)
        };
        let (new, old) = (entry("new", b"new", None), entry("old", b"old", None));
        assert_eq!(of(vec![new.clone(), old.clone()]).unwrap(), "old");
        let same_inode = entry("inode", b"altered", Some(seen));
        assert_eq!(of(vec![old, same_inode]).unwrap(), "inode");
        let neither = entry("neither", b"other", None);
        assert_eq!(of(vec![new.clone(), neither]).unwrap(), "new");
        std::fs::remove_file(dir.path().join("a.dcm")).unwrap();
        assert_eq!(of(vec![new.clone(), new.clone()]), None);
        // Where nobody else claims it, nothing is looked at.
        assert_eq!(of(vec![new]).unwrap(), "new");
    }
}
