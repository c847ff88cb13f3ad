//! The walls of the jail: Landlock, seccomp and resource limits.
//!
//! Two filters lie on top of each other. The zygote's lets it receive descriptors, fork and wait; the child's, which is
//! added before the first untrusted byte is read, leaves computing, reading one descriptor and writing to another.
//! Neither can open a file, make a socket, run a program, signal another process or map executable memory. What is not
//! listed fails with `EPERM` instead of killing: C libraries ask for files and threads that they can do without.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};

use crate::sys::process;

/// What the kernel lets the jail enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The version of Landlock's interface in force, `None` where the kernel has none (before Linux 5.13, or turned off).
    pub landlock: Option<u32>,
    /// Whether the seccomp filters are in force; false only on a kernel built without them.
    pub seccomp: bool,
}

impl std::fmt::Display for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self {
                seccomp: true,
                landlock: Some(version),
            } => write!(f, "seccomp and Landlock (version {version})"),
            Self {
                seccomp: true,
                landlock: None,
            } => write!(f, "seccomp, without Landlock"),
            Self {
                seccomp: false,
                landlock: Some(version),
            } => write!(f, "Landlock (version {version}), without seccomp"),
            Self {
                seccomp: false,
                landlock: None,
            } => write!(f, "resource limits only"),
        }
    }
}

/// Why the jail could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A filter could not be put together.
    #[error(
        "the seccomp filter cannot be built for this machine ({0}): radsort supports x86_64, aarch64 and riscv64"
    )]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has seccomp filters and refused ours.
    #[error(
        "the kernel refused the seccomp filter ({0}); a container or unit that forbids seccomp(2) must allow it"
    )]
    Seccomp(io::Error),
    /// Landlock failed otherwise than by not being there.
    #[error("Landlock refused its ruleset: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// A limit or process attribute could not be set.
    #[error("{what} cannot be set: {source}")]
    Attribute {
        /// Which.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// What one child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space, bytes.
    pub memory: u64,
    /// CPU time, whole seconds, at least 1.
    pub cpu_seconds: u64,
    /// Wall-clock time, milliseconds.
    pub wall_ms: u64,
}

fn attribute<T>(
    what: &'static str,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, ConfineError> {
    result.map_err(|source| ConfineError::Attribute {
        what,
        source: source.into(),
    })
}

/// Locks the zygote in, for good, with every process that it forks.
pub fn zygote() -> Result<Confinement, ConfineError> {
    attribute("no_new_privs", rustix::thread::set_no_new_privs(true))?;
    attribute(
        "dumpable",
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
    )?;
    attribute("the core file limit", limit(Resource::Core, 0))?;
    let landlock = landlock()?;
    // A kernel built without seccomp answers with EINVAL, which it also says to a bad filter.
    let available = rustix::thread::secure_computing_mode() != Err(rustix::io::Errno::INVAL);
    let seccomp = available && install(zygote_rules()?)?;
    Ok(Confinement { landlock, seccomp })
}

/// Locks a child further in, before it reads the first untrusted byte.
///
/// It may read `file` and write to `reply`, and dies with `zygote`. Nothing can be undone afterwards. `seccomp`: whether
/// the kernel has it, see [`Confinement`].
pub fn child(
    zygote: Pid,
    file: BorrowedFd,
    reply: BorrowedFd,
    limits: Limits,
    seccomp: bool,
) -> Result<(), ConfineError> {
    attribute(
        "the death signal",
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)),
    )?;
    if rustix::process::getppid() != Some(zygote) {
        process::exit_now(0); // The zygote died before the line above: nobody waits for an answer.
    }
    for (what, resource, value) in [
        ("the address space limit", Resource::As, limits.memory),
        ("the file size limit", Resource::Fsize, 0),
        ("the open files limit", Resource::Nofile, 0),
    ] {
        attribute(what, limit(resource, value))?;
    }
    // The soft limit's SIGXCPU tells what happened, the hard limit's SIGKILL cannot be ignored.
    let hard = rustix::process::getrlimit(Resource::Cpu)
        .maximum
        .unwrap_or(u64::MAX)
        .min(limits.cpu_seconds + 2);
    let cpu = Rlimit {
        current: Some(hard.min(limits.cpu_seconds)),
        maximum: Some(hard),
    };
    attribute(
        "the CPU time limit",
        rustix::process::setrlimit(Resource::Cpu, cpu),
    )?;
    attribute(
        "the timer",
        process::alarm_after(Duration::from_millis(limits.wall_ms)),
    )?;
    if seccomp {
        install(child_rules(file, reply)?)?;
    }
    Ok(())
}

