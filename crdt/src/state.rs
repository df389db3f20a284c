//! The state of one shard: every key of its slots, changed by effects and by nothing else.
//!
//! [`State::apply`] is the one way in, the same for a client's op, a peer's and a log's. It
//! keeps up, by difference, what would be dear to compute: a digest per slot, the number of keys,
//! the deadlines in order, and the list of things that wait to become stable.

use std::collections::{BTreeMap, VecDeque};

use crate::apply::{FieldEnds, Inner, Left, Place, change_key, settle_part, thing_of};
use crate::body::{Body, KeyState, Kind};
use crate::effect::{Bodies, Change, Effect};
use crate::endings::{CountedEndings, Endings};
use crate::fact::{Id, OriginIx, Origins, Rounds, Seen};
use crate::held::Held;
use crate::marks::Marks;
use crate::names::{Context, Names, Updated};
use crate::origin::Origin;
use crate::removed::Removed;
use crate::slot::{Key, Seed, Slot};
use crate::stamp::{Stamp, Time};
use crate::sweep::Walk;
use crate::uses::Uses;
use crate::version::Version;

/// One slot.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    pub(crate) keys: Names<KeyState>,
    digest: u64,
    /// Of all keys.
    pub(crate) marks: Marks,
}

/// Something that waits to become stable.
#[derive(Debug)]
pub(crate) struct Unsettled {
    /// When it does, it settles.
    pub(crate) latest: Id,
    pub(crate) key: Box<[u8]>,
    pub(crate) place: Place,
}

/// An op being applied: see [`State::begin`].
#[derive(Clone, Copy, Debug)]
pub struct Applying {
    origin: OriginIx,
    time: Time,
    local: bool,
    /// Whether part of the state holds what it leaves behind.
    again: bool,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    pub(crate) seed: Seed,
    pub(crate) origins: Origins,
    /// Whether everything is stable at once, because the database has no other region.
    pub(crate) alone: bool,
    first: u16,
    pub(crate) slots: Vec<SlotState>,
    /// When keys end, by their slots' numbers and places.
    pub(crate) key_ends: CountedEndings<(u16, u32)>,
    /// When the first fields of hashes end, in the same way.
    pub(crate) field_ends: Endings<(u16, u32)>,
    unsettled: VecDeque<Unsettled>,
    /// What the op being applied had seen.
    cover: Vec<Time>,
    /// Ops of closed origins that have been issued again, and as what.
    pub(crate) reissued: BTreeMap<Stamp, Stamp>,
    /// The last op applied of each origin, by number.
    pub(crate) applied: Vec<Time>,
    /// What was applied when the open round of settling began.
    barrier: Vec<Time>,
    pub(crate) rounds: Rounds,
    /// How many origins had closed when the last walk began that looked for their counter parts.
    pub(crate) swept: usize,
    pub(crate) walk: Option<Walk>,
    removed: Removed,
    /// What is ahead of the version of the shard.
    pub(crate) held: Held,
    /// How keys are used, if that is kept.
    pub(crate) uses: Option<Box<Uses>>,
}

impl State {
    /// An empty state of `count` slots from `first`. `alone` says that the database has no other
    /// region.
    pub fn new(seed: Seed, first: Slot, count: u16, alone: bool) -> Self {
        Self {
            seed,
            origins: Origins::default(),
            alone,
            first: first.number(),
            slots: (0..count).map(|_| SlotState::default()).collect(),
            key_ends: CountedEndings::default(),
            field_ends: Endings::default(),
            unsettled: VecDeque::new(),
            cover: Vec::new(),
            reissued: BTreeMap::new(),
            applied: Vec::new(),
            barrier: Vec::new(),
            rounds: Rounds::default(),
            swept: 0,
            walk: None,
            removed: Removed::default(),
            held: Held::default(),
            uses: None,
        }
    }

