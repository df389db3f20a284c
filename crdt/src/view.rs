//! Reading: what clients see of a key at a moment.
//!
//! Every read hides what is past its deadline. A read costs no copy where the value is one base.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a view is of one kind, and every other is none"
)]

use std::borrow::Cow;
use std::ops::Range;

use crate::body::{Body, HashBody, KeyState, Kind, SetBody, SortedSetBody, score_of, visible};
use crate::effect::ElementId;
use crate::fact::{Id, Origins};
use crate::list::ListBody;
use crate::names::{Full, Kept, Names};
use crate::number::Number;
use crate::position::Position;
use crate::register::Register;
use crate::slot::{Key, Seed, Slot};
use crate::stamp::Time;
use crate::state::State;

/// Picks a number below the given one, which is not 0.
pub type Pick<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Whole keys.
impl State {
    pub(crate) fn key(&self, key: &Key<'_>) -> Option<Kept<'_, KeyState>> {
        let slot = &self.slots[self.slot_index(key.slot)];
        slot.keys.get(key.hash, key.name).map(|(_, kept)| kept)
    }

    fn live_key(&self, key: &Key<'_>, now_ms: u64) -> Option<Kept<'_, KeyState>> {
        self.key(key)
            .filter(|kept| kept.ends_at(&self.origins).is_none_or(|ms| now_ms < ms))
    }

    /// The type that readers see at a key, or `None` if there is no such key.
    pub fn kind(&self, key: &Key<'_>, now_ms: u64) -> Option<Kind> {
        visible(self.live_key(key, now_ms)?, now_ms, &self.origins)
    }

    /// What readers see at a key, past its deadline or not, and the latest fact of that.
    pub(crate) fn latest(&self, key: &Key<'_>) -> Option<(Kind, Id)> {
        let kept = self.key(key)?;
        let kind = visible(kept, 0, &self.origins)?;
        let latest = match kept {
            Kept::Compact(base) => base.id,
            Kept::Counter(counter) => counter.latest(),
            Kept::Full(state) => state.latest(kind, &self.origins)?,
        };
        Some((kind, latest))
    }

    /// When something was last written at a key, as far as that is known without a look at what is
    /// in containers.
    pub fn written_at(&self, key: &Key<'_>) -> Option<Time> {
        Some(match self.key(key)? {
            Kept::Compact(base) => base.id.time,
            Kept::Counter(counter) => counter.latest().time,
            Kept::Full(state) => {
                let register = state.register();
                let latest = register.and_then(|register| register.latest(&self.origins));
                let latest = latest.map_or(Time::ZERO, |latest| latest.time);
                latest.max(state.marks.latest())
            }
        })
    }

    /// When a key ends, if it does; milliseconds since 1970, which may be past.
    pub fn deadline(&self, key: &Key<'_>) -> Option<u64> {
        self.key(key)?.ends_at(&self.origins)
    }

    /// The string at a key; or the type that readers see there instead.
    pub fn read_string(&self, key: &Key<'_>, now_ms: u64) -> Result<Option<Cow<'_, [u8]>>, Kind> {
        let Some(kept) = self.live_key(key, now_ms) else {
            return Ok(None);
        };
        match visible(kept, now_ms, &self.origins) {
            Some(Kind::String) => Ok(kept.value()),
            Some(other) => Err(other),
            None => Ok(None),
        }
    }

    /// The string at a key, if that is what readers see there.
    pub fn string(&self, key: &Key<'_>, now_ms: u64) -> Option<Cow<'_, [u8]>> {
        let kept = self.live_key(key, now_ms)?;
        match visible(kept, now_ms, &self.origins)? {
            Kind::String => kept.value(),
            _ => None,
        }
    }

    /// The container of a kind at a key; or the type that readers see there instead.
    fn read_body(&self, key: &Key<'_>, kind: Kind, now_ms: u64) -> Result<Option<&Body>, Kind> {
        let Some(kept) = self.live_key(key, now_ms) else {
            return Ok(None);
        };
        match (visible(kept, now_ms, &self.origins), kept) {
            (Some(seen), Kept::Full(state)) if seen == kind => Ok(state.body(kind)),
            (Some(other), _) => Err(other),
            (None, _) => Ok(None),
        }
    }

    /// The sorted set at a key; or the type that readers see there instead.
    pub fn read_sorted_set(
        &self,
        key: &Key<'_>,
        now_ms: u64,
    ) -> Result<Option<SortedSet<'_>>, Kind> {
        let body = self.read_body(key, Kind::SortedSet, now_ms)?;
        Ok(body.and_then(|body| self.as_sorted_set(body)))
    }

    /// The list at a key; or the type that readers see there instead.
    pub fn read_list(&self, key: &Key<'_>, now_ms: u64) -> Result<Option<List<'_>>, Kind> {
        let body = self.read_body(key, Kind::List, now_ms)?;
        Ok(body.and_then(|body| self.as_list(body)))
    }

    /// The hash at a key, seen or not.
    pub fn hash(&self, key: &Key<'_>, now_ms: u64) -> Option<Hash<'_>> {
        match self.body(key, Kind::Hash)? {
            Body::Hash(body) => Some(Hash {
                body,
                seed: &self.seed,
                origins: &self.origins,
                now_ms,
            }),
            _ => None,
        }
    }

    /// The set at a key, seen or not.
    pub fn set(&self, key: &Key<'_>) -> Option<Set<'_>> {
        match self.body(key, Kind::Set)? {
            Body::Set(body) => Some(Set {
                body,
                seed: &self.seed,
            }),
            _ => None,
        }
    }

    /// The sorted set at a key, seen or not.
    pub fn sorted_set(&self, key: &Key<'_>) -> Option<SortedSet<'_>> {
        self.as_sorted_set(self.body(key, Kind::SortedSet)?)
    }

    const fn as_sorted_set<'a>(&'a self, body: &'a Body) -> Option<SortedSet<'a>> {
        match body {
            Body::SortedSet(body) => Some(SortedSet {
                body,
                seed: &self.seed,
            }),
            _ => None,
        }
    }

    /// The list at a key, seen or not.
    pub fn list(&self, key: &Key<'_>) -> Option<List<'_>> {
        self.as_list(self.body(key, Kind::List)?)
    }

    const fn as_list<'a>(&'a self, body: &'a Body) -> Option<List<'a>> {
        match body {
            Body::List(body) => Some(List {
                body,
                origins: &self.origins,
            }),
            _ => None,
        }
    }

    pub(crate) fn body(&self, key: &Key<'_>, kind: Kind) -> Option<&Body> {
        match self.key(key)? {
            Kept::Full(state) => state.body(kind),
            Kept::Compact(_) | Kept::Counter(_) => None,
        }
    }

    /// Walks the keys of a slot that readers see, from a place on. Stops after `count` places and
    /// returns where to go on, or `None` at the end. What is there throughout a walk is visited.
    pub fn scan(
        &self,
        slot: Slot,
        from: u32,
        count: u32,
        now_ms: u64,
        mut visit: impl FnMut(&[u8]),
    ) -> Option<u32> {
        let keys = &self.slots[self.slot_index(slot)].keys;
        let end = keys.ids_end();
        let stop = from.saturating_add(count).min(end);
        for id in from..stop {
            if let Some((name, kept)) = keys.at(id)
                && kept.ends_at(&self.origins).is_none_or(|ms| now_ms < ms)
                && visible(kept, now_ms, &self.origins).is_some()
            {
                visit(name);
            }
        }
        (stop < end).then_some(stop)
    }

    /// Above the place of every key of a slot.
    pub fn places(&self, slot: Slot) -> u32 {
        self.slots[self.slot_index(slot)].keys.ids_end()
    }

    /// A key of a slot, at random, whether it is past its deadline or not.
    pub fn random_key(&self, slot: Slot, pick: Pick<'_>) -> Option<&[u8]> {
        let keys = &self.slots[self.slot_index(slot)].keys;
        keys.random(pick)
            .and_then(|id| keys.at(id))
            .map(|(name, _)| name)
    }

    /// Estimated bytes that a key takes, overhead included.
    pub fn key_bytes(&self, key: &Key<'_>) -> Option<usize> {
        let kept = self.key(key)?;
        let entry = key.name.len() + 40;
        Some(match kept {
            Kept::Compact(base) => entry + base.value.len(),
            Kept::Counter(_) => entry + 34,
            Kept::Full(state) => {
                let value = state
                    .register()
                    .and_then(Register::value)
                    .map_or(0, |v| v.len());
                entry + value + state.bodies().iter().map(Body::heap_bytes).sum::<usize>() + 64
            }
        })
    }
}

/// A field, and its value.
pub type FieldValue<'a> = (&'a [u8], Cow<'a, [u8]>);

/// A hash, at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Hash<'a> {
    body: &'a HashBody,
    seed: &'a Seed,
    origins: &'a Origins,
    now_ms: u64,
}

impl<'a> Hash<'a> {
    /// How many fields it has.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a hash without fields is no hash"
    )]
    pub fn len(&self) -> usize {
        self.body.live_at(self.now_ms)
    }

    fn live(&self, kept: Kept<'a, Register<Number>>) -> bool {
        let ends_at = kept.ends_at(self.origins);
        ends_at.is_none_or(|ms| self.now_ms < ms)
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<Cow<'a, [u8]>> {
        let (_, kept) = self.body.fields.get(self.seed.hash(field), field)?;
        if self.live(kept) { kept.value() } else { None }
    }

    /// Whether it has a field.
    pub fn contains(&self, field: &[u8]) -> bool {
        let found = self.body.fields.get(self.seed.hash(field), field);
        found.is_some_and(|(_, kept)| kept.exists() && self.live(kept))
    }

    /// When a field ends, if it does; milliseconds since 1970.
    pub fn deadline(&self, field: &[u8]) -> Option<u64> {
        self.body
            .fields
            .get(self.seed.hash(field), field)?
            .1
            .ends_at(self.origins)
    }

    /// All fields and values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> + use<'a> {
        let this = *self;
        let all = this
            .body
            .fields
            .iter()
            .filter(move |&(_, _, kept)| this.live(kept));
        all.filter_map(|(_, name, kept)| Some((name, kept.value()?)))
    }

    /// A field at random. Costs O(1) expected.
    pub fn random(&self, pick: Pick<'_>) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
        if self.len() == 0 {
            return None;
        }
        for _ in 0..64 {
            let id = self.body.fields.random(pick)?;
            if let Some((name, kept)) = self.body.fields.at(id)
                && self.live(kept)
            {
                return Some((name, kept.value()?));
            }
        }
        self.iter().nth(pick(self.len() as u64) as usize)
    }

    /// Walks on from a cursor, which is 0 at the start and at the end.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<FieldValue<'a>>) {
        walk(&self.body.fields, cursor, count, |name, kept| {
            if self.live(kept) {
                Some((name, kept.value()?))
            } else {
                None
            }
        })
    }
}

/// A set.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    body: &'a SetBody,
    seed: &'a Seed,
}

impl<'a> Set<'a> {
    /// How many members it has.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a set without members is no set"
    )]
    pub const fn len(&self) -> usize {
        self.body.members.live()
    }

