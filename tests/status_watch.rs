//! `radsort status --watch`: the live view, on terminals of any size, in pipes, and as objects.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{PATIENCE, Site};
use serde_json::Value;

#[test]
fn status_goes_on_while_it_is_watched_as_lines_or_as_objects() {
    let site = Site::new();
    let watch = ["status", "--watch", "--interval", "0.1", "--count", "3"];
    let output = site.run(&watch);
    let without = String::from_utf8(output.stdout).unwrap();
    assert_eq!(without.matches("no daemon answers").count(), 3, "{without}");
    assert_eq!(output.status.code(), Some(3));
    let daemon = site.start();
    let text = site.ok(&watch);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.lines()
            .all(|line| line.contains("1 of 1 drop directories online")),
        "{text}"
    );
    assert!(
        !text.contains('\x1b'),
        "escapes where there is no terminal: {text}"
    );
    let objects = site.ok(&[&watch[..], &["--json"]].concat());
    let times: Vec<i64> = objects
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["now_us"]
                .as_i64()
                .unwrap()
        })
        .collect();
    assert!(
        times.len() == 3 && times.is_sorted_by(|a, b| a < b),
        "{times:?}"
    );
    daemon.stop();
}

/// What a terminal of that size shows of a shell's commands.
fn on_a_terminal(site: &Site, columns: u16, lines: u16, commands: &str) -> Option<String> {
    let (config, shown) = (site.config.display(), site.dir.path().join("shown"));
    let shell = format!(
        "stty cols {columns} rows {lines}; watch=\"{} status --config {config} --watch\"
        frames() {{ until [ $(grep -o 2026[l] {} | wc -l) -ge $1 ]; do sleep 0.1; done; }}
        {commands}",
        common::RADSORT,
        shown.display()
    );
    let script = std::process::Command::new("script")
        .args([
            "-qefc",
            &format!("timeout --foreground 100 bash -c '{shell}'"),
        ])
        .arg(&shown)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output();
    let Ok(output) = script else {
        eprintln!("SKIPPED: needs script(1)");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_narrow_terminal_is_enough_and_is_left_as_it_was() {
    const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
    let site = Site::new();
    let daemon = site.start();
    // By its count, while it waits for a key.
    let Some(shown) = on_a_terminal(&site, 40, 24, "$watch --count 2 --interval 0.2; stty -a")
    else {
        return;
    };
    let (view, after) = shown.split_once(LEAVE).unwrap();
    assert!(
        after.contains(" icanon") && after.contains(" echo "),
        "{shown:?}"
    );
    let last = view.rsplit("\x1b[H").next().unwrap();
    let rows: Vec<&str> = last.split("\r\n").collect();
    assert!(rows.len() <= 24, "{rows:?}");
    assert!(
        rows.iter().any(|row| row.contains("drop: online")),
        "{rows:?}"
    );
    for row in rows {
        // The terminal adds a return of its own.
        let bare = row.replace("\x1b[K", "").replace('\r', "");
        let bare = bare.split('\x1b').next().unwrap();
        assert!(bare.chars().count() <= 40, "{bare:?}");
    }
    // By a signal, in the middle of a long pause; and drawn anew as soon as the size has changed.
    let commands =
        "$watch --interval 3600 & frames 1; stty cols 50; frames 2; kill $!; wait; stty -a";
    let shown = on_a_terminal(&site, 100, 20, commands).unwrap();
    let (view, after) = shown.split_once(LEAVE).unwrap();
    assert!(
        after.contains(" icanon") && after.contains(" echo "),
        "{shown:?}"
    );
    let frames: Vec<&str> = view.split("\x1b[H").skip(1).collect();
    assert_eq!(frames.len(), 2, "{view:?}");
    assert!(
        frames[0].contains('─') && !frames[1].contains('─'),
        "{view:?}"
    );
    daemon.stop();
}

#[test]
fn a_watched_status_ends_when_nobody_reads_it_any_more() {
    let site = Site::new();
    let daemon = site.start();
    let mut child = site
        .command(&["status", "--watch", "--interval", "0.1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 20];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let started = Instant::now();
    loop {
        if let Some(code) = child.try_wait().unwrap() {
            assert!(code.success(), "{code}");
            break;
        }
        assert!(started.elapsed() < PATIENCE);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    daemon.stop();
}
