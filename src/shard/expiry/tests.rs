//! Who removes what is past its deadline, and when: regions whose ops and heartbeats come by hand.

use std::sync::Arc;

use crdt::{Attached, Deadline, End, Epoch, Key, Number, Origin, Region, SLOTS, Seed, Slot, Time};
use geo::proto::Offer;

use super::*;
use crate::command::CommandError;
use crate::limits;
use crate::oplog::Budget;
use crate::shard::{Identity, Peers};

pub(super) const DRIFT_MS: u64 = 500;
pub(super) const GRACE_MS: u64 = 10_000;
/// When deadlines of these tests are.
pub(super) const END_MS: u64 = 100_000;
/// A time before them, when all is quiet.
pub(super) const BEFORE_MS: u64 = 50_000;
/// From when on a setter that has heard this time from everybody removes.
const HEARD_MS: u64 = END_MS + DRIFT_MS + 1;

const NEVER: Attached = Attached::Deadline(Deadline::Never);

pub(super) fn region(id: u8) -> Region {
    Region::new(id).expect("not 0")
}

pub(super) fn shard(id: u8, epoch: u64, regions: u8) -> Shard {
    let identity = Identity {
        number: 0,
        first: Slot::new(0).expect("0 is a slot"),
        slots: SLOTS,
        origin: Origin::new(region(id), Epoch(epoch)),
        alone: regions == 1,
    };
    let peers = Peers {
        members: (1..=regions).map(region).collect(),
        clock_drift_max_ms: DRIFT_MS,
        budget: Arc::new(Budget::new(limits::MIB as u64)),
        on_disk: false,
    };
    Shard::with_peers(identity, Seed::from_text(b"test"), 1, peers)
}

/// Regions by id, each with one shard; what they send waits until it is delivered.
struct World {
    shards: Vec<Shard>,
}

impl World {
    /// Regions that know each other.
    fn new(regions: u8) -> Self {
        let shards = (1..=regions).map(|id| shard(id, 1_000, regions)).collect();
        let mut world = Self { shards };
        world.settle(BEFORE_MS);
        world
    }

    fn at(&mut self, id: u8) -> &mut Shard {
        &mut self.shards[usize::from(id) - 1]
    }

    fn ids(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.shards.len() as u8
    }

    /// A region says to the others that it is at this time.
    fn beat(&mut self, from: u8, ms: u64) {
        let beat = self.at(from).heartbeat(Time::from_ms(ms));
        for to in self.ids().filter(|&to| to != from) {
            self.at(to).heard(beat.clone(), region(from), ms);
        }
    }

    /// What a region has written arrives everywhere.
    fn send(&mut self, from: u8, ms: u64) {
        if let Some(frame) = self.at(from).seal() {
            for to in self.ids().filter(|&to| to != from) {
                let answer = self.at(to).offer(frame.clone(), region(from), ms);
                assert!(
                    matches!(answer, Offer::Ready | Offer::Waiting),
                    "{answer:?}"
                );
            }
        }
    }

    /// Everything arrives, everybody hears so, and what is stable is settled.
    fn settle(&mut self, ms: u64) {
        self.ids().for_each(|from| self.send(from, ms));
        for ms in ms..ms + 4 {
            self.ids().for_each(|from| self.beat(from, ms));
        }
        for shard in &mut self.shards {
            while shard.settle(usize::MAX) {}
        }
    }

    /// Writes at a region, and delivers that to all.
    fn write(&mut self, id: u8, ms: u64, run: impl FnOnce(&mut Txn<'_>)) {
        self.at(id).transact(ms, None, run);
        self.settle(ms);
    }

    /// A round of removing at a region to which none is down.
    fn expire(&mut self, id: u8, now_ms: u64) -> usize {
        self.expire_without(id, now_ms, &[])
    }

    fn expire_without(&mut self, id: u8, now_ms: u64, down: &[Region]) -> usize {
        self.at(id).expire(&Round {
            now_ms,
            grace_ms: GRACE_MS,
            down,
            limit: 1_000,
        })
    }

    /// Nothing is left anywhere once all has arrived, and all agree.
    #[track_caller]
    fn check_gone(&mut self, ms: u64) {
        self.settle(ms);
        self.settle(ms + 10);
        for shard in &self.shards {
            let state = shard.state();
            assert!(state.is_void(), "in {}: {state:?}", shard.origin());
        }
    }
}

pub(super) fn key(name: &[u8]) -> Key<'_> {
    Seed::from_text(b"test").key(name)
}

