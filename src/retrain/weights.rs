//! Weights of an EfficientNet from a safetensors file, under torchvision's or timm's names, put into the graph that
//! [`Variant::build`](super::efficientnet::Variant::build) makes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::builder::{BIAS, WEIGHT};
use super::efficientnet::Variant;
use super::prepare::set_floats;
use crate::model::onnx::{ModelProto, TensorProto};

/// Whose weights a file holds. Names tell torchvision's from timm's, nothing in the file tells timm's two kinds apart: they
/// pad and normalise differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// torchvision's.
    #[default]
    Torchvision,
    /// timm's `efficientnet_b0` and the like.
    Timm,
    /// timm's `tf_efficientnet_b0` and the like, which came from TensorFlow.
    TimmTf,
}

impl Kind {
    /// The network as it was when these weights were learned.
    pub fn of(self, variant: Variant) -> Variant {
        let epsilon = match self {
            Self::Torchvision => variant.epsilon,
            Self::Timm => 1e-5,
            Self::TimmTf => 1e-3,
        };
        Variant {
            epsilon,
            same_upper: self == Self::TimmTf,
            ..variant
        }
    }

    fn has_names_of_timm(self) -> bool {
        self != Self::Torchvision
    }
}

/// Weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no safetensors file, or a broken one.
    #[error("{}: not a safetensors file: {problem}; convert a PyTorch checkpoint with the Python package safetensors", file.display())]
    Format {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// They are somebody else's than was said.
    #[error("{}: {problem}", file.display())]
    Kind {
        /// Which file.
        file: PathBuf,
        /// Whose, and what to say.
        problem: &'static str,
    },
    /// A tensor that the network needs is not there.
    #[error(
        "{}: no tensor `{wanted}` (nor another name for it): is it an EfficientNet of this size, from torchvision or timm?",
        file.display()
    )]
    Missing {
        /// Which file.
        file: PathBuf,
        /// The tensor's name in the network.
        wanted: String,
    },
    /// A tensor has another shape.
    #[error(
        "{}: tensor `{tensor}` has the shape {found:?}, the network needs {wanted:?}; choose the size that the weights were made for",
        file.display()
    )]
    Shape {
        /// Which file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the network needs.
        wanted: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A tensor's numbers are of another type.
    #[error("{}: tensor `{tensor}` holds {found}, only F32, F16, BF16 and F64 can be read", file.display())]
    Type {
        /// Which file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type.
        found: String,
    },
}

/// What was done with the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// How many tensors were taken.
    pub tensors: usize,
    /// The last layer was left as it was drawn: the file's is for another number of classes, or there is none.
    pub head_skipped: bool,
    /// The first convolution's channels were added up into one.
    pub folded: bool,
    /// Tensors of the file that the network has no place for.
    pub unused: Vec<String>,
}

/// Puts the file's numbers into the model. `fold_channels` allows a first convolution for more channels than the model
/// takes one of: a grey image in all of them is the same as their sum.
pub fn load(
    model: &mut ModelProto,
    file: &Path,
    fold_channels: bool,
    kind: Kind,
) -> Result<Loaded, WeightsError> {
    let bytes = std::fs::read(file).map_err(|source| WeightsError::File {
        file: file.to_owned(),
        source,
    })?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| WeightsError::Format {
        file: file.to_owned(),
        problem: error.to_string(),
    })?;
    let source = Source {
        file,
        tensors: &tensors,
    };
    let of_timm = tensors.tensor("conv_stem.weight").is_ok();
    if of_timm != kind.has_names_of_timm() {
        return Err(WeightsError::Kind {
            file: file.to_owned(),
            problem: if of_timm {
                "these are timm's names: say --weights-kind timm for efficientnet_b0 to b7, --weights-kind timm-tf for tf_efficientnet_b0 \
                 to b7; they compute differently, and the file does not tell which it is"
            } else {
                "timm's names are not in it: --weights-kind torchvision (the default) reads torchvision's"
            },
        });
    }
    let mut loaded = Loaded::default();
    let names = tensors.names().into_iter();
    let mut unused: BTreeSet<String> = names
        .filter(|name| !name.ends_with("num_batches_tracked"))
        .map(str::to_owned)
        .collect();
    let initializers = model.graph.iter_mut().flat_map(|g| &mut g.initializer);
    let mut initializers: Vec<&mut TensorProto> = initializers.collect();
    let first_blocks = blocks_without_expansion(&initializers);
    let head = [WEIGHT, BIAS];
    let head_fits = head.iter().all(|name| {
        let own = initializers.iter().find(|t| t.name == *name);
        let found = source.find(&other_names(name, &first_blocks));
        match (own, found) {
            (Some(own), Some((_, dims))) => dims == dims_of(own),
            _ => false,
        }
    });
    loaded.head_skipped = !head_fits;
    for own in &mut initializers {
        if own.name == "dropout.ratio" {
            continue;
        }
        let names = other_names(&own.name, &first_blocks);
        if head.contains(&own.name.as_str()) && !head_fits {
            names.iter().for_each(|name| {
                unused.remove(name);
            });
            continue;
        }
        let Some((name, found)) = source.find(&names) else {
            return Err(WeightsError::Missing {
                file: file.to_owned(),
                wanted: own.name.clone(),
            });
        };
        let wanted = dims_of(own);
        let mut data = source.floats(&name)?;
        if found != wanted {
            data = match (wanted[..].split_at_checked(1), fold_channels) {
                (Some(([out], [1, rows @ ..])), true)
                    if own.name == "features.0.0.weight"
                        && found.len() == wanted.len()
                        && found[0] == *out
                        && found[2..] == *rows =>
                {
                    loaded.folded = true;
                    sum_channels(&data, found[1], rows.iter().product())
                }
                _ => {
                    return Err(WeightsError::Shape {
                        file: file.to_owned(),
                        tensor: name,
                        wanted,
                        found,
                    });
                }
            };
        }
        set_floats(own, &data);
        unused.remove(&name);
        loaded.tensors += 1;
    }
    loaded.unused = unused.into_iter().collect();
    Ok(loaded)
}

