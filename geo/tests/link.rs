//! Scripts of two and three regions, in virtual time.

use crdt::{Epoch, FrameWriter, Origin, Version};
use geo::proto::{Event, LinkState, Offer};
use geo::testing::{Net, Setup, region};

fn calm(regions: u8, shards: u16) -> Setup {
    Setup {
        regions,
        shards,
        jitter_ms: 0,
        loss_percent: 0,
        ..Setup::three(1)
    }
}

#[track_caller]
fn check_converges(net: &mut Net, ms: u64) {
    assert!(
        net.run_until(ms, |net| net.has_converged()),
        "not the same within {ms} ms"
    );
}

#[test]
fn two_regions_exchange_what_they_write() {
    let mut net = Net::new(calm(2, 2));
    net.write(1, 0);
    net.write(2, 0);
    net.write(2, 1);
    check_converges(&mut net, 1_000);
    assert_eq!(net.ops(1, 0).len(), 2);
    assert!(net.run_until(1_000, Net::is_all_stable));
}

#[test]
fn an_op_takes_one_trip_and_its_acknowledgement_another() {
    let mut net = Net::new(calm(2, 2));
    net.run_for(2_000);
    let stamp = net.write(1, 0);
    net.run_for(21);
    assert!(net.ops(2, 0).contains(&stamp), "20 ms away");
    net.run_for(25);
    let version = [(stamp.origin, stamp.time)].into_iter().collect();
    assert_eq!(net.delivery(1, 0).acknowledged(&version, false), 1);
    assert_eq!(net.delivery(1, 0).acknowledged(&version, true), 1);
}

#[test]
fn an_idle_link_costs_little() {
    let mut net = Net::new(Setup {
        regions: 3,
        shards: 16,
        ..calm(3, 16)
    });
    for shard in 0..16 {
        net.write(1, shard);
    }
    net.run_for(5_000);
    let before = net.traffic(1, 2);
    net.run_for(10_000);
    let after = net.traffic(1, 2);
    // A datagram more for each: its headers and tag, and an acknowledgement that comes back.
    let bytes = after.bytes - before.bytes + 160 * (after.count - before.count);
    assert!(bytes / 10 < 2_000, "{} bytes a second", bytes / 10);
    assert!(30 <= after.count - before.count, "it still beats");
}

#[test]
fn after_a_cut_both_sides_go_on_from_where_they_were() {
    let mut net = Net::new(calm(2, 2));
    net.run_for(1_000);
    net.cut(1, 2);
    for _ in 0..500 {
        net.write(1, 0);
        net.write(2, 1);
        net.run_for(20);
    }
    assert_eq!(
        net.with_link(1, 2, |link, now, shards| link.state(now, shards)),
        LinkState::Down
    );
    let pending = net
        .with_link(1, 2, |link, now, shards| link.stats(now, shards))
        .pending_ops;
    assert_eq!(pending, 500);
    net.heal();
    check_converges(&mut net, 1_000);
    assert!(net.run_until(1_000, |net| {
        net.with_link(1, 2, |link, now, shards| link.state(now, shards)) == LinkState::Live
    }));
    assert!(net.run_until(1_000, |net| {
        let stats = net.with_link(1, 2, |link, now, shards| link.stats(now, shards));
        (stats.lag_ms, stats.pending_ops, stats.in_flight_bytes) == (0, 0, 0)
    }));
}

#[test]
fn a_one_way_cut_takes_the_link_down_and_heals() {
    let mut net = Net::new(calm(2, 2));
    net.run_for(1_000);
    net.cut_one_way(1, 2);
    net.write(1, 0);
    net.run_for(4_000);
    let is_up = |net: &mut Net, at, peer| net.with_link(at, peer, |link, _, _| link.is_up());
    assert!(!is_up(&mut net, 1, 2) && !is_up(&mut net, 2, 1));
    net.heal();
    check_converges(&mut net, 1_000);
}