/// A set with one member that ends.
pub(super) fn write_set(txn: &mut Txn<'_>, name: &[u8]) {
    txn.set_add(&key(name), &[b"m"]).unwrap();
    txn.set_deadline(&key(name), Deadline::At(END_MS));
}

fn extend(txn: &mut Txn<'_>, name: &[u8]) {
    txn.set_deadline(&key(name), Deadline::At(END_MS + 50_000));
}

pub(super) fn write_field(txn: &mut Txn<'_>, name: &[u8], field: &[u8]) {
    txn.hash_set(&key(name), field, b"v", NEVER);
    txn.hash_deadline(&key(name), field, Deadline::At(END_MS));
}

#[test]
fn who_set_the_deadline_removes_once_it_has_heard_from_all() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
    });
    world.beat(1, HEARD_MS);
    world.beat(3, HEARD_MS - 1);
    assert_eq!(world.expire(2, HEARD_MS), 0, "one region is behind");
    world.beat(3, HEARD_MS);
    assert_eq!(world.expire(2, END_MS - 1), 0, "it is not past yet");
    assert_eq!(world.expire(1, HEARD_MS), 0, "another does not");
    assert_eq!(world.expire(2, HEARD_MS), 2);
    let expired = Expired { keys: 1, fields: 1 };
    assert_eq!(world.at(2).expired(), expired);
    world.check_gone(HEARD_MS);
    assert_eq!(world.at(1).expired(), expired, "others count it, too");
}

#[test]
fn an_extension_made_in_time_elsewhere_is_not_lost() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
    });
    world.at(3).transact(END_MS - 1, None, |txn| {
        extend(txn, b"k");
        txn.hash_deadline(&key(b"h"), b"f", Deadline::Never);
    });
    world.beat(1, HEARD_MS);
    assert_eq!(world.expire(2, HEARD_MS), 0, "region 3 has not been heard");
    world.send(3, HEARD_MS);
    world.beat(3, HEARD_MS);
    assert_eq!(world.expire(2, HEARD_MS), 0, "it has extended both");
    for id in 1..=3 {
        let state = world.at(id).state();
        assert_eq!(state.deadline(&key(b"k")), Some(END_MS + 50_000));
        let hash = state.hash(&key(b"h"), HEARD_MS).expect("a hash");
        assert_eq!(hash.deadline(b"f"), None);
    }
}

/// A clock that is behind stamps later than it shows: by its own clock it was in time.
#[test]
fn an_extension_by_a_clock_that_is_behind_is_not_lost() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| write_set(txn, b"k"));
    let ahead = key(b"other");
    world.at(1).transact(END_MS + 400, None, |txn| {
        txn.string_set(&ahead, b"v", NEVER);
    });
    world.send(1, END_MS - 50);
    world
        .at(3)
        .transact(END_MS - 50, None, |txn| extend(txn, b"k"));
    assert!(Time::from_ms(END_MS + 400) < world.at(3).written());
    for id in [1, 3] {
        world.beat(id, END_MS + 399);
    }
    assert_eq!(world.expire(2, HEARD_MS), 0, "more of region 3 may come");
    world.send(3, HEARD_MS);
    world.beat(1, HEARD_MS);
    world.beat(3, HEARD_MS);
    assert_eq!(world.expire(2, HEARD_MS), 0);
    assert!(world.at(2).state().kind(&key(b"k"), HEARD_MS).is_some());
}

#[test]
fn a_region_that_is_down_is_not_waited_for_unless_others_hear_it() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| write_set(txn, b"k"));
    world.beat(1, HEARD_MS);
    let down = [region(3)];
    world.beat(3, HEARD_MS - 100);
    let removed = world.expire_without(2, HEARD_MS, &down);
    assert_eq!(removed, 0, "heard of through others, a moment ago");
    let later_ms = HEARD_MS + SILENCE_MS;
    assert_eq!(world.expire_without(2, later_ms, &[]), 0, "not down");
    assert_eq!(world.expire_without(2, later_ms, &down), 1);
    world.check_gone(later_ms);
}

