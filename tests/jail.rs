//! The jail, from outside: the real program's zygote and children. What a hostile file can make a decoder do costs that
//! file, and nothing else; and a decoder that was taken over finds every door locked.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use radsort::config::settings::DecoderSettings;
use radsort::decode::RenderSpec;
use radsort::decode::pool::{DecodeError, Pool, PoolError};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};

fn settings(count: usize) -> DecoderSettings {
    DecoderSettings {
        count,
        memory: 256 << 20,
        cpu_time: Duration::from_secs(30),
        wall_time: Duration::from_mins(1),
        permits_per_watch: 4,
    }
}

fn pool(settings: &DecoderSettings) -> Pool {
    Pool::start_program(Path::new(env!("CARGO_BIN_EXE_radsort")), settings).unwrap()
}

/// A file with this content, open for reading only, and its size.
fn file(content: &[u8]) -> (File, u64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    (File::open(file.path()).unwrap(), content.len() as u64)
}

/// The pool answers, whatever it is.
fn answers(pool: &Pool, file: &File, size: u64) {
    let error = pool.inspect(file, size).err();
    assert_eq!(error.map(|error| error.to_string()), None);
}

/// What a small network asks for.
fn spec() -> RenderSpec {
    serde_json::from_str(r#"{"height": 32, "width": 16}"#).unwrap()
}

const HARMLESS: &[u8] = b"this is no DICOM";

#[test]
fn seccomp_is_in_force() {
    // Landlock may be missing (Linux before 5.13, or not turned on), seccomp hardly ever is.
    assert!(pool(&settings(1)).confinement().seccomp);
}

#[test]
fn a_harmless_file_is_answered_again_and_again() {
    let pool = pool(&settings(2));
    let (file, size) = file(HARMLESS);
    for _ in 0..20 {
        answers(&pool, &file, size);
    }
}

#[test]
fn many_threads_share_a_pool() {
    let pool = pool(&settings(2));
    let (file, size) = file(HARMLESS);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..5).for_each(|_| {
                    answers(&pool, &file, size);
                });
            });
        }
    });
}

#[test]
fn a_descriptor_that_could_write_is_never_handed_over() {
    let writable = tempfile::tempfile().unwrap();
    assert!(matches!(
        pool(&settings(1)).inspect(&writable, 0),
        Err(DecodeError::Io(_))
    ));
}

#[test]
fn a_file_that_is_shorter_than_when_it_was_opened_is_to_settle_again() {
    let (file, size) = file(HARMLESS);
    assert!(matches!(
        pool(&settings(1)).inspect(&file, size + 1000),
        Err(DecodeError::Io(_))
    ));
}

#[test]
fn a_program_that_is_no_decoder_is_told_at_the_start() {
    let error = Pool::start_program(Path::new("/bin/true"), &settings(1))
        .err()
        .unwrap();
    assert!(matches!(error, PoolError::Mute { .. }), "{error}");
    let error = Pool::start_program(Path::new("/nonexistent"), &settings(1))
        .err()
        .unwrap();
    assert!(matches!(error, PoolError::Start { .. }), "{error}");
}

#[test]
fn a_person_who_types_the_command_gets_an_explanation() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_radsort"))
        .arg("decode-worker")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("started by radsort itself")
    );
}

#[test]
fn a_file_whose_disk_fails_is_to_settle_again() {
    // Nothing is mapped at address 0: the kernel answers with EIO.
    let failing = File::open("/proc/self/mem").unwrap();
    match pool(&settings(1)).inspect(&failing, 1000) {
        Err(DecodeError::Io(error)) => assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error())
        ),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("inspected"),
    }
}

#[test]
fn the_jail_changes_nothing_of_what_a_decoder_says() {
    let radiographs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/radiographs");
    let Ok(entries) = std::fs::read_dir(&radiographs) else {
        eprintln!("SKIPPED: {} is missing", radiographs.display());
        return;
    };
    let settings = DecoderSettings {
        memory: 1 << 30,
        ..settings(1)
    };
    let pool = pool(&settings);
    let specs = [spec()];
    for path in entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        let file = File::open(&path).unwrap();
        let size = file.metadata().unwrap().len();
        match (
            pool.decode(&file, size, &specs),
            radsort::decode::decode(&file, size, &specs),
        ) {
            (Ok(inside), Ok(outside)) => assert_eq!(inside.radiographs, outside.radiographs),
            (Err(DecodeError::Fault(inside)), Err(outside)) => assert_eq!(inside, outside),
            (inside, outside) => panic!(
                "{}: inside {:?}, outside {:?}",
                path.display(),
                inside.err(),
                outside.err()
            ),
        }
    }
}

/// The zygotes that this thread has started.
fn my_zygotes() -> Vec<Pid> {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    children
        .split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect()
}

