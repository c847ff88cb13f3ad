//! One zygote as its parent sees it: started, handed a file, listened to until a deadline, and what its child's end means.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use super::PoolError;
use crate::decode::Fault;
use crate::decode::confine::{Confinement, Limits};
use crate::decode::protocol::{Answer, Farewell, Flaw, Hello, MAX_PACKET, Request, read_answer};
use crate::decode::worker::NOT_CONFINED;
use crate::domain::Reason;

/// How long a zygote may take to start.
const START: Duration = Duration::from_secs(20);
/// How much longer than its child's wall-clock limit (at most a quarter of that) a zygote may take to say how it ended.
const GRACE: Duration = Duration::from_secs(5);
/// After how long without an answer a child's place is lent to another: it may be waiting for a share that hangs, which
/// must not keep other shares' files waiting. How many wait at most is for their callers to bound.
const LEND_AFTER: Duration = Duration::from_secs(5);
/// A socket's timeout of zero would be none.
const SHORTEST: Duration = Duration::from_millis(1);

/// What became of one try.
pub(super) enum Failure {
    /// The child went wrong. `idle`: it hardly used the CPU while its time ran out, so that reading may be what is slow.
    /// `busy`: it used up its CPU time, as the next one would.
    Child {
        fault: Fault,
        idle: bool,
        busy: bool,
    },
    /// The zygote is gone or out of step, or could not confine a child.
    Zygote(String),
}

/// A zygote, from outside.
pub(super) struct Zygote {
    process: std::process::Child,
    control: OwnedFd,
    /// It has said how the last child ended, and waits for a request.
    pub(super) in_step: bool,
}

impl Zygote {
    /// Starts one and waits until it is locked in.
    pub(super) fn start(program: &Path) -> Result<(Self, Confinement), PoolError> {
        let start = |source: io::Error| PoolError::Start {
            program: program.to_owned(),
            source,
        };
        let (control, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| start(errno.into()))?;
        let process = Command::new(program)
            .arg0("radsort")
            .arg("decode-worker")
            .env_clear()
            // Pictures are large, and a forked child has to fault in every page that it touches: in pages of 2 MiB that
            // is several times faster. glibc asks for them (madvise), where the kernel gives them only to who asks.
            .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(start)?;
        let zygote = Self {
            process,
            control,
            in_step: true,
        };
        let mute = |source: io::Error| PoolError::Mute {
            program: program.to_owned(),
            source,
        };
        match zygote.receive(Instant::now() + START).map_err(mute)? {
            Hello::Ready(confinement) => Ok((zygote, confinement)),
            Hello::Failed(reason) => Err(PoolError::NotConfined(reason)),
        }
    }

    /// Hands a file to a child, and listens until both have said what they have to say or time is up.
    /// `waits` is called once if that takes long.
    pub(super) fn run(
        &mut self,
        file: &File,
        packet: &[u8],
        request: &Request,
        waits: &mut dyn FnMut(),
    ) -> Result<Answer, Failure> {
        self.in_step = false;
        let limits = &request.limits;
        let wall = Duration::from_millis(limits.wall_ms);
        let deadline = Instant::now() + wall + GRACE.min(wall / 4);
        let broken = |error: io::Error| {
            Failure::Zygote(format!("the decode worker does not answer ({error})"))
        };

        let (listen, reply) = UnixStream::pair().map_err(broken)?;
        self.send(packet, file, &reply).map_err(broken)?;
        drop(reply);
        let answer = read_answer(
            &mut Listener {
                stream: &listen,
                deadline,
                waits: Some((Instant::now() + LEND_AFTER, waits)),
            },
            &request.ask,
        );
        // A child that has more to say than it should finds nobody listening.
        drop(listen);
        let farewell = match self.receive::<Farewell>(deadline) {
            Ok(farewell) => farewell,
            Err(error) if is_timeout(&error) => {
                return Err(Failure::Child {
                    fault: too_long(limits),
                    idle: true,
                    busy: false,
                });
            }
            Err(error) => return Err(broken(error)),
        };
        self.in_step = true;
        judge(answer, farewell, limits)
    }

