//! Whether the configured directories keep out of each other's way, however their paths are written.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::fragment::{Located, Place, Problems};

/// A path in the forms in which two of them are compared.
pub struct Whereabouts {
    /// As written, without `.` and `..`.
    lexical: PathBuf,
    /// With the symbolic links of whatever exists of it resolved.
    resolved: PathBuf,
}

impl Whereabouts {
    /// Looks a path up; what does not exist yet is compared by name.
    pub fn of(path: &Path) -> Self {
        let lexical = lexical(path);
        let resolved = resolve(path).unwrap_or_else(|| lexical.clone());
        Self { lexical, resolved }
    }

    /// Whether `self` is `other` or lies inside it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.lexical.starts_with(&other.lexical) || self.resolved.starts_with(&other.resolved)
    }

    /// Whether `self` is outside the library, or in a folder there that is neither a category's nor taken.
    pub fn is_beside_categories(&self, library: &Self) -> bool {
        let free = |path: &Path, library: &Path| {
            let Ok(below) = path.strip_prefix(library) else {
                return true;
            };
            let first = below
                .components()
                .next()
                .map(|first| first.as_os_str().as_encoded_bytes());
            first.is_some_and(|name| {
                name.starts_with(b"_") && name != b"_review" && name != b"_other"
            })
        };
        free(&self.lexical, &library.lexical) && free(&self.resolved, &library.resolved)
    }

    /// Whether one is the other or lies inside it.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_within(other) || other.is_within(self)
    }
}

fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// The longest existing part resolved by the filesystem, the rest as it is written.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut rest: Vec<OsString> = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let whole: PathBuf = std::iter::once(real.into_os_string())
                .chain(rest.into_iter().rev())
                .collect();
            return Some(lexical(&whole));
        }
        rest.push(ancestor.components().next_back()?.as_os_str().to_owned());
    }
    None
}

/// A directory that the configuration names, for the comparison with the others.
pub struct Named {
    /// For messages.
    pub what: String,
    /// Where it is configured.
    pub place: Place,
    /// Where it is.
    pub at: Whereabouts,
}

impl Named {
    /// Looks it up.
    pub fn new(what: impl Into<String>, path: &Located<PathBuf>) -> Self {
        Self {
            what: what.into(),
            place: path.place.clone(),
            at: Whereabouts::of(&path.value),
        }
    }
}

/// Everything that is compared.
pub struct Places {
    /// The drop directories.
    pub watches: Vec<Named>,
    /// The library.
    pub library: Named,
    /// The quarantine.
    pub quarantine: Named,
    /// The duplicates.
    pub duplicates: Named,
    /// The state directory.
    pub state: Named,
    /// What else radsort makes: sockets, the metrics file. It may lie beside anything but in a drop directory.
    pub ours: Vec<Named>,
}

/// Drop directories, library, quarantine, duplicates, state and socket must keep out of each other's way.
pub fn check(places: &Places, problems: &Problems) {
    let Places {
        watches,
        library: root,
        quarantine,
        duplicates,
        state,
        ours,
    } = places;
    let apart = |one: &Named, other: &Named| {
        if one.at.overlaps(&other.at) {
            let message = format!(
                "{} and {} (at {}) are the same or one lies inside the other",
                one.what, other.what, other.place
            );
            problems.add(&one.place, message);
        }
    };
    for (number, watch) in watches.iter().enumerate() {
        for earlier in &watches[..number] {
            apart(watch, earlier);
        }
        for other in [root, quarantine, duplicates, state] {
            apart(watch, other);
        }
        for ours in ours.iter().filter(|ours| ours.at.is_within(&watch.at)) {
            let message = format!("{} lies inside {}", ours.what, watch.what);
            problems.add(&ours.place, message);
        }
    }
    apart(state, root);
    apart(state, quarantine);
    apart(state, duplicates);
    apart(quarantine, duplicates);
    for folder in [quarantine, duplicates] {
        if root.at.is_within(&folder.at) {
            problems.add(
                &folder.place,
                format!("the library lies inside {}", folder.what),
            );
        } else if !folder.at.is_beside_categories(&root.at) {
            let message = format!(
                "{} lies inside the library: its first folder there must start with '_' and be neither _review nor _other",
                folder.what
            );
            problems.add(&folder.place, message);
        }
    }
}
