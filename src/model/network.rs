//! One network as ONNX Runtime runs it: loaded, compared with what `bundle.toml` says, and proven.
//!
//! Grey values go in, finite logits and features come out. A network that has been loaded has run on the provider that
//! it names, node by node, and gave the logits of its reference images there.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, ValueType};

use crate::config::settings::RuntimeSettings;
use crate::decode::Radiograph;

use super::calibration::{Distance, softmax};
use super::classifier::ModelError;
use super::manifest::ClassifierSpec;
use super::runtime::{Provider, Runtime};
use super::{Bundle, BundleError};

/// Operators that do the work; on a GPU none of them may run on the CPU. (Shapes are computed on the CPU on purpose.)
const WORK: [&str; 8] = [
    "Conv",
    "FusedConv",
    "NhwcFusedConv",
    "ConvTranspose",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "FusedMatMul",
];

/// A loaded network.
pub struct Network {
    bundle: PathBuf,
    spec: ClassifierSpec,
    provider: Provider,
    distance: Option<Distance>,
    /// One for single images, and on a GPU one for batches.
    sessions: Vec<Batch>,
}

/// A session that always sees the same shape: ONNX Runtime has cuDNN plan every convolution anew whenever the shape differs
/// from the last (its `Conv::UpdateState`), and fixed shapes keep GPU memory flat.
struct Batch {
    /// Images that go in; fewer are padded.
    size: usize,
    session: Session,
    /// What one run takes, measured after warming up.
    takes: Duration,
}

/// What a network says about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Before softmax, one a class, finite.
    pub logits: Vec<f32>,
    /// Calibrated, one a class; they sum to 1.
    pub probabilities: Vec<f32>,
    /// In units of the threshold, when the classifier measures it.
    pub out_of_distribution: Option<f32>,
}

impl Network {
    /// Loads a classifier of a bundle on a provider, and proves it: see [`prove`](Self::prove).
    ///
    /// `batch` is the largest batch wanted; a graph with a fixed batch dimension has its own.
    pub fn load(
        bundle: &Bundle,
        spec: &ClassifierSpec,
        runtime: &Runtime,
        settings: &RuntimeSettings,
        provider: Provider,
        batch: usize,
    ) -> Result<Self, ModelError> {
        let model = bundle.read(&spec.model)?;
        let mut sessions = Vec::new();
        let mut profiles = Vec::new();
        for size in [1, batch] {
            let profile = ProfileDir::new()
                .map_err(|what| unfit(bundle, spec, format!("no place for a profile: {what}")))?;
            let session = commit(&model, runtime, settings, provider, &profile.prefix())
                .map_err(|error| failed_to_load(bundle, spec, provider, &error))?;
            let fixed = check_graph(&session, spec).map_err(|what| unfit(bundle, spec, what))?;
            sessions.push(Batch {
                size,
                session,
                takes: Duration::ZERO,
            });
            profiles.push(profile);
            if fixed || batch <= 1 {
                break;
            }
        }
        drop(model);
        let distance = match &spec.out_of_distribution {
            None => None,
            Some(ood) => {
                let parameters = match &ood.parameters {
                    Some(file) => bundle.read(file)?,
                    None => Vec::new(),
                };
                let distance =
                    Distance::new(ood, &parameters, spec.classes.len(), spec.temperature);
                let file = ood
                    .parameters
                    .as_ref()
                    .map_or(&spec.model.file, |parameters| &parameters.file);
                Some(distance.map_err(|what| bundle.unfit(file, what))?)
            }
        };
        let mut network = Self {
            bundle: bundle.dir().to_owned(),
            spec: spec.clone(),
            provider,
            distance,
            sessions,
        };
        for (which, profile) in profiles.iter().enumerate() {
            network.prove(which, bundle, profile)?;
        }
        Ok(network)
    }

    /// What `bundle.toml` says about it.
    pub fn spec(&self) -> &ClassifierSpec {
        &self.spec
    }

