//! The jail's inside: the zygote, which forks one child a file, and what that child does.
//!
//! The zygote is this same binary, started afresh (so that it is small, has one thread and no secrets in its memory),
//! locked in before it takes the first request, and never touches a byte of a file. It serves one file at a time; when
//! its socket closes, it ends. A child that goes wrong takes nothing with it but itself.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketType,
};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use super::confine::{self, Confinement};
use super::protocol::{Ask, Farewell, Hello, MAX_PACKET, Request, Said, write_answer};
use super::{Content, Decoded, Fault, Radiograph};
use crate::domain::Reason;
use crate::sys::process::{self, Forked, SingleThreaded};

/// Exit code of a child that could not lock itself in or read its request: not the file's fault.
pub const NOT_CONFINED: i32 = 70;
/// Exit code of a child that could not send its answer, because its parent stopped listening.
pub const NOT_ANSWERED: i32 = 71;

/// What ends the zygote before it can serve.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A person typed the command.
    #[error(
        "decode-worker is started by radsort itself, with a socket as its standard input; there is nothing to do by hand"
    )]
    NotStartedByRadsort,
    /// The system refused something.
    #[error("the decode worker cannot start: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for WorkerError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The zygote's whole life. Must be the first thing that the program does: nothing may be open, no thread started.
pub fn serve() -> Result<(), WorkerError> {
    let stdin = rustix::stdio::stdin();
    if rustix::net::sockopt::socket_type(stdin) != Ok(SocketType::SEQPACKET) {
        return Err(WorkerError::NotStartedByRadsort);
    }
    process::close_inherited();
    let control = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
    // Ctrl-C and systemd's SIGTERM go to every process of the service; a file under way is still to be finished, and the
    // parent's end is seen on the socket. (PR_SET_PDEATHSIG would not do: it follows the parent's thread.)
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        process::ignore_signal(signal)?;
    }
    let alone = SingleThreaded::prove()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    match confine::zygote() {
        Ok(confinement) => {
            send(&control, &Hello::Ready(confinement))?;
            Ok(serve_requests(control, &alone, confinement)?)
        }
        Err(error) => Ok(send(&control, &Hello::Failed(error.to_string()))?),
    }
}

/// One request after the other, until the parent hangs up.
fn serve_requests(
    control: OwnedFd,
    alone: &SingleThreaded,
    confinement: Confinement,
) -> io::Result<()> {
    let zygote = rustix::process::getpid();
    while let Some(package) = receive(&control)? {
        let (last_words, stderr) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        match alone.fork()? {
            Forked::Child => {
                drop((control, last_words));
                process::exit_now(child(zygote, &package, stderr, confinement));
            }
            Forked::Parent(pid) => {
                drop((package, stderr));
                let ended = process::wait(pid)?;
                let farewell = Farewell {
                    code: ended.status.code(),
                    signal: ended.status.signal(),
                    cpu_ms: u64::try_from(ended.cpu.as_millis()).unwrap_or(u64::MAX),
                    out_of_memory: tell_of_memory(last_words),
                };
                send(&control, &farewell)?;
            }
        }
    }
    Ok(())
}

/// A request as it came over the socket; only a child looks into it.
struct Package {
    request: Vec<u8>,
    file: File,
    reply: File,
}

