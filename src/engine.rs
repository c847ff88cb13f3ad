//! What `run` and `sort` share: the state opened, recovered and indexed; decoders, model and filer started.
//!
//! One engine a state directory (its lock says so). It knows the settings in force, gives every file's way what it
//! needs, and tells subscribers what became of each file.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::broadcast;

use crate::config::Settings;
use crate::config::settings::LogIdentifiers;
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Completeness, Inspection};
use crate::filing::filer::Filer;
use crate::filing::secrets::Secrets;
use crate::index::Index;
use crate::ingest::{Services, Told, Trouble};
use crate::model::in_use::Model;
use crate::model::classifier::ModelError;
use crate::watch::Inspect;

/// How many errors `status` remembers.
const ERRORS_KEPT: usize = 20;
/// How many events a slow subscriber may lag behind before it misses some (and is told so).
const EVENTS_KEPT: usize = 4096;

/// Something that went wrong, for `status`. Holds no patient identity and no source path.
#[derive(Clone, Debug)]
pub struct NotedError {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// What.
    pub what: String,
}

/// Everything that is there once for all drop directories.
pub struct Engine {
    /// Answers questions.
    pub index: Arc<Index>,
    /// Moves files and records it.
    pub filer: Filer,
    /// The jailed decoders.
    pub pool: Arc<Pool>,
    secrets: Arc<Secrets>,
    roots: Roots,
    in_force: RwLock<InForce>,
    events: broadcast::Sender<Told>,
    errors: Mutex<VecDeque<NotedError>>,
    fatal: tokio::sync::watch::Sender<Option<Fatal>>,
    started_us: i64,
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
    /// Whether a fresh process may cure it at once (a GPU error that sticks, a disk that failed an fsync).
    pub try_again: bool,
}

impl Engine {
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

    /// When the engine was started, microseconds since the Unix epoch.
    pub fn started_us(&self) -> i64 {
        self.started_us
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

    /// Remembers an error for `status`; the same one again only moves its time.
    pub fn note_error(&self, what: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.retain(|error| error.what != what);
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(NotedError { at_us: jiff::Timestamp::now().as_microsecond(), what });
    }

    /// The last errors, oldest first.
    pub fn errors(&self) -> Vec<NotedError> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Stops the whole service if only a new process can cure this.
    pub fn fail_if_fatal(&self, trouble: Trouble) {
        let fatal = match &trouble {
            Trouble::Model(ModelError::Sticky { .. } | ModelError::Stopped) => true,
            Trouble::Filing(error) => error.is_fatal(),
            _ => false,
        };
        if fatal {
            self.fatal.send_replace(Some(Fatal { what: trouble.to_string(), try_again: true }));
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
            LogIdentifiers::Pseudonym => self.secrets.uid_pseudonym(uid),
        }
    }

    /// Remembers where a drop directory lies, so that a recovery finds it even when the configuration has changed.
    pub fn remember_root(&self, name: &str, path: &Path) -> io::Result<()> {
        self.roots.remember(name, path)
    }
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
