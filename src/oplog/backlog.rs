//! Reading frames that are on disk alone, for links that lag.
//!
//! A link reads each shard from front to back, so a reader that has given a frame is kept for the
//! next. Where none fits, one begins with the segment that the frame is in and skips what is
//! before. What one call looks at is bounded, for nothing else runs meanwhile.

use std::collections::BTreeMap;
use std::ops::DerefMut;
use std::sync::Arc;

use crdt::Frame;

use super::journal::Journal;
use super::segment::{ReadError, Reader};

/// Bytes of segments that one call looks at.
const BYTES_AT_ONCE: u64 = 4 << 20;
/// Readers that are kept of a shard: what a link sends of its own and for others.
const READERS: usize = 2;

/// A reader between two frames.
#[derive(Debug)]
struct Open {
    reader: Reader,
    segment: u64,
    /// The number of the next frame.
    next: u64,
}

/// What there is at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Old {
    /// The next frame that was asked for, and the number of the one after it.
    Frame(Frame, u64),
    /// None so far: go on from here.
    Further(u64),
    /// All that is on disk was read: this is the number of what comes next.
    End(u64),
    /// It is not there.
    Gone,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Backlog {
    open: BTreeMap<u16, Vec<Open>>,
}

impl Backlog {
    /// The next frame of a shard with this number or a later one that is `wanted`.
    pub fn next<J: DerefMut<Target = Journal>>(
        &mut self,
        journal: impl Fn() -> J,
        shard: u16,
        number: u64,
        wanted: &mut dyn FnMut(&Frame) -> bool,
    ) -> Result<Old, ReadError> {
        let kept = self.open.entry(shard).or_default();
        let found = kept.iter().position(|open| open.next == number);
        let mut open = found.map(|at| kept.remove(at));
        let (mut next, mut looked) = (number, 0);
        loop {
            let Some(located) = journal().locate(shard, next) else {
                return Ok(Old::Gone);
            };
            let mut current = match open.take() {
                Some(open) if open.segment == located.segment => open,
                _ => Open {
                    reader: Reader::new(Arc::clone(&located.file), 0),
                    segment: located.segment,
                    next,
                },
            };
            let start = current.reader.offset();
            while let Some((found, bytes)) = current.reader.next_of(shard, located.end)? {
                if found < next {
                    continue;
                }
                next = found + 1;
                current.next = next;
                let frame = bytes.map(Frame::parse).transpose().map_err(|_| damaged())?;
                let frame = frame.filter(&mut *wanted);
                let is_enough = BYTES_AT_ONCE < looked + (current.reader.offset() - start);
                if frame.is_some() || is_enough {
                    self.keep(shard, current);
                    return Ok(match frame {
                        Some(frame) => Old::Frame(frame, next),
                        None => Old::Further(next),
                    });
                }
            }
            looked += current.reader.offset() - start;
            match located.next {
                Some(first) if first == next => {}
                Some(_) => return Err(damaged()),
                None => {
                    // The journal had no more when it was asked.
                    self.keep(shard, current);
                    return Ok(Old::End(next));
                }
            }
        }
    }

    fn keep(&mut self, shard: u16, open: Open) {
        let kept = self.open.entry(shard).or_default();
        if READERS <= kept.len() {
            kept.remove(0);
        }
        kept.push(open);
    }
}

const fn damaged() -> ReadError {
    ReadError::Record(super::record::RecordError::Malformed)
}
