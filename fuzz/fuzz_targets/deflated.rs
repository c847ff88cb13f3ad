#![no_main]

use radsort::decode;

#[path = "../../src/decode/tests/synthetic.rs"]
mod synthetic;
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::deflated(data));
