//! What is at a key: a string's register, which also holds the key's deadlines, and containers.
//!
//! Nearly always there is just one of them. Several stand side by side where regions wrote
//! different types concurrently: readers see the one with the latest fact, and the next write that
//! saw the others removes them.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::apply::Place;
use crate::effect::Bodies;
use crate::endings::{Endings, Firsts};
use crate::fact::{Id, Origins, mix};
use crate::list::ListBody;
use crate::marks::Marks;
use crate::names::{Context, Full, Kept, Names, Thing, Updated};
use crate::number::Number;
use crate::register::{NoSum, Register};
use crate::sequence::Sequence;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A string, a counter among them.
    String,
    /// A hash.
    Hash,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A list.
    List,
}

impl Kind {
    /// As `TYPE` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::List => "list",
        }
    }

    /// As a set of one.
    pub const fn bodies(self) -> Bodies {
        match self {
            Self::String => Bodies::STRING,
            Self::Hash => Bodies::HASH,
            Self::Set => Bodies::SET,
            Self::SortedSet => Bodies::SORTED_SET,
            Self::List => Bodies::LIST,
        }
    }
}

/// What is at a key, in full.
#[derive(Debug, Default)]
pub(crate) struct KeyState {
    register: Option<Box<Register<Number>>>,
    bodies: SmallVec<[Body; 1]>,
    /// Of what is in the containers.
    pub(crate) marks: Marks,
}

/// A container.
#[derive(Debug)]
pub(crate) enum Body {
    Hash(Box<HashBody>),
    Set(Box<SetBody>),
    SortedSet(Box<SortedSetBody>),
    List(Box<ListBody>),
}

/// The fields of a hash.
#[derive(Debug, Default)]
pub(crate) struct HashBody {
    pub(crate) fields: Names<Register<Number>>,
    /// When fields end, with their places.
    pub(crate) deadlines: Endings<u32>,
    pub(crate) digest: u64,
}

/// The members of a set.
#[derive(Debug, Default)]
pub(crate) struct SetBody {
    pub(crate) members: Names<Register<NoSum>>,
    pub(crate) digest: u64,
}

/// The members of a sorted set, and their order.
#[derive(Debug, Default)]
pub(crate) struct SortedSetBody {
    pub(crate) members: Names<Register<f64>>,
    /// Scores and places, by score, then name.
    pub(crate) order: Sequence<VecDeque<(f64, u32)>>,
    pub(crate) digest: u64,
}

impl Full for KeyState {
    type Sum = Number;

    fn from_register(register: Register<Number>) -> Self {
        Self {
            register: Some(Box::new(register)),
            bodies: SmallVec::new(),
            marks: Marks::default(),
        }
    }

    fn register(&self) -> Option<&Register<Number>> {
        self.register.as_deref()
    }

    fn register_mut(&mut self) -> &mut Register<Number> {
        self.register.get_or_insert_default()
    }

    fn has_bodies(&self) -> bool {
        self.bodies.iter().any(|body| 0 < body.live())
    }

    fn is_more_than_register(&self) -> bool {
        !self.bodies.is_empty()
    }

    fn register_is_read(&self, origins: &Origins) -> bool {
        let string = self
            .register()
            .and_then(|register| register.latest(origins));
        let live = self.bodies.iter().filter(|body| 0 < body.live());
        let mut others = live.filter_map(|body| body.latest(origins));
        string.is_some_and(|string| others.all(|other| origins.compare(other, string).is_lt()))
    }
}

impl KeyState {
    /// The container of a kind.
    pub(crate) fn body(&self, kind: Kind) -> Option<&Body> {
        self.bodies.iter().find(|body| body.kind() == kind)
    }

    /// The container of a kind, made now if there is none.
    pub(crate) fn body_mut(&mut self, kind: Kind) -> Option<&mut Body> {
        let at = if let Some(at) = self.bodies.iter().position(|body| body.kind() == kind) {
            at
        } else {
            self.bodies.push(Body::empty(kind)?);
            self.bodies.len() - 1
        };
        Some(&mut self.bodies[at])
    }

    /// The latest fact of a body.
    pub(crate) fn latest(&self, kind: Kind, origins: &Origins) -> Option<Id> {
        match kind {
            Kind::String => self
                .register()
                .and_then(|register| register.latest(origins)),
            Kind::Hash | Kind::Set | Kind::SortedSet | Kind::List => {
                self.body(kind).and_then(|body| body.latest(origins))
            }
        }
    }

    /// Drops containers that hold nothing at all.
    pub(crate) fn drop_void(&mut self) {
        if self.bodies.iter().any(Body::is_void) {
            self.bodies.retain(|body| !body.is_void());
        }
        if self.bodies.is_empty() {
            self.marks = Marks::default();
        }
    }