#[test]
fn what_a_cut_link_would_have_brought_comes_from_a_third_region() {
    let mut net = Net::new(calm(3, 2));
    net.run_for(1_000);
    net.cut(1, 2);
    net.run_for(3_500);
    let stamp = net.write(1, 0);
    assert!(
        net.run_until(300, |net| net.ops(2, 0).contains(&stamp)),
        "by region 3"
    );
    assert!(
        net.run_until(2_000, Net::is_all_stable),
        "acknowledgements are relayed too"
    );
    net.heal();
    net.run_for(3_000);
    let before = net.with_link(3, 2, |link, now, shards| link.stats(now, shards));
    net.write(1, 0);
    net.run_for(1_000);
    let after = net.with_link(3, 2, |link, now, shards| link.stats(now, shards));
    assert_eq!(
        before.frames_relayed, after.frames_relayed,
        "and no longer than needed"
    );
}

#[test]
fn a_cut_delays_an_op_by_three_seconds_at_most() {
    let mut net = Net::new(calm(3, 2));
    net.run_for(1_000);
    net.cut(1, 2);
    let stamp = net.write(1, 0);
    assert!(net.run_until(3_000, |net| net.ops(2, 0).contains(&stamp)));
}

#[test]
fn a_restarted_region_comes_up_empty_refills_and_closes_its_old_origin() {
    let mut net = Net::new(calm(3, 2));
    net.run_for(1_000);
    for _ in 0..20 {
        net.write(1, 0);
        net.write(2, 0);
        net.run_for(10);
    }
    net.run_for(500);
    net.restart(1);
    assert!(net.ops(1, 0).is_empty());
    net.write(1, 0);
    check_converges(&mut net, 3_000);
    assert_eq!(
        net.ops(1, 0).len(),
        41,
        "what it had written before is back"
    );
    let origins: Vec<_> = net
        .delivery(3, 0)
        .version()
        .iter()
        .map(|(o, _)| o)
        .collect();
    assert_eq!(origins.len(), 3, "one open origin a region: {origins:?}");
    assert!(net.run_until(2_000, Net::is_all_stable));
}

#[test]
fn a_lost_tail_that_reached_one_region_flows_back() {
    let mut net = Net::new(calm(3, 1));
    net.run_for(1_000);
    net.cut(1, 2);
    net.run_for(10);
    let stamp = net.write(1, 0);
    net.run_for(100);
    assert!(net.ops(3, 0).contains(&stamp) && !net.ops(2, 0).contains(&stamp));
    net.restart(1);
    net.heal();
    check_converges(&mut net, 5_000);
    assert!(net.ops(1, 0).contains(&stamp) && net.ops(2, 0).contains(&stamp));
}

#[test]
fn two_regions_that_restart_in_turn_get_everything_back() {
    let mut net = Net::new(calm(2, 1));
    net.run_for(1_000);
    for round in 1..=3 {
        for at in [1, 2] {
            net.write(at, 0);
            net.run_for(500);
            net.restart(at);
            net.write(at, 0);
            check_converges(&mut net, 3_000);
            let expected = 4 * (round - 1) + 2 * usize::from(at);
            assert_eq!(net.ops(at, 0).len(), expected, "round {round}, region {at}");
        }
    }
}

#[test]
fn a_log_that_no_longer_reaches_back_says_so_and_does_not_skip() {
    let mut net = Net::new(calm(2, 2));
    net.run_for(1_000);
    net.limit_log(1, 3);
    net.cut(1, 2);
    net.run_for(4_000);
    for _ in 0..10 {
        net.write(1, 0);
        net.write(1, 1);
        // Somebody else reads this log too, so that its frames are sealed.
        net.with_link(1, 2, |_, _, shards| shards.next_frame(0, 0, &mut |_| false));
    }
    net.heal();
    let is_up = |net: &mut Net| net.with_link(2, 1, |link, _, _| link.is_up());
    assert!(net.run_until(1_000, is_up));
    net.run_for(100);
    assert!(net.ops(2, 0).is_empty(), "rather than with a gap");
    assert_eq!(net.ops(2, 1).len(), 10, "other shards go on");
    let stats = net.with_link(1, 2, |link, now, shards| link.stats(now, shards));
    assert_eq!(stats.shards_behind, 1);
    check_converges(&mut net, 1_500);
    let behind = net
        .events
        .iter()
        .filter(|(_, at, _, event)| *at == region(1) && *event == Event::Behind { shard: 0 });
    assert_eq!(behind.count(), 1);
}

