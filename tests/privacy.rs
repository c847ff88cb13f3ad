//! Who a patient is stands in the file itself, and nowhere else that others can read.

#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Mould, Site, put, uid};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// What must not be found, in lower case. The SOP Instance UID of one file holds a name as well.
const SECRETS: [&str; 5] = [
    "kwiatkowska",
    "zbyslawa",
    "pid-7731-xq",
    "19870613",
    "1987-06-13",
];

fn plant(header: &mut InMemDicomObject) {
    put(header, tags::PATIENT_NAME, VR::PN, "Kwiatkowska^Zbyslawa");
    put(header, tags::PATIENT_ID, VR::LO, "PID-7731-XQ");
    put(header, tags::PATIENT_BIRTH_DATE, VR::DA, "19870613");
    put(header, tags::OTHER_PATIENT_NAMES, VR::PN, "Kwiatkowska");
    put(
        header,
        tags::PATIENT_COMMENTS,
        VR::LT,
        "Zbyslawa, PID-7731-XQ",
    );
    put(header, tags::ACCESSION_NUMBER, VR::SH, "PID-7731-XQ");
    plant_as_codes(header, "Kwiatkowska", "PID-7731-XQ");
}

/// Where the standard wants one of its own words, and nothing keeps a file from having another.
fn plant_as_codes(header: &mut InMemDicomObject, name: &str, id: &str) {
    for tag in [
        tags::BODY_PART_EXAMINED,
        tags::IMAGE_LATERALITY,
        tags::LATERALITY,
    ] {
        put(header, tag, VR::CS, name);
    }
    put(
        header,
        tags::PATIENT_ORIENTATION,
        VR::CS,
        &format!("{name}\\F"),
    );
    put(header, tags::PATIENT_AGE, VR::AS, name);
    let mut code = InMemDicomObject::new_empty();
    put(&mut code, tags::CODE_VALUE, VR::SH, id);
    put(&mut code, tags::CODING_SCHEME_DESIGNATOR, VR::SH, name);
    put(
        &mut code,
        tags::CODE_MEANING,
        VR::LO,
        &format!("{name} lateral"),
    );
    let items = DataSetSequence::from(vec![code]);
    header.put(DataElement::new(tags::VIEW_CODE_SEQUENCE, VR::SQ, items));
}

fn with_uid(mould: &Mould, uid: &str) -> Vec<u8> {
    mould.bytes_with(|header| {
        plant(header);
        put(header, tags::SOP_INSTANCE_UID, VR::UI, uid);
    })
}

/// What lists of bytes in a text spell, as libraries write keys and values: `[119, 105]`.
fn spelt(text: &str) -> String {
    let lists = text.split('[').filter_map(|rest| rest.split_once(']'));
    let bytes = lists.filter_map(|(list, _)| {
        let bytes = list.split(", ").map(str::parse::<u8>);
        bytes.collect::<Result<Vec<_>, _>>().ok()
    });
    bytes.fold(String::new(), |all, bytes| {
        all + "\n" + &String::from_utf8_lossy(&bytes)
    })
}

fn assert_clean(what: &str, text: &str) {
    let lower = (text.to_owned() + &spelt(text)).to_lowercase();
    for secret in SECRETS {
        if let Some(at) = lower.find(secret) {
            let from = lower[..at].rfind('\n').map_or(0, |at| at + 1);
            let line = lower[from..].lines().next().unwrap();
            panic!("{what} holds {secret:?}: {line}");
        }
    }
}

