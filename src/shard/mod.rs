//! A shard: a range of hash slots under one lock, with one clock and one log.
//!
//! It does three things: gives a write its place in causal order, applies its effects, appends the
//! op to its log. A client's ops come through [`Shard::transact`], a peer's through
//! [`Shard::offer`]; both end in `crdt::State::apply`.

mod catch_up;
mod containers;
mod expiry;
mod hold;
mod late;
mod looks;
mod open;
mod outage;
mod read;
mod recovery;
#[cfg(test)]
mod testing;
mod touched;
mod txn;
mod uses;
mod waiters;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crdt::{
    Change, Clock, Frame, FrameWriter, Key, Kind, Op, Origin, Region, Removed, Seed, Slot, State,
    Time, Version,
};
use geo::proto::{Delivery, DeliveryConfig, Heartbeat, Next, Offer};
use smallvec::SmallVec;

use crate::limits;
use crate::oplog::{Budget, Cursor, Keep, Log, Read};
use expiry::is_expiry;
pub use expiry::{Expired, Round};
pub use hold::Hold;
pub use late::{Known, LateOps};
pub use looks::Looks;
pub(crate) use outage::panic_text;
use touched::Touched;
pub use touched::Watch;
pub use txn::Txn;
pub use uses::{Eviction, Frequency, Noted, Used};
pub use waiters::Retry;
use waiters::Waiters;

/// Things that are settled at most after each change of what is stable: a short hold of the lock.
const SETTLED_AT_ONCE: usize = 64;

/// Keys that are picked at random before all are looked at.
const RANDOM_TRIES: u32 = 100;

/// Ops whose keys are looked for before the first of them is applied.
const OPS_AHEAD: usize = 16;

/// What a shard is made of; the same in every region but for the origin.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Which of the shards of its region.
    pub number: u16,
    /// Its first slot.
    pub first: Slot,
    /// How many slots it has.
    pub slots: u16,
    /// Who issues its ops here.
    pub origin: Origin,
    /// Whether the database has no other region.
    pub alone: bool,
}

/// What a shard knows of other regions when it starts.
#[derive(Clone, Debug)]
pub struct Peers {
    /// All regions of the database, ours included.
    pub members: BTreeSet<Region>,
    /// How far ahead of our clock a time may be, milliseconds.
    pub clock_drift_max_ms: u64,
    /// What the logs of the node share.
    pub budget: Arc<Budget>,
    /// Whether the log goes to disk.
    pub on_disk: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    number: u16,
    /// Why it is out of service, if it is.
    outage: Option<Box<str>>,
    state: State,
    clock: Clock,
    origin: Origin,
    alone: bool,
    /// Whether somebody reads its log.
    logs: bool,
    /// Effects of commands so far.
    changes: u64,
    looks: Looks,
    /// How often something of another region's state was taken in.
    intakes: u64,
    has_adopted: bool,
    /// Whether something has gathered in the log that is not on its way to the disk.
    dirty: Arc<AtomicBool>,
    /// The ops issued here that nobody has read yet.
    frame: FrameWriter,
    log: Log,
    delivery: Delivery,
    late: LateOps,
    known: Known,
    clock_drift_max_ms: u64,
    expired: Expired,
    uses: uses::Uses,
    touched: Touched,
    waiters: Waiters,
    random: fastrand::Rng,
    /// A key whose changes panic.
    #[cfg(test)]
    poisoned: Option<Box<[u8]>>,
}

impl Shard {
    /// An empty shard of a database without other regions, or of one whose ops come by hand.
    pub fn new(identity: Identity, seed: Seed, chance: u64) -> Self {
        let peers = Peers {
            members: BTreeSet::from([identity.origin.region]),
            clock_drift_max_ms: 0,
            budget: Arc::new(Budget::new(limits::MIB as u64)),
            on_disk: false,
        };
        Self::with_peers(identity, seed, chance, peers)
    }

