//! Regions that run scripts of commands on the state of a shard and on the model side by side.
//!
//! What a command does is decided from what the model sees, by the rules of docs/semantics.md,
//! "Values" and "Keys", and shipped as the frames that real regions exchange. After every step the
//! state must show what the model shows.

pub(crate) mod catch_up;
mod failures;
pub(crate) mod intent;
pub(crate) mod pieces;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crdt::{
    Applying, Change, Clock, Dot, Effect, Epoch, FactId, Frame, FrameWriter, Origin, Region, Seed,
    Slot, Stamp, State, Version,
};

use self::catch_up::CatchUp;
pub(crate) use self::intent::Intent;
use self::pieces::Snapshot;
pub(crate) use crate::model::look::Look;
use crate::model::{Model, Place};

/// The keys that scripts are about, in one slot.
pub(crate) const KEYS: [&[u8]; 2] = [b"{k}1", b"{k}2"];
/// The moments at which readers look: before, between and after the deadlines of scripts.
const MOMENTS: [u64; 3] = [0, 15, 100];

/// One region's shard.
#[derive(Debug)]
pub(crate) struct Replica {
    origin: Origin,
    clock: Clock,
    version: Version,
    writer: FrameWriter,
    pub(crate) model: Model,
    pub(crate) state: State,
    snapshot: Option<Snapshot>,
    catch_up: Option<CatchUp>,
}

impl Replica {
    fn new(origin: Origin, alone: bool) -> Self {
        let slot = Slot::of(KEYS[0]);
        Self {
            origin,
            clock: Clock::default(),
            version: Version::new(),
            writer: FrameWriter::new(0, origin),
            model: Model::default(),
            state: State::new(Seed::from_text(b"test"), slot, 1, alone),
            snapshot: None,
            catch_up: None,
        }
    }

    /// The version without the origin's own times: the deps of its next op.
    fn deps(&self) -> Version {
        let mut deps = self.version.clone();
        deps.remove(self.origin);
        deps
    }

    /// Applies an op of another origin.
    fn admit(&mut self, frame: &Frame) {
        for op in frame {
            let mut seen = Version::clone(&op.deps);
            seen.advance(op.stamp.origin, op.stamp.time);
            let applying = self.state.begin(op.stamp, Some(&op.deps));
            for (index, effect) in (0..).zip(op.effects()) {
                let id = FactId {
                    stamp: op.stamp,
                    index,
                };
                self.model.apply(id, &seen, &effect);
                self.state.apply_effect(applying, index, &effect);
            }
            self.version.advance(op.stamp.origin, op.stamp.time);
            self.clock.observe(op.stamp.time);
        }
        self.state.caught_up(&self.version);
    }

    /// Compares what the state shows with what the model shows, unless part of it is ahead.
    #[track_caller]
    pub(crate) fn check(&self) {
        if self.is_ahead() {
            return;
        }
        for key in KEYS {
            for now_ms in MOMENTS {
                let (fast, model) = (
                    Look::at(&self.state, key, now_ms),
                    self.model.look(key, now_ms),
                );
                let name = String::from_utf8_lossy(key);
                assert_eq!(fast, model, "{} sees {name} at {now_ms}", self.origin);
            }
        }
        assert_eq!(self.state.len(), self.model.len(), "keys are counted right");
        for now_ms in MOMENTS {
            self.check_ended(now_ms);
        }
    }

    /// What is past its deadline is found, each thing with a region that has set its deadline.
    fn check_ended(&self, now_ms: u64) {
        let (state, model) = (&self.state, &self.model);
        let (mut keys, mut fields) = (BTreeSet::new(), BTreeSet::new());
        for region in state.ending_regions() {
            for key in state.ended(region, now_ms, usize::MAX) {
                let setters = model.setters(&key, &Place::String);
                assert!(setters.contains(&region), "{setters:?} and not {region}");
                assert!(keys.insert(key.to_vec()), "of one region");
            }
            for (key, field) in state.ended_fields(region, now_ms, usize::MAX) {
                let place = Place::Field(field.to_vec());
                let setters = model.setters(&key, &place);
                assert!(setters.contains(&region), "{setters:?} and not {region}");
                assert!(fields.insert((key.to_vec(), place.name())), "of one region");
            }
        }
        assert_eq!(keys, model.ended(now_ms), "keys that have ended");
        assert_eq!(fields, model.ended_fields(now_ms), "fields that have ended");
    }
}

