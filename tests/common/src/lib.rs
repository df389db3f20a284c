//! What the integration tests share: servers to start, a client to ask them, and waiting.
//!
//! The client has a RESP parser of its own, so that a mistake in the server's codec cannot hide
//! behind the same mistake in the test. Everything blocks and has a deadline; every process that is
//! started here is stopped, by its pid, when its handle is dropped. Nothing here uses code of the
//! server: a test passes the path of the binary (`env!("CARGO_BIN_EXE_meridian")`).

mod client;
mod cores;
mod http;
mod playground;
mod ports;
mod redis_server;
mod resp;
mod single;
mod wait;

use std::io::Write as _;

pub use client::Client;
pub use cores::on_all_cores;
pub use playground::{Link, Node, Playground, RegionName, Setup, StartError, Status};
pub use redis_server::RedisServer;
pub use resp::Value;
pub use single::SingleNode;
pub use wait::{Deadline, Stopwatch, wait_for, wait_until};

/// Prints a line that the test harness does not swallow: skips, seeds, reports.
pub fn say(line: &str) {
    // A closed stderr is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "{line}");
}
