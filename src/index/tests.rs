//! What the index promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod opening;

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::config::settings::Action;
use crate::domain::decision::{HeaderView, Score};
use crate::domain::dossier::Timings;
use crate::domain::instance::Description;
use crate::domain::{
    CategoryId, Decision, Dossier, Fingerprint, Instance, Origin, Pending, Prediction, Reason, View,
};
use crate::filing::record::{Fate, Held, Label};
use crate::index::query::LabelState;

type Line = (Position, i64, Record);

fn id(number: u32) -> RecordId {
    RecordId(format!("00000000deadbeef-{number}"))
}

fn digest(number: u32) -> Digest {
    blake3::hash(&number.to_le_bytes()).into()
}

fn library(path: &str) -> Placement {
    Placement {
        root: RootId::Library,
        path: RelPath::new(path).unwrap(),
    }
}

/// A file with a fate; `n` makes everything about it.
pub(crate) fn intent(n: u32, fate: Fate, action: Action) -> Intent {
    let category = CategoryId::parse(["fusion", "brace", "tether"][n as usize % 3]).unwrap();
    let reason = (fate != Fate::Filed).then_some(Reason::LowConfidence);
    let decision = match reason {
        None => Decision::File {
            category: category.clone(),
        },
        Some(reason) => Decision::Review { reason },
    };
    Intent {
        id: id(n),
        watch: if n.is_multiple_of(2) {
            "north".into()
        } else {
            "south".into()
        },
        action,
        from: RelPath::new(format!("in/{n}.dcm")).unwrap(),
        to: library(&format!("Fusion/{n}.dcm")),
        fate,
        reason,
        detail: None,
        digest: digest(n),
        fingerprint: Fingerprint {
            dev: 1,
            ino: n.into(),
            size: 1000,
            mtime_ns: 5,
        },
        links: 1,
        ctime_ns: None,
        uid: 0,
        gid: 0,
        mode: 0o640,
        claim: None,
        set_mode: None,
        dossier: Dossier {
            seen_us: 1,
            settled_us: 2,
            decided_us: 3,
            instance: Some(Instance {
                sop_instance_uid: Uid::parse(&format!("1.2.{}", n % 50)).unwrap(),
                study_instance_uid: Uid::parse(&format!("1.3.{}", n % 7)).ok(),
                series_instance_uid: None,
                patient: None,
                description: Description::default(),
            }),
            prediction: Some(Prediction {
                header_view: HeaderView::Ap,
                view_scores: None,
                view: Some(if n.is_multiple_of(3) {
                    View::Frontal
                } else {
                    View::Lateral
                }),
                view_problem: None,
                scores: vec![Score {
                    category,
                    probability: 0.9,
                }],
                confidence: (n % 100) as f32 / 100.0,
                out_of_distribution: None,
                model: if n.is_multiple_of(5) {
                    "spine 1.0.0".into()
                } else {
                    "spine 1.1.0".into()
                },
                provider: "cpu".into(),
            }),
            decision,
            ms: Timings::default(),
        },
    }
}

fn filed(n: u32) -> [Record; 2] {
    [
        Record::Intent(Box::new(intent(n, Fate::Filed, Action::Move))),
        Record::Filed {
            id: id(n),
            to: None,
        },
    ]
}

/// Gives records their place in a ledger, one a second.
fn ledger(records: impl IntoIterator<Item = Record>) -> Vec<Line> {
    let numbered = records.into_iter().zip(1u64..);
    numbered
        .map(|(record, n)| {
            let position = Position {
                segment: (1 + n / 40).try_into().unwrap(),
                offset: n * 100,
                hash: format!("{n:x}"),
            };
            (position, n as i64 * 1_000_000, record)
        })
        .collect()
}

fn ok(ledger: &[Line]) -> impl Iterator<Item = std::result::Result<Line, Infallible>> {
    ledger.iter().cloned().map(Ok)
}