    /// Sends a request with its two descriptors.
    fn send(&self, packet: &[u8], file: &File, reply: &UnixStream) -> io::Result<()> {
        let descriptors = [file.as_fd(), reply.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("two descriptors do not fit into a packet"));
        }
        rustix::net::sendmsg(
            &self.control,
            &[IoSlice::new(packet)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Waits for a packet; `UnexpectedEof` if the zygote has ended, a timeout if it is late.
    fn receive<T: serde::de::DeserializeOwned>(&self, deadline: Instant) -> io::Result<T> {
        let mut packet = vec![0; MAX_PACKET];
        let received = loop {
            set_socket_timeout(&self.control, Timeout::Recv, Some(remaining(deadline)?))?;
            let mut parts = [IoSliceMut::new(&mut packet)];
            match rustix::net::recvmsg(
                &self.control,
                &mut parts,
                &mut RecvAncillaryBuffer::default(),
                RecvFlags::empty(),
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?.bytes,
            }
        };
        match packet.get(..received) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(packet) => Ok(serde_json::from_slice(packet)?),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // Its child, if it still has one, dies with it. An error means that it is already gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The reply socket, read until a deadline.
struct Listener<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
    /// What is called once if nothing has come by then.
    waits: Option<(Instant, &'a mut dyn FnMut())>,
}

impl Read for Listener<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((patience, waits)) = self.waits.take() {
            let first = remaining(patience.min(self.deadline)).unwrap_or(SHORTEST);
            self.stream.set_read_timeout(Some(first))?;
            match self.stream.read(buffer) {
                Err(error) if is_timeout(&error) => waits(),
                other => {
                    self.waits = Some((patience, waits));
                    return other;
                }
            }
        }
        self.stream
            .set_read_timeout(Some(remaining(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

/// The time that is left, at least a millisecond; an error when there is none.
fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left.max(SHORTEST)),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// What an answer and the end of the child that gave it say together.
fn judge(
    answer: Result<Answer, Flaw>,
    farewell: Farewell,
    limits: &Limits,
) -> Result<Answer, Failure> {
    let fault = |reason, detail: String| Failure::Child {
        fault: Fault::new(reason, detail),
        idle: false,
        busy: false,
    };
    let used_up = || Failure::Child {
        fault: Fault::new(
            Reason::DecoderTimeout,
            format!("more than {} s of CPU time were needed", limits.cpu_seconds),
        ),
        idle: false,
        busy: true,
    };
    match answer {
        Err(Flaw::Lie(lie)) => return Err(fault(Reason::DecoderLied, lie.into())),
        Err(Flaw::Io(error)) => {
            return Err(Failure::Zygote(format!(
                "the answer cannot be read: {error}"
            )));
        }
        Ok(answer) if farewell.code == Some(0) => return Ok(answer),
        Ok(_) | Err(Flaw::Short | Flaw::Late) => {}
    }
    let cpu_used_up = farewell.cpu_ms >= limits.cpu_seconds.saturating_mul(1000);
    let memory = limits.memory / (1024 * 1024);
    Err(match (farewell.code, farewell.signal) {
        (Some(NOT_CONFINED), _) => Failure::Zygote("a decode child could not be locked in".into()),
        _ if farewell.out_of_memory => fault(
            Reason::DecoderMemory,
            format!("more than {memory} MiB were needed"),
        ),
        (_, Some(libc::SIGXCPU)) => used_up(),
        (_, Some(libc::SIGKILL)) if cpu_used_up => used_up(),
        (_, Some(libc::SIGKILL)) => fault(
            Reason::DecoderMemory,
            "the decoder was killed, most likely because the machine ran out of memory".into(),
        ),
        (_, Some(libc::SIGALRM)) => Failure::Child {
            fault: too_long(limits),
            idle: farewell.cpu_ms < limits.wall_ms / 10,
            busy: false,
        },
        (_, Some(signal)) => fault(
            Reason::DecoderCrashed,
            format!("the decoder died of {}", signal_name(signal)),
        ),
        (Some(0), None) => fault(Reason::DecoderLied, "the answer ends too early".into()),
        (code, None) => fault(
            Reason::DecoderCrashed,
            format!("the decoder ended with exit code {}", code.unwrap_or(-1)),
        ),
    })
}

fn too_long(limits: &Limits) -> Fault {
    let time = Duration::from_millis(limits.wall_ms);
    Fault::new(
        Reason::DecoderTimeout,
        format!("there was no answer within {time:?}"),
    )
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGSEGV => "SIGSEGV (it touched memory that is not its own)".into(),
        libc::SIGABRT => "SIGABRT (it gave up)".into(),
        libc::SIGBUS => "SIGBUS".into(),
        libc::SIGILL => "SIGILL".into(),
        libc::SIGFPE => "SIGFPE".into(),
        libc::SIGTRAP => "SIGTRAP".into(),
        other => format!("signal {other}"),
    }
}
