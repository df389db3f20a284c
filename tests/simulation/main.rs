//! Regions × shards from a seed: random writes, traffic that is late, doubled and out of order
//! between regions, and a check of the laws of docs/semantics.md after every step.
//!
//! `MERIDIAN_SIM_SEEDS=1000` runs that many seeds from a fresh start, which is printed;
//! `MERIDIAN_SIM_SEED=7` runs one.

mod intent;
mod regressions;
mod world;

use world::World;

/// Seeds that every run tries, so that a change of the code meets the same ones.
const FIXED_SEEDS: u64 = 60;
/// Steps of a run.
const STEPS: usize = 600;

/// Runs a seed to its end. Returns a digest of all that happened.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed, 3, 2);
    for _ in 0..STEPS {
        world.step();
    }
    world.finish();
    world.trace()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn regions_converge_whatever_happens_between_them() {
    if let Some(seed) = number("MERIDIAN_SIM_SEED") {
        run(seed);
        return;
    }
    let fresh = fastrand::u64(1 << 32..1 << 48);
    let more = number("MERIDIAN_SIM_SEEDS").unwrap_or(20);
    testing::say(&format!(
        "simulation: seeds 0 to {FIXED_SEEDS}, and {more} from {fresh}"
    ));
    for seed in (0..FIXED_SEEDS).chain(fresh..fresh + more) {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(
            result.is_ok(),
            "seed {seed} fails: run it alone with MERIDIAN_SIM_SEED={seed}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run(4_711), run(4_711));
    assert_ne!(run(4_711), run(4_712));
}
