//! Effects: the only way in which state changes.
//!
//! An effect is one change of one key, phrased so that it needs no reading of the receiver's
//! state to be meaningful. It borrows what it carries, so that a client's bytes go from the read
//! buffer into the log and the state without a copy in between. What it removes, it removes by
//! coverage: exactly the facts that its op had seen (docs/semantics.md, "Facts").
//!
//! A counter part is the exception: a removal ships what it saw of each part as a
//! [`Change::ForgetPart`] or [`Change::ForgetScore`] of its own in the same op.

use crate::number::Number;
use crate::origin::Origin;
use crate::position::Position;
use crate::stamp::{Dot, Stamp};

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect<'a> {
    /// The key; empty and meaningless for [`Change::Flush`].
    pub key: &'a [u8],
    /// What happens to it.
    pub change: Change<'a>,
}

/// What an effect does. Unless it says otherwise, "removes" means: what the op had seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<'a> {
    /// Removes the given bodies of the key, and its deadlines if asked.
    Remove {
        /// Which types' bodies.
        bodies: Bodies,
        /// Whether the key's deadlines go too, attached and carried ones included.
        deadlines: bool,
    },
    /// Removes everything of every key in the shard.
    Flush,
    /// Replaces the key's deadlines (`EXPIRE`, `PERSIST`).
    Deadline(Deadline),
    /// Removes what was seen of a counter part of the string, or of a hash field.
    ForgetPart {
        /// The hash field, or `None` for the string.
        field: Option<&'a [u8]>,
        /// What was seen.
        seen: SeenPart<Number>,
    },
    /// Removes what was seen of a counter part of a sorted-set member's score.
    ForgetScore {
        /// The member.
        member: &'a [u8],
        /// What was seen.
        seen: SeenPart<f64>,
    },
    /// Replaces the string and, unless `attached` says nothing, the key's deadlines.
    StringSet {
        /// The new value.
        value: &'a [u8],
        /// The deadline that belongs to this base.
        attached: Attached,
    },
    /// Changes a part of the string; removes nothing.
    StringEdit {
        /// The part.
        edit: Edit<'a>,
        /// The finite deadline that the writer saw, milliseconds since 1970.
        carried: Option<u64>,
    },
    /// Sets the running sum of the issuer's counter part of the string.
    StringAdd {
        /// Birth and running sum.
        increment: Increment<Number>,
        /// The finite deadline that the writer saw, milliseconds since 1970.
        carried: Option<u64>,
    },
    /// Replaces a hash field and, unless `attached` says nothing, its deadlines.
    FieldSet {
        /// The field.
        field: &'a [u8],
        /// The new value.
        value: &'a [u8],
        /// The deadline that belongs to this base.
        attached: Attached,
    },
    /// Sets the running sum of the issuer's counter part of a hash field.
    FieldAdd {
        /// The field.
        field: &'a [u8],
        /// Birth and running sum.
        increment: Increment<Number>,
        /// The finite deadline of the field that the writer saw, milliseconds since 1970.
        carried: Option<u64>,
    },
    /// Removes a hash field.
    FieldRemove {
        /// The field.
        field: &'a [u8],
        /// Whether its deadlines go too.
        deadlines: bool,
    },
    /// Replaces a hash field's deadlines.
    FieldDeadline {
        /// The field.
        field: &'a [u8],
        /// The new one.
        deadline: Deadline,
    },
    /// Adds a set member, replacing older adds of it.
    MemberAdd {
        /// The member.
        member: &'a [u8],
    },
    /// Removes a set member.
    MemberRemove {
        /// The member.
        member: &'a [u8],
    },
    /// Replaces the base of a sorted-set member's score, adding the member.
    ScoreSet {
        /// The member.
        member: &'a [u8],
        /// Its score: not NaN.
        score: f64,
    },
    /// Sets the running sum of the issuer's counter part of a score.
    ScoreAdd {
        /// The member.
        member: &'a [u8],
        /// Birth and running sum.
        increment: Increment<f64>,
    },
    /// Removes a sorted-set member.
    ScoreRemove {
        /// The member.
        member: &'a [u8],
    },
    /// Adds an element at an end of the list; its position is that end and its own identity.
    Push {
        /// Which end.
        end: End,
        /// The element.
        value: &'a [u8],
    },
    /// Adds an element between others.
    Insert {
        /// Where.
        at: Position,
        /// The element.
        value: &'a [u8],
    },
    /// Removes the elements from one position to another, both included.
    ElementsRemove {
        /// The first.
        first: Position,
        /// The last; the same as the first for a single element.
        last: Position,
    },
    /// Writes an element's register; means nothing where the element is gone.
    ElementSet {
        /// Where it stands.
        at: Position,
        /// The identity of its insertion, for a position can be used again.
        born: ElementId,
        /// The new value.
        value: &'a [u8],
    },
    /// Says that this op issues again one of a closed origin that turned up late: this one.
    Reissue(Stamp),
    /// Raises the counter part of a closed origin, of the string or of a hash field.
    RaisePart {
        /// The hash field, or `None` for the string.
        field: Option<&'a [u8]>,
        /// What the part becomes.
        raised: Box<Raised<Number>>,
    },
    /// Raises the counter part of a closed origin of a score.
    RaiseScore {
        /// The member.
        member: &'a [u8],
        /// What the part becomes.
        raised: Box<Raised<f64>>,
    },
}

