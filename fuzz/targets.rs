//! What is fuzzed: each function takes any bytes, and panics if radsort does what it never should.
//!
//! `fuzz_targets/` hands them to libFuzzer (`make fuzz`); `tests/fuzzing.rs` runs them on stable Rust over the seeds, the
//! corpus, what once crashed (`regressions/`), and mutations of all these.

// What stands here is test code, and each of its users takes another part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use radsort::decode::header::inspect_bytes;
use radsort::decode::protocol::{Answer, Ask, Said, read_answer, values, write_answer};
use radsort::decode::{Fit, Intensity, Radiograph, RenderSpec, Resolution, decode_bytes, render};
use radsort::domain::placement::{Filling, RelPath, Template};
use radsort::domain::{Header, Instance};
use radsort::filing::ledger::Ledger;
use radsort::filing::replay::Replay;

use super::synthetic::{BIG_ENDIAN, Content, DEFLATED, Dicom, EXPLICIT, IMPLICIT};

/// A target's name, what it runs, and what it starts from.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident => $seeds:expr,)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $name, seeds: $seeds },)*];
    };
}

targets! {
    header => files,
    native => || files_in(&[EXPLICIT, IMPLICIT, BIG_ENDIAN]),
    deflated => || files_in(&[DEFLATED]),
    rle => || vec![parameters(16, 1, &rle_stream())],
    jpeg => || streams(&["baseline-ycbcr.jpg", "baseline8.jpg", "extended12.jpg", "lossless12.jpg", "lossless16.jpg", "lossless8.jpg", "lossless-rgb.jpg"]),
    jpeg_ls => || streams(&["grey12.jls", "near8.jls", "rgb.jls"]),
    jpeg_2000 => || streams(&["lossless12.j2k", "lossy12.j2k", "rct.j2k", "lossless12.jp2", "lossless-signed12.j2k", "lossless16.htj2k"]),
    jpeg_xl => || streams(&["lossless8.jxl", "lossless16.jxl", "lossy8.jxl", "lossless-rgb.jxl"]),
    worker_protocol => answers,
    control_protocol => control_lines,
    config => configurations,
    ledger => ledgers,
    bundle => bundles,
    template => || ["{category}/{study_date}/{sop_instance_uid}.dcm", "{category}/{view}-{manufacturer}/{watch}_{sop_instance_uid}"]
        .map(|text| text.as_bytes().to_vec()).into(),
}

/// The header pass over any file, and its own answer as the parent reads it.
pub fn header(data: &[u8]) {
    let inspection = inspect_bytes(data);
    let mut bytes = Vec::new();
    write_answer(&mut bytes, &Said::Inspected(inspection), &[]).unwrap();
    // An honest decoder is never called a liar.
    if let Err(flaw) = read_answer(&mut bytes.as_slice(), &Ask::Inspect) {
        panic!("{flaw}");
    }
}

/// Uncompressed pixels in any file.
pub fn native(data: &[u8]) {
    header(data);
    picture(data);
}

/// The same behind deflate: any data set, packed anew so that changes reach it, or the packed bytes themselves.
pub fn deflated(data: &[u8]) {
    match data.split_first() {
        Some((0, body)) => {
            let mut bytes = Dicom::new(4, 4, 8, 8).syntax(DEFLATED).bytes();
            let meta = 128 + 4 + 12 + usize::try_from(group_length(&bytes)).unwrap();
            bytes.truncate(meta);
            let mut packer = flate2::write::DeflateEncoder::new(bytes, flate2::Compression::fast());
            std::io::Write::write_all(&mut packer, body).unwrap();
            picture(&packer.finish().unwrap());
        }
        _ => picture(data),
    }
}

fn group_length(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[140..144].try_into().unwrap())
}

pub fn rle(data: &[u8]) {
    fragments("1.2.840.10008.1.2.5", data);
}

pub fn jpeg(data: &[u8]) {
    fragments("1.2.840.10008.1.2.4.70", data);
}

pub fn jpeg_ls(data: &[u8]) {
    fragments("1.2.840.10008.1.2.4.80", data);
}

pub fn jpeg_2000(data: &[u8]) {
    fragments("1.2.840.10008.1.2.4.90", data);
}

pub fn jpeg_xl(data: &[u8]) {
    fragments("1.2.840.10008.1.2.4.110", data);
}

const ROWS: u16 = 40;
const COLUMNS: u16 = 48;

