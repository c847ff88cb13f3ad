//! The service's user, and trying things as that user.

use std::io;
use std::process::Command;

use rustix::fs::{Gid, Uid};

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its own group's number.
    pub gid: u32,
    /// All groups that it is in.
    pub groups: Vec<u32>,
}

impl Account {
    /// Looks it up as the system does, wherever its users come from.
    pub fn of(name: &str) -> Result<Self, String> {
        let ask = |option: &str| -> Result<Vec<u32>, String> {
            let output = Command::new("id")
                .args([option, "--", name])
                .output()
                .map_err(|error| format!("id(1): {error}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let numbers: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
            numbers
                .ok()
                .filter(|numbers| !numbers.is_empty())
                .ok_or_else(|| format!("there is no user {name}"))
        };
        Ok(Self {
            name: name.to_owned(),
            uid: ask("-u")?[0],
            gid: ask("-g")?[0],
            groups: ask("-G")?,
        })
    }

    /// The name of a group, wherever the system's groups come from; `None` when it has none.
    pub fn group_name(gid: u32) -> Option<String> {
        name_of("group", gid)
    }

    /// The same of a user.
    pub fn user_name(uid: u32) -> Option<String> {
        name_of("passwd", uid)
    }

    /// The name of its own group, or its number where it has no name.
    pub fn group(&self) -> String {
        Self::group_name(self.gid).unwrap_or_else(|| self.gid.to_string())
    }

    /// Whether things can be tried as this user: only root can do that for others.
    pub fn can_be_tried(&self) -> bool {
        let me = rustix::process::geteuid();
        me.is_root() || me.as_raw() == self.uid
    }

    /// Runs `work` with this user's rights and no others, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let me = rustix::process::geteuid();
        if me.as_raw() == self.uid {
            return Ok(work());
        }
        if !self.can_be_tried() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("only root can try things as {}", self.name),
            ));
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.become_it()?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread died")))
        })
    }

    /// These calls change the calling thread alone.
    fn become_it(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

/// What a database of the system calls a number.
fn name_of(database: &str, id: u32) -> Option<String> {
    let mut getent = Command::new("getent");
    let output = getent.args([database, &id.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (name, _) = text.split_once(':')?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::fs::{Access, AtFlags, CWD};

    #[test]
    fn what_only_root_may_do_is_refused_to_the_user_and_root_stays_root() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: this wants root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("private");
        std::fs::write(&private, "x").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&private, owner_only).unwrap();
        let read =
            || rustix::fs::accessat(CWD, &private, Access::READ_OK, AtFlags::EACCESS).is_ok();
        let nobody = Account::of("nobody").unwrap();
        assert!(!nobody.run(read).unwrap());
        assert!(read());
    }

    #[test]
    fn nobody_of_that_name_is_said() {
        assert!(
            Account::of("no-such-user-here")
                .unwrap_err()
                .contains("no-such-user-here")
        );
    }
}
