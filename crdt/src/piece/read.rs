//! Reading facts. See [`super`] for the layout.
//!
//! Whatever the bytes, reading them ends in facts that a writer could have written, or in an error:
//! things in order, scores that are numbers, no counter part in a set.

#![deny(clippy::indexing_slicing)]

use std::cmp::Ordering;

use super::facts::{
    BodyFacts, ElementFacts, Extent, Facts, Item, KeyFacts, Named, Range, RunFacts,
};
use super::{Wire, tag};
use crate::body::Kind;
use crate::codec::{DecodeError, Reader};
use crate::counter::Counter;
use crate::effect::{Attached, Bodies, End};
use crate::entry::Compact;
use crate::fact::{Id, OriginIx, Origins};
use crate::number::Number;
use crate::origin::Origin;
use crate::position::Position;
use crate::register::{Base, DeadlineFact, EditFact, Folded, NoSum, Part, Register, deflate};
use crate::slot::{SLOTS, Slot};
use crate::stamp::{Dot, Time};

type Read<T> = Result<T, DecodeError>;

/// What a thing takes in memory besides its value and name, at least: counts are held against it.
const LEAST_BYTES: u64 = 3;

/// Reads the items of a piece.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    bytes: Reader<'a>,
    /// The origins of the piece, by the numbers that they have in it, as numbered here.
    map: &'a [OriginIx],
    origins: &'a Origins,
    /// The slot of the span that is open.
    open: Option<(u16, u32)>,
    /// How many ops that were issued again come next.
    reissued: u64,
    pub(crate) extent: Extent,
    /// The latest times, by the numbers that origins have here.
    latest: Vec<Time>,
}

impl<'a> Items<'a> {
    pub(super) fn new(bytes: &'a [u8], map: &'a [OriginIx], origins: &'a Origins) -> Self {
        Self {
            bytes: Reader::new(bytes),
            map,
            origins,
            open: None,
            reissued: 0,
            extent: Extent {
                latest: Time::ZERO,
                counted: false,
            },
            latest: vec![Time::ZERO; origins.len()],
        }
    }

