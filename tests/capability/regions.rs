//! The `REGION` commands.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::{Node, Regions, error_of};

const LIMIT: Duration = Duration::from_secs(15);

/// Fields of one region's row in `REGION LIST`, as text.
fn row(redis: &mut redis::Connection, region: &str) -> BTreeMap<String, String> {
    let rows: Vec<BTreeMap<String, String>> =
        redis::cmd("REGION").arg("LIST").query(redis).unwrap();
    rows.into_iter()
        .find(|row| row["name"] == region)
        .expect("every region has a row")
}

#[test]
fn list_tells_who_is_there_and_who_is_behind() {
    let server = Regions::start(2);
    let mut one = server.connect(1);
    let own = row(&mut one, "one");
    assert_eq!((own["self"].as_str(), own["state"].as_str()), ("1", "self"));
    assert!(wait_until(LIMIT, || row(&mut one, "two")["state"] == "live"));
    server.0.cut(1, 2);
    let () = one.set("k", "v").unwrap();
    assert!(wait_until(LIMIT, || row(&mut one, "two")["state"] == "down"));
    let other = row(&mut one, "two");
    assert_eq!(other["pending-ops"], "1", "{other:?}");
    assert!(0 < other["lag-ms"].parse::<u64>().unwrap(), "{other:?}");
    server.0.heal(1, 2);
    assert!(wait_until(LIMIT, || {
        let other = row(&mut one, "two");
        other["state"] == "live" && other["pending-ops"] == "0" && other["lag-ms"] == "0"
    }));
}

fn wait(redis: &mut redis::Connection, count: usize, limit_ms: usize) -> usize {
    let mut wait = redis::cmd("REGION");
    wait.arg("WAIT").arg(count).arg(limit_ms);
    wait.query(redis).unwrap()
}

#[test]
fn wait_counts_the_regions_that_have_it() {
    let server = Regions::start(3);
    let mut one = server.connect(1);
    let () = one.set("k", "v").unwrap();
    assert_eq!(wait(&mut one, 2, 10_000), 2);
    server.0.cut(1, 3);
    server.0.cut(2, 3);
    // Nothing new on this connection: still both have it.
    assert_eq!(wait(&mut one, 2, 50), 2);
    let mut other = server.connect(1);
    let () = other.set("k", "w").unwrap();
    // Only one of them can hear of this.
    assert_eq!(wait(&mut other, 1, 10_000), 1);
    assert_eq!(wait(&mut other, 2, 50), 1);
}

#[test]
fn a_token_carries_a_session_to_another_region() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    server.0.cut(1, 2);
    let () = one.set("k", "v").unwrap();
    let token: Vec<u8> = redis::cmd("REGION").arg("TOKEN").query(&mut one).unwrap();
    let ready = |two: &mut redis::Connection, limit_ms: usize| -> i64 {
        redis::cmd("REGION")
            .arg("READY")
            .arg(&token)
            .arg(limit_ms)
            .query(two)
            .unwrap()
    };
    assert_eq!(ready(&mut two, 50), 0);
    server.0.heal(1, 2);
    assert_eq!(ready(&mut two, 10_000), 1);
    assert_eq!(two.get::<_, String>("k").unwrap(), "v");
    let nonsense = redis::cmd("REGION")
        .arg("READY")
        .arg("nonsense")
        .query::<i64>(&mut two);
    assert!(!error_of(nonsense).is_empty());
}

#[test]
fn digests_differ_exactly_where_contents_do() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let digest = |redis: &mut redis::Connection, slot: Option<u16>| -> String {
        redis::cmd("REGION")
            .arg("DIGEST")
            .arg(slot)
            .query(redis)
            .unwrap()
    };
    let () = one.set("{a}k", "v").unwrap();
    assert!(wait_until(LIMIT, || digest(&mut one, None) == digest(&mut two, None)));
    server.0.cut(1, 2);
    let (slot_a, slot_b) = (Some(15495), Some(3300));
    let () = one.set("{a}k", "w").unwrap();
    assert_ne!(digest(&mut one, None), digest(&mut two, None));
    assert_ne!(digest(&mut one, slot_a), digest(&mut two, slot_a));
    assert_eq!(digest(&mut one, slot_b), digest(&mut two, slot_b));
    server.0.heal(1, 2);
    assert!(wait_until(LIMIT, || digest(&mut one, None) == digest(&mut two, None)));
}

#[test]
fn explain_tells_what_a_value_is_made_of() {
    let node = Node::start();
    let mut redis = node.raw();
    redis.run(&["SET", "k", "text"]);
    redis.run(&["EXPIRE", "k", "100"]);
    let explained = redis.run(&["REGION", "EXPLAIN", "k"]);
    assert_eq!(
        explained.field("type").and_then(|t| t.bytes()),
        Some(&b"string"[..])
    );
    let ends = explained.field("deadline-ms").and_then(testing::Value::int);
    assert!(ends.is_some(), "{explained:?}");
    // A node without other regions has none that it could name.
    let region = explained.field("deadline-region").and_then(|r| r.bytes());
    assert_eq!(region, Some(&b"1"[..]));
}

#[test]
fn info_counts_what_peers_did_wrong() {
    let server = Regions::start(2);
    let info = server.0.client(1).run(&["INFO", "regions"]);
    let text = String::from_utf8_lossy(info.bytes().unwrap()).into_owned();
    for figure in [
        "connections_refused",
        "connections_turned_away",
        "malformed",
        "rejected",
    ] {
        assert!(
            text.contains(&format!("geo_{figure}:0\r\n")),
            "{figure} in {text}"
        );
    }
    assert!(text.contains("geo_connections_lost:"), "{text}");
}

#[test]
fn explain_tells_of_containers_and_their_elements() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let run = |redis: &mut redis::Connection, words: &str| -> redis::Value {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query(redis).unwrap()
    };
    run(&mut one, "HSET h name x");
    run(&mut one, "HINCRBY h n 2");
    run(&mut one, "HPEXPIREAT h 9999999999999 FIELDS 1 n");
    run(&mut one, "RPUSH l a b");
    run(&mut one, "SADD s m");
    run(&mut one, "ZADD z 1.5 m");
    assert_eq!(wait(&mut one, 1, 10_000), 1);
    run(&mut two, "HINCRBY h n 3");
    run(&mut two, "ZINCRBY z 0.25 m");
    assert_eq!(wait(&mut two, 1, 10_000), 1);
    let mut explain =
        |words: &str| format!("{:?}", run(&mut one, &format!("REGION EXPLAIN {words}")));
    for (key, has) in [("h", "hash"), ("l", "list"), ("s", "set"), ("z", "zset")] {
        let told = explain(key);
        let count = if matches!(key, "h" | "l") { 2 } else { 1 };
        let count =
            format!("bulk-string('\"elements\"'), array([bulk-string('\"{has}\"'), int({count})])");
        assert!(told.contains(&count), "{told}");
    }
    let told = explain("h n");
    for wanted in [
        "\"field\"",
        "int(9999999999999)",
        "\"one\"",
        "\"two\"",
        "'\"2\"'",
        "'\"3\"'",
    ] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    let told = explain("z m");
    for wanted in ["\"score\"", "int(8)", "\"one\"", "\"two\"", "'\"0.25\"'"] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    assert!(explain("s m").contains("\"one\""));
    assert!(explain("s other").contains("\"none\""));
}
