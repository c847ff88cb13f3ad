//! The shipped bundle on phantoms that it has never seen: a guard against a worse one. `make trial` asks for 97 % of 600
//! phantoms of full size, which is what is published, and tries hard ones too.

#![cfg(feature = "retrain")]
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use serde_json::Value;

/// Seeds that training never draws from.
const SEED: u64 = 4_000;

fn trial(words: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_radsort"))
        .args(["phantom-trial", "--json", "--model"])
        .arg(common::shipped_bundle())
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_shipped_bundle_is_right_on_95_of_100_fresh_phantoms_at_least() {
    let seed = SEED.to_string();
    let tally = trial(&["--count", "200", "--size", "600x1000", "--seed", &seed]);
    assert_eq!(tally["images"], 200);
    let right = tally["right"].as_u64().unwrap();
    assert!(right >= 190, "{tally:#}");
}
