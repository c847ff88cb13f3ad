//! People's judgements, and what it means when a file lies in another folder than the one it was put into.
//!
//! A person corrects by moving a file with whatever tool is at hand. The rule here is given what one look at the
//! library found to differ from the records, and says of each difference whether it is a label, and whether that label
//! counts at once or waits until somebody accepts it.

use serde::{Deserialize, Serialize};

use super::placement::{OTHER_FOLDER, REVIEW_FOLDER, RootId};
use super::{CategoryId, Placement};

/// From how many hand-moved files in one look on their labels wait: nobody judges more radiographs than this one by one
/// between two looks (a few minutes), but a slip of the mouse moves a whole folder.
pub const MANY: usize = 20;

/// Where a label comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A person judged a file of an audit's random sample.
    Audit,
    /// A person judged a file that radsort had sent to review (or to `_other/`, or to the quarantine).
    Review,
    /// A person judged any other file, by a command or by moving it.
    Correction,
    /// A person put the file into the category's folder; radsort never did.
    Adopted,
    /// A list that was imported.
    Csv,
    /// Nobody: it is what the model said, and nobody has objected. Only in exports, never in the ledger.
    Untouched,
    /// One that a later version knows.
    #[serde(other)]
    Unknown,
}

/// What a list says of where a label comes from is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the origin {0:?} is not known: write audit, review, correction, adopted, csv or untouched, or nothing (csv)"
)]
pub struct UnknownOrigin(String);

impl Origin {
    /// Reads what a list says, in any case and with any blanks around it; nothing: the list itself says so. A word that is
    /// not known must not pass for a person's label.
    pub fn listed(word: &str) -> Result<Self, UnknownOrigin> {
        let word = word.trim();
        if word.is_empty() {
            return Ok(Self::Csv);
        }
        [
            Self::Audit,
            Self::Review,
            Self::Correction,
            Self::Adopted,
            Self::Csv,
            Self::Untouched,
        ]
        .into_iter()
        .find(|origin| origin.as_str().eq_ignore_ascii_case(word))
        .ok_or_else(|| UnknownOrigin(word.to_owned()))
    }

    /// The name used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Review => "review",
            Self::Correction => "correction",
            Self::Adopted => "adopted",
            Self::Csv => "csv",
            Self::Untouched => "untouched",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a label waits until somebody accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pending {
    /// More than [`MANY`] files were moved at once.
    ManyAtOnce,
    /// The category's folder is gone: it was renamed or moved as a whole.
    FolderRenamed,
    /// The file had been missing, or had been given back, and is there again.
    Returned,
    /// radsort never put the file there.
    Adopted,
    /// Its folder is called like no category that the bundle in use knows: a new category, or a place to put things.
    NewCategory,
    /// A reason that a later version knows.
    #[serde(other)]
    Unknown,
}

impl Pending {
    /// In words, for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::ManyAtOnce => "many files were moved at once",
            Self::FolderRenamed => "its whole folder was renamed or moved",
            Self::Returned => "the file had been missing and came back",
            Self::Adopted => "radsort did not put the file there",
            Self::NewCategory => "the model does not know this category",
            Self::Unknown => "a reason that a later version knows",
        }
    }
}

/// What a person was shown when judging: what the model had said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// The model's likeliest category.
    pub category: Option<CategoryId>,
    /// Bundle name and version.
    pub model: Option<String>,
}

/// What a place stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// A category's folder: whoever puts a file there says what it is.
    Category(CategoryId),
    /// `_review/`, `_other/`, the quarantine: radsort was not sure, or does not deal with it.
    Undecided,
    /// A folder that is called like a category, but not like one that the bundle in use knows.
    Unknown(CategoryId),
    /// Any other folder: it says nothing.
    Other,
}

