//! A decode child that goes wrong on demand: for tests of the jail and of the daemon around it, never packaged.
//!
//! The file itself says how: a preamble (the first 128 bytes of a DICOM file, free for any use by PS3.10 §7.1) that
//! starts with `radsort-test:STAGE:BEHAVIOUR`, stage being `inspect` or `decode`, ended by a NUL or a space.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::protocol::{Ask, Said, write_answer};
use super::{Fault, Spent};
use crate::domain::Reason;
use crate::sys::escape::{self, ATTEMPTS, Held};
use crate::sys::process;

/// Does what the file's preamble says; returns if that was nothing, or nothing that ends the process.
pub fn as_told_by(file: &File, ask: &Ask, reply: &File) -> Option<Fault> {
    let mut preamble = [0; 128];
    file.read_exact_at(&mut preamble, 0).ok()?;
    let text = std::str::from_utf8(preamble.split(|byte| matches!(byte, 0 | b' ')).next()?).ok()?;
    let (stage, behaviour) = text.strip_prefix("radsort-test:")?.split_once(':')?;
    let here = match ask {
        Ask::Inspect => "inspect",
        Ask::Decode(..) => "decode",
    };
    if stage != here {
        return None;
    }
    if let Some(order) = behaviour.strip_prefix("escape-") {
        return Some(Fault::new(Reason::CannotDecode, escape(order, file, reply)));
    }
    #[allow(clippy::panic, reason = "that is what is asked for")]
    match behaviour {
        "panic" => panic!("as the preamble says: secret"),
        "abort" => std::process::abort(),
        "segfault" => process::segfault(),
        "overflow" => {
            black_box(recurse(&[0; 64]));
        }
        "exit" => process::exit_now(3),
        "silence" => process::exit_now(0),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "sleep" => loop {
            std::thread::park();
        },
        "deaf" => {
            let _ = process::ignore_signal(libc::SIGALRM);
            loop {
                std::thread::park();
            }
        }
        "deaf-to-limits" => {
            let _ = process::ignore_signal(libc::SIGXCPU);
            loop {
                std::hint::spin_loop();
            }
        }
        "chatter" => {
            for _ in 0..100_000 {
                let _ = std::io::stderr().write_all(&[b'x'; 100]);
            }
            process::exit_now(3);
        }
        "eat-memory" => eat_memory(),
        "junk" => say(reply, &[0xff; 4096]),
        "endless" => loop {
            say(reply, &[0x20; 4096]);
        },
        "giant" => say(reply, b"RSA\x01\xff\xff\xff\xff{}"),
        "nested" => {
            say(reply, b"RSA\x01\x00\xf0\x00\x00");
            say(reply, &vec![b'['; 0xf000]);
        }
        "trickle" => {
            for byte in b"RSA\x01\xff\xff\x00\x00".iter().cycle() {
                say(reply, &[*byte]);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        "half" => {
            let answer = honest(ask);
            say(reply, &answer[..answer.len() / 2]);
            wait_for_ever();
        }
        "half-of-its-words" => {
            say(reply, b"RSA\x01\xff\xff\x00\x00{");
            wait_for_ever();
        }
        "linger" => {
            say(reply, &honest(ask));
            wait_for_ever();
        }
        "twice" => {
            say(reply, &honest(ask).repeat(2));
            process::exit_now(0);
        }
        "pixels-first" => {
            let answer = honest(ask);
            let (words, pixels) = answer.split_at(answer.len() / 2);
            say(reply, &[pixels, words].concat());
            process::exit_now(0);
        }
        "other-question" => {
            let other = match ask {
                Ask::Inspect => decoded(),
                Ask::Decode(..) => Said::Inspected(nothing_special()),
            };
            answer(reply, &other, &[]);
        }
        "other-reason" => answer(
            reply,
            &Said::Fault(Fault::new(Reason::Duplicate, "as it says")),
            &[],
        ),
        "blame-the-disk" => answer(reply, &Said::Unreadable(Some(libc::EIO)), &[]),
        "infinite" => lie(reply, ask, &[f32::INFINITY], 0),
        "lie" => lie(reply, ask, &[f32::NAN], 0),
        "brighter-than-white" => lie(reply, ask, &[1.5], 0),
        "short" => lie(reply, ask, &[], 1),
        "long" => lie(reply, ask, &[0.0, 0.0], 0),
        "sweep" => {
            let through = escape::calls_let_through();
            return Some(Fault::new(Reason::CannotDecode, format!("{through:?}")));
        }
        "other-gate" => {
            let worked = escape::by_the_32_bit_gate();
            return Some(Fault::new(Reason::CannotDecode, format!("{worked}")));
        }
        // The standard three, the file, and where to answer.
        "count" => {
            return Some(Fault::new(
                Reason::CannotDecode,
                format!("{:?}", process::open_descriptors().len()),
            ));
        }
        _ => {}
    }
    None
}

fn say(reply: &File, bytes: &[u8]) {
    let mut reply = reply;
    if reply.write_all(bytes).is_err() {
        process::exit_now(4);
    }
}

fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn nothing_special() -> super::Inspection {
    super::Inspection {
        completeness: super::Completeness::Complete,
        content: super::Content::Radiograph {
            header: crate::domain::Header::default(),
        },
    }
}

/// Says this and ends.
fn answer(reply: &File, said: &Said, pixels: &[f32]) -> ! {
    let radiograph = super::Radiograph {
        height: 0,
        width: 0,
        pixels: pixels.to_vec(),
    };
    let mut reply = reply;
    process::exit_now(i32::from(
        write_answer(&mut reply, said, &[radiograph]).is_err(),
    ))
}

fn values_asked_for(ask: &Ask) -> usize {
    match ask {
        Ask::Inspect => 0,
        Ask::Decode(specs, _) => specs.iter().map(super::protocol::values).sum::<u64>() as usize,
    }
}

/// The bytes of an answer that is right in form.
fn honest(ask: &Ask) -> Vec<u8> {
    let radiograph = super::Radiograph {
        height: 0,
        width: 0,
        pixels: vec![0.5; values_asked_for(ask)],
    };
    let said = match ask {
        Ask::Inspect => Said::Inspected(nothing_special()),
        Ask::Decode(..) => decoded(),
    };
    let mut bytes = Vec::new();
    let _ = write_answer(&mut bytes, &said, &[radiograph]);
    bytes
}

fn decoded() -> Said {
    let spent = Spent {
        header_us: u64::MAX,
        ..Spent::default()
    };
    Said::Decoded {
        inspection: nothing_special(),
        reduced: false,
        spent,
    }
}

/// An answer whose tensors are all but right: `last` replaces the last value, after leaving out `fewer` more.
fn lie(reply: &File, ask: &Ask, last: &[f32], fewer: usize) -> ! {
    let mut pixels = vec![0.5; values_asked_for(ask).saturating_sub(1 + fewer)];
    pixels.extend_from_slice(last);
    answer(reply, &decoded(), &pixels)
}

#[allow(unconditional_recursion, reason = "to overflow the stack")]
fn recurse(from: &[u8; 64]) -> u8 {
    let mut here = *from;
    here[0] = here[0].wrapping_add(1);
    recurse(black_box(&here)).wrapping_add(here[1])
}

fn eat_memory() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 16 * 1024 * 1024]));
    }
}

/// Makes one attempt to get out (`NAME@PID`, the process that it would harm), and tells whether it worked.
fn escape(order: &str, file: &File, reply: &File) -> String {
    let (name, victim) = order.split_once('@').unwrap_or((order, "1"));
    let held = Held {
        file: file.as_raw_fd(),
        reply: reply.as_raw_fd(),
        victim: victim.parse().unwrap_or(1),
    };
    match ATTEMPTS.iter().find(|attempt| attempt.name == name) {
        Some(attempt) if (attempt.run)(held) => format!("{name}: got out"),
        Some(_) => format!("{name}: kept in"),
        None => format!("{name}: nobody knows how"),
    }
}
