//! Places where the crash tests stop the process. They exist only with the cargo feature `failpoints`, which is never
//! packaged.
//!
//! With that feature, `RADSORT_CRASH_AT=<name>` kills the process (SIGKILL) the first time that it passes the place.

/// Every place between two steps of filing, in the order in which a file passes them. `copy` marks those that only a
/// copied file passes, `rename` those that only a renamed one does.
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
];

/// Arms the place that `RADSORT_CRASH_AT` names. Called once, at the start of the process.
///
/// # Errors
/// The name is none of [`FAILPOINTS`].
#[cfg(feature = "failpoints")]
pub fn arm_from_environment() -> Result<(), String> {
    let Ok(name) = std::env::var("RADSORT_CRASH_AT") else {
        return Ok(());
    };
    if !FAILPOINTS.iter().any(|(known, _)| *known == name) {
        return Err(format!(
            "RADSORT_CRASH_AT={name}: there is no such failpoint"
        ));
    }
    fail::cfg_callback(name, || {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // SIGKILL to oneself takes effect before the system call returns; this is for the compiler and the doubtful.
        std::process::abort();
    })
}
