//! What filing promises, on real directories: every file stays exactly as often as it was, whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod faults;
mod filing;
mod recovery;
mod second_names;
mod stuck;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::catalogue::{Catalogue, CatalogueError, Known};
use super::destinations::{Destinations, Roots};
use super::filer::{Filer, FilingRequest, Outcome};
use super::record::{Digest, Fate, Intent, Position, Record};
use super::replay;
use super::timing::Timing;
use crate::config::settings::{Action, LibrarySettings};
use crate::domain::dossier::Timings;
use crate::domain::instance::{Description, Instance};
use crate::domain::placement::{RootId, Template};
use crate::domain::settle::Sight;
use crate::domain::{CategoryId, Decision, Dossier, Placement, Reason, RelPath, Uid};
use crate::root::{Offers, Root};

/// Open intents, known copies, all records.
type Inner = (
    BTreeMap<String, Intent>,
    BTreeMap<String, Known>,
    Vec<Record>,
);

/// An index in memory.
#[derive(Default)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
    applied: tokio::sync::Notify,
}

impl Memory {
    fn records(&self) -> Vec<Record> {
        self.inner.lock().unwrap().2.clone()
    }

    /// Waits for such a record.
    async fn told(&self, such: impl Fn(&Record) -> bool) {
        let found = async {
            loop {
                let more = self.applied.notified();
                if self.records().iter().any(&such) {
                    return;
                }
                more.await;
            }
        };
        let limit = std::time::Duration::from_secs(30);
        tokio::time::timeout(limit, found).await.unwrap();
    }
}

impl Catalogue for Memory {
    fn apply(&self, group: &[(Position, i64, Record)]) -> Result<(), CatalogueError> {
        let mut inner = self.inner.lock().unwrap();
        let (open, known, records) = &mut *inner;
        for (_, _, record) in group {
            records.push(record.clone());
            match record {
                Record::Intent(intent) => {
                    drop(open.insert(intent.id.0.clone(), (**intent).clone()));
                }
                Record::Filed { id, to } => {
                    let Some(intent) = open.remove(&id.0) else {
                        continue;
                    };
                    if let (Fate::Filed | Fate::Review | Fate::Other, Some(instance)) =
                        (intent.fate, &intent.dossier.instance)
                    {
                        let placement = to.clone().unwrap_or(intent.to);
                        let found = Known {
                            id: id.clone(),
                            placement,
                            digest: intent.digest,
                        };
                        known.insert(instance.sop_instance_uid.as_str().to_owned(), found);
                    }
                }
                _ => {}
            }
        }
        self.applied.notify_one();
        Ok(())
    }

    fn find_uid(&self, uid: &Uid) -> Result<Option<Known>, CatalogueError> {
        Ok(self.inner.lock().unwrap().1.get(uid.as_str()).cloned())
    }

    fn is_on_record(&self, at: &Placement) -> Result<bool, CatalogueError> {
        let inner = self.inner.lock().unwrap();
        Ok(inner.1.values().any(|known| known.placement == *at))
    }
}

