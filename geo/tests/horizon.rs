//! Regions that stay away, in virtual time: who excludes whom, and how one comes back.

use geo::proto::{Lack, Refill, Stage};
use geo::testing::{Net, Setup, region};

/// How long a region may be silent in these tests.
const HORIZON_MS: u64 = 30_000;

fn net(regions: u8) -> Net {
    let mut net = Net::new(Setup {
        regions,
        jitter_ms: 0,
        loss_percent: 0,
        ..Setup::three(1)
    });
    for round in 0..20 {
        for at in 1..=regions {
            net.write(at, round % 2);
        }
        net.run_for(5);
    }
    // By now each region has heard the others for long enough to have a say.
    net.set_horizon(Some(HORIZON_MS));
    net.run_for(15_000);
    net
}

/// Nothing gets through between these regions and the others.
fn cut_off(net: &mut Net, these: &[u8], others: &[u8]) {
    for &a in these {
        for &b in others {
            net.cut(a, b);
        }
    }
}

fn is_excluded_at(net: &Net, at: u8, id: u8) -> bool {
    net.roster(at).is_excluded(region(id))
}

fn excludes_nobody(net: &Net, at: u8) -> bool {
    net.roster(at).excluded() == 0
}

/// Whether a region that joins may write: all have confirmed it, and it lacks nothing.
fn may_write(net: &mut Net, refill: &mut Refill, at: u8) -> bool {
    net.is_confirmed(at)
        && net.with_link(at, 1, |_, _, shards| {
            refill.look_without([].into(), shards) == Lack::Nothing
        })
}

#[test]
fn a_region_that_stays_away_is_excluded_and_holds_up_nothing_any_more() {
    let mut net = net(3);
    // What 2 alone has heard of 3 is not lost by excluding it.
    net.cut(1, 2);
    net.cut(1, 3);
    let stamp = net.write(3, 0);
    net.run_for(500);
    net.cut(2, 3);
    net.run_for(1_000);
    net.heal();
    cut_off(&mut net, &[3], &[1, 2]);
    let after = net.write(1, 0);
    net.run_for(HORIZON_MS - 2_000);
    assert!(excludes_nobody(&net, 1) && excludes_nobody(&net, 2));
    assert!(!net.delivery(1, 0).stable().covers(after), "3 holds it up");
    net.run_for(5_000);
    for at in [1, 2] {
        assert!(is_excluded_at(&net, at, 3), "region {at}");
        let stable = net.delivery(at, 0).stable().clone();
        assert!(stable.covers(after) && stable.covers(stamp), "region {at}");
        assert!(net.ops(at, 0).contains(&stamp), "region {at}");
        assert!(net.delivery(at, 0).open_endings().is_empty());
    }
}

#[test]
fn of_two_sides_of_a_cut_one_excludes_the_other_and_the_other_is_told() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    let late = net.write(3, 0);
    net.run_for(3 * HORIZON_MS);
    assert!(excludes_nobody(&net, 3), "it does not outweigh them");
    assert_eq!(net.outweighed_at(3), [region(1), region(2)]);
    assert_eq!(net.outweighed_at(1), []);
    net.heal();
    assert!(net.run_until(5_000, |net| net.knows_that_it_is_excluded(3)));
    net.run_for(2 * HORIZON_MS);
    for at in [1, 2] {
        assert!(!net.knows_that_it_is_excluded(at));
        assert!(!net.ops(at, 0).contains(&late), "region {at}");
    }
    let stamp = net.write(1, 0);
    net.run_for(2_000);
    assert!(net.delivery(2, 0).stable().covers(stamp));
}

#[test]
fn of_two_regions_that_do_not_hear_each_other_one_goes_on_alone() {
    let mut net = net(2);
    net.cut(1, 2);
    net.run_for(HORIZON_MS + 5_000);
    let stamp = net.write(1, 0);
    net.run_for(1_000);
    assert!(is_excluded_at(&net, 1, 2) && excludes_nobody(&net, 2));
    assert!(net.delivery(1, 0).stable().covers(stamp));
}

#[test]
fn a_region_that_a_third_one_hears_is_not_silent() {
    let mut net = net(3);
    net.cut(1, 3);
    let stamp = net.write(1, 0);
    net.run_for(4 * HORIZON_MS);
    for at in [1, 2, 3] {
        assert!(excludes_nobody(&net, at), "region {at}");
    }
    assert!(net.delivery(1, 0).stable().covers(stamp));
}

#[test]
fn one_that_has_heard_nobody_for_long_excludes_nobody_when_it_hears_one_again() {
    let mut net = net(3);
    cut_off(&mut net, &[1], &[2, 3]);
    // What is passed on of a region without news comes once a second.
    net.run_for(HORIZON_MS - 2_000);
    net.heal();
    net.cut(1, 3);
    // 2 hears 3, and passes it on; but not before 1 hears 2.
    net.run_for(4 * HORIZON_MS);
    for at in [1, 2, 3] {
        assert!(excludes_nobody(&net, at), "region {at}");
    }
}

#[test]
fn clocks_that_jump_make_no_silence() {
    for skew_ms in [-3_600_000, 3_600_000] {
        for who in [1, 3] {
            let mut net = net(3);
            net.set_skew(who, skew_ms);
            net.run_for(3 * HORIZON_MS);
            for at in [1, 2, 3] {
                assert!(excludes_nobody(&net, at), "{who} by {skew_ms}: region {at}");
            }
        }
    }
}

