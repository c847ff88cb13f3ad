//! Other programs in a drop directory: schedules and units that move or delete files there, other instances of radsort,
//! and whatever waits for the same files. A file that somebody else takes is a file that radsort never sees.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cleaners;
use super::findings::{Findings, Verdict};
use crate::commands::setup::advice::real;
use crate::commands::setup::directories::is_emptied_at_a_stop;
use crate::commands::setup::sites;
use crate::config::Settings;
use crate::config::settings::WatchSettings;

/// Where machines are told to do things again and again.
const PLACES: [&str; 13] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/etc/logrotate.d",
    "/var/spool/cron/crontabs",
    "/etc/incron.d",
    "/var/spool/incron",
    "/etc/systemd/system",
    "/etc/orthanc",
    "/etc/radsort",
];
/// Where systemd-tmpfiles is told to make and to delete; a file hides those of its name in later places.
const TMPFILES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// Larger files are no schedules, bytes.
const LARGEST: u64 = 1 << 20;
/// Words of a file that moves or deletes files.
const TAKING: [&str; 8] = [
    "mv ",
    "rm ",
    "-delete",
    "--remove-source-files",
    "--delete",
    "storescu",
    "movescu",
    "unlink",
];

/// Other sites on this machine: what they must not have in common with this one.
pub(super) fn check_sites(settings: &Settings, findings: &mut Findings) {
    let shared = sites::shared_here(settings);
    findings.tell(
        shared
            .iter()
            .map(|it| Verdict::error("several sites", it.message(), it.advice())),
    );
}

/// Everything that has to do with one drop directory.
pub(super) fn check(watch: &WatchSettings, config: &Path, findings: &mut Findings) {
    let what = format!("watch {}", watch.name);
    // Others may name it by where its link leads.
    let mut names = vec![watch.path.clone(), real(&watch.path)];
    names.dedup();
    for file in files() {
        if let Ok(text) = std::fs::read_to_string(&file)
            && !is_own(&file, config)
        {
            let found = names
                .iter()
                .find_map(|drop| mentioned(&what, drop, &file, &text));
            findings.tell(found);
        }
    }
    findings.tell(in_temporary(&what, &watch.path));
    if let Ok(directory) = std::fs::metadata(&watch.path) {
        let others = watching(directory.dev(), directory.ino());
        findings.tell(watched(&what, &others));
    }
}

fn files() -> Vec<PathBuf> {
    let small = |path: &Path| {
        path.metadata()
            .is_ok_and(|it| it.is_file() && it.len() <= LARGEST)
    };
    let mut files = Vec::new();
    for place in PLACES.iter().chain(&TMPFILES).map(PathBuf::from) {
        if small(&place) {
            files.push(place);
        } else {
            let entries = std::fs::read_dir(&place).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()).filter(|path| small(path)));
        }
    }
    let (tmpfiles, mut files): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().partition(|file| is_tmpfiles(file));
    files.extend(in_force(tmpfiles));
    files.sort();
    files
}

fn is_tmpfiles(file: &Path) -> bool {
    TMPFILES.iter().any(|place| file.starts_with(place))
}

/// The first of each name.
fn in_force(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut names = BTreeSet::new();
    let is_first = |file: &PathBuf| names.insert(file.file_name().map(OsStr::to_owned));
    files.into_iter().filter(is_first).collect()
}

/// The configuration that is being checked, its drop-ins, and radsort's own units.
fn is_own(file: &Path, config: &Path) -> bool {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let same = |one: &Path, other: &Path| one.canonicalize().ok() == other.canonicalize().ok();
    same(file, config) || (name.starts_with("radsort") && !file.starts_with("/etc/radsort"))
}

