//! The bounded header pass: what a file is, whether it is all there, and what its header says.
//!
//! Never panics, reads about 1 MiB at most however large the file claims to be (of a deflated one all, to see its
//! end), and tolerates what real devices write:
//! no preamble, a wrong or absent meta group length, no transfer syntax, bytes after Pixel Data.

use std::collections::HashMap;
use std::fs::File;

use super::attributes::PixelDescription;
use super::bytes::Bytes;
use super::dataset::{self, DataSet, End, PixelData, Value};
use super::encoding::{Encoding, Tag, is_vr};
use super::inflate::{self, inflate};
use super::{Completeness, Content, Fault, Inspection};
use crate::domain::instance::Description;
use crate::domain::{Header, Reason, terms, view_code};

/// Transfer Syntax UIDs (PS3.5 §10, PS3.6 table A-1) by how the pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Native,
    Deflated,
    /// Native pixels, a fragment each frame (PS3.5 §A.4.11).
    Wrapped,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    JpegXl,
    Unknown,
}

impl Syntax {
    fn of(uid: &str) -> Self {
        let Some(suffix) = uid.strip_prefix("1.2.840.10008.1.2") else {
            return Self::Unknown;
        };
        match suffix {
            "" | ".1" | ".2" => Self::Native,
            ".1.99" => Self::Deflated,
            ".1.98" => Self::Wrapped,
            ".5" => Self::Rle,
            // Baseline, extended, lossless any predictor, lossless first order.
            ".4.50" | ".4.51" | ".4.57" | ".4.70" => Self::Jpeg,
            ".4.80" | ".4.81" => Self::JpegLs,
            // JPEG 2000 and HTJ2K (lossless, lossless with RPCL, lossy).
            ".4.90" | ".4.91" | ".4.201" | ".4.202" | ".4.203" => Self::Jpeg2000,
            ".4.110" | ".4.111" | ".4.112" => Self::JpegXl,
            _ => Self::Unknown,
        }
    }
}

/// What the decoder needs beyond an [`Inspection`].
pub(super) struct Examined {
    pub inspection: Inspection,
    /// What to decode; `None` unless the content is a radiograph.
    pub pixels: Option<Pixels>,
}

/// Pixel data that the header pass found decodable.
pub(super) struct Pixels {
    pub syntax: Syntax,
    pub description: PixelDescription,
    pub frames: u32,
    pub data: PixelData,
    pub encoding: Encoding,
    /// The inflated data set, in which `data` then counts.
    pub inflated: Option<Vec<u8>>,
}

/// Top-level elements that are kept. Sorted.
const WANTED: [Tag; 65] = [
    0x0008_0016,
    0x0008_0018,
    0x0008_0020,
    0x0008_0060,
    0x0008_0070,
    0x0008_1090,
    0x0010_0020,
    0x0010_0021,
    0x0010_1010,
    0x0018_0015,
    0x0018_1164,
    0x0018_5101,
    0x0020_000D,
    0x0020_000E,
    0x0020_0020,
    0x0020_0060,
    0x0020_0062,
    0x0028_0002,
    0x0028_0004,
    0x0028_0006,
    0x0028_0008,
    0x0028_0010,
    0x0028_0011,
    0x0028_0030,
    0x0028_0034,
    0x0028_0100,
    0x0028_0101,
    0x0028_0102,
    0x0028_0103,
    0x0028_0120,
    0x0028_0121,
    0x0028_1050,
    0x0028_1051,
    0x0028_1052,
    0x0028_1053,
    0x0028_1056,
    0x0028_1101,
    0x0028_1102,
    0x0028_1103,
    0x0028_1201,
    0x0028_1202,
    0x0028_1203,
    0x0028_1221,
    0x0028_1222,
    0x0028_1223,
    0x0028_3000,
    0x0028_3010,
    0x0054_0220,
    0x2050_0020,
    0x6000_0102,
    0x6002_0102,
    0x6004_0102,
    0x6006_0102,
    0x6008_0102,
    0x600A_0102,
    0x600C_0102,
    0x600E_0102,
    0x6010_0102,
    0x6012_0102,
    0x6014_0102,
    0x6016_0102,
    0x6018_0102,
    0x601A_0102,
    0x601C_0102,
    0x601E_0102,
];
const META_WANTED: [Tag; 2] = [0x0002_0002, 0x0002_0010];
const DICOMDIR: &str = "1.2.840.10008.1.3.10";

/// Looks at a file's structure and header. `size` is its size when it was opened.
pub fn inspect(file: &File, size: u64) -> Inspection {
    examine(&Bytes::File { file, len: size }, inflate::HEAD).inspection
}

