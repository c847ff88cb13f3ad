//! Places where the crash tests stop the process. They exist only with the cargo feature `failpoints`, which is never
//! packaged.
//!
//! With that feature, `RADSORT_CRASH_AT=<name>` kills the process (SIGKILL) the first time that it passes the place, and
//! `RADSORT_STOP_AT=<name>` stops it there (SIGSTOP) until someone lets it go on (SIGCONT). `RADSORT_SEGMENT_BYTES` and
//! `RADSORT_CHECKPOINT_RECORDS` make the ledger's segments and the way between two checkpoints short.

/// Every place between two steps of filing, in the order in which a file passes them. `copy` marks those that only a
/// copied file passes, `rename` those that only a renamed one does, `undo` those of giving back.
pub const FAILPOINTS: &[(&str, &str)] = &[
    ("before-intent", "all"),
    ("after-intent", "all"),
    ("before-rename", "rename"),
    ("after-rename", "rename"),
    ("before-claim", "copy"),
    ("after-claim", "copy"),
    ("within-copy", "copy"),
    ("after-part", "copy"),
    ("after-landing", "copy"),
    ("before-unclaim", "copy"),
    ("after-unclaim", "copy"),
    ("before-sync", "all"),
    ("before-filed", "all"),
    ("after-filed", "all"),
    ("after-index", "all"),
    ("before-giving-back", "undo"),
    ("before-removing-original", "undo"),
];

/// Arms the places that `RADSORT_CRASH_AT` and `RADSORT_STOP_AT` name. Called once, at the start of the process.
///
/// # Errors
/// The name is none of [`FAILPOINTS`].
#[cfg(feature = "failpoints")]
pub fn arm_from_environment() -> Result<(), String> {
    use rustix::process::{Signal, getpid, kill_process};

    if let Some(name) = named_by("RADSORT_CRASH_AT")? {
        fail::cfg_callback(name, || {
            let _ = kill_process(getpid(), Signal::KILL);
            // SIGKILL to oneself takes effect before the system call returns; this is for the compiler and the doubtful.
            std::process::abort();
        })?;
    }
    if let Some(name) = named_by("RADSORT_STOP_AT")? {
        let first = std::sync::Once::new();
        fail::cfg_callback(name, move || {
            first.call_once(crate::sys::process::stop_here);
        })?;
    }
    Ok(())
}

/// A limit that only the years reach; with that feature a variable of the environment makes it small, so that the crash
/// tests reach it.
pub fn limit(variable: &str, usual: u64) -> u64 {
    let small = || std::env::var(variable).ok()?.parse().ok();
    if cfg!(feature = "failpoints") {
        small().unwrap_or(usual)
    } else {
        usual
    }
}

#[cfg(feature = "failpoints")]
fn named_by(variable: &str) -> Result<Option<String>, String> {
    let Ok(name) = std::env::var(variable) else {
        return Ok(None);
    };
    if FAILPOINTS.iter().any(|(known, _)| *known == name) {
        Ok(Some(name))
    } else {
        Err(format!("{variable}={name}: there is no such failpoint"))
    }
}
