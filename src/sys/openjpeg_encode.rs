//! Encoding grey pictures as JPEG 2000 codestreams with `OpenJPEG`, lossless or at a given compression ratio.
//!
//! Only phantoms are encoded. Codec, image and stream are freed whatever happens.

use std::mem::MaybeUninit;
use std::os::raw::c_void;

use openjpeg_sys as opj;

/// `OpenJPEG` refused at this step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("OpenJPEG could not {0}")]
pub struct J2kEncodeError(&'static str);

struct Codec(*mut opj::opj_codec_t);
struct Image(*mut opj::opj_image_t);
struct Stream(*mut opj::opj_stream_t);

impl Drop for Codec {
    fn drop(&mut self) {
        // SAFETY: made by opj_create_compress, freed once.
        unsafe { opj::opj_destroy_codec(self.0) }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: made by opj_image_create, freed once.
        unsafe { opj::opj_image_destroy(self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by opj_stream_create, freed once.
        unsafe { opj::opj_stream_destroy(self.0) }
    }
}

/// What the encoder has written so far and where it writes next.
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    at: usize,
}

unsafe extern "C" fn write(from: *mut c_void, count: usize, sink: *mut c_void) -> usize {
    // SAFETY: the stream's user data is the Sink that outlives it; `from` holds `count` bytes by the callback's contract.
    let (sink, from) = unsafe {
        (
            &mut *sink.cast::<Sink>(),
            std::slice::from_raw_parts(from.cast::<u8>(), count),
        )
    };
    let end = sink.at + count;
    if sink.bytes.len() < end {
        sink.bytes.resize(end, 0);
    }
    sink.bytes[sink.at..end].copy_from_slice(from);
    sink.at = end;
    count
}

unsafe extern "C" fn skip(count: opj::OPJ_OFF_T, sink: *mut c_void) -> opj::OPJ_OFF_T {
    // SAFETY: as above.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    sink.at = sink.at.saturating_add_signed(count as isize);
    count
}

unsafe extern "C" fn seek(to: opj::OPJ_OFF_T, sink: *mut c_void) -> opj::OPJ_BOOL {
    // SAFETY: as above.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    sink.at = to.max(0) as usize;
    1
}

/// A raw codestream (no JP2 boxes, as DICOM wants); `ratio` None is reversible, else about original : compressed.
pub fn encode(
    pixels: &[u16],
    columns: u32,
    rows: u32,
    bits: u16,
    ratio: Option<f32>,
) -> Result<Vec<u8>, J2kEncodeError> {
    if columns as usize * rows as usize != pixels.len() || pixels.is_empty() {
        return Err(J2kEncodeError("take pixels that do not fit the dimensions"));
    }
    let mut parameters = MaybeUninit::<opj::opj_cparameters_t>::zeroed();
    // SAFETY: the library fills the zeroed structure, for which all zeroes is a valid state (integers and null pointers).
    let mut parameters = unsafe {
        opj::opj_set_default_encoder_parameters(parameters.as_mut_ptr());
        parameters.assume_init()
    };
    parameters.tcp_numlayers = 1;
    parameters.cp_disto_alloc = 1;
    parameters.tcp_rates[0] = ratio.unwrap_or(0.0);
    parameters.irreversible = i32::from(ratio.is_some());
    // Small pictures do not bear six resolutions.
    let shortest = columns.min(rows);
    parameters.numresolution = (shortest.ilog2() as i32).clamp(1, 6);

    let mut component = opj::opj_image_cmptparm_t {
        dx: 1,
        dy: 1,
        w: columns,
        h: rows,
        x0: 0,
        y0: 0,
        prec: u32::from(bits),
        bpp: u32::from(bits),
        sgnd: 0,
    };
    // SAFETY: one component is described, one is passed.
    let image = Image(unsafe {
        opj::opj_image_create(1, &raw mut component, opj::COLOR_SPACE::OPJ_CLRSPC_GRAY)
    });
    if image.0.is_null() {
        return Err(J2kEncodeError("get memory for the picture"));
    }
    // SAFETY: the image is live with one component, whose data the library allocated for w × h values (checked above).
    unsafe {
        (*image.0).x1 = columns;
        (*image.0).y1 = rows;
        let data = std::slice::from_raw_parts_mut((*(*image.0).comps).data, pixels.len());
        for (to, &from) in data.iter_mut().zip(pixels) {
            *to = i32::from(from);
        }
    }
    // SAFETY: a plain constructor; null is checked.
    let codec = Codec(unsafe { opj::opj_create_compress(opj::CODEC_FORMAT::OPJ_CODEC_J2K) });
    if codec.0.is_null() {
        return Err(J2kEncodeError("make an encoder"));
    }
    // SAFETY: all three are live.
    if unsafe { opj::opj_setup_encoder(codec.0, &raw mut parameters, image.0) } == 0 {
        return Err(J2kEncodeError("set up the encoder for this picture"));
    }
    let mut sink = Sink::default();
    // SAFETY: the stream is used and destroyed before `sink` goes; the callbacks keep to the sink.
    unsafe {
        let stream = Stream(opj::opj_stream_create(1 << 16, 0));
        if stream.0.is_null() {
            return Err(J2kEncodeError("make a stream"));
        }
        opj::opj_stream_set_write_function(stream.0, Some(write));
        opj::opj_stream_set_skip_function(stream.0, Some(skip));
        opj::opj_stream_set_seek_function(stream.0, Some(seek));
        opj::opj_stream_set_user_data(stream.0, (&raw mut sink).cast(), None);
        let done = opj::opj_start_compress(codec.0, image.0, stream.0) != 0
            && opj::opj_encode(codec.0, stream.0) != 0
            && opj::opj_end_compress(codec.0, stream.0) != 0;
        if !done {
            return Err(J2kEncodeError("compress the picture"));
        }
    }
    Ok(sink.bytes)
}