/// Everything in the index except who has it open.
fn dump(index: &Index) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let trees = index.trees();
    let parts = Part::ALL.into_iter().flat_map(|part| {
        let items: Vec<_> = trees
            .tree(part)
            .iter()
            .map(std::result::Result::unwrap)
            .collect();
        items
            .into_iter()
            .map(move |(key, value)| (part.name(), key.to_vec(), value.to_vec()))
    });
    parts.filter(|(_, key, _)| key != SESSION).collect()
}

struct Fixture {
    dir: tempfile::TempDir,
    index: Index,
}

fn fixture(records: impl IntoIterator<Item = Record>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index")).unwrap();
    index.apply(&ledger(records)).unwrap();
    Fixture { dir, index }
}

fn label(n: u32, category: &str, pending: Option<Pending>) -> Record {
    Record::Label(Box::new(Label {
        id: id(n),
        category: CategoryId::parse(category).unwrap(),
        origin: Origin::Correction,
        by: None,
        person: None,
        note: None,
        shown: None,
        pending,
    }))
}

fn any_record() -> impl Strategy<Value = Record> {
    let small = 0u32..12;
    prop_oneof![
        5 => (small.clone(), 0usize..7, 0usize..2).prop_map(|(n, fate, action)| {
            Record::Intent(Box::new(intent(n, Fate::ALL[fate], [Action::Move, Action::Copy][action])))
        }),
        5 => small.clone().prop_map(|n| Record::Filed { id: id(n), to: None }),
        1 => small.clone().prop_map(|n| Record::Filed { id: id(n), to: Some(library("Else/where.dcm")) }),
        2 => small.clone().prop_map(|n| Record::Quarantined { id: id(n), to: None }),
        1 => small.clone().prop_map(|n| Record::Abandoned { id: id(n), why: "changed".into() }),
        2 => (small.clone(), 0usize..7).prop_map(|(n, fate)| {
            Record::Observed(Box::new(intent(n, Fate::ALL[fate], Action::Observe)))
        }),
        1 => small.clone().prop_map(|n| Record::Released { id: id(n), by: Some(7), held: None }),
        2 => (small.clone(), 0usize..3).prop_map(|(n, to)| Record::Moved {
            id: id(n),
            to: library(["Brace/x.dcm", "_review/low-confidence/x.dcm", "_other/x.dcm"][to]),
        }),
        1 => small.clone().prop_map(|n| Record::Adopted {
            id: id(n),
            at: library("a/b.dcm"),
            digest: digest(n),
            fingerprint: None,
            instance: None,
        }),
        2 => (small.clone(), any::<bool>()).prop_map(|(n, waits)| {
            label(n, "brace", waits.then_some(Pending::ManyAtOnce))
        }),
        1 => (small.clone(), any::<bool>()).prop_map(|(n, accepted)| Record::Judged {
            id: id(n),
            accepted,
            by: Some(7),
        }),
        1 => small.clone().prop_map(|n| Record::Missing { id: id(n) }),
        1 => small.clone().prop_map(|n| Record::Undone { id: id(n), by: None, held: None }),
        1 => small.prop_map(|n| Record::Stayed { id: id(n), held: held(n) }),
        1 => Just(Record::Promoted { model: "spine 2".into() }),
        1 => Just(Record::Unknown(serde_json::json!({"kind": "from-the-future"}))),
    ]
}

fn held(n: u32) -> Held {
    let intent = intent(n, Fate::Filed, Action::Move);
    Held {
        watch: intent.watch,
        path: intent.from,
        digest: intent.digest,
        fingerprint: intent.fingerprint,
    }
}

