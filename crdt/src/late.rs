//! Ops of closed origins that turn up late: what would be left of things if what they had seen were
//! taken away.
//!
//! A late op cannot be applied as it is, nor can its removals be issued with what it had seen: on
//! the word that nothing of its origin could come any more, replicas have folded and dropped, each
//! in its own time. So whoever issues it again reads here what it comes to, and issues that.

use crate::body::{Body, Kind};
use crate::effect::{Attached, Deadline, ElementId, SeenPart};
use crate::fact::{Id, OriginIx, Origins, Seen};
use crate::names::{Full, Kept};
use crate::number::Number;
use crate::origin::Origin;
use crate::position::Position;
use crate::register::{Base, Part, Register, Sum};
use crate::slot::Key;
use crate::stamp::{Stamp, Time};
use crate::state::State;
use crate::version::Version;

/// What a late op had seen.
#[derive(Debug)]
pub struct Past {
    stamp: Stamp,
    cover: Vec<Time>,
    /// As what others of closed origins that it had seen were issued again.
    also: Vec<(OriginIx, Time)>,
}

impl Past {
    /// As of the same op, had it seen nothing.
    #[must_use]
    pub const fn blind(&self) -> Self {
        Self {
            stamp: self.stamp,
            cover: Vec::new(),
            also: Vec::new(),
        }
    }

    fn seen(&self) -> Seen<'_> {
        Seen::And(&self.cover, &self.also)
    }
}

/// What a late op leaves of a thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The value, if it exists: of a score the eight bytes, little-endian.
    pub value: Option<Vec<u8>>,
    /// Whether that is a whole value written after the op.
    pub is_newer: bool,
}

impl State {
    /// What an op had seen that was issued with these deps.
    pub fn past(&self, stamp: Stamp, deps: &Version) -> Past {
        let mut version = deps.clone();
        version.advance(stamp.origin, stamp.time);
        let mut cover = Vec::new();
        self.origins.cover(&version, &mut cover);
        let again = self.reissued.iter().filter(|(of, _)| version.covers(**of));
        let also = again
            .filter_map(|(_, as_stamp)| Some((self.origins.find(as_stamp.origin)?, as_stamp.time)));
        Past {
            stamp,
            also: also.collect(),
            cover,
        }
    }

    /// What is left of the string at a key, or of a field, once what was seen is taken away, the
    /// named counter parts as far as they were seen, and `base` written instead.
    pub fn left(
        &self,
        key: &Key<'_>,
        field: Option<&[u8]>,
        past: &Past,
        named: &[SeenPart<Number>],
        base: Option<&[u8]>,
    ) -> Left {
        let register = self.register_of(key, field);
        left(register, past, named, base, &self.origins)
    }

    /// As [`State::left`], of a score.
    pub fn score_left(
        &self,
        key: &Key<'_>,
        member: &[u8],
        past: &Past,
        named: &[SeenPart<f64>],
        base: Option<f64>,
    ) -> Left {
        let base = base.map(f64::to_le_bytes);
        let base = base.as_ref().map(<[u8; 8]>::as_slice);
        let register = match self.body(key, Kind::SortedSet) {
            Some(Body::SortedSet(zset)) => zset
                .members
                .get(self.seed().hash(member), member)
                .map(|m| m.1),
            Some(Body::Hash(_) | Body::Set(_) | Body::List(_)) | None => None,
        };
        left(register.map(register_in), past, named, base, &self.origins)
    }

    /// Whether anything is left of a set member.
    pub fn member_left(&self, key: &Key<'_>, member: &[u8], past: &Past) -> bool {
        let Some(Body::Set(set)) = self.body(key, Kind::Set) else {
            return false;
        };
        let found = set.members.get(self.seed().hash(member), member);
        left(
            found.map(|found| register_in(found.1)),
            past,
            &[],
            None,
            &self.origins,
        )
        .value
        .is_some()
    }

    /// The latest of the deadlines of a key or a field that stand for themselves and were not seen.
    pub fn deadline_left(
        &self,
        key: &Key<'_>,
        field: Option<&[u8]>,
        past: &Past,
    ) -> Option<Deadline> {
        let mut register = self.register_of(key, field)?;
        register.remove_deadlines(past.seen());
        register.deadlines.iter().map(|fact| fact.deadline).max()
    }

    /// Of the elements from one position to another those that were seen.
    pub fn elements_seen(
        &self,
        key: &Key<'_>,
        (first, last): (Option<&Position>, Option<&Position>),
        past: &Past,
    ) -> Vec<Position> {
        let Some(list) = self.list(key) else {
            return Vec::new();
        };
        let positions = (0..list.len()).filter_map(|rank| {
            let (at, born) = (list.position(rank)?, list.born(rank)?);
            let ix = self.origins.find(born.origin)?;
            let is_within =
                first.is_none_or(|first| *first <= at) && last.is_none_or(|last| at <= *last);
            (is_within && past.seen().covers_time(ix, born.dot.time)).then_some(at)
        });
        positions.collect()
    }

