//! Scenarios that broke earlier drafts, step by step.

use std::sync::Arc;

use crdt::{Attached, Deadline, Epoch, Number, Origin, Seed, Time};
use geo::proto::Offer;
use meridian::oplog::Budget;
use meridian::shard::Shard;

use geo::proto::DeliveryConfig;
use geo::testing::region;

use super::{commands, replica};

/// A shard of one of two regions.
fn shard(own: u8, seed: Seed) -> Shard {
    let config = DeliveryConfig {
        own: Origin::new(region(own), Epoch(1)),
        members: [region(1), region(2)].into(),
        inbox_bytes_max: 1 << 20,
        max_clock_drift_ms: 1 << 40,
    };
    let budget = Arc::new(Budget::new(1 << 20));
    replica::shard(0, seed, 1, config, &budget, false)
}

/// Everything that one has written arrives at the other.
fn send(from: &mut Shard, to: &mut Shard, now_ms: u64) {
    let sender = from.origin().region;
    if let Some(frame) = from.seal() {
        assert_eq!(to.offer(frame, sender, now_ms), Offer::Ready);
    }
}

/// A lone deadline is dropped by each replica when it knows it to be stable. A write that begins a
/// new life where it has been dropped ends it elsewhere, too.
#[test]
fn a_new_life_inherits_no_deadline_that_its_issuer_has_collected() {
    let seed = Seed::from_text(b"regression");
    let (mut a, mut b) = (shard(1, seed), shard(2, seed));
    let slots: Vec<_> = a.state().slots().collect();
    let name = commands::key_names(|slot| slots.contains(&slot)).remove(0);
    let key = seed.key(&name);

    // Until both know what was before the other's epoch, and that it is closed.
    for ms in 990..994 {
        let beat = a.heartbeat(Time::from_ms(ms));
        b.heard(beat, region(1), ms);
        let beat = b.heartbeat(Time::from_ms(ms));
        a.heard(beat, region(2), ms);
    }

    let never = Attached::Deadline(Deadline::Never);
    a.transact(1_000, Some(key), |txn| txn.string_set(&key, b"v", never));
    send(&mut a, &mut b, 1_000);
    a.transact(1_001, Some(key), |txn| txn.remove(&key));
    b.transact(1_001, Some(key), |txn| {
        txn.set_deadline(&key, Deadline::At(9_000));
    });
    send(&mut a, &mut b, 1_002);
    send(&mut b, &mut a, 1_002);
    for ms in 1_003..1_010 {
        let beat = b.heartbeat(Time::from_ms(ms));
        a.heard(beat, region(2), ms);
        a.settle(usize::MAX);
    }
    let deadlines = (a.state().deadline(&key), b.state().deadline(&key));
    assert_eq!(
        deadlines,
        (None, Some(9_000)),
        "only one of them has collected it"
    );

    a.transact(1_020, Some(key), |txn| txn.string_add(&key, Number::int(1)));
    send(&mut a, &mut b, 1_020);
    assert_eq!(b.state().deadline(&key), None);
    assert_eq!(a.state().digest(), b.state().digest());
}

/// What a disk did not take is in no log, but the node shows it: a start that holds what was in the
/// log need not show the same.
#[test]
fn what_waits_for_a_disk_that_refuses_it_is_not_taken_for_held() {
    super::run_with(268_570_126_855_728, false);
}

/// One region forgets another of which a third hears a later life: until that third does without
/// it, too, what it says of the earlier lives is not its last word.
#[test]
fn who_has_not_heard_of_an_exclusion_has_not_had_the_last_word() {
    super::run_with(5_084, true);
}

/// Whoever decides that a region which was let in is not to come can be forgotten before it tells:
/// then it has to be decided again.
#[test]
fn a_decision_is_lost_with_the_region_that_made_it() {
    super::run_with(5_019, true);
    super::run_with(5_363, true);
}

/// Nobody could be asked to forget a region that was let in, and does not come.
#[test]
fn who_was_let_in_and_does_not_come_is_forgotten_once_somebody_can_be_asked() {
    super::run_with(7_000_150, true);
}

