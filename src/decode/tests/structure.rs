//! What a file is, whether it is all there, and that no file, however built, takes much memory or time.

use std::time::{Duration, Instant};

use super::synthetic::{BIG_ENDIAN, Content as Value, DEFLATED, Dicom, EXPLICIT, IMPLICIT};
use super::{difference, picture};
use crate::decode::header::inspect_bytes;
use crate::decode::{Completeness, Content};
use crate::domain::decision::HeaderView;
use crate::domain::{Header, Reason, Uid};

/// 16 × 12 pixels of 12 bits.
fn plain() -> Dicom {
    let cells: Vec<u16> = (0..16 * 12).map(|n| n * 21).collect();
    Dicom::new(12, 16, 16, 12).pixels16(&cells)
}

fn header_of(bytes: &[u8]) -> Header {
    match inspect_bytes(bytes).content {
        Content::Radiograph { header }
        | Content::Other { header }
        | Content::Damaged { header, .. } => header,
        _ => panic!("not DICOM"),
    }
}

fn reason_of(bytes: &[u8]) -> Option<Reason> {
    match inspect_bytes(bytes).content {
        Content::Damaged { fault, .. } => Some(fault.reason),
        _ => None,
    }
}

fn is_radiograph(bytes: &[u8]) -> bool {
    matches!(inspect_bytes(bytes).content, Content::Radiograph { .. })
}

#[test]
fn every_uncompressed_syntax_gives_the_same_header_and_the_same_picture() {
    let expected = picture(&plain().bytes(), None).unwrap();
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED] {
        let bytes = plain().syntax(syntax).bytes();
        let header = header_of(&bytes);
        assert_eq!(
            header.sop_instance_uid, "1.2.826.0.1.3680043.8.498.1",
            "{syntax}"
        );
        assert_eq!(header.patient_id, "PAT 17", "{syntax}");
        assert_eq!(header.description.view_position, "PA", "{syntax}");
        assert_eq!(
            (header.description.rows, header.description.columns),
            (12, 16),
            "{syntax}"
        );
        assert_eq!(header.description.transfer_syntax_uid, syntax);
        assert_eq!(
            picture(&bytes, None).unwrap().pixels,
            expected.pixels,
            "{syntax}"
        );
    }
}

#[test]
fn eight_bit_pixels_in_big_endian_words_are_not_swapped() {
    let cells: Vec<u8> = (0..15 * 7).map(|n| n as u8 * 2).collect();
    let expected = picture(&Dicom::new(7, 15, 8, 8).pixels8(&cells).bytes(), None).unwrap();
    let mut padded = cells;
    padded.push(0);
    let words = padded
        .chunks(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let swapped = Dicom::new(7, 15, 8, 8)
        .set(0x7FE0_0010, "OW", Value::Words(words))
        .syntax(BIG_ENDIAN)
        .bytes();
    assert_eq!(picture(&swapped, None).unwrap().pixels, expected.pixels);
}

#[test]
fn files_without_preamble_meta_group_or_transfer_syntax_are_read() {
    let expected = picture(&plain().bytes(), None).unwrap();
    let variants = [
        plain().without_preamble(),
        plain().without_meta(),
        plain().syntax(IMPLICIT).without_meta(),
        plain().syntax(BIG_ENDIAN).without_meta(),
        plain().syntax(""),
    ];
    for (index, dicom) in variants.iter().enumerate() {
        assert_eq!(
            picture(&dicom.bytes(), None).unwrap().pixels,
            expected.pixels,
            "variant {index}"
        );
        assert_eq!(
            inspect_bytes(&dicom.bytes()).completeness,
            Completeness::Complete,
            "variant {index}"
        );
    }
}

#[test]
fn a_wrong_meta_group_length_and_a_wrong_transfer_syntax_are_forgiven() {
    let mut bytes = plain().bytes();
    let at = 132 + 8;
    bytes[at..at + 4].copy_from_slice(&7_u32.to_le_bytes());
    assert!(picture(&bytes, None).is_ok());
    // Declared as explicit, written as implicit.
    let mut implicit = plain().syntax(IMPLICIT).bytes();
    let uid = implicit
        .windows(IMPLICIT.len())
        .position(|window| window == IMPLICIT.as_bytes())
        .unwrap();
    assert_eq!(
        implicit[uid + IMPLICIT.len()],
        0,
        "there is room for the longer UID only if it is padded"
    );
    implicit[uid..uid + IMPLICIT.len()].copy_from_slice(b"1.2.840.10008.1.2");
    assert!(picture(&implicit, None).is_ok());
}

#[test]
fn a_file_is_complete_exactly_when_its_structure_is() {
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN] {
        let bytes = plain().syntax(syntax).bytes();
        assert_eq!(inspect_bytes(&bytes).completeness, Completeness::Complete);
        for missing in [1, 2, 100, 383] {
            let cut = &bytes[..bytes.len() - missing];
            assert_eq!(
                inspect_bytes(cut).completeness,
                Completeness::ShortBy(missing as u64),
                "{syntax} −{missing}"
            );
            assert!(is_radiograph(cut), "it is one all the same");
            assert_eq!(picture(cut, None).unwrap_err().reason, Reason::Truncated);
        }
    }
}