    /// The insertion of the element at a position, if there is one, unless it has been written
    /// after the op.
    pub fn element_to_set(&self, key: &Key<'_>, at: &Position, past: &Past) -> Option<ElementId> {
        let Some(Body::List(list)) = self.body(key, Kind::List) else {
            return None;
        };
        let (born, written) = list.element_at(at, &self.origins)?;
        let (born, written) = (self.origins.fact_id(born), self.origins.fact_id(written));
        let dot = crate::stamp::Dot {
            time: born.stamp.time,
            index: born.index,
        };
        (written.stamp < past.stamp).then_some(ElementId {
            origin: born.stamp.origin,
            dot,
        })
    }

    /// The type that readers see at a key, deadlines aside, if its latest fact came after an op.
    pub fn newer_kind(&self, key: &Key<'_>, stamp: Stamp) -> Option<Kind> {
        let (kind, latest) = self.latest(key)?;
        (stamp < self.origins.fact_id(latest).stamp).then_some(kind)
    }

    /// What is held of an origin's counter part of the string at a key or of a field, live or not.
    pub fn part_of(
        &self,
        key: &Key<'_>,
        field: Option<&[u8]>,
        origin: Origin,
    ) -> Option<SeenPart<Number>> {
        let register = self.register_of(key, field)?;
        let part = register.part(self.find_origin(origin)?)?;
        Some(part.seen(&self.origins))
    }

    /// As [`State::part_of`], of a score.
    pub fn score_part_of(
        &self,
        key: &Key<'_>,
        member: &[u8],
        origin: Origin,
    ) -> Option<SeenPart<f64>> {
        let Some(Body::SortedSet(zset)) = self.body(key, Kind::SortedSet) else {
            return None;
        };
        let (_, kept) = zset.members.get(self.seed().hash(member), member)?;
        let register = register_in(kept);
        let part: &Part<f64> = register.part(self.find_origin(origin)?)?;
        Some(part.seen(&self.origins))
    }

    /// The register of the string at a key or of a field, copied.
    fn register_of(&self, key: &Key<'_>, field: Option<&[u8]>) -> Option<Register<Number>> {
        match field {
            None => match self.key(key)? {
                Kept::Full(state) => state.register().cloned(),
                Kept::Compact(base) => Some(register_in(Kept::<Register<Number>>::Compact(base))),
                Kept::Counter(counter) => Some(counter.register()),
            },
            Some(field) => match self.body(key, Kind::Hash)? {
                Body::Hash(hash) => {
                    let (_, kept) = hash.fields.get(self.seed().hash(field), field)?;
                    Some(register_in(kept))
                }
                Body::Set(_) | Body::SortedSet(_) | Body::List(_) => None,
            },
        }
    }
}

/// The register of a thing, copied.
fn register_in<S: Sum>(kept: Kept<'_, Register<S>>) -> Register<S> {
    match kept {
        Kept::Full(register) => register.clone(),
        Kept::Counter(counter) => counter.register(),
        Kept::Compact(base) => Register::of_base(base),
    }
}

fn left<S: Sum>(
    register: Option<Register<S>>,
    past: &Past,
    named: &[SeenPart<S>],
    base: Option<&[u8]>,
    origins: &Origins,
) -> Left {
    let mut register = register.unwrap_or_default();
    let seen = past.seen();
    // Not the identity of anything: who removes does not show in what is left.
    let remover = Id {
        time: past.stamp.time,
        index: 0,
        origin: OriginIx(0),
    };
    for part in named {
        if let Some(owner) = origins.find(part.origin) {
            register.forget(remover, owner, *part);
        }
    }
    // What was not seen cannot be told apart from the base that it was folded into.
    let is_mixed = |base: &Base| base.folded.as_ref().is_some_and(|f| !seen.covers(f.last));
    let mixed = register.bases.iter().position(is_mixed);
    let mixed = mixed.map(|at| register.bases.remove(at));
    register.remove_seen(seen, remover);
    register.bases.splice(0..0, mixed);
    let latest = |base: &Base| base.folded.as_ref().map_or(base.id, |folded| folded.last);
    let newest = register
        .bases
        .first()
        .map(|base| origins.fact_id(latest(base)).stamp);
    let is_newer = newest.is_some_and(|newest| past.stamp < newest);
    if let Some(value) = base
        && !is_newer
    {
        register.bases = vec![Base {
            id: remover,
            attached: Attached::Nothing,
            value: value.to_vec(),
            folded: None,
        }];
    }
    Left {
        value: register.value().map(std::borrow::Cow::into_owned),
        is_newer,
    }
}
