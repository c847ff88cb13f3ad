//! What the package carries: generated files are those that this program writes, and units say what they promise.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[test]
#[cfg(feature = "retrain")]
fn generated_files_are_those_that_this_program_writes() {
    let made = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_radsort"))
        .args(["packaging-files", "--out"])
        .arg(made.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let advice = "run `cargo run --features failpoints -- packaging-files --out packaging`";
    let made = tree(made.path());
    assert!(made.len() > 20, "{}", made.len());
    for (path, text) in &made {
        let kept = fs::read_to_string(packaging().join(path)).unwrap_or_default();
        assert!(kept == *text, "{} is out of date: {advice}", path.display());
    }
    for folder in ["usr/share/man", "usr/share/fish", "usr/share/zsh"] {
        for path in tree(&packaging().join(folder)).keys() {
            let path = Path::new(folder).join(path);
            assert!(
                made.contains_key(&path),
                "{} is made no longer: remove it",
                path.display()
            );
        }
    }
}

#[test]
fn the_instance_unit_is_the_unit_with_a_name() {
    let read = |name: &str| {
        let path = packaging().join("usr/lib/systemd/system").join(name);
        let text = fs::read_to_string(path).unwrap();
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        settings.collect::<Vec<_>>().join("\n")
    };
    let instance = read("radsort@.service")
        .replace("/etc/radsort/%i.toml", "/etc/radsort/radsort.toml")
        .replace("=radsort-%i", "=radsort")
        .replace(" (%i)", "");
    assert_eq!(instance, read("radsort.service"));
}

#[test]
fn exit_codes_that_no_restart_cures_are_those_of_the_program() {
    let unit = packaging().join("usr/lib/systemd/system/radsort.service");
    let text = fs::read_to_string(unit).unwrap();
    let config = radsort::commands::EXIT_CONFIG;
    assert!(text.contains(&format!("RestartPreventExitStatus=2 {config}\n")));
    assert_ne!(radsort::commands::EXIT_TRY_AGAIN, config);
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let units = packaging().join("usr/lib/systemd/system");
    let copies = tempfile::tempdir().unwrap();
    for (name, text) in tree(&units) {
        // The program is not installed where this is tested.
        let text = text.replace("/usr/bin/radsort", "/bin/true");
        let name = name.to_str().unwrap().replace('@', "@x");
        fs::write(copies.path().join(name), text).unwrap();
    }
    for unit in [
        "radsort.service",
        "radsort@x.service",
        "radsort-retrain@x.timer",
    ] {
        let verified = Command::new("systemd-analyze")
            .arg("verify")
            .arg("--man=no")
            .arg(copies.path().join(unit))
            .output();
        let Ok(verified) = verified else {
            eprintln!("skipped: there is no systemd-analyze here");
            return;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        // It returns 0 for unknown keys: what it says counts. What it says of other units of this machine does not.
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("radsort"))
            .collect();
        assert!(ours.is_empty(), "{unit}: {said}");
    }
}
