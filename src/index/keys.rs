//! How the index is found again: the keys and counters that follow from an [`Entry`], and from nothing else.
//!
//! All keys live in one tree: a byte that says which kind, a value, a NUL (no value holds one), the time, the id.
//! Within one value they are therefore in the order of time, and two files never share a key.

use crate::domain::placement::RootId;
use crate::domain::{Placement, RelPath};

use super::entry::{Entry, State};
use super::query::LabelState;

/// What a key is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Every live entry, by time alone.
    Time = b't',
    /// Live entries by fate.
    Fate = b'f',
    /// Live entries by category.
    Category = b'c',
    /// Live entries by reason.
    Reason = b'r',
    /// Live entries by whether a person has labelled them (`given`, `pending`; both is possible).
    Label = b'l',
    /// Live entries by Study Instance UID.
    Study = b's',
    /// All entries by SOP Instance UID.
    Uid = b'u',
    /// Entries whose file lies (or lay) in a root, by digest.
    Digest = b'd',
    /// Entries whose file lies (or lay) in a root, by its place.
    Place = b'p',
    /// All entries that came through a watch, by where they lay in it.
    Source = b'w',
}

/// The beginning that all keys of one kind and value share.
pub(super) fn prefix(kind: Kind, value: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(value.len() + 48);
    key.push(kind as u8);
    key.extend_from_slice(value);
    key.push(0);
    key
}

/// A time as bytes that sort like it.
pub(super) fn time(time_us: i64) -> [u8; 8] {
    (time_us.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The value under which a place is found.
pub(super) fn place(at: &Placement) -> Vec<u8> {
    let mut value = match &at.root {
        RootId::Library => b"library".to_vec(),
        RootId::Quarantine => b"quarantine".to_vec(),
        RootId::Duplicates => b"duplicates".to_vec(),
        RootId::Watch(name) => [b"watch ", name.as_bytes()].concat(),
    };
    value.push(b'/');
    value.extend_from_slice(at.path.as_bytes());
    value
}

/// The value under which a place in a drop directory is found.
pub(super) fn source(watch: &str, from: &RelPath) -> Vec<u8> {
    [watch.as_bytes(), b"/", from.as_bytes()].concat()
}

/// The keys that lead to an entry.
pub(super) fn of(entry: &Entry) -> Vec<Vec<u8>> {
    let mut keys = Vec::with_capacity(10);
    let mut add = |kind: Kind, value: &[u8]| {
        let mut key = prefix(kind, value);
        key.extend_from_slice(&time(entry.filed_us));
        key.extend_from_slice(entry.id.0.as_bytes());
        keys.push(key);
    };
    if entry.state == State::Live {
        add(Kind::Time, b"");
        add(Kind::Fate, entry.fate.as_str().as_bytes());
        if let Some(category) = &entry.category {
            add(Kind::Category, category.as_str().as_bytes());
        }
        if let Some(reason) = entry.reason {
            add(Kind::Reason, reason.code().as_bytes());
        }
        for state in LabelState::of(entry) {
            // That nobody has said anything is true of nearly every entry, and nobody looks for them by it.
            if state != LabelState::None {
                add(Kind::Label, state.as_str().as_bytes());
            }
        }
        if let Some(study) = &entry.study_instance_uid {
            add(Kind::Study, study.as_str().as_bytes());
        }
    }
    if entry.placed && matches!(entry.state, State::Live | State::Missing) {
        add(Kind::Digest, entry.digest.0.as_bytes());
        add(Kind::Place, &place(&entry.at));
    }
    if let Some(uid) = &entry.sop_instance_uid {
        add(Kind::Uid, uid.as_str().as_bytes());
    }
    if let (Some(watch), Some(from)) = (&entry.watch, &entry.from) {
        add(Kind::Source, &source(watch, from));
    }
    keys
}

/// The counters that an entry counts in: `fate/…`, `category/…`, `reason/…`, `model/…`, `label/…`, `watch/<name>/<fate>`, and
/// of these `observed/<name>/<fate>` if it was only decided on; `held/<name>` alone if it was given back and not let go.
pub(super) fn counters(entry: &Entry) -> Vec<String> {
    if entry.state.is_held() {
        let watch = entry.watch.as_deref().unwrap_or_default();
        return vec![format!("held/{watch}")];
    }
    if entry.state != State::Live {
        return Vec::new();
    }
    let fate = entry.fate.as_str();
    let mut counters = vec![format!("fate/{fate}")];
    counters.extend(
        entry
            .category
            .as_ref()
            .map(|category| format!("category/{category}")),
    );
    counters.extend(entry.reason.map(|reason| format!("reason/{reason}")));
    counters.extend(
        LabelState::of(entry)
            .iter()
            .map(|state| format!("label/{}", state.as_str())),
    );
    counters.extend(entry.model.as_ref().map(|model| format!("model/{model}")));
    counters.extend(
        entry
            .watch
            .as_ref()
            .map(|watch| format!("watch/{watch}/{fate}")),
    );
    if entry.only_observed() {
        let watch = entry.watch.as_deref().unwrap_or_default();
        counters.push(format!("observed/{watch}/{fate}"));
    }
    counters
}