#[test]
fn a_clock_far_ahead_waits_and_drags_nobody_along() {
    let mut net = Net::new(calm(2, 1));
    net.run_for(1_000);
    net.set_skew(1, 5_000);
    let stamp = net.write(1, 0);
    net.run_for(3_000);
    assert!(!net.ops(2, 0).contains(&stamp));
    let other = net.write(2, 0);
    assert!(other.time.ms() + 1_000 < stamp.time.ms());
    net.run_for(2_000);
    assert!(net.ops(2, 0).contains(&stamp), "its time has come");

    let stamp = net.write(1, 0);
    net.delivery(2, 0).accept_clock(region(1));
    net.run_for(100);
    assert!(
        net.ops(2, 0).contains(&stamp),
        "or an operator has admitted it"
    );
}

#[test]
fn a_clock_that_is_ahead_is_noticed_and_so_is_one_that_is_right_again() {
    let mut net = Net::new(calm(2, 1));
    let ahead =
        |net: &mut Net, at, peer| net.with_link(at, peer, |link, _, _| link.clock_ahead_ms());
    net.set_skew(1, 700);
    net.run_for(1_000);
    assert_eq!(
        ahead(&mut net, 1, 2),
        None,
        "too early to tell from a slow link"
    );
    net.run_for(12_000);
    assert_eq!(
        ahead(&mut net, 1, 2),
        Some(700 + 20),
        "and 20 ms on the way"
    );
    assert_eq!(ahead(&mut net, 2, 1), Some(-700 + 20));
    net.set_skew(1, 0);
    net.run_for(500);
    assert_eq!(ahead(&mut net, 1, 2), Some(20), "at once");
    net.cut(1, 2);
    net.run_for(4_000);
    assert_eq!(ahead(&mut net, 1, 2), None, "nobody is heard");
}

#[test]
fn regions_of_two_databases_or_shard_counts_refuse_each_other() {
    let mut net = Net::new(calm(2, 2));
    let mut other = Net::new(calm(2, 4));
    let hello = |net: &mut Net, at, peer| {
        net.with_link(at, peer, |link, now, shards| {
            link.connected(now);
            link.poll_transmit(now, shards)
        })
    };
    let Some(geo::proto::Transmit::Control(hello)) = hello(&mut other, 2, 1) else {
        panic!("a hello comes first")
    };
    let error = net.with_link(1, 2, |link, now, shards| {
        link.connected(now);
        link.handle_control(now, &hello, shards).unwrap_err()
    });
    assert_eq!(error.to_string(), "the peer has 4 shards, we have 2");
    assert_eq!(error.fault(), geo::proto::Fault::Setup);
    let state = net.with_link(1, 2, |link, now, shards| link.state(now, shards));
    assert_eq!(state, LinkState::Down, "a connection is no link");
}

#[test]
fn a_peer_that_has_been_replaced_is_refused() {
    let mut net = Net::new(calm(2, 1));
    let mut old = Net::new(calm(2, 1));
    net.run_for(1_000);
    net.restart(2);
    net.run_for(1_000);
    let hello = old.with_link(2, 1, |link, now, shards| {
        link.connected(now);
        link.poll_transmit(now, shards)
    });
    let Some(geo::proto::Transmit::Control(hello)) = hello else {
        panic!("a hello comes first")
    };
    let error = net.with_link(1, 2, |link, now, shards| {
        link.connected(now);
        link.handle_control(now, &hello, shards).unwrap_err()
    });
    assert_eq!(
        error.to_string(),
        "origin 2@1 has ended: epoch 2 of its region is known"
    );
}

#[test]
fn after_a_gap_what_is_missing_is_asked_for_again() {
    let mut net = Net::new(calm(2, 1));
    net.run_for(1_000);
    net.drop_next_frame(1, 2);
    net.write(1, 0);
    net.run_for(100);
    assert_eq!(net.ops(2, 0).len(), 0);
    net.write(1, 0);
    check_converges(&mut net, 500);
}

