//! What goes into a link and comes out of it.

use bytes::Bytes;
use crdt::{Frame, Origin, Region};

use crate::proto::delivery::Refusal;

/// What a link is set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our region.
    pub own: Region,
    /// The name of the database.
    pub database: String,
    /// The level of features that this build knows.
    pub level: u32,
    /// Lanes for our own frames, 0 to `lanes − 1`; number `lanes` is for those of others, and the
    /// one after that for state.
    pub lanes: u16,
    /// Bytes of one shard's frames of our own that may be under way; less than an inbox takes.
    pub window_bytes: usize,
    /// Bytes of one shard's frames of other regions that may be under way.
    pub relay_window_bytes: usize,
    /// Bytes of state that may be under way to a peer which catches up.
    pub state_window_bytes: usize,
    /// Bytes of state that are sent to a peer in a second at most.
    pub state_bytes_per_s: u64,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Transmit {
    /// A message for the control stream.
    Control(Vec<u8>),
    /// A frame for a lane.
    Frame {
        /// Which lane.
        lane: u16,
        /// The frame's bytes.
        bytes: Bytes,
    },
}

/// What became of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It is dealt with.
    Taken,
    /// Not now: read nothing more from its lane, and hand the same bytes in again after
    /// [`RETRY_AFTER`](super::RETRY_AFTER).
    Later,
}

/// Why a link went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The peer said nothing for three seconds: close the connection.
    Silent,
    /// The connection ended, or is to be closed so that a new conversation can begin: the peer's
    /// region takes part again.
    Disconnected,
    /// The peer's region takes part no more, and has been told: close the connection.
    Forgotten,
}

/// What whoever drives a link must know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Both sides have said hello.
    Up,
    /// The link is down.
    Down(Why),
    /// The log no longer reaches back to what the peer lacks of this shard: it gets nothing of it
    /// until it has caught up in another way.
    Behind {
        /// Which shard.
        shard: u16,
    },
    /// The peer's log no longer reaches back to what we lack of these shards: they are caught up by
    /// its state, if it knows how to.
    Unreachable {
        /// Which shards.
        shards: Vec<u16>,
    },
    /// A shard has been caught up by the peer's state.
    CaughtUp {
        /// Which shard.
        shard: u16,
        /// Bytes that it took.
        bytes: u64,
        /// Milliseconds that it took.
        elapsed_ms: u64,
    },
    /// Ops of a closed origin turned up: its region must issue them again.
    Late(Frame),
    /// A frame was dropped for good.
    Refused {
        /// Whose it is.
        origin: Origin,
        /// Why.
        refusal: Refusal,
    },
}

/// How a link is, as `REGION LIST` puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// We have everything that the peer has told us of, or have been behind for less than 1 s.
    Live,
    /// Behind for more than 1 s.
    Lagging,
    /// No link for 3 s.
    Down,
}

/// How far a shard has been caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchingUp {
    /// Which shard.
    pub shard: u16,
    /// How many of its slots have been compared.
    pub slots_done: u32,
    /// How many it has.
    pub slots: u32,
    /// Bytes that it has taken so far.
    pub bytes: u64,
}

/// Figures about a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// For how long we have lacked something of the peer's region, in milliseconds.
    pub lag_ms: u64,
    /// Ops that we know of and the peer lacks.
    pub pending_ops: u64,
    /// Bytes of frames that were sent and are not acknowledged.
    pub in_flight_bytes: usize,
    /// Shards whose log no longer reaches back to what the peer lacks.
    pub shards_behind: usize,
    /// How far our clock was ahead of the peer's at its last heartbeat, in milliseconds; negative
    /// if it was behind. Includes the time that the heartbeat took.
    pub clock_ahead_ms: i64,
    /// Frames sent since the link was made.
    pub frames_sent: u64,
    /// Bytes of them.
    pub frame_bytes_sent: u64,
    /// Of these, frames of other regions.
    pub frames_relayed: u64,
    /// Frames taken since the link was made.
    pub frames_received: u64,
    /// Frames that were dropped for good, for whatever reason but that they were held already.
    pub frames_refused: u64,
    /// The shard that is being caught up by the peer's state.
    pub catching_up: Option<CatchingUp>,
    /// Shards that have been caught up by the peer's state since the link was made.
    pub caught_up: u64,
    /// Bytes of state sent to the peer, and of questions about its own, since the link was made.
    pub state_bytes_sent: u64,
    /// Bytes of state received from the peer, since the link was made.
    pub state_bytes_received: u64,
    /// Control messages sent.
    pub messages_sent: u64,
    /// Bytes of them.
    pub message_bytes_sent: u64,
}
