//! Hostile files stay inside the library, cost one quarantine each, and hold up nobody else.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Mould, Site, put, uid};
use dicom_core::VR;
use dicom_dictionary_std::tags;

/// Names directly in the site's directory, but for the daemons' logs: a file that got out would be another one.
fn around(site: &Site) -> BTreeSet<String> {
    fs::read_dir(site.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            Path::new(name).extension().is_none_or(|end| end != "log") && name != "staged"
        })
        .collect()
}

fn reason_files(site: &Site) -> Vec<String> {
    common::files(&site.library)
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(".reason.txt"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn files_with_hostile_identifiers_are_quarantined_inside_the_library() {
    let site = Site::new();
    let mould = Mould::new(41);
    let long = "1".repeat(300);
    let hostile = [
        "../../../../../tmp/radsort-evil",
        "../radsort-evil",
        "/tmp/radsort-evil",
        "1.2\0.3/../../radsort-evil",
        "1.2.3/../../4",
        "..",
        "1.2.x",
        "-rf",
        &long,
    ];
    let before = around(&site);
    for (n, text) in hostile.iter().enumerate() {
        let bytes = mould.bytes_with(|header| {
            put(header, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
            put(header, tags::SOP_INSTANCE_UID, VR::UI, text);
        });
        site.put(&format!("{n}.dcm"), &bytes);
    }
    // Other identifiers only name folders, if a template asks for them.
    let other = mould.bytes_with(|header| {
        put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(99));
        put(
            header,
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            "../../radsort-evil",
        );
        put(header, tags::STUDY_DATE, VR::DA, "../../..");
    });
    site.put("other.dcm", &other);
    let digests = site.digests();
    site.sort();

    let records = site.records();
    assert_eq!(records.len(), hostile.len() + 1);
    let quarantined = records
        .iter()
        .filter(|record| record["reason"] == "invalid-sop-instance-uid");
    assert_eq!(quarantined.count(), hostile.len(), "{records:#?}");
    assert_eq!(reason_files(&site).len(), hostile.len());
    assert_eq!(site.digests(), digests);
    assert_eq!(
        around(&site),
        &before | &BTreeSet::from(["state".to_owned()])
    );
    assert!(!Path::new("/tmp/radsort-evil").exists());
    site.assert_verified();
}

#[test]
fn hostile_attributes_in_a_template_stay_one_folder_each_inside_the_category() {
    let site = Site::new();
    let text = fs::read_to_string(&site.config).unwrap().replace(
        "[library]\n",
        "[library]\ntemplate = \"{category}/{manufacturer}/{sop_instance_uid}.dcm\"\n",
    );
    // Whatever the model thinks: this test is about the names of those that are filed.
    let loose = "[review]\nbelow = 0.0\nmay-loosen = true\n";
    fs::write(&site.config, text + loose).unwrap();
    let mould = Mould::new(42);
    let long = "x".repeat(300);
    let hostile = [
        "../../../radsort-evil",
        "/tmp/radsort-evil",
        "a/b",
        "nul\0inside",
        "line\nbreak",
        &long,
        "..",
        ".",
        "~",
        "CON",
        "-rf",
        "_review",
        ".radsort-library",
        // Twins: the same to a filesystem without case, or with its own idea of Unicode.
        "Acme",
        "ACME",
        "acme",
        "\u{c5}ngstr\u{f6}m",
        "A\u{30a}ngstro\u{308}m",
    ];
    let before = around(&site);
    for (n, text) in hostile.iter().enumerate() {
        let bytes = mould.bytes_with(|header| {
            put(header, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
            put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(n));
            put(header, tags::MANUFACTURER, VR::LO, text);
        });
        site.put(&format!("{n}.dcm"), &bytes);
    }
    let digests = site.digests();
    site.sort();

    assert_eq!(
        site.fates()["filed"],
        hostile.len(),
        "{:#?}",
        site.records()
    );
    let mut folders = BTreeSet::new();
    for path in site.filed() {
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 3, "{path}");
        assert!(parts[1].len() <= 200 && parts[1].is_ascii(), "{path}");
        assert!(!parts[1].starts_with(['.', '_']), "{path}");
        folders.insert(parts[1].to_lowercase());
    }
    // Different values never share a folder, not even where case does not count.
    assert_eq!(folders.len(), hostile.len(), "{folders:#?}");
    assert_eq!(site.digests(), digests);
    assert_eq!(
        around(&site),
        &before | &BTreeSet::from(["state".to_owned()])
    );
    site.assert_verified();
}

#[test]
fn a_file_without_an_instance_uid_is_quarantined_with_a_reason_file() {
    let site = Site::new();
    let mould = Mould::new(43);
    let without = mould.bytes_with(|header| {
        header.remove_element(tags::SOP_INSTANCE_UID);
    });
    site.put("without.dcm", &without);
    site.put("empty.dcm", &mould.bytes(""));
    let before = site.digests();
    site.sort();
    for record in site.records() {
        assert_eq!(record["fate"], "quarantined");
        assert_eq!(record["reason"], "no-sop-instance-uid");
        let path = record["path"].as_str().unwrap();
        let reason = fs::read_to_string(format!("{path}.reason.txt")).unwrap();
        assert!(reason.contains("no-sop-instance-uid"), "{reason}");
        assert!(reason.contains("radsort quarantine release"), "{reason}");
    }
    assert_eq!(reason_files(&site).len(), 2);
    assert_eq!(site.digests(), before);
}

#[test]
fn a_file_that_cannot_be_decoded_is_found_and_given_back_by_its_uid() {
    let site = Site::new();
    let bytes = Mould::new(46).bytes_with(|header| {
        put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(1));
        header.remove_element(tags::PIXEL_DATA);
    });
    site.put("blind.dcm", &bytes);
    site.sort();
    assert!(site.ok(&["show", &uid(1)]).contains("no-pixel-data"));
    site.ok(&["quarantine", "release", &uid(1)]);
    assert_eq!(fs::read(site.drop.join("blind.dcm")).unwrap(), bytes);
    assert!(reason_files(&site).is_empty());
}

