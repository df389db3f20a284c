//! A thing as it is kept, and what a change made of it.

use std::borrow::Cow;

use crate::counter::Counter;
use crate::effect::Attached;
use crate::endings::Ending;
use crate::entry::Compact;
use crate::fact::{Origins, mix};
use crate::names::Full;
use crate::number::parse_integer;
use crate::register::{Register, Sum, deadline_digest};

/// What can be told of a thing without its value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) exists: bool,
    /// When it ends, if it exists and does.
    pub(crate) ending: Option<Ending>,
    /// Of its register and deadline.
    pub(crate) digest: u64,
}

/// What a change did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Updated {
    /// Where the thing is; where it was, if it is gone.
    pub(crate) id: u32,
    pub(crate) before: Summary,
    pub(crate) after: Summary,
    /// Whether the thing is to be put on the list of those to settle.
    pub(crate) queue: bool,
}

impl Updated {
    /// What is done to a thing that is not there.
    pub(crate) fn nothing() -> Self {
        let nothing = Summary::default();
        Self {
            id: u32::MAX,
            before: nothing,
            after: nothing,
            queue: false,
        }
    }

    /// What the digest of all changes by.
    pub(crate) const fn digest(&self) -> u64 {
        self.before.digest ^ self.after.digest
    }
}

/// What a value is that is no integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoInteger;

/// A thing as it is kept.
#[derive(Debug)]
pub(crate) enum Kept<'a, F> {
    Compact(Compact<'a>),
    Counter(Counter),
    Full(&'a F),
}

impl<F> Clone for Kept<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Kept<'_, F> {}

impl<'a, F: Full> Kept<'a, F> {
    /// Whether a reader finds it, its deadline aside.
    pub(crate) fn exists(self) -> bool {
        match self {
            Self::Compact(_) | Self::Counter(_) => true,
            Self::Full(full) => full.has_bodies() || full.register().is_some_and(Register::exists),
        }
    }

    /// Whether anything says when it ends, in force or not.
    pub(crate) fn has_deadlines(self) -> bool {
        match self {
            Self::Compact(base) => base.attached != Attached::Nothing,
            Self::Counter(_) => false,
            Self::Full(full) => full.register().is_some_and(Register::has_deadlines),
        }
    }

    /// The value of its register, if that exists.
    pub(crate) fn value(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Compact(base) => Some(Cow::Borrowed(base.value)),
            Self::Counter(counter) => {
                let sum = std::iter::once(counter.sum());
                F::Sum::total(None, sum).map(Cow::Owned)
            }
            Self::Full(full) => full.register().and_then(Register::value),
        }
    }

    /// The integer that its register is, if it exists; `Err` if it is something else.
    pub(crate) fn integer(self) -> Result<Option<i64>, NoInteger> {
        if let Self::Counter(counter) = self {
            let sum: F::Sum = counter.sum();
            return sum.integer().map(Some).ok_or(NoInteger);
        }
        let integer = |text: Cow<'_, [u8]>| parse_integer(&text).ok_or(NoInteger);
        self.value().map(integer).transpose()
    }

    #[inline]
    pub(crate) fn summary(self, thing: u64, origins: &Origins) -> Summary {
        if let Self::Full(full) = self
            && full.register().is_none()
        {
            // What containers hold has digests of its own.
            return Summary {
                exists: full.has_bodies(),
                ..Summary::default()
            };
        }
        let exists = self.exists();
        let ending = self.ending(origins).filter(|_| exists);
        let facts = match self {
            Self::Compact(base) => mix(thing, origins.hash(base.id)),
            Self::Counter(counter) => counter.part::<F::Sum>().digest(thing, origins),
            Self::Full(full) => full.register().map_or(0, |r| r.digest(thing, origins)),
        };
        Summary {
            exists,
            ending,
            digest: facts ^ ending.map_or(0, |ending| deadline_digest(thing, ending.ms)),
        }
    }
}
