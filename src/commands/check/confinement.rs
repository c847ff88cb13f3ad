//! SELinux and AppArmor: whether they are in force, and whether they have denied radsort anything.
//!
//! The kernel's log names files, and file names can hold patients' names: what is told is the kind of thing, never a path.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::findings::{Findings, Level, Verdict};
use crate::commands::setup::advice::{in_shell, real};
use crate::config::Settings;

/// Where denials are written, beside the kernel's own buffer.
const LOGS: [&str; 4] = [
    "/var/log/audit/audit.log",
    "/var/log/kern.log",
    "/var/log/messages",
    "/var/log/syslog",
];
/// So much of the end of each log is read, bytes.
const TAIL: u64 = 1 << 20;
/// At most so many records of the kernel's buffer.
const RECORDS: usize = 20_000;
/// How radsort's processes and threads begin, as the kernel names them: what has a space or a quotation mark in it is written
/// in hexadecimal ("share …", and "watch:" and "look:" of a drop directory with such a name).
const NAMES: [&str; 14] = [
    "radsort",
    "filer",
    "model",
    "sweep",
    "tidy",
    "alert",
    "unmasked",
    "watch:",
    "look:",
    "notify-rs",
    "sled-io",
    "7368617265",
    "77617463683A",
    "6C6F6F6B3A",
];
/// How the path of the program is known in a record of the call, also as hexadecimal (when an update has replaced it).
const PROGRAM: [&str; 2] = ["radsort", "726164736F7274"];

/// What can be seen of it.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let drops = settings.watches.iter().map(|watch| &watch.path);
    let paths = [&settings.library.path, &settings.state]
        .into_iter()
        .chain(drops);
    let words: Vec<String> = paths.map(|path| in_shell(real(path))).collect();
    findings.tell(judge(&Facts::now(), &words.join(" ")));
}

#[derive(Default)]
struct Facts {
    /// SELinux is there, and enforces.
    selinux: Option<bool>,
    /// AppArmor is there.
    apparmor: bool,
    /// What could be read of the logs; `None` when nothing could.
    log: Option<String>,
}

impl Facts {
    fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let mut log = None;
        for text in LOGS
            .iter()
            .filter_map(|path| tail(Path::new(path)))
            .chain(kernel_buffer())
        {
            log.get_or_insert_with(String::new).push_str(&text);
        }
        Self {
            selinux: read("/sys/fs/selinux/enforce").map(|enforce| enforce.trim() == "1"),
            apparmor: read("/sys/module/apparmor/parameters/enabled")
                .is_some_and(|it| it.trim() == "Y"),
            log,
        }
    }
}

fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// One record a read, until there is no more.
fn kernel_buffer() -> Option<String> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open("/dev/kmsg")
        .ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    for _ in 0..RECORDS {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => text += &String::from_utf8_lossy(&record[..length]),
            // Overwritten while it was read: the next is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(text)
}

/// `directories`: the configuration's, as words of a shell command.
fn judge(facts: &Facts, directories: &str) -> Vec<Verdict> {
    let Facts {
        selinux,
        apparmor,
        log,
    } = facts;
    if selinux.is_none() && !apparmor {
        return Vec::new();
    }
    let mut said = Vec::new();
    let mut denials: BTreeMap<String, usize> = BTreeMap::new();
    let lines = || log.iter().flat_map(|text| text.lines());
    let programs: BTreeMap<&str, &str> = lines()
        .filter_map(|line| Some((event(line)?, field(line, "exe")?)))
        .collect();
    let denial = |line| {
        let program = event(line).and_then(|event| programs.get(event).copied());
        denial(line, program)
    };
    for denial in lines().filter_map(denial) {
        *denials.entry(denial).or_default() += 1;
    }
    for (denial, times) in &denials {
        let advice = if denial.starts_with("SELinux") {
            format!(
                "`ausearch -m avc | audit2why` explains each. Directories that were moved into place get their types back: \
                 restorecon -R -v {directories}. Others want one that the service may use (semanage-fcontext(8)), a share its \
                 context= mount option or a boolean."
            )
        } else {
            "Allow it in /etc/apparmor.d/local/ for that profile and reload it (apparmor_parser -r); `aa-logprof` proposes lines."
                .to_owned()
        };
        let level = if denial.contains("(permissive)") {
            Level::Ok
        } else {
            Level::Warning
        };
        let verdict = Verdict::new(
            level,
            "confinement",
            format!("{denial}, {times} times"),
            advice,
        );
        said.push(verdict);
    }
    if denials.is_empty() {
        let which = match (selinux, apparmor) {
            (Some(true), _) => "SELinux is enforcing",
            (Some(false), _) => "SELinux is permissive",
            (None, _) => "AppArmor is in force",
        };
        let seen = match log {
            Some(_) => "no denial of radsort in the logs that can be read",
            None => "this user cannot read the kernel's log (as root: journalctl -k -g denied)",
        };
        said.push(Verdict::ok("confinement", format!("{which}; {seen}")));
    }
    said
}

/// The value of a field.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    rest.split(['"', ' ', '\n']).next()
}

/// Time and number of what the records of one event have in common.
fn event(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("audit(")?;
    Some(rest.split_once(')')?.0)
}

