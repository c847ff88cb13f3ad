//! What a decoder that was taken over would try, one attempt each. For the tests of the jail, never packaged.
//!
//! The same attempts are made in an ordinary process, where they must succeed: else a failure inside would show nothing.

#![allow(
    clippy::cast_lossless,
    clippy::unnecessary_cast,
    reason = "one macro widens arguments of every type"
)]

use std::ffi::{CString, c_void};
use std::io::Write;
use std::ptr::{null, null_mut};

use libc::{c_int, c_long};

use super::process;

/// What a decode child holds, and whom it would harm.
#[derive(Clone, Copy)]
pub struct Held {
    /// The file that it is to read.
    pub file: c_int,
    /// The socket that it answers on.
    pub reply: c_int,
    /// Another process: from inside the one that started it.
    pub victim: i32,
}

/// One way out.
pub struct Attempt {
    /// What the tests call it.
    pub name: &'static str,
    /// Whether it succeeds in any ordinary process; else that takes privileges or a kernel that has it.
    pub ordinary: bool,
    /// Whether it succeeded.
    pub run: fn(Held) -> bool,
}

/// `name: ordinary? => attempt`.
macro_rules! attempts {
    ($($name:literal $kind:ident => $run:expr,)*) => {
        /// All of them.
        pub const ATTEMPTS: &[Attempt] = &[$(Attempt { name: $name, ordinary: attempts!($kind), run: $run },)*];
    };
    (anyone) => { true };
    (somebody) => { false };
}

/// A system call. Every argument is widened: the kernel looks at whole registers.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        // SAFETY: every pointer given here is to a live buffer of the stated length or to a C string, or null where
        // the kernel allows it or answers with an error.
        unsafe { libc::syscall($number $(, $argument as c_long)*) }
    };
}

const NO_FLAGS: c_int = 0;

fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn open(path: &str, flags: c_int) -> bool {
    call!(
        libc::SYS_openat,
        libc::AT_FDCWD,
        text(path).as_ptr(),
        flags,
        0o600
    ) >= 0
}

/// A name of its own for whatever is made on the way out.
fn bait(what: &str) -> CString {
    // SAFETY: takes nothing and cannot fail.
    text(&format!("/tmp/radsort-escape-{}-{what}", unsafe {
        libc::getpid()
    }))
}

fn unlink(path: &CString, flags: c_int) {
    call!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), flags);
}

fn socket(family: c_int, kind: c_int) -> c_int {
    call!(libc::SYS_socket, family, kind, 0) as c_int
}

fn map(length: usize, protection: c_int, flags: c_int, file: c_int) -> c_long {
    call!(
        libc::SYS_mmap,
        null_mut::<c_void>(),
        length,
        protection,
        flags,
        file,
        0
    )
}

/// More than any limit of these tests, and nothing that a machine must have.
const BEYOND: usize = 64 << 30;
const RESERVE_NOTHING: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
const RW: c_int = libc::PROT_READ | libc::PROT_WRITE;
const RX: c_int = libc::PROT_READ | libc::PROT_EXEC;