    /// Whether it has a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        let found = self.body.members.get(self.seed.hash(member), member);
        found.is_some_and(|(_, kept)| kept.exists())
    }

    /// All members, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let all = self
            .body
            .members
            .iter()
            .filter(|&(_, _, kept)| kept.exists());
        all.map(|(_, name, _)| name)
    }

    /// A member at random. Costs O(1) expected.
    pub fn random(&self, pick: Pick<'_>) -> Option<&'a [u8]> {
        let id = self.body.members.random(pick)?;
        self.body.members.at(id).map(|(name, _)| name)
    }

    /// Walks on from a cursor, which is 0 at the start and at the end.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<&'a [u8]>) {
        walk(&self.body.members, cursor, count, |name, kept| {
            kept.exists().then_some(name)
        })
    }
}

/// A sorted set. Members are in the order of their scores, then names.
#[derive(Clone, Copy, Debug)]
pub struct SortedSet<'a> {
    body: &'a SortedSetBody,
    seed: &'a Seed,
}

impl<'a> SortedSet<'a> {
    /// How many members it has.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a sorted set without members is none"
    )]
    pub fn len(&self) -> usize {
        self.body.order.len()
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.body.score(self.seed.hash(member), member)
    }

    /// The rank of a member, from 0. Costs O(log n).
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        Some(self.body.rank(member, self.score(member)?))
    }

    /// The first rank whose member and score no longer satisfy the predicate, by which the members
    /// are partitioned. Costs O(log n).
    pub fn partition(&self, wanted: impl FnMut(&[u8], f64) -> bool) -> usize {
        self.body.partition(wanted)
    }

    /// The members with these ranks, and their scores.
    pub fn range(
        &self,
        ranks: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], f64)> + use<'a> {
        let body = self.body;
        body.order
            .range(ranks)
            .map(|(score, id)| (body.name(id), score))
    }

    /// A member at random.
    pub fn random(&self, pick: Pick<'_>) -> Option<(&'a [u8], f64)> {
        let length = self.len() as u64;
        let rank = if length == 0 {
            return None;
        } else {
            pick(length) as usize
        };
        self.range(rank..rank + 1).next()
    }

    /// Walks on from a cursor, which is 0 at the start and at the end.
    pub fn scan(&self, cursor: u64, count: usize) -> (u64, Vec<(&'a [u8], f64)>) {
        walk(&self.body.members, cursor, count, |name, kept| {
            Some((name, score_of(kept)?))
        })
    }
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    body: &'a ListBody,
    origins: &'a Origins,
}

