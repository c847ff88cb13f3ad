//! Files that are small to send and ruinous to open: each ends with a reason within ten seconds and 600 MB, and the
//! service answers all the while.

#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used)]

mod common;
use radsort::decode;
#[path = "../src/decode/tests/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Mould, Site, uid};
use radsort::config::settings::DecoderSettings;
use radsort::decode::Content as Found;
use radsort::decode::pool::{DecodeError, Pool};
use synthetic::{Content, DEFLATED, Dicom};

const RLE: &str = "1.2.840.10008.1.2.5";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const J2K: &str = "1.2.840.10008.1.2.4.90";
const HTJ2K: &str = "1.2.840.10008.1.2.4.201";
const JPEG_XL: &str = "1.2.840.10008.1.2.4.110";

const MOST_TIME: Duration = Duration::from_secs(10);
const MOST_MEMORY: u64 = 600 * 1000; // kB

fn codestream(name: &str) -> Vec<u8> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/codestreams");
    fs::read(data.join(name)).unwrap()
}

/// A codestream with bytes at an offset after a marker replaced.
fn patched(name: &str, marker: &[u8], offset: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = codestream(name);
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker)
        .unwrap();
    let at = at + marker.len() + offset;
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// Preamble and a meta group that names explicit little endian; then anything.
fn raw(body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    bytes.extend(body);
    bytes
}

fn plain() -> Dicom {
    Dicom::new(16, 16, 16, 12).pixels16(&[7; 256])
}

fn inserted(bytes: &[u8], before: &[u8], what: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(before.len())
        .position(|window| window == before)
        .unwrap();
    [&bytes[..at], what, &bytes[at..]].concat()
}

fn preamble(start: &[u8]) -> Vec<u8> {
    let mut bytes = plain().bytes();
    bytes[..start.len()].copy_from_slice(start);
    bytes
}

fn deflated(head: &[u8], zeros: usize) -> Vec<u8> {
    let bytes = Dicom::new(4, 4, 8, 8).syntax(DEFLATED).bytes();
    let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
    let mut packer = flate2::write::DeflateEncoder::new(
        bytes[..144 + length].to_vec(),
        flate2::Compression::fast(),
    );
    packer.write_all(head).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..zeros >> 20 {
        packer.write_all(&block).unwrap();
    }
    packer.finish().unwrap()
}

/// A data set (explicit little endian) up to its pixels, whose length is said to be this.
fn head_of(dicom: &Dicom, length: u32) -> Vec<u8> {
    let bytes = dicom.clone().bytes();
    let meta = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
    let pixels = b"\xE0\x7F\x10\x00OW\0\0";
    let at = bytes
        .windows(pixels.len())
        .position(|window| window == pixels)
        .unwrap();
    let mut head = bytes[144 + meta..at + pixels.len()].to_vec();
    head.extend(length.to_le_bytes());
    head
}

/// A black square of three components in turn, as JPEG-LS (ITU-T T.87 §A.7): next to nothing but runs to the end of the line.
fn black_jpeg_ls(side: u16, bits: u8) -> Vec<u8> {
    const LENGTHS: [u32; 32] = [
        0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12,
        13, 14, 15,
    ];
    let (mut ones, mut index) = (0_usize, 0_usize);
    for _ in 0..side {
        let mut left = u32::from(side);
        while left > 0 {
            let run = 1 << LENGTHS[index];
            index = if run <= left {
                (index + 1).min(31)
            } else {
                index
            };
            left = left.saturating_sub(run);
            ones += 1;
        }
    }
    let size = side.to_be_bytes();
    let mut bytes = b"\xFF\xD8\xFF\xF7\x00\x11".to_vec();
    bytes.extend(
        [
            &[bits][..],
            &size,
            &size,
            b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00",
        ]
        .concat(),
    );
    bytes.extend(b"\xFF\xDA\x00\x0C\x03\x01\x00\x02\x00\x03\x00\x00\x02\x00");
    // After a byte of ones comes a bit that is 0.
    while ones > 0 {
        let room = if bytes.ends_with(b"\xFF") { 7 } else { 8 };
        let now = ones.min(room);
        bytes.push((((1_u16 << now) - 1) << (room - now)) as u8);
        ones -= now;
    }
    bytes.extend(b"\xFF\xD9");
    bytes
}