    /// Where it runs.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Warms up a session, compares the reference images' logits, and reads in ONNX Runtime's own profile which provider
    /// ran which node.
    fn prove(
        &mut self,
        which: usize,
        bundle: &Bundle,
        profile: &ProfileDir,
    ) -> Result<(), ModelError> {
        let spec = self.spec.clone();
        for (reference, grey) in bundle.references(&spec)? {
            let images = vec![grey.as_slice(); self.sessions[which].size];
            for answer in self.run_batch(which, &images)? {
                let logits = answer?.logits;
                let pairs = logits.iter().zip(&reference.logits);
                let worst = pairs
                    .map(|(got, expected)| (got - expected).abs())
                    .fold(0.0, f32::max);
                if worst > reference.tolerance {
                    return Err(bundle
                        .unfit(
                            &reference.image.file,
                            format!(
                                "classifier {} on {}: logits {logits:?} differ from the expected {:?} by {worst}, \
                                 more than the tolerance {}",
                                spec.id, self.provider, reference.logits, reference.tolerance
                            ),
                        )
                        .into());
                }
            }
            // Warm by now.
            let started = Instant::now();
            self.run_batch(which, &images)?;
            self.sessions[which].takes = started.elapsed();
        }
        let written = self.sessions[which]
            .session
            .end_profiling()
            .map_err(|error| self.failed(&error))?;
        let text = profile
            .read(Path::new(&written))
            .map_err(|what| unfit(bundle, &spec, what))?;
        self.check_profile(bundle, &text)
    }

    fn check_profile(&self, bundle: &Bundle, profile: &str) -> Result<(), ModelError> {
        let nodes = nodes_by_provider(profile).map_err(|what| unfit(bundle, &self.spec, what))?;
        let wanted = self.provider.onnx_name();
        let ran = nodes
            .iter()
            .any(|((provider, _), count)| provider == wanted && *count > 0);
        let strays = nodes.iter().filter(|((provider, operator), _)| {
            provider != wanted && WORK.contains(&operator.as_str())
        });
        let strays: Vec<String> = strays
            .map(|((provider, operator), n)| format!("{n} {operator} on {provider}"))
            .collect();
        if ran && strays.is_empty() {
            Ok(())
        } else {
            Err(ModelError::Elsewhere {
                bundle: self.bundle.clone(),
                classifier: self.spec.id.clone(),
                provider: self.provider.to_string(),
                what: if ran {
                    strays.join(", ")
                } else {
                    format!("no node ran on {wanted}")
                },
            })
        }
    }

    /// Classifies images, one by one or in batches, whichever takes less time. The outer error concerns all of them.
    pub fn run(
        &mut self,
        images: &[&Radiograph],
    ) -> Result<Vec<Result<Answer, ModelError>>, ModelError> {
        let mut grey = Vec::with_capacity(images.len());
        for image in images {
            grey.push(self.fitting(image)?);
        }
        let mut answers = Vec::with_capacity(images.len());
        let mut ahead = grey.as_slice();
        while !ahead.is_empty() {
            let which = cheapest(
                self.sessions.iter().map(|it| (it.size, it.takes)),
                ahead.len(),
            );
            let taken = self.sessions[which].size.min(ahead.len());
            let (now, later) = ahead.split_at(taken);
            answers.extend(self.run_batch(which, now)?);
            ahead = later;
        }
        Ok(answers)
    }

