//! `MULTI`, `EXEC`, `WATCH`.

use redis::Commands as _;

use crate::Node;

#[test]
fn a_transaction_runs_as_one() {
    let node = Node::start();
    let mut redis = node.connect();
    let (first, second): (i64, String) = redis::pipe()
        .atomic()
        .incr("{t}n", 1)
        .set("{t}s", "v")
        .ignore()
        .get("{t}s")
        .query(&mut redis)
        .unwrap();
    assert_eq!((first, second.as_str()), (1, "v"));
}

#[test]
fn a_watched_key_that_changed_stops_it_and_the_client_tries_again() {
    let node = Node::start();
    let (mut redis, mut other) = (node.connect(), node.connect());
    let mut tries = 0;
    let (after,): (i64,) = redis::transaction(&mut redis, &["n"], |redis, pipeline| {
        tries += 1;
        let before: Option<i64> = redis.get("n")?;
        if tries == 1 {
            let () = other.set("n", 100)?;
        }
        pipeline
            .set("n", before.unwrap_or(0) + 1)
            .ignore()
            .get("n")
            .query(redis)
    })
    .unwrap();
    assert_eq!((tries, after), (2, 101));
}

#[test]
fn a_mistake_while_queueing_stops_it_all() {
    let node = Node::start();
    let mut redis = node.raw();
    redis.run(&["MULTI"]);
    redis.run(&["SET", "k", "v"]);
    assert!(redis.run(&["SET", "k"]).error().is_some());
    let exec = redis.run(&["EXEC"]);
    assert!(
        exec.error()
            .is_some_and(|text| text.starts_with("EXECABORT")),
        "{exec:?}"
    );
    assert_eq!(redis.run(&["EXISTS", "k"]).int(), Some(0));
}

#[test]
fn slots_do_not_mix_in_a_transaction() {
    let node = Node::start();
    let mut redis = node.raw();
    redis.run(&["MULTI"]);
    redis.run(&["SET", "{a}k", "1"]);
    redis.run(&["SET", "{b}k", "2"]);
    let exec = redis.run(&["EXEC"]);
    assert!(exec.error().is_some(), "{exec:?}");
    assert_eq!(redis.run(&["EXISTS", "{a}k"]).int(), Some(0));
}
