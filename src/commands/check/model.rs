//! The decoders' jail, ONNX Runtime, the bundle, and every classifier where it will run.

use std::time::Instant;

use super::findings::Findings;
use crate::config::Settings;
use crate::decode::pool::Pool;
use crate::model::runtime::Runtime;
use crate::model::store::Store;
use crate::model::{Bundle, Classifier, Thresholds};

/// The decoders' jail, closed around a real child.
pub(super) fn check_jail(settings: &Settings, findings: &mut Findings) {
    match Pool::start(&settings.decoders) {
        Err(error) => findings.error("jail", error, "Nothing is decoded outside the jail."),
        Ok(pool) => {
            let confinement = pool.confinement();
            let landlock = confinement
                .landlock
                .map_or("no Landlock".to_owned(), |abi| format!("Landlock {abi}"));
            if !confinement.seccomp {
                findings.error(
                    "jail",
                    "this kernel has no seccomp filters",
                    "Use a kernel with CONFIG_SECCOMP_FILTER.",
                );
            } else if confinement.landlock.is_none() {
                let advice = "seccomp alone confines the decoders. Linux 5.13 or later with Landlock adds a second wall.";
                findings.warning("jail", format!("seccomp, {landlock}"), advice);
            } else {
                findings.ok("jail", format!("seccomp, {landlock}"));
            }
        }
    }
}

/// ONNX Runtime, the bundle, the thresholds, and every classifier where it will run.
pub(super) fn check_model(settings: &Settings, findings: &mut Findings) {
    match Runtime::load(&settings.runtime) {
        Ok(runtime) => {
            let version = runtime.minor_version();
            findings.ok(
                "ONNX Runtime",
                format!("1.{version}, {}", runtime.library().display()),
            );
        }
        Err(error) => {
            return findings.error(
                "ONNX Runtime",
                error,
                "Without it nothing can be classified; [runtime] library can name it.",
            );
        }
    }
    let bundle = match Store::in_use(settings)
        .map_err(anyhow::Error::from)
        .and_then(|dir| Ok(Bundle::open(&dir)?))
    {
        Ok(bundle) => bundle,
        Err(error) => return findings.error("bundle", error, "[model] bundle names the folder with bundle.toml; without it the shipped bundle is used. A damaged one has to be copied anew."),
    };
    let categories = bundle.categories().len();
    findings.ok(
        "bundle",
        format!(
            "{}, {categories} categories, {}",
            bundle.name_and_version(),
            bundle.dir().display()
        ),
    );
    let thresholds = match Thresholds::new(&bundle, &settings.review) {
        Ok(thresholds) => thresholds,
        Err(error) => return findings.error("thresholds", error, "Correct [review]."),
    };
    let started = Instant::now();
    match Classifier::start(bundle, &settings.runtime, thresholds.view()) {
        Err(error) => findings.error("model", error, "Go back to the bundle that worked before, or make it anew. For the GPU, [runtime] device and gpu say what is wanted."),
        Ok(classifier) => {
            let info = classifier.info();
            let message = format!(
                "{} run on {} (seen in ONNX Runtime's profile), reference images agree, ready in {:.1} s",
                info.classifiers.join(", "),
                info.provider,
                started.elapsed().as_secs_f32()
            );
            findings.ok("model", message);
            if let Some(why) = &info.gpu_refused {
                let advice = "Every record and `status` will say cpu. Repair it, or say device = \"cpu\" to stop this warning.";
                findings.warning(
                    "GPU",
                    format!("the model runs on the CPU, not on the GPU: {why}"),
                    advice,
                );
            }
        }
    }
}
