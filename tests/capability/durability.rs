//! What was acknowledged is there after the process has ended, however it did.

use std::fs;
use std::time::Duration;

use redis::Commands as _;
use testing::{Client, Value, wait_until};

use crate::{Node, Regions};

const SYNC_LIMIT: Duration = Duration::from_secs(15);

/// One of each type, with deadlines.
fn write_some(redis: &mut redis::Connection) {
    let () = redis.set_ex("string", "value", 1_000).unwrap();
    let () = redis.incr("counter", 41).unwrap();
    let () = redis.incr("counter", 1).unwrap();
    let () = redis.append("text", "a").unwrap();
    let () = redis.append("text", "b").unwrap();
    let () = redis.hset("hash", "field", "value").unwrap();
    let () = redis.rpush("list", &["a", "b", "c"]).unwrap();
    let () = redis.lpop("list", None).unwrap();
    let () = redis.sadd("set", &["a", "b"]).unwrap();
    let () = redis.srem("set", "a").unwrap();
    let () = redis.zadd("zset", "member", 1.5).unwrap();
    let () = redis.set("gone", 1).unwrap();
    let () = redis.del("gone").unwrap();
    let () = redis::pipe()
        .atomic()
        .set("{t}a", 1)
        .set("{t}b", 2)
        .query(redis)
        .unwrap();
}

#[track_caller]
fn check_all_there(redis: &mut redis::Connection) {
    assert_eq!(redis.get::<_, String>("string").unwrap(), "value");
    let left: u64 = redis.ttl("string").unwrap();
    assert!((900..=1_000).contains(&left), "{left}");
    assert_eq!(redis.get::<_, u64>("counter").unwrap(), 42);
    assert_eq!(redis.get::<_, String>("text").unwrap(), "ab");
    assert_eq!(
        redis.hget::<_, _, String>("hash", "field").unwrap(),
        "value"
    );
    assert_eq!(
        redis.lrange::<_, Vec<String>>("list", 0, -1).unwrap(),
        ["b", "c"]
    );
    assert_eq!(redis.smembers::<_, Vec<String>>("set").unwrap(), ["b"]);
    assert_eq!(
        redis.zscore::<_, _, String>("zset", "member").unwrap(),
        "1.5"
    );
    assert!(!redis.exists::<_, bool>("gone").unwrap());
    assert_eq!(redis.mget::<_, Vec<u8>>(&["{t}a", "{t}b"]).unwrap(), [1, 2]);
}

#[test]
fn a_node_that_was_killed_has_what_it_acknowledged_and_goes_on() {
    for fsync in ["always", "everysec", "no"] {
        let mut node = Node::with(&format!("dir = 'data'\nappendfsync = '{fsync}'"));
        write_some(&mut node.connect());
        for _ in 0..2 {
            node.0.kill();
            node.0.start_again().unwrap();
            check_all_there(&mut node.connect());
        }
        let () = node.connect().incr("counter", 1).unwrap();
        node.0.stop();
        node.0.start_again().unwrap();
        assert_eq!(node.connect().get::<_, u64>("counter").unwrap(), 43);
    }
}

#[test]
fn without_a_data_directory_everything_is_gone() {
    let mut node = Node::start();
    write_some(&mut node.connect());
    node.0.kill();
    node.0.start_again().unwrap();
    assert!(!node.connect().exists::<_, bool>("string").unwrap());
}

#[test]
fn all_regions_can_stop_at_once() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let () = one.incr("counter", 1).unwrap();
    let () = two.incr("counter", 2).unwrap();
    let () = one.rpush("list", "one").unwrap();
    server.check_in_sync();
    for region in [1, 2] {
        server.0.node(region, "kill");
    }
    for region in [1, 2] {
        server.0.node(region, "start");
    }
    let () = server.connect(2).rpush("list", "two").unwrap();
    server.check_in_sync();
    for region in [1, 2] {
        let mut redis = server.connect(region);
        assert_eq!(redis.get::<_, u64>("counter").unwrap(), 3);
        assert_eq!(
            redis.lrange::<_, Vec<String>>("list", 0, -1).unwrap(),
            ["one", "two"]
        );
    }
}

