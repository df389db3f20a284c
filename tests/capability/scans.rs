//! Scans: what is there throughout is returned, whatever else comes and goes.

use std::collections::BTreeSet;

use redis::Commands as _;

use crate::Node;

#[test]
fn a_scan_returns_all_that_stays() {
    const STAYING: usize = 3_000;
    let node = Node::start();
    let mut redis = node.connect();
    let mut pipeline = redis::pipe();
    for number in 0..STAYING {
        pipeline.set(format!("stays:{number}"), number).ignore();
        pipeline.set(format!("goes:{number}"), number).ignore();
    }
    let () = pipeline.query(&mut redis).unwrap();
    let (mut cursor, mut seen, mut step) = (0_u64, BTreeSet::new(), 0);
    loop {
        let (next, found): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("COUNT")
            .arg(50)
            .query(&mut redis)
            .unwrap();
        seen.extend(found);
        // Others come and go meanwhile.
        let mut pipeline = redis::pipe();
        for number in step * 40..(step + 1) * 40 {
            pipeline.del(format!("goes:{number}")).ignore();
            pipeline.set(format!("comes:{number}"), number).ignore();
        }
        let () = pipeline.query(&mut redis).unwrap();
        (cursor, step) = (next, step + 1);
        if cursor == 0 {
            break;
        }
        assert!(step < 10_000, "the scan does not end");
    }
    let missing = (0..STAYING)
        .filter(|number| !seen.contains(&format!("stays:{number}")))
        .count();
    assert_eq!(missing, 0, "of {STAYING} that were there throughout");
}

#[test]
fn scans_of_containers_return_every_member() {
    const MEMBERS: usize = 1_500;
    let node = Node::start();
    let mut redis = node.connect();
    let mut pipeline = redis::pipe();
    for number in 0..MEMBERS {
        pipeline.hset("h", format!("f{number}"), number).ignore();
        pipeline.sadd("s", format!("m{number}")).ignore();
        pipeline.zadd("z", format!("m{number}"), number).ignore();
    }
    let () = pipeline.query(&mut redis).unwrap();
    let fields: BTreeSet<(String, usize)> = redis
        .hscan("h")
        .unwrap()
        .collect::<redis::RedisResult<_>>()
        .unwrap();
    let members: BTreeSet<String> = redis
        .sscan("s")
        .unwrap()
        .collect::<redis::RedisResult<_>>()
        .unwrap();
    let scored: BTreeSet<(String, usize)> = redis
        .zscan("z")
        .unwrap()
        .collect::<redis::RedisResult<_>>()
        .unwrap();
    assert_eq!(
        (fields.len(), members.len(), scored.len()),
        (MEMBERS, MEMBERS, MEMBERS)
    );
}

#[test]
fn patterns_and_types_filter() {
    let node = Node::start();
    let mut redis = node.connect();
    let () = redis.set("user:1", "x").unwrap();
    let () = redis.sadd("user:2", "x").unwrap();
    let () = redis.set("other", "x").unwrap();
    let users: BTreeSet<String> = redis
        .scan_match("user:*")
        .unwrap()
        .collect::<redis::RedisResult<_>>()
        .unwrap();
    assert_eq!(
        users,
        BTreeSet::from(["user:1".to_owned(), "user:2".to_owned()])
    );
    let (_, sets): (u64, Vec<String>) = redis::cmd("SCAN")
        .arg(0)
        .arg("COUNT")
        .arg(1000)
        .arg("TYPE")
        .arg("set")
        .query(&mut redis)
        .unwrap();
    assert!(sets.iter().all(|key| key == "user:2"), "{sets:?}");
}

#[test]
fn a_cursor_that_nobody_gave_out_harms_nobody() {
    let node = Node::start();
    let mut redis = node.raw();
    redis.run(&["SET", "k", "v"]);
    for cursor in [
        "1",
        "99",
        "4294967295",
        "281474976710655",
        "18446744073709551615",
    ] {
        let reply = redis.run(&["SCAN", cursor]);
        assert!(reply.error().is_none(), "{cursor}: {reply:?}");
    }
    assert_eq!(redis.run(&["GET", "k"]).bytes(), Some(&b"v"[..]));
}
