//! Every codec, on codestreams made by other encoders (`tests/data/codestreams/make.py`) whose pictures are known ramps.

use std::path::Path;

use super::synthetic::Dicom;
use super::{difference, picture};
use crate::decode::Fault;
use crate::decode::Radiograph;
use crate::domain::Reason;

const ROWS: u16 = 40;
const COLUMNS: u16 = 48;
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
const JPEG_EXTENDED: &str = "1.2.840.10008.1.2.4.51";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.57";
const JPEG_LOSSLESS_SV1: &str = "1.2.840.10008.1.2.4.70";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_LS_NEAR: &str = "1.2.840.10008.1.2.4.81";
const J2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.90";
const J2K: &str = "1.2.840.10008.1.2.4.91";
const HTJ2K_LOSSLESS: &str = "1.2.840.10008.1.2.4.201";
const JPEG_XL_LOSSLESS: &str = "1.2.840.10008.1.2.4.110";
const JPEG_XL: &str = "1.2.840.10008.1.2.4.112";
const RLE: &str = "1.2.840.10008.1.2.5";

fn codestream(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/codestreams")
            .join(name),
    )
    .unwrap()
}

fn coordinates() -> impl Iterator<Item = (u16, u16)> {
    (0..ROWS).flat_map(|y| (0..COLUMNS).map(move |x| (x, y)))
}

fn grey12() -> Vec<u16> {
    coordinates().map(|(x, y)| 40 * x + 37 * y).collect()
}

fn grey8() -> Vec<u16> {
    grey12().into_iter().map(|grey| grey >> 4).collect()
}

fn grey16() -> Vec<u16> {
    grey12().into_iter().map(|grey| grey << 4).collect()
}

/// The same picture uncompressed, in 16 bits, as one window that shows everything.
fn expected(cells: &[u16], bits: u16) -> Vec<f32> {
    let dicom = window(Dicom::new(ROWS, COLUMNS, 16, bits), bits, 0.0);
    picture(&dicom.pixels16(cells).bytes(), None)
        .unwrap()
        .pixels
}

fn window(dicom: Dicom, bits: u16, lowest: f64) -> Dicom {
    let width = f64::from((1_u32 << bits) - 1);
    dicom
        .text(0x0028_1050, "DS", &format!("{}", lowest + width / 2.0))
        .text(0x0028_1051, "DS", &format!("{width}"))
        .text(0x0028_1056, "CS", "LINEAR_EXACT")
}

fn grey(bits: u16, syntax: &str, name: &str) -> Radiograph {
    let dicom = window(
        Dicom::new(ROWS, COLUMNS, if bits > 8 { 16 } else { 8 }, bits),
        bits,
        0.0,
    );
    picture(&dicom.fragments(syntax, &[&codestream(name)]).bytes(), None)
        .unwrap_or_else(|f| panic!("{name}: {f}"))
}

fn colour(syntax: &str, photometric: &str, name: &str) -> Vec<f32> {
    let dicom = Dicom::new(ROWS, COLUMNS, 8, 8)
        .words(0x0028_0002, &[3])
        .text(0x0028_0004, "CS", photometric);
    let dicom = dicom
        .words(0x0028_0006, &[0])
        .fragments(syntax, &[&codestream(name)]);
    picture(&dicom.bytes(), None)
        .unwrap_or_else(|f| panic!("{name}: {f}"))
        .pixels
}

fn expected_colour() -> Vec<f32> {
    coordinates()
        .map(|(x, y)| {
            let (red, green, blue) = (
                f32::from(2 * x + 40),
                f32::from(3 * y + 20),
                f32::from(x + 100),
            );
            (0.299 * red + 0.587 * green + 0.114 * blue) / 255.0
        })
        .collect()
}

#[test]
fn lossless_codestreams_are_decoded_exactly() {
    let cases: [(u16, &str, &str); 12] = [
        (8, JPEG_LOSSLESS_SV1, "lossless8.jpg"),
        (12, JPEG_LOSSLESS, "lossless12.jpg"),
        (16, JPEG_LOSSLESS_SV1, "lossless16.jpg"),
        (12, JPEG_LOSSLESS_SV1, "lossless12-restarts.jpg"),
        (16, JPEG_LOSSLESS_SV1, "lossless16-point4.jpg"),
        (12, J2K_LOSSLESS, "lossless12.j2k"),
        (12, J2K_LOSSLESS, "lossless12.jp2"),
        (16, HTJ2K_LOSSLESS, "lossless16.htj2k"),
        (16, JPEG_XL_LOSSLESS, "lossless16.jxl"),
        (8, JPEG_XL_LOSSLESS, "lossless8.jxl"),
        // Encoded in 12 bits, stored as 16.
        (12, JPEG_LS, "grey12.jls"),
        (16, JPEG_LS, "grey12.jls"),
    ];
    for (bits, syntax, name) in cases {
        let mut cells = match name {
            name if name.contains("12") => grey12(),
            name if name.contains("16") => grey16(),
            _ => grey8(),
        };
        if name == "grey12.jls" {
            cells[0] = 4095;
        }
        assert_eq!(
            grey(bits, syntax, name).pixels,
            expected(&cells, bits),
            "{name}"
        );
    }
}

