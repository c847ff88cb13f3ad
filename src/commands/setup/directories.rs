//! State, library and drop directories: made where they are missing, tried as the service's user where they are there.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use super::account::Account;
use super::advice::{in_shell, letting_in};
use super::unit::Mounts;
use super::{Report, State, Step};
use crate::commands::drop_tree::{DropTree, Owned};
use crate::config::Settings;
use crate::config::settings::{Action, WatchSettings};
use crate::filing::destinations::{self, MARKER};
use crate::filing::ledger::Ledger;
use crate::filing::record::Record;
use crate::watch::ShareKind;

/// Drop directories that this command makes: whoever is in the service's group may drop files.
const DROP_MODE: u32 = 0o2770;

/// The directories of one configuration.
pub(super) struct Directories<'a> {
    pub settings: &'a Settings,
    pub account: &'a Account,
    pub mounts: Mounts,
    pub report: &'a mut Report,
}

/// What is wrong with a directory that is there.
enum Trouble {
    /// This user cannot even get there.
    Way(std::path::PathBuf),
    /// It cannot work there.
    Itself(io::Error),
}

impl Directories<'_> {
    /// Ledger, index and keys: for the service alone.
    pub fn state(&mut self) {
        let path = &self.settings.state;
        self.directory("state", path, 0o700);
    }

    /// The library with its marker; quarantine and duplicates where they lie elsewhere.
    pub fn destinations(&mut self) {
        let library = &self.settings.library;
        if self.directory("library", &library.path, library.directory_mode) {
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

    /// A directory that the service writes to; whether it can be used now.
    fn directory(&mut self, what: &str, path: &Path, mode: u32) -> bool {
        if let Some(point) = self.mounts.missing_for(path) {
            let point = in_shell(point);
            self.ask_for(
                what,
                format!("{point} is not mounted"),
                vec![format!("mount {point}")],
            );
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
                self.ask_for(
                    what,
                    format!("{} is no directory", path.display()),
                    Vec::new(),
                );
                false
            }
            Ok(metadata) => self.existing(what, path, &metadata, mode),
        }
    }

    /// The same for one that is there: taken over when it is empty, never when it holds something of others.
    fn existing(
        &mut self,
        what: &str,
        path: &Path,
        metadata: &std::fs::Metadata,
        mode: u32,
    ) -> bool {
        let setgid_is_missing = mode & 0o2000 != 0 && metadata.mode() & 0o2000 == 0;
        let trouble = self.trouble(path, true);
        if trouble.is_none() && !setgid_is_missing {
            self.report.unchanged(
                what.into(),
                format!("{} can be written by {}", path.display(), self.account.name),
            );
            return true;
        }
        let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        let ours = metadata.uid() == self.account.uid;
        if empty || (ours && trouble.is_none()) {
            let wanted = format!("{} to {} ({mode:04o})", path.display(), self.account.name);
            if !self.report.dry_run
                && let Err(error) = hand_over(path, mode, self.account)
            {
                self.ask_for(what, format!("{wanted}: {error}"), Vec::new());
                return false;
            }
            self.report.done(
                what.into(),
                format!("gave {wanted}"),
                format!("would give {wanted}"),
            );
            return !self.report.dry_run;
        }
        let shown = in_shell(path);
        match trouble {
            None => {
                let message = format!(
                    "{} has no setgid bit: directories made in it would not have its group",
                    path.display()
                );
                self.ask_for(what, message, vec![format!("chmod g+s {shown}")]);
                true
            }
            Some(trouble) => {
                self.tell(what, path, true, &trouble);
                false
            }
        }
    }

    /// The library's marker, made once. A library without the marker that the ledger knows is a share that is not mounted.
    fn marker(&mut self) {
        let library = &self.settings.library;
        let marker = library.path.join(MARKER);
        let there = std::fs::symlink_metadata(&marker).is_ok();
        let known = known_marker(&self.settings.state);
        match (there, known) {
            (false, Some(_)) => {
                let message = format!(
                    "{} has no marker, and the ledger knows a library that has one: is this the right directory, and \
                     mounted? Nothing was made",
                    library.path.display()
                );
                self.ask_for("library", message, Vec::new());
            }
            (true, _) => {
                let message = format!("{} is there", marker.display());
                self.report.unchanged("library".into(), message);
            }
            (false, None) => {
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

    /// Every drop directory.
    pub fn drops(&mut self) {
        for watch in &self.settings.watches {
            self.drop_directory(watch);
        }
    }

    fn drop_directory(&mut self, watch: &WatchSettings) {
        let what = format!("drop {}", watch.name);
        let path = &watch.path;
        if let Some(point) = self.mounts.missing_for(path) {
            let point = in_shell(point);
            return self.ask_for(
                &what,
                format!("{point} is not mounted"),
                vec![format!("mount {point}")],
            );
        }
        let writes = watch.action == Action::Move;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let wanted = format!(
                    "{} (group {}, {DROP_MODE:04o}): members of the group may drop files",
                    path.display(),
                    self.account.name
                );
                if !self.report.dry_run
                    && let Err(error) = make(path, DROP_MODE, self.account)
                {
                    return self.ask_for(
                        &what,
                        format!("{wanted} cannot be made: {error}"),
                        Vec::new(),
                    );
                }
                self.report.done(
                    what,
                    format!("made {wanted}"),
                    format!("would make {wanted}"),
                );
            }
            Err(error) => self.ask_for(&what, format!("{}: {error}", path.display()), Vec::new()),
            Ok(metadata) if !metadata.is_dir() => {
                self.ask_for(
                    &what,
                    format!("{} is no directory", path.display()),
                    Vec::new(),
                );
            }
            Ok(metadata) => match self.trouble(path, writes) {
                Some(trouble) => self.tell(&what, path, writes, &trouble),
                None => self.usable_drop(&what, watch, &metadata),
            },
        }
    }

    /// One that the service can work in: can it with the files, too, and with those that come?
    fn usable_drop(&mut self, what: &str, watch: &WatchSettings, metadata: &std::fs::Metadata) {
        let path = &watch.path;
        let writes = watch.action == Action::Move;
        let name = &self.account.name;
        if writes && Owned::of(metadata).is_sticky_against(self.account.uid) {
            let message = format!(
                "{} is sticky: files of other users cannot be moved out of it",
                path.display()
            );
            return self.ask_for(what, message, vec![format!("chmod -t {}", in_shell(path))]);
        }
        let tree = match self.account.run(|| DropTree::look(watch)) {
            Ok(tree) => tree,
            Err(error) => {
                return self.ask_for(what, format!("{}: {error}", path.display()), Vec::new());
            }
        };
        if tree.closed > 0 {
            let message = format!(
                "{} of the {} directories below {} are closed to {name}",
                tree.closed,
                tree.below,
                path.display()
            );
            return self.ask_for(what, message, self.letting_in(path, writes));
        }
        if writes && tree.sticky > 0 {
            let message = format!(
                "{} of the {} directories below {} are sticky: files of other users cannot be moved out of them",
                tree.sticky,
                tree.below,
                path.display()
            );
            let command = format!(
                "find {} -type d -perm -1000 -exec chmod -t {{}} +",
                in_shell(path)
            );
            return self.ask_for(what, message, vec![command]);
        }
        let refused = tree.files.iter().filter(|file| !file.readable).count();
        if refused > 0 {
            let message = format!(
                "{refused} of {} files in {} cannot be read by {name}",
                tree.files.len(),
                path.display(),
                self.account.name
            );
            return self.ask_for(what, message, self.letting_in(path, writes));
        }
        let done = match watch.action {
            Action::Observe => "be looked at",
            Action::Copy => "be copied",
            Action::Move => "be moved away",
        };
        self.report.unchanged(
            what.into(),
            format!(
                "files in {} can {done} by {}",
                path.display(),
            ),
        );
        if !hands_down_access(path, metadata, self.account) {
            self.report.add(Step {
                state: State::Note,
                what: what.into(),
                message: format!(
                    "new files in {} are readable only if whoever makes them says so; to make sure:",
                    path.display()
                ),
                commands: self.letting_in(path, writes),
            });
        }
    }

    fn trouble(&self, path: &Path, writes: bool) -> Option<Trouble> {
        let access = if writes {
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
        } else {
            Access::READ_OK | Access::EXEC_OK
        };
        let may = |path: &Path, access| rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS);
        let tried = self.account.run(|| {
            let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
            above.reverse();
            if let Some(closed) = above
                .into_iter()
                .find(|dir| may(dir, Access::EXEC_OK).is_err())
            {
                return Some(Trouble::Way(closed.to_owned()));
            }
            may(path, access)
                .err()
                .map(|error| Trouble::Itself(error.into()))
        });
        tried.unwrap_or_else(|error| Some(Trouble::Itself(error)))
    }

    fn tell(&mut self, what: &str, path: &Path, writes: bool, trouble: &Trouble) {
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
            Trouble::Itself(error) => {
                let verb = if writes { "write" } else { "read" };
                let message = format!("{name} cannot {verb} {}: {error}", path.display());
                let commands = self.letting_in(path, writes);
                self.ask_for(what, message, commands);
            }
        }
    }

    fn letting_in(&self, path: &Path, writes: bool) -> Vec<String> {
        letting_in(path, share_kind(path), writes, self.account)
    }

    fn ask_for(&mut self, what: &str, message: String, commands: Vec<String>) {
        self.report.add(Step {
            state: State::ToDo,
            what: what.to_owned(),
            message,
            commands,
        });
    }
}

/// Makes a directory, and what is missing above it as anybody's directories are.
fn make(path: &Path, mode: u32, account: &Account) -> io::Result<()> {
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

/// Whether new files get a group or an access list that lets the account in.
fn hands_down_access(path: &Path, metadata: &std::fs::Metadata, account: &Account) -> bool {
    let by_group = metadata.mode() & 0o2000 != 0 && account.groups.contains(&metadata.gid());
    let mut none = [0_u8; 0];
    let by_list = rustix::fs::getxattr(path, "system.posix_acl_default", &mut none)
        .is_ok_and(|length| length > 0);
    account.uid == 0 || metadata.uid() == account.uid || by_group || by_list
}

/// The marker of the library that the ledger knows, if there is a ledger that can be read.
fn known_marker(state: &Path) -> Option<String> {
    let records = Ledger::read(state, None).ok()?;
    records
        .filter_map(Result::ok)
        .find_map(|(_, _, record)| match record {
            Record::Library { marker } => Some(marker),
            _ => None,
        })
}
