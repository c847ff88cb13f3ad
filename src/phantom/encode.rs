//! Writing a phantom as a DICOM file (PS3.10) in any of the transfer syntaxes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::{Phantom, Syntax};
use crate::sys::openjpeg_encode::{self, J2kEncodeError};
use crate::sys::turbojpeg_encode::{self, JpegEncodeError};

/// A phantom could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PhantomError {
    /// The directory or file could not be made.
    #[error(
        "cannot write {path}: {source}; check that the directory exists, is writable and has room"
    )]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The DICOM writer refused.
    #[error("cannot write {path} as DICOM: {source}")]
    Dicom {
        /// Which file.
        path: PathBuf,
        /// What dicom-object said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pixels could not be compressed.
    #[error("cannot compress the pixels of {path}: {source}")]
    Codec {
        /// Which file.
        path: PathBuf,
        /// What the codec said.
        source: CodecError,
    },
}

/// What a codec said.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// JPEG.
    #[error(transparent)]
    Jpeg(#[from] JpegEncodeError),
    /// JPEG 2000.
    #[error(transparent)]
    Jpeg2000(#[from] J2kEncodeError),
    /// JPEG-LS.
    #[error("CharLS: {0}")]
    JpegLs(#[from] charls::Error),
}

/// Quality of lossy JPEG, and ratio of lossy JPEG 2000: hardly visible, as archives use them.
const QUALITY: u8 = 92;
const RATIO: f32 = 12.0;

pub(super) fn write(phantom: &Phantom, path: &Path, syntax: Syntax) -> Result<(), PhantomError> {
    let object = dataset(phantom, syntax).map_err(|source| PhantomError::Codec {
        path: path.to_owned(),
        source,
    })?;
    let dicom = |source: Box<dyn std::error::Error + Send + Sync>| PhantomError::Dicom {
        path: path.to_owned(),
        source,
    };
    let file = object
        .with_meta(FileMetaTableBuilder::new().transfer_syntax(syntax.uid()))
        .map_err(|e| dicom(e.into()))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|e| dicom(e.into()))?;
    std::fs::File::create(path)
        .and_then(|mut out| out.write_all(&bytes))
        .map_err(|source| PhantomError::Io {
            path: path.to_owned(),
            source,
        })
}

/// Header and pixel data as `syntax` wants them.
fn dataset(phantom: &Phantom, syntax: Syntax) -> Result<InMemDicomObject, CodecError> {
    let mut object = phantom.header.clone();
    let (columns, rows, bits) = (phantom.columns, phantom.rows, phantom.bits_stored);
    number(&mut object, tags::ROWS, rows as u16);
    number(&mut object, tags::COLUMNS, columns as u16);
    let pixels = &phantom.pixels;
    let stream = match syntax {
        Syntax::ExplicitLe | Syntax::ImplicitLe | Syntax::ExplicitBe | Syntax::Deflated => {
            object.put(DataElement::new(
                tags::PIXEL_DATA,
                VR::OW,
                PrimitiveValue::U16(pixels.as_slice().into()),
            ));
            return Ok(object);
        }
        Syntax::Rle => rle(pixels, columns as usize),
        Syntax::JpegLossless => turbojpeg_encode::lossless(pixels, columns, rows, bits)?,
        Syntax::JpegLs => {
            let bytes: Vec<u8> = pixels.iter().flat_map(|p| p.to_ne_bytes()).collect();
            let frame = charls::FrameInfo {
                width: columns,
                height: rows,
                bits_per_sample: i32::from(bits),
                component_count: 1,
            };
            charls::CharLS::default().encode(frame, 0, &bytes)?
        }
        Syntax::Jpeg2000Lossless => openjpeg_encode::encode(pixels, columns, rows, bits, None)?,
        Syntax::Jpeg2000 => {
            lossy(&mut object, "ISO_15444_1", RATIO);
            openjpeg_encode::encode(pixels, columns, rows, bits, Some(RATIO))?
        }
        Syntax::JpegExtended => {
            let shift = bits.saturating_sub(12);
            let twelve: Vec<u16> = pixels.iter().map(|&p| p >> shift).collect();
            shrink_depth(&mut object, bits, bits.min(12));
            let stream = turbojpeg_encode::extended12(&twelve, columns, rows, QUALITY)?;
            lossy(
                &mut object,
                "ISO_10918_1",
                pixels.len() as f32 * 2.0 / stream.len() as f32,
            );
            stream
        }
        Syntax::JpegBaseline => {
            let table = shown_as_eight_bits(phantom);
            let eight: Vec<u8> = pixels.iter().map(|&p| table[p as usize]).collect();
            eight_bits(&mut object);
            let stream = turbojpeg_encode::baseline(&eight, columns, rows, QUALITY)?;
            lossy(
                &mut object,
                "ISO_10918_1",
                pixels.len() as f32 * 2.0 / stream.len() as f32,
            );
            stream
        }
    };
    let fragments = PixelFragmentSequence::new(vec![0u32], vec![even(stream)]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
    Ok(object)
}

fn number(object: &mut InMemDicomObject, tag: dicom_core::Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

/// Fragments have an even length (PS3.5 A.4).
fn even(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

fn lossy(object: &mut InMemDicomObject, method: &str, ratio: f32) {
    object.put(DataElement::new(
        tags::LOSSY_IMAGE_COMPRESSION,
        VR::CS,
        PrimitiveValue::from("01"),
    ));
    object.put(DataElement::new(
        tags::LOSSY_IMAGE_COMPRESSION_RATIO,
        VR::DS,
        PrimitiveValue::from(format!("{ratio:.1}")),
    ));
    object.put(DataElement::new(
        tags::LOSSY_IMAGE_COMPRESSION_METHOD,
        VR::CS,
        PrimitiveValue::from(method),
    ));
}

/// The window is burnt in, so that it leaves the header; so do rescale and padding, which spoke of the old values.
fn eight_bits(object: &mut InMemDicomObject) {
    for tag in [
        tags::WINDOW_CENTER,
        tags::WINDOW_WIDTH,
        tags::WINDOW_CENTER_WIDTH_EXPLANATION,
        tags::VOILUT_FUNCTION,
        tags::RESCALE_SLOPE,
        tags::RESCALE_INTERCEPT,
        tags::RESCALE_TYPE,
        tags::PIXEL_PADDING_VALUE,
    ] {
        object.remove_element(tag);
    }
    number(object, tags::BITS_ALLOCATED, 8);
    number(object, tags::BITS_STORED, 8);
    number(object, tags::HIGH_BIT, 7);
}

/// Fewer bits a pixel: the values were divided by a power of two, and the rescale slope makes up for it.
fn shrink_depth(object: &mut InMemDicomObject, from: u16, to: u16) {
    // Twelve-bit JPEG always says twelve.
    number(object, tags::BITS_STORED, 12);
    number(object, tags::HIGH_BIT, 11);
    if from == to {
        return;
    }
    let factor = f32::from(1u16 << (from - to));
    let slope = decimal(object, tags::RESCALE_SLOPE).unwrap_or(1.0) * factor;
    let intercept = decimal(object, tags::RESCALE_INTERCEPT).unwrap_or(0.0);
    object.put(DataElement::new(
        tags::RESCALE_SLOPE,
        VR::DS,
        PrimitiveValue::from(format!("{slope}")),
    ));
    object.put(DataElement::new(
        tags::RESCALE_INTERCEPT,
        VR::DS,
        PrimitiveValue::from(format!("{intercept}")),
    ));
    object.put(DataElement::new(
        tags::RESCALE_TYPE,
        VR::LO,
        PrimitiveValue::from("US"),
    ));
    if let Some(padding) = object
        .get(tags::PIXEL_PADDING_VALUE)
        .and_then(|e| e.to_int::<u16>().ok())
    {
        number(object, tags::PIXEL_PADDING_VALUE, padding >> (from - to));
    }
}

/// The first value of a decimal string.
fn decimal(object: &InMemDicomObject, tag: dicom_core::Tag) -> Option<f32> {
    let text = object.get(tag)?.to_str().ok()?;
    text.split('\\').next()?.trim().parse().ok()
}

/// A table from stored value to 8 bits, by the header's first window (PS3.3 C.11.2.1.2), or the whole range without one.
pub(super) fn shown_as_eight_bits(phantom: &Phantom) -> Vec<u8> {
    let most = f32::from(u16::MAX >> (16 - phantom.bits_stored));
    let slope = decimal(&phantom.header, tags::RESCALE_SLOPE).unwrap_or(1.0);
    let intercept = decimal(&phantom.header, tags::RESCALE_INTERCEPT).unwrap_or(0.0);
    let whole = (most * slope / 2.0 + intercept, most * slope);
    let centre = decimal(&phantom.header, tags::WINDOW_CENTER).unwrap_or(whole.0);
    let width = decimal(&phantom.header, tags::WINDOW_WIDTH)
        .unwrap_or(whole.1)
        .max(2.0);
    (0..=most as u32)
        .map(|stored| {
            let value = stored as f32 * slope + intercept;
            (((value - (centre - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
        })
        .collect()
}

/// RLE (PS3.5 annex G): the high bytes, then the low bytes, each packed row by row.
fn rle(pixels: &[u16], columns: usize) -> Vec<u8> {
    let mut segments = [Vec::new(), Vec::new()];
    let mut line = Vec::with_capacity(columns);
    for (segment, shift) in segments.iter_mut().zip([8, 0]) {
        for row in pixels.chunks_exact(columns) {
            line.clear();
            line.extend(row.iter().map(|p| (p >> shift) as u8));
            pack(&line, segment);
        }
        if segment.len() % 2 == 1 {
            segment.push(0);
        }
    }
    let mut out = Vec::with_capacity(64 + segments[0].len() + segments[1].len());
    let mut header = [0u32; 16];
    (header[0], header[1], header[2]) = (2, 64, 64 + segments[0].len() as u32);
    out.extend(header.iter().flat_map(|n| n.to_le_bytes()));
    out.extend(segments.concat());
    out
}

/// `PackBits`: runs of 2–128 equal bytes, literals of 1–128 bytes.
fn pack(line: &[u8], out: &mut Vec<u8>) {
    let run_at = |i: usize| {
        line[i..]
            .iter()
            .take(128)
            .take_while(|&&b| b == line[i])
            .count()
    };
    let mut i = 0;
    while i < line.len() {
        let run = run_at(i);
        if run >= 2 {
            out.extend([(257 - run) as u8, line[i]]);
            i += run;
            continue;
        }
        let start = i;
        while i < line.len() && i - start < 128 && run_at(i) < 3 {
            i += 1;
        }
        out.push((i - start - 1) as u8);
        out.extend(&line[start..i]);
    }
}
