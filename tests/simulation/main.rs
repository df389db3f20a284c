//! Regions × shards from a seed, in virtual time: nothing comes from the machine.
//!
//! The real `Shard` of each region, behind the real link state machine of `geo::proto`, over the
//! simulated connections of `geo::testing`: control messages and frames on streams of their own
//! that are delayed, overtake each other, stall when cut (both ways or one way), and end. Frames
//! get lost or arrive twice, which the transport must not do. Nodes crash and come up empty under
//! a new epoch, to refill from their peers' logs; clocks are set forward and back.
//!
//! Clients send commands of every family to the handlers that real clients get (`commands`).
//! Meanwhile and at the end the laws of docs/semantics.md are checked: each op is applied once, in
//! order, after what it had seen (`replica`); equal versions show the same and have equal digests;
//! the reference model agrees; collecting changes nothing; in the end all regions are level, what
//! any of them held is held by all, everything unstable has drained, and applying the log anew
//! gives the same (`world`). Ops that nobody else had go with the memory of their node.
//!
//! With `MERIDIAN_SIM_MEMBERS=1`, besides, regions join, are forgotten and come back (`members`),
//! memory is limited (`room`) and builds are mixed. A few fixed seeds always run so.
//!
//! `MERIDIAN_SIM_SEEDS=1000` runs that many seeds from a fresh start, which is printed, on as many
//! threads as there are cores; `MERIDIAN_SIM_SEED=7` runs one.

mod commands;
mod disk;
mod history;
#[expect(dead_code, reason = "the laws of crdt ask it for more")]
#[path = "../../crdt/tests/replicas/model/mod.rs"]
mod model;
mod rare;
mod regressions;
mod replica;
mod room;
mod tally;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tally::Tally;
use world::World;

/// Seeds that every run tries, so that a change of the code meets the same ones.
const FIXED_SEEDS: u64 = 60;
/// Those of them in which regions come and go, too.
const MEMBER_SEEDS: u64 = 20;
/// Commands of a run, at least.
const COMMANDS: usize = 500;
/// Faults of a run, at least.
const FAULTS: usize = 5;
/// From so many seeds on, everything that is counted must have happened.
const MANY: u64 = 1_000;

/// Whether regions come and go, memory is limited and builds are mixed: not all of that holds yet
/// (docs/roadmap.md).
fn has_more() -> bool {
    std::env::var_os("MERIDIAN_SIM_MEMBERS").is_some()
}

/// Runs a seed to its end, where regions come and go with `more`. Returns a digest of all that
/// happened, and how often what did.
fn run_with(seed: u64, more: bool) -> (u64, Tally) {
    let mut world = World::new(seed, more);
    while world.commands < COMMANDS || world.faults < FAULTS {
        world.step();
    }
    world.finish();
    (world.trace(), world.tally)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds on all cores until one fails. Returns what happened in them, how many were tried and
/// which have failed.
fn run_all(seeds: &[u64], more: bool) -> (Tally, usize, Vec<u64>) {
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Tally::default(), 0, Vec::new()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(&seed) = seeds.get(at) else { return };
            let result = catch_unwind(AssertUnwindSafe(|| run_with(seed, more)));
            let mut sum = sum.lock().expect("nobody panics with it");
            sum.1 += 1;
            if let Ok((_, tally)) = result {
                sum.0.join(&tally);
            } else {
                sum.2.push(seed);
                next.store(seeds.len() as u64, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    sum.into_inner().expect("nobody panics with it")
}

#[test]
fn regions_converge_whatever_happens_between_them() {
    if let Some(seed) = number("MERIDIAN_SIM_SEED") {
        run_with(seed, has_more());
        return;
    }
    let fresh = fastrand::u64(1 << 32..1 << 48);
    let more = number("MERIDIAN_SIM_SEEDS").unwrap_or(20);
    testing::say(&format!(
        "simulation: seeds 0 to {FIXED_SEEDS}, and {more} from {fresh}"
    ));
    let seeds: Vec<u64> = (0..FIXED_SEEDS).chain(fresh..fresh + more).collect();
    let (tally, tried, failed) = run_all(&seeds, has_more());
    testing::say(&format!("{tally}\nafter {tried} seeds"));
    assert!(
        failed.is_empty(),
        "seeds {failed:?} fail: run one alone with MERIDIAN_SIM_SEED"
    );
    if MANY <= more {
        let missing = tally.missing();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// A few seeds with all that `MERIDIAN_SIM_MEMBERS` brings, the same ones each time: of fresh ones
/// some fail still.
#[test]
fn regions_agree_that_come_and_go() {
    let seeds: Vec<u64> = (0..MEMBER_SEEDS).collect();
    let (_, tried, failed) = run_all(&seeds, true);
    assert!(failed.is_empty(), "seeds {failed:?} of {tried} fail");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for more in [false, true] {
        assert_eq!(run_with(4_711, more), run_with(4_711, more));
        assert_ne!(run_with(4_711, more).0, run_with(4_712, more).0);
    }
}
