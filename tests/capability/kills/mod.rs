//! Nodes of three regions are killed under load, with links cut now and then. In the end no
//! acknowledged write is missing, nothing that was deleted is back, transactions are whole, and all
//! regions hold the same.
//!
//! Who writes goes on from where its node has died, and does not know then what became of its last
//! write: that one may be there or not. `MERIDIAN_KILLS` is how often nodes are killed.

mod load;

use std::env;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use testing::{Stopwatch, say, wait_until};

use crate::Regions;
use load::{Contents, Load, Told};

const REGIONS: usize = 3;
const WRITERS_EACH: usize = 2;
/// What writers may write from one kill to the next, so that a fast machine does not write more.
const WRITES_EACH: u64 = 60;
/// How long it may take until nodes that run have taken some writes.
const PROGRESS_LIMIT: Duration = Duration::from_mins(1);
const SYNC_LIMIT: Duration = Duration::from_mins(2);

#[test]
fn nothing_acknowledged_is_lost_to_kills_when_every_write_is_synced() {
    check_kills("always", kills().unwrap_or(5));
}

#[test]
fn nothing_acknowledged_is_lost_to_kills_when_syncs_come_every_second() {
    check_kills("everysec", kills().unwrap_or(5));
}

fn kills() -> Option<u32> {
    let kills = env::var("MERIDIAN_KILLS").ok()?;
    Some(kills.parse().expect("MERIDIAN_KILLS is a number"))
}

fn check_kills(fsync: &str, kills: u32) {
    let seed = env::var("MERIDIAN_KILLS_SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("MERIDIAN_KILLS_SEED is a number"),
    );
    say(&format!("{fsync}: MERIDIAN_KILLS_SEED={seed}"));
    let clock = Stopwatch::start();
    let server = Regions::start(REGIONS);
    for region in 1..=REGIONS {
        server
            .0
            .client(region)
            .run(&["CONFIG", "SET", "appendfsync", fsync]);
    }
    let load = Arc::new(Load::default());
    let writers: Vec<_> = (0..REGIONS * WRITERS_EACH)
        .map(|number| {
            let address = server.0.address(number % REGIONS + 1);
            let (load, random) = (Arc::clone(&load), Rng::with_seed(seed + number as u64));
            thread::spawn(move || load::write(number, address, random, &load))
        })
        .collect();
    let mut random = Rng::with_seed(seed);
    for _ in 0..kills {
        kill_one(&server, &load, fsync, &mut random);
    }
    load.stop();
    let told = writers
        .into_iter()
        .map(|writer| writer.join().expect("the writer has ended well"))
        .fold(Told::default(), Told::join);
    let loaded = clock.elapsed();
    server.0.heal_all();
    let healed = Stopwatch::start();
    let mut clients: Vec<_> = (1..=REGIONS)
        .map(|region| (region, server.0.client(region)))
        .collect();
    let in_sync = wait_until(SYNC_LIMIT, || server.0.in_sync(&mut clients, |_, _| true));
    assert!(in_sync, "not in sync; it said:\n{}", server.0.log());
    let synced = healed.elapsed();
    let first = Contents::read(&mut clients[0].1, &told);
    for (region, client) in &mut clients[1..] {
        let other = Contents::read(client, &told);
        assert!(first == other, "regions 1 and {region} differ");
    }
    told.check(&first);
    say(&format!(
        "{fsync}: {kills} kills in {loaded:?}, {} writes acknowledged, {} perhaps there, in sync {synced:?} after the last heal",
        told.acknowledged, told.unknown
    ));
}

/// Kills a node, or stops it in order, while writes go on, and starts it again.
fn kill_one(server: &Regions, load: &Load, fsync: &str, random: &mut Rng) {
    load.begin_round(WRITES_EACH);
    let one = random.usize(1..=REGIONS);
    let other = one % REGIONS + 1;
    match random.u8(0..4) {
        0 => server.0.cut(one, other),
        1 => server.0.cut_one_way(other, one),
        2 => server.0.heal_all(),
        _ => {}
    }
    let writers = (REGIONS * WRITERS_EACH) as u64;
    load.wait_for_writes(random.u64(1..writers * WRITES_EACH / 2), PROGRESS_LIMIT);
    let region = random.usize(1..=REGIONS);
    let is_stop = random.u8(0..6) == 0;
    server.0.node(region, if is_stop { "stop" } else { "kill" });
    load.wait_for_writes(random.u64(0..writers * WRITES_EACH / 4), PROGRESS_LIMIT);
    server.0.node(region, "start");
    server
        .0
        .client(region)
        .run(&["CONFIG", "SET", "appendfsync", fsync]);
}
