//! Regions that join while the others run, in virtual time; and the bytes of the record of them.

use std::path::Path;

use crdt::Epoch;
use geo::proto::{Lack, Refill, Roster, Stage};
use geo::testing::{Net, Setup, region};

fn calm(regions: u8) -> Setup {
    Setup {
        regions,
        jitter_ms: 0,
        loss_percent: 0,
        ..Setup::three(1)
    }
}

/// Whether a region that joins may write: all have confirmed it, and it lacks nothing.
fn may_write(net: &mut Net, refill: &mut Refill, at: u8) -> bool {
    net.is_confirmed(at)
        && net.with_link(at, 1, |_, _, shards| {
            refill.look_without([].into(), shards) == Lack::Nothing
        })
}

fn write_some(net: &mut Net, regions: &[u8], rounds: u16) {
    for round in 0..rounds {
        for &at in regions {
            net.write(at, round % 2);
        }
        net.run_for(5);
    }
}

#[test]
fn the_stored_record_is_read_and_written_alike() {
    let mut roster = Roster::new();
    for (id, name) in [(1, "one"), (2, "two")] {
        let addresses = [format!("{name}:6390")];
        let noted = roster.note(region(id), name, &addresses, Stage::Founding);
        assert_eq!(noted, Ok(true));
    }
    roster.add(region(3), "three", "three:6390").expect("free");
    assert!(roster.confirm(region(1)));
    let noted = roster.note(region(7), "seven", &[], Stage::Member);
    assert_eq!(noted, Ok(true));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/roster-v1.bin");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, roster.encode()).expect("the fixture is written");
    }
    let stored = std::fs::read(&path).expect("the fixture is there");
    assert_eq!(
        roster.encode(),
        stored,
        "the bytes of a format never change"
    );
    assert_eq!(Roster::decode(&stored), Ok(roster));
}

#[test]
fn the_stored_record_of_an_exclusion_is_read_and_written_alike() {
    let mut roster = Roster::new();
    for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
        let noted = roster.note(region(id), name, &[], Stage::Founding);
        assert_eq!(noted, Ok(true));
    }
    assert!(roster.exclude(region(2), Epoch(77)) && roster.confirm(region(1)));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/roster-v2.bin");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, roster.encode()).expect("the fixture is written");
    }
    let stored = std::fs::read(&path).expect("the fixture is there");
    assert_eq!(
        roster.encode(),
        stored,
        "the bytes of a format never change"
    );
    assert_eq!(Roster::decode(&stored), Ok(roster));
}

#[test]
fn a_region_joins_while_the_others_write_and_fills_up() {
    let mut net = Net::new(calm(2));
    write_some(&mut net, &[1, 2], 50);
    net.let_in(1, 3);
    write_some(&mut net, &[1, 2], 50);
    net.join(3, 1);
    let mut refill = Refill::default();
    let mut waited = 0;
    while !may_write(&mut net, &mut refill, 3) {
        write_some(&mut net, &[1, 2], 1);
        waited += 1;
        assert!(waited < 2_000, "{}", net.describe());
    }
    for shard in 0..2 {
        assert!(
            net.ops(3, shard).len() >= 100,
            "it has what was there before"
        );
    }
    write_some(&mut net, &[1, 2, 3], 50);
    assert!(
        net.run_until(5_000, |net| net.has_converged()),
        "{}",
        net.describe()
    );
    assert!(net.run_until(5_000, Net::is_all_stable));
    let linked = net.with_link(2, 3, |link, _, _| link.is_up());
    assert!(linked, "2 has learnt where it is from 1");
}

#[test]
fn from_the_moment_a_region_is_let_in_nothing_is_stable_without_it() {
    let mut net = Net::new(calm(2));
    write_some(&mut net, &[1, 2], 10);
    assert!(net.run_until(5_000, Net::is_all_stable));
    net.let_in(1, 3);
    let after = net.write(1, 0);
    net.run_for(10_000);
    assert!(
        !net.delivery(1, 0).stable().covers(after),
        "where it was let in"
    );
    assert!(
        !net.delivery(2, 0).stable().covers(after),
        "where that was heard"
    );
    assert!(net.roster(1).waits_for(region(3), "region-3").is_empty());
    net.join(3, 1);
    assert!(
        net.run_until(5_000, Net::is_all_stable),
        "{}",
        net.describe()
    );
}

#[test]
fn a_region_that_not_all_have_confirmed_does_not_write() {
    let mut net = Net::new(calm(2));
    write_some(&mut net, &[1, 2], 10);
    net.cut(1, 2);
    net.cut(2, 3);
    net.let_in(1, 3);
    net.join(3, 1);
    let mut refill = Refill::default();
    net.run_for(20_000);
    assert!(
        !may_write(&mut net, &mut refill, 3),
        "2 has not heard of it"
    );
    let own = net.roster(3);
    assert_eq!(own.waits_for(region(3), "region-3"), ["region-2"]);
    // What 2 does meanwhile it does without the third; that must have it before it writes.
    let stamp = net.write(2, 0);
    net.run_for(5_000);
    net.heal();
    assert!(net.run_until(10_000, |net| may_write(net, &mut refill, 3)));
    assert!(net.ops(3, 0).contains(&stamp));
}

