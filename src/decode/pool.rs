//! The jail's outside: zygotes to hand files to, limits, second tries, and what a child's end means for its file.
//!
//! A child that dies, stalls, overruns or lies costs its file one more try in a fresh child and then a [`Fault`]; it
//! never costs the service anything. A zygote that died is replaced. What a child answers is believed only as far as
//! [`protocol`](super::protocol) checks it.

mod zygote;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::confine::{Confinement, Limits};
use super::protocol::{Answer, Ask, MAX_PACKET, MAX_VALUES, Request, values};
use super::{Decoded, Fault, Inspection, RenderSpec, Resolution};
use crate::config::settings::DecoderSettings;
use crate::domain::Reason;
use crate::telemetry::Event;
use zygote::{Failure, Zygote};

/// How often a file is tried.
const TRIES: u32 = 2;

/// Why no decoder could be started.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The program cannot be started.
    #[error("the decode worker {} cannot be started: {source}", program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It was started, and said nothing.
    #[error("the decode worker {} was started and ended without a word ({source})", program.display())]
    Mute {
        /// What was started.
        program: PathBuf,
        /// What happened to its socket.
        source: io::Error,
    },
    /// It could not be locked in; radsort does not decode outside the jail.
    #[error(
        "the decode worker cannot be locked in, and radsort does not decode outside the jail: {0}"
    )]
    NotConfined(String),
}

/// Why a file was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It cannot be: quarantine it with this reason.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It cannot be read just now, or has changed: settle again.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// No decoder could be had; the file is not to blame.
    #[error("no decoder: {0}")]
    Unavailable(String),
}

/// Decoders to hand files to. Every method blocks: call them where blocking is allowed.
pub struct Pool {
    program: PathBuf,
    count: usize,
    limits: Limits,
    confinement: Confinement,
    zygotes: Mutex<Zygotes>,
    returned: Condvar,
    /// Zygotes that died or fell out of step.
    lost: AtomicU64,
}

/// The zygotes that wait for a file, and how many there are with those at work.
struct Zygotes {
    idle: Vec<Zygote>,
    all: usize,
}

impl Pool {
    /// Starts the first zygote, which shows that decoding will work; up to `settings.count` more come when needed.
    pub fn start(settings: &DecoderSettings) -> Result<Self, PoolError> {
        // Not by its path: after an upgrade that would be another version, which talks differently.
        Self::start_program(Path::new("/proc/self/exe"), settings)
    }

