//! One region's copy of one shard: the real one, and beside it what is known without it.
//!
//! Every frame that gets into the shard's log is looked at: an origin's ops must stand there in
//! order, without a gap, each once and after what it had seen. They are applied to the reference
//! model, too, which the shard's state must agree with at any moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use crdt::{
    Cursor, Epoch, FactId, Frame, Kind, Origin, Region, Seed, Span, Stamp, State, Time, Version,
};
use geo::proto::{
    Compared, Delivery, DeliveryConfig, Heartbeat, Merged, Next, Offer, Refusal, SpanSum,
};
use meridian::durability::Durability;
use meridian::oplog::Budget;
use meridian::oplog::backlog::{Backlog, Old};
use meridian::shard::{Identity, Peers, Shard};
use meridian::shards::Shards;

use super::history::History;
use super::model::look::Look;
use super::model::{Model, Place};
use super::rare;
use super::room::Room;
use super::tally::Tally;

/// Shards that the simulated database has; only the first few are used. Many, so that each has few
/// slots, and looking at all of them is cheap.
pub(super) const SHARDS: u16 = 1_024;

/// Bytes of the log in memory where nothing goes to disk: all of it.
const UNBOUNDED: u64 = 1 << 30;

/// What the model of a shard was where its state was handed out, by shard and version; `None` where
/// it knew nothing of some of it.
pub(super) type Given = Rc<RefCell<BTreeMap<(u16, Vec<u8>), Option<Model>>>>;

/// See the module.
pub(super) struct Replica {
    shards: Arc<Shards>,
    /// Which of these it is.
    index: usize,
    number: u16,
    /// Where its log goes, if it goes to disk.
    disk: Option<Arc<Durability>>,
    /// What links read of that, and what is looked at here.
    sent: Backlog,
    seen: Backlog,
    /// How its memory is limited, if it is.
    room: Option<Room>,
    /// Up to where the log was looked at.
    cursor: u64,
    /// The last op in the log of each origin that ever was.
    held: Version,
    /// Up to here ops came as state that may be in the log, too, in what could not be looked at.
    unseen: Version,
    /// What was stable when all that was applied had been looked at.
    stable: Version,
    /// What it has told the others that it keeps.
    pub(super) told: BTreeMap<Origin, Time>,
    history: Rc<RefCell<History>>,
    given: Given,
    /// Whether some of what has come as state no region has whole: the model knows nothing of it.
    pub(super) has_adopted: bool,
    model: Model,
    /// Below which epochs origins were seen to be closed.
    pub(super) closed: BTreeMap<Region, Epoch>,
    pub(super) tally: Tally,
}

impl Replica {
    /// An empty one, without a disk.
    pub(super) fn new(
        number: u16,
        seed: Seed,
        chance: u64,
        config: DeliveryConfig,
        (history, given): (Rc<RefCell<History>>, Given),
    ) -> Self {
        let budget = Arc::new(Budget::new(UNBOUNDED));
        let shard = shard(number, seed, chance, config, &budget, false);
        let shards = Arc::new(Shards::new(seed, vec![shard]));
        let mut new = Self::of(shards, 0, number, None, history);
        new.given = given;
        new
    }

    /// A shard of a node that has started from its disk: with all that it says that it holds.
    pub(super) fn on_disk(
        number: u16,
        shards: Arc<Shards>,
        disk: Arc<Durability>,
        history: Rc<RefCell<History>>,
    ) -> Self {
        let index = number.into();
        let mut new = Self::of(shards, index, number, Some(disk), history);
        let held = new.shard().delivery().applied_ops();
        new.held = held;
        // What it was started from is kept.
        new.told = new.held.iter().collect();
        new.model = new.history.borrow().model(number, &new.held);
        if let Some(disk) = &new.disk {
            new.cursor = disk.journal().next(number);
        }
        new
    }

    /// Takes over what is known of the life before.
    pub(super) fn comes_after(&mut self, last: &Self) {
        self.has_adopted = last.has_adopted;
        self.given = Rc::clone(&last.given);
        let is_ahead = self.shard().is_ahead();
        let what = "disk: start in the midst of a catch-up";
        self.tally.add(what, is_ahead.into());
    }

