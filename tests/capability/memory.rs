//! Limits of memory: what is refused, what goes on, what is evicted, and how regions fare that are
//! short of it.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::{Node, Regions, error_of};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

fn info(redis: &mut redis::Connection, name: &str) -> String {
    let text: String = redis::cmd("INFO").query(redis).unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

/// What counts against the limit, bytes.
fn counts(redis: &mut redis::Connection) -> u64 {
    let number = |text: String| text.parse::<u64>().unwrap();
    let used = number(info(redis, "used_memory"));
    used - number(info(redis, "mem_not_counted_for_evict"))
}

fn set(redis: &mut redis::Connection, name: &str, value: impl ToString) {
    let mut config = redis::cmd("CONFIG");
    config.arg("SET").arg(name).arg(value.to_string());
    let () = config.query(redis).unwrap();
}

/// Room for so much more than there is.
fn limit_to(redis: &mut redis::Connection, more: u64) -> u64 {
    let limit = counts(redis) + more;
    set(redis, "maxmemory", limit);
    limit
}

fn digest(redis: &mut redis::Connection) -> String {
    redis::cmd("REGION").arg("DIGEST").query(redis).unwrap()
}

/// Writes keys of 1,000 bytes, numbered, in one pipeline; errors are for the caller.
fn fill(
    redis: &mut redis::Connection,
    prefix: &str,
    numbers: std::ops::Range<u32>,
) -> redis::RedisResult<()> {
    let value = vec![b'v'; 1_000];
    let numbers: Vec<u32> = numbers.collect();
    for some in numbers.chunks(500) {
        let mut pipeline = redis::pipe();
        for number in some {
            pipeline.set(format!("{prefix}:{number}"), &value).ignore();
        }
        let () = pipeline.query(redis)?;
    }
    Ok(())
}

/// How many of these keys there are.
fn count(redis: &mut redis::Connection, prefix: &str, numbers: std::ops::Range<u32>) -> u32 {
    let mut pipeline = redis::pipe();
    for number in numbers {
        pipeline.exists(format!("{prefix}:{number}"));
    }
    let found: Vec<u32> = pipeline.query(redis).unwrap();
    found.iter().sum()
}

#[test]
fn at_the_limit_what_adds_data_is_refused_and_all_else_goes_on() {
    let node = Node::start();
    let mut redis = node.connect();
    let limit = limit_to(&mut redis, 8 * MIB);
    let refused = fill(&mut redis, "k", 0..20_000);
    let error = error_of(refused);
    assert!(error.contains("OOM"), "{error}");
    let at_limit = counts(&mut redis);
    // By what every thread has not settled, one command of it, and buffers of connections.
    assert!(at_limit < limit + MIB, "{at_limit} of {limit}");
    let there: u32 = redis::cmd("DBSIZE").query(&mut redis).unwrap();
    assert!(
        (4_000..9_000).contains(&there),
        "{there} keys of 1,000 bytes"
    );
    let text = error_of::<()>(redis.set("k:0", vec![b'v'; 1_000]));
    assert!(
        text.contains("command not allowed when used memory > 'maxmemory'."),
        "{text}"
    );
    assert_eq!(redis.strlen::<_, usize>("k:0").unwrap(), 1_000);
    assert!(redis.expire::<_, bool>("k:1", 1_000).unwrap());
    for number in 0..2_000 {
        assert_eq!(redis.del::<_, u32>(format!("k:{number}")).unwrap(), 1);
    }
    let () = redis.set("again", "v").unwrap();
    assert_eq!(info(&mut redis, "evicted_keys"), "0");
    assert_eq!(info(&mut redis, "maxmemory_policy"), "noeviction");
}

#[test]
fn a_large_command_overshoots_once() {
    let node = Node::start();
    let mut redis = node.connect();
    limit_to(&mut redis, MIB);
    let () = redis.setrange("large", 4 << 20, "v").unwrap();
    let error = error_of::<()>(redis.set("more", "v"));
    assert!(error.contains("OOM"), "{error}");
    let () = redis.del("large").unwrap();
    let () = redis.set("more", "v").unwrap();
}

/// Starts with keys that were read a moment ago, of which a fifth is read now and then, and adds
/// others until some thousand have gone. Returns how many of those in use are left, and of the
/// others.
fn in_use_and_not(policy: &str) -> (u32, u32) {
    let node = Node::start();
    let mut redis = node.connect();
    set(&mut redis, "maxmemory-policy", policy);
    set(&mut redis, "maxmemory-samples", 10);
    fill(&mut redis, "k", 0..5_000).unwrap();
    if policy.starts_with("volatile") {
        let mut pipeline = redis::pipe();
        for number in 0..5_000 {
            pipeline.expire(format!("k:{number}"), 10_000).ignore();
        }
        let () = pipeline.query(&mut redis).unwrap();
    }
    let use_some = |redis: &mut redis::Connection| {
        let mut pipeline = redis::pipe();
        for number in 0..1_000 {
            pipeline.strlen(format!("k:{number}")).ignore();
        }
        let () = pipeline.query(redis).unwrap();
    };
    // Until it can be told that the others have not been used for a while.
    let idle = || {
        let mut idle = redis::cmd("OBJECT");
        let seconds = idle
            .arg("IDLETIME")
            .arg("k:4999")
            .query(&mut node.connect());
        policy.ends_with("lfu") || 1 <= seconds.unwrap_or(0_i64)
    };
    assert!(wait_until(LIMIT, idle));
    for _ in 0..20 {
        use_some(&mut redis);
    }
    limit_to(&mut redis, MIB / 2);
    for step in 0..6 {
        fill(&mut redis, "new", step * 500..(step + 1) * 500).unwrap();
        use_some(&mut redis);
    }
    let used = count(&mut redis, "k", 0..1_000);
    let others = count(&mut redis, "k", 1_000..5_000);
    assert!(1_000 < info(&mut redis, "evicted_keys").parse().unwrap());
    (used, others)
}

#[test]
fn lru_policies_keep_what_was_used_lately() {
    for policy in ["allkeys-lru", "volatile-lru"] {
        let (used, others) = in_use_and_not(policy);
        assert!(970 < used, "{policy}: {used} of 1,000 in use are left");
        assert!(
            others < 3_300,
            "{policy}: {others} of 4,000 others are left"
        );
    }
}

#[test]
fn lfu_policies_keep_what_is_used_often() {
    for policy in ["allkeys-lfu", "volatile-lfu"] {
        let (used, others) = in_use_and_not(policy);
        assert!(900 < used, "{policy}: {used} of 1,000 in use are left");
        // New keys have been used as little as those.
        assert!(
            others < 3_900,
            "{policy}: {others} of 4,000 others are left"
        );
    }
}

#[test]
fn random_policies_take_any() {
    let node = Node::start();
    let mut redis = node.connect();
    set(&mut redis, "maxmemory-policy", "allkeys-random");
    fill(&mut redis, "k", 0..5_000).unwrap();
    limit_to(&mut redis, MIB / 2);
    fill(&mut redis, "new", 0..5_000).unwrap();
    // Those that come last have had less time to go.
    let (first, second) = (
        count(&mut redis, "k", 0..2_500),
        count(&mut redis, "k", 2_500..5_000),
    );
    assert!(
        first.abs_diff(second) < 400,
        "{first} and {second} of 2,500"
    );
    assert!(
        (1_000..4_000).contains(&(first + second)),
        "{first} and {second} of 2,500"
    );
    assert!(2_000 < count(&mut redis, "new", 0..5_000));
}

#[test]
fn volatile_policies_take_none_that_lasts() {
    for policy in ["volatile-random", "volatile-ttl", "volatile-lru"] {
        let node = Node::start();
        let mut redis = node.connect();
        set(&mut redis, "maxmemory-policy", policy);
        fill(&mut redis, "lasts", 0..2_000).unwrap();
        fill(&mut redis, "ends", 0..2_000).unwrap();
        for number in 0..2_000_u32 {
            // The first 1,000 end first.
            let () = redis
                .expire(format!("ends:{number}"), 10_000 + i64::from(number))
                .unwrap();
        }
        limit_to(&mut redis, MIB / 2);
        fill(&mut redis, "new", 0..1_200).unwrap();
        assert_eq!(count(&mut redis, "lasts", 0..2_000), 2_000, "{policy}");
        let (first, last) = (
            count(&mut redis, "ends", 0..1_000),
            count(&mut redis, "ends", 1_000..2_000),
        );
        assert!(
            first + last < 1_600,
            "{policy}: {first} and {last} of 1,000"
        );
        if policy == "volatile-ttl" {
            assert!(900 < last, "{policy}: {first} and {last} of 1,000");
        }
        // Once none is left that ends, what adds data is refused.
        let error = error_of(fill(&mut redis, "more", 0..3_000));
        assert!(error.contains("OOM"), "{policy}: {error}");
        assert_eq!(count(&mut redis, "lasts", 0..2_000), 2_000, "{policy}");
    }
}

#[test]
fn a_lower_limit_evicts_without_any_command() {
    let node = Node::start();
    let mut redis = node.connect();
    fill(&mut redis, "k", 0..10_000).unwrap();
    set(&mut redis, "maxmemory-policy", "allkeys-lru");
    let limit = counts(&mut redis) - 5 * MIB;
    set(&mut redis, "maxmemory", limit);
    assert!(wait_until(LIMIT, || counts(&mut redis) < limit + MIB / 4));
    let left = count(&mut redis, "k", 0..10_000);
    assert!((3_000..6_500).contains(&left), "{left} of 10,000 are left");
}

#[test]
fn what_one_region_evicts_goes_everywhere() {
    let server = Regions::in_memory(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    fill(&mut one, "k", 0..5_000).unwrap();
    assert!(wait_until(LIMIT, || digest(&mut one) == digest(&mut two)));
    set(&mut one, "maxmemory-policy", "allkeys-lru");
    limit_to(&mut one, MIB / 2);
    fill(&mut two, "new", 0..5_000).unwrap();
    fill(&mut one, "own", 0..1_000).unwrap();
    assert!(wait_until(LIMIT, || {
        1_000 < info(&mut one, "evicted_keys").parse().unwrap()
            && digest(&mut one) == digest(&mut two)
    }));
    assert_eq!(info(&mut two, "evicted_keys"), "0");
    let left: u32 = redis::cmd("DBSIZE").query(&mut two).unwrap();
    assert!((3_000..8_000).contains(&left), "{left}");
}

#[test]
fn counters_that_cannot_be_freed_while_a_link_is_cut_are_not_all_evicted_to_no_avail() {
    let server = Regions::in_memory(2);
    let mut one = server.connect(1);
    let mut pipeline = redis::pipe();
    for number in 0..20_000 {
        pipeline.incr(format!("counter:{number}"), 1).ignore();
    }
    let () = pipeline.query(&mut one).unwrap();
    server.0.cut(1, 2);
    set(&mut one, "maxmemory-policy", "allkeys-random");
    limit_to(&mut one, MIB / 16);
    let refused = fill(&mut one, "k", 0..2_000);
    assert!(error_of(refused).contains("OOM"));
    let left = count(&mut one, "counter", 0..20_000);
    assert!(10_000 < left, "{left} are left of 20,000");
    set(&mut one, "maxmemory", 0);
    server.0.heal(1, 2);
    let mut two = server.connect(2);
    assert!(wait_until(LIMIT, || digest(&mut one) == digest(&mut two)));
}

#[test]
fn beyond_the_reserve_a_region_takes_no_ops_until_there_is_room() {
    let server = Regions::in_memory(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    fill(&mut two, "own", 0..20_000).unwrap();
    assert!(wait_until(LIMIT, || digest(&mut one) == digest(&mut two)));
    let max = counts(&mut two) - MIB;
    set(&mut two, "maxmemory", max);
    let error = error_of::<()>(two.set("k", "v"));
    assert!(error.contains("OOM"), "{error}");
    // Below the reserve what the other sends is taken, deletes among it.
    let () = one.set("below", "v").unwrap();
    let () = one.del("own:0").unwrap();
    assert!(wait_until(LIMIT, || digest(&mut one) == digest(&mut two)));

    fill(&mut one, "more", 0..10_000).unwrap();
    assert!(wait_until(LIMIT, || info(
        &mut two,
        "geo_stopped_for_memory"
    ) == "1"));
    let state = |redis: &mut redis::Connection, name: &str| {
        let rows: Vec<BTreeMap<String, String>> =
            redis::cmd("REGION").arg("LIST").query(redis).unwrap();
        rows.into_iter().find(|row| row["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!(state(&mut two, "two"), "full");
    assert!(wait_until(LIMIT, || state(&mut two, "one") == "lagging"));
    assert_eq!(state(&mut one, "two"), "live", "the link itself is well");
    // What is on the way counts, too, but nothing of it is taken.
    let taken = count(&mut two, "more", 0..10_000);
    assert!(
        u64::from(taken) * 1_000 < MIB + max / 5 + MIB,
        "{taken} keys of 1,000 bytes, beyond {max}"
    );
    assert_eq!(
        two.strlen::<_, usize>("own:1").unwrap(),
        1_000,
        "reads go on"
    );
    assert_ne!(digest(&mut one), digest(&mut two));
    assert!(
        server
            .0
            .log()
            .contains("no more ops of other regions are taken")
    );

    // Deletes here make room, and it goes on by itself, but not for all.
    let more = count(&mut two, "more", 0..10_000);
    let mut pipeline = redis::pipe();
    for number in 1..15_000 {
        pipeline.del(format!("own:{number}")).ignore();
    }
    let () = pipeline.query(&mut two).unwrap();
    assert!(wait_until(LIMIT, || more < count(&mut two, "more", 0..10_000)));
    set(&mut two, "maxmemory", 0);
    assert!(wait_until(LIMIT, || digest(&mut one) == digest(&mut two)));
    assert_eq!(info(&mut two, "geo_stopped_for_memory"), "0");
    assert_eq!(state(&mut two, "two"), "self");
    assert!(server.0.log().contains("there is room again"));
    assert_eq!(count(&mut two, "more", 0..10_000), 10_000);
}

#[test]
fn what_takes_up_memory_is_explained() {
    let server = Regions::in_memory(2);
    let mut one = server.connect(1);
    fill(&mut one, "k", 0..2_000).unwrap();
    let members: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let () = one.sadd("set", &members).unwrap();
    server.0.cut(1, 2);
    let () = one.append("k:0", "tail").unwrap();
    let () = one.incr("counter", 1).unwrap();
    let () = one.del("counter").unwrap();
    let report: String = redis::cmd("MEMORY").arg("DOCTOR").query(&mut one).unwrap();
    for words in [
        "strings: about 1.9",
        "2000 keys",
        "sets: about",
        "op log in memory",
        "1 edits, 1 removed parts",
        "wait for two to say",
        "There is no limit",
    ] {
        assert!(report.contains(words), "{words:?} in {report}");
    }
    let stats: BTreeMap<String, redis::Value> =
        redis::cmd("MEMORY").arg("STATS").query(&mut one).unwrap();
    let number = |name: &str| -> u64 { redis::from_redis_value(stats[name].clone()).unwrap() };
    assert_eq!(number("keys.count"), 2_001);
    assert_eq!(number("keys.looked-at"), 2_001);
    assert!(
        (2_000_000..2_400_000).contains(&number("data.strings")),
        "{stats:?}"
    );
    assert!(
        (20_000..200_000).contains(&number("data.sets")),
        "{stats:?}"
    );
    assert!(2_000_000 < number("replication.backlog"), "{stats:?}");
    assert!(
        number("data.strings") < number("dataset.bytes"),
        "{stats:?}"
    );
    assert!(0 < number("unstable.removed-parts") && 0 < number("unstable.edits"));
    let waits: Vec<String> = redis::from_redis_value(stats["unstable.waits-for"].clone()).unwrap();
    assert_eq!(waits, ["two"]);
    server.0.heal(1, 2);
    assert!(wait_until(LIMIT, || info(&mut one, "mem_unstable_things") == "0"));
    let report: String = redis::cmd("MEMORY").arg("DOCTOR").query(&mut one).unwrap();
    assert!(!report.contains("goes once it is stable"), "{report}");
}
