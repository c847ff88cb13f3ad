//! Where log lines go: the systemd journal with its structured fields, or stderr for people, or JSON lines.
//!
//! Events carry identifiers and reasons as fields; nothing that names a patient, nor a source path, is ever logged. Libraries do
//! not know that: only their warnings are let through, whatever level is asked for.
//! A line that a site may wait for says in its field `event` which [`Event`] it is.

mod event;
mod journal;

use std::io::IsTerminal;

use systemd_journal_logger::JournalLog;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

pub use event::Event;
use journal::JournalLayer;

use crate::config::settings::{LogSettings, LogTarget};

/// Sets up logging for the whole process. `RUST_LOG` overrides the configured level. Gives whether lines are for programs (the
/// journal, JSON) and not for a person at a terminal.
pub fn start(settings: &LogSettings) -> anyhow::Result<bool> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(&settings.level).map_err(|error| {
            anyhow::anyhow!("[log] level {:?} is no filter: {error}", settings.level)
        })?,
    };
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(may_be_said));
    let stderr = || {
        fmt::layer().with_writer(std::io::stderr).with_ansi(colours(
            std::io::stderr().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
        ))
    };
    let for_programs = match settings.target {
        LogTarget::Json => {
            let json = fmt::layer().json().with_writer(std::io::stderr);
            registry.with(json).try_init()?;
            true
        }
        LogTarget::Stderr => {
            registry.with(stderr().with_target(false)).try_init()?;
            false
        }
        LogTarget::Journal => {
            registry.with(JournalLayer(journal()?)).try_init()?;
            true
        }
        LogTarget::Auto => match journal() {
            Ok(journal) if systemd_journal_logger::connected_to_journal() => {
                registry.with(JournalLayer(journal)).try_init()?;
                true
            }
            _ => {
                registry.with(stderr().with_target(false)).try_init()?;
                false
            }
        },
    };
    Ok(for_programs)
}

/// Whether a line may be said, whatever level the site asks for. Below a warning libraries tell what they work on: sled its keys
/// and records, which hold files' names and UIDs, notify the files that it hears of.
fn may_be_said(about: &Metadata<'_>) -> bool {
    match about.target().split("::").next() {
        Some("radsort") => true,
        Some("notify") => false,
        _ => *about.level() <= Level::WARN,
    }
}

/// The same for a command at a terminal: only what went wrong, unless `RUST_LOG` or the configuration asks for more.
pub fn start_quiet(settings: &LogSettings) -> anyhow::Result<()> {
    let level = if settings.level == "info" {
        "warn".to_owned()
    } else {
        settings.level.clone()
    };
    start(&LogSettings {
        level,
        target: LogTarget::Stderr,
        identifiers: settings.identifiers,
    })
    .map(drop)
}

fn journal() -> std::io::Result<JournalLog> {
    Ok(JournalLog::new()?.with_syslog_identifier("radsort".into()))
}

/// Colours on a terminal, unless the person has said that they want none (<https://no-color.org>).
fn colours(terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    terminal && no_color.is_none_or(std::ffi::OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::colours;

    #[test]
    fn lines_are_coloured_on_a_terminal_only_and_not_against_a_persons_wish() {
        assert!(colours(true, None) && colours(true, Some("".as_ref())));
        assert!(!colours(true, Some("1".as_ref())) && !colours(false, None));
    }
}