/// [`inspect`] for bytes in memory.
pub fn inspect_bytes(bytes: &[u8]) -> Inspection {
    examine(&Bytes::Memory(bytes), inflate::HEAD).inspection
}

/// The header pass; of a deflated data set it keeps `most` bytes at most.
pub(super) fn examine(bytes: &Bytes, most: u64) -> Examined {
    let mut head = [0; 512];
    let known = head
        .len()
        .min(usize::try_from(bytes.len()).unwrap_or(usize::MAX));
    if let Err(fault) = bytes.read_at(0, &mut head[..known]) {
        let content = Content::Damaged {
            header: Header::default(),
            fault,
        };
        return plain(Completeness::Undetermined, content);
    }
    let head = &head[..known];
    let start = match begin(head) {
        Begin::DataSet(start) => start,
        Begin::Archive => return plain(Completeness::Undetermined, Content::Archive),
        Begin::Other => {
            // A file made at its full length and not filled yet has only zeros.
            let unfilled = known == 512 && head.iter().all(|byte| *byte == 0);
            let completeness = if unfilled {
                Completeness::ShortBy(bytes.len())
            } else {
                Completeness::Undetermined
            };
            return plain(completeness, Content::NotDicom);
        }
    };

    let meta = dataset::walk(bytes, start, Encoding::EXPLICIT, Some(0x0002), &META_WANTED);
    let text = |values: &HashMap<_, Value>, tag| {
        values.get(&(0, tag)).map(Value::text).unwrap_or_default()
    };
    let storage_class = text(&meta.values, 0x0002_0002);
    let start = meta.position;
    if storage_class == DICOMDIR {
        return plain(Completeness::Undetermined, Content::Dicomdir);
    }
    if meta.end != End::Clean || start >= bytes.len() {
        let content = Content::Damaged {
            header: Header::default(),
            fault: Fault::new(Reason::Truncated, "the file ends in its meta information"),
        };
        let completeness = match meta.end {
            End::ShortBy(n) => Completeness::ShortBy(n),
            _ => Completeness::ShortBy(1),
        };
        return plain(completeness, content);
    }

    let declared = text(&meta.values, 0x0002_0010);
    let mut syntax = if declared.is_empty() {
        Syntax::Native
    } else {
        Syntax::of(&declared)
    };
    let (mut inflated, mut cut) = (None, false);
    let (data_set, encoding) = if syntax == Syntax::Deflated {
        let memory = match inflate(bytes, start, most) {
            Ok(found) => {
                cut = found.cut;
                &*inflated.insert(found.bytes)
            }
            Err(fault) => {
                let content = Content::Damaged {
                    header: Header::default(),
                    fault,
                };
                return plain(Completeness::Undetermined, content);
            }
        };
        (
            dataset::walk(&Bytes::Memory(memory), 0, Encoding::EXPLICIT, None, &WANTED),
            Encoding::EXPLICIT,
        )
    } else {
        let encoding = encoding_of(bytes, start, &declared);
        (
            dataset::walk(bytes, start, encoding, None, &WANTED),
            encoding,
        )
    };

    let deflated = syntax == Syntax::Deflated;
    let completeness = match (&data_set.end, &data_set.pixel_data) {
        // How much is missing, it does not say.
        _ if cut => Completeness::ShortBy(1),
        _ if deflated => Completeness::Undetermined,
        (End::ShortBy(n), _) => Completeness::ShortBy((*n).max(1)),
        (End::Clean, Some(_)) => Completeness::Complete,
        _ => Completeness::Undetermined,
    };
    if matches!(data_set.pixel_data, Some(PixelData::Encapsulated { .. }))
        && syntax == Syntax::Native
    {
        syntax = Syntax::Unknown;
    }
    let header = header(&data_set, &declared, &storage_class);
    let class = class_of(&header.description);
    let header = Header {
        executable: is_executable(head),
        description: terms::only_known(header.description),
        ..header
    };
    if class == Class::Other {
        return plain(completeness, Content::Other { header });
    }
    match pixels(&data_set, syntax, encoding, &header, completeness, class) {
        Ok(pixels) => Examined {
            inspection: Inspection {
                completeness,
                content: Content::Radiograph { header },
            },
            pixels: pixels.map(|pixels| Pixels { inflated, ..pixels }),
        },
        Err(fault) => plain(completeness, Content::Damaged { header, fault }),
    }
}

fn plain(completeness: Completeness, content: Content) -> Examined {
    Examined {
        inspection: Inspection {
            completeness,
            content,
        },
        pixels: None,
    }
}

