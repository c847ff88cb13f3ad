//! The drop-ins by which systemd lets the service have its directories: pure text.

use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::OURS;
use super::account::Account;
use super::grants::{Grant, Needed, seen_at};
use crate::config::Settings;

/// The units that belong to one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    service: String,
    /// `radsort`, or NAME of `radsort@NAME`.
    name: String,
}

impl Unit {
    /// Which unit reads this file. `named`: what a person says, with or without `.service`.
    pub fn of(config: &Path, named: Option<&str>) -> Option<Self> {
        let config = std::path::absolute(config).ok()?;
        if let Some(named) = named {
            let service = named.strip_suffix(".service").unwrap_or(named);
            let name = service.strip_prefix("radsort@").unwrap_or("radsort");
            return Some(Self {
                service: format!("{service}.service"),
                name: name.to_owned(),
            });
        }
        if config.parent() != Some(Path::new("/etc/radsort")) || config.extension()? != "toml" {
            return None;
        }
        let name = config.file_stem()?.to_str()?.to_owned();
        // What systemd takes as it is in a unit's name.
        let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '@');
        if !name.chars().all(usual) {
            return None;
        }
        let service = if name == "radsort" {
            "radsort.service".to_owned()
        } else {
            format!("radsort@{name}.service")
        };
        Some(Self { service, name })
    }

    /// The service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The service that fits its model.
    pub fn retraining(&self) -> String {
        format!("radsort-retrain@{}.service", self.name)
    }

    /// The state directory that the unit has of its own.
    pub fn state(&self) -> PathBuf {
        Path::new("/var/lib").join(self.folder())
    }

    /// The same for what lives as long as it runs.
    pub fn runtime(&self) -> PathBuf {
        Path::new("/run").join(self.folder())
    }

    /// The file of the package that it comes from.
    pub fn file(&self) -> String {
        match self.service.split_once('@') {
            Some((template, _)) => format!("{template}@.service"),
            None => self.service.clone(),
        }
    }

    /// The name of its directories below `/var/lib` and `/run`.
    pub fn folder(&self) -> String {
        if self.name == "radsort" {
            "radsort".into()
        } else {
            format!("radsort-{}", self.name)
        }
    }
}

/// Mount points: those that are there, and those that `/etc/fstab` promises.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    mounted: Vec<PathBuf>,
    promised: Vec<PathBuf>,
}

impl Mounts {
    /// Reads both lists; what cannot be read is empty.
    pub fn of_this_machine() -> Self {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/etc/fstab"))
    }

    fn parse(mountinfo: &[u8], fstab: &[u8]) -> Self {
        let column = |text: &[u8], number: usize| -> Vec<PathBuf> {
            text.split(|byte| *byte == b'\n')
                .filter(|line| !line.starts_with(b"#"))
                .filter_map(|line| {
                    let mut columns = line
                        .split(u8::is_ascii_whitespace)
                        .filter(|column| !column.is_empty());
                    let path = PathBuf::from(std::ffi::OsString::from_vec(unescaped(
                        columns.nth(number)?,
                    )));
                    path.is_absolute().then_some(path)
                })
                .collect()
        };
        Self {
            mounted: column(mountinfo, 4),
            promised: column(fstab, 1),
        }
    }

    /// The mount point that a path lies on, unless that is the root.
    pub fn point_of(&self, path: &Path) -> Option<&Path> {
        let points = self.mounted.iter().chain(&self.promised);
        points
            .map(PathBuf::as_path)
            .filter(|point| *point != Path::new("/") && path.starts_with(point))
            .max_by_key(|point| point.as_os_str().len())
    }

    /// The mount point that `/etc/fstab` promises for a path and that is not mounted now.
    pub fn missing_for(&self, path: &Path) -> Option<&Path> {
        let point = self.point_of(path)?;
        (!self.mounted.iter().any(|mounted| mounted == point)).then_some(point)
    }
}

