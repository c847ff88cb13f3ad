//! Drop directories: made where they are missing, tried as the service's user, with advice for those that others own.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::account::Account;
use super::advice::{in_shell, real};
use super::directories::{Directories, make};
use super::{State, Step};
use crate::commands::drop_tree::{DropTree, Owned};
use crate::config::settings::{Action, WatchSettings};

/// Drop directories that this command makes: whoever is in the service's group may drop files.
const DROP_MODE: u32 = 0o2770;

impl Directories<'_> {
    /// Every drop directory.
    pub fn drops(&mut self) {
        for watch in &self.settings.watches {
            self.drop_directory(watch);
        }
    }

    fn drop_directory(&mut self, watch: &WatchSettings) {
        let what = format!("drop {}", watch.name);
        let path = &watch.path;
        if !self.is_mounted(&what, path) || !self.stays(&what, path) {
            return;
        }
        let writes = watch.action == Action::Move;
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                let (shown, leads) = (path.display(), real(path));
                let message = format!("{shown} leads to {}, which is not there", leads.display());
                self.ask_for(&what, message, Vec::new());
            }
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
                in_shell(real(path))
            );
            return self.ask_for(what, message, vec![command]);
        }
        let refused = tree.files.iter().filter(|file| !file.readable).count();
        if refused > 0 {
            let message = format!(
                "{refused} of {} files in {} cannot be read by {name}",
                tree.files.len(),
                path.display(),
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
                self.account.name
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
}

/// Whether new files get a group or an access list that lets the account in.
fn hands_down_access(path: &Path, metadata: &std::fs::Metadata, account: &Account) -> bool {
    let by_group = metadata.mode() & 0o2000 != 0 && account.groups.contains(&metadata.gid());
    let mut list = [0_u8; 4096];
    let by_list = rustix::fs::getxattr(path, "system.posix_acl_default", &mut list)
        .is_ok_and(|length| lets_in(list.get(..length).unwrap_or(&list), account));
    account.uid == 0 || metadata.uid() == account.uid || by_group || by_list
}

/// Whether an access list, as the kernel keeps it (linux/posix_acl_xattr.h), names the account, or a group that it is in, as
/// one that may read.
fn lets_in(list: &[u8], account: &Account) -> bool {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    const READ: u16 = 4;
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let entries: Vec<(u16, u16, u32)> = entries
        .map(|entry| {
            let number = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            (number(0), number(2), id)
        })
        .collect();
    let reads = |(tag, permissions, id): &(u16, u16, u32)| {
        let is_meant = match *tag {
            USER => *id == account.uid,
            GROUP => account.groups.contains(id),
            _ => false,
        };
        is_meant && permissions & READ != 0
    };
    let masked = |(tag, permissions, _): &(u16, u16, u32)| *tag == MASK && permissions & READ == 0;
    entries.iter().any(reads) && !entries.iter().any(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_list_counts_only_when_it_lets_the_service_in() {
        let account = Account {
            name: "radsort".into(),
            uid: 990,
            gid: 991,
            groups: vec![991, 500],
        };
        let list = |entries: &[(u16, u16, u32)]| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions, id) in entries {
                bytes.extend(tag.to_le_bytes());
                bytes.extend(permissions.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
            lets_in(&bytes, &account)
        };
        let (user, group, mask) = (0x02, 0x08, 0x10);
        assert!(list(&[(user, 4, 990)]) && list(&[(user, 7, 1), (group, 5, 500), (mask, 7, 0)]));
        assert!(!list(&[(user, 7, 1000)]), "somebody else's");
        assert!(!list(&[(user, 3, 990)]), "not to read");
        assert!(
            !list(&[(user, 7, 990), (mask, 3, 0)]),
            "the mask takes it away"
        );
        assert!(!lets_in(&[], &account));
    }
}
