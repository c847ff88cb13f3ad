//! What the service manager is told (sd_notify(3)), without ever waiting for it: one that does not read must not stop the
//! service. What it cannot take now is forgotten if the next line says it anew, and kept for the next time if it must
//! not be missed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

use sd_notify::NotifyState;

/// The most messages that are kept for one that does not read: a few reloads.
const KEPT: usize = 16;

/// Whoever has started the service and wants to hear of it, if anybody does.
#[derive(Debug, Default)]
pub struct ServiceManager {
    address: Option<SocketAddr>,
    /// What it must hear and has not, the oldest first.
    owed: Mutex<VecDeque<String>>,
}

impl ServiceManager {
    /// As the environment says (`NOTIFY_SOCKET`).
    pub fn from_environment() -> Self {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) => Self::at(&name),
            None => Self::default(),
        }
    }

    fn at(name: &OsStr) -> Self {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        if let Err(error) = &address {
            tracing::warn!("the service manager cannot be told anything: NOTIFY_SOCKET: {error}");
        }
        Self {
            address: address.ok(),
            ..Self::default()
        }
    }

    /// Tells it what it will be told again: the status line, that the service is alive.
    pub fn tell(&self, states: &[NotifyState<'_>]) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pay(&mut owed) {
            let _ = self.send(&text(states));
        }
    }

    /// Tells it what it must not miss (ready, reloading, stopping), now or with what it is told next.
    pub fn must_hear(&self, states: &[NotifyState<'_>]) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if owed.len() == KEPT {
            owed.pop_front();
        }
        owed.push_back(text(states));
        self.pay(&mut owed);
    }

    /// Sends what is owed, in its order; whether nothing is any more.
    fn pay(&self, owed: &mut VecDeque<String>) -> bool {
        while let Some(message) = owed.front() {
            if self.send(message).is_err() {
                return false;
            }
            owed.pop_front();
        }
        true
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let Some(address) = &self.address else {
            return Ok(());
        };
        let sent = || {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        };
        match sent() {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!("the service manager could not be told: {error}");
                Err(error)
            }
        }
    }
}

fn text(states: &[NotifyState<'_>]) -> String {
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A service manager that reads when it wants to.
    fn lazy() -> (tempfile::TempDir, UnixDatagram, ServiceManager) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (dir, socket, ServiceManager::at(path.as_os_str()))
    }

    /// Everything that it finds when it reads.
    fn read(socket: &UnixDatagram) -> Vec<String> {
        let mut bytes = [0; 100];
        let mut one = || socket.recv(&mut bytes).ok().map(|n| bytes[..n].to_vec());
        let all = std::iter::from_fn(&mut one);
        all.map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn a_service_manager_that_does_not_read_is_not_waited_for_and_hears_later_what_it_must() {
        let (_dir, socket, manager) = lazy();
        for _ in 0..10_000 {
            manager.tell(&[NotifyState::Status("busy")]);
        }
        manager.must_hear(&[NotifyState::Reloading, NotifyState::Status("a")]);
        manager.must_hear(&[NotifyState::Ready, NotifyState::Status("b")]);
        let early = read(&socket);
        assert!(early.iter().all(|text| text == "STATUS=busy"));
        manager.tell(&[NotifyState::Watchdog]);
        let wanted = ["RELOADING=1\nSTATUS=a", "READY=1\nSTATUS=b", "WATCHDOG=1"];
        assert_eq!(read(&socket), wanted);
    }

    #[test]
    fn a_service_manager_that_never_reads_costs_a_bounded_memory() {
        let (_dir, _socket, manager) = lazy();
        for _ in 0..10_000 {
            manager.must_hear(&[NotifyState::Ready]);
        }
        assert_eq!(manager.owed.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn where_nobody_wants_to_hear_nothing_is_said_or_kept() {
        let manager = ServiceManager::default();
        manager.must_hear(&[NotifyState::Ready]);
        assert!(manager.owed.lock().unwrap().is_empty());
    }
}