#[test]
fn a_decoder_that_goes_wrong_costs_one_quarantine_and_others_are_served() {
    if !cfg!(feature = "failpoints") {
        eprintln!("SKIPPED: needs `--features failpoints`");
        return;
    }
    let limits =
        "[decoders]\ncount = 2\nmemory = \"256MiB\"\ncpu-time = \"1s\"\nwall-time = \"2s\"\n";
    let site = Site::with("", limits);
    let mould = Mould::new(44);
    let behaviours = [
        "panic",
        "abort",
        "segfault",
        "overflow",
        "silence",
        "spin",
        "deaf",
        "eat-memory",
        "junk",
        "endless",
        "lie",
        "short",
        "long",
        "giant",
        "nested",
        "twice",
        "pixels-first",
        "other-question",
        "other-reason",
        "infinite",
        "half",
        "linger",
        "chatter",
        "sweep",
        "escape-kill",
        "escape-exec",
        "escape-fork",
    ];
    let mut daemon = site.start();
    for (n, behaviour) in behaviours.iter().enumerate() {
        let mut bytes = mould.bytes(&uid(n));
        let order = format!("radsort-test:decode:{behaviour}\0");
        bytes[..order.len()].copy_from_slice(order.as_bytes());
        site.put(&format!("{behaviour}.dcm"), &bytes);
        site.put(&format!("good-{n}.dcm"), &mould.bytes(&uid(100 + n)));
    }
    // A header pass that dies decides nothing: the file settles the slow way and is decoded.
    let mut bytes = mould.bytes(&uid(200));
    bytes[..27].copy_from_slice(b"radsort-test:inspect:abort\0");
    site.put("inspect.dcm", &bytes);
    let before = 2 * behaviours.len() as u64 + 1;
    daemon.wait_total(before);
    daemon.stop();

    for record in site.records() {
        let from = record["from"].as_str().unwrap().trim_end_matches(".dcm");
        let quarantined = record["fate"] == "quarantined";
        assert_eq!(quarantined, behaviours.contains(&from), "{record:#}");
        assert!(quarantined || record["placed"] == true, "{record:#}");
    }
    assert_eq!(reason_files(&site).len(), behaviours.len());
    assert!(site.remains().is_empty());
    site.assert_verified();
}

#[test]
fn links_pipes_and_sockets_in_the_drop_directory_are_left_alone() {
    let site = Site::new();
    let mould = Mould::new(45);
    let outside = site.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("image.dcm"), mould.bytes(&uid(1))).unwrap();
    let mut daemon = site.start();
    symlink(outside.join("image.dcm"), site.drop.join("link.dcm")).unwrap();
    symlink(&outside, site.drop.join("folder")).unwrap();
    symlink("nowhere", site.drop.join("dangling.dcm")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.drop.join("pipe.dcm"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.drop.join("socket.dcm")).unwrap();
    site.put("real.dcm", &mould.bytes(&uid(2)));
    daemon.wait_total(1);
    daemon.stop();
    // A pass looks at everything once more, and waits for none of these.
    let summary = site.sort();
    assert_eq!(summary["waiting"], 0, "{summary}");
    let mut names: Vec<_> = fs::read_dir(&site.drop)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "dangling.dcm",
            "folder",
            "link.dcm",
            "pipe.dcm",
            "socket.dcm"
        ]
    );
    assert!(outside.join("image.dcm").is_file());
    assert_eq!(site.records().len(), 1);
}
