//! The first training step, tried in a child process: a batch that does not fit into memory kills the child and not the
//! training, and is halved until it fits. The CPU device cannot report that memory ran out: the process is aborted, or the
//! kernel kills it, first of all this child.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

use burn::tensor::Device;
use prost::Message as _;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::device::{DeviceError, Wanted};
use super::graph::{Graph, GraphError};
use super::memory;
use super::train::{self, Pictures, Recipe, TrainError};
use crate::model::onnx::ModelProto;

/// What is tried, as the child is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Step {
    /// The value that holds the logits
    #[arg(long)]
    pub logits: String,
    /// The value that holds the features
    #[arg(long)]
    pub features: String,
    /// Rows of a picture
    #[arg(long)]
    pub rows: usize,
    /// Columns of a picture
    #[arg(long)]
    pub columns: usize,
    /// Pictures at a time
    #[arg(long)]
    pub batch: usize,
    /// Where it is computed
    #[arg(long)]
    pub device: Wanted,
    /// Bytes of address space that may be taken, where that is limited
    #[arg(long)]
    pub address_space: Option<u64>,
}

/// The step cannot be tried, for a reason that is not memory.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The network's file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It is no ONNX model.
    #[error("it is no ONNX model: {0}")]
    Onnx(#[from] prost::DecodeError),
    /// The network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The step was made.
    Made,
    /// The child did not survive it.
    Died(String),
    /// It could not be tried; what it said.
    NotTried(String),
}

/// Halves `batch` until a step survives. Gives what fits and how many of it make a step of the wanted size, or how even
/// the smallest one ended; a trial that cannot be made says nothing against a batch.
pub fn surviving(
    batch: usize,
    mut tried: impl FnMut(usize) -> Ending,
) -> Result<(usize, usize), String> {
    let (mut fits, mut batches) = (batch.max(1), 1);
    loop {
        match tried(fits) {
            Ending::Made | Ending::NotTried(_) => return Ok((fits, batches)),
            Ending::Died(how) if fits == 1 => return Err(how),
            Ending::Died(_) => {
                fits = fits.div_ceil(2);
                batches *= 2;
            }
        }
    }
}

/// Tries a step in a child process, which gets what address space this process has left.
pub fn in_child(network: &ModelProto, step: &Step) -> Ending {
    let run = || -> io::Result<Ending> {
        let scratch = tempfile::tempdir()?;
        let file = scratch.path().join("network.onnx");
        fs::write(&file, network.encode_to_vec())?;
        let number = |name: &str, value: usize| [format!("--{name}"), value.to_string()];
        let mut child = Command::new(std::env::current_exe()?);
        child
            .arg("try-step")
            .arg(&file)
            .arg(format!("--logits={}", step.logits))
            .arg(format!("--features={}", step.features))
            .args(number("rows", step.rows))
            .args(number("columns", step.columns))
            .args(number("batch", step.batch))
            .args(["--device", step.device.name()]);
        if let Some(left) = step.address_space {
            child.args(["--address-space", &left.to_string()]);
        }
        let output = child.output()?;
        Ok(ended(
            output.status,
            &String::from_utf8_lossy(&output.stderr),
        ))
    };
    run().unwrap_or_else(|error| Ending::NotTried(error.to_string()))
}

fn ended(status: ExitStatus, said: &str) -> Ending {
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    match status.code() {
        Some(0) => Ending::Made,
        // Errors end with 1 and wrong usage with 2. Panics (101) are what a device makes of memory that ran out.
        Some(1 | 2) => Ending::NotTried(last.unwrap_or("it said nothing").to_owned()),
        _ => Ending::Died(status.to_string()),
    }
}

/// The trial, in a process that may die of it: one epoch of one step on pictures of nothing.
pub fn try_out(network: &Path, step: &Step) -> Result<(), StepError> {
    // The kernel shall take this process, not the training. It may always be made likelier.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    if let Some(left) = step.address_space {
        limit_address_space(left);
    }
    let bytes = fs::read(network).map_err(|source| StepError::File {
        path: network.display().to_string(),
        source,
    })?;
    let graph = Graph::with_outputs(ModelProto::decode(&*bytes)?, &step.logits, &step.features)?;
    let device: Device = step.device.ready()?;
    let pictures = |count| Pictures {
        height: step.rows,
        width: step.columns,
        samples: vec![(vec![u16::MAX / 2; step.rows * step.columns], 0); count],
        groups: Vec::new(),
    };
    let recipe = Recipe {
        epochs: 1,
        batch: step.batch,
        // A loss that is no number says nothing about memory.
        rollbacks: 0,
        ..Recipe::default()
    };
    match train::fit(
        &graph,
        &pictures(step.batch),
        &pictures(1),
        &recipe,
        &device,
        |_| {},
    ) {
        Ok(_) | Err(TrainError::Diverged { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn limit_address_space(left: u64) {
    if let Some(taken) = memory::address_space_taken() {
        let limit = Rlimit {
            current: Some(taken.saturating_add(left)),
            maximum: rustix::process::getrlimit(Resource::As).maximum,
        };
        // What was inherited holds anyway.
        let _ = setrlimit(Resource::As, limit);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_batch_is_halved_until_its_step_survives_and_a_step_stays_as_large() {
        let mut asked = Vec::new();
        let fits = surviving(24, |batch| {
            asked.push(batch);
            match batch {
                0..=5 => Ending::Made,
                _ => Ending::Died("signal: 9 (SIGKILL)".into()),
            }
        });
        assert_eq!(fits, Ok((3, 8)));
        assert_eq!(asked, [24, 12, 6, 3]);
    }

    #[test]
    fn a_step_that_dies_of_one_picture_is_told_and_one_that_cannot_be_tried_is_taken_for_good() {
        let dies = surviving(4, |_| Ending::Died("signal: 6 (SIGABRT)".into()));
        assert_eq!(dies, Err("signal: 6 (SIGABRT)".to_owned()));
        assert_eq!(surviving(4, |_| Ending::NotTried("no".into())), Ok((4, 1)));
    }

    #[test]
    fn a_killed_an_aborted_and_a_panicked_child_have_died_and_an_error_is_none_of_memory() {
        for died in [9, 6, 101 << 8] {
            let ending = ended(ExitStatus::from_raw(died), "");
            assert!(matches!(ending, Ending::Died(_)), "{ending:?}");
        }
        let error = ended(ExitStatus::from_raw(1 << 8), "a\nno such file\n\n");
        assert_eq!(error, Ending::NotTried("no such file".into()));
        assert_eq!(ended(ExitStatus::from_raw(0), ""), Ending::Made);
    }
}
