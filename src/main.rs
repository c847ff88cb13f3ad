//! The thin binary: parse, set up logging, dispatch, exit code.

fn main() {}