#[test]
fn lossy_codestreams_are_decoded_closely() {
    let cases: [(u16, &str, &str, f32); 5] = [
        (8, JPEG_BASELINE, "baseline8.jpg", 0.01),
        (12, JPEG_EXTENDED, "extended12.jpg", 0.01),
        (8, JPEG_LS_NEAR, "near8.jls", 0.009),
        (12, J2K, "lossy12.j2k", 0.01),
        (8, JPEG_XL, "lossy8.jxl", 0.03),
    ];
    for (bits, syntax, name, tolerance) in cases {
        let cells = if bits == 8 { grey8() } else { grey12() };
        let (mean, most) = difference(&grey(bits, syntax, name).pixels, &expected(&cells, bits));
        assert!(
            most < tolerance && mean < tolerance / 2.0,
            "{name}: mean {mean}, most {most}"
        );
    }
}

#[test]
fn colours_become_luminance_in_every_codec() {
    let cases = [
        (JPEG_BASELINE, "YBR_FULL_422", "baseline-ycbcr.jpg", 0.02),
        // Its own word for its colours wins; without one, Photometric Interpretation's does.
        (JPEG_BASELINE, "RGB", "baseline-ycbcr.jpg", 0.02),
        (JPEG_BASELINE, "RGB", "baseline-rgb.jpg", 0.02),
        (JPEG_LOSSLESS_SV1, "RGB", "lossless-rgb.jpg", 0.003),
        (JPEG_LS, "RGB", "rgb.jls", 0.003),
        (J2K_LOSSLESS, "YBR_RCT", "rct.j2k", 0.003),
        (JPEG_XL_LOSSLESS, "RGB", "lossless-rgb.jxl", 0.003),
    ];
    for (syntax, photometric, name, tolerance) in cases {
        let (_, most) = difference(&colour(syntax, photometric, name), &expected_colour());
        assert!(most < tolerance, "{name}: {most}");
    }
}

#[test]
fn signed_jpeg_2000_samples_are_negative_numbers() {
    let dicom = window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, -2048.0).words(0x0028_0103, &[1]);
    let bytes = dicom
        .fragments(J2K_LOSSLESS, &[&codestream("lossless-signed12.j2k")])
        .bytes();
    assert!(
        difference(
            &picture(&bytes, None).unwrap().pixels,
            &expected(&grey12(), 12)
        )
        .1 < 1e-6
    );
}

/// In full and reduced.
fn assert_same_at_any_size(plain: &Dicom, coded: &Dicom) {
    for longest in [None, Some(12)] {
        let plain = picture(&plain.bytes(), longest).unwrap();
        let decoded = picture(&coded.bytes(), longest).unwrap();
        let (_, most) = difference(&plain.pixels, &decoded.pixels);
        assert!(most < 1e-6, "{longest:?}: {most}");
    }
}

#[test]
fn twos_complement_in_unsigned_jpeg_2000_samples_is_not_averaged_before_it_is_a_number() {
    let dicom = || window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, -2048.0).words(0x0028_0103, &[1]);
    let coded = dicom().fragments(J2K_LOSSLESS, &[&codestream("lossless12.j2k")]);
    assert_same_at_any_size(&dicom().pixels16(&grey12()), &coded);
}

#[test]
fn an_overlay_in_the_high_bits_of_lossless_jpeg_2000_is_not_seen_at_any_size() {
    let dicom = || window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, 0.0);
    let coded = || dicom().fragments(J2K_LOSSLESS, &[&codestream("overlay16.j2k")]);
    let told = coded().words(0x6000_0102, &[12]);
    for coded in [coded(), told] {
        assert_same_at_any_size(&dicom().pixels16(&grey12()), &coded);
    }
}

