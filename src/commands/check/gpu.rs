//! The GPU's software: is the driver new enough for the CUDA that ONNX Runtime was built with, and are the libraries there
//! that it will look for? Nothing is loaded: names and directories are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::findings::{Findings, Level, Verdict};
use crate::config::settings::{GpuPolicy, RuntimeSettings};
use crate::model::runtime::{Runtime, Wish, machine_has_gpu};

/// The library that brings CUDA, beside ONNX Runtime's own.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// The least driver for each CUDA generation (CUDA Toolkit release notes, "minor version compatibility"): CUDA, driver.
const DRIVERS: [(u32, u32); 3] = [(11, 450), (12, 525), (13, 580)];
/// What the provider opens without naming it in one piece (ONNX Runtime's CUDA requirements: cuDNN 9 for CUDA 12 and 13).
const CUDNN: &str = "libcudnn.so.9";
/// Longer than any library's name.
const OVERLAP: usize = 64;

/// The driver and the libraries, where a GPU is wanted.
pub(super) fn check(settings: &RuntimeSettings, findings: &mut Findings) {
    // A contradiction in the settings is told by the model's check.
    let Ok(wish) = Wish::of(settings) else { return };
    let wanted = match wish {
        Wish::Cpu => false,
        Wish::IfThere => machine_has_gpu(),
        Wish::Require(_) | Wish::Prefer(_) => true,
    };
    if !wanted {
        return;
    }
    // A library that cannot be loaded is told by the model's check.
    let Ok(runtime) = Runtime::load(settings) else {
        return;
    };
    let facts = Facts::of(runtime.library());
    let level = match settings.gpu {
        GpuPolicy::Require => Level::Error,
        GpuPolicy::Prefer => Level::Warning,
    };
    findings.tell(judge(&facts, level));
}

struct Facts {
    /// The driver's version, e.g. `580.95.05`.
    driver: Option<String>,
    /// What the CUDA provider asks for, e.g. `libcudnn.so.9`; `None` when there is no such provider.
    needed: Option<BTreeSet<String>>,
    /// Of these, what lies nowhere where it is looked for.
    missing: BTreeSet<String>,
}

impl Facts {
    fn of(library: &Path) -> Self {
        let folder = library.parent().unwrap_or(Path::new("/"));
        let driver = std::fs::read_to_string("/proc/driver/nvidia/version");
        let needed = File::open(folder.join(PROVIDER)).ok().map(|file| {
            let mut needed = newest(read_needed(file));
            needed.insert(CUDNN.to_owned());
            needed
        });
        let folders = folders(folder);
        let there = |name: &String| folders.iter().any(|folder| folder.join(name).exists());
        let missing = needed.iter().flatten().filter(|name| !there(name));
        Self {
            driver: driver.ok().and_then(|text| driver_version(&text)),
            missing: missing.cloned().collect(),
            needed,
        }
    }
}

fn judge(facts: &Facts, level: Level) -> Vec<Verdict> {
    let Some(driver) = &facts.driver else {
        return vec![Verdict::new(
            level,
            "GPU driver",
            "the NVIDIA driver is not loaded (/proc/driver/nvidia is not there)",
            "Install the distribution's nvidia-driver package and reboot; in a container, give it the GPU. Or set device = \"cpu\".",
        )];
    };
    let Some(needed) = &facts.needed else {
        return vec![Verdict::new(
            level,
            "GPU libraries",
            format!("ONNX Runtime has no CUDA here: {PROVIDER} does not lie beside it"),
            "The library in use is for the CPU: take the one of the wheel onnxruntime-gpu ([runtime] library). Or set device = \"cpu\".",
        )];
    };
    let mut said = Vec::new();
    let cuda = needed
        .iter()
        .find_map(|name| name.strip_prefix("libcudart.so.")?.parse::<u32>().ok());
    let least = cuda.and_then(|cuda| DRIVERS.iter().find(|(generation, _)| *generation == cuda));
    let major = driver
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    match (least, major) {
        (Some((cuda, least)), Some(major)) if major < *least => said.push(Verdict::new(
            level,
            "GPU driver",
            format!("driver {driver} is too old for CUDA {cuda}, which this ONNX Runtime needs"),
            format!("Install driver {least} or later, or an ONNX Runtime for an older CUDA."),
        )),
        _ => said.push(Verdict::ok("GPU driver", driver.as_str())),
    }
    if facts.missing.is_empty() {
        said.push(Verdict::ok(
            "GPU libraries",
            format!("{} that CUDA needs are there", needed.len()),
        ));
    } else {
        let names: Vec<&str> = facts.missing.iter().map(String::as_str).collect();
        said.push(Verdict::new(
            level,
            "GPU libraries",
            format!("not found: {}", names.join(", ")),
            packages(&facts.missing),
        ));
    }
    said
}