attempts! {
    // Files.
    "open-absolute" anyone => |_| open("/etc/passwd", libc::O_RDONLY),
    "open-directory" anyone => |_| open("/", libc::O_RDONLY | libc::O_DIRECTORY),
    "open-by-older-call" anyone => |_| open_by_older_call(),
    "open-by-newer-call" anyone => |_| {
        let how = [u64::from(libc::O_RDONLY.cast_unsigned()), 0, 0];
        call!(libc::SYS_openat2, libc::AT_FDCWD, text("/etc/passwd").as_ptr(), how.as_ptr(), size_of_val(&how)) >= 0
    },
    "open-own-file-again" anyone => |held| open(&format!("/proc/self/fd/{}", held.file), libc::O_RDONLY),
    "open-own-file-for-writing" anyone => |held| open(&format!("/proc/self/fd/{}", held.file), libc::O_RDWR),
    "open-own-executable" anyone => |_| open("/proc/self/exe", libc::O_RDONLY),
    "open-another-process" anyone => |held| open(&format!("/proc/{}/stat", held.victim), libc::O_RDONLY),
    "name-a-handle" somebody => |_| {
        let mut handle = [0_u32; 40];
        handle[0] = 128;
        let mut mount = 0;
        call!(libc::SYS_name_to_handle_at, libc::AT_FDCWD, text("/etc/passwd").as_ptr(), handle.as_mut_ptr(), &raw mut mount, NO_FLAGS) >= 0
    },
    "create-file" anyone => |_| {
        let path = bait("file");
        let made = call!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o600) >= 0;
        unlink(&path, 0);
        made
    },
    "create-unnamed-file" somebody => |_| open("/tmp", libc::O_TMPFILE | libc::O_RDWR),
    "create-memory-file" anyone => |_| call!(libc::SYS_memfd_create, text("x").as_ptr(), NO_FLAGS) >= 0,
    "make-directory" anyone => |_| {
        let path = bait("directory");
        let made = call!(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), 0o700) >= 0;
        unlink(&path, libc::AT_REMOVEDIR);
        made
    },
    "make-symlink" anyone => |_| {
        let path = bait("link");
        let made = call!(libc::SYS_symlinkat, text("/etc").as_ptr(), libc::AT_FDCWD, path.as_ptr()) >= 0;
        unlink(&path, 0);
        made
    },
    "see-file" anyone => |_| {
        let mut stat = [0_u64; 64];
        call!(libc::SYS_newfstatat, libc::AT_FDCWD, text("/etc/passwd").as_ptr(), stat.as_mut_ptr(), NO_FLAGS) >= 0
    },
    "change-directory" anyone => |_| call!(libc::SYS_chdir, text("/tmp").as_ptr()) >= 0,
    "change-mode-of-own-file" anyone => |held| call!(libc::SYS_fchmod, held.file, 0o600) >= 0,
    "lock-own-file" anyone => |held| call!(libc::SYS_flock, held.file, libc::LOCK_SH | libc::LOCK_NB) >= 0,
    "control-own-file" anyone => |held| {
        let mut waiting: c_int = 0;
        call!(libc::SYS_ioctl, held.file, libc::FIONREAD, &raw mut waiting) >= 0
    },
    "change-flags-of-own-file" anyone => |held| call!(libc::SYS_fcntl, held.file, libc::F_SETFL, libc::O_NONBLOCK) >= 0,
    "duplicate-own-file" anyone => |held| call!(libc::SYS_dup, held.file) >= 0,
    "read-standard-input" anyone => |_| {
        let mut byte = 0_u8;
        call!(libc::SYS_read, 0, &raw mut byte, 1) >= 0
    },
    "write-standard-output" anyone => |_| call!(libc::SYS_write, 1, null::<u8>(), 0) >= 0,
    // Sockets.
    "socket-unix" anyone => |_| socket(libc::AF_UNIX, libc::SOCK_STREAM) >= 0,
    "socket-inet" anyone => |_| socket(libc::AF_INET, libc::SOCK_STREAM) >= 0,
    "socket-inet6" somebody => |_| socket(libc::AF_INET6, libc::SOCK_DGRAM) >= 0,
    "socket-netlink" anyone => |_| socket(libc::AF_NETLINK, libc::SOCK_RAW) >= 0,
    "socket-packet" somebody => |_| socket(libc::AF_PACKET, libc::SOCK_RAW) >= 0,
    "socket-vsock" somebody => |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM) >= 0,
    "socket-crypto" somebody => |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET) >= 0,
    "socket-any-family" anyone => |_| (0..64).any(|family| {
        [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET]
            .iter().any(|kind| socket(family, *kind) >= 0)
    }),
    "socket-pair" anyone => |_| {
        let mut pair = [0_i32; 2];
        call!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) >= 0
    },
    "bind" anyone => |_| {
        let address = inet(0);
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM);
        call!(libc::SYS_bind, socket, &raw const address, size_of_val(&address)) >= 0
    },
    "connect" anyone => |_| {
        let address = inet(9);
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM);
        call!(libc::SYS_connect, socket, &raw const address, size_of_val(&address)) >= 0
    },
    "send-a-descriptor" anyone => |held| send_a_descriptor(held),
    "send-own-file" anyone => |held| call!(libc::SYS_sendfile, held.reply, held.file, null::<i64>(), 1) >= 0,
    "change-own-socket" anyone => |held| {
        let one: c_int = 1;
        call!(libc::SYS_setsockopt, held.reply, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &raw const one, 4) >= 0
    },
    // Programs and processes.
    "exec" anyone => |_| {
        // Where it works, the new program ends as an attempt that worked does.
        let words = [text("sh"), text("-c"), text(&format!("exit {GOT_OUT}"))];
        let words = [words[0].as_ptr(), words[1].as_ptr(), words[2].as_ptr(), null()];
        call!(libc::SYS_execve, text("/bin/sh").as_ptr(), words.as_ptr(), [null::<u8>()].as_ptr());
        false
    },
    "exec-own-file" somebody => |held| {
        call!(libc::SYS_execveat, held.file, text("").as_ptr(), null::<*const u8>(), null::<*const u8>(), libc::AT_EMPTY_PATH) >= 0
    },
    "fork" anyone => |_| forked(call!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)),
    "fork-by-newer-call" anyone => |_| {
        let arguments = [0, 0, 0, 0, u64::from(libc::SIGCHLD.cast_unsigned()), 0, 0, 0];
        forked(call!(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)))
    },
    "start-a-thread" anyone => |_| std::thread::Builder::new().spawn(|| ()).is_ok(),
    "leave-namespace" anyone => |_| call!(libc::SYS_unshare, libc::CLONE_FILES) >= 0,
    "new-user-namespace" somebody => |_| call!(libc::SYS_unshare, libc::CLONE_NEWUSER) >= 0,
    "signal" anyone => |held| call!(libc::SYS_kill, held.victim, 0) >= 0,
    "kill" anyone => |held| call!(libc::SYS_kill, held.victim, libc::SIGKILL) >= 0,
    "kill-its-thread" anyone => |held| call!(libc::SYS_tgkill, held.victim, held.victim, libc::SIGKILL) >= 0,
    "signal-everybody" anyone => |_| call!(libc::SYS_kill, -1, 0) >= 0,
    "trace" somebody => |held| call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, held.victim, 0, 0) >= 0,
    "read-memory" anyone => |_| {
        let (from, mut to) = (7_u8, 0_u8);
        let local = libc::iovec { iov_base: (&raw mut to).cast(), iov_len: 1 };
        let remote = libc::iovec { iov_base: (&raw const from).cast_mut().cast(), iov_len: 1 };
        // SAFETY: takes nothing and cannot fail.
        let me = unsafe { libc::getpid() };
        call!(libc::SYS_process_vm_readv, me, &raw const local, 1, &raw const remote, 1, 0) == 1
    },
    "hold-another-process" anyone => |held| call!(libc::SYS_pidfd_open, held.victim, 0) >= 0,
    "slow-another-process" anyone => |held| call!(libc::SYS_setpriority, libc::PRIO_PROCESS, held.victim, 19) >= 0,
    "see-parent" anyone => |_| call!(libc::SYS_getppid) >= 0,
    "see-another-process" anyone => |held| {
        let mut mask = [0_u64; 128];
        call!(libc::SYS_sched_getaffinity, held.victim, size_of_val(&mask), mask.as_mut_ptr()) >= 0
    },
    "see-another-process-work" anyone => |held| {
        // The clock of its CPU time, as clock_getcpuclockid(3) makes it.
        let mut time = [0_i64; 2];
        call!(libc::SYS_clock_gettime, (!held.victim << 3) | 2, time.as_mut_ptr()) >= 0
    },
    "see-another-process-limits" anyone => |held| {
        let mut limits = [0_u64; 2];
        call!(libc::SYS_prlimit64, held.victim, libc::RLIMIT_NOFILE, null::<u64>(), limits.as_mut_ptr()) >= 0
    },
    // Memory, time and the walls themselves.
    "map-code" anyone => |_| map(4096, RX, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1) > 0,
    "turn-memory-into-code" anyone => |_| {
        let page = map(4096, RW, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
        page > 0 && call!(libc::SYS_mprotect, page, 4096, RX) >= 0
    },
    "map-own-file" anyone => |held| map(4096, libc::PROT_READ, libc::MAP_PRIVATE, held.file) > 0,
    "map-beyond-limit" anyone => |_| map(BEYOND, libc::PROT_NONE, RESERVE_NOTHING, -1) > 0,
    "grow-beyond-limit" anyone => |_| {
        let page = map(4096, libc::PROT_NONE, RESERVE_NOTHING, -1);
        page > 0 && call!(libc::SYS_mremap, page, 4096, BEYOND, libc::MREMAP_MAYMOVE) > 0
    },
    "share-memory" somebody => |_| {
        let id = call!(libc::SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600);
        call!(libc::SYS_shmctl, id, libc::IPC_RMID, 0);
        id >= 0
    },
    "raise-limit" anyone => |_| {
        let limits = [100_u64, u64::MAX];
        call!(libc::SYS_prlimit64, 0, libc::RLIMIT_CPU, limits.as_ptr(), null::<u64>()) >= 0
    },
    "stop-the-alarm" anyone => |_| {
        let never = [0_i64; 4];
        call!(libc::SYS_setitimer, libc::ITIMER_REAL, never.as_ptr(), null::<i64>()) >= 0
    },
    "outlive-the-zygote" anyone => |_| call!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) >= 0,
    "become-dumpable" anyone => |_| call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0) >= 0,
    "kernel-ring" somebody => |_| {
        let mut parameters = [0_u32; 30];
        call!(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) >= 0
    },
    "calls-of-another-abi" somebody => |_| call!(0x4000_0000 | libc::SYS_getpid) >= 0,
}

