//! Hostile people: a drop directory that everybody can write to, names and tags made to steer whatever shows them, and
//! strangers at the control socket.

#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Mould, RADSORT, Site, put, uid};
use dicom_core::VR;
use dicom_dictionary_std::tags;

fn am_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can be somebody else");
    }
    root
}

/// What a terminal would obey, but for the line breaks that a listing is made of.
fn assert_tame(what: &str, text: &str) {
    let wild = text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}'..='\u{200f}')
    });
    assert_eq!(wild, None, "{what}: {text}");
}

#[test]
fn names_made_to_steer_a_terminal_a_shell_or_a_spreadsheet_steer_nothing() {
    let longest = [&[b'x'; 251][..], b".dcm"].concat();
    let names: [&[u8]; 12] = [
        b"-rf",
        b"--config=evil.dcm",
        b"line\nbreak\rback.dcm",
        b"\x1b]0;owned\x07\x1b[2J.dcm",
        b"=HYPERLINK(\"evil\").csv.dcm",
        b"@SUM(1)",
        b"\"quoted\",comma.dcm",
        b"<script>alert(1)<!--.dcm",
        b"$(touch radsort-evil);`id`.dcm",
        b"not\xff\xfeutf8.dcm",
        "gnp.\u{202e}mcd".as_bytes(),
        &longest,
    ];
    let site = Site::with("", "[review]\nbelow = 0.0\nmay-loosen = true\n");
    let mould = Mould::new(61);
    let mut daemon = site.start();
    let drop = |name: &[u8], bytes: &[u8]| {
        let staged = site.dir.path().join("staged");
        fs::write(&staged, bytes).unwrap();
        fs::rename(staged, site.drop.join(OsStr::from_bytes(name))).unwrap();
    };
    for (n, name) in names.iter().enumerate() {
        let bytes = mould.bytes_with(|header| {
            put(header, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
            put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(n));
            put(
                header,
                tags::MANUFACTURER,
                VR::LO,
                "\u{1b}[31m\r\nlevel=ERROR \u{202e}=1+1",
            );
            put(
                header,
                tags::MANUFACTURER_MODEL_NAME,
                VR::LO,
                "=CMD|'/C'!A1",
            );
        });
        drop(name, &bytes);
        // One that stays where it is, under its own name, and one that goes to the quarantine.
        drop(
            &[b"left-", &name[..name.len().min(200)]].concat(),
            b"no DICOM",
        );
        drop(
            &[b"bad-", &name[..name.len().min(200)]].concat(),
            &bytes[..200],
        );
    }
    daemon.wait_total(2 * names.len() as u64);
    let status = site.ok(&["status"]);
    let log = daemon.stop();
    assert_tame("the status", &status);
    assert_tame("the log", &log);
    assert_tame("a listing", &site.ok(&["query", "--limit", "100"]));
    let export = site.ok(&["query", "--csv", "--limit", "100"]);
    assert_tame("an export", &export);
    let mut rows = csv::Reader::from_reader(export.as_bytes());
    let mut count = 0;
    for row in rows.records() {
        count += 1;
        for cell in &row.unwrap() {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{cell}"
            );
        }
    }
    assert!(count >= 2 * names.len(), "{count}");
    let labels = site.ok(&["labels", "export"]);
    assert_tame("the labels", &labels);
    for record in site.records() {
        let id = record["record"].as_str().unwrap();
        assert_tame("what is shown", &site.ok(&["show", id]));
    }
    for path in common::files(&site.library) {
        let name = path
            .strip_prefix(&site.library)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_tame("a name in the library", &name);
        assert!(!name.contains(['=', '<', '$', '`', '"', '\'']), "{name}");
        if name.ends_with(".reason.txt") {
            assert_tame("a reason", &fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn nothing_is_made_wider_than_configured_whatever_the_umask_and_the_files_say() {
    let site = Site::with("", "");
    let text = fs::read_to_string(&site.config).unwrap();
    let text = text.replace(
        "[library]\n",
        "[library]\nfile-mode = \"0600\"\ndirectory-mode = \"0700\"\n",
    );
    fs::write(&site.config, text).unwrap();
    let mould = Mould::new(62);
    for n in 0..3 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
        fs::set_permissions(
            site.drop.join(format!("{n}.dcm")),
            fs::Permissions::from_mode(0o777),
        )
        .unwrap();
    }
    site.put("bad.dcm", &mould.bytes("not a uid"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$@\"", "sh", RADSORT, "sort"])
        .arg(&site.drop)
        .args(["--json", "--config"])
        .arg(&site.config);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut open = vec![site.library.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            let mode = meta.mode() & 0o777;
            if meta.is_dir() {
                assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
                open.push(entry.path());
            } else {
                assert_eq!(mode & 0o177, 0, "{}: {mode:o}", entry.path().display());
            }
        }
    }
}

#[test]
fn an_access_list_of_the_drop_directory_lets_nobody_into_the_library() {
    let site = Site::new();
    let file = site.drop.join("listed.dcm");
    fs::write(&file, Mould::new(67).bytes(&uid(1))).unwrap();
    // linux/posix_acl_xattr.h: version 2, then tag, permissions and id of owner, user 23456, group, mask, others.
    let mut list = 2_u32.to_le_bytes().to_vec();
    let nobody = u32::MAX;
    for (tag, permissions, id) in [
        (0x01_u16, 6_u16, nobody),
        (0x02, 4, 23456),
        (0x04, 4, nobody),
        (0x10, 4, nobody),
        (0x20, 0, nobody),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_access";
    if let Err(error) = rustix::fs::setxattr(&file, name, &list, rustix::fs::XattrFlags::empty()) {
        eprintln!("SKIPPED: no access lists here: {error}");
        return;
    }
    site.sort();
    let filed = site.filed();
    assert_eq!(filed.len(), 1, "{filed:?}");
    let there = rustix::fs::getxattr(site.library.join(&filed[0]), name, &mut [0_u8; 1024]);
    assert!(there.is_err(), "it still lets others in: {there:?}");
    assert!(!file.exists());
    site.assert_verified();
}

#[test]
fn a_hard_link_to_somebody_elses_file_changes_nothing_of_it() {
    let site = Site::new();
    let mould = Mould::new(63);
    let outside = site.dir.path().join("theirs");
    fs::create_dir(&outside).unwrap();
    let theirs = outside.join("image.dcm");
    let bytes = mould.bytes(&uid(1));
    fs::write(&theirs, &bytes).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o604)).unwrap();
    let before = fs::metadata(&theirs).unwrap();
    fs::hard_link(&theirs, site.drop.join("link.dcm")).unwrap();
    site.sort();
    let after = fs::metadata(&theirs).unwrap();
    assert_eq!(fs::read(&theirs).unwrap(), bytes);
    assert_eq!(
        (before.ino(), before.mode(), before.uid(), before.mtime()),
        (after.ino(), after.mode(), after.uid(), after.mtime())
    );
    // Filed is a copy of radsort's own: whoever holds the other name cannot change it afterwards.
    for path in site.filed() {
        assert_ne!(
            fs::metadata(site.library.join(path)).unwrap().ino(),
            before.ino()
        );
    }
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let site = Site::with("recursive = true", "");
    let mould = Mould::new(64);
    let outside = site.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let secret = mould.bytes(&uid(0));
    for n in 0..50 {
        fs::write(outside.join(format!("{n}.dcm")), &secret).unwrap();
    }
    let inside: Vec<Vec<u8>> = (0..50).map(|n| mould.bytes(&uid(100 + n))).collect();
    let mut daemon = site.start();
    let folder = site.drop.join("folder");
    fs::create_dir(&folder).unwrap();
    for (n, bytes) in inside.iter().enumerate() {
        fs::write(folder.join(format!("{n}.dcm")), bytes).unwrap();
    }
    // The folder is swapped for a link to the other one and back, as fast as that goes, while its files are taken.
    let link = site.drop.join(".link");
    symlink(&outside, &link).unwrap();
    let begun = Instant::now();
    let mut swaps = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &folder,
            rustix::fs::CWD,
            &link,
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        swaps += 1;
    }
    if fs::symlink_metadata(&folder).unwrap().is_symlink() {
        fs::rename(&folder, site.dir.path().join("link")).unwrap();
        fs::rename(&link, &folder).unwrap();
    }
    daemon.wait_total(50);
    daemon.stop();
    eprintln!("{swaps} swaps");
    let digest = common::digest(&secret);
    for record in site.records() {
        assert_ne!(record["digest"], digest, "{record:#}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 50);
    let mut expected: Vec<String> = inside.iter().map(|bytes| common::digest(bytes)).collect();
    expected.sort();
    assert_eq!(site.digests(), expected);
    site.assert_verified();
}

/// Somebody who holds write leases (fcntl(2)) on files of his own, and takes each again that the kernel breaks.
const LEASES: &str = "\
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
files = [os.open(path, os.O_WRONLY) for path in sys.argv[1:]]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
while True:
    for file in files:
        try:
            if fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pass
    time.sleep(0.01)
";

#[test]
fn leases_on_files_keep_nobody_elses_file_from_being_filed() {
    let site = Site::new();
    let mould = Mould::new(66);
    let mine: Vec<_> = (0..8)
        .map(|n| {
            let path = site.drop.join(format!("leased-{n}.dcm"));
            fs::write(&path, mould.bytes(&uid(100 + n))).unwrap();
            path
        })
        .collect();
    let holder = Command::new("python3")
        .args(["-c", LEASES])
        .args(&mine)
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut holder) = holder else {
        return eprintln!("SKIPPED: there is no python3");
    };
    let mut said = String::new();
    let mut lines = BufReader::new(holder.stdout.take().unwrap());
    lines.read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let mut daemon = site.start();
    for n in 0..8 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(8);
    let status = daemon.wait_until("the leases are told", |status| {
        let why = status["watches"][0]["why"].as_str();
        why.is_some_and(|why| why.contains("a lease"))
    });
    assert_eq!(status["watches"][0]["state"], "online");
    holder.kill().unwrap();
    holder.wait().unwrap();
    daemon.wait_total(16);
    daemon.stop();
    site.assert_verified();
}

