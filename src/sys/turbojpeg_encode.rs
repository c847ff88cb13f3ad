//! Encoding grey pictures with libjpeg-turbo 3.1: baseline (8 bit) and lossless (2–16 bit, first-order prediction).
//!
//! Only phantoms are encoded. Every handle and buffer is freed whatever happens; errors carry the library's own words.

use std::ffi::CStr;
use std::os::raw::{c_int, c_short, c_uchar, c_ushort};
use std::ptr;

use turbojpeg_sys as tj;

/// libjpeg-turbo refused; its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libjpeg-turbo: {0}")]
pub struct JpegEncodeError(String);

/// A compressor and what it has written; freed on drop.
struct Compressor {
    handle: tj::tjhandle,
    buffer: *mut c_uchar,
    size: tj::size_t,
}

impl Compressor {
    fn new(settings: &[(tj::TJPARAM, c_int)]) -> Result<Self, JpegEncodeError> {
        // SAFETY: a plain constructor; null is checked below.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) };
        if handle.is_null() {
            return Err(JpegEncodeError("no memory for a compressor".to_owned()));
        }
        let compressor = Self {
            handle,
            buffer: ptr::null_mut(),
            size: 0,
        };
        for &(parameter, value) in settings {
            // SAFETY: the handle is live.
            compressor.check(unsafe { tj::tj3Set(handle, parameter as c_int, value) })?;
        }
        Ok(compressor)
    }

    fn check(&self, status: c_int) -> Result<(), JpegEncodeError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the handle is live; the library returns a NUL-terminated string it owns, copied here.
        let words = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle)) };
        Err(JpegEncodeError(words.to_string_lossy().into_owned()))
    }

    fn written(&self) -> Vec<u8> {
        if self.buffer.is_null() {
            return Vec::new();
        }
        // SAFETY: after success the library has set buffer and size to its own allocation of that many bytes.
        unsafe { std::slice::from_raw_parts(self.buffer, self.size as usize) }.to_vec()
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: both came from the library and are freed once; null is allowed for the buffer.
        unsafe {
            tj::tj3Free(self.buffer.cast());
            tj::tj3Destroy(self.handle);
        }
    }
}

/// Width and height as the library wants them, after checking that `pixels` holds that many.
fn dimensions(columns: u32, rows: u32, pixels: usize) -> Result<(c_int, c_int), JpegEncodeError> {
    let fits = columns as usize * rows as usize == pixels
        && columns <= 65_500
        && rows <= 65_500
        && pixels > 0;
    if fits {
        Ok((columns as c_int, rows as c_int))
    } else {
        Err(JpegEncodeError(format!(
            "{columns}×{rows} does not fit {pixels} pixels"
        )))
    }
}

/// JPEG baseline (PS3.5 process 1) at `quality` 1..=100.
pub fn baseline(
    pixels: &[u8],
    columns: u32,
    rows: u32,
    quality: u8,
) -> Result<Vec<u8>, JpegEncodeError> {
    let (width, height) = dimensions(columns, rows, pixels.len())?;
    let mut compressor = Compressor::new(&[
        (tj::TJPARAM_TJPARAM_QUALITY, c_int::from(quality)),
        (tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_GRAY as c_int),
    ])?;
    let grey = tj::TJPF_TJPF_GRAY as c_int;
    // SAFETY: `pixels` holds width × height bytes (checked); buffer and size outlive the call.
    let status = unsafe {
        tj::tj3Compress8(
            compressor.handle,
            pixels.as_ptr(),
            width,
            width,
            height,
            grey,
            &raw mut compressor.buffer,
            &raw mut compressor.size,
        )
    };
    compressor.check(status)?;
    Ok(compressor.written())
}

/// JPEG extended (PS3.5 process 4) at `quality` 1..=100, 12 bits a pixel.
pub fn extended12(
    pixels: &[u16],
    columns: u32,
    rows: u32,
    quality: u8,
) -> Result<Vec<u8>, JpegEncodeError> {
    let mut compressor = Compressor::new(&[
        (tj::TJPARAM_TJPARAM_QUALITY, c_int::from(quality)),
        (tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_GRAY as c_int),
    ])?;
    let samples: Vec<c_short> = pixels.iter().map(|&p| p.min(4095) as c_short).collect();
    compressor.compress12(&samples, columns, rows)?;
    Ok(compressor.written())
}

/// JPEG lossless with first-order prediction (process 14, selection value 1); `bits` is 9..=16.
pub fn lossless(
    pixels: &[u16],
    columns: u32,
    rows: u32,
    bits: u16,
) -> Result<Vec<u8>, JpegEncodeError> {
    let (width, height) = dimensions(columns, rows, pixels.len())?;
    let mut compressor = Compressor::new(&[
        (tj::TJPARAM_TJPARAM_LOSSLESS, 1),
        (tj::TJPARAM_TJPARAM_LOSSLESSPSV, 1),
        (tj::TJPARAM_TJPARAM_LOSSLESSPT, 0),
        (tj::TJPARAM_TJPARAM_PRECISION, c_int::from(bits)),
        (tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_GRAY as c_int),
    ])?;
    if bits <= 12 {
        let samples: Vec<c_short> = pixels.iter().map(|&p| p as c_short).collect();
        compressor.compress12(&samples, columns, rows)?;
    } else {
        let source: *const c_ushort = pixels.as_ptr();
        let grey = tj::TJPF_TJPF_GRAY as c_int;
        // SAFETY: `pixels` holds width × height samples (checked); buffer and size outlive the call.
        let status = unsafe {
            tj::tj3Compress16(
                compressor.handle,
                source,
                width,
                width,
                height,
                grey,
                &raw mut compressor.buffer,
                &raw mut compressor.size,
            )
        };
        compressor.check(status)?;
    }
    Ok(compressor.written())
}

impl Compressor {
    fn compress12(
        &mut self,
        samples: &[c_short],
        columns: u32,
        rows: u32,
    ) -> Result<(), JpegEncodeError> {
        let (width, height) = dimensions(columns, rows, samples.len())?;
        let grey = tj::TJPF_TJPF_GRAY as c_int;
        // SAFETY: `samples` holds width × height values (checked); buffer and size outlive the call.
        let status = unsafe {
            tj::tj3Compress12(
                self.handle,
                samples.as_ptr(),
                width,
                width,
                height,
                grey,
                &raw mut self.buffer,
                &raw mut self.size,
            )
        };
        self.check(status)
    }
}