struct Source<'a> {
    file: &'a Path,
    tensors: &'a SafeTensors<'a>,
}

impl Source<'_> {
    /// The first of these names that is there, with its shape.
    fn find(&self, names: &[String]) -> Option<(String, Vec<usize>)> {
        names.iter().find_map(|name| {
            let tensor = self.tensors.tensor(name).ok()?;
            Some((name.clone(), tensor.shape().to_vec()))
        })
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.tensors.tensor(name);
        let tensor = tensor.map_err(|_| WeightsError::Missing {
            file: self.file.to_owned(),
            wanted: name.to_owned(),
        })?;
        let bytes = tensor.data();
        let chunks2 = || bytes.as_chunks::<2>().0.iter();
        Ok(match tensor.dtype() {
            Dtype::F32 => {
                let chunks = bytes.as_chunks::<4>().0.iter();
                chunks.map(|c| f32::from_le_bytes(*c)).collect()
            }
            Dtype::F64 => {
                let chunks = bytes.as_chunks::<8>().0.iter();
                chunks.map(|c| f64::from_le_bytes(*c) as f32).collect()
            }
            Dtype::F16 => chunks2()
                .map(|c| half::f16::from_le_bytes(*c).to_f32())
                .collect(),
            Dtype::BF16 => chunks2()
                .map(|c| half::bf16::from_le_bytes(*c).to_f32())
                .collect(),
            other => {
                return Err(WeightsError::Type {
                    file: self.file.to_owned(),
                    tensor: name.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        })
    }
}

fn dims_of(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|d| *d as usize).collect()
}

/// `[out, channels, rows…]` as `[out, 1, rows…]`.
fn sum_channels(data: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let kernels = data.chunks(channels * pixels);
    kernels
        .flat_map(|kernel| {
            (0..pixels).map(move |p| kernel.iter().skip(p).step_by(pixels).sum::<f32>())
        })
        .collect()
}

/// The blocks (`features.1.0`) that do not widen: they have three parts, not four.
fn blocks_without_expansion(initializers: &[&mut TensorProto]) -> BTreeSet<String> {
    let names = initializers.iter().map(|t| t.name.as_str());
    let blocks = |part: &str| -> BTreeSet<String> {
        let names = names.clone();
        names
            .filter_map(|name| Some(name.split_once(part)?.0.to_owned()))
            .collect()
    };
    let (all, with) = (blocks(".block.0."), blocks(".block.3."));
    all.difference(&with).cloned().collect()
}

/// The names under which a tensor of our graph may stand in a file: torchvision's, then timm's.
fn other_names(name: &str, without_expansion: &BTreeSet<String>) -> Vec<String> {
    if let Some(last) = name.strip_prefix("classifier.") {
        return vec![format!("classifier.1.{last}"), name.to_owned()];
    }
    let mut names = vec![name.to_owned()];
    names.extend(timm(name, without_expansion));
    names
}

/// timm's name for a tensor that torchvision calls `name`.
fn timm(name: &str, without_expansion: &BTreeSet<String>) -> Option<String> {
    let rest = name.strip_prefix("features.")?;
    let parts: Vec<&str> = rest.split('.').collect();
    match parts[..] {
        // features.S.0.weight, features.S.1.bias: the first and the last convolution
        [stage, part @ ("0" | "1"), number] => {
            let (conv, norm) = if stage == "0" {
                ("conv_stem", "bn1")
            } else {
                ("conv_head", "bn2")
            };
            let layer = if part == "0" { conv } else { norm };
            Some(format!("{layer}.{number}"))
        }
        // features.S.B.block.K.P.weight
        [stage, block, "block", k, p, number] => {
            let stage: usize = stage.parse().ok()?;
            let k: usize = k.parse().ok()?;
            let narrow = without_expansion.contains(&format!("features.{stage}.{block}"));
            // Parts: widen, depthwise, squeeze-and-excitation, narrow.
            let layer = match (if narrow { k + 1 } else { k }, p) {
                (0, "0") => "conv_pw",
                (3, "0") => ["conv_pwl", "conv_pw"][usize::from(narrow)],
                (1, "0") => "conv_dw",
                (2, "fc1") => "se.conv_reduce",
                (2, "fc2") => "se.conv_expand",
                // Normalisations are counted as they come; a narrow block has no first one.
                (0, "1") => "bn1",
                (1, "1") => ["bn2", "bn1"][usize::from(narrow)],
                (3, "1") => ["bn3", "bn2"][usize::from(narrow)],
                _ => return None,
            };
            let stage = stage.checked_sub(1)?;
            Some(format!("blocks.{stage}.{block}.{layer}.{number}"))
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
