//! Trying a bundle in a child process before it is used here: a bad graph can crash ONNX Runtime and whoever runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::config::settings::{Device, GpuPolicy, RuntimeSettings};

/// The hidden subcommand that the child runs.
pub const SUBCOMMAND: &str = "try-bundle";

/// How long a child may take to load and warm up a bundle.
pub const LIMIT: Duration = Duration::from_mins(5);

/// How much of what the child says is kept.
const TOLD: usize = 4000;

/// Loads and warms up a bundle in a child process of this same program. The error says why it cannot be used.
///
/// Blocks until the child has ended, for at most [`LIMIT`].
pub fn try_in_child(bundle: &Path, settings: &RuntimeSettings) -> Result<(), String> {
    // The running program, also when its file has been replaced since.
    try_in("/proc/self/exe".as_ref(), bundle, settings, LIMIT)
}

fn try_in(
    program: &Path,
    bundle: &Path,
    settings: &RuntimeSettings,
    limit: Duration,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .arg(SUBCOMMAND)
        .args(arguments(settings))
        .arg("--")
        .arg(bundle);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("the trial of {} cannot start: {error}", bundle.display()))?;
    // Read beside waiting: a child that says much must not wait for us.
    let stderr = child.stderr.take();
    let told = std::thread::spawn(move || stderr.map(tail).unwrap_or_default());
    let ended = wait(&mut child, limit);
    let told = told.join().unwrap_or_default();
    let told = if told.is_empty() {
        "it said nothing".to_owned()
    } else {
        told
    };
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => match status.code() {
            Some(_) => Err(told),
            None => Err(format!(
                "ONNX Runtime crashed on {} ({status}): {told}",
                bundle.display()
            )),
        },
        Ok(None) => Err(format!(
            "{} was not warmed up within {} s: {told}",
            bundle.display(),
            limit.as_secs()
        )),
        Err(error) => Err(format!("the trial of {}: {error}", bundle.display())),
    }
}

/// `None`: it took too long and was killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(mut stderr: impl std::io::Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        kept.drain(..kept.len().saturating_sub(TOLD));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// The settings as the subcommand's options.
fn arguments(settings: &RuntimeSettings) -> Vec<String> {
    let device = match settings.device {
        Device::Auto => "auto".to_owned(),
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(number) => format!("cuda:{number}"),
    };
    let gpu = match settings.gpu {
        GpuPolicy::Require => "require",
        GpuPolicy::Prefer => "prefer",
    };
    let mut arguments = vec![
        format!("--device={device}"),
        format!("--gpu={gpu}"),
        format!("--threads={}", settings.threads),
        format!("--batch={}", settings.batch),
    ];
    arguments.extend(
        settings
            .library
            .as_ref()
            .map(|library| format!("--library={}", library.display())),
    );
    arguments
}

/// The same read back; `None` for a text that [`try_in_child`] does not write.
pub fn settings(
    library: Option<PathBuf>,
    device: &str,
    gpu: &str,
    threads: usize,
    batch: usize,
) -> Option<RuntimeSettings> {
    let device = match (device, device.strip_prefix("cuda:")) {
        ("auto", _) => Device::Auto,
        ("cpu", _) => Device::Cpu,
        (_, Some(number)) => Device::Cuda(number.parse().ok()?),
        _ => return None,
    };
    let gpu = match gpu {
        "require" => GpuPolicy::Require,
        "prefer" => GpuPolicy::Prefer,
        _ => return None,
    };
    Some(RuntimeSettings {
        library,
        device,
        gpu,
        threads,
        batch,
        batch_wait: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::tests::runtime_settings;
    use std::os::unix::fs::PermissionsExt as _;

    fn trial(script: &str, limit: Duration) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("radsort");
        // Written under another name and renamed, so that no descriptor of a test beside this one keeps it busy.
        let text = format!("#!/bin/sh\n{script}\n");
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::set_permissions(
            dir.path().join("new"),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        std::fs::rename(dir.path().join("new"), &program).unwrap();
        try_in(
            &program,
            Path::new("/models/new"),
            &runtime_settings(),
            limit,
        )
    }

    #[test]
    fn what_the_child_says_is_the_reason() {
        let long = Duration::from_mins(1);
        assert_eq!(trial("exit 0", long), Ok(()));
        assert_eq!(
            trial("echo 'bad graph' >&2; exit 1", long),
            Err("bad graph".into())
        );
        let crashed = trial("kill -SEGV $$", long).unwrap_err();
        assert!(
            crashed.contains("crashed") && crashed.contains("/models/new"),
            "{crashed}"
        );
        let hanging = trial("exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(hanging.contains("not warmed up"), "{hanging}");
        assert_eq!(
            trial("yes 'so much to say' | head -c 300000 >&2; exit 0", long),
            Ok(()),
            "a chatty child does not hang"
        );
    }

    #[test]
    fn the_child_gets_the_same_settings() {
        let library = Some(PathBuf::from("/opt/libonnxruntime.so"));
        for device in [Device::Auto, Device::Cpu, Device::Cuda(3)] {
            let asked = RuntimeSettings {
                library: library.clone(),
                device,
                batch_wait: Duration::ZERO,
                ..runtime_settings()
            };
            let arguments = arguments(&asked);
            let of = |name: &str| {
                let prefix = format!("--{name}=");
                arguments
                    .iter()
                    .find_map(|argument| argument.strip_prefix(&prefix))
                    .unwrap()
                    .to_owned()
            };
            let (threads, batch) = (of("threads").parse().unwrap(), of("batch").parse().unwrap());
            let got = settings(
                Some(of("library").into()),
                &of("device"),
                &of("gpu"),
                threads,
                batch,
            );
            assert_eq!(got, Some(asked));
        }
    }
}