    /// Takes the containers of these kinds out, whole. Costs O(1) for each.
    pub(crate) fn detach(&mut self, kinds: Bodies) -> impl Iterator<Item = Body> + '_ {
        let of_kinds = move |body: &Body| kinds.has(body.kind().bodies());
        std::iter::from_fn(move || {
            let at = self.bodies.iter().position(of_kinds)?;
            Some(self.bodies.remove(at))
        })
    }

    /// All containers.
    pub(crate) fn bodies(&self) -> &[Body] {
        &self.bodies
    }

    /// All containers, to change.
    pub(crate) fn bodies_mut(&mut self) -> &mut [Body] {
        &mut self.bodies
    }
}

/// What readers see at a key, its deadline aside: the body with the latest fact of those that have
/// something for a reader at `now_ms`. Costs O(elements) only where several bodies do.
pub(crate) fn visible(kept: Kept<'_, KeyState>, now_ms: u64, origins: &Origins) -> Option<Kind> {
    let state = match kept {
        Kept::Compact(_) | Kept::Counter(_) => return Some(Kind::String),
        Kept::Full(state) => state,
    };
    let string = state
        .register()
        .is_some_and(Register::exists)
        .then_some(Kind::String);
    let mut kinds = state
        .bodies
        .iter()
        .filter(|body| body.has_any_at(now_ms))
        .map(Body::kind)
        .chain(string);
    let first = kinds.next()?;
    let Some(second) = kinds.next() else {
        return Some(first);
    };
    let latest = |kind| state.latest(kind, origins);
    let all = [first, second].into_iter().chain(kinds);
    all.max_by(|&a, &b| match (latest(a), latest(b)) {
        (Some(a), Some(b)) => origins.compare(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    })
}

/// All bodies that hold something, seen or not.
pub(crate) fn present(kept: Kept<'_, KeyState>) -> Bodies {
    let state = match kept {
        Kept::Compact(_) | Kept::Counter(_) => return Bodies::STRING,
        Kept::Full(state) => state,
    };
    let string = match state.register() {
        Some(register) if register.exists() => Bodies::STRING,
        _ => Bodies::NONE,
    };
    let live = state.bodies.iter().filter(|body| 0 < body.live());
    live.fold(string, |all, body| all.and(body.kind().bodies()))
}

impl Body {
    fn empty(kind: Kind) -> Option<Self> {
        match kind {
            Kind::String => None,
            Kind::Hash => Some(Self::Hash(Box::default())),
            Kind::Set => Some(Self::Set(Box::default())),
            Kind::SortedSet => Some(Self::SortedSet(Box::default())),
            Kind::List => Some(Self::List(Box::default())),
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Hash(_) => Kind::Hash,
            Self::Set(_) => Kind::Set,
            Self::SortedSet(_) => Kind::SortedSet,
            Self::List(_) => Kind::List,
        }
    }

    /// How many things in it exist, deadlines aside.
    pub(crate) fn live(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.fields.live(),
            Self::Set(set) => set.members.live(),
            Self::SortedSet(zset) => zset.members.live(),
            Self::List(list) => list.len(),
        }
    }

    /// Whether a reader finds anything in it at `now_ms`.
    /// Whether there is something in it for a reader at this time.
    pub(crate) fn has_any_at(&self, now_ms: u64) -> bool {
        let live = self.live();
        match self {
            // Some field does not end, or the last to end has not.
            Self::Hash(hash) => hash.deadlines.len() < live || hash.deadlines.go_past(now_ms),
            Self::Set(_) | Self::SortedSet(_) | Self::List(_) => 0 < live,
        }
    }

    fn is_void(&self) -> bool {
        match self {
            Self::Hash(hash) => hash.fields.is_void(),
            Self::Set(set) => set.members.is_void(),
            Self::SortedSet(zset) => zset.members.is_void(),
            Self::List(list) => list.len() == 0,
        }
    }

    /// The first field to end of each region's.
    pub(crate) fn firsts(&self) -> Firsts {
        match self {
            Self::Hash(hash) => hash.deadlines.firsts(),
            Self::Set(_) | Self::SortedSet(_) | Self::List(_) => Firsts::new(),
        }
    }

    /// The digest of all in it.
    pub(crate) fn digest(&self) -> u64 {
        match self {
            Self::Hash(hash) => hash.digest,
            Self::Set(set) => set.digest,
            Self::SortedSet(zset) => zset.digest,
            Self::List(list) => list.digest,
        }
    }

    /// Estimated bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.fields.heap_bytes(),
            Self::Set(set) => set.members.heap_bytes(),
            Self::SortedSet(zset) => zset.members.heap_bytes() + zset.order.len() * 16,
            Self::List(list) => list.heap_bytes(),
        }
    }

    fn latest(&self, origins: &Origins) -> Option<Id> {
        match self {
            Self::Hash(hash) => hash.fields.latest(origins),
            Self::Set(set) => set.members.latest(origins),
            Self::SortedSet(zset) => zset.members.latest(origins),
            Self::List(list) => list.latest(origins),
        }
    }

    /// Removes all that was seen, field deadlines included. What is left and will have to be
    /// settled is added to `queue`.
    pub(crate) fn remove_seen(&mut self, key: u64, cx: &Context<'_>, queue: &mut Vec<Place>) {
        let (kind, body) = (self.kind(), part_hash(key, self.kind()));
        let mut note = |updated: Updated, name| {
            if updated.queue {
                queue.push(Place::Part(kind, name));
            }
        };
        match self {
            Self::Hash(hash) => {
                for name in names_of(&hash.fields) {
                    let updated = hash.change(part(key, kind, &name, cx), |fields, thing| {
                        fields.remove(thing, true, cx)
                    });
                    note(updated, name);
                }
            }
            Self::Set(set) => {
                for name in names_of(&set.members) {
                    let updated = set.members.remove(part(key, kind, &name, cx), true, cx);
                    set.digest ^= updated.digest();
                    note(updated, name);
                }
            }
            Self::SortedSet(zset) => {
                for name in names_of(&zset.members) {
                    let updated = zset.change(part(key, kind, &name, cx), |members, thing| {
                        members.remove(thing, true, cx)
                    });
                    note(updated, name);
                }
            }
            Self::List(list) => list.remove_all(body, cx.seen, cx.origins),
        }
    }
}