/// Where the missing ones come from.
fn packages(missing: &BTreeSet<String>) -> String {
    const WHEELS: [(&str, &str); 8] = [
        ("libcudnn", "nvidia-cudnn"),
        ("libcublas", "nvidia-cublas"),
        ("libcufft", "nvidia-cufft"),
        ("libcurand", "nvidia-curand"),
        ("libcudart", "nvidia-cuda-runtime"),
        ("libnvrtc", "nvidia-cuda-nvrtc"),
        ("libnvJitLink", "nvidia-nvjitlink"),
        ("libcuda.", "NVIDIA's driver (libcuda1)"),
    ];
    let from: BTreeSet<&str> = missing
        .iter()
        .filter_map(|name| WHEELS.iter().find(|(start, _)| name.starts_with(start)))
        .map(|(_, wheel)| *wheel)
        .collect();
    let from: Vec<&str> = from.into_iter().collect();
    format!(
        "They come with {} (PyPI wheels for this CUDA, or NVIDIA's packages): put them beside ONNX Runtime, or where the \
         dynamic loader looks (LD_LIBRARY_PATH, /etc/ld.so.conf.d).",
        from.join(", ")
    )
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May …` → `535.183.01`.
fn driver_version(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| {
        word.contains('.')
            && word
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()))
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// The NVIDIA libraries that a library names, as the dynamic loader will look for them.
fn read_needed(mut file: File) -> BTreeSet<String> {
    let (mut found, mut buffer, mut kept) = (BTreeSet::new(), vec![0; 1 << 20], 0);
    while let Ok(read @ 1..) = file.read(&mut buffer[kept..]) {
        let filled = kept + read;
        found.extend(needed(&buffer[..filled]));
        kept = filled.min(OVERLAP);
        buffer.copy_within(filled - kept..filled, 0);
    }
    found
}

/// Of each library the newest version: the provider for CUDA 13 also names those of CUDA 12, which it can do without.
fn newest(names: BTreeSet<String>) -> BTreeSet<String> {
    let mut versions: BTreeMap<String, u32> = BTreeMap::new();
    for name in &names {
        if let Some((stem, version)) = name.split_once(".so.")
            && let Ok(version) = version.parse()
        {
            let newest = versions.entry(stem.to_owned()).or_insert(version);
            *newest = version.max(*newest);
        }
    }
    let named = versions.into_iter();
    named
        .map(|(stem, version)| format!("{stem}.so.{version}"))
        .collect()
}

/// NUL-ended names such as `libcudnn.so.9` in a library's bytes.
fn needed(bytes: &[u8]) -> BTreeSet<String> {
    let starts = bytes
        .windows(5)
        .enumerate()
        .filter(|(_, it)| matches!(*it, b"libcu" | b"libnv"));
    let name = |(at, _)| {
        let rest: &[u8] = &bytes[at..];
        let end = rest.iter().take(OVERLAP).position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&rest[..end]).ok()?;
        let (stem, version) = name.split_once(".so.")?;
        let plain = stem.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        (plain && version.parse::<u32>().is_ok()).then(|| name.to_owned())
    };
    starts.filter_map(name).collect()
}

/// Where the loader will look, without asking it.
fn folders(beside: &Path) -> Vec<PathBuf> {
    let mut folders = vec![beside.to_owned()];
    // The wheels' own layout: onnxruntime/capi beside nvidia/*/lib.
    let wheels = [beside.join("nvidia"), beside.join("../../nvidia")];
    for parts in wheels
        .iter()
        .filter_map(|wheels| std::fs::read_dir(wheels).ok())
    {
        folders.extend(parts.flatten().map(|part| part.path().join("lib")));
    }
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    for file in std::fs::read_dir("/etc/ld.so.conf.d")
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        folders.extend(
            text.lines()
                .map(str::trim)
                .filter(|line| line.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let usual = [
        "/usr/local/cuda/lib64",
        "/usr/local/lib",
        &triplet,
        "/usr/lib64",
        "/usr/lib",
        "/lib64",
    ];
    folders.extend(usual.map(PathBuf::from));
    folders
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    fn facts(driver: Option<&str>, missing: &[&str]) -> Facts {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        Facts {
            driver: driver.map(str::to_owned),
            needed: Some(names(&["libcudart.so.13", "libcudnn.so.9"])),
            missing: names(missing),
        }
    }

    #[test]
    fn the_drivers_version_is_read_in_both_of_its_forms() {
        for (text, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12.2.0\n",
                "535.183.01",
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
                "580.95.05",
            ),
        ] {
            assert_eq!(driver_version(text).unwrap(), version);
        }
        assert_eq!(driver_version("GCC version 12.2.0"), None);
    }

    #[test]
    fn an_old_driver_and_missing_libraries_are_told_with_what_to_install() {
        let said = judge(
            &facts(Some("535.183.01"), &["libcudnn.so.9"]),
            Level::Warning,
        );
        assert!(
            said[0]
                .message
                .contains("535.183.01 is too old for CUDA 13")
                && said[0].advice.contains("580"),
            "{said:?}"
        );
        assert!(
            said[1].message.contains("libcudnn.so.9") && said[1].advice.contains("nvidia-cudnn"),
            "{said:?}"
        );
        let good = judge(&facts(Some("580.95.05"), &[]), Level::Error);
        assert!(good.iter().all(|it| it.level == Level::Ok), "{good:?}");
        let none = judge(&facts(None, &[]), Level::Error);
        assert!(none.len() == 1 && none[0].level == Level::Error);
        let cpu_only = Facts {
            needed: None,
            ..facts(Some("580.95.05"), &[])
        };
        assert!(
            judge(&cpu_only, Level::Warning)[0]
                .advice
                .contains("onnxruntime-gpu")
        );
    }

    #[test]
    fn of_two_cudas_that_are_named_the_newer_one_is_needed() {
        // What the provider of onnxruntime-gpu 1.31.1 names.
        let named = [
            "libcudart.so.12",
            "libcudart.so.13",
            "libcublas.so.13",
            "libnvrtc.so.12",
            "libnvrtc.so.13",
        ];
        let needed = newest(named.map(str::to_owned).into());
        let needed: Vec<_> = needed.iter().map(String::as_str).collect();
        assert_eq!(
            needed,
            ["libcublas.so.13", "libcudart.so.13", "libnvrtc.so.13"]
        );
    }

    #[test]
    fn names_are_found_wherever_they_lie_in_a_library() {
        let mut file = tempfile::tempfile().unwrap();
        // Across the border of two reads, and not at all.
        let mut bytes = vec![b'x'; (1 << 20) - 6];
        bytes.extend(b"\0libcudnn.so.9\0libcudart.so.13\0libcudnnlibcublas.so.x\0libnvrtc.so.13.0.1\0libcurand.so.10");
        file.write_all(&bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let found: Vec<_> = read_needed(file).into_iter().collect();
        assert_eq!(found, ["libcudart.so.13", "libcudnn.so.9"]);
    }
}
