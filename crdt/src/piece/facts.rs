//! What a piece says of one thing, as it is read.

use crate::body::Kind;
use crate::counter::Counter;
use crate::effect::{Bodies, End};
use crate::entry::Compact;
use crate::fact::Id;
use crate::number::Number;
use crate::position::Position;
use crate::register::{Base, NoSum, Register, Sum};
use crate::stamp::{Stamp, Time};

/// The facts of one thing.
#[derive(Clone, Debug)]
pub(crate) enum Facts<'a, S> {
    /// There are none.
    Nothing,
    /// Just one base.
    Base(Compact<'a>),
    /// Just one counter part.
    Counter(Counter),
    Register(Register<S>),
}

impl<S: Sum> Facts<'_, S> {
    /// As a register.
    pub(crate) fn into_register(self) -> Register<S> {
        match self {
            Self::Nothing => Register::default(),
            Self::Base(base) => Register::of_base(base),
            Self::Counter(counter) => counter.register(),
            Self::Register(register) => register,
        }
    }
}

/// Names and their facts.
pub(crate) type Named<'a, S> = Vec<(&'a [u8], Facts<'a, S>)>;

/// Some of a container.
#[derive(Clone, Debug)]
pub(crate) enum BodyFacts<'a> {
    Hash(Named<'a, Number>),
    Set(Named<'a, NoSum>),
    SortedSet(Named<'a, f64>),
    List(Vec<ElementFacts<'a>>),
}

impl BodyFacts<'_> {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Hash(_) => Kind::Hash,
            Self::Set(_) => Kind::Set,
            Self::SortedSet(_) => Kind::SortedSet,
            Self::List(_) => Kind::List,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        match self {
            Self::Hash(fields) => fields.is_empty(),
            Self::Set(members) => members.is_empty(),
            Self::SortedSet(members) => members.is_empty(),
            Self::List(elements) => elements.is_empty(),
        }
    }
}

/// A list element.
#[derive(Clone, Debug)]
pub(crate) enum ElementFacts<'a> {
    Pushed {
        id: Id,
        end: End,
        value: &'a [u8],
    },
    Full {
        position: Position,
        born: Id,
        bases: Vec<Base>,
    },
}

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct KeyFacts<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) register: Facts<'a, Number>,
    /// Whole containers.
    pub(crate) bodies: Vec<BodyFacts<'a>>,
    /// The containers that are not here, but come in runs.
    pub(crate) later: Bodies,
}

/// Which part of a container a run is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Range {
    /// The names with these tags, both included.
    Names(u32, u32),
    /// The elements after the one position and up to the other, this included.
    Elements(Option<Position>, Option<Position>),
}

impl Range {
    /// All of a container.
    pub(crate) const fn all(kind: Kind) -> Self {
        match kind {
            Kind::List => Self::Elements(None, None),
            Kind::String | Kind::Hash | Kind::Set | Kind::SortedSet => Self::Names(0, u32::MAX),
        }
    }
}

/// Some of a container of a key.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts<'a> {
    pub(crate) slot: u16,
    pub(crate) key: &'a [u8],
    /// That of the key: its deadlines belong to all of its containers.
    pub(crate) register: Facts<'a, Number>,
    pub(crate) body: BodyFacts<'a>,
    pub(crate) range: Range,
}

/// What a piece holds, in order.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    /// An op of a closed origin, and as what it has been issued again.
    Reissued(Stamp, Stamp),
    /// A key of the span that is open.
    Key(u16, KeyFacts<'a>),
    /// The end of a span: its slot and the tags of its keys, both included.
    Span(u16, u32, u32),
    Run(RunFacts<'a>),
}

/// What the facts of an item come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// The latest time in them.
    pub(crate) latest: Time,
    /// Whether there are counter parts among them.
    pub(crate) counted: bool,
}
