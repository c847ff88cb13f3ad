//! A decode child that goes wrong on demand: for tests of the jail and of the daemon around it, never packaged.
//!
//! The file itself says how: a preamble (the first 128 bytes of a DICOM file, free for any use by PS3.10 §7.1) that
//! starts with `radsort-test:STAGE:BEHAVIOUR`, stage being `inspect` or `decode`, ended by a NUL or a space.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use super::Fault;
use super::protocol::{Ask, Said, write_answer};
use crate::domain::Reason;
use crate::sys::process;

/// Does what the file's preamble says; returns if that was nothing, or nothing that ends the process.
pub fn as_told_by(file: &File, ask: &Ask, reply: &File) -> Option<Fault> {
    let mut preamble = [0; 128];
    file.read_exact_at(&mut preamble, 0).ok()?;
    let text = std::str::from_utf8(preamble.split(|byte| matches!(byte, 0 | b' ')).next()?).ok()?;
    let (stage, behaviour) = text.strip_prefix("radsort-test:")?.split_once(':')?;
    let here = match ask {
        Ask::Inspect => "inspect",
        Ask::Decode(_) => "decode",
    };
    if stage != here {
        return None;
    }
    #[allow(clippy::panic, reason = "that is what is asked for")]
    match behaviour {
        "panic" => panic!("as the preamble says: secret"),
        "abort" => std::process::abort(),
        "segfault" => process::segfault(),
        "overflow" => {
            black_box(recurse(&[0; 64]));
        }
        "exit" => process::exit_now(3),
        "silence" => process::exit_now(0),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => loop {
            std::thread::park();
        },
        "deaf" => {
            let _ = process::ignore_signal(libc::SIGALRM);
            loop {
                std::thread::park();
            }
        }
        "eat-memory" => eat_memory(),
        "junk" => say(reply, &[0xff; 4096]),
        "endless" => loop {
            say(reply, &[0x20; 4096]);
        },
        "lie" => lie(reply, ask, &[f32::NAN], 0),
        "brighter-than-white" => lie(reply, ask, &[1.5], 0),
        "short" => lie(reply, ask, &[], 1),
        "long" => lie(reply, ask, &[0.0, 0.0], 0),
        "escape" => return Some(Fault::new(Reason::CannotDecode, escape())),
        // The standard three, the file, and where to answer.
        "count" => {
            return Some(Fault::new(
                Reason::CannotDecode,
                format!("{:?}", process::open_descriptors().len()),
            ));
        }
        _ => {}
    }
    None
}

fn say(reply: &File, bytes: &[u8]) {
    let mut reply = reply;
    if reply.write_all(bytes).is_err() {
        process::exit_now(4);
    }
}

/// An answer whose tensors are all but right: `last` replaces the last value, after leaving out `fewer` more.
fn lie(reply: &File, ask: &Ask, last: &[f32], fewer: usize) {
    let content = super::Content::Radiograph {
        header: crate::domain::Header::default(),
    };
    let inspection = super::Inspection {
        completeness: super::Completeness::Complete,
        content,
    };
    let (said, count) = match ask {
        Ask::Inspect => (Said::Decoded(inspection), 0),
        Ask::Decode(specs) => (
            Said::Decoded(inspection),
            specs.iter().map(super::protocol::values).sum::<u64>(),
        ),
    };
    let mut pixels = vec![0.5; (count as usize).saturating_sub(1 + fewer)];
    pixels.extend_from_slice(last);
    let radiograph = super::Radiograph {
        height: 0,
        width: 0,
        pixels,
    };
    let mut reply = reply;
    process::exit_now(i32::from(
        write_answer(&mut reply, &said, &[radiograph]).is_err(),
    ));
}

#[allow(unconditional_recursion, reason = "to overflow the stack")]
fn recurse(from: &[u8; 64]) -> u8 {
    let mut here = *from;
    here[0] = here[0].wrapping_add(1);
    recurse(black_box(&here)).wrapping_add(here[1])
}

fn eat_memory() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 16 * 1024 * 1024]));
    }
}

/// Tries to get out, and tells what worked: nothing if the jail holds.
fn escape() -> String {
    let mut worked = Vec::new();
    let mut tried = |what: &'static str, succeeded: bool| {
        if succeeded {
            worked.push(what);
        }
    };
    tried("open a file for reading", File::open("/etc/passwd").is_ok());
    tried(
        "open its own executable",
        File::open("/proc/self/exe").is_ok(),
    );
    tried("create a file", File::create("/tmp/radsort-escape").is_ok());
    tried(
        "remove a file",
        std::fs::remove_file("/tmp/radsort-escape-bait").is_ok(),
    );
    tried("see a file", std::fs::metadata("/etc/passwd").is_ok());
    tried("list a directory", std::fs::read_dir("/").is_ok());
    tried(
        "make a TCP socket",
        std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
    );
    tried(
        "make a UDP socket",
        std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
    );
    tried("make a socket pair", UnixStream::pair().is_ok());
    tried(
        "run a program",
        std::process::Command::new("/bin/true").spawn().is_ok(),
    );
    tried(
        "start a thread",
        std::thread::Builder::new().spawn(|| ()).is_ok(),
    );
    tried("make a pipe", rustix::pipe::pipe().is_ok());
    tried(
        "duplicate a descriptor",
        rustix::io::dup(std::io::stderr().as_fd()).is_ok(),
    );
    tried("raise its limits", {
        let more = rustix::process::Rlimit {
            current: Some(9),
            maximum: Some(9),
        };
        rustix::process::setrlimit(rustix::process::Resource::Cpu, more).is_ok()
    });
    tried(
        "signal another process",
        rustix::process::test_kill_process(rustix::process::Pid::INIT).is_ok(),
    );
    for (what, number) in FORBIDDEN {
        tried(what, !process::is_forbidden(*number));
    }
    format!("tried everything, and this worked: {}", worked.join(", "))
}

/// System calls that fail otherwise than with `EPERM` when all arguments are 0 and nobody forbids them.
pub const FORBIDDEN: &[(&str, libc::c_long)] = &[
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("socket", libc::SYS_socket),
    ("connect", libc::SYS_connect),
    ("sendmsg", libc::SYS_sendmsg),
    ("recvmsg", libc::SYS_recvmsg),
    ("unlinkat", libc::SYS_unlinkat),
    ("renameat2", libc::SYS_renameat2),
    ("statx", libc::SYS_statx),
    ("newfstatat", libc::SYS_newfstatat),
    ("kill", libc::SYS_kill),
    ("memfd_create", libc::SYS_memfd_create),
    ("clone3", libc::SYS_clone3),
    ("prctl", libc::SYS_prctl),
    ("mmap of a file or of code", libc::SYS_mmap),
];
