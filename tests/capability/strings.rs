//! Strings and counters.

use redis::{Commands as _, ExistenceCheck, SetExpiry, SetOptions};

use crate::{Node, error_of};

#[test]
fn values_are_bytes_and_come_back_as_they_went() {
    let node = Node::start();
    let mut redis = node.connect();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let () = redis.set("bytes", &value).unwrap();
    assert_eq!(redis.get::<_, Vec<u8>>("bytes").unwrap(), value);
    assert_eq!(redis.strlen::<_, usize>("bytes").unwrap(), value.len());
    assert_eq!(redis.get::<_, Option<String>>("missing").unwrap(), None);
    assert_eq!(
        redis.getrange::<_, Vec<u8>>("bytes", -2, -1).unwrap(),
        value[value.len() - 2..]
    );
}

#[test]
fn conditions_decide_whether_set_writes() {
    let node = Node::start();
    let mut redis = node.connect();
    let only_new = || SetOptions::default().conditional_set(ExistenceCheck::NX);
    let only_old = || SetOptions::default().conditional_set(ExistenceCheck::XX);
    let set = |redis: &mut redis::Connection, value: &str, options| -> Option<String> {
        redis.set_options("k", value, options).unwrap()
    };
    assert_eq!(set(&mut redis, "0", only_old()), None);
    assert_eq!(set(&mut redis, "1", only_new()).as_deref(), Some("OK"));
    assert_eq!(set(&mut redis, "2", only_new()), None);
    assert_eq!(
        set(&mut redis, "3", only_old().get(true)).as_deref(),
        Some("1")
    );
    assert_eq!(redis.get::<_, String>("k").unwrap(), "3");
    let with_deadline = SetOptions::default().with_expiration(SetExpiry::EX(100));
    set(&mut redis, "4", with_deadline);
    assert!((99..=100).contains(&redis.ttl::<_, i64>("k").unwrap()));
}

#[test]
fn counters_count_and_refuse_what_is_no_number() {
    let node = Node::start();
    let mut redis = node.connect();
    assert_eq!(redis.incr::<_, _, i64>("n", 5).unwrap(), 5);
    assert_eq!(redis.decr::<_, _, i64>("n", 7).unwrap(), -2);
    assert_eq!(redis.incr::<_, _, String>("f", 0.1).unwrap(), "0.1");
    assert_eq!(redis.incr::<_, _, String>("f", 0.2).unwrap(), "0.3");
    let () = redis.set("text", "abc").unwrap();
    assert!(error_of(redis.incr::<_, _, i64>("text", 1)).contains("not an integer"));
    let () = redis.set("limit", i64::MAX).unwrap();
    assert!(error_of(redis.incr::<_, _, i64>("limit", 1)).contains("overflow"));
    assert_eq!(redis.get::<_, i64>("limit").unwrap(), i64::MAX);
}

#[test]
fn several_keys_at_once() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.mset(&[("{t}a", "1"), ("{t}b", "2")]).unwrap();
    let values: Vec<Option<String>> = redis.mget(&["{t}b", "{t}none", "{t}a"]).unwrap();
    assert_eq!(values, [Some("2".to_owned()), None, Some("1".to_owned())]);
    assert!(
        !redis
            .mset_nx::<_, _, bool>(&[("{t}a", "9"), ("{t}c", "9")])
            .unwrap()
    );
    assert!(!redis.exists::<_, bool>("{t}c").unwrap());
    assert_eq!(redis.del::<_, usize>(&["{t}a", "{t}b", "{t}c"]).unwrap(), 2);
}