/// A schedule, unit or configuration that names the drop directory. The whole of it is judged: what is done there often
/// stands on another line, or in another program.
fn mentioned(what: &str, drop: &Path, file: &Path, text: &str) -> Option<Verdict> {
    let text = text.replace("\\\n", " ");
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .collect();
    if is_tmpfiles(file) {
        return cleaners::takes_by_age(&text, drop).then(|| from_above(what, file));
    }
    let Some(first) = lines.iter().find(|line| names(line, drop)) else {
        let takes = lines.iter().any(|line| cleaners::takes(line, drop));
        return takes.then(|| from_above(what, file));
    };
    let is_mount = file
        .extension()
        .is_some_and(|it| it == "mount" || it == "automount");
    let file = file.display().to_string();
    if file.starts_with("/etc/radsort") {
        return Some(Verdict::warning(
            what,
            format!("{file} names the same directory"),
            "Two services that take files from one directory get in each other's way: give each its own.",
        ));
    }
    if is_mount {
        return Some(Verdict::ok(what, format!("also named in {file}")));
    }
    let takes = |line: &&str| TAKING.iter().any(|word| line.contains(word));
    let indexes = file.starts_with("/etc/orthanc") || first.starts_with("Path");
    let message = if indexes || lines.iter().any(takes) {
        format!(
            "{file} names this directory, and seems to move or delete files, or to wait for them"
        )
    } else {
        format!("{file} names this directory; what it does with the files cannot be told")
    };
    Some(Verdict::warning(
        what,
        message,
        "If it only brings files, all is well. Else let it work on another directory, or on what radsort has filed (`radsort \
         query --json`). Files that vanish before they are taken are counted: radsort_vanished_files_total.",
    ))
}

/// One that does not name the drop directory, and takes files out of it all the same.
fn from_above(what: &str, file: &Path) -> Verdict {
    Verdict::warning(
        what,
        format!(
            "{} seems to move or delete files here: it works by a pattern, by age, or on a directory above",
            file.display()
        ),
        "Let it spare this directory, or give radsort another one. Files that vanish before they are taken are counted: \
         radsort_vanished_files_total.",
    )
}

/// Whether a line names the directory or something in it, and not one whose name only begins alike.
fn names(line: &str, drop: &Path) -> bool {
    let Some(path) = drop.to_str().filter(|path| path.len() > 1) else {
        return false;
    };
    line.match_indices(path).any(|(at, _)| {
        let next = line[at + path.len()..].chars().next();
        next.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))
    })
}

/// systemd-tmpfiles deletes what lies there for some days, or systemd at once.
fn in_temporary(what: &str, drop: &Path) -> Option<Verdict> {
    if is_emptied_at_a_stop(drop) {
        return Some(Verdict::error(
            what,
            format!(
                "{} lies in /dev/shm, where systemd deletes what is radsort's when the service stops",
                drop.display()
            ),
            "Waiting files would be gone (RemoveIPC=, systemd.exec(5)): use another directory.",
        ));
    }
    if drop.starts_with("/run") {
        return Some(Verdict::warning(
            what,
            format!(
                "{} lies in /run, which is empty after a restart of the machine",
                drop.display()
            ),
            "Files that wait there would be gone: use another directory.",
        ));
    }
    let temporary = ["/tmp", "/var/tmp"].iter().any(|dir| drop.starts_with(dir));
    temporary.then(|| {
        Verdict::warning(
            what,
            format!("{} lies in a directory for temporary files", drop.display()),
            "What lies there for some days is deleted (systemd-tmpfiles), and a restart may empty it: use another directory.",
        )
    })
}

/// The names of other programs that wait for events in the directory, as far as this user may see.
fn watching(device: u64, inode: u64) -> Vec<String> {
    let mut names = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        // Not `self` and `thread-self`, which are somebody's second names.
        let name = process.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let infos = std::fs::read_dir(process.path().join("fdinfo"));
        let texts = infos.into_iter().flatten().flatten();
        let texts = texts.filter_map(|info| std::fs::read_to_string(info.path()).ok());
        if texts
            .into_iter()
            .any(|text| has_watch(&text, device, inode))
        {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            names.push(name.trim().to_owned());
        }
    }
    names
}

/// Whether an inotify descriptor, by proc_pid_fdinfo(5), watches this inode.
fn has_watch(fdinfo: &str, device: u64, inode: u64) -> bool {
    // The kernel writes its own encoding of the device: the minor in the lowest 20 bits.
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = (u64::from(major) << 20) | u64::from(minor);
    let hexadecimal = |line: &str, key: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(key))?;
        u64::from_str_radix(value, 16).ok()
    };
    let lines = fdinfo.lines().filter(|line| line.starts_with("inotify "));
    lines.into_iter().any(|line| {
        hexadecimal(line, "ino:") == Some(inode) && hexadecimal(line, "sdev:") == Some(device)
    })
}

