//! The Redis protocol, without sockets: bytes in, requests out; replies in, bytes out.
//!
//! [`decode`] finds requests in a read buffer without copying them; [`encode`] writes the elements
//! of replies straight into a write buffer, RESP3 types brought down to RESP2 where the client
//! speaks that. Neither knows a command.
//!
//! Source: the RESP2 and RESP3 pages of the Redis documentation; the texts and bounds of protocol
//! errors are those of Redis 7.

pub mod decode;
pub mod encode;

pub use decode::{Decoder, ProtocolError, Request, Rules, Span};

/// What a client speaks: RESP2 until it says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Strings, integers, errors, arrays and nulls.
    #[default]
    Resp2,
    /// Also maps, sets, doubles, booleans, big numbers, verbatim strings and pushes.
    Resp3,
}

impl Protocol {
    /// The number by which `HELLO` names it.
    pub const fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}
