//! What `run` and `sort` share: the state opened, recovered and indexed; decoders, model and filer started.
//!
//! One engine a state directory (its lock says so). It knows the settings in force, gives every file's way what it
//! needs, and tells subscribers what became of each file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context;
use tokio::sync::broadcast;

use crate::config::Settings;
use crate::config::settings::LogIdentifiers;
use crate::control::status::{ErrorLine, RecentErrors};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Completeness, Inspection};
use crate::domain::Uid;
use crate::filing::destinations::Destinations;
use crate::filing::filer::Filer;
use crate::filing::replay;
use crate::filing::secrets::Secrets;
use crate::index::Index;
use crate::ingest::{Services, Told, Trouble};
use crate::model::{Model, ModelError};
use crate::root::Root;
use crate::watch::Inspect;

/// How many events a slow subscriber may lag behind before it misses some (and is told so).
const EVENTS_KEPT: usize = 4096;

/// Everything that is there once for all drop directories.
pub struct Engine {
    /// Answers questions.
    pub index: Arc<Index>,
    /// Moves files and records it.
    pub filer: Filer,
    /// Library, quarantine and duplicates.
    pub destinations: Arc<Destinations>,
    /// The jailed decoders.
    pub pool: Arc<Pool>,
    secrets: Arc<Secrets>,
    roots: Roots,
    in_force: RwLock<InForce>,
    events: broadcast::Sender<Told>,
    errors: Mutex<RecentErrors>,
    fatal: tokio::sync::watch::Sender<Option<Fatal>>,
}

#[derive(Clone)]
struct InForce {
    settings: Arc<Settings>,
    services: Arc<Services>,
}

/// Trouble that only a new process can cure.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// What happened.
    pub what: String,
}

impl Engine {
    /// Opens the state, takes its lock, brings the index up to date, loads and warms up the model, and starts decoders
    /// and filer. Blocks meanwhile; `progress` is told what is being done.
    pub fn open(settings: Settings, progress: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let state = &settings.state;
        make_private_directory(state).with_context(|| format!("the state directory {}", state.display()))?;
        progress("reading the ledger");
        let opened = replay::open(state)?;
        if let Some(torn) = &opened.report.torn {
            tracing::warn!("the ledger had an unfinished end; it was put aside as {}", torn.display());
        }
        let secrets = Arc::new(Secrets::open(state, opened.report.new)?);
        progress("opening the index");
        let (index, start) = Index::start(state, |records| progress(&format!("indexing: {records} records")))?;
        if let crate::index::start::Start::Rebuilt { why, records } = start
            && records > 0
        {
            tracing::warn!("the index was built anew from {records} records of the ledger: {why}");
        }
        let index = Arc::new(index);
        let destinations = Arc::new(Destinations::new(&settings.library, opened.replay.marker.clone())?);
        let filer = Filer::start(opened, Arc::clone(&index) as _, Arc::clone(&destinations))?;
        progress("starting the decoders");
        let pool = Arc::new(Pool::start(&settings.decoders)?);
        progress("warming up the model");
        let model = Model::start(&settings)?;
        let roots = Roots::open(state).context("roots.json in the state directory")?;
        let in_force = InForce {
            services: Arc::new(Services {
                pool: Arc::clone(&pool),
                model: Arc::new(model),
                template: settings.library.template.clone(),
                filer: filer.clone(),
                secrets: Arc::clone(&secrets),
            }),
            settings: Arc::new(settings),
        };
        Ok(Self {
            index,
            filer,
            destinations,
            pool,
            secrets,
            roots,
            in_force: RwLock::new(in_force),
            events: broadcast::channel(EVENTS_KEPT).0,
            errors: Mutex::default(),
            fatal: tokio::sync::watch::channel(None).0,
        })
    }