/// An op being issued: commands of one transaction emit their effects into it.
pub(crate) struct Issuing<'a> {
    pub(crate) replica: &'a mut Replica,
    applying: Applying,
    stamp: Stamp,
    seen: Version,
    index: u32,
    pub(crate) now_ms: u64,
}

impl Issuing<'_> {
    pub(crate) fn emit(&mut self, key: &[u8], change: Change<'_>) {
        let effect = Effect { key, change };
        let id = FactId {
            stamp: self.stamp,
            index: self.index,
        };
        let replica = &mut *self.replica;
        replica.writer.push(&effect);
        replica.model.apply(id, &self.seen, &effect);
        if effect.change.is_keyless() {
            let nowhere = replica.state.any_key();
            let state = &mut replica.state;
            state.apply(self.applying, self.index, &nowhere, &effect.change);
        } else {
            let state = &mut replica.state;
            state.apply_effect(self.applying, self.index, &effect);
        }
        self.index += 1;
    }

    pub(crate) fn origin(&self) -> Origin {
        self.replica.origin
    }

    /// The identity of the next effect's fact.
    pub(crate) fn next_id(&self) -> FactId {
        FactId {
            stamp: self.stamp,
            index: self.index,
        }
    }

    pub(crate) fn next_dot(&self) -> Dot {
        Dot {
            time: self.stamp.time,
            index: self.index,
        }
    }
}

/// One step of a script. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A transaction at a region, at its wall clock and at the time it holds deadlines against.
    Do {
        region: usize,
        wall_ms: u64,
        now_ms: u64,
        commands: Vec<(usize, Intent)>,
    },
    /// Delivers one of the ops that a region can take now.
    Deliver { region: usize, nth: usize },
    /// Collects what is stable at a region.
    Settle { region: usize, limit: usize },
    /// A new primary takes over; it lacks the last op of the old one if only others hold it.
    Fail { region: usize, lose: bool },
    /// One more increment of a closed origin turns up, and a region issues it again.
    Late { region: usize, place: usize },
    /// A region takes in another's state, in pieces of so many bytes.
    Merge {
        region: usize,
        from: usize,
        budget: usize,
    },
    /// A region begins to take in another's state; each step brings a piece.
    CatchUp {
        region: usize,
        from: usize,
        budget: usize,
    },
    /// A region begins a snapshot; each step takes a piece, and the last one reads it back.
    Snapshot { region: usize, budget: usize },
}

/// An op as shipped, and all that its issuer held after it.
#[derive(Debug)]
struct Shipped {
    frame: Frame,
    held: Version,
}

/// Some regions of one database.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    log: BTreeMap<Origin, Vec<Shipped>>,
    /// All that has been taken for stable anywhere.
    collected: Version,
    /// Ended origins with ops that turned up late.
    pub(crate) raised: Vec<Origin>,
}

impl Cluster {
    pub(crate) fn new(regions: u8) -> Self {
        let region = |id| Region::new(id).expect("not 0");
        let origins = (1..=regions).map(|id| Origin::new(region(id), Epoch(1)));
        Self {
            replicas: origins
                .map(|origin| Replica::new(origin, regions == 1))
                .collect(),
            log: BTreeMap::new(),
            collected: Version::new(),
            raised: Vec::new(),
        }
    }

    /// Runs one step, and checks the region that it was about.
    pub(crate) fn step(&mut self, step: &Step) {
        let count = self.replicas.len();
        let region = match *step {
            Step::Do {
                region,
                wall_ms,
                now_ms,
                ref commands,
            } => {
                self.transact(region % count, (wall_ms, now_ms), commands);
                region
            }
            Step::Deliver { region, nth } => {
                self.deliver(region % count, nth);
                region
            }
            Step::Settle { region, limit } => {
                self.settle(region % count, limit);
                region
            }
            Step::Fail { region, lose } => {
                self.fail(region % count, lose);
                region
            }
            Step::Late { region, place } => {
                self.late(region % count, place);
                region
            }
            Step::Merge {
                region,
                from,
                budget,
            } => {
                self.merge(region % count, from % count, budget);
                region
            }
            Step::CatchUp {
                region,
                from,
                budget,
            } => {
                self.begin_catch_up(region % count, from % count, budget);
                region
            }
            Step::Snapshot { region, budget } => {
                self.begin_snapshot(region % count, budget);
                region
            }
        };
        self.go_on();
        self.catch_up();
        self.replicas[region % count].check();
    }

