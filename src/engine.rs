//! What `run` and `sort` share: the [state](crate::state) opened, decoders and model started.
//!
//! One engine a state directory (its lock says so). It knows the settings in force, gives every file's way what it
//! needs, and tells subscribers what became of each file.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::broadcast;

use crate::config::Settings;
use crate::config::settings::LogIdentifiers;
use crate::control::status::{ErrorLine, RecentErrors};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Completeness, Inspection};
use crate::domain::Uid;
use crate::ingest::{Services, Told, Trouble};
use crate::library_watch::LibraryWatch;
use crate::metrics::Metrics;
use crate::model::{Model, ModelError};
use crate::state::State;
use crate::watch::Inspect;

/// How many events a slow subscriber may lag behind before it misses some (and is told so).
const EVENTS_KEPT: usize = 4096;

/// Everything that is there once for all drop directories.
pub struct Engine {
    /// Ledger, index, filer.
    pub state: State,
    /// The jailed decoders.
    pub pool: Arc<Pool>,
    /// What people do in the library.
    pub library_watch: LibraryWatch,
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
    /// Opens the state, loads and warms up the model, and starts the decoders. Blocks; `progress` is told what is
    /// being done.
    pub fn open(settings: Settings, progress: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let state = State::open(&settings, progress)?;
        progress("starting the decoders");
        let pool = Arc::new(Pool::start(&settings.decoders)?);
        progress("warming up the model");
        let model = Model::start(&settings)?;
        let in_force = InForce {
            services: Arc::new(services(&state, &pool, &settings, model)),
            settings: Arc::new(settings),
        };
        Ok(Self {
            state,
            pool,
            library_watch: LibraryWatch::default(),
            in_force: RwLock::new(in_force),
            events: broadcast::channel(EVENTS_KEPT).0,
            errors: Mutex::default(),
            fatal: tokio::sync::watch::channel(None).0,
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(
            &self
                .in_force
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .settings,
        )
    }

    /// What a file's way needs, as of now.
    pub fn services(&self) -> Arc<Services> {
        Arc::clone(
            &self
                .in_force
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .services,
        )
    }

    /// Puts new settings and their model into force; files under way keep the old ones.
    pub fn put_in_force(&self, settings: Settings, model: Model) {
        let services = services(&self.state, &self.pool, &settings, model);
        let new = InForce {
            settings: Arc::new(settings),
            services: Arc::new(services),
        };
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.state.metrics
    }

    /// Counts a file that has its fate, and tells subscribers of it.
    pub fn tell(&self, told: Told) {
        // A dry run has no record and changes nothing.
        if told.id.is_some() {
            self.metrics().told(&told);
        }
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
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(now, what);
    }

    /// The last errors, the newest first.
    pub fn errors(&self) -> Vec<ErrorLine> {
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .list()
    }

    /// Stops the whole service if only a new process can cure this.
    pub fn fail_if_fatal(&self, trouble: &Trouble) {
        let fatal = matches!(
            trouble,
            Trouble::Model(ModelError::Sticky { .. } | ModelError::Stopped) | Trouble::Filing(_)
        );
        if fatal {
            self.fatal.send_replace(Some(Fatal {
                what: trouble.to_string(),
            }));
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
            LogIdentifiers::Pseudonym => Uid::parse(uid)
                .map(|uid| self.state.secrets.uid_pseudonym(&uid))
                .unwrap_or_default(),
        }
    }
}

fn services(state: &State, pool: &Arc<Pool>, settings: &Settings, model: Model) -> Services {
    Services {
        pool: Arc::clone(pool),
        model: Arc::new(model),
        template: settings.library.template.clone(),
        filer: state.filer.clone(),
        secrets: Arc::clone(&state.secrets),
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
