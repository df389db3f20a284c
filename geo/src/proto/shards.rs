//! How a link reaches the shards of its node.

use bytes::Bytes;
use crdt::{Cursor, Frame, Region, Span, Time, Version};

use super::delivery::{Delivery, Offer};
use super::message::Heartbeat;
use super::reach::Reach;
use super::roster::Roster;

/// What a log holds at a position.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next frame that was asked for, and the position after it.
    Frame(Frame, u64),
    /// Nothing more that was asked for: the position to ask from next time.
    End(u64),
    /// What was there has been dropped.
    Behind,
}

/// What is to be known of a span's keys without sending them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanSum {
    /// How many there are, or as many as were looked at.
    pub keys: u32,
    /// The sums of all of them together; `None` if there is too much to look at. Where these are
    /// equal, so is what two replicas hold.
    pub sum: Option<u64>,
}

/// How a span is here, compared with a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The same. It has been noted that it is up to the peer's version.
    Equal,
    /// Perhaps not the same; how many keys there are here, as far as was looked.
    Differs(u32),
}

/// What became of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is taken in.
    Done,
    /// Not now: it is too far ahead of our clock, or there is no room for it.
    Later,
    /// It is no piece of this shard.
    Bad(String),
}

/// The shards of a node, as a [`Link`](super::Link) sees them. The node and the simulator implement
/// it. Each call locks at most one shard, and none waits.
pub trait Shards {
    /// How many there are; the same in every region.
    fn count(&self) -> u16;

    /// The wall clock, in milliseconds.
    fn now_ms(&self) -> u64;

    /// Runs with the node's view of which regions it reaches.
    fn reach(&mut self, run: &mut dyn FnMut(&mut Reach));

    /// The bytes of the node's record of regions and their revision, if that is not `known`. What
    /// is told here has been stored, and is acted upon.
    fn roster(&mut self, known: u64) -> Option<(u64, Vec<u8>)>;

    /// Hands on the record that a peer has. The regions that it lets in count from then on: what
    /// follows was said by one that knew of them.
    fn heard_roster(&mut self, roster: Roster);

    /// Runs with what a shard knows of deliveries.
    fn delivery(&mut self, shard: u16, run: &mut dyn FnMut(&mut Delivery));

    /// What the shard has to say of its own origin. Raises its clock to `time` first, so that
    /// nothing it issues later has a time up to that ([`Delivery::heartbeat`]).
    fn heartbeat(&mut self, shard: u16, time: Time) -> Heartbeat;

    /// Offers a frame that came from region `from` ([`Delivery::offer`]), and applies all that has
    /// become ready: each goes through [`Delivery::next_ready`], the state, the log and
    /// [`Delivery::applied`].
    fn offer(&mut self, frame: Frame, from: Region) -> Offer;

    /// Hands on a heartbeat that came from region `from` ([`Delivery::heard`]), and applies all
    /// that has become ready.
    fn heard(&mut self, shard: u16, heartbeat: Heartbeat, from: Region);

    /// A position from which the shard's log holds every op of `region`'s origins that `applied`
    /// lacks, or `None` if it no longer reaches back to that.
    fn start(&mut self, shard: u16, region: Region, applied: &Version) -> Option<u64>;

    /// The next frame at or after a position that is `wanted`. Seals the shard's open frame first.
    fn next_frame(
        &mut self,
        shard: u16,
        position: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Next;

    /// How many ops in the shard's log, other than those of `peer`, `applied` lacks.
    fn pending(&mut self, shard: u16, peer: Region, applied: &Version) -> u64;

    /// What a shard's keys are walked by; nothing if it cannot take in state.
    fn spans(&mut self, shard: u16) -> Vec<Span>;

    /// The sums of the first of these spans, as many as have about `keys` keys and at least one,
    /// and the version that they are at. `None` if the shard cannot hand out its state now.
    fn sums(&mut self, shard: u16, spans: &[Span], keys: usize) -> Option<(Version, Vec<SpanSum>)>;

    /// Compares spans with a peer's, which were as given at a version; those that are equal are up
    /// to that. `None`: not now, that is too far ahead of our clock.
    fn compare(
        &mut self,
        shard: u16,
        version: &Version,
        theirs: &[(Span, SpanSum)],
    ) -> Option<Vec<Compared>>;

    /// The next piece of a walk, and where to go on. `None` if the shard cannot hand out its state
    /// now.
    fn piece(&mut self, shard: u16, from: Cursor) -> Option<(Bytes, Option<Cursor>)>;

    /// Takes in a piece.
    fn merge(&mut self, shard: u16, piece: Bytes) -> Merged;

    /// All keys of a shard are at least up to `first`: that is its version now, besides what it
    /// was.
    fn caught_up(&mut self, shard: u16, first: &Version);
}
