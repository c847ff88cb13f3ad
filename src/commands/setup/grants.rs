//! What the service must see and write, by its configuration.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::advice::real;
use super::unit::{Unit, is_hidden};
use crate::config::Settings;
use crate::config::settings::Action;
use crate::metrics::textfile;

/// One directory that the service gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is, for the comment.
    pub what: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether the service writes there.
    pub writes: bool,
    /// What cannot be done without it.
    pub needed: Needed,
}

/// What cannot be done while a directory is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needed {
    /// Nothing of the rest: a drop directory.
    Not,
    /// Nothing can be filed. The library's marker says whether it is there, and the service waits for it.
    ToFile,
    /// The service cannot go on: its state, its socket; or nobody could tell that it is away: the quarantine.
    ToStart,
}

/// Every directory of the configuration that the unit does not grant by itself, as it is granted here and now.
pub fn grants(settings: &Settings, unit: &Unit) -> Vec<Grant> {
    joined(named(settings, unit))
}

/// The same, each directory by itself.
pub fn named(settings: &Settings, unit: &Unit) -> Vec<Grant> {
    let mut grants = vec![Grant {
        needed: Needed::ToFile,
        ..destination("the library", &settings.library.path)
    }];
    for (what, path) in [
        ("the quarantine", &settings.library.quarantine),
        ("the duplicates", &settings.library.duplicates),
    ] {
        if !path.starts_with(&settings.library.path) {
            grants.push(destination(what, path));
        }
    }
    if settings.state != unit.state() {
        grants.push(destination("the state", &settings.state));
    }
    let socket = settings.control.socket.parent().unwrap_or(Path::new("/"));
    if !socket.starts_with(unit.runtime()) && !socket.starts_with(&settings.state) {
        grants.push(destination("the control socket", socket));
    }
    // It keeps nothing from starting.
    if let Some(directory) = textfile::directory(&settings.metrics.textfile) {
        grants.push(Grant {
            needed: Needed::Not,
            ..destination("figures for node_exporter", directory)
        });
    }
    for watch in &settings.watches {
        let action = match watch.action {
            Action::Observe => "observe",
            Action::Copy => "copy",
            Action::Move => "move",
        };
        grants.push(Grant {
            what: format!("the drop directory {:?} ({action})", watch.name),
            path: watch.path.clone(),
            writes: watch.action == Action::Move,
            needed: Needed::Not,
        });
    }
    for grant in &mut grants {
        grant.path = seen_at(&grant.path);
    }
    grants
}

/// Where the service comes upon a directory: where its path leads, as systemd's mounts do. A link in a home is put in place
/// like a directory there.
pub fn seen_at(path: &Path) -> PathBuf {
    if is_hidden(path) {
        path.to_owned()
    } else {
        real(path)
    }
}

fn destination(what: &str, path: &Path) -> Grant {
    Grant {
        what: what.to_owned(),
        path: path.to_owned(),
        writes: true,
        needed: Needed::ToStart,
    }
}

/// Directories that are written to, lie side by side on one filesystem and are all that their parent holds, are granted by
/// their parent: files can then be renamed from one into the other. (Granted one by one, each is a mount of its own in the
/// service's eyes, and files must be copied.)
fn joined(grants: Vec<Grant>) -> Vec<Grant> {
    let Some(parent) = grants[0].path.parent().map(Path::to_owned) else {
        return grants;
    };
    let (inside, outside): (Vec<Grant>, Vec<Grant>) = grants
        .into_iter()
        .partition(|grant| grant.writes && grant.path.parent() == Some(&parent));
    let known: BTreeSet<&Path> = inside
        .iter()
        .chain(&outside)
        .map(|grant| grant.path.as_path())
        .collect();
    let holds_nothing_else = std::fs::read_dir(&parent).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| known.contains(entry.path().as_path())))
    });
    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    let one_disk = inside
        .iter()
        .all(|grant| device(&grant.path).is_some_and(|it| Some(it) == device(&parent)));
    if inside.len() < 2 || !holds_nothing_else || !one_disk || parent == Path::new("/") {
        return inside.into_iter().chain(outside).collect();
    }
    let needed = inside.iter().map(|grant| grant.needed).max();
    let needed = needed.unwrap_or(Needed::Not);
    let names: Vec<&str> = inside.iter().map(|grant| grant.what.as_str()).collect();
    let together = Grant {
        what: format!("{}, which lie side by side here", names.join(", ")),
        path: parent,
        writes: true,
        needed,
    };
    std::iter::once(together).chain(outside).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grant(path: &Path, writes: bool) -> Grant {
        Grant {
            what: "x".into(),
            path: path.to_owned(),
            writes,
            needed: if writes { Needed::ToStart } else { Needed::Not },
        }
    }

    #[test]
    fn a_link_into_what_the_unit_hides_is_granted_where_it_leads() {
        // Beside the sources: directories for temporary files are hidden themselves.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let link = dir.path().join("drop");
        std::os::unix::fs::symlink("/home/scan/in", &link).unwrap();
        if is_hidden(&link) {
            return eprintln!("SKIPPED: the sources lie in a home");
        }
        assert_eq!(seen_at(&link), Path::new("/home/scan/in"));
        let of_home = Path::new("/home/scan/link");
        assert_eq!(seen_at(of_home), of_home);
    }

    #[test]
    fn neighbours_that_are_all_their_parent_holds_are_granted_together_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (library, drop) = (dir.path().join("library"), dir.path().join("drop"));
        for path in [&library, &drop] {
            std::fs::create_dir(path).unwrap();
        }
        let paths = |drop_writes: bool| -> Vec<PathBuf> {
            joined(vec![grant(&library, true), grant(&drop, drop_writes)])
                .into_iter()
                .map(|grant| grant.path)
                .collect()
        };
        assert_eq!(paths(true), [dir.path()]);
        // What is only read stays only read.
        assert_eq!(paths(false), [library.clone(), drop.clone()]);
        std::fs::create_dir(dir.path().join("of-somebody-else")).unwrap();
        assert_eq!(paths(true), [library.clone(), drop.clone()]);
    }
}