/// How a process ends in which an attempt worked.
pub const GOT_OUT: i32 = 42;

#[cfg(target_arch = "x86_64")]
fn open_by_older_call() -> bool {
    call!(libc::SYS_open, text("/etc/passwd").as_ptr(), libc::O_RDONLY) >= 0
}

#[cfg(not(target_arch = "x86_64"))]
fn open_by_older_call() -> bool {
    open("/etc/passwd", libc::O_RDONLY)
}

/// 127.0.0.1 and a port, as a `sockaddr_in`.
fn inet(port: u16) -> [u8; 16] {
    let (family, port) = ((libc::AF_INET as u16).to_ne_bytes(), port.to_be_bytes());
    [
        family[0], family[1], port[0], port[1], 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
}

/// In a child that should not be, ends it; in its parent, tells whether there is one.
fn forked(result: c_long) -> bool {
    if result == 0 {
        process::exit_now(0);
    }
    result > 0
}

fn send_a_descriptor(held: Held) -> bool {
    let mut byte = *b"x";
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // Length, level and kind of the one control message, and its descriptor.
    let kind = (i64::from(libc::SCM_RIGHTS) << 32 | i64::from(libc::SOL_SOCKET)).cast_unsigned();
    let mut control = [20_u64, kind, u64::from(held.file.cast_unsigned())];
    // SAFETY: zeroes are a valid message header; the buffers that it points to live until the call has returned, and
    // the control buffer is aligned and has room for one header (16 bytes) with one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        libc::syscall(
            libc::SYS_sendmsg,
            held.reply,
            &raw const message,
            libc::MSG_NOSIGNAL,
        ) >= 0
    }
}

