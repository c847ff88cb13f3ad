//! The thin binary: parse, set up logging, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The jailed decoder must be the first thing to run: no threads, no logging, nothing open.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == "decode-worker")
    {
        return radsort::commands::decode_worker::main();
    }
    ExitCode::SUCCESS
}
