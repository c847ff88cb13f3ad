//! ONNX Runtime: finding its shared library, loading it once, and the execution providers that it offers.
//!
//! The library is never downloaded and never loaded by accident: it is looked for in the places that
//! [`RuntimeError::NotFound`] lists, or is the one that the site names. What ran is not what was asked for but what
//! [`Network::prove`](super::network::Network::prove) has seen.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider as _};
use ort::logging::LogLevel;

use crate::config::settings::{Device, GpuPolicy, RuntimeSettings};
use crate::sys::process::{SingleThreaded, set_variable};

/// How to get the library, for messages.
pub const ADVICE: &str = "The package radsort brings it as /usr/lib/radsort/libonnxruntime.so; in a source tree `make runtime` gets \
     it. Or unpack the PyPI wheel onnxruntime (onnxruntime-gpu for CUDA: offline-gpu.md in /usr/share/doc/radsort) and name the file: \
     [runtime] library, or ORT_DYLIB_PATH.";

/// ONNX Runtime, or the device that the site wants, cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No library anywhere.
    #[error("ONNX Runtime (libonnxruntime.so) was not found. Looked at:{looked}\n{ADVICE}")]
    NotFound {
        /// Where, a line each, with the reason where there was a file.
        looked: String,
    },
    /// The library that was named (or found) cannot be used.
    #[error("ONNX Runtime {}: {what}\n{ADVICE}", library.display())]
    Unusable {
        /// The library.
        library: PathBuf,
        /// Why not.
        what: String,
    },
    /// Another library has been loaded before; a process can have only one.
    #[error(
        "ONNX Runtime {} is in use in this process, and {} was asked for: restart radsort to change it",
        loaded.display(), asked.display()
    )]
    AlreadyLoaded {
        /// The one in use.
        loaded: PathBuf,
        /// The other one.
        asked: PathBuf,
    },
    /// `gpu = "require"`, and the model would not run on the GPU.
    #[error(
        "gpu = \"require\", but the model cannot run on a GPU: {why}\nRepair that, or say gpu = \"prefer\" to run on the CPU."
    )]
    GpuRequired {
        /// Why not.
        why: String,
        /// The settings or the library are at fault, not the GPU: trying again changes nothing.
        lasting: bool,
    },
}

/// Keeps ONNX Runtime from reporting to its makers: since 1.29 its library for Linux does so from the moment that its
/// environment is made, which `DisableTelemetryEvents` is too late for. To be called before there are threads.
pub fn without_telemetry() -> std::io::Result<()> {
    set_variable(&SingleThreaded::prove()?, "ORT_DISABLE_TELEMETRY", "1");
    Ok(())
}

/// ONNX Runtime, loaded.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
    minor: u32,
}

/// ONNX Runtime allows one environment a process, and none after it has been dropped: it is kept until the end.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Finds and loads the library, or gives the one that is loaded already.
    pub fn load(settings: &RuntimeSettings) -> Result<Self, RuntimeError> {
        let mut loaded = LOADED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return match settings.library.as_deref().map(absolute) {
                Some(asked) if asked != runtime.library => Err(RuntimeError::AlreadyLoaded {
                    loaded: runtime.library.clone(),
                    asked,
                }),
                _ => Ok(runtime.clone()),
            };
        }
        let (library, minor) = find(settings.library.as_deref())?;
        let unusable = |what: String| RuntimeError::Unusable {
            library: library.clone(),
            what,
        };
        let environment = ort::init_from(&library)
            .map_err(|error| unusable(error.to_string()))?
            .with_name("radsort")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        let runtime = Self {
            environment,
            library,
            minor,
        };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Loads what the CUDA provider needs from beside the library (the folder of `make gpu-runtime`), so that commands find it
    /// without `LD_LIBRARY_PATH`: the provider's file names no folder of its own. What does not lie there is left to the
    /// dynamic loader.
    pub fn preload_cuda(&self) -> Result<(), String> {
        let beside = self.library.parent().unwrap_or(Path::new("/"));
        let names = ep::cuda::CUDA_DYLIBS.iter().chain(ep::cuda::CUDNN_DYLIBS);
        for file in names.map(|name| beside.join(name)).filter(|it| it.exists()) {
            ort::util::preload_dylib(&file)
                .map_err(|error| format!("{} cannot be loaded: {error}", file.display()))?;
        }
        Ok(())
    }

    /// The library's path.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Its version: 32 stands for 1.32.
    pub fn minor_version(&self) -> u32 {
        self.minor
    }

    /// The environment in which sessions are made.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Why this library has no CUDA at all, if so. That it has proves nothing about a GPU.
    pub fn lacks_cuda(&self) -> Option<String> {
        match ep::CUDA::is_available() {
            Ok(true) => None,
            Ok(false) => Some(format!(
                "the ONNX Runtime in {} is built without CUDA; the PyPI wheel onnxruntime-gpu has it",
                self.library.display()
            )),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// A CUDA GPU by its number.
    Cuda(u32),
}

impl Provider {
    /// ONNX Runtime's name for it.
    pub fn onnx_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda(_) => "CUDAExecutionProvider",
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// What the settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The CPU, and nothing else.
    Cpu,
    /// This GPU or nothing.
    Require(u32),
    /// This GPU, else the CPU with a warning.
    Prefer(u32),
    /// A GPU if the machine has one; a machine without one is no reason to warn.
    IfThere,
}

impl Wish {
    /// Reads the settings.
    pub fn of(settings: &RuntimeSettings) -> Result<Self, RuntimeError> {
        match (settings.device, settings.gpu) {
            (Device::Cpu, GpuPolicy::Require) => Err(RuntimeError::GpuRequired {
                why: "device = \"cpu\" says that it must not".into(),
                lasting: true,
            }),
            (Device::Cpu, GpuPolicy::Prefer) => Ok(Self::Cpu),
            (Device::Auto, GpuPolicy::Require) => Ok(Self::Require(0)),
            (Device::Auto, GpuPolicy::Prefer) => Ok(Self::IfThere),
            (Device::Cuda(number), GpuPolicy::Require) => Ok(Self::Require(number)),
            (Device::Cuda(number), GpuPolicy::Prefer) => Ok(Self::Prefer(number)),
        }
    }

    /// The GPU to try first.
    pub fn gpu(self) -> Option<u32> {
        match self {
            Self::Cpu => None,
            Self::Require(number) | Self::Prefer(number) => Some(number),
            Self::IfThere => Some(0),
        }
    }
}

/// Whether the machine shows an NVIDIA GPU (its driver is loaded).
pub fn machine_has_gpu() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

/// The source tree that this program was built in, when it runs from there: development, tests, `make demo`.
pub fn source_tree() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let above = exe
        .iter()
        .flat_map(|exe| exe.ancestors().skip(1).take(5))
        .map(Path::to_owned);
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    above
        .chain(by_cargo)
        .find(|dir| dir.join("Cargo.toml").is_file() && dir.join("src/model").is_dir())
}

