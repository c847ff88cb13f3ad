//! Where the interpreter computes.
//!
//! The CPU is always there. A GPU route is a cargo feature, because it makes the program much larger and its driver may
//! crash the process that asks for it: it is tried in a child process first. Nothing falls back silently.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::session::Mode;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The fastest that this program was built with and that works; says which, and why.
    #[default]
    #[serde(alias = "Auto")]
    Auto,
    /// The processor.
    #[serde(alias = "Cpu")]
    Cpu,
    /// A GPU through Vulkan.
    #[serde(alias = "Vulkan")]
    Vulkan,
    /// An NVIDIA GPU through CUDA.
    #[serde(alias = "Cuda")]
    Cuda,
}

/// The device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without it.
    #[error(
        "--device {name}: this radsort was built without it; build it with `cargo build --release --features {name}`, or use --device cpu"
    )]
    NotBuilt {
        /// Its name.
        name: &'static str,
    },
    /// It does not work on this machine.
    #[error("--device {name}: {problem}; use --device cpu, or mend the driver")]
    Broken {
        /// Its name.
        name: &'static str,
        /// What the trial said.
        problem: String,
    },
}

/// The routes to a GPU that this program was built with, best first.
const BUILT: &[Wanted] = &[
    #[cfg(feature = "cuda")]
    Wanted::Cuda,
    #[cfg(feature = "vulkan")]
    Wanted::Vulkan,
];

impl Wanted {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// The device itself; asking for a GPU may crash where its driver is broken.
    fn open(self) -> Option<Device> {
        match self {
            Self::Cpu => Some(Device::flex()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(Device::cuda(0)),
            _ => None,
        }
    }

    /// The same for a process that may crash.
    pub fn ready(self) -> Result<Device, DeviceError> {
        let name = self.name();
        self.open().ok_or(DeviceError::NotBuilt { name })
    }
}

/// The device for a training.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// It.
    pub device: Device,
    /// What it is.
    pub name: Wanted,
    /// Why, in a sentence.
    pub why: String,
}

impl Chosen {
    fn cpu(why: String) -> Self {
        Self {
            device: Device::flex(),
            name: Wanted::Cpu,
            why,
        }
    }
}

/// Chooses the device for a training, and says why.
pub fn choose(wanted: Wanted, mode: Mode) -> Result<Chosen, DeviceError> {
    // The last layer is fitted in seconds; a GPU would only be in the way.
    let wanted = match (wanted, mode) {
        (Wanted::Auto, Mode::Head) => Wanted::Cpu,
        (wanted, _) => wanted,
    };
    match wanted {
        Wanted::Cpu => Ok(Chosen::cpu("computed on the CPU".to_owned())),
        Wanted::Auto => Ok(automatic()),
        gpu => open_tried(gpu).map(|device| Chosen {
            device,
            name: gpu,
            why: format!("computed on {}", gpu.name()),
        }),
    }
}

fn automatic() -> Chosen {
    let mut reasons = Vec::new();
    for gpu in BUILT {
        match open_tried(*gpu) {
            Ok(device) => {
                return Chosen {
                    device,
                    name: *gpu,
                    why: format!("computed on {}, which works here", gpu.name()),
                };
            }
            Err(problem) => reasons.push(problem.to_string()),
        }
    }
    let why = if reasons.is_empty() {
        "this radsort was built without a GPU route for training".to_owned()
    } else {
        reasons.join("; ")
    };
    Chosen::cpu(format!("computed on the CPU: {why}"))
}

fn open_tried(gpu: Wanted) -> Result<Device, DeviceError> {
    let name = gpu.name();
    if !BUILT.contains(&gpu) {
        return Err(DeviceError::NotBuilt { name });
    }
    let broken = |problem: String| DeviceError::Broken { name, problem };
    let program = std::env::current_exe().map_err(|error| broken(error.to_string()))?;
    let tried = std::process::Command::new(program)
        .args(["try-device", name])
        .output()
        .map_err(|error| broken(error.to_string()))?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr);
        return Err(broken(format!(
            "its trial ended with {}: {}",
            tried.status,
            reason(&said)
        )));
    }
    gpu.open().ok_or(DeviceError::NotBuilt { name })
}

/// What a trial says of its end: the message of the first panic, else its last line.
fn reason(said: &str) -> &str {
    let lines: Vec<&str> = said.lines().filter(|it| !it.trim().is_empty()).collect();
    let panicked = lines.iter().position(|line| line.contains("panicked at"));
    let message = panicked.and_then(|line| lines.get(line + 1));
    message
        .or(lines.last())
        .map_or("it said nothing", |line| line.trim())
}

/// The trial: one product on the device, in a process that may crash.
pub fn try_out(wanted: Wanted) -> Result<(), DeviceError> {
    let name = wanted.name();
    let device = wanted.ready()?;
    let ones = burn::tensor::Tensor::<2>::ones([8, 8], &device);
    let product = super::graph::read_back(ones.clone().matmul(ones));
    match product {
        Ok(numbers) if numbers.iter().all(|x| (x - 8.0).abs() < 1e-3) => Ok(()),
        Ok(_) => Err(DeviceError::Broken {
            name,
            problem: "it computes wrongly".into(),
        }),
        Err(error) => Err(DeviceError::Broken {
            name,
            problem: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_cpu_works_and_says_so() {
        try_out(Wanted::Cpu).unwrap();
        assert_eq!(
            choose(Wanted::Cpu, Mode::Full).unwrap().why,
            "computed on the CPU"
        );
    }

    #[test]
    fn of_a_driver_that_panics_the_reason_is_told_and_not_the_last_line() {
        let panic = "\nthread 'x' panicked at runtime.rs:51:57:\nUnable to acquire wgpu device: no adapter found\n\
            stack backtrace:\n   0: rust_begin_unwind\nnote: Some details are omitted\n";
        assert_eq!(
            reason(panic),
            "Unable to acquire wgpu device: no adapter found"
        );
        assert_eq!(
            reason("radsort: it computes wrongly\n"),
            "radsort: it computes wrongly"
        );
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    #[cfg(not(any(feature = "vulkan", feature = "cuda")))]
    fn what_is_not_built_in_is_refused_when_asked_for_and_named_when_left_to_choose() {
        for gpu in [Wanted::Vulkan, Wanted::Cuda] {
            let why = choose(gpu, Mode::Full).unwrap_err().to_string();
            assert!(
                why.contains(gpu.name()) && why.contains("--features"),
                "{why}"
            );
        }
        let Chosen { why, .. } = choose(Wanted::Auto, Mode::Full).unwrap();
        assert!(
            why.contains("CPU") && why.contains("without a GPU"),
            "{why}"
        );
    }
}
