//! The commands' side of the control socket: blocking, one request after the other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ControlError;
use super::protocol::{self, MAX_LINE, Reply, Request};

/// How long the daemon may say nothing at all. While it works it says `alive` every few seconds.
const SILENCE: Duration = Duration::from_mins(1);

/// A connection to the running daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` when no daemon runs.
    pub fn connect(path: &Path) -> Result<Option<Self>, ControlError> {
        let failed = |source: io::Error| ControlError::Io {
            path: path.to_owned(),
            source,
        };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ControlError::NoPermission(path.to_owned()));
            }
            Err(err) if err.kind() == io::ErrorKind::InvalidInput => {
                return Err(ControlError::PathTooLong(path.to_owned()));
            }
            Err(err) => return Err(failed(err)),
        };
        stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(SILENCE)).map_err(failed)?;
        Ok(Some(Self {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        }))
    }

    /// Asks. The replies come as the daemon gives them, up to its `done`; a refusal is the last one, as an error.
    pub fn request(&mut self, request: &Request) -> Result<Replies<'_>, ControlError> {
        let line =
            protocol::to_line(request).map_err(|err| ControlError::Garbled(err.to_string()))?;
        let path = self.path.clone();
        match self.stream.get_mut().write_all(&line) {
            // It may have said why it does not listen: that is found when reading.
            Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
                Err(ControlError::Io { path, source: err })
            }
            _ => Ok(Replies {
                client: self,
                ended: false,
            }),
        }
    }

    /// Asks what has exactly one reply, which `pick` recognises.
    pub fn ask<T>(
        &mut self,
        request: &Request,
        pick: impl Fn(Reply) -> Option<T>,
    ) -> Result<T, ControlError> {
        let mut answer = None;
        for reply in self.request(request)? {
            answer = pick(reply?).or(answer);
        }
        answer.ok_or_else(|| ControlError::Garbled("there was none".to_owned()))
    }

    fn reply(&mut self) -> Result<Reply, ControlError> {
        let mut line = Vec::new();
        let limit = MAX_LINE as u64;
        match Read::by_ref(&mut self.stream)
            .take(limit)
            .read_until(b'\n', &mut line)
        {
            Ok(_) if line.last() == Some(&b'\n') => {
                protocol::parse_reply(&line).map_err(ControlError::Garbled)
            }
            Ok(length) if length as u64 == limit => {
                Err(ControlError::Garbled("a line is too long".to_owned()))
            }
            Ok(_) => Err(ControlError::HungUp),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(ControlError::Silent(SILENCE.as_secs()))
            }
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => Err(ControlError::HungUp),
            Err(source) => Err(ControlError::Io {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

/// The replies to one request, without `alive` and `done`.
#[derive(Debug)]
pub struct Replies<'a> {
    client: &'a mut Client,
    ended: bool,
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.client.reply() {
                Ok(Reply::Alive {}) => {}
                Ok(Reply::Done {}) => self.ended = true,
                Ok(Reply::Error(refusal)) => {
                    self.ended = true;
                    return Some(Err(refusal.into()));
                }
                Ok(reply) => return Some(Ok(reply)),
                Err(err) => {
                    self.ended = true;
                    return Some(Err(err));
                }
            }
        }
        None
    }
}
