//! Regions that lack more than logs hold, and catch up by state, in virtual time.

use geo::proto::{Event, Lack, Refill};
use geo::testing::{Net, Setup, region};

/// Regions, with logs of three frames.
fn forgetful(setup: Setup) -> Net {
    let mut net = Net::new(setup);
    for at in 1..=setup.regions {
        net.limit_log(at, 3);
    }
    net.run_for(1_000);
    net
}

fn setup(regions: u8, seed: u64) -> Setup {
    Setup {
        regions,
        shards: 2,
        ..Setup::three(seed)
    }
}

/// Writes so many ops, each a frame of its own.
fn write(net: &mut Net, at: u8, count: usize) {
    write_frames(net, at, count, 1);
}

/// Writes so many frames, each of so many ops.
fn write_frames(net: &mut Net, at: u8, count: usize, ops: usize) {
    for _ in 0..count {
        for shard in 0..2 {
            for _ in 0..ops {
                net.write(at, shard);
            }
            let other = at % 2 + 1;
            net.with_link(at, other, |_, _, shards| {
                shards.next_frame(shard, 0, &mut |_| false)
            });
        }
        net.run_for(3);
    }
}

fn caught_up(net: &Net, at: u8) -> usize {
    let of = |(_, by, _, event): &&(_, _, _, Event)| {
        *by == region(at) && matches!(event, Event::CaughtUp { .. })
    };
    net.events.iter().filter(of).count()
}

#[track_caller]
fn check_converges(net: &mut Net, ms: u64) {
    let converges = net.run_until(ms, |net| net.has_converged());
    assert!(
        converges,
        "not the same within {ms} ms:\n{}",
        net.describe()
    );
    assert!(net.run_until(5_000, Net::is_all_stable));
}

#[test]
fn a_region_that_was_cut_off_catches_up_and_both_go_on() {
    let mut net = forgetful(setup(2, 1));
    net.cut(1, 2);
    net.run_for(4_000);
    write(&mut net, 1, 50);
    net.heal();
    for _ in 0..20 {
        write(&mut net, 1, 2);
        write(&mut net, 2, 2);
        net.run_for(20);
    }
    check_converges(&mut net, 10_000);
    assert_eq!(net.ops(1, 0).len(), 130);
    assert!(2 <= caught_up(&net, 2), "each shard");
}

#[test]
fn two_regions_that_lack_each_others_ops_catch_up_in_turn() {
    for seed in 0..5 {
        let mut net = forgetful(setup(2, seed));
        net.cut(1, 2);
        net.run_for(4_000);
        write(&mut net, 1, 20);
        write(&mut net, 2, 20);
        net.heal();
        write(&mut net, 2, 5);
        check_converges(&mut net, 20_000);
        assert_eq!(net.ops(1, 1).len(), 45);
        assert!(0 < caught_up(&net, 1) && 0 < caught_up(&net, 2));
    }
}

#[test]
fn three_regions_that_lack_each_others_ops_catch_up_in_turn() {
    for seed in 0..5 {
        let mut net = forgetful(setup(3, seed));
        for (a, b) in [(1, 2), (2, 3), (1, 3)] {
            net.cut(a, b);
        }
        net.run_for(4_000);
        for at in 1..=3 {
            write(&mut net, at, 15);
        }
        net.heal();
        check_converges(&mut net, 30_000);
        assert_eq!(net.ops(3, 1).len(), 45);
    }
}

#[test]
fn a_catch_up_that_is_cut_goes_on() {
    for seed in 0..5 {
        let mut net = forgetful(setup(2, seed));
        net.cut(1, 2);
        net.run_for(4_000);
        write(&mut net, 1, 30);
        write(&mut net, 2, 10);
        for round in 0..10 {
            net.heal();
            net.run_for(400 + 37 * round);
            write(&mut net, 1, 2);
            net.cut(1, 2);
            net.run_for(3_500);
        }
        net.heal();
        check_converges(&mut net, 20_000);
        assert_eq!(net.ops(2, 0).len(), 60);
    }
}

