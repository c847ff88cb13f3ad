//! The thin binary: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use radsort::cli::Cli;
use radsort::commands;

fn main() -> ExitCode {
    // The jailed decoder starts before anything else has made threads or opened files.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == "decode-worker")
    {
        return commands::decode_worker::main();
    }
    if let Err(error) = radsort::model::runtime::without_telemetry() {
        eprintln!("radsort: /proc/self/task: {error}");
        return ExitCode::FAILURE;
    }
    #[cfg(feature = "failpoints")]
    if let Err(error) = radsort::filing::failpoints::arm_from_environment() {
        eprintln!("radsort: {error}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    match commands::dispatch(cli.verb) {
        Ok(code) => code,
        Err(error) => commands::report(&error),
    }
}
