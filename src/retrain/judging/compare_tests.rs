//! The rule of promotion, case by case.
#![allow(clippy::unwrap_used)]
use std::collections::HashSet;

use super::super::examples::{filed, id, image, kept_back};
use super::super::outcome::Done;
use super::super::promise::{Terms, certify};
use super::*;
use proptest::prelude::*;

fn golden() -> GoldenSet {
    GoldenSet {
        version: "2".into(),
        looks: 3,
    }
}

fn against(candidate: &[Outcome], in_use: &[Outcome]) -> Comparison {
    against_with(candidate, in_use, [None, None])
}

fn against_with(
    candidate: &[Outcome],
    in_use: &[Outcome],
    promises: [Option<&Promise>; 2],
) -> Comparison {
    let contender = |name, outcomes, promise| Contender {
        name,
        categories: &[],
        outcomes,
        promise,
        outside: &[],
    };
    compare(
        contender("spine 2", candidate, promises[0]),
        contender("spine 1", in_use, promises[1]),
        golden(),
    )
    .unwrap()
}

/// So many images of fusion, those with the numbers in `wrong` filed wrongly.
fn but(images: u32, wrong: std::ops::Range<u32>) -> Vec<Outcome> {
    (0..images)
        .map(|k| {
            let named = if wrong.contains(&k) {
                "screws"
            } else {
                "fusion"
            };
            image(k, "fusion", named, 0.95)
        })
        .collect()
}

#[test]
fn a_candidate_that_mends_more_than_it_breaks_is_better() {
    let found = against(&but(50, 0..2), &but(50, 1..6));
    assert_eq!(found.verdict, Verdict::Better);
    assert_eq!((found.all.wrong.new, found.all.wrong.mended), (1, 4));
    assert_eq!(found.all.wrong.p, mcnemar(1, 4));
    assert_eq!(
        (found.golden.version.as_str(), found.golden.looks),
        ("2", 3)
    );
    assert!(
        found.reasons[0].contains("4 rightly"),
        "{:?}",
        found.reasons
    );
}

#[test]
fn a_category_that_no_golden_image_shows_blocks_and_the_sentence_says_what_to_do() {
    let (candidate, in_use) = (but(50, 0..2), but(50, 1..6));
    let verdict = |categories: &[CategoryId]| {
        let contender = |outcomes| Contender {
            name: "spine",
            categories,
            outcomes,
            promise: None,
            outside: &[],
        };
        let found = compare(contender(&candidate), contender(&in_use), golden());
        let found = found.unwrap();
        (found.verdict, found.reasons.concat())
    };
    assert_eq!(verdict(&[id("fusion")]).0, Verdict::Better);
    let (blocked, why) = verdict(&[id("fusion"), id("brace"), id("screws")]);
    assert_eq!(blocked, Verdict::Blocked);
    assert!(
        why.contains("No golden image shows brace, screws") && why.contains("models promote"),
        "{why}"
    );
}

#[test]
fn filing_more_radiographs_of_something_else_than_chance_explains_blocks() {
    use super::super::outside::{Distance, Outside};
    let outside = |distance, filed: u32| {
        let outcomes: Vec<Outcome> = (0..16)
            .map(|k| {
                if k < filed {
                    image(k, "", "fusion", 0.99)
                } else {
                    kept_back(k, "", "out-of-scope")
                }
            })
            .collect();
        [Outside::of(distance, "chests", &outcomes)]
    };
    let (candidate, in_use) = (but(50, 0..2), but(50, 1..6));
    let verdict = |distance, filed| {
        let contender = |outcomes, outside| Contender {
            name: "spine",
            categories: &[],
            outcomes,
            promise: None,
            outside,
        };
        let (new, old) = (outside(distance, filed), outside(distance, 0));
        let found = compare(
            contender(&candidate, &new),
            contender(&in_use, &old),
            golden(),
        );
        let found = found.unwrap();
        (found.verdict, found.reasons.concat())
    };
    let (blocked, why) = verdict(Distance::Near, 5);
    assert_eq!(blocked, Verdict::Blocked);
    assert!(
        why.contains("files 5 that the bundle in use keeps back"),
        "{why}"
    );
    // Four more may be chance; of what is no radiograph, nothing is decided.
    assert_eq!(verdict(Distance::Near, 4).0, Verdict::Better);
    assert_eq!(verdict(Distance::Far, 16).0, Verdict::Better);
}