#[test]
fn where_the_setter_is_silent_the_lowest_live_region_removes_after_the_grace() {
    let mut world = World::new(3);
    world.write(1, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
    });
    let late_ms = END_MS + GRACE_MS;
    world.beat(2, late_ms);
    world.beat(3, late_ms);
    let down = [region(1)];
    assert_eq!(world.expire_without(2, late_ms - 1, &down), 0, "too early");
    assert_eq!(world.expire_without(3, late_ms, &down), 0, "region 2 does");
    assert_eq!(world.expire_without(2, late_ms, &[]), 0, "region 1 is live");
    assert_eq!(world.expire_without(2, late_ms, &down), 2);
    world.check_gone(late_ms);
}

/// Two regions that disagree about who set it leave it to the lowest.
#[test]
fn what_is_still_there_after_the_grace_goes() {
    let mut world = World::new(2);
    world.write(2, BEFORE_MS, |txn| write_set(txn, b"k"));
    let late_ms = END_MS + GRACE_MS;
    world.beat(2, late_ms);
    assert_eq!(world.expire(1, late_ms), 1);
    world.check_gone(late_ms);
}

#[test]
fn a_third_region_that_lags_is_waited_for_by_the_lowest_too() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| write_set(txn, b"k"));
    world
        .at(3)
        .transact(END_MS - 1, None, |txn| extend(txn, b"k"));
    let late_ms = END_MS + GRACE_MS;
    world.beat(2, late_ms);
    assert_eq!(world.expire(1, late_ms), 0);
    world.send(3, late_ms);
    world.beat(3, late_ms);
    assert_eq!(world.expire(1, late_ms), 0, "it was extended");
}

#[test]
fn what_a_region_wrote_in_an_earlier_life_is_waited_for_up_to_the_grace() {
    let mut world = World::new(3);
    world.write(2, BEFORE_MS, |txn| write_set(txn, b"k"));
    *world.at(3) = shard(3, 2_000, 3);
    let beat = world.at(3).heartbeat(Time::from_ms(HEARD_MS));
    world.at(2).heard(beat, region(3), HEARD_MS);
    let beat = world.at(1).heartbeat(Time::from_ms(HEARD_MS));
    world.at(2).heard(beat, region(1), HEARD_MS);
    // Region 1 may hold more of its earlier life.
    assert!(!world.at(2).delivery().open_endings().is_empty());
    assert_eq!(world.expire(2, HEARD_MS), 0);
    assert_eq!(world.expire(2, END_MS + GRACE_MS), 1);
}

#[test]
fn two_regions_may_remove_the_same() {
    let mut world = World::new(3);
    world.write(1, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        txn.string_add(&key(b"n"), Number::int(5));
        txn.set_deadline(&key(b"n"), Deadline::At(END_MS));
    });
    let late_ms = END_MS + GRACE_MS;
    for id in 1..=3 {
        world.beat(id, late_ms);
    }
    assert_eq!(world.expire(1, late_ms), 2);
    let down = [region(1)];
    let later_ms = late_ms + SILENCE_MS + 1;
    assert_eq!(world.expire_without(2, later_ms, &down), 2);
    world.check_gone(later_ms);
}

#[test]
fn what_a_removal_had_not_seen_goes_in_the_next_round() {
    let mut world = World::new(2);
    world.write(1, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
        let ends = Attached::Deadline(Deadline::At(END_MS));
        txn.string_set(&key(b"n"), b"1", ends);
    });
    world.at(2).transact(END_MS - 1, None, |txn| {
        txn.set_add(&key(b"k"), &[b"unseen"]).unwrap();
        txn.hash_set(&key(b"h"), b"f", b"unseen", Attached::Nothing);
        txn.string_add(&key(b"n"), Number::int(1));
    });
    let now_ms = END_MS + GRACE_MS;
    assert_eq!(world.expire_without(1, now_ms, &[region(2)]), 3);
    world.settle(now_ms);
    for id in 1..=2 {
        let state = world.at(id).state();
        assert_eq!(state.len(), 3, "what was not seen is there");
        for name in [b"k", b"h", b"n"] {
            assert_eq!(state.kind(&key(name), now_ms), None, "hidden");
        }
    }
    world.settle(now_ms + 10);
    let deadlines = [b"k", b"h", b"n"].map(|name| world.at(1).state().deadline(&key(name)));
    assert_eq!(deadlines, [Some(END_MS), None, Some(END_MS)]);
    // The field's new value and the counter say themselves when they end.
    assert_eq!(world.expire(1, HEARD_MS), 1);
    assert_eq!(world.expire(2, HEARD_MS), 2);
    world.check_gone(now_ms + 20);
}

