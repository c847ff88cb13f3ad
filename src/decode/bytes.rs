//! Where a data set's bytes come from: a file read with bounded `pread`s, or memory (an inflated data set, a test).
//!
//! No mapping: a writer that truncates the file would kill the process. Nothing is allocated here.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::Fault;
use crate::domain::Reason;

/// A range of bytes that can be read at any place.
pub enum Bytes<'a> {
    /// The first `len` bytes of an open file.
    File {
        /// The file.
        file: &'a File,
        /// How much of it is looked at: its size when it was opened.
        len: u64,
    },
    /// Bytes in memory.
    Memory(&'a [u8]),
}

impl Bytes<'_> {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with what stands at `at`; a fault when the bytes are not there (the file shrank) or cannot be read.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let beyond = || Fault::new(Reason::Truncated, "the file ended while it was being read");
        match self {
            Self::File { file, len } => {
                if at
                    .checked_add(buffer.len() as u64)
                    .is_none_or(|end| end > *len)
                {
                    return Err(beyond());
                }
                file.read_exact_at(buffer, at)
                    .map_err(|error| match error.kind() {
                        ErrorKind::UnexpectedEof => beyond(),
                        kind => Fault::new(
                            Reason::Malformed,
                            format!("the file cannot be read: {kind}"),
                        ),
                    })
            }
            Self::Memory(bytes) => {
                let start = usize::try_from(at).map_err(|_| beyond())?;
                let end = start.checked_add(buffer.len()).ok_or_else(beyond)?;
                buffer.copy_from_slice(bytes.get(start..end).ok_or_else(beyond)?);
                Ok(())
            }
        }
    }
}
