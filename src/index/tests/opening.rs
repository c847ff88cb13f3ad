//! Opening, closing, damage, rebuilding.

use super::*;

#[test]
fn a_second_open_is_locked_out() {
    let Fixture { dir, index } = fixture([]);
    let path = dir.path().join("index");
    assert!(matches!(Index::open(&path), Err(IndexError::Locked(_))));
    assert!(matches!(
        Index::rebuild(&path, ok(&[]), |_| {}),
        Err(IndexError::Locked(_))
    ));
    drop(index);
    assert!(Index::open(&path).is_ok());
}

#[test]
fn what_was_applied_is_there_after_a_clean_stop() {
    let Fixture { dir, index } = fixture(filed(1));
    let before = dump(&index);
    index.close().unwrap();
    drop(index);
    assert_eq!(
        dump(&Index::open(&dir.path().join("index")).unwrap()),
        before
    );
}

fn needs_rebuild(dir: &Path) -> (String, PathBuf) {
    match Index::open(dir) {
        Err(IndexError::NeedsRebuild {
            why,
            aside: Some(aside),
            ..
        }) => (why, aside),
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_damaged_index_is_rebuilt_or_catches_up_but_never_answers_wrongly() {
    let ledger = ledger((0..300).flat_map(filed));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let index = Index::rebuild(&path, ok(&ledger), |_| {}).unwrap();
    let before = dump(&index);
    index.close().unwrap();
    drop(index);
    let damage = |name: &str, at: &dyn Fn(usize) -> usize| {
        let generation = path.join(std::fs::read_to_string(path.join("current")).unwrap());
        let file = generation.join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        let at = at(bytes.len());
        let end = (at + 5000).min(bytes.len().max(at + 1));
        bytes.resize(bytes.len().max(end), 0);
        bytes[at..end].fill(0xa5);
        std::fs::write(&file, bytes).unwrap();
        let outcome = match Index::open(&path) {
            Err(IndexError::NeedsRebuild { aside, .. }) => {
                assert!(aside.is_some_and(|aside| aside.is_dir()) && !path.exists());
                "moved aside"
            }
            Err(err) => panic!("{err}"),
            Ok(index) => {
                index.apply(&ledger).unwrap();
                assert!(dump(&index) == before, "damage at {at} of {name}");
                "caught up"
            }
        };
        let index = Index::rebuild(&path, ok(&ledger), |_| {}).unwrap();
        assert_eq!(dump(&index), before);
        index.close().unwrap();
        outcome
    };
    // Where what lies in sled's log depends on the threads that wrote: either may come of it.
    for step in 0..16 {
        damage("db", &|length| length / 16 * step);
    }
    assert_eq!(damage("conf", &|_| 0), "moved aside");
    assert_eq!(damage("db", &|length| length), "caught up");
}

#[test]
fn an_index_whose_pointer_is_damaged_is_moved_aside() {
    let Fixture { dir, index } = fixture(filed(1));
    drop(index);
    let path = dir.path().join("index");
    std::fs::write(path.join("current"), "../../etc").unwrap();
    let (_, aside) = needs_rebuild(&path);
    assert!(aside.is_dir() && !path.exists());
}

#[test]
fn a_power_cut_while_in_use_means_rebuild_and_a_crash_does_not() {
    let Fixture { dir, index } = fixture(filed(1));
    let path = dir.path().join("index");
    index.trees().sync(&path).unwrap();
    drop(index);
    let index = Index::open(&path).unwrap();
    assert!(index.get(&id(1)).unwrap().is_some());
    let elsewhen = Session {
        boot_id: "another boot".into(),
        clean: false,
    };
    write_meta(&index.trees(), SESSION, &elsewhen).unwrap();
    drop(index);
    let (why, _) = needs_rebuild(&path);
    assert!(why.contains("went down"), "{why}");
}

#[test]
fn an_index_of_another_version_means_rebuild() {
    let Fixture { dir, index } = fixture(filed(1));
    write_meta(&index.trees(), VERSION_KEY, &(VERSION + 1)).unwrap();
    drop(index);
    assert!(
        needs_rebuild(&dir.path().join("index"))
            .0
            .contains("version")
    );
}

#[test]
fn reindexing_leaves_readers_their_index_and_ends_with_the_same() {
    let ledger = ledger((0..50).flat_map(filed));
    let Fixture { dir, index } = fixture((0..50).flat_map(filed));
    let before = dump(&index);
    let mut reading = index.query(&Query::default());
    assert!(reading.next().is_some());
    let mut told = 0;
    index.reindex(ok(&ledger), |folded| told = folded).unwrap();
    assert_eq!(told, 100);
    assert_eq!(reading.count(), 49);
    assert_eq!(dump(&index), before);
    drop(index);
    assert_eq!(
        dump(&Index::open(&dir.path().join("index")).unwrap()),
        before
    );
}

#[test]
fn an_unreadable_ledger_leaves_the_index_as_it_was() {
    let Fixture { index, dir: _dir } = fixture(filed(1));
    let before = dump(&index);
    let bad = [Err::<Line, _>(std::io::Error::other("bad hash"))];
    let refused = index.reindex(bad, |_| {});
    assert!(matches!(refused, Err(IndexError::Ledger(_))), "{refused:?}");
    assert_eq!(dump(&index), before);
}

#[test]
fn nobody_else_may_look_into_the_index() {
    use std::os::unix::fs::PermissionsExt;
    let Fixture { dir, index: _index } = fixture([]);
    let mode = std::fs::metadata(dir.path().join("index"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}