#[test]
fn encapsulated_uncompressed_pixels_are_read_a_fragment_each_frame() {
    const WRAPPED: &str = "1.2.840.10008.1.2.1.98";
    let dicom = || window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, 0.0).text(0x0028_0008, "IS", "2");
    let frame: Vec<u8> = grey12()
        .iter()
        .flat_map(|cell| cell.to_le_bytes())
        .collect();
    let second = vec![7; frame.len()];
    let both = dicom().fragments(WRAPPED, &[&frame, &second]).bytes();
    let decoded = picture(&both, None).unwrap();
    assert_eq!(decoded.pixels, expected(&grey12(), 12));
    let cut = dicom().fragments(WRAPPED, &[&frame[2..], &second]).bytes();
    assert_eq!(picture(&cut, None).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn reduced_decoding_stays_in_place() {
    // A ramp reduced by four keeps its values where they were, but near the edges, which a wavelet mirrors.
    for (bits, syntax, name) in [
        (12, J2K_LOSSLESS, "lossless12.j2k"),
        (12, J2K, "lossy12.j2k"),
        (16, HTJ2K_LOSSLESS, "lossless16.htj2k"),
        (8, JPEG_BASELINE, "baseline8.jpg"),
        (12, JPEG_EXTENDED, "extended12.jpg"),
    ] {
        let cells = match bits {
            8 => grey8(),
            12 => grey12(),
            _ => grey16(),
        };
        let dicom =
            |bits_allocated| window(Dicom::new(ROWS, COLUMNS, bits_allocated, bits), bits, 0.0);
        let plain = picture(&dicom(16).pixels16(&cells).bytes(), Some(12)).unwrap();
        let coded = dicom(if bits > 8 { 16 } else { 8 }).fragments(syntax, &[&codestream(name)]);
        let reduced = picture(&coded.bytes(), Some(12)).unwrap();
        assert_eq!((reduced.width, reduced.height), (12, 10));
        let inside = |radiograph: &Radiograph| -> Vec<f32> {
            (2..8)
                .flat_map(|y| radiograph.pixels[y * 12 + 2..y * 12 + 10].to_vec())
                .collect()
        };
        let (_, most) = difference(&inside(&plain), &inside(&reduced));
        // Half a pixel of the ramp is 0.005, a pixel and a half (what a wrong grid would cost) 0.015.
        assert!(most < 0.003, "{name}: {most}");
    }
}

/// `PackBits` of literal runs only, after the header of PS3.5 §G.5.
fn rle(planes: &[Vec<u8>]) -> Vec<u8> {
    let packed: Vec<Vec<u8>> = planes
        .iter()
        .map(|plane| {
            let mut out = Vec::new();
            for run in plane.chunk_by(|a, b| a == b) {
                for part in run.chunks(128) {
                    if part.len() == 1 {
                        out.extend([0, part[0]]);
                    } else {
                        out.extend([(257 - part.len()) as u8, part[0]]);
                    }
                }
            }
            out.resize(out.len().next_multiple_of(2), 128);
            out
        })
        .collect();
    let mut header = vec![packed.len() as u32];
    let mut at = 64;
    for plane in &packed {
        header.push(at);
        at += plane.len() as u32;
    }
    header.resize(16, 0);
    header
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .chain(packed.concat())
        .collect()
}

#[test]
fn rle_is_decoded_in_8_and_16_bits_and_colours_and_split_fragments() {
    let high: Vec<u8> = grey12().iter().map(|cell| (cell >> 8) as u8).collect();
    let low: Vec<u8> = grey12().iter().map(|cell| *cell as u8).collect();
    let stream = rle(&[high, low]);
    let dicom = window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, 0.0);
    let whole = picture(&dicom.clone().fragments(RLE, &[&stream]).bytes(), None).unwrap();
    assert_eq!(whole.pixels, expected(&grey12(), 12));
    let parts: Vec<&[u8]> = stream.chunks(100).collect();
    assert_eq!(
        picture(&dicom.fragments(RLE, &parts).bytes(), None)
            .unwrap()
            .pixels,
        whole.pixels
    );

    let channel = |f: fn(u16, u16) -> u16| {
        coordinates()
            .map(|(x, y)| f(x, y) as u8)
            .collect::<Vec<u8>>()
    };
    let planes = [
        channel(|x, _| 2 * x + 40),
        channel(|_, y| 3 * y + 20),
        channel(|x, _| x + 100),
    ];
    let dicom = Dicom::new(ROWS, COLUMNS, 8, 8)
        .words(0x0028_0002, &[3])
        .text(0x0028_0004, "CS", "RGB");
    let colours = picture(&dicom.fragments(RLE, &[&rle(&planes)]).bytes(), None).unwrap();
    assert!(difference(&colours.pixels, &expected_colour()).1 < 0.003);
}