#[test]
fn one_net_new_error_in_a_small_class_blocks_whatever_the_others_win() {
    let mut candidate = but(99, 0..1);
    let mut in_use = but(99, 0..0);
    candidate.extend(filed("brace", 500, 0, 1000));
    in_use.extend(filed("brace", 400, 100, 1000));
    let found = against(&candidate, &in_use);
    assert_eq!(found.verdict, Verdict::Blocked);
    assert!(
        found.reasons[0].starts_with("fusion: 1 new"),
        "{:?}",
        found.reasons
    );
    assert!(found.reasons[0].contains("fewer than 100"));
}

#[test]
fn a_larger_class_may_lose_within_the_margin_and_not_beyond() {
    let within = against(&but(2000, 0..5), &but(2000, 5..6));
    assert!(within.all.wrong.worse_by_at_most < MARGIN);
    assert_eq!(within.verdict, Verdict::NotBetter);
    let beyond = against(&but(2000, 0..20), &but(2000, 20..21));
    assert_eq!(beyond.verdict, Verdict::Blocked);
    assert!(beyond.reasons[0].contains("percentage points"));
}

#[test]
fn no_net_new_error_never_blocks_a_larger_class_however_few_its_images() {
    let found = against(&but(100, 0..1), &but(100, 0..1));
    assert!(found.all.wrong.worse_by_at_most > MARGIN);
    assert_eq!(found.verdict, Verdict::NotBetter);
}

#[test]
fn what_was_reviewed_and_is_now_misfiled_is_a_new_error() {
    let mut in_use = but(50, 0..1);
    in_use[0] = in_use[0].at_threshold(0.99);
    let found = against(&but(50, 0..1), &in_use);
    assert_eq!(found.all.wrong.new, 0);
    assert_eq!(
        (found.all.misfiled.new, found.verdict),
        (1, Verdict::Blocked)
    );
}

#[test]
fn filing_an_image_of_neither_view_blocks() {
    let (mut candidate, mut in_use) = (but(50, 0..0), but(50, 0..3));
    candidate.push(image(90, "", "fusion", 0.9));
    in_use.push(kept_back(90, "", "out-of-scope"));
    let found = against(&candidate, &in_use);
    assert_eq!(found.verdict, Verdict::Blocked);
    assert!(found.reasons[0].starts_with("neither view"));
    assert_eq!(found.classes.last().unwrap().class, None);
}

/// A promise kept on 700 patients of which so many are filed.
fn promise(filed: u32) -> Promise {
    let outcomes: Vec<Outcome> = (0..700)
        .map(|k| image(k, "fusion", "fusion", if k < filed { 0.9 } else { 0.1 }).at_threshold(0.5))
        .collect();
    let terms = Terms {
        target: 0.005,
        threshold: Some(0.5),
        categories: &[id("fusion")],
        used: &HashSet::new(),
        files_uncertified: false,
        seed: 1,
    };
    certify(&outcomes, &terms)
}

#[test]
fn equal_accuracy_with_more_filed_under_the_same_promise_is_better() {
    let same = but(50, 0..1);
    let (more, less) = (promise(690), promise(685));
    let verdict = |a, b| against_with(&same, &same, [a, b]).verdict;
    assert_eq!(verdict(Some(&more), Some(&less)), Verdict::Better);
    assert_eq!(verdict(Some(&less), Some(&more)), Verdict::NotBetter);
    assert_eq!(verdict(Some(&more), None), Verdict::NotBetter);
    let why = |a, b| against_with(&same, &same, [a, b]).reasons[1].clone();
    assert!(why(Some(&less), Some(&more)).contains("under the promise that both keep"));
    for promises in [[None, None], [Some(&more), None]] {
        let why = why(promises[0], promises[1]);
        assert!(why.ends_with("both keep, and they do not."), "{why}");
    }
}

