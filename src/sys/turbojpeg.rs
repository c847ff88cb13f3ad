//! A safe face for the few calls of libjpeg-turbo's `TurboJPEG` 3 API that decoding needs: JPEG with 2 to 16 bits a
//! sample, lossy at 1, 1/2, 1/4 or 1/8 of its size (computed in the DCT domain), lossless at full size.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

use turbojpeg_sys as tj;

/// Why libjpeg-turbo refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JpegError(pub String);

/// What a JPEG says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JpegHeader {
    /// Samples in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits of a sample, 2 to 16.
    pub precision: u32,
    /// One component only.
    pub grey: bool,
    /// Predictive coding (process 14): nothing is lost, and it cannot be scaled.
    pub lossless: bool,
}

/// A JPEG in memory whose header has been read.
pub struct Jpeg<'a> {
    handle: NonNull<libc::c_void>,
    bytes: &'a [u8],
    header: JpegHeader,
    not_shared: PhantomData<*mut ()>,
}

/// Samples of one line after the other.
pub struct JpegImage {
    /// Samples in a line (times three when there are colours).
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// The samples; red, green, blue in turn when they are colours.
    pub samples: Vec<u16>,
}

impl<'a> Jpeg<'a> {
    /// Reads the header of a JPEG. Images of more than `most_pixels` will not be decoded.
    pub fn open(bytes: &'a [u8], most_pixels: u32) -> Result<Self, JpegError> {
        // SAFETY: no preconditions; the handle is owned by `Jpeg`, which destroys it once.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let handle =
            NonNull::new(handle).ok_or_else(|| JpegError("libjpeg-turbo cannot start".into()))?;
        let header = JpegHeader {
            width: 0,
            height: 0,
            precision: 0,
            grey: true,
            lossless: false,
        };
        let mut jpeg = Self {
            handle,
            bytes,
            header,
            not_shared: PhantomData,
        };
        jpeg.set(
            tj::TJPARAM_TJPARAM_MAXPIXELS,
            c_int::try_from(most_pixels).unwrap_or(c_int::MAX),
        )?;
        // Progressive images of thousands of tiny scans only waste time.
        jpeg.set(tj::TJPARAM_TJPARAM_SCANLIMIT, 100)?;
        // SAFETY: the handle is alive, and the pointer and length are those of one slice.
        let code = unsafe {
            tj::tj3DecompressHeader(jpeg.handle.as_ptr(), bytes.as_ptr(), bytes.len() as _)
        };
        jpeg.judge(code)?;
        let number = |value: c_int| {
            u32::try_from(value).map_err(|_| JpegError("the header is incomplete".into()))
        };
        jpeg.header = JpegHeader {
            width: number(jpeg.get(tj::TJPARAM_TJPARAM_JPEGWIDTH))?,
            height: number(jpeg.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT))?,
            precision: number(jpeg.get(tj::TJPARAM_TJPARAM_PRECISION))?,
            grey: jpeg.get(tj::TJPARAM_TJPARAM_COLORSPACE) == tj::TJCS_TJCS_GRAY as c_int,
            lossless: jpeg.get(tj::TJPARAM_TJPARAM_LOSSLESS) == 1,
        };
        Ok(jpeg)
    }

    /// The header.
    pub fn header(&self) -> JpegHeader {
        self.header
    }

    /// Decodes at 1/`reduction` of the size (1, 2, 4 or 8; 1 when lossless), as grey or as colours. Luminance is
    /// taken from lossy colour images directly.
    pub fn decode(&mut self, reduction: u32, colours: bool) -> Result<JpegImage, JpegError> {
        let JpegHeader {
            width,
            height,
            precision,
            lossless,
            ..
        } = self.header;
        if !matches!(reduction, 1 | 2 | 4 | 8) || (lossless && reduction != 1) {
            return Err(JpegError(format!(
                "a reduction by {reduction} is not possible"
            )));
        }
        let factor = tj::tjscalingfactor {
            num: 1,
            denom: reduction as c_int,
        };
        // SAFETY: the handle is alive.
        let code = unsafe { tj::tj3SetScalingFactor(self.handle.as_ptr(), factor) };
        self.judge(code)?;
        let (width, height) = (width.div_ceil(reduction), height.div_ceil(reduction));
        let (format, channels) = if colours {
            (tj::TJPF_TJPF_RGB, 3)
        } else {
            (tj::TJPF_TJPF_GRAY, 1)
        };
        let len = width as usize * height as usize * channels;
        let (handle, source, size) = (
            self.handle.as_ptr(),
            self.bytes.as_ptr(),
            self.bytes.len() as _,
        );
        let format = format as c_int;
        // The buffers hold `width × height × channels` samples, which is what libjpeg-turbo writes: it reads the same
        // bytes again, so finds the same size, and a pitch of 0 means lines without a gap.
        let mut samples = vec![0_u16; if precision > 8 { len } else { 0 }];
        let mut octets = vec![0_u8; if precision > 8 { 0 } else { len }];
        let code = match precision {
            // SAFETY: handle and source are alive; `octets` is as large as said above.
            2..=8 => unsafe {
                tj::tj3Decompress8(handle, source, size, octets.as_mut_ptr(), 0, format)
            },
            // SAFETY: the same for `samples`; i16 and u16 have the same layout.
            9..=12 => unsafe {
                tj::tj3Decompress12(handle, source, size, samples.as_mut_ptr().cast(), 0, format)
            },
            // SAFETY: the same for `samples`.
            13..=16 => unsafe {
                tj::tj3Decompress16(handle, source, size, samples.as_mut_ptr(), 0, format)
            },
            _ => {
                return Err(JpegError(format!(
                    "{precision} bits a sample are not possible"
                )));
            }
        };
        self.judge(code)?;
        if precision <= 8 {
            samples = octets.into_iter().map(u16::from).collect();
        }
        Ok(JpegImage {
            width,
            height,
            samples,
        })
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) -> Result<(), JpegError> {
        // SAFETY: the handle is alive.
        let code = unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) };
        self.judge(code)
    }

    fn get(&self, parameter: tj::TJPARAM) -> c_int {
        // SAFETY: the handle is alive.
        unsafe { tj::tj3Get(self.handle.as_ptr(), parameter as c_int) }
    }

    /// Turns a return code into a result. Warnings mean a damaged picture, except for one that does no harm: bytes
    /// before a marker that belong to nothing.
    fn judge(&self, code: c_int) -> Result<(), JpegError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the handle is alive; the text lives in it, ends with NUL, and is copied before the next call.
        let text = unsafe {
            let text = tj::tj3GetErrorStr(self.handle.as_ptr());
            if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        // SAFETY: the handle is alive.
        let warning = unsafe { tj::tj3GetErrorCode(self.handle.as_ptr()) }
            == tj::TJERR_TJERR_WARNING as c_int;
        if warning && text.contains("extraneous bytes before marker") {
            Ok(())
        } else {
            Err(JpegError(text))
        }
    }
}

impl Drop for Jpeg<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) }
    }
}
