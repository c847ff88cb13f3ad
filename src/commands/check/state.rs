//! The state directory: ledger, key and index, and whether the service can start from them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::disks::check_space;
use super::findings::{Findings, Verdict};
use super::{may, share_kind};
use crate::commands::setup::advice::{in_shell, real};
use crate::commands::setup::unit::Unit;
use crate::config::Settings;
use crate::filing::ledger::Ledger;
use crate::filing::secrets::{Secrets, SecretsError};
use crate::index::{Index, IndexError};
use crate::state::unusable;
use crate::watch::ShareKind;

/// The state directory: on a local disk, private, with an index that opens.
pub(super) fn check(settings: &Settings, running: bool, findings: &mut Findings) {
    let state = &settings.state;
    let existing = state
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    match share_kind(existing) {
        Ok(kind @ ShareKind::Remote(_)) => findings.error(
            "state",
            format!("{} is on {kind}", state.display()),
            "Ledger and index need a local disk: set [state] path to one.",
        ),
        Ok(kind @ ShareKind::Unknown(_)) => findings.warning(
            "state",
            format!("{} is on a filesystem that radsort does not know: {kind}", state.display()),
            "Make sure that it is a local disk that honours fdatasync.",
        ),
        Ok(kind @ (ShareKind::Memory | ShareKind::Overlay)) => findings.warning(
            "state",
            format!("{} is on {kind}", state.display()),
            "The ledger would be gone after a restart of the machine or container: set [state] path to a disk or volume.",
        ),
        Ok(kind) => findings.ok("state", format!("{} ({kind})", state.display())),
        Err(error) => findings.error("state", format!("{}: {error}", existing.display()), "See to it that the service may enter the directory."),
    }
    let own = Unit::of(&settings.source, None).map(|unit| unit.state());
    if let Some(own) = own.filter(|own| own.is_symlink()) {
        findings.error(
            "state",
            format!(
                "{} is a link, and the service does not start with one in that place (status 238)",
                own.display()
            ),
            &format!(
                "Name the directory itself, [state] path = {:?}, and remove the link: rm {}",
                real(&own).to_string_lossy(),
                in_shell(&own)
            ),
        );
    }
    check_space("state", existing, findings);
    if existing != state {
        return match may(existing, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => findings.ok("index", "none yet; it is made at the first start"),
            Err(error) => findings.error(
                "state",
                format!(
                    "{} does not exist, and cannot be made in {}: {error}",
                    state.display(),
                    existing.display()
                ),
                "Make it, owned by the daemon's user, mode 0700 (systemd: StateDirectory=radsort).",
            ),
        };
    }
    match std::fs::metadata(state) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => findings.warning(
            "state",
            format!(
                "{} has mode {:04o}: others can look into it",
                state.display(),
                metadata.mode() & 0o7777
            ),
            &format!(
                "It holds source paths, which can hold names, and the key of the pseudonyms: chmod -R u=rwX,go= {}",
                in_shell(state)
            ),
        ),
        _ => {}
    }
    if let Err(error) = may(state, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return findings.error(
            "state",
            format!("{}: {error}", state.display()),
            "The daemon's user must own it.",
        );
    }
    if let Some(path) = unusable(state) {
        return findings.error(
            "state",
            format!("{} is closed to this user: root has made it, perhaps", path.display()),
            &format!(
                "Give it back to the owner of the directory, and start the service again: chown -hR --reference={path} {path}",
                path = in_shell(state)
            ),
        );
    }
    check_index(state, running, findings);
    if !running {
        findings.tell(records(state));
    }
}