#[test]
fn a_kept_promise_must_not_be_lost_nor_paid_for_with_coverage() {
    let (candidate, in_use) = (but(50, 0..0), but(50, 0..4));
    let (kept, fewer, lost) = (promise(700), promise(640), promise(500));
    let found = against_with(&candidate, &in_use, [Some(&fewer), Some(&kept)]);
    assert_eq!(found.verdict, Verdict::Blocked);
    assert!(found.reasons[0].contains("less"), "{:?}", found.reasons);
    for candidates in [Some(&lost), None] {
        let found = against_with(&candidate, &in_use, [candidates, Some(&kept)]);
        assert_eq!(found.verdict, Verdict::Blocked);
        assert!(found.reasons[0].contains("promise"), "{:?}", found.reasons);
    }
}

#[test]
fn a_candidate_that_files_next_to_nothing_is_not_better_for_one_mended_error() {
    let in_use = but(50, 0..1);
    let files = |count: usize| {
        let mut candidate = but(50, 0..0);
        for outcome in candidate.iter_mut().skip(count) {
            outcome.done = Done::NotFiled {
                reason: "uncertified-category".into(),
            };
        }
        against(&candidate, &in_use)
    };
    let found = files(0);
    assert_eq!(found.verdict, Verdict::Blocked, "{:?}", found.reasons);
    assert!(
        found.reasons[0].contains("keeps back 49"),
        "{:?}",
        found.reasons
    );
    // Two fewer may be chance.
    assert_eq!(files(48).verdict, Verdict::Better);
}

#[test]
fn keeping_back_what_the_bundle_in_use_misfiles_costs_nothing() {
    let in_use = but(200, 0..12);
    let mut candidate = but(200, 0..0);
    for outcome in candidate.iter_mut().take(12) {
        outcome.done = Done::NotFiled {
            reason: "low-confidence".into(),
        };
    }
    let found = against(&candidate, &in_use);
    assert_eq!(found.verdict, Verdict::Better, "{:?}", found.reasons);
}

#[test]
fn only_the_same_images_with_the_same_labels_are_compared() {
    let fails = |candidate: &[Outcome], in_use: &[Outcome]| {
        let contender = |outcomes| Contender {
            name: "spine",
            categories: &[],
            outcomes,
            promise: None,
            outside: &[],
        };
        compare(contender(candidate), contender(in_use), golden()).unwrap_err()
    };
    let ten = but(10, 0..0);
    assert!(matches!(fails(&[], &[]), CompareError::Empty));
    assert!(matches!(fails(&ten[..9], &ten), CompareError::Alone(_)));
    assert!(matches!(fails(&ten, &ten[..9]), CompareError::Alone(_)));
    let twice: Vec<Outcome> = ten.iter().chain(&ten[..1]).cloned().collect();
    assert!(matches!(fails(&twice, &ten), CompareError::Repeated(_)));
    assert!(matches!(fails(&ten, &twice), CompareError::Repeated(_)));
    let mut other = ten.clone();
    other[3].truth = Some(id("brace"));
    assert!(matches!(fails(&ten, &other), CompareError::Label(_)));
}

proptest! {
    #[test]
    fn a_bundle_is_never_better_than_itself_nor_blocked_by_itself(
        wrong in proptest::collection::vec(any::<bool>(), 1..300),
    ) {
        let outcomes: Vec<Outcome> = wrong.iter().enumerate().map(|(k, wrong)| {
            image(k as u32, "fusion", if *wrong { "screws" } else { "fusion" }, 0.9)
        }).collect();
        prop_assert_eq!(against(&outcomes, &outcomes).verdict, Verdict::NotBetter);
    }

    #[test]
    fn at_most_one_of_two_bundles_is_better_than_the_other(
        cases in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..200),
    ) {
        let side = |pick: fn(&(bool, bool)) -> bool| -> Vec<Outcome> {
            cases.iter().enumerate().map(|(k, case)| {
                image(k as u32, "fusion", if pick(case) { "screws" } else { "fusion" }, 0.9)
            }).collect()
        };
        let (a, b) = (side(|case| case.0), side(|case| case.1));
        let both = [against(&a, &b).verdict, against(&b, &a).verdict];
        prop_assert!(both != [Verdict::Better, Verdict::Better]);
    }
}