/// Such a folder takes new names and lets none go: a claim would be one more of them, at each attempt.
#[test]
fn a_folder_that_lets_no_name_go_keeps_its_files_and_keeps_nobody_elses_waiting() {
    let mark = |mark: &str, folder: &Path| {
        let done = Command::new("chattr").arg(mark).arg(folder).status();
        done.is_ok_and(|status| status.success())
    };
    for elsewhere in [false, true] {
        let mut site = Site::new();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        if elsewhere {
            site.library = memory.path().canonicalize().unwrap().join("library");
            fs::create_dir(&site.library).unwrap();
            site.configure("", "");
        }
        let (mould, folder) = (Mould::new(73), site.drop.join("kept"));
        fs::create_dir(&folder).unwrap();
        site.put("kept/a.dcm", &mould.bytes(&uid(1)));
        if !mark("+a", &folder) {
            eprintln!("SKIPPED: this wants root, and a disk on which a folder can be marked");
            return;
        }
        let mut daemon = site.start();
        daemon.wait_until("it is told", |status| {
            status["watches"][0]["cannot_take"] == 1
        });
        site.put("b.dcm", &mould.bytes(&uid(2)));
        daemon.wait_total(1);
        assert_eq!(common::files(&folder), [folder.join("a.dcm")]);
        assert!(mark("-a", &folder));
        daemon.stop();
        let mut daemon = site.start();
        daemon.wait_total(2);
        daemon.stop();
        site.assert_verified();
    }
}