/// All names, copied, so that the table can change meanwhile.
fn names_of<F: Full>(names: &Names<F>) -> Vec<Box<[u8]>> {
    names.iter().map(|(_, name, _)| Box::from(name)).collect()
}

/// The hash of a container of a key, for digests.
pub(crate) const fn part_hash(key: u64, kind: Kind) -> u64 {
    mix(key, kind.bodies().bits() as u64)
}

/// A field or member of a container of a key.
pub(crate) fn part<'a>(key: u64, kind: Kind, name: &'a [u8], cx: &Context<'_>) -> Thing<'a> {
    let hash = cx.seed.hash(name);
    Thing {
        name,
        hash,
        digest: mix(part_hash(key, kind), hash),
    }
}

impl HashBody {
    /// How many fields a reader finds at `now_ms`.
    pub(crate) fn live_at(&self, now_ms: u64) -> usize {
        if self.deadlines.is_empty() {
            return self.fields.live();
        }
        self.fields.live() - self.deadlines.between(0, now_ms.saturating_add(1)).count()
    }

    /// Changes a field.
    pub(crate) fn change(
        &mut self,
        field: Thing<'_>,
        change: impl FnOnce(&mut Names<Register<Number>>, Thing<'_>) -> Updated,
    ) -> Updated {
        let updated = change(&mut self.fields, field);
        self.digest ^= updated.digest();
        let Updated {
            id, before, after, ..
        } = updated;
        self.deadlines.update(before.ending, after.ending, id);
        updated
    }
}

impl SortedSetBody {
    /// The score of a member.
    pub(crate) fn score(&self, hash: u64, member: &[u8]) -> Option<f64> {
        score_of(self.members.get(hash, member)?.1)
    }

    /// The first rank at which `(name, score)` no longer satisfies a predicate.
    pub(crate) fn partition(&self, mut wanted: impl FnMut(&[u8], f64) -> bool) -> usize {
        self.order
            .partition_point(|(score, id)| wanted(self.name(id), score))
    }

    /// The rank of a member with its score, or where it would be.
    pub(crate) fn rank(&self, member: &[u8], score: f64) -> usize {
        self.order.partition_point(|(other, id)| {
            other < score || (other <= score && self.name(id) < member)
        })
    }

    /// The name of the member at a place.
    pub(crate) fn name(&self, id: u32) -> &[u8] {
        self.members.at(id).map_or(&[], |(name, _)| name)
    }

    /// Changes a member.
    pub(crate) fn change(
        &mut self,
        member: Thing<'_>,
        change: impl FnOnce(&mut Names<Register<f64>>, Thing<'_>) -> Updated,
    ) -> Updated {
        let before = self.score(member.hash, member.name);
        let rank = before.map(|score| self.rank(member.name, score));
        let updated = change(&mut self.members, member);
        self.digest ^= updated.digest();
        let after = if updated.after.exists {
            let kept = self.members.at(updated.id).map(|(_, kept)| kept);
            kept.and_then(score_of).map(|score| (score, updated.id))
        } else {
            None
        };
        if before.map(f64::to_bits) != after.map(|(score, _)| score.to_bits()) {
            if let Some(rank) = rank {
                self.order.remove(rank);
            }
            if let Some((score, id)) = after {
                self.order
                    .insert(self.rank(member.name, score), (score, id));
            }
        }
        updated
    }
}

/// The score in a member.
pub(crate) fn score_of(kept: Kept<'_, Register<f64>>) -> Option<f64> {
    let value = kept.value()?;
    Some(value.as_ref().try_into().map_or(0.0, f64::from_le_bytes))
}