/// What a scraper is told.
fn metrics(site: &Site) -> String {
    use std::io::{Read, Write};
    let path = site.state.join("metrics.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Drops files that end in every way there is, under names that tell whose they are.
fn drop_everything(site: &Site, first_is_filed: impl FnOnce()) -> u64 {
    let mould = Mould::new(51);
    let folder = site.drop.join("Kwiatkowska Zbyslawa/PID-7731-XQ");
    fs::create_dir_all(&folder).unwrap();
    let drop = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(format!("Kwiatkowska_19870613_{name}")), bytes).unwrap();
    };
    let good = with_uid(&mould, &uid(1));
    drop("filed.dcm", &good);
    // What comes later under its UID is a duplicate or in conflict with it, not the other way round.
    first_is_filed();
    drop("duplicate.dcm", &good);
    let mut conflict = good.clone();
    *conflict.last_mut().unwrap() ^= 1;
    drop("conflict.dcm", &conflict);
    // To review in any case: AP by its header, whatever it shows, and the other way round.
    for (n, view) in ["AP", "LL"].iter().enumerate() {
        let bytes = mould.bytes_with(|header| {
            plant(header);
            put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(10 + n));
            put(header, tags::VIEW_POSITION, VR::CS, view);
        });
        drop(&format!("view-{n}.dcm"), &bytes);
    }
    drop("bad-uid.dcm", &with_uid(&mould, "Kwiatkowska.19870613"));
    drop("no-uid.dcm", &with_uid(&mould, ""));
    drop("cut.dcm", &with_uid(&mould, &uid(2))[..good.len() / 2]);
    let garbled = mould.bytes_with(|header| {
        plant(header);
        put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(3));
        put(
            header,
            tags::PHOTOMETRIC_INTERPRETATION,
            VR::CS,
            "Kwiatkowska",
        );
    });
    drop("garbled.dcm", &garbled);
    let slice = mould.bytes_with(|header| {
        plant(header);
        put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(4));
        put(header, tags::MODALITY, VR::CS, "CT");
        put(
            header,
            tags::SOP_CLASS_UID,
            VR::UI,
            dicom_dictionary_std::uids::CT_IMAGE_STORAGE,
        );
    });
    drop("slice.dcm", &slice);
    drop("letter.pdf", b"%PDF-1.4 Kwiatkowska, 19870613");
    drop("archive.zip", b"PK\x03\x04 Kwiatkowska");
    let mut count = 12;
    if cfg!(feature = "failpoints") {
        let mut panics = with_uid(&mould, &uid(5));
        panics[..26].copy_from_slice(b"radsort-test:decode:panic\0");
        drop("panics.dcm", &panics);
        count += 1;
    }
    count
}

#[test]
fn no_log_status_reason_or_path_tells_who_a_patient_is() {
    let logged = "[log]\nlevel = \"trace\"\ntarget = \"json\"\n\
                  [review]\nbelow = 0.0\nmay-loosen = true\n";
    let site = Site::with("truncated = \"1s\"", logged);
    let mut daemon = site.start();
    let count = drop_everything(&site, || {
        daemon.wait_total(1);
    });
    daemon.wait_total(count);

    // The library goes away: that, too, is told without names.
    let marker = site.library.join(".radsort-library");
    fs::rename(&marker, site.dir.path().join("marker")).unwrap();
    let late = with_uid(&Mould::new(52), &uid(6));
    fs::write(site.drop.join("Kwiatkowska-late.dcm"), late).unwrap();
    daemon.wait_until("held", |status| status["watches"][0]["state"] == "held");
    // Given back from the quarantine under its old name, and a reload that fails.
    let config = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{config}\nunknown = 1\n")).unwrap();
    assert!(!site.run(&["reload"]).status.success());
    fs::write(&site.config, config).unwrap();
    let status = site.ok(&["status", "--json"]) + &site.ok(&["status"]);
    let watched = site.ok(&["status", "--watch", "--count", "1"]);
    let figures = metrics(&site);
    let findings = site.run(&["check"]).stdout;
    let logs = daemon.stop();

    let fates = site.fates();
    for fate in [
        "filed",
        "review",
        "conflict",
        "duplicate",
        "quarantined",
        "left",
    ] {
        assert!(fates.contains_key(fate), "{fates:?}");
    }
    assert_clean("the log", &logs);
    // What others log of their work is not known to be clean.
    for line in logs.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let ours = line["target"].as_str().unwrap().starts_with("radsort");
        assert!(
            ours || line["level"] == "WARN" || line["level"] == "ERROR",
            "{line}"
        );
    }
    assert_clean("the status", &status);
    assert_clean("the watched status", &watched);
    assert!(figures.contains("radsort_files_total{"), "{figures}");
    assert_clean("the metrics", &figures);
    assert_clean("the doctor", &String::from_utf8_lossy(&findings));
    for path in common::files(&site.library) {
        assert_clean("a path in the library", path.to_str().unwrap());
        if path.to_string_lossy().ends_with(".reason.txt") {
            assert_clean("a reason", &fs::read_to_string(path).unwrap());
        }
    }
    for record in site.records() {
        // The source path is the index's to keep, for those who may read it.
        let mut record = record;
        for key in ["from", "path"] {
            record.as_object_mut().unwrap().remove(key);
        }
        assert_clean("a record", &record.to_string());
    }
    assert_private(&site.state);
}

