//! State, library and drop directories: made where they are missing, tried as the service's user where they are there.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::account::Account;
use super::advice::{giving_back, in_shell, letting_in, real};
use super::unit::Mounts;
use super::{Report, State, Step};
use crate::commands::check::may;
use crate::config::Settings;
use crate::filing::destinations::{self, MARKER};
use crate::filing::ledger::Ledger;
use crate::filing::record::Record;
use crate::state::unusable;
use crate::watch::ShareKind;

/// The directories of one configuration.
pub(super) struct Directories<'a> {
    pub settings: &'a Settings,
    pub account: &'a Account,
    pub mounts: Mounts,
    /// The state directory that the unit has of its own.
    pub own_state: Option<PathBuf>,
    pub report: &'a mut Report,
}

/// What is wrong with a directory that is there.
pub(super) enum Trouble {
    /// This user cannot even get there.
    Way(PathBuf),
    /// It cannot work there.
    Itself(io::Error),
}

impl Directories<'_> {
    /// Ledger, index and keys: for the service alone.
    pub fn state(&mut self) {
        let path = &self.settings.state;
        if self.own_state_is_a_link() && self.own_state.as_ref() == Some(path) {
            return;
        }
        let is_usable = self.directory("state", path, 0o700);
        let is_open = std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
        if is_usable && is_open {
            let message = format!(
                "{} is open to others: it holds the key of the pseudonyms, and source paths",
                path.display()
            );
            self.ask_for("state", message, giving_back(path, self.account));
        }
        // What root has made there, by running the service by hand.
        let closed = self.account.run(|| unusable(path));
        if let (true, Ok(Some(closed))) = (is_usable, closed) {
            let message = format!(
                "{} is closed to {}, which cannot start with it",
                closed.display(),
                self.account.name
            );
            self.ask_for("state", message, giving_back(path, self.account));
        }
    }

    /// What the unit's `StateDirectory=` names is made by systemd at each start, wherever the configuration has the state: it
    /// does not follow a link to another disk.
    fn own_state_is_a_link(&mut self) -> bool {
        let Some(own) = self.own_state.as_deref().filter(|own| own.is_symlink()) else {
            return false;
        };
        let (shown, leads) = (own.display(), real(own));
        let message = format!(
            "{shown} is a link to {}, and the unit does not start with one in that place (status 238): name the directory \
             itself in the configuration, and remove the link",
            leads.display()
        );
        let commands = vec![
            format!(
                "# in {}: [state] path = {:?}",
                self.settings.source.display(),
                leads.to_string_lossy()
            ),
            format!("rm {}", in_shell(own)),
        ];
        self.ask_for("state", message, commands);
        true
    }

    /// The library with its marker; quarantine and duplicates where they lie elsewhere.
    pub fn destinations(&mut self) {
        let library = &self.settings.library;
        if !self.library_is_away()
            && self.directory("library", &library.path, library.directory_mode)
        {
            self.marker();
        }
        for (what, path) in [
            ("quarantine", &library.quarantine),
            ("duplicates", &library.duplicates),
        ] {
            if !path.starts_with(&library.path) {
                self.directory(what, path, library.directory_mode);
            }
        }
    }

    /// A library that the ledger knows by its marker, and without it now, is a share that is not mounted: nothing must be
    /// made, or given to the service, in its place.
    fn library_is_away(&mut self) -> bool {
        let path = &self.settings.library.path;
        let is_new = known_marker(&self.settings.state).is_none();
        if is_new || !matches!(self.has_marker(), Ok(false)) {
            return false;
        }
        let why = if std::fs::symlink_metadata(path).is_ok() {
            "has no marker"
        } else {
            "is not there"
        };
        let message = format!(
            "{} {why}, and the ledger knows a library that has one: is this the right directory, and is its share mounted? \
             Nothing was made",
            path.display()
        );
        let point = self.mounts.missing_for(path).map(in_shell);
        let commands = point.map(|point| format!("mount {point}"));
        self.ask_for("library", message, commands.into_iter().collect());
        true
    }

    /// A server that squashes root may still show it to the service.
    fn has_marker(&self) -> io::Result<bool> {
        let marker = self.settings.library.path.join(MARKER);
        let seen = marker.try_exists();
        seen.or_else(|_| self.account.run(|| marker.try_exists())?)
    }

    /// Whether what `/etc/fstab` promises for a path is mounted.
    pub(super) fn is_mounted(&mut self, what: &str, path: &Path) -> bool {
        let Some(point) = self.mounts.missing_for(path).map(in_shell) else {
            return true;
        };
        self.ask_for(
            what,
            format!("{point} is not mounted"),
            vec![format!("mount {point}")],
        );
        false
    }

    /// Whether what lies there stays there.
    pub(super) fn stays(&mut self, what: &str, path: &Path) -> bool {
        if !is_emptied_at_a_stop(path) {
            return true;
        }
        let message = format!(
            "{} lies in /dev/shm: systemd deletes what the service's user and group own there whenever the service stops \
             (RemoveIPC=, systemd.exec(5)). Take another directory; nothing was made",
            path.display()
        );
        self.ask_for(what, message, Vec::new());
        false
    }

    /// A directory that the service writes to; whether it can be used now.
    fn directory(&mut self, what: &str, path: &Path, mode: u32) -> bool {
        if !self.is_mounted(what, path) || !self.stays(what, path) {
            return false;
        }
        let wanted = format!(
            "{} (owner {}, {mode:04o})",
            path.display(),
            self.account.name
        );
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !self.report.dry_run
                    && let Err(error) = make(path, mode, self.account)
                {
                    self.ask_for(
                        what,
                        format!("{wanted} cannot be made: {error}"),
                        Vec::new(),
                    );
                    return false;
                }
                self.report.done(
                    what.into(),
                    format!("made {wanted}"),
                    format!("would make {wanted}"),
                );
                !self.report.dry_run
            }
            Err(error) => {
                self.ask_for(what, format!("{}: {error}", path.display()), Vec::new());
                false
            }
            Ok(metadata) if !metadata.is_dir() => {
                let leads = real(path);
                if leads.is_dir() {
                    let message = format!(
                        "{} is a link: the configuration has to name the directory itself",
                        path.display()
                    );
                    let key = match what {
                        "library" | "state" => format!("[{what}] path"),
                        _ => format!("[library] {what}"),
                    };
                    let line = format!(
                        "# in {}: {key} = {:?}",
                        self.settings.source.display(),
                        leads.to_string_lossy()
                    );
                    self.ask_for(what, message, vec![line]);
                } else {
                    let message = format!("{} is no directory", path.display());
                    self.ask_for(what, message, Vec::new());
                }
                false
            }
            Ok(metadata) => self.existing(what, path, &metadata, mode),
        }
    }

    /// The same for one that is there: taken over when it is empty, never when it holds something of others. Not every
    /// share lets itself be taken over: then what counts is whether the service can write there.
    fn existing(
        &mut self,
        what: &str,
        path: &Path,
        metadata: &std::fs::Metadata,
        mode: u32,
    ) -> bool {
        let setgid_is_missing = mode & 0o2000 != 0 && metadata.mode() & 0o2000 == 0;
        let mut trouble = self.trouble(path, true);
        if trouble.is_none() && !setgid_is_missing {
            self.report.unchanged(
                what.into(),
                format!("{} can be written by {}", path.display(), self.account.name),
            );
            return true;
        }
        let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        let ours = metadata.uid() == self.account.uid;
        let mut is_as_the_server_says = matches!(share_kind(path), Some(ShareKind::Remote(_)));
        if empty || (ours && trouble.is_none()) {
            let wanted = format!("{} to {} ({mode:04o})", path.display(), self.account.name);
            if self.report.dry_run || self.give(path, mode) {
                self.report.done(
                    what.into(),
                    format!("gave {wanted}"),
                    format!("would give {wanted}"),
                );
                return !self.report.dry_run;
            }
            is_as_the_server_says = true;
            trouble = self.trouble(path, true);
        }
        match trouble {
            None if is_as_the_server_says => {
                self.without_setgid(what, path);
                true
            }
            None => {
                let message = format!(
                    "{} has no setgid bit: directories made in it would not have its group",
                    path.display()
                );
                let command = format!("chmod g+s {}", in_shell(path));
                self.ask_for(what, message, vec![command]);
                true
            }
            Some(trouble) => {
                self.tell(what, path, true, &trouble);
                false
            }
        }
    }

    /// Gives a directory to the service; whether it is now as it should be. A server that squashes root may still let its
    /// owner do so, and some shares say yes and change nothing.
    fn give(&self, path: &Path, mode: u32) -> bool {
        let by_owner = || self.account.run(|| hand_over(path, mode, self.account));
        let given = hand_over(path, mode, self.account).or_else(|_| by_owner()?);
        let is_given = |metadata: std::fs::Metadata| {
            metadata.uid() == self.account.uid && metadata.mode() & 0o7777 == mode
        };
        given.is_ok() && std::fs::metadata(path).is_ok_and(is_given)
    }

    /// The service can write there, and more cannot be had.
    fn without_setgid(&mut self, what: &str, path: &Path) {
        self.report.add(Step {
            state: State::Note,
            what: what.into(),
            message: format!(
                "{} can be written by {name}, but owner and mode cannot be set from here: what is filed gets the group that the \
                 server gives it, or {name}'s own. To have it otherwise:",
                path.display(),
                name = self.account.name
            ),
            commands: self.letting_in(path, true),
        });
    }

    /// The library's marker, made once.
    fn marker(&mut self) {
        let library = &self.settings.library;
        let marker = library.path.join(MARKER);
        match self.has_marker() {
            Err(error) => {
                let message = format!("{}: {error}", marker.display());
                self.ask_for("library", message, Vec::new());
            }
            Ok(true) => {
                let message = format!("{} is there", marker.display());
                self.report.unchanged("library".into(), message);
            }
            Ok(false) => {
                if !self.report.dry_run {
                    let made = self
                        .account
                        .run(|| destinations::begin_library(library).map(drop));
                    let made = made.and_then(|made| made.map_err(io::Error::other));
                    if let Err(error) = made {
                        return self.ask_for("library", error.to_string(), Vec::new());
                    }
                }
                self.report.done(
                    "library".into(),
                    format!("made its marker {}", marker.display()),
                    format!("would make its marker {}", marker.display()),
                );
            }
        }
    }

    pub(super) fn trouble(&self, path: &Path, writes: bool) -> Option<Trouble> {
        let access = if writes {
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
        } else {
            Access::READ_OK | Access::EXEC_OK
        };
        let tried = self.account.run(|| match closed_above(path) {
            Some(closed) => Some(Trouble::Way(closed.to_owned())),
            None => may(path, access).err().map(Trouble::Itself),
        });
        tried.unwrap_or_else(|error| Some(Trouble::Itself(error)))
    }

    pub(super) fn tell(&mut self, what: &str, path: &Path, writes: bool, trouble: &Trouble) {
        let name = &self.account.name;
        match trouble {
            Trouble::Way(closed) => {
                let message = format!(
                    "{name} cannot get to {}: {} is closed to it",
                    path.display(),
                    closed.display()
                );
                let command = format!("setfacl -m u:{name}:x {}", in_shell(closed));
                self.ask_for(what, message, vec![command]);
            }
            Trouble::Itself(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let shown = path.display();
                let message = format!(
                    "{shown} is mounted read-only: nothing can be moved out of it, or into it"
                );
                let point = self.mounts.point_of(path).unwrap_or(Path::new("/"));
                let commands = vec![
                    "# if it is not meant to be (findmnt, /etc/fstab, dmesg: a damaged disk is mounted so):".into(),
                    format!("mount -o remount,rw {}", in_shell(point)),
                    "# else, for a drop directory, in the configuration: action = \"copy\"".into(),
                ];
                self.ask_for(what, message, commands);
            }
            Trouble::Itself(error) => {
                let verb = if writes { "write" } else { "read" };
                let message = format!("{name} cannot {verb} {}: {error}", path.display());
                let commands = self.letting_in(path, writes);
                self.ask_for(what, message, commands);
            }
        }
    }

    pub(super) fn letting_in(&self, path: &Path, writes: bool) -> Vec<String> {
        if path == self.settings.state {
            return giving_back(path, self.account);
        }
        letting_in(path, share_kind(path), writes, self.account)
    }

    pub(super) fn ask_for(&mut self, what: &str, message: String, commands: Vec<String>) {
        self.report.add(Step {
            state: State::ToDo,
            what: what.to_owned(),
            message,
            commands,
        });
    }
}

