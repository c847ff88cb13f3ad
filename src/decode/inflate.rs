//! Deflated data sets (PS3.5 §A.5): so much of them as is wanted, and whether all of the stream is there.
//!
//! Promise: what is kept is bounded by what the caller asks for, what is inflated by [`WHOLE`], whatever a stream grows to.

use flate2::{Decompress, FlushDecompress, Status};

use super::Fault;
use super::bytes::Bytes;
use crate::domain::Reason;

/// As much of a deflated data set as the header pass keeps.
pub(super) const HEAD: u64 = 4 << 20;
/// As much of a deflated data set as is inflated for its pixels, or to see its end.
pub(super) const WHOLE: u64 = 400 << 20;

const CHUNK: usize = 64 << 10;

/// An inflated data set.
pub(super) struct Inflated {
    /// Its bytes, as many as were asked for.
    pub bytes: Vec<u8>,
    /// The file ends before the stream does.
    pub cut: bool,
}

/// Inflates from `start` on and keeps `most` bytes at most; what is left out then is no fault.
pub(super) fn inflate(bytes: &Bytes, start: u64, most: u64) -> Result<Inflated, Fault> {
    let (mut input, mut output) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut kept, mut cut) = (Vec::new(), false);
    let mut stream = Decompress::new(false);
    loop {
        let at = start + stream.total_in();
        let there = bytes.len().saturating_sub(at).min(CHUNK as u64) as usize;
        bytes.read_at(at, &mut input[..there])?;
        let (read, made) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(&input[..there], &mut output, FlushDecompress::None);
        let made = (stream.total_out() - made) as usize;
        let room = most.saturating_sub(kept.len() as u64).min(made as u64) as usize;
        kept.extend_from_slice(&output[..room]);
        match status {
            // What could be inflated of a torn stream is still worth a header.
            Err(_) if kept.is_empty() => {
                let why = "the deflated data set is damaged";
                return Err(Fault::new(Reason::Malformed, why));
            }
            Err(_) | Ok(Status::StreamEnd) => break,
            Ok(_) if stream.total_out() >= WHOLE => break,
            Ok(_) if made == 0 && stream.total_in() == read => {
                cut = true;
                break;
            }
            Ok(_) => {}
        }
    }
    Ok(Inflated { bytes: kept, cut })
}