    /// An empty shard.
    pub fn with_peers(identity: Identity, seed: Seed, chance: u64, peers: Peers) -> Self {
        let Identity {
            number,
            first,
            slots,
            origin,
            alone,
        } = identity;
        let config = DeliveryConfig {
            own: origin,
            members: peers.members,
            inbox_bytes_max: limits::INBOX_BYTES_MAX,
            max_clock_drift_ms: peers.clock_drift_max_ms,
        };
        let keep = if alone {
            Keep::Nothing
        } else {
            Keep::WithinBudget
        };
        Self {
            number,
            outage: None,
            state: State::new(seed, first, slots, alone),
            clock: Clock::default(),
            origin,
            alone,
            logs: !alone || peers.on_disk,
            changes: 0,
            looks: Looks::default(),
            intakes: 0,
            has_adopted: false,
            dirty: Arc::default(),
            frame: FrameWriter::new(number, origin),
            log: Log::new(keep, peers.budget),
            delivery: Delivery::new(config),
            late: LateOps::default(),
            known: Known::default(),
            clock_drift_max_ms: peers.clock_drift_max_ms,
            expired: Expired::default(),
            uses: uses::Uses::default(),
            touched: Touched::default(),
            waiters: Waiters::default(),
            random: fastrand::Rng::with_seed(chance),
            #[cfg(test)]
            poisoned: None,
        }
    }