    /// Begins an op. `deps` are those of an op from elsewhere; an op issued here, just now, has
    /// seen all that is here. Where part of the state is ahead of the version, it has not: then ops
    /// issued here come with their deps, too.
    pub fn begin(&mut self, stamp: Stamp, deps: Option<&Version>) -> Applying {
        let origin = self.origins.number(stamp.origin);
        let at = usize::from(origin.0);
        if self.applied.len() <= at {
            self.applied.resize(at + 1, Time::ZERO);
        }
        self.applied[at] = self.applied[at].max(stamp.time);
        if let Some(deps) = deps {
            self.origins.cover(deps, &mut self.cover);
            self.cover[usize::from(origin.0)] = stamp.time;
        }
        Applying {
            origin,
            time: stamp.time,
            local: deps.is_none(),
            again: self.held.covers(stamp),
        }
    }

    /// Takes note of ops that were applied elsewhere, and came as what they left behind.
    pub(crate) fn note_applied(&mut self, times: impl Iterator<Item = (Origin, Time)>) {
        for (origin, time) in times {
            let at = usize::from(self.origins.number(origin).0);
            if self.applied.len() <= at {
                self.applied.resize(at + 1, Time::ZERO);
            }
            self.applied[at] = self.applied[at].max(time);
        }
    }

    /// As what an op of a closed origin has been issued again, if it has.
    pub fn reissued(&self, of: Stamp) -> Option<Stamp> {
        self.reissued.get(&of).copied()
    }

    /// Applies effect `index` of an op that has begun, on a key of this shard, or on all for
    /// [`Change::Flush`]. Costs O(1) expected for effects on one thing, O(log n) in sorted sets and
    /// lists. Removals of whole containers and of all keys cost as much where the op had seen all
    /// that is there and nothing was ever counted in it, else O(n). Returns whether the field,
    /// member or score that the change is about existed before, if it is about one.
    pub fn apply(&mut self, op: Applying, index: u32, key: &Key<'_>, change: &Change<'_>) -> bool {
        let id = Id {
            time: op.time,
            index,
            origin: op.origin,
        };
        if matches!(change, Change::Flush) {
            self.flush(op, id);
        } else if let Change::Reissue(of) = change {
            // A part of it may be raised, though nothing of its origin ever came.
            self.origins.number(of.origin);
            let origin = self.origins.get(op.origin);
            let time = op.time;
            self.reissued.insert(*of, Stamp { time, origin });
        } else {
            return self.apply_to_key(op, id, key, change);
        }
        false
    }

    /// As [`State::apply`], for an effect that comes with its key's name only.
    pub fn apply_effect(&mut self, op: Applying, index: u32, effect: &Effect<'_>) {
        let key = self.seed.key(effect.key);
        self.apply(op, index, &key, &effect.change);
    }

