//! The state directory, opened: ledger (locked), key, index, and the filer that writes to them.
//!
//! Everything that changes what is on record goes through here, with a daemon or without.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::config::Settings;
use crate::config::settings::LibrarySettings;
use crate::domain::placement::RootId;
use crate::filing::checkpoint;
use crate::filing::destinations::Destinations;
use crate::filing::filer::Filer;
use crate::filing::recover::RecoverReport;
use crate::filing::replay;
use crate::filing::secrets::Secrets;
use crate::index::Index;
use crate::index::start::Start;
use crate::metrics::{Metrics, Timed, site_of, timing};
use crate::root::Root;
use crate::telemetry::Event;

/// How long a share may take to answer before the others go on without it.
const SHARE_ANSWERS: Duration = Duration::from_secs(5);

/// What is said when the ledger is empty although there was one.
const LEDGER_GONE: &str = "the ledger is gone: a new one was begun, and nothing is on record of what was filed before; stop \
    radsort and restore the state directory from a backup if that was not meant";

/// What is said when nothing is on record, and files lie in the library.
const NOTHING_ON_RECORD: &str = "a new ledger and a new key were begun, though files lie in the library: if radsort has filed \
    them, the state directory is not mounted, or was lost. Stop radsort, and mount it, or restore it from a backup; if a new \
    site begins with these files, all is well";

/// What is said when the index knew more than the ledger.
const OLDER_LEDGER: &str = "the ledger is an older copy, or another one: what was recorded since is not on record any more. \
    `radsort verify` lists the files that lie in the library without a record (docs/operate.md, an older ledger beside a \
    newer library)";

/// The state of one installation. Its directory's lock is held: there is one of these at a time.
pub struct State {
    /// Where it lies.
    pub dir: PathBuf,
    /// Answers questions.
    pub index: Arc<Index>,
    /// Moves files and records it.
    pub filer: Filer,
    /// Library, quarantine and duplicates.
    pub destinations: Arc<Destinations>,
    /// Makes pseudonyms.
    pub secrets: Arc<Secrets>,
    /// Where drop directories lie and lay.
    pub roots: Roots,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is wrong with the ledger that was found.
    alarms: Vec<&'static str>,
    /// The drop directories that are configured.
    tended: Vec<(String, PathBuf)>,
}

impl State {
    /// Opens the state directory, takes its lock and brings the index up to date. Blocks; `progress` is told what is
    /// being done.
    pub fn open(settings: &Settings, progress: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let dir = &settings.state;
        make_private_directory(dir)
            .with_context(|| format!("the state directory {}", dir.display()))?;
        keep_private();
        progress("reading the ledger");
        if let Some(path) = unusable(dir) {
            return Err(NotOurs { path }.into());
        }
        let opened = replay::open(dir)?;
        if let Some(torn) = &opened.report.torn {
            tracing::warn!(
                event = %Event::LedgerTorn,
                "the ledger had an unfinished end; it was put aside as {}",
                torn.display()
            );
        }
        let secrets = Arc::new(Secrets::open(dir, opened.report.new)?);
        progress("opening the index");
        let (index, start) = Index::start(dir, |records| {
            progress(&format!("indexing: {records} records"));
        })?;
        let mut had_records = checkpoint::exists(dir);
        let mut alarms = Vec::new();
        if let Start::Rebuilt {
            why,
            records,
            had_records: in_index,
            other_ledger,
        } = start
        {
            had_records |= in_index;
            if other_ledger && records > 0 {
                alarms.push(OLDER_LEDGER);
            }
            if records > 0 {
                tracing::warn!(
                    event = %Event::IndexRebuilt,
                    "the index was built anew from {records} records of the ledger: {why}"
                );
            }
        }
        // A key alone is no sign: a first start that fails leaves one.
        if opened.report.new && had_records {
            alarms.push(LEDGER_GONE);
        } else if opened.report.new && holds_files(&settings.library) {
            alarms.push(NOTHING_ON_RECORD);
        }
        for alarm in &alarms {
            tracing::error!(event = %Event::LedgerGone, "{alarm}");
        }
        let index = Arc::new(index);
        let destinations = Arc::new(Destinations::new(
            &settings.library,
            opened.replay.marker.clone(),
        )?);
        let metrics = Arc::new(Metrics::open(dir, site_of(&settings.source)));
        let catalogue = Timed {
            inner: Arc::clone(&index) as _,
            metrics: Arc::clone(&metrics),
        };
        let filer = Filer::start(
            opened,
            Arc::new(catalogue),
            Arc::clone(&destinations),
            timing(&metrics),
        )?;
        let roots = Roots::open(dir).context("roots.json in the state directory")?;
        for watch in &settings.watches {
            roots.remember(&watch.name, &watch.path)?;
        }
        Ok(Self {
            dir: dir.clone(),
            index,
            filer,
            destinations,
            secrets,
            roots,
            metrics,
            alarms,
            tended: settings
                .watches
                .iter()
                .map(|watch| (watch.name.clone(), watch.path.clone()))
                .collect(),
        })
    }

