//! `MULTI`, `EXEC`, `WATCH`.

use redis::Commands as _;

use crate::{Server, error_of};

#[test]
fn a_transaction_runs_as_one() {
    let server = Server::node();
    let mut redis = server.connect(1);
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
    let server = Server::node();
    let (mut redis, mut other) = (server.connect(1), server.connect(1));
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
    let server = Server::node();
    let mut redis = server.raw();
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
    let server = Server::node();
    let mut redis = server.connect(1);
    let mixed: redis::RedisResult<()> = redis::pipe()
        .atomic()
        .set("{a}k", 1)
        .set("{b}k", 2)
        .query(&mut redis);
    let text = error_of(mixed).to_uppercase();
    assert!(
        text.contains("SLOT") || text.contains("EXECABORT"),
        "{text}"
    );
    assert!(!redis.exists::<_, bool>("{a}k").unwrap());
}