#[test]
fn a_pass_over_a_directory_prints_no_patient() {
    let site = Site::with("truncated = \"1s\"", "[log]\nlevel = \"trace\"\n");
    drop_everything(&site, || ());
    let mut sort = site.command(&["sort", site.drop.to_str().unwrap()]);
    let output = sort.env("RUST_LOG", "trace,sled=trace").output().unwrap();
    assert_clean("its output", &String::from_utf8_lossy(&output.stdout));
    assert_clean("its log", &String::from_utf8_lossy(&output.stderr));
    assert_private(&site.state);
}

/// What is planted in tags alone and in names of files and folders alone, in lower case.
const IN_TAGS: [&str; 2] = ["zzqt", "qtid"];
const IN_NAMES: [&str; 2] = ["zzqn", "qnid"];

/// Neither of them, and no birth date, which stands in both: eight digits by themselves, of a year that nothing else has.
fn assert_anonymous(what: &str, text: &str) {
    let lower = text.to_lowercase();
    let sign = IN_TAGS
        .iter()
        .chain(&IN_NAMES)
        .find_map(|sign| lower.find(sign));
    let date = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 8 && word.starts_with("1833") && word.parse::<u32>().is_ok());
    if let Some(at) = sign {
        let from = lower[..at]
            .char_indices()
            .rev()
            .nth(80)
            .map_or(0, |(at, _)| at);
        panic!(
            "{what}: {}",
            lower[from..].chars().take(200).collect::<String>()
        );
    }
    assert_eq!(date, None, "a birth date in {what}");
}

fn holds(bytes: &[u8], signs: &[&str]) -> bool {
    let bytes = bytes.to_ascii_lowercase();
    signs
        .iter()
        .any(|sign| memchr::memmem::find(&bytes, sign.as_bytes()).is_some())
}

/// The file with another Transfer Syntax UID, of at most as many bytes.
fn with_syntax(mut bytes: Vec<u8>, uid: &str) -> Vec<u8> {
    let old = b"1.2.840.10008.1.2.1\0";
    let at = memchr::memmem::find(&bytes, old).unwrap();
    bytes[at..at + old.len()].fill(0);
    bytes[at..at + uid.len()].copy_from_slice(uid.as_bytes());
    bytes
}