/// Makes a system call by the gate of 32-bit programs, whose numbers mean other calls; dies of it in the jail.
#[cfg(target_arch = "x86_64")]
pub fn by_the_32_bit_gate() -> bool {
    let result: i32;
    // SAFETY: number 20 is getpid there, which takes nothing; the kernel clears r8 to r11 on this way.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    result > 0
}

/// There is no other gate.
#[cfg(not(target_arch = "x86_64"))]
pub fn by_the_32_bit_gate() -> bool {
    false
}

/// The numbers of all system calls that are not refused for lack of permission when all their arguments are 0.
///
/// Ending the process and returning from a signal are not tried; nor are the two by which the kernel talks to itself
/// about probes (uretprobe and uprobe on `x86_64`), which seccomp never sees and which kill whoever makes them.
pub fn calls_let_through() -> Vec<c_long> {
    let untried = [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        335,
        336,
    ];
    (0..700)
        .filter(|number| !untried.contains(number))
        .filter(|number| !process::is_forbidden(*number))
        .collect()
}

/// Makes an attempt in this process, which is an ordinary one, and ends it with [`GOT_OUT`] if that worked.
pub fn try_outside(name: &str, held: Held) -> ! {
    let worked = ATTEMPTS
        .iter()
        .find(|attempt| attempt.name == name)
        .is_some_and(|attempt| (attempt.run)(held));
    let _ = std::io::stderr().flush();
    process::exit_now(if worked { GOT_OUT } else { 1 })
}
