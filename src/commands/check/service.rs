//! The service itself: as whom it runs, whether it runs already, where its log goes.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::Access;

use super::findings::Findings;
use super::may;
use crate::config::Settings;
use crate::config::settings::LogTarget;

/// Whether what is tried here is what the daemon could do.
pub(super) fn check_user(settings: &Settings, findings: &mut Findings) {
    let me = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(&settings.state).map(|state| state.uid());
    match owner {
        Ok(owner) if owner != me => findings.warning(
            "user",
            format!("this is user {me}, but {} belongs to user {owner}", settings.state.display()),
            "What follows holds for this user. Run the check as the daemon's user: runuser -u radsort -- radsort check …",
        ),
        _ if me == 0 => findings.warning(
            "user",
            "this is root, who may do anything",
            "What follows holds for root. If the daemon runs as another user (it should), run the check as that one.",
        ),
        _ => findings.ok("user", format!("user {me}")),
    }
}

/// Whether a daemon is running on these settings.
pub(super) fn check_control(settings: &Settings, findings: &mut Findings) -> bool {
    let socket = &settings.control.socket;
    if UnixStream::connect(socket).is_ok() {
        findings.ok(
            "control socket",
            format!("{}: a daemon is running", socket.display()),
        );
        return true;
    }
    let parent = socket.parent().unwrap_or(Path::new("/"));
    match (
        may(parent, Access::WRITE_OK | Access::EXEC_OK),
        parent.exists(),
    ) {
        (Ok(()), _) => findings.ok("control socket", socket.display()),
        // systemd makes /run/radsort, the daemon makes its state directory.
        (Err(_), false) if parent.starts_with("/run") || parent == settings.state => {
            findings.ok(
                "control socket",
                format!("{} (its directory is made at the start)", socket.display()),
            );
        }
        (Err(error), _) => findings.error(
            "control socket",
            format!("{}: {error}", parent.display()),
            "Make that directory writable for the daemon, or set [control] socket.",
        ),
    }
    false
}

pub(super) fn check_log(settings: &Settings, findings: &mut Findings) {
    if settings.log.target == LogTarget::Journal
        && !Path::new("/run/systemd/journal/socket").exists()
    {
        findings.warning(
            "log",
            "target = \"journal\", but there is no journal on this machine",
            "Set [log] target = \"auto\", \"stderr\" or \"json\".",
        );
    }
}
