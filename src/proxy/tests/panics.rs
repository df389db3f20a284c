//! A command that panics.

use super::{Client, node, wait_until};

#[test]
fn a_command_that_panics_is_an_error_for_its_client_alone() {
    let (server, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    let panicked = "-ERR internal error: the command panicked, see the log of the node\r\n";
    b.check("SET k v", "+OK\r\n");
    // What was replied before it is not lost.
    a.send("GET k\r\nDEBUG PANIC\r\nPING");
    assert_eq!(a.until("never"), format!("$1\r\nv\r\n{panicked}"));
    wait_until(|| server.clients.len() == 1);
    // Nothing was written yet: the shard is as it was.
    let mut a = Client::connect(address);
    a.send("WATCH k\r\nMULTI\r\nGET k\r\nDEBUG PANIC\r\nSET k w\r\nEXEC");
    assert!(a.until("never").ends_with(panicked));
    b.check("GET k", "$1\r\nv\r\n");
}

#[test]
fn a_shard_with_half_a_transaction_is_out_of_service_and_the_others_are_not() {
    let (server, address) = node();
    let connect = || Client::connect(address);
    let (mut a, mut b, mut waiting) = (connect(), connect(), connect());
    b.check("SET k v", "+OK\r\n");
    waiting.send("BLPOP {k}list 0");
    wait_until(|| (0..4).any(|i| server.shards.with(i, |s| s.waiting()) == 1));
    a.send("MULTI\r\nSET k w\r\nDEBUG PANIC\r\nEXEC");
    assert!(a.until("never").contains("internal error"));
    let refused = b.ask("GET k");
    assert!(refused.starts_with("-ERR shard "), "{refused}");
    assert!(
        refused.contains(" is out of service: writing op "),
        "{refused}"
    );
    assert_eq!(waiting.until("\r\n"), refused);
    for line in [
        "SET k x",
        "WATCH k",
        "MGET a k",
        "BLPOP k 1",
        "DBSIZE",
        "KEYS *",
        "FLUSHALL",
        "REGION DIGEST",
        "MULTI\r\nGET k\r\nEXEC",
    ] {
        let said = b.ask(line);
        assert!(said.ends_with(&refused), "{line}: {said}");
    }
    // Other shards serve.
    let shard_of = |name: &str| {
        let key = server.shards.seed().key(name.as_bytes());
        server.shards.index_of(key.slot)
    };
    let other = ["a", "b", "c", "d", "e"]
        .iter()
        .find(|name| shard_of(name) != shard_of("k"));
    b.check(&format!("SET {} 1", other.unwrap()), "+OK\r\n");
    let info = b.ask("INFO");
    assert!(info.contains("shards_out_of_service:1\r\n"), "{info}");
    assert!(info.contains("db0:keys=1,"), "{info}");
}
