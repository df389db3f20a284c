//! Replication between two regions as a state machine without I/O.
//!
//! A [`Link`] is one region's side of the conversation with one peer node. Times, bytes and seeds
//! go in; messages, frames, timers and events come out, so the same code runs over QUIC and in a
//! simulator. It reaches the shards through [`Shards`], behind which each shard has a [`Delivery`]:
//! what it has applied, what waits, what every region has acknowledged.
//!
//! Order of calls: after every `handle_…` call poll [`Link::poll_event`] and
//! [`Link::poll_transmit`] until they return nothing, then arm a timer for
//! [`Link::poll_timeout`].
//!
//! The transport owes it this: control messages form one ordered, reliable stream; frames travel
//! on lanes, ordered and reliable within a lane; nothing is said about the order between them. What
//! was under way when a connection ends may be lost.

mod closing;
mod delivery;
mod error;
mod horizon;
mod inbox;
mod link;
mod message;
mod outbox;
mod reach;
mod refill;
mod roster;
mod shards;

use std::ops::Add;

pub use delivery::{Delivery, DeliveryConfig, Ending, Lack, Offer, Refusal};
pub use error::{Fault, LinkError};
pub use horizon::{Horizon, PATIENCE, Verdict};
pub use link::{
    Accept, CatchingUp, Config, Event, Link, LinkState, RETRY_AFTER, Stats, Transmit, Why,
};
pub use message::{Announcement, Heartbeat, MESSAGE_BYTES_MAX, MessageError};
pub use reach::Reach;
pub use refill::Refill;
pub use roster::{AddError, Entry, ForgetError, Gone, Roster, RosterError, Stage};
pub use shards::{Compared, Merged, Next, Shards, SpanSum};

/// A moment, in nanoseconds since one that the caller chose. Only differences mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// How long ago `earlier` was; zero if it is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Instant {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    /// So many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// The whole milliseconds in it.
    pub const fn ms(self) -> u64 {
        self.0 / 1_000_000
    }
}
