//! The entry point: arguments to a subcommand to an exit code.
fn main() {}