    fn of(
        shards: Arc<Shards>,
        index: usize,
        number: u16,
        disk: Option<Arc<Durability>>,
        history: Rc<RefCell<History>>,
    ) -> Self {
        Self {
            shards,
            index,
            number,
            disk,
            sent: Backlog::default(),
            seen: Backlog::default(),
            room: None,
            cursor: 0,
            held: Version::new(),
            unseen: Version::new(),
            stable: Version::new(),
            told: BTreeMap::new(),
            history,
            given: Given::default(),
            has_adopted: false,
            model: Model::default(),
            closed: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// The shard, locked.
    pub(super) fn shard(&self) -> impl DerefMut<Target = Shard> + '_ {
        self.shards.lock(self.index)
    }

    /// Looks at what is new in the log. Returns whether that is all that was applied: not where
    /// something waits to be written to the disk and is not in memory any more.
    pub(super) fn observe(&mut self) -> bool {
        assert!(self.shard().is_in_service(), "something has panicked");
        loop {
            let next = self.shard().log_next(self.cursor, |_| true);
            let next = next.unwrap_or_else(|| {
                next_on_disk(
                    &mut self.seen,
                    self.disk.as_deref(),
                    self.number,
                    self.cursor,
                    &mut |_| true,
                )
            });
            match next {
                Next::Frame(frame, next) => {
                    self.cursor = next;
                    self.check_frame(&frame);
                }
                Next::End(next) => {
                    self.cursor = next;
                    self.look_at_adopted();
                    // A delivery tells no more of closed origins, of which frames may wait, too.
                    let holds = self.shard().holds().clone();
                    let is_all = self.held.includes(&holds);
                    if is_all {
                        let stable = self.shard().delivery().stable().clone();
                        self.stable = stable;
                    }
                    return is_all;
                }
                Next::Behind => panic!("the log has dropped what nobody has looked at"),
            }
        }
    }

    /// What the shard has taken for held, though it was in no log and nobody has handed it out.
    fn look_at_adopted(&mut self) {
        let holds = self.shard().holds().clone();
        let has_adopted = self.shard().has_adopted();
        self.has_adopted |= has_adopted;
        if (self.disk.is_none() || has_adopted) && !self.held.includes(&holds) {
            assert!(has_adopted, "it holds what nobody has handed out");
            self.unseen.join(&holds);
            self.held.join(&holds);
        }
    }

    fn check_frame(&mut self, frame: &Frame) {
        self.history.borrow_mut().note(frame);
        let origin = frame.origin();
        let before = self.held.get(origin);
        assert!(frame.prev() <= before, "a gap before ops of {origin}");
        if frame.last() <= self.unseen.get(origin).min(before) {
            return;
        }
        assert!(before < frame.last(), "ops of {origin} are applied twice");
        let is_new = |op: &crdt::Op<'_>| before < op.stamp.time;
        for op in frame.iter().filter(is_new) {
            for (other, time) in op.deps.iter() {
                let is_closed = other.epoch < self.floor(other.region);
                assert!(
                    time <= self.held.get(other) || is_closed,
                    "{} is applied before what it had seen of {other}",
                    op.stamp
                );
            }
            let mut seen = Version::clone(&op.deps);
            seen.advance(origin, op.stamp.time);
            self.check_has_seen(op.stamp, &seen);
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

    /// Nothing can arrive any more that has not seen what is stable.
    fn check_has_seen(&self, stamp: Stamp, seen: &Version) {
        let history = self.history.borrow();
        for (origin, time) in self.stable.iter() {
            let last = history.last_up_to(self.number, origin, time);
            assert!(
                last <= seen.get(origin),
                "{stamp} is applied in region {}, and has not seen what was stable there of {origin}",
                self.shard().origin().region
            );
        }
    }

    /// What every region has, as far as this one knows, and nothing can arrive that has not seen.
    pub(super) fn stable(&self) -> Version {
        self.shard().delivery().stable().clone()
    }

    fn floor(&self, region: Region) -> Epoch {
        self.shard().version().floor(region)
    }

    /// The last op held of each origin that ever was.
    pub(super) fn held(&mut self) -> &Version {
        self.observe();
        &self.held
    }

    /// Its memory is limited from now on, or is not.
    pub(super) fn set_room(&mut self, room: Option<Room>, now_ms: u64) {
        if self.room != room {
            self.room = room;
            self.shard().note_uses_as(Room::noted(room), now_ms);
        }
    }

    /// Evicts keys where memory is short. Returns whether it still is.
    pub(super) fn make_room(&mut self, now_ms: u64) -> bool {
        let Some(room) = self.room else {
            return false;
        };
        let evicted = room.evict(&mut self.shard(), now_ms);
        self.tally.add("memory: key evicted", evicted);
        room.is_short(&self.shard())
    }

    /// What readers see of some keys.
    pub(super) fn looks(&self, names: &[Vec<u8>], now_ms: u64) -> Vec<Look> {
        looks(self.shard().state(), names, now_ms)
    }

    /// Compares what readers see with what the model says.
    pub(super) fn check_model(&mut self, names: &[Vec<u8>], now_ms: u64) {
        if !self.observe() || self.has_adopted || self.shard().is_ahead() {
            return;
        }
        for moment in [0, now_ms, now_ms + 1_000] {
            for (name, look) in names.iter().zip(self.looks(names, moment)) {
                let expected = self.model.look(name, moment);
                let name = String::from_utf8_lossy(name);
                let origin = self.shard().origin();
                assert_eq!(
                    look, expected,
                    "{origin} and the model: {name} at {moment} ms"
                );
            }
        }
        let keys = self.shard().state().len();
        assert_eq!(keys, self.model.len(), "keys are counted");
        self.note_collected(names);
    }

    /// What the model still knows and the state has dropped or folded: it was stable. And keys of
    /// several types.
    fn note_collected(&mut self, names: &[Vec<u8>]) {
        let shard = self.shards.lock(self.index);
        let state = shard.state();
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
            let survey = state.survey(&key, shard.origin());
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

    /// The frames of the log in memory.
    fn log(&mut self) -> Vec<Frame> {
        let (mut frames, mut position) = (Vec::new(), 0);
        loop {
            let next = self.shard().log_next(position, |_| true);
            let Some(Next::Frame(frame, next)) = next else {
                return frames;
            };
            frames.push(frame);
            position = next;
        }
    }

    /// The state that results from applying the log anew, where it is whole.
    pub(super) fn replay(&mut self) -> State {
        let (seed, first, slots) = {
            let shard = self.shard();
            let old = shard.state();
            let first = old.slots().next().expect("a shard has slots");
            (*old.seed(), first, old.slots().count() as u16)
        };
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
        let is_lost = self.disk.is_some() && self.shard().origin().region == owner;
        let what = "disk: lost op comes from others";
        self.tally.add(what, is_lost.into());
        let is_third = from != owner;
        self.tally
            .add("delivery: from a third region", is_third.into());
    }
}

impl geo::testing::Replica for Replica {
    fn delivery(&mut self, run: &mut dyn FnMut(&mut Delivery)) {
        run(self.shard().delivery());
    }

    fn heartbeat(&mut self, time: Time) -> Heartbeat {
        let heartbeat = self.shard().heartbeat(time);
        for (origin, time) in heartbeat.kept.iter().flat_map(Version::iter) {
            let told = self.told.entry(origin).or_default();
            *told = time.max(*told);
        }
        heartbeat
    }

    fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer {
        let owner = frame.origin().region;
        if self
            .room
            .is_some_and(|room| !room.takes_frames(&self.shard()))
        {
            self.tally.count("memory: frame left with its sender");
            return Offer::Full;
        }
        let answer = self.shard().offer(frame, from, now_ms);
        if let Some(disk) = &self.disk {
            disk.nudge();
        }
        self.note(from, owner, &answer);
        answer
    }

    fn heard(&mut self, heartbeat: Heartbeat, from: Region, now_ms: u64) {
        self.shard().heard(heartbeat, from, now_ms);
    }

    fn start(&mut self, region: Region, applied: &Version) -> Option<u64> {
        self.shard().log_start(region, applied)
    }

    fn next_frame(&mut self, position: u64, wanted: &mut dyn FnMut(&Frame) -> bool) -> Next {
        let in_memory = self.shard().log_next(position, &mut *wanted);
        in_memory.unwrap_or_else(|| {
            self.tally.count("disk: link reads old frames");
            let disk = self.disk.as_deref();
            next_on_disk(&mut self.sent, disk, self.number, position, wanted)
        })
    }

    fn pending(&mut self, peer: Region, applied: &Version) -> u64 {
        self.shard().log_pending(peer, applied)
    }

    fn spans(&mut self) -> Vec<Span> {
        self.tally.count("catch-up: begun");
        self.shard().spans()
    }

    fn sums(&mut self, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)> {
        if !self.observe() && !self.has_adopted {
            // The model is behind what would be handed out: part of the log waits to be written.
            self.tally.count("catch-up: peer busy");
            return None;
        }
        let given = self.shard().span_sums(spans, keys.min(5));
        match &given {
            None => self.tally.count("catch-up: peer busy"),
            Some((version, _)) => {
                let key = (self.number, encoded(version));
                let model = (!self.has_adopted).then(|| self.model.clone());
                self.given.borrow_mut().insert(key, model);
            }
        }
        given
    }

    fn compare(
        &mut self,
        version: &Version,
        theirs: &[(Span, SpanSum)],
        now_ms: u64,
    ) -> Option<Vec<Compared>> {
        let compared = self.shard().compare(version, theirs, now_ms);
        for compared in compared.iter().flatten() {
            self.tally.count(match compared {
                Compared::Equal => "catch-up: keys found equal",
                Compared::Differs(_) => "catch-up: keys found to differ",
            });
        }
        compared
    }

    fn piece(&mut self, from: Cursor) -> Option<(Bytes, Option<Cursor>)> {
        self.shard().state_piece(from)
    }

    fn merge(&mut self, piece: Bytes, now_ms: u64) -> Merged {
        self.shard().merge_piece(piece, now_ms)
    }

    fn caught_up(&mut self, first: &Version, now_ms: u64) {
        if !self.observe() {
            self.unseen.join(first);
        }
        let key = (self.number, encoded(first));
        let given = self.given.borrow().get(&key).cloned();
        let given = given.expect("what was handed out was noted");
        match given {
            Some(given) => self.model.merge(&self.held, &given, first),
            None => self.has_adopted = true,
        }
        self.held.join(first);
        self.shard().join(first, now_ms);
        self.tally.count("catch-up: done");
        let is_on_disk = self.disk.is_some();
        self.tally
            .add("catch-up: done, and on disk", is_on_disk.into());
        let is_ahead = self.shard().is_ahead();
        self.tally
            .add("catch-up: ops since then are awaited", is_ahead.into());
        self.observe();
    }
}

fn encoded(version: &Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    version.encode(&mut bytes);
    bytes
}

/// The next frame of those that have been dropped from memory.
fn next_on_disk(
    backlog: &mut Backlog,
    disk: Option<&Durability>,
    number: u16,
    position: u64,
    wanted: &mut dyn FnMut(&Frame) -> bool,
) -> Next {
    let disk = disk.expect("nothing is dropped without a disk");
    let old = backlog.next(|| disk.journal(), number, position, wanted);
    match old.expect("what is read is whole") {
        Old::Frame(frame, next) => Next::Frame(frame, next),
        Old::End(next) | Old::Further(next) => Next::End(next),
        Old::Gone => Next::Behind,
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
pub(super) fn shard(
    number: u16,
    seed: Seed,
    chance: u64,
    config: DeliveryConfig,
    budget: &Arc<Budget>,
    on_disk: bool,
) -> Shard {
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
        budget: Arc::clone(budget),
        on_disk,
    };
    Shard::with_peers(identity, seed, chance, peers)
}
