//! What a ledger promises: nothing acknowledged is lost, nothing damaged goes unnoticed.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn promoted(model: impl Into<String>) -> Record {
    Record::Promoted {
        model: model.into(),
    }
}

fn state() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn models(state: &Path, from: Option<&Position>) -> Vec<String> {
    let record = |item: Result<(Position, i64, Record), LedgerError>| match item.unwrap().2 {
        Record::Promoted { model } => model,
        other => format!("{other:?}"),
    };
    Ledger::read(state, from).unwrap().map(record).collect()
}

fn first_segment(state: &Path) -> PathBuf {
    segment_path(&ledger_dir(state), 1)
}

#[test]
fn what_was_appended_is_read_again_also_from_any_position() {
    let state = state();
    let (mut ledger, report) = Ledger::open(state.path()).unwrap();
    assert!(report.new);
    let first = ledger
        .append_group(&[promoted("a"), promoted("b")])
        .unwrap();
    let second = ledger.append_group(&[promoted("c")]).unwrap();
    drop(ledger);
    assert_eq!(models(state.path(), None), ["a", "b", "c"]);
    assert_eq!(models(state.path(), Some(&first[0].0)), ["b", "c"]);
    assert_eq!(models(state.path(), Some(&first[1].0)), ["c"]);
    assert!(models(state.path(), Some(&second[0].0)).is_empty());
    let (ledger, report) = Ledger::open(state.path()).unwrap();
    assert_eq!((report.records, report.torn, report.new), (3, None, false));
    assert_eq!(ledger.instance().len(), 16);
}

#[test]
fn a_position_of_another_ledger_is_refused() {
    let (one, two) = (state(), state());
    let at = Ledger::open(one.path())
        .unwrap()
        .0
        .append_group(&[promoted("a")])
        .unwrap();
    Ledger::open(two.path())
        .unwrap()
        .0
        .append_group(&[promoted("a")])
        .unwrap();
    assert!(matches!(
        Ledger::read(two.path(), Some(&at[0].0)),
        Err(LedgerError::Mismatch { .. })
    ));
}

#[test]
fn the_chain_goes_on_across_segments() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.set_segment_size(600);
    let mut at = Vec::new();
    for n in 0..20 {
        at.extend(ledger.append_group(&[promoted(n.to_string())]).unwrap());
    }
    drop(ledger);
    let report = verify(state.path()).unwrap();
    assert!(report.segments > 3, "{report:?}");
    assert_eq!((report.records, report.groups), (20, 20));
    assert_eq!(models(state.path(), Some(&at[9].0)).len(), 10);
    let second = segment_path(&ledger_dir(state.path()), 2);
    std::fs::remove_file(second).unwrap();
    assert!(matches!(
        Ledger::open(state.path()),
        Err(LedgerError::Corrupt { .. })
    ));
}

#[test]
fn ids_are_never_given_twice() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    let id = ledger.next_id();
    let at = crate::domain::Placement {
        root: crate::domain::placement::RootId::Library,
        path: crate::domain::RelPath::new("a").unwrap(),
    };
    let digest = blake3::hash(b"").into();
    ledger
        .append_group(&[Record::Adopted {
            id: id.clone(),
            at,
            digest,
            fingerprint: None,
            instance: None,
        }])
        .unwrap();
    drop(ledger);
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    let next = ledger.next_id();
    assert_ne!(next, id);
    assert!(next.0.starts_with(ledger.instance()));
}

#[test]
fn a_second_one_on_the_same_state_directory_is_refused() {
    let state = state();
    let (_ledger, _) = Ledger::open(state.path()).unwrap();
    let error = Ledger::open(state.path()).unwrap_err();
    assert!(
        error.to_string().starts_with("another radsort is using"),
        "{error}"
    );
}

#[test]
fn ledger_and_segments_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let state = state();
    drop(Ledger::open(state.path()).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&first_segment(state.path())), 0o600);
    assert_eq!(mode(&ledger_dir(state.path())), 0o700);
}

#[test]
fn records_and_fields_of_later_versions_are_kept() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    let future = serde_json::json!({"kind": "teleported", "where": [1, 2]});
    ledger
        .append_group(&[Record::Unknown(future.clone())])
        .unwrap();
    let known = serde_json::json!({"kind": "promoted", "model": "m", "by": "a later version"});
    ledger.append_group(&[Record::Unknown(known)]).unwrap();
    drop(ledger);
    let records: Vec<_> = Ledger::read(state.path(), None)
        .unwrap()
        .map(|item| item.unwrap().2)
        .collect();
    assert_eq!(records, [Record::Unknown(future), promoted("m")]);
}

