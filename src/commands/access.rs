//! How a command gets at what it asks about: through the daemon when one runs, otherwise by opening the index itself,
//! as the user whose state directory it is.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::setup::account::Account;
use super::setup::advice::in_shell;
use super::setup::unit::Unit;
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::{Reply, Request};
use crate::domain::Placement;
use crate::domain::placement::RootId;
use crate::index::Index;
use crate::index::entry::Story;
use crate::index::start::Start;

/// Where the packages put the configuration.
pub const DEFAULT_CONFIG: &str = "/etc/radsort/radsort.toml";

/// Which configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArg {
    /// The configuration: its `[state]` and `[control]` say where the daemon and its records are.
    /// Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArg {
    /// The file that is meant.
    pub fn path(&self) -> PathBuf {
        let from_environment =
            || std::env::var_os("RADSORT_CONFIG").filter(|value| !value.is_empty());
        self.config
            .clone()
            .or_else(|| from_environment().map(PathBuf::from))
            .unwrap_or_else(|| DEFAULT_CONFIG.into())
    }

    /// The same with its own error.
    pub fn load_typed(&self) -> Result<Settings, crate::config::ConfigError> {
        crate::config::load(&self.path())
    }

    /// Reads and checks it.
    pub fn load(&self) -> anyhow::Result<Settings> {
        Ok(self.load_typed()?)
    }

    /// Only where the daemon's socket is: it can be asked how it is while its configuration is being edited.
    pub fn socket(&self) -> anyhow::Result<PathBuf> {
        Ok(crate::config::control_socket(&self.path())?)
    }
}

/// The daemon, or the index itself.
pub enum Access {
    /// A daemon runs.
    Daemon(Client),
    /// None runs; this process holds the index now.
    Direct(Box<Index>),
}

impl Access {
    /// Finds the daemon, or opens the index.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        match Client::connect(&settings.control.socket)? {
            Some(client) => Ok(Self::Daemon(client)),
            None => Ok(Self::Direct(Box::new(open_index(settings)?))),
        }
    }

    /// Everything on record of what a person names: a UID, a path or a record id.
    pub fn stories(
        &mut self,
        roots: &[(RootId, PathBuf)],
        what: &str,
    ) -> anyhow::Result<Vec<Story>> {
        let mut stories = Vec::new();
        match self {
            Self::Daemon(client) => {
                for reply in client.request(&Request::Show {
                    what: what.to_owned(),
                })? {
                    if let Reply::Story(story) = reply? {
                        stories.push(*story);
                    }
                }
            }
            Self::Direct(index) => {
                for entry in index.resolve(roots, what)? {
                    stories.push(index.story_of(entry)?);
                }
            }
        }
        Ok(stories)
    }

    /// Ends it in good order.
    pub fn close(self) -> anyhow::Result<()> {
        if let Self::Direct(index) = self {
            index.close()?;
        }
        Ok(())
    }
}

/// Opens the index and brings it up to date, as the owner of the state directory.
pub fn open_index(settings: &Settings) -> anyhow::Result<Index> {
    become_owner_of(&settings.state)
        .context("no daemon answers, which would let every member of its group ask")?;
    let bar = spinner("reading the ledger");
    let (index, start) = Index::start(&settings.state, |records| bar.set_position(records))?;
    bar.finish_and_clear();
    if let Start::Rebuilt { why, records, .. } = start {
        eprintln!("the index has been built anew from {records} records: {why}");
    }
    Ok(index)
}

/// Makes this process the state directory's owner: root steps down, anybody else who is not the owner is refused.
///
/// A file that root made there would keep the daemon from starting. What is made from here on is for that user alone, as
/// in the daemon. To be called before any thread is started, as user ids belong to threads.
pub fn become_owner_of(state: &Path) -> anyhow::Result<()> {
    use rustix::fs::{Gid, Uid};
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(state).with_context(|| {
        format!(
            "no state directory {}: has `radsort run` been started with this configuration?",
            state.display()
        )
    })?;
    let (uid, me) = (Uid::from_raw(owner.uid()), rustix::process::geteuid());
    crate::state::keep_private();
    if uid == me {
        return Ok(());
    }
    if !me.is_root() {
        let owner = user_called(owner.uid());
        bail!(
            "{} is closed to all but its owner: run this as that user, `runuser -u {owner} -- radsort …`, or as root",
            state.display(),
        );
    }
    let gid = Gid::from_raw(owner.gid());
    let step_down = || -> rustix::io::Result<()> {
        rustix::thread::set_thread_groups(&[gid])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    step_down().with_context(|| {
        format!(
            "cannot become the owner of {} (user id {})",
            state.display(),
            owner.uid()
        )
    })
}

/// A user's name, or the number in words.
pub fn user_called(uid: u32) -> String {
    Account::user_name(uid).unwrap_or_else(|| format!("number {uid}"))
}

/// Root would run the service on another user's state.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} belongs to user {owner}, and what root makes there keeps the service from starting. Start the service: `{start}`; or run \
     this as that user: `runuser -u {owner} -- radsort run …`", state.display()
)]
pub struct StateOfAnother {
    state: PathBuf,
    owner: String,
    start: String,
}

