//! A bug that panics costs a client its command, or a node one shard, and nobody else anything.

use std::time::Duration;

use testing::{Client, Value, wait_until};

use crate::{Node, Regions};

const SYNC_LIMIT: Duration = Duration::from_secs(15);

/// Breaks a transaction off after it has written to the shard of `key`.
fn break_off(client: &mut Client, key: &str) {
    for command in [&["MULTI"][..], &["SET", key, "half"], &["DEBUG", "PANIC"]] {
        client.run(command);
    }
    let Value::Error(text) = client.run(&["EXEC"]) else {
        panic!("a panic is an error");
    };
    assert!(text.contains("panicked"), "{text}");
}

fn get(client: &mut Client, key: &str) -> String {
    let value = client.run(&["GET", key]);
    if let Value::Error(text) = value {
        return text;
    }
    let bytes = value.bytes().unwrap_or(b"(none)");
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_panic_takes_one_shard_out_of_service_and_the_log_says_which_op() {
    let node = Node::start();
    let mut redis = node.raw();
    for number in 0..100 {
        redis.run(&["SET", &format!("k{number}"), "v"]);
    }
    break_off(&mut node.raw(), "k0");
    let refused = get(&mut redis, "k0");
    assert!(
        refused.contains("is out of service: writing op "),
        "{refused}"
    );
    let served = (1..100).filter(|number| get(&mut redis, &format!("k{number}")) == "v");
    assert!(80 < served.count(), "the other shards serve");
    let (_, op) = refused.split_once("writing op ").unwrap();
    let log = node.0.log();
    assert!(
        log.contains("shard is out of service") && log.contains(op),
        "{log}"
    );
}

#[test]
fn other_regions_get_what_came_before_it_and_nothing_of_it() {
    let regions = Regions::start(2);
    let (mut one, mut two) = (regions.0.client(1), regions.0.client(2));
    one.run(&["SET", "{k}before", "v"]);
    break_off(&mut regions.0.client(1), "k");
    assert!(get(&mut one, "{k}before").contains("out of service"));
    assert!(wait_until(SYNC_LIMIT, || get(&mut two, "{k}before") == "v"));
    // Its other shards go on in both directions.
    two.run(&["SET", "k", "mine"]);
    for (key, from) in [("a", 1), ("b", 2), ("e", 1), ("d", 2)] {
        let mut sides = if from == 1 {
            [&mut one, &mut two]
        } else {
            [&mut two, &mut one]
        };
        sides[0].run(&["SET", key, "v"]);
        assert!(
            wait_until(SYNC_LIMIT, || get(sides[1], key) == "v"),
            "{key}"
        );
    }
    assert_eq!(get(&mut two, "k"), "mine");
}