/// A square of so many byte planes, each one grey, as RLE.
fn plain_rle(side: u32, planes: u32) -> Vec<u8> {
    let plane = [129, 7].repeat((side * side).div_ceil(128) as usize);
    let places = (0..15).map(|n| {
        if n < planes {
            64 + n * plane.len() as u32
        } else {
            0
        }
    });
    let header = std::iter::once(planes).chain(places);
    let mut bytes: Vec<u8> = header.flat_map(u32::to_le_bytes).collect();
    bytes.extend(plane.repeat(planes as usize));
    bytes
}

/// What each ends as: the quarantine for one of these reasons, or (it is not so bad) a picture.
type Bomb = (&'static str, &'static str, Vec<u8>);

fn bombs() -> Vec<Bomb> {
    let vast = 65535_u16;
    let size = vast.to_be_bytes();
    let vast32 = u32::from(vast).to_be_bytes();
    let mut element = b"\x08\x00\x05\x00OB\0\0\xFE\xFF\xFF\xFF".to_vec();
    element.resize(108, 7);
    let open = b"\x08\x00\x15\x11SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF";
    let empty: Vec<&[u8]> = vec![&[]; 300_000];
    let rle: Vec<u8> = [&[1, 0, 0, 0, 64, 0, 0, 0][..], &[0; 56], &[129; 4000]].concat();
    let many: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| [&b"\x09\x00"[..], &(n as u16).to_le_bytes(), b"LO\x02\x00ab"].concat())
        .collect();
    let luts = vec![
        vec![
            (0x0028_3002, "US", Content::Words(vec![0, 0, 16])),
            (0x0028_3006, "OW", Content::Words(vec![1]))
        ];
        3000
    ];
    let pixels = b"\xE0\x7F\x10\x00";
    let table = b"\xE0\x7F\x01\x00OV\0\0\x10\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
    let jpeg = Dicom::new(40, 48, 8, 8)
        .fragments(JPEG, &[&codestream("baseline8.jpg")])
        .bytes();
    let mut lying_table = jpeg.clone();
    let item = b"OB\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\0\0\0\0";
    let at = lying_table
        .windows(16)
        .position(|window| window == item)
        .unwrap()
        + 12;
    lying_table.splice(at..at + 4, *b"\x08\0\0\0\xFF\xFF\xFF\xFF\x00\x00\x00\x80");
    let mut short_item = jpeg.clone();
    short_item[at + 8..at + 12].copy_from_slice(b"\xF0\xFF\xFF\x7F");
    let mut open_item = jpeg.clone();
    open_item[at + 8..at + 12].copy_from_slice(b"\xFF\xFF\xFF\xFF");
    let tiny_tiles = {
        let mut bytes = patched("lossless12.j2k", b"\xFF\x51", 4, &[vast32, vast32].concat());
        bytes[2 + 2 + 4 + 8 + 8..][..8].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        bytes
    };
    let endless = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/jailed/endless.jls");
    let endless = fs::read(endless).unwrap();
    let fragments = |rows, columns, bits: u16, syntax, stream: &[u8]| {
        Dicom::new(rows, columns, if bits > 8 { 16 } else { 8 }, bits)
            .fragments(syntax, &[stream])
            .bytes()
    };
    let colours = |side: u16, bits: u16, syntax, stream: &[u8]| {
        Dicom::new(side, side, if bits > 8 { 16 } else { 8 }, bits)
            .words(0x0028_0002, &[3])
            .words(0x0028_0006, &[0])
            .text(0x0028_0004, "CS", "RGB")
            .fragments(syntax, &[stream])
            .bytes()
    };
    let colour_jpeg = |side: u16| {
        let side = side.to_be_bytes();
        patched("lossless-rgb.jpg", b"\xFF\xC3", 3, &[side, side].concat())
    };
    let colour_j2k = |side: u16| {
        let side = u32::from(side).to_be_bytes();
        let mut bytes = patched("rct.j2k", b"\xFF\x51", 4, &[side, side].concat());
        bytes[2 + 2 + 4 + 8 + 8..][..8].copy_from_slice(&[side, side].concat());
        bytes
    };
    vec![
        // Lengths.
        ("element of 4 GiB", "truncated", raw(&element)),
        ("meta group of 4 GiB", "", {
            let mut bytes = plain().bytes();
            bytes[140..144].copy_from_slice(&[0xFF; 4]);
            bytes
        }),
        ("200,000 elements", "malformed", inserted(&plain().bytes(), b"\x10\x00\x20\x00", &many)),
        ("pixels of 4 GiB in 100 bytes", "truncated", {
            let mut bytes = plain().bytes();
            let at = bytes.windows(8).position(|window| window == b"\xE0\x7F\x10\x00OW\0\0").unwrap();
            bytes[at + 8..at + 12].copy_from_slice(b"\xFE\xFF\xFF\xFF");
            bytes
        }),
        // Nesting and sequences.
        ("2,000 sequences in each other", "malformed|truncated", raw(&open.repeat(2000))),
        ("200,000 sequences in each other", "malformed|truncated", raw(&open.repeat(200_000))),
        ("item longer than its sequence", "malformed|truncated|", inserted(&plain().bytes(), b"\x10\x00\x20\x00",
            b"\x08\x00\x15\x11SQ\0\0\x10\0\0\0\xFE\xFF\x00\xE0\xFF\x00\x00\x00\x08\x00\x50\x11UI\0\0")),
        ("sequence without its end", "malformed|truncated", inserted(&plain().bytes(), b"\x10\x00\x20\x00",
            b"\x08\x00\x15\x11SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\x00\xE0\xFF\xFF\xFF\xFF")),
        ("ends without sequences", "malformed|truncated|", inserted(&plain().bytes(), b"\x10\x00\x20\x00",
            &b"\xFE\xFF\xDD\xE0\0\0\0\0".repeat(5000))),
        ("unknown element of undefined length", "malformed|truncated", inserted(&plain().bytes(), b"\x10\x00\x20\x00",
            b"\x09\x00\x15\x11UN\0\0\xFF\xFF\xFF\xFF\x00\x00\x00\x00")),
        // Sizes that the pixels do not have.
        ("65535 x 65535, uncompressed", "truncated|cannot-decode|malformed", Dicom::new(vast, vast, 16, 16).pixels16(&[0; 100]).bytes()),
        ("65535 x 65535, RLE", "cannot-decode", fragments(vast, vast, 16, RLE, &[0; 100])),
        ("9000 x 9000, RLE of nothing", "cannot-decode", fragments(9000, 9000, 16, RLE, &[2; 100])),
        ("9000 x 9000, RLE of runs", "cannot-decode", fragments(9000, 9000, 8, RLE, &rle)),
        ("65535 x 65535, JPEG", "cannot-decode|decoder-memory", fragments(vast, vast, 8, JPEG, &patched("baseline8.jpg", b"\xFF\xC0", 3, &[size, size].concat()))),
        ("65500 x 65500, JPEG lossless", "cannot-decode|decoder-memory", fragments(65500, 65500, 12, JPEG_LOSSLESS,
            &patched("lossless12.jpg", b"\xFF\xC3", 3, &[0xFF, 0xDC, 0xFF, 0xDC]))),
        ("65535 x 65535, JPEG-LS", "cannot-decode|decoder-memory", fragments(vast, vast, 12, JPEG_LS, &patched("grey12.jls", b"\xFF\xF7", 3, &[size, size].concat()))),
        // Found by fuzzing: 333 bytes over which CharLS computes for seconds: more than it is given, or on a fast machine less.
        (
            "JPEG-LS without end",
            "decoder-timeout|cannot-decode",
            Dicom::new(40, 48, 8, 8)
                .words(0x0028_0002, &[3])
                .words(0x0028_0006, &[0])
                .text(0x0028_0004, "CS", "RGB")
                .fragments(JPEG_LS, &[&endless])
                .bytes(),
        ),
        ("65535 x 65535, JPEG 2000", "cannot-decode|decoder-memory", fragments(vast, vast, 12, J2K, &patched("lossless12.j2k", b"\xFF\x51", 4, &[vast32, vast32].concat()))),
        ("65535 x 65535, JPEG 2000 in tiles of one pixel", "cannot-decode|decoder-memory", fragments(vast, vast, 12, J2K, &tiny_tiles)),
        ("65535 x 65535, HTJ2K", "cannot-decode|decoder-memory", fragments(vast, vast, 16, HTJ2K, &patched("lossless16.htj2k", b"\xFF\x51", 4, &[vast32, vast32].concat()))),
        ("65535 x 65535, JPEG XL", "cannot-decode|decoder-memory", fragments(vast, vast, 16, JPEG_XL, &codestream("lossless16.jxl"))),
        // Lossy grey is three colours inside.
        ("5400 x 5400, lossy JPEG XL", "", fragments(5400, 5400, 8, JPEG_XL, &codestream("flat-5400.jxl"))),
        ("JPEG 2000 of 16384 components", "cannot-decode|decoder-memory", fragments(40, 48, 12, J2K, &patched("lossless12.j2k", b"\xFF\x51", 36, &[0x40, 0]))),
        ("codestream of another size", "cannot-decode", fragments(41, 48, 8, JPEG, &codestream("baseline8.jpg"))),
        // Colours take three times the memory: the largest that are decoded, and some that would be if they were grey.
        ("10000 x 10000 in colour, JPEG-LS", "cannot-decode", colours(10_000, 8, JPEG_LS, &black_jpeg_ls(10_000, 8))),
        ("6000 x 6000 in colour, JPEG-LS", "", colours(6000, 8, JPEG_LS, &black_jpeg_ls(6000, 8))),
        ("6000 x 6000 in colour, JPEG-LS of 16 bits", "", colours(6000, 16, JPEG_LS, &black_jpeg_ls(6000, 16))),
        ("10000 x 10000 in colour, RLE", "cannot-decode", colours(10_000, 8, RLE, &plain_rle(10_000, 3))),
        ("6000 x 6000 in colour, RLE of 16 bits", "", colours(6000, 16, RLE, &plain_rle(6000, 6))),
        ("10000 x 10000 in colour, JPEG lossless", "cannot-decode", colours(10_000, 8, JPEG_LOSSLESS, &colour_jpeg(10_000))),
        ("6000 x 6000 in colour, JPEG lossless", "cannot-decode", colours(6000, 8, JPEG_LOSSLESS, &colour_jpeg(6000))),
        ("10000 x 10000 in colour, JPEG 2000", "cannot-decode", colours(10_000, 8, J2K, &colour_j2k(10_000))),
        ("6000 x 6000 in colour, JPEG 2000", "cannot-decode", colours(6000, 8, J2K, &colour_j2k(6000))),
        // Deflate.
        ("64 MiB of zeros, deflated", "malformed|truncated|no-pixel-data|cannot-decode", deflated(&[], 64 << 20)),
        ("512 MiB of pixels, deflated", "malformed|truncated|cannot-decode|decoder-memory",
            deflated(&head_of(&Dicom::new(16000, 16384, 16, 16).pixels16(&[0]), 16000 * 16384 * 2), 512 << 20)),
        ("a deflated element of 4 GiB", "malformed|truncated|no-pixel-data|cannot-decode", deflated(&element, 8 << 20)),
        // Fragments and offset tables.
        ("300,000 empty fragments", "cannot-decode|malformed", Dicom::new(16, 16, 8, 8).fragments(RLE, &empty).bytes()),
        ("offset table that lies", "cannot-decode|malformed|", lying_table),
        ("extended offset table that lies", "", inserted(&jpeg, pixels, table)),
        ("fragment of 2 GiB", "truncated", short_item),
        ("fragment of undefined length", "truncated|malformed|cannot-decode", open_item),
        // Numbers.
        ("2147483647 frames", "cannot-decode|truncated|", plain().text(0x0028_0008, "IS", "2147483647").bytes()),
        ("10^30 frames", "cannot-decode|truncated|", plain().text(0x0028_0008, "IS", &"9".repeat(30)).bytes()),
        ("bits allocated 64", "cannot-decode|truncated|malformed", plain().words(0x0028_0100, &[64]).bytes()),
        ("bits allocated 1", "cannot-decode|truncated|malformed", plain().words(0x0028_0100, &[1]).bytes()),
        ("bits allocated 0", "cannot-decode|malformed", plain().words(0x0028_0100, &[0]).bytes()),
        ("bits stored 65535", "cannot-decode|malformed", plain().words(0x0028_0101, &[65535]).bytes()),
        ("high bit 65535", "cannot-decode|malformed|", plain().words(0x0028_0102, &[65535]).bytes()),
        ("65535 samples a pixel", "cannot-decode|truncated|malformed", plain().words(0x0028_0002, &[65535]).bytes()),
        ("no rows", "cannot-decode|malformed", plain().words(0x0028_0010, &[0]).bytes()),
        ("a window of nothing", "", plain().text(0x0028_1050, "DS", "nan").text(0x0028_1051, "DS", "-1e308").bytes()),
        ("a slope beyond numbers", "cannot-decode|malformed|", plain().text(0x0028_1053, "DS", "1e999").text(0x0028_1052, "DS", "-1e308").bytes()),
        ("3000 lookup tables of 65536", "cannot-decode|malformed|", plain().set(0x0028_3010, "SQ", Content::Items(luts)).bytes()),
        // Two natures.
        ("Windows program", "executable", preamble(b"MZ\x90\0\x03\0\0\0")),
        ("Linux program", "executable", preamble(b"\x7fELF\x02\x01\x01\0")),
        ("script", "executable", preamble(b"#!/bin/sh\nreboot\n")),
        ("page with a script", "executable", preamble(b"<html><script>alert(1)</script>")),
    ]
}

