//! The `meridian` binary: arguments in, exit code out.

fn main() {}
