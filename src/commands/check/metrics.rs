//! Figures for monitoring: whether the file for node_exporter can be written, and whether the unit lets a port be opened.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::findings::{Findings, Verdict};
use super::service::DropIn;
use crate::config::Settings;
use crate::config::settings::TextFile;
use crate::metrics::textfile::{self, NODE_EXPORTER};

const WHAT: &str = "metrics file";

pub(super) fn check_textfile(settings: &Settings, findings: &mut Findings) {
    let wanted = &settings.metrics.textfile;
    let tried = textfile::directory(wanted).map(|directory| {
        let file = textfile::path(directory, &settings.source);
        (file, textfile::may_write(directory))
    });
    let tried = tried.as_ref().map(|(file, may)| (file.as_path(), may));
    findings.tell([judge(wanted, tried)]);
}

/// A port for HTTP: the packaged unit has no network, and another program may have it. `running`: this service may have it.
pub(super) fn check_listen(
    settings: &Settings,
    running: bool,
    unit: Option<&DropIn>,
    findings: &mut Findings,
) {
    if let Some(address) = settings.metrics.listen
        && !running
        && let Err(error) = TcpListener::bind(address)
    {
        findings.warning(
            "metrics port",
            format!("[metrics] listen = \"{address}\": {error}"),
            "Nobody would get figures there: choose a port that no other program has (`ss -ltnp` lists those in use).",
        );
    }
    if let (Some(address), Some(unit)) = (settings.metrics.listen, unit) {
        let service = unit.service();
        let shown = Command::new("systemctl")
            .args(["show", "--property=PrivateNetwork", service])
            .output();
        let text = shown.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        findings.tell(judge_listen(address, service, &text.unwrap_or_default()));
    }
}

fn judge_listen(address: SocketAddr, service: &str, shown: &str) -> Option<Verdict> {
    (shown.trim() == "PrivateNetwork=yes").then(|| {
        Verdict::warning(
            "metrics port",
            format!("[metrics] listen = \"{address}\", but {service} has no network: nobody can get there"),
            format!(
                "install -D -m 644 /usr/share/radsort/systemd/metrics-port.conf \
                 /etc/systemd/system/{service}.d/30-metrics-port.conf && systemctl daemon-reload && systemctl restart {service}"
            ),
        )
    })
}

fn judge(wanted: &TextFile, tried: Option<(&Path, &io::Result<()>)>) -> Verdict {
    let Some((file, may)) = tried else {
        return Verdict::ok(
            WHAT,
            match wanted {
                TextFile::Off => "none: [metrics] textfile = \"off\"".to_owned(),
                _ => format!("none: {NODE_EXPORTER} is not there"),
            },
        );
    };
    let Err(error) = may else {
        return Verdict::ok(WHAT, file.display().to_string());
    };
    let directory = file.parent().unwrap_or(Path::new("/")).display();
    let unless = match wanted {
        TextFile::Auto => " Or, where nobody wants them there: [metrics] textfile = \"off\".",
        _ => "",
    };
    Verdict::warning(
        WHAT,
        format!("{directory}: {error}: node_exporter gets no figures"),
        format!(
            "`radsort setup` grants it in the unit and prints the command that lets radsort's user write there; then \
             restart the service.{unless}"
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::findings::Level;
    use super::*;

    #[test]
    fn a_port_of_a_unit_without_network_is_a_warning() {
        let judged = |shown| {
            judge_listen(
                "127.0.0.1:9464".parse().unwrap(),
                "radsort@x.service",
                shown,
            )
        };
        let said = judged("PrivateNetwork=yes\n").unwrap();
        assert!(said.advice.contains("/radsort@x.service.d/30-"), "{said:?}");
        assert_eq!(judged("PrivateNetwork=no\n"), None);
        assert_eq!(judged(""), None, "it could not be asked");
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_told_with_what_to_do() {
        let file = Path::new("/p/radsort.prom");
        let denied = Err(io::Error::from(io::ErrorKind::PermissionDenied));
        for wanted in [TextFile::Auto, TextFile::In("/p".into())] {
            let said = judge(&wanted, Some((file, &denied)));
            assert_eq!(said.level, Level::Warning);
            assert!(
                said.message.starts_with("/p: permission denied"),
                "{said:?}"
            );
            assert!(said.advice.contains("radsort setup"), "{said:?}");
            let may_be_left_out = said.advice.contains("\"off\"");
            assert_eq!(may_be_left_out, wanted == TextFile::Auto);
            let fine = judge(&wanted, Some((file, &Ok(()))));
            assert_eq!(
                (fine.level, fine.message.as_str()),
                (Level::Ok, "/p/radsort.prom")
            );
        }
        for wanted in [TextFile::Auto, TextFile::Off] {
            let none = judge(&wanted, None);
            assert!(
                none.level == Level::Ok && none.message.starts_with("none: "),
                "{none:?}"
            );
        }
    }
}