#[test]
fn a_restart_in_the_middle_of_joining_forgets_nothing() {
    for who in [1, 2, 3] {
        let mut net = Net::new(calm(2));
        write_some(&mut net, &[1, 2], 20);
        net.let_in(1, 3);
        net.run_for(100);
        net.join(3, 1);
        net.run_for(70);
        net.restart(who);
        let mut refill = Refill::default();
        let joined = net.run_until(20_000, |net| may_write(net, &mut refill, 3));
        assert!(joined, "{who} restarts\n{}", net.describe());
        write_some(&mut net, &[3], 5);
        assert!(net.run_until(10_000, |net| net.has_converged()));
        assert_eq!(
            net.ops(1, 0).len() + net.ops(1, 1).len(),
            45,
            "{who} restarts"
        );
    }
}

#[test]
fn two_that_join_at_once_wait_for_each_other() {
    let mut net = Net::new(calm(2));
    write_some(&mut net, &[1, 2], 10);
    net.cut(1, 2);
    net.let_in(1, 3);
    net.let_in(2, 4);
    net.join(3, 1);
    net.join(4, 2);
    net.run_for(5_000);
    assert!(!net.is_confirmed(3) && !net.is_confirmed(4));
    net.heal();
    let mut refills = [Refill::default(), Refill::default()];
    assert!(net.run_until(20_000, |net| may_write(net, &mut refills[0], 3)));
    assert!(net.run_until(20_000, |net| may_write(net, &mut refills[1], 4)));
    write_some(&mut net, &[1, 2, 3, 4], 10);
    assert!(net.run_until(5_000, |net| net.has_converged()));
    assert!(net.run_until(5_000, Net::is_all_stable));
}

#[test]
fn an_id_that_two_regions_claim_is_nobodys() {
    let mut net = Net::new(calm(2));
    net.run_for(1_000);
    net.cut(1, 2);
    net.let_in(1, 3);
    net.claim(2, 3, "other");
    net.run_for(1_000);
    net.heal();
    net.run_for(2_000);
    for at in [1, 2] {
        let roster = net.roster(at);
        assert!(roster.clash(region(3), "other").is_some(), "region {at}");
        for name in ["region-3", "other"] {
            assert!(!roster.is_confirmed(region(3), name), "region {at}, {name}");
        }
    }
}

#[test]
fn a_forgotten_region_holds_up_nothing_any_more() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    // What 2 has of 3 and 1 has not is not lost by forgetting 3.
    net.cut(1, 3);
    net.cut(1, 2);
    let stamp = net.write(3, 0);
    net.run_for(500);
    net.cut(2, 3);
    net.run_for(5_000);
    net.heal();
    net.cut(1, 3);
    net.cut(2, 3);
    let after = net.write(1, 0);
    net.run_for(5_000);
    assert!(!net.delivery(1, 0).stable().covers(after), "3 holds it up");
    net.forget(1, 3);
    let is_stable = |net: &mut Net, at| {
        let stable = net.delivery(at, 0).stable().clone();
        stable.covers(after) && stable.covers(stamp)
    };
    assert!(
        net.run_until(5_000, |net| is_stable(net, 1) && is_stable(net, 2)),
        "{}",
        net.describe()
    );
    assert!(net.ops(1, 0).contains(&stamp) && net.ops(2, 0).contains(&stamp));
    assert!(net.delivery(1, 0).open_endings().is_empty());
}

#[test]
fn nothing_is_stable_before_all_that_stay_have_said_what_they_hold() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    net.cut(1, 2);
    net.cut(1, 3);
    net.cut(2, 3);
    net.forget(1, 3);
    let after = net.write(1, 0);
    net.run_for(10_000);
    assert!(!net.delivery(1, 0).stable().covers(after));
    assert!(
        !net.delivery(1, 0).open_endings().is_empty(),
        "2 has said nothing"
    );
}

/// Where the third region still takes what the forgotten one sends, of a life that has begun with
/// the very epoch by which it has ended elsewhere.
#[test]
fn nothing_is_stable_before_all_that_stay_do_without_the_forgotten() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    net.cut(1, 3);
    net.restart(3);
    net.run_for(500);
    let after = net.write(1, 0);
    net.run_for(300);
    net.cut_one_way(1, 2);
    net.forget(1, 3);
    net.run_for(2_000);
    let late = net.write(3, 0);
    net.run_for(300);
    assert!(net.ops(2, 0).contains(&after) && net.ops(2, 0).contains(&late));
    assert!(
        !net.delivery(1, 0).stable().covers(after),
        "{late} has not seen it"
    );
    net.heal();
    net.cut(1, 3);
    net.cut(2, 3);
    let is_stable = |net: &mut Net, at| {
        let stable = net.delivery(at, 0).stable().clone();
        stable.covers(after) && stable.covers(late)
    };
    assert!(
        net.run_until(5_000, |net| is_stable(net, 1) && is_stable(net, 2)),
        "{}",
        net.describe()
    );
    assert!(net.ops(1, 0).contains(&late), "as 2 held it");
}