/// A codestream behind what its file says of it: rows and columns (as a difference), bits stored, samples per pixel.
fn parameters(bits: u8, samples: u8, codestream: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, bits, samples], codestream].concat()
}

fn fragments(syntax: &str, data: &[u8]) {
    let Some(([a, b, c, d, bits, samples], codestream)) = data.split_first_chunk::<6>() else {
        return;
    };
    let bits = u16::from(*bits).clamp(1, 16);
    let rows = ROWS ^ u16::from_le_bytes([*a, *b]);
    let columns = COLUMNS ^ u16::from_le_bytes([*c, *d]);
    let mut dicom = Dicom::new(rows, columns, if bits > 8 { 16 } else { 8 }, bits);
    if *samples == 3 {
        dicom = dicom.words(0x0028_0002, &[3]).words(0x0028_0006, &[0]);
        dicom = dicom.text(0x0028_0004, "CS", "RGB");
    }
    picture(&dicom.fragments(syntax, &[codestream]).bytes());
}

/// Decoding gives grey values from 0 to 1, or a fault.
fn picture(bytes: &[u8]) {
    let spec = RenderSpec {
        fit: Fit::Letterbox,
        ..render::picture_spec(16, 16, None, Intensity::Percentile { lo: 1.0, hi: 99.0 })
    };
    let voi = RenderSpec {
        intensity: Intensity::Voi,
        fit: Fit::Crop,
        ..spec.clone()
    };
    if let Ok(decoded) = decode_bytes(bytes, &[spec, voi]) {
        let mut pixels = decoded
            .radiographs
            .iter()
            .flat_map(|radiograph| &radiograph.pixels);
        assert!(pixels.all(|grey| (0.0..=1.0).contains(grey)));
    }
}

/// A decoder's answer, in pieces of any size, to either question; it is never listened to for longer than it may speak.
pub fn worker_protocol(data: &[u8]) {
    struct Pieces<'a>(&'a [u8], usize, u64);
    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(self.1).max(1).min(buffer.len());
            let read = (&self.0[..self.0.len().min(most)]).read(buffer)?;
            self.0 = &self.0[read..];
            self.2 += read as u64;
            Ok(read)
        }
    }
    let Some((piece, said)) = data.split_first() else {
        return;
    };
    let spec = |side: u32| RenderSpec {
        fit: Fit::Squash,
        ..render::picture_spec(side, side + 1, None, Intensity::Voi)
    };
    for ask in [
        Ask::Inspect,
        Ask::Decode(vec![spec(2), spec(3)], Resolution::AsNeeded),
    ] {
        let mut from = Pieces(said, usize::from(*piece) + 1, 0);
        let answer = read_answer(&mut from, &ask);
        let may_say = match &ask {
            Ask::Inspect => 0,
            Ask::Decode(specs, _) => specs.iter().map(values).sum::<u64>() * 4,
        };
        assert!(
            from.2 <= 8 + 64 * 1024 + may_say + 1,
            "listened to {} bytes",
            from.2
        );
        match answer {
            Ok(Answer::Decoded {
                inspection,
                radiographs,
                ..
            }) => {
                for radiograph in &radiographs {
                    assert!(
                        radiograph
                            .pixels
                            .iter()
                            .all(|grey| (0.0..=1.0).contains(grey))
                    );
                }
                assert!(serde_json::to_vec(&inspection).unwrap().len() < 1 << 20);
            }
            Ok(Answer::Fault(fault)) => {
                assert!(
                    fault.detail.chars().count() <= 300 && !fault.detail.contains(char::is_control)
                );
            }
            _ => {}
        }
    }
}

/// A client's line, and a daemon's; what is understood is understood again after it was written.
pub fn control_protocol(data: &[u8]) {
    use radsort::control::protocol::{parse_reply, parse_request, to_line};
    if let Ok(request) = parse_request(data) {
        assert!(parse_request(&to_line(&request).unwrap()).is_ok());
    }
    if let Ok(reply) = parse_reply(data) {
        assert!(parse_reply(&to_line(&reply).unwrap()).is_ok());
    }
}

/// A configuration and a drop-in, parted by the first NUL.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (main, drop_in) = text.split_once('\0').unwrap_or((text, ""));
    let texts = [("main.toml", main), ("drop-in.toml", drop_in)];
    let texts =
        texts.map(|(name, text)| (PathBuf::from("/nonexistent").join(name), text.to_owned()));
    if let Err(error) = radsort::config::parse(Path::new("/nonexistent/main.toml"), &texts) {
        assert!(!error.to_string().is_empty());
    }
}

