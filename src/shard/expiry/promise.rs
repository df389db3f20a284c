//! The promise of expiry, searched for a way to break it: whatever is late between regions that are
//! not down, and however their clocks are apart, an extension made in time is not lost, and what
//! nobody extended goes everywhere.

use std::collections::{BTreeMap, VecDeque};

use crdt::{Deadline, Frame, Time};
use geo::proto::{Heartbeat, Offer};
use proptest::prelude::*;

use super::tests::{
    BEFORE_MS, DRIFT_MS, END_MS, GRACE_MS, key, region, shard, write_field, write_set,
};
use super::{Round, Shard};

const REGIONS: usize = 3;

/// What is on its way from one region to another.
#[derive(Debug)]
enum Sent {
    Frame(Frame),
    Beat(Heartbeat),
}

/// One step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Time goes on.
    Wait { ms: u64 },
    /// A region extends what it still finds.
    Extend { at: usize },
    /// A region writes to what it finds, which extends nothing, and to another key.
    Touch { at: usize },
    /// A region says how far it is.
    Beat { at: usize },
    /// The next thing arrives on one of the roads on which there is something.
    Deliver { nth: usize },
    /// A region removes what it may.
    Expire { at: usize },
}

struct World {
    shards: Vec<Shard>,
    /// How far each clock is ahead.
    ahead_ms: Vec<u64>,
    now_ms: u64,
    roads: BTreeMap<(usize, usize), VecDeque<Sent>>,
    key_extended: bool,
    field_extended: bool,
    /// Who set the deadlines.
    setter: usize,
    /// Whether time goes on until others remove: then what the setter extends may be lost, if that
    /// has not been heard.
    is_late: bool,
}

impl World {
    /// All regions know of a key and a field that `setter` lets end.
    fn new(setter: usize, is_late: bool, ahead_ms: Vec<u64>) -> Self {
        let shards = (1..=REGIONS as u8).map(|id| shard(id, 1_000, REGIONS as u8));
        let mut world = Self {
            shards: shards.collect(),
            ahead_ms,
            now_ms: BEFORE_MS,
            roads: BTreeMap::new(),
            key_extended: false,
            field_extended: false,
            setter,
            is_late,
        };
        world.quiet();
        let now_ms = world.clock(setter);
        world.shards[setter].transact(now_ms, None, |txn| {
            write_set(txn, b"k");
            write_field(txn, b"h", b"f");
        });
        world.quiet();
        world.now_ms = END_MS - 400;
        world
    }

    fn clock(&self, at: usize) -> u64 {
        self.now_ms + self.ahead_ms[at]
    }

    fn send(&mut self, from: usize, sent: impl Fn() -> Sent) {
        for to in (0..REGIONS).filter(|&to| to != from) {
            let road = self.roads.entry((from, to)).or_default();
            road.push_back(sent());
        }
    }

    fn seal(&mut self, at: usize) {
        if let Some(frame) = self.shards[at].seal() {
            self.send(at, || Sent::Frame(frame.clone()));
        }
    }

    fn beat(&mut self, at: usize) {
        let time = Time::from_ms(self.clock(at));
        let beat = self.shards[at].heartbeat(time);
        self.send(at, || Sent::Beat(beat.clone()));
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let sent = self.roads.entry((from, to)).or_default().pop_front();
        let (now_ms, sender) = (self.clock(to), region(from as u8 + 1));
        let shard = &mut self.shards[to];
        match sent {
            None => return false,
            Some(Sent::Beat(beat)) => {
                shard.heard(beat, sender, now_ms);
            }
            Some(Sent::Frame(frame)) => {
                let answer = shard.offer(frame, sender, now_ms);
                assert!(
                    matches!(answer, Offer::Ready | Offer::Waiting),
                    "{answer:?}"
                );
            }
        }
        true
    }

    /// Everything arrives, and all hear so.
    fn quiet(&mut self) {
        for _ in 0..6 {
            self.now_ms += 1;
            for at in 0..REGIONS {
                self.seal(at);
                self.beat(at);
            }
            for (from, to) in (0..REGIONS).flat_map(|from| (0..REGIONS).map(move |to| (from, to))) {
                while self.deliver(from, to) {}
            }
            for shard in &mut self.shards {
                while shard.settle(usize::MAX) {}
            }
        }
    }

