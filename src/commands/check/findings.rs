//! Findings: what is printed, and what rules say before that.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::commands::EXIT_BROKEN_PIPE;

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Ok,
    Warning,
    Error,
}

/// One thing that was found out.
#[derive(Serialize)]
pub(super) struct Finding<'a> {
    level: Level,
    what: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
}

/// What a rule says of facts, before it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub level: Level,
    pub what: String,
    pub message: String,
    /// What to do; empty when nothing is.
    pub advice: String,
}

impl Verdict {
    /// All is well.
    pub fn ok(what: &str, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, what, message, "")
    }

    /// Something that should be looked at.
    pub fn warning(what: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Warning, what, message, advice)
    }

    /// Something that keeps the service from working.
    pub fn error(what: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Error, what, message, advice)
    }

    /// The same with a level that depends.
    pub fn new(
        level: Level,
        what: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            level,
            what: what.to_owned(),
            message: message.into(),
            advice: advice.into(),
        }
    }
}

/// Prints findings as they come, so that a crash on the way leaves those before it.
pub(super) struct Findings {
    json: bool,
    colour: bool,
    counts: [usize; 3],
    failed: io::Result<()>,
}

impl Findings {
    pub fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self {
            json,
            colour,
            counts: [0; 3],
            failed: Ok(()),
        }
    }

    pub fn ok(&mut self, what: &str, message: impl fmt::Display) {
        self.add(Level::Ok, what, &message.to_string(), None);
    }

    pub fn warning(&mut self, what: &str, message: impl fmt::Display, advice: &str) {
        self.add(Level::Warning, what, &message.to_string(), Some(advice));
    }

    pub fn error(&mut self, what: &str, message: impl fmt::Display, advice: &str) {
        self.add(Level::Error, what, &message.to_string(), Some(advice));
    }

    /// Prints what rules say.
    pub fn tell(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        for it in verdicts {
            let advice = Some(it.advice.as_str()).filter(|advice| !advice.is_empty());
            self.add(it.level, &it.what, &it.message, advice);
        }
    }

    fn add(&mut self, level: Level, what: &str, message: &str, advice: Option<&str>) {
        self.counts[level as usize] += 1;
        if self.failed.is_ok() {
            self.failed = self.print(&Finding {
                level,
                what,
                message,
                advice,
            });
        }
    }

    fn print(&self, finding: &Finding<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, finding)?;
            return writeln!(out);
        }
        let (word, colour) = match finding.level {
            Level::Ok => ("ok", "32"),
            Level::Warning => ("warning", "33"),
            Level::Error => ("ERROR", "1;31"),
        };
        let (on, off) = if self.colour {
            (format!("\x1b[{colour}m"), "\x1b[0m")
        } else {
            (String::new(), "")
        };
        let indent = format!("\n{:25}", "");
        write!(
            out,
            "{on}{word:8}{off} {:16}{}",
            finding.what,
            finding.message.replace('\n', &indent)
        )?;
        if let Some(advice) = finding.advice.filter(|advice| !advice.is_empty()) {
            write!(out, "{indent}{}", advice.replace('\n', &indent))?;
        }
        writeln!(out)
    }

    pub fn end(self) -> anyhow::Result<ExitCode> {
        match self.failed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::from(EXIT_BROKEN_PIPE));
            }
            other => other?,
        }
        let [ok, warnings, errors] = self.counts;
        if !self.json {
            let plural = |n: usize| if n == 1 { "" } else { "s" };
            println!(
                "\n{ok} ok, {warnings} warning{}, {errors} error{}",
                plural(warnings),
                plural(errors)
            );
        }
        Ok(if errors == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
