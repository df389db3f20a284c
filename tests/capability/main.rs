//! What a user was promised, over the wire, with the `redis` crate as it comes.
//!
//! A module for each promise. Every test starts a server of its own, on ports of its own, so that
//! tests do not meet. One binary, because linking is what costs.

mod admin;
mod backups;
mod bad_input;
mod catch_up;
mod connections;
mod durability;
mod expiry;
mod geo_sync;
mod hashes;
mod horizon;
mod imports;
mod joining;
mod kills;
mod lists;
mod memory;
mod outages;
mod playground;
mod regions;
mod repairs;
mod scans;
mod sets;
mod sorted_sets;
mod strings;
mod transactions;

use std::net::SocketAddr;

use testing::{Client, Playground, Setup, SingleNode};

const BINARY: &str = env!("CARGO_BIN_EXE_meridian");

/// A single node for one test.
struct Node(SingleNode);

impl Node {
    fn start() -> Self {
        Self::with("")
    }

    /// With these lines of settings.
    fn with(settings: &str) -> Self {
        let started = SingleNode::start(BINARY, settings);
        Self(started.unwrap_or_else(|error| panic!("the node does not start: {}", error.0)))
    }

    /// A connection of the `redis` crate with default settings.
    fn connect(&self) -> redis::Connection {
        connect(&format!("redis://{}", self.address()))
    }

    /// The same with RESP3.
    fn connect_resp3(&self) -> redis::Connection {
        connect(&format!("redis://{}/?protocol=resp3", self.address()))
    }

    /// A connection of ours, for what the crate does not let through.
    fn raw(&self) -> Client {
        Client::connect(self.address()).expect("the node accepts connections")
    }

    fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// A database of several regions for one test.
struct Regions(Playground);

impl Regions {
    /// So many, a node each.
    fn start(count: usize) -> Self {
        Self::with(count, &[])
    }

    /// With nodes that keep nothing on disk.
    fn in_memory(count: usize) -> Self {
        Self::with(count, &["--", "--dir", ""])
    }

    /// With more flags of the playground.
    fn with(count: usize, flags: &[&str]) -> Self {
        let started = Playground::start(BINARY, &Setup::regions(count).flags(flags));
        Self(started.unwrap_or_else(|error| panic!("the playground does not start: {}", error.0)))
    }

    /// A connection of the `redis` crate to a region, counted from 1.
    fn connect(&self, region: usize) -> redis::Connection {
        connect(&format!("redis://{}", self.0.address(region)))
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
