//! Asking the kernel to begin writing a file to its disk, without waiting for it (`sync_file_range`).

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Begins to write what is not on the disk yet, so that a later `fsync` finds little to do. A hint: it promises nothing,
/// reports nothing and, unlike `fsync`, uses up no error that `fsync` is to report.
pub fn begin(file: &File) {
    // SAFETY: a descriptor that is alive, and three integers; 0 to 0 is the whole file.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
