//! Writing facts. See [`super`] for the layout.

use super::facts::Range;
use super::{Wire, tag};
use crate::body::{Body, KeyState, Kind};
use crate::codec::{
    put_attached, put_bytes, put_carried, put_deadline, put_dot, put_edit, put_origin,
    put_position, put_varint,
};
use crate::counter::Counter;
use crate::effect::{Bodies, End};
use crate::entry::Compact;
use crate::fact::{Id, OriginIx, Origins};
use crate::list::{Fact, ListBody};
use crate::names::{Full, Kept, Names};
use crate::origin::Origin;
use crate::position::Position;
use crate::register::{Base, DeadlineFact, EditFact, Part, Register, deflate};
use crate::slot::Seed;
use crate::stamp::Stamp;

/// Containers in the order in which they are written.
pub(super) const CONTAINERS: [Kind; 4] = [Kind::Hash, Kind::Set, Kind::SortedSet, Kind::List];

/// Writes facts, and numbers the origins as they come up.
pub(super) struct Writer<'a> {
    origins: &'a Origins,
    seed: &'a Seed,
    /// By the replica's number.
    numbers: Vec<Option<u32>>,
    pub(super) met: Vec<Origin>,
    pub(super) out: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(origins: &'a Origins, seed: &'a Seed) -> Self {
        Self {
            origins,
            seed,
            numbers: vec![None; origins.len()],
            met: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Bytes so far.
    pub(super) const fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn varint(&mut self, value: u64) {
        put_varint(&mut self.out, value);
    }

    pub(super) fn name(&mut self, name: &[u8]) {
        put_bytes(&mut self.out, name);
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        put_origin(&mut self.out, stamp.origin);
        self.varint(stamp.time.0);
    }

    pub(super) fn some_position(&mut self, at: Option<&Position>) {
        self.out.push(u8::from(at.is_some()));
        if let Some(at) = at {
            put_position(&mut self.out, at);
        }
    }

    fn origin(&mut self, ix: OriginIx) {
        let met = &mut self.met;
        let number = self.numbers[usize::from(ix.0)].get_or_insert_with(|| {
            met.push(self.origins.get(ix));
            met.len() as u32 - 1
        });
        put_varint(&mut self.out, (*number).into());
    }

    fn id(&mut self, id: Id) {
        self.origin(id.origin);
        put_dot(&mut self.out, id.dot());
    }

    /// A key. Containers that take more than `limit` bytes are left out, and returned.
    pub(super) fn key(&mut self, name: &[u8], kept: Kept<'_, KeyState>, limit: usize) -> Vec<Kind> {
        let state = match kept {
            Kept::Full(state) if !state.bodies().is_empty() => state,
            Kept::Full(_) | Kept::Compact(_) | Kept::Counter(_) => {
                self.thing(name, kept);
                return Vec::new();
            }
        };
        self.out.push(tag::KEY);
        self.name(name);
        let place = self.out.len();
        self.out.push(0);
        self.register_of(kept);
        let mut later = Bodies::NONE;
        let mut left_out = Vec::new();
        for kind in CONTAINERS {
            let Some(body) = state.body(kind) else {
                continue;
            };
            let start = self.out.len();
            self.out.push(kind_byte(kind));
            let end = self.body(body, &Range::all(kind), limit);
            if end != Range::all(kind) {
                self.out.truncate(start);
                later = later.and(kind.bodies());
                left_out.push(kind);
            }
        }
        self.out[place] = later.bits();
        self.out.push(tag::END);
        left_out
    }

    /// The register of a key, without its name.
    pub(super) fn register_of(&mut self, kept: Kept<'_, KeyState>) {
        let is_there = match kept {
            Kept::Compact(_) | Kept::Counter(_) => true,
            Kept::Full(state) => state.register().is_some_and(|register| !register.is_void()),
        };
        if is_there {
            self.out.push(tag_of(kept));
            self.facts(kept);
        } else {
            self.out.push(tag::END);
        }
    }

    /// Some of a container, up to `limit` bytes or a little more. Returns which part that is.
    pub(super) fn body(&mut self, body: &Body, wanted: &Range, limit: usize) -> Range {
        let range = match (body, wanted) {
            (Body::Hash(hash), Range::Names(first, last)) => {
                self.names(&hash.fields, (*first, *last), limit)
            }
            (Body::Set(set), Range::Names(first, last)) => {
                self.names(&set.members, (*first, *last), limit)
            }
            (Body::SortedSet(zset), Range::Names(first, last)) => {
                self.names(&zset.members, (*first, *last), limit)
            }
            (Body::List(list), Range::Elements(after, until)) => {
                self.elements(list, (after.as_ref(), until.as_ref()), limit)
            }
            // Nobody asks for names of a list.
            (_, range) => range.clone(),
        };
        self.out.push(tag::END);
        range
    }

    fn names<F: Full<Sum: Wire>>(
        &mut self,
        names: &Names<F>,
        (first, last): (u32, u32),
        limit: usize,
    ) -> Range {
        let end = self.len().saturating_add(limit);
        let mut from = Some(first);
        while let Some(step) = from {
            let (things, next) = names.step(step, self.seed);
            for (at, &(tag, id)) in things.iter().enumerate() {
                if last < tag {
                    return Range::Names(first, last);
                }
                if let Some((name, kept)) = names.at(id) {
                    self.thing(name, kept);
                }
                let is_last_of_tag = things.get(at + 1).is_none_or(|other| other.0 != tag);
                if is_last_of_tag && end <= self.len() && tag < last {
                    return Range::Names(first, tag);
                }
            }
            from = next.filter(|&next| next <= last);
        }
        Range::Names(first, last)
    }

    fn elements(
        &mut self,
        list: &ListBody,
        (after, until): (Option<&Position>, Option<&Position>),
        limit: usize,
    ) -> Range {
        let end = self.len().saturating_add(limit);
        let ranks = list.ranks(after, until, self.origins);
        let behind = ranks.end;
        for rank in ranks {
            let Some(fact) = list.fact(rank) else {
                break;
            };
            self.element(fact);
            if end <= self.len() && rank + 1 < behind {
                let [at, next] = [rank, rank + 1].map(|rank| list.position(rank, self.origins));
                // What stands at one position stays together.
                if at != next {
                    return Range::Elements(after.cloned(), at);
                }
            }
        }
        Range::Elements(after.cloned(), until.cloned())
    }

    fn element(&mut self, fact: Fact<'_>) {
        match fact {
            Fact::Pushed { id, end, value } => {
                self.out.push(match end {
                    End::Tail => tag::AT_TAIL,
                    End::Head => tag::AT_HEAD,
                });
                self.id(id);
                put_bytes(&mut self.out, value);
            }
            Fact::Full {
                position,
                born,
                bases,
            } => {
                self.out.push(tag::ELEMENT);
                put_position(&mut self.out, position);
                self.id(born);
                self.varint(bases.len() as u64);
                for base in bases {
                    self.id(base.id);
                    put_bytes(&mut self.out, &base.value);
                }
            }
        }
    }

    /// A thing that is just a register, with its name.
    fn thing<F: Full<Sum: Wire>>(&mut self, name: &[u8], kept: Kept<'_, F>) {
        self.out.push(tag_of(kept));
        self.name(name);
        self.facts(kept);
    }

    fn facts<F: Full<Sum: Wire>>(&mut self, kept: Kept<'_, F>) {
        match kept {
            Kept::Compact(base) => self.compact(base),
            Kept::Counter(counter) => self.counter::<F::Sum>(counter),
            Kept::Full(full) => {
                let Some(register) = full.register() else {
                    return;
                };
                if let Some(base) = deflate(register) {
                    self.compact(base);
                } else if let Some(counter) = Counter::of(register) {
                    self.counter::<F::Sum>(counter);
                } else {
                    self.register(register);
                }
            }
        }
    }

    fn compact(&mut self, base: Compact<'_>) {
        self.id(base.id);
        put_attached(&mut self.out, base.attached);
        put_bytes(&mut self.out, base.value);
    }

    fn counter<S: Wire>(&mut self, counter: Counter) {
        self.origin(counter.origin);
        put_dot(&mut self.out, counter.birth);
        put_dot(&mut self.out, counter.at);
        counter.sum::<S>().put(&mut self.out);
    }

    fn register<S: Wire>(&mut self, register: &Register<S>) {
        self.varint(register.bases.len() as u64);
        register.bases.iter().for_each(|base| self.base(base));
        self.varint(register.edits.len() as u64);
        register.edits.iter().for_each(|edit| self.edit(edit));
        self.varint(register.parts.len() as u64);
        register.parts.iter().for_each(|part| self.part(part));
        self.varint(register.deadlines.len() as u64);
        let mut deadlines: Vec<&DeadlineFact> = register.deadlines.iter().collect();
        deadlines.sort_by(|a, b| self.origins.compare(a.id, b.id));
        for fact in deadlines {
            self.id(fact.id);
            put_deadline(&mut self.out, fact.deadline);
        }
    }

    fn base(&mut self, base: &Base) {
        self.id(base.id);
        put_attached(&mut self.out, base.attached);
        self.out.push(u8::from(base.folded.is_some()));
        if let Some(folded) = &base.folded {
            self.id(folded.last);
            self.out.extend(folded.digest.to_le_bytes());
            put_carried(&mut self.out, folded.carried.map(|carried| carried.0));
            if let Some((_, origin)) = folded.carried {
                self.origin(origin);
            }
            self.out.push(u8::from(folded.has_parts));
        }
        put_bytes(&mut self.out, &base.value);
    }

    fn edit(&mut self, fact: &EditFact) {
        self.id(fact.id);
        put_edit(&mut self.out, fact.edit.as_edit());
        put_carried(&mut self.out, fact.carried);
    }

    fn part<S: Wire>(&mut self, part: &Part<S>) {
        self.origin(part.origin);
        put_dot(&mut self.out, part.birth);
        put_dot(&mut self.out, part.at);
        part.sum.put(&mut self.out);
        put_dot(&mut self.out, part.removed_at);
        part.removed.put(&mut self.out);
        self.out.push(u8::from(part.remover.is_some()));
        if let Some(remover) = part.remover {
            self.id(remover);
        }
        put_carried(&mut self.out, part.carried);
        self.out.push(u8::from(part.raised.is_some()));
        if let Some((from, sum)) = part.raised.as_deref() {
            put_dot(&mut self.out, *from);
            sum.put(&mut self.out);
        }
    }
}

/// How a thing without containers is written.
fn tag_of<F: Full>(kept: Kept<'_, F>) -> u8 {
    match kept {
        Kept::Compact(_) => tag::BASE,
        Kept::Counter(_) => tag::COUNTER,
        Kept::Full(full) => match full.register() {
            Some(register) if deflate(register).is_some() => tag::BASE,
            Some(register) if Counter::of(register).is_some() => tag::COUNTER,
            _ => tag::REGISTER,
        },
    }
}

pub(super) const fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::String => 0,
        Kind::Hash => 1,
        Kind::Set => 2,
        Kind::SortedSet => 3,
        Kind::List => 4,
    }
}
