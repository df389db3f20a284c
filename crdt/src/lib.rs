//! The conflict-free replicated types of Meridian.
//!
//! An **op** is what one command did to one shard: a [`Stamp`], the last ops its issuer had seen
//! (deps), and effects. An [`Effect`] is one change of one key, and leaves a **fact** behind,
//! whose identity is its op's stamp and its index there. State is a bag of facts: an update adds a
//! fact and removes the older ones of the same thing that its issuer had seen; a removal removes
//! exactly what it had seen. What a [`Version`] covers and the state does not hold has been
//! removed, so nothing remembers removals. What every region holds is **stable**, and is folded.
//!
//! Everything here is a function of its arguments: no clock, chance, task, socket or hash order.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

mod apply;
mod approach;
mod body;
mod codec;
mod counter;
mod edit;
mod effect;
mod endings;
mod entry;
mod expired;
mod fact;
mod frame;
mod held;
mod index;
mod kept;
mod late;
mod list;
mod look;
mod marks;
mod merge;
mod names;
mod number;
mod origin;
mod packed;
mod piece;
mod position;
mod prefetch;
mod register;
mod removed;
mod sequence;
mod settling;
mod slot;
mod stamp;
mod state;
mod stock;
mod sum;
mod sums;
mod survey;
mod sweep;
mod table;
mod thin;
mod uses;
mod version;
mod view;

pub use approach::{Parts, STEPS as APPROACH_STEPS, Whereabouts};
pub use body::Kind;
pub use codec::DecodeError;
pub use effect::{
    Attached, Bodies, Change, Deadline, Edit, Effect, ElementId, End, Increment, Raised, SeenPart,
};
pub use expired::KeyField;
pub use frame::{Effects, Frame, FrameError, FrameWriter, Op, Ops};
pub use late::{Left, Past};
pub use look::{FieldSeen, Look, Presence, ScoreSeen};
pub use number::{DECIMAL_DIGITS, DECIMAL_ONE, Number, parse_decimal, parse_integer};
pub use origin::{Epoch, Origin, Region};
pub use piece::{Cursor, Piece, Span};
pub use position::{POSITION_STEPS_MAX, Position, Side, Step};
pub use removed::Removed;
pub use slot::{Key, SLOTS, Seed, Slot};
pub use stamp::{Clock, Dot, FactId, Stamp, Time};
pub use state::{Applying, State};
pub use stock::{Heap, Stock};
pub use sums::Sums;
pub use survey::{Anatomy, Facts, Survey};
pub use table::Near;
pub use uses::Sampled;
pub use version::Version;
pub use view::{FieldValue, Hash, List, Pick, Set, SortedSet};
