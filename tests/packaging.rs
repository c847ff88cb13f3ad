//! What the package carries: generated files are those that this program writes, and units say what they promise.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        "radsort-retrain@x.service",
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

/// `systemd-analyze security` on files alone: 5 means 0.5 of 10. tests/systemd asks the booted systems as well.
#[test]
fn the_sandbox_is_as_tight_as_promised() {
    let units = packaging().join("usr/lib/systemd/system");
    let exposed = |unit: &str, drop_in: Option<&str>, most: u32| {
        let root = tempfile::tempdir().unwrap();
        let system = root.path().join("etc/systemd/system");
        fs::create_dir_all(&system).unwrap();
        fs::copy(units.join(unit), system.join(unit)).unwrap();
        if let Some(drop_in) = drop_in {
            let folder = system.join(format!("{unit}.d"));
            fs::create_dir(&folder).unwrap();
            fs::copy(
                packaging().join("usr/share/radsort/systemd").join(drop_in),
                folder.join(drop_in),
            )
            .unwrap();
        }
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={most}"))
            .arg("--root")
            .arg(root.path())
            .arg(unit)
            .output();
        let Ok(output) = output else {
            eprintln!("SKIPPED: there is no systemd-analyze here");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unrecognized option") {
            eprintln!("SKIPPED: this systemd-analyze is too old");
            return;
        }
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{unit} {drop_in:?}: {table}{said}");
        assert!(table.contains("Overall exposure level"), "{table}{said}");
    };
    exposed("radsort.service", None, 5);
    exposed("radsort@.service", None, 5);
    exposed("radsort-retrain@.service", None, 5);
    exposed("radsort.service", Some("gpu.conf"), 10);
    exposed("radsort.service", Some("metrics-port.conf"), 15);
}

#[test]
fn manual_pages_are_read_without_a_complaint_and_have_their_sections() {
    let man = packaging().join("usr/share/man");
    for (path, text) in tree(&man) {
        let headings: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(".SH "))
            .map(|heading| heading.trim_matches('"'))
            .collect();
        for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "SEE ALSO"] {
            let spared = match heading {
                "SYNOPSIS" => path.ends_with("radsort-bundle.5"),
                "FILES" => path.ends_with("radsort-phantom.1") || path.ends_with("radsort-demo.1"),
                _ => false,
            };
            assert!(
                spared || headings.contains(&heading),
                "{}: no {heading}: {headings:?}",
                path.display()
            );
        }
        let is_command = path.starts_with("man1");
        assert_eq!(headings.contains(&"EXIT STATUS"), is_command, "{path:?}");
        assert!(!text.contains('`'), "{}: a backtick", path.display());
        let output = Command::new("man")
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(man.join(&path))
            .env("MANROFFSEQ", "")
            .env("LC_ALL", "C.UTF-8")
            .output();
        match output {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success() && said.is_empty(),
                    "{}: {said}",
                    path.display()
                );
            }
            Err(_) => eprintln!("SKIPPED: there is no man here"),
        }
    }
}