fn scanned(index: &Index) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for item in index.trees().tree(Part::Entries) {
        let entry: Entry = entry::decode(&item.unwrap().1).unwrap();
        for counter in keys::counters(&entry) {
            *counts.entry(counter).or_default() += 1;
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_grown_index_equals_a_rebuilt_one_and_its_counters_equal_a_scan(
        records in proptest::collection::vec(any_record(), 0..120),
        groups in proptest::collection::vec(1usize..20, 1..30),
        interrupted in any::<bool>(),
    ) {
        let ledger = ledger(records);
        let dir = tempfile::tempdir().unwrap();
        let grown = Index::open(&dir.path().join("grown")).unwrap();
        let (mut rest, mut sizes) = (ledger.as_slice(), groups.iter().cycle());
        while !rest.is_empty() {
            let (group, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            grown.apply(group).unwrap();
            if interrupted {
                // Replaying after a crash starts a little before the cursor.
                grown.apply(group).unwrap();
            }
            rest = tail;
        }
        let rebuilt = Index::rebuild(&dir.path().join("rebuilt"), ok(&ledger), |_| {}).unwrap();
        prop_assert_eq!(dump(&grown), dump(&rebuilt));
        prop_assert_eq!(scanned(&grown), grown.counters("").unwrap());
        prop_assert_eq!(grown.cursor().unwrap(), ledger.last().map(|line| line.0.clone()));

        // The checksum is that of what is there, though what is new was not looked up.
        for index in [&grown, &rebuilt] {
            prop_assert_eq!(index.trees().kept_sum().unwrap(), index.trees().sum().unwrap());
        }

        // Every key leads to an entry that has that key, and every entry has all its keys.
        let trees = grown.trees();
        let mut expected: Vec<Vec<u8>> = trees.tree(Part::Entries).iter()
            .flat_map(|item| keys::of(&entry::decode(&item.unwrap().1).unwrap()))
            .collect();
        expected.sort();
        let found: Vec<Vec<u8>> = trees.tree(Part::Keys).iter().map(|item| item.unwrap().0.to_vec()).collect();
        prop_assert_eq!(expected, found);
    }

    #[test]
    fn a_query_finds_exactly_the_entries_that_match_and_counts_them(
        category in proptest::option::of(0usize..3),
        view in proptest::option::of(any::<bool>()),
        study in proptest::option::of(0u32..8),
        since in proptest::option::of(0i64..130),
        until in proptest::option::of(0i64..130),
        source in proptest::option::of(any::<bool>()),
        model in proptest::option::of(0usize..3),
        below in proptest::option::of(0f32..1.0),
        reason in proptest::option::of(any::<bool>()),
        fate in proptest::option::of(0usize..7),
        label_state in proptest::option::of(0usize..3),
        limit in proptest::option::of(0u64..10),
    ) {
        thread_local! { static FIXTURE: Fixture = fixture((0..60).flat_map(|n| {
            let fate = if n % 4 == 0 { Fate::Review } else { Fate::Filed };
            [Record::Intent(Box::new(intent(n, fate, Action::Move))), Record::Filed { id: id(n), to: None }]
        }).chain([Record::Missing { id: id(5) }])
            .chain((0..60).step_by(3).map(|n| label(n, "brace", None)))
            .chain((0..60).step_by(4).map(|n| label(n, "tether", Some(Pending::Adopted))))); }
        let query = Query {
            category: category.map(|n| CategoryId::parse(["fusion", "brace", "nothing"][n]).unwrap()),
            view: view.map(|frontal| if frontal { View::Frontal } else { View::Lateral }),
            study: study.map(|n| Uid::parse(&format!("1.3.{n}")).unwrap()),
            since_us: since.map(|s| s * 1_000_000),
            until_us: until.map(|s| s * 1_000_000),
            source: source.map(|north| if north { "north".into() } else { "south".into() }),
            model: model.map(|n| ["spine 1.0.0", "1.1.0", "spine"][n].into()),
            below,
            reason: reason.map(|low| if low { Reason::LowConfidence } else { Reason::Malformed }),
            fate: fate.map(|n| Fate::ALL[n]),
            label: label_state.map(|n| [LabelState::Given, LabelState::Pending, LabelState::None][n]),
            limit,
        };
        FIXTURE.with(|Fixture { index, .. }| {
            let mut expected: Vec<Entry> = index.trees().tree(Part::Entries).iter()
                .map(|item| entry::decode(&item.unwrap().1).unwrap())
                .filter(|entry| query.matches(entry))
                .collect();
            expected.sort_by_key(|entry| std::cmp::Reverse(entry.filed_us));
            assert_eq!(index.count(&query).unwrap(), expected.len() as u64);
            expected.truncate(limit.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX));
            let found: Vec<Entry> = index.query(&query).collect::<Result<_>>().unwrap();
            assert_eq!(found, expected);
        });
    }

    #[test]
    fn times_sort_as_bytes(a in any::<i64>(), b in any::<i64>()) {
        prop_assert_eq!(a.cmp(&b), keys::time(a).cmp(&keys::time(b)));
    }
}

#[test]
fn a_filed_file_is_found_by_everything_that_names_it() {
    let Fixture { index, dir: _dir } = fixture(filed(3));
    let entry = index.get(&id(3)).unwrap().unwrap();
    let known = index
        .find_uid(&Uid::parse("1.2.3").unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(
        (known.id, known.placement),
        (id(3), library("Fusion/3.dcm"))
    );
    let alone = std::slice::from_ref(&entry);
    assert_eq!(index.with_digest(&digest(3)).unwrap(), alone);
    assert_eq!(index.at_place(&library("Fusion/3.dcm")).unwrap(), alone);
    assert_eq!(index.study(&Uid::parse("1.3.3").unwrap()).unwrap(), alone);
    let roots = [
        (RootId::Library, PathBuf::from("/lib")),
        (RootId::Watch("south".into()), PathBuf::from("/drop")),
    ];
    for what in [
        "00000000deadbeef-3",
        "1.2.3",
        "/lib/Fusion/3.dcm",
        "/drop/in/3.dcm",
    ] {
        assert_eq!(index.resolve(&roots, what).unwrap(), alone, "{what}");
    }
    assert!(
        index
            .resolve(&roots, "/lib/Fusion/4.dcm")
            .unwrap()
            .is_empty()
    );
    let story = index.story(&id(3)).unwrap().unwrap();
    assert_eq!(story.history.len(), 2);
    assert_eq!(story.dossier().unwrap().seen_us, 1);
}

#[test]
fn that_nobody_has_labelled_a_file_takes_no_key_and_is_found_all_the_same() {
    let Fixture { index, dir: _dir } = fixture(filed(1).into_iter().chain(filed(2)));
    index
        .apply(&[(
            Position {
                segment: 9,
                offset: 0,
                hash: "h".into(),
            },
            9,
            label(2, "brace", None),
        )])
        .unwrap();
    let trees = index.trees();
    let keys = trees
        .tree(Part::Keys)
        .scan_prefix([Kind::Label as u8])
        .count();
    assert_eq!(keys, 1, "only the label that was given has one");
    let query = Query {
        label: Some(LabelState::None),
        ..Query::default()
    };
    let found: Vec<Entry> = index.query(&query).collect::<Result<_>>().unwrap();
    assert_eq!((found[0].id.clone(), found.len()), (id(1), 1));
    assert_eq!(index.count(&query).unwrap(), 1);
}

#[test]
fn values_packed_one_after_the_other_are_each_whole_by_themselves() {
    let mut packer = entry::Packer::new();
    let values = ["", "one", &"many words ".repeat(10_000), "one"];
    let packed: Vec<_> = values
        .iter()
        .map(|value| packer.encode(value).unwrap())
        .collect();
    for (value, packed) in values.iter().zip(&packed) {
        assert_eq!(&entry::decode::<String>(packed).unwrap(), value);
    }
    assert_eq!(packed[1], packed[3]);
}

#[test]
fn an_intent_is_open_until_it_is_closed() {
    let open = |records: &[Record]| {
        fixture(records.iter().cloned())
            .index
            .open_intents()
            .unwrap()
            .len()
    };
    let [began, done] = filed(1);
    assert_eq!(open(std::slice::from_ref(&began)), 1);
    assert_eq!(open(&[began.clone(), done]), 0);
    assert_eq!(
        open(&[
            began,
            Record::Abandoned {
                id: id(1),
                why: "changed".into()
            }
        ]),
        0
    );
}

#[test]
fn only_a_live_copy_in_the_library_stands_for_its_uid() {
    let uid = Uid::parse("1.2.1").unwrap();
    let found = |more: Vec<Record>| {
        fixture(filed(1).into_iter().chain(more))
            .index
            .find_uid(&uid)
            .unwrap()
            .is_some()
    };
    assert!(found(vec![]));
    assert!(!found(vec![Record::Missing { id: id(1) }]));
    assert!(!found(vec![Record::Undone {
        id: id(1),
        by: None,
        held: None
    }]));
    assert!(found(vec![
        Record::Missing { id: id(1) },
        Record::Moved {
            id: id(1),
            to: library("Brace/1.dcm")
        }
    ]));
    for (fate, stands) in [
        (Fate::Review, true),
        (Fate::Conflict, false),
        (Fate::Duplicate, false),
    ] {
        let records = [
            Record::Intent(Box::new(intent(1, fate, Action::Move))),
            Record::Filed {
                id: id(1),
                to: None,
            },
        ];
        assert_eq!(
            fixture(records).index.find_uid(&uid).unwrap().is_some(),
            stands,
            "{fate}"
        );
    }
    let observed = fixture([Record::Observed(Box::new(intent(
        1,
        Fate::Filed,
        Action::Observe,
    )))]);
    assert!(observed.index.find_uid(&uid).unwrap().is_none());
}

#[test]
fn what_was_only_observed_is_counted_apart_too() {
    let one = |n, fate, action| Record::Observed(Box::new(intent(n, fate, action)));
    let Fixture { index, dir: _dir } = fixture([
        one(1, Fate::Filed, Action::Observe),
        one(2, Fate::Review, Action::Observe),
        one(3, Fate::Left, Action::Observe),
        one(4, Fate::Duplicate, Action::Copy),
    ]);
    let watch = |n| index.get(&id(n)).unwrap().unwrap().watch.unwrap();
    assert_eq!(
        index.counters("observed/").unwrap(),
        BTreeMap::from([
            (format!("{}/filed", watch(1)), 1),
            (format!("{}/review", watch(2)), 1)
        ])
    );
    assert_eq!(index.counters("fate/").unwrap().values().sum::<u64>(), 4);
}

#[test]
fn a_persons_move_and_label_change_what_the_file_counts_as() {
    let review = [
        Record::Intent(Box::new(intent(1, Fate::Review, Action::Move))),
        Record::Filed {
            id: id(1),
            to: Some(library("_review/low-confidence/1.dcm")),
        },
        Record::Moved {
            id: id(1),
            to: library("Tether/1.dcm"),
        },
        label(1, "tether", None),
    ];
    let Fixture { index, dir: _dir } = fixture(review);
    let entry = index.get(&id(1)).unwrap().unwrap();
    assert_eq!((entry.fate, entry.reason), (Fate::Filed, None));
    assert_eq!(entry.category.unwrap().as_str(), "tether");
    assert_eq!(
        index.counters("fate/").unwrap(),
        BTreeMap::from([("filed".to_owned(), 1)])
    );
    assert_eq!(index.story(&id(1)).unwrap().unwrap().history.len(), 4);
    assert!(
        index
            .at_place(&library("_review/low-confidence/1.dcm"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_file_that_was_lost_under_way_is_missing_and_not_forever_open() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index")).unwrap();
    let intent = Record::Intent(Box::new(intent(1, Fate::Filed, Action::Move)));
    let position = |offset| Position {
        segment: 1,
        offset,
        hash: "h".into(),
    };
    let missing = Record::Missing { id: id(1) };
    index
        .apply(&[(position(0), 1, intent), (position(9), 2, missing)])
        .unwrap();
    assert!(index.open_intents().unwrap().is_empty());
    let entry = index.get(&id(1)).unwrap().unwrap();
    assert_eq!(entry.state, entry::State::Missing);
}
