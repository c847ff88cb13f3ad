//! `[alert] command`: runs the site's own program when something begins or is over, for sites without Prometheus.
//!
//! Never in a shell, never for longer than its limit, one after the other in a thread of its own: nothing waits for it.
//! When more comes than it can take, the rest is dropped and that is said.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::bounded;
use super::conditions::Change;
use crate::config::settings::AlertSettings;
use crate::metrics::Metrics;
use crate::telemetry::Event;

/// How many runs may wait.
const QUEUE: usize = 32;
/// Where a script finds ordinary programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A handle to the thread that runs the command; the thread ends with it.
pub struct Alerts {
    queue: SyncSender<(AlertSettings, Command)>,
}

impl Alerts {
    /// Starts the thread.
    pub fn start(metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, runs) = sync_channel::<(AlertSettings, Command)>(QUEUE);
        std::thread::Builder::new()
            .name("alert".into())
            .spawn(move || {
                for (settings, command) in runs {
                    let ran = bounded::run(command, settings.timeout);
                    metrics.alerted(ran.is_ok());
                    if let Err(error) = ran {
                        tracing::warn!(event = %Event::AlertFailed, "the alert command failed: {error}");
                    }
                }
            })?;
        Ok(Self { queue })
    }

    /// Has the command run about a change, if the site has one.
    pub fn tell(&self, settings: &AlertSettings, config: &Path, change: &Change) {
        let Some(command) = command(settings, config, change) else {
            return;
        };
        if self.queue.try_send((settings.clone(), command)).is_err() {
            tracing::warn!(event = %Event::AlertFailed, "the alert command is too slow: a run is left out");
        }
    }
}

/// The command with what it is told, in its environment alone.
fn command(settings: &AlertSettings, config: &Path, change: &Change) -> Option<Command> {
    let (program, words) = settings.command.split_first()?;
    let condition = &change.condition;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let mut command = Command::new(program);
    command
        .args(words)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("RADSORT_EVENT", condition.event.code())
        .env("RADSORT_STATE", if change.over { "over" } else { "begins" })
        .env("RADSORT_SUBJECT", &condition.subject)
        .env("RADSORT_MESSAGE", &condition.message)
        .env("RADSORT_VALUE", number(condition.value))
        .env("RADSORT_LIMIT", number(condition.limit))
        .env("RADSORT_CONFIG", config);
    Some(command)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::monitor::conditions::Condition;

    fn change(message: &str, over: bool) -> Change {
        let condition = Condition {
            event: Event::ReviewRateHigh,
            subject: "north".into(),
            message: message.into(),
            value: Some(0.75),
            limit: Some(0.5),
        };
        Change {
            condition,
            log: true,
            over,
            tell: true,
        }
    }

    fn script(dir: &Path, text: &str) -> Vec<String> {
        let path = dir.join("tell");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec![
            path.to_str().unwrap().to_owned(),
            "an argument; $(not a shell's)".to_owned(),
        ]
    }

    fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(started.elapsed() < Duration::from_mins(1), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_command_gets_what_has_happened_in_its_environment_and_no_shell_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let heard = dir.path().join("heard");
        let text = format!(
            "{{ echo \"$1\"; env | grep ^RADSORT_ | sort; env | grep -c HOME=; }} > {0}.new; mv {0}.new {0}",
            heard.display()
        );
        let settings = AlertSettings {
            command: script(dir.path(), &text),
            ..AlertSettings::default()
        };
        let metrics = Arc::new(Metrics::open(dir.path(), "radsort".into()));
        let alerts = Alerts::start(metrics).unwrap();
        let said = "north: `touch /tmp/x`; \"$(id)\"";
        alerts.tell(
            &settings,
            Path::new("/etc/radsort/radsort.toml"),
            &change(said, false),
        );
        let text = wait_for("the command has run", || fs::read_to_string(&heard).ok());
        let expected = format!(
            "an argument; $(not a shell's)\nRADSORT_CONFIG=/etc/radsort/radsort.toml\nRADSORT_EVENT=review-rate-high\n\
             RADSORT_LIMIT=0.5\nRADSORT_MESSAGE={said}\nRADSORT_STATE=begins\nRADSORT_SUBJECT=north\nRADSORT_VALUE=0.75\n0\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_command_that_hangs_holds_nobody_up_and_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = AlertSettings {
            command: script(dir.path(), "exec sleep 1000"),
            timeout: Duration::from_millis(50),
            ..AlertSettings::default()
        };
        let metrics = Arc::new(Metrics::open(dir.path(), "radsort".into()));
        let alerts = Alerts::start(Arc::clone(&metrics)).unwrap();
        let started = Instant::now();
        for _ in 0..3 * QUEUE {
            alerts.tell(&settings, Path::new("/c"), &change("", true));
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        wait_for("a run is counted as failed", || {
            let text = crate::metrics::exposition::text(
                &metrics,
                &crate::control::status::Status::default(),
            );
            text.contains("radsort_alert_runs_total{site=\"radsort\",outcome=\"failed\"}")
                .then_some(())
        });
    }

    #[test]
    fn without_a_command_nothing_is_run() {
        assert!(
            command(
                &AlertSettings::default(),
                Path::new("/c"),
                &change("", false)
            )
            .is_none()
        );
    }
}
