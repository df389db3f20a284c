//! Why a link ends: whose fault it is, and what follows.

use crdt::{Epoch, FrameError, Origin, Region};

use super::message::MessageError;
use super::roster::RosterError;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What the peer sent is wrong: close the connection, try again with backoff.
    Peer,
    /// The two sides are set up for different things: an operator must act; try again slowly.
    Setup,
}

/// Why a link cannot go on. Nothing of the message or frame in question has been applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// Bytes on the control stream are not a message.
    #[error("a control message is malformed: {0}")]
    Message(#[from] MessageError),
    /// Bytes on a lane are not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// What the peer sent is no record of regions.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The peer belongs to another database.
    #[error("the peer's database is {theirs:?}, ours is {ours:?}")]
    OtherDatabase {
        /// What our configuration says.
        ours: String,
        /// What the peer says.
        theirs: String,
    },
    /// The peer splits the slots into another number of shards.
    #[error("the peer has {theirs} shards, we have {ours}")]
    OtherShards {
        /// How many we have.
        ours: u16,
        /// How many the peer has.
        theirs: u16,
    },
    /// The peer speaks for an origin that is not of its region.
    #[error("region {peer} speaks for origin {origin}")]
    Impostor {
        /// Who its certificate says it is.
        peer: Region,
        /// Who it claims to be.
        origin: Origin,
    },
    /// The peer issues under an epoch older than one that is known: its clock has gone back, or it
    /// has been replaced and lives on.
    #[error("origin {origin} has ended: epoch {} of its region is known", newest.0)]
    Ended {
        /// Who the peer says it is.
        origin: Origin,
        /// The newest epoch known of its region.
        newest: Epoch,
    },
    /// A frame names an origin that no peer may issue under: ours, or a region we do not know.
    #[error("an op of origin {origin} cannot come from region {peer}")]
    Forged {
        /// Who sent it.
        peer: Region,
        /// Whose it pretends to be.
        origin: Origin,
    },
    /// A shard that does not exist.
    #[error("shard {shard} does not exist, there are {count}")]
    NoSuchShard {
        /// The number in the message or frame.
        shard: u16,
        /// How many there are.
        count: u16,
    },
    /// What was answered is no piece of the shard's state.
    #[error("a piece of state is malformed: {0}")]
    Piece(String),
    /// A message at a point of the conversation where it has no meaning.
    #[error("a message came out of turn: {0}")]
    OutOfTurn(&'static str),
}

impl LinkError {
    /// Who has to act.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::OtherDatabase { .. }
            | Self::OtherShards { .. }
            | Self::Ended { .. }
            | Self::Message(MessageError::Format { .. })
            | Self::Roster(RosterError::Format(_))
            | Self::Frame(FrameError::Format(_)) => Fault::Setup,
            Self::Message(_)
            | Self::Roster(_)
            | Self::Frame(_)
            | Self::Impostor { .. }
            | Self::Forged { .. }
            | Self::NoSuchShard { .. }
            | Self::Piece(_)
            | Self::OutOfTurn(_) => Fault::Peer,
        }
    }
}
