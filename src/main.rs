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
    // `radsort status | head` is no fault of the program's.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            std::process::exit(commands::EXIT_BROKEN_PIPE.into());
        }
        told(panic);
    }));
    let cli = Cli::parse();
    match commands::dispatch(cli.verb) {
        Ok(code) => code,
        Err(error) => commands::report(&error),
    }
}