/// Both files write spaces and the like as `\040`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            rest = &after[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// The drop-in of the service.
pub fn drop_in(
    settings: &Settings,
    grants: &[Grant],
    mounts: &Mounts,
    systemd: Option<u32>,
) -> String {
    let mut text = head(settings);
    text += "\n[Unit]\n";
    let required = |grant: &&Grant| match grant.needed {
        Needed::ToStart => true,
        Needed::ToFile => mounts.point_of(&grant.path).is_none(),
        Needed::Not => false,
    };
    for grant in grants.iter().filter(required) {
        let _ = writeln!(text, "RequiresMountsFor={}", quoted("", &grant.path));
    }
    let mut points: Vec<&Path> = grants
        .iter()
        .filter(|grant| !required(grant))
        .filter_map(|grant| mounts.point_of(&grant.path))
        .collect();
    points.sort_unstable();
    points.dedup();
    if !points.is_empty() {
        text += "# These mounts are waited for, but one that is away does not keep the service from starting: it says so, works off\n\
                 # what it can, and goes on when it comes. (With RequiresMountsFor= nothing would start it then.)\n";
    }
    for point in points {
        let mount = format!("{}.mount", escaped(point));
        let _ = writeln!(text, "Wants={mount}\nAfter={mount}");
    }
    text += "\n[Service]\n";
    if systemd.is_some_and(|version| version >= 254) {
        text += "# From 15 seconds to 5 minutes between attempts.\nRestartSteps=8\nRestartMaxDelaySec=5min\n";
    }
    text += &paths(grants);
    text
}

/// The drop-in of the service that fits the model: it reads everything, and writes into the state.
pub fn retraining_drop_in(settings: &Settings, grants: &[Grant]) -> String {
    let grants: Vec<Grant> = grants
        .iter()
        .map(|grant| Grant {
            writes: grant.path == seen_at(&settings.state),
            ..grant.clone()
        })
        .collect();
    format!("{}\n[Service]\n{}", head(settings), paths(&grants))
}

/// The lines of a section `[Service]` by which a unit runs as this user.
pub fn runs_as(account: &Account) -> String {
    format!("User={}\nGroup={}\n", account.name, account.group())
}

fn head(settings: &Settings) -> String {
    format!(
        "{OURS} --config {}`. Run that again after changes there; changes of your own belong into\n\
         # another file beside this one (`systemctl edit`).\n",
        settings.source.display()
    )
}

/// What the unit hides: there a directory must be put in place, not only made writable.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

fn paths(grants: &[Grant]) -> String {
    let mut text = String::new();
    if grants.iter().any(|grant| is_hidden(&grant.path)) {
        text += "# Of the homes, only what is named below is seen.\nProtectHome=tmpfs\n";
    }
    for grant in grants {
        let line = granting(&grant.path, grant.writes);
        let what = grant.what.replace(char::is_control, "?");
        let _ = writeln!(text, "# {what}\n{line}");
    }
    text
}

/// The line that grants one directory.
fn granting(path: &Path, writes: bool) -> String {
    let quoted_path = quoted("-", path);
    match (is_hidden(path), writes) {
        (false, true) => format!("ReadWritePaths={quoted_path}"),
        (false, false) => format!("ReadOnlyPaths={quoted_path}"),
        (true, true) => format!("BindPaths={}", quoted_for_binding(path)),
        (true, false) => format!("BindReadOnlyPaths={}", quoted_for_binding(path)),
    }
}

/// Whether the unit hides what lies there.
pub fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().any(|hidden| path.starts_with(hidden))
}

/// Whether a drop-in that was written some time ago grants these directories and no others. Only that is compared: what else
/// it says depends on the machine, and so does whether a directory is granted by itself or by one above it.
pub fn grants_exactly(drop_in: &str, grants: &[Grant]) -> bool {
    let ways: Vec<Vec<String>> = grants
        .iter()
        .map(|grant| {
            let above = grant.path.ancestors();
            above.map(|path| granting(path, grant.writes)).collect()
        })
        .collect();
    let is_grant = |line: &&str| {
        let key = line.split_once('=').map(|(key, _)| key);
        key.is_some_and(|key| key.ends_with("Paths"))
    };
    let granted: Vec<&str> = drop_in.lines().filter(is_grant).collect();
    let is_granted = |way: &String| granted.contains(&way.as_str());
    ways.iter().all(|ways| ways.iter().any(is_granted))
        && granted
            .iter()
            .all(|line| ways.iter().flatten().any(|way| way == line))
}

/// Whether a directory need not be there before the start: systemd makes the unit's own in `/run`, the service makes its
/// state, and nobody makes others.
pub fn is_made_at_start(dir: &Path, runtime: &Path, state: &Path) -> bool {
    dir == runtime || dir == state
}

/// Whether a drop-in parts two directories that are written to: each granted by itself is a mount of its own in the
/// service's eyes, and nothing can be renamed from one into the other.
pub fn parts(drop_in: &str, one: &Path, other: &Path) -> bool {
    let granted = |path: &Path| drop_in.lines().any(|line| line == granting(path, true));
    let by_one = one.ancestors().find(|path| granted(path));
    let by_other = other.ancestors().find(|path| granted(path));
    by_one.is_some() && by_other.is_some() && by_one != by_other
}