/// A ledger of these lines, as they are and with the hashes of a chain that holds.
pub fn ledger(data: &[u8]) {
    let dir = scratch("ledger");
    let segment = dir.join("ledger/00000001.jsonl");
    for text in [data.to_vec(), chained(data)] {
        fs::create_dir_all(dir.join("ledger")).unwrap();
        fs::write(&segment, &text).unwrap();
        let _ = radsort::filing::ledger::verify(&dir);
        if let Ok(reader) = Ledger::read(&dir, None) {
            let mut replay = Replay::default();
            for (_, _, record) in reader.map_while(Result::ok) {
                replay.fold(&record);
            }
        }
        // Opened to be written, it loses nothing that it does not keep aside.
        drop(Ledger::open(&dir));
        let kept: u64 = files_below(&dir)
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum();
        assert!(kept >= text.len() as u64, "{kept} of {} bytes", text.len());
        fs::remove_dir_all(&dir).unwrap();
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The lines that are JSON objects, each with the hash of the one before.
fn chained(data: &[u8]) -> Vec<u8> {
    let mut previous = String::new();
    let mut out = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(serde_json::Value::Object(mut object)) = serde_json::from_slice(line) else {
            continue;
        };
        object.insert("prev".into(), previous.into());
        let line = serde_json::to_vec(&object).unwrap();
        previous = blake3::hash(&line).to_hex()[..32].to_owned();
        out.extend(line);
        out.push(b'\n');
    }
    out
}

/// A bundle's manifest over files that are there, and a model's graph.
pub fn bundle(data: &[u8]) {
    use prost::Message as _;
    if let Some((0, graph)) = data.split_first() {
        let _ = radsort::model::onnx::ModelProto::decode(graph);
        return;
    }
    let dir = scratch("bundle");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("bundle.toml"), data).unwrap();
    for name in ["view.onnx", "frontal.onnx", "lateral.onnx"] {
        fs::write(dir.join(name), b"x").unwrap();
    }
    if let Ok(bundle) = radsort::model::bundle::Bundle::open(&dir) {
        assert!(!bundle.categories().is_empty());
    }
}

/// Any template, filled with itself: what comes out is a path below the category's folder.
pub fn template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, value) = text.split_once('\u{1}').unwrap_or((&text, &text));
    let Ok(template) = Template::parse(text) else {
        return;
    };
    let mut header = Header {
        sop_instance_uid: "1.2.3".into(),
        study_instance_uid: value.into(),
        patient_id: value.into(),
        ..Header::default()
    };
    header.description.manufacturer = value.into();
    header.description.modality = value.into();
    header.description.study_date = value.into();
    header.description.body_part_examined = value.into();
    let instance = Instance::from_header(&header, |id, _| {
        radsort::domain::Pseudonym(id.len().to_string())
    })
    .unwrap();
    let filling = Filling {
        category_folder: "category",
        view: "frontal",
        instance: &instance,
        watch: value,
    };
    let path = template.fill(&filling);
    let parts: Vec<&[u8]> = path.components().collect();
    assert_eq!(parts.len(), text.split('/').count(), "{path:?}");
    assert_eq!(parts[0], b"category");
    for part in &parts {
        assert!(
            !part.is_empty() && part.len() <= 255 && *part != b"." && *part != b"..",
            "{path:?}"
        );
        assert!(!part.iter().any(u8::is_ascii_control), "{path:?}");
    }
    assert!(RelPath::new(path.as_bytes().to_vec()).is_ok(), "{path:?}");
}