/// Whether the service can go on from what is on record: it does not start with a ledger, or a key, that it cannot read.
fn records(state: &Path) -> Vec<Verdict> {
    if !state.join("ledger").exists() {
        return vec![Verdict::ok(
            "ledger",
            "none yet; it is made at the first start",
        )];
    }
    // The error says what to do.
    let read = Ledger::read(state, None)
        .and_then(|lines| lines.map(|line| line.map(|_| 1)).sum::<Result<u64, _>>());
    let (ledger, records) = match read {
        Ok(records) => (
            Verdict::ok("ledger", format!("{records} records, none damaged")),
            records,
        ),
        Err(error) => (
            Verdict::error(
                "ledger",
                error.to_string(),
                "The service does not start with it.",
            ),
            1,
        ),
    };
    let key = match Secrets::look(state) {
        Ok(()) => Verdict::ok(
            "key",
            format!("{} can be read", state.join("key").display()),
        ),
        Err(SecretsError::Missing(_)) if records == 0 => {
            Verdict::ok("key", "none yet; it is made at the first start")
        }
        Err(error) => Verdict::error(
            "key",
            error.to_string(),
            "The service does not start without it.",
        ),
    };
    vec![ledger, key]
}

/// Opens the index, if there is one that is ours to open (it would be given to this user).
fn check_index(state: &Path, running: bool, findings: &mut Findings) {
    let dir = state.join("index");
    let mine = |metadata: std::fs::Metadata| metadata.uid() == rustix::process::geteuid().as_raw();
    match std::fs::metadata(&dir).map(mine) {
        Err(_) => return findings.ok("index", "none yet; it is made at the first start"),
        Ok(false) => {
            return findings.ok(
                "index",
                format!("{}: not tried, it belongs to another user", dir.display()),
            );
        }
        Ok(true) if running => {
            return findings.ok(
                "index",
                format!("{}: held by the running daemon", dir.display()),
            );
        }
        Ok(true) => {}
    }
    match Index::open(&dir) {
        Ok(index) => match index.close() {
            Ok(()) => findings.ok("index", format!("{} opens", dir.display())),
            Err(error) => findings.error(
                "index",
                error,
                "If the disk is sound, run `radsort reindex`.",
            ),
        },
        Err(IndexError::Locked(_)) => findings.ok(
            "index",
            format!("{}: held by another radsort process", dir.display()),
        ),
        Err(error @ IndexError::NeedsRebuild { .. }) => findings.warning("index", error, "Nothing is lost: the service builds it anew at its next start, or `radsort reindex` does."),
        Err(error) => findings.error(
            "index",
            error,
            "If the disk is sound, run `radsort reindex`.",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::check::findings::Level;
    use crate::filing::record::Record;

    #[test]
    fn what_keeps_the_service_from_starting_is_found_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let levels = || -> Vec<Level> { records(state).iter().map(|it| it.level).collect() };
        assert_eq!(levels(), [Level::Ok], "a new site");
        let (mut ledger, _) = Ledger::open(state).unwrap();
        assert_eq!(
            levels(),
            [Level::Ok, Level::Ok],
            "begun, and nothing on record"
        );
        let marker = "0".repeat(32);
        ledger.append_group(&[Record::Library { marker }]).unwrap();
        drop(ledger);
        assert_eq!(levels(), [Level::Ok, Level::Error], "no key");
        Secrets::open(state, true).unwrap();
        assert_eq!(levels(), [Level::Ok, Level::Ok]);
        std::fs::write(state.join("key"), [0xff, 0xfe, 0]).unwrap();
        assert_eq!(levels(), [Level::Ok, Level::Error], "no key of radsort");
        let ledger = state.join("ledger");
        let segment = std::fs::read_dir(&ledger).unwrap().next().unwrap().unwrap();
        let text = std::fs::read_to_string(segment.path()).unwrap();
        std::fs::write(segment.path(), text.replacen("000", "001", 1)).unwrap();
        assert_eq!(levels()[0], Level::Error, "damaged");
        // As on a filesystem of its own, and a key that is for reading only.
        let mode = |name: &str, mode| {
            let path = state.join(name);
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        std::fs::create_dir(state.join("lost+found")).unwrap();
        mode("lost+found", 0o000);
        mode("key", 0o400);
        assert_eq!(unusable(state), None);
        mode("key", 0o000);
        let found = unusable(state);
        if rustix::process::geteuid().is_root() {
            assert_eq!(found, None, "nothing is closed to root");
        } else {
            assert_eq!(found, Some(state.join("key")));
        }
    }
}
