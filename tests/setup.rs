//! `radsort setup`: what it makes, what it leaves alone, what it asks of a person.

#![allow(clippy::unwrap_used, clippy::unnecessary_debug_formatting)]

#[path = "common/mount.rs"]
mod mount;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mount::Mount;
use serde_json::Value;
use tempfile::TempDir;

/// A machine's directories below a temporary one.
struct Machine {
    dir: TempDir,
    config: PathBuf,
}

impl Machine {
    fn new(action: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        let config = at.join("ward3.toml");
        let text = format!(
            "[[watch]]\npath = {:?}\naction = {action:?}\n[library]\npath = {:?}\n[state]\npath = {:?}\n\
             [metrics]\ntextfile = \"off\"\n",
            at.join("drop"),
            at.join("library"),
            at.join("state"),
        );
        fs::write(&config, text).unwrap();
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn setup(&self, more: &[&str]) -> Output {
        let me = Command::new("id").arg("-un").output().unwrap();
        let me = String::from_utf8(me.stdout).unwrap().trim().to_owned();
        self.setup_for(&me, more)
    }

    fn setup_for(&self, user: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_radsort"))
            .args([
                "setup",
                "--unit",
                "radsort@ward3",
                "--user",
                user,
                "--units",
            ])
            .arg(self.path("units"))
            .arg("--config")
            .arg(&self.config)
            .args(more)
            .output()
            .unwrap()
    }

    /// Everything below, with its modification time.
    fn everything(&self) -> Vec<(PathBuf, i64, u32)> {
        fn walk(dir: &Path, found: &mut Vec<(PathBuf, i64, u32)>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                found.push((path.clone(), metadata.mtime_nsec(), metadata.mode()));
                if metadata.is_dir() {
                    walk(&path, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        found.sort();
        found
    }
}

fn steps(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{text}")))
        .collect()
}

fn states(output: &Output) -> Vec<String> {
    let state = |step: &Value| step["state"].as_str().unwrap().to_owned();
    steps(output).iter().map(state).collect()
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let machine = Machine::new("move");
    let mut child = Command::new(env!("CARGO_BIN_EXE_radsort"))
        .args(["setup", "--dry-run", "--unit", "radsort@ward3", "--config"])
        .arg(&machine.config)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn the_state_beside_the_library_can_be_written_by_the_fitting_of_the_model_too() {
    let machine = Machine::new("move");
    let site = machine.path("site");
    let text = fs::read_to_string(&machine.config).unwrap();
    let moved = |name: &str, text: String| {
        let (old, new) = (machine.path(name), site.join(name));
        text.replace(&format!("{old:?}"), &format!("{new:?}"))
    };
    let text = ["drop", "library", "state"]
        .iter()
        .fold(text, |text, name| moved(name, text));
    fs::write(&machine.config, text).unwrap();
    machine.setup(&[]);
    let drop_in = |unit: &str| {
        let file = format!("units/{unit}@ward3.service.d/10-setup.conf");
        fs::read_to_string(machine.path(&file)).unwrap()
    };
    let service = drop_in("radsort");
    assert!(
        service.contains(&format!("Paths=\"-{}\"\n", site.display())),
        "side by side: {service}"
    );
    let fitting = drop_in("radsort-retrain");
    let end = format!("Paths=\"-{}\"", site.join("state").display());
    let granted = fitting.lines().find(|line| line.ends_with(&end));
    assert!(
        granted.is_some_and(|line| !line.contains("ReadOnly")),
        "{fitting}"
    );
}

#[test]
fn everything_is_made_once_and_a_second_run_changes_nothing() {
    let machine = Machine::new("move");
    let first = machine.setup(&["--json"]);
    assert!(first.status.success(), "{first:?}");
    assert!(
        states(&first).iter().all(|state| state == "done"),
        "{first:?}"
    );
    let mode = |name: &str| fs::metadata(machine.path(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("library"), mode("state"), mode("drop")),
        (0o2750, 0o700, 0o2770)
    );
    let marker = fs::read_to_string(machine.path("library/.radsort-library")).unwrap();
    assert_eq!(marker.trim().len(), 32);
    let drop_in = machine.path("units/radsort@ward3.service.d/10-setup.conf");
    let text = fs::read_to_string(&drop_in).unwrap();
    assert!(text.contains("RequiresMountsFor="), "{text}");

    let before = machine.everything();
    let second = machine.setup(&["--json"]);
    assert!(second.status.success(), "{second:?}");
    assert!(
        states(&second).iter().all(|state| state == "unchanged"),
        "{second:?}"
    );
    assert_eq!(machine.everything(), before);

    // The service takes over the marker: both mean the same library.
    let output = Command::new(env!("CARGO_BIN_EXE_radsort"))
        .args(["sort", "--config"])
        .arg(&machine.config)
        .arg(machine.path("drop"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let after = fs::read_to_string(machine.path("library/.radsort-library")).unwrap();
    assert_eq!(after, marker);
}

#[test]
fn a_dry_run_says_the_same_and_makes_nothing() {
    let machine = Machine::new("observe");
    let before = machine.everything();
    let output = machine.setup(&["--json", "--dry-run"]);
    assert!(
        states(&output).iter().all(|state| state == "would"),
        "{output:?}"
    );
    assert_eq!(machine.everything(), before);
}

#[test]
fn a_library_without_the_marker_that_the_ledger_knows_gets_no_new_one() {
    let machine = Machine::new("copy");
    assert!(machine.setup(&[]).status.success());
    let sorted = Command::new(env!("CARGO_BIN_EXE_radsort"))
        .args(["sort", "--config"])
        .arg(&machine.config)
        .arg(machine.path("drop"))
        .output()
        .unwrap();
    assert!(sorted.status.success(), "{sorted:?}");
    // The share is not mounted: nothing is there, or an empty directory.
    fs::rename(machine.path("library"), machine.path("elsewhere")).unwrap();
    let output = machine.setup(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("is not there, and the ledger knows"),
        "{said}"
    );
    assert!(!machine.path("library").exists());
    fs::create_dir(machine.path("library")).unwrap();
    fs::set_permissions(machine.path("library"), fs::Permissions::from_mode(0o2750)).unwrap();
    let output = machine.setup(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("has no marker"), "{said}");
    assert!(!machine.path("library/.radsort-library").exists());
}

#[test]
fn directories_of_others_are_left_alone_and_the_commands_are_printed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("move");
    let drop = machine.path("drop");
    fs::create_dir(&drop).unwrap();
    fs::write(drop.join("1.dcm"), "x").unwrap();
    fs::set_permissions(&drop, fs::Permissions::from_mode(0o755)).unwrap();
    let output = machine.setup_for("nobody", &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("nobody cannot write"), "{said}");
    assert!(said.contains("setfacl -R -m u:nobody:rwX"), "{said}");
    assert!(said.contains("force group = "), "{said}");
    let metadata = fs::metadata(&drop).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o755));
    // What was made belongs to that user.
    let nobody = fs::metadata(machine.path("library")).unwrap().uid();
    assert_ne!(nobody, 0);
    let marker = fs::metadata(machine.path("library/.radsort-library")).unwrap();
    assert_eq!(marker.uid(), nobody);
}

#[test]
fn directories_below_a_drop_directory_are_tried_as_well() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("move");
    assert!(machine.setup_for("nobody", &[]).status.success());
    let study = machine.path("drop/study");
    fs::create_dir(&study).unwrap();
    fs::set_permissions(&study, fs::Permissions::from_mode(0o755)).unwrap();
    let output = machine.setup_for("nobody", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 of the 1 directories below"), "{said}");
    assert!(said.contains("setfacl -R -m u:nobody:rwX"), "{said}");
    assert!(!said.contains("study"), "a name from below: {said}");
}

#[test]
fn a_state_that_the_service_cannot_use_is_given_back_to_it_and_opened_to_nobody() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("move");
    let state = machine.path("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("key"), "x").unwrap();
    // As after a restore, and as others may have opened it.
    for (owner, mode) in [(0, 0o700), (65_534, 0o770)] {
        chown(&state, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
        let output = machine.setup_for("nobody", &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        let command = format!("chmod -R u=rwX,go= {}\n", state.display());
        assert!(
            said.contains("chown -R nobody:") && said.contains(&command),
            "{said}"
        );
        for opening in ["setfacl", "chgrp", "g+", "smb.conf"] {
            assert!(!said.contains(opening), "{said}");
        }
    }
}

#[test]
fn an_ordinary_user_is_told_that_this_wants_root_and_nothing_else() {
    let machine = Machine::new("move");
    let setup = [env!("CARGO_BIN_EXE_radsort"), "setup", "--user", "root"];
    let command = if rustix::process::geteuid().is_root() {
        let as_nobody = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
        [&as_nobody[..], &setup].concat()
    } else {
        setup.to_vec()
    };
    let output = Command::new(command[0])
        .args(&command[1..])
        .arg("--config")
        .arg(&machine.config)
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no setpriv here");
        return;
    };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("setup wants root"), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn the_file_that_the_service_cannot_read_is_the_one_that_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("observe");
    let more = machine.path("conf.d/10.toml");
    fs::create_dir(more.parent().unwrap()).unwrap();
    fs::write(&more, "").unwrap();
    fs::set_permissions(&more, fs::Permissions::from_mode(0o600)).unwrap();
    let output = machine.setup_for("nobody", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("chmod g+r {}\n", more.display())),
        "{said}"
    );
}

#[test]
fn a_library_that_is_a_link_is_to_be_named_itself() {
    let machine = Machine::new("observe");
    let there = machine.path("there").display().to_string();
    fs::create_dir(&there).unwrap();
    std::os::unix::fs::symlink(&there, machine.path("library")).unwrap();
    std::os::unix::fs::symlink("away", machine.path("drop")).unwrap();
    let output = machine.setup(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("[library] path = {there:?}")),
        "{said}"
    );
    // A drop directory may be one; what it leads to is not made.
    assert!(said.contains("/away, which is not there"), "{said}");
}

#[test]
fn what_a_unit_cannot_hold_and_what_nobody_makes_is_left_to_a_person() {
    let machine = Machine::new("observe");
    let text = fs::read_to_string(&machine.config).unwrap();
    let socket = machine.path("gone/c.sock");
    fs::write(
        &machine.config,
        format!("{text}[control]\nsocket = {socket:?}\n"),
    )
    .unwrap();
    let output = machine.setup(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("\"/run/radsort-ward3/control.sock\""),
        "{said}"
    );

    let drop_in = machine.path("units/radsort@ward3.service.d/10-setup.conf");
    fs::remove_file(&drop_in).unwrap();
    fs::write(
        &machine.config,
        text.replace("/drop\"", "/dr\\nop\"\nname = \"x\""),
    )
    .unwrap();
    let output = machine.setup(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("a unit cannot hold"), "{said}");
    assert!(!drop_in.exists());
}

/// Root may do anything on a local disk; a user who is not in a directory's group is treated as many shares treat everybody.
#[test]
fn a_library_whose_owner_and_mode_cannot_be_set_gets_its_marker_if_the_service_can_write_there() {
    const NOBODY: u32 = 65_534;
    const DAEMON: u32 = 1;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    for (owner, mode, group, became) in [
        // chmod says yes, and leaves the setgid bit away.
        (NOBODY, 0o770, DAEMON, 0o750),
        // chown and chmod are refused.
        (0, 0o777, NOBODY, 0o777),
    ] {
        let machine = Machine::new("move");
        chown(machine.dir.path(), Some(NOBODY), None).unwrap();
        for (name, owner, mode) in [
            ("library", owner, mode),
            ("state", NOBODY, 0o700),
            ("drop", NOBODY, 0o2770),
        ] {
            fs::create_dir(machine.path(name)).unwrap();
            chown(machine.path(name), Some(owner), Some(owner)).unwrap();
            fs::set_permissions(machine.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = Command::new("setpriv")
            .args([format!("--reuid={NOBODY}"), format!("--regid={group}")])
            .args(["--clear-groups", env!("CARGO_BIN_EXE_radsort")])
            .args(["setup", "--unit", "radsort@ward3", "--user", "nobody"])
            .arg("--units")
            .arg(machine.path("units"))
            .arg("--config")
            .arg(&machine.config)
            .output();
        let Ok(output) = output.as_ref() else {
            eprintln!("skipped: there is no setpriv here");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{output:?}");
        assert!(said.contains("note      library: "), "{said}");
        assert!(!said.contains("gave "), "{said}");
        let mode = fs::metadata(machine.path("library")).unwrap().mode();
        assert_eq!(mode & 0o7777, became, "{said}");
        assert!(machine.path("library/.radsort-library").exists(), "{said}");
    }
}

#[test]
fn the_directory_of_node_exporters_text_files_is_granted_and_what_it_wants_is_said() {
    let machine = Machine::new("observe");
    let prom = machine.path("prom");
    let text = fs::read_to_string(&machine.config).unwrap();
    let text = text.replace("textfile = \"off\"", &format!("textfile = {prom:?}"));
    fs::write(&machine.config, text).unwrap();
    let output = machine.setup(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains(&format!("cannot write {}", prom.display())),
        "{said}"
    );
    let advice = |user: &str| format!("setfacl -m u:{user}:rwx {}", prom.display());
    assert!(said.contains(":rwx "), "{said}");
    let drop_in = machine.path("units/radsort@ward3.service.d/10-setup.conf");
    let drop_in = fs::read_to_string(drop_in).unwrap();
    let granted = format!("\nReadWritePaths=\"-{}\"\n", prom.display());
    let granted_hidden = format!("\nBindPaths=\"-{}\"\n", prom.display());
    assert!(
        drop_in.contains(&granted) || drop_in.contains(&granted_hidden),
        "{drop_in}"
    );
    fs::create_dir(&prom).unwrap();
    assert!(machine.setup(&[]).status.success());
    if rustix::process::geteuid().is_root() {
        let output = machine.setup_for("nobody", &[]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&advice("nobody")), "{said}");
    }
}

#[test]
fn a_drop_directory_that_systemd_empties_at_a_stop_is_refused() {
    let machine = Machine::new("move");
    let shm = format!("/dev/shm/radsort-setup-{}", std::process::id());
    let text = fs::read_to_string(&machine.config).unwrap();
    let old = format!("{:?}", machine.path("drop"));
    fs::write(&machine.config, text.replace(&old, &format!("{shm:?}"))).unwrap();
    let output = machine.setup(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("RemoveIPC="), "{said}");
    assert!(!Path::new(&shm).exists());
}

#[test]
fn both_units_run_as_the_user_that_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("observe");
    assert!(machine.setup_for("nobody", &[]).status.success());
    for unit in ["radsort@ward3", "radsort-retrain@ward3"] {
        let drop_in = machine.path(&format!("units/{unit}.service.d/10-setup.conf"));
        let drop_in = fs::read_to_string(drop_in).unwrap();
        let service = drop_in.split("[Service]").nth(1).unwrap();
        assert!(service.contains("\nUser=nobody\nGroup="), "{drop_in}");
    }
}

#[test]
fn of_a_closed_way_to_the_configuration_the_closed_directory_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this wants root");
        return;
    }
    let machine = Machine::new("observe");
    let closed = machine.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let real = closed.join("real.toml");
    fs::rename(&machine.config, &real).unwrap();
    std::os::unix::fs::symlink(&real, &machine.config).unwrap();
    let output = machine.setup_for("nobody", &["--json"]);
    let steps = steps(&output);
    let step = steps.iter().find(|step| step["what"] == "configuration");
    let told = step.unwrap()["message"].as_str().unwrap();
    assert!(
        told.ends_with(&format!("{} is closed to it", closed.display())),
        "{told}"
    );
}

#[test]
fn of_a_directory_that_is_mounted_read_only_that_is_said_and_nobodys_permissions_are_advised() {
    let machine = Machine::new("move");
    let drop = machine.path("drop");
    fs::create_dir(&drop).unwrap();
    let Some(mount) = Mount::tmpfs(&drop, "1m") else {
        return;
    };
    mount.remount("ro");
    let output = machine.setup(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is mounted read-only"), "{said}");
    let command = format!("mount -o remount,rw {}", drop.display());
    assert!(said.contains(&command), "{said}");
    assert!(!said.contains("setfacl"), "{said}");
}

#[test]
fn a_drop_in_that_somebody_else_wrote_stays() {
    let machine = Machine::new("observe");
    let drop_in = machine.path("units/radsort@ward3.service.d/10-setup.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::write(&drop_in, "[Service]\nNice=5\n").unwrap();
    let output = machine.setup(&[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::read_to_string(&drop_in).unwrap(), "[Service]\nNice=5\n");
}

#[test]
fn the_gpu_drop_in_is_one_option_away() {
    let machine = Machine::new("observe");
    assert!(machine.setup(&["--gpu"]).status.success());
    let text = fs::read_to_string(machine.path("units/radsort@ward3.service.d/20-gpu.conf"));
    let text = text.unwrap();
    assert!(text.contains("DeviceAllow=char-nvidia"), "{text}");
    let cache = "Environment=CUDA_CACHE_PATH=%S/radsort-ward3/cuda-cache\n";
    assert!(text.contains(cache), "in another site's state: {text}");
}

#[test]
fn a_bad_configuration_is_told_from_other_failures() {
    let machine = Machine::new("observe");
    fs::write(&machine.config, "nonsense = 1\n").unwrap();
    assert_eq!(machine.setup(&[]).status.code(), Some(78));
}
