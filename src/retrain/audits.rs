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
    /// Whether nothing is left to judge. More labels than files are of something else than this audit.
    pub fn is_finished(self) -> bool {
        self.judged == self.drawn
    }
}

/// Every audit that the labels tell of, and what a complete list lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audits {
    /// By the name of the audit's list.
    each: BTreeMap<String, Audited>,
    /// Labels of an audit, it is said, of which nobody knows how many files it has.
    of_no_known_one: usize,
    /// The list is said to leave no image of its set out.
    complete: bool,
    /// Its images that cannot be judged here.
    lacking: usize,
    /// Its images whose labels were given on another occasion, such as a correction.
    by_occasion: usize,
}

impl Audits {
    /// Those of a list, before its labels are counted. `complete`: it is said to leave no image of its set out.
    pub fn of_a_list(complete: bool) -> Self {
        Self {
            complete,
            ..Self::default()
        }
    }

    /// An image of the list cannot be judged, be it of an audit or not: a complete list is complete no more.
    pub fn lacks_one(&mut self) {
        self.lacking += usize::from(self.complete);
    }

    /// The file of a label that was counted cannot be used.
    pub fn lose(&mut self, names: &[String]) {
        self.lacks_one();
        for name in names {
            self.lose_of(name);
        }
    }

    /// One of an audit's files less is judged than was counted.
    pub fn lose_of(&mut self, name: &str) {
        if let Some(audited) = self.each.get_mut(name) {
            audited.judged = audited.judged.saturating_sub(1);
        }
    }

    /// Everything is counted, and these are the labels that are left. What certifies nothing would be missing from the
    /// sample, and people correct what went wrong: a complete list is whole only with labels that were all given for it.
    pub fn close<'a>(&mut self, labels: impl Iterator<Item = (LabelOrigin, &'a [String])>) {
        for (said, names) in labels {
            let origin = self.origin(said, names);
            let knows = |name: &String| self.each.contains_key(name);
            if origin == LabelOrigin::UnfinishedAudit && !names.iter().any(knows) {
                self.of_no_known_one += 1;
            }
            // Where nobody has looked was counted when the list was read.
            let is_judged = !matches!(said, LabelOrigin::CompleteCsv | LabelOrigin::Untouched);
            if self.complete && is_judged && !origin.certifies() {
                self.by_occasion += 1;
            }
        }
    }

    /// Where a label comes from, now that everything is counted: `said` by its list, for an image of the audits `names`.
    pub fn origin(&self, said: LabelOrigin, names: &[String]) -> LabelOrigin {
        match said {
            LabelOrigin::Untouched => said,
            // Also what was judged before it was drawn: an error that is known already is one of the sample's all the same.
            _ if self.any_finished(names) => LabelOrigin::Audit,
            LabelOrigin::CompleteCsv if self.lacking + self.by_occasion > 0 => LabelOrigin::Csv,
            // Whoever writes `audit` and names none, or one of unknown size, may have chosen the files.
            LabelOrigin::Audit => LabelOrigin::UnfinishedAudit,
            _ => said,
        }
    }

    /// Counts a label. `told` is what its list says, as `radsort labels export` writes it: `NAME/FILES; NAME/FILES`, or
    /// `unknown`. Gives the names of the audits; one of which nobody knows how many files it has is never finished.
    pub fn count(&mut self, told: &str) -> Vec<String> {
        let named = told.split(';').map(str::trim).filter(|one| !one.is_empty());
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
        let each = self.each.iter().map(|(list, audited)| {
            let Audited { judged, drawn } = audited;
            match drawn.checked_sub(*judged) {
                Some(0) => format!(" All {drawn} files of audit {list} were judged."),
                Some(left) => format!(
                    " Of the {drawn} files of audit {list}, {left} were judged by nobody, or cannot be used: its labels promise nothing."
                ),
                None => format!(
                    " Audit {list} has {drawn} files, but {judged} have its name: its labels promise nothing."
                ),
            }
        });
        let said = |count: usize, sentence: &str| {
            (count > 0).then(|| format!(" {}", sentence.replace("{}", &count.to_string())))
        };
        let of_no_known_one = said(
            self.of_no_known_one,
            "{} labels are of an audit, their list says, but not of which one of how many files (column `audit`): they \
             promise nothing.",
        );
        let lacking = said(
            self.lacking,
            "The list is not complete: {} of its images cannot be judged here, being seen by nobody (`untouched`), of a \
             category that the bundle does not know, or not there (see what was left out). It promises nothing until they \
             can; `neither` is the category of what belongs to none.",
        );
        let by_occasion = said(
            self.by_occasion,
            "The list is not complete: {} of its images were judged on another occasion, its column `origin` says, such as a \
             correction. It promises nothing; leave the column out where all were looked at for this list.",
        );
        let of_lists = of_no_known_one
            .into_iter()
            .chain(lacking)
            .chain(by_occasion);
        each.chain(of_lists).collect()
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
    fn a_label_of_an_audit_that_is_not_named_or_of_unknown_size_promises_nothing() {
        use LabelOrigin::{Audit, UnfinishedAudit};
        let mut audits = Audits::default();
        for told in ["", " ", "unknown", "A", "A/many"] {
            let names = audits.count(told);
            assert_eq!(audits.origin(Audit, &names), UnfinishedAudit, "{told:?}");
            audits.close([(Audit, names.as_slice())].into_iter());
        }
        assert!(audits.in_words().contains(" 5 labels are of an audit"));
    }

    #[test]
    fn a_complete_list_promises_nothing_when_a_label_was_given_on_another_occasion() {
        use LabelOrigin::{Audit, CompleteCsv, Correction, Csv};
        let mut audits = Audits::of_a_list(true);
        let finished = audits.count("A/1");
        audits.close([(CompleteCsv, &[][..]), (Audit, &finished)].into_iter());
        assert_eq!(audits.origin(CompleteCsv, &[]), CompleteCsv);
        audits.close([(Correction, &[][..])].into_iter());
        assert_eq!(audits.origin(CompleteCsv, &[]), Csv);
        assert_eq!(audits.origin(Correction, &finished), Audit);
        let words = audits.in_words();
        assert!(
            words.contains("1 of its images were judged on another"),
            "{words}"
        );
    }

    #[test]
    fn a_list_promises_nothing_when_one_of_its_images_cannot_be_judged() {
        use LabelOrigin::{CompleteCsv, Csv};
        let mut other = Audits::of_a_list(false);
        other.lacks_one();
        assert_eq!(other.in_words(), "");
        let mut audits = Audits::of_a_list(true);
        assert_eq!(audits.origin(CompleteCsv, &[]), CompleteCsv);
        assert_eq!(audits.in_words(), "");
        audits.lacks_one();
        assert_eq!(audits.origin(CompleteCsv, &[]), Csv);
        assert!(audits.in_words().contains("not complete: 1 of its images"));
    }
}
