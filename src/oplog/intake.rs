//! What a shard takes in of another region's state.
//!
//! No frame says it, but the frames behind it rest on it: so it goes to disk among them, in the
//! order in which all of it happened, and a start takes it in again where it stands. It takes the
//! number of a frame, so that its loss is noticed as a frame's is; links read over it.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use crdt::{Slot, Span, Version};

use super::record::{RecordError, take};

mod kind {
    pub(super) const PIECE: u8 = 1;
    pub(super) const EQUAL: u8 = 2;
    pub(super) const HELD: u8 = 3;
    pub(super) const RESUMED: u8 = 4;
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// A piece that was merged (`crdt::Piece`).
    Piece(Bytes),
    /// The keys of these spans are the same here as in a region at this version.
    Equal(Version, Vec<Span>),
    /// All ops up to these are held: what they left behind has been taken in.
    Held(Version),
    /// Frames before it are missing, as the log was damaged there. The shard goes on from what it
    /// had before that, and is filled up by others.
    Resumed,
}

impl Intake {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Piece(piece) => {
                out.push(kind::PIECE);
                out.extend_from_slice(piece);
            }
            Self::Equal(version, spans) => {
                out.push(kind::EQUAL);
                version.encode(out);
                for span in spans {
                    out.extend_from_slice(&span.slot.number().to_le_bytes());
                    out.extend_from_slice(&span.first.to_le_bytes());
                    out.extend_from_slice(&span.last.to_le_bytes());
                }
            }
            Self::Held(version) => {
                out.push(kind::HELD);
                version.encode(out);
            }
            Self::Resumed => out.push(kind::RESUMED),
        }
    }

    /// Reads what [`Self::encode`] has written: all of `bytes`.
    ///
    /// # Errors
    ///
    /// If it is none. Whether a piece is one is for who takes it in to see.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let mut rest: &[u8] = bytes;
        let [kind] = take::<1>(&mut rest)?;
        Ok(match kind {
            kind::PIECE => Self::Piece(bytes.slice(1..)),
            kind::EQUAL => {
                let version = Version::decode(&mut rest)?;
                let mut spans = Vec::new();
                while !rest.is_empty() {
                    spans.push(span(&mut rest)?);
                }
                Self::Equal(version, spans)
            }
            kind::HELD => {
                let version = Version::decode(&mut rest)?;
                if !rest.is_empty() {
                    return Err(RecordError::Malformed);
                }
                Self::Held(version)
            }
            kind::RESUMED if rest.is_empty() => Self::Resumed,
            _ => return Err(RecordError::Malformed),
        })
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn cost(&self) -> u64 {
        let bytes = match self {
            Self::Piece(piece) => piece.len(),
            Self::Equal(_, spans) => size_of_val(&**spans),
            Self::Held(_) | Self::Resumed => 0,
        };
        (bytes + size_of::<Self>()) as u64
    }
}

fn span(rest: &mut &[u8]) -> Result<Span, RecordError> {
    let slot = take::<2>(rest).map(u16::from_le_bytes)?;
    let first = take::<4>(rest).map(u32::from_le_bytes)?;
    let last = take::<4>(rest).map(u32::from_le_bytes)?;
    let slot = Slot::new(slot).ok_or(RecordError::Malformed)?;
    if last < first {
        return Err(RecordError::Malformed);
    }
    Ok(Span { slot, first, last })
}

#[cfg(test)]
mod tests {
    use crdt::{Epoch, Origin, Region, Time};

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_nothing_else_is() {
        let origin = Origin::new(Region::new(3).expect("not 0"), Epoch(7));
        let version: Version = [(origin, Time(9))].into_iter().collect();
        let span = |number| Span {
            slot: Slot::new(number).expect("a slot"),
            first: 5,
            last: u32::from(number),
        };
        let all = [
            Intake::Piece(Bytes::from_static(b"of a state")),
            Intake::Equal(version.clone(), vec![span(6), span(16_383)]),
            Intake::Held(version),
            Intake::Resumed,
        ];
        for intake in all {
            let mut bytes = Vec::new();
            intake.encode(&mut bytes);
            let bytes = Bytes::from(bytes);
            assert_eq!(Intake::decode(&bytes), Ok(intake.clone()));
            if matches!(intake, Intake::Equal(..) | Intake::Held(_)) {
                let cut = Intake::decode(&bytes.slice(..bytes.len() - 1));
                assert_eq!(cut, Err(RecordError::Malformed));
            }
        }
        for bad in [&b""[..], b"\0", b"\x05", b"\x02", b"\x04\0"] {
            let read = Intake::decode(&Bytes::copy_from_slice(bad));
            assert_eq!(read, Err(RecordError::Malformed), "{bad:?}");
        }
        let mut backwards = Vec::new();
        Intake::Equal(Version::new(), vec![span(4)]).encode(&mut backwards);
        let read = Intake::decode(&backwards.into());
        assert_eq!(read, Err(RecordError::Malformed));
    }
}