/// A state directory, a drop directory and a library.
pub(super) struct Bench {
    _dirs: Vec<tempfile::TempDir>,
    state: PathBuf,
    drop: PathBuf,
    library: PathBuf,
    offers: Offers,
    catalogue: Arc<Memory>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("library");
        Self::with_library(library, vec![dir])
    }

    /// What is there already, for child processes.
    fn at(base: &Path) -> Self {
        Self {
            state: base.join("state"),
            drop: base.join("drop"),
            library: base.join("library"),
            offers: Offers::default(),
            catalogue: Arc::default(),
            _dirs: Vec::new(),
        }
    }

    /// A library elsewhere, perhaps on another filesystem.
    fn with_library(library: PathBuf, dirs: Vec<tempfile::TempDir>) -> Self {
        let base = dirs[0].path();
        let (state, drop) = (base.join("state"), base.join("drop"));
        fs::create_dir(&state).unwrap();
        fs::create_dir(&drop).unwrap();
        Self {
            state,
            drop,
            library,
            offers: Offers::default(),
            catalogue: Arc::default(),
            _dirs: dirs,
        }
    }

    fn settings(&self) -> LibrarySettings {
        let template_text = "{category}/{sop_instance_uid}.dcm".to_owned();
        LibrarySettings {
            path: self.library.clone(),
            template: Template::parse(&template_text).unwrap(),
            template_text,
            file_mode: 0o640,
            directory_mode: 0o2750,
            quarantine: self.library.join("_quarantine"),
            duplicates: self.library.join("_duplicates"),
        }
    }

    /// Starts a filer as the daemon does: ledger, index, destinations, recovery.
    async fn start(&self) -> Filer {
        let opened = replay::open(&self.state).unwrap();
        for line in super::ledger::Ledger::read(&self.state, None).unwrap() {
            self.catalogue.apply(&[line.unwrap()]).unwrap();
        }
        let destinations = Arc::new(self.destinations(opened.replay.marker.clone()));
        let catalogue = Arc::clone(&self.catalogue) as Arc<dyn Catalogue>;
        let filer = Filer::start(opened, catalogue, destinations, Timing::default()).unwrap();
        filer.share_online("drop", self.root()).await.unwrap();
        filer
    }

    fn destinations(&self, marker: Option<String>) -> Destinations {
        Destinations::new(&self.settings(), marker)
            .unwrap()
            .offering(self.offers)
    }

    fn roots(&self) -> Arc<Roots> {
        self.destinations(None).current().unwrap()
    }

    fn root(&self) -> Arc<Root> {
        Arc::new(Root::open(&self.drop).unwrap().offering(self.offers))
    }

    /// Writes a file into the drop directory.
    fn put(&self, name: &str, bytes: &str) {
        let path = self.drop.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    /// A request for a file in the drop directory, as ingest makes it: opened, read, decided.
    fn request(&self, name: &str, uid: &str) -> FilingRequest {
        let root = self.root();
        let from = RelPath::new(name).unwrap();
        let (file, fingerprint) = root.open_file(&from).unwrap();
        let digest = Digest::of_file(&file).unwrap();
        let ctime_ns = Some(crate::root::ctime_ns(&rustix::fs::fstat(&file).unwrap()));
        FilingRequest {
            watch: "drop".into(),
            root,
            from,
            file: Arc::new(file),
            fingerprint,
            ctime_ns,
            digest,
            action: Action::Move,
            trusted: false,
            dossier: dossier(uid),
            placement: in_library(&format!("Fusion/{uid}.dcm")),
            fate: Fate::Filed,
            detail: None,
        }
    }

    /// Every file with how often its bytes are there: drop, library, quarantine, duplicates. What radsort adds for
    /// itself (marker, reasons) does not count; unfinished copies would.
    fn census(&self) -> BTreeMap<String, usize> {
        let mut census = BTreeMap::new();
        for path in files(&self.drop).into_iter().chain(files(&self.library)) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name != super::destinations::MARKER && !name.ends_with(".reason.txt") {
                *census
                    .entry(fs::read_to_string(&path).unwrap())
                    .or_default() += 1;
            }
        }
        census
    }

    fn in_drop(&self) -> Vec<String> {
        names(&self.drop)
    }

    fn in_library(&self) -> Vec<String> {
        names(&self.library)
            .into_iter()
            .filter(|name| name != super::destinations::MARKER)
            .collect()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn names(dir: &Path) -> Vec<String> {
    files(dir)
        .iter()
        .map(|path| {
            path.strip_prefix(dir)
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn in_library(path: &str) -> Placement {
    Placement {
        root: RootId::Library,
        path: RelPath::new(path).unwrap(),
    }
}

fn dossier(uid: &str) -> Dossier {
    Dossier {
        seen_us: 1,
        settled_us: 2,
        decided_us: 3,
        instance: Uid::parse(uid).ok().map(|sop_instance_uid| Instance {
            sop_instance_uid,
            study_instance_uid: None,
            series_instance_uid: None,
            patient: None,
            description: Description::default(),
        }),
        prediction: None,
        decision: Decision::File {
            category: CategoryId::parse("fusion").unwrap(),
        },
        ms: Timings::default(),
    }
}

/// Makes a request one for the quarantine.
fn quarantined(mut request: FilingRequest) -> FilingRequest {
    request.dossier.decision = Decision::Quarantine {
        reason: Reason::Malformed,
    };
    request.fate = Fate::Quarantined;
    request.detail = Some("a length runs beyond the end".into());
    let name = crate::domain::placement::digest_name("unnamed", &request.digest.0, ".dcm");
    let path = RelPath::new(format!("malformed/{name}")).unwrap();
    request.placement = Placement {
        root: RootId::Quarantine,
        path,
    };
    request
}

/// What the watcher sees of a file.
fn sight(request: &FilingRequest) -> Sight {
    Sight {
        fingerprint: request.fingerprint,
        ctime_ns: request.ctime_ns.unwrap(),
    }
}

fn fate(outcome: &Outcome) -> Fate {
    match outcome {
        Outcome::Done { fate, .. } => *fate,
        other => panic!("not done: {other:?}"),
    }
}

fn to(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { to: Some(to), .. } => to.path.to_string(),
        other => panic!("not moved: {other:?}"),
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn digest(text: &str) -> Digest {
    blake3::hash(text.as_bytes()).into()
}
