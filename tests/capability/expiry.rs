//! Deadlines of keys and fields, in one region and in several.

use std::time::Duration;

use redis::{Commands as _, ExpireOption};
use testing::wait_until;

use crate::{Node, Regions};

const LIMIT: Duration = Duration::from_secs(15);

/// A line of `INFO`.
fn info(redis: &mut redis::Connection, name: &str) -> String {
    let text: String = redis::cmd("INFO").query(redis).unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

/// Whether nothing is kept at a key, hidden or not.
fn is_removed(redis: &mut redis::Connection, key: &str) -> bool {
    let facts: redis::Value = redis::cmd("REGION")
        .arg("EXPLAIN")
        .arg(key)
        .query(redis)
        .unwrap();
    let pairs = facts.as_map_iter().expect("a map");
    let mut types = pairs
        .filter(|(name, _)| matches!(name, redis::Value::BulkString(name) if name == b"types"));
    let (_, types) = types.next().expect("it says which types there are");
    types.as_sequence().expect("a list").is_empty()
}

#[test]
fn a_key_ends_at_its_deadline() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.set("short", "v").unwrap();
    let () = redis.set("long", "v").unwrap();
    assert!(redis.pexpire::<_, bool>("short", 100).unwrap());
    assert!(redis.expire::<_, bool>("long", 1000).unwrap());
    assert!(wait_until(Duration::from_secs(5), || !redis
        .exists::<_, bool>("short")
        .unwrap()));
    assert_eq!(redis.ttl::<_, i64>("short").unwrap(), -2);
    assert!((999..=1000).contains(&redis.ttl::<_, i64>("long").unwrap()));
    assert!(redis.persist::<_, bool>("long").unwrap());
    assert_eq!(redis.ttl::<_, i64>("long").unwrap(), -1);
}

#[test]
fn what_nobody_reads_is_removed_too() {
    let node = Node::start();
    let mut redis = node.connect();
    let mut pipeline = redis::pipe();
    for number in 0..500 {
        pipeline.pset_ex(format!("k{number}"), "v", 50).ignore();
    }
    let () = pipeline.query(&mut redis).unwrap();
    let () = redis.set("stays", "v").unwrap();
    assert!(wait_until(Duration::from_secs(10), || {
        let size: usize = redis::cmd("DBSIZE").query(&mut redis).unwrap();
        size == 1
    }));
}

#[test]
fn a_new_life_has_no_old_deadline() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.rpush("k", 1).unwrap();
    let () = redis.expire("k", 40).unwrap();
    let () = redis.rpop("k", None).unwrap();
    let () = redis.incr("k", 1).unwrap();
    assert_eq!(redis.ttl::<_, i64>("k").unwrap(), -1);
}

#[test]
fn info_counts_what_will_end_and_what_has_ended() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.set("stays", "v").unwrap();
    let () = redis.set_ex("later", "v", 1_000).unwrap();
    let keyspace = info(&mut redis, "db0");
    let ttl_ms = keyspace.strip_prefix("keys=2,expires=1,avg_ttl=");
    let ttl_ms: u64 = ttl_ms.expect(&keyspace).parse().unwrap();
    assert!((900_000..=1_000_000).contains(&ttl_ms), "{keyspace}");
    let () = redis.pset_ex("soon", "v", 20).unwrap();
    let () = redis
        .hset_multiple("h", &[("soon", "v"), ("stays", "v")])
        .unwrap();
    let _: Vec<i64> = redis
        .hpexpire("h", 20, ExpireOption::NONE, &["soon"])
        .unwrap();
    assert!(wait_until(LIMIT, || {
        let ended = ["expired_keys", "expired_subkeys"].map(|name| info(&mut redis, name));
        ended == ["1", "1"]
    }));
    assert_eq!(
        info(&mut redis, "db0")[..17],
        keyspace.replace("keys=2", "keys=3")[..17]
    );
}

#[test]
fn what_has_ended_is_not_listed() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.set("stays", "v").unwrap();
    for number in 0..50 {
        let () = redis.pset_ex(format!("k{number}"), "v", 30).unwrap();
    }
    assert!(wait_until(LIMIT, || !redis
        .exists::<_, bool>("k49")
        .unwrap()));
    assert_eq!(redis.keys::<_, Vec<String>>("*").unwrap(), ["stays"]);
    let scanned: Vec<String> = redis.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(scanned, ["stays"]);
    let random: String = redis::cmd("RANDOMKEY").query(&mut redis).unwrap();
    assert_eq!(random, "stays");
    assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut redis).unwrap(), 1);
}

