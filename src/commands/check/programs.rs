//! Whether what has to be executed may be: a `noexec` mount lets nothing be loaded from it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::findings::{Findings, Verdict};
use super::may;
use crate::commands::setup::advice::in_shell;
use crate::config::settings::RuntimeSettings;

/// The program itself (the decoders start it anew) and ONNX Runtime's library.
pub(super) fn check(settings: &RuntimeSettings, findings: &mut Findings) {
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    files.extend(std::env::current_exe().ok().map(|exe| ("program", exe)));
    let by_environment = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let library = settings.library.clone().or(by_environment);
    let packaged = || PathBuf::from("/usr/lib/radsort");
    files.push(("ONNX Runtime", library.unwrap_or_else(packaged)));
    let looked = files
        .iter()
        .filter_map(|(what, path)| Some((*what, path.as_path(), is_noexec(path)?)));
    findings.tell(looked.filter_map(|(what, path, noexec)| judge(what, path, noexec)));
}

/// The command that is to tell somebody: it is missed only when it is needed.
pub(super) fn check_alert(command: &[String], findings: &mut Findings) {
    findings.tell(command.first().and_then(|program| {
        let path = Path::new(program);
        let is_file = std::fs::metadata(path).map(|metadata| metadata.is_file());
        let tried = match is_file {
            Ok(false) => Err(io::Error::other("it is no file")),
            Ok(true) => may(path, Access::EXEC_OK),
            Err(error) => Err(error),
        };
        judge_alert(path, tried)
    }));
}

fn judge_alert(path: &Path, tried: io::Result<()>) -> Option<Verdict> {
    let error = tried.err()?;
    let (message, shell) = (format!("{}: {error}", path.display()), in_shell(path));
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("Nobody is told of anything until it can be run: chmod a+rx {shell}")
        }
        _ => {
            "Nobody is told of anything until it is there: install it, or correct [alert] command."
                .to_owned()
        }
    };
    Some(Verdict::warning("alert command", message, advice))
}

/// `None` where nothing is.
fn is_noexec(path: &Path) -> Option<bool> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

fn judge(what: &str, path: &Path, noexec: bool) -> Option<Verdict> {
    noexec.then(|| {
        Verdict::error(
            what,
            format!("{} lies on a filesystem that is mounted noexec: nothing can be run or loaded from there", path.display()),
            "Put it elsewhere (packages use /usr), or mount that filesystem with exec.",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_lies_on_a_noexec_mount_is_an_error_with_a_way_out() {
        let verdict = judge("program", Path::new("/home/x/radsort"), true).unwrap();
        assert!(verdict.message.contains("/home/x/radsort") && verdict.message.contains("noexec"));
        assert_eq!(judge("program", Path::new("/usr/bin/radsort"), false), None);
    }

    #[test]
    fn an_alert_command_that_cannot_be_run_is_a_warning() {
        let judged =
            |kind: io::ErrorKind| judge_alert(Path::new("/x/tell us"), Err(kind.into())).unwrap();
        let closed = judged(io::ErrorKind::PermissionDenied);
        assert!(
            closed.advice.contains("chmod a+rx '/x/tell us'"),
            "{closed:?}"
        );
        let missing = judged(io::ErrorKind::NotFound);
        assert!(missing.advice.contains("install it"), "{missing:?}");
        assert_eq!(judge_alert(Path::new("/x"), Ok(())), None);
    }

    #[test]
    fn mounts_are_asked() {
        // This test itself has been executed; /proc is noexec wherever systemd or a container mounted it.
        assert_eq!(is_noexec(&std::env::current_exe().unwrap()), Some(false));
        assert_eq!(is_noexec(Path::new("/nowhere/at/all")), None);
    }
}