/// The first directory above a path, from the root on, that this user may not pass.
pub(super) fn closed_above(path: &Path) -> Option<&Path> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let is_closed = |dir: &&Path| may(dir, Access::EXEC_OK).is_err();
    above.into_iter().find(is_closed)
}

/// Whether systemd deletes what lies there when the service stops, if it is its user's or group's.
pub fn is_emptied_at_a_stop(path: &Path) -> bool {
    path.starts_with("/dev/shm")
}

/// Makes a directory, and what is missing above it as anybody's directories are.
pub(super) fn make(path: &Path, mode: u32, account: &Account) -> io::Result<()> {
    if let Some(above) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(path)?;
    hand_over(path, mode, account)
}

/// Owner and group first: changing them takes the setgid bit away.
fn hand_over(path: &Path, mode: u32, account: &Account) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// What kind of filesystem a directory is on, if that can be told.
fn share_kind(path: &Path) -> Option<ShareKind> {
    File::open(path).and_then(ShareKind::of).ok()
}

/// The marker of the library that the ledger knows, if there is a ledger that can be read.
pub fn known_marker(state: &Path) -> Option<String> {
    let records = Ledger::read(state, None).ok()?;
    records
        .filter_map(Result::ok)
        .find_map(|(_, _, record)| match record {
            Record::Library { marker } => Some(marker),
            _ => None,
        })
}