#[test]
fn an_extension_by_a_region_that_was_cut_off_leaves_nothing() {
    let mut world = World::new(2);
    world.write(1, BEFORE_MS, |txn| write_set(txn, b"k"));
    world
        .at(2)
        .transact(END_MS - 1, None, |txn| extend(txn, b"k"));
    let later_ms = END_MS + 2 * SILENCE_MS;
    assert_eq!(world.expire_without(1, later_ms, &[region(2)]), 1);
    world.check_gone(later_ms);
}

#[test]
fn a_new_life_in_another_region_survives_the_removal() {
    let mut world = World::new(2);
    world.write(1, BEFORE_MS, |txn| write_set(txn, b"k"));
    let now_ms = HEARD_MS + SILENCE_MS;
    world.beat(2, now_ms);
    assert_eq!(world.expire(1, now_ms), 1);
    // It has not seen the removal; the key is past its deadline there, too.
    world.at(2).transact(now_ms, None, |txn| {
        txn.list_push(&key(b"k"), End::Tail, &[b"new"]).unwrap();
    });
    world.settle(now_ms + 10);
    world.settle(now_ms + 20);
    for id in 1..=2 {
        let state = world.at(id).state();
        assert!(state.list(&key(b"k")).is_some());
        assert_eq!(state.deadline(&key(b"k")), None, "in region {id}");
    }
}

#[test]
fn many_go_in_pieces_each_an_op() {
    let mut world = World::new(2);
    world.write(1, BEFORE_MS, |txn| {
        for number in 0..25 {
            write_set(txn, format!("k{number}").as_bytes());
            write_field(txn, b"h", format!("f{number}").as_bytes());
        }
    });
    world.beat(2, HEARD_MS);
    let (mut pieces, mut ops) = (Vec::new(), Vec::new());
    loop {
        let removed = world.at(1).expire(&Round {
            now_ms: HEARD_MS,
            grace_ms: GRACE_MS,
            down: &[],
            limit: 10,
        });
        if removed == 0 {
            break;
        }
        pieces.push(removed);
        ops.push(world.at(1).written());
    }
    assert_eq!(pieces, [10; 5]);
    ops.dedup();
    assert_eq!(ops.len(), 5);
    world.check_gone(HEARD_MS);
}

#[test]
fn a_region_alone_removes_at_once_and_keeps_nothing() {
    let mut alone = shard(1, 1, 1);
    alone.transact(BEFORE_MS, None, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
        txn.set_deadline(&key(b"h"), Deadline::At(END_MS + 1));
        let ends = Attached::Deadline(Deadline::At(END_MS));
        txn.string_set(&key(b"s"), b"v", ends);
        txn.string_add(&key(b"n"), Number::int(1));
        txn.set_deadline(&key(b"n"), Deadline::At(END_MS));
    });
    assert_eq!(alone.volatile(BEFORE_MS), (4, END_MS - BEFORE_MS));
    assert_eq!(alone.len(END_MS), 1, "a hash without a field that is seen");
    let round = Round {
        now_ms: END_MS,
        grace_ms: GRACE_MS,
        down: &[],
        limit: 100,
    };
    assert_eq!(alone.expire(&round), 4);
    assert_eq!(alone.expire(&round), 0);
    assert!(alone.state().is_void());
    let expired = Expired { keys: 3, fields: 1 };
    assert_eq!(alone.expired(), expired);
}