/// Gives each bomb an identity of its own, where it has the mould's.
fn own_uid(bytes: &mut [u8], n: usize) {
    let uid = b"1.2.826.0.1.3680043.8.498.1";
    if let Some(at) = bytes.windows(uid.len()).position(|window| window == uid) {
        let own = format!("1.2.826.0.1.3680043.8.49.{:02}", n + 10);
        bytes[at..at + uid.len()].copy_from_slice(own.as_bytes());
    }
}

/// One bomb in a process of its own, which tells what it cost.
#[test]
#[ignore = "started by the others"]
fn one_bomb() {
    let Ok(name) = std::env::var("RADSORT_TEST_BOMB") else {
        return;
    };
    let (_, _, bytes) = bombs().into_iter().find(|bomb| bomb.0 == name).unwrap();
    let settings = DecoderSettings {
        count: 1,
        ..DecoderSettings::default()
    };
    let pool = Pool::start_program(Path::new(common::RADSORT), &settings).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), &bytes).unwrap();
    let spec = serde_json::from_str(r#"{"height": 224, "width": 224}"#).unwrap();
    let result = pool.decode(
        &File::open(path.path()).unwrap(),
        bytes.len() as u64,
        &[spec],
    );
    let said = match &result {
        Err(DecodeError::Fault(fault)) => fault.reason.code().to_owned(),
        Err(other) => format!("{other}"),
        Ok(decoded) => match &decoded.inspection.content {
            Found::Damaged { fault, .. } => fault.reason.code().to_owned(),
            Found::Radiograph { .. } => "picture".to_owned(),
            _ => "other".to_owned(),
        },
    };
    drop(pool);
    println!(
        "BOMB\t{}\t{}\t{said}",
        cpu_below().as_millis(),
        radsort::sys::process::peak_memory_below()
    );
}

