//! A program of somebody else's, run for a limited time and without a shell.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// As much of its output is kept as an error message needs; it must not fill a pipe.
const KEPT: u64 = 4096;
/// As much of its last line of errors is told.
const TOLD: usize = 200;

/// Why a run was of no use.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It did not end in time, and was killed with everything that it had started.
    #[error("{program} did not end within {} s and was killed{said}", limit.as_secs_f32())]
    TooLong {
        /// The program.
        program: String,
        /// How long it might run.
        limit: Duration,
        /// Its last words.
        said: LastWords,
    },
    /// It ended, but not well.
    #[error("{program} ended with {status}{said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        said: LastWords,
    },
}

/// The last line that a program wrote to stderr, if it wrote any.
#[derive(Debug)]
pub struct LastWords(Option<String>);

impl LastWords {
    /// Of what a file holds. What cannot be read is none.
    fn of(mut file: File) -> Self {
        let mut end = Vec::new();
        let read = file.seek(SeekFrom::End(0)).and_then(|length| {
            file.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
            file.take(KEPT).read_to_end(&mut end)
        });
        let text = String::from_utf8_lossy(&end);
        let mut lines = text.lines().map(str::trim).rev();
        let last = read.ok().and_then(|_| lines.find(|line| !line.is_empty()));
        Self(last.map(|line| line.chars().take(TOLD).collect()))
    }
}

impl fmt::Display for LastWords {
    /// In quotes, with control characters escaped: nobody has looked at it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(line) => write!(f, ", saying {line:?}"),
            None => Ok(()),
        }
    }
}

/// Runs it to its end; gives the beginning of what it printed. Blocks, at most for `limit`.
pub fn run(mut command: Command, limit: Duration) -> Result<String, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |source| RunError::Start {
        program: program.clone(),
        source,
    };
    let mut printed = tempfile::tempfile().map_err(start)?;
    let out = printed.try_clone().map_err(start)?;
    let errors = tempfile::tempfile().map_err(start)?;
    let err = errors.try_clone().map_err(start)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        // Killed with everything that it has started.
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let status = wait(child, limit).map_err(start)?;
    match status {
        None => Err(RunError::TooLong {
            program,
            limit,
            said: LastWords::of(errors),
        }),
        Some(status) if !status.success() => Err(RunError::Failed {
            program,
            status,
            said: LastWords::of(errors),
        }),
        Some(_) => {
            let mut text = Vec::new();
            printed.rewind().map_err(start)?;
            printed.take(KEPT).read_to_end(&mut text).map_err(start)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

/// Waits for the child; `None` when it had to be killed.
fn wait(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(&child);
    let (ended, has_ended) = mpsc::channel();
    // It stays a zombie until it is waited for below: its number cannot become another process's meanwhile.
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(
            waitid(WaitId::Pid(pid), options),
            Err(rustix::io::Errno::INTR)
        ) {}
        let _ = ended.send(());
    });
    if has_ended.recv_timeout(limit).is_ok() {
        return child.wait().map(Some);
    }
    let _ = kill_process_group(pid, Signal::KILL);
    child.wait().map(|_| None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_prints_is_given_and_how_it_fails_is_told() {
        let limit = Duration::from_mins(1);
        assert_eq!(run(sh("echo one; echo two >&2"), limit).unwrap(), "one\n");
        let failed = run(sh("exit 3"), limit).unwrap_err().to_string();
        assert!(
            failed.contains("/bin/sh ended with exit status: 3"),
            "{failed}"
        );
        let said = |script: &str| run(sh(script), limit).unwrap_err().to_string();
        let why = said("echo first >&2; printf 'no \\033[1mmail\\n\\n' >&2; exit 75");
        assert!(
            why.ends_with("ended with exit status: 75, saying \"no \\u{1b}[1mmail\""),
            "{why}"
        );
        let much = said("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1");
        assert!(much.len() < 300 && much.ends_with("xxx\""), "{much}");
        let missing = run(Command::new("/nowhere/x"), limit)
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("/nowhere/x cannot be started"),
            "{missing}"
        );
        let much = run(sh("head -c 1000000 /dev/zero"), limit).unwrap();
        assert_eq!(much.len() as u64, KEPT);
    }

    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        // The grandchild holds the fifo open for writing: reading ends when it has been killed.
        let script = format!("mkfifo {0}; sleep 1000 > {0}", fifo.display());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                while !fifo.exists() {
                    std::thread::yield_now();
                }
                std::fs::read(fifo).unwrap()
            }
        });
        let late = run(sh(&script), Duration::from_secs(1)).unwrap_err();
        assert!(matches!(late, RunError::TooLong { .. }), "{late}");
        assert!(reader.join().unwrap().is_empty());
    }
}
