//! Cuts a stream of bytes into pieces that begin with their length.
//!
//! A piece is a little-endian `u32` and as many bytes as it says. A length beyond the bound is
//! refused before anything is set aside for it, and memory grows only as bytes arrive. A piece has
//! a buffer of its own, of its own size: a piece that is kept keeps no packet alive.

#![deny(clippy::indexing_slicing)]

use bytes::{Buf, Bytes};

use super::squeeze::{BLOCK_BIT, BLOCK_BYTES_MAX};

/// Bytes of the length in front of a piece.
pub(super) const PREFIX: usize = 4;
/// What is set aside at once for a piece that has only announced itself.
const FIRST_CAPACITY: usize = 64 << 10;

/// A piece announces more bytes than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of {length} bytes is announced, more than the {max} that are allowed")]
pub(super) struct TooLong {
    length: usize,
    max: usize,
}

/// See the module. Gives each piece with its length in front.
#[derive(Debug)]
pub(super) struct Splitter {
    /// Largest length, without the four bytes that say it.
    max: usize,
    /// Whether blocks of compressed frames may come, too.
    blocks: bool,
    /// What has come of the next piece.
    piece: Vec<u8>,
    /// Its whole size, once known.
    size: Option<usize>,
}

impl Splitter {
    /// Pieces whose lengths say up to `max` bytes.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            blocks: false,
            piece: Vec::new(),
            size: None,
        }
    }

    /// The same, or blocks of compressed frames.
    pub(super) const fn with_blocks(max: usize) -> Self {
        let mut splitter = Self::new(max);
        splitter.blocks = true;
        splitter
    }

    /// Takes bytes off the front of `chunk` until a piece is whole; `None` once it is used up.
    pub(super) fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, TooLong> {
        loop {
            let wanted = self.size.unwrap_or(PREFIX);
            let missing = wanted - self.piece.len();
            if missing == 0 {
                if self.size.take().is_some() {
                    return Ok(Some(Bytes::from(std::mem::take(&mut self.piece))));
                }
                self.size = Some(self.announced()?);
                continue;
            }
            if chunk.is_empty() {
                return Ok(None);
            }
            let taken = missing.min(chunk.len());
            self.make_room(taken, wanted);
            self.piece.extend_from_slice(&chunk.split_to(taken));
        }
    }

    /// The size of the piece whose length has just become whole.
    fn announced(&self) -> Result<usize, TooLong> {
        let said = self.piece.as_slice().get_u32_le();
        let (length, max) = if self.blocks && said & BLOCK_BIT != 0 {
            ((said & !BLOCK_BIT) as usize, BLOCK_BYTES_MAX)
        } else {
            (said as usize, self.max)
        };
        if max < length {
            return Err(TooLong { length, max });
        }
        Ok(PREFIX + length)
    }

    /// Doubles the buffer when it is full, never past the size of the piece.
    fn make_room(&mut self, taken: usize, wanted: usize) {
        let needed = self.piece.len() + taken;
        if self.piece.capacity() < needed {
            let room = needed
                .max(2 * self.piece.capacity())
                .max(FIRST_CAPACITY)
                .min(wanted);
            self.piece.reserve_exact(room - self.piece.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(content: &[u8]) -> Vec<u8> {
        let mut piece = (content.len() as u32).to_le_bytes().to_vec();
        piece.extend_from_slice(content);
        piece
    }

    proptest! {
        #[test]
        fn pieces_come_out_whole_however_they_come_in(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
            chunk_bytes in 1_usize..60,
        ) {
            let pieces: Vec<Vec<u8>> = contents.iter().map(|content| piece(content)).collect();
            let mut splitter = Splitter::new(40);
            let mut found = Vec::new();
            for chunk in pieces.concat().chunks(chunk_bytes) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                while let Some(piece) = splitter.next(&mut chunk).unwrap() {
                    found.push(piece.to_vec());
                }
            }
            prop_assert_eq!(found, pieces);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_memory_is_set_aside() {
        let mut splitter = Splitter::new(1 << 20);
        let mut chunk = Bytes::copy_from_slice(&u32::MAX.to_le_bytes());
        let refused = splitter.next(&mut chunk).unwrap_err();
        assert_eq!(
            refused,
            TooLong {
                length: u32::MAX as usize,
                max: 1 << 20
            }
        );
        assert!(splitter.piece.capacity() <= FIRST_CAPACITY);
    }

    #[test]
    fn memory_follows_what_has_come() {
        let mut splitter = Splitter::new(1 << 30);
        let mut chunk = Bytes::from(piece(&[7; 100])).slice(..100);
        chunk = Bytes::from([&(1_u32 << 30).to_le_bytes()[..], &chunk].concat());
        assert_eq!(splitter.next(&mut chunk), Ok(None));
        assert!(splitter.piece.capacity() <= FIRST_CAPACITY);
    }
}