impl<'a> List<'a> {
    /// How many elements it has.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a list without elements is no list"
    )]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// The element at a rank. Costs O(log n).
    pub fn get(&self, rank: usize) -> Option<&'a [u8]> {
        self.body.get(rank)
    }

    /// The elements at these ranks.
    pub fn range(
        &self,
        ranks: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        self.body.range(ranks)
    }

    /// The element at a rank, and where it stands. Costs O(log n).
    pub fn element(&self, rank: usize) -> Option<(&'a [u8], Position)> {
        self.body.element(rank, self.origins)
    }

    /// Where the element at a rank stands.
    pub fn position(&self, rank: usize) -> Option<Position> {
        self.body.position(rank, self.origins)
    }

    /// Where the first and the last of the elements at these ranks stand; `None` if these are no
    /// ranks of the list.
    pub fn span(&self, ranks: Range<usize>) -> Option<(Position, Position)> {
        let last = ranks
            .end
            .checked_sub(1)
            .filter(|&last| ranks.start <= last)?;
        let first = self.position(ranks.start)?;
        let last = match ranks.len() {
            1 => first.clone(),
            _ => self.position(last)?,
        };
        Some((first, last))
    }

    /// The insertion that made the element at a rank.
    pub fn born(&self, rank: usize) -> Option<ElementId> {
        self.body.born(rank, self.origins)
    }
}

/// Walks a table from a cursor: the place to go on from, 0 at the end.
fn walk<'a, F: Full, T>(
    names: &'a Names<F>,
    cursor: u64,
    count: usize,
    mut pick: impl FnMut(&'a [u8], Kept<'a, F>) -> Option<T>,
) -> (u64, Vec<T>) {
    let end = u64::from(names.ids_end());
    let stop = cursor.saturating_add(count as u64).min(end);
    let found = (cursor..stop).filter_map(|id| names.at(id as u32));
    let items = found.filter_map(|(name, kept)| pick(name, kept)).collect();
    (if stop < end { stop } else { 0 }, items)
}
