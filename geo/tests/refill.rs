//! When a region that has started with nothing may serve clients, in virtual time.

use std::collections::BTreeSet;

use geo::proto::{Event, Lack, Refill};
use geo::testing::{Net, Setup, region};

fn calm(regions: u8) -> Setup {
    Setup {
        regions,
        jitter_ms: 0,
        loss_percent: 0,
        ..Setup::three(1)
    }
}

/// What a region lacks.
fn look(net: &mut Net, refill: &mut Refill, at: u8) -> Lack {
    let other = if at == 1 { 2 } else { 1 };
    net.with_link(at, other, |_, now, shards| refill.look(now, shards))
}

/// Lets time pass until a region lacks nothing. Returns how long that took, in steps of 10 ms.
fn refill_ms(net: &mut Net, refill: &mut Refill, at: u8) -> u64 {
    let began = net.now();
    let is_full = net.run_until(20_000, |net| look(net, refill, at) == Lack::Nothing);
    let lack = look(net, refill, at);
    assert!(is_full, "it lacks {lack:?}\n{}", net.describe());
    net.now().since(began).ms()
}

#[test]
fn regions_that_start_together_do_not_wait_for_each_other() {
    let mut net = Net::new(calm(3));
    let mut refills = [(); 3].map(|()| Refill::default());
    let all = |net: &mut Net| {
        let lacks = (1..).zip(&mut refills);
        lacks
            .map(|(at, refill)| look(net, refill, at))
            .all(|lack| lack == Lack::Nothing)
    };
    assert!(net.run_until(150, all), "a few trips of 20 ms are enough");
}

#[test]
fn the_first_region_to_start_waits_three_seconds() {
    let mut net = Net::new(calm(3));
    net.cut(1, 2);
    net.cut(1, 3);
    let mut refill = Refill::default();
    assert_eq!(look(&mut net, &mut refill, 1), Lack::Word(region(2)));
    let took_ms = refill_ms(&mut net, &mut refill, 1);
    assert!((2_990..=3_010).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn a_restarted_region_has_what_any_other_held_when_that_first_heard_of_it() {
    for lost in [None, Some(3)] {
        let mut net = Net::new(Setup {
            bytes_max: 300,
            ..calm(3)
        });
        for number in 0_u16..300 {
            net.write(1 + (number % 3) as u8, number % 2);
            net.run_for(3);
        }
        if let Some(lost) = lost {
            net.cut(1, lost);
            net.cut(2, lost);
            net.run_for(4_000);
        }
        let held: Vec<BTreeSet<_>> = (0..2).map(|shard| net.ops(2, shard).clone()).collect();
        net.restart(1);
        let mut refill = Refill::default();
        let took_ms = refill_ms(&mut net, &mut refill, 1);
        for (shard, held) in (0..).zip(&held) {
            assert!(net.ops(1, shard).is_superset(held), "lost: {lost:?}");
        }
        assert_eq!(lost.is_some(), 3_000 <= took_ms, "{took_ms} ms");
    }
}

#[test]
fn word_of_a_region_comes_through_another_one() {
    let mut net = Net::new(calm(3));
    net.run_for(1_000);
    net.cut(1, 3);
    net.run_for(4_000);
    net.write(3, 0);
    net.run_for(1_000);
    net.restart(1);
    let mut refill = Refill::default();
    let took_ms = refill_ms(&mut net, &mut refill, 1);
    assert!(took_ms < 2_900, "3 is not given up: {took_ms} ms");
    assert_eq!(net.ops(1, 0), net.ops(3, 0));
}

#[test]
fn what_a_region_is_known_to_have_held_is_waited_for() {
    let mut net = Net::new(Setup {
        bytes_max: 300,
        ..calm(2)
    });
    net.run_for(1_000);
    for _ in 0..500 {
        net.write(2, 0);
        net.run_for(1);
    }
    net.run_for(5_000);
    net.restart(1);
    let mut refill = Refill::default();
    let lacks_ops =
        |net: &mut Net, refill: &mut Refill| look(net, refill, 1) == Lack::Ops(region(2));
    assert!(net.run_until(2_000, |net| lacks_ops(net, &mut refill)));
    net.cut(1, 2);
    net.run_for(20_000);
    assert_eq!(look(&mut net, &mut refill, 1), Lack::Ops(region(2)));
    net.heal();
    refill_ms(&mut net, &mut refill, 1);
    assert_eq!(net.ops(1, 0).len(), 500);
}

/// Region 1 has started again with nothing, and the log of region 2 lacks some of what it lacks.
fn beyond_the_log() -> (Net, Refill) {
    let mut net = Net::new(calm(2));
    net.limit_log(2, 3);
    net.run_for(1_000);
    for _ in 0..10 {
        net.write(2, 0);
        net.run_for(100);
    }
    net.restart(1);
    let mut refill = Refill::default();
    let lacks = net.run_until(2_000, |net| {
        look(net, &mut refill, 1) == Lack::Ops(region(2))
    });
    assert!(lacks, "it hears what region 2 holds");
    (net, refill)
}

#[test]
fn a_region_hears_that_a_log_no_longer_has_what_it_lacks_and_takes_the_state() {
    let (mut net, mut refill) = beyond_the_log();
    assert!(net.run_until(5_000, |net| look(net, &mut refill, 1) == Lack::Nothing));
    let told = net.events.iter();
    let told = told.filter(|(_, at, from, _)| (*at, *from) == (region(1), region(2)));
    let mut told = told.map(|(_, _, _, event)| event);
    let is_cut_off = |event: &Event| *event == Event::Unreachable { shards: vec![0] };
    assert!(told.any(is_cut_off), "the log does not reach back");
    let is_mended = |event: &Event| matches!(event, Event::CaughtUp { shard: 0, .. });
    assert!(told.any(is_mended), "the state has come");
}

#[test]
fn what_cannot_be_had_is_done_without_when_an_operator_says_so() {
    let (mut net, mut refill) = beyond_the_log();
    net.cut(1, 2);
    net.run_for(10_000);
    assert_eq!(look(&mut net, &mut refill, 1), Lack::Ops(region(2)));
    net.with_link(1, 2, |_, _, shards| refill.end(shards));
    assert_eq!(look(&mut net, &mut refill, 1), Lack::Nothing);
}
