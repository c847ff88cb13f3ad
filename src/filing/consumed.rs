//! What was copied, observed, left or released, so that no scan, restart or reindex takes it again.
//!
//! Folded from the ledger at start, kept in memory: two keys a file, about 120 bytes.

use std::collections::HashMap;

use super::record::{Digest, Held, Intent};
use crate::config::settings::Action;
use crate::domain::{Fingerprint, RelPath};

/// The set. A file that was taken under an action is not taken again under that action or a gentler one
/// (observe < copy < move): who changes a watch from observe to move wants its files moved.
#[derive(Debug, Default)]
pub struct Consumed {
    files: HashMap<Key, File>,
    bytes: HashMap<Key, Action>,
}

type Key = [u8; 16];

/// What lay there. Another file can get the same inode, size and time (many senders keep times to the second, all images
/// of a device have one size), and a writer can set the time of its file back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    action: Action,
    digest: [u8; 16],
    /// Its time of last status change, which nobody can set; `None` where it is not known.
    ctime_ns: Option<i64>,
}

impl Consumed {
    /// Whether exactly this file (device, inode, size, times) was taken: good enough not to read it again.
    pub fn contains(
        &self,
        action: Action,
        fingerprint: &Fingerprint,
        ctime_ns: Option<i64>,
    ) -> bool {
        self.files.get(&file_key(fingerprint)).is_some_and(|file| {
            let same = match (file.ctime_ns, ctime_ns) {
                (Some(then), Some(now)) => then == now,
                _ => true,
            };
            same && file.action >= action
        })
    }

    /// Whether this file was taken with these bytes, whatever its status is now: somebody may have changed its
    /// permissions or its name.
    pub fn contains_file(
        &self,
        action: Action,
        fingerprint: &Fingerprint,
        digest: &Digest,
    ) -> bool {
        self.files
            .get(&file_key(fingerprint))
            .is_some_and(|file| file.action >= action && file.digest == short(digest))
    }

    /// Whether these bytes at this path were taken: a remounted share gives the same file another device or inode.
    pub fn contains_bytes(
        &self,
        action: Action,
        watch: &str,
        path: &RelPath,
        digest: &Digest,
    ) -> bool {
        self.bytes
            .get(&bytes_key(watch, path, digest))
            .is_some_and(|taken| *taken >= action)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.files.len() + self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a file that stays where it is.
    pub(super) fn remember(&mut self, intent: &Intent) {
        let Intent {
            action,
            fingerprint,
            ctime_ns,
            digest,
            ..
        } = intent;
        self.take(*action, fingerprint, *ctime_ns, digest);
        self.take_bytes(*action, bytes_key(&intent.watch, &intent.from, digest));
    }

    /// Remembers a file that was given back: no action takes it.
    pub(super) fn hold(&mut self, held: &Held) {
        self.take(Action::Move, &held.fingerprint, None, &held.digest);
        self.take_bytes(
            Action::Move,
            bytes_key(&held.watch, &held.path, &held.digest),
        );
    }

    /// Forgets a file that was given back.
    pub(super) fn let_go(&mut self, held: &Held) {
        self.files.remove(&file_key(&held.fingerprint));
        self.bytes
            .remove(&bytes_key(&held.watch, &held.path, &held.digest));
    }

    /// Remembers a file as it is now, known already by its bytes.
    pub(super) fn recognise(
        &mut self,
        action: Action,
        fingerprint: &Fingerprint,
        ctime_ns: Option<i64>,
        digest: &Digest,
    ) {
        self.take(action, fingerprint, ctime_ns, digest);
    }

    /// The keys, as [`read_from`](Self::read_from) takes them: those of files, 42 bytes each, behind their number, then
    /// those of bytes, 17 each.
    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.files.len() as u64).to_le_bytes());
        for (key, file) in &self.files {
            bytes.extend_from_slice(key);
            bytes.push(to_byte(file.action));
            bytes.extend_from_slice(&file.digest);
            bytes.push(u8::from(file.ctime_ns.is_some()));
            bytes.extend_from_slice(&file.ctime_ns.unwrap_or(0).to_le_bytes());
        }
        for (key, action) in &self.bytes {
            bytes.extend_from_slice(key);
            bytes.push(to_byte(*action));
        }
    }

    /// What [`write_to`](Self::write_to) has written; `None` where it cannot be that.
    pub(super) fn read_from(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<8>()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (files, rest) = rest.split_at_checked(count.checked_mul(42)?)?;
        let mut consumed = Self::default();
        for entry in files.as_chunks::<42>().0 {
            let (key, entry) = entry.split_first_chunk::<16>()?;
            let (action, entry) = entry.split_first()?;
            let (digest, entry) = entry.split_first_chunk::<16>()?;
            let (known, ctime) = entry.split_first()?;
            let ctime = i64::from_le_bytes(*ctime.first_chunk()?);
            let file = File {
                action: from_byte(*action)?,
                digest: *digest,
                ctime_ns: (*known == 1).then_some(ctime),
            };
            consumed.files.insert(*key, file);
        }
        let (keys, rest) = rest.as_chunks::<17>();
        if !rest.is_empty() {
            return None;
        }
        for [key @ .., action] in keys {
            consumed.bytes.insert(*key, from_byte(*action)?);
        }
        Some(consumed)
    }

    fn take(
        &mut self,
        action: Action,
        fingerprint: &Fingerprint,
        ctime_ns: Option<i64>,
        digest: &Digest,
    ) {
        let digest = short(digest);
        let file = self.files.entry(file_key(fingerprint)).or_insert(File {
            action,
            digest,
            ctime_ns,
        });
        // The same file more firmly, or another one in its place.
        let firmest = if file.digest == digest {
            action.max(file.action)
        } else {
            action
        };
        *file = File {
            action: firmest,
            digest,
            ctime_ns,
        };
    }

    fn take_bytes(&mut self, action: Action, key: Key) {
        let taken = self.bytes.entry(key).or_insert(action);
        *taken = (*taken).max(action);
    }
}