/// Waits for a request; `None` when the parent has hung up.
fn receive(control: &OwnedFd) -> io::Result<Option<Package>> {
    let mut request = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut packet = [IoSliceMut::new(&mut request)];
    let received = loop {
        match rustix::net::recvmsg(
            control,
            &mut packet,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    request.truncate(received.bytes);
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    match (descriptors.next(), descriptors.next()) {
        (Some(file), Some(reply)) => Ok(Some(Package {
            request,
            file: File::from(file),
            reply: File::from(reply),
        })),
        _ => Err(io::Error::other(
            "a request came without its two descriptors",
        )),
    }
}

/// Sends one packet.
fn send(control: &OwnedFd, message: &impl serde::Serialize) -> io::Result<()> {
    let packet = serde_json::to_vec(message)?;
    rustix::net::sendmsg(
        control,
        &[IoSlice::new(&packet)],
        &mut SendAncillaryBuffer::default(),
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Whether a dead child's last words are those of Rust's or C++'s allocator giving up. They are read for nothing else.
fn tell_of_memory(last_words: OwnedFd) -> bool {
    let mut words = Vec::new();
    // The pipe does not block: an error is its end.
    let _ = File::from(last_words)
        .take(64 * 1024)
        .read_to_end(&mut words);
    [b"memory allocation of".as_slice(), b"std::bad_alloc"]
        .iter()
        .any(|sign| words.windows(sign.len()).any(|window| window == *sign))
}

/// The child's whole life; returns its exit code.
fn child(zygote: Pid, package: &Package, stderr: OwnedFd, confinement: Confinement) -> i32 {
    let Package {
        request,
        file,
        reply,
    } = package;
    let Ok(Request { ask, size, limits }) = serde_json::from_slice(request) else {
        return NOT_CONFINED;
    };
    if rustix::stdio::dup2_stderr(&stderr).is_err() {
        return NOT_CONFINED;
    }
    drop(stderr);
    if confine::child(
        zygote,
        file.as_fd(),
        reply.as_fd(),
        limits,
        confinement.seccomp,
    )
    .is_err()
    {
        return NOT_CONFINED;
    }
    // From here on, untrusted bytes.
    let (said, radiographs) = without_panic(|| answer(file, size, &ask, reply))
        .unwrap_or_else(|fault| (Said::Fault(fault), vec![]));
    match write_answer(&mut &*reply, &said, &radiographs) {
        Ok(()) => 0,
        Err(_) => NOT_ANSWERED,
    }
}

/// Looks at the file as asked.
fn answer(file: &File, size: u64, ask: &Ask, reply: &File) -> (Said, Vec<Radiograph>) {
    #[cfg(feature = "failpoints")]
    if let Some(fault) = super::misbehave::as_told_by(file, ask, reply) {
        return (Said::Fault(fault), vec![]);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = reply;
    let (said, radiographs) = match ask {
        Ask::Inspect => (Said::Inspected(super::inspect(file, size)), vec![]),
        Ask::Decode(specs, resolution) => match super::decode_at(file, size, specs, *resolution) {
            Ok(Decoded {
                inspection,
                radiographs,
                reduced,
                spent,
                ..
            }) => {
                let said = Said::Decoded {
                    inspection,
                    reduced,
                    spent,
                };
                (said, radiographs)
            }
            Err(fault) => (Said::Fault(fault), vec![]),
        },
    };
    // A bad file, or a bad disk? Decoders do not tell the two apart.
    let bad = match &said {
        Said::Fault(_) => true,
        Said::Inspected(inspection) | Said::Decoded { inspection, .. } => {
            matches!(
                inspection.content,
                Content::Damaged { .. } | Content::NotDicom
            )
        }
        Said::Unreadable(_) => false,
    };
    match bad.then(|| read_through(file, size)) {
        Some(Err(error)) => (Said::Unreadable(error.raw_os_error()), vec![]),
        _ => (said, radiographs),
    }
}

/// Reads all bytes that the file should have (of a giant, the first part) to see whether that is possible.
fn read_through(file: &File, size: u64) -> io::Result<()> {
    const MOST: u64 = 256 * 1024 * 1024;
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < size.min(MOST) {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => offset += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs `work`; a panic becomes a fault that names the place in the code, and not the message, which may quote the file.
fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    let place = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&place);
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(location) = panic.location() {
            let file = location.file().rsplit('/').take(3).collect::<Vec<_>>();
            let file = file.into_iter().rev().collect::<Vec<_>>().join("/");
            *noted.lock().unwrap_or_else(PoisonError::into_inner) =
                format!("{file}:{}", location.line());
        }
    }));
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let place = place.lock().unwrap_or_else(PoisonError::into_inner);
        Fault::new(
            Reason::DecoderCrashed,
            format!("the decoder gave up in a state that it does not expect ({place})"),
        )
    })
}
