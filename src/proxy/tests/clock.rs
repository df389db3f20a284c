//! A node whose clock is ahead of every other region's.

use std::sync::atomic::Ordering;

use super::{Client, node};

#[test]
fn writes_are_refused_while_the_clock_is_ahead_and_reads_are_not() {
    let (server, address) = node();
    let mut client = Client::connect(address);
    client.check("SET k v", "+OK\r\n");
    server.clock_ahead.store(true, Ordering::Relaxed);
    for line in ["SET k w", "DEL k", "INCR n"] {
        let said = client.ask(line);
        assert!(said.starts_with("-CLOCKSKEW "), "{line}: {said}");
    }
    client.check("GET k", "$1\r\nv\r\n");
    server.clock_ahead.store(false, Ordering::Relaxed);
    client.check("SET k w", "+OK\r\n");
    client.check("REGION ACCEPT-CLOCK mars", "-ERR no such region\r\n");
}