impl Change<'_> {
    /// Whether it is about no one key.
    pub const fn is_keyless(&self) -> bool {
        matches!(self, Self::Flush | Self::Reissue(_))
    }
}

/// What becomes of the counter part of a closed origin by an increment that turned up late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raised<S> {
    /// Whose part.
    pub origin: Origin,
    /// The increment that started it.
    pub birth: Dot,
    /// The last increment before this one, or zero where this one started it.
    pub from: Dot,
    /// The running sum there.
    pub from_sum: S,
    /// This increment.
    pub at: Dot,
    /// The running sum here.
    pub sum: S,
}

/// The insertion that made a list element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementId {
    /// Who inserted it.
    pub origin: Origin,
    /// Which effect of which op.
    pub dot: Dot,
}

/// A set of types of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bodies(u8);

impl Bodies {
    /// No body.
    pub const NONE: Self = Self(0);
    /// The string.
    pub const STRING: Self = Self(1);
    /// The hash.
    pub const HASH: Self = Self(2);
    /// The set.
    pub const SET: Self = Self(4);
    /// The sorted set.
    pub const SORTED_SET: Self = Self(8);
    /// The list.
    pub const LIST: Self = Self(16);
    /// Every type, those of later releases included.
    pub const ALL: Self = Self(u8::MAX);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of these but `other`.
    #[must_use]
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As bits, for the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// When a key or field ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// At this time, milliseconds since 1970.
    At(u64),
    /// Never: longer than every other.
    Never,
}

impl Deadline {
    /// The time, unless it is never.
    pub const fn finite(self) -> Option<u64> {
        match self {
            Self::At(ms) => Some(ms),
            Self::Never => None,
        }
    }
}

/// What a base says about deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Nothing: `SET … KEEPTTL` and rewritten values, where the writer saw no finite deadline.
    Nothing,
    /// This one, as long as the base is the one that readers see.
    Deadline(Deadline),
}

/// A change of a part of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Adds bytes at the end.
    Append(&'a [u8]),
    /// Overwrites bytes, after filling up with zeros to the offset.
    Overwrite {
        /// Bytes before it.
        offset: u64,
        /// The new bytes.
        bytes: &'a [u8],
    },
    /// Overwrites bits, the most significant first as `SETBIT` counts them.
    Bits {
        /// Bits before it.
        offset: u64,
        /// How many, 1 to 64.
        width: u8,
        /// The new bits, right-aligned.
        value: u64,
    },
}

/// What one origin has added by now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increment<S> {
    /// The increment that started the part: this one itself, or an earlier one.
    pub birth: Dot,
    /// The running sum, this increment included.
    pub sum: S,
}

/// What a removal saw of a counter part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeenPart<S> {
    /// Whose part.
    pub origin: Origin,
    /// The increment that started it.
    pub birth: Dot,
    /// The last increment seen.
    pub at: Dot,
    /// The running sum seen.
    pub sum: S,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The left end, where `LPUSH` adds.
    Head,
    /// The right end, where `RPUSH` adds.
    Tail,
}