/// A region that joins serves while it has not heard that one which let it in has forgotten it.
#[test]
fn who_joins_may_have_been_forgotten_since() {
    super::run_with(5_366, true);
}

/// A disk that was full refuses the last write, without which nobody sees that a frame got lost.
#[test]
fn the_last_write_waits_for_a_disk_that_was_full() {
    super::run_with(5_370, true);
}

/// While one side of two waits for its last news, keys of the other go past their deadline.
#[test]
fn what_one_side_removes_while_the_other_is_waited_for_reaches_its_disk() {
    super::run_with(100_573, true);
}

/// A region did not serve within a minute: nobody has found out which change has mended that.
#[test]
fn a_region_serves_within_a_minute() {
    super::run_with(63_868_742_568_046, true);
}

/// A flush of another region, where uses of keys are noted.
#[test]
fn a_flush_is_no_use_of_a_key_of_another_shard() {
    super::run_with(100_909, true);
    super::run_with(101_152, true);
}

/// Of what is passed on for another region a frame gets lost, and nothing comes behind it.
#[test]
fn what_is_passed_on_last_may_be_lost() {
    super::run_with(247_256_662_272_992, true);
}

/// Of a counter in a hash, what one region has removed is all that another lacks of the hash, and a
/// catch-up compares.
#[test]
fn a_removed_part_is_not_passed_over_in_a_catch_up() {
    super::run_with(244_152_360_925_465, true);
}

/// Two sides have forgotten each other: of a life that ended then nothing is under way to the other
/// side when its region is let back in.
#[test]
fn nothing_is_under_way_between_regions_that_had_forgotten_each_other() {
    super::run_with(18_109_407_023_408, true);
}

/// Frames of an origin that is closed by now wait for a disk that refuses them: what is stable
/// since then is so because they have been applied, not because they are in the log.
#[test]
fn what_waits_for_a_disk_may_be_of_an_origin_that_is_closed() {
    super::run_with(184_049_888_093_646, true);
}

/// Ops of a region that is gone wait in one region for what another has as state, which has taken
/// in parts of these ops and hands out none before it has them.
#[test]
fn who_waits_for_state_hands_on_what_waits() {
    super::run_with(3_504_165_606_591, true);
}

/// Parts of a state that was being taken in get lost with the power: what is held is the same then,
/// and what is shown is not.
#[test]
fn a_start_need_not_show_parts_of_a_state_that_were_not_synced() {
    super::run_with(9_000_197, true);
}

/// A sync fails, a start writes once more what that was about, and a crash comes long after.
#[test]
fn what_a_start_has_written_once_more_is_not_undone() {
    super::run_with(193_871_518_679_186, true);
    super::run_with(176_319_568_064_162, false);
}

/// A region handed out state before it had said that it had applied what was in it, and the one
/// that took it in took its parts for all that there was of the ops of a region that had died.
#[test]
fn what_a_region_hands_out_it_holds_whatever_it_has_said() {
    super::run_with(67_745_375_537_963, false);
}

/// A region takes in parts of ops that one which is forgotten meanwhile has alone, and takes them
/// for the whole; the forgotten one goes on showing all of it.
#[test]
fn what_a_forgotten_region_alone_has_whole_is_not_what_the_others_have() {
    super::run_with(3_000_553, true);
}

/// A forgotten region is reached only by such as have heard of it when it was forgotten already.
#[test]
fn a_forgotten_region_is_told_by_those_that_never_knew_it_otherwise() {
    super::run_with(145_768_270_938_219, true);
    super::run_with(5_001_025, true);
}

/// Those that forget a region have started again, and heard of none of its epochs since; what they
/// hold has seen some.
#[test]
fn a_region_is_forgotten_by_such_as_have_heard_of_none_of_its_lives() {
    super::run_with(3_000_672, true);
    super::run_with(48_433_213_479_923, true);
}

/// All wait for a region that is not to come, and that decision was lost.
#[test]
fn a_lost_decision_for_which_nobody_serves_is_taken_again_at_once() {
    super::run_with(2_000_196, true);
}
