//! Which bundle is in use, and which were before: what `in-use.json` says.

use serde::{Deserialize, Serialize};

use super::SHIPPED;

/// Which bundle is in use, and which were before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The way back, the oldest first; the last one is in use. Empty: the shipped one from the beginning.
    pub(super) history: Vec<String>,
    /// Every one that has given way to another, by when it last did, the longest ago first.
    #[serde(default)]
    pub(super) was: Vec<String>,
}

impl Pointer {
    pub(super) fn in_use(&self) -> &str {
        self.history.last().map_or(SHIPPED, String::as_str)
    }

    /// The one in use gives way to another.
    pub(super) fn gives_way(&mut self) {
        let name = self.in_use().to_owned();
        self.was.retain(|it| *it != name);
        self.was.push(name);
    }

    /// Every one that is or was in use, the last first. What an older radsort wrote tells only the way back.
    pub(super) fn by_last_use(&self) -> Vec<&String> {
        let mut names: Vec<&String> = Vec::new();
        let in_use = self.history.last().into_iter();
        for name in in_use
            .chain(self.was.iter().rev())
            .chain(self.history.iter().rev())
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}