#[test]
fn codestreams_in_several_fragments_are_joined() {
    for (bits, syntax, name) in [
        (12, JPEG_LS, "grey12.jls"),
        (12, J2K, "lossy12.j2k"),
        (8, JPEG_BASELINE, "baseline8.jpg"),
    ] {
        let stream = codestream(name);
        let parts: Vec<&[u8]> = stream.chunks(64).collect();
        let dicom = window(
            Dicom::new(ROWS, COLUMNS, if bits > 8 { 16 } else { 8 }, bits),
            bits,
            0.0,
        );
        let split = picture(&dicom.fragments(syntax, &parts).bytes(), None).unwrap();
        assert_eq!(split.pixels, grey(bits, syntax, name).pixels, "{name}");
    }
}

#[test]
fn of_several_frames_the_first_is_taken() {
    let (first, second) = (codestream("lossless8.jpg"), codestream("baseline8.jpg"));
    let dicom = window(Dicom::new(ROWS, COLUMNS, 8, 8), 8, 0.0).text(0x0028_0008, "IS", "2");
    let expected = grey(8, JPEG_LOSSLESS_SV1, "lossless8.jpg").pixels;
    let one_each = dicom
        .clone()
        .fragments(JPEG_LOSSLESS_SV1, &[&first, &second]);
    assert_eq!(picture(&one_each.bytes(), None).unwrap().pixels, expected);
    let mut parts: Vec<&[u8]> = first.chunks(200).collect();
    parts.extend(second.chunks(200));
    let split = dicom.fragments(JPEG_LOSSLESS_SV1, &parts);
    assert_eq!(picture(&split.bytes(), None).unwrap().pixels, expected);

    let native = window(Dicom::new(ROWS, COLUMNS, 16, 12), 12, 0.0).text(0x0028_0008, "IS", "2");
    let both = [grey12(), vec![7; grey12().len()]].concat();
    assert_eq!(
        picture(&native.pixels16(&both).bytes(), None)
            .unwrap()
            .pixels,
        self::expected(&grey12(), 12)
    );
}

#[test]
fn a_codestream_of_another_size_components_or_depth_is_refused() {
    let fault = |dicom: Dicom| -> Fault { picture(&dicom.bytes(), None).unwrap_err() };
    for (bits, syntax, name) in [
        (8, JPEG_BASELINE, "baseline8.jpg"),
        (16, JPEG_LOSSLESS, "lossless16.jpg"),
        (12, JPEG_LS, "grey12.jls"),
        (12, J2K, "lossy12.j2k"),
        (16, HTJ2K_LOSSLESS, "lossless16.htj2k"),
        (8, JPEG_XL_LOSSLESS, "lossless8.jxl"),
    ] {
        let allocated = if bits > 8 { 16 } else { 8 };
        for (rows, columns) in [
            (ROWS - 1, COLUMNS),
            (ROWS + 1, COLUMNS),
            (ROWS, COLUMNS - 8),
            (COLUMNS, ROWS),
            (4000, 4000),
        ] {
            let dicom =
                Dicom::new(rows, columns, allocated, bits).fragments(syntax, &[&codestream(name)]);
            assert_eq!(
                fault(dicom).reason,
                Reason::CannotDecode,
                "{name} as {columns}×{rows}"
            );
        }
        let colours = Dicom::new(ROWS, COLUMNS, allocated, bits)
            .words(0x0028_0002, &[3])
            .text(0x0028_0004, "CS", "RGB");
        assert_eq!(
            fault(colours.fragments(syntax, &[&codestream(name)])).reason,
            Reason::CannotDecode,
            "{name}"
        );
    }
    let deep =
        Dicom::new(ROWS, COLUMNS, 8, 8).fragments(JPEG_LOSSLESS, &[&codestream("lossless16.jpg")]);
    assert_eq!(fault(deep).reason, Reason::CannotDecode);
}

#[test]
fn a_torn_codestream_is_refused_not_shown_half() {
    for (bits, syntax, name) in [
        (8, JPEG_BASELINE, "baseline8.jpg"),
        (12, JPEG_EXTENDED, "extended12.jpg"),
        (16, JPEG_LOSSLESS, "lossless16.jpg"),
        (12, JPEG_LS, "grey12.jls"),
        (12, J2K_LOSSLESS, "lossless12.j2k"),
        (16, HTJ2K_LOSSLESS, "lossless16.htj2k"),
        (8, JPEG_XL_LOSSLESS, "lossless8.jxl"),
    ] {
        let stream = codestream(name);
        let torn = &stream[..stream.len() * 2 / 3];
        let dicom = Dicom::new(ROWS, COLUMNS, if bits > 8 { 16 } else { 8 }, bits)
            .fragments(syntax, &[torn]);
        let fault = picture(&dicom.bytes(), None).expect_err(name);
        assert_eq!(fault.reason, Reason::CannotDecode, "{name}");
    }
}
