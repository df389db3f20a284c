//! Random writes and faults from seeds: every op arrives everywhere, once, after its causes (the
//! net asserts the latter two), and what is unstable drains.

use geo::testing::{Net, Setup};

/// What happened, to see that a run was worth it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    writes: u64,
    cuts: u64,
    heals: u64,
    restarts: u64,
    skews: u64,
}

fn run(seed: u64) -> (Net, Tally) {
    let setup = Setup {
        loss_percent: seed % 10,
        jitter_ms: seed % 40,
        bytes_max: if seed.is_multiple_of(3) { 100 } else { 1 << 20 },
        ..Setup::three(seed)
    };
    let mut net = Net::new(setup);
    let mut tally = Tally::default();
    for _ in 0..400 {
        let region = |net: &mut Net| net.chance(3) as u8 + 1;
        match net.chance(100) {
            0..3 => {
                let (a, b) = (region(&mut net), region(&mut net));
                if net.chance(3) == 0 {
                    net.cut_one_way(a, b);
                } else {
                    net.cut(a, b);
                }
                tally.cuts += 1;
            }
            3..6 => {
                net.heal();
                tally.heals += 1;
            }
            6 => {
                let at = region(&mut net);
                net.restart(at);
                tally.restarts += 1;
            }
            7 => {
                let (at, skew) = (region(&mut net), net.chance(1_400) as i64 - 700);
                net.set_skew(at, skew);
                tally.skews += 1;
            }
            8..12 => {
                let pause = net.chance(3_000);
                net.run_for(pause);
            }
            _ => {
                let (at, shard) = (region(&mut net), net.chance(2) as u16);
                net.write(at, shard);
                tally.writes += 1;
            }
        }
        let pause = net.chance(30);
        net.run_for(pause);
    }
    net.heal();
    (net, tally)
}

#[test]
fn everything_arrives_everywhere_whatever_happens() {
    let mut sum = Tally::default();
    let seeds = std::env::var("GEO_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40);
    for seed in 0..seeds {
        let (mut net, tally) = run(seed);
        let holds = net.run_until(20_000, |net| net.has_converged());
        assert!(holds, "seed {seed} diverges: {tally:?}\n{}", net.describe());
        let holds = net.run_until(5_000, Net::is_all_stable);
        assert!(
            holds,
            "seed {seed} does not drain: {tally:?}\n{}",
            net.describe()
        );
        sum.writes += tally.writes;
        sum.cuts += tally.cuts;
        sum.heals += tally.heals;
        sum.restarts += tally.restarts;
        sum.skews += tally.skews;
    }
    assert!(
        seeds < sum.cuts && seeds < sum.restarts && seeds < sum.skews,
        "{sum:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let (net, tally) = run(seed);
        let ops: Vec<_> = (1..=3).map(|at| net.ops(at, 0).clone()).collect();
        (
            tally,
            net.now(),
            ops,
            net.traffic(1, 2),
            net.traffic(3, 1),
            net.events,
        )
    };
    assert_eq!(trace(7), trace(7));
}