#[test]
fn a_device_in_the_drop_directory_is_left_alone() {
    if !am_root() {
        return;
    }
    let site = Site::new();
    let mut daemon = site.start();
    for (name, kind, (major, minor)) in [
        ("null.dcm", rustix::fs::FileType::CharacterDevice, (1, 3)),
        ("zero.dcm", rustix::fs::FileType::CharacterDevice, (1, 5)),
        ("disk.dcm", rustix::fs::FileType::BlockDevice, (7, 0)),
    ] {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            site.drop.join(name),
            kind,
            rustix::fs::Mode::from_raw_mode(0o666),
            rustix::fs::makedev(major, minor),
        );
        if let Err(error) = made {
            eprintln!("SKIPPED: no device {name} here ({error})");
        }
    }
    let before = fs::read_dir(&site.drop).unwrap().count();
    site.put("real.dcm", &Mould::new(65).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.stop();
    assert_eq!(fs::read_dir(&site.drop).unwrap().count(), before);
    assert_eq!(site.records().len(), 1);
}

/// A site whose control socket lies where everybody can get to it, so that only its own mode stands in the way.
fn site_with_a_reachable_socket() -> (Site, tempfile::TempDir) {
    let public = tempfile::tempdir().unwrap();
    fs::set_permissions(public.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let site = Site::with(
        "",
        &format!(
            "[control]\nsocket = {:?}\n",
            public.path().join("control.sock")
        ),
    );
    (site, public)
}

#[test]
fn the_control_socket_is_for_its_group_alone() {
    if !am_root() {
        return;
    }
    let (site, public) = site_with_a_reachable_socket();
    let socket = public.path().join("control.sock");
    let daemon = site.start();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    let group = 65_533;
    std::os::unix::fs::chown(&socket, None, Some(group)).unwrap();
    // Python, because the test's program lies where strangers may not go.
    let says = |gid: u32| {
        Command::new("setpriv")
            .args([
                "--reuid=65534",
                &format!("--regid={gid}"),
                "--clear-groups",
                "/usr/bin/python3",
                "-c",
            ])
            .arg(format!(
                "import socket\ns = socket.socket(socket.AF_UNIX); s.connect({:?})\n\
                 try: s.send(b'{{\"v\":1,\"status\":{{}}}}\\n')\n\
                 except BrokenPipeError: pass  # it has hung up, and has said why\n\
                 print(s.recv(99))",
                socket.to_str().unwrap()
            ))
            .output()
            .unwrap()
    };
    let member = says(group);
    if !member.status.success() && String::from_utf8_lossy(&member.stderr).contains("No such file")
    {
        eprintln!("SKIPPED: no python3");
        return;
    }
    assert!(member.status.success(), "{member:?}");
    let stranger = says(65_534);
    assert!(!stranger.status.success());
    let error = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(error.contains("PermissionError"), "{error}");
    // Somebody has opened its mode too far: the daemon looks at who is there as well.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let stranger = says(65_534);
    let answer = String::from_utf8_lossy(&stranger.stdout).into_owned();
    assert!(answer.contains("forbidden"), "{stranger:?}");
    let member = says(group);
    let answer = String::from_utf8_lossy(&member.stdout).into_owned();
    assert!(!answer.contains("forbidden"), "{member:?}");
    daemon.stop();
}

#[test]
fn many_slow_and_garbled_clients_keep_nobody_from_being_served() {
    let site = Site::new();
    let mut daemon = site.start();
    let socket = site.state.join("control.sock");
    let connect = || UnixStream::connect(&socket).unwrap();
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", daemon.child.id()))
            .unwrap()
            .count()
    };
    let before = descriptors();
    // More than there are places, each with half a line.
    let mut slow: Vec<UnixStream> = (0..300).map(|_| connect()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"{\"v\":1,\"sta");
    }
    assert!(
        descriptors() < before + 100,
        "every client keeps a descriptor"
    );
    // They stay, and everybody else is served; whoever was silent for longest has given way.
    let asked = Instant::now();
    for _ in 0..50 {
        daemon.status();
    }
    assert!(asked.elapsed() < Duration::from_secs(20));
    drop(slow);
    // Lines that are none, of every kind, and one that has no end.
    let mut garbled = connect();
    for line in [
        &b"\0\0\0\n"[..],
        b"[[[[[[\n",
        b"{}\n",
        b"{\"v\":99}\n",
        b"\xff\xfe\n",
        &[&b"[".repeat(100_000)[..], b"\n"].concat(),
    ] {
        garbled.write_all(line).unwrap();
    }
    let mut answers = BufReader::new(garbled.try_clone().unwrap());
    for _ in 0..6 {
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains("error"), "{answer}");
    }
    let endless = vec![b'x'; 4 << 20];
    let _ = garbled.write_all(&endless);
    drop(garbled);
    site.put("one.dcm", &Mould::new(66).bytes(&uid(1)));
    daemon.wait_total(1);
    let asked = Instant::now();
    daemon.status();
    assert!(asked.elapsed() < Duration::from_secs(5));
    daemon.stop();
}
