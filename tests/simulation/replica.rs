//! One region's copy of one shard: the real one, and beside it what is known without it.
//!
//! Every frame that gets into the shard's log is looked at: an origin's ops must stand there in
//! order, without a gap, each once and after what it had seen. They are applied to the reference
//! model, too, which the shard's state must agree with at any moment.

use std::sync::Arc;

use crdt::{FactId, Frame, Kind, Region, Seed, State, Time, Version};
use geo::proto::{Delivery, DeliveryConfig, Heartbeat, Next, Offer, Refusal};
use meridian::oplog::Budget;
use meridian::shard::{Identity, Peers, Shard};
use meridian::shards::Shards;

use super::model::look::Look;
use super::model::{Model, Place};
use super::rare;
use super::tally::Tally;

/// Shards that the simulated database has; only the first few are used. Many, so that each has few
/// slots, and looking at all of them is cheap.
pub(super) const SHARDS: u16 = 1_024;

/// See the module.
pub(super) struct Replica {
    pub(super) shard: Shard,
    /// Up to where the log was looked at.
    cursor: u64,
    /// The last op in the log of each origin that ever was.
    pub(super) held: Version,
    model: Model,
    /// How many origins were seen to be closed.
    pub(super) closed: u64,
    pub(super) tally: Tally,
}

impl Replica {
    pub(super) fn new(number: u16, seed: Seed, chance: u64, config: DeliveryConfig) -> Self {
        Self {
            shard: shard(number, seed, chance, config),
            cursor: 0,
            held: Version::new(),
            model: Model::default(),
            closed: 0,
            tally: Tally::default(),
        }
    }

    /// Looks at what is new in the log.
    pub(super) fn observe(&mut self) {
        assert!(self.shard.is_in_service(), "something has panicked");
        loop {
            match self
                .shard
                .log_next(self.cursor, |_| true)
                .unwrap_or(Next::Behind)
            {
                Next::Frame(frame, next) => {
                    self.cursor = next;
                    self.check_frame(&frame);
                }
                Next::End(next) => {
                    self.cursor = next;
                    return;
                }
                Next::Behind => panic!("the log has dropped what nobody has looked at"),
            }
        }
    }

    fn check_frame(&mut self, frame: &Frame) {
        let origin = frame.origin();
        let before = self.held.get(origin);
        assert!(frame.prev() <= before, "a gap before ops of {origin}");
        assert!(before < frame.last(), "ops of {origin} are applied twice");
        let is_new = |op: &crdt::Op<'_>| before < op.stamp.time;
        for op in frame.iter().filter(is_new) {
            for (other, time) in op.deps.iter() {
                let is_closed = other.epoch < self.shard.version().floor(other.region);
                assert!(
                    time <= self.held.get(other) || is_closed,
                    "{} is applied before what it had seen of {other}",
                    op.stamp
                );
            }
            let mut seen = Version::clone(&op.deps);
            seen.advance(origin, op.stamp.time);
            for (index, effect) in (0..).zip(op.effects()) {
                let id = FactId {
                    stamp: op.stamp,
                    index,
                };
                rare::apply(&mut self.model, id, &seen, &effect, &mut self.tally);
            }
            self.held.advance(origin, op.stamp.time);
        }
    }

    /// The last op held of each origin that ever was.
    pub(super) fn held(&mut self) -> &Version {
        self.observe();
        &self.held
    }

    /// What readers see of some keys.
    pub(super) fn looks(&self, names: &[Vec<u8>], now_ms: u64) -> Vec<Look> {
        looks(self.shard.state(), names, now_ms)
    }

    /// Compares what readers see with what the model says.
    pub(super) fn check_model(&mut self, names: &[Vec<u8>], now_ms: u64) {
        self.observe();
        for moment in [0, now_ms, now_ms + 1_000] {
            for (name, look) in names.iter().zip(self.looks(names, moment)) {
                let expected = self.model.look(name, moment);
                let name = String::from_utf8_lossy(name);
                let origin = self.shard.origin();
                assert_eq!(
                    look, expected,
                    "{origin} and the model: {name} at {moment} ms"
                );
            }
        }
        assert_eq!(
            self.shard.state().len(),
            self.model.len(),
            "keys are counted"
        );
        self.note_collected(names);
    }

