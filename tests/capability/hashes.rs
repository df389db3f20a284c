//! Hashes, and deadlines of single fields.

use std::collections::BTreeMap;

use redis::{Commands as _, ExpireOption};
use testing::wait_until;

use crate::Node;
use std::time::Duration;

#[test]
fn fields_are_set_read_counted_and_removed() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis
        .hset_multiple("h", &[("a", "1"), ("b", "2"), ("c", "3")])
        .unwrap();
    assert_eq!(redis.hincr::<_, _, _, i64>("h", "a", 41).unwrap(), 42);
    assert!(!redis.hset_nx::<_, _, _, bool>("h", "b", "9").unwrap());
    assert_eq!(redis.hdel::<_, _, usize>("h", &["c", "none"]).unwrap(), 1);
    let all: BTreeMap<String, String> = redis.hgetall("h").unwrap();
    let expected = [("a", "42"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(all, BTreeMap::from(expected));
    assert_eq!(redis.hdel::<_, _, usize>("h", &["a", "b"]).unwrap(), 2);
    assert!(!redis.exists::<_, bool>("h").unwrap());
}

#[test]
fn a_field_ends_at_its_deadline_and_the_others_stay() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis
        .hset_multiple("h", &[("short", "1"), ("long", "2"), ("ever", "3")])
        .unwrap();
    let set: Vec<i64> = redis
        .hpexpire("h", 150, ExpireOption::NONE, &["short"])
        .unwrap();
    assert_eq!(set, [1]);
    let set: Vec<i64> = redis
        .hexpire("h", 100, ExpireOption::NONE, &["long", "none"])
        .unwrap();
    assert_eq!(set, [1, -2]);
    let left: Vec<i64> = redis.httl("h", &["long", "ever", "none"]).unwrap();
    assert!((99..=100).contains(&left[0]), "{left:?}");
    assert_eq!(left[1..], [-1, -2]);
    assert!(wait_until(Duration::from_secs(5), || {
        redis.hlen::<_, usize>("h").unwrap() == 2
    }));
    assert_eq!(
        redis.hget::<_, _, Option<String>>("h", "short").unwrap(),
        None
    );
    let kept: Vec<i64> = redis.hpersist("h", &["long"]).unwrap();
    assert_eq!(kept, [1]);
}
