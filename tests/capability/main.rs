//! What a user was promised, over the wire, with the `redis` crate as it comes.
//!
//! A module for each promise. Every test starts a server of its own, on ports of its own, so that
//! tests do not meet. One binary, because linking is what costs.

mod bad_input;
mod connections;
mod expiry;
mod geo_sync;
mod hashes;
mod lists;
mod regions;
mod scans;
mod sets;
mod sorted_sets;
mod strings;
mod transactions;

use std::net::SocketAddr;

use testing::{Client, Playground, Setup};

/// A server for one test.
struct Server(Playground);

impl Server {
    /// A single node.
    fn node() -> Self {
        Self::start(1)
    }

    /// A database of so many regions, a node each.
    fn start(regions: usize) -> Self {
        let started = Playground::start(env!("CARGO_BIN_EXE_meridian"), &Setup::regions(regions));
        Self(started.unwrap_or_else(|error| panic!("it does not start: {}", error.0)))
    }

    /// A connection of the `redis` crate to a region, counted from 1, with default settings.
    fn connect(&self, region: usize) -> redis::Connection {
        connect(&format!("redis://{}", self.0.address(region)))
    }

    /// The same with RESP3.
    fn connect_resp3(&self) -> redis::Connection {
        connect(&format!("redis://{}/?protocol=resp3", self.0.address(1)))
    }

    /// A connection of ours, for what the crate does not let through.
    fn raw(&self) -> Client {
        self.0.client(1)
    }

    fn address(&self) -> SocketAddr {
        self.0.address(1)
    }
}

fn connect(url: &str) -> redis::Connection {
    let client = redis::Client::open(url).expect("it is a URL");
    client
        .get_connection()
        .expect("the server accepts connections")
}

/// The text of the error that a command must give.
#[track_caller]
fn error_of<T: std::fmt::Debug>(result: redis::RedisResult<T>) -> String {
    result.expect_err("an error was expected").to_string()
}
