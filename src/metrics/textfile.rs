//! Metrics as a file for node_exporter's textfile collector: no port, no socket.
//!
//! The file appears by a rename, so that a half-written one is never read. It can be read by everybody: it holds no
//! patient's identity.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The file in a directory: one for each configuration, so that several sites on one server do not overwrite each other.
pub fn path(directory: &Path, config: &Path) -> PathBuf {
    let stem = config.file_stem().and_then(|stem| stem.to_str());
    let name = match stem {
        None | Some("radsort") => "radsort.prom".to_owned(),
        Some(other) => format!("radsort-{other}.prom"),
    };
    directory.join(name)
}

/// Writes the file anew. Blocks.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    // node_exporter reads *.prom only.
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&new)?;
    // Whatever the umask says.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path).inspect_err(|_| drop(std::fs::remove_file(&new)))
}

/// Takes the file away: figures of a service that does not run would look alive.
pub fn remove(path: &Path) {
    // It may never have been written.
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_appears_whole_readable_by_all_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), Path::new("/etc/radsort/radsort.toml"));
        write(&file, "a 1\n").unwrap();
        write(&file, "a 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a 2\n");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&file);
        remove(&file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(write(&dir.path().join("gone/radsort.prom"), "").is_err());
    }

    #[test]
    fn two_sites_on_one_server_have_two_files() {
        let file = |config: &str| path(Path::new("/d"), Path::new(config));
        assert_eq!(
            file("/etc/radsort/radsort.toml"),
            Path::new("/d/radsort.prom")
        );
        assert_eq!(
            file("/etc/radsort/north.toml"),
            Path::new("/d/radsort-north.prom")
        );
    }
}