fn to_byte(action: Action) -> u8 {
    match action {
        Action::Observe => 0,
        Action::Copy => 1,
        Action::Move => 2,
    }
}

fn from_byte(byte: u8) -> Option<Action> {
    match byte {
        0 => Some(Action::Observe),
        1 => Some(Action::Copy),
        2 => Some(Action::Move),
        _ => None,
    }
}

/// The first half of a digest.
fn short(digest: &Digest) -> Key {
    let mut key = [0; 16];
    for (byte, digits) in key.iter_mut().zip(digest.0.as_bytes().as_chunks::<2>().0) {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    key
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

    const HERE: Fingerprint = Fingerprint {
        dev: 1,
        ino: 2,
        size: 3,
        mtime_ns: 4,
    };

    fn digest(text: &str) -> Digest {
        blake3::hash(text.as_bytes()).into()
    }

    #[test]
    fn what_was_taken_gently_can_still_be_taken_more_firmly() {
        let mut consumed = Consumed::default();
        consumed.recognise(Action::Copy, &HERE, None, &digest("a"));
        assert!(consumed.contains(Action::Observe, &HERE, Some(1)));
        assert!(consumed.contains(Action::Copy, &HERE, None));
        assert!(!consumed.contains(Action::Move, &HERE, None));
        let later = Fingerprint {
            mtime_ns: 5,
            ..HERE
        };
        assert!(!consumed.contains(Action::Copy, &later, None));
    }

    /// The sender has removed the file; the next one gets its inode, and has its size and its time.
    #[test]
    fn another_file_with_the_same_inode_size_and_time_was_not_taken() {
        let mut consumed = Consumed::default();
        consumed.recognise(Action::Copy, &HERE, Some(10), &digest("a"));
        assert!(consumed.contains(Action::Copy, &HERE, Some(10)));
        assert!(!consumed.contains(Action::Copy, &HERE, Some(11)));
        assert!(!consumed.contains_file(Action::Copy, &HERE, &digest("b")));
        // Only its permissions were changed, or its name.
        assert!(consumed.contains_file(Action::Copy, &HERE, &digest("a")));
    }

    #[test]
    fn all_of_it_comes_through_a_checkpoint() {
        let mut consumed = Consumed::default();
        consumed.recognise(Action::Copy, &HERE, Some(-10), &digest("a"));
        let other = Fingerprint { ino: 9, ..HERE };
        consumed.recognise(Action::Observe, &other, None, &digest("b"));
        let path = RelPath::new("a").unwrap();
        consumed.take_bytes(Action::Move, bytes_key("w", &path, &digest("c")));
        let mut bytes = Vec::new();
        consumed.write_to(&mut bytes);
        let read = Consumed::read_from(&bytes).unwrap();
        assert_eq!(
            (&read.files, &read.bytes),
            (&consumed.files, &consumed.bytes)
        );
        assert!(Consumed::read_from(&bytes[..bytes.len() - 1]).is_none());
        assert!(Consumed::read_from(&bytes[..7]).is_none());
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
        assert!(consumed.contains(Action::Move, &fingerprint, Some(7)));
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