/// The processor time of all processes below this one that have ended: a busy machine does not count.
fn cpu_below() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Fields 16 and 17 of proc(5), in hundredths of a second.
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn no_bomb_takes_ten_seconds_or_600_megabytes() {
    println!(
        "{:<48} {:>8} {:>8}  what the decoder says",
        "bomb", "ms", "MB"
    );
    for (name, _, bytes) in bombs() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_bomb", "--ignored", "--nocapture"])
            .env("RADSORT_TEST_BOMB", name)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .find_map(|line| line.split_once("BOMB\t"))
            .unwrap_or_else(|| panic!("{name}: {output:?}"))
            .1;
        let parts: Vec<&str> = line.split('\t').collect();
        let (took, memory): (u64, u64) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
        println!(
            "{name:<48} {took:>8} {:>8.1}  {} ({} bytes)",
            memory as f64 / 1000.0,
            parts[2],
            bytes.len()
        );
        assert!(
            Duration::from_millis(took) < MOST_TIME,
            "{name} took {took} ms"
        );
        assert!(memory < MOST_MEMORY, "{name} took {memory} kB");
    }
}

#[test]
fn bombs_are_quarantined_with_a_reason_while_the_service_answers() {
    let site = Site::with(
        "truncated = \"1s\"\nmax-size = \"1GiB\"",
        "[decoders]\ncount = 2\n",
    );
    let mut daemon = site.start();
    let mut expected = BTreeMap::new();
    for (n, (name, reasons, mut bytes)) in bombs().into_iter().enumerate() {
        own_uid(&mut bytes, n);
        site.put(&format!("{name}.dcm"), &bytes);
        expected.insert(format!("{name}.dcm"), reasons);
    }
    // A file of a terabyte that takes no room: reading it would take an hour.
    File::create(site.drop.join("endless.dcm"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let mould = Mould::new(46);
    for n in 0..5 {
        site.put(&format!("good-{n}.dcm"), &mould.bytes(&uid(n)));
    }
    let count = expected.len() as u64 + 5;
    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    loop {
        let asked = Instant::now();
        let status = daemon.status();
        slowest = slowest.max(asked.elapsed());
        if common::total(&status) >= count {
            break;
        }
        assert!(begun.elapsed() < 3 * common::PATIENCE, "{status:#}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!(
        "{count} files in {:?}; the slowest answer took {slowest:?}",
        begun.elapsed()
    );
    assert!(
        slowest < Duration::from_secs(10),
        "an answer took {slowest:?}"
    );
    let status = daemon.wait_until("the endless file is told of", |status| {
        status["watches"][0].to_string().contains("max-size")
    });
    assert_eq!(
        status["decoder_restarts"].as_u64().unwrap_or(0),
        0,
        "{status:#}"
    );
    daemon.stop();
    assert!(site.drop.join("endless.dcm").is_file());
    let mut wrong = Vec::new();
    for record in site.records() {
        let from = record["from"].as_str().unwrap();
        let fate = record["fate"].as_str().unwrap();
        let reason = record["reason"].as_str().unwrap_or_default();
        let reasons: Vec<&str> = match expected.get(from) {
            Some(reasons) => reasons.split('|').collect(),
            None => vec![""],
        };
        let as_expected = if fate == "quarantined" {
            let reason_file = format!("{}.reason.txt", record["path"].as_str().unwrap());
            reasons.contains(&reason) && Path::new(&reason_file).is_file()
        } else {
            reasons.contains(&"")
        };
        if !as_expected {
            wrong.push(format!("{from}: {fate} {reason}, not {reasons:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    fs::remove_file(site.drop.join("endless.dcm")).unwrap();
    site.assert_verified();
}
