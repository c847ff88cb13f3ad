//! Files that went away before anyone took them, told apart from those that were only given another name.
//!
//! Whoever renames a file within the drop directory (`x.part` → `x.dcm`, into another folder) leaves its inode: what turns up
//! again under it within a moment, or is known under two names, has not gone away. A share that numbers its files anew at a
//! rename cannot be told so.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::Fingerprint;
use crate::domain::settle::Moment;

/// How long a file may take to turn up again.
const A_MOMENT: Duration = Duration::from_secs(5);

/// Which file it is, whatever it is called.
type Inode = (u64, u64);

/// Files of which a name is gone.
#[derive(Debug, Default)]
pub struct Vanished {
    missing: HashMap<Inode, Moment>,
    /// Nobody has looked yet whether it is known under another name.
    fresh: bool,
}

impl Vanished {
    /// A name of this file is gone.
    pub fn gone(&mut self, now: Moment, file: &Fingerprint) {
        self.missing.insert(inode(file), now + A_MOMENT);
        self.fresh = true;
    }

    /// This file has turned up.
    pub fn found(&mut self, file: &Fingerprint) {
        self.missing.remove(&inode(file));
    }

    /// How many have not turned up again in time, since the last call; `known` are the files that are there.
    pub fn take(&mut self, now: Moment, known: impl Iterator<Item = Fingerprint>) -> u64 {
        // Whoever renames a file is mostly seen to do both at once: then there is nothing to look for among all files.
        if std::mem::take(&mut self.fresh) && !self.missing.is_empty() {
            known.for_each(|file| self.found(&file));
        }
        let before = self.missing.len();
        self.missing.retain(|_, until| now < *until);
        (before - self.missing.len()) as u64
    }

    /// When the next one counts.
    pub fn next(&self) -> Option<Moment> {
        self.missing.values().min().copied()
    }
}

fn inode(file: &Fingerprint) -> Inode {
    (file.dev, file.ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: u64) -> Fingerprint {
        Fingerprint {
            dev: 1,
            ino,
            size: 1,
            mtime_ns: 0,
        }
    }

    #[test]
    fn a_file_has_vanished_when_it_turns_up_nowhere_else() {
        let (mut vanished, start) = (Vanished::default(), Duration::from_secs(100));
        // Deleted; renamed, and seen under its new name after that; renamed, and seen under its new name before that.
        for ino in [1, 2, 3] {
            vanished.gone(start, &file(ino));
        }
        vanished.found(&file(2));
        assert_eq!(vanished.take(start, [file(3), file(4)].into_iter()), 0);
        assert_eq!(vanished.next(), Some(start + A_MOMENT));
        assert_eq!(vanished.take(start + A_MOMENT, std::iter::empty()), 1);
        assert_eq!(vanished.next(), None);
        assert_eq!(vanished.take(start + 2 * A_MOMENT, std::iter::empty()), 0);
    }
}
