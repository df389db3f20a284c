//! A shard: a range of hash slots under one lock, with one clock and one log.
//!
//! It does three things: gives a write its place in causal order, applies its effects, appends the
//! op to its log. A client's ops come through [`Shard::transact`], a peer's through
//! [`Shard::apply`]; both end in `crdt::State::apply`.

mod open;
mod touched;
mod txn;
mod waiters;

use crdt::{Change, Clock, Frame, FrameWriter, Key, Origin, Seed, Slot, State, Time, Version};

use touched::Touched;
pub use touched::Watch;
pub use txn::Txn;
pub use waiters::Retry;
use waiters::Waiters;

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

/// See the module.
#[derive(Debug)]
pub struct Shard {
    state: State,
    clock: Clock,
    origin: Origin,
    alone: bool,
    frame: FrameWriter,
    /// What has been applied.
    version: Version,
    /// The last op applied of each other origin.
    deps: Version,
    /// The last op issued here.
    written: Time,
    touched: Touched,
    waiters: Waiters,
    random: fastrand::Rng,
}

impl Shard {
    /// An empty shard.
    pub fn new(identity: Identity, seed: Seed, chance: u64) -> Self {
        let Identity {
            number,
            first,
            slots,
            origin,
            alone,
        } = identity;
        Self {
            state: State::new(seed, first, slots, alone),
            clock: Clock::default(),
            origin,
            alone,
            frame: FrameWriter::new(number, origin),
            version: Version::new(),
            deps: Version::new(),
            written: Time::ZERO,
            touched: Touched::default(),
            waiters: Waiters::default(),
            random: fastrand::Rng::with_seed(chance),
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
        };
        let result = run(&mut txn);
        txn.finish();
        self.serve(now_ms);
        result
    }

    /// Applies a frame from another region, or from the log, from after `skip` on. The caller has
    /// seen to it that its deps are covered and that nothing is missing before it.
    pub fn apply(&mut self, frame: &Frame, skip: Time, now_ms: u64) {
        for op in frame {
            if op.stamp.time <= skip {
                continue;
            }
            let applying = self.state.begin(op.stamp, Some(&op.deps));
            for (index, effect) in (0..).zip(op.effects()) {
                self.state.apply_effect(applying, index, &effect);
                self.touch(effect.key, &effect.change);
            }
            self.clock.observe(op.stamp.time);
            self.version.advance(op.stamp.origin, op.stamp.time);
            self.deps.advance(op.stamp.origin, op.stamp.time);
        }
        self.serve(now_ms);
    }

    /// Seals the ops that have gathered since the last time, if any have.
    pub fn seal(&mut self) -> Option<Frame> {
        self.frame.seal()
    }

    /// Drops and folds what has become stable, at most `limit` things. Returns whether there may be
    /// more to do at once.
    pub fn settle(&mut self, stable: &Version, limit: usize) -> bool {
        self.state.settle(stable, limit)
    }

    /// Notes for whoever waits on a key or watches it that it has changed.
    fn touch(&mut self, name: &[u8], change: &Change<'_>) {
        if matches!(change, Change::Flush) {
            self.touched.all();
        } else {
            self.touched.key(name);
            self.waiters.touch(name);
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
        &self.version
    }

    /// The time of the last op issued here.
    pub const fn written(&self) -> Time {
        self.written
    }

    /// Chance, for commands that pick at random.
    pub const fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// How many keys there are.
    pub fn len(&self, now_ms: u64) -> usize {
        self.state.len() - self.state.hidden(now_ms)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self, now_ms: u64) -> bool {
        self.len(now_ms) == 0
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
        // Keys past their deadline are few; a bound keeps an unlucky run short.
        for _ in 0..100 {
            if taken.is_empty() {
                return None;
            }
            let slot = taken[random.usize(0..taken.len())];
            let name = self
                .state
                .random_key(slot, &mut |below| random.u64(0..below))?;
            let key = self.state.seed().key(name);
            if self.state.kind(&key, now_ms).is_some() {
                return Some(name.into());
            }
        }
        None
    }

    /// Remembers a key for `WATCH`.
    pub fn watch(&mut self, name: &[u8]) -> Watch {
        self.touched.watch(name)
    }

    /// Whether a watched key has changed since.
    pub fn has_changed(&self, name: &[u8], watch: Watch) -> bool {
        self.touched.has_changed(name, watch)
    }

    /// Forgets a watched key.
    pub fn unwatch(&mut self, name: &[u8]) {
        self.touched.unwatch(name);
    }
}