    fn fitting<'a>(&self, image: &'a Radiograph) -> Result<&'a [f32], ModelError> {
        let render = &self.spec.render;
        let pixels = render.height as usize * render.width as usize;
        if image.height == render.height
            && image.width == render.width
            && image.pixels.len() == pixels
        {
            Ok(&image.pixels)
        } else {
            Err(ModelError::Image {
                classifier: self.spec.id.clone(),
                what: format!(
                    "{}×{} grey values, not {}×{}",
                    image.height, image.width, render.height, render.width
                ),
            })
        }
    }

    /// At most as many images as the session takes; padded with the first.
    fn run_batch(
        &mut self,
        which: usize,
        images: &[&[f32]],
    ) -> Result<Vec<Result<Answer, ModelError>>, ModelError> {
        let n = self.sessions[which].size;
        let padding = std::iter::repeat_n(
            images.first().copied().unwrap_or_default(),
            n.saturating_sub(images.len()),
        );
        let values = normalised(images.iter().copied().chain(padding), &self.spec);
        let render = &self.spec.render;
        let shape = [
            n,
            self.spec.channels,
            render.height as usize,
            render.width as usize,
        ];
        let (id, classes) = (self.spec.id.clone(), self.spec.classes.len());
        let features = self.distance.as_ref().map_or(0, Distance::features);
        let input = TensorRef::from_array_view((shape, values.as_slice()))
            .map_err(|error| self.failed(&error))?;
        let ran = self.sessions[which]
            .session
            .run(ort::inputs![self.spec.input.as_str() => input]);
        let outputs = ran.map_err(|error| ModelError::running(&id, &error.to_string()))?;
        let rows = |name: &str, length: usize| -> Result<Vec<Vec<f32>>, ModelError> {
            let failed = |what: String| ModelError::running(&id, &format!("output {name}: {what}"));
            let value = outputs
                .get(name)
                .ok_or_else(|| failed("is missing".into()))?;
            let (shape, data) = value
                .try_extract_tensor::<f32>()
                .map_err(|error| failed(error.to_string()))?;
            if data.len() != n * length {
                return Err(failed(format!(
                    "has the shape {shape:?}, not [{n}, {length}]"
                )));
            }
            Ok(data.chunks(length.max(1)).map(<[f32]>::to_vec).collect())
        };
        let logits = rows(&self.spec.outputs.logits, classes)?;
        let features = match &self.spec.outputs.features {
            Some(name) if features > 0 => rows(name, features)?,
            _ => vec![Vec::new(); n],
        };
        drop(outputs);
        let answers = logits.into_iter().zip(features).take(images.len());
        Ok(answers
            .map(|(logits, features)| self.answer(logits, &features))
            .collect())
    }

    fn answer(&self, logits: Vec<f32>, features: &[f32]) -> Result<Answer, ModelError> {
        if !logits.iter().chain(features).all(|value| value.is_finite()) {
            return Err(ModelError::NotFinite {
                classifier: self.spec.id.clone(),
            });
        }
        let out_of_distribution = self
            .distance
            .as_ref()
            .map(|distance| distance.of(&logits, features));
        let probabilities = softmax(&logits, self.spec.temperature);
        Ok(Answer {
            logits,
            probabilities,
            out_of_distribution,
        })
    }

    fn failed(&self, error: &ort::Error) -> ModelError {
        ModelError::running(&self.spec.id, &error.to_string())
    }
}

/// Which of the sessions (images, time for all of them; smallest first) takes the least time for each of `waiting` images.
fn cheapest(sessions: impl Iterator<Item = (usize, Duration)>, waiting: usize) -> usize {
    let each = |(size, takes): (usize, Duration)| takes.as_secs_f64() / size.min(waiting) as f64;
    let costs = sessions.map(each).enumerate();
    costs
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(0, |(which, _)| which)
}

/// Normalised, channel by channel, image by image.
pub(super) fn normalised<'a>(
    images: impl Iterator<Item = &'a [f32]>,
    spec: &ClassifierSpec,
) -> Vec<f32> {
    let channels = || spec.normalisation.mean.iter().zip(&spec.normalisation.std);
    let mut values = Vec::new();
    for image in images {
        for (mean, std) in channels() {
            values.extend(image.iter().map(|grey| (grey - mean) / std));
        }
    }
    values
}

fn commit(
    model: &[u8],
    runtime: &Runtime,
    settings: &RuntimeSettings,
    provider: Provider,
    profile: &Path,
) -> Result<Session, ort::Error> {
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut builder = Session::builder(runtime.environment())?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_profiling(profile)?;
    if let Provider::Cuda(number) = provider {
        // Heuristic: the exhaustive search takes seconds and gigabytes. No TF32: the logits are those of training.
        let cuda = ep::CUDA::default()
            .with_device_id(i32::try_from(number).unwrap_or(i32::MAX))
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .with_tf32(false);
        builder = builder.with_execution_providers([cuda.build().error_on_failure()])?;
    }
    builder.commit_from_memory(model)
}