/// What of a radiograph can be decoded: `None` while it is still being written, a fault when it never can.
fn pixels(
    data_set: &DataSet,
    syntax: Syntax,
    encoding: Encoding,
    header: &Header,
    completeness: Completeness,
    class: Class,
) -> Result<Option<Pixels>, Fault> {
    let short = matches!(completeness, Completeness::ShortBy(_));
    if let End::Malformed(why) = data_set.end {
        return Err(Fault::new(Reason::Malformed, why));
    }
    if class == Class::Unknown {
        return Err(if short {
            Fault::new(Reason::Truncated, "the file ends before it says what it is")
        } else {
            Fault::new(Reason::Malformed, "there is no SOP Class UID")
        });
    }
    if syntax == Syntax::Unknown {
        let detail = "the transfer syntax is not known, or does not fit the pixel data";
        return Err(Fault::new(Reason::UnsupportedTransferSyntax, detail));
    }
    if data_set.float_pixel_data {
        return Err(Fault::new(
            Reason::CannotDecode,
            "the pixels are floating point numbers",
        ));
    }
    let Some(data) = data_set.pixel_data.clone() else {
        // An inflated head may end inside the pixels: decoding will tell.
        let rest = syntax == Syntax::Deflated && matches!(data_set.end, End::ShortBy(_));
        if short || rest {
            return Ok(None);
        }
        return Err(Fault::new(Reason::NoPixelData, "there is no Pixel Data"));
    };
    let empty = match &data {
        PixelData::Native { len, .. } => *len == 0,
        PixelData::Encapsulated { fragments, .. } => fragments.iter().all(|(_, len)| *len == 0),
    };
    if empty {
        return Err(Fault::new(Reason::NoPixelData, "Pixel Data is empty"));
    }
    let description = PixelDescription::read(&data_set.values)?;
    match &data {
        PixelData::Native { len, .. } => {
            if !matches!(syntax, Syntax::Native | Syntax::Deflated) {
                let detail = "the transfer syntax is compressed but Pixel Data is not encapsulated";
                return Err(Fault::new(Reason::Malformed, detail));
            }
            let needed = description.frame_bytes();
            if *len < needed {
                let detail =
                    format!("Pixel Data has {len} bytes, and Rows and Columns need {needed}");
                return Err(Fault::new(Reason::Malformed, detail));
            }
        }
        PixelData::Encapsulated { .. } => {}
    }
    Ok(Some(Pixels {
        syntax,
        description,
        frames: header.description.number_of_frames,
        data,
        encoding,
        inflated: None,
    }))
}

enum Begin {
    /// The meta group, or without one the data set, begins here.
    DataSet(u64),
    Archive,
    Other,
}

/// ZIP (three kinds of beginning), gzip, 7z, RAR, xz, bzip2, Zstandard; tar has its magic elsewhere.
const ARCHIVES: [&[u8]; 9] = [
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"\x1f\x8b",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\xfd7zXZ\0",
    b"BZh",
    b"\x28\xb5\x2f\xfd",
];

/// How programs and scripts begin, in lower case: Windows, Linux, macOS (and Java), WebAssembly, Unix, batch, the Web.
const EXECUTABLES: [&[u8]; 15] = [
    b"mz",
    b"\x7felf",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
    b"#!",
    b"@echo",
    b"<?",
    b"<!",
    b"<%",
    b"<html",
    b"<script",
];

/// Whether a file with this beginning is a program or a script for those who do not know that it is DICOM.
fn is_executable(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let words = head.trim_ascii_start().to_ascii_lowercase();
    EXECUTABLES.iter().any(|magic| words.starts_with(magic))
}

fn begin(head: &[u8]) -> Begin {
    // A preamble may make the file a ZIP or a TIFF at the same time (PS3.10 §7.1): DICOM goes first.
    if head.get(128..132) == Some(b"DICM") {
        return Begin::DataSet(132);
    }
    if head.starts_with(b"DICM") {
        return Begin::DataSet(4);
    }
    if ARCHIVES.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
    {
        return Begin::Archive;
    }
    if headless(head) {
        Begin::DataSet(0)
    } else {
        Begin::Other
    }
}

/// Whether the bytes begin with a data set's usual first elements, without preamble.
fn headless(head: &[u8]) -> bool {
    let Some([a, b, c, d, x, y, lengths @ ..]) = head.first_chunk::<12>() else {
        return false;
    };
    let little = u16::from_le_bytes([*a, *b]);
    let big = u16::from_be_bytes([*a, *b]);
    let element = u16::from_le_bytes([*c, *d]);
    if is_vr([*x, *y]) {
        return (matches!(little, 0x0002 | 0x0008) && element <= 0x0100)
            || (big == 0x0008 && *c == 0);
    }
    let [e, f, ..] = lengths;
    let len = u32::from_le_bytes([*x, *y, *e, *f]);
    matches!(little, 0x0002 | 0x0008) && element <= 0x0060 && len <= 1024
}