/// What turns up late is handed to the region whose it is, and kept until that has issued it again.
#[test]
fn a_late_op_finds_its_region() {
    let mut net = Net::new(calm(3, 1));
    net.write(1, 0);
    check_converges(&mut net, 5_000);
    net.restart(1);
    check_converges(&mut net, 5_000);
    let old = Origin::new(region(1), Epoch(1));
    let mut writer = FrameWriter::new(0, old);
    let time = net.delivery(3, 0).closed_at(old).next();
    writer.begin_op(time, &Version::new());
    writer.end_op();
    let late = writer.seal().expect("one op");
    let offered = net.delivery(3, 0).offer(late.clone(), region(2), 0);
    assert_eq!(offered, Offer::Late(late.clone()));
    let has_arrived = net.run_until(1_000, |net| {
        net.delivery(1, 0).late() == std::slice::from_ref(&late)
    });
    assert!(has_arrived);
    assert!(net.delivery(1, 0).can_reissue(&late));
    assert_eq!(net.delivery(3, 0).late(), std::slice::from_ref(&late));
    assert_eq!(net.delivery(2, 0).late(), []);
}

/// A life that has only begun does not know what was closed, so it would apply what turned up late.
#[test]
fn a_late_op_waits_until_its_region_knows_that_it_is_late() {
    let mut net = Net::new(calm(3, 1));
    net.write(1, 0);
    check_converges(&mut net, 5_000);
    net.restart(1);
    check_converges(&mut net, 5_000);
    net.cut(1, 3);
    net.run_for(4_000);
    let old = Origin::new(region(1), Epoch(1));
    let mut writer = FrameWriter::new(0, old);
    let last = net.delivery(3, 0).closed_at(old);
    writer.begin_op(last, &Version::new());
    writer.end_op();
    writer.seal().expect("the op that all have");
    writer.begin_op(last.next(), &Version::new());
    writer.end_op();
    let late = writer.seal().expect("one op");
    let offered = net.delivery(3, 0).offer(late.clone(), region(2), 0);
    assert_eq!(offered, Offer::Late(late.clone()));
    net.restart(1);
    net.heal();
    net.cut(1, 2); // Region 2 is needed to know what was closed.
    net.run_for(1_000);
    net.heal();
    check_converges(&mut net, 10_000);
    let has_arrived = net.run_until(2_000, |net| {
        net.delivery(1, 0).late() == std::slice::from_ref(&late)
    });
    assert!(has_arrived, "and is not applied");
}

/// How long it takes, in milliseconds, until two regions have acknowledged an op of shard 0.
fn acknowledged_ms(net: &mut Net, stamp: crdt::Stamp) -> u64 {
    let version = [(stamp.origin, stamp.time)].into_iter().collect();
    let is_acknowledged = |net: &mut Net| {
        net.delivery(stamp.origin.region.id(), 0)
            .acknowledged(&version, false)
            == 2
    };
    let took_ms = (0..2_000).find(|_| {
        net.run_for(1);
        is_acknowledged(net)
    });
    took_ms.expect("within two seconds") + 1
}

#[test]
fn an_op_that_waits_for_a_late_link_is_acknowledged_soon_after_it_is_up() {
    for written_ms in 0..300 {
        let mut net = Net::new(calm(3, 2));
        net.cut(1, 2);
        net.run_for(650);
        // Regions 1 and 2 hear of each other now. Region 3 knows both, but not yet that they do:
        // until then it cannot tell which origins there are.
        net.heal();
        net.run_for(written_ms);
        let stamp = net.write(1, 0);
        let took_ms = acknowledged_ms(&mut net, stamp);
        assert!(took_ms <= 90, "{took_ms} ms, after {written_ms}");
    }
}

#[test]
fn an_op_that_waited_for_another_is_acknowledged_once_that_has_come() {
    let mut net = Net::new(calm(3, 2));
    net.run_for(1_000);
    for wait_ms in 0..40 {
        net.cut(1, 3);
        net.write(1, 0);
        assert!(net.run_until(100, |net| net.ops(2, 0) != net.ops(3, 0)));
        let stamp = net.write(2, 0);
        net.run_for(30 + 5 * wait_ms);
        net.heal();
        let took_ms = acknowledged_ms(&mut net, stamp);
        assert!(took_ms <= 60, "{took_ms} ms after {wait_ms}");
        net.run_for(500);
    }
}
