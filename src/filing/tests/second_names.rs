//! Files with more than one name, or open somewhere, and what a crash leaves of them.

use std::fs::File;

use super::super::record::RecordId;
use super::super::recover::Resolution;
use super::recovery::{intent, recovered};
use super::*;
use crate::root::aside_name;

fn abandoned(resolution: &Resolution) -> bool {
    matches!(resolution, Resolution::Abandoned(_))
}

#[test]
fn both_names_of_a_file_in_the_drop_directory_are_there_after_a_crash_behind_its_claim() {
    let bench = Bench::new();
    bench.put("a", "a");
    fs::hard_link(bench.drop.join("a"), bench.drop.join("b")).unwrap();
    let intent = Intent {
        links: 2,
        ..intent(&bench, "a", "a", true)
    };
    let claim = bench.drop.join(intent.claim.as_ref().unwrap().to_string());
    // Claimed as a whole, and interrupted between link and unlink.
    for half in [false, true] {
        if half {
            fs::hard_link(bench.drop.join("a"), &claim).unwrap();
        } else {
            fs::rename(bench.drop.join("a"), &claim).unwrap();
        }
        let resolution = recovered(&bench, &intent);
        assert!(abandoned(&resolution), "{resolution:?}");
        assert_eq!(bench.in_drop(), ["a", "b"], "{half}");
    }
}

#[test]
fn a_name_that_was_being_removed_goes_and_another_file_in_its_place_comes_back() {
    for another in [false, true] {
        let bench = Bench::new();
        bench.put("a", "a");
        let intent = intent(&bench, "a", "a", true);
        let claim = bench.drop.join(intent.claim.as_ref().unwrap().to_string());
        fs::hard_link(bench.drop.join("a"), &claim).unwrap();
        if another {
            bench.put("new", "another");
            fs::rename(bench.drop.join("new"), bench.drop.join("a")).unwrap();
        }
        let aside = bench.drop.join(aside_name(intent.fingerprint.ino));
        fs::rename(bench.drop.join("a"), aside).unwrap();
        let resolution = recovered(&bench, &intent);
        assert!(abandoned(&resolution), "{resolution:?}");
        let expected: &[(&str, usize)] = if another {
            &[("a", 1), ("another", 1)]
        } else {
            &[("a", 1)]
        };
        let expected = expected.iter().map(|(bytes, n)| ((*bytes).into(), *n));
        assert_eq!(bench.census(), expected.collect(), "{another}");
        assert!(bench.in_drop().iter().all(|name| !name.starts_with('.')));
    }
}

#[test]
fn a_name_that_was_being_removed_goes_also_when_its_folder_was_moved_at_that_moment() {
    let bench = Bench::new();
    fs::create_dir(bench.drop.join("folder")).unwrap();
    bench.put("folder/a", "a");
    let intent = intent(&bench, "folder/a", "a", true);
    let claim = bench.drop.join(intent.claim.as_ref().unwrap().to_string());
    fs::hard_link(bench.drop.join("folder/a"), &claim).unwrap();
    let aside = aside_name(intent.fingerprint.ino);
    let aside = bench.drop.join("folder").join(aside);
    fs::rename(bench.drop.join("folder/a"), aside).unwrap();
    fs::rename(bench.drop.join("folder"), bench.drop.join("moved")).unwrap();
    let resolution = recovered(&bench, &intent);
    assert!(abandoned(&resolution), "{resolution:?}");
    assert_eq!(bench.census(), [("a".into(), 1)].into());
    let moved = fs::read_dir(bench.drop.join("moved")).unwrap();
    let hidden = moved.filter(|it| it.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_file_that_somebody_has_open_or_gives_another_name_is_put_back_after_a_crash_too() {
    for open in [false, true] {
        let bench = Bench::new();
        bench.put("a", "a");
        let intent = intent(&bench, "a", "a", false);
        let target = bench.library.join(intent.to.path.to_string());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::rename(bench.drop.join("a"), &target).unwrap();
        let writer = if open {
            Some(File::options().append(true).open(&target).unwrap())
        } else {
            fs::hard_link(&target, bench.drop.join("b")).unwrap();
            None
        };
        let resolution = recovered(&bench, &intent);
        assert!(abandoned(&resolution), "{resolution:?}");
        assert!(bench.in_library().is_empty() && bench.drop.join("a").exists());
        drop(writer);
        let inode = fs::metadata(bench.drop.join("a")).unwrap().ino();
        assert_eq!(inode, intent.fingerprint.ino);
    }
}

#[test]
fn a_file_that_has_vanished_is_not_taken_for_an_equal_one_of_another_record() {
    let bench = Bench::new();
    bench.put("a", "a");
    let first = intent(&bench, "a", "a", false);
    let target = bench.library.join(first.to.path.to_string());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::rename(bench.drop.join("a"), &target).unwrap();
    bench.put("b", "a");
    let mut second = intent(&bench, "b", "a", false);
    second.id = RecordId("00112233aabbccdd-8".into());
    second.to = Placement {
        root: RootId::Duplicates,
        path: RelPath::new("b").unwrap(),
    };
    fs::remove_file(bench.drop.join("b")).unwrap();
    // As long as no record has it, it could be this one, moved by a person.
    assert_eq!(
        recovered(&bench, &second),
        Resolution::Finished(first.to.clone())
    );
    let position = || Position {
        segment: 1,
        offset: 0,
        hash: String::new(),
    };
    let records = [
        Record::Intent(Box::new(first.clone())),
        Record::Filed {
            id: first.id,
            to: None,
        },
    ];
    let group = records.map(|record| (position(), 0, record));
    bench.catalogue.apply(&group).unwrap();
    assert_eq!(recovered(&bench, &second), Resolution::Missing);
}
