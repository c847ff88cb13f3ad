//! Where radsort writes: library, quarantine and duplicates, on which disks, with how much room.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::findings::{Findings, Verdict};
use super::{Probe, probe_name, share_kind};
use crate::commands::setup::directories::known_marker;
use crate::config::Settings;
use crate::filing::destinations::MARKER;

/// Below so many free bytes a disk is an error, or a warning.
const SPACE: (u64, u64) = (256 << 20, 5 << 30);

/// Library, quarantine and duplicates: can be written to, and have room.
pub(super) fn check_destinations(settings: &Settings, findings: &mut Findings) {
    let library = &settings.library;
    let away = away(settings);
    findings.tell(away.clone());
    for (what, path) in [
        ("library", &library.path),
        ("quarantine", &library.quarantine),
        ("duplicates", &library.duplicates),
    ] {
        let below_library = path != &library.path && path.starts_with(&library.path);
        if away.is_some() && path.starts_with(&library.path) {
            continue;
        }
        let existing = path
            .ancestors()
            .find(|dir| dir.exists())
            .unwrap_or(Path::new("/"));
        if let Err(error) = try_writing(existing) {
            let advice = "The daemon's user must be able to make files and directories there.";
            findings.error(what, format!("{}: {error}", existing.display()), advice);
            continue;
        }
        if existing == path || below_library {
            let kind = share_kind(existing)
                .map_or_else(|error| error.to_string(), |kind| kind.to_string());
            findings.ok(
                what,
                format!("{} ({kind}) can be written to", path.display()),
            );
        } else {
            findings.warning(
                what,
                format!(
                    "{} does not exist yet; it can be made in {}",
                    path.display(),
                    existing.display()
                ),
                "If it is a mount point or a share, it is not there now.",
            );
        }
        if !below_library {
            check_space(what, existing, findings);
        }
    }
}

/// A library that is on record, and is not where the configuration says: whatever else is wrong there is of no account.
fn away(settings: &Settings) -> Option<Verdict> {
    let path = &settings.library.path;
    // One that this user cannot look into may be there.
    let is_missing = matches!(path.join(MARKER).try_exists(), Ok(false));
    if !is_missing || known_marker(&settings.state).is_none() {
        return None;
    }
    let shown = path.display();
    let (message, advice) = if path.exists() {
        (
            format!(
                "{shown}: its marker {MARKER} is not there, so this is not the library that the ledger knows: intake stops"
            ),
            "Mount the library there, or restore its marker from a backup. Files wait in the drop directories.",
        )
    } else {
        (
            format!("{shown} is on record, and is not there: intake stops"),
            "Mount the share that it lies on; nothing is to be made in its place. Files wait in the drop directories.",
        )
    };
    Some(Verdict::error("library", message, advice))
}

/// Makes a directory and a file in it, syncs, and removes both.
fn try_writing(dir: &Path) -> io::Result<()> {
    let made = dir.join(probe_name());
    DirBuilder::new().create(&made)?;
    let tried = (|| {
        let file = Probe(made.join("probe.part"));
        let mut opened = File::create_new(&file.0)?;
        opened.write_all(b"radsort check")?;
        opened.sync_all()
    })();
    std::fs::remove_dir(&made).and(tried)
}

pub(super) fn check_space(what: &str, path: &Path, findings: &mut Findings) {
    let what = format!("{what} space");
    let stat = match rustix::fs::statvfs(path) {
        Ok(stat) => stat,
        Err(error) => {
            return findings.error(
                &what,
                format!("{}: {error}", path.display()),
                "Mount the disk, and see to it that the service may enter the directory.",
            );
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // Some filesystems (btrfs, shares) have no fixed number of inodes and say 0.
    let inodes = (stat.f_files > 0).then_some(stat.f_favail);
    let inodes_text = inodes.map_or(String::new(), |inodes| format!(", {inodes} inodes"));
    let message = format!("{}: {} free{inodes_text}", path.display(), bytes(free));
    let inodes = inodes.unwrap_or(u64::MAX);
    if free < SPACE.0 || inodes < 1000 {
        findings.error(
            &what,
            message,
            "Make room: when it is full, intake stops (nothing is lost).",
        );
    } else if free < SPACE.1 || inodes < 100_000 {
        findings.warning(
            &what,
            message,
            "Make room soon: when it is full, intake stops (nothing is lost).",
        );
    } else {
        findings.ok(&what, message);
    }
}

/// `4.2 GiB`.
fn bytes(n: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")];
    let unit = units.iter().find(|(size, _)| n >= *size);
    unit.map_or_else(
        || format!("{n} bytes"),
        |(size, name)| format!("{:.1} {name}", n as f64 / *size as f64),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]
    use super::*;
    use crate::filing::ledger::Ledger;
    use crate::filing::record::Record;

    #[test]
    fn trying_to_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        try_writing(dir.path()).unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        assert!(try_writing(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn sizes_are_told_in_units_for_people() {
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes(17), "17 bytes");
    }

    #[test]
    fn a_library_on_record_that_is_not_there_is_to_be_mounted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let text = format!(
            "[[watch]]\npath = {:?}\n[library]\npath = {:?}\n[state]\npath = {:?}\n",
            at.join("drop"),
            at.join("nas/library"),
            at.join("state")
        );
        let file = at.join("x.toml");
        let settings = crate::config::parse(&file, &[(file.clone(), text)]).unwrap();
        assert_eq!(away(&settings), None, "a new site");
        std::fs::create_dir(&settings.state).unwrap();
        let (mut ledger, _) = Ledger::open(&settings.state).unwrap();
        let marker = "0".repeat(32);
        ledger.append_group(&[Record::Library { marker }]).unwrap();
        drop(ledger);
        let said = away(&settings).unwrap();
        assert!(
            said.message.contains("on record") && said.advice.contains("Mount the share"),
            "{said:?}"
        );
        std::fs::create_dir_all(&settings.library.path).unwrap();
        assert!(away(&settings).unwrap().message.contains(MARKER));
        std::fs::write(settings.library.path.join(MARKER), "").unwrap();
        assert_eq!(away(&settings), None);
    }
}