/// A file whose patient stands in its tags, its name and its folder, on one of the ways on which files end.
fn of_patient(n: usize) -> (String, String, Vec<u8>) {
    let birth = format!("1833{:02}{:02}", n % 12 + 1, n % 28 + 1);
    let tagged = |n: usize, uid_of: usize, picture: usize, uid: Option<String>| {
        let (name, id) = (format!("Zzqt{n:04}wyk"), format!("QTID{n:04}77"));
        tiny::image_of(uid_of, picture, |header| {
            for (tag, vr, value) in [
                (tags::PATIENT_NAME, VR::PN, format!("{name}^{name}")),
                (tags::PATIENT_ID, VR::LO, id.clone()),
                (tags::ISSUER_OF_PATIENT_ID, VR::LO, name.clone()),
                (tags::PATIENT_BIRTH_DATE, VR::DA, birth.clone()),
                (tags::OTHER_PATIENT_NAMES, VR::PN, name.clone()),
                (tags::PATIENT_ADDRESS, VR::LO, name.clone()),
                (
                    tags::PATIENT_COMMENTS,
                    VR::LT,
                    format!("{name}, {id}, {birth}"),
                ),
                (tags::ACCESSION_NUMBER, VR::SH, id.clone()),
                (tags::REFERRING_PHYSICIAN_NAME, VR::PN, name.clone()),
                (tags::INSTITUTION_NAME, VR::LO, name.clone()),
                (tags::STATION_NAME, VR::SH, name.clone()),
                (tags::STUDY_DESCRIPTION, VR::LO, name.clone()),
                (tags::SERIES_DESCRIPTION, VR::LO, name.clone()),
                (tags::STUDY_ID, VR::SH, id.clone()),
            ] {
                put(header, tag, vr, &value);
            }
            plant_as_codes(header, &name, &id);
            // Words of which more depends: these may end in the quarantine, or stay as something else than a radiograph.
            if n % 10 == 2 {
                let (tag, vr) = match n / 10 % 5 {
                    0 => (tags::PHOTOMETRIC_INTERPRETATION, VR::CS),
                    1 => (tags::SOP_CLASS_UID, VR::UI),
                    2 => (tags::MODALITY, VR::CS),
                    _ => (tags::VIEW_POSITION, VR::CS),
                };
                put(header, tag, vr, &name);
            }
            if let Some(uid) = uid {
                put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid);
            }
            if n % 10 == 9 {
                // The header contradicts the picture: a person must look.
                put(header, tags::VIEW_POSITION, VR::CS, "LL");
            }
        })
    };
    let whole = |n: usize| tagged(n, n, n, None);
    let bytes = match n % 10 {
        3 => whole(n)[..800].to_vec(),
        4 => format!("no DICOM: Zzqt{n:04}wyk, QTID{n:04}77").into_bytes(),
        5 => whole(n)[..140].to_vec(),
        6 => tagged(n, n, n, Some(format!("Zzqt{n:04}.{birth}"))),
        // The same file again, and another one under its UID.
        7 => of_patient(n - 7).2,
        8 => tagged(n, n - 7, n, None),
        9 => tagged(n, n, 0, None),
        2 if n / 10 % 5 == 3 => with_syntax(whole(n), &format!("1.2.Zzqt{n:04}wyk")),
        _ => whole(n),
    };
    let folder = format!("Zzqn{:04}/QNID{:04}", n % 20, n % 40);
    let name = format!("Zzqn{n:04}wyk_{birth}_QNID{n:04}.dcm");
    (folder, name, bytes)
}

