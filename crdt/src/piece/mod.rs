//! State in pieces: what snapshots are made of, and what a region gets that lacks more than the
//! logs hold.
//!
//! [`State::piece`] writes some of a shard's facts, about as many bytes as asked for, and says
//! where to go on; [`State::merge`] takes a piece in. Between two pieces the state may change, so
//! there is no moment that all pieces show. What holds instead:
//!
//! - **A piece is exact.** It says of which spans it is, and of these it holds every fact that the
//!   state had at the piece's version; what is in the span and not in the piece was not there. A
//!   span is keys of one slot, a range of the upper halves of their hashes (their *tags*); where a
//!   container is too large for one piece, its key comes without it, and *runs* of it follow: names
//!   by tags again, elements by positions. Tags and positions are the same in every region, and
//!   stay what they are whatever comes and goes. So a walk is resumed by saying how far it came.
//! - **Who takes it in remembers that.** [`State`] keeps the version of every span and run that it
//!   has merged, and an effect that this covers is skipped there. So the ops after the version of
//!   the *first* piece are applied to all, in the usual order, and each thing sees those that it
//!   lacks: no effect is applied twice. That would not do: what has been folded or dropped
//!   meanwhile (an edit in its base, a deadline that stood alone) would come back.
//!   What removes from more than one thing (containers, ranges, a flush) is not skipped; it removes
//!   by what it had seen, and there is nothing left of that where it was applied.
//!   Once the version includes those of all pieces, [`State::caught_up`] forgets them.
//! - **A piece is a set of facts**, so merging is the operation of docs/semantics.md ("Facts"); a
//!   snapshot is read by merging it into an empty state at the empty version. See [`crate::merge`].
//!
//! What is not in a piece follows from the facts: digests, counts, indexes, the list of what
//! waits to become stable. In which round of settling something was left alone is not, so that
//! begins anew: it is collected later, never earlier.
//!
//! What can go wrong: an op issued here about a slot that is ahead of the shard's version may see
//! more than its deps say, and would remove here what it does not remove elsewhere. Until the
//! version has caught up, ops issued here are begun with their deps, like those of others; then
//! they remove what these cover.
//!
//! Costs: writing is O(bytes), and reads values; a value is in one piece, however large. Merging is
//! O(things of both sides in the spans).
//!
//! The bytes are specified in docs/storage.md.
//!
//! [`State`]: crate::State
//! [`State::caught_up`]: crate::State::caught_up
//! [`State::merge`]: crate::State::merge
//! [`State::piece`]: crate::State::piece

mod facts;
mod read;
mod walk;
mod write;

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, put_number, put_score};
use crate::fact::{OriginIx, Origins};
use crate::number::Number;
use crate::origin::Origin;
use crate::register::{NoSum, Sum};
use crate::version::Version;
pub(crate) use facts::{BodyFacts, ElementFacts, Extent, Facts, Item, KeyFacts, Range, RunFacts};
pub(crate) use read::Items;
pub use walk::{Cursor, Span};

/// The first byte of every piece.
pub(crate) const FORMAT: u8 = 1;

/// Origins that a piece may name: far more than restarts between two collections.
const ORIGINS_MAX: u64 = 4_096;

/// What the first byte of a thing, an element or a section says.
mod tag {
    /// There is no more.
    pub(crate) const END: u8 = 0;
    pub(crate) const BASE: u8 = 1;
    pub(crate) const COUNTER: u8 = 2;
    pub(crate) const REGISTER: u8 = 3;
    pub(crate) const KEY: u8 = 4;

    pub(crate) const AT_TAIL: u8 = 1;
    pub(crate) const AT_HEAD: u8 = 2;
    pub(crate) const ELEMENT: u8 = 3;

    pub(crate) const REISSUED: u8 = 1;
    pub(crate) const SPAN: u8 = 2;
    pub(crate) const RUN: u8 = 3;
}

