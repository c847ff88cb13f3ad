//! What is not learned from, and why. The counts go into reports. Names of files, folders and categories may be names of
//! patients: they are for the eyes of whoever started it, and never written into a file or told as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How many are named for each reason.
const NAMED: usize = 3;

/// How much was left out, by reason, with the names of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    counts: BTreeMap<String, usize>,
    #[serde(skip)]
    names: BTreeMap<String, Vec<String>>,
}

impl Omitted {
    /// Leaves something out that has no name worth telling.
    pub fn count(&mut self, why: &str, files: usize) {
        if files > 0 {
            *self.counts.entry(why.to_owned()).or_default() += files;
        }
    }

    /// Leaves a file out.
    pub fn file(&mut self, why: &str, path: &Path) {
        self.named(why, &path.display().to_string(), 1);
    }

    /// Leaves out what has a name in common: a folder, or what a list says.
    pub fn named(&mut self, why: &str, name: &str, files: usize) {
        self.count(why, files);
        let names = self.names.entry(why.to_owned()).or_default();
        let name = name.escape_debug().to_string();
        if files > 0 && names.len() < NAMED && !names.contains(&name) {
            names.push(name);
        }
    }

    /// How many files, by reason. No reason holds a name.
    pub fn counts(&self) -> &BTreeMap<String, usize> {
        &self.counts
    }

    /// A line for each reason with the names of the first, for a person at a terminal.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let named = self.names.iter().filter(|(_, names)| !names.is_empty());
        named.map(|(why, names)| format!("left out, {why}: {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_only_the_first_are_named() {
        let mut omitted = Omitted::default();
        for n in 0..5 {
            omitted.file("hidden", Path::new(&format!("/a/.{n}")));
        }
        omitted.named("no category", "DOE", 7);
        omitted.named("no category", "DOE", 1);
        omitted.named("no category", "nobody", 0);
        assert_eq!(omitted.counts()["hidden"], 5);
        assert_eq!(omitted.counts()["no category"], 8);
        let lines: Vec<String> = omitted.names().collect();
        assert_eq!(
            lines,
            [
                "left out, hidden: /a/.0, /a/.1, /a/.2",
                "left out, no category: DOE"
            ]
        );
    }
}