#[test]
fn of_a_thousand_patients_nothing_gets_out() {
    const COUNT: usize = 1000;
    let bundle = tiny::Bundle::new();
    let textfiles = tempfile::tempdir().unwrap();
    let site = Site::with(
        "truncated = \"1s\"",
        &format!(
            "{}[log]\nlevel = \"debug\"\ntarget = \"json\"\n[decoders]\ncount = 2\n\
             [metrics]\ntextfile = {:?}\ninterval = \"1s\"\n",
            bundle.section(),
            textfiles.path()
        ),
    );
    let mut daemon = site.start();
    for n in 0..COUNT {
        let (folder, name, bytes) = of_patient(n);
        let folder = site.drop.join(folder);
        fs::create_dir_all(&folder).unwrap();
        // By a rename, so that none is seen half written.
        let staged = site.dir.path().join("staged");
        fs::write(&staged, bytes).unwrap();
        fs::rename(&staged, folder.join(name)).unwrap();
    }
    daemon.wait_total(COUNT as u64);
    assert_anonymous("the status", &site.ok(&["status"]));
    assert_anonymous("the status as JSON", &site.ok(&["status", "--json"]));
    let scraped = metrics(&site);
    assert!(scraped.contains("radsort_files_total{"), "{scraped}");
    assert_anonymous("the metrics", &scraped);
    let textfile = || -> Option<String> {
        let file = fs::read_dir(textfiles.path()).ok()?.flatten().next()?;
        fs::read_to_string(file.path()).ok()
    };
    daemon.wait_for("the metrics' file", || {
        textfile().is_some_and(|text| text.contains("radsort_files_total{"))
    });
    assert_anonymous("the metrics' file", &textfile().unwrap());
    assert_anonymous("what radsort check finds", &{
        let output = site.run(&["check"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    assert_reports_are_anonymous(&site);
    assert_anonymous("the log", &daemon.stop());

    let fates: BTreeSet<String> = site.fates().into_keys().collect();
    let all = [
        "conflict",
        "duplicate",
        "filed",
        "left",
        "quarantined",
        "review",
    ];
    assert_eq!(fates, BTreeSet::from(all.map(ToOwned::to_owned)));
    let mut planted = false;
    for path in common::files(&site.library) {
        let below = path.strip_prefix(&site.library).unwrap();
        assert_anonymous("a path of the library", below.to_str().unwrap());
        let bytes = fs::read(&path).unwrap();
        if path.to_string_lossy().ends_with(".reason.txt") {
            assert_anonymous("a reason", &String::from_utf8_lossy(&bytes));
        }
        planted |= holds(&bytes, &IN_TAGS);
    }
    assert!(planted, "nothing was planted in the files");

    assert_private(&site.state);
    let mut named = false;
    for path in common::files(&site.state) {
        let bytes = fs::read(&path).unwrap();
        let below = path.strip_prefix(&site.state).unwrap().to_str().unwrap();
        assert!(
            !holds(&bytes, &IN_TAGS),
            "{below} holds what stands in tags"
        );
        // Where a file came from stands in the ledger, what is folded from it, and nowhere else.
        if ["ledger/", "index", "checkpoint"]
            .iter()
            .any(|may| below.starts_with(may))
        {
            named |= holds(&bytes, &IN_NAMES);
        } else {
            assert!(!holds(&bytes, &IN_NAMES), "{below} holds a file's name");
        }
    }
    assert!(named, "the ledger does not say where a file came from");
}

/// Pages that are made of what was filed.
fn assert_reports_are_anonymous(site: &Site) {
    let out = tempfile::tempdir().unwrap();
    let said = site.ok(&[
        "audit",
        "sample",
        "20",
        "--out",
        out.path().to_str().unwrap(),
    ]);
    assert_anonymous("what audit says", &said);
    let mut reports = 1;
    if cfg!(feature = "retrain") {
        let page = out.path().join("evaluation.html");
        // Not the library itself: nobody has looked at what is in there.
        let sorted = tempfile::tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(site.library.join("."))
            .arg(sorted.path())
            .status();
        assert!(copied.unwrap().success());
        let said = site.ok(&[
            "evaluate",
            "--from",
            sorted.path().to_str().unwrap(),
            "--report",
            page.to_str().unwrap(),
        ]);
        assert_anonymous("what evaluate says", &said);
        reports += 1;
    }
    let pages = common::files(out.path());
    assert_eq!(pages.len(), reports, "{pages:?}");
    for page in pages {
        assert_anonymous("a report", &fs::read_to_string(page).unwrap());
    }
}

/// Nobody but the service's user may look into its state, but for the socket, which has a group.
fn assert_private(dir: &Path) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            assert_private(&path);
        } else if kind.is_socket() {
            assert_eq!(mode(&path), 0o660, "{}", path.display());
        } else {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

/// ONNX Runtime's library would look up its makers' address as soon as it is loaded, and again while it works.
#[test]
fn nothing_calls_home() {
    let site = Site::new();
    site.put("1.dcm", &Mould::new(41).bytes(&uid(1)));
    let file = site.drop.join("1.dcm");
    let traced = site.dir.path().join("calls");
    let radsort = site.command(&["classify", "--json", file.to_str().unwrap()]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-e", "trace=socket,socketpair", "-o"])
        .arg(&traced)
        .arg(radsort.get_program())
        .args(radsort.get_args())
        .env_remove("ORT_DISABLE_TELEMETRY")
        .stdin(Stdio::null());
    let Ok(output) = strace.output() else {
        return eprintln!("SKIPPED: needs strace");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("PTRACE") {
        return eprintln!("SKIPPED: strace is not allowed here: {said}");
    }
    assert!(output.status.success(), "{said}");
    let calls = fs::read_to_string(traced).unwrap();
    assert!(
        calls.contains("socketpair(AF_UNIX"),
        "the decoders' pipes are not seen: {calls}"
    );
    assert!(!calls.contains("AF_INET"), "{calls}");
}
