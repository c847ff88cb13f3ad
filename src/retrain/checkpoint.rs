//! Where a training run stands, in a file: a run that was killed goes on from there and ends with the same weights.
//!
//! One safetensors file, written under a hidden name, synced and renamed. It holds the weights, their average, the best
//! ones, the optimizer's moments, and in its header the place in the run and a digest of what the run was started with.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::graph::{GraphError, Weights};
use super::optimizer::{AdamW, Moments};
use super::room::Room;

/// A checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written or read.
    #[error("checkpoint {}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What the file holds makes no sense.
    #[error("checkpoint {}: {problem}; start the training anew without it", file.display())]
    Broken {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It belongs to a run with another network, other pictures or another recipe.
    #[error(
        "checkpoint {} is of another training run: the network, the pictures, the seed or the recipe differ; start anew, or say what that run was started with",
        file.display()
    )]
    Other {
        /// Which file.
        file: PathBuf,
    },
    /// The disk is nearly full: the service beside needs what is left. Training goes on without.
    #[error(
        "there is no room for checkpoint {} ({} MB): a kill would cost what was learned since the last one; make room, for instance \
         by removing retrain/cache of the state directory",
        file.display(), bytes / 1_000_000
    )]
    NoRoom {
        /// Which.
        file: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// Tensors could not be read back from the device.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Where checkpoints go, and whether to start from one.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The file.
    pub file: PathBuf,
    /// Written after each epoch, and within one when the last is this old.
    pub every: Duration,
    /// Goes on from the file where it is there; else it is overwritten.
    pub resume: bool,
}

/// The place in a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// The epoch in progress, from 1.
    pub(super) epoch: usize,
    /// Optimizer steps of it that are done.
    pub(super) done: usize,
    /// Optimizer steps since the start.
    pub(super) step: usize,
    /// Sum of the epoch's losses.
    pub(super) losses: f64,
    /// Divides the learning rate, after losses that were no numbers.
    pub(super) slower: f64,
    /// How often it was slowed down.
    pub(super) rollbacks: usize,
    /// The epoch with the lowest validation loss, and that loss.
    pub(super) best: Option<(usize, f64)>,
}

/// A run's whole state.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) place: Place,
    pub(super) weights: Weights,
    pub(super) averaged: Weights,
    pub(super) best: Option<Weights>,
    pub(super) optimizer: AdamW,
}

#[derive(Serialize, Deserialize)]
struct Header {
    digest: String,
    time: i32,
    place: Place,
}

/// The key of the header in the file's metadata.
const HEADER: &str = "radsort";

impl State {
    /// Writes the state; `digest` tells runs apart.
    pub(super) fn write(&self, file: &Path, digest: &str) -> Result<(), CheckpointError> {
        let broken = |problem: String| CheckpointError::Broken {
            file: file.to_owned(),
            problem,
        };
        let mut tensors: Vec<(String, [usize; 4], Vec<u8>)> = Vec::new();
        let bytes = |data: Vec<f32>| data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let weights = [
            ("weights", Some(&self.weights)),
            ("averaged", Some(&self.averaged)),
            ("best", self.best.as_ref()),
        ];
        for (kind, weights) in weights {
            let Some(weights) = weights else { continue };
            for (k, (dims, data)) in weights.numbers()?.into_iter().enumerate() {
                tensors.push((format!("{kind}.{k}"), dims, bytes(data)));
            }
        }
        for (k, moments) in self.optimizer.numbers()?.into_iter().enumerate() {
            if let Some((dims, first, second)) = moments {
                tensors.push((format!("first.{k}"), dims, bytes(first)));
                tensors.push((format!("second.{k}"), dims, bytes(second)));
            }
        }
        let views = tensors.iter().map(|(name, dims, bytes)| {
            TensorView::new(Dtype::F32, dims.to_vec(), bytes).map(|view| (name.as_str(), view))
        });
        let views: Vec<_> = views
            .collect::<Result<_, _>>()
            .map_err(|error| broken(error.to_string()))?;
        let header = Header {
            digest: digest.to_owned(),
            time: self.optimizer.time(),
            place: self.place.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|error| broken(error.to_string()))?;
        let metadata = HashMap::from([(HEADER.to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata))
            .map_err(|error| broken(error.to_string()))?;
        let room = Room::for_checkpoints(file.parent().unwrap_or(Path::new(".")));
        if !room.has(bytes.len() as u64) {
            return Err(CheckpointError::NoRoom {
                file: file.to_owned(),
                bytes: bytes.len() as u64,
            });
        }
        replace(file, &bytes).map_err(|source| CheckpointError::File {
            file: file.to_owned(),
            source,
        })
    }

    /// Reads a state into the place of this fresh one; None where there is no file.
    pub(super) fn read(
        &self,
        file: &Path,
        digest: &str,
        decay: f32,
        device: &Device,
    ) -> Result<Option<Self>, CheckpointError> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CheckpointError::File {
                    file: file.to_owned(),
                    source,
                });
            }
        };
        let broken = |problem: String| CheckpointError::Broken {
            file: file.to_owned(),
            problem,
        };
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER));
        let header = header.ok_or_else(|| broken("it is not one of radsort's".into()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|error| broken(error.to_string()))?;
        if header.digest != digest {
            return Err(CheckpointError::Other {
                file: file.to_owned(),
            });
        }
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
        let get = |name: String| -> Option<([usize; 4], Vec<f32>)> {
            let tensor = tensors.tensor(&name).ok()?;
            let data = tensor.data().as_chunks::<4>().0.iter();
            Some((
                tensor.shape().try_into().ok()?,
                data.map(|c| f32::from_le_bytes(*c)).collect(),
            ))
        };
        let weights = |kind: &str, into: &Weights| -> Option<Weights> {
            let mut into = into.clone();
            let numbers: Option<Vec<_>> = (0..into.tensors())
                .map(|k| get(format!("{kind}.{k}")))
                .collect();
            into.replace(&numbers?).then_some(into)
        };
        let misfit = || broken("tensors are missing or have other shapes".into());
        let moments: Vec<Option<Moments>> = (0..self.weights.parameters.len())
            .map(|k| {
                let (dims, first) = get(format!("first.{k}"))?;
                Some((dims, first, get(format!("second.{k}"))?.1))
            })
            .collect();
        let best = match header.place.best {
            Some(_) => Some(weights("best", &self.averaged).ok_or_else(misfit)?),
            None => None,
        };
        Ok(Some(Self {
            place: header.place,
            weights: weights("weights", &self.weights).ok_or_else(misfit)?,
            averaged: weights("averaged", &self.averaged).ok_or_else(misfit)?,
            best,
            optimizer: AdamW::restored(decay, header.time, &moments, device),
        }))
    }
}

/// Writes under a hidden name, syncs, and renames into place.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let hidden = file.with_file_name(format!(".{name}.part"));
    let write = || {
        let mut part = std::fs::File::create(&hidden)?;
        part.write_all(bytes)?;
        part.sync_all()?;
        std::fs::rename(&hidden, file)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&hidden);
    })?;
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty());
    std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
