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
