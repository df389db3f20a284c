//! Regions that lack more than the logs hold catch up by state.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::{Regions, connect};

const LIMIT: Duration = Duration::from_mins(1);
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 1_000;

/// Logs of a MiB, in memory.
fn forgetful(count: usize) -> Regions {
    Regions::with(count, &["--", "--dir", "", "--geo-log-memory", "1MiB"])
}

fn fill(redis: &mut redis::Connection, names: impl Iterator<Item = String>, with: &str) {
    let names: Vec<String> = names.collect();
    let value = with.repeat(VALUE_BYTES / with.len());
    for names in names.chunks(500) {
        let mut pipeline = redis::pipe();
        for name in names {
            pipeline.set(name, &value).ignore();
        }
        let () = pipeline.query(redis).unwrap();
    }
}

/// What `INFO` says of a region.
fn figures(redis: &mut redis::Connection, region: &str) -> BTreeMap<String, String> {
    let text: String = redis::cmd("INFO").arg("regions").query(redis).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("region_{region}:")))
        .unwrap_or_else(|| panic!("{region} has a line in {text}"));
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn number(redis: &mut redis::Connection, region: &str, name: &str) -> usize {
    figures(redis, region)[name].parse().unwrap()
}

fn wait_for_down(redis: &mut redis::Connection, region: &str) {
    assert!(wait_until(LIMIT, || figures(redis, region)["state"] == "down"));
}

#[track_caller]
fn check_in_sync(server: &Regions) {
    let mut clients: Vec<_> = (1..=server.0.regions())
        .map(|region| (region, server.0.client(region)))
        .collect();
    let in_sync = wait_until(LIMIT, || server.0.in_sync(&mut clients, |_, _| true));
    assert!(in_sync, "not in sync; it said:\n{}", server.0.log());
}

#[test]
fn a_region_beyond_the_budget_gets_what_differs_and_little_else() {
    let server = forgetful(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    fill(&mut one, (0..KEYS).map(|key| format!("key:{key}")), "a");
    check_in_sync(&server);
    // Where it was filled faster than the link went, the log was too short already then.
    let before = number(&mut two, "one", "state_bytes_received");
    server.0.cut(1, 2);
    wait_for_down(&mut one, "two");
    wait_for_down(&mut two, "one");
    // One per cent of the keys, so often that no log holds it; and counters in the other region.
    let differing = || (0..KEYS).filter(|key| key * 7 % 100 == 0);
    for round in 0..20 {
        let with = if round == 19 { "c" } else { "b" };
        fill(&mut one, differing().map(|key| format!("key:{key}")), with);
    }
    for _ in 0..200 {
        let mut pipeline = redis::pipe();
        for counter in 0..200 {
            pipeline.incr(format!("counter:{counter}"), 1).ignore();
        }
        let () = pipeline.query(&mut two).unwrap();
    }
    server.0.heal(1, 2);
    // Both go on meanwhile.
    for round in 0..50 {
        let () = one.incr("new", 1).unwrap();
        let () = two.set(format!("two:{round}"), round).unwrap();
    }
    check_in_sync(&server);
    for redis in [&mut one, &mut two] {
        let dbsize: usize = redis::cmd("DBSIZE").query(redis).unwrap();
        assert_eq!(dbsize, KEYS + 200 + 1 + 50);
        for key in differing() {
            let value: String = redis.get(format!("key:{key}")).unwrap();
            assert!(value.starts_with("cc"), "key {key}");
        }
        for counter in 0..200 {
            let count: usize = redis.get(format!("counter:{counter}")).unwrap();
            assert_eq!(count, 200);
        }
        assert_eq!(redis.get::<_, usize>("new").unwrap(), 50);
    }
    let shipped = number(&mut two, "one", "state_bytes_received") - before;
    assert!(0 < number(&mut two, "one", "caught_up_shards"));
    assert!(
        shipped * 20 < KEYS * VALUE_BYTES,
        "{shipped} bytes for one per cent of {KEYS} keys"
    );
}

#[test]
fn a_node_that_starts_again_is_filled_up_with_more_than_logs_hold() {
    let server = forgetful(2);
    let mut one = server.connect(1);
    fill(&mut one, (0..KEYS).map(|key| format!("key:{key}")), "a");
    let () = one.incr("counter", 7).unwrap();
    check_in_sync(&server);
    server.0.node(2, "kill");
    server.0.node(2, "start");
    let two = || connect(&format!("redis://{}", server.0.address(2)));
    assert!(
        wait_until(LIMIT, || two().get::<_, usize>("counter").is_ok()),
        "it serves by itself; it said:\n{}",
        server.0.log()
    );
    let () = two().incr("counter", 1).unwrap();
    check_in_sync(&server);
    assert_eq!(one.get::<_, usize>("counter").unwrap(), 8);
    let dbsize: usize = redis::cmd("DBSIZE").query(&mut two()).unwrap();
    assert_eq!(dbsize, KEYS + 1);
}

fn save(redis: &mut redis::Connection) {
    let saved = || redis::cmd("SAVE").query::<String>(redis).is_ok();
    assert!(wait_until(LIMIT, saved));
}

#[test]
fn what_came_as_state_is_on_disk_among_the_ops_that_rest_on_it() {
    let flags = ["--", "--geo-log-memory", "1MiB", "--geo-log-budget", "1MiB"];
    let server = Regions::with(2, &flags);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let names = |keys: std::ops::Range<usize>| keys.map(|key| format!("key:{key}"));
    fill(&mut one, names(0..KEYS), "a");
    check_in_sync(&server);
    server.0.cut(1, 2);
    wait_for_down(&mut one, "two");
    for _ in 0..5 {
        fill(&mut one, names(0..KEYS / 4), "b");
    }
    let () = one.incr("counter", 1).unwrap();
    let () = two.incr("counter", 2).unwrap();
    // The log is cut behind a snapshot before the next is begun.
    save(&mut one);
    save(&mut one);
    server.0.heal(1, 2);
    check_in_sync(&server);
    assert!(0 < number(&mut two, "one", "caught_up_shards"));
    let () = two.incr("counter", 4).unwrap();
    let () = two.append("key:0", "+").unwrap();
    check_in_sync(&server);
    // First from the log alone, then from a snapshot of what came, and the log since.
    for round in 0..2 {
        server.0.node(2, "kill");
        server.0.node(2, "start");
        two = connect(&format!("redis://{}", server.0.address(2)));
        assert!(wait_until(LIMIT, || two.get::<_, usize>("counter").is_ok()));
        assert_eq!(two.get::<_, usize>("counter").unwrap(), 7 + round);
        let text: String = two.get("key:0").unwrap();
        assert!(text.starts_with('b') && text.ends_with("b+"));
        assert_eq!(
            redis::cmd("DBSIZE").query::<usize>(&mut two).unwrap(),
            KEYS + 1
        );
        let () = two.incr("counter", 1).unwrap();
        check_in_sync(&server);
        save(&mut two);
    }
}