    pub(crate) fn transact(
        &mut self,
        region: usize,
        times: (u64, u64),
        commands: &[(usize, Intent)],
    ) {
        let mut issuing = self.begin(region, times);
        for (key, intent) in commands {
            intent.run(&mut issuing, KEYS[key % KEYS.len()]);
        }
        let held = issuing.seen;
        self.ship(region, held);
    }

    /// Issues one op of these effects on the first key.
    pub(crate) fn emit(&mut self, region: usize, wall_ms: u64, changes: &[Change<'_>]) {
        let mut issuing = self.begin(region, (wall_ms, 0));
        for change in changes {
            let key = if change.is_keyless() { b"" } else { KEYS[0] };
            issuing.emit(key, change.clone());
        }
        let held = issuing.seen;
        self.ship(region, held);
    }

    fn begin(&mut self, region: usize, (wall_ms, now_ms): (u64, u64)) -> Issuing<'_> {
        let replica = &mut self.replicas[region];
        let time = replica.clock.tick(wall_ms);
        let stamp = Stamp {
            time,
            origin: replica.origin,
        };
        let deps = replica.deps();
        let mut seen = replica.version.clone();
        seen.advance(stamp.origin, time);
        replica.writer.begin_op(time, &deps);
        let deps = replica.is_ahead().then_some(&deps);
        let applying = replica.state.begin(stamp, deps);
        Issuing {
            replica,
            applying,
            stamp,
            seen,
            index: 0,
            now_ms,
        }
    }

    fn ship(&mut self, region: usize, held: Version) {
        let replica = &mut self.replicas[region];
        replica.writer.end_op();
        replica.version = held.clone();
        let frame = replica.writer.seal().expect("one op");
        let bytes = Bytes::copy_from_slice(frame.bytes());
        let frame = Frame::parse(bytes).expect("what is written is read");
        let shipped = Shipped { frame, held };
        self.log.entry(replica.origin).or_default().push(shipped);
    }

    /// Delivers one of the ops that a region can take; whether there was one.
    pub(crate) fn deliver(&mut self, region: usize, nth: usize) -> bool {
        let replica = &mut self.replicas[region];
        let next = |(&origin, ops): (&Origin, &'_ Vec<Shipped>)| {
            let held = replica.version.get(origin);
            let at = ops.partition_point(|op| op.frame.first() <= held);
            let op = ops.get(at)?;
            assert_eq!(op.frame.prev(), held, "no gap");
            let ready = replica.version.includes(op.frame.deps());
            ready.then_some((origin, at))
        };
        let ready: Vec<(Origin, usize)> = self.log.iter().filter_map(next).collect();
        let Some(&(origin, at)) = ready.get(nth % ready.len().max(1)) else {
            return false;
        };
        replica.admit(&self.log[&origin][at].frame);
        true
    }

    /// Delivers the next op of one region, which another can take.
    pub(crate) fn deliver_from(&mut self, region: usize, owner: usize) {
        let origin = self.replicas[owner].origin;
        let replica = &mut self.replicas[region];
        let held = replica.version.get(origin);
        let ops = &self.log[&origin];
        let at = ops.partition_point(|op| op.frame.first() <= held);
        assert!(replica.version.includes(ops[at].frame.deps()), "ready");
        replica.admit(&ops[at].frame);
    }

