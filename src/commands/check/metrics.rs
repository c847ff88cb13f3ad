//! Figures for monitoring: whether the file for node_exporter can be written.

use std::io;
use std::path::Path;

use super::findings::{Findings, Verdict};
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
