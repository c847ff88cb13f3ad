//! How much of each audit was judged, as lists of labels tell. Whoever goes through half of a sample may have begun with what
//! was easy: only an audit whose every file is judged says how often things go wrong.

use std::collections::BTreeMap;

/// One audit's list of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// How many of its files have a label that can be used here.
    pub judged: usize,
    /// How many were drawn.
    pub drawn: usize,
}

impl Audited {
    /// Whether nothing is left to judge.
    pub fn is_finished(self) -> bool {
        self.judged >= self.drawn
    }
}

/// Every audit that the labels tell of, by the list's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audits(BTreeMap<String, Audited>);

impl Audits {
    /// Counts a label. `told` is what its list says, as `radsort labels export`
    /// writes it: `NAME/FILES; NAME/FILES`. Gives the names of the audits.
    pub fn count(&mut self, told: &str) -> Vec<String> {
        let audits = told.split("; ").filter_map(|one| {
            let (list, drawn) = one.rsplit_once('/')?;
            Some((list.to_owned(), drawn.parse().ok()?))
        });
        let mut names = Vec::new();
        for (list, drawn) in audits {
            let audited = self.0.entry(list.clone()).or_default();
            audited.judged += 1;
            audited.drawn = audited.drawn.max(drawn);
            names.push(list);
        }
        names
    }

    /// Whether one of these audits is finished.
    pub fn any_finished(&self, names: &[String]) -> bool {
        let audits = names.iter().filter_map(|name| self.0.get(name));
        audits.into_iter().any(|audited| audited.is_finished())
    }

    /// Of each, how much is left to judge; a sentence each, with a blank before it.
    pub fn in_words(&self) -> String {
        let each = self.0.iter().map(|(list, audited)| {
            let Audited { judged, drawn } = audited;
            if audited.is_finished() {
                format!(" All {drawn} files of audit {list} were judged.")
            } else {
                format!(
                    " Of the {drawn} files of audit {list}, {} were judged by nobody, or cannot be used: its labels promise nothing.",
                    drawn - judged
                )
            }
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_is_finished_when_every_file_of_it_has_a_label() {
        let mut audits = Audits::default();
        assert_eq!(audits.count("A/2; B/3"), ["A", "B"]);
        let names = audits.count("A/2");
        assert!(audits.any_finished(&names));
        assert!(!audits.any_finished(&["B".to_owned()]));
        assert!(audits.count("unknown").is_empty() && !audits.any_finished(&[]));
        let words = audits.in_words();
        assert!(
            words.contains("All 2 files of audit A")
                && words.contains("audit B, 2 were judged by nobody"),
            "{words}"
        );
    }
}
