//! Regions stay in sync, and come back to it after a cut.

use std::thread;
use std::time::Duration;

use redis::Commands as _;
use testing::{Client, wait_until};

use crate::Regions;

const SYNC_LIMIT: Duration = Duration::from_secs(15);

impl Regions {
    #[track_caller]
    fn check_in_sync(&self) {
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
    let server = Regions::start(2);
    let mut one = server.connect(1);
    for number in 0..100 {
        let () = one.set(format!("k{number}"), number).unwrap();
    }
    server.check_in_sync();
    server.0.node(2, "kill");
    let () = one.set("while", "away").unwrap();
    server.0.node(2, "start");
    let mut two = server.connect(2);
    let () = two.set("back", "again").unwrap();
    server.check_in_sync();
    assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut two).unwrap(), 102);
    assert_eq!(one.get::<_, String>("back").unwrap(), "again");
}