/// Compares the graph's inputs and outputs with `bundle.toml`; tells whether its batch dimension is fixed (to 1).
fn check_graph(session: &Session, spec: &ClassifierSpec) -> Result<bool, String> {
    let names = |outlets: &[ort::value::Outlet]| {
        outlets
            .iter()
            .map(ort::value::Outlet::name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let [input] = session.inputs() else {
        return Err(format!(
            "the graph has the inputs {}, but should have one, {}",
            names(session.inputs()),
            spec.input
        ));
    };
    if input.name() != spec.input {
        return Err(format!(
            "the graph's input is {}, not {}",
            input.name(),
            spec.input
        ));
    }
    let render = &spec.render;
    let wanted = [
        spec.channels as i64,
        i64::from(render.height),
        i64::from(render.width),
    ];
    let fixed = match input.dtype() {
        ValueType::Tensor {
            ty: TensorElementType::Float32,
            shape,
            ..
        } if shape.len() == 4
            && matches!(shape[0], -1 | 1)
            && shape[1..]
                .iter()
                .zip(wanted)
                .all(|(found, wanted)| *found == -1 || *found == wanted) =>
        {
            shape[0] == 1
        }
        other => {
            return Err(format!(
                "the graph's input {} is {other}, not float32[N, {}, {}, {}] with N free or 1",
                input.name(),
                wanted[0],
                wanted[1],
                wanted[2]
            ));
        }
    };
    check_output(session, &spec.outputs.logits, Some(spec.classes.len()))?;
    if let Some(features) = &spec.outputs.features {
        check_output(session, features, None)?;
    }
    Ok(fixed)
}

fn check_output(session: &Session, name: &str, length: Option<usize>) -> Result<(), String> {
    let Some(output) = session
        .outputs()
        .iter()
        .find(|output| output.name() == name)
    else {
        let names: Vec<&str> = session
            .outputs()
            .iter()
            .map(ort::value::Outlet::name)
            .collect();
        return Err(format!(
            "the graph has no output {name}; it has {}",
            names.join(", ")
        ));
    };
    let fits = |found: i64| found == -1 || length.is_none_or(|length| found == length as i64);
    match output.dtype() {
        ValueType::Tensor {
            ty: TensorElementType::Float32,
            shape,
            ..
        } if shape.len() == 2 && fits(shape[1]) => Ok(()),
        other => {
            let length = length.map_or("features".to_owned(), |length| length.to_string());
            Err(format!(
                "the graph's output {name} is {other}, not float32[N, {length}]"
            ))
        }
    }
}

/// How many nodes of which operator ran on which provider.
fn nodes_by_provider(profile: &str) -> Result<BTreeMap<(String, String), usize>, String> {
    let events: Vec<serde_json::Value> = serde_json::from_str(profile)
        .map_err(|error| format!("ONNX Runtime's profile cannot be read: {error}"))?;
    let mut nodes = BTreeMap::new();
    for event in events {
        let text = |key: &str| event["args"][key].as_str().map(str::to_owned);
        if let (Some(provider), Some(operator)) = (text("provider"), text("op_name")) {
            *nodes.entry((provider, operator)).or_insert(0) += 1;
        }
    }
    Ok(nodes)
}

fn unfit(bundle: &Bundle, spec: &ClassifierSpec, what: impl std::fmt::Display) -> BundleError {
    bundle.unfit(&spec.model.file, format!("classifier {}: {what}", spec.id))
}

fn failed_to_load(
    bundle: &Bundle,
    spec: &ClassifierSpec,
    provider: Provider,
    error: &ort::Error,
) -> ModelError {
    match provider {
        Provider::Cpu => unfit(bundle, spec, error).into(),
        Provider::Cuda(_) => ModelError::running(&spec.id, &error.to_string()),
    }
}

/// A private directory for one profile, gone when dropped.
struct ProfileDir(PathBuf);

impl ProfileDir {
    fn new() -> Result<Self, String> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let name = format!("radsort-profile-{:016x}", u64::from_le_bytes(random));
        let mut problems = Vec::new();
        for parent in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let dir = parent.join(&name);
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(error) => problems.push(format!("{}: {error}", parent.display())),
            }
        }
        Err(problems.join("; "))
    }

    fn prefix(&self) -> PathBuf {
        self.0.join("warm-up")
    }

    fn read(&self, written: &Path) -> Result<String, String> {
        let path = self.0.join(written.file_name().unwrap_or_default());
        std::fs::read_to_string(&path)
            .map_err(|error| format!("ONNX Runtime's profile {}: {error}", path.display()))
    }
}

impl Drop for ProfileDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