    /// What the model still knows and the state has dropped or folded: it was stable. And keys of
    /// several types.
    fn note_collected(&mut self, names: &[Vec<u8>]) {
        let state = self.shard.state();
        let kinds = [
            Kind::String,
            Kind::Hash,
            Kind::Set,
            Kind::SortedSet,
            Kind::List,
        ];
        for name in names {
            let existing = |kind: &&Kind| !self.model.existing(name, **kind).is_empty();
            let is_mixed = 1 < kinds.iter().filter(existing).count();
            self.tally.add("key: several types", is_mixed.into());
            let key = state.seed().key(name);
            let survey = state.survey(&key, self.shard.origin());
            let edits = self.model.edits(name).len();
            let is_folded = 0 < edits && survey.edit_bytes == 0;
            self.tally.add("string: edit folded", is_folded.into());
            let siblings = self.model.bases(name, &Place::String).count();
            let is_dropped = state.string_bases(&key).len() < siblings;
            let what = "string: stable sibling dropped";
            self.tally.add(what, (1 < siblings && is_dropped).into());
            let live = self.model.live_parts(name, &Place::String).len();
            let parts = state.string_parts(&key).len();
            self.tally
                .add("counter: part folded", (parts < live).into());
            let ends = self.model.has_deadlines(name, &Place::String);
            let is_gone = ends && !survey.deadlines;
            self.tally.add("key: deadline dropped", is_gone.into());
        }
    }

    /// The frames of the log.
    pub(super) fn log(&mut self) -> Vec<Frame> {
        let (mut frames, mut position) = (Vec::new(), 0);
        while let Some(Next::Frame(frame, next)) = self.shard.log_next(position, |_| true) {
            frames.push(frame);
            position = next;
        }
        frames
    }

    /// The state that results from applying the log anew.
    pub(super) fn replay(&mut self) -> State {
        let old = self.shard.state();
        let first = old.slots().next().expect("a shard has slots");
        let (seed, slots) = (*old.seed(), old.slots().count() as u16);
        let mut state = State::new(seed, first, slots, false);
        let mut held = Version::new();
        for frame in self.log() {
            let before = held.get(frame.origin());
            for op in frame.iter().filter(|op| before < op.stamp.time) {
                let applying = state.begin(op.stamp, Some(&op.deps));
                for (index, effect) in (0..).zip(op.effects()) {
                    state.apply_effect(applying, index, &effect);
                }
            }
            held.advance(frame.origin(), frame.last());
        }
        state
    }

    fn note(&mut self, from: Region, owner: Region, answer: &Offer) {
        let what = match answer {
            Offer::Waiting => "delivery: waits for its deps",
            Offer::Ahead => "delivery: waits for our clock",
            Offer::Gap => "delivery: gap, asked again",
            Offer::Duplicate => "delivery: duplicate dropped",
            Offer::Late(_) => "origin: op turns up after that",
            Offer::Refused(Refusal::Ended) => "delivery: ended origin refused",
            Offer::Ready => return self.note_relay(from, owner),
            Offer::Full
            | Offer::OutOfService
            | Offer::Refused(Refusal::Ours | Refusal::Stranger) => {
                panic!("a frame was answered with {answer:?}")
            }
        };
        self.tally.count(what);
        if *answer == Offer::Waiting {
            self.note_relay(from, owner);
        }
    }

    fn note_relay(&mut self, from: Region, owner: Region) {
        let is_third = from != owner;
        self.tally
            .add("delivery: from a third region", is_third.into());
    }
}

impl geo::testing::Replica for Replica {
    fn delivery(&mut self) -> &mut Delivery {
        self.shard.delivery()
    }

    fn heartbeat(&mut self, time: Time) -> Heartbeat {
        self.shard.heartbeat(time)
    }

    fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer {
        let owner = frame.origin().region;
        let answer = self.shard.offer(frame, from, now_ms);
        self.note(from, owner, &answer);
        answer
    }

    fn heard(&mut self, heartbeat: Heartbeat, from: Region, now_ms: u64) {
        self.shard.heard(heartbeat, from, now_ms);
    }

    fn start(&mut self, region: Region, applied: &Version) -> Option<u64> {
        self.shard.log_start(region, applied)
    }

    fn next_frame(&mut self, position: u64, wanted: &mut dyn FnMut(&Frame) -> bool) -> Next {
        self.shard
            .log_next(position, wanted)
            .unwrap_or(Next::Behind)
    }

    fn pending(&mut self, peer: Region, applied: &Version) -> u64 {
        self.shard.log_pending(peer, applied)
    }
}

/// What readers see of some keys.
pub(super) fn looks(state: &State, names: &[Vec<u8>], now_ms: u64) -> Vec<Look> {
    names
        .iter()
        .map(|name| Look::at(state, name, now_ms))
        .collect()
}

/// A shard of the simulated database.
pub(super) fn shard(number: u16, seed: Seed, chance: u64, config: DeliveryConfig) -> Shard {
    let (first, slots) = Shards::slots_of(number, SHARDS);
    let identity = Identity {
        number,
        first,
        slots,
        origin: config.own,
        alone: false,
    };
    let peers = Peers {
        members: config.members,
        clock_drift_max_ms: config.max_clock_drift_ms,
        budget: Arc::new(Budget::new(1 << 30)),
        on_disk: false,
    };
    Shard::with_peers(identity, seed, chance, peers)
}
