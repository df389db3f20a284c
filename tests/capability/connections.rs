//! Protocols, pipelines, and what clients and tools ask of a node.

use std::collections::BTreeMap;

use redis::{Commands as _, Value};

use crate::Node;

#[test]
fn resp3_has_maps_sets_and_doubles() {
    let node = Node::start();
    let mut redis = node.connect_resp3();
    let () = redis.hset("h", "f", "v").unwrap();
    let () = redis.sadd("s", "m").unwrap();
    let () = redis.zadd("z", "m", 1.5).unwrap();
    let map: Value = redis.hgetall("h").unwrap();
    assert!(matches!(map, Value::Map(_)), "{map:?}");
    let set: Value = redis.smembers("s").unwrap();
    assert!(matches!(set, Value::Set(_)), "{set:?}");
    let score: Value = redis.zscore("z", "m").unwrap();
    assert!(matches!(score, Value::Double(1.5)), "{score:?}");
    let none: Value = redis.get("none").unwrap();
    assert!(matches!(none, Value::Nil), "{none:?}");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    const COMMANDS: i64 = 10_000;
    let node = Node::start();
    let mut redis = node.connect();
    let mut pipeline = redis::pipe();
    for _ in 0..COMMANDS {
        pipeline.incr("n", 1);
    }
    let replies: Vec<i64> = pipeline.query(&mut redis).unwrap();
    assert!(replies.into_iter().eq(1..=COMMANDS));
}

#[test]
fn a_mistake_in_a_pipeline_is_one_reply_and_no_more() {
    let node = Node::start();
    let mut redis = node.raw();
    let commands = [
        vec!["SET", "k", "v"],
        vec!["INCR", "k"],
        vec!["NOSUCH"],
        vec!["GET", "k"],
    ];
    let replies = redis.pipeline(&commands).unwrap();
    assert!(
        replies[1].error().is_some() && replies[2].error().is_some(),
        "{replies:?}"
    );
    assert_eq!(replies[3].bytes(), Some(&b"v"[..]));
}

#[test]
fn inline_commands_work() {
    let node = Node::start();
    let mut redis = node.raw();
    redis
        .send_raw(b"SET inline \"two words\"\r\nGET inline\r\n")
        .unwrap();
    assert_eq!(redis.receive().unwrap().bytes(), Some(&b"OK"[..]));
    assert_eq!(redis.receive().unwrap().bytes(), Some(&b"two words"[..]));
}

#[test]
fn a_connection_has_a_name_and_a_place_in_the_list() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg("me")
        .query(&mut redis)
        .unwrap();
    let id: i64 = redis::cmd("CLIENT").arg("ID").query(&mut redis).unwrap();
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis).unwrap();
    let line = list
        .lines()
        .find(|line| line.starts_with(&format!("id={id} ")))
        .expect("our line");
    assert!(line.contains(" name=me "), "{line}");
}

#[test]
fn info_and_config_answer() {
    let node = Node::start();
    let mut redis = node.connect();
    let info: String = redis::cmd("INFO").query(&mut redis).unwrap();
    for section in [
        "# Server",
        "# Clients",
        "# Memory",
        "# Stats",
        "# Keyspace",
        "# Regions",
    ] {
        assert!(info.contains(section), "{section} is not in {info}");
    }
    let limit: BTreeMap<String, String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("maxclients")
        .query(&mut redis)
        .unwrap();
    assert!(limit["maxclients"].parse::<u64>().unwrap() > 0);
    let count: usize = redis::cmd("COMMAND")
        .arg("COUNT")
        .query(&mut redis)
        .unwrap();
    assert!(150 < count, "{count} commands");
}
