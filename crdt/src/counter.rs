//! A thing that is just one counter part: what most counters are, kept in an entry of their table.
//!
//! It says the same as a register with this part and nothing else, and becomes one when anything
//! else is done to it than adding.

use crate::effect::{Increment, SeenPart};
use crate::fact::{Id, OriginIx, Origins};
use crate::register::{Part, Register};
use crate::stamp::Dot;
use crate::sum::Sum;

/// A counter part of which nothing was removed and which carries no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) origin: OriginIx,
    pub(crate) birth: Dot,
    pub(crate) at: Dot,
    /// The sum, as [`Sum::to_word`] has it.
    pub(crate) word: u64,
}

impl Counter {
    /// The part that an increment begins, if it fits.
    pub(crate) fn begin<S: Sum>(id: Id, increment: Increment<S>) -> Option<Self> {
        Some(Self {
            origin: id.origin,
            birth: increment.birth,
            at: id.dot(),
            word: increment.sum.to_word()?,
        })
    }

    /// The part after a later increment of it, if that fits.
    pub(crate) fn add<S: Sum>(self, id: Id, increment: Increment<S>) -> Option<Self> {
        let goes_on = self.origin == id.origin && self.birth == increment.birth;
        let later = self.at < id.dot();
        Self::begin(id, increment).filter(|_| goes_on && later)
    }

    /// The part of a register that is just that.
    pub(crate) fn of<S: Sum>(register: &Register<S>) -> Option<Self> {
        let [part] = register.parts.as_slice() else {
            return None;
        };
        let is_plain = part.removed_at == Dot::default()
            && part.remover.is_none()
            && part.carried.is_none()
            && part.raised.is_none()
            && part.is_live();
        let is_all =
            register.bases.is_empty() && register.edits.is_empty() && register.deadlines.is_empty();
        (is_plain && is_all).then_some(Self {
            origin: part.origin,
            birth: part.birth,
            at: part.at,
            word: part.sum.to_word()?,
        })
    }

    /// As a part of a register.
    pub(crate) fn part<S: Sum>(self) -> Part<S> {
        Part {
            origin: self.origin,
            birth: self.birth,
            at: self.at,
            sum: self.sum(),
            removed_at: Dot::default(),
            removed: S::default(),
            remover: None,
            carried: None,
            raised: None,
        }
    }

    /// As a register.
    pub(crate) fn register<S: Sum>(self) -> Register<S> {
        Register {
            parts: vec![self.part()],
            ..Register::default()
        }
    }

    /// What it has added up to.
    pub(crate) fn sum<S: Sum>(self) -> S {
        S::from_word(self.word)
    }

    /// What a removal has to ship of it.
    pub(crate) fn seen<S: Sum>(self, origins: &Origins) -> SeenPart<S> {
        SeenPart {
            origin: origins.get(self.origin),
            birth: self.birth,
            at: self.at,
            sum: self.sum(),
        }
    }

    /// The identity of its last increment.
    pub(crate) const fn latest(self) -> Id {
        Id {
            time: self.at.time,
            index: self.at.index,
            origin: self.origin,
        }
    }
}
