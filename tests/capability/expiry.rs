//! Deadlines of keys.

use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::Node;

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