#[test]
fn a_hash_whose_last_field_ends_is_gone() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.hset_multiple("h", &[("a", "1"), ("b", "2")]).unwrap();
    let () = redis.expire("h", 1_000).unwrap();
    let _: Vec<i64> = redis
        .hpexpire("h", 50, ExpireOption::NONE, &["a", "b"])
        .unwrap();
    assert!(wait_until(LIMIT, || is_removed(&mut redis, "h")));
    assert!(!redis.exists::<_, bool>("h").unwrap());
    let () = redis.hset("h", "c", "3").unwrap();
    assert_eq!(redis.ttl::<_, i64>("h").unwrap(), -1, "a new life");
}

#[test]
fn a_watched_key_that_ends_stops_the_transaction() {
    let node = Node::start();
    let (mut redis, mut other) = (node.connect(), node.connect());
    let () = redis.pset_ex("k", "v", 60).unwrap();
    let () = redis
        .hset_multiple("h", &[("soon", "1"), ("stays", "2")])
        .unwrap();
    let _: Vec<i64> = redis
        .hpexpire("h", 60, ExpireOption::NONE, &["soon"])
        .unwrap();
    for key in ["k", "h"] {
        let () = redis::cmd("WATCH").arg(key).query(&mut redis).unwrap();
        assert!(wait_until(LIMIT, || {
            let fields: usize = other.hlen("h").unwrap();
            fields == 1 && !other.exists::<_, bool>("k").unwrap()
        }));
        let done: Option<(String,)> = redis::pipe()
            .atomic()
            .set("done", key)
            .query(&mut redis)
            .unwrap();
        // A key that had ended before it was watched does not end again.
        let expected = (key == "h").then(|| ("OK".to_owned(),));
        assert_eq!(done, expected, "{key}");
    }
}

#[test]
fn what_ends_is_removed_in_all_regions() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let () = two.pset_ex("string", "v", 300).unwrap();
    let () = two.incr("counter", 1).unwrap();
    let () = two.pexpire("counter", 300).unwrap();
    let () = two.hset("hash", "field", "v").unwrap();
    let _: Vec<i64> = two
        .hpexpire("hash", 300, ExpireOption::NONE, &["field"])
        .unwrap();
    for redis in [&mut one, &mut two] {
        assert!(wait_until(LIMIT, || {
            let ended = ["expired_keys", "expired_subkeys"].map(|name| info(redis, name));
            ended == ["2", "1"]
        }));
        for key in ["string", "counter", "hash"] {
            assert!(is_removed(redis, key), "{key}");
        }
    }
}

/// The link is slow: the extension is on its way when the deadline passes.
#[test]
fn an_extension_just_before_the_deadline_holds() {
    let server = Regions::start(2);
    server.0.shape(1, 2, "rtt=1s");
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let () = one.set("first", "v").unwrap();
    assert!(wait_until(LIMIT, || two.exists("first").unwrap()));
    let extended = (0..5).find(|number| {
        let key = format!("k{number}");
        let () = one.pset_ex(&key, "v", 2_000).unwrap();
        assert!(wait_until(LIMIT, || two.exists(&key).unwrap()));
        assert!(wait_until(LIMIT, || two.pttl::<_, i64>(&key).unwrap() < 200));
        // Whoever is too late tries again.
        two.persist(&key).unwrap()
    });
    let key = format!("k{}", extended.expect("it is not too late each time"));
    assert!(
        wait_until(LIMIT, || !one.exists::<_, bool>(&key).unwrap()),
        "hidden"
    );
    assert!(wait_until(LIMIT, || one.exists(&key).unwrap()), "and back");
    // Once others that ended later are removed, it would be, too.
    let () = one.pset_ex("later", "v", 10).unwrap();
    for redis in [&mut one, &mut two] {
        assert!(wait_until(LIMIT, || is_removed(redis, "later")));
        assert_eq!(redis.ttl::<_, i64>(&key).unwrap(), -1);
        assert_eq!(redis.get::<_, String>(&key).unwrap(), "v");
    }
}

#[test]
fn where_the_setter_is_gone_another_region_removes() {
    let server = Regions::start(3);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let () = one.pset_ex("k", "v", 1_000).unwrap();
    assert!(wait_until(LIMIT, || two.exists("k").unwrap()));
    server.0.node(1, "kill");
    assert!(wait_until(LIMIT, || !two.exists::<_, bool>("k").unwrap()));
    assert!(
        !is_removed(&mut two, "k"),
        "hidden, and kept for expiry-grace"
    );
    assert!(wait_until(2 * LIMIT, || is_removed(&mut two, "k")));
    assert!(wait_until(LIMIT, || is_removed(
        &mut server.connect(3),
        "k"
    )));
}