/// Lowers both the soft and the hard limit.
fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let value = rustix::process::getrlimit(resource)
        .maximum
        .map_or(value, |hard| hard.min(value));
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )
}

/// Denies every path, port, signal and abstract socket that this kernel's Landlock knows about.
fn landlock() -> Result<Option<u32>, ConfineError> {
    let newest = ABI::V10;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .no_new_privs(true)
        .restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Ok(None),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(Some(effective_abi as u32)),
        _ => Ok(None),
    }
}

/// System calls by number, each with the alternatives of arguments under which it is allowed; none means any.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What every process here needs: memory, time, signals to itself, and to end.
fn common_rules() -> Result<Rules, ConfineError> {
    let mut rules = Rules::new();
    for number in [
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_getrandom,
        libc::SYS_gettimeofday,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_fstat,
        libc::SYS_close,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        rules.insert(number, Vec::new());
    }
    // Its own processors and the machine's clocks: by another number, both tell about other processes.
    let own = || SeccompRule::new(vec![equal(0, 0)?]);
    rules.insert(libc::SYS_sched_getaffinity, vec![own()?]);
    let machines = || {
        let last = u64::from(libc::CLOCK_TAI.cast_unsigned());
        let clock = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Le, last);
        SeccompRule::new(vec![clock?])
    };
    rules.insert(libc::SYS_clock_gettime, vec![machines()?]);
    rules.insert(libc::SYS_clock_getres, vec![machines()?]);
    // Anonymous memory only, and none that can be executed.
    let not_executable = || masked(2, libc::PROT_EXEC, 0);
    let anonymous = masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![not_executable()?, anonymous])?],
    );
    rules.insert(
        libc::SYS_mprotect,
        vec![SeccompRule::new(vec![not_executable()?])?],
    );
    Ok(rules)
}

/// The zygote: requests in, forks, ends of children out, and what a child does until its own filter is in force.
fn zygote_rules() -> Result<Rules, ConfineError> {
    let mut rules = common_rules()?;
    for number in [
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_pipe2,
        libc::SYS_dup3,
        libc::SYS_fcntl,
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_lseek,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_wait4,
        libc::SYS_getppid,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_prctl,
        libc::SYS_prlimit64,
        libc::SYS_setrlimit,
        libc::SYS_getrlimit,
        libc::SYS_setitimer,
        libc::SYS_seccomp,
        libc::SYS_tgkill,
    ] {
        rules.insert(number, Vec::new());
    }
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_dup2, Vec::new());
    // fork, and neither threads nor namespaces: glibc's flags, musl's flags.
    let glibc = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let fork = |flags: i32| SeccompRule::new(vec![equal(0, flags)?]);
    rules.insert(libc::SYS_clone, vec![fork(glibc)?, fork(libc::SIGCHLD)?]);
    Ok(rules)
}

/// The child: one descriptor to read, two to write (its answer, and last words on stderr), and `abort`.
fn child_rules(file: BorrowedFd, reply: BorrowedFd) -> Result<Rules, ConfineError> {
    let mut rules = common_rules()?;
    let only = |fd: i32| SeccompRule::new(vec![equal(0, fd)?]);
    for number in [libc::SYS_read, libc::SYS_pread64, libc::SYS_lseek] {
        rules.insert(number, vec![only(file.as_raw_fd())?]);
    }
    for number in [libc::SYS_write, libc::SYS_writev] {
        rules.insert(
            number,
            vec![only(reply.as_raw_fd())?, only(libc::STDERR_FILENO)?],
        );
    }
    let myself = rustix::process::getpid().as_raw_nonzero().get();
    rules.insert(libc::SYS_tgkill, vec![only(myself)?]);
    // Asking for limits, not setting them.
    let asking = vec![
        equal(0, 0)?,
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?,
    ];
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(asking)?]);
    Ok(rules)
}

/// The argument at `index` is this 32-bit value.
fn equal(index: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(value.cast_unsigned()),
    )
}

/// The bits of `mask` in the argument at `index` are those of `value`.
fn masked(index: u8, mask: i32, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        operator,
        u64::from(value.cast_unsigned()),
    )
}

/// Puts a filter in force; false if the kernel has no seccomp filters at all.
fn install(rules: Rules) -> Result<bool, ConfineError> {
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram =
        SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Seccomp(error)) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Ok(false)
        }
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error)) => {
            Err(ConfineError::Seccomp(error))
        }
        Err(other) => Err(ConfineError::Seccomp(io::Error::other(other.to_string()))),
    }
}
