//! Regions stay in sync, and come back to it after a cut.

use std::thread;
use std::time::Duration;

use redis::Commands as _;
use testing::{Client, Stopwatch, Value, wait_for, wait_until};

use crate::Regions;

const SYNC_LIMIT: Duration = Duration::from_secs(15);

impl Regions {
    #[track_caller]
    pub(crate) fn check_in_sync(&self) {
        let mut clients: Vec<(usize, Client)> = (1..=self.0.regions())
            .map(|region| (region, self.0.client(region)))
            .collect();
        let in_sync = wait_until(SYNC_LIMIT, || self.0.in_sync(&mut clients, |_, _| true));
        assert!(in_sync, "not in sync; it said:\n{}", self.0.log());
    }
}

#[test]
fn what_is_written_in_one_region_is_read_in_the_others() {
    let server = Regions::start(3);
    let mut regions: Vec<redis::Connection> =
        (1..=3).map(|region| server.connect(region)).collect();
    for (region, redis) in regions.iter_mut().enumerate() {
        let () = redis.set(format!("from:{region}"), region).unwrap();
        let () = redis.rpush("list", region).unwrap();
        let () = redis.hset("hash", region, region).unwrap();
        let () = redis.sadd("set", region).unwrap();
        let () = redis.zadd("zset", region, region).unwrap();
        let () = redis.incr("counter", 10).unwrap();
    }
    server.check_in_sync();
    for redis in &mut regions {
        for region in 0..3 {
            assert_eq!(
                redis.get::<_, usize>(format!("from:{region}")).unwrap(),
                region
            );
        }
        assert_eq!(redis.llen::<_, usize>("list").unwrap(), 3);
        assert_eq!(redis.hlen::<_, usize>("hash").unwrap(), 3);
        assert_eq!(redis.scard::<_, usize>("set").unwrap(), 3);
        assert_eq!(redis.zcard::<_, usize>("zset").unwrap(), 3);
        assert_eq!(redis.get::<_, usize>("counter").unwrap(), 30);
    }
}

#[test]
fn both_sides_of_a_cut_write_on_and_agree_afterwards() {
    const WRITES: usize = 2_000;
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let () = one.set("k", "before").unwrap();
    server.check_in_sync();
    server.0.cut(1, 2);
    for (side, redis) in [(1, &mut one), (2, &mut two)] {
        let mut pipeline = redis::pipe();
        for number in 0..WRITES {
            pipeline.incr("counter", 1).ignore();
            pipeline.set(format!("{side}:{number}"), number).ignore();
            pipeline.sadd("set", format!("{side}:{number}")).ignore();
        }
        let () = pipeline.query(redis).unwrap();
    }
    assert_eq!(one.get::<_, usize>("counter").unwrap(), WRITES);
    assert!(!two.exists::<_, bool>("1:0").unwrap());
    server.0.heal(1, 2);
    server.check_in_sync();
    for redis in [&mut one, &mut two] {
        assert_eq!(redis.get::<_, usize>("counter").unwrap(), 2 * WRITES);
        assert_eq!(redis.scard::<_, usize>("set").unwrap(), 2 * WRITES);
        assert_eq!(
            redis::cmd("DBSIZE").query::<usize>(redis).unwrap(),
            2 * WRITES + 3
        );
    }
}

#[test]
fn a_third_region_carries_what_a_cut_link_does_not() {
    let server = Regions::start(3);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    server.0.cut(1, 2);
    let () = one.set("k", "around").unwrap();
    assert!(wait_until(SYNC_LIMIT, || {
        two.get::<_, Option<String>>("k").unwrap().as_deref() == Some("around")
    }));
}

#[test]
fn a_cut_in_one_direction_heals_too() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    server.0.cut_one_way(1, 2);
    let () = one.incr("n", 1).unwrap();
    let () = two.incr("n", 2).unwrap();
    server.0.heal_all();
    server.check_in_sync();
    assert_eq!(one.get::<_, i64>("n").unwrap(), 3);
    assert_eq!(two.get::<_, i64>("n").unwrap(), 3);
}

#[test]
fn a_slow_and_lossy_link_delivers_all_the_same() {
    let server = Regions::start(2);
    server.0.shape(1, 2, "rtt=40ms&jitter=5ms&loss=0.05");
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    for number in 0..500 {
        let () = one.rpush("list", number).unwrap();
        let () = two.incr("n", 1).unwrap();
    }
    server.check_in_sync();
    let list: Vec<usize> = two.lrange("list", 0, -1).unwrap();
    assert!(list.into_iter().eq(0..500));
    assert_eq!(one.get::<_, usize>("n").unwrap(), 500);
}

#[test]
fn what_goes_far_is_compressed() {
    let server = Regions::start(2);
    server.0.shape(1, 2, "rtt=40ms");
    let mut one = server.connect(1);
    let figure = |name: &str| -> u64 {
        let info = server.0.client(1).run(&["INFO", "regions"]);
        let info = String::from_utf8_lossy(info.bytes().unwrap_or_default()).into_owned();
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.parse().ok()).expect("a number")
    };
    // The round trip is measured by what is said, so it takes a moment to be known.
    let mut written = 0;
    let has_begun = wait_until(SYNC_LIMIT, || {
        let () = one
            .set(format!("key:{written}"), "text ".repeat(200))
            .unwrap();
        written += 1;
        0 < figure("geo_compressed_bytes:")
    });
    assert!(has_begun, "not within {SYNC_LIMIT:?}");
    server.check_in_sync();
    let (plain, wire) = (
        figure("geo_compressed_bytes:"),
        figure("geo_compressed_to_bytes:"),
    );
    assert!(0 < wire && 2 * wire < plain, "{plain} became {wire}");
    assert_eq!(
        server.connect(2).get::<_, String>("key:0").unwrap(),
        "text ".repeat(200)
    );
}