/// A write to what is past its deadline removes it first, and counts that.
#[test]
fn a_write_removes_what_has_ended() {
    let mut alone = shard(1, 1, 1);
    alone.transact(BEFORE_MS, None, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
        txn.hash_set(&key(b"h"), b"stays", b"v", NEVER);
    });
    alone.transact(END_MS, None, |txn| {
        txn.list_push(&key(b"k"), End::Head, &[b"v"]).unwrap();
        assert!(txn.hash_set(&key(b"h"), b"f", b"new", NEVER));
    });
    let expired = Expired { keys: 1, fields: 1 };
    assert_eq!(alone.expired(), expired);
    assert_eq!(alone.volatile(END_MS), (0, 0));
}

/// Also where all fields of a hash have ended, but nothing says when the hash does.
#[test]
fn what_has_ended_is_in_the_way_of_no_other_type() {
    let mut alone = shard(1, 1, 1);
    let refused = CommandError::WrongType;
    alone.transact(BEFORE_MS, None, |txn| {
        write_set(txn, b"k");
        for name in [b"h", b"i"] {
            write_field(txn, name, b"f");
        }
        let pushed = txn.list_push(&key(b"h"), End::Tail, &[b"v"]);
        assert_eq!(pushed, Err(refused.clone()));
        assert_eq!(txn.set_add(&key(b"i"), &[b"m"]), Err(refused.clone()));
        assert_eq!(txn.integer_add(&key(b"k"), 1), Err(refused.clone()));
    });
    alone.transact(END_MS, None, |txn| {
        assert_eq!(txn.list_push(&key(b"h"), End::Tail, &[b"v", b"w"]), Ok(2));
        assert_eq!(txn.set_add(&key(b"i"), &[b"m", b"n", b"m"]), Ok(2));
        assert_eq!(txn.integer_add(&key(b"k"), 1), Ok(1));
    });
    assert_eq!(alone.expired().keys, 1);
}

#[test]
fn who_watches_sees_what_ends_and_not_what_had_ended() {
    let mut world = World::new(2);
    world.write(1, BEFORE_MS, |txn| {
        write_set(txn, b"k");
        write_field(txn, b"h", b"f");
        txn.hash_set(&key(b"h"), b"stays", b"v", NEVER);
    });
    for id in 1..=2 {
        world.beat(id, HEARD_MS);
    }
    let watch =
        |shard: &mut Shard, now_ms| [b"k", b"h"].map(|name| shard.watch(&key(name), now_ms));
    let before = [1, 2].map(|id| watch(world.at(id), BEFORE_MS));
    let after = [1, 2].map(|id| watch(world.at(id), END_MS));
    let changed = |shard: &Shard, watches: [_; 2], now_ms| {
        [0, 1].map(|at| shard.has_changed([b"k", b"h"][at], watches[at], now_ms))
    };
    for id in 1..=2 {
        let (before, after) = (before[id - 1], after[id - 1]);
        let shard = world.at(id as u8);
        assert_eq!(changed(shard, before, END_MS - 1), [false; 2]);
        assert_eq!(changed(shard, before, END_MS), [true; 2], "hidden");
        assert_eq!(changed(shard, after, END_MS), [false; 2], "it was already");
    }
    assert_eq!(world.expire(1, HEARD_MS), 2);
    world.settle(HEARD_MS);
    for id in 1..=2 {
        let (before, after) = (before[id - 1], after[id - 1]);
        let shard = world.at(id as u8);
        assert_eq!(changed(shard, before, HEARD_MS), [true; 2], "removed");
        assert_eq!(changed(shard, after, HEARD_MS), [false; 2], "it was hidden");
    }
}

#[test]
fn a_random_key_is_found_among_many_that_are_hidden() {
    let mut alone = shard(1, 1, 1);
    alone.transact(BEFORE_MS, None, |txn| {
        for number in 0..5_000 {
            write_set(txn, format!("k{number}").as_bytes());
        }
        txn.set_add(&key(b"stays"), &[b"m"]).unwrap();
    });
    for _ in 0..20 {
        let found = alone.random_key(END_MS);
        assert_eq!(found.as_deref(), Some(&b"stays"[..]));
    }
    assert_eq!(alone.len(END_MS), 1);
}