    /// Finishes or undoes what an earlier run left open, in every drop directory that is there, and sweeps up
    /// unfinished copies. To be called once, before files are taken.
    pub async fn recover(&self) -> anyhow::Result<()> {
        for watch in &self.settings().watches {
            self.roots.remember(&watch.name, &watch.path)?;
        }
        for (name, path) in self.roots.all() {
            // One that is away is looked after when its files come.
            let Ok(Ok(root)) = tokio::task::spawn_blocking(move || Root::open(&path)).await else { continue };
            let report = self.filer.share_online(&name, Arc::new(root)).await?;
            if report.missing > 0 {
                tracing::error!(watch = name, "{} files are nowhere to be found", report.missing);
                self.note_error(&format!("{name}: {} files are nowhere to be found", report.missing));
            }
            if report.finished + report.abandoned > 0 {
                let (finished, abandoned) = (report.finished, report.abandoned);
                tracing::info!(watch = name, "after an interruption: {finished} finished, {abandoned} to do again");
            }
        }
        let filer = self.filer.clone();
        std::thread::Builder::new().name("sweep".into()).spawn(move || match filer.sweep() {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} unfinished copies of earlier runs were removed"),
            Err(reason) => tracing::warn!("unfinished copies could not be looked for: {reason}"),
        })?;
        Ok(())
    }

    /// Stops the filer, closes the index. Nothing may be under way.
    pub async fn close(&self) {
        self.filer.stop().await;
        if let Err(error) = self.index.close() {
            tracing::warn!("the index was not closed cleanly and will be checked at the next start: {error}");
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner).settings)
    }

    /// What a file's way needs, as of now.
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner).services)
    }

    /// Puts new settings and their model into force; files under way keep the old ones.
    pub fn put_in_force(&self, settings: Settings, model: Model) {
        let services = Services {
            pool: Arc::clone(&self.pool),
            model: Arc::new(model),
            template: settings.library.template.clone(),
            filer: self.filer.clone(),
            secrets: Arc::clone(&self.secrets),
        };
        let new = InForce { settings: Arc::new(settings), services: Arc::new(services) };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Tells subscribers what became of a file.
    pub fn tell(&self, told: Told) {
        // Nobody listening is no error.
        let _ = self.events.send(told);
    }

    /// Listens to what becomes of files from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Told> {
        self.events.subscribe()
    }

    /// Remembers an error for `status`. It names no patient and no source path.
    pub fn note_error(&self, what: &str) {
        let now = jiff::Timestamp::now().as_microsecond();
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(now, what);
    }

    /// The last errors, the newest first.
    pub fn errors(&self) -> Vec<ErrorLine> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).list()
    }

    /// Stops the whole service if only a new process can cure this.
    pub fn fail_if_fatal(&self, trouble: &Trouble) {
        let fatal = matches!(
            trouble,
            Trouble::Model(ModelError::Sticky { .. } | ModelError::Stopped) | Trouble::Filing(_)
        );
        if fatal {
            self.fatal.send_replace(Some(Fatal { what: trouble.to_string() }));
        }
    }

    /// Waits for trouble that only a new process can cure.
    pub async fn fatal(&self) -> Fatal {
        let mut fatal = self.fatal.subscribe();
        loop {
            if let Some(fatal) = fatal.borrow_and_update().clone() {
                return fatal;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How an instance is named in the log, as the site wishes.
    pub fn name_in_log(&self, uid: &str) -> String {
        match self.settings().log.identifiers {
            LogIdentifiers::Uid => uid.to_owned(),
            LogIdentifiers::Pseudonym => Uid::parse(uid).map(|uid| self.secrets.uid_pseudonym(&uid)).unwrap_or_default(),
        }
    }

    /// Remembers where a drop directory lies, so that a recovery finds it even when the configuration has changed.
    pub fn remember_root(&self, name: &str, path: &Path) -> io::Result<()> {
        self.roots.remember(name, path)
    }
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The header pass, in the jail, for the watchers.
pub struct Inspector(pub Arc<Pool>);

impl Inspect for Inspector {
    fn completeness(&self, file: &std::fs::File, size: u64) -> io::Result<Completeness> {
        match self.0.inspect(file, size) {
            Ok(Inspection { completeness, .. }) => Ok(completeness),
            // What the decoder cannot survive is decided on when the file has settled the slow way.
            Err(DecodeError::Fault(_)) => Ok(Completeness::Undetermined),
            Err(DecodeError::Io(error)) => Err(error),
            Err(DecodeError::Unavailable(why)) => Err(io::Error::other(why)),
        }
    }
}

/// `roots.json` in the state directory (mode 0600): the drop directories' names and paths, also of those that are no
/// longer configured but may have something open in the ledger.
struct Roots {
    file: PathBuf,
    known: Mutex<BTreeMap<String, PathBuf>>,
}

impl Roots {
    fn open(state: &Path) -> io::Result<Self> {
        let file = state.join("roots.json");
        let known = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, known: Mutex::new(known) })
    }

    fn remember(&self, name: &str, path: &Path) -> io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;

        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_some_and(|known| known == path) {
            return Ok(());
        }
        known.insert(name.to_owned(), path.to_owned());
        let new = self.file.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&*known)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.file)?;
        std::fs::File::open(self.file.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    fn all(&self) -> BTreeMap<String, PathBuf> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