/// Whether a path can stand in a unit file: a new line would begin another setting.
pub fn can_be_written(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| !text.chars().any(char::is_control))
}

/// A path as unit files want it: in quotes, without specifiers. `-` before it: it may be missing.
fn quoted(prefix: &str, path: &Path) -> String {
    let escaped = path
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{prefix}{escaped}\"")
}

/// The same where a colon would part source and destination.
fn quoted_for_binding(path: &Path) -> String {
    quoted("-", path).replace(':', "\\:")
}

/// A path as part of a unit's name (`systemd-escape --path`).
fn escaped(path: &Path) -> String {
    let mut name = String::new();
    let bytes = path.as_os_str().as_bytes();
    let trimmed = bytes.strip_prefix(b"/").unwrap_or(bytes);
    for (n, byte) in trimmed.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if n == 0 => name += "\\x2e",
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => {
                name.push(char::from(*byte));
            }
            _ => {
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grant(path: &str, writes: bool, needed: bool) -> Grant {
        Grant {
            what: "it".into(),
            path: path.into(),
            writes,
            needed: if needed { Needed::ToStart } else { Needed::Not },
        }
    }

    fn settings() -> Settings {
        let text = "[[watch]]\npath = \"/in\"\n[library]\npath = \"/lib\"\n[state]\npath = \"/var/lib/radsort\"\n";
        let path = PathBuf::from("/etc/radsort/radsort.toml");
        crate::config::parse(&path, &[(path.clone(), text.into())]).unwrap()
    }

    #[test]
    fn directories_that_are_granted_by_one_line_are_one_mount_to_the_service() {
        let parted = |text: &str, other: &str| parts(text, "/srv/in".as_ref(), other.as_ref());
        let apart = "[Service]\nReadWritePaths=\"-/srv/lib\"\nReadWritePaths=\"-/srv/in\"\n";
        assert!(parted(apart, "/srv/lib"));
        assert!(!parted("ReadWritePaths=\"-/srv\"\n", "/srv/lib"));
        assert!(!parted("", "/srv/lib"), "nothing is known");
        let hidden = "ReadWritePaths=\"-/srv/in\"\nBindPaths=\"-/home/x/lib\"\n";
        assert!(parted(hidden, "/home/x/lib"));
    }

    #[test]
    fn the_configurations_name_tells_the_unit() {
        let of = |path: &str| Unit::of(path.as_ref(), None).map(|unit| unit.service);
        assert_eq!(of("/etc/radsort/radsort.toml").unwrap(), "radsort.service");
        assert_eq!(
            of("/etc/radsort/ward-3.toml").unwrap(),
            "radsort@ward-3.service"
        );
        assert_eq!(
            of("/etc/radsort/a:b@c.toml").unwrap(),
            "radsort@a:b@c.service"
        );
        assert_eq!(of("/home/me/radsort.toml"), None);
        assert_eq!(of("/etc/radsort/a b.toml"), None);
        let named = Unit::of("/home/me/x.toml".as_ref(), Some("radsort@x")).unwrap();
        assert_eq!(named.service(), "radsort@x.service");
        assert_eq!(named.retraining(), "radsort-retrain@x.service");
        assert_eq!(named.state(), Path::new("/var/lib/radsort-x"));
    }

    #[test]
    fn names_of_mounts_are_those_of_systemd_escape() {
        // As systemd-escape --path prints them.
        for (path, name) in [
            ("/mnt/nas", "mnt-nas"),
            ("/mnt/X-ray 1/in.d", "mnt-X\\x2dray\\x201-in.d"),
            ("/.hidden/é", "\\x2ehidden-\\xc3\\xa9"),
        ] {
            assert_eq!(escaped(path.as_ref()), name);
        }
    }

    #[test]
    fn mounts_that_fstab_promises_are_missed_when_they_are_not_there() {
        let mountinfo =
            b"22 1 8:1 / / rw - ext4 /dev/a rw\n30 22 0:5 / /mnt/a\\040b rw - nfs x rw\n";
        let fstab = b"# comment /mnt/c\nUUID=1 / ext4 defaults 0 1\nserver:/y\t/mnt/y  nfs  _netdev 0 0\nnone swap swap sw\n";
        let mounts = Mounts::parse(mountinfo, fstab);
        assert_eq!(
            mounts.point_of("/mnt/a b/c".as_ref()),
            Some(Path::new("/mnt/a b"))
        );
        assert_eq!(mounts.missing_for("/mnt/a b/c".as_ref()), None);
        assert_eq!(
            mounts.missing_for("/mnt/y/in".as_ref()),
            Some(Path::new("/mnt/y"))
        );
        assert_eq!(mounts.point_of("/mnt/yy".as_ref()), None);
    }

    #[test]
    fn a_drop_directory_that_is_away_keeps_nothing_from_starting() {
        let mounts = Mounts::parse(b"1 1 1:1 / /mnt/nas rw\n", b"");
        let granted = [
            grant("/lib", true, true),
            grant("/mnt/nas/in", false, false),
        ];
        let text = drop_in(&settings(), &granted, &mounts, Some(252));
        assert!(text.contains("\nRequiresMountsFor=\"/lib\"\n"), "{text}");
        assert!(
            text.contains("\nWants=mnt-nas.mount\nAfter=mnt-nas.mount\n"),
            "{text}"
        );
        assert!(!text.contains("RequiresMountsFor=\"/mnt"), "{text}");
        assert!(text.contains("\nReadWritePaths=\"-/lib\"\n"), "{text}");
        assert!(
            text.contains("\nReadOnlyPaths=\"-/mnt/nas/in\"\n"),
            "{text}"
        );
        assert!(
            !text.contains("RestartSteps"),
            "252 does not know it: {text}"
        );
        assert!(drop_in(&settings(), &granted, &mounts, Some(254)).contains("RestartSteps=8"));
    }

    #[test]
    fn a_library_whose_share_is_away_keeps_nothing_from_starting_either() {
        let library = Grant {
            needed: Needed::ToFile,
            ..grant("/mnt/nas/library", true, true)
        };
        let granted = [library, grant("/var/lib/x", true, true)];
        let promised = Mounts::parse(b"", b"nas:/x /mnt/nas nfs4 nofail,_netdev 0 0\n");
        let text = drop_in(&settings(), &granted, &promised, Some(252));
        assert!(text.contains("\nWants=mnt-nas.mount\nAfter=mnt-nas.mount\n"));
        assert!(!text.contains("RequiresMountsFor=\"/mnt"), "{text}");
        assert!(text.contains("\nRequiresMountsFor=\"/var/lib/x\"\n"));
        let text = drop_in(&settings(), &granted, &Mounts::default(), Some(252));
        assert!(text.contains("\nRequiresMountsFor=\"/mnt/nas/library\"\n"));
    }

    #[test]
    fn odd_paths_mean_themselves_and_hidden_ones_are_put_in_place() {
        assert_eq!(
            quoted("-", "/a \"b\"/50%\\c".as_ref()),
            "\"-/a \\\"b\\\"/50%%\\\\c\""
        );
        let text = paths(&[
            grant("/home/scan/in", true, false),
            grant("/srv/x", true, true),
        ]);
        assert!(text.contains("ProtectHome=tmpfs\n"), "{text}");
        assert!(text.contains("\nBindPaths=\"-/home/scan/in\"\n"), "{text}");
        assert!(text.contains("\nReadWritePaths=\"-/srv/x\"\n"), "{text}");
    }

    #[test]
    fn a_drop_in_is_up_to_date_while_it_grants_what_is_named_and_nothing_else() {
        let at = |path: &str, writes| grant(path, writes, true);
        let now = [at("/srv/library", true), at("/home/scan/in", false)];
        let text = drop_in(&settings(), &now, &Mounts::default(), None);
        assert!(grants_exactly(&text, &now));
        let together = [at("/srv", true), at("/home/scan/in", false)];
        let together = drop_in(&settings(), &together, &Mounts::default(), None);
        assert!(grants_exactly(&together, &now), "by their parent");
        for later in [
            vec![at("/srv/library", true), at("/home/scan/in", true)],
            vec![at("/srv/other", true), at("/home/scan/in", false)],
            vec![at("/srv/library", true)],
            [now.to_vec(), vec![at("/srv/second", false)]].concat(),
        ] {
            assert!(!grants_exactly(&text, &later), "{later:?}");
        }
    }

    #[test]
    fn fitting_the_model_writes_nowhere_but_into_the_state() {
        let granted = [
            grant("/lib", true, true),
            grant("/var/lib/radsort", true, true),
        ];
        let text = retraining_drop_in(&settings(), &granted);
        assert!(text.contains("ReadOnlyPaths=\"-/lib\""), "{text}");
        assert!(
            text.contains("ReadWritePaths=\"-/var/lib/radsort\""),
            "{text}"
        );
    }
}
