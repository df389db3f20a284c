//! Lists, and clients that wait for them.

use std::thread;
use std::time::Duration;

use redis::{Commands as _, Direction};
use testing::wait_until;

use crate::{Node, error_of};

#[test]
fn a_list_is_a_queue_a_stack_and_an_array() {
    let node = Node::start();
    let mut redis = node.connect();
    assert_eq!(redis.rpush::<_, _, usize>("l", &["b", "c"]).unwrap(), 2);
    assert_eq!(redis.lpush::<_, _, usize>("l", "a").unwrap(), 3);
    assert_eq!(
        redis
            .linsert_after::<_, _, _, isize>("l", "a", "a2")
            .unwrap(),
        4
    );
    let () = redis.lset("l", -1, "z").unwrap();
    assert_eq!(
        redis.lrange::<_, Vec<String>>("l", 0, -1).unwrap(),
        ["a", "a2", "b", "z"]
    );
    let moved: String = redis
        .lmove("l", "l", Direction::Left, Direction::Right)
        .unwrap();
    assert_eq!(moved, "a");
    assert_eq!(redis.lrem::<_, _, usize>("l", 0, "b").unwrap(), 1);
    let () = redis.ltrim("l", 0, 1).unwrap();
    assert_eq!(
        redis.lrange::<_, Vec<String>>("l", 0, -1).unwrap(),
        ["a2", "z"]
    );
    assert_eq!(
        redis
            .rpop::<_, Option<String>>("l", None)
            .unwrap()
            .as_deref(),
        Some("z")
    );
    let () = redis.set("s", "text").unwrap();
    assert!(error_of(redis.lpush::<_, _, usize>("s", "x")).contains("WRONGTYPE"));
}

#[test]
fn a_client_that_waits_gets_the_next_element() {
    let node = Node::start();
    let mut waiting = node.connect();
    let waiter = thread::spawn(move || {
        let got: Option<(String, String)> = waiting.blpop(&["{q}1", "{q}2"], 30.0).unwrap();
        got
    });
    let mut redis = node.connect();
    assert!(wait_until(Duration::from_secs(10), || {
        let info: String = redis::cmd("INFO").arg("clients").query(&mut redis).unwrap();
        info.contains("blocked_clients:1")
    }));
    let () = redis.rpush("{q}2", "job").unwrap();
    assert_eq!(
        waiter.join().unwrap(),
        Some(("{q}2".to_owned(), "job".to_owned()))
    );
    assert!(!redis.exists::<_, bool>("{q}2").unwrap());
}

#[test]
fn those_who_wait_longest_are_served_first() {
    let node = Node::start();
    let mut redis = node.connect();
    let waiters: Vec<_> = (1..=3)
        .map(|number| {
            let mut waiting = node.connect();
            let waiter = thread::spawn(move || waiting.blpop::<_, (String, String)>("q", 30.0));
            let expected = format!("blocked_clients:{number}");
            assert!(wait_until(Duration::from_secs(10), || {
                let info: String = redis::cmd("INFO").arg("clients").query(&mut redis).unwrap();
                info.contains(&expected)
            }));
            waiter
        })
        .collect();
    let () = redis.rpush("q", &["first", "second", "third"]).unwrap();
    let got = waiters
        .into_iter()
        .map(|waiter| waiter.join().unwrap().unwrap().1);
    assert_eq!(got.collect::<Vec<_>>(), ["first", "second", "third"]);
}

#[test]
fn waiting_ends_when_its_time_is_over() {
    let node = Node::start();
    let mut redis = node.connect();
    assert_eq!(
        redis
            .blpop::<_, Option<(String, String)>>("none", 0.05)
            .unwrap(),
        None
    );
    assert_eq!(
        redis
            .brpop::<_, Option<(String, String)>>("none", 0.05)
            .unwrap(),
        None
    );
}