    /// The same with another program than the running one; it must be radsort of the same version (tests are not).
    pub fn start_program(program: &Path, settings: &DecoderSettings) -> Result<Self, PoolError> {
        let limits = Limits {
            memory: settings.memory,
            cpu_seconds: settings
                .cpu_time
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX)
                .max(1),
            wall_ms: settings
                .wall_time
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX)
                .max(1),
        };
        let (first, confinement) = Zygote::start(program)?;
        Ok(Self {
            program: program.to_owned(),
            count: settings.count.max(1),
            limits,
            confinement,
            zygotes: Mutex::new(Zygotes {
                idle: vec![first],
                all: 1,
            }),
            returned: Condvar::new(),
            lost: AtomicU64::new(0),
        })
    }

    /// How many decoders have died or fallen out of step, and were or will be replaced.
    pub fn restarts(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What the kernel lets the jail enforce.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// The header pass over a file of `size` bytes, open for reading only.
    pub fn inspect(&self, file: &File, size: u64) -> Result<Inspection, DecodeError> {
        match self.ask(file, size, Ask::Inspect)? {
            (Answer::Inspected(inspection), _) => Ok(inspection),
            _ => Err(Fault::new(Reason::DecoderLied, "the answer is to another question").into()),
        }
    }

    /// The header pass and one radiograph for each of `specs`, of a file of `size` bytes, open for reading only.
    pub fn decode(
        &self,
        file: &File,
        size: u64,
        specs: &[RenderSpec],
    ) -> Result<Decoded, DecodeError> {
        self.decode_at(file, size, specs, Resolution::AsNeeded)
    }

    /// The same from every pixel, also where the format has reduced resolutions.
    pub fn decode_in_full(
        &self,
        file: &File,
        size: u64,
        specs: &[RenderSpec],
    ) -> Result<Decoded, DecodeError> {
        self.decode_at(file, size, specs, Resolution::Full)
    }

    fn decode_at(
        &self,
        file: &File,
        size: u64,
        specs: &[RenderSpec],
        resolution: Resolution,
    ) -> Result<Decoded, DecodeError> {
        if specs.iter().map(values).fold(0, u64::saturating_add) > MAX_VALUES {
            let error = format!("more than {MAX_VALUES} grey values were asked for");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        }
        let (answer, took) = self.ask(file, size, Ask::Decode(specs.to_vec(), resolution))?;
        match answer {
            Answer::Decoded {
                inspection,
                radiographs,
                reduced,
                spent,
            } => Ok(Decoded {
                inspection,
                radiographs,
                reduced,
                took,
                spent: spent.within(took),
            }),
            _ => Err(Fault::new(Reason::DecoderLied, "the answer is to another question").into()),
        }
    }

    /// Asks one child after the other until one answers, or until that is no use.
    fn ask(&self, file: &File, size: u64, ask: Ask) -> Result<(Answer, Duration), DecodeError> {
        if !rustix::fs::fcntl_getfl(file)
            .map_err(io::Error::from)?
            .intersection(OFlags::RWMODE)
            .is_empty()
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file is not open for reading only",
            )
            .into());
        }
        let request = Request {
            ask,
            size,
            limits: self.limits,
        };
        let packet = serde_json::to_vec(&request).map_err(io::Error::from)?;
        if packet.len() > MAX_PACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "too many radiographs were asked for",
            )
            .into());
        }
        let mut failure = Failure::Zygote(String::new());
        for _ in 0..TRIES {
            let start = Instant::now();
            match self.try_once(file, &packet, &request) {
                Ok(Answer::Fault(fault)) => return Err(fault.into()),
                Ok(Answer::Unreadable(error)) => return Err(error.into()),
                Ok(answer) => return Ok((answer, start.elapsed())),
                Err(failed) => failure = failed,
            }
            match failure {
                Failure::Child { busy: true, .. } => break,
                // If it is the share that hangs, this hangs, too, and no second child need be kept waiting.
                Failure::Child { idle: true, .. } => self.blame_the_disk(file, size, true)?,
                _ => {}
            }
        }
        match failure {
            Failure::Zygote(reason) => Err(DecodeError::Unavailable(reason)),
            Failure::Child { fault, idle, .. } => {
                self.blame_the_disk(file, size, idle)?;
                Err(fault.into())
            }
        }
    }

    /// One child. A zygote that is not to be used again is dropped, which ends it and its child.
    fn try_once(&self, file: &File, packet: &[u8], request: &Request) -> Result<Answer, Failure> {
        let mut place = self.take_place();
        let mut zygote = match place.idle.take() {
            Some(zygote) => zygote,
            None => {
                Zygote::start(&self.program)
                    .map_err(|error| Failure::Zygote(error.to_string()))?
                    .0
            }
        };
        let answer = zygote.run(file, packet, request, &mut || place.lend());
        if zygote.in_step {
            place.idle = Some(zygote);
        } else {
            let restarts = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(event = %Event::DecoderRestarted, restarts, "a decoder died or fell out of step and is replaced");
        }
        answer
    }

    /// Waits until one of the `count` places is free.
    fn take_place(&self) -> Place<'_> {
        let mut zygotes = self.lock();
        loop {
            if let Some(zygote) = zygotes.idle.pop() {
                return Place {
                    pool: self,
                    idle: Some(zygote),
                    lent: false,
                };
            }
            if zygotes.all < self.count {
                zygotes.all += 1;
                return Place {
                    pool: self,
                    idle: None,
                    lent: false,
                };
            }
            zygotes = self
                .returned
                .wait(zygotes)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Zygotes> {
        // Nothing can panic while it is held, and both fields would still be right.
        self.zygotes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error if it was not the file's bytes that two children failed at: it has another size now, or a child that
    /// waited instead of computing was reading from a share that answers slowly or not at all.
    fn blame_the_disk(&self, file: &File, size: u64, idle: bool) -> io::Result<()> {
        if file.metadata()?.len() != size {
            return Err(io::Error::other(
                "the file has changed while it was decoded",
            ));
        }
        let patience = Duration::from_millis(self.limits.wall_ms / 4);
        let start = Instant::now();
        let mut buffer = vec![0; 1024 * 1024];
        let mut offset = 0;
        while idle && offset < size {
            match file.read_at(&mut buffer, offset)? {
                0 => {
                    return Err(io::Error::other(
                        "the file has become shorter while it was decoded",
                    ));
                }
                read => offset += read as u64,
            }
            if start.elapsed() > patience {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "reading the file takes too long",
                ));
            }
        }
        Ok(())
    }
}

/// One of the pool's `count` places, given back when dropped, with its zygote if that is still good.
struct Place<'a> {
    pool: &'a Pool,
    idle: Option<Zygote>,
    lent: bool,
}

impl Place<'_> {
    /// Lets another have it.
    fn lend(&mut self) {
        self.lent = true;
        self.pool.lock().all -= 1;
        self.pool.returned.notify_one();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut zygotes = self.pool.lock();
        if self.lent && zygotes.all < self.pool.count && self.idle.is_some() {
            self.lent = false;
            zygotes.all += 1;
        }
        if !self.lent {
            match self.idle.take() {
                Some(zygote) => zygotes.idle.push(zygote),
                None => zygotes.all -= 1,
            }
        }
        drop(zygotes);
        self.pool.returned.notify_one();
    }
}
