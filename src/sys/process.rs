//! Processes: forking a single-threaded one, waiting for a child with the CPU time it took, timers, signals and
//! descriptors. What the jail needs and neither the standard library nor rustix offers as a safe call.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Pid;

/// Proof that this process had a single thread when it was made, which [`SingleThreaded::fork`] needs.
///
/// Whoever holds it must not start threads; the jailed zygote cannot, its seccomp filter refuses to.
#[derive(Debug)]
pub struct SingleThreaded(());

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(Pid),
}

impl SingleThreaded {
    /// Counts the threads of this process. An error if there are several, or if they cannot be counted.
    pub fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!(
                "the process has {threads} threads where it must have one"
            ))),
        }
    }

    /// Duplicates the process (`fork`).
    pub fn fork(&self) -> io::Result<Forked> {
        // SAFETY: with one thread, no lock can be held and no structure be half changed by a thread that does not
        // exist in the child; both sides may go on running any code.
        let pid = unsafe { libc::fork() };
        match pid {
            ..0 => Err(io::Error::last_os_error()),
            0 => Ok(Forked::Child),
            _ => Pid::from_raw(pid)
                .map(Forked::Parent)
                .ok_or_else(|| io::Error::other("fork returned no process id")),
        }
    }
}

/// Sets a variable of this process's environment, for the C libraries that it will load and the processes that it starts.
pub fn set_variable(_alone: &SingleThreaded, name: &str, value: &str) {
    // SAFETY: there is one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

/// Ends the process at once: no destructors, no `atexit`, nothing flushed (`_exit`).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any number, has no precondition and does not return.
    unsafe { libc::_exit(code) }
}

/// How a child ended, and the CPU time (user and system) that it took.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// User and system time together.
    pub cpu: Duration,
}

/// Waits until a child has ended (`wait4`), and reaps it.
pub fn wait(child: Pid) -> io::Result<Ended> {
    let mut status = 0;
    loop {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both pointers are valid for writing for the time of the call.
        let waited = unsafe {
            libc::wait4(
                child.as_raw_nonzero().get(),
                &raw mut status,
                0,
                usage.as_mut_ptr(),
            )
        };
        if waited < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // SAFETY: rusage consists of integers only, for which zeroes are valid, and wait4 has filled it.
        let usage = unsafe { usage.assume_init() };
        return Ok(Ended {
            status: ExitStatus::from_raw(status),
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        });
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
        + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// Ignores a signal, here and in every process forked later.
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code of ours; an unknown number is answered with an error.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the kernel send `SIGALRM` to this process after so much wall-clock time (`setitimer`).
///
/// Nobody handles that signal here: it kills. A timer of zero would be none, so it is at least a microsecond.
pub fn alarm_after(time: Duration) -> io::Result<()> {
    let once = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(time.subsec_micros().max(1)),
        },
    };
    // SAFETY: the new value is valid for reading, and a null pointer for the old one is allowed.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor but the first three.
///
/// Only for the first lines of a program that has opened nothing yet: whatever else there is was inherited by
/// mistake (libraries open files without `O_CLOEXEC`).
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: at this point no Rust object owns a descriptor above the first three, so none is closed under its owner.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or where a sandbox does not know the call.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(65_536)
        .min(65_536);
    for descriptor in FIRST.cast_signed()..i32::try_from(limit).unwrap_or(65_536) {
        // SAFETY: as above; closing a number that is not open is an error without effect.
        unsafe { libc::close(descriptor) };
    }
}

/// Writes to address 0, as a broken codec might. For the tests of the jail.
#[cfg(feature = "failpoints")]
pub fn segfault() {
    // SAFETY: none, that is the point: page 0 is never mapped, so the process dies of SIGSEGV.
    unsafe { std::ptr::null_mut::<u8>().write_volatile(1) }
}

/// Stops this process; returns when someone lets it go on. For the tests that change files under its hands.
#[cfg(feature = "failpoints")]
pub fn stop_here() {
    // SAFETY: takes an integer. Unlike kill(2) it signals the calling thread, which so goes no step further.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Tries a system call with all arguments 0 and tells whether it was refused for lack of permission. For the tests of
/// the jail: with such arguments the calls tried there fail harmlessly where they are allowed.
#[cfg(feature = "failpoints")]
pub fn is_forbidden(number: libc::c_long) -> bool {
    const NONE: libc::c_long = 0;
    // SAFETY: null pointers and zero lengths, which the kernel answers with an error and never follows.
    let result = unsafe { libc::syscall(number, NONE, NONE, NONE, NONE, NONE, NONE) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// The most memory that any process below this one has had, of those that have ended, KiB. For the tests of bombs.
#[cfg(feature = "failpoints")]
pub fn peak_memory_below() -> u64 {
    // SAFETY: zeroes are a valid structure of integers, and the kernel only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_maxrss).unwrap_or(0)
}

/// Which of the first 1024 descriptors are open. For the tests of the jail.
#[cfg(feature = "failpoints")]
pub fn open_descriptors() -> Vec<i32> {
    let is_open = |descriptor: &i32| {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel fills the structure, which nobody reads, or refuses.
        unsafe { libc::syscall(libc::SYS_fstat, *descriptor, stat.as_mut_ptr()) == 0 }
    };
    (0..1024).filter(is_open).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_forked() {
        // The test harness runs this on a thread of its own.
        assert!(SingleThreaded::prove().is_err());
    }
}
