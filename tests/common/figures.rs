//! Figures of the long runs: printed as a table, and kept as a JSON file that `tests/figures.py` puts into
//! docs/reliability.md. Only where `RADSORT_FIGURES` names a folder for them: the slices of `make test` publish nothing.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// Where figures are kept, if they are.
pub fn kept() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("RADSORT_FIGURES")?);
    fs::create_dir_all(&dir).unwrap();
    Some(dir)
}

/// A number of the environment, or a default.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Prints a table and keeps it under a name.
pub fn publish(name: &str, columns: &[&str], rows: &[Vec<String>]) {
    for row in rows {
        let cells = columns.iter().zip(row);
        let cells: Vec<String> = cells
            .map(|(column, cell)| {
                if column.is_empty() {
                    cell.clone()
                } else {
                    format!("{column}: {cell}")
                }
            })
            .collect();
        println!("{name}: {}", cells.join(", "));
    }
    let Some(dir) = kept() else { return };
    let figures = json!({
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        "commit": commit(),
        "build": if cfg!(debug_assertions) { "development build" } else { "release build" },
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "load": load(),
        "columns": columns,
        "rows": rows,
    });
    let text = serde_json::to_string_pretty(&figures).unwrap();
    fs::write(dir.join(format!("{name}.json")), text).unwrap();
}

/// The checkout's commit.
fn commit() -> String {
    let output = Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "describe",
            "--always",
            "--dirty",
        ])
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// How busy the machine was in the last fifteen minutes.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').nth(2).unwrap_or("?").to_owned()
}

/// This checkout's folder for pictures.
pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures")
}