#[test]
fn a_node_that_has_started_has_heard_no_silence_yet() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    net.run_for(HORIZON_MS - 5_000);
    net.restart(1);
    net.restart(2);
    net.run_for(HORIZON_MS - 5_000);
    assert!(excludes_nobody(&net, 1) && excludes_nobody(&net, 2));
    net.run_for(10_000);
    assert!(is_excluded_at(&net, 1, 3) && is_excluded_at(&net, 2, 3));
}

#[test]
fn where_memory_is_short_a_minute_of_silence_is_enough() {
    let mut net = net(3);
    net.set_horizon(None);
    net.run_for(15_000);
    cut_off(&mut net, &[3], &[1, 2]);
    net.run_for(100_000);
    assert!(excludes_nobody(&net, 1), "no silence is too long by itself");
    net.set_short(2, true);
    net.run_for(3_000);
    assert!(is_excluded_at(&net, 1, 3) && is_excluded_at(&net, 2, 3));
    // Nor is anybody excluded who is heard, however much there is.
    net.run_for(100_000);
    assert!(!is_excluded_at(&net, 1, 2) && !is_excluded_at(&net, 2, 1));
}

#[test]
fn an_excluded_region_comes_back_by_itself_with_nothing() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    let late = net.write(3, 0);
    net.run_for(HORIZON_MS + 5_000);
    for round in 0..20 {
        net.write(1, round % 2);
        net.write(2, round % 2);
        net.run_for(5);
    }
    net.heal();
    assert!(net.run_until(5_000, |net| net.knows_that_it_is_excluded(3)));
    // Once it has heard of it; a restart with what it held is as before.
    let epoch = net.epoch(3);
    let shards = net.restart_with(3, epoch, None);
    net.restart_with(3, epoch, Some(shards));
    net.run_for(3_000);
    assert!(net.knows_that_it_is_excluded(3) && is_excluded_at(&net, 1, 3));
    net.come_back(3, 10);
    let mut refill = Refill::default();
    assert!(
        net.run_until(20_000, |net| may_write(net, &mut refill, 3)),
        "{}",
        net.describe()
    );
    assert!(excludes_nobody(&net, 1) && excludes_nobody(&net, 2));
    let stamp = net.write(3, 0);
    assert!(
        net.run_until(10_000, |net| net.has_converged()),
        "{}",
        net.describe()
    );
    assert!(net.run_until(10_000, Net::is_all_stable));
    assert!(net.ops(1, 0).contains(&stamp) && !net.ops(1, 0).contains(&late));
}

#[test]
fn one_that_was_down_meanwhile_comes_back_though_it_has_not_heard_of_it() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    net.run_for(HORIZON_MS + 5_000);
    net.come_back(3, 10);
    net.run_for(2_000);
    net.heal();
    let mut refill = Refill::default();
    assert!(net.run_until(20_000, |net| may_write(net, &mut refill, 3)));
}

#[test]
fn one_that_never_wrote_comes_back_too_and_holds_up_nothing() {
    let mut net = Net::new(Setup {
        jitter_ms: 0,
        loss_percent: 0,
        ..Setup::three(1)
    });
    net.set_horizon(Some(HORIZON_MS));
    net.run_for(15_000);
    cut_off(&mut net, &[3], &[1, 2]);
    net.run_for(HORIZON_MS + 5_000);
    net.come_back(3, 10);
    net.heal();
    let mut refill = Refill::default();
    assert!(net.run_until(20_000, |net| may_write(net, &mut refill, 3)));
    let stamp = net.write(1, 0);
    let is_stable = |net: &mut Net| net.delivery(1, 0).stable().covers(stamp);
    assert!(net.run_until(10_000, is_stable), "{}", net.describe());
}

#[test]
fn what_is_passed_on_again_and_again_is_no_sign_of_life() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    for _ in 0..6 {
        net.cut(1, 2);
        net.run_for(3_500);
        net.heal();
        cut_off(&mut net, &[3], &[1, 2]);
        net.run_for(12_500);
    }
    assert!(is_excluded_at(&net, 1, 3) && is_excluded_at(&net, 2, 3));
}

#[test]
fn a_build_that_knows_of_no_exclusion_takes_it_for_being_forgotten() {
    let mut net = net(3);
    net.set_level(2, 6);
    net.restart(2);
    net.set_horizon(None);
    net.run_for(15_000);
    cut_off(&mut net, &[3], &[1, 2]);
    // 1 alone finds that it is time.
    net.set_short(1, true);
    let stage = |net: &Net| {
        let entry = net.roster(2).get(region(3), "region-3");
        entry.map(|entry| entry.stage)
    };
    let is_out = |net: &mut Net| stage(net) > Some(Stage::Member);
    assert!(net.run_until(100_000, is_out));
    assert_eq!(stage(&net), Some(Stage::Forgotten), "that it can be told");
    let after = net.write(1, 0);
    assert!(net.run_until(10_000, |net| net.delivery(1, 0).stable().covers(after)));
}

#[test]
fn a_region_that_was_forgotten_does_not_come_back_by_itself() {
    let mut net = net(3);
    cut_off(&mut net, &[3], &[1, 2]);
    net.run_for(HORIZON_MS + 5_000);
    assert!(is_excluded_at(&net, 2, 3));
    net.forget(1, 3);
    net.come_back(3, 10);
    net.heal();
    net.run_for(10_000);
    for at in [1, 2, 3] {
        let entry = net.roster(at).get(region(3), "region-3").cloned();
        let stage = entry.map(|entry| entry.stage);
        assert_eq!(stage, Some(Stage::Forgotten), "region {at}");
    }
}