impl Folder {
    /// Reads a place. `category_of` tells whose folder a first component is.
    pub fn of(at: &Placement, category_of: impl Fn(&[u8]) -> Option<CategoryId>) -> Self {
        if at.root == RootId::Quarantine {
            return Self::Undecided;
        }
        let mut components = at.path.components();
        match (&at.root, components.next(), components.next()) {
            (RootId::Library, Some(first), Some(_))
                if first == REVIEW_FOLDER.as_bytes() || first == OTHER_FOLDER.as_bytes() =>
            {
                Self::Undecided
            }
            (RootId::Library, Some(first), Some(_)) => {
                category_of(first).map_or_else(|| Self::unknown(first), Self::Category)
            }
            _ => Self::Other,
        }
    }

    fn unknown(name: &[u8]) -> Self {
        let id = std::str::from_utf8(name).ok();
        let id = id.and_then(|name| CategoryId::parse(name).ok());
        id.map_or(Self::Other, Self::Unknown)
    }
}

/// How a file that lies at an unexpected place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is on record at another place, where it is no more.
    At {
        /// What that place stands for.
        folder: Folder,
        /// Whether that place's category folder still exists.
        folder_exists: bool,
    },
    /// It had been missing, or had been given back.
    Lost,
    /// It is not on record.
    Never,
}

/// One file that lies where no record says that it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How it is known.
    pub known: Known,
    /// What its record says that it is: a person's label, else the model's likeliest category.
    pub category: Option<CategoryId>,
    /// Whether a person has said so.
    pub labelled: bool,
    /// Whether a person has said what it is since it was moved there: who speaks last is right.
    pub judged_since: bool,
    /// What the place stands for where it lies now.
    pub found: Folder,
}

/// A label that follows from a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// What the person says that it is.
    pub category: CategoryId,
    /// Where the label comes from.
    pub origin: Origin,
    /// Why it waits, if it does.
    pub pending: Option<Pending>,
}

/// What the differences that one look found mean: for each, in the same order, the label that follows, if any.
///
/// | known as              | found in                   | label                                        |
/// |-----------------------|----------------------------|----------------------------------------------|
/// | anything              | a folder of no category    | none                                         |
/// | judged since          | anywhere                   | none: who speaks last is right               |
/// | filed or labelled so  | the folder of that category | none: it says nothing new                   |
/// | in a category's folder | another category's folder | `correction`                                 |
/// | undecided             | a category's folder        | `review`                                     |
/// | lost                  | a category's folder        | `correction`, pending                        |
/// | nothing               | a category's folder        | `adopted`, pending                           |
/// | nothing               | an unknown category's folder | none: people keep other things, too        |
/// | anything else         | an unknown category's folder | as in a category's folder, pending         |
///
/// Labels from moves also wait when the folder that they came from is gone, and when there are more than [`MANY`].
pub fn meaning(differences: &[Difference]) -> Vec<Option<Meant>> {
    let mut meant: Vec<Option<Meant>> = differences.iter().map(one).collect();
    let moved = |(difference, meant): &(&Difference, &Option<Meant>)| {
        meant.is_some() && matches!(difference.known, Known::At { .. })
    };
    let many = differences.iter().zip(&meant).filter(moved).count() > MANY;
    for (difference, meant) in differences.iter().zip(&mut meant) {
        if let (true, Known::At { .. }, Some(meant)) = (many, &difference.known, meant) {
            meant.pending.get_or_insert(Pending::ManyAtOnce);
        }
    }
    meant
}

fn one(difference: &Difference) -> Option<Meant> {
    if difference.judged_since {
        return None;
    }
    let (category, new) = match &difference.found {
        Folder::Category(category) => (category, None),
        Folder::Unknown(category) => (category, Some(Pending::NewCategory)),
        Folder::Undecided | Folder::Other => return None,
    };
    let says_so = difference.category.as_ref() == Some(category);
    let (origin, pending) = match &difference.known {
        // In review the model's likeliest category was only a guess: putting it there is news.
        Known::At {
            folder: Folder::Undecided,
            ..
        } if !(says_so && difference.labelled) => (Origin::Review, None),
        Known::At { folder_exists, .. } if !says_so => {
            let renamed = (!folder_exists).then_some(Pending::FolderRenamed);
            (Origin::Correction, renamed)
        }
        Known::Lost if !says_so => (Origin::Correction, Some(Pending::Returned)),
        Known::Never if new.is_none() => (Origin::Adopted, Some(Pending::Adopted)),
        Known::At { .. } | Known::Lost | Known::Never => return None,
    };
    Some(Meant {
        category: category.clone(),
        origin,
        pending: new.or(pending),
    })
}