/// The encoding that the transfer syntax names, unless the first element plainly contradicts it.
fn encoding_of(bytes: &Bytes, start: u64, uid: &str) -> Encoding {
    let mut first = [0; 6];
    let [a, b, _, _, x, y] = match bytes.read_at(start, &mut first) {
        Ok(()) => first,
        Err(_) => [0; 6],
    };
    let vr = is_vr([x, y]);
    match uid {
        // The first group is 0008 at most places: as a big-endian number it begins with a zero byte.
        "1.2.840.10008.1.2.2" => Encoding {
            implicit: !vr,
            big_endian: true,
        },
        "" if vr && a == 0 && b != 0 => Encoding {
            implicit: false,
            big_endian: true,
        },
        _ => Encoding {
            implicit: !vr,
            big_endian: false,
        },
    }
}

fn header(data_set: &DataSet, syntax: &str, storage_class: &str) -> Header {
    let value = |tag| data_set.values.get(&(0, tag));
    let long = |tag| value(tag).map(Value::text).unwrap_or_default();
    let identifier = |tag| value(tag).map(Value::identifier).unwrap_or_default();
    let short = |text: String| text.trim().chars().take(64).collect::<String>();
    let text = |tag| short(long(tag));
    let code = |tag| {
        let value = data_set.values.get(&(0x0054_0220, tag));
        short(value.map(Value::text).unwrap_or_default())
    };
    let number = |tag| value(tag).and_then(Value::unsigned).unwrap_or(0);
    let or = |first: String, other: String| if first.is_empty() { other } else { first };
    let date = text(0x0008_0020);
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    Header {
        // Raw: radsort's own parser says what is wrong with a UID that is too long.
        sop_instance_uid: identifier(0x0008_0018),
        study_instance_uid: identifier(0x0020_000D),
        series_instance_uid: identifier(0x0020_000E),
        // As ever: their pseudonyms are on record.
        patient_id: long(0x0010_0020),
        issuer_of_patient_id: long(0x0010_0021),
        executable: false,
        description: Description {
            sop_class_uid: or(text(0x0008_0016), short(storage_class.to_owned())),
            transfer_syntax_uid: short(syntax.to_owned()),
            modality: text(0x0008_0060),
            study_date: if is_date { date } else { String::new() },
            view_position: text(0x0018_5101),
            patient_orientation: text(0x0020_0020),
            view_code: view_code::term(&code(0x0008_0100), &code(0x0008_0102), &code(0x0008_0104))
                .to_owned(),
            laterality: or(text(0x0020_0062), text(0x0020_0060)),
            body_part_examined: text(0x0018_0015),
            patient_age: text(0x0010_1010),
            manufacturer: text(0x0008_0070),
            manufacturer_model_name: text(0x0008_1090),
            photometric_interpretation: text(0x0028_0004),
            rows: number(0x0028_0010),
            columns: number(0x0028_0011),
            number_of_frames: value(0x0028_0008)
                .and_then(Value::decimal)
                .map_or(1, |n| n.clamp(1.0, 1e9) as u32),
            bits_allocated: number(0x0028_0100) as u16,
            bits_stored: number(0x0028_0101) as u16,
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Radiograph,
    Other,
    Unknown,
}

/// What counts as a radiograph, by SOP Class (PS3.4 §B.5) and, where that leaves it open, by modality.
///
/// | SOP Class | |
/// |---|---|
/// | Computed Radiography; Digital X-Ray for presentation and for processing | radiograph |
/// | X-Ray Radiofluoroscopic, one frame (a spot image or a stitched slot scan) | radiograph |
/// | Secondary Capture in all forms, modality CR, DX, DR or RG | radiograph |
/// | none given, modality CR, DX, DR or RG | radiograph |
/// | all others, among them mammography, intra-oral, angiography, CT, MR, reports, PDF | other |
fn class_of(description: &Description) -> Class {
    let by_modality = matches!(description.modality.as_str(), "CR" | "DX" | "DR" | "RG");
    match description
        .sop_class_uid
        .strip_prefix("1.2.840.10008.5.1.4.1.1.")
    {
        Some("1" | "1.1" | "1.1.1") => Class::Radiograph,
        Some("12.2") if description.number_of_frames == 1 => Class::Radiograph,
        Some("7" | "7.1" | "7.2" | "7.3" | "7.4") if by_modality => Class::Radiograph,
        None if description.sop_class_uid.is_empty() && by_modality => Class::Radiograph,
        None if description.sop_class_uid.is_empty() && description.modality.is_empty() => {
            Class::Unknown
        }
        _ => Class::Other,
    }
}