/// Refuses to run the service as root where it has run as another user.
pub fn refuse_as_root(settings: &Settings) -> Result<(), StateOfAnother> {
    use std::os::unix::fs::MetadataExt;
    let state = &settings.state;
    let owner = std::fs::metadata(state).map_or(0, |metadata| metadata.uid());
    if owner == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(StateOfAnother {
        state: state.clone(),
        owner: user_called(owner),
        start: starting(&settings.source),
    })
}

/// The command that starts the service with this configuration.
pub fn starting(config: &Path) -> String {
    match Unit::of(config, None) {
        Some(unit) => format!("systemctl start {}", unit.service()),
        None => format!("radsort run --config {}", in_shell(config)),
    }
}

/// Says as whom something was tried that this user may not do: whoever began as root does not expect that.
pub fn as_whom<T>(tried: anyhow::Result<T>, state: &Path) -> anyhow::Result<T> {
    let denied = |error: &anyhow::Error| {
        let mut causes = error
            .chain()
            .filter_map(|it| it.downcast_ref::<io::Error>());
        causes.any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    };
    tried.map_err(|error| {
        if !denied(&error) {
            return error;
        }
        let user = rustix::process::geteuid().as_raw();
        let user = user_called(user);
        error.context(format!(
            "radsort does this as user {user}, who owns {}, and who may not",
            state.display()
        ))
    })
}

/// Every root with its path: where files can lie, and where they came from.
pub fn roots(settings: &Settings) -> Vec<(RootId, PathBuf)> {
    let mut roots = destinations(settings);
    roots.extend(
        settings
            .watches
            .iter()
            .map(|watch| (RootId::Watch(watch.name.clone()), watch.path.clone())),
    );
    roots
}

/// The roots that radsort files into.
pub fn destinations(settings: &Settings) -> Vec<(RootId, PathBuf)> {
    vec![
        (RootId::Library, settings.library.path.clone()),
        (RootId::Quarantine, settings.library.quarantine.clone()),
        (RootId::Duplicates, settings.library.duplicates.clone()),
    ]
}

/// A place as an absolute path, for people and scripts; bytes that are not UTF-8 are written as `%XX`.
pub fn absolute(roots: &[(RootId, PathBuf)], at: &Placement) -> String {
    match roots.iter().find(|(root, _)| *root == at.root) {
        Some((_, path)) => format!("{}/{}", path.display(), at.path),
        // A directory that was sorted once, or a watch that is configured no longer.
        None => match &at.root {
            RootId::Watch(name) => format!("{name}:{}", at.path),
            _ => at.path.to_string(),
        },
    }
}

/// What a person means by a UID, a record or a path: a path is made absolute.
pub fn designation(text: &OsStr) -> anyhow::Result<String> {
    let path = Path::new(text);
    let is_path = text.as_encoded_bytes().contains(&b'/') || path.exists();
    let meant = if is_path {
        std::path::absolute(path)?.into_os_string()
    } else {
        text.to_owned()
    };
    meant.into_string().map_err(|_| {
        anyhow::anyhow!(
            "{} is not UTF-8: give its UID or record id instead",
            path.display()
        )
    })
}

/// A progress line on the terminal; nothing where there is none.
pub fn spinner(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        .with_message(what)
}

/// How wide a table may be: as the terminal, and as it likes where there is none, so that `grep` finds whole lines.
pub fn table_width() -> u16 {
    comfy_table::Table::new().width().unwrap_or(u16::MAX)
}

/// How wide the terminal is; 120 columns where there is none.
pub fn width() -> u16 {
    comfy_table::Table::new().width().unwrap_or(120)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_may_not_be_read_is_told_with_whose_rights_it_was_tried() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let denied = anyhow::Error::from(denied).context("/data/checked");
        let state = Path::new("/var/lib/radsort");
        let why = as_whom::<()>(Err(denied), state).unwrap_err();
        let why = format!("{why:#}");
        assert!(
            why.starts_with("radsort does this as user ") && why.contains("/data/checked"),
            "{why}"
        );
        let other = as_whom::<()>(Err(anyhow::anyhow!("too few")), state).unwrap_err();
        assert_eq!(other.to_string(), "too few");
        assert_eq!(Account::user_name(0).as_deref(), Some("root"));
    }

    #[test]
    fn a_path_is_made_absolute_and_a_uid_is_not() {
        assert_eq!(designation("1.2.840.1".as_ref()).unwrap(), "1.2.840.1");
        assert_eq!(designation("/lib/x.dcm".as_ref()).unwrap(), "/lib/x.dcm");
        assert!(designation("sub/x.dcm".as_ref()).unwrap().starts_with('/'));
    }

    #[test]
    fn the_configuration_that_is_named_is_the_one() {
        let named = ConfigArg {
            config: Some("/a.toml".into()),
        };
        assert_eq!(named.path(), Path::new("/a.toml"));
    }

    #[test]
    fn the_owner_stays_who_it_is() {
        let dir = tempfile::tempdir().unwrap();
        become_owner_of(dir.path()).unwrap();
        assert!(
            become_owner_of(&dir.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("no state directory")
        );
    }
}
