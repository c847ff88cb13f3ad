//! The service itself: as whom it runs, whether it runs already, where its log goes.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::findings::{Findings, Verdict};
use super::may;
use crate::commands::access::user_called;
use crate::commands::setup::UNITS;
use crate::commands::setup::grants::{Grant, named, seen_at};
use crate::commands::setup::unit::{self, Unit, grants_exactly};
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
            &format!(
                "What follows holds for this user. Run the check as the daemon's user: runuser -u {} -- radsort check …",
                user_called(owner)
            ),
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
    let unit = Unit::of(&settings.source, None);
    let own = unit.map_or_else(|| "/run/radsort".into(), |unit| unit.runtime());
    match (
        may(parent, Access::WRITE_OK | Access::EXEC_OK),
        parent.exists(),
    ) {
        (Ok(()), _) => findings.ok("control socket", socket.display()),
        (Err(_), false) => findings.tell([judge_socket(socket, &own, &settings.state)]),
        (Err(error), _) => findings.error(
            "control socket",
            format!("{}: {error}", parent.display()),
            "Make that directory writable for the daemon, or set [control] socket.",
        ),
    }
    false
}

/// A control socket whose directory is not there now; `own`: the unit's in `/run`.
fn judge_socket(socket: &Path, own: &Path, state: &Path) -> Verdict {
    let what = "control socket";
    let parent = socket.parent().unwrap_or(Path::new("/"));
    if unit::is_made_at_start(parent, own, state) {
        let message = format!("{} (its directory is made at the start)", socket.display());
        return Verdict::ok(what, message);
    }
    Verdict::error(
        what,
        format!(
            "{} does not exist, and nobody makes it: of the directories in /run, the unit has {} alone",
            parent.display(),
            own.display()
        ),
        format!(
            "Leave [control] socket out, or set it to {:?}.",
            own.join("control.sock").to_string_lossy()
        ),
    )
}

/// What `radsort setup` has written for a unit.
pub(super) struct DropIn {
    unit: Unit,
    path: PathBuf,
    /// `None` where there is none.
    text: Option<String>,
}

/// The drop-in of the unit that reads this configuration, where there are systemd and that unit.
pub(super) fn drop_in(settings: &Settings) -> Option<DropIn> {
    let installed = |unit: &Unit| {
        let places = [UNITS, "/usr/lib/systemd/system", "/lib/systemd/system"];
        places.map(|place| Path::new(place).join(unit.file()).exists()) != [false; 3]
    };
    let unit = Unit::of(&settings.source, None).filter(installed);
    let unit = unit.filter(|_| Path::new("/run/systemd/system").is_dir())?;
    let path = Path::new(UNITS).join(format!("{}.d/10-setup.conf", unit.service()));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // It is somebody else's, then, and is not judged.
        Err(_) => return None,
    };
    Some(DropIn { unit, path, text })
}

impl DropIn {
    /// The unit's name.
    pub(super) fn service(&self) -> &str {
        self.unit.service()
    }

    /// Whether the service has to copy what could be renamed here.
    pub(super) fn parts(&self, drop: &Path, library: &Path) -> bool {
        let text = self.text.as_deref();
        text.is_some_and(|text| unit::parts(text, &seen_at(drop), &seen_at(library)))
    }
}

/// Whether systemd lets the service have the directories that the configuration names.
pub(super) fn check_unit(settings: &Settings, drop_in: Option<&DropIn>, findings: &mut Findings) {
    findings.tell(drop_in.map(|drop_in| {
        let grants = named(settings, &drop_in.unit);
        judge_drop_in(&drop_in.path, drop_in.text.as_deref(), &grants)
    }));
}

fn judge_drop_in(path: &Path, drop_in: Option<&str>, grants: &[Grant]) -> Verdict {
    let what = "systemd";
    let path = path.display();
    let advice = "As root: `radsort setup`, then restart the service.";
    match drop_in {
        Some(text) if grants_exactly(text, grants) => {
            Verdict::ok(what, format!("{path} grants what the configuration names"))
        }
        Some(_) => Verdict::warning(
            what,
            format!(
                "{path} is older than the configuration: the service gets other directories than are named there"
            ),
            advice,
        ),
        None => Verdict::warning(
            what,
            format!("{path} is missing: the service can write nowhere but in its state"),
            advice,
        ),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::findings::Level;
    use crate::commands::setup::grants::Needed;

    #[test]
    fn only_the_units_own_directory_and_the_state_are_made_at_the_start() {
        let judged = |socket: &str| {
            let (own, state) = (Path::new("/run/radsort"), Path::new("/srv/state"));
            judge_socket(Path::new(socket), own, state)
        };
        assert_eq!(judged("/run/radsort/c.sock").level, Level::Ok);
        assert_eq!(judged("/srv/state/c.sock").level, Level::Ok);
        for elsewhere in ["/run/foo/c.sock", "/run/radsort/more/c.sock", "/c/c.sock"] {
            let verdict = judged(elsewhere);
            assert!(
                verdict.level == Level::Error
                    && verdict.advice.contains("\"/run/radsort/control.sock\""),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn a_drop_in_that_is_missing_or_older_than_the_configuration_is_a_warning() {
        let grants = [Grant {
            what: "the library".into(),
            path: "/srv/library".into(),
            writes: true,
            needed: Needed::ToStart,
        }];
        let judged = |text| judge_drop_in(Path::new("/etc/x.conf"), text, &grants);
        let good = judged(Some("[Service]\nReadWritePaths=\"-/srv/library\"\n"));
        assert_eq!(good.level, Level::Ok);
        for text in [None, Some("[Service]\nReadWritePaths=\"-/srv/old\"\n")] {
            let verdict = judged(text);
            assert!(
                verdict.level == Level::Warning && verdict.advice.contains("radsort setup"),
                "{verdict:?}"
            );
        }
    }
}