/// How sums are written, and what else a thing with such sums may have.
pub(crate) trait Wire: Sum {
    /// Whether it may have edits.
    const HAS_EDITS: bool;
    /// Whether it may have counter parts.
    const HAS_PARTS: bool;
    /// Appends the sum.
    fn put(self, out: &mut Vec<u8>);
    /// Reads a sum.
    fn get(bytes: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Whether a base may have this value.
    fn is_value(value: &[u8]) -> bool;
}

impl Wire for Number {
    const HAS_EDITS: bool = true;
    const HAS_PARTS: bool = true;

    fn put(self, out: &mut Vec<u8>) {
        put_number(out, self);
    }

    fn get(bytes: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bytes.number()
    }

    fn is_value(_: &[u8]) -> bool {
        true
    }
}

impl Wire for f64 {
    const HAS_EDITS: bool = false;
    const HAS_PARTS: bool = true;

    fn put(self, out: &mut Vec<u8>) {
        put_score(out, self);
    }

    fn get(bytes: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bytes.score()
    }

    fn is_value(value: &[u8]) -> bool {
        let score = value.try_into().map(Self::from_le_bytes);
        score.is_ok_and(|score| !score.is_nan())
    }
}

impl Wire for NoSum {
    const HAS_EDITS: bool = false;
    const HAS_PARTS: bool = false;

    fn put(self, _: &mut Vec<u8>) {}

    fn get(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::Bad("members are not counted"))
    }

    fn is_value(value: &[u8]) -> bool {
        value.is_empty()
    }
}

/// Some of the facts of a shard, as they were at a version. See the module.
#[derive(Clone, Debug)]
pub struct Piece {
    bytes: Bytes,
    version: Version,
    origins: Vec<Origin>,
    /// Where the sections begin.
    start: usize,
    slots: BTreeSet<u16>,
}

impl Piece {
    /// Reads a piece, all of it: a later [`State::merge`](crate::State::merge) finds nothing bad.
    pub fn parse(bytes: Bytes) -> Result<Self, DecodeError> {
        let too_large = DecodeError::Bad("a piece is too large");
        u32::try_from(bytes.len()).map_err(|_| too_large)?;
        let mut reader = Reader::new(&bytes);
        if reader.byte()? != FORMAT {
            return Err(DecodeError::Bad("the format is not known to this build"));
        }
        let version = reader.version()?;
        let count = reader.varint()?;
        if ORIGINS_MAX < count {
            return Err(DecodeError::Bad("there are too many origins"));
        }
        let (mut origins, mut numbered, mut map) = (Vec::new(), Origins::default(), Vec::new());
        for number in 0..count as usize {
            let origin = reader.origin()?;
            let ix = numbered.number(origin);
            if usize::from(ix.0) != number {
                return Err(DecodeError::Bad("an origin is listed twice"));
            }
            origins.push(origin);
            map.push(ix);
        }
        let start = bytes.len() - reader.rest().len();
        let mut items = Items::new(reader.rest(), &map, &numbered);
        let mut slots = BTreeSet::new();
        while let Some(item) = items.next()? {
            match item {
                Item::Reissued(..) => {}
                Item::Key(slot, _) | Item::Span(slot, ..) => {
                    slots.insert(slot);
                }
                Item::Run(run) => {
                    slots.insert(run.slot);
                }
            }
        }
        Ok(Self {
            bytes,
            version,
            origins,
            start,
            slots,
        })
    }

    /// What the replica held that it was read at.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The bytes, as they were written.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The origins of its facts.
    pub(crate) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The slots that it is about.
    pub(crate) const fn slots(&self) -> &BTreeSet<u16> {
        &self.slots
    }

    /// What it holds. `map` are the numbers of its origins here.
    pub(crate) fn items<'a>(&'a self, map: &'a [OriginIx], origins: &'a Origins) -> Items<'a> {
        Items::new(&self.bytes[self.start..], map, origins)
    }
}
