//! Several sites on one machine: what two configurations must not have in common.

use std::path::{Path, PathBuf};

use super::advice::real;
use super::unit::Unit;
use crate::config::{self, Settings};

/// Something that two configurations both name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The key, as it stands in the file.
    pub key: &'static str,
    /// What it names.
    pub path: PathBuf,
    /// The other configuration.
    pub with: PathBuf,
}

impl Shared {
    /// What becomes of it, for a person.
    pub fn message(&self) -> String {
        format!(
            "{} has {} = \"{}\" as well: two services cannot share it, and one of them does not work",
            self.with.display(),
            self.key,
            self.path.display()
        )
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        format!(
            "Give each configuration its own {}, or move the one that no service reads out of its folder (docs/install.md, \
             several sites).",
            self.key
        )
    }
}

/// What the configurations of other services of this machine name as well.
pub fn shared_here(settings: &Settings) -> Vec<Shared> {
    match Unit::of(&settings.source, None) {
        Some(_) => shared(settings),
        None => Vec::new(),
    }
}

/// What other configurations beside this one name as well. Those that cannot be read are passed over: their own check says so.
fn shared(settings: &Settings) -> Vec<Shared> {
    let others = std::fs::read_dir(settings.source.parent().unwrap_or(Path::new("/")));
    let mut others: Vec<PathBuf> = others
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .filter(|path| real(path) != real(&settings.source))
        .collect();
    others.sort();
    let read = others.iter().filter_map(|other| config::load(other).ok());
    read.flat_map(|other| in_common(settings, &other)).collect()
}

fn in_common(one: &Settings, other: &Settings) -> Vec<Shared> {
    [
        ("[state] path", &one.state, &other.state),
        (
            "[control] socket",
            &one.control.socket,
            &other.control.socket,
        ),
        ("[library] path", &one.library.path, &other.library.path),
    ]
    .into_iter()
    .filter(|(_, one, other)| real(one) == real(other))
    .map(|(key, path, _)| Shared {
        key,
        path: path.clone(),
        with: other.source.clone(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copied_configuration_shares_state_socket_and_library() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, state: &str, library: &str| {
            let at = |it: &str| dir.path().join(it);
            let text = format!(
                "[[watch]]\npath = {:?}\n[library]\npath = {:?}\n[state]\npath = {:?}\n[control]\nsocket = {:?}\n",
                at("drop"),
                at(library),
                at(state),
                at(&format!("{state}/control.sock"))
            );
            let file = at(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let first = write("radsort.toml", "state", "library");
        write("ward3.toml", "state", "library");
        write("ward4.toml", "state4", "library4");
        std::fs::write(dir.path().join("broken.toml"), "[").unwrap();
        std::fs::write(dir.path().join("notes.txt"), "state").unwrap();
        let found = shared(&config::load(&first).unwrap());
        let keys: Vec<_> = found.iter().map(|it| it.key).collect();
        assert_eq!(keys, ["[state] path", "[control] socket", "[library] path"]);
        assert!(found[0].message().contains("ward3.toml"), "{found:?}");
    }
}