/// A directory that is this process's and this target's.
fn scratch(target: &str) -> PathBuf {
    let dir = Path::new("/dev/shm");
    let dir = if dir.is_dir() {
        dir.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = dir.join(format!("radsort-fuzz-{}-{target}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// Removes what [`scratch`] left.
pub fn clean_up() {
    for target in ["ledger", "bundle"] {
        fs::remove_dir_all(scratch(target)).ok();
    }
}

// Seeds.

/// A file from the repository.
fn source(path: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [root.join(path), root.join("..").join(path)]
        .iter()
        .find_map(|path| fs::read(path).ok())
        .unwrap_or_else(|| panic!("{path} is missing"))
}

pub fn codestream(name: &str) -> Vec<u8> {
    source(&format!("tests/data/codestreams/{name}"))
}

fn streams(names: &[&str]) -> Vec<Vec<u8>> {
    names
        .iter()
        .map(|name| {
            let samples = if name.contains("rgb") || name.contains("ycbcr") || name.contains("rct")
            {
                3
            } else {
                1
            };
            let bits = [16, 12, 8]
                .into_iter()
                .find(|bits| name.contains(&bits.to_string()))
                .unwrap_or(8);
            parameters(bits, samples, &codestream(name))
        })
        .collect()
}

pub fn rle_stream() -> Vec<u8> {
    let mut rle = vec![2, 0, 0, 0, 64, 0, 0, 0, 184, 0, 0, 0];
    rle.resize(64, 0);
    rle.extend([0xF1, 1, 0xF1, 7].repeat(60));
    rle
}

fn native_file(syntax: &str) -> Vec<u8> {
    let cells: Vec<u16> = (0..16 * 12).map(|n| n * 21).collect();
    let item = vec![
        (0x0028_3002, "US", Content::Words(vec![4, 0, 16])),
        (0x0028_3006, "OW", Content::Words(vec![0, 100, 2000, 60000])),
    ];
    Dicom::new(12, 16, 16, 12)
        .set(0x0028_3010, "SQ", Content::OpenItems(vec![item.clone()]))
        .set(0x0028_3000, "SQ", Content::Items(vec![item]))
        .words(0x0028_0120, &[0])
        .pixels16(&cells)
        .syntax(syntax)
        .bytes()
}

fn files_in(syntaxes: &[&str]) -> Vec<Vec<u8>> {
    syntaxes.iter().map(|syntax| native_file(syntax)).collect()
}

fn files() -> Vec<Vec<u8>> {
    let mut files = files_in(&[EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]);
    let rle = rle_stream();
    let halves: &[&[u8]] = &[&rle[..70], &rle[70..]];
    files.push(
        Dicom::new(ROWS, COLUMNS, 16, 16)
            .fragments("1.2.840.10008.1.2.5", halves)
            .bytes(),
    );
    files
}

fn answers() -> Vec<Vec<u8>> {
    let file = files().swap_remove(0);
    let radiographs = [Radiograph {
        height: 0,
        width: 0,
        pixels: vec![0.5; 2 * 3 + 3 * 4],
    }];
    let mut inspected = vec![0];
    write_answer(&mut inspected, &Said::Inspected(inspect_bytes(&file)), &[]).unwrap();
    let mut decoded = vec![200];
    write_answer(
        &mut decoded,
        &Said::Decoded {
            inspection: inspect_bytes(&file),
            reduced: false,
            spent: radsort::decode::Spent::default(),
        },
        &radiographs,
    )
    .unwrap();
    vec![inspected, decoded]
}

fn control_lines() -> Vec<Vec<u8>> {
    use radsort::control::protocol::{Code, Refusal, Reply, Request, to_line};
    vec![
        to_line(&Request::Status {}).unwrap(),
        to_line(&Reply::Error(Refusal::new(Code::Busy, "busy"))).unwrap(),
        br#"{"v":1,"query":{"query":{"limit":3},"count":false}}"#.to_vec(),
        br#"{"v":1,"sort":{"dirs":["/a"],"dry_run":true}}"#.to_vec(),
    ]
}

fn configurations() -> Vec<Vec<u8>> {
    vec![
        source("config/radsort.toml"),
        b"[[watch]]\npath = \"/a\"\nsettle = \"3s\"\n[library]\npath = \"/b\"\n[state]\npath = \"/c\"\n\0[decoders]\nmemory = \"1GiB\"\n".to_vec(),
    ]
}

fn ledgers() -> Vec<Vec<u8>> {
    let head = r#"{"v":1,"t":1,"prev":"","ledger":"0123456789abcdef"}"#;
    let filed = r#"{"v":1,"t":2,"prev":"","record":{"filed":{"id":"0123456789abcdef-1"}}}"#;
    let commit = r#"{"v":1,"t":3,"prev":"","commit":1}"#;
    vec![format!("{head}\n{filed}\n{commit}\n").into_bytes()]
}

fn bundles() -> Vec<Vec<u8>> {
    let mut graph = vec![0];
    graph.extend(&source("models/spine-phantom/view.onnx")[..2000]);
    vec![source("models/spine-phantom/bundle.toml"), graph]
}