    fn expire(&mut self, at: usize) {
        let now_ms = self.clock(at);
        self.shards[at].expire(&Round {
            now_ms,
            grace_ms: GRACE_MS,
            down: &[],
            limit: 10,
        });
        self.seal(at);
    }

    /// What a region finds of the key and the field.
    fn finds(&self, at: usize) -> (bool, bool) {
        let (state, now_ms) = (self.shards[at].state(), self.clock(at));
        let hash = state.hash(&key(b"h"), now_ms);
        let field = hash.is_some_and(|hash| hash.contains(b"f"));
        (state.kind(&key(b"k"), now_ms).is_some(), field)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait { ms } if self.is_late => self.now_ms += ms,
            Step::Wait { ms } => self.now_ms = (self.now_ms + ms).min(END_MS + GRACE_MS / 2),
            Step::Extend { at } if self.is_late && at == self.setter => {}
            Step::Extend { at } => {
                let (has_key, has_field) = self.finds(at);
                let now_ms = self.clock(at);
                self.shards[at].transact(now_ms, None, |txn| {
                    if has_key {
                        txn.set_deadline(&key(b"k"), Deadline::Never);
                    }
                    if has_field {
                        txn.hash_deadline(&key(b"h"), b"f", Deadline::Never);
                    }
                });
                self.key_extended |= has_key;
                self.field_extended |= has_field;
                self.seal(at);
            }
            Step::Touch { at } => {
                let (has_key, has_field) = self.finds(at);
                // A write of a field says itself when the field ends: its region is a setter then.
                let has_field = has_field && !self.is_late;
                let now_ms = self.clock(at);
                self.shards[at].transact(now_ms, None, |txn| {
                    txn.set_add(&key(b"other"), &[b"m"]).unwrap();
                    if has_key {
                        txn.set_add(&key(b"k"), &[b"more"]).unwrap();
                    }
                    if has_field {
                        txn.hash_set(&key(b"h"), b"f", b"w", crdt::Attached::Nothing);
                    }
                });
                self.seal(at);
            }
            Step::Beat { at } => self.beat(at),
            Step::Deliver { nth } => {
                let taken = self.roads.iter().filter(|(_, road)| !road.is_empty());
                let taken: Vec<(usize, usize)> = taken.map(|(&ends, _)| ends).collect();
                if let Some(&(from, to)) = taken.get(nth % taken.len().max(1)) {
                    self.deliver(from, to);
                }
            }
            Step::Expire { at } => self.expire(at),
        }
    }

    /// All links deliver, time goes on, and every region removes what it may.
    fn finish(&mut self) {
        let now_ms = self.clock(0);
        self.quiet();
        self.shards[0].transact(now_ms, None, |txn| txn.remove(&key(b"other")));
        for _ in 0..4 {
            self.quiet();
            (0..REGIONS).for_each(|at| self.expire(at));
            self.now_ms += GRACE_MS;
        }
        self.quiet();
        for at in 0..REGIONS {
            let expected = (self.key_extended, self.field_extended);
            assert_eq!(self.finds(at), expected, "in region {}", at + 1);
            let state = self.shards[at].state();
            let gone = !self.key_extended && !self.field_extended;
            assert_eq!(state.is_void(), gone, "{state:?}");
            assert_eq!(state.digest(), self.shards[0].state().digest());
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..REGIONS;
    prop_oneof![
        6 => (0_u64..300).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Wait { ms: GRACE_MS }),
        4 => at().prop_map(|at| Step::Extend { at }),
        8 => at().prop_map(|at| Step::Touch { at }),
        8 => at().prop_map(|at| Step::Beat { at }),
        24 => (0_usize..6).prop_map(|nth| Step::Deliver { nth }),
        8 => at().prop_map(|at| Step::Expire { at }),
    ]
}

proptest! {
    #[test]
    fn what_is_extended_in_time_stays_and_all_else_goes(
        setter in 0..REGIONS,
        is_late: bool,
        ahead_ms in prop::collection::vec(0..DRIFT_MS, REGIONS),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new(setter, is_late, ahead_ms);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