/// What was denied to radsort, without any name of a file. `program`: the path in the record of the same event's call; where
/// there is one, it decides. (The decoders start /proc/self/exe and are called `exe`, as others are who do so.)
fn denial(line: &str, program: Option<&str>) -> Option<String> {
    let field = |name: &str| field(line, name);
    let ours = match (program, field("comm")) {
        (Some(program), _) => PROGRAM.iter().any(|name| program.contains(name)),
        (None, Some("exe")) => field("scontext").is_some_and(|it| it.contains("radsort")),
        (None, Some(comm)) => NAMES.iter().any(|name| comm.starts_with(name)),
        (None, None) => false,
    };
    if line.contains("avc:  denied") && ours {
        let what = line.split_once('{')?.1.split_once('}')?.0.trim();
        let kind = |context: &str| context.split(':').nth(2).unwrap_or("?").to_owned();
        let to = field("tcontext").map_or_else(|| "?".to_owned(), kind);
        let class = field("tclass").unwrap_or("?");
        let permissive = if line.contains("permissive=1") {
            " (permissive)"
        } else {
            ""
        };
        return Some(format!(
            "SELinux denied {what} on {class} of type {to}{permissive}"
        ));
    }
    let profile = field("profile").unwrap_or_default();
    if line.contains("apparmor=\"DENIED\"") && (ours || profile.contains("radsort")) {
        let operation = field("operation").unwrap_or("?");
        let mask = field("denied_mask").unwrap_or("?");
        return Some(format!(
            "AppArmor denied {operation} ({mask}) under the profile {profile}"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVC: &str = "type=AVC msg=audit(1.2:3): avc:  denied  { write } for  pid=7 comm=\"filer\" \
        name=\"Kwiatkowska^Zbyslawa.dcm\" dev=\"sda1\" ino=1 scontext=system_u:system_r:radsort_t:s0 \
        tcontext=system_u:object_r:nfs_t:s0 tclass=dir permissive=0";
    const APPARMOR: &str = "audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" class=\"file\" \
        profile=\"/usr/bin/radsort\" name=\"/srv/Kwiatkowska.dcm\" pid=7 comm=\"radsort\" requested_mask=\"r\" denied_mask=\"r\"";

    fn judged(facts: &Facts) -> Vec<Verdict> {
        judge(facts, "/srv/in")
    }

    fn facts(log: Option<&str>) -> Facts {
        Facts {
            selinux: Some(true),
            apparmor: false,
            log: log.map(str::to_owned),
        }
    }

    #[test]
    fn denials_are_counted_by_kind_and_name_no_file() {
        let log = format!("{AVC}\n{APPARMOR}\n{AVC}\nsomething comm=\"radsort\" else\n");
        let said = judged(&facts(Some(&log)));
        let texts: Vec<_> = said.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(
            texts,
            [
                "AppArmor denied open (r) under the profile /usr/bin/radsort, 1 times",
                "SELinux denied write on dir of type nfs_t, 2 times",
            ]
        );
        assert!(
            said.iter()
                .all(|it| it.level == Level::Warning && !it.advice.is_empty())
        );
        assert!(
            said[1].advice.contains("restorecon -R -v /srv/in."),
            "{said:?}"
        );
        assert!(!format!("{said:?}").contains("Kwiat"));
    }

    #[test]
    fn others_denials_are_not_ours() {
        let log = AVC.replace("filer", "httpd");
        assert_eq!(judged(&facts(Some(&log))).len(), 1);
        assert_eq!(judged(&facts(Some(&log)))[0].level, Level::Ok);
    }

    #[test]
    fn threads_and_decoders_are_known_by_name_or_program() {
        let seen = |log: &str| judged(&facts(Some(log)))[0].level == Level::Warning;
        for name in [
            "look:ward",
            "tidy",
            "notify-rs inoti",
            "sled-io-1",
            "6C6F6F6B3A6120",
        ] {
            assert!(seen(&AVC.replace("filer", name)), "{name}");
        }
        let decoder = AVC
            .replace("filer", "exe")
            .replace("radsort_t", "unconfined_service_t");
        assert!(!seen(&decoder), "anybody's");
        let call = |exe: &str| {
            format!(
                "{decoder}\ntype=SYSCALL msg=audit(1.2:3): arch=c000003e comm=\"exe\" exe={exe} key=(null)\n"
            )
        };
        assert!(seen(&call("\"/usr/bin/radsort\"")));
        assert!(seen(&call(
            "2F7573722F62696E2F726164736F7274202864656C6574656429"
        )));
        assert!(!seen(&call("\"/usr/bin/runc\"")));
        let other = call("\"/usr/bin/radsort\"")
            .replace("SYSCALL msg=audit(1.2:3)", "SYSCALL msg=audit(1.2:4)");
        assert!(!seen(&other), "of another event");
    }

    #[test]
    fn a_log_that_is_closed_to_this_user_is_said_and_no_warning() {
        let said = judged(&facts(None));
        assert!(
            said[0].level == Level::Ok && said[0].message.contains("cannot read"),
            "{said:?}"
        );
        assert!(judged(&Facts::default()).is_empty(), "neither is there");
    }

    #[test]
    fn looking_does_not_hang() {
        let _ = Facts::now();
    }
}