    /// The latest time of each origin's facts so far.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (Origin, Time)> + use<'a> {
        let origins = self.origins;
        let known = (0..).zip(self.latest.clone());
        known
            .filter(|&(_, time)| time != Time::ZERO)
            .map(move |(ix, time)| (origins.get(OriginIx(ix)), time))
    }

    /// The next item, or `None` at the end.
    pub(crate) fn next(&mut self) -> Read<Option<Item<'a>>> {
        self.extent = Extent::default();
        if let Some(left) = self.reissued.checked_sub(1) {
            self.reissued = left;
            let (of, again) = (self.bytes.stamp()?, self.bytes.stamp()?);
            return Ok(Some(Item::Reissued(of, again)));
        }
        if let Some((slot, first)) = self.open {
            let tag = self.bytes.byte()?;
            if tag != tag::END {
                return Ok(Some(Item::Key(slot, self.key(tag, slot)?)));
            }
            self.open = None;
            let last = self.bytes.narrow()?;
            if last < first {
                return Err(DecodeError::Bad("a span ends before it begins"));
            }
            return Ok(Some(Item::Span(slot, first, last)));
        }
        if self.bytes.is_at_end() {
            return Ok(None);
        }
        match self.bytes.byte()? {
            tag::REISSUED => {
                self.reissued = self.bytes.varint()?;
                self.next()
            }
            tag::SPAN => {
                self.open = Some((self.slot()?, self.bytes.narrow()?));
                self.next()
            }
            tag::RUN => Ok(Some(Item::Run(self.run()?))),
            _ => Err(DecodeError::Bad("a section is of no known kind")),
        }
    }

    fn slot(&mut self) -> Read<u16> {
        let slot = u16::try_from(self.bytes.varint()?).ok();
        let slot = slot.filter(|&slot| slot < SLOTS);
        slot.ok_or(DecodeError::Bad("there is no such slot"))
    }

    fn key_name(&mut self, slot: u16) -> Read<&'a [u8]> {
        let name = self.bytes.bytes()?;
        if Slot::of(name).number() == slot {
            Ok(name)
        } else {
            Err(DecodeError::Bad("a key is in another slot"))
        }
    }

    fn key(&mut self, tag: u8, slot: u16) -> Read<KeyFacts<'a>> {
        let name = self.key_name(slot)?;
        let mut key = KeyFacts {
            name,
            register: Facts::Nothing,
            bodies: Vec::new(),
            later: Bodies::NONE,
        };
        if tag != tag::KEY {
            key.register = self.facts(tag)?;
            return Ok(key);
        }
        key.later = Bodies::from_bits(self.bytes.byte()?);
        let tag = self.bytes.byte()?;
        if tag != tag::END {
            key.register = self.facts(tag)?;
        }
        let mut last = 0;
        loop {
            let byte = self.bytes.byte()?;
            if byte == tag::END {
                return Ok(key);
            }
            let kind = kind_of(byte)?;
            if byte <= last || key.later.has(kind.bodies()) {
                return Err(DecodeError::Bad("containers are out of order"));
            }
            last = byte;
            key.bodies.push(self.body(kind)?);
        }
    }

    fn run(&mut self) -> Read<RunFacts<'a>> {
        let slot = self.slot()?;
        let key = self.key_name(slot)?;
        let kind = kind_of(self.bytes.byte()?)?;
        let register = match self.bytes.byte()? {
            tag::END => Facts::Nothing,
            tag => self.facts(tag)?,
        };
        if kind == Kind::List {
            let after = self.some_position()?;
            let body = self.body(kind)?;
            let range = Range::Elements(after, self.some_position()?);
            return Ok(RunFacts {
                slot,
                key,
                register,
                body,
                range,
            });
        }
        let first = self.bytes.narrow()?;
        let body = self.body(kind)?;
        let range = Range::Names(first, self.bytes.narrow()?);
        Ok(RunFacts {
            slot,
            key,
            register,
            body,
            range,
        })
    }

    fn some_position(&mut self) -> Read<Option<Position>> {
        Ok(if self.bytes.flag()? {
            Some(self.bytes.position()?)
        } else {
            None
        })
    }

    fn body(&mut self, kind: Kind) -> Read<BodyFacts<'a>> {
        Ok(match kind {
            Kind::Hash => BodyFacts::Hash(self.names::<Number>()?),
            Kind::Set => BodyFacts::Set(self.names::<NoSum>()?),
            Kind::SortedSet => BodyFacts::SortedSet(self.names::<f64>()?),
            Kind::List => BodyFacts::List(self.elements()?),
            Kind::String => return Err(DecodeError::Bad("a string is no container")),
        })
    }

    fn names<S: Wire>(&mut self) -> Read<Named<'a, S>> {
        let mut names = Vec::new();
        loop {
            let tag = self.bytes.byte()?;
            if tag == tag::END {
                return Ok(names);
            }
            let name = self.bytes.bytes()?;
            names.push((name, self.facts(tag)?));
        }
    }

    fn elements(&mut self) -> Read<Vec<ElementFacts<'a>>> {
        let mut elements = Vec::new();
        loop {
            let end = match self.bytes.byte()? {
                tag::END => return Ok(elements),
                tag::AT_TAIL => End::Tail,
                tag::AT_HEAD => End::Head,
                tag::ELEMENT => {
                    elements.push(self.full_element()?);
                    continue;
                }
                _ => return Err(DecodeError::Bad("an element is of no known kind")),
            };
            elements.push(ElementFacts::Pushed {
                id: self.id()?,
                end,
                value: self.bytes.bytes()?,
            });
        }
    }

    fn full_element(&mut self) -> Read<ElementFacts<'a>> {
        let (position, born) = (self.bytes.position()?, self.id()?);
        let mut bases: Vec<Base> = Vec::new();
        for _ in 0..self.count()? {
            let id = self.id()?;
            self.check_order(bases.last().map(|base| base.id), id, Ordering::Greater)?;
            let value = self.bytes.bytes()?;
            bases.push(Base {
                id,
                attached: Attached::Nothing,
                value: value.to_vec(),
                folded: None,
            });
        }
        if bases.is_empty() {
            return Err(DecodeError::Bad("an element has no value"));
        }
        Ok(ElementFacts::Full {
            position,
            born,
            bases,
        })
    }

    /// A count of things, which cannot be more than there are bytes for.
    fn count(&mut self) -> Read<u64> {
        let count = self.bytes.varint()?;
        if self.bytes.rest().len() as u64 / LEAST_BYTES < count {
            return Err(DecodeError::Short);
        }
        Ok(count)
    }

    fn origin(&mut self) -> Read<OriginIx> {
        let number = self.bytes.narrow()? as usize;
        let ix = self.map.get(number).copied();
        ix.ok_or(DecodeError::Bad("an origin is not listed"))
    }

    fn at(&mut self, origin: OriginIx) -> Read<Id> {
        let Dot { time, index } = self.bytes.dot()?;
        self.extent.latest = self.extent.latest.max(time);
        if let Some(latest) = self.latest.get_mut(usize::from(origin.0)) {
            *latest = time.max(*latest);
        }
        Ok(Id {
            time,
            index,
            origin,
        })
    }

    fn id(&mut self) -> Read<Id> {
        let origin = self.origin()?;
        self.at(origin)
    }

    fn facts<S: Wire>(&mut self, tag: u8) -> Read<Facts<'a, S>> {
        Ok(match tag {
            tag::BASE => {
                let (id, attached) = (self.id()?, self.bytes.attached()?);
                let value = self.value::<S>()?;
                Facts::Base(Compact {
                    id,
                    attached,
                    value,
                })
            }
            tag::COUNTER => {
                let origin = self.part_origin::<S>()?;
                let birth = self.bytes.dot()?;
                let at = self.at(origin)?.dot();
                let word = S::get(&mut self.bytes)?.to_word();
                let word = word.ok_or(DecodeError::Bad("a counter does not fit"))?;
                if at == Dot::default() {
                    return Err(DecodeError::Bad("a counter was never added to"));
                }
                Facts::Counter(Counter {
                    origin,
                    birth,
                    at,
                    word,
                })
            }
            tag::REGISTER => {
                let register = self.register::<S>()?;
                if register.is_void() {
                    return Err(DecodeError::Bad("there is nothing of a thing"));
                }
                if deflate(&register).is_some() || Counter::of(&register).is_some() {
                    return Err(DecodeError::Bad("a thing is written at too much length"));
                }
                Facts::Register(register)
            }
            _ => return Err(DecodeError::Bad("a thing is of no known kind")),
        })
    }

    fn value<S: Wire>(&mut self) -> Read<&'a [u8]> {
        let value = self.bytes.bytes()?;
        if S::is_value(value) {
            Ok(value)
        } else {
            Err(DecodeError::Bad("a value is not of its type"))
        }
    }

    fn register<S: Wire>(&mut self) -> Read<Register<S>> {
        let mut register = Register::default();
        for _ in 0..self.count()? {
            let base = self.base::<S>()?;
            let last = register.bases.last().map(|base: &Base| base.id);
            self.check_order(last, base.id, Ordering::Greater)?;
            register.bases.push(base);
        }
        for _ in 0..self.count()? {
            let fact = EditFact {
                id: self.id()?,
                edit: self.bytes.edit()?.into(),
                carried: self.bytes.carried()?,
            };
            if !S::HAS_EDITS {
                return Err(DecodeError::Bad("only strings are edited"));
            }
            let last = register.edits.last().map(|fact: &EditFact| fact.id);
            self.check_order(last, fact.id, Ordering::Less)?;
            register.edits.push(fact);
        }
        for _ in 0..self.count()? {
            let part = self.part::<S>()?;
            let owner = |part: &Part<S>| self.origins.get(part.origin);
            let is_after = |last: &Part<S>| owner(last) < owner(&part);
            if !register.parts.last().is_none_or(is_after) {
                return Err(DecodeError::Bad("counter parts are out of order"));
            }
            register.parts.push(part);
        }
        for _ in 0..self.count()? {
            let (id, deadline) = (self.id()?, self.bytes.deadline()?);
            let last = register.deadlines.last().map(|fact: &DeadlineFact| fact.id);
            self.check_order(last, id, Ordering::Less)?;
            register.deadlines.push(DeadlineFact { id, deadline });
        }
        Ok(register)
    }

    fn check_order(&self, last: Option<Id>, next: Id, order: Ordering) -> Read<()> {
        if last.is_none_or(|last| self.origins.compare(last, next) == order) {
            Ok(())
        } else {
            Err(DecodeError::Bad("facts are out of order"))
        }
    }

    fn base<S: Wire>(&mut self) -> Read<Base> {
        let (id, attached) = (self.id()?, self.bytes.attached()?);
        let folded = if self.bytes.flag()? {
            let last = self.id()?;
            let digest = self.bytes.word()?;
            let carried = match self.bytes.carried()? {
                Some(ms) => Some((ms, self.origin()?)),
                None => None,
            };
            Some(Box::new(Folded {
                last,
                digest,
                carried,
                has_parts: self.bytes.flag()?,
            }))
        } else {
            None
        };
        let value = self.value::<S>()?.to_vec();
        Ok(Base {
            id,
            attached,
            value,
            folded,
        })
    }

    fn part_origin<S: Wire>(&mut self) -> Read<OriginIx> {
        if !S::HAS_PARTS {
            return Err(DecodeError::Bad("members are not counted"));
        }
        self.extent.counted = true;
        self.origin()
    }

    fn part<S: Wire>(&mut self) -> Read<Part<S>> {
        let origin = self.part_origin::<S>()?;
        let birth = self.bytes.dot()?;
        let at = self.at(origin)?.dot();
        let sum = S::get(&mut self.bytes)?;
        let removed_at = self.bytes.dot()?;
        let removed = S::get(&mut self.bytes)?;
        let remover = if self.bytes.flag()? {
            Some(self.id()?)
        } else {
            None
        };
        let carried = self.bytes.carried()?;
        let raised = if self.bytes.flag()? {
            Some(Box::new((self.bytes.dot()?, S::get(&mut self.bytes)?)))
        } else {
            None
        };
        Ok(Part {
            origin,
            birth,
            at,
            sum,
            removed_at,
            removed,
            remover,
            carried,
            raised,
        })
    }
}

/// The container that a byte stands for.
fn kind_of(byte: u8) -> Read<Kind> {
    match byte {
        1 => Ok(Kind::Hash),
        2 => Ok(Kind::Set),
        3 => Ok(Kind::SortedSet),
        4 => Ok(Kind::List),
        _ => Err(DecodeError::Bad("a container is of no known kind")),
    }
}
