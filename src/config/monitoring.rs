//! Reads `[metrics]` and `[alert]`: what monitoring is given, and when somebody is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fragment::{Located, Section};
use super::read::finish;
use super::settings::{AlertSettings, MetricsSettings, TextFile};
use super::units::{self, DAY, SECOND};

/// `[metrics]`, with the places of its paths.
pub struct Metrics {
    /// The directory of the text file, where the site names one.
    pub textfile: Option<Located<PathBuf>>,
    /// The Unix socket.
    pub socket: Option<Located<PathBuf>>,
    no_textfile: bool,
    interval: Duration,
    listen: Option<SocketAddr>,
}

impl Metrics {
    /// Without the places.
    pub fn into_settings(self) -> MetricsSettings {
        let textfile = match self.textfile {
            Some(path) => TextFile::In(path.value),
            None if self.no_textfile => TextFile::Off,
            None => TextFile::Auto,
        };
        MetricsSettings {
            textfile,
            interval: self.interval,
            socket: self.socket.map(|path| path.value),
            listen: self.listen,
        }
    }
}

/// Reads `[metrics]`; the socket lies beside the control socket unless the site says otherwise.
pub fn metrics(mut section: Section<'_>, control: Option<&Located<PathBuf>>) -> Metrics {
    let no_textfile = section.is_word("textfile", "off");
    let textfile = section.path_or_auto("textfile");
    let interval = section.duration("interval", SECOND..=Duration::from_hours(1));
    let beside = || {
        let control = control?;
        let folder = control.value.parent().unwrap_or(Path::new("/"));
        Some(Located {
            value: folder.join("metrics.sock"),
            place: control.place.clone(),
        })
    };
    let socket = if section.is_word("socket", "off") {
        None
    } else {
        section.path_or_auto("socket").or_else(beside)
    };
    let listen = if section.is_word("listen", "off") {
        None
    } else {
        section.parsed(
            "listen",
            "\"off\" or a loopback address with a port, e.g. \"127.0.0.1:9464\"",
            loopback,
        )
    };
    finish(section);
    Metrics {
        textfile,
        socket,
        no_textfile,
        interval: interval.map_or(MetricsSettings::default().interval, |it| it.value),
        listen: listen.map(|it| it.value),
    }
}

/// Figures about a hospital's work are nobody else's business: only this machine may ask.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no address with a port"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{text:?} can be reached from other machines"))
    }
}

/// Reads `[alert]`.
pub fn alert(mut section: Section<'_>) -> AlertSettings {
    let default = AlertSettings::default();
    let command = section
        .texts("command")
        .map_or_else(Vec::new, |command| command.value);
    if let Some(program) = command
        .first()
        .filter(|program| !program.value.starts_with('/'))
    {
        let message = "command: it is run without a shell and without a search path: start with the program's absolute \
                       path, e.g. [\"/usr/local/sbin/tell-the-operators\"]";
        section.note(&program.place, message);
    }
    for word in command.iter().filter(|word| word.value.contains('\0')) {
        section.note(&word.place, "command: a word cannot hold a NUL");
    }
    let timeout = section.duration("timeout", SECOND..=Duration::from_hours(1));
    let every = section.duration("every", SECOND..=7 * DAY);
    let mut number = |key, high, default| {
        section
            .number(key, 0.0, high)
            .map_or(default, |it| it.value)
    };
    let review_rate = number("review-rate", 1.0, default.review_rate);
    let quarantine_rate = number("quarantine-rate", 1.0, default.quarantine_rate);
    let drift = number("drift", 100.0, default.drift);
    let waiting = section.duration("waiting", SECOND..=30 * DAY);
    let disk_below = section.parsed("disk-below", "a size such as \"5GiB\"", |text| {
        units::size(text).ok_or_else(|| format!("{text:?} is no size"))
    });
    finish(section);
    AlertSettings {
        command: command.into_iter().map(|word| word.value).collect(),
        timeout: timeout.map_or(default.timeout, |it| it.value),
        every: every.map_or(default.every, |it| it.value),
        review_rate,
        quarantine_rate,
        drift,
        waiting: waiting.map_or(default.waiting, |it| it.value),
        disk_below: disk_below.map_or(default.disk_below, |it| it.value),
    }
}
