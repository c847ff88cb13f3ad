//! Metrics as a file for node_exporter's textfile collector: no port, no socket.
//!
//! The file appears by a rename, so that a half-written one is never read. It can be read by everybody: it holds no
//! patient's identity.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::site_of;
use crate::config::settings::TextFile;

/// Where Debian's node_exporter looks for such files.
pub const NODE_EXPORTER: &str = "/var/lib/prometheus/node-exporter";

/// The directory that a site wants the file in; `None` for no file. Where the site leaves it to radsort, that is
/// node_exporter's, if it is there: whether it can be [written to](may_write) is another question.
pub fn directory(wanted: &TextFile) -> Option<&Path> {
    match wanted {
        TextFile::Off => None,
        TextFile::In(path) => Some(path),
        TextFile::Auto => Some(Path::new(NODE_EXPORTER)).filter(|path| path.is_dir()),
    }
}

/// The same for the service: what the site has not asked for in so many words is left out, and nobody is bothered with
/// that, when it cannot be written to. `radsort check` and `setup` tell.
pub fn directory_to_use(wanted: &TextFile) -> Option<&Path> {
    let directory = directory(wanted)?;
    match may_write(directory) {
        Err(error) if *wanted == TextFile::Auto => {
            let directory = directory.display();
            tracing::debug!("no figures for node_exporter: {directory}: {error}");
            None
        }
        _ => Some(directory),
    }
}

/// Whether this (effective) user may make files in a directory, through the unit's sandbox as well.
pub fn may_write(directory: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(
        CWD,
        directory,
        access,
        AtFlags::EACCESS,
    )?)
}

/// The file in a directory: one for each configuration, so that several sites on one server do not overwrite each other.
pub fn path(directory: &Path, config: &Path) -> PathBuf {
    directory.join(match site_of(config).as_str() {
        "radsort" => "radsort.prom".to_owned(),
        site => format!("radsort-{site}.prom"),
    })
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

/// Takes the file away when the service is stopped: its figures would look alive. After a crash it stays, and its age
/// tells (`radsort_last_update_timestamp_seconds`).
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
    fn a_directory_that_is_not_there_cannot_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        may_write(dir.path()).unwrap();
        let gone = may_write(&dir.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(directory(&TextFile::Off), None);
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