#[test]
fn a_push_in_another_region_wakes_who_waits() {
    let server = Regions::start(2);
    let mut waiting = server.connect(2);
    let waiter = thread::spawn(move || waiting.blpop::<_, (String, String)>("q", 30.0).unwrap());
    let () = server.connect(1).rpush("q", "job").unwrap();
    assert_eq!(waiter.join().unwrap().1, "job");
}

#[test]
fn a_transaction_arrives_whole() {
    let server = Regions::start(2);
    let (mut one, mut two) = (server.connect(1), server.connect(2));
    let writer = thread::spawn(move || {
        for number in 0..300 {
            let mut pipeline = redis::pipe();
            pipeline
                .atomic()
                .set("{t}a", number)
                .ignore()
                .set("{t}b", number)
                .ignore();
            let () = pipeline.query(&mut one).unwrap();
        }
    });
    let seen_last = wait_until(SYNC_LIMIT, || {
        let pair: Vec<Option<usize>> = two.mget(&["{t}a", "{t}b"]).unwrap();
        assert_eq!(pair[0], pair[1], "half a transaction is visible");
        pair[0] == Some(299)
    });
    writer.join().unwrap();
    assert!(seen_last);
}

#[test]
fn a_restarted_node_says_so_and_fills_up_again() {
    let server = Regions::in_memory(2);
    let mut one = server.connect(1);
    for number in 0..100 {
        let () = one.set(format!("k{number}"), number).unwrap();
    }
    server.check_in_sync();
    server.0.node(2, "kill");
    let () = one.set("while", "away").unwrap();
    server.0.node(2, "start");
    let mut two = server.connect(2);
    assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut two).unwrap(), 101);
    let () = two.set("back", "again").unwrap();
    server.check_in_sync();
    assert_eq!(one.get::<_, String>("back").unwrap(), "again");
}

fn is_loading(reply: &Value) -> bool {
    reply
        .error()
        .is_some_and(|text| text == "LOADING Redis is loading the dataset in memory")
}

fn info(client: &mut Client) -> String {
    let text = client.run(&["INFO", "persistence"]);
    String::from_utf8_lossy(text.bytes().unwrap_or_default()).into_owned()
}

#[test]
fn a_restarted_node_serves_nobody_before_it_holds_what_was_there() {
    const KEYS: i64 = 2_000;
    let server = Regions::in_memory(3);
    let mut one = server.connect(1);
    let mut pipeline = redis::pipe();
    for number in 0..KEYS {
        pipeline.set(format!("k{number}"), number).ignore();
        pipeline.incr("counter", 1).ignore();
    }
    let () = pipeline.query(&mut one).unwrap();
    server.check_in_sync();
    server.0.node(2, "kill");
    // So that filling up takes a while.
    server.0.shape(1, 2, "rtt=100ms");
    server.0.shape(2, 3, "rtt=100ms");
    let (mut refused, mut writes) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| server.0.node(2, "start"));
        let mut two = server.0.client(2);
        let first = wait_for(SYNC_LIMIT, || {
            let () = one.incr("counter", 1).unwrap();
            writes += 1;
            if is_loading(&two.run(&["PING"])) {
                assert!(two.run(&["REGION", "LIST"]).items().is_some());
                assert!(two.run(&["CONFIG", "GET", "port"]).error().is_none());
            }
            let reply = two.run(&["GET", &format!("k{}", KEYS - 1)]);
            refused += i64::from(is_loading(&reply));
            (!is_loading(&reply)).then_some(reply)
        });
        let first = first.expect("it serves in the end");
        assert_eq!(first.bytes(), Some((KEYS - 1).to_string().as_bytes()));
        let count = two.run(&["INCRBY", "counter", "5"]);
        assert!(KEYS + 5 <= count.int().unwrap(), "{count:?}");
        assert_eq!(two.run(&["DBSIZE"]).int(), Some(KEYS + 1));
        assert!(info(&mut two).contains("loading:0"));
    });
    assert!(0 < refused, "it was seen loading");
    server.check_in_sync();
    assert_eq!(one.get::<_, i64>("counter").unwrap(), KEYS + writes + 5);
}

#[test]
fn a_node_that_reaches_nobody_serves_after_three_seconds_or_when_told_to() {
    let server = Regions::in_memory(2);
    let () = server.connect(1).set("k", "v").unwrap();
    server.check_in_sync();
    server.0.node(2, "kill");
    server.0.cut(1, 2);
    let began = Stopwatch::start();
    server.0.node(2, "start");
    assert!(Duration::from_millis(2_500) < began.elapsed());
    let mut two = server.0.client(2);
    assert_eq!(two.run(&["GET", "k"]), Value::Nil);
    let refused = two.run(&["REGION", "ACCEPT-LOSS"]);
    assert!(refused.error().is_some(), "{refused:?}");

    server.0.node(2, "kill");
    thread::scope(|scope| {
        let start = scope.spawn(|| server.0.node(2, "start"));
        let mut two = server.0.client(2);
        let reason = "loading_reason:waits for word from one";
        assert!(wait_until(SYNC_LIMIT, || info(&mut two).contains(reason)));
        assert!(is_loading(&two.run(&["GET", "k"])));
        two.run(&["REGION", "ACCEPT-LOSS"]);
        assert_eq!(two.run(&["GET", "k"]), Value::Nil);
        start.join().unwrap();
    });
    server.0.heal_all();
    server.check_in_sync();
    assert_eq!(server.connect(2).get::<_, String>("k").unwrap(), "v");
}