    /// What is stable at a region: held by it, and acknowledged in the stream of every origin
    /// that it does not hold to the end.
    fn stable(&self, region: usize) -> Version {
        let here = &self.replicas[region].version;
        let mut stable = here.clone();
        for (&origin, ops) in &self.log {
            let held = here.get(origin);
            let all = ops.last().is_none_or(|op| op.frame.last() <= held);
            if !all {
                let at = ops.partition_point(|op| op.frame.last() <= held);
                let acknowledged = at.checked_sub(1).map(|at| ops[at].held.clone());
                stable = stable.meet(&acknowledged.unwrap_or_default());
            }
        }
        for replica in &self.replicas {
            let ops = self.log.get(&replica.origin);
            let last = ops.and_then(|ops| ops.last()).map(|op| op.frame.last());
            if last.is_none_or(|last| last <= here.get(replica.origin)) {
                stable = stable.meet(&replica.version);
            }
        }
        for replica in &self.replicas {
            self.close(replica.origin, &mut stable);
        }
        stable
    }

    /// Closes the ended origins of a region, the oldest first, as far as all is held of them.
    fn close(&self, current: Origin, stable: &mut Version) {
        for epoch in 1..current.epoch.0 {
            let ended = Origin::new(current.region, Epoch(epoch));
            let last = self.log.get(&ended).and_then(|ops| ops.last());
            if last.is_some_and(|op| stable.get(ended) < op.frame.last()) {
                return;
            }
            stable.raise_floor(current.region, Epoch(epoch + 1));
        }
    }

    pub(crate) fn settle(&mut self, region: usize, limit: usize) {
        let stable = self.stable(region);
        let state = &mut self.replicas[region].state;
        let digest = state.digest();
        state.settle(&stable, limit);
        assert_eq!(state.digest(), digest, "settling is unseen");
        self.collected.join(&stable);
    }

    /// Checks that merging two whole models gives what applying the ops of both gives.
    pub(crate) fn check_merge(&self, a: usize, b: usize) {
        let (a, b) = (&self.replicas[a], &self.replicas[b]);
        let mut merged = a.model.clone();
        merged.merge(&a.version, &b.model, &b.version);
        let mut target = a.version.clone();
        target.join(&b.version);
        let applied = self.rebuild(a.origin, &target);
        assert_eq!(applied.version, target, "the ops of both are at hand");
        for key in KEYS {
            for now_ms in MOMENTS {
                let looks = [&merged, &applied.model].map(|model| model.look(key, now_ms));
                assert_eq!(looks[0], looks[1], "merged as applied");
            }
        }
    }

    /// Delivers everything everywhere, and checks that all regions see the same, settled or not.
    pub(crate) fn converge(&mut self) {
        self.end_catch_ups();
        for region in 0..self.replicas.len() {
            while self.deliver(region, 0) {
                self.replicas[region].check();
            }
        }
        self.check_alike();
        for region in 0..self.replicas.len() {
            // By steps: a deadline goes a round after its field, and that one after its value.
            for _ in 0..4 {
                self.settle(region, usize::MAX);
            }
            let replica = &self.replicas[region];
            replica.check();
            assert_eq!(replica.state.unsettled(), 0, "everything drains");
            self.check_folded(replica);
            assert_eq!(
                replica.state.is_void(),
                replica.state.is_empty(),
                "nothing is left of what does not exist: {:?}",
                replica.state
            );
        }
        self.check_alike();
    }

    /// Checks that no counter part of an ended origin is left but in scores, and those that turned
    /// up late.
    fn check_folded(&self, replica: &Replica) {
        let state = &replica.state;
        for key in KEYS.map(|name| state.seed().key(name)) {
            let fields = state.all_field_parts(&key).into_iter().map(|part| part.1);
            for part in state.string_parts(&key).into_iter().chain(fields) {
                let is_open = self.replicas.iter().any(|r| r.origin == part.origin);
                assert!(is_open || self.raised.contains(&part.origin), "{part:?}");
            }
        }
    }

    fn check_alike(&self) {
        let [first, others @ ..] = self.replicas.as_slice() else {
            return;
        };
        for other in others {
            assert_eq!(first.version, other.version, "all is delivered");
            assert_eq!(first.state.digest(), other.state.digest(), "digests agree");
            for key in KEYS {
                for now_ms in MOMENTS {
                    let looks = [first, other].map(|r| Look::at(&r.state, key, now_ms));
                    assert_eq!(looks[0], looks[1], "regions agree");
                }
            }
        }
    }
}