/// A package that was built too late for Ubuntu 22.04 is not made.
#[test]
fn what_a_newer_system_needs_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let portable = |program: &Path, symbols: &str| {
        // Stands in for binutils'.
        let objdump = dir.path().join("objdump");
        fs::write(
            &objdump,
            format!("#!/bin/sh\ncat <<'END'\n{symbols}\nEND\n"),
        )
        .unwrap();
        fs::set_permissions(&objdump, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!(
            "{}:{}",
            dir.path().display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new(packaging().join("portable.sh"))
            .arg(program)
            .env("PATH", path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let symbol = |version: &str| format!("0000 DF *UND*  0000 ({version}) some_call");
    let program = dir.path().join("program");
    for good in [
        "GLIBC_2.35",
        "GLIBC_2.2.5",
        "GLIBCXX_3.4.30",
        "CXXABI_1.3.13",
        "GCC_3.0",
    ] {
        assert_eq!(
            portable(&program, &symbol(good)),
            (true, String::new()),
            "{good}"
        );
    }
    for bad in [
        "GLIBC_2.36",
        "GLIBC_2.38",
        "GLIBCXX_3.4.31",
        "CXXABI_1.3.15",
        "GCC_14.0.0",
    ] {
        let symbols = format!("{}\n{}", symbol("GLIBC_2.4"), symbol(bad));
        let (fine, said) = portable(&program, &symbols);
        assert!(
            !fine && said.contains(bad) && said.contains("some_call"),
            "{bad}: {said}"
        );
    }

    let package = |depends: &str| {
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\nDepends: {depends}\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let file = dir.path().join("x.deb");
        let mut build = Command::new("dpkg-deb");
        build
            .args(["-b"])
            .arg(&tree)
            .arg(&file)
            .stdout(Stdio::null());
        let built = build.status().is_ok_and(|status| status.success());
        built.then(|| portable(&file, ""))
    };
    let Some(good) =
        package("libc6 (>= 2.34), libgcc-s1 (>= 4.2), libstdc++6 (>= 12), systemd (>= 249)")
    else {
        return eprintln!("SKIPPED: there is no dpkg-deb here");
    };
    assert_eq!(good, (true, String::new()));
    for bad in [
        "libc6 (>= 2.38)",
        "libstdc++6 (>= 13.1)",
        "libc6 (>= 2.34), libssl3t64 (>= 3.0)",
    ] {
        let (fine, said) = package(bad).unwrap();
        assert!(!fine && said.contains("Ubuntu 22.04"), "{bad}: {said}");
    }
}

#[test]
fn what_people_are_told_to_run_is_packaged_as_a_program() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    // cargo-deb takes the first line that a file fits.
    let script = "target/package/usr/share/radsort/gpu-runtime.sh";
    let fits = |pattern: &str| pattern == script || pattern == "target/package/usr/share/**/*";
    let first = deb["assets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|asset| fits(asset[0].as_str().unwrap()));
    assert_eq!(first.unwrap()[2].as_str(), Some("755"));
}

/// The script with `/etc/systemd/system` and `systemctl` of the test's own.
#[test]
fn removing_the_package_disables_instances_of_templates_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let wants = dir.path().join("multi-user.target.wants");
    let timers = dir.path().join("timers.target.wants");
    for (folder, unit) in [
        (&wants, "radsort.service"),
        (&wants, "radsort@ward3.service"),
        (&wants, "ssh.service"),
        // A site's own.
        (&wants, "radsort-mail.path"),
        (&timers, "radsort-retrain@radsort.timer"),
    ] {
        fs::create_dir_all(folder).unwrap();
        std::os::unix::fs::symlink("/usr/lib/systemd/system/x", folder.join(unit)).unwrap();
    }
    fs::create_dir(dir.path().join("radsort@ward3.service.d")).unwrap();
    // As systemd 252 does: an instance is listed with the state of its template.
    let systemctl = "#!/bin/sh\necho \"$@\" >>\"$0.log\"\n\
        case \"$*\" in *--state=enabled*) echo 'radsort.service enabled enabled' ;; esac\n";
    let program = dir.path().join("systemctl");
    fs::write(&program, systemctl).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let here = dir.path().to_str().unwrap();
    let script = fs::read_to_string(packaging().join("debian/prerm")).unwrap();
    let script = script
        .replace("/run/systemd/system", here)
        .replace("/etc/systemd/system", here);
    let path = format!("{here}:{}", std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &script, "prerm", "remove"])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let log = fs::read_to_string(dir.path().join("systemctl.log")).unwrap();
    let mut disabled: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("disable "))
        .collect();
    disabled.sort_unstable();
    let wanted = [
        "radsort-retrain@radsort.timer",
        "radsort.service",
        "radsort@ward3.service",
    ];
    assert_eq!(disabled, wanted, "{log}");
}

#[test]
fn the_gpu_runtime_is_put_together_of_the_named_wheels_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("wheels")).unwrap();
    let python = r#"
import hashlib, sys, zipfile
folder, listing = sys.argv[1:]
made = {"onnxruntime_gpu-9.whl": {"onnxruntime/capi/libonnxruntime.so.9": "a", "onnxruntime/capi/libonnxruntime_providers_cuda.so": "b",
        "onnxruntime/capi/onnxruntime_pybind11_state.so": "c", "onnxruntime/LICENSE": "MIT"},
        "nvidia_cudnn-9.whl": {"nvidia/cudnn/lib/libcudnn.so.9": "d", "nvidia/cudnn/include/cudnn.h": "e"}}
with open(listing, "w") as out:
    for name, files in made.items():
        with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
            for path, text in files.items():
                wheel.writestr(path, text)
        print(hashlib.sha256(open(f"{folder}/{name}", "rb").read()).hexdigest(), "", name, file=out)
"#;
    let made = Command::new("python3")
        .args(["-c", python])
        .args([at("wheels"), at("list")])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no python3 here");
        return;
    }
    let assemble = |out: &Path| {
        Command::new(packaging().join("gpu-runtime.sh"))
            .args([at("wheels").as_path(), out])
            .env("GPU_RUNTIME_SHA256", at("list"))
            .output()
            .unwrap()
    };
    let output = assemble(&at("gpu"));
    assert!(output.status.success(), "{output:?}");
    let mut names: Vec<_> = fs::read_dir(at("gpu"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = [
        "SHA256SUMS",
        "libcudnn.so.9",
        "libonnxruntime.so",
        "libonnxruntime.so.9",
        "libonnxruntime_providers_cuda.so",
        "licences",
    ];
    assert_eq!(names, wanted);
    assert_eq!(
        fs::read_to_string(at("gpu/libonnxruntime.so")).unwrap(),
        "a"
    );

    fs::write(at("wheels/nvidia_cudnn-9.whl"), "something else").unwrap();
    let output = assemble(&at("other"));
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("expected"),
        "{output:?}"
    );
    assert!(!at("other").exists());
}