#[test]
fn a_zygote_that_was_killed_is_replaced() {
    let pool = pool(&settings(1));
    let (file, size) = file(HARMLESS);
    let before = my_zygotes();
    kill_process(before[0], Signal::KILL).unwrap();
    answers(&pool, &file, size);
    assert_ne!(my_zygotes(), before);
}

#[test]
fn a_zygote_outlives_the_signals_that_stop_the_service() {
    let pool = pool(&settings(1));
    let (file, size) = file(HARMLESS);
    let before = my_zygotes();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(before[0], signal).unwrap();
    }
    answers(&pool, &file, size);
    assert_eq!(my_zygotes(), before);
    drop(pool);
    assert_eq!(my_zygotes(), []);
}

#[test]
fn a_zygote_ends_with_its_parent() {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut zygote = std::process::Command::new(env!("CARGO_BIN_EXE_radsort"))
        .arg("decode-worker")
        .stdin(std::process::Stdio::from(theirs))
        .spawn()
        .unwrap();
    drop(ours); // As the kernel does when the parent is killed.
    // Its greeting may find nobody, which is no success either way; but it ends.
    zygote.wait().unwrap();
}

#[cfg(feature = "failpoints")]
mod hostile {
    use radsort::decode::misbehave::FORBIDDEN;
    use radsort::domain::Reason;
    use radsort::sys::process::is_forbidden;

    use super::*;

    fn fault(pool: &Pool, behaviour: &str) -> (Reason, String) {
        let mut content = format!("radsort-test:decode:{behaviour}").into_bytes();
        content.resize(128, 0);
        content.extend_from_slice(b"DICM");
        let (file, size) = file(&content);
        match pool.decode(&file, size, &[spec()]) {
            Err(DecodeError::Fault(fault)) => (fault.reason, fault.detail),
            Err(other) => panic!("{behaviour}: {other}"),
            Ok(_) => panic!("{behaviour}: decoded"),
        }
    }

    /// The file is refused with this reason, and the pool goes on as if nothing had been.
    fn costs_only_itself(behaviour: &str, reason: Reason, settings: &DecoderSettings) {
        let pool = pool(settings);
        let (got, detail) = fault(&pool, behaviour);
        assert_eq!(got, reason, "{behaviour}: {detail}");
        assert!(detail.len() > 10 && !detail.contains("secret"), "{detail}");
        eprintln!("{behaviour}: {detail}");
        let (file, size) = file(HARMLESS);
        answers(&pool, &file, size);
    }

    #[test]
    fn a_decoder_that_crashes_costs_one_file() {
        for behaviour in ["panic", "abort", "segfault", "overflow", "exit"] {
            costs_only_itself(behaviour, Reason::DecoderCrashed, &settings(1));
        }
    }

    #[test]
    fn a_decoder_that_computes_for_ever_costs_one_file() {
        let settings = DecoderSettings {
            cpu_time: Duration::from_secs(1),
            ..settings(1)
        };
        costs_only_itself("spin", Reason::DecoderTimeout, &settings);
    }

    #[test]
    fn a_decoder_that_waits_for_ever_costs_one_file() {
        let settings = DecoderSettings {
            wall_time: Duration::from_millis(300),
            ..settings(1)
        };
        costs_only_itself("sleep", Reason::DecoderTimeout, &settings);
    }

    #[test]
    fn a_decoder_that_ignores_its_alarm_is_killed_from_outside() {
        let settings = DecoderSettings {
            wall_time: Duration::from_millis(300),
            ..settings(1)
        };
        costs_only_itself("deaf", Reason::DecoderTimeout, &settings);
    }

    #[test]
    fn a_decoder_that_eats_memory_costs_one_file() {
        costs_only_itself("eat-memory", Reason::DecoderMemory, &settings(1));
    }

    #[test]
    fn a_decoder_that_lies_costs_one_file() {
        for behaviour in [
            "silence",
            "junk",
            "endless",
            "lie",
            "brighter-than-white",
            "short",
            "long",
        ] {
            costs_only_itself(behaviour, Reason::DecoderLied, &settings(1));
        }
    }

    #[test]
    fn a_decoder_that_was_taken_over_cannot_get_out() {
        let (reason, what_worked) = fault(&pool(&settings(1)), "escape");
        assert_eq!(
            (reason, what_worked.as_str()),
            (Reason::CannotDecode, "tried everything, and this worked: ")
        );
    }

    #[test]
    fn a_decoder_holds_no_descriptor_but_its_own() {
        // Made without O_CLOEXEC, as C libraries do.
        let leaked = [(); 3].map(|()| rustix::io::dup(std::io::stderr()).unwrap());
        assert_eq!(fault(&pool(&settings(1)), "count").1, "5");
        drop(leaked);
    }

    #[test]
    fn what_the_jail_forbids_is_allowed_outside() {
        // Else the test above would show nothing.
        for (what, number) in FORBIDDEN {
            assert!(!is_forbidden(*number), "{what}");
        }
    }
}