#[test]
fn a_forgotten_region_is_told_and_what_it_writes_is_refused() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    net.cut(1, 3);
    net.cut(2, 3);
    let late = net.write(3, 0);
    net.run_for(5_000);
    net.forget(1, 3);
    net.run_for(5_000);
    net.heal();
    assert!(net.run_until(5_000, |net| net.knows_that_it_is_forgotten(3)));
    let sent = |net: &mut Net| {
        net.with_link(1, 3, |link, now, shards| {
            link.stats(now, shards).frames_sent
        })
    };
    let sent_before = sent(&mut net);
    net.run_for(10_000);
    for at in [1, 2] {
        assert!(!net.ops(at, 0).contains(&late), "region {at}");
    }
    assert!(!net.knows_that_it_is_forgotten(1) && !net.knows_that_it_is_forgotten(2));
    let stamp = net.write(1, 0);
    net.run_for(2_000);
    assert!(
        net.delivery(2, 0).stable().covers(stamp),
        "it holds up nothing"
    );
    assert_eq!(sent(&mut net), sent_before, "and gets nothing");
}

#[test]
fn regions_that_forget_each_other_go_on_apart() {
    let mut net = Net::new(calm(2));
    write_some(&mut net, &[1, 2], 20);
    net.cut(1, 2);
    net.run_for(5_000);
    net.forget(1, 2);
    net.forget(2, 1);
    let stamps = [net.write(1, 0), net.write(2, 0)];
    net.run_for(1_000);
    net.heal();
    net.run_for(10_000);
    for (at, stamp) in [(1, stamps[0]), (2, stamps[1])] {
        assert!(
            !net.knows_that_it_is_forgotten(at),
            "neither listens to the other"
        );
        assert!(net.delivery(at, 0).stable().covers(stamp));
    }
    assert!(!net.ops(1, 0).contains(&stamps[1]));
}

#[test]
fn a_forgotten_region_comes_back_under_a_new_epoch() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    net.cut(1, 3);
    net.cut(2, 3);
    net.run_for(5_000);
    net.forget(1, 3);
    write_some(&mut net, &[1, 2], 20);
    net.run_for(5_000);
    net.heal();
    net.run_for(1_000);
    net.rejoin(2, 3, 10);
    let mut refill = Refill::default();
    assert!(
        net.run_until(20_000, |net| may_write(net, &mut refill, 3)),
        "{}",
        net.describe()
    );
    write_some(&mut net, &[1, 2, 3], 20);
    assert!(
        net.run_until(10_000, |net| net.has_converged()),
        "{}",
        net.describe()
    );
    assert!(net.run_until(10_000, Net::is_all_stable));
    assert_eq!(net.ops(3, 0).len() + net.ops(3, 1).len(), 160);
}

/// It knows one region at first, which may have nothing itself: what the two hold is not all that
/// there is, and others have closed its old epochs where these had ended.
#[test]
fn a_region_that_comes_back_closes_nothing_before_it_knows_all_regions() {
    let mut net = Net::new(calm(3));
    write_some(&mut net, &[1, 2, 3], 20);
    net.run_for(2_000);
    net.cut(1, 2);
    net.cut(2, 3);
    net.forget(1, 2);
    net.run_for(5_000);
    net.cut(1, 3);
    net.restart(3);
    net.rejoin(3, 2, 10);
    net.heal();
    net.cut(1, 2);
    net.cut(1, 3);
    net.run_for(1_000);
    net.heal();
    assert!(
        net.run_until(10_000, |net| net.has_converged()),
        "{}",
        net.describe()
    );
    assert_eq!(net.ops(2, 0).len() + net.ops(2, 1).len(), 60);
}

#[test]
fn a_restart_of_who_has_forgotten_a_region_changes_nothing() {
    for who in [1, 2] {
        let mut net = Net::new(calm(3));
        write_some(&mut net, &[1, 2, 3], 20);
        net.run_for(2_000);
        net.cut(1, 3);
        net.cut(2, 3);
        net.run_for(5_000);
        net.forget(1, 3);
        net.run_for(300);
        net.restart(who);
        net.run_for(5_000);
        let after = net.write(1, 0);
        let stable = net.run_until(10_000, |net| net.delivery(2, 0).stable().covers(after));
        assert!(stable, "{who} restarts\n{}", net.describe());
    }
}

#[test]
fn one_that_never_came_is_forgotten_too() {
    let mut net = Net::new(calm(2));
    net.let_in(1, 3);
    net.run_for(2_000);
    let after = net.write(1, 0);
    net.run_for(5_000);
    assert!(!net.delivery(1, 0).stable().covers(after));
    net.forget(2, 3);
    assert!(net.run_until(5_000, |net| net.delivery(1, 0).stable().covers(after)));
}