    /// Slots of which everything goes are taken out whole; in the others each key is looked at.
    fn flush(&mut self, op: Applying, id: Id) {
        let mut whole = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let seen = seen(op, id, &self.cover);
            if slot.keys.is_void() {
                slot.marks = Marks::default();
                continue;
            }
            if (self.alone && !op.again) || slot.marks.goes_whole(seen, &self.applied) {
                self.removed.add_slot(std::mem::take(slot).keys);
                if let Some(uses) = &mut self.uses {
                    uses.forget_slot(index);
                }
                whole.push(self.first + index as u16);
            } else {
                self.flush_slot(index, op, id);
            }
        }
        let key_ends = std::mem::take(&mut self.key_ends);
        let field_ends = std::mem::take(&mut self.field_ends);
        let stays = |slot: u16| whole.binary_search(&slot).is_err();
        for (ending, place) in key_ends.endings().iter() {
            if stays(place.0) {
                self.key_ends.update(None, Some(ending), place);
            }
        }
        for (ending, place) in field_ends.iter() {
            if stays(place.0) {
                self.field_ends.insert(ending, place);
            }
        }
        self.removed.add_endings(key_ends, field_ends);
    }

    fn flush_slot(&mut self, index: usize, op: Applying, id: Id) {
        let everything = Change::Remove {
            bodies: Bodies::ALL,
            deadlines: true,
        };
        let keys = &self.slots[index].keys;
        let names: Vec<Box<[u8]>> = keys.iter().map(|(_, name, _)| name.into()).collect();
        for name in names {
            let key = self.seed.key(&name);
            self.apply_to_key(op, id, &key, &everything);
        }
    }

    fn apply_to_key(&mut self, op: Applying, id: Id, key: &Key<'_>, change: &Change<'_>) -> bool {
        if !op.again {
            return self.apply_here(op, id, key, change);
        }
        let fact = self.origins.fact_id(id);
        if self.held.skips(key, fact, change, &self.seed) {
            return false;
        }
        let is_known = self.held.has_register(key, fact.stamp, &self.seed);
        let again = Applying {
            again: is_known,
            ..op
        };
        if let Change::Remove { bodies, .. } = *change
            && is_known
        {
            let (bodies, deadlines) = (bodies.but(Bodies::STRING), false);
            self.apply_here(again, id, key, &Change::Remove { bodies, deadlines })
        } else {
            self.apply_here(again, id, key, change)
        }
    }

    fn apply_here(&mut self, op: Applying, id: Id, key: &Key<'_>, change: &Change<'_>) -> bool {
        let index = self.slot_index(key.slot);
        let slot = &mut self.slots[index];
        let cx = Context {
            origins: &self.origins,
            seed: &self.seed,
            seen: seen(op, id, &self.cover),
            id,
            // What the op leaves of a key may be less than there is now.
            alone: self.alone && !op.again,
            rounds: self.rounds,
            goes_on: matches!(
                change,
                Change::ForgetPart { .. } | Change::ForgetScore { .. }
            ),
        };
        let mut inner = Inner {
            digest: 0,
            queue: Vec::new(),
            fields: FieldEnds::default(),
            removed: Vec::new(),
            existed: false,
            applied: &self.applied,
        };
        slot.marks.note(id, change);
        let updated = change_key(&mut slot.keys, key, change, &cx, &mut inner);
        let existed = inner.existed;
        let left = inner.into_left();
        self.take_note(key, id, &updated, left);
        existed
    }

    /// Keeps up what is kept by difference, after a change of a key by `latest`.
    pub(crate) fn take_note(&mut self, key: &Key<'_>, latest: Id, updated: &Updated, left: Left) {
        let index = self.slot_index(key.slot);
        self.slots[index].digest ^= updated.digest() ^ left.digest;
        if let Some(uses) = &mut self.uses {
            uses.note(index, updated);
        }
        for body in left.removed {
            self.removed.add_body(body);
        }
        let of_key = updated.queue.then_some(Place::Key);
        for place in of_key.into_iter().chain(left.queue) {
            self.unsettled.push_back(Unsettled {
                latest,
                key: key.name.into(),
                place,
            });
        }
        self.note_endings(key.slot, updated, &left.fields);
    }

    fn note_endings(&mut self, slot: Slot, updated: &Updated, fields: &FieldEnds) {
        let place = (slot.number(), updated.id);
        let (before, after) = (updated.before.ending, updated.after.ending);
        self.key_ends.update(before, after, place);
        let gone = fields.before.iter().filter(|e| !fields.after.contains(e));
        gone.for_each(|&ending| self.field_ends.remove(ending, place));
        let new = fields.after.iter().filter(|e| !fields.before.contains(e));
        new.for_each(|&ending| self.field_ends.insert(ending, place));
    }

    /// Drops and folds what has become stable, at most `limit` things. Changes nothing that can be
    /// read, and no digest. Returns whether there may be more to do at once.
    pub fn settle(&mut self, stable: &Version, limit: usize) -> bool {
        let mut cover = Vec::new();
        self.origins.cover(stable, &mut cover);
        let stable = Seen::UpTo(&cover);
        if self
            .barrier
            .iter()
            .zip(&cover)
            .all(|(op, covered)| op <= covered)
        {
            self.rounds.passed = self.rounds.open;
            self.rounds.open = self.rounds.open.wrapping_add(1);
            self.barrier.clone_from(&self.applied);
        }
        let is_walking = self.sweep(stable, limit);
        // What is put back waits for a later call.
        let waiting = self.unsettled.len();
        for _ in 0..limit.min(waiting) {
            let is_due = |next: &mut Unsettled| stable.covers(next.latest);
            let Some(next) = self.unsettled.pop_front_if(is_due) else {
                return is_walking;
            };
            self.settle_thing(next, stable);
        }
        is_walking || limit < waiting
    }

    /// Settles all that waits, in a database that has no other region.
    pub(crate) fn settle_all(&mut self) {
        for thing in std::mem::take(&mut self.unsettled) {
            self.settle_thing(thing, Seen::All);
        }
    }

    pub(crate) fn settle_thing(&mut self, thing: Unsettled, stable: Seen<'_>) {
        let key = self.seed.key(&thing.key);
        let index = self.slot_index(key.slot);
        let slot = &mut self.slots[index];
        let id = thing.latest;
        let cx = Context {
            origins: &self.origins,
            seed: &self.seed,
            seen: stable,
            id,
            alone: self.alone,
            rounds: self.rounds,
            goes_on: false,
        };
        let again = match &thing.place {
            Place::Key => match slot.keys.settle(thing_of(&key), stable, &cx) {
                Some(updated) => {
                    self.note_endings(key.slot, &updated, &FieldEnds::default());
                    updated.queue
                }
                None => false,
            },
            Place::Part(kind, name) => {
                let (mut queue, mut fields) = (false, FieldEnds::default());
                let updated = slot.keys.amend(thing_of(&key), &cx, |state| {
                    queue = settle_part(state, *kind, name, &key, &cx, &mut fields);
                });
                self.note_endings(key.slot, &updated, &fields);
                queue
            }
            Place::Element(position) => {
                let mut queue = false;
                slot.keys.amend(thing_of(&key), &cx, |state| {
                    if let Some(Body::List(list)) = state.body_mut(Kind::List) {
                        queue = list.settle(position, stable, &self.origins);
                    }
                    state.drop_void();
                });
                queue
            }
        };
        if again {
            self.unsettled.push_back(thing);
        }
    }

    /// What was removed and is yet to be freed: whoever gets it does that by dropping it.
    pub fn take_removed(&mut self) -> Removed {
        std::mem::take(&mut self.removed)
    }

    /// How many things wait to become stable.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// How many keys exist, those past their deadline included.
    pub fn len(&self) -> usize {
        self.slots.iter().map(|slot| slot.keys.live()).sum()
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.keys.live() == 0)
    }

    /// How many keys of a slot exist, those past their deadline included.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.slots[self.slot_index(slot)].keys.live()
    }

    /// The digest of what readers see in a slot, keys past their deadline included.
    pub fn slot_digest(&self, slot: Slot) -> u64 {
        self.slots[self.slot_index(slot)].digest
    }

    /// The digests of all slots, together.
    pub fn digest(&self) -> u64 {
        self.slots
            .iter()
            .fold(0, |digest, slot| digest ^ slot.digest)
    }

    /// The slots, by number.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let end = self.first + self.slots.len() as u16;
        (self.first..end).filter_map(Slot::new)
    }

    /// The seed that keys are hashed with.
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    pub(crate) fn first_slot(&self) -> Slot {
        Slot::new(self.first).expect("a shard has slots")
    }

    /// Whether a slot is one of this shard.
    pub fn has_slot(&self, slot: Slot) -> bool {
        let index = slot.number().checked_sub(self.first);
        index.is_some_and(|index| usize::from(index) < self.slots.len())
    }

    pub(crate) fn slot_index(&self, slot: Slot) -> usize {
        usize::from(slot.number() - self.first)
    }

    /// An origin's number, for reading its parts.
    pub(crate) fn find_origin(&self, origin: Origin) -> Option<OriginIx> {
        self.origins.find(origin)
    }
}

/// What an op had seen.
fn seen(op: Applying, id: Id, cover: &[Time]) -> Seen<'_> {
    if op.local {
        Seen::All
    } else if op.again {
        Seen::Again(cover, id)
    } else {
        Seen::UpTo(cover)
    }
}