    /// Finishes or undoes what an earlier run left open, in every drop directory that is there, and sweeps up
    /// unfinished copies. To be called once, before files are taken. Gives what a person should know.
    pub async fn recover(&self) -> anyhow::Result<Vec<String>> {
        let mut alarms: Vec<String> = self.alarms.iter().copied().map(str::to_owned).collect();
        for (name, path) in self.roots.all() {
            let report = self.recover_share(&name, path).await?;
            alarms.extend(report.alarm(&name));
        }
        let filer = self.filer.clone();
        std::thread::Builder::new()
            .name("sweep".into())
            .spawn(move || match filer.sweep() {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!("{count} unfinished copies of earlier runs were removed");
                }
                Err(reason) => {
                    tracing::warn!("unfinished copies could not be looked for: {reason}");
                }
            })?;
        // One thread each: one of them may hang.
        for (watch, path) in self.tended.clone() {
            let filer = self.filer.clone();
            std::thread::Builder::new()
                .name("tidy".into())
                .spawn(move || match Root::open(&path).and_then(|root| filer.tidy(&root)) {
                    Ok(0) => {}
                    Ok(count) => {
                        tracing::info!(watch, "{count} hidden files of earlier runs were brought back or removed");
                    }
                    Err(error) => tracing::debug!(watch, %error, "it was not looked for hidden files of earlier runs"),
                })?;
        }
        Ok(alarms)
    }

    /// The same for one drop directory, if it is there and answers; otherwise this waits until it is back. Gives what
    /// became of what was open.
    pub async fn recover_share(&self, name: &str, path: PathBuf) -> anyhow::Result<RecoverReport> {
        let opening = tokio::task::spawn_blocking(move || Root::open(&path));
        let Ok(Ok(Ok(root))) = tokio::time::timeout(SHARE_ANSWERS, opening).await else {
            return Ok(RecoverReport::default());
        };
        let report = self.filer.share_online(name, Arc::new(root)).await?;
        if report.finished + report.abandoned > 0 {
            let (finished, abandoned) = (report.finished, report.abandoned);
            tracing::info!(
                event = %Event::Recovered,
                watch = name,
                finished,
                abandoned,
                "after an interruption: {finished} finished, {abandoned} to do again"
            );
        }
        Ok(report)
    }

    /// Every root with its path, to make sense of paths that people give.
    pub fn places(&self) -> Vec<(RootId, PathBuf)> {
        let mut places = self.destination_paths();
        places.extend(
            self.roots
                .all()
                .into_iter()
                .map(|(name, path)| (RootId::Watch(name), path)),
        );
        places
    }

    /// Library, quarantine and duplicates with their paths; empty while they are away.
    pub fn destination_paths(&self) -> Vec<(RootId, PathBuf)> {
        self.destinations.current().map_or_else(
            |_| Vec::new(),
            |roots| {
                vec![
                    (RootId::Library, roots.library.path().to_owned()),
                    (RootId::Quarantine, roots.quarantine.path().to_owned()),
                    (RootId::Duplicates, roots.duplicates.path().to_owned()),
                ]
            },
        )
    }

    /// Stops the filer, closes the index. Nothing may be under way.
    pub async fn close(&self) {
        self.filer.stop().await;
        let index = Arc::clone(&self.index);
        let closed = tokio::task::spawn_blocking(move || index.close()).await;
        if let Err(error) = self.metrics.save() {
            tracing::debug!(%error, "rates and drift of this run are not kept");
        }
        if let Ok(Err(error)) = closed {
            tracing::warn!(
                "the index was not closed cleanly and will be checked at the next start: {error}"
            );
        }
    }
}