#[test]
fn no_prefix_of_a_file_is_complete() {
    let with_sequence = plain().set(
        0x0028_3010,
        "SQ",
        Value::OpenItems(vec![vec![
            (0x0028_3002, "US", Value::Words(vec![4, 0, 16])),
            (0x0028_3006, "OW", Value::Words(vec![0, 1, 2, 3])),
        ]]),
    );
    let fragments = Dicom::new(4, 4, 8, 8).fragments("1.2.840.10008.1.2.5", &[&[1; 80], &[2; 20]]);
    for dicom in [plain(), with_sequence, fragments] {
        let bytes = dicom.bytes();
        assert_eq!(inspect_bytes(&bytes).completeness, Completeness::Complete);
        for len in 0..bytes.len() {
            assert_ne!(
                inspect_bytes(&bytes[..len]).completeness,
                Completeness::Complete,
                "{len} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn encapsulated_pixels_without_their_delimiter_lack_eight_bytes() {
    let bytes = Dicom::new(4, 4, 8, 8)
        .fragments("1.2.840.10008.1.2.5", &[&[1; 80]])
        .bytes();
    assert_eq!(inspect_bytes(&bytes).completeness, Completeness::Complete);
    assert_eq!(
        inspect_bytes(&bytes[..bytes.len() - 8]).completeness,
        Completeness::ShortBy(8)
    );
    assert_eq!(
        inspect_bytes(&bytes[..bytes.len() - 3]).completeness,
        Completeness::ShortBy(3)
    );
    assert_eq!(
        inspect_bytes(&bytes[..bytes.len() - 18]).completeness,
        Completeness::ShortBy(10)
    );
}

#[test]
fn padding_after_the_pixels_is_complete_and_junk_is_undetermined_and_both_decode() {
    let bytes = plain().bytes();
    let expected = picture(&bytes, None).unwrap().pixels;
    let with = |tail: &[u8]| [&bytes, tail].concat();
    let trailing_padding = b"\xFC\xFF\xFC\xFFOB\0\0\x04\0\0\0\0\0\0\0";
    let cases: [(&[u8], Completeness); 5] = [
        (&[0; 1000], Completeness::Complete),
        (&[0; 3], Completeness::Complete),
        (trailing_padding, Completeness::Complete),
        (
            b"junk that somebody appended to the file",
            Completeness::Undetermined,
        ),
        (b"\n", Completeness::Undetermined),
    ];
    for (tail, completeness) in cases {
        let bytes = with(tail);
        assert_eq!(inspect_bytes(&bytes).completeness, completeness, "{tail:?}");
        assert_eq!(picture(&bytes, None).unwrap().pixels, expected, "{tail:?}");
    }
    let cut = with(&trailing_padding[..14]);
    assert_eq!(inspect_bytes(&cut).completeness, Completeness::ShortBy(2));
}

#[test]
fn junk_after_implicit_pixels_is_not_taken_for_an_element_that_is_cut_off() {
    let bytes = plain().syntax(IMPLICIT).bytes();
    let expected = picture(&bytes, None).unwrap().pixels;
    let with = |tail: &[u8]| [&bytes, tail].concat();
    for junk in [
        &[0xCD_u8; 512][..],
        &[0xFF; 8],
        &[0xFF; 12],
        b"\x31\x99\x12\x34junk",
    ] {
        let bytes = with(junk);
        let completeness = inspect_bytes(&bytes).completeness;
        assert_eq!(completeness, Completeness::Undetermined, "{junk:?}");
        assert_eq!(picture(&bytes, None).unwrap().pixels, expected, "{junk:?}");
    }
    let private = b"\xE1\x7F\x10\0\x06\0\0\0MAKER \xE1\x7F\x01\x10\x04\0\0\0abcd\xFC\xFF\xFC\xFF\x04\0\0\0\0\0\0\0";
    let whole = inspect_bytes(&with(private)).completeness;
    assert_eq!(whole, Completeness::Complete);
    let cut = inspect_bytes(&with(&private[..24])).completeness;
    assert_eq!(cut, Completeness::ShortBy(2));
}

#[test]
fn a_preallocated_file_is_not_complete_where_that_can_be_seen() {
    let bytes = Dicom::new(4, 4, 8, 8)
        .fragments("1.2.840.10008.1.2.5", &[&[1; 80], &[2; 6000], &[3; 20]])
        .bytes();
    for written in [
        0,
        100,
        140,
        200,
        bytes.len() - 6100,
        bytes.len() - 40,
        bytes.len() - 8,
    ] {
        let mut preallocated = bytes[..written].to_vec();
        preallocated.resize(bytes.len(), 0);
        let completeness = inspect_bytes(&preallocated).completeness;
        assert_ne!(completeness, Completeness::Complete, "{written} written");
    }
    // A hole in the middle, filled last.
    let mut holed = bytes.clone();
    let at = bytes.len() - 6000;
    holed[at - 200..at + 5900].fill(0);
    assert_ne!(inspect_bytes(&holed).completeness, Completeness::Complete);
}

#[test]
fn pixels_shorter_than_rows_and_columns_are_damaged() {
    let bytes = Dicom::new(12, 16, 16, 12).pixels16(&[0; 16 * 11]).bytes();
    assert_eq!(inspect_bytes(&bytes).completeness, Completeness::Complete);
    assert_eq!(reason_of(&bytes), Some(Reason::Malformed));
    assert_eq!(
        reason_of(&plain().without(0x7FE0_0010).bytes()),
        Some(Reason::NoPixelData)
    );
    assert_eq!(
        inspect_bytes(&plain().without(0x7FE0_0010).bytes()).completeness,
        Completeness::Undetermined
    );
}

#[test]
fn pixel_data_without_pixels_is_none() {
    let empty = plain().pixels16(&[]);
    assert_eq!(reason_of(&empty.bytes()), Some(Reason::NoPixelData));
    let fragments = plain().fragments("1.2.840.10008.1.2.4.70", &[&[], &[]]);
    assert_eq!(reason_of(&fragments.bytes()), Some(Reason::NoPixelData));
}

#[test]
fn images_in_colour_may_be_as_large_as_a_decoder_has_memory_for() {
    let sized = |rows: u16, columns: u16, samples: u16, photometric: &str| {
        let dicom = Dicom::new(rows, columns, 8, 8)
            .words(0x0028_0002, &[samples])
            .text(0x0028_0004, "CS", photometric)
            .fragments("1.2.840.10008.1.2.4.70", &[b"\xFF\xD8"]);
        reason_of(&dicom.bytes())
    };
    let refused = Some(Reason::CannotDecode);
    assert_eq!(sized(10_000, 10_000, 1, "MONOCHROME2"), None);
    assert_eq!(sized(10_000, 10_001, 1, "MONOCHROME2"), refused);
    assert_eq!(sized(6000, 6000, 3, "RGB"), None);
    assert_eq!(sized(6000, 6001, 3, "RGB"), refused);
    assert_eq!(sized(6000, 6001, 3, "YBR_FULL"), refused);
}

#[test]
fn only_words_that_the_standard_has_are_kept_of_codes() {
    let coded = |value: &str, scheme: &str, meaning: &str| {
        let text = |text: &str| Value::Bytes(format!("{text:<20}").into_bytes());
        let item = vec![
            (0x0008_0100, "SH", text(value)),
            (0x0008_0102, "SH", text(scheme)),
            (0x0008_0104, "LO", text(meaning)),
        ];
        let dicom = plain().set(0x0054_0220, "SQ", Value::Items(vec![item]));
        header_of(&dicom.without(0x0018_5101).bytes()).description
    };
    let code = coded("399348003", "SCT", "KOWALSKA");
    assert_eq!(code.view_code, "antero-posterior");
    assert_eq!(HeaderView::of(&code), HeaderView::Ap);
    let name = coded("KOWALSKA", "KOWALSKA", "bilateral KOWALSKA");
    assert_eq!(name.view_code, "other");
    assert_eq!(HeaderView::of(&name), HeaderView::Other);
    // A SOP Class that is no UID is no radiograph's, though it is not kept.
    let dicom = plain().text(0x0008_0016, "UI", "KOWALSKA");
    let dicom = dicom.text(0x0018_0015, "CS", "KOWALSKA");
    assert!(!is_radiograph(&dicom.bytes()));
    let description = header_of(&dicom.bytes()).description;
    assert_eq!(description.sop_class_uid, "");
    assert_eq!(description.body_part_examined, "OTHER");
}

#[test]
fn what_a_file_is_is_told_by_its_sop_class_then_its_modality() {
    let with_class = |class: &str| plain().text(0x0008_0016, "UI", class).bytes();
    let cases = [
        ("1.2.840.10008.5.1.4.1.1.1.1", true), // digital X-ray for presentation
        ("1.2.840.10008.5.1.4.1.1.1.1.1", true), // … for processing
        ("1.2.840.10008.5.1.4.1.1.7", true),   // secondary capture that says CR
        ("1.2.840.10008.5.1.4.1.1.12.2", true), // radiofluoroscopy, one frame
        ("1.2.840.10008.5.1.4.1.1.1.2", false), // mammography
        ("1.2.840.10008.5.1.4.1.1.2", false),  // CT
        ("1.2.840.10008.5.1.4.1.1.104.1", false), // PDF
    ];
    for (class, radiograph) in cases {
        let content = inspect_bytes(&with_class(class)).content;
        assert_eq!(
            matches!(content, Content::Radiograph { .. }),
            radiograph,
            "{class}"
        );
        assert_eq!(
            matches!(content, Content::Other { .. }),
            !radiograph,
            "{class}"
        );
    }
    let capture = plain()
        .text(0x0008_0016, "UI", "1.2.840.10008.5.1.4.1.1.7")
        .text(0x0008_0060, "CS", "OT");
    assert!(matches!(
        inspect_bytes(&capture.bytes()).content,
        Content::Other { .. }
    ));
    assert!(
        is_radiograph(&plain().without(0x0008_0016).bytes()),
        "the modality decides"
    );
    assert_eq!(
        reason_of(&plain().without(0x0008_0016).without(0x0008_0060).bytes()),
        Some(Reason::Malformed)
    );
}

#[test]
fn what_is_not_dicom_is_told_apart() {
    for junk in [
        &b""[..],
        b"%PDF-1.7 and more",
        b"\xFF\xD8\xFF\xE0 JFIF",
        b"\x89PNG\r\n\x1A\n",
        b"hello\n",
        &[0; 100],
    ] {
        let inspection = inspect_bytes(junk);
        assert!(matches!(inspection.content, Content::NotDicom), "{junk:?}");
        assert_eq!(
            inspection.completeness,
            Completeness::Undetermined,
            "{junk:?}"
        );
    }
    for archive in [
        &b"PK\x03\x04rest"[..],
        b"\x1F\x8B\x08",
        b"7z\xBC\xAF\x27\x1C",
        b"Rar!\x1A\x07\x00",
    ] {
        assert!(
            matches!(inspect_bytes(archive).content, Content::Archive),
            "{archive:?}"
        );
    }
    assert_eq!(
        inspect_bytes(&[0; 5000]).completeness,
        Completeness::ShortBy(5000),
        "made at full length, not filled"
    );
    let mut dicomdir = vec![0; 128];
    dicomdir
        .extend(b"DICM\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10\x04\x00\x20\x12CS\x00\x00");
    assert!(matches!(
        inspect_bytes(&dicomdir).content,
        Content::Dicomdir
    ));
    let mut dual = plain().bytes();
    dual[..4].copy_from_slice(b"PK\x03\x04");
    assert!(
        is_radiograph(&dual),
        "a preamble that makes it a ZIP at the same time"
    );
}

#[test]
fn private_elements_nested_sequences_and_icons_are_passed_over() {
    let icon = vec![
        (0x7FE0_0010, "OB", Value::Fragments(vec![vec![9; 50]])),
        (0x0028_0010, "US", Value::Words(vec![1])),
    ];
    let mut icon = icon;
    icon.reverse();
    let mut nested = Value::Items(vec![vec![(
        0x0011_0001,
        "LO",
        Value::Bytes(b"deep".to_vec()),
    )]]);
    for level in 0..12 {
        let item = vec![vec![(0x0011_1001, "SQ", nested)]];
        nested = if level % 2 == 0 {
            Value::OpenItems(item)
        } else {
            Value::Items(item)
        };
    }
    let dicom = plain()
        .set(0x0009_1001, "UN", Value::OpenItems(vec![]))
        .set(0x0011_1001, "SQ", nested)
        .set(0x0009_1002, "OB", Value::Bytes(vec![0xAB; 100_000]))
        // Not as PS3.5 §6.2.2 wants it, but written by devices: with VRs inside.
        .set(
            0x0009_1003,
            "UN",
            Value::OpenItems(vec![vec![(
                0x0009_1001,
                "LO",
                Value::Bytes(b"seen".to_vec()),
            )]]),
        )
        .set(0x0088_0200, "SQ", Value::OpenItems(vec![icon]));
    let bytes = dicom.bytes();
    assert_eq!(inspect_bytes(&bytes).completeness, Completeness::Complete);
    assert_eq!(header_of(&bytes).description.rows, 12);
    assert_eq!(
        picture(&bytes, None).unwrap().pixels,
        picture(&plain().bytes(), None).unwrap().pixels
    );
}

#[test]
fn texts_are_bounded_and_latin_1_survives() {
    let header = header_of(
        &plain()
            .set(0x0010_0020, "LO", Value::Bytes(b"M\xFCller-17 ".to_vec()))
            .text(0x0008_0070, "LO", &"x".repeat(1000))
            .text(0x0008_0020, "DA", "2026-11-")
            .bytes(),
    );
    assert_eq!(header.patient_id, "Müller-17");
    assert_eq!(header.description.manufacturer.len(), 64);
    assert_eq!(header.description.study_date, "");
}

#[test]
fn a_control_character_inside_a_uid_does_not_make_it_another_one() {
    let uid_of = |bytes: &[u8]| {
        let dicom = plain().set(0x0008_0018, "UI", Value::Bytes(bytes.to_vec()));
        header_of(&dicom.bytes()).sop_instance_uid
    };
    for inside in [&b"1.2.3\0.4"[..], b"1.2\x1b.3.4", b"1.2.3\r\n.4"] {
        assert!(Uid::parse(&uid_of(inside)).is_err(), "{inside:?}");
    }
    for around in [&b"1.2.3.4\0"[..], b"1.2.3.4 ", b" 1.2.3.4\r\n"] {
        assert_eq!(uid_of(around), "1.2.3.4", "{around:?}");
    }
}

#[test]
fn a_preamble_that_makes_the_file_a_program_is_told() {
    let preambles: [(&[u8], bool); 9] = [
        (b"MZ\x90\0", true),
        (b"\x7fELF\x02\x01\x01", true),
        (b"\xcf\xfa\xed\xfe\x07", true),
        (b"#!/bin/sh\n", true),
        (b"\xef\xbb\xbf \n<ScRiPt>", true),
        // What imaging itself makes of a preamble: TIFF of both kinds, and nothing.
        (b"II*\0\x08\0\0\0", false),
        (b"MM\0*\0\0\0\x08", false),
        (b"\0\0\0\0", false),
        (b"m z", false),
    ];
    for (preamble, executable) in preambles {
        let mut bytes = plain().bytes();
        bytes[..preamble.len()].copy_from_slice(preamble);
        assert_eq!(header_of(&bytes).executable, executable, "{preamble:?}");
    }
}

/// The bombs that were measured against dicom-rs cost it gigabytes, a stack overflow, or an abort.
#[test]
fn bombs_cost_nothing() {
    let mut huge_element = vec![0; 128];
    huge_element.extend(b"DICM");
    huge_element.extend(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    huge_element.extend(b"\x08\x00\x05\x00OB\0\0\xFE\xFF\xFF\xFF");
    huge_element.resize(266, 7);

    let mut nested = vec![0; 128];
    nested.extend(b"DICM");
    nested.extend(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    for _ in 0..2000 {
        nested.extend(b"\x08\x00\x15\x11SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF");
    }

    let vast = Dicom::new(65535, 65535, 16, 16).pixels16(&[0; 100]).bytes();
    let vast_rle = Dicom::new(65535, 65535, 16, 16)
        .fragments("1.2.840.10008.1.2.5", &[&[0; 100]])
        .bytes();
    let long_rle = Dicom::new(9000, 9000, 16, 16)
        .fragments("1.2.840.10008.1.2.5", &[&[2; 100]])
        .bytes();
    let many: Vec<&[u8]> = vec![&[]; 300_000];
    let empty_fragments = Dicom::new(16, 16, 8, 8)
        .fragments("1.2.840.10008.1.2.5", &many)
        .bytes();
    let zeros: Vec<u8> = vec![0; 64 << 20];
    let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut deflater, &zeros).unwrap();
    let mut deflated = vec![0; 128];
    deflated.extend(b"DICM");
    deflated.extend(b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99");
    deflated.extend(deflater.finish().unwrap());

    let bombs = [
        huge_element,
        nested,
        vast,
        vast_rle,
        long_rle,
        empty_fragments,
        deflated,
    ];
    for (index, bomb) in bombs.iter().enumerate() {
        let begun = Instant::now();
        let fault = picture(bomb, Some(64)).expect_err("a bomb is no picture");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "bomb {index} took {took:?}");
        assert!(!fault.detail.is_empty());
    }
}

#[test]
fn an_unknown_transfer_syntax_is_named_as_such() {
    let mpeg = Dicom::new(4, 4, 8, 8)
        .fragments("1.2.840.10008.1.2.4.100", &[&[1; 80]])
        .bytes();
    assert_eq!(reason_of(&mpeg), Some(Reason::UnsupportedTransferSyntax));
    assert_eq!(
        reason_of(&plain().syntax("1.2.3.4").bytes()),
        Some(Reason::UnsupportedTransferSyntax)
    );
    let float = plain()
        .without(0x7FE0_0010)
        .set(0x7FE0_0008, "OB", Value::Bytes(vec![0; 768]))
        .bytes();
    assert_eq!(reason_of(&float), Some(Reason::CannotDecode));
}

#[test]
fn a_deflated_file_tells_its_header_even_when_torn() {
    let cells: Vec<u16> = (0..300 * 300_u32)
        .map(|n| (n * 7919 % 4093) as u16)
        .collect();
    let bytes = Dicom::new(300, 300, 16, 12)
        .pixels16(&cells)
        .syntax(DEFLATED)
        .bytes();
    let whole = picture(&bytes, None).unwrap();
    let plain = picture(&Dicom::new(300, 300, 16, 12).pixels16(&cells).bytes(), None).unwrap();
    assert!(difference(&whole.pixels, &plain.pixels).1 == 0.0);
    let torn = &bytes[..bytes.len() / 2];
    assert_eq!(header_of(torn).description.rows, 300);
    // Whole, its end is no proof; cut anywhere, it waits as long as others that are short.
    assert_eq!(
        inspect_bytes(&bytes).completeness,
        Completeness::Undetermined
    );
    for cut in [1, 2, bytes.len() / 2, bytes.len() - 700] {
        let torn = &bytes[..bytes.len() - cut];
        assert_eq!(
            inspect_bytes(torn).completeness,
            Completeness::ShortBy(1),
            "without its last {cut} bytes"
        );
    }
    assert_eq!(picture(torn, None).unwrap_err().reason, Reason::Truncated);
}