/// The library and its minor version.
fn find(named: Option<&Path>) -> Result<(PathBuf, u32), RuntimeError> {
    let by_environment = std::env::var_os("ORT_DYLIB_PATH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    if let Some(path) = named.map(Path::to_owned).or(by_environment) {
        let library = absolute(&path);
        return match usable(&library) {
            Ok(minor) => Ok((library, minor)),
            Err(what) => Err(RuntimeError::Unusable { library, what }),
        };
    }
    let mut looked = String::new();
    for dir in directories() {
        let candidates = libraries_in(&dir);
        if candidates.is_empty() {
            let _ = write!(looked, "\n  {}", dir.display());
        }
        for library in candidates {
            match usable(&library) {
                Ok(minor) => return Ok((library, minor)),
                Err(what) => {
                    let _ = write!(looked, "\n  {}: {what}", library.display());
                }
            }
        }
    }
    Err(RuntimeError::NotFound { looked })
}

/// Where packages, `make runtime` and people put it, in this order. Never the current directory.
fn directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(bin) = std::env::current_exe()
        .ok()
        .as_deref()
        .and_then(Path::parent)
    {
        directories.push(bin.to_owned());
        directories.push(bin.join("../lib/radsort"));
    }
    directories.push("/usr/lib/radsort".into());
    directories.extend(source_tree().map(|tree| tree.join(".runtime")));
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    directories.extend(["/usr/local/lib", &triplet, "/usr/lib64", "/usr/lib"].map(PathBuf::from));
    directories
}

/// `libonnxruntime.so` first, then `libonnxruntime.so.<version>`, the newest first.
fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let rest = name.to_str()?.strip_prefix("libonnxruntime.so")?;
            let version: Option<Vec<u32>> = match rest.strip_prefix('.') {
                Some(version) => version.split('.').map(|part| part.parse().ok()).collect(),
                None => rest.is_empty().then(|| vec![u32::MAX]),
            };
            Some((version?, absolute(&entry.path())))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The library's minor version, or why it cannot be used.
fn usable(library: &Path) -> Result<u32, String> {
    if !library.is_file() {
        return Err("there is no such file".into());
    }
    match ort::util::probe(library) {
        Some(minor) if minor >= ort::MINOR_VERSION => Ok(minor),
        Some(minor) => Err(format!(
            "it is ONNX Runtime 1.{minor}, and 1.{} or later is needed",
            ort::MINOR_VERSION
        )),
        None => Err(
            "it is no ONNX Runtime 1.x library for this machine, or lacks a library that it needs"
                .into(),
        ),
    }
}

/// Resolved as far as it exists, so that one file has one name.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::tests::runtime_settings;

    #[test]
    fn a_library_that_is_not_there_or_is_none_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("libonnxruntime.so");
        let error = find(Some(&missing)).unwrap_err().to_string();
        assert!(
            error.contains(missing.to_str().unwrap()) && error.contains("make runtime"),
            "{error}"
        );
        std::fs::write(&missing, "not a library").unwrap();
        let error = find(Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("no ONNX Runtime"), "{error}");
    }

    #[test]
    fn the_plain_name_comes_first_then_the_newest_version() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.so",
            "libonnxruntime.so.old",
            "x",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = libraries_in(dir.path())
            .iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "libonnxruntime.so",
                "libonnxruntime.so.1.32.0",
                "libonnxruntime.so.1.9.0"
            ]
        );
    }

    #[test]
    fn a_process_keeps_the_library_that_it_loaded() {
        let runtime = Runtime::load(&runtime_settings()).unwrap();
        assert!(runtime.minor_version() >= 22);
        let other = RuntimeSettings {
            library: Some("/nowhere/libonnxruntime.so".into()),
            ..runtime_settings()
        };
        let error = Runtime::load(&other).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/libonnxruntime.so") && error.contains("restart"),
            "{error}"
        );
        let same = RuntimeSettings {
            library: Some(runtime.library().to_owned()),
            ..runtime_settings()
        };
        assert!(Runtime::load(&same).is_ok());
    }

    #[test]
    fn cpu_and_require_contradict_each_other() {
        let settings = RuntimeSettings {
            device: Device::Cpu,
            gpu: GpuPolicy::Require,
            ..runtime_settings()
        };
        assert!(
            Wish::of(&settings)
                .unwrap_err()
                .to_string()
                .contains("device = \"cpu\"")
        );
    }
}
