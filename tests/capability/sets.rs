//! Sets.

use std::collections::BTreeSet;

use redis::Commands as _;

use crate::{Node, error_of};

fn texts(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(ToString::to_string).collect()
}

#[test]
fn members_are_there_once() {
    let node = Node::start();
    let mut redis = node.connect();
    assert_eq!(redis.sadd::<_, _, usize>("s", &["a", "b", "a"]).unwrap(), 2);
    assert_eq!(redis.sadd::<_, _, usize>("s", "a").unwrap(), 0);
    assert!(redis.sismember::<_, _, bool>("s", "a").unwrap());
    assert_eq!(
        redis.smembers::<_, BTreeSet<String>>("s").unwrap(),
        texts(&["a", "b"])
    );
    let popped: String = redis.spop("s").unwrap();
    assert!(texts(&["a", "b"]).contains(&popped));
    assert_eq!(redis.scard::<_, usize>("s").unwrap(), 1);
}

#[test]
fn sets_combine_within_a_slot() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.sadd("{s}1", &["a", "b", "c"]).unwrap();
    let () = redis.sadd("{s}2", &["b", "c", "d"]).unwrap();
    let both = ["{s}1", "{s}2"];
    assert_eq!(
        redis.sinter::<_, BTreeSet<String>>(&both).unwrap(),
        texts(&["b", "c"])
    );
    assert_eq!(
        redis.sunion::<_, BTreeSet<String>>(&both).unwrap(),
        texts(&["a", "b", "c", "d"])
    );
    assert_eq!(redis.sdiffstore::<_, _, usize>("{s}3", &both).unwrap(), 1);
    assert_eq!(
        redis.smembers::<_, BTreeSet<String>>("{s}3").unwrap(),
        texts(&["a"])
    );
    let across = redis.sinter::<_, BTreeSet<String>>(&["{s}1", "{other}1"]);
    assert!(error_of(across).to_uppercase().contains("SLOT"));
}
