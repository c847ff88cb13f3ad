//! Whether two directories are the same or one lies inside the other, however their paths are written.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

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