/// Whether somebody's files lie in a library: anything but its marker, and what radsort itself makes at its start.
fn holds_files(library: &LibrarySettings) -> bool {
    let entries = std::fs::read_dir(&library.path)
        .into_iter()
        .flatten()
        .flatten();
    let is_ours = |entry: &DirEntry| {
        let path = entry.path();
        let own = [&library.quarantine, &library.duplicates];
        // Either may lie deeper.
        own.iter().any(|own| own.starts_with(&path))
            || entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    entries.into_iter().any(|entry| !is_ours(&entry))
}

/// Something in the state directory is closed to this user: root has made it, as a rule. Trying again changes nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is closed to this user: root has made it, perhaps. What is in the state directory must belong to \
     the service's user: `radsort setup` says by which command", .path.display()
)]
pub struct NotOurs {
    path: PathBuf,
}

/// What the service cannot start without. Other things may lie there as well: `lost+found`, what people have put aside.
const NEEDED: [&str; 6] = [
    "ledger",
    "index",
    "index.lock",
    "key",
    "roots.json",
    "checkpoint",
];

/// The first of what the service needs in a state directory that is closed to this user.
pub fn unusable(state: &Path) -> Option<PathBuf> {
    NEEDED.iter().find_map(|name| closed(&state.join(name)))
}

/// A file that may not be read, or a directory that may not be worked in; also below.
fn closed(path: &Path) -> Option<PathBuf> {
    use rustix::fs::{Access, AtFlags, CWD};
    let is_directory = std::fs::symlink_metadata(path).ok()?.is_dir();
    let wanted = if is_directory {
        Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::READ_OK
    };
    let may = rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS);
    if may == Err(rustix::io::Errno::ACCESS) {
        return Some(path.to_owned());
    }
    if !is_directory {
        return None;
    }
    let mut entries = std::fs::read_dir(path).ok()?.flatten();
    entries.find_map(|entry| closed(&entry.path()))
}

/// What this process makes from here on is for its user alone (sled has its own idea of permissions); what others are to
/// read gets its mode set, whatever the umask.
pub fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Makes the directory and those above it, each synced with the one above: what is recorded in it must not go with it.
fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make_private_directory(above)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    std::fs::File::open(above)?.sync_all()
}

/// `roots.json` in the state directory (mode 0600): the drop directories' names and paths, also of those that are no
/// longer configured but may have something open in the ledger.
pub struct Roots {
    file: PathBuf,
    known: Mutex<BTreeMap<String, PathBuf>>,
}

impl Roots {
    /// Reads the list, if there is one. One that cannot be understood is put aside: it spares work, and is made anew.
    pub fn open(state: &Path) -> io::Result<Self> {
        let file = state.join("roots.json");
        let known = match std::fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(known) => known,
                Err(error) => {
                    let aside = file.with_extension("broken");
                    std::fs::rename(&file, &aside)?;
                    let (file, aside) = (file.display(), aside.display());
                    tracing::warn!(
                        "{file} is no list of radsort ({error}); it was put aside as {aside}"
                    );
                    BTreeMap::new()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            known: Mutex::new(known),
        })
    }

    /// Remembers where a drop directory lies, so that a recovery finds it even when the configuration has changed.
    pub fn remember(&self, name: &str, path: &Path) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;

        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_some_and(|known| known == path) {
            return Ok(());
        }
        let mut with = known.clone();
        with.insert(name.to_owned(), path.to_owned());
        let new = self.file.with_extension("new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&with)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        std::fs::File::open(self.file.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        *known = with;
        Ok(())
    }

    /// Every drop directory that was ever tended: name and path.
    pub fn all(&self) -> BTreeMap<String, PathBuf> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
