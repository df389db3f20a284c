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
    super::run(268_570_126_855_728);
}