fn watched(what: &str, programs: &[String]) -> Option<Verdict> {
    let mut others: Vec<&str> = programs
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "radsort")
        .collect();
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return None;
    }
    Some(Verdict::warning(
        what,
        format!("other programs wait for files there: {}", others.join(", ")),
        "If one of them moves or deletes files, radsort does not see them: let it watch another directory.",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::check::findings::Level;

    fn said(file: &str, text: &str) -> Option<Verdict> {
        mentioned("watch x", Path::new("/srv/drop"), Path::new(file), text)
    }

    #[test]
    fn whatever_may_take_files_is_a_warning_wherever_in_its_file_it_says_so() {
        for (file, text, word) in [
            (
                "/etc/cron.d/pacs",
                "5 * * * * root mv /srv/drop/*.dcm /srv/old/\n",
                "seems to",
            ),
            (
                "/etc/cron.d/pacs",
                "* * * * * root /usr/local/bin/pacs-import /srv/drop",
                "cannot be told",
            ),
            (
                "/etc/cron.daily/pacs",
                "IN=/srv/drop\n# to the archive\nmv $IN/*.dcm /srv/old/\n",
                "seems to",
            ),
            (
                "/etc/cron.daily/clean",
                "find /srv/drop -mtime +3 -delete",
                "seems to",
            ),
            (
                "/etc/systemd/system/index.path",
                "[Path]\nPathExistsGlob=/srv/drop/*",
                "seems to",
            ),
            (
                "/etc/tmpfiles.d/x.conf",
                "d /srv/drop 0770 root root 3d",
                "seems to",
            ),
            (
                "/etc/orthanc/indexer.json",
                "{\"Indexer\": {\"Folders\": [\"/srv/drop\"]}}",
                "seems to",
            ),
            ("/etc/radsort/other.toml", "path = \"/srv/drop\"", "names"),
        ] {
            let verdict = said(file, text).unwrap();
            assert!(
                verdict.level == Level::Warning
                    && verdict.message.contains(file)
                    && verdict.message.contains(word),
                "{verdict:?}"
            );
        }
        for (file, text) in [
            ("/etc/cron.daily/old", "find /srv \\\n  -mtime +1 -delete"),
            ("/run/tmpfiles.d/x.conf", "d /srv 0770 root root 3d"),
        ] {
            let verdict = said(file, text).unwrap();
            assert!(verdict.message.contains("a directory above"), "{verdict:?}");
        }
        assert_eq!(said("/etc/tmpfiles.d/x.conf", "d /srv/drop 0770"), None);
        let mount = said(
            "/etc/systemd/system/srv-drop.mount",
            "[Mount]\nWhat=server:/x\nWhere=/srv/drop",
        );
        assert_eq!(mount.unwrap().level, Level::Ok);
        for text in [
            "# mv /srv/drop/x /y",
            "mv /srv/dropped/x /y",
            "mv /srv/drop-2/x /y",
            "",
        ] {
            assert_eq!(said("/etc/cron.d/x", text), None, "{text}");
        }
    }

    #[test]
    fn what_the_machines_administrator_says_of_temporary_files_hides_the_packages() {
        let files = [
            "/etc/tmpfiles.d/a.conf",
            "/usr/lib/tmpfiles.d/a.conf",
            "/usr/lib/tmpfiles.d/b.conf",
        ];
        let left = in_force(files.iter().map(PathBuf::from).collect());
        assert_eq!(left, [files[0], files[2]].map(PathBuf::from));
    }

    #[test]
    fn a_drop_directory_among_temporary_files_is_a_warning() {
        assert!(in_temporary("watch x", Path::new("/var/tmp/drop")).is_some());
        assert!(in_temporary("watch x", Path::new("/var/tmpfiles/drop")).is_none());
        assert!(in_temporary("watch x", Path::new("/dev/shm/drop")).is_some());
        assert!(in_temporary("watch x", Path::new("/run/drop")).is_some());
    }

    #[test]
    fn whoever_waits_for_files_in_a_directory_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = dir.path().metadata().unwrap();
        let before = watching(metadata.dev(), metadata.ino());
        assert!(before.is_empty(), "{before:?}");
        let mut watcher = notify::recommended_watcher(|_| {}).unwrap();
        notify::Watcher::watch(
            &mut watcher,
            dir.path(),
            notify::RecursiveMode::NonRecursive,
        )
        .unwrap();
        let found = watching(metadata.dev(), metadata.ino());
        // Some filesystems of containers hide the inode from /proc.
        if found.is_empty() {
            return eprintln!("SKIPPED: needs fdinfo with inodes");
        }
        assert_eq!(found.len(), 1);
        let verdict = watched("watch x", &["tracker".into(), "radsort".into()]).unwrap();
        assert!(verdict.message.ends_with(": tracker"), "{verdict:?}");
        assert_eq!(watched("watch x", &["radsort".into()]), None);
    }
}
