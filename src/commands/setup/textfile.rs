//! The directory of node_exporter's text files: it is others', so it is only tried, and what is missing is said.

use std::io;

use super::account::Account;
use super::advice::in_shell;
use super::{Report, State, Step};
use crate::config::settings::{MetricsSettings, TextFile};
use crate::metrics::textfile;

/// Whether figures can be written there.
pub(super) fn check(metrics: &MetricsSettings, account: &Account, report: &mut Report) {
    let Some(directory) = textfile::directory(&metrics.textfile) else {
        return;
    };
    let (what, name) = ("metrics", &account.name);
    let tried = account.run(|| textfile::may_write(directory));
    let Err(error) = tried.flatten() else {
        let message = format!("{} can be written by {name}", directory.display());
        return report.unchanged(what.into(), message);
    };
    let shown = in_shell(directory);
    let mut commands = vec![format!("setfacl -m u:{name}:rwx {shown}    # package acl")];
    if error.kind() == io::ErrorKind::NotFound {
        commands.insert(0, format!("install -d -m 755 {shown}"));
    }
    report.add(Step {
        // What the configuration does not ask for in so many words is nobody's task.
        state: match metrics.textfile {
            TextFile::Auto => State::Note,
            TextFile::In(_) | TextFile::Off => State::ToDo,
        },
        what: what.into(),
        message: format!(
            "{name} cannot write {}: {error}; until it can, node_exporter has no figures of it (tried at each start)",
            directory.display()
        ),
        commands,
    });
}
