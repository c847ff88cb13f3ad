//! `radsort bench-train`: how fast this machine trains; hidden from the help, run by `make bench-train`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use burn::tensor::Device;
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rustix::time::{ClockId, clock_gettime};

use crate::config::settings::RuntimeSettings;
use crate::decode::RenderSpec;
use crate::model::extract::Extractor;
use crate::model::manifest::{
    Applies, ClassifierSpec, FileRef, Normalisation as Written, Outputs, Role,
};
use crate::model::runtime::Runtime;
use crate::retrain::device::{self, Wanted};
use crate::retrain::efficientnet::Variant;
use crate::retrain::graph::Graph;
use crate::retrain::head;
use crate::retrain::memory;
use crate::retrain::network::{FEATURES, INPUT, LOGITS};
use crate::retrain::session::Mode;
use crate::retrain::task::category_spec;
use crate::retrain::train::{self, Pictures, Recipe};

/// Measure training: EfficientNet-B0 at 224 × 224 with random weights, five classes, on random pictures.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct BenchTrainArgs {
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch: usize,
    /// Steps that are timed
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub steps: usize,
    /// Where a full step is computed
    #[arg(long, default_value = "cpu")]
    pub device: Wanted,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

const SIDE: usize = 224;
const CLASSES: usize = 5;
/// Images that features are extracted of.
const FEATURE_IMAGES: usize = 64;
/// Feature vectors that a head is fitted to.
const HEAD_IMAGES: usize = 10_000;

/// Runs the command.
pub fn run(args: &BenchTrainArgs) -> anyhow::Result<ExitCode> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let network = Variant::named("b0")
        .context("there is a B0")?
        .build([1, SIDE, SIDE], CLASSES, 1);

    let graph = Graph::new(network.clone())?;
    let expected = memory::of_training(&graph, args.batch);
    // The difference of a long and a short run: starting, validation and the last average cancel out.
    let device = device::choose(args.device, Mode::Full)?.device;
    // A GPU compiles its kernels at the first step.
    steps(&graph, &device, args.batch, 1)?;
    let short = steps(&graph, &device, args.batch, 1)?;
    let long = steps(&graph, &device, args.batch, 1 + args.steps)?;
    let per_step = |short: Duration, long: Duration| {
        long.saturating_sub(short).as_secs_f64() / args.steps as f64
    };
    let (wall, cpu) = (per_step(short.0, long.0), per_step(short.1, long.1));
    let peak = peak_memory().context("/proc/self/status says no VmHWM")?;

    let runtime = Runtime::load(&RuntimeSettings::default())?;
    let spec = spec();
    let outputs = [FEATURES];
    let mut extractor =
        Extractor::load(&network.encode_to_vec(), &spec, &outputs, &runtime, threads)?;
    let grey = vec![0.5f32; SIDE * SIDE];
    let batch: Vec<&[f32]> = vec![&grey; 16];
    extractor.run(&batch)?;
    let started = Instant::now();
    for _ in 0..FEATURE_IMAGES / batch.len() {
        extractor.run(&batch)?;
    }
    let features = FEATURE_IMAGES as f64 / started.elapsed().as_secs_f64();
    let fit = fit_head(Variant::named("b0").map_or(1280, |it| it.features()))?;

    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "network": "efficientnet-b0", "rows": SIDE, "columns": SIDE, "threads": threads, "batch": args.batch,
                "device": args.device.name(),
                "full": {
                    "seconds-a-step": wall, "cpu-seconds-a-step": cpu,
                    "images-a-second": args.batch as f64 / wall,
                    "peak-bytes": peak, "expected-bytes": expected,
                },
                "head": { "features-images-a-second": features, "fit-seconds-for-10000": fit.as_secs_f64() },
            })
        );
    } else {
        println!(
            "EfficientNet-B0, {SIDE} × {SIDE}, {threads} threads, batches of {}; full steps on {}",
            args.batch,
            args.device.name()
        );
        println!(
            "full   {wall:.2} s a step ({cpu:.2} CPU-seconds), {:.1} images a second, {} MB at most ({} MB expected)",
            args.batch as f64 / wall,
            peak / 1_000_000,
            expected / 1_000_000
        );
        println!(
            "head   {features:.0} images a second for features, {:.1} s to fit the last layer to {HEAD_IMAGES} of them",
            fit.as_secs_f64()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Wall and CPU time of a training of so many steps.
fn steps(
    graph: &Graph,
    device: &Device,
    batch: usize,
    count: usize,
) -> anyhow::Result<(Duration, Duration)> {
    let recipe = Recipe {
        epochs: 1,
        batch,
        ..Recipe::default()
    };
    let (learn, check) = (pictures(batch * count), pictures(1));
    let (started, cpu) = (Instant::now(), cpu_time());
    train::fit(graph, &learn, &check, &recipe, device, |_| ())?;
    Ok((started.elapsed(), cpu_time().saturating_sub(cpu)))
}

fn pictures(count: usize) -> Pictures {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut picture = || (0..SIDE * SIDE).map(|_| rng.random()).collect();
    Pictures {
        height: SIDE,
        width: SIDE,
        samples: (0..count).map(|k| (picture(), k % CLASSES)).collect(),
        groups: Vec::new(),
    }
}

fn fit_head(length: usize) -> anyhow::Result<Duration> {
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    let classes: Vec<usize> = (0..HEAD_IMAGES).map(|k| k % CLASSES).collect();
    let features: Vec<Vec<f32>> = classes
        .iter()
        .map(|class| {
            let value = |k: usize| rng.random::<f32>() + f32::from(u8::from(k % CLASSES == *class));
            (0..length).map(value).collect()
        })
        .collect();
    let started = Instant::now();
    head::fit(
        &features,
        &classes,
        &[1.0; CLASSES],
        None,
        head::Fit::default(),
        |_, _| (),
    )?;
    Ok(started.elapsed())
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The most memory that was ever resident, bytes (proc(5), `VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn spec() -> ClassifierSpec {
    ClassifierSpec {
        id: "bench".into(),
        role: Role::Category,
        applies: Applies::Any,
        model: FileRef {
            file: String::new(),
            sha256: String::new(),
        },
        channels: 1,
        input: INPUT.into(),
        outputs: Outputs {
            logits: LOGITS.into(),
            features: Some(FEATURES.into()),
        },
        temperature: 1.0,
        classes: (0..CLASSES).map(|k| k.to_string()).collect(),
        render: RenderSpec {
            height: SIDE as u32,
            width: SIDE as u32,
            ..category_spec()
        },
        normalisation: Written {
            mean: vec![0.5],
            std: vec![0.25],
        },
        out_of_distribution: None,
    }
}