#[test]
fn a_ledger_of_a_later_program_is_refused_and_not_touched() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append_group(&[promoted("m")]).unwrap();
    drop(ledger);
    let path = first_segment(state.path());
    let mut text = std::fs::read_to_string(&path).unwrap();
    let last = hash_line(text.trim_end().rsplit('\n').next().unwrap().as_bytes());
    let later = format!(
        "{{\"v\":{},\"t\":1,\"prev\":\"{last}\",\"commit\":0}}\n",
        VERSION + 1
    );
    text += &later;
    std::fs::write(&path, &text).unwrap();
    for error in [
        Ledger::open(state.path()).map(drop).unwrap_err(),
        verify(state.path()).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("later radsort"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_line_with_valid_ones_after_it_is_corruption_and_nothing_is_changed() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    let at = ledger.append_group(&[promoted("aaaa")]).unwrap();
    ledger.append_group(&[promoted("bbbb")]).unwrap();
    drop(ledger);
    let path = first_segment(state.path());
    let good = std::fs::read(&path).unwrap();
    for byte in [0u8, b'x', b'\n'] {
        let mut bad = good.clone();
        bad[at[0].0.offset as usize + 60] = byte;
        std::fs::write(&path, &bad).unwrap();
        assert!(matches!(
            Ledger::open(state.path()),
            Err(LedgerError::Corrupt { .. })
        ));
        assert!(matches!(
            verify(state.path()),
            Err(LedgerError::Corrupt { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), bad);
    }
}

#[test]
fn records_without_their_commit_never_happened() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append_group(&[promoted("a")]).unwrap();
    let at = ledger
        .append_group(&[promoted("b"), promoted("c")])
        .unwrap();
    drop(ledger);
    let path = first_segment(state.path());
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(at[1].0.offset)
        .unwrap();
    assert_eq!(models(state.path(), None), ["a"]);
    let (mut ledger, report) = Ledger::open(state.path()).unwrap();
    let torn = std::fs::read_to_string(report.torn.unwrap()).unwrap();
    assert!(torn.contains("\"b\""), "{torn}");
    ledger.append_group(&[promoted("d")]).unwrap();
    assert_eq!(models(state.path(), None), ["a", "d"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Wherever a write is cut off, with or without garbage behind it, all groups before it are there, and the rest
    /// is kept aside.
    #[test]
    fn a_torn_end_costs_nothing_that_was_acknowledged(
        groups in 1usize..6, cut in 0.0f64..1.0, garbage in prop_oneof![
            Just(Vec::new()), Just(vec![0u8; 700]), proptest::collection::vec(any::<u8>(), 0..80)]
    ) {
        let state = state();
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        let mut ends = Vec::new();
        for n in 0..groups {
            ledger.append_group(&[promoted(format!("{n}-a")), promoted(format!("{n}-b"))]).unwrap();
            ends.push(ledger.end);
        }
        let instance = ledger.instance().to_owned();
        drop(ledger);
        let path = first_segment(state.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        let cut = header + ((bytes.len() - header) as f64 * cut) as usize;
        bytes.truncate(cut);
        bytes.extend(garbage);
        std::fs::write(&path, &bytes).unwrap();

        let whole = ends.iter().filter(|end| **end <= cut as u64).count();
        let (mut ledger, report) = Ledger::open(state.path()).unwrap();
        prop_assert_eq!(ledger.instance(), instance);
        prop_assert_eq!(report.records, 2 * whole as u64);
        let torn = report.torn.map(|path| std::fs::read(path).unwrap()).unwrap_or_default();
        prop_assert_eq!(&bytes[ledger.end as usize..], &torn[..]);
        ledger.append_group(&[promoted("z")]).unwrap();
        drop(ledger);
        prop_assert_eq!(models(state.path(), None).len(), 2 * whole + 1);
        prop_assert_eq!(verify(state.path()).unwrap().torn, None);
    }

    /// No single changed byte before the last line goes unnoticed, unless it only loses an unacknowledged end.
    #[test]
    fn a_changed_byte_is_noticed(place in 0.0f64..1.0, flip in 1u8..=255) {
        let state = state();
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        for n in 0..3 {
            ledger.append_group(&[promoted(n.to_string())]).unwrap();
        }
        drop(ledger);
        let path = first_segment(state.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap();
        bytes[(last as f64 * place) as usize] ^= flip;
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(verify(state.path()).is_err());
    }
}

#[test]
fn an_empty_or_headless_new_segment_is_no_harm() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.append_group(&[promoted("a")]).unwrap();
    drop(ledger);
    for content in ["", "{\"v\":1,\"t\":"] {
        std::fs::write(segment_path(&ledger_dir(state.path()), 2), content).unwrap();
        assert_eq!(models(state.path(), None), ["a"]);
        let (_, report) = Ledger::open(state.path()).unwrap();
        assert_eq!(report.torn.is_some(), !content.is_empty());
        assert_eq!(verify(state.path()).unwrap().segments, 1);
    }
}

#[test]
fn who_reads_while_it_is_written_sees_whole_groups_and_no_damage() {
    let state = state();
    let (mut ledger, _) = Ledger::open(state.path()).unwrap();
    ledger.set_segment_size(50_000);
    let long = "x".repeat(3_000);
    let writer = std::thread::spawn(move || {
        for n in 0..60 {
            let group: Vec<_> = (0..8).map(|_| promoted(format!("{n} {long}"))).collect();
            ledger.append_group(&group).unwrap();
        }
    });
    let mut seen = 0;
    while seen < 480 {
        let now = models(state.path(), None).len();
        assert!(now >= seen && now.is_multiple_of(8), "{now} after {seen}");
        seen = now;
    }
    writer.join().unwrap();
}