    /// Runs what a client asked for. What it wrote becomes one op.
    pub fn transact<R>(
        &mut self,
        now_ms: u64,
        first: Option<Key<'_>>,
        run: impl FnOnce(&mut Txn<'_>) -> R,
    ) -> R {
        let mut txn = Txn {
            shard: self,
            now_ms,
            first,
            op: None,
            looked: looks::Looked::default(),
        };
        let result = run(&mut txn);
        txn.finish();
        self.serve(now_ms);
        result
    }

    /// Takes a frame that came from region `from`, and applies all that has become ready.
    pub fn offer(&mut self, frame: Frame, from: Region, now_ms: u64) -> Offer {
        if !self.is_in_service() {
            return Offer::OutOfService;
        }
        let answer = self.delivery.offer(frame, from, now_ms);
        self.apply_ready(now_ms);
        answer
    }

    /// Takes a heartbeat that came from region `from`, and applies all that has become ready.
    /// Returns whether anything has.
    pub fn heard(&mut self, heartbeat: Heartbeat, from: Region, now_ms: u64) -> bool {
        self.delivery.heard(heartbeat, from, now_ms);
        self.apply_ready(now_ms)
    }

    /// What to tell the others of our origin. Nothing that is issued later has a time up to `time`.
    pub fn heartbeat(&mut self, time: Time) -> Heartbeat {
        self.clock.observe(time);
        self.delivery.heartbeat(time)
    }

    fn apply_ready(&mut self, now_ms: u64) -> bool {
        let mut has_applied = false;
        let (_, generation) = self.delivery.deps();
        while self.is_in_service()
            && let Some((frame, skip)) = self.delivery.next_ready()
        {
            if self.apply(&frame, skip, now_ms) {
                self.delivery.applied(&frame);
                self.log.append_copy(frame);
                self.soil();
                has_applied = true;
                if self.is_ahead() {
                    self.look_ahead();
                }
            }
        }
        if generation != self.delivery.deps().1 {
            // What is closed is to be kept, too.
            self.soil();
        }
        self.adopt_orphans(now_ms);
        self.reissue_late(now_ms);
        self.serve(now_ms);
        if 0 < self.state.unsettled() {
            self.settle(SETTLED_AT_ONCE);
        }
        has_applied
    }

    /// Applies the ops of a frame that come after `skip`. Returns whether none of them panicked.
    fn apply(&mut self, frame: &Frame, skip: Time, now_ms: u64) -> bool {
        let mut ops = frame.iter().filter(|op| skip < op.stamp.time);
        loop {
            let next: SmallVec<[Op<'_>; OPS_AHEAD]> = ops.by_ref().take(OPS_AHEAD).collect();
            if next.is_empty() {
                return true;
            }
            let effects = next.iter().flat_map(Op::effects);
            self.state.approach_all(effects.map(|effect| effect.key));
            for op in &next {
                let applied = self.guarded(format_args!("applying op {}", op.stamp), |shard| {
                    shard.apply_op(op, now_ms);
                });
                if applied.is_none() {
                    return false;
                }
            }
        }
    }

    fn apply_op(&mut self, op: &Op<'_>, now_ms: u64) {
        let applying = self.state.begin(op.stamp, Some(&op.deps));
        self.begin_uses(now_ms);
        let mut used: &[u8] = &[];
        for (index, effect) in (0..).zip(op.effects()) {
            let key = self.state.seed().key(effect.key);
            self.note_expiry(&effect.change);
            self.state.apply(applying, index, &key, &effect.change);
            self.touch(&key, &effect.change, now_ms);
            // What is about no one key has none that is of this shard.
            if self.notes_uses() && used != effect.key && !effect.change.is_keyless() {
                self.note_use(&key, now_ms);
                used = effect.key;
            }
        }
        self.clock.observe(op.stamp.time);
    }

    /// Seals the ops that have gathered since the last time, if any have: they are in the log then.
    pub fn seal(&mut self) -> Option<Frame> {
        if self.frame.is_empty() {
            return None;
        }
        let room = self.log.room(self.frame.len());
        let frame = self.frame.seal_in(room)?;
        self.append(frame.clone());
        Some(frame)
    }

    fn append(&mut self, frame: Frame) {
        self.log.append(frame);
        self.soil();
    }

    /// Notes that something has gathered in the log.
    fn soil(&self) {
        // As a rule it is known already, and the line of memory stays shared then.
        if !self.dirty.load(Ordering::Relaxed) {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Drops and folds what has become stable, at most `limit` things. Returns whether there may be
    /// more to do at once.
    pub fn settle(&mut self, limit: usize) -> bool {
        let settle = |shard: &mut Self| shard.state.settle(shard.delivery.stable(), limit);
        self.guarded("settling", settle).unwrap_or(false)
    }

    /// What was removed and is yet to be freed: to be dropped elsewhere, without the lock.
    pub fn take_removed(&mut self) -> Removed {
        if self.is_in_service() {
            return self.state.take_removed();
        }
        Removed::default()
    }

    /// A position from which the log holds every op of `region`'s origins that `applied` lacks.
    pub fn log_start(&self, region: Region, applied: &Version) -> Option<u64> {
        self.log.start(region, applied).map(|cursor| cursor.0)
    }

    /// The next frame in the log at or after a position that is `wanted`; `None` if what is there
    /// is on disk alone.
    pub fn log_next(&mut self, position: u64, wanted: impl FnMut(&Frame) -> bool) -> Option<Next> {
        self.seal();
        Some(match self.log.read(Cursor(position), wanted) {
            Read::Frame(frame, next) => Next::Frame(frame.clone(), next.0),
            Read::End(next) => Next::End(next.0),
            Read::OnDisk => return None,
            Read::Behind => Next::Behind,
        })
    }

    /// How many ops in the log, other than those of `peer`, `applied` lacks.
    pub fn log_pending(&mut self, peer: Region, applied: &Version) -> u64 {
        self.seal();
        self.log.pending(peer, applied)
    }

    /// What has been applied, and what others have acknowledged.
    pub const fn delivery(&mut self) -> &mut Delivery {
        &mut self.delivery
    }

    /// Notes for whoever waits on a key or watches it that it has changed.
    fn touch(&mut self, key: &Key<'_>, change: &Change<'_>, now_ms: u64) {
        #[cfg(test)]
        self.trip(key.name);
        if matches!(change, Change::Flush) {
            // Who watches a key that was there sees that it is gone; nobody waits for that.
            return;
        }
        self.waiters.touch(key.name);
        // What readers did not see any more changes nothing for them when it goes.
        let is_seen = !is_expiry(change) || self.shows(key, change, now_ms);
        if is_seen {
            self.touched.key(key.name);
        }
    }

    /// Whether readers see something of what a change is about.
    fn shows(&self, key: &Key<'_>, change: &Change<'_>, now_ms: u64) -> bool {
        if let Change::FieldRemove { field, .. } = change {
            let hash = self.state.hash(key, now_ms);
            hash.is_some_and(|hash| hash.contains(field))
        } else {
            self.state.kind(key, now_ms).is_some()
        }
    }

    /// The values.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Who issues its ops here.
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// What has been applied.
    pub const fn version(&self) -> &Version {
        self.delivery.version()
    }

    /// The time of the last op issued here.
    pub const fn written(&self) -> Time {
        self.delivery.written()
    }

    /// Chance, for commands that pick at random.
    pub const fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// How many keys there are.
    pub fn len(&mut self, now_ms: u64) -> usize {
        self.state.len() - self.state.hidden(now_ms)
    }

    /// Whether there are no keys.
    pub fn is_empty(&mut self, now_ms: u64) -> bool {
        self.len(now_ms) == 0
    }

    /// How many keys will end, and in how many milliseconds on average.
    pub fn volatile(&mut self, now_ms: u64) -> (usize, u64) {
        self.state.volatile(now_ms)
    }

    /// Walks its keys from a cursor, which is 0 at the start and at the end. Visits about `count`
    /// places; a key that is there throughout a walk is visited.
    pub fn scan(&self, cursor: u64, count: u32, now_ms: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        let (from, mut id) = ((cursor >> 32) as u16, cursor as u32);
        let mut left = count.max(1);
        for (at, slot) in (0_u16..).zip(self.state.slots()).skip(from.into()) {
            match self.state.scan(slot, id, left, now_ms, &mut visit) {
                Some(next) => return u64::from(at) << 32 | u64::from(next),
                None => left = left.saturating_sub(self.state.places(slot).saturating_sub(id)),
            }
            id = 0;
            if left == 0 && usize::from(at) + 1 < self.state.slots().count() {
                return u64::from(at + 1) << 32;
            }
        }
        0
    }

    /// A key at random, or `None` if there is none.
    pub fn random_key(&mut self, now_ms: u64) -> Option<Box<[u8]>> {
        let random = &mut self.random;
        let taken: Vec<Slot> = self
            .state
            .slots()
            .filter(|&slot| 0 < self.state.slot_len(slot))
            .collect();
        if taken.is_empty() {
            return None;
        }
        // As a rule keys past their deadline are few.
        for _ in 0..RANDOM_TRIES {
            let slot = taken[random.usize(0..taken.len())];
            let name = self
                .state
                .random_key(slot, &mut |below| random.u64(0..below))?;
            let key = self.state.seed().key(name);
            if self.state.kind(&key, now_ms).is_some() {
                return Some(name.into());
            }
        }
        // They are not: the first that is found from a random slot on.
        let start = random.usize(0..taken.len());
        let slots = taken[start..].iter().chain(&taken[..start]);
        let mut found: Option<Box<[u8]>> = None;
        for &slot in slots {
            let places = self.state.places(slot);
            self.state.scan(slot, 0, places, now_ms, |name| {
                found.get_or_insert_with(|| name.into());
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// Remembers a key for `WATCH`.
    pub fn watch(&mut self, key: &Key<'_>, now_ms: u64) -> Watch {
        let size = self.size(key, now_ms);
        self.touched.watch(key.name, size)
    }

    /// Whether a watched key has changed since, by a write or because something of it has ended.
    pub fn has_changed(&self, name: &[u8], watch: Watch, now_ms: u64) -> bool {
        let key = self.state.seed().key(name);
        self.touched.has_changed(name, watch) || self.size(&key, now_ms) != watch.size
    }

    /// How much there is at a key of what can end by itself: nothing, or a key with so many fields.
    fn size(&self, key: &Key<'_>, now_ms: u64) -> Option<usize> {
        Some(match self.state.kind(key, now_ms)? {
            Kind::Hash => self.state.hash(key, now_ms)?.len(),
            Kind::String | Kind::Set | Kind::SortedSet | Kind::List => 0,
        })
    }

    /// Forgets a watched key.
    pub fn unwatch(&mut self, name: &[u8]) {
        self.touched.unwatch(name);
    }
}