/// Whichever it is: of the last of all nothing comes that would show that it is missing.
#[test]
fn an_answer_that_never_comes_is_asked_for_again() {
    let (mut lost, mut slowest) = (0, 0);
    for after_ms in 0..60 {
        let mut net = forgetful(setup(2, 4));
        net.cut(1, 2);
        net.run_for(4_000);
        write(&mut net, 1, 20);
        net.heal();
        net.run_until(5_000, |net| {
            net.with_link(2, 1, |link, now, shards| {
                link.stats(now, shards).catching_up.is_some()
            })
        });
        net.run_for(after_ms);
        let before = net.mishaps().lost;
        net.drop_state(1, 2, 10);
        let began = net.now_ms(2);
        let converges = net.run_until(200_000, |net| net.has_converged());
        assert!(converges, "after {after_ms} ms:\n{}", net.describe());
        lost += net.mishaps().lost - before;
        slowest = (net.now_ms(2) - began).max(slowest);
    }
    assert!(5 < lost, "{lost} answers were lost");
    assert!(60_000 < slowest, "none of them the last: {slowest} ms");
}

#[test]
fn what_came_as_state_is_not_in_the_log_and_a_third_region_is_told_so() {
    let mut net = forgetful(setup(3, 1));
    for (a, b) in [(1, 2), (2, 3), (1, 3)] {
        net.cut(a, b);
    }
    net.run_for(4_000);
    write(&mut net, 1, 30);
    net.heal();
    net.cut(1, 3);
    net.cut(2, 3);
    assert!(net.run_until(5_000, |net| net.ops(2, 0).len() == 30));
    // Region 3 hears of region 2 alone, which has the ops of region 1 as state.
    net.heal();
    net.cut(1, 3);
    assert!(net.run_until(9_000, |net| net.ops(3, 0).len() == 30));
    write(&mut net, 1, 2);
    net.run_for(2_000);
    net.heal();
    check_converges(&mut net, 30_000);
    assert_eq!((caught_up(&net, 2), caught_up(&net, 3)), (2, 2));
}

#[test]
fn a_node_that_starts_with_nothing_is_filled_up_by_state() {
    for seed in 0..4 {
        let mut net = forgetful(setup(3, seed));
        write(&mut net, 1, 20);
        write(&mut net, 2, 20);
        net.run_for(1_000);
        net.restart(3);
        let mut refill = Refill::default();
        let is_filled = net.run_until(20_000, |net| {
            net.with_link(3, 1, |_, now, shards| refill.look(now, shards)) == Lack::Nothing
        });
        assert!(is_filled, "{}", net.describe());
        assert_eq!(net.ops(3, 0).len(), 40);
        write(&mut net, 3, 1);
        check_converges(&mut net, 10_000);
    }
}

/// A region dies while part of what it alone had has been taken in, and comes back with nothing.
#[test]
fn parts_of_what_a_dead_region_alone_had_end_up_everywhere() {
    let mut orphans = 0;
    for seed in 0..25 {
        let mut net = forgetful(Setup {
            bytes_max: 100,
            ..setup(3, seed)
        });
        net.cut(1, 2);
        net.cut(1, 3);
        net.run_for(4_000);
        write(&mut net, 1, 30);
        write(&mut net, 2, 3);
        net.heal();
        net.cut(1, 3);
        let has_begun = net.run_until(5_000, |net| 10 < net.ops(2, 0).len());
        assert!(has_begun);
        net.run_for(seed);
        write(&mut net, 2, 3);
        let held = net.ops(2, 0).len();
        orphans += usize::from(held < 36);
        net.restart(1);
        net.run_for(50);
        write(&mut net, 3, 3);
        net.heal();
        check_converges(&mut net, 60_000);
        assert!(
            held <= net.ops(1, 0).len(),
            "nothing that anybody had is lost"
        );
    }
    assert!(0 < orphans, "at least once it was in the midst of it");
}

