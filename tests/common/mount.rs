//! Filesystems mounted for a test and unmounted at its end. Needs root and, for bindfs, FUSE.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted filesystem, unmounted in the end.
pub struct Mount(PathBuf);

impl Mount {
    /// Runs a command that mounts something; `None`, told loudly, where that is not possible.
    pub fn new(at: &Path, command: &[&str]) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let output = Command::new(command[0])
            .args(&command[1..])
            .arg(at)
            .stdin(Stdio::null())
            .output();
        let failure = match output {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("SKIPPED: {command:?}: {}", failure.trim());
        None
    }

    /// A small filesystem in memory.
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=0755");
        Self::new(at, &["mount", "-t", "tmpfs", "-o", &options, "tmpfs"])
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
