//! What was copied, observed, left or released, so that no scan, restart or reindex takes it again.
//!
//! Folded from the ledger at start, kept in memory: about 40 bytes a key, two keys a file.

use std::collections::HashMap;

use super::record::{Digest, Held, Intent};
use crate::config::settings::Action;
use crate::domain::{Fingerprint, RelPath};

/// The set. A file that was taken under an action is not taken again under that action or a gentler one
/// (observe < copy < move): who changes a watch from observe to move wants its files moved.
#[derive(Debug, Default)]
pub struct Consumed {
    taken: HashMap<[u8; 16], Action>,
}

impl Consumed {
    /// Whether exactly this file (device, inode, size, time) was taken.
    pub fn contains(&self, action: Action, fingerprint: &Fingerprint) -> bool {
        self.has(action, &file_key(fingerprint))
    }

    /// Whether these bytes at this path were taken: a remounted share gives the same file another device or inode.
    pub fn contains_bytes(
        &self,
        action: Action,
        watch: &str,
        path: &RelPath,
        digest: &Digest,
    ) -> bool {
        self.has(action, &bytes_key(watch, path, digest))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Remembers a file that stays where it is.
    pub(super) fn remember(&mut self, intent: &Intent) {
        self.take(intent.action, file_key(&intent.fingerprint));
        self.take(
            intent.action,
            bytes_key(&intent.watch, &intent.from, &intent.digest),
        );
    }

    /// Remembers a file that was given back: no action takes it.
    pub(super) fn hold(&mut self, held: &Held) {
        self.take(Action::Move, file_key(&held.fingerprint));
        self.take(
            Action::Move,
            bytes_key(&held.watch, &held.path, &held.digest),
        );
    }

    /// Forgets a file that was given back.
    pub(super) fn let_go(&mut self, held: &Held) {
        self.taken.remove(&file_key(&held.fingerprint));
        self.taken
            .remove(&bytes_key(&held.watch, &held.path, &held.digest));
    }

    /// Remembers a file by its new fingerprint, known already by its bytes.
    pub(super) fn recognise(&mut self, action: Action, fingerprint: &Fingerprint) {
        self.take(action, file_key(fingerprint));
    }

    /// The keys, 17 bytes each, as [`read_from`](Self::read_from) takes them.
    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        for (key, action) in &self.taken {
            bytes.extend_from_slice(key);
            bytes.push(match action {
                Action::Observe => 0,
                Action::Copy => 1,
                Action::Move => 2,
            });
        }
    }

    /// What [`write_to`](Self::write_to) has written; `None` where it cannot be that.
    pub(super) fn read_from(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<17>();
        if !rest.is_empty() {
            return None;
        }
        let mut taken = HashMap::with_capacity(keys.len());
        for [key @ .., action] in keys {
            let action = match action {
                0 => Action::Observe,
                1 => Action::Copy,
                2 => Action::Move,
                _ => return None,
            };
            taken.insert(*key, action);
        }
        Some(Self { taken })
    }

    fn has(&self, action: Action, key: &[u8; 16]) -> bool {
        self.taken.get(key).is_some_and(|taken| *taken >= action)
    }

    fn take(&mut self, action: Action, key: [u8; 16]) {
        let taken = self.taken.entry(key).or_insert(action);
        *taken = (*taken).max(action);
    }
}

fn file_key(fingerprint: &Fingerprint) -> [u8; 16] {
    let Fingerprint {
        dev,
        ino,
        size,
        mtime_ns,
    } = fingerprint;
    let mut hasher = blake3::Hasher::new_derive_key("radsort consumed file");
    for field in [
        dev.to_le_bytes(),
        ino.to_le_bytes(),
        size.to_le_bytes(),
        mtime_ns.to_le_bytes(),
    ] {
        hasher.update(&field);
    }
    cut(&hasher)
}

fn bytes_key(watch: &str, path: &RelPath, digest: &Digest) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("radsort consumed bytes");
    for field in [watch.as_bytes(), path.as_bytes(), digest.0.as_bytes()] {
        hasher
            .update(&(field.len() as u64).to_le_bytes())
            .update(field);
    }
    cut(&hasher)
}

fn cut(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_taken_gently_can_still_be_taken_more_firmly() {
        let fingerprint = Fingerprint {
            dev: 1,
            ino: 2,
            size: 3,
            mtime_ns: 4,
        };
        let mut consumed = Consumed::default();
        consumed.recognise(Action::Copy, &fingerprint);
        assert!(consumed.contains(Action::Observe, &fingerprint));
        assert!(consumed.contains(Action::Copy, &fingerprint));
        assert!(!consumed.contains(Action::Move, &fingerprint));
        assert!(!consumed.contains(
            Action::Copy,
            &Fingerprint {
                mtime_ns: 5,
                ..fingerprint
            }
        ));
    }

    #[test]
    fn a_released_file_is_held_under_every_action_and_after_a_remount() {
        let fingerprint = Fingerprint {
            dev: 1,
            ino: 2,
            size: 3,
            mtime_ns: 4,
        };
        let (path, digest) = (RelPath::new("a").unwrap(), Digest::from(blake3::hash(b"a")));
        let held = Held {
            watch: "w".into(),
            path: path.clone(),
            digest: digest.clone(),
            fingerprint,
        };
        let mut consumed = Consumed::default();
        consumed.hold(&held);
        assert!(consumed.contains(Action::Move, &fingerprint));
        assert!(consumed.contains_bytes(Action::Move, "w", &path, &digest));
        assert!(!consumed.contains_bytes(
            Action::Move,
            "w",
            &path,
            &Digest::from(blake3::hash(b"b"))
        ));
        assert!(!consumed.contains_bytes(Action::Move, "v", &path, &digest));
    }
}
