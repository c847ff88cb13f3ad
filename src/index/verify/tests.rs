//! What a comparison finds, and what it leaves alone.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::settings::Action;
use crate::filing::record::Record;
use crate::index::start::{Start, index_dir};
use crate::index::tests::intent;

/// A state directory and a library with two filed files and a quarantined one.
struct Site {
    dir: tempfile::TempDir,
    ledger: Ledger,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["state", "library", "library/Fusion", "library/_quarantine"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (ledger, _) = Ledger::open(&dir.path().join("state")).unwrap();
        let mut site = Self { dir, ledger };
        site.file("Fusion/1.dcm", 1, RootId::Library);
        site.file("Fusion/2.dcm", 2, RootId::Library);
        site.file("3.dcm", 3, RootId::Quarantine);
        std::fs::write(site.library("_quarantine/3.dcm.reason.txt"), "why").unwrap();
        std::fs::write(site.library(".radsort-library"), "marker").unwrap();
        site
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn library(&self, path: &str) -> PathBuf {
        self.dir.path().join("library").join(path)
    }

    fn roots(&self) -> Vec<(RootId, PathBuf)> {
        vec![
            (RootId::Library, self.dir.path().join("library")),
            (RootId::Quarantine, self.library("_quarantine")),
        ]
    }

    fn file(&mut self, path: &str, n: u32, root: RootId) {
        let bytes = vec![n as u8; 100 + n as usize];
        let fate = if root == RootId::Quarantine {
            Fate::Quarantined
        } else {
            Fate::Filed
        };
        let below = if root == RootId::Quarantine {
            "_quarantine/"
        } else {
            ""
        };
        std::fs::write(self.library(&format!("{below}{path}")), &bytes).unwrap();
        let mut intent = intent(n, fate, Action::Move);
        intent.to = Placement {
            root,
            path: RelPath::new(path).unwrap(),
        };
        intent.digest = blake3::hash(&bytes).into();
        intent.fingerprint.size = bytes.len() as u64;
        let id = intent.id.clone();
        self.ledger
            .append_group(&[Record::Intent(Box::new(intent))])
            .unwrap();
        self.ledger
            .append_group(&[Record::Filed { id, to: None }])
            .unwrap();
    }

    fn index(&self) -> (Index, Start) {
        Index::start(&self.state(), |_| {}).unwrap()
    }

    fn verify(&self, index: &Index, digests: bool) -> (Summary, Vec<Difference>) {
        let mut differences = Vec::new();
        let mut tell = |finding| {
            if let Finding::Difference(difference) = finding {
                differences.push(difference);
            }
        };
        let summary = verify(index, &self.state(), &self.roots(), digests, &mut tell).unwrap();
        (summary, differences)
    }
}

#[test]
fn a_site_in_order_has_no_differences() {
    let site = Site::new();
    let (index, start) = site.index();
    assert_eq!(start, Start::CaughtUp { records: 6 });
    let (summary, differences) = site.verify(&index, true);
    assert_eq!(differences, []);
    assert_eq!(
        (summary.records, summary.entries, summary.digests),
        (6, 3, 3)
    );
    assert!(!summary.is_bad());
    assert!(!site.state().join("verify").exists());
}

#[test]
fn what_people_did_in_the_folders_is_told_apart() {
    let site = Site::new();
    let (index, _) = site.index();
    std::fs::rename(site.library("Fusion/1.dcm"), site.library("moved.dcm")).unwrap();
    std::fs::write(site.library("new.dcm"), "from a person").unwrap();
    let (summary, differences) = site.verify(&index, false);
    let kinds: Vec<Kind> = differences
        .iter()
        .map(|difference| difference.kind)
        .collect();
    assert_eq!(kinds, [Kind::Moved, Kind::Unknown]);
    assert!(!summary.is_bad());

    std::fs::remove_file(site.library("moved.dcm")).unwrap();
    let (summary, differences) = site.verify(&index, false);
    assert!(
        differences
            .iter()
            .any(|difference| difference.kind == Kind::Missing)
    );
    assert!(summary.is_bad());
}

#[test]
fn changed_bytes_are_seen_when_digests_are_asked_for() {
    let site = Site::new();
    let (index, _) = site.index();
    std::fs::write(site.library("Fusion/2.dcm"), vec![9; 102]).unwrap();
    assert!(!site.verify(&index, false).0.is_bad());
    let (summary, differences) = site.verify(&index, true);
    assert_eq!(
        differences
            .iter()
            .map(|difference| difference.kind)
            .collect::<Vec<_>>(),
        [Kind::Changed]
    );
    assert!(summary.is_bad());
}

#[test]
fn an_index_that_was_tampered_with_is_found_out_and_can_be_reindexed() {
    let site = Site::new();
    let (index, _) = site.index();
    let trees = index.trees();
    let id = intent(1, Fate::Filed, Action::Move).id;
    trees.tree(Part::Entries).remove(id.0.as_bytes()).unwrap();
    let (summary, differences) = site.verify(&index, false);
    assert!(
        differences
            .iter()
            .any(|difference| difference.kind == Kind::Index && difference.id == Some(id.clone()))
    );
    assert!(!summary.is_bad());
    index
        .reindex(Ledger::read(&site.state(), None).unwrap(), |_| {})
        .unwrap();
    assert_eq!(site.verify(&index, false).1, []);
}

#[test]
fn a_broken_ledger_is_a_difference_that_a_person_must_look_at() {
    let site = Site::new();
    let (index, _) = site.index();
    let segment = site.state().join("ledger/00000001.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("Fusion/1.dcm", "Fusion/X.dcm", 1)).unwrap();
    let (summary, differences) = site.verify(&index, false);
    assert!(
        differences
            .iter()
            .any(|difference| difference.kind == Kind::Ledger),
        "{differences:?}"
    );
    assert!(summary.is_bad());
    assert!(!site.state().join("verify").exists());
}

#[test]
fn an_index_that_is_behind_catches_up_and_one_of_another_ledger_is_rebuilt() {
    let mut site = Site::new();
    let (index, _) = site.index();
    site.file("Fusion/4.dcm", 4, RootId::Library);
    assert!(
        site.verify(&index, false)
            .1
            .iter()
            .any(|difference| difference.kind == Kind::Index)
    );
    index.close().unwrap();
    drop(index);
    let (index, start) = site.index();
    assert_eq!(start, Start::CaughtUp { records: 2 });
    assert_eq!(site.verify(&index, false).1, []);
    drop(index);

    let other = Site::new();
    std::fs::remove_dir_all(site.state().join("ledger")).unwrap();
    std::fs::rename(other.state().join("ledger"), site.state().join("ledger")).unwrap();
    let (index, start) = site.index();
    assert!(
        matches!(start, Start::Rebuilt { records: 6, .. }),
        "{start:?}"
    );
    assert_eq!(index.count(&Query::default()).unwrap(), 3);
    drop(index);

    std::fs::remove_dir_all(index_dir(&site.state())).unwrap();
    let (index, start) = site.index();
    assert_eq!(start, Start::CaughtUp { records: 6 });
    assert_eq!(index.count(&Query::default()).unwrap(), 3);
}