/// As above, where another region holds the first of these ops whole: they are not given up for the
/// parts.
#[test]
fn what_another_region_holds_whole_comes_before_parts() {
    let mut orphans = 0;
    for seed in 0..25 {
        let mut net = forgetful(Setup {
            bytes_max: 100,
            ..setup(3, seed)
        });
        net.cut(1, 2);
        net.cut(2, 3);
        net.run_for(4_000);
        write(&mut net, 1, 10);
        net.run_for(1_000);
        net.cut(1, 3);
        write(&mut net, 1, 30);
        net.run_for(4_000);
        net.heal();
        net.cut(1, 3);
        net.cut(2, 3);
        assert!(net.run_until(9_000, |net| 5 < net.ops(2, 0).len()));
        net.run_for(seed);
        let (two, three) = (net.ops(2, 0).clone(), net.ops(3, 0).clone());
        let all: std::collections::BTreeSet<_> = two.iter().chain(&three).collect();
        orphans += usize::from(two.len() < 40 && !three.is_empty());
        net.restart(1);
        net.run_for(50);
        net.heal();
        check_converges(&mut net, 60_000);
        assert!(
            all.iter().all(|op| net.ops(1, 0).contains(op)),
            "seed {seed}"
        );
    }
    assert!(0 < orphans, "at least once it was in the midst of it");
}

/// A region dies while another has taken in parts of its last ops, and a third has all of these,
/// waiting for what only the second has, as state. That one hands out no state before it has them.
#[test]
fn what_waits_for_a_region_that_has_parts_of_it_is_handed_on() {
    let mut net = forgetful(Setup {
        bytes_max: 600,
        jitter_ms: 0,
        loss_percent: 0,
        ..setup(3, 1)
    });
    net.limit_log(2, 1);
    net.cut(1, 3);
    write(&mut net, 3, 1);
    net.run_for(50);
    net.cut(2, 3);
    write_frames(&mut net, 2, 2, 60);
    net.run_for(30);
    net.cut(1, 2);
    write(&mut net, 3, 5);
    net.run_for(4_000);
    net.heal();
    net.cut(1, 2);
    net.cut(1, 3);
    assert!(net.run_until(9_000, |net| 6 < net.ops(3, 0).len()));
    assert!(net.ops(3, 0).len() < 126, "it is in the midst of it");
    assert_eq!(net.ops(1, 0).len(), 0);
    assert!(0 < net.delivery(1, 0).waiting_bytes());
    net.restart(2);
    net.run_for(50);
    net.heal();
    check_converges(&mut net, 60_000);
    for shard in 0..2 {
        assert_eq!(net.ops(1, shard).len(), 126, "nothing is lost");
    }
}

/// A region asks for state, and is forgotten before it is answered. What its link waits for until
/// the other is told and sent away is in the future, or a node would do nothing else meanwhile.
#[test]
fn what_a_region_has_asked_for_that_is_forgotten_wakes_nobody() {
    let mut refused = 0;
    for wait_ms in (0..600).step_by(10) {
        let mut net = forgetful(Setup {
            bytes_max: 100,
            ..setup(3, 1)
        });
        for other in [1, 2] {
            net.cut(3, other);
        }
        net.run_for(4_000);
        write(&mut net, 1, 30);
        net.heal();
        net.run_for(wait_ms);
        net.forget(1, 3);
        for _ in 0..1_000 {
            net.run_for(1);
            let (is_due, is_refused) = net.with_link(1, 3, |link, now, _| {
                let is_due = link.poll_timeout().is_some_and(|due| due <= now);
                (is_due, link.is_refused() && link.is_up())
            });
            assert!(!is_due, "{wait_ms} ms: it has nothing left to do by now");
            refused += usize::from(is_refused);
        }
    }
    assert!(0 < refused, "at least once it had to be told");
}
