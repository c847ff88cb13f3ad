//! How much was judged of each set of images that could promise something: audits, as lists of labels tell, and a list that is
//! said to be complete. Whoever goes through half of a sample may have begun with what was easy: only a set whose every image
//! is judged says how often things go wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::judging::outcome::LabelOrigin;

/// One audit's list of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Every audit that the labels tell of, and what a complete list lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audits {
    /// By the name of the audit's list.
    each: BTreeMap<String, Audited>,
    /// Images of the list that is said to be complete which cannot be judged here.
    lacking: usize,
}

impl Audits {
    /// An image of the list that is said to be complete cannot be judged.
    pub fn lacks_one(&mut self) {
        self.lacking += 1;
    }

    /// The file of a label that was counted cannot be used.
    pub fn lose(&mut self, names: &[String]) {
        for name in names {
            if let Some(audited) = self.each.get_mut(name) {
                audited.judged = audited.judged.saturating_sub(1);
            }
        }
    }

    /// Where a label comes from, now that everything is counted: `said` by its list, for an image of the audits `names`.
    pub fn origin(&self, said: LabelOrigin, names: &[String]) -> LabelOrigin {
        match said {
            LabelOrigin::Untouched => said,
            LabelOrigin::CompleteCsv if self.lacking > 0 => LabelOrigin::Csv,
            // Also what was judged before it was drawn: an error that is known already is one of the sample's all the same.
            _ if self.any_finished(names) => LabelOrigin::Audit,
            // Lists of others say `audit` and name none.
            LabelOrigin::Audit if !names.is_empty() => LabelOrigin::UnfinishedAudit,
            _ => said,
        }
    }

    /// Counts a label. `told` is what its list says, as `radsort labels export` writes it: `NAME/FILES; NAME/FILES`, or
    /// `unknown`. Gives the names of the audits; one of which nobody knows how many files it has is never finished.
    pub fn count(&mut self, told: &str) -> Vec<String> {
        let named = told.split("; ").filter(|one| !one.is_empty());
        named
            .map(|one| {
                let Some((list, drawn)) = read(one) else {
                    return one.to_owned();
                };
                let audited = self.each.entry(list.to_owned()).or_default();
                audited.judged += 1;
                audited.drawn = audited.drawn.max(drawn);
                list.to_owned()
            })
            .collect()
    }

    /// Whether one of these audits is finished.
    fn any_finished(&self, names: &[String]) -> bool {
        let audits = names.iter().filter_map(|name| self.each.get(name));
        audits.into_iter().any(|audited| audited.is_finished())
    }

    /// Of each set, how much is left to judge; a sentence each, with a blank before it.
    pub fn in_words(&self) -> String {
        let lacking = (self.lacking > 0).then(|| {
            format!(
                " The list is not complete: {} of its images cannot be judged here, being of a category that the bundle does not \
                 know, or not there (see what was left out). It promises nothing until they can; `neither` is the category \
                 of what belongs to none.",
                self.lacking
            )
        });
        let each = self.each.iter().map(|(list, audited)| {
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
        each.chain(lacking).collect()
    }
}

/// An audit's name, and how many files it has.
fn read(one: &str) -> Option<(&str, usize)> {
    let (list, drawn) = one.rsplit_once('/')?;
    Some((list, drawn.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_is_finished_when_every_file_of_it_has_a_label_that_can_be_used() {
        use LabelOrigin::{Audit, Correction, UnfinishedAudit, Untouched};
        let mut audits = Audits::default();
        assert_eq!(audits.count("A/2; B/3"), ["A", "B"]);
        let names = audits.count("A/2");
        assert_eq!(audits.origin(Correction, &names), Audit);
        assert_eq!(audits.origin(Untouched, &names), Untouched);
        let of_b = ["B".to_owned()];
        assert_eq!(audits.origin(Audit, &of_b), UnfinishedAudit);
        assert_eq!(audits.origin(Correction, &of_b), Correction);
        let unknown = audits.count("unknown");
        assert_eq!(audits.origin(Audit, &unknown), UnfinishedAudit);
        // Lists of others name no audit.
        assert_eq!(audits.count(""), Vec::<String>::new());
        assert_eq!(audits.origin(Audit, &[]), Audit);
        let words = audits.in_words();
        assert!(
            words.contains("All 2 files of audit A")
                && words.contains("audit B, 2 were judged by nobody"),
            "{words}"
        );

        audits.lose(&names);
        assert_eq!(audits.origin(Audit, &names), UnfinishedAudit);
        let words = audits.in_words();
        assert!(words.contains("audit A, 1 were judged"), "{words}");
    }

    #[test]
    fn a_list_promises_nothing_when_one_of_its_images_cannot_be_judged() {
        use LabelOrigin::{CompleteCsv, Csv};
        let mut audits = Audits::default();
        assert_eq!(audits.origin(CompleteCsv, &[]), CompleteCsv);
        assert_eq!(audits.in_words(), "");
        audits.lacks_one();
        assert_eq!(audits.origin(CompleteCsv, &[]), Csv);
        assert!(audits.in_words().contains("not complete: 1 of its images"));
    }
}