#[test]
fn a_write_that_only_a_killed_region_had_reaches_the_others_when_it_is_back() {
    let server = Regions::start(3);
    let mut one = server.connect(1);
    let () = one.incr("counter", 1).unwrap();
    server.check_in_sync();
    server.0.cut(1, 2);
    server.0.cut(1, 3);
    let () = one.incr("counter", 10).unwrap();
    let () = server.connect(2).del("counter").unwrap();
    server.0.node(1, "kill");
    server.0.node(1, "start");
    let () = server.connect(1).incr("counter", 100).unwrap();
    server.0.heal_all();
    server.check_in_sync();
    for region in 1..=3 {
        let count: u64 = server.connect(region).get("counter").unwrap();
        assert_eq!(count, 110, "region {region}: the delete saw only the first");
    }
}

#[test]
fn a_link_that_lags_gets_from_disk_what_memory_has_dropped() {
    let flags = ["--", "--geo-log-memory", "1MiB"];
    let server = Regions::with(2, &flags);
    server.0.cut(1, 2);
    let mut one = server.connect(1);
    let value = "x".repeat(1_000);
    for batch in 0..10 {
        let mut pipeline = redis::pipe();
        for number in 0..500 {
            pipeline.set(format!("{batch}:{number}"), &value).ignore();
        }
        let () = pipeline.query(&mut one).unwrap();
    }
    server.0.heal(1, 2);
    server.check_in_sync();
    assert_eq!(
        redis::cmd("DBSIZE")
            .query::<u64>(&mut server.connect(2))
            .unwrap(),
        5_000
    );
}

#[test]
fn what_regions_have_kept_can_be_waited_for() {
    let server = Regions::start(3);
    let mut redis = server.0.client(1);
    redis.run(&["SET", "k", "v"]);
    let kept = redis.run(&["REGION", "WAIT", "2", "10000", "KEPT"]);
    assert_eq!(kept, Value::Int(2));
}

#[test]
fn damage_in_the_middle_stops_the_shard_that_it_is_in_and_says_where() {
    let mut node = Node::with("dir = 'data'\nshards = 4\nappendfsync = 'always'");
    let mut redis = node.raw();
    for number in 0..200 {
        redis.run(&["SET", &format!("k{number}"), "a value that is easily found"]);
    }
    node.0.stop();
    let path = node.0.folder().join("data/log/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"k100";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    node.0.start_again().unwrap();
    let mut redis: Client = node.raw();
    let (mut there, mut refused) = (0, 0);
    for number in 0..200 {
        let reply = redis.run(&["GET", &format!("k{number}")]);
        if let Some(text) = reply.error() {
            assert!(text.contains("00000000000000000001.log, byte"), "{text}");
            refused += 1;
        } else {
            assert!(reply.bytes().is_some(), "nothing is lost in silence");
            there += 1;
        }
    }
    assert!(
        100 < there && 20 < refused && there + refused == 200,
        "{there} {refused}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it is");
}

#[test]
fn a_snapshot_stands_for_the_log_before_it() {
    let mut node = Node::with("dir = 'data'");
    write_some(&mut node.connect());
    let mut redis = node.raw();
    for round in 0..3 {
        assert_eq!(redis.run(&["SAVE"]), Value::Simple(b"OK".to_vec()));
        redis.run(&["SET", "round", &round.to_string()]);
    }
    let waited = redis.run(&["WAITAOF", "1", "0", "10000"]);
    assert_eq!(waited, Value::Array(vec![Value::Int(1), Value::Int(0)]));
    let names = |folder| {
        let entries = fs::read_dir(node.0.folder().join("data").join(folder)).unwrap();
        entries.count()
    };
    let is_cut = wait_until(SYNC_LIMIT, || (names("snapshot"), names("log")) == (1, 1));
    assert!(is_cut, "{} segments", names("log"));
    node.0.kill();
    node.0.start_again().unwrap();
    let mut redis = node.connect();
    check_all_there(&mut redis);
    assert_eq!(redis.get::<_, u64>("round").unwrap(), 2);
}