/// Of the files that are nowhere to be found, keeps those that count as missing now: that were nowhere at the look before,
/// too. Both looks were complete, with every root there.
pub fn keep_missing<K>(nowhere: &mut Vec<K>, at_the_look_before: impl Fn(&K) -> bool) {
    nowhere.retain(at_the_look_before);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::RelPath;
    use proptest::prelude::*;

    fn category(name: &str) -> CategoryId {
        CategoryId::parse(name).unwrap()
    }

    fn any_folder() -> impl Strategy<Value = Folder> {
        prop_oneof![
            (0usize..3).prop_map(|n| Folder::Category(category(["brace", "fusion", "tether"][n]))),
            Just(Folder::Unknown(category("halo"))),
            Just(Folder::Undecided),
            Just(Folder::Other),
        ]
    }

    fn any_difference() -> impl Strategy<Value = Difference> {
        let known = prop_oneof![
            (any_folder(), any::<bool>()).prop_map(|(folder, folder_exists)| Known::At {
                folder,
                folder_exists
            }),
            Just(Known::Lost),
            Just(Known::Never),
        ];
        let held = proptest::option::of(0usize..3);
        let said = prop_oneof![
            Just((false, false)),
            Just((true, false)),
            Just((true, true))
        ];
        (known, held, said, any_folder()).prop_map(|(known, held, said, found)| Difference {
            known,
            category: held.map(|n| category(["brace", "fusion", "tether"][n])),
            labelled: said.0,
            judged_since: said.1,
            found,
        })
    }

    fn moved(from: Folder, to: &str) -> Difference {
        Difference {
            category: match &from {
                Folder::Category(category) => Some(category.clone()),
                _ => None,
            },
            known: Known::At {
                folder: from,
                folder_exists: true,
            },
            labelled: false,
            judged_since: false,
            found: Folder::Category(category(to)),
        }
    }

    proptest! {
        #[test]
        fn a_label_always_names_the_category_of_the_folder_where_the_file_lies(
            differences in proptest::collection::vec(any_difference(), 0..60),
        ) {
            let meant = meaning(&differences);
            prop_assert_eq!(meant.len(), differences.len());
            for (difference, meant) in differences.iter().zip(&meant) {
                match (&difference.found, meant) {
                    (Folder::Category(found), Some(meant)) => prop_assert_eq!(found, &meant.category),
                    (Folder::Unknown(found), Some(meant)) => {
                        prop_assert_eq!((found, meant.pending), (&meant.category, Some(Pending::NewCategory)));
                    }
                    (_, meant) => prop_assert!(meant.is_none()),
                }
            }
        }

        #[test]
        fn at_most_so_many_moves_count_at_once_and_what_radsort_cannot_vouch_for_never_does(
            differences in proptest::collection::vec(any_difference(), 0..80),
        ) {
            let meant = meaning(&differences);
            let counts = meant.iter().flatten().filter(|meant| meant.pending.is_none()).count();
            prop_assert!(counts <= MANY);
            for (difference, meant) in differences.iter().zip(&meant) {
                if let (Known::Lost | Known::Never, Some(meant)) = (&difference.known, meant) {
                    prop_assert!(meant.pending.is_some());
                }
            }
        }

        #[test]
        fn a_file_that_is_back_where_its_label_says_is_never_labelled_again(difference in any_difference()) {
            let settled = Difference {
                found: difference.category.clone().map_or(Folder::Other, Folder::Category),
                labelled: true,
                known: match difference.known {
                    Known::Never => Known::Lost,
                    known => known,
                },
                ..difference
            };
            prop_assert_eq!(meaning(&[settled]), vec![None]);
        }

        #[test]
        fn what_the_files_mean_does_not_depend_on_their_order(
            differences in proptest::collection::vec(any_difference(), 0..40),
        ) {
            let reversed: Vec<_> = differences.iter().rev().cloned().collect();
            let mut again = meaning(&reversed);
            again.reverse();
            prop_assert_eq!(again, meaning(&differences));
        }

        #[test]
        fn a_file_is_missing_only_after_two_looks(before: BTreeSet<u8>, now: BTreeSet<u8>) {
            let mut missing: Vec<u8> = now.iter().copied().collect();
            keep_missing(&mut missing, |file| before.contains(file));
            prop_assert_eq!(missing, now.intersection(&before).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_move_is_a_correction_and_one_more_than_many_wait() {
        let from = Folder::Category(category("brace"));
        let one = moved(from, "fusion");
        assert_eq!(
            meaning(std::slice::from_ref(&one)),
            [Some(Meant {
                category: category("fusion"),
                origin: Origin::Correction,
                pending: None
            })]
        );
        let pending = |count: usize| {
            let meant = meaning(&vec![one.clone(); count]);
            meant
                .into_iter()
                .filter(|meant| meant.as_ref().unwrap().pending == Some(Pending::ManyAtOnce))
                .count()
        };
        assert_eq!((pending(MANY), pending(MANY + 1)), (0, MANY + 1));
    }

    #[test]
    fn a_move_does_not_overrule_what_was_said_after_it() {
        for from in [Folder::Category(category("brace")), Folder::Undecided] {
            let mut difference = moved(from, "fusion");
            difference.labelled = true;
            assert!(meaning(std::slice::from_ref(&difference))[0].is_some());
            difference.judged_since = true;
            assert_eq!(meaning(&[difference]), [None]);
        }
    }

    #[test]
    fn out_of_review_is_a_label_even_where_the_model_had_guessed_so() {
        let mut difference = moved(Folder::Undecided, "fusion");
        difference.category = Some(category("fusion"));
        let origin = |difference: &Difference| {
            meaning(std::slice::from_ref(difference))[0]
                .as_ref()
                .map(|meant| meant.origin)
        };
        assert_eq!(origin(&difference), Some(Origin::Review));
        difference.labelled = true;
        assert_eq!(origin(&difference), None);
    }

    #[test]
    fn what_people_keep_in_a_folder_that_no_model_knows_is_not_adopted() {
        let difference = |known| Difference {
            known,
            category: None,
            labelled: false,
            judged_since: false,
            found: Folder::Unknown(category("halo")),
        };
        assert_eq!(meaning(&[difference(Known::Never)]), [None]);
        let pending = meaning(&[difference(Known::Lost)])
            .remove(0)
            .unwrap()
            .pending;
        assert_eq!(pending, Some(Pending::NewCategory));
    }

    #[test]
    fn a_place_is_read_by_its_first_folder() {
        let of = |root: RootId, path: &str| {
            let at = Placement {
                root,
                path: RelPath::new(path).unwrap(),
            };
            Folder::of(&at, |name| {
                (name == b"Fusion").then(|| category("frontal-fusion"))
            })
        };
        let fusion = Folder::Category(category("frontal-fusion"));
        assert_eq!(of(RootId::Library, "Fusion/2026/1.dcm"), fusion);
        assert_eq!(of(RootId::Library, "Fusion"), Folder::Other);
        assert_eq!(of(RootId::Library, "Elsewhere/1.dcm"), Folder::Other);
        let halo = Folder::Unknown(category("frontal-halo"));
        assert_eq!(of(RootId::Library, "frontal-halo/1.dcm"), halo);
        assert_eq!(
            of(RootId::Library, "_review/oblique-view/1.dcm"),
            Folder::Undecided
        );
        assert_eq!(of(RootId::Library, "_other/1.dcm"), Folder::Undecided);
        assert_eq!(of(RootId::Quarantine, "1.dcm"), Folder::Undecided);
        assert_eq!(of(RootId::Duplicates, "Fusion/1.dcm"), Folder::Other);
    }
}
